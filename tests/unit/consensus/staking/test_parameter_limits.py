"""The values that votes may give each parameter, and that votes can always restore it."""

from dataclasses import replace
from typing import Any

import pytest

from dipnet.consensus.staking.idpos import DPOS_ADDRESS, METHODS
from dipnet.consensus.staking.parameters import REFUSED
from dipnet.ledger.parameters import AMENDABLE, CHANGE_MS_MAX, EPOCH_MS_MIN, Parameters, rows
from dipnet.ledger.tx import decode_known, sign_tx
from dipnet.primitives.errors import Invalid
from dipnet.vm.storage_layout import PROPOSALS_MADE
from dipnet.vm.transaction import TX_GAS_MAX, floor_gas, intrinsic_gas
from tests.fixtures.staking import CHAIN_ID, ETHER, World, address_of, network, secret

# For ``network()``: two standby beside four seats; evidence and unbonding take three epochs.
LIMITS = {
    "slot_ms": (100, 60_000),
    "epoch_slots": (10, 100_000),  # ten seconds
    "delegates_active": (4, 99),
    "delegates_standby": (0, 97),
    "backoff_slots": (8, 1_024),
    "gas_limit": (TX_GAS_MAX, 4 * 10**9),
    "elasticity": (1, 16),
    "base_fee_floor": (0, 10**12),
    "base_fee_change_denominator": (1, 1_024),
    "block_bytes_max": (256 * 1024, 8 * 1024 * 1024),
    "block_reward": (0, 1_000 * ETHER),
    "delegate_stake_min": (ETHER, 10**6 * ETHER),
    "candidates_max": (1, 1_000),
    "votes_per_account_max": (1, 32),
    "vote_expiry_epochs": (2, 10_000),
    "unbonding_epochs": (3, 10_000),
    "evidence_epochs": (1, 3),
    "jail_epochs": (1, 1_024),
    "slash_bps": (0, 10_000),
    "commission_bps_max": (0, 10_000),
    "seats_per_organisation_max": (1, 101),
    "parameter_delay_epochs": (1, 1_024),
    **{f"dpos_gas_{kind}": (100, 200_000) for kind in ("call", "plain", "text", "array", "judge")},
}
EXTREMES = [(name, value) for name, ends in LIMITS.items() for value in ends]
NEVER_BACK = {"rules"}  # state made by new rules is not undone by old rules
OF_OTHERS = {"reporter_bps"}


def named(name: str) -> bytes:
    return name.encode().ljust(32, b"\0")


def transact(world: World, name: str, method: str, *arguments: bytes | int) -> None:
    """A call that succeeds within the gas of a block and for a price that can be paid."""
    data = METHODS[method].call_data(*arguments)
    gas, price = min(TX_GAS_MAX, world.parameters.gas_limit), world.parameters.base_fee_floor
    raw = sign_tx(
        secret(name), chain_id=CHAIN_ID, nonce=0, gas=gas, max_fee=price, max_priority_fee=0,
        to=DPOS_ADDRESS, data=data,
    )  # fmt: skip
    tx = decode_known(raw, CHAIN_ID, address_of(name))
    assert gas > floor_gas(tx)
    assert world.run(tx.sender, data, gas=gas - intrinsic_gas(tx)).ok
    assert (intrinsic_gas(tx) + world.gas_used) * price < ETHER


def agree_on(world: World, name: str, value: int, by: int = 0) -> int:
    """A delegate proposes and the next two of the four agree: a quorum."""
    first, *others = [f"d{(by + n) % 4}" for n in range(3)]
    number = world.root[PROPOSALS_MADE] + 1
    transact(world, first, "proposeParameters", named(name), value)
    for delegate in others:
        transact(world, delegate, "voteParameters", number)
    return number


def decide(world: World, name: str, value: int) -> None:
    """Passes a proposal and waits until it is in force."""
    agree_on(world, name, value)
    world.boundaries(world.parameters.parameter_delay_epochs + 1)
    assert getattr(world.parameters, name) == value


def test_every_parameter_has_limits_here() -> None:
    assert {*LIMITS} == {*AMENDABLE} - NEVER_BACK - OF_OTHERS
    limits = {name: row.votes for name, row in rows(Parameters).items() if row.votes}
    # A bound that depends on another parameter may be narrower.
    assert all(
        limits[name][0] <= low <= high <= limits[name][1] for name, (low, high) in LIMITS.items()
    )


@pytest.mark.parametrize(("name", "value"), EXTREMES)
def test_what_is_allowed_can_be_taken_back(name: str, value: int) -> None:
    world = World(network())
    decide(world, name, value)
    changes: dict[str, Any] = {name: value, "slot_zero_ms": world.parameters.slot_zero_ms}
    assert world.parameters == replace(world.genesis.parameters, **changes)
    decide(world, name, getattr(world.genesis.parameters, name))
    assert world.parameters == world.genesis.parameters


@pytest.mark.parametrize("name", LIMITS)
def test_what_is_just_beyond_is_refused(name: str) -> None:
    world = World(network())
    for value in (LIMITS[name][0] - 1, LIMITS[name][1] + 1):
        if value >= 0:
            told = world.refused("d0", "proposeParameters", named(name), value)
            assert told.startswith("dpos_parameter")


@pytest.mark.parametrize(
    ("network_of", "name", "last"),
    [
        ({"epoch_slots": 50}, "slot_ms", EPOCH_MS_MIN // 50),
        ({"slot_ms": 100}, "epoch_slots", EPOCH_MS_MIN // 100),
        ({"epoch_slots": 5}, "slot_ms", 1_000),  # short already: not shorter
    ],
)
def test_epochs_are_long_enough_to_vote_in(
    network_of: dict[str, int], name: str, last: int
) -> None:
    genesis = network(**network_of)
    assert getattr(genesis.parameters.amended(0, name, last), name) == last
    with pytest.raises(Invalid, match="epochs of less than"):
        genesis.parameters.amended(0, name, last - 1)


@pytest.mark.parametrize(
    ("network_of", "name", "last"),
    [
        ({"epoch_slots": 100_000}, "parameter_delay_epochs", CHANGE_MS_MAX // 10**8 - 2),
        ({"parameter_delay_epochs": 88}, "epoch_slots", CHANGE_MS_MAX // 90_000),
        ({"parameter_delay_epochs": 88, "epoch_slots": 10**4}, "slot_ms", CHANGE_MS_MAX // 900_000),
        ({"parameter_delay_epochs": 1_022, "epoch_slots": 10_000}, "slot_ms", 1_000),
    ],
)  # fmt: skip
def test_no_change_takes_a_year(network_of: dict[str, int], name: str, last: int) -> None:
    genesis = network(**network_of)
    assert getattr(genesis.parameters.amended(0, name, last), name) == last
    with pytest.raises(Invalid, match="a change would take more than"):
        genesis.parameters.amended(0, name, last + 1)


@pytest.mark.parametrize(("initial", "floor", "last"), [(0, 0, 0), (5, 0, 5_000), (7, 7, 7_000)])
def test_a_floor_is_no_wall(initial: int, floor: int, last: int) -> None:
    genesis = network(base_fee_initial=initial, base_fee_floor=floor)
    assert genesis.parameters.amended(0, "base_fee_floor", last).base_fee_floor == last
    with pytest.raises(Invalid, match="times base_fee_initial"):
        genesis.parameters.amended(0, "base_fee_floor", last + 1)


def test_a_network_that_began_beyond_the_limits_is_governed_too() -> None:
    world = World(
        network(
            epoch_slots=1,
            gas_limit=400_000,
            elasticity=19,
            backoff_slots=1,
            delegate_stake_min=1,
            base_fee_initial=10**15,
            base_fee_floor=10**15,
            block_reward=2**90,
            jail_epochs=10**6,
        )
    )
    changed = world.parameters.amended(0, "slash_bps", 5)
    assert changed == replace(world.genesis.parameters, slash_bps=5)
    for name in ("gas_limit", "elasticity", "backoff_slots", "delegate_stake_min", "epoch_slots",
                 "base_fee_floor", "block_reward", "jail_epochs"):  # fmt: skip
        changed = changed.amended(0, name, LIMITS[name][1])
    assert changed.gas_limit == LIMITS["gas_limit"][1]


def test_two_that_leave_no_way_back_together() -> None:
    """Each proposal is judged again when it takes effect: the second finds the first in force."""
    world = World(network())
    agree_on(world, "epoch_slots", 100_000)
    late = agree_on(world, "parameter_delay_epochs", 1_000, by=1)
    world.boundaries(3)
    assert (world.parameters.epoch_slots, world.parameters.parameter_delay_epochs) == (100_000, 2)
    assert world.view("proposal", late)[3] == REFUSED
