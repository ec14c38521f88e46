"""The kinds of parameters: bounded readers of JSON values, which say what is wrong with a value.

As strict as go-ethereum's hexutil: quantities have 0x and no leading zero, data has whole bytes.
Our own methods also take plain JSON integers.
"""

import binascii
import difflib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from dipnet.node.effects import STREAM_NAMES
from dipnet.primitives.errors import Invalid
from dipnet.rpc.method import ParameterKind

TAGS: Final = ("latest", "pending", "earliest", "safe", "finalized")
HEX_DIGITS_256: Final = 64
PERCENTILES_MAX: Final = 100
PROVEN_KEYS_MAX: Final = 256
_HEX: Final = frozenset("0123456789abcdefABCDEF")


@dataclass(frozen=True, slots=True)
class ByHash:
    """A block named by its hash (EIP-1898); ``canonical``: refuse it if it is off the chain."""

    hash: bytes
    canonical: bool


BlockRef = str | int | ByHash
"""A tag of ``TAGS``, a height, or a hash."""


def _shown(value: object) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"


def read_data(value: object, size: int | None = None) -> bytes:
    """Bytes from 0x hex; exactly ``size`` bytes if given. Raises ``Invalid("params")``."""
    if not isinstance(value, str):
        raise Invalid("params", f"want a hex string, got {_shown(value)}")
    if value[:2] not in ("0x", "0X"):
        raise Invalid("params", "hex string without 0x prefix")
    try:
        raw = binascii.unhexlify(value[2:])
    except ValueError:
        odd = "of odd length" if len(value) % 2 else "with other characters than 0-9a-f"
        raise Invalid("params", f"hex string {odd}") from None
    if size is not None and len(raw) != size:
        raise Invalid("params", f"want {size} bytes, got {len(raw)}")
    return raw


def read_quantity(value: object, bits: int = 64) -> int:
    """A canonical 0x quantity below 2^bits; raises ``Invalid("params")`` with hexutil's texts."""
    if not isinstance(value, str):
        raise Invalid("params", f"want a hex quantity, got {_shown(value)}")
    digits = value[2:]
    if value[:2] not in ("0x", "0X"):
        raise Invalid("params", "hex string without 0x prefix")
    if not digits:
        raise Invalid("params", 'hex string "0x"')
    if len(digits) > HEX_DIGITS_256:
        raise Invalid("params", f"hex number > {bits} bits")
    if not _HEX.issuperset(digits):
        raise Invalid("params", "hex number with other characters than 0-9a-f")
    if digits[0] == "0" and len(digits) > 1:
        raise Invalid("params", "hex number with leading zero digits")
    number = int(digits, 16)
    if number >> bits:
        raise Invalid("params", f"hex number > {bits} bits")
    return number


def read_count(value: object, low: int, high: int) -> int:
    """An integer in [low, high], from a JSON number or a quantity; else ``Invalid("params")``."""
    number = value if type(value) is int else read_quantity(value)
    if not low <= number <= high:
        raise Invalid("params", f"want a number from {low} to {high}")
    return number


def _count(low: int, high: int) -> Callable[[object], object]:
    return lambda value: read_count(value, low, high)


def sized(size: int) -> Callable[[object], object]:
    """A reader of exactly ``size`` bytes of data."""
    return lambda value: read_data(value, size)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Invalid("params", f"want true or false, got {_shown(value)}")
    return value


def members_of(value: object, known: Collection[str]) -> dict[str, object]:
    """A JSON object with ``known`` members only; else ``Invalid("params")``."""
    if not isinstance(value, dict):
        raise Invalid("params", f"want an object, got {_shown(value)}")
    for name in value:
        if name not in known:
            near = difflib.get_close_matches(name[:64], known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Invalid("params", f"unknown member {name[:64]!r}{hint}")
    return value


def _block(value: object) -> BlockRef:
    if isinstance(value, dict):  # EIP-1898
        members = members_of(value, ("blockNumber", "blockHash", "requireCanonical"))
        canonical = _flag(members.get("requireCanonical", False))
        if ("blockHash" in members) == ("blockNumber" in members):
            raise Invalid("params", "want one of blockHash and blockNumber")
        if "blockHash" in members:
            return ByHash(read_data(members["blockHash"], 32), canonical)
        return read_block_number(members["blockNumber"])
    return read_block_number(value)


def read_block_number(value: object) -> str | int:
    """A tag of ``TAGS`` or a height below 2^63; else ``Invalid("params")``."""
    if isinstance(value, str) and not value.startswith(("0x", "0X")):
        if value not in TAGS:
            near = difflib.get_close_matches(value[:64], TAGS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Invalid("params", f"unknown block tag {value[:64]!r}{hint}")
        return value
    return read_quantity(value, 63)


def _percentiles(value: object) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) > PERCENTILES_MAX:
        raise Invalid("params", f"want an array of at most {PERCENTILES_MAX} numbers")
    last = 0.0
    for number in value:
        if type(number) not in (int, float) or not last <= number <= 100:
            raise Invalid("params", "invalid reward percentile: want ascending numbers, 0 to 100")
        last = float(number)
    return tuple(value)


def _raw_items(value: object) -> tuple[bytes, ...]:
    if not isinstance(value, list) or not value:
        raise Invalid("params", "want an array of one or more hex strings")
    return tuple(read_data(item) for item in value)


def _stream(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise Invalid("params", f"want the name of a subscription, got {_shown(value)}")
    return value[:64]


def _word(value: object) -> bytes:
    """A word of 32 bytes; leading zeros may be left out, as in go-ethereum."""
    if not isinstance(value, str) or not _HEX.issuperset(value.removeprefix("0x")):
        raise Invalid("params", f"want a storage key as hex, got {_shown(value)}")
    digits = value.removeprefix("0x")
    if not 0 < len(digits) <= HEX_DIGITS_256:
        raise Invalid("params", "storage key not of 1 to 32 bytes")
    return bytes.fromhex(digits.zfill(HEX_DIGITS_256))


def _words(value: object) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > PROVEN_KEYS_MAX:
        raise Invalid("params", f"want an array of at most {PROVEN_KEYS_MAX} storage keys")
    return tuple(_word(item) for item in value)


def _subscription(value: object) -> str:
    if not isinstance(value, str):
        raise Invalid("params", f"want the id of a subscription, got {_shown(value)}")
    return value


ADDRESS: Final = ParameterKind("ADDRESS", "20 bytes as 0x hex, any letter case", sized(20))
HASH: Final = ParameterKind("HASH", "32 bytes as 0x hex", sized(32))
RAW_ITEM: Final = ParameterKind("RAW", "signed bytes as 0x hex", lambda value: (read_data(value),))
RAW_ITEMS: Final = ParameterKind("RAW[]", "array of signed bytes as 0x hex", _raw_items)
BLOCK: Final = ParameterKind(
    "BLOCK",
    "latest, pending, earliest, safe, finalized, a 0x height, or an EIP-1898 object",
    _block,
)
BLOCK_NUMBER: Final = ParameterKind(
    "NUMBER", "latest, pending, earliest, safe, finalized or a 0x height", read_block_number
)
FLAG: Final = ParameterKind("BOOL", "true or false", _flag)
PERCENTILES: Final = ParameterKind(
    "PERCENTILES", f"array of at most {PERCENTILES_MAX} ascending numbers 0..100", _percentiles
)
TOPIC: Final = ParameterKind(
    "TOPIC", "16 bytes as 0x hex: the first bytes of SHA-256 of the topic's name", sized(16)
)
SEQ: Final = ParameterKind(
    "SEQ", "sequence number of an issuer's vertex: a number or quantity", _count(0, 2**64 - 1)
)
STREAM: Final = ParameterKind("STREAM", f"{', '.join(STREAM_NAMES)} or logs", _stream)
WORD: Final = ParameterKind("WORD", "up to 32 bytes as 0x hex", _word)
WORDS: Final = ParameterKind("WORD[]", f"array of at most {PROVEN_KEYS_MAX} words", _words)
SUBSCRIPTION: Final = ParameterKind("SUBSCRIPTION", "the result of eth_subscribe", _subscription)


def between(low: int, high: int) -> ParameterKind:
    """The kind of an integer in [low, high]."""
    return ParameterKind("COUNT", f"a number or quantity from {low} to {high}", _count(low, high))
