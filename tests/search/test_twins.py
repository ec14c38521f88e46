"""Twins under a few scenarios, and the enumeration of all. ``make twins`` runs more of them."""

from itertools import islice

import pytest

from tests.mutants.rule_mutants import Mutant
from tests.mutants.run import caught
from tests.mutants.twin_mutants import MUTANTS
from tests.search.twins import (
    ALL_ROUNDS,
    CHANGES_MS,
    CONTROLS,
    DELEGATES,
    EPOCH_SLOTS,
    Scenario,
    count_of,
    numbers,
    partitions,
    run_control,
    run_scenario,
)

SLICE = 6
QUICK = ("V1 prevotes twice in a slot", "two thirds are a quorum")
"""Found in one of the first scenarios."""


def test_one_twin_does_no_harm() -> None:
    done = [run_scenario(number) for number in islice(numbers(), SLICE)]
    assert [text for one in done for text in one.violations] == []
    assert sum(one.equivocations for one in done) > 0
    assert any(one.parted for one in done)
    assert {one.epochs for one in done} == {0, 1}
    assert run_scenario(done[1].number) == done[1], "it can be replayed"


@pytest.mark.parametrize("number", CONTROLS)
def test_two_twins_of_four_do(number: int) -> None:
    """With more than a third of liars the same search finds a conflict."""
    assert any("two final blocks" in text for text in run_control(number).violations)


@pytest.mark.parametrize("name", QUICK)
def test_a_mutant_is_caught(name: str) -> None:
    (mutant,) = [one for one in MUTANTS if one.name == name]
    assert isinstance(mutant, Mutant)
    assert "scenario" in caught(mutant)


def test_all_scenarios_have_a_number() -> None:
    assert len({*partitions(DELEGATES + 1)}) == 2**DELEGATES
    assert len({*ALL_ROUNDS}) == 16 + 16 * 15 * len(CHANGES_MS)
    every = [Scenario.of(number, rounds=1) for number in range(count_of(rounds=1))]
    assert len({(one.twins, one.epoch_slots, one.rounds) for one in every}) == len(every)


def test_of_two_that_differ_in_which_twin_is_which_one_counts() -> None:
    chosen = list(numbers(rounds=1))
    steady, changes = 16, 2 * 16 * 15
    own = 8 + 2 * 8 * 7  # in half of the partitions twins are together: swapped they are the same
    assert len(ALL_ROUNDS) == steady + changes
    half = own + (steady + changes - own) // 2
    assert len(chosen) == len({*chosen}) == DELEGATES * len(EPOCH_SLOTS) * half
    for number in chosen[:100]:
        one = Scenario.of(number, rounds=1)
        phases = tuple((ms, one._swapped(groups)) for ms, groups in one.rounds[0])
        assert all(groups[0] == 0 for _, groups in phases)
        other = Scenario(number, one.twins, one.epoch_slots, (phases,))
        assert one.first
        assert other.first == (other.rounds == one.rounds)
