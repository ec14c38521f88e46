"""Block headers: the record that names a block, and what its proposer signs.

Nothing here needs more than bytes and hashes, so that a light client can hold headers without the
rest of a node.
"""

from dataclasses import dataclass, field
from typing import Final

from dipnet.consensus.finality.votes import Ballot, BallotKind
from dipnet.primitives.codec import BIG, UINT, Bin, big, from_big, pack, unpack
from dipnet.primitives.crypto import keccak256

HEADER_VERSION: Final = 1
HEADER_BYTES_MAX: Final = 1024
HASH_ZERO: Final = bytes(32)
BLOOM_BYTES: Final = 256

_HASH = Bin(32)
_HEADER = (
    HEADER_VERSION, UINT, _HASH, UINT, UINT, UINT, UINT, Bin(20), _HASH, _HASH, _HASH, Bin(256),
    UINT, UINT, BIG, (_HASH, UINT, UINT), (_HASH, UINT), _HASH, _HASH, _HASH, _HASH, _HASH, UINT,
    UINT, _HASH,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """A block header, fields in the order of its record (docs/design.md "Values"), version first
    and implied.

    ``raw`` is the canonical record and ``hash`` its keccak256, the block's id. ``justify`` is
    (block id, slot, epoch), ``final`` is (block id, slot). ``base_fee`` is wei for a unit of gas.
    """

    chain_id: int
    parent: bytes
    height: int
    slot: int
    epoch: int
    timestamp_ms: int
    proposer: bytes
    state_root: bytes
    tx_root: bytes
    receipt_root: bytes
    logs_bloom: bytes
    gas_limit: int
    gas_used: int
    base_fee: int
    justify: tuple[bytes, int, int]
    final: tuple[bytes, int]
    cert_root: bytes
    next_set_hash: bytes
    seed_reveal: bytes
    seed_commitment: bytes
    dag_root: bytes
    dag_count: int
    dag_bytes: int
    dag_acc: bytes
    raw: bytes = field(init=False, repr=False, compare=False)
    hash: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        raw = pack((
            HEADER_VERSION, self.chain_id, self.parent, self.height, self.slot, self.epoch,
            self.timestamp_ms, self.proposer, self.state_root, self.tx_root, self.receipt_root,
            self.logs_bloom, self.gas_limit, self.gas_used, big(self.base_fee), self.justify,
            self.final, self.cert_root, self.next_set_hash, self.seed_reveal,
            self.seed_commitment, self.dag_root, self.dag_count, self.dag_bytes, self.dag_acc,
        ))  # fmt: skip
        object.__setattr__(self, "raw", raw)
        object.__setattr__(self, "hash", keccak256(raw))

    @property
    def proposal(self) -> Ballot:
        """What the proposer signs: short, so that two of them for one slot are evidence (E0)."""
        return Ballot(BallotKind.PROPOSAL, self.epoch, self.slot, self.hash, 0)

    @property
    def proposal_digest(self) -> bytes:
        """The digest of it."""
        return self.proposal.digest(self.chain_id)


def decode_header(raw: bytes) -> Header:
    """The header in ``raw``; ``Invalid("record")`` or ``Invalid("oversized")``. Form only."""
    fields = unpack(raw, _HEADER, HEADER_BYTES_MAX)
    fields[14], fields[15], fields[16] = from_big(fields[14]), tuple(fields[15]), tuple(fields[16])
    return Header(*fields[1:])
