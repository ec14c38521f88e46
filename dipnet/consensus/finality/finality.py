"""The rules of finality as functions of plain values, one for each sentence of docs/consensus.md.

Nobody states them twice: block rules, node, signer and the exhaustive checker call these.

* *schedule epoch* of a block (``header.epoch``): whose leaders produce it. The children of the
  border block E of e-1 -> e, and all above them up to the next border, are of epoch e.
* *voting epoch* of a block: whose set votes on it. It is the schedule epoch once E is final on the
  block's own chain, and the epoch before until then (*hand-over block*).
* *justify* and *final* of a header are derived: the parent's, raised by the certificates that the
  block carries. So whoever has a valid block has the certificates behind its two links.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from dipnet.consensus.finality.votes import Ballot, Kind, VoteState
from dipnet.primitives.errors import Invalid

BACKOFF_STEP_MAX: Final = 64
SECTION_CERTIFICATES_MAX: Final = 2

Justify: TypeAlias = tuple[bytes, int, int]
"""(block id, slot, epoch) of a prevote-certified block, or of the border that opens the epoch."""

Settled: TypeAlias = tuple[bytes, int]
"""(block id, slot) of a final block."""


class Linked(Protocol):
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
class Border:
    """The border block below the blocks of schedule epoch ``epoch``; genesis is that of epoch 0."""

    epoch: int
    block_id: bytes
    slot: int


@dataclass(frozen=True, slots=True)
class Links:
    """The two derived links of a header."""

    justify: Justify
    final: Settled


@dataclass(frozen=True, slots=True)
class Certified:
    """What a certificate says (``ballot``), and the border below the block that it certifies."""

    ballot: Ballot
    border: Border


# --- epochs


def end_slot(border_slot: int, epoch_slots: int) -> int:
    """The slot at which the epoch above a border is due to end: the next multiple."""
    return (border_slot // epoch_slots + 1) * epoch_slots


def is_border(border: Border, end: int, slot: int, final_slot: int) -> bool:
    """Whether a block of ``border.epoch`` ends it: it is due, and its own border is final.

    ``final_slot`` is that of the block's own header. So an epoch is prolonged while the border
    below it is unfinal, and at most one hand-over is under way on a chain.
    """
    return slot >= end and final_slot >= border.slot


def voting_epoch(border: Border, final_slot: int) -> int:
    """Which epoch's set votes on a block above ``border`` whose header has this final slot."""
    return border.epoch if final_slot >= border.slot else border.epoch - 1


# --- links


def rank(justify: Justify) -> tuple[int, int]:
    """Prevote certificates compare by (epoch, slot)."""
    return justify[2], justify[1]


def made_final(certified: Certified) -> Settled:
    """The highest block that a commit certificate makes final.

    Truncation: the votes of a set that is no longer that of the schedule count for the border.
    """
    ballot, border = certified.ballot, certified.border
    if ballot.epoch < border.epoch:
        return border.block_id, border.slot
    return ballot.block_id, ballot.slot


def check_certified(certified: Certified, block: Linked) -> None:
    """Raises ``Invalid("certificate_block")`` unless the ballot is what may be voted on ``block``.

    The block has one voting set, and a prevote repeats the slot of the block's justify: without
    that a coalition could sign a justify that the block does not have and never show E3.
    """
    expected = prevote(block, certified.border)
    if certified.ballot.kind is Kind.COMMIT:
        expected = commit(expected)
    if certified.ballot != expected:
        raise Invalid("certificate_block", f"{certified.ballot} where {expected} is to be voted")


def derive(parent: Links, border: Border, section: Sequence[Certified]) -> Links:
    """The links of a child of a block with the links ``parent``, above ``border``.

    ``section`` are its certificates, each checked and for an ancestor of the child. Without order:
    the highest counts. When the border becomes final, the epoch's first justify is the border.
    """
    justify, final = parent.justify, parent.final
    for one in section:
        ballot = one.ballot
        justify = max(justify, (ballot.block_id, ballot.slot, ballot.epoch), key=rank)
        if ballot.kind is Kind.COMMIT:
            final = max(final, made_final(one), key=_slot)
    if voting_epoch(border, final[1]) == border.epoch:
        justify = max(justify, (border.block_id, border.slot, border.epoch), key=rank)
    return Links(justify, final)


def useful(parent: Links, border: Border, section: Sequence[Certified]) -> tuple[Certified, ...]:
    """Those of ``section`` (at most a PC and a CC) without which a child had other links."""
    links = derive(parent, border, section)
    return tuple(
        one
        for one in section
        if derive(parent, border, [other for other in section if other is not one]) != links
    )


def check_section(parent: Links, border: Border, section: Sequence[Certified]) -> None:
    """Raises ``Invalid("certificate_section")`` unless a block may carry these certificates.

    None, one, or a PC and then a CC; the block must have other links without any of them, so that
    nobody verifies signatures for nothing.
    """
    kinds = [one.ballot.kind for one in section]
    if kinds not in ([], [Kind.PREVOTE], [Kind.COMMIT], [Kind.PREVOTE, Kind.COMMIT]):
        raise Invalid("certificate_section", "a prevote certificate, then a commit certificate")
    if len(useful(parent, border, section)) != len(section):
        raise Invalid("certificate_section", "a certificate that raises nothing")


def _slot(settled: Settled) -> int:
    return settled[1]


# --- votes


def prevote(block: Linked, border: Border) -> Ballot:
    """The one prevote that may be cast for ``block``, which lies above ``border``."""
    epoch = voting_epoch(border, block.final[1])
    return Ballot(Kind.PREVOTE, epoch, block.slot, block.hash, block.justify[1])


def commit(prevotes: Ballot) -> Ballot:
    """The commit that a certificate of ``prevotes`` calls for."""
    return Ballot(Kind.COMMIT, prevotes.epoch, prevotes.slot, prevotes.block_id, 0)


def may_prevote(state: VoteState, block: Linked, border: Border) -> str:
    """V1: why ``block``, which is fully valid, may not be prevoted; empty where it may."""
    return state.refuse(prevote(block, border))


def may_commit(state: VoteState, prevotes: Ballot) -> str:
    """V2: why a known certificate of ``prevotes`` may not be followed; empty where it may."""
    return state.refuse(commit(prevotes))


# --- back-off


def backoff_step(unfinal_slots: int, backoff_slots: int) -> int:
    """Every how many slots a block may stand so many slots above the final one of its chain."""
    if unfinal_slots < 2 * backoff_slots:
        return 1
    doublings = (unfinal_slots // backoff_slots).bit_length() - 1
    return min(BACKOFF_STEP_MAX, 1 << doublings)


def leader_index(slot: int, step: int, leaders: int) -> int | None:
    """Whose turn ``slot`` is; None where the back-off leaves it empty.

    Divided by the step: a leader that is down must not own every slot that is left.
    """
    return slot // step % leaders if slot % step == 0 else None


def system_only(unfinal_slots: int, backoff_slots: int) -> bool:
    """Whether a block so far above the final one takes system transactions only."""
    return unfinal_slots >= 4 * backoff_slots
