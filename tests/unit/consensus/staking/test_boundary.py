"""Boundaries: elections, jail, lapsing votes; the number of voters costs nothing there."""

from typing import Any

import pytest

from dipnet.consensus.staking import election, idpos
from dipnet.consensus.staking.idpos import DPOS_ADDRESS
from dipnet.ledger.parameters import DELEGATES_MAX
from dipnet.ledger.state import Journal
from dipnet.vm.storage_layout import JournalStorage, StorageSlot
from tests.fixtures.memory import Memory
from tests.fixtures.staking import STAKE, World, address_of, network

D0, D1, D2, D3 = (address_of(f"d{n}") for n in range(4))
U1, U2 = address_of("u1"), address_of("u2")


@pytest.fixture
def world() -> World:
    return World(network())


def back(world: World, name: str, amount: int, *delegates: bytes) -> None:
    """The account ``name`` stakes ``amount`` wei and votes for ``delegates``."""
    world.send(name, "stake", value=amount)
    world.send(name, "vote", list(delegates))


def test_a_vote_acts_from_the_epoch_after_the_next(world: World) -> None:
    newcomer = world.candidate("u1")
    back(world, "u2", 9 * STAKE, newcomer)
    for epoch in (0, 1):
        assert world.sets[epoch].index(newcomer) is None
    elected = world.boundary()
    assert newcomer in elected.members.addresses
    assert elected.members == world.sets[2]
    assert elected.parameters == world.genesis.parameters


def test_most_votes_first_ties_by_address(world: World) -> None:
    lowest = sorted([D0, D1, D2, D3])
    world.candidate("u1")
    assert world.boundary().members.addresses == tuple(lowest)  # no votes: no delegate gives way
    back(world, "u2", 4, lowest[3])
    back(world, "u3", 4, lowest[2], U1)
    back(world, "u4", STAKE, U1)
    elected = world.boundary().members.addresses
    assert elected == tuple(sorted([lowest[0], U1, lowest[2], lowest[3]]))
    assert world.view("activeSet", 3)[1] == (lowest[1],)


def test_the_sets_that_are_kept(world: World) -> None:
    world.boundaries(4)
    known = [epoch for epoch in range(10) if world.view("activeSet", epoch)[0]]
    assert known == [3, 4, 5]
    for epoch in known:
        assert election.members(world.root, epoch) == world.sets[epoch]
        assert world.view("activeSet", epoch)[0] == world.sets[epoch].addresses


def test_an_organisation_has_so_many_seats() -> None:
    world = World(network(2, delegates_active=4, seats_per_organisation_max=2))
    for n in range(1, 5):
        newcomer = world.candidate(f"u{n}", stake=STAKE * 9, organisation=b"\7" * 32)
        world.send(f"u{n}", "vote", [newcomer])
    elected = world.boundary().members.addresses
    ours = [address for address in elected if address not in (D0, D1)]
    assert (len(elected), len(ours)) == (4, 2)
    assert sorted(ours) == sorted(address_of(f"u{n}") for n in range(1, 5))[:2]


def test_a_delegate_that_misses_half_of_its_slots_gives_way_to_the_standby(world: World) -> None:
    newcomer = world.candidate("u1")
    for _ in range(2):
        world.block(D0, [D1, D2])
        world.block(D1)
    world.block(D2)
    elected = world.boundary().members
    assert D1 not in elected.addresses or D2 not in elected.addresses
    assert (world.view("delegate", D1)[8], world.view("delegate", D2)[8]) == (4, 4)
    assert world.view("delegate", D3)[8] == 0  # D3 had no slot
    assert newcomer in elected.addresses
    # one of two jailed delegates keeps its seat, for no candidate is left to take it
    assert len(elected) == 4
    assert world.view("delegate", D1)[6:8] == (2, 2)
    world.boundary()
    assert newcomer in world.sets[3].addresses
    world.boundary()
    assert world.sets[4].addresses == tuple(sorted([D0, D1, D2, D3]))  # the jail has ended


def test_one_slot_of_two_is_half() -> None:
    world = World(network(2, delegates_active=1))
    first, other = world.members.addresses[0], ({D0, D1} - {*world.members.addresses}).pop()
    world.block(first)
    world.block(first)
    world.block(first, [first])
    assert first in world.boundary().members.addresses
    world.block(first, [first])
    assert world.boundary().members.addresses == (other,)


def test_delegates_that_missed_their_slots_keep_their_seats_without_candidates(
    world: World,
) -> None:
    for _ in range(5):
        world.block(D0, [D1, D2, D3])
    for _ in range(4):
        assert world.boundary().members.addresses == tuple(sorted([D0, D1, D2, D3]))


def test_counters_begin_anew_with_an_epoch(world: World) -> None:
    world.candidate("u1")
    world.block(D0, [D1])
    world.boundary()
    assert world.view("delegate", D1)[8] == 4
    world.block(D1)
    world.boundary()
    assert world.view("delegate", D1)[6:9] == (1, 1, 4)  # the jail ends no later than before


def test_rewards_stay_exact_over_boundaries(world: World) -> None:
    back(world, "u2", STAKE, D0)
    paid = 0
    for _ in range(6):
        world.block(D0)
        paid += world.parameters.block_reward
        world.boundary()
    owed = world.view("rewardsOf", D0) + world.view("rewardsOf", U2)
    assert 0 <= paid - owed < 10**5
    balance = world.journal.balance(DPOS_ADDRESS)
    assert balance == 5 * STAKE + paid


# --- cost


class Counted(Journal):
    """A journal that counts the storage words that are read."""

    looks = 0

    def slot(self, address: bytes, slot: bytes) -> int:
        Counted.looks += 1
        return super().slot(address, slot)


def crowd(voters: int) -> World:
    """A world with ``voters`` accounts that stake and vote."""
    world = World(network(8, users=1))
    delegates = [address_of(f"d{n}") for n in range(8)]
    for n in range(voters):
        newcomer = n.to_bytes(20, "big")
        world.journal.add_balance(newcomer, 10)
        data = idpos.METHODS["vote"].call_data([delegates[n % 8], delegates[(n + 1) % 8]])
        assert world.run(newcomer, idpos.METHODS["stake"].call_data(), 10).ok
        assert world.run(newcomer, data).ok
    return world


def test_a_boundary_does_not_look_at_voters() -> None:
    looks = []
    for voters in (1, 200):
        world = crowd(voters)
        memory = Memory()
        memory.apply(world.journal.commit()[1])
        world.journal = Counted(memory)
        for _ in range(5):  # at the fifth boundary all votes lapse
            Counted.looks = 0
            world.boundary()
            looks.append(Counted.looks)
    assert max(looks) - min(looks) <= 8 * 8  # a lapse is written down for each candidate
    assert max(looks) < 8 * 30


def test_the_longest_set_is_kept_and_read() -> None:
    world = World(network(DELEGATES_MAX, users=1, delegates_active=DELEGATES_MAX,
                          delegates_standby=0))  # fmt: skip
    world.boundary()
    assert len(world.view("activeSet", 2)[0]) == DELEGATES_MAX


def test_no_set_is_made_of_nothing() -> None:
    empty = StorageSlot(JournalStorage(Journal(Memory()), DPOS_ADDRESS))
    assert election.seated(empty, 5) == ()
    assert election.standby(empty, 5) == ()


def test_the_end_of_a_block_is_for_the_proposer(world: World) -> None:
    world.block(D2, [D1, D1, D3])
    looks: list[Any] = [world.view("delegate", delegate)[6:8] for delegate in (D0, D1, D2, D3)]
    assert looks == [(0, 0), (0, 2), (1, 0), (0, 1)]
    assert idpos.commitment_of(world.journal, D2) == (bytes([7]) * 32, 1)
