"""Ballots, votes and certificates, and the state that keeps a delegate from an offence.

The rules are those of docs/spec/consensus.md "The protocol", as pure functions of plain values.

* A *ballot* is a statement of one delegate: a proposal, a prevote or a commit.
* A *vote* is a prevote or a commit with its signature and the index of its author in the set.
* A *certificate* is a quorum of signatures of one ballot: a *prevote certificate* or a *commit
  certificate*.
* ``VoteState`` has the slots of a delegate's last proposal (b), prevote (p) and commit (l). The
  signer asks ``refuse`` before each signature, and keeps ``after`` before the signature leaves.
"""

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field, replace
from enum import IntEnum
from typing import Final

from dipnet.consensus.finality.members import MEMBERS_MAX, Members
from dipnet.primitives.codec import UINT, Bin, Uint, pack, unpack
from dipnet.primitives.crypto import keccak256, recover_batch, verify_batch
from dipnet.primitives.errors import Invalid

VOTE_VERSION: Final = 1
CERTIFICATE_VERSION: Final = 1
SIGNATURE_BYTES: Final = 65
CERTIFIED_BYTES: Final = 64
VOTE_BYTES_MAX: Final = 160
CERTIFICATE_BYTES_MAX: Final = 8192  # 101 delegates: 68 signatures are 4,352 bytes


class BallotKind(IntEnum):
    """What a ballot states; ``KIND_TEXT`` is its word in the digest."""

    PROPOSAL = 0
    PREVOTE = 1
    COMMIT = 2


KIND_TEXT: Final = {
    BallotKind.PROPOSAL: b"proposal",
    BallotKind.PREVOTE: b"prevote",
    BallotKind.COMMIT: b"commit",
}


@dataclass(frozen=True, slots=True)
class Ballot:
    """A statement about the block ``block_id`` (32 bytes) of ``slot``, in a voting epoch.

    ``justify_slot`` is that of the block's justify in a prevote, 0 in any other ballot.
    """

    kind: BallotKind
    epoch: int
    slot: int
    block_id: bytes
    justify_slot: int

    def digest(self, chain_id: int) -> bytes:
        """The 32 bytes that are signed (docs/spec/bytes.md "Digests")."""
        record: list[int | bytes] = [VOTE_VERSION, chain_id, self.epoch, self.slot, self.block_id]
        if self.kind is BallotKind.PREVOTE:
            record.append(self.justify_slot)
        return keccak256(b"DIPNET/" + KIND_TEXT[self.kind] + pack(record))


_BALLOT: Final = (Uint(2), UINT, UINT, Bin(32), UINT)
_VOTE: Final = (VOTE_VERSION, *_BALLOT, Uint(MEMBERS_MAX - 1), Bin(SIGNATURE_BYTES))
_CERTIFICATE: Final = (
    CERTIFICATE_VERSION, *_BALLOT, Bin(0, (MEMBERS_MAX + 7) // 8),
    Bin(0, MEMBERS_MAX * CERTIFIED_BYTES),
)  # fmt: skip


def _fields(ballot: Ballot) -> tuple[int, int, int, bytes, int]:
    """The elements of ``_BALLOT``."""
    kind = int(ballot.kind)
    return kind, ballot.epoch, ballot.slot, ballot.block_id, ballot.justify_slot


def _ballot(kind: int, epoch: int, slot: int, block_id: bytes, justify_slot: int) -> Ballot:
    if kind == BallotKind.PROPOSAL or (kind == BallotKind.COMMIT and justify_slot):
        raise Invalid("vote_form", "neither a prevote nor a commit")
    return Ballot(BallotKind(kind), epoch, slot, block_id, justify_slot)


@dataclass(frozen=True, slots=True)
class Vote:
    """A ballot by the member ``index`` of the set of its epoch, with its signature (65 bytes).

    ``raw`` is the record and ``id`` (32 bytes) its name in gossip: two signatures of one ballot by
    one member are one vote. ``encoded`` is the record where the vote was decoded from it.
    """

    ballot: Ballot
    index: int
    signature: bytes
    encoded: InitVar[bytes] = b""
    raw: bytes = field(init=False, repr=False, compare=False)
    id: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self, encoded: bytes) -> None:
        raw = encoded or pack((VOTE_VERSION, *_fields(self.ballot), self.index, self.signature))
        object.__setattr__(self, "raw", raw)
        object.__setattr__(self, "id", vote_id(raw))


def vote_id(raw: bytes) -> bytes:
    """The id of the vote in ``raw``; for other bytes, 32 bytes that are the id of no vote."""
    return keccak256(raw[:-SIGNATURE_BYTES])


def decode_vote(raw: bytes) -> Vote:
    """The prevote or commit in ``raw``; ``Invalid`` ``oversized``, ``record``, ``vote_form``."""
    _, *ballot, index, signature = unpack(raw, _VOTE, VOTE_BYTES_MAX)
    return Vote(_ballot(*ballot), index, signature, encoded=raw)


def check_votes(votes: Sequence[Vote], members: Sequence[Members], chain_id: int) -> list[bool]:
    """For each vote whether the member of the set that it names has signed it.

    ``members`` has the set of each vote's epoch. A vote with an index outside the set is False.
    """
    digests = b"".join(vote.ballot.digest(chain_id) for vote in votes)
    signers = recover_batch(digests, b"".join(vote.signature for vote in votes))
    return [
        vote.index < len(its) and its.signers[vote.index] == signers[20 * at : 20 * at + 20]
        for at, (vote, its) in enumerate(zip(votes, members, strict=True))
    ]


@dataclass(frozen=True, slots=True)
class Certificate:
    """A ballot with the signatures of a quorum (docs/spec/bytes.md "Certificate").

    ``bitmap`` has a bit for each member of the set, index 0 the lowest bit of the first byte;
    ``signatures`` are 64 bytes (r || s) for each bit that is set, in the order of the indices.
    ``raw`` is the record; ``encoded`` is the record where the certificate was decoded from it.
    """

    ballot: Ballot
    bitmap: bytes
    signatures: bytes
    encoded: InitVar[bytes] = b""
    raw: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self, encoded: bytes) -> None:
        record = (CERTIFICATE_VERSION, *_fields(self.ballot), self.bitmap, self.signatures)
        object.__setattr__(self, "raw", encoded or pack(record))

    @property
    def rank(self) -> tuple[int, int]:
        """(epoch, slot): the order of certificates of one kind."""
        return self.ballot.epoch, self.ballot.slot

    @property
    def id(self) -> bytes:
        """The name (32 bytes) in gossip. It is that of the ballot: any quorum will do."""
        return self.ballot.digest(0)

    def indices(self) -> tuple[int, ...]:
        """The indices of the members that signed, ascending."""
        bits = int.from_bytes(self.bitmap, "little")
        return tuple(at for at in range(8 * len(self.bitmap)) if bits >> at & 1)


def certificate_of(votes: Sequence[Vote], members: Members) -> Certificate:
    """The certificate of verified votes, which all have one ballot and are at least a quorum."""
    assert all(vote.ballot == votes[0].ballot and vote.index < len(members) for vote in votes)
    by_index = {vote.index: vote for vote in votes}
    bits = sum(1 << index for index in by_index)
    bitmap = bits.to_bytes((len(members) + 7) // 8, "little")
    signatures = b"".join(by_index[at].signature[:CERTIFIED_BYTES] for at in sorted(by_index))
    return Certificate(votes[0].ballot, bitmap, signatures)


def decode_certificate(raw: bytes) -> Certificate:
    """The certificate in ``raw``; ``check_certificate`` verifies its signatures.

    Raises ``Invalid``: ``oversized``, ``record``, ``vote_form``, ``certificate_form`` (another
    number of bits than of signatures).
    """
    _, *fields, bitmap, signatures = unpack(raw, _CERTIFICATE, CERTIFICATE_BYTES_MAX)
    ballot = _ballot(*fields)
    if int.from_bytes(bitmap, "big").bit_count() * CERTIFIED_BYTES != len(signatures):
        raise Invalid("certificate_form", "bits and signatures differ in number")
    return Certificate(ballot, bitmap, signatures, encoded=raw)


def check_certificate(certificate: Certificate, members: Members, chain_id: int) -> None:
    """Raise ``Invalid`` unless a quorum of ``members``, the set of the ballot's epoch, has signed.

    Codes: ``certificate_form`` (a bit outside the set), ``certificate_quorum``,
    ``certificate_signature``. All signatures are one native batch on this thread: at 35 us a
    signature, a set of 101 takes less time than the start of a second thread on a busy machine.
    """
    indices = certificate.indices()
    if len(certificate.bitmap) != (len(members) + 7) // 8 or indices[-1:] >= (len(members),):
        raise Invalid("certificate_form", "the bitmap is not over the set of its epoch")
    if len(indices) < members.quorum:
        raise Invalid("certificate_quorum", f"{len(indices)} of {members.quorum} signatures")
    digest = certificate.ballot.digest(chain_id)
    keys = b"".join(members.keys[index] for index in indices)
    if not all(verify_batch(digest * len(indices), certificate.signatures, keys, 1)):
        raise Invalid("certificate_signature")


@dataclass(frozen=True, slots=True)
class VoteState:
    """The slots of a delegate's last proposal (b), prevote (p) and commit (l).

    ``epoch`` is the epoch of its newest vote. In a new epoch p and l begin at 0. Zero and the slot
    of the epoch's boundary refuse the same ballots, because every block of the epoch lies above the
    boundary.
    """

    epoch: int = 0
    proposed: int = 0
    prevoted: int = 0
    committed: int = 0

    def _in(self, epoch: int) -> "VoteState":
        return replace(self, epoch=epoch, prevoted=0, committed=0) if epoch > self.epoch else self

    def joined(self, other: "VoteState") -> "VoteState":
        """The state that refuses what this state or ``other``, of the same key, refuses."""
        new, old = (self, other) if self.epoch >= other.epoch else (other, self)
        old = old._in(new.epoch)
        return VoteState(
            new.epoch,
            max(new.proposed, old.proposed),
            max(new.prevoted, old.prevoted),
            max(new.committed, old.committed),
        )

    def refuse(self, ballot: Ballot) -> str:
        """The reason why ``ballot`` may not be signed (rules V1, V2); empty where it may."""
        slot = ballot.slot
        if ballot.kind is BallotKind.PROPOSAL:
            return "" if slot > self.proposed else f"proposed in slot {self.proposed} already"
        if ballot.epoch < self.epoch:
            return f"voted in epoch {self.epoch} already"
        now = self._in(ballot.epoch)
        if ballot.kind is BallotKind.PREVOTE:  # V1
            if slot <= now.prevoted:
                return f"prevoted in slot {now.prevoted} already"
            if ballot.justify_slot < now.committed:
                return f"locked on slot {now.committed}, justified by {ballot.justify_slot}"
            return ""
        if slot < now.prevoted:  # V2
            return f"prevoted in slot {now.prevoted} already"
        return "" if slot > now.committed else f"committed in slot {now.committed} already"

    def after(self, ballot: Ballot) -> "VoteState":
        """The state to be stored before ``ballot`` is signed, which ``refuse`` must allow."""
        match ballot.kind:
            case BallotKind.PROPOSAL:
                return replace(self, proposed=ballot.slot)
            case BallotKind.PREVOTE:
                return replace(self._in(ballot.epoch), prevoted=ballot.slot)
            case _:
                return replace(self._in(ballot.epoch), committed=ballot.slot)


@dataclass(frozen=True, slots=True)
class Voter:
    """A delegate as its own node knows it; the secret key stays with the signer.

    ``public_key`` has 33 bytes. ``seed_key`` (32 bytes) gives the secrets to which its blocks
    commit (docs/spec/consensus.md "Seeds and leaders").
    """

    public_key: bytes
    seed_key: bytes
    state: VoteState


def offence(first: Ballot, second: Ballot) -> str:
    """The offence that two ballots of one key are: ``E0`` to ``E3``, empty for none.

    Two different ballots of one kind and slot are an offence even if they are for one block and
    differ in ``justify_slot`` only: an honest delegate signs once (ADR 61).
    """
    if first.epoch != second.epoch and first.kind is not BallotKind.PROPOSAL:
        return ""
    if first.kind is second.kind:
        return f"E{int(first.kind)}" if first.slot == second.slot and first != second else ""
    if first.kind is BallotKind.PREVOTE:
        first, second = second, first
    surrounds = (
        first.kind is BallotKind.COMMIT
        and second.kind is BallotKind.PREVOTE
        and second.slot > first.slot > second.justify_slot
    )
    return "E3" if surrounds else ""
