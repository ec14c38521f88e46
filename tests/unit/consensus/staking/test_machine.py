"""IDpos against the naive model under random calls, blocks and boundaries; its mutants."""

import pytest
from hypothesis import HealthCheck, settings

from tests.fixtures.staking_machine import Machine, walk
from tests.mutants.run import caught
from tests.mutants.staking_mutants import MUTANTS, WALK_SEEDS, Mutant

Machine.TestCase.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
TestMachine = Machine.TestCase


@pytest.mark.parametrize("seed", WALK_SEEDS)
def test_a_long_walk(seed: int) -> None:
    walk(Machine(), seed)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant: Mutant) -> None:
    assert caught(mutant)
