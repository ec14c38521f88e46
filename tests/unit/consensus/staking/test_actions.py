"""The actions of accounts on IDpos, and every refusal of each."""

from collections.abc import Callable
from typing import Any

import pytest
from coincurve import PublicKey
from eth_abi.abi import decode as abi_decode

from dipnet.consensus.staking import candidates, idpos
from dipnet.consensus.staking.actions import CLAIMED, UNSTAKED, VOTED
from dipnet.consensus.staking.candidates import REGISTERED, RESIGNED
from dipnet.consensus.staking.idpos import DPOS_ADDRESS, METHODS
from dipnet.ledger.state import Journal
from dipnet.primitives.crypto import public_key, sign
from dipnet.vm.storage_layout import ROLL
from tests.fixtures.memory import Memory
from tests.fixtures.staking import (
    CHAIN_ID,
    ETHER,
    STAKE,
    World,
    address_of,
    network,
    registration,
    secret,
)

D0, D1, D2, D3 = (address_of(f"d{n}") for n in range(4))
U0, U1, U2, U3 = (address_of(f"u{n}") for n in range(4))
REWARD = 2 * ETHER


@pytest.fixture
def world() -> World:
    return World(network())


# --- genesis


def test_genesis_registers_its_delegates(world: World) -> None:
    delegates, votes = world.view("delegates", 0, 10)
    assert delegates == (D0, D1, D2, D3)
    assert votes == (STAKE,) * 4
    assert world.view("delegate", D1) == (
        "d1", "", 0, public_key(secret("d1")), bytes(32), STAKE, 0, 0, 0, False, True,
    )  # fmt: skip
    assert world.view("votesOf", D1) == ((D1,), 4)
    assert world.view("activeSet", 0)[0] == tuple(sorted([D0, D1, D2, D3]))
    assert world.view("activeSet", 1) == world.view("activeSet", 0)
    assert world.view("activeSet", 2) == ((), ())
    assert world.journal.balance(DPOS_ADDRESS) == 4 * STAKE
    assert world.journal.code(DPOS_ADDRESS) == b"\xfe"
    assert world.supply() == world.genesis.supply()


def test_seats_that_genesis_leaves_open_and_those_in_waiting() -> None:
    world = World(network(4, delegates_active=2, delegates_standby=1))
    assert world.view("activeSet", 1) == (tuple(sorted([D0, D1])), (D2,))
    roomy = World(network(3, delegates_active=21, delegates_standby=5))
    assert len(roomy.view("activeSet", 1)[0]) == 3


def test_the_state_of_the_contract_outlives_a_commit(world: World) -> None:
    """EIP-161: without code the account would have no storage after commit."""
    memory = Memory()
    memory.apply(world.journal.commit()[1])
    again = Journal(memory)
    assert [candidate.address for candidate in idpos.candidates_of(again)] == sorted(
        [D0, D1, D2, D3]
    )
    assert idpos.commitment_of(again, D0) == (bytes(32), 0)


# --- stakes


def test_stake_unstake_claim(world: World) -> None:
    rich = world.journal.balance(U1)
    world.send("u1", "stake", value=10)
    world.send("u1", "stake", value=5)
    assert world.view("stakeOf", U1) == 15
    world.send("u1", "unstake", 6)
    assert world.view("stakeOf", U1) == 9
    assert world.view("unbondingOf", U1) == (6, 3)
    assert world.refused("u1", "claim").startswith("dpos_claim: nothing to claim")
    world.boundaries(2)
    assert world.refused("u1", "claim").startswith("dpos_claim")
    world.boundary()
    assert world.send("u1", "claim") == (6,)
    assert world.view("unbondingOf", U1) == (0, 0)
    assert world.journal.balance(U1) == rich - 9
    world.send("u1", "unstake", 9)


def test_unbonding_twice(world: World) -> None:
    world.send("u1", "stake", value=10)
    world.send("u1", "unstake", 6)
    told = world.refused("u1", "unstake", 1)
    assert told == "dpos_unbonding: stake is being released already: 6 until epoch 3"
    world.boundaries(5)  # the stake is not paid out without a claim
    assert world.refused("u1", "unstake", 1).startswith("dpos_unbonding")


@pytest.mark.parametrize("amount", [0, 11, 2**256 - 1])
def test_more_than_is_held(world: World, amount: int) -> None:
    world.send("u1", "stake", value=10)
    assert world.refused("u1", "unstake", amount).startswith("dpos_stake: not enough stake")


def test_staking_nothing(world: World) -> None:
    assert world.refused("u1", "stake").startswith("dpos_stake")


def test_a_delegate_keeps_its_least_stake(world: World) -> None:
    world.send("d0", "stake", value=7)
    assert world.refused("d0", "unstake", 8).startswith("dpos_stake: not enough stake: a delegate")
    world.send("d0", "unstake", 7)
    world.send("d1", "resign")
    world.send("d1", "unstake", STAKE)
    # d1 is in the sets of two more epochs, so it takes so much longer.
    assert world.view("unbondingOf", D1) == (STAKE, 2 + 3)
    assert world.view("unbondingOf", D0) == (7, 2 + 3)


# --- votes


def test_a_stake_is_counted_once(world: World) -> None:
    world.send("u1", "stake", value=10)
    world.send("u1", "vote", [D0, D1, D2])
    assert world.view("delegates", 0, 9)[1] == (STAKE + 3, STAKE + 3, STAKE + 3, STAKE)
    world.send("u1", "stake", value=2)
    assert world.view("delegates", 0, 9)[1] == (STAKE + 4, STAKE + 4, STAKE + 4, STAKE)
    world.send("u1", "unstake", 7)
    assert world.view("delegates", 0, 9)[1] == (STAKE + 1, STAKE + 1, STAKE + 1, STAKE)
    world.boundary()
    world.send("u1", "vote", [D3])
    assert world.view("delegates", 0, 9)[1] == (STAKE, STAKE, STAKE, STAKE + 5)
    world.send("u1", "vote", [])
    assert world.view("delegates", 0, 9)[1] == (STAKE,) * 4
    assert world.view("votesOf", U1) == ((), 0)


def test_a_vote_for_an_unknown_delegate(world: World) -> None:
    world.send("u1", "stake", value=10)
    told = world.refused("u1", "vote", [D0, U2])
    assert told == f"dpos_unknown: unknown delegate: 0x{U2.hex()}"
    world.send("d0", "resign")
    assert world.refused("u1", "vote", [D0]).startswith("dpos_unknown")


def test_votes_beyond_the_limit(world: World) -> None:
    world.send("u1", "stake", value=10)
    told = world.refused("u1", "vote", [D0, D1, D2, D3, U0])
    assert told == "dpos_votes: invalid list of delegates: 5 delegates, at most 4"
    assert "named twice" in world.refused("u1", "vote", [D0, D1, D0])


def test_a_vote_without_stake(world: World) -> None:
    assert world.refused("u1", "vote", [D0]).startswith("dpos_stake")
    world.send("u1", "stake", value=2)
    assert world.refused("u1", "vote", [D0, D1, D2]).startswith("dpos_stake")
    world.send("u1", "vote", [])


def test_votes_follow_no_leader(world: World) -> None:
    """A vote stays for an epoch: votes that follow the leaders would earn from every block."""
    world.send("u1", "stake", value=10)
    world.send("u1", "vote", [D0])
    told = world.refused("u1", "vote", [D1])
    assert told == "dpos_voted: voted in this epoch already: epoch 0"
    assert world.refused("u1", "vote", [D0]).startswith("dpos_voted")
    # withdrawing is allowed at any time, and gives no new vote in this epoch
    world.send("u1", "vote", [])
    assert world.refused("u1", "vote", [D1]).startswith("dpos_voted")
    world.boundary()
    world.send("u1", "vote", [])
    world.send("u1", "vote", [D1])
    world.send("d0", "vote", [D1])  # the votes of genesis do not count as a vote in this epoch


def test_votes_lapse_unless_refreshed(world: World) -> None:
    for name in ("u1", "u2"):
        world.send(name, "stake", value=10)
        world.send(name, "vote", [D0])
    world.boundaries(3)
    world.send("u2", "vote", [D0])
    assert world.view("delegates", 0, 1)[1] == (STAKE + 20,)
    world.boundary()
    assert world.view("delegates", 0, 1)[1] == (10,)  # the delegate's own vote has lapsed as well
    assert (world.view("votesOf", U1), world.view("votesOf", U2)) == (((), 0), ((D0,), 7))
    world.block(D0)
    assert (world.view("rewardsOf", U1), world.view("rewardsOf", U2)) == (0, REWARD)
    # the call settles the account; its lapsed vote does not come back
    world.send("u1", "stake", value=5)
    assert world.view("delegates", 0, 1)[1] == (10,)


# --- rewards


def test_rewards_of_a_block(world: World) -> None:
    world.candidate("u1", commission=2_500)
    world.send("u2", "stake", value=3 * STAKE)
    world.send("u2", "vote", [U1])
    world.send("u3", "stake", value=STAKE)
    world.send("u3", "vote", [U1])
    world.block(U1, tips=400)
    pot = REWARD + 400
    assert world.view("rewardsOf", U1) == pot // 4
    assert world.view("rewardsOf", U2) == pot * 3 // 4 * 3 // 4 // 10**4 * 10**4
    assert world.view("rewardsOf", U3) == pot * 3 // 4 // 4 // 10**4 * 10**4
    before = world.journal.balance(U2)
    (paid,) = world.send("u2", "claim")
    assert world.journal.balance(U2) == before + paid
    assert world.refused("u2", "claim").startswith("dpos_claim")


def test_a_vote_earns_from_its_own_block_on(world: World) -> None:
    world.send("u1", "stake", value=STAKE)
    world.send("u1", "vote", [D0])
    world.block(D0)  # ends the block that has the vote
    assert world.view("rewardsOf", U1) == REWARD // 2


def test_a_delegate_without_votes_keeps_all(world: World) -> None:
    who = world.candidate("u1", commission=0)
    world.block(who, tips=3)
    assert world.view("rewardsOf", who) == REWARD + 3


def test_leaving_does_not_pay(world: World) -> None:
    who = world.candidate("u1", commission=1_000)
    world.send("u1", "vote", [who])
    world.send("u1", "resign")
    world.block(who)
    assert world.view("rewardsOf", who) == REWARD // 10


def test_a_late_voter_earns_from_then_on(world: World) -> None:
    world.block(D0)
    world.send("u1", "stake", value=STAKE)
    world.send("u1", "vote", [D0])
    assert world.view("rewardsOf", U1) == 0
    world.block(D0)
    assert world.view("rewardsOf", U1) == REWARD // 2
    assert world.view("rewardsOf", D0) == REWARD + REWARD // 2


# --- candidates


def test_registering(world: World) -> None:
    who = world.candidate("u1", by="another", organisation=b"\7" * 32)
    assert world.status(who) == REGISTERED
    assert world.view("delegate", who)[3:5] == (public_key(secret("another")), b"\7" * 32)
    assert idpos.commitment_of(world.journal, who) == (bytes(31) + b"\1", 0)
    assert candidates.owner_of(world.root, address_of("another")) == who


def test_registering_again_changes_the_profile_alone(world: World) -> None:
    who = world.candidate("u1")
    world.block(who)
    changed: dict[str, Any] = {"name": "new", "url": "", "commission": 5, "commitment": b"\5" * 32}
    world.send("u1", "register", *world.register("u1", **changed))
    assert world.view("delegate", who)[:3] == ("new", "", 5)
    assert idpos.commitment_of(world.journal, who) == (b"\7" * 32, world.slot)  # of its block
    assert world.refused("u1", "register", *world.register("u1", by="other")).startswith(
        "dpos_key: unusable signing key: a delegate keeps"
    )


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": ""}, "dpos_profile: invalid profile of a delegate: name"),
        ({"name": "a\nb"}, "dpos_profile"),
        ({"name": "x" * 33}, "dpos_profile"),
        ({"url": "x" * 129}, "dpos_profile: invalid profile of a delegate: url"),
        ({"url": "a b"}, "dpos_profile"),
        ({"url": "é"}, "dpos_profile"),
        ({"commission": 5_001}, "dpos_profile: invalid profile of a delegate: commission 5001"),
        ({"key": b"\2" * 33}, "dpos_key: unusable signing key: no signature"),
        ({"key": bytes(33)}, "dpos_key"),
        ({"key": b""}, "dpos_key"),
        ({"signature": bytes(65)}, "dpos_key"),
        ({"signature": b""}, "dpos_key"),
    ],
)
def test_what_is_no_registration(world: World, fields: dict[str, Any], told: str) -> None:
    world.send("u1", "stake", value=STAKE)
    assert world.refused("u1", "register", *world.register("u1", **fields)).startswith(told)


def test_a_key_shows_itself_to_one_sender_on_one_chain(world: World) -> None:
    world.send("u1", "stake", value=STAKE)
    other = registration(U2, secret("u1"))
    assert world.refused("u1", "register", *other).startswith("dpos_key")
    digest = candidates.registration_digest(CHAIN_ID + 1, U1)
    foreign = world.register("u1", signature=sign(digest, secret("u1")))
    assert world.refused("u1", "register", *foreign).startswith("dpos_key")


def test_a_key_serves_one_delegate_for_ever(world: World) -> None:
    world.send("d0", "resign")
    world.send("u1", "stake", value=STAKE)
    told = world.refused("u1", "register", *world.register("u1", by="d0"))
    assert told == "dpos_key: unusable signing key: the public key serves another delegate"


def test_a_key_in_its_long_form(world: World) -> None:
    """A 65-byte key has the same address, but sets and headers hold 33-byte keys."""
    world.send("u1", "stake", value=STAKE)
    long = PublicKey(public_key(secret("u1"))).format(compressed=False)
    assert world.refused("u1", "register", *world.register("u1", key=long)).startswith("dpos_key")


def test_registering_without_the_stake(world: World) -> None:
    world.send("u1", "stake", value=STAKE - 1)
    told = world.refused("u1", "register", *world.register("u1"))
    assert told == f"dpos_stake: not enough stake: {STAKE - 1} staked, a delegate needs {STAKE}"


def test_the_roll_is_bounded() -> None:
    world = World(network(4, candidates_max=5))
    world.candidate("u1")
    world.send("u2", "stake", value=STAKE)
    told = world.refused("u2", "register", *world.register("u2"))
    assert told == "dpos_candidates: too many candidates: 5 of 5"
    world.send("d0", "resign")
    world.send("u2", "register", *world.register("u2"))
    assert world.root[ROLL] == 5


def test_resigning_is_for_good(world: World) -> None:
    assert world.refused("u1", "resign").startswith("dpos_unknown")
    world.send("u1", "stake", value=9)
    world.send("u1", "vote", [D0, D1])
    world.send("d0", "resign")
    assert world.status(D0) == RESIGNED
    assert world.view("delegate", D0)[5] == 0
    assert world.view("delegates", 0, 9)[0] == (D3, D1, D2)
    assert world.refused("d0", "resign").startswith("dpos_unknown")
    again = world.refused("d0", "register", *world.register("d0"))
    assert again.startswith("dpos_registered: no delegate any more")
    world.boundary()
    world.send("u1", "vote", [D1])  # u1's votes are free again
    assert world.view("delegate", D1)[5] == STAKE + 9
    elected = world.boundary()
    assert D0 not in elected.members.addresses


def test_the_last_to_resign_leaves_the_roll_empty(world: World) -> None:
    for n in range(4):
        world.send(f"d{n}", "resign")
    assert world.view("delegates", 0, 9) == ((), ())
    elected = world.boundary()
    assert set(elected.members.addresses) == {D0, D1, D2, D3}  # the chain must go on


# --- calls


@pytest.mark.parametrize(
    "method", [m for m in METHODS.values() if not m.payable], ids=lambda m: m.name
)
def test_only_stake_takes_value(world: World, method: Any) -> None:
    outcome = world.run(U1, method.selector + bytes(32 * len(method.inputs)), 1)
    assert not outcome.ok
    assert b"takes no value" in outcome.output
    assert world.journal.balance(U1) == 100 * STAKE


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\0\0\0\0", bytes(5_000)], ids=["none", "short", "unknown", "long"]
)
def test_no_such_method(world: World, data: bytes) -> None:
    outcome = world.run(U1, data)
    assert not outcome.ok
    assert b"dpos_call" in outcome.output


def test_pages_of_delegates(world: World) -> None:
    assert world.view("delegates", 1, 2)[0] == (D1, D2)
    assert world.view("delegates", 4, 2)[0] == ()
    assert world.view("delegates", 2**256 - 1, 2**256 - 1)[0] == ()
    assert world.refused("u1", "delegate", U1).startswith("dpos_unknown")


def test_events(world: World) -> None:
    def logs(name: str, method: str, *arguments: Any, value: int = 0) -> Any:
        data = METHODS[method].call_data(*arguments)
        (log,) = world.run(address_of(name), data, value).logs
        assert log.address == DPOS_ADDRESS
        return log

    world.send("u1", "stake", value=10)
    log = logs("u1", "vote", [D0])
    assert log.topics == (VOTED.topic, U1.rjust(32, b"\0"))
    assert abi_decode(["address[]", "uint64"], log.data) == (("0x" + D0.hex(),), 4)
    log = logs("u1", "unstake", 3)
    assert log.topics == (UNSTAKED.topic, U1.rjust(32, b"\0"))
    assert abi_decode(["uint256", "uint64"], log.data) == (3, 3)
    world.block(D0)
    log = logs("d0", "claim")
    assert log.topics[0] == CLAIMED.topic
    assert abi_decode(["uint256", "uint256"], log.data)[1] == 0


def test_gas_bounds_every_call(world: World) -> None:
    """With any amount of gas a call ends, and has its whole effect or none."""
    world.send("u1", "stake", value=STAKE)
    data = METHODS["vote"].call_data([D0, D1, D2, D3])
    needed = _needed(lambda gas: world.run(U1, data, gas=gas).ok, world)
    mark = world.journal.snapshot()
    for gas in range(0, needed, 997):
        outcome = world.run(U1, data, gas=gas)
        assert (outcome.ok, outcome.output, outcome.gas_used) == (False, b"", gas)
        assert world.journal.snapshot() == mark
    assert world.run(U1, data, gas=needed).gas_used == needed


def _needed(works: Callable[[int], bool], world: World) -> int:
    low, high = 0, 2**24
    while low < high:
        mark, middle = world.journal.snapshot(), (low + high) // 2
        if works(middle):
            high = middle
        else:
            low = middle + 1
        world.journal.rollback(mark)
    return low
