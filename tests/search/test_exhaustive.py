"""Finality is safe: every state of small trees, walks over changes of the set, and the mutants.

``make exhaustive`` explores every tree of four blocks, with ``BLOCKS=5`` every tree of five.
"""

import pytest

from tests.mutants.rule_mutants import MUTANTS, PLAN, WALK_SEEDS, Mutant, in_trees
from tests.mutants.run import caught
from tests.search.exhaustive import explore, trees, unproven
from tests.search.handover import Plan, walks

SAMPLE = 12  # every twelfth tree of four blocks
WALKS = range(200)


def test_every_state_of_three_blocks_is_safe() -> None:
    explored = [explore(tree) for tree in trees(3)]
    assert [one.violation for one in explored if one.violation] == []
    assert len(explored) == 30
    assert sum(one.states for one in explored) == 18_764


def test_every_state_of_some_trees_of_four_blocks_is_safe() -> None:
    every = list(trees(4))
    assert len(every) == len(set(every)) == 343
    explored = [explore(tree) for tree in every[::SAMPLE]]
    assert [one.violation for one in explored if one.violation] == []
    assert sum(one.states for one in explored) > 100_000


def test_every_conflict_of_four_blocks_convicts_a_third() -> None:
    assert [found for tree in trees(4) if (found := unproven(tree))] == []


def test_two_liars_of_four_are_too_many_but_no_honest_voter_looks_like_one() -> None:
    """The search does find conflicts, which convict faulty voters only."""
    found = [explore(tree, faulty=2).violation for tree in trees(3)]
    assert sum(one.startswith("conflict") for one in found) == 25
    assert not any("honest" in one for one in found)


@pytest.mark.parametrize(
    "plan",
    [Plan(), Plan(disjoint=False), Plan(blocks=14, steps=300)],
    ids=["disjoint", "the same", "long"],
)
def test_changes_of_the_set_are_safe(plan: Plan) -> None:
    done = [walked for _, walked in walks(WALKS, plan)]
    assert [walked.violation for walked in done if walked.violation] == []
    assert sum(walked.finals for walked in done) > len(WALKS)
    assert sum(walked.handovers for walked in done) > len(WALKS)
    assert sum(walked.epochs > 0 for walked in done) > len(WALKS) // 4, "new sets finalise too"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant: Mutant) -> None:
    assert "conflict" in caught(mutant)


def test_without_a_mutant_nothing_is_found() -> None:
    assert in_trees() == ""
    latest = max(int(caught(one).split()[1]) for one in MUTANTS if one.find is not in_trees)
    assert latest in WALK_SEEDS
    assert not any(walked.violation for _, walked in walks(range(latest + 1), PLAN))
