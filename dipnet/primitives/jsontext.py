"""JSON from outside, bounded before it is parsed (RFC 8259, docs/design.md "Interfaces").

The standard library's parser recurses in C: past a depth that depends on a recursion limit, which
any library may raise, the process dies without an exception. It also reads repeated keys, NaN,
numbers of any length and half a surrogate pair. So bytes, values and depth are counted over the
bytes first, at C speed, and hooks of the parser refuse the rest.
"""

import json
import math
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Final, NoReturn

QUOTE_MAX: Final = 60  # characters of a foreign text that an error repeats

# All brackets become square ones: how they pair is the parser's business, how deep they go is ours.
_SQUARE: Final = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


@dataclass(frozen=True, slots=True)
class JsonBounds:
    """The limits of one kind of JSON text.

    ``bytes_max``: of the text. ``depth_max``: arrays and objects within one another.
    ``values_max``: values in the text, keys not counted. ``digits_max``: characters of a number
    without its sign. ``floats``: whether a number may have a point or an exponent.
    ``lone_surrogates``: whether a string may hold half a surrogate pair, which no UTF-8 can write.
    """

    bytes_max: int
    depth_max: int = 64
    values_max: int = 1 << 22
    digits_max: int = 80
    floats: bool = True
    lone_surrogates: bool = False


class TooLarge(ValueError):
    """A text of more bytes or values than its bounds allow."""


def load(raw: bytes, bounds: JsonBounds) -> Any:
    """The value of the one JSON text in ``raw``, in time and memory in proportion to its length.

    Raises ``TooLarge`` for more bytes or values than ``bounds`` allow, ``json.JSONDecodeError`` and
    ``UnicodeError`` for other texts than JSON in UTF-8, and ``ValueError``, of which these are
    subclasses, for what else ``bounds`` refuse, repeated keys, NaN and infinity.
    """
    if len(raw) > bounds.bytes_max:
        raise TooLarge(f"{len(raw)} bytes where {bounds.bytes_max} are allowed")
    _measure(raw, bounds)
    text = raw.decode()
    value = _decoder(bounds).decode(text)
    if "\\u" in text and not bounds.lone_surrogates:  # only an escape can bring a lone surrogate in
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _measure(raw: bytes, bounds: JsonBounds) -> None:
    # Up to the first byte that is not JSON this sees strings where the parser sees them.
    skeleton = b"".join(raw.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')[::2])
    if skeleton.count(b",") >= bounds.values_max:
        raise TooLarge(f"more than {bounds.values_max} values")
    brackets = skeleton.translate(_SQUARE, _NOT_BRACKETS)
    for _ in range(bounds.depth_max):
        outer = brackets.replace(b"[]", b"")
        if len(outer) == len(brackets):
            break
        brackets = outer
    if brackets:
        raise ValueError(f"not JSON, or nested deeper than {bounds.depth_max}")


@cache
def _decoder(bounds: JsonBounds) -> json.JSONDecoder:
    return json.JSONDecoder(
        object_pairs_hook=_object,
        parse_int=partial(_integer, bounds.digits_max),
        parse_float=partial(_float, bounds.digits_max) if bounds.floats else _no_float,
        parse_constant=_no_constant if bounds.floats else _no_float,
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"{_quoted(name)}: there twice; keep one")
            seen.add(name)
    return members


def _integer(digits_max: int, text: str) -> int:
    if len(text.removeprefix("-")) > digits_max:  # converting takes quadratic time
        raise ValueError(f"{_quoted(text)}: a number of more than {digits_max} digits")
    return int(text)


def _float(digits_max: int, text: str) -> float:
    if len(text.removeprefix("-")) > digits_max or math.isinf(number := float(text)):
        raise ValueError(f"{_quoted(text)}: a number out of range")
    return number


def _no_float(text: str) -> NoReturn:
    raise ValueError(f"{_quoted(text)}: write an integer, without point or exponent")


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{_quoted(text)} is not JSON")


def _quoted(text: str) -> str:
    """A foreign text short and printable."""
    return ascii(text[:QUOTE_MAX])[1:-1]
