"""Changes of parameters by vote: the voters, the quorum, the epoch of effect."""

import pytest

from dipnet.consensus.staking import candidates, parameters
from dipnet.consensus.staking.candidates import RESIGNED, TOMBSTONED
from dipnet.consensus.staking.parameters import DECIDED, EFFECTIVE, EXPIRED, OPEN, PASSED, REFUSED
from dipnet.ledger.parameters import AMENDABLE, Parameters
from dipnet.vm.storage_layout import PARAMETERS, PROPOSALS_OPEN, WORD
from tests.fixtures.staking import STAKE, World, address_of, network

D0 = address_of("d0")
NAMES = [f"d{n}" for n in range(4)]
OPEN_FOR = parameters.PROPOSAL_EPOCHS


@pytest.fixture
def world() -> World:
    return World(network())


def named(name: str) -> bytes:
    return name.encode().ljust(32, b"\0")


def propose(world: World, name: str, value: int, by: str = "d0") -> int:
    (number,) = world.send(by, "proposeParameters", named(name), value)
    assert isinstance(number, int)
    return number


def agree(world: World, number: int, *names: str) -> None:
    for name in names:
        world.send(name, "voteParameters", number)


def test_a_quorum_changes_a_parameter_after_the_delay(world: World) -> None:
    number = propose(world, "gas_limit", 10**8)
    assert world.view("proposal", number) == (
        named("gas_limit"), 10**8, D0, OPEN, OPEN_FOR, 0, 1,
    )  # fmt: skip
    agree(world, number, "d1", "d2")
    assert world.view("proposal", number)[6] == 3
    assert world.boundary().parameters == world.genesis.parameters  # passes here, in epoch 0
    assert world.view("proposal", number)[3:6] == (PASSED, 3 + OPEN_FOR, 3)
    assert world.boundary().parameters.gas_limit == world.genesis.parameters.gas_limit
    assert world.boundary().parameters.gas_limit == 10**8
    assert (world.epoch, world.view("proposal", number)[3:6:2]) == (3, (EFFECTIVE, 3))
    assert world.view("parameters", named("gas_limit")) == 10**8
    assert world.view("parameters", named("slot_ms")) == world.genesis.parameters.slot_ms
    assert world.root.under(PARAMETERS, named("gas_limit"))[WORD] == 10**8
    assert propose(world, "gas_limit", 10**9) == 2  # it may propose again


def test_two_of_four_are_no_quorum(world: World) -> None:
    number = propose(world, "gas_limit", 10**8)
    agree(world, number, "d1")
    world.boundaries(OPEN_FOR)
    assert world.view("proposal", number)[3] == EXPIRED
    assert world.parameters == world.genesis.parameters
    assert world.refused("d2", "voteParameters", number).startswith("dpos_proposal")


def test_votes_of_those_who_left_the_set_do_not_count(world: World) -> None:
    number = propose(world, "gas_limit", 10**8, by="d2")
    agree(world, number, "d1")
    for n in range(2):
        world.send(f"d{n}", "resign")
        newcomer = world.candidate(f"u{n}", stake=9 * STAKE)
        world.send(f"u{n}", "vote", [newcomer])
    world.boundaries(2)
    assert set(world.members.addresses) == {address_of(name) for name in ("d2", "d3", "u0", "u1")}
    agree(world, number, "d3")
    assert world.refused("d1", "voteParameters", number).startswith("dpos_member")
    assert world.view("proposal", number)[6] == 2
    world.boundary()
    assert world.view("proposal", number)[3] == OPEN
    agree(world, number, "u0")
    world.boundary()
    assert world.view("proposal", number)[3] == PASSED


def test_members_alone_propose_and_vote(world: World) -> None:
    told = world.refused("u1", "proposeParameters", named("gas_limit"), 10**8)
    assert told == "dpos_member: not of the current set: epoch 0"
    number = propose(world, "gas_limit", 10**8)
    assert world.refused("u1", "voteParameters", number).startswith("dpos_member")
    assert "already" in world.refused("d0", "voteParameters", number)
    assert "proposal 2 is not open" in world.refused("d1", "voteParameters", 2)
    assert "still open" in world.refused("d0", "proposeParameters", named("gas_limit"), 10**9)
    assert "no proposal 9" in world.refused("u1", "proposal", 9)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gas_limit", 20_999),
        ("slot_ms", 99),
        ("slot_ms", 2**256 - 1),
        ("slash_bps", 10_001),
        ("reporter_bps", 5_001),
        ("delegates_active", 102),
        ("delegates_standby", 98),
        ("evidence_epochs", 4),  # past unbonding_epochs
        ("elasticity", 10**6),
        ("block_reward", 2**96),
        ("rules", 0),
        ("rules", 1),
        ("rules", 2),
        ("rules", 2**32),
        ("chain_id", 5),
        ("time_ms", 5),
        ("slot_zero_ms", 5),
        ("slot_ms\xe9", 5_000),
        ("balances", 5),
        ("encode", 5),
        ("", 5),
        ("gas_limit\0x", 10**8),
    ],
)
def test_values_that_genesis_would_refuse(world: World, name: str, value: int) -> None:
    told = world.refused("d0", "proposeParameters", named(name), value)
    assert told.startswith("dpos_parameter: invalid parameter")


def test_every_parameter_that_is_up_for_votes_is_a_number(world: World) -> None:
    for name in AMENDABLE:
        assert type(getattr(world.genesis.parameters, name)) is int
        assert world.view("parameters", named(name)) == getattr(world.genesis.parameters, name)


def test_two_that_fit_but_not_together(world: World) -> None:
    """Each proposal is judged again when it takes effect: the second finds the first in force."""
    active = propose(world, "delegates_active", 96)
    standby = propose(world, "delegates_standby", 90, by="d1")
    for number, names in ((active, ("d1", "d2")), (standby, ("d0", "d2"))):
        agree(world, number, *names)
    world.boundaries(3)
    assert (world.parameters.delegates_active, world.parameters.delegates_standby) == (96, 2)
    assert [world.view("proposal", number)[3] for number in (active, standby)] == [
        EFFECTIVE,
        REFUSED,
    ]


def test_what_genesis_says_of_its_own_does_not_bind_later(world: World) -> None:
    higher = world.genesis.parameters.amended(1, "delegate_stake_min", 5 * STAKE)
    assert higher.delegate_stake_min == 5 * STAKE
    assert all(delegate.stake < higher.delegate_stake_min for delegate in world.genesis.delegates)
    assert world.genesis.parameters.amended(1, "base_fee_floor", 10**12).base_fee_floor == 10**12
    assert world.genesis.parameters.amended(1, "candidates_max", 1).candidates_max == 1


def test_another_length_of_slots_moves_no_slot_that_has_begun(world: World) -> None:
    def begins(parameters: Parameters, slot: int) -> int:
        return parameters.slot_zero_ms + slot * parameters.slot_ms

    changed = world.genesis.parameters.amended(1_000, "slot_ms", 5_000)
    assert begins(changed, 1_000) == begins(world.genesis.parameters, 1_000)
    assert begins(changed, 1_001) == begins(world.genesis.parameters, 1_000) + 5_000


def test_a_new_version_of_the_rules_waits_for_readiness(world: World) -> None:
    number = propose(world, "rules", 3)
    agree(world, number, "d1", "d2")
    world.boundaries(4)
    assert world.view("proposal", number)[3] == PASSED
    for name in ("d0", "d1"):
        world.send(name, "signalReady", 4)
    world.send("d2", "signalReady", 2)
    world.boundary()
    assert world.view("proposal", number)[3] == PASSED
    world.send("d3", "signalReady", 3)
    assert world.boundary().parameters.rules == 2
    starts = world.epoch + 1  # above the next boundary, by which time this boundary is final
    assert world.view("proposal", number)[3:6:2] == (DECIDED, starts)
    for name in ("d0", "d1", "d3"):
        world.send(name, "signalReady", 2)  # too late
    assert world.boundary().parameters.rules == 3
    assert (world.epoch, world.view("proposal", number)[3:6:2]) == (starts, (EFFECTIVE, starts))
    assert propose(world, "rules", 4) == 2


def test_members_that_are_ready_in_time_wait_for_the_delay_alone(world: World) -> None:
    number = propose(world, "rules", 3)
    agree(world, number, "d1", "d2")
    for n in range(3):
        world.send(f"d{n}", "signalReady", 3)
    states = []
    for _ in range(3):
        rules = world.boundary().parameters.rules
        states.append((rules, *world.view("proposal", number)[3:6:2]))
    assert states == [(2, PASSED, 3), (2, DECIDED, 3), (3, EFFECTIVE, 3)]


def test_a_decided_proposal_does_not_expire(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameters, "PROPOSAL_EPOCHS", 1)
    number = propose(world, "rules", 3)
    agree(world, number, "d1", "d2")
    world.boundaries(2)
    for n in range(3):
        world.send(f"d{n}", "signalReady", 3)
    world.boundary()  # the last epoch before the proposal would expire
    assert world.view("proposal", number)[3:6] == (DECIDED, 4, 4)
    assert world.boundary().parameters.rules == 3


def test_readiness_counts_in_the_set_that_will_run_the_rules(world: World) -> None:
    """The set that decides is ready, but no delegate of the next set is."""
    number = propose(world, "rules", 3)
    agree(world, number, "d1", "d2")
    for n in range(4):
        world.send(f"d{n}", "signalReady", 3)
    world.boundary()
    for n in range(4):
        newcomer = world.candidate(f"u{n}", stake=9 * STAKE)
        world.send(f"u{n}", "vote", [newcomer])
    world.boundary()  # elects the newcomers for epoch 3
    assert world.sets[3].index(address_of("u0")) is not None
    assert world.view("proposal", number)[3] == PASSED
    for n in range(2):
        world.send(f"u{n}", "signalReady", 3)
    world.boundary()
    assert world.view("proposal", number)[3] == PASSED
    world.send("u2", "signalReady", 3)
    world.boundary()
    assert world.view("proposal", number)[3] == DECIDED
    assert world.boundary().parameters.rules == 3


def test_a_version_that_nobody_is_ready_for_expires(world: World) -> None:
    number = propose(world, "rules", 3)
    agree(world, number, "d1", "d2")
    world.boundaries(3 + OPEN_FOR)
    assert world.view("proposal", number)[3] == EXPIRED
    assert world.parameters.rules == 2


def test_the_lower_of_two_versions_comes_too_late(world: World) -> None:
    numbers = [propose(world, "rules", 4), propose(world, "rules", 3, by="d1")]
    for number, names in zip(numbers, (("d1", "d2"), ("d0", "d2")), strict=True):
        agree(world, number, *names)
    for n in range(4):
        world.send(f"d{n}", "signalReady", 4)
    world.boundaries(3)
    assert world.parameters.rules == 4
    assert [world.view("proposal", number)[3] for number in numbers] == [EFFECTIVE, REFUSED]


@pytest.mark.parametrize("rules", [0, 2**32, 2**256 - 1])
def test_versions_that_cannot_be(world: World, rules: int) -> None:
    assert world.refused("d0", "signalReady", rules).startswith("dpos_parameter")


def test_strangers_are_never_ready(world: World) -> None:
    assert world.refused("u1", "signalReady", 2).startswith("dpos_unknown")


def test_open_proposals_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parameters, "PROPOSALS_OPEN_MAX", 2)
    propose(world, "gas_limit", 10**8)
    propose(world, "gas_limit", 10**8, by="d1")
    assert "2 are open" in world.refused("d2", "proposeParameters", named("gas_limit"), 10**8)
    world.boundaries(OPEN_FOR)
    propose(world, "gas_limit", 10**8, by="d2")


def test_an_open_proposal_goes_with_its_proposer(world: World) -> None:
    """Outvoted at the first boundary, the proposer leaves the set of the epoch after the next."""
    number = propose(world, "gas_limit", 10**8)
    for n in range(4):
        newcomer = world.candidate(f"u{n}", stake=9 * STAKE)
        world.send(f"u{n}", "vote", [newcomer])
    world.boundary()
    assert [world.sets[epoch].index(D0) is None for epoch in (1, 2)] == [False, True]
    assert world.view("proposal", number)[3] == OPEN
    agree(world, number, "d1")
    world.boundary()
    assert world.view("proposal", number)[3] == EXPIRED
    assert world.root[PROPOSALS_OPEN] == world.root.element(PROPOSALS_OPEN, 0)[WORD] == 0
    assert world.refused("u0", "voteParameters", number).startswith("dpos_proposal")


def test_a_delegate_that_comes_back_keeps_its_proposal(world: World) -> None:
    for n in range(4):
        newcomer = world.candidate(f"u{n}", stake=9 * STAKE)
        world.send(f"u{n}", "vote", [newcomer])
    world.boundary()
    number = propose(world, "gas_limit", 10**8)
    world.send("u4", "stake", value=20 * STAKE)
    world.send("u4", "vote", [D0])
    world.boundary()
    assert [world.sets[epoch].index(D0) is None for epoch in (1, 2, 3)] == [False, True, False]
    world.boundary()
    assert world.view("proposal", number)[3] == OPEN
    agree(world, number, "u0", "u1")
    world.boundary()
    assert world.view("proposal", number)[3] == PASSED


@pytest.mark.parametrize("status", [RESIGNED, TOMBSTONED])
def test_a_delegate_that_left_proposes_nothing_more(world: World, status: int) -> None:
    """Its open proposals expire though it is still in a set; passed proposals stay passed."""
    leaves = [propose(world, "gas_limit", 10**8), propose(world, "slash_bps", 5, by="d1")]
    stays = propose(world, "jail_epochs", 5, by="d2")
    agree(world, leaves[1], "d2", "d3")
    for name in ("d0", "d1"):
        candidates.close(world.root, address_of(name), status)
    world.boundary()
    assert world.members.index(D0) is not None
    states = [world.view("proposal", number)[3] for number in (*leaves, stays)]
    assert states == [EXPIRED, PASSED, OPEN]
    world.boundaries(2)
    assert world.parameters.slash_bps == 5


def test_a_seat_that_changes_hands_does_not_fill_the_list(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parameters, "PROPOSALS_OPEN_MAX", 8)  # two sets of four
    world.send("u0", "stake", value=9 * STAKE)
    for n in range(12):
        world.journal.add_balance(address_of(f"a{n}"), STAKE)
        world.send("u0", "vote", [world.candidate(f"a{n}")])
        if n > 1:  # u0 voted two epochs ago
            propose(world, "jail_epochs", 7, by=f"a{n - 2}")
            assert world.root[PROPOSALS_OPEN] <= 2
        world.boundary()
    propose(
        world,
        "jail_epochs",
        5,
        by=next(name for name in NAMES if address_of(name) in world.members.addresses),
    )
