"""``node.step``: slots, signatures, and the order of effects."""

import pytest

from dipnet.consensus.chain.records import KEY_BLOCK
from dipnet.consensus.chain.schedule import slot_start_ms
from dipnet.consensus.finality.votes import BallotKind, VoteState
from dipnet.node.checks import CheckedVotes
from dipnet.node.effects import (
    Publish,
    Reply,
    Send,
    Sign,
    Signed,
    Submitted,
    Verified,
    Verify,
    Wake,
    Woke,
    Write,
)
from dipnet.node.work import ClientTxs
from dipnet.p2p import messages as m
from dipnet.p2p.messages import Topic
from dipnet.primitives.errors import Invalid
from tests.fixtures.elections import Elections
from tests.fixtures.node_bench import Bench, kinds, of, proposals


def test_start_asks_to_be_woken_at_the_next_slot() -> None:
    bench = Bench()
    assert bench.start() == [Wake(slot_start_ms(bench.genesis.parameters, 1))]


def test_a_proposal_waits_for_its_signature() -> None:
    bench = Bench()
    bench.start()
    slot = next(bench.own_slots())
    effects = bench.at_slot(slot)
    (sign,) = proposals(effects)
    assert (sign.ballot.epoch, sign.ballot.slot) == (0, slot)
    assert not of(effects, Publish)
    assert bench.node.chain.head.height == 0


def test_one_delegate_makes_its_block_final_at_once() -> None:
    bench = Bench()
    bench.start()
    effects = bench.propose(next(bench.own_slots()))
    signs = [effect.ballot.kind for effect in effects if isinstance(effect, Sign)]
    assert signs == [BallotKind.PROPOSAL, BallotKind.PREVOTE, BallotKind.COMMIT]
    assert bench.node.chain.final.hash == bench.node.chain.head.hash
    topics = [effect.topic for effect in effects if isinstance(effect, Publish)]
    assert topics == ["newHeads", "finalizedHeads"]


def test_what_the_signer_refuses_is_not_asked_again() -> None:
    bench = Bench()
    bench.start()
    slot = next(bench.own_slots())
    (sign,) = proposals(bench.at_slot(slot))
    refused = Signed(sign.ticket, b"", VoteState())
    assert not proposals(bench.step(refused))
    assert not proposals(bench.step(Woke(), bench.now_ms + 100))
    assert proposals(bench.at_slot(slot + 1))


def test_a_signed_block_is_written_before_it_is_told() -> None:
    bench = Bench()
    bench.start()
    bench.greet()
    (sign,) = proposals(bench.at_slot(next(bench.own_slots())))
    effects = bench.step(bench.signed(sign))
    told = kinds(effects).index(Publish)
    written = [key for effect in effects[:told] if isinstance(effect, Write) for key in effect.puts]
    assert any(key.startswith(KEY_BLOCK) for key in written)
    assert bench.node.chain.head.height == 1
    later = bench.step(Woke(), bench.now_ms + 100)
    assert any(isinstance(e, Send) and e.protocol == "gossip" for e in [*effects, *later])


def test_a_restart_signs_no_slot_again() -> None:
    first = Bench()
    first.start()
    slot = next(first.own_slots())
    (sign,) = proposals(first.at_slot(slot))
    first.signed(sign)  # the signature is lost with the process, the vote state is not
    again = Bench(disk=first.disk, state=first.state)
    again.now_ms = slot_start_ms(first.genesis.parameters, slot - 1)  # and the clock is behind
    again.start()
    assert not proposals(again.at_slot(slot))
    assert proposals(again.at_slot(slot + 1))


@pytest.mark.parametrize(("late_ms", "signs"), [(0, 1), (500, 1), (501, 0), (999, 0)])
def test_a_late_slot_is_left_out(late_ms: int, signs: int) -> None:
    bench = Bench()
    bench.start()
    slot = next(bench.own_slots())
    assert len(proposals(bench.at_slot(slot, late_ms))) == signs


def test_only_the_leader_proposes_and_once() -> None:
    bench = Bench(delegates=4)
    bench.start()
    assert not any(proposals(bench.at_slot(slot)) for slot in range(1, 8))  # no peer is connected
    bench = Bench(delegates=4)
    bench.start()
    bench.greet()
    order = bench.node.chain.epoch.order
    signed = [slot for slot in range(1, 8) if proposals(bench.answered(bench.at_slot(slot)))]
    assert signed == [slot for slot in range(1, 8) if order[slot % 4] == bench.proposer]
    assert not proposals(bench.at_slot(signed[-1]))


def test_own_block_refused_after_the_clock_was_set_back() -> None:
    bench = Bench()
    bench.start()
    (sign,) = proposals(bench.at_slot(15))
    effects = bench.step(bench.signed(sign), bench.now_ms - 10_000)
    assert not of(effects, Publish)
    assert bench.node.chain.head.height == 0
    assert not proposals(bench.at_slot(15))
    assert proposals(bench.at_slot(16))


def test_a_clock_set_back_stops_no_gossip_and_no_slot() -> None:
    bench = Bench()
    bench.start()
    bench.greet()
    bench.at_slot(3_600)
    back = slot_start_ms(bench.genesis.parameters, 10)
    effects = bench.step(Woke(), back)
    assert any(isinstance(e, Send) and e.protocol == "hello" for e in effects)  # a slot began
    bench.answered(bench.step(Submitted(1, ClientTxs((bench.payment(),)))))
    sent = [e for ms in (30, 60) for e in bench.step(Woke(), back + ms)]
    assert any(isinstance(e, Send) and e.protocol == "gossip" for e in sent)
    wakes = [effect.at_ms for effect in [*effects, *sent] if isinstance(effect, Wake)]
    assert wakes
    assert max(wakes) <= back + 1_000


def test_two_nodes_with_one_key_agree_on_a_head() -> None:
    first, second = Bench(delegates=4), Bench(delegates=4)
    slot = next(first.own_slots())
    second.start()
    second.answered(second.step(Submitted(1, ClientTxs((second.payment(),)))))
    for bench in (first, second):
        bench.start()
        bench.greet()
        bench.propose(slot)
    blocks = [
        bench.node.view.raw(Topic.BLOCK, bench.node.chain.head.hash) for bench in (first, second)
    ]
    assert blocks[0] != blocks[1]
    for bench, raw in zip((first, second), blocks[::-1], strict=True):
        assert raw is not None
        bench.answered(bench.receive(m.Items(Topic.BLOCK, (raw,))))
    heads = {bench.node.chain.head.hash for bench in (first, second)}
    assert heads == {min(map(block_hash, (first, second)))}


def block_hash(bench: Bench) -> bytes:
    hashes = [key[1:] for key, _ in bench.disk.scan(KEY_BLOCK)]
    return min(h for h in hashes if h != bench.node.chain.genesis_hash)


def test_an_outcome_that_its_work_cannot_have_is_a_bug() -> None:
    bench = Bench()
    (asked,) = of(bench.step(Submitted(1, ClientTxs((bench.payment(),)))), Verify)
    assert isinstance(asked, Verify)
    with pytest.raises(AssertionError):
        bench.step(Verified(asked.ticket, CheckedVotes(())))


@pytest.mark.parametrize("raised", [True, False])
def test_the_pool_follows_the_parameters_over_a_boundary(
    monkeypatch: pytest.MonkeyPatch, raised: bool
) -> None:
    """A parameter vote moves the floor of the base fee; it holds from the boundary's child on."""
    floor, low = 10**6, 10**5
    moved = {"base_fee_floor": 10**8} if raised else {"base_fee_floor": low}
    Elections(changes=lambda epoch: moved if epoch == 1 else {}).put(monkeypatch)
    bench = Bench()
    bench.start()
    pool, chain = bench.node.pool, bench.node.chain
    price = floor if raised else low
    # it waits for the nonce before it
    waits = bench.payment(max_fee=price, nonce=1, max_priority_fee=0)
    assert len(offered(bench, waits)) == raised
    while chain.epoch.number == 0:
        assert len(pool) == raised
        bench.propose(next(bench.own_slots()))
    assert chain.parameters.base_fee_floor == moved["base_fee_floor"]
    assert len(pool) == 0, "no block above the boundary may hold it"
    assert len(offered(bench, waits)) == (not raised)
    again = Bench(disk=bench.disk, state=bench.state)
    again.now_ms = bench.now_ms
    again.start()
    assert len(offered(again, waits)) == (not raised), "also after a restart"


def offered(bench: Bench, raw: bytes) -> list[tuple[bytes, str]]:
    """The hashes that the pool answers for a client's transaction, none where it refuses it."""
    out = bench.answered(bench.step(Submitted(1, ClientTxs((raw,)))))
    results = [result for effect in out if isinstance(effect, Reply) for result in effect.results]
    return [result for result in results if not isinstance(result, Invalid)]
