"""Rules of finality broken on purpose, and the tree or walk that catches each.

Each is a line that is easy to get wrong, put into the shipping code; ``find`` looks for a
violation and says where it was. Without a mutant it finds none
(``tests/search/test_exhaustive.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from _pytest.monkeypatch import MonkeyPatch

from dipnet.consensus.finality import finality, members
from dipnet.consensus.finality.finality import (
    Certified,
    EpochBoundary,
    HeaderLinks,
    Justify,
    LinkedHeader,
    Settled,
)
from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState
from tests.search.exhaustive import explore, trees
from tests.search.handover import Plan, walks

TREE_BLOCKS = 3
WALK_SEEDS = range(2_000)
PLAN = Plan()

Put = Callable[[MonkeyPatch], None]


@dataclass(frozen=True)
class Mutant:
    """The broken rule, how to plant the bug, and the search: where it was caught, or empty."""

    name: str
    put: Put
    find: Callable[[], str]


def in_trees() -> str:
    """The first tree with conflicting final blocks, or else with an honest offender."""
    offence = ""
    for number, tree in enumerate(trees(TREE_BLOCKS), 1):
        if found := explore(tree).violation:
            where = f"tree {number} of {TREE_BLOCKS} blocks: {found}"
            if found.startswith("conflict"):
                return where
            offence = offence or where
    return offence


def in_walks(plan: Plan = PLAN) -> str:
    """The first walk over a change of the set with conflicting final blocks, or an offender."""
    offence = ""
    for seed, walked in walks(WALK_SEEDS, plan):
        if found := walked.violation:
            where = f"seed {seed} of {plan}: {found}"
            if found.startswith("conflict"):
                return where
            offence = offence or where
    return offence


def _replace(owner: Any, name: str, new: Any) -> Put:
    return lambda patch: patch.setattr(owner, name, new)


def _seen_as(kind: BallotKind, change: Callable[[VoteState, Ballot], VoteState]) -> Put:
    """A ballot of ``kind`` is judged by another vote state."""
    refuse = VoteState.refuse

    def new(self: VoteState, ballot: Ballot) -> str:
        return refuse(change(self, ballot) if ballot.kind is kind else self, ballot)

    return _replace(VoteState, "refuse", new)


def _kept(kind: BallotKind) -> Put:
    """A ballot of ``kind`` leaves no trace."""
    after = VoteState.after
    return _replace(
        VoteState, "after", lambda self, one: self if one.kind is kind else after(self, one)
    )


def _of_its_epoch(state: VoteState, epoch: int) -> VoteState:
    return replace(state, epoch=epoch, prevoted=0, committed=0) if epoch != state.epoch else state


def _old_epoch_again(patch: MonkeyPatch) -> None:
    refuse, after = VoteState.refuse, VoteState.after
    patch.setattr(
        VoteState, "refuse", lambda self, one: refuse(_of_its_epoch(self, one.epoch), one)
    )
    patch.setattr(VoteState, "after", lambda self, one: after(_of_its_epoch(self, one.epoch), one))


def _own_slot(block: LinkedHeader, boundary: EpochBoundary) -> Ballot:
    epoch = finality.voting_epoch(boundary, block.final[1])
    return Ballot(BallotKind.PREVOTE, epoch, block.slot, block.hash, block.slot)


def _itself(certified: Certified) -> Settled:
    return certified.ballot.block_id, certified.ballot.slot


def _due(boundary: EpochBoundary, end: int, slot: int, final_slot: int) -> bool:
    return slot >= end


def _by_slot(justify: Justify) -> tuple[int, int]:
    return justify[1], justify[2]


def _no_first_justify() -> Put:
    derive = finality.derive

    def new(parent: HeaderLinks, boundary: EpochBoundary, section: Any) -> HeaderLinks:
        return derive(parent, replace(boundary, slot=1 << 62), section)

    return _replace(finality, "derive", new)


MUTANTS = (
    Mutant(
        "V1 without the lock",
        _seen_as(BallotKind.PREVOTE, lambda state, _: replace(state, committed=0)),
        in_trees,
    ),
    Mutant(
        "V1 prevotes twice in a slot",
        _seen_as(BallotKind.PREVOTE, lambda state, _: replace(state, prevoted=state.prevoted - 1)),
        in_trees,
    ),
    Mutant(
        "V1 prevotes below its last prevote",
        _seen_as(BallotKind.PREVOTE, lambda state, _: replace(state, prevoted=0)),
        in_trees,
    ),
    Mutant("V1 takes the block's slot for its justify's", _replace(finality, "prevote", _own_slot),
           in_trees),
    Mutant(
        "V2 dropped",
        _seen_as(BallotKind.COMMIT, lambda state, _: replace(state, prevoted=0)),
        in_trees,
    ),
    Mutant(
        "V2 commits below its last commit",
        _seen_as(BallotKind.COMMIT, lambda state, _: replace(state, committed=0)),
        in_trees,
    ),
    Mutant("prevotes are forgotten", _kept(BallotKind.PREVOTE), in_trees),
    Mutant("commits are forgotten", _kept(BallotKind.COMMIT), in_trees),
    Mutant("a half is a quorum", _replace(members, "quorum_of", lambda n: n // 2), in_trees),
    Mutant("two thirds are a quorum", _replace(members, "quorum_of", lambda n: 2 * n // 3),
           in_trees),
    Mutant(
        "the new set votes before the boundary is final",
        _replace(finality, "voting_epoch", lambda boundary, final_slot: boundary.epoch),
        in_walks,
    ),
    Mutant(
        "old certificates count beyond the boundary",
        _replace(finality, "made_final", _itself),
        in_walks,
    ),
    Mutant("a boundary above an unfinal boundary",
           _replace(finality, "is_boundary", _due), in_walks),
    Mutant("justify is ranked by slot alone", _replace(finality, "rank", _by_slot), in_walks),
    Mutant("an epoch does not begin with its boundary", _no_first_justify(), in_walks),
    Mutant("votes in an epoch after a newer one", _old_epoch_again,
           partial(in_walks, replace(PLAN, disjoint=False))),
)  # fmt: skip
