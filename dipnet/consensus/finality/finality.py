"""The rules of finality as functions of plain values, one for each sentence of
docs/spec/consensus.md "The protocol".

Nobody states them twice: block rules, node, signer and the exhaustive checker call these.

* *schedule epoch* of a block (``header.epoch``): whose leaders produce it. The children of the
  boundary block E of e-1 -> e, and all above them up to the next boundary, are of epoch e.
* *voting epoch* of a block: whose set votes on it. It is the schedule epoch once E is final on the
  block's own chain, and the epoch before until then (*hand-over block*).
* *justify* and *final* of a header are derived: the parent's, raised by the certificates that the
  block carries. So whoever has a valid block has the certificates behind its two links.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState
from dipnet.primitives.errors import Invalid

BACKOFF_STEP_MAX: Final = 64
SECTION_CERTIFICATES_MAX: Final = 2

Justify: TypeAlias = tuple[bytes, int, int]
"""(block id, slot, epoch) of a prevote-certified block, or of the boundary that opens the epoch."""

Settled: TypeAlias = tuple[bytes, int]
"""(block id, slot) of a final block."""


class LinkedHeader(Protocol):
    """What these rules read of a header. ``epoch`` is the schedule epoch."""

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
    """The boundary block below the blocks of schedule epoch ``epoch``; genesis is that of epoch
    0."""

    epoch: int
    block_id: bytes
    slot: int


@dataclass(frozen=True, slots=True)
class HeaderLinks:
    """The two derived links of a header."""

    justify: Justify
    final: Settled


@dataclass(frozen=True, slots=True)
class Certified:
    """What a certificate says (``ballot``), and the boundary below the block that it certifies."""

    ballot: Ballot
    boundary: EpochBoundary


# --- epochs


def end_slot(boundary_slot: int, epoch_slots: int) -> int:
    """The slot at which the epoch above a boundary is due to end: the next multiple."""
    assert boundary_slot >= 0
    assert epoch_slots > 0
    return (boundary_slot // epoch_slots + 1) * epoch_slots


def is_boundary(boundary: EpochBoundary, end: int, slot: int, final_slot: int) -> bool:
    """Whether a block of ``boundary.epoch`` ends it: it is due, and its own boundary is final.

    ``final_slot`` is that of the block's own header. So an epoch is prolonged while the boundary
    below it is unfinal, and at most one hand-over is under way on a chain.
    """
    assert boundary.slot < end
    return slot >= end and final_slot >= boundary.slot


def voting_epoch(boundary: EpochBoundary, final_slot: int) -> int:
    """Which epoch's set votes on a block above ``boundary`` whose header has this final slot."""
    return boundary.epoch if final_slot >= boundary.slot else boundary.epoch - 1


# --- links


def rank(justify: Justify) -> tuple[int, int]:
    """Prevote certificates compare by (epoch, slot)."""
    return justify[2], justify[1]


def made_final(certified: Certified) -> Settled:
    """The highest block that a commit certificate makes final.

    Truncation: the votes of a set that is no longer that of the schedule count for the boundary.
    """
    ballot, boundary = certified.ballot, certified.boundary
    assert ballot.kind is BallotKind.COMMIT
    assert ballot.epoch in (boundary.epoch - 1, boundary.epoch), "check_certified has passed"
    assert ballot.slot > boundary.slot
    if ballot.epoch < boundary.epoch:
        return boundary.block_id, boundary.slot
    return ballot.block_id, ballot.slot


def check_certified(certified: Certified, block: LinkedHeader) -> None:
    """Raises ``Invalid("certificate_block")`` unless the ballot is what may be voted on ``block``.

    The block has one voting set, and a prevote repeats the slot of the block's justify: without
    that a coalition could sign a justify that the block does not have and never show E3.
    """
    expected = prevote(block, certified.boundary)
    if certified.ballot.kind is BallotKind.COMMIT:
        expected = commit(expected)
    if certified.ballot != expected:
        raise Invalid("certificate_block", f"{certified.ballot} where {expected} is to be voted")


def derive(
    parent: HeaderLinks, boundary: EpochBoundary, section: Sequence[Certified]
) -> HeaderLinks:
    """The links of a child of a block with the links ``parent``, above ``boundary``.

    ``section`` are its certificates, each checked and for an ancestor of the child. Without order:
    the highest counts. When the boundary becomes final, the epoch's first justify is the boundary.
    """
    justify, final = parent.justify, parent.final
    for one in section:
        ballot = one.ballot
        justify = max(justify, (ballot.block_id, ballot.slot, ballot.epoch), key=rank)
        if ballot.kind is BallotKind.COMMIT:
            final = max(final, made_final(one), key=_slot)
    if voting_epoch(boundary, final[1]) == boundary.epoch:
        justify = max(justify, (boundary.block_id, boundary.slot, boundary.epoch), key=rank)
    assert rank(justify) >= rank(parent.justify), "links only rise along a chain"
    assert final[1] >= parent.final[1]
    return HeaderLinks(justify, final)


def useful(
    parent: HeaderLinks, boundary: EpochBoundary, section: Sequence[Certified]
) -> tuple[Certified, ...]:
    """Those of ``section`` (at most a prevote certificate and a commit certificate) without which a
    child had other links."""
    links = derive(parent, boundary, section)
    return tuple(
        one
        for one in section
        if derive(parent, boundary, [other for other in section if other is not one]) != links
    )


_SECTION_KINDS: Final[tuple[list[BallotKind], ...]] = (
    [], [BallotKind.PREVOTE], [BallotKind.COMMIT], [BallotKind.PREVOTE, BallotKind.COMMIT],
)  # fmt: skip


def check_section(
    parent: HeaderLinks, boundary: EpochBoundary, section: Sequence[Certified]
) -> None:
    """Raises ``Invalid("certificate_section")`` unless a block may carry these certificates.

    None, one, or a prevote certificate and then a commit certificate; the block must have other
    links without any of them, so that nobody verifies signatures for nothing.
    """
    kinds = [one.ballot.kind for one in section]
    if kinds not in _SECTION_KINDS:
        raise Invalid("certificate_section", "a prevote certificate, then a commit certificate")
    if len(useful(parent, boundary, section)) != len(section):
        raise Invalid("certificate_section", "a certificate that raises nothing")


def _slot(settled: Settled) -> int:
    return settled[1]


# --- votes


def prevote(block: LinkedHeader, boundary: EpochBoundary) -> Ballot:
    """The one prevote that may be cast for ``block``, which lies above ``boundary``."""
    epoch = voting_epoch(boundary, block.final[1])
    assert boundary.slot < block.slot
    assert block.justify[1] < block.slot, "a block is justified by an ancestor"
    return Ballot(BallotKind.PREVOTE, epoch, block.slot, block.hash, block.justify[1])


def commit(prevotes: Ballot) -> Ballot:
    """The commit that a certificate of ``prevotes`` calls for."""
    assert prevotes.kind is BallotKind.PREVOTE
    return Ballot(BallotKind.COMMIT, prevotes.epoch, prevotes.slot, prevotes.block_id, 0)


def may_prevote(state: VoteState, block: LinkedHeader, boundary: EpochBoundary) -> str:
    """V1: why ``block``, which is fully valid, may not be prevoted; empty where it may."""
    return state.refuse(prevote(block, boundary))


def may_commit(state: VoteState, prevotes: Ballot) -> str:
    """V2: why a known certificate of ``prevotes`` may not be followed; empty where it may."""
    return state.refuse(commit(prevotes))


# --- back-off


def backoff_step(unfinal_slots: int, backoff_slots: int) -> int:
    """Every how many slots a block may stand so many slots above the final one of its chain."""
    assert backoff_slots > 0
    if unfinal_slots < 2 * backoff_slots:
        return 1
    doublings = (unfinal_slots // backoff_slots).bit_length() - 1
    return min(BACKOFF_STEP_MAX, 1 << doublings)


def leader_index(slot: int, step: int, leaders: int) -> int | None:
    """Whose turn ``slot`` is; None where the back-off leaves it empty.

    Divided by the step: a leader that is down must not own every slot that is left.
    """
    assert leaders > 0
    assert 1 <= step <= BACKOFF_STEP_MAX
    return slot // step % leaders if slot % step == 0 else None


def system_only(unfinal_slots: int, backoff_slots: int) -> bool:
    """Whether a block so far above the final one takes system transactions only."""
    return unfinal_slots >= 4 * backoff_slots
