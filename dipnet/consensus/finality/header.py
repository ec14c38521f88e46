"""Block headers: the record that names a block, and the ballot that its proposer signs.

This file needs bytes and hashes only, so that a light client holds headers without the rest of a
node.
"""

from dataclasses import InitVar, dataclass, field
from operator import attrgetter
from typing import Annotated, Any, Final, TypeAlias, get_origin, get_type_hints

from dipnet.consensus.finality.votes import Ballot, BallotKind
from dipnet.primitives.codec import BIG, UINT, Bin, Record, Shape, big, from_big, pack, unpack
from dipnet.primitives.crypto import keccak256

HEADER_VERSION: Final = 1
HEADER_BYTES_MAX: Final = 1024
HASH_ZERO: Final = bytes(32)
BLOOM_BYTES: Final = 256

Uint64: TypeAlias = Annotated[int, UINT]
Wei: TypeAlias = Annotated[int, BIG]
Hash: TypeAlias = Annotated[bytes, Bin(32)]
Address: TypeAlias = Annotated[bytes, Bin(20)]
Bloom: TypeAlias = Annotated[bytes, Bin(BLOOM_BYTES)]


@dataclass(frozen=True, slots=True)
class Header:
    """A block header. The annotated fields, in their order and after the version, are its record
    (docs/spec/bytes.md "Records"): each annotation gives the type here and the shape there.

    ``justify`` is (block id, slot, epoch), ``final`` is (block id, slot), ``timestamp_ms`` is Unix
    time, ``base_fee`` is wei for a unit of gas. ``raw`` is the canonical record, ``hash`` its
    keccak256, the id of the block. ``encoded`` is the record where the header was decoded from it.
    """

    chain_id: Uint64
    parent: Hash
    height: Uint64
    slot: Uint64
    epoch: Uint64
    timestamp_ms: Uint64
    proposer: Address
    state_root: Hash
    tx_root: Hash
    receipt_root: Hash
    logs_bloom: Bloom
    gas_limit: Uint64
    gas_used: Uint64
    base_fee: Wei
    justify: Annotated[tuple[bytes, int, int], (Bin(32), UINT, UINT)]
    final: Annotated[tuple[bytes, int], (Bin(32), UINT)]
    cert_root: Hash
    next_set_hash: Hash
    seed_reveal: Hash
    seed_commitment: Hash
    dag_root: Hash
    dag_count: Uint64
    dag_bytes: Uint64
    dag_acc: Hash
    encoded: InitVar[bytes] = b""
    raw: bytes = field(init=False, repr=False, compare=False)
    hash: bytes = field(init=False, compare=False)

    def __post_init__(self, encoded: bytes) -> None:
        raw = encoded or pack((HEADER_VERSION, *map(_element, _values(self), _SHAPES)))
        object.__setattr__(self, "raw", raw)
        object.__setattr__(self, "hash", keccak256(raw))

    @property
    def proposal(self) -> Ballot:
        """What the proposer signs: short, so that two of them for one slot are evidence (E0)."""
        return Ballot(BallotKind.PROPOSAL, self.epoch, self.slot, self.hash, 0)

    @property
    def proposal_digest(self) -> bytes:
        """The digest (32 bytes) of ``proposal``."""
        return self.proposal.digest(self.chain_id)


_FIELDS: Final[dict[str, Shape]] = {
    name: hint.__metadata__[0]
    for name, hint in get_type_hints(Header, include_extras=True).items()
    if get_origin(hint) is Annotated
}
_SHAPES: Final = tuple(_FIELDS.values())
_HEADER: Final = (HEADER_VERSION, *_SHAPES)
_values: Final = attrgetter(*_FIELDS)


def _element(value: Any, shape: Shape) -> Record:
    """The element of the record for the value of a field."""
    return big(value) if shape is BIG else value


def _value(element: Any, shape: Shape) -> Any:
    """The value of a field for the element of the record."""
    if shape is BIG:
        return from_big(element)
    return tuple(element) if isinstance(shape, tuple) else element


def decode_header(raw: bytes) -> Header:
    """The header in ``raw``; ``Invalid("record")`` or ``Invalid("oversized")``. Form only."""
    elements = unpack(raw, _HEADER, HEADER_BYTES_MAX)[1:]
    values = dict(zip(_FIELDS, map(_value, elements, _SHAPES), strict=True))
    return Header(**values, encoded=raw)
