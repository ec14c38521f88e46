"""Foreign votes by the node's own key, and a signer that lies, hangs or answers late."""

import pytest

from dipnet.consensus.finality.finality import prevote
from dipnet.consensus.finality.votes import Ballot, BallotKind, Vote, VoteState, certificate_of
from dipnet.node.effects import Send, Sign
from dipnet.node.voting import ASKED_MAX, signed_state
from dipnet.p2p import messages as m
from dipnet.primitives import crypto
from dipnet.primitives.errors import Invalid
from dipnet.signing.votefile import check_not_older
from tests.fixtures.node_bench import Bench, of, proposals
from tests.sim.scenario import network

DELEGATES = 4


def bench_of_four(**more: VoteState) -> Bench:
    bench = Bench(delegates=DELEGATES, **more)  # type: ignore[arg-type]
    bench.start()
    bench.greet()
    return bench


def voted(bench: Bench, ballot: Ballot, key: bytes) -> Vote:
    index = bench.node.chain.epoch.members.index_of_key(crypto.public_key(key))
    assert index is not None
    return Vote(ballot, index, crypto.sign(ballot.digest(bench.genesis.chain_id), key))


def hear(bench: Bench, *ballots: Ballot) -> None:
    """A peer sends votes for these ballots, signed by the node's own key."""
    raws = tuple(voted(bench, ballot, bench.key).raw for ballot in ballots)
    bench.answered(bench.receive(m.Votes(raws)))


def elsewhere(bench: Bench) -> str | None:
    return bench.node.voting.elsewhere


def state(bench: Bench) -> VoteState:
    voter = bench.node.voting.voter
    assert voter is not None
    return voter.state


A = b"A" * 32


def test_what_our_key_said_elsewhere_is_not_contradicted_and_ends_signing() -> None:
    bench = bench_of_four()
    bench.at_slot(9)
    hear(bench, Ballot(BallotKind.PREVOTE, 0, 9, A, 0), Ballot(BallotKind.COMMIT, 0, 8, A, 0))
    assert (state(bench).prevoted, state(bench).committed) == (9, 8)
    assert elsewhere(bench) is None  # another node may have asked the same signer
    slot = next(number for number in bench.own_slots() if number > 9)
    bench.propose(slot)
    told = elsewhere(bench)
    assert told is not None
    assert "something else signs with it" in told
    assert bench.node.chain.head.height == 0, "the block is not sent"
    assert bench.node.voting.idle is None
    bench.at_slot(slot + 1)
    assert bench.node.voting.idle == told
    for later in range(slot + 2, slot + 10):
        assert not of(bench.at_slot(later), Sign)
    with pytest.raises(Invalid) as caught:  # a restart keeps the silence
        check_not_older(bench.state, signed_state(bench.disk, crypto.public_key(bench.key)))
    assert caught.value.code == "votes_older"


def test_a_twin_on_the_same_signer_is_no_stranger() -> None:
    bench = bench_of_four()
    bench.at_slot(9)
    hear(bench, Ballot(BallotKind.PREVOTE, 0, 9, A, 0))
    # the signer's vote state has this ballot, for it gave the signature
    bench.state = VoteState(0, 0, 9, 0)
    slot = next(number for number in bench.own_slots() if number > 9)
    bench.propose(slot)
    assert elsewhere(bench) is None
    assert bench.node.chain.head.slot == slot


def test_our_part_in_a_certificate_and_our_block_are_heard() -> None:
    makers, bench = bench_of_four(), bench_of_four()
    slot = next(makers.own_slots())
    makers.propose(slot)
    header = makers.node.chain.head
    (raw,) = makers.node.view.blocks_after([makers.node.chain.genesis_hash])
    bench.now_ms = makers.now_ms
    bench.answered(bench.receive(m.Items(m.Topic.BLOCK, (raw,))))
    assert bench.node.chain.head == header
    assert state(bench).proposed == slot
    members = makers.node.chain.epoch.members
    _, keys, _ = network(DELEGATES)
    ballot = prevote(header, makers.node.chain.epoch_of(header).boundary)
    votes = [voted(makers, ballot, key) for key in keys]
    with_us = certificate_of(votes[:3], members)
    fresh = bench_of_four()
    fresh.node.voting.add_certificates([with_us])
    assert state(fresh).prevoted == slot
    without = certificate_of(votes[1:], members)
    second = bench_of_four()
    second.node.voting.add_certificates([without])
    assert state(second).prevoted == 0


def test_a_block_waits_for_the_signature_of_its_parent() -> None:
    """A leader of two slots in a row with a slow signer must not fork its own chain."""
    bench = Bench()
    bench.start()
    (slow,) = of(bench.at_slot(1), Sign)
    assert of(bench.at_slot(2), Sign) == []
    bench.answered(bench.step(bench.signed(slow)))
    bench.propose(3)
    assert [bench.node.chain.head.height, bench.node.chain.head.slot] == [2, 3]


def test_a_signer_that_hangs_is_not_asked_without_end() -> None:
    bench = bench_of_four()
    asked = sum(len(of(bench.at_slot(slot), Sign)) for slot in range(1, 200))
    assert 0 < asked <= ASKED_MAX


def test_a_signature_that_comes_epochs_late_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    bench.start()
    slot = next(bench.own_slots())
    (proposal,) = proposals(bench.at_slot(slot))
    (vote,) = of(bench.step(bench.signed(proposal)), Sign)
    assert isinstance(vote, Sign)
    signed = bench.signed(vote)
    monkeypatch.setattr(bench.node.chain, "sets", {})
    assert not of(bench.step(signed), Send)


@pytest.mark.parametrize(
    ("off_ms", "told"),
    [
        (500, None),
        (501, "the clock is 501 ms behind peers"),
        (-501, "the clock is 501 ms ahead of peers"),
    ],
)
def test_with_a_wrong_clock_nothing_is_proposed_and_it_says_by_how_much(
    off_ms: int, told: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING", "dipnet")
    bench = bench_of_four()
    slots = bench.own_slots()
    slot = next(slots)
    monkeypatch.setattr(bench.node.peers._clock, "offset_ms", lambda _: off_ms)
    assert bool(proposals(bench.answered(bench.at_slot(slot)))) == (told is None)
    assert bench.node.voting.idle == told
    assert (f"proposes nothing: {told}" in caplog.text) == (told is not None)
    monkeypatch.setattr(bench.node.peers._clock, "offset_ms", lambda _: 0)
    assert proposals(bench.at_slot(next(number for number in slots if number > slot)))


def test_a_delegate_alone_proposes_nothing_unless_it_is_a_quorum() -> None:
    bench = Bench(delegates=DELEGATES)
    bench.start()
    slots = bench.own_slots()
    assert not proposals(bench.at_slot(next(slots)))
    assert bench.node.voting.idle == "no peer has said hello"
    bench.greet()
    assert proposals(bench.at_slot(next(slots)))
    single = Bench()
    single.start()
    assert proposals(single.at_slot(1))
