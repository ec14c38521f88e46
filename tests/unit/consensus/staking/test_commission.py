"""A lower commission acts at once, a raise once votes cast after its announcement act."""

from dataclasses import replace

import pytest

from dipnet.consensus.staking.actions import REGISTERED_EVENT
from dipnet.consensus.staking.candidates import ANNOUNCED, ANNOUNCED_FROM, record_of
from dipnet.consensus.staking.idpos import METHODS
from dipnet.ledger.parameters import BPS_ALL
from tests.fixtures.staking import ETHER, STAKE, World, address_of, network

D0, U1 = address_of("d0"), address_of("u1")
REWARD = 2 * ETHER


@pytest.fixture
def world() -> World:
    """A world whose delegate D0 takes 0 % and has the votes of the account ``u1`` alone."""
    found = World(network(vote_expiry_epochs=50))
    found.send("d0", "vote", [])
    found.send("u1", "stake", value=STAKE)
    found.send("u1", "vote", [D0])
    return found


def register(world: World, bps: int) -> None:
    """The delegate announces a commission."""
    world.send("d0", "register", *world.register("d0", commission=bps))


def kept(world: World) -> int:
    """The basis points of a block that the delegate keeps; the view must show the same number."""
    before = world.view("rewardsOf", D0)
    world.block(D0)
    found = (world.view("rewardsOf", D0) - before) * BPS_ALL // REWARD
    assert world.view("delegate", D0)[2] == found
    return int(found)


def ahead(world: World, epochs: int) -> list[int]:
    """The commission in this epoch and in the epochs after it."""
    found = [kept(world)]
    for _ in range(epochs):
        world.boundary()
        found.append(kept(world))
    return found


def test_a_commission_is_not_raised_for_own_blocks_only(world: World) -> None:
    """A delegate that raises its commission for its own block, and then lowers it, gains
    nothing."""
    world.boundary()
    for _ in range(3):
        register(world, 5_000)
        world.block(D0)
        register(world, 0)
    assert (world.view("delegate", D0)[2], world.view("rewardsOf", D0)) == (0, 0)
    assert world.view("rewardsOf", U1) == 3 * REWARD
    assert ahead(world, 3) == [0, 0, 0, 0]  # no raise is left waiting


def test_a_raise_waits_as_long_as_a_vote(world: World) -> None:
    world.boundaries(3)
    register(world, 5_000)
    assert ahead(world, 3) == [0, 0, 5_000, 5_000]


def test_a_lower_commission_acts_at_once(world: World) -> None:
    register(world, 5_000)
    world.boundaries(2)
    assert kept(world) == 5_000
    register(world, 4_000)
    assert ahead(world, 3) == [4_000, 4_000, 4_000, 4_000]


def test_the_first_commission_acts_at_once(world: World) -> None:
    newcomer = world.candidate("u2", commission=5_000)
    world.send("u3", "stake", value=STAKE)
    world.send("u3", "vote", [newcomer])
    world.block(newcomer)
    assert world.view("rewardsOf", newcomer) == REWARD // 2
    assert record_of(world.root, newcomer)[ANNOUNCED_FROM] == 0


def test_the_same_raise_again_changes_nothing(world: World) -> None:
    register(world, 5_000)
    world.boundary()
    register(world, 5_000)
    assert ahead(world, 1) == [0, 5_000]
    register(world, 5_000)  # in force: no raise any more
    assert ahead(world, 2) == [5_000, 5_000, 5_000]


@pytest.mark.parametrize("bps", [4_000, 5_000])
def test_another_raise_has_a_date_of_its_own(world: World, bps: int) -> None:
    """A changed raise waits anew, also where it is lower: voters need the time to react."""
    register(world, 4_500)
    world.boundary()
    register(world, bps)
    assert ahead(world, 2) == [0, 0, bps]


def test_a_raise_upon_a_raise(world: World) -> None:
    register(world, 1_000)
    world.boundaries(2)
    register(world, 2_000)
    assert ahead(world, 2) == [1_000, 1_000, 2_000]


def test_what_is_in_force_said_again_takes_back_a_raise(world: World) -> None:
    register(world, 5_000)
    register(world, 0)
    record = record_of(world.root, D0)
    assert (record[ANNOUNCED], record[ANNOUNCED_FROM]) == (0, 0)
    assert ahead(world, 3) == [0, 0, 0, 0]


def test_leaving_brings_no_raise_forward(world: World) -> None:
    register(world, 5_000)
    world.send("d0", "resign")
    world.boundary()
    assert kept(world) == 0


def test_a_limit_that_was_lowered_binds_all(world: World) -> None:
    register(world, 5_000)
    world.boundaries(2)
    world.parameters = replace(world.parameters, commission_bps_max=300)
    assert kept(world) == 300


def test_what_is_announced_is_in_the_call_and_in_storage(world: World) -> None:
    data = METHODS["register"].call_data(*world.register("d0", commission=5_000))
    (log,) = world.run(D0, data).logs
    assert log.topics == REGISTERED_EVENT.topics(D0)
    record = record_of(world.root, D0)
    assert (record[ANNOUNCED], record[ANNOUNCED_FROM]) == (5_000, 2)
