"""The rules of finality as functions of plain values (docs/spec/consensus.md "The protocol").

Block rules, node, signer and the exhaustive checker call these functions; no rule is stated twice.

* The *schedule epoch* of a block (``header.epoch``) is the epoch whose leaders produce it. The
  blocks above the boundary of epoch e, up to and with the next boundary, are of schedule epoch e.
* The *voting epoch* of a block is the epoch whose set votes on it: its schedule epoch if the
  block's own header says that the boundary is final, else the epoch before (*hand-over block*).
* The *links* of a header, ``justify`` and ``final``, are derived: those of its parent, raised by
  the certificates that the block carries. A valid block therefore proves its links.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState
from dipnet.primitives.errors import Invalid

BACKOFF_STEP_MAX: Final = 64

Justify: TypeAlias = tuple[bytes, int, int]
"""(block id, slot, epoch) of a block with a prevote certificate, or of the epoch's boundary."""

Settled: TypeAlias = tuple[bytes, int]
"""(block id, slot) of a final block."""


class LinkedHeader(Protocol):
    """The fields of a header that these rules read. ``epoch`` is the schedule epoch."""

    @property
    def hash(self) -> bytes: ...
    @property
    def slot(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def justify(self) -> Justify: ...
    @property
    def final(self) -> Settled: ...


@dataclass(frozen=True, slots=True)
class EpochBoundary:
    """The boundary of ``epoch``: the last block below the blocks of that schedule epoch.

    Genesis is the boundary of epoch 0.
    """

    epoch: int
    block_id: bytes
    slot: int


@dataclass(frozen=True, slots=True)
class HeaderLinks:
    """The links of a header: its justified and its final ancestor."""

    justify: Justify
    final: Settled


@dataclass(frozen=True, slots=True)
class Certified:
    """The ballot of a certificate, and the boundary of the certified block's schedule epoch."""

    ballot: Ballot
    boundary: EpochBoundary


# --- epochs


def end_slot(boundary_slot: int, epoch_slots: int) -> int:
    """The slot from which on the epoch above a boundary may end: the next multiple of
    ``epoch_slots``."""
    assert boundary_slot >= 0
    assert epoch_slots > 0
    return (boundary_slot // epoch_slots + 1) * epoch_slots


def is_boundary(boundary: EpochBoundary, end: int, slot: int, final_slot: int) -> bool:
    """Whether a block of ``boundary.epoch`` in ``slot`` ends the epoch and is the next boundary.

    It does from slot ``end`` on, if its own header (``final_slot``) says that ``boundary`` is
    final. So an epoch is prolonged until its boundary is final, and a chain has at most one
    hand-over at a time.
    """
    assert boundary.slot < end
    return slot >= end and final_slot >= boundary.slot


def voting_epoch(boundary: EpochBoundary, final_slot: int) -> int:
    """The voting epoch of a block of ``boundary.epoch`` whose header has this final slot."""
    return boundary.epoch if final_slot >= boundary.slot else boundary.epoch - 1


# --- links


def rank(justify: Justify) -> tuple[int, int]:
    """(epoch, slot): the order of justified blocks."""
    return justify[2], justify[1]


def made_final(certified: Certified) -> Settled:
    """The highest block that a commit certificate makes final.

    It is the certified block. Where the set of the epoch before has voted, on a hand-over block, it
    is the boundary (truncation).
    """
    ballot, boundary = certified.ballot, certified.boundary
    assert ballot.kind is BallotKind.COMMIT
    assert ballot.epoch in (boundary.epoch - 1, boundary.epoch), "check_certified has passed"
    assert ballot.slot > boundary.slot
    if ballot.epoch < boundary.epoch:
        return boundary.block_id, boundary.slot
    return ballot.block_id, ballot.slot


def check_certified(certified: Certified, block: LinkedHeader) -> None:
    """Raise ``Invalid("certificate_block")`` unless the rules allow this ballot for ``block``.

    A block has one voting epoch, and a prevote repeats the slot of the block's justify. Without
    the latter a coalition could sign a justify that the block does not have, and avoid E3.
    ``block`` is valid and not genesis.
    """
    assert certified.boundary.slot < block.slot
    assert block.justify[1] < block.slot, "a block is justified by an ancestor"
    expected = prevote(block, certified.boundary)
    if certified.ballot.kind is BallotKind.COMMIT:
        expected = commit(expected)
    if certified.ballot != expected:
        raise Invalid("certificate_block", f"{certified.ballot} where {expected} is allowed")


def derive(
    parent: HeaderLinks, boundary: EpochBoundary, section: Sequence[Certified]
) -> HeaderLinks:
    """The links of a block: ``parent`` are those of its parent, ``boundary`` that of its epoch.

    ``section`` are the certificates of the block, each checked and for an ancestor of it; their
    order does not matter. Where they make the boundary final, the block is justified at least by
    the boundary.
    """
    justify, final = parent.justify, parent.final
    for certified in section:
        ballot = certified.ballot
        justify = max(justify, (ballot.block_id, ballot.slot, ballot.epoch), key=rank)
        if ballot.kind is BallotKind.COMMIT:
            final = max(final, made_final(certified), key=_slot)
    if voting_epoch(boundary, final[1]) == boundary.epoch:
        justify = max(justify, (boundary.block_id, boundary.slot, boundary.epoch), key=rank)
    assert rank(justify) >= rank(parent.justify), "links only rise along a chain"
    assert final[1] >= parent.final[1]
    return HeaderLinks(justify, final)


def useful(
    parent: HeaderLinks, boundary: EpochBoundary, section: Sequence[Certified]
) -> tuple[Certified, ...]:
    """The certificates of ``section`` that a block needs: leaving one out changes its links.

    ``section`` has at most a prevote certificate and a commit certificate.
    """
    links = derive(parent, boundary, section)
    return tuple(
        certified
        for certified in section
        if derive(parent, boundary, [kept for kept in section if kept is not certified]) != links
    )


_SECTION_KINDS: Final[tuple[list[BallotKind], ...]] = (
    [], [BallotKind.PREVOTE], [BallotKind.COMMIT], [BallotKind.PREVOTE, BallotKind.COMMIT],
)  # fmt: skip


def check_section(
    parent: HeaderLinks, boundary: EpochBoundary, section: Sequence[Certified]
) -> None:
    """Raise ``Invalid("certificate_section")`` unless a block may carry these certificates.

    A block carries at most one prevote certificate, then at most one commit certificate; each must
    change a link (``useful``), so that a node never verifies signatures that change nothing.
    """
    kinds = [certified.ballot.kind for certified in section]
    if kinds not in _SECTION_KINDS:
        raise Invalid("certificate_section", "a prevote certificate, then a commit certificate")
    if len(useful(parent, boundary, section)) != len(section):
        raise Invalid("certificate_section", "a certificate that raises nothing")


def _slot(settled: Settled) -> int:
    return settled[1]


# --- votes


def prevote(block: LinkedHeader, boundary: EpochBoundary) -> Ballot:
    """The only prevote that the rules allow for ``block``; ``boundary`` is that of its epoch.

    Light clients call this with headers from a node that they do not trust: no field is known to
    be valid.
    """
    epoch = voting_epoch(boundary, block.final[1])
    return Ballot(BallotKind.PREVOTE, epoch, block.slot, block.hash, block.justify[1])


def commit(prevotes: Ballot) -> Ballot:
    """The commit that follows from a certificate of ``prevotes``."""
    assert prevotes.kind is BallotKind.PREVOTE
    return Ballot(BallotKind.COMMIT, prevotes.epoch, prevotes.slot, prevotes.block_id, 0)


def may_prevote(state: VoteState, block: LinkedHeader, boundary: EpochBoundary) -> str:
    """V1: the reason not to prevote ``block``, which is fully valid; empty where there is none."""
    return state.refuse(prevote(block, boundary))


def may_commit(state: VoteState, prevotes: Ballot) -> str:
    """V2: the reason not to commit after a certificate of ``prevotes``; empty for none."""
    return state.refuse(commit(prevotes))


# --- back-off


def backoff_step(unfinal_slots: int, backoff_slots: int) -> int:
    """The distance of usable slots for a block ``unfinal_slots`` above the final slot of its chain.

    1 below ``2 * backoff_slots``, then it doubles with each doubling of ``unfinal_slots``, up to
    ``BACKOFF_STEP_MAX``.
    """
    assert backoff_slots > 0
    if unfinal_slots < 2 * backoff_slots:
        return 1
    doublings = (unfinal_slots // backoff_slots).bit_length() - 1
    return min(BACKOFF_STEP_MAX, 1 << doublings)


def leader_index(slot: int, step: int, leaders: int) -> int | None:
    """The index of the leader of ``slot``; None where the back-off leaves the slot empty.

    The slot is divided by ``step``: otherwise a leader that is down could own all remaining slots.
    """
    assert leaders > 0
    assert 1 <= step <= BACKOFF_STEP_MAX
    return slot // step % leaders if slot % step == 0 else None


def system_only(unfinal_slots: int, backoff_slots: int) -> bool:
    """Whether a block ``unfinal_slots`` above the final slot takes system transactions only."""
    return unfinal_slots >= 4 * backoff_slots
