"""Foreign JSON, bounded before it is parsed into anything big (docs/design.md "Interfaces").

Every check runs at C speed over the bytes, so that hostile input costs no more than honest input:
size, nesting and number of values first, then the standard library's C scanner with hooks that
refuse what it would let through (repeated keys, NaN, long numbers, lone surrogates).
"""

import json
import math
from typing import Final, NoReturn

from dipnet.primitives.errors import Invalid

BODY_BYTES_MAX: Final = 1 << 20
DEPTH_MAX: Final = 32
VALUES_MAX: Final = 1 << 15
NUMBER_DIGITS_MAX: Final = 80

# All brackets become square ones: how they pair is the parser's business, how deep they go is ours.
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


def _measure(raw: bytes) -> None:
    """Refuse nesting or numbers of values that would make the parser recurse or allocate."""
    # Up to the first byte that is not JSON this sees strings where the parser sees them.
    skeleton = b"".join(raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    if skeleton.count(b",") >= VALUES_MAX:
        raise Invalid("limit", f"more than {VALUES_MAX} values")
    brackets = skeleton.translate(_SQUARE, _NOT_BRACKETS)
    for _ in range(DEPTH_MAX):
        outer = brackets.replace(b"[]", b"")
        if len(outer) == len(brackets):
            break
        brackets = outer
    if brackets:
        raise Invalid("parse", f"unbalanced, or nested deeper than {DEPTH_MAX}")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Invalid("parse", "repeated key in an object")
    return members


def _integer(digits: str) -> int:
    if len(digits.removeprefix("-")) > NUMBER_DIGITS_MAX:
        raise Invalid("parse", f"number of more than {NUMBER_DIGITS_MAX} digits")
    return int(digits)


def _fraction(digits: str) -> float:
    number = float(digits) if len(digits) <= NUMBER_DIGITS_MAX else math.inf
    if math.isinf(number):
        raise Invalid("parse", "number out of range")
    return number


def _constant(name: str) -> NoReturn:
    raise Invalid("parse", f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_int=_integer,
    parse_float=_fraction,
    parse_constant=_constant,
)


def load(raw: bytes) -> object:
    """Parse one JSON text; ``Invalid`` ("limit" or "parse") for anything outside RFC 8259 or us."""
    if len(raw) > BODY_BYTES_MAX:
        raise Invalid("limit", f"request of more than {BODY_BYTES_MAX} bytes")
    _measure(raw)
    try:
        text = raw.decode()
        value: object = _DECODER.decode(text)
        if "\\u" in text:  # only an escape can smuggle in half of a surrogate pair
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise Invalid("parse", "not UTF-8, or half of a surrogate pair") from error
    except json.JSONDecodeError as error:
        raise Invalid("parse", f"{error.msg} at byte {error.pos}") from error
    return value
