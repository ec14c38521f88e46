"""Every message that crosses the wire: one row of a table each, bounded and canonical.

Rules that bind this file (docs/design.md "Peers", docs/spec/bytes.md "Records"):
* A message is the record ``[1, kind, field, ...]``; its row names the class, the protocol and the
  shape of each field. Whatever else arrives is ``Invalid("peer_message")``.
* Length is refused before parsing, counts while parsing. Votes, certificates, blocks, transactions
  and vertices stay opaque bytes here, and their ids 32 bytes: their meaning is not known here.
* Text from a peer is short and printable ASCII, because it ends in logs and in JSON.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Final, NamedTuple, TypeAlias

from dipnet.primitives.codec import TEXT, UINT, Bin, Many, Record, Shape, Uint, pack, unpack
from dipnet.primitives.errors import Invalid

ADDRESS_BYTES_MAX: Final = 256
ADDRESSES_MAX: Final = 64  # of one PeerAddresses message
CAPABILITIES_MAX: Final = 16
LISTEN_MAX: Final = 8
IDS_MAX: Final = 4096  # of one Announce, Fetch or Tips
LOCATOR_MAX: Final = 64  # hashes or ids, exponentially back: 2^64 records need no more
ITEMS_MAX: Final = 4096  # of one Items, Blocks or Vertices
ITEM_BYTES_MAX: Final = 9 << 20  # a block body of 8 MiB with its certificate and frontier
VOTES_MAX: Final = 256  # of one Votes: two of each of 101 delegates
VOTE_BYTES_MAX: Final = 160
CERTIFICATES_MAX: Final = 8  # of one Certificates
CERTIFICATE_BYTES_MAX: Final = 8192
FRAME_BYTES_MAX: Final[dict[str, int]] = {
    "hello": 8 << 10,
    "votes": 72 << 10,
    "gossip": 10 << 20,
    "sync": 10 << 20,
    "peers": 32 << 10,
}


class Topic(IntEnum):
    """The kinds of gossiped items, in the order of sending (docs/design.md "Peers": votes first).

    Votes and certificates are pushed whole on a stream of their own; the others share one.
    """

    VOTE = 0
    CERTIFICATE = 1
    BLOCK = 2
    TX = 3
    VERTEX = 4


PUSHED: Final = (Topic.VOTE, Topic.CERTIFICATE)  # never announced, never fetched
FETCHED: Final = (Topic.BLOCK, Topic.TX, Topic.VERTEX)

Outgoing: TypeAlias = tuple[str, str, bytes]
"""Peer, protocol, frame: the arguments of ``Send``."""

Have: TypeAlias = Callable[[bytes], bool]
"""Whether the item of an id is here, or is being verified."""


@dataclass(frozen=True, slots=True)
class Status:
    """Where the sender stands, sent each slot. Nodes of equal ``dag_sum`` have the same vertices.

    ``safe_epoch`` and ``safe_slot`` rank the highest prevote certificate that it knows, ``time_ms``
    is its clock (Unix time) at sending.
    """

    head_height: int
    head_hash: bytes
    final_height: int
    final_hash: bytes
    safe_epoch: int
    safe_slot: int
    dag_count: int
    dag_sum: int
    time_ms: int

    @property
    def claim(self) -> tuple[int, int, int]:
        """The claimed head: claims compare as fork choice compares heads."""
        return self.safe_epoch, self.safe_slot, self.head_height


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of both sides: the sender's program and network, then its ``Status``.

    ``nonce`` (8 bytes) differs between processes: a node that hears its own has dialled itself.
    """

    version: str
    chain_id: int
    genesis_hash: bytes
    capabilities: tuple[str, ...]
    listen: tuple[str, ...]
    nonce: bytes
    head_height: int
    head_hash: bytes
    final_height: int
    final_hash: bytes
    safe_epoch: int
    safe_slot: int
    dag_count: int
    dag_sum: int
    time_ms: int

    @property
    def status(self) -> Status:
        """Where the sender stands."""
        return Status(*(getattr(self, field.name) for field in fields(Status)))


@dataclass(frozen=True, slots=True)
class Votes:
    """Whole votes, VOTES_MAX at most."""

    raws: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Certificates:
    """Whole certificates, CERTIFICATES_MAX at most."""

    raws: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Announce:
    """The sender has these ids."""

    topic: Topic
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Fetch:
    """The sender wants these ids."""

    topic: Topic
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Absent:
    """Answer to Fetch: the sender has not got these ids, so that the receiver asks another peer."""

    topic: Topic
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Items:
    """Whole blocks or transactions."""

    topic: Topic
    raws: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Vertices:
    """Whole vertices, concatenated: one native call parses them."""

    wire: bytes


@dataclass(frozen=True, slots=True)
class Tips:
    """Tips of the sender's DAG, each slot, which make up for lost announcements (docs/design.md
    "DAG")."""

    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class GetBlocks:
    """Ask for at most ``count`` blocks after the first of ``locator`` on the receiver's chain."""

    request: int
    locator: tuple[bytes, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Blocks:
    """Answer to GetBlocks, in ascending height; ``more``: the sender has higher blocks."""

    request: int
    raws: tuple[bytes, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class LocateVertices:
    """Ask for the first of ``ids`` (newest first) that the receiver has."""

    request: int
    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Located:
    """Answer to LocateVertices: its ordinal in the sender's own log; 0 when none is known."""

    request: int
    ordinal: int


@dataclass(frozen=True, slots=True)
class GetVertices:
    """Ask for at most ``count`` vertices of the receiver's log from ``start`` on."""

    request: int
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class VertexRange:
    """Answer to GetVertices: ``next`` is the ordinal to go on with, ``end``: the log ends there."""

    request: int
    next: int
    end: bool
    wire: bytes


@dataclass(frozen=True, slots=True)
class GetPeers:
    """Ask for addresses."""


@dataclass(frozen=True, slots=True)
class PeerAddresses:
    """Answer to GetPeers."""

    addresses: tuple[str, ...]


Message = (
    Hello
    | Status
    | Votes
    | Certificates
    | Announce
    | Fetch
    | Absent
    | Items
    | Vertices
    | Tips
    | GetBlocks
    | Blocks
    | LocateVertices
    | Located
    | GetVertices
    | VertexRange
    | GetPeers
    | PeerAddresses
)


class _Field(NamedTuple):
    """The shape that the codec checks, and the reader of the value that the codec gives."""

    shape: Shape
    read: Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


def _text(value: bytes) -> str:
    text = value.decode()  # UTF-8 was checked by the shape
    if not (text.isascii() and text.isprintable()):
        raise Invalid("peer_message", "text is not printable ASCII")
    return text


def _texts(values: list[bytes]) -> tuple[str, ...]:
    return tuple(_text(value) for value in values)


def _topic_of(*allowed: Topic) -> Callable[[int], Topic]:
    by_number = {int(topic): topic for topic in allowed}

    def read(value: int) -> Topic:
        if value not in by_number:
            raise Invalid("peer_message", f"topic {value} is not for this message")
        return by_number[value]

    return read


_NUMBER = _Field(UINT, _same)
_HASH = _Field(Bin(32), _same)
_FLAG = _Field(Uint(1), bool)
_ANY_TOPIC = _Field(UINT, _topic_of(*FETCHED))
_ITEM_TOPIC = _Field(UINT, _topic_of(Topic.BLOCK, Topic.TX))
_IDS = _Field(Many(Bin(32), IDS_MAX), tuple)
_LOCATOR = _Field(Many(Bin(32), LOCATOR_MAX), tuple)
_RAWS = _Field(Many(Bin(1, ITEM_BYTES_MAX), ITEMS_MAX), tuple)
_WIRE = _Field(Bin(0, FRAME_BYTES_MAX["sync"]), _same)
_STATUS = (_NUMBER, _HASH, _NUMBER, _HASH, *(_NUMBER,) * 5)

# protocol -> kind -> (class, its fields in wire order)
_TABLE: Final[dict[str, dict[int, tuple[type[Any], tuple[_Field, ...]]]]] = {
    "hello": {
        0: (
            Hello,
            (
                _Field(TEXT(64), _text),
                _NUMBER,
                _HASH,
                _Field(Many(TEXT(32), CAPABILITIES_MAX), _texts),
                _Field(Many(TEXT(ADDRESS_BYTES_MAX), LISTEN_MAX), _texts),
                _Field(Bin(8), _same),
                *_STATUS,
            ),
        ),
        1: (Status, _STATUS),
    },
    "votes": {
        0: (Votes, (_Field(Many(Bin(1, VOTE_BYTES_MAX), VOTES_MAX), tuple),)),
        1: (Certificates, (_Field(Many(Bin(1, CERTIFICATE_BYTES_MAX), CERTIFICATES_MAX), tuple),)),
    },
    "gossip": {
        0: (Announce, (_ANY_TOPIC, _IDS)),
        1: (Fetch, (_ANY_TOPIC, _IDS)),
        2: (Items, (_ITEM_TOPIC, _RAWS)),
        3: (Vertices, (_WIRE,)),
        4: (Tips, (_IDS,)),
        5: (Absent, (_ANY_TOPIC, _IDS)),
    },
    "sync": {
        0: (GetBlocks, (_NUMBER, _LOCATOR, _NUMBER)),
        1: (Blocks, (_NUMBER, _RAWS, _FLAG)),
        2: (LocateVertices, (_NUMBER, _LOCATOR)),
        3: (Located, (_NUMBER, _NUMBER)),
        4: (GetVertices, (_NUMBER, _NUMBER, _NUMBER)),
        5: (VertexRange, (_NUMBER, _NUMBER, _FLAG, _WIRE)),
    },
    "peers": {
        0: (GetPeers, ()),
        1: (PeerAddresses, (_Field(Many(TEXT(ADDRESS_BYTES_MAX), ADDRESSES_MAX), _texts),)),
    },
}
_SHAPES: Final = {
    protocol: {kind: (1, kind, *(field.shape for field in row)) for kind, (_, row) in kinds.items()}
    for protocol, kinds in _TABLE.items()
}
_KIND_OF: Final = {
    cls: (protocol, kind, tuple(field.name for field in fields(cls)))
    for protocol, kinds in _TABLE.items()
    for kind, (cls, _) in kinds.items()
}
_LONG: Final = b"\xdc"  # begins a record of more than 15 elements: 3 bytes, not 1 (msgpack)


def protocol_of(message: Message) -> str:
    """The protocol whose stream carries this message."""
    return _KIND_OF[type(message)][0]


def encode(message: Message) -> bytes:
    """The bytes of a message. The caller keeps the limits, which only ``decode`` checks."""
    _, kind, names = _KIND_OF[type(message)]
    return pack([1, kind, *(_plain(getattr(message, name)) for name in names)])


def decode(protocol: str, data: bytes) -> Message:
    """The message in ``data``; ``Invalid("peer_message")`` for any other bytes."""
    if len(data) > FRAME_BYTES_MAX.get(protocol, 0):
        raise Invalid("peer_message", f"{len(data)} bytes are too many for {protocol}")
    kind_at = 4 if data[:1] == _LONG else 2  # behind the header and the version
    kind = data[kind_at] if len(data) > kind_at else -1
    shape = _SHAPES.get(protocol, {}).get(kind)
    if shape is None:
        raise Invalid("peer_message", f"{protocol} has no kind {kind}")
    try:
        values = unpack(data, shape, FRAME_BYTES_MAX[protocol])
    except Invalid as refused:
        raise Invalid("peer_message", str(refused)) from None
    cls, row = _TABLE[protocol][kind]
    message: Message = cls(
        *(field.read(value) for field, value in zip(row, values[2:], strict=True))
    )
    return message


def _plain(value: int | bytes | str | Sequence[bytes | str]) -> Record:
    if isinstance(value, bytes):
        return value
    if isinstance(value, int):  # Topic and bool too
        return int(value)
    if isinstance(value, str):
        return value.encode()
    return [_plain(part) for part in value]
