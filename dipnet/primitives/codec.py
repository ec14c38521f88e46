"""Bytes: canonical records (MessagePack), RLP, hex, and the types of state on disk.

Every decoder here refuses by length before it allocates, takes exactly one encoding of a value, and
fails only with ``Invalid`` (docs/design.md "Rules", rule 5). A record is an array of fixed length
(docs/spec/bytes.md "Records"): its version, then unsigned integers below 2^64, byte strings and
arrays of these. The *shape* of a record is data, written beside the type that uses it:

    HEADER = (1, UINT, Bin(32), BIG, Many((Bin(20), UINT), 100))
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import msgpack

from dipnet.primitives.errors import Invalid

UINT_MAX: Final = 2**64 - 1
BIG_MAX: Final = 2**256 - 1
BIG_BYTES_MAX: Final = 32
RLP_DEPTH_MAX: Final = 16

Puts: TypeAlias = dict[bytes, bytes | None]
"""Writes to disk as a value: key -> value, ``None`` to delete the key."""


class Reader(Protocol):
    """Records on disk, read only: the store, an overlay over it, or a dict in tests."""

    def get(self, key: bytes, /) -> bytes | None:
        """The value under ``key``, or None."""

    def scan(
        self, prefix: bytes, start: bytes = b"", reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """The pairs (key, value) whose key begins with ``prefix``, ascending by key.

        ``start`` is a whole key, prefix included: the first key is the least >= ``start``. With
        ``reverse`` the order is descending, and the first key is the greatest < ``start`` or,
        without ``start``, the last of the prefix.
        """


# --- shapes of records


@dataclass(frozen=True, slots=True)
class Uint:
    """An unsigned integer of at most ``most``."""

    most: int = UINT_MAX


@dataclass(frozen=True, slots=True)
class Big:
    """An integer below 2^256 as minimal big-endian bytes; zero is empty. See ``from_big``."""


@dataclass(frozen=True, slots=True)
class Bin:
    """A byte string: ``Bin(32)`` has exactly 32 bytes, ``Bin(0, 64)`` has 0 to 64."""

    least: int
    most: int = -1

    def __post_init__(self) -> None:
        if self.most < 0:
            object.__setattr__(self, "most", self.least)


@dataclass(frozen=True, slots=True)
class Text:
    """A byte string of at most ``most`` bytes that is UTF-8. Decoding leaves it as bytes."""

    most: int


@dataclass(frozen=True, slots=True)
class Many:
    """An array of 0 to ``most`` elements of one shape."""

    each: "Shape"
    most: int


UINT: Final = Uint()
BIG: Final = Big()
TEXT: Final = Text

Shape: TypeAlias = int | Uint | Big | Bin | Text | Many | tuple["Shape", ...] | list["Shape"]
"""An int stands for itself (a version); a tuple or list is an array of fixed length."""

Record: TypeAlias = int | bytes | Sequence["Record"]


# --- records


def big(number: int) -> bytes:
    """``number`` (0 to 2^256 - 1) as minimal big-endian bytes; zero is empty."""
    if not 0 <= number <= BIG_MAX:
        raise ValueError(f"{number} is not in 0..2^256-1")
    return number.to_bytes((number.bit_length() + 7) >> 3, "big")


def from_big(data: bytes) -> int:
    """The integer whose minimal big-endian bytes are ``data`` (checked by shape ``BIG``)."""
    return int.from_bytes(data, "big")


def pack(record: Record) -> bytes:
    """The canonical encoding of ``record``; TypeError for a value that no record can hold."""
    _assert_packable(record)
    packed: bytes = msgpack.packb(record, use_bin_type=True)
    return packed


def unpack(raw: bytes, shape: Shape, bytes_max: int) -> list[Any]:
    """The record in ``raw``: nested lists of int and bytes, exactly as ``shape`` says.

    ``shape`` is a tuple or list, else TypeError. An array is announced by its header and refused
    by ``shape`` before anything is allocated for it; memory is a small multiple of ``len(raw)``,
    depth is that of the shape. Only the canonical encoding is taken, and nothing is encoded again
    to see it (ADR 100). Raises ``Invalid("oversized")`` past ``bytes_max``, ``Invalid("record")``
    for everything else.
    """
    if len(raw) > bytes_max:
        raise Invalid("oversized", f"{len(raw)} bytes where {bytes_max} are allowed")
    if not isinstance(shape, tuple | list):
        raise TypeError("the shape of a record is a tuple or a list")
    elements = _Elements(raw)
    try:
        record = elements.array(shape)
    except (ValueError, msgpack.UnpackException) as error:
        raise _refused(error) from None
    if elements.end != len(raw):
        raise Invalid("record", "bytes after the end")
    return record


def unpack_start(raw: bytes, shape: Sequence[Shape], count: int, bytes_max: int) -> list[Any]:
    """The first ``count`` elements of the record of ``shape`` in ``raw``; the rest is not read.

    ``bytes_max`` bounds the bytes that are looked at. Raises ``Invalid("record")``.
    """
    assert 0 < count <= len(shape)
    elements = _Elements(raw[:bytes_max])
    try:
        elements.header(len(shape), len(shape))
        return [elements.next(part) for part in shape[:count]]
    except (ValueError, msgpack.UnpackException) as error:
        raise _refused(error) from None


def _refused(error: Exception) -> Invalid:
    """The refusal of bytes that msgpack cannot read."""
    return Invalid("record", str(error) or type(error).__name__)


class _Elements:
    """The elements of a record in their order, each refused unless it is canonical.

    MessagePack encodes a value in one of several formats, which the first byte names. The first
    byte of the shortest unsigned format leaves no choice for the bytes after it, so an element is
    canonical exactly when its first byte is that of ``_first_byte`` or ``_first_byte_of_array``
    (ADR 100).
    """

    __slots__ = ("_raw", "_stream")

    def __init__(self, raw: bytes) -> None:
        size = len(raw) or 1
        self._raw = raw
        # Only leaves are ever unpacked as objects, so that every container is refused by its size;
        # an empty container or text gets through here and is refused by type or first byte.
        self._stream = msgpack.Unpacker(
            read_size=size,
            max_buffer_size=size,
            raw=True,
            max_bin_len=size,
            max_array_len=0,
            max_map_len=0,
            max_str_len=0,
            max_ext_len=0,
        )
        self._stream.feed(raw)

    @property
    def end(self) -> int:
        """The offset behind the last element that was read."""
        end: int = self._stream.tell()
        return end

    def header(self, least: int, most: int) -> int:
        """The length of the array that begins here, ``least`` to ``most`` elements."""
        start = self._stream.tell()
        count: int = self._stream.read_array_header()
        if not least <= count <= most:
            raise Invalid("record", f"array of {count} where {least} to {most} are expected")
        if self._raw[start] != _first_byte_of_array(count):
            raise Invalid("record", f"not the canonical encoding of an array, offset {start}")
        return count

    def next(self, shape: Shape) -> Any:
        """The element that begins here."""
        return self.array(shape) if isinstance(shape, Many | tuple | list) else self.leaf(shape)

    def array(self, shape: Many | tuple[Shape, ...] | list[Shape]) -> list[Any]:
        """The array that begins here. Its list grows with what is there, not with its header."""
        if isinstance(shape, Many):
            each = shape.each
            count = self.header(0, shape.most)
            if isinstance(each, Many | tuple | list):
                return [self.array(each) for _ in range(count)]
            return [self.leaf(each) for _ in range(count)]
        self.header(len(shape), len(shape))
        return [self.next(part) for part in shape]

    def leaf(self, shape: Shape) -> int | bytes:
        """The integer or the bytes that begin here."""
        start = self._stream.tell()
        value = _leaf(self._stream.unpack(), shape)
        if self._raw[start] != _first_byte(value):
            raise Invalid("record", f"not the canonical encoding of a value, offset {start}")
        return value


def _first_byte(value: int | bytes) -> int:
    """The first byte of the canonical encoding of a leaf (MessagePack "int", "bin")."""
    if isinstance(value, int):
        if value < 0x80:
            return value
        if value < 0x1_0000:
            return 0xCC if value < 0x100 else 0xCD
        return 0xCE if value < 0x1_0000_0000 else 0xCF
    size = len(value)
    if size < 0x100:
        return 0xC4
    return 0xC5 if size < 0x1_0000 else 0xC6


def _first_byte_of_array(count: int) -> int:
    """The first byte of the canonical encoding of an array (MessagePack "array")."""
    if count < 0x10:
        return 0x90 + count
    return 0xDC if count < 0x1_0000 else 0xDD


def _leaf(value: Any, shape: Shape) -> int | bytes:
    """``value`` if it has ``shape``; ``type`` and not isinstance, which takes bool for int."""
    if isinstance(shape, Uint | int):
        if type(value) is not int:
            raise Invalid("record", "expected an integer")
        if isinstance(shape, int):
            if value != shape:
                raise Invalid("record", f"{value} where {shape} is expected")
        elif not 0 <= value <= shape.most:
            raise Invalid("record", f"{value} is not in 0..{shape.most}")
        return value
    if type(value) is not bytes:
        raise Invalid("record", "expected bytes")
    if isinstance(shape, Bin):
        if not shape.least <= len(value) <= shape.most:
            detail = f"{len(value)} bytes where {shape.least} to {shape.most} are expected"
            raise Invalid("record", detail)
    elif isinstance(shape, Big):
        if len(value) > BIG_BYTES_MAX or value[:1] == b"\0":
            raise Invalid("record", "not a minimal integer below 2^256")
    elif isinstance(shape, Text):
        if len(value) > shape.most:
            raise Invalid("record", f"{len(value)} bytes of text where {shape.most} are allowed")
        value.decode()  # UnicodeDecodeError is a ValueError
    return value


def _assert_packable(record: object) -> None:
    if isinstance(record, list | tuple):
        for part in record:
            _assert_packable(part)
    elif type(record) is int:
        if not 0 <= record <= UINT_MAX:
            raise TypeError(f"{record} is no uint64; use big() for larger integers")
    elif type(record) is not bytes:
        raise TypeError(f"a record holds no {type(record).__name__}")


# --- RLP (Ethereum yellow paper, appendix B)

Rlp: TypeAlias = bytes | list["Rlp"]
"""A decoded item: a byte string or a list of items."""

RlpInput: TypeAlias = bytes | int | Sequence["RlpInput"]
"""An item to be encoded. An integer >= 0 stands for its minimal big-endian bytes."""


def rlp_encode(item: RlpInput) -> bytes:
    """The RLP of a byte string, of a non-negative integer, or of a sequence of these."""
    if isinstance(item, int):
        item = item.to_bytes((item.bit_length() + 7) >> 3, "big")
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _rlp_head(0x80, len(item)) + item
    return rlp_wrap(b"".join([rlp_encode(part) for part in item]))


def rlp_wrap(body: bytes) -> bytes:
    """The list whose items, already encoded and joined, are ``body``."""
    return _rlp_head(0xC0, len(body)) + body


def _rlp_head(kind: int, size: int) -> bytes:
    if size < 56:
        return bytes((kind + size,))
    width = (size.bit_length() + 7) >> 3
    return bytes((kind + 55 + width,)) + size.to_bytes(width, "big")


def rlp_decode(raw: bytes) -> Rlp:
    """The item in ``raw``: minimal lengths, no bytes after it, depth up to ``RLP_DEPTH_MAX``.

    Time and memory are proportional to ``len(raw)``, which the caller bounds. Raises
    ``Invalid("rlp")``.
    """
    items = _rlp_items(raw, 0, len(raw), 0)
    if len(items) != 1:
        raise Invalid("rlp", "bytes after the end" if items else "no bytes")
    return items[0]


def _rlp_items(raw: bytes, at: int, end: int, depth: int) -> list[Rlp]:
    """The items that fill ``raw[at:end]``. No length is trusted past ``end``."""
    if depth > RLP_DEPTH_MAX:
        raise Invalid("rlp", f"deeper than {RLP_DEPTH_MAX} lists")
    items: list[Rlp] = []
    while at < end:
        head = raw[at]
        at += 1
        if head < 0x80:
            items.append(raw[at - 1 : at])
            continue
        size = head & 0x3F  # both kinds: 0..55 is the size itself, 56..63 its width plus 55
        if size > 55:
            body = at + size - 55
            if body > end or raw[at] == 0:
                raise Invalid("rlp", "length cut short or with leading zeros")
            size = int.from_bytes(raw[at:body], "big")
            at = body
            if size < 56:
                raise Invalid("rlp", "long form of a short length")
        stop = at + size
        if stop > end:
            raise Invalid("rlp", "item longer than its bytes")
        if head >= 0xC0:
            items.append(_rlp_items(raw, at, stop, depth + 1))
        elif size == 1 and raw[at] < 0x80:
            raise Invalid("rlp", "single byte with a length")
        else:
            items.append(raw[at:stop])
        at = stop
    return items


# --- hex (Ethereum JSON-RPC "DATA")

_HEX: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*", re.ASCII)


def to_hex(data: bytes) -> str:
    """``0x`` and two lower-case digits for each byte."""
    return "0x" + data.hex()


def from_hex(text: str, code: str = "params") -> bytes:
    """The bytes of ``0x`` and pairs of hex digits; ``Invalid(code)`` for any other text."""
    if not _HEX.fullmatch(text):
        raise Invalid(code, "expected 0x and an even number of hex digits")
    return bytes.fromhex(text[2:])
