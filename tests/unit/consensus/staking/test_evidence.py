"""Evidence: E0 to E3 are punished, once and in time; nothing that an honest delegate signs is."""

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from eth_abi.abi import decode as abi_decode
from hypothesis import given
from hypothesis import strategies as st

from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState
from dipnet.consensus.staking import evidence, idpos
from dipnet.consensus.staking.actions import SLASHED
from dipnet.consensus.staking.candidates import TOMBSTONED
from dipnet.consensus.staking.idpos import METHODS
from dipnet.ledger.parameters import BPS_ALL
from dipnet.primitives.crypto import sign
from dipnet.primitives.errors import Invalid
from tests.fixtures.staking import CHAIN_ID, STAKE, World, address_of, network, secret

D0, U1 = address_of("d0"), address_of("u1")
ONE, OTHER = b"\1" * 32, b"\2" * 32
PAIRS = {
    "E0": (Ballot(BallotKind.PROPOSAL, 0, 9, ONE, 0), Ballot(BallotKind.PROPOSAL, 0, 9, OTHER, 0)),
    "E1": (Ballot(BallotKind.PREVOTE, 0, 9, ONE, 3), Ballot(BallotKind.PREVOTE, 0, 9, OTHER, 3)),
    "E2": (Ballot(BallotKind.COMMIT, 0, 9, ONE, 0), Ballot(BallotKind.COMMIT, 0, 9, OTHER, 0)),
    "E3": (Ballot(BallotKind.COMMIT, 0, 9, ONE, 0), Ballot(BallotKind.PREVOTE, 0, 12, OTHER, 8)),
}
LOST = STAKE // 10
REWARD = LOST // 10


@pytest.fixture
def world() -> World:
    return World(network())


def signed(ballot: Ballot, name: str = "d0", chain_id: int = CHAIN_ID) -> bytes:
    return evidence.record(ballot, sign(ballot.digest(chain_id), secret(name)))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("turned", [False, True])
def test_an_offence_is_punished(world: World, name: str, turned: bool) -> None:
    records = [signed(ballot) for ballot in (PAIRS[name][::-1] if turned else PAIRS[name])]
    data = METHODS["submitEvidence"].call_data(*records)
    assert len(data) <= 400
    before, supply = world.journal.balance(U1), world.supply()
    outcome = world.run(U1, data)
    assert METHODS["submitEvidence"].values(outcome.output) == (REWARD,)
    assert world.journal.balance(U1) == before + REWARD
    assert world.supply() == supply - (LOST - REWARD)
    assert world.view("burned") == LOST - REWARD
    assert world.view("stakeOf", D0) == STAKE - LOST
    assert world.status(D0) == TOMBSTONED
    assert world.view("delegate", D0)[9:] == (True, False)
    assert idpos.is_tombstoned(world.journal, D0)
    assert not idpos.is_tombstoned(world.journal, address_of("d1"))
    assert not idpos.is_tombstoned(world.journal, U1)
    (log,) = outcome.logs
    assert log.topics == (SLASHED.topic, D0.rjust(32, b"\0"), U1.rjust(32, b"\0"))
    assert abi_decode(["string", "uint256", "uint256"], log.data) == (name, LOST - REWARD, REWARD)
    for _ in range(6):
        assert D0 not in world.boundary().members.addresses


def test_it_cannot_be_replayed(world: World) -> None:
    records = [signed(ballot) for ballot in PAIRS["E1"]]
    world.send("u1", "submitEvidence", *records)
    for again in (records, [signed(ballot) for ballot in PAIRS["E2"]]):
        told = world.refused("u2", "submitEvidence", *again)
        assert told == f"dpos_tombstoned: delegate is punished already: 0x{D0.hex()}"


def test_what_is_being_released_is_at_stake_too(world: World) -> None:
    world.send("d0", "resign")
    world.send("d0", "unstake", STAKE - 10)
    world.send("u1", "submitEvidence", *[signed(ballot) for ballot in PAIRS["E1"]])
    assert world.view("stakeOf", D0) == 0
    assert world.view("unbondingOf", D0)[0] == STAKE - LOST
    assert world.view("burned") == LOST - REWARD


def test_a_stake_waits_as_long_as_evidence_is_taken() -> None:
    """An offence in a delegate's last set is punishable while its stake waits for release."""
    world = World(network())
    world.send("d0", "resign")
    world.send("d0", "unstake", STAKE)
    assert world.sets[1].index(D0) is not None
    world.boundary()
    late = [replace(ballot, epoch=1) for ballot in PAIRS["E1"]]
    world.boundaries(3)  # the last epoch in which it may be reported
    assert world.refused("d0", "claim").startswith("dpos_claim")
    world.send("u1", "submitEvidence", *[signed(ballot) for ballot in late])
    world.boundary()
    assert world.send("d0", "claim") == (STAKE - LOST,)


def test_evidence_that_is_too_old(world: World) -> None:
    world.boundaries(4)
    told = world.refused("u1", "submitEvidence", *[signed(ballot) for ballot in PAIRS["E1"]])
    assert told == "dpos_old: evidence is too old: epoch 0, now 4"
    newer = [replace(ballot, epoch=1) for ballot in PAIRS["E1"]]
    world.send("u1", "submitEvidence", *[signed(ballot) for ballot in newer])


def test_the_votes_for_a_tombstoned_delegate_are_free_again(world: World) -> None:
    world.send("u2", "stake", value=STAKE)
    world.send("u2", "vote", [D0])
    world.block(D0)
    world.send("u1", "submitEvidence", *[signed(ballot) for ballot in PAIRS["E1"]])
    assert world.view("rewardsOf", address_of("u2")) == world.parameters.block_reward // 2
    world.block(D0)  # it leads slots until its last set ends, but has no votes
    assert world.view("rewardsOf", address_of("u2")) == world.parameters.block_reward // 2
    world.boundary()
    world.send("u2", "vote", [address_of("d1")])
    assert world.refused("d0", "register", *world.register("d0")).startswith("dpos_registered")


def test_nobody_but_delegates_can_offend(world: World) -> None:
    records = [signed(ballot, "u3") for ballot in PAIRS["E1"]]
    assert world.refused("u1", "submitEvidence", *records).startswith("dpos_unknown")


def test_signatures_of_two_keys(world: World) -> None:
    first, second = PAIRS["E1"]
    told = world.refused("u1", "submitEvidence", signed(first), signed(second, "d1"))
    assert told.endswith("the signatures are by two keys")


def test_signatures_for_another_chain(world: World) -> None:
    records = [signed(ballot, chain_id=CHAIN_ID + 1) for ballot in PAIRS["E1"]]
    assert world.refused("u1", "submitEvidence", *records).startswith("dpos_")
    assert world.status(D0) != TOMBSTONED


BLANK = evidence.record(PAIRS["E1"][0], bytes(65))
HIGH = signed(PAIRS["E1"][0])
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
OF_TWO_EPOCHS = (signed(PAIRS["E1"][0]), signed(replace(PAIRS["E1"][1], epoch=1)))


def high_s(record: bytes) -> bytes:
    """The same signature with its other s, which is not canonical."""
    r, s, parity = record[-65:-33], int.from_bytes(record[-33:-1], "big"), record[-1]
    return record[:-65] + r + (N - s).to_bytes(32, "big") + bytes((parity ^ 1,))


@pytest.mark.parametrize(
    "records",
    [
        (b"", b""),
        (signed(PAIRS["E1"][0]), b""),
        (signed(PAIRS["E1"][0]), signed(PAIRS["E1"][0])),
        (signed(PAIRS["E1"][0])[:-1], signed(PAIRS["E1"][1])),
        (signed(PAIRS["E1"][0]) + b"\0", signed(PAIRS["E1"][1])),
        (BLANK, BLANK.replace(ONE, OTHER)),
        (high_s(signed(PAIRS["E1"][0])), signed(PAIRS["E1"][1])),
        (signed(Ballot(BallotKind.COMMIT, 0, 9, ONE, 3)), signed(PAIRS["E2"][1])),
        OF_TWO_EPOCHS,
        (signed(PAIRS["E3"][0]), signed(replace(PAIRS["E3"][1], justify_slot=9))),
        (signed(PAIRS["E1"][0]), signed(PAIRS["E0"][1])),
    ],
    ids=["nothing", "one", "twice the same", "short", "long", "unsigned", "high s",
         "a commit that is justified", "two epochs", "a lock that was kept", "two kinds"],
)  # fmt: skip
def test_what_is_no_offence(world: World, records: tuple[bytes, bytes]) -> None:
    mark = world.journal.snapshot()
    assert world.refused("u1", "submitEvidence", *records).startswith("dpos_offence")
    assert world.journal.snapshot() == mark


@given(st.binary(max_size=140), st.binary(max_size=140))
def test_any_bytes(first: bytes, second: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        evidence.prove(CHAIN_ID, first, second)
    assert caught.value.code == "dpos_offence"


def test_records_stay_short() -> None:
    """Records are bounded for slots of ten blocks a second over a thousand years."""
    ballot = Ballot(BallotKind.PREVOTE, 2**32 - 1, 2**39, ONE, 2**39)
    assert len(signed(ballot)) <= evidence.RECORD_BYTES_MAX
    data = METHODS["submitEvidence"].call_data(bytes(evidence.RECORD_BYTES_MAX), bytes(128))
    assert len(data) <= 400


def test_ballots_that_a_vote_state_allows_are_never_an_offence() -> None:
    """Tries all pairs of ballots that the rules let a delegate sign, of three slots and two
    blocks."""
    slots, blocks = range(1, 4), (ONE, OTHER)
    ballots = [
        Ballot(kind, 1, slot, block, justify)
        for kind, slot, block in product(BallotKind, slots, blocks)
        for justify in (range(slot) if kind is BallotKind.PREVOTE else (0,))
    ]
    offences = 0
    for first, second in product(ballots, ballots):
        state = VoteState()
        allowed = not state.refuse(first) and not state.after(first).refuse(second)
        records = [evidence.record(each, sign(each.digest(CHAIN_ID), secret("d0")))
                   for each in (first, second)] if allowed else []  # fmt: skip
        if allowed:
            with pytest.raises(Invalid, match="honest"):
                evidence.prove(CHAIN_ID, *records)
        offences += not allowed
    assert offences > 100


def test_the_reward_may_be_nothing() -> None:
    fields: dict[str, Any] = {"slash_bps": 10_000, "reporter_bps": 0}
    world = World(network(**fields))
    assert world.send("u1", "submitEvidence", *[signed(ballot) for ballot in PAIRS["E1"]]) == (0,)
    assert (world.view("stakeOf", D0), world.view("burned")) == (0, STAKE)


def test_a_proposer_that_reports_itself_loses_half_of_all() -> None:
    world = World(network(slash_bps=10_000, reporter_bps=BPS_ALL // 2))
    supply, before = world.supply(), world.journal.balance(D0)
    world.send("d0", "submitEvidence", *[signed(ballot) for ballot in PAIRS["E1"]])
    assert world.journal.balance(D0) - before == supply - world.supply() == STAKE // 2
    with pytest.raises(Invalid, match="reporter_bps"):
        network(reporter_bps=BPS_ALL // 2 + 1)
