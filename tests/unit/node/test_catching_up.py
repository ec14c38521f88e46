"""Frames from peers in ``node.step``: bounds, offences, and catching up with the peers' chain."""

from dataclasses import replace

import pytest

from dipnet.node.effects import (
    Connected,
    DialFailed,
    Disconnected,
    Drop,
    Received,
    Reply,
    Send,
    Sign,
    Verify,
    Woke,
    Write,
)
from dipnet.node.queues import LIMITS, Queue
from dipnet.p2p import messages as m
from dipnet.p2p.blocksync import BELIEF_MS
from dipnet.p2p.clock import SAMPLES_MAX
from dipnet.p2p.messages import Topic
from dipnet.p2p.vertexsync import TRIES_MAX
from dipnet.primitives import crypto
from tests.fixtures.node_bench import ADDRESS, PEER, Bench, block_requests, of, proposals
from tests.sim.load import secret
from tests.sim.world import peer_id


def test_unjudged_frames_of_one_peer_are_bounded() -> None:
    bench = Bench()
    bench.start()
    bench.greet()
    frame = m.Items(Topic.TX, (bench.payment(),))
    frames_max = LIMITS[Queue.OTHERS].frames_max
    asked = [effect for _ in range(frames_max + 20) for effect in bench.receive(frame)]
    verifies = of(asked, Verify)
    assert len(verifies) == frames_max
    other_peer = peer_id(crypto.public_key(secret("other")))
    bench.greet(peer=other_peer)
    assert of(bench.receive(frame, other_peer), Verify)
    bench.answered(verifies[:1])
    assert of(bench.receive(frame), Verify)
    assert not of(bench.receive(frame), Verify)


def test_a_verdict_after_its_peer_left_is_harmless() -> None:
    bench = Bench()
    bench.start()
    bench.greet()
    effects = bench.receive(m.Items(Topic.TX, (bench.payment(), b"\xff")))
    effects += bench.receive(m.Vertices(bench.vertex(bench.key)))
    bench.step(Disconnected(PEER, "gone"))
    done = bench.answered(of(effects, Verify))
    assert len(bench.node.pool) == 1
    assert len(bench.node.dag) == 1
    assert not of(done, Reply)
    assert not of(done, Send)


@pytest.mark.parametrize("protocol", ["hello", "gossip", "sync", "peers"])
def test_malformed_bytes_end_the_connection_and_the_peer_is_kept_out(protocol: str) -> None:
    bench = Bench()
    bench.start()
    bench.greet()
    assert of(bench.step(Received(PEER, protocol, b"\xc1garbage")), Drop)
    bench.step(Disconnected(PEER, "dropped"))
    effects = bench.step(Connected(PEER, ADDRESS, False))
    assert of(effects, Drop)
    assert not of(effects, Send)


def test_nothing_is_done_for_a_peer_before_its_hello() -> None:
    bench = Bench()
    bench.start()
    bench.step(Connected(PEER, ADDRESS, False))
    effects = bench.receive(m.Items(Topic.TX, (bench.payment(),)))
    effects += bench.receive(m.GetBlocks(1, (bench.node.chain.genesis_hash,), 1))
    assert not of(effects, Verify)
    assert not of(effects, Send)


def test_blocks_from_the_future_are_no_offence() -> None:
    """Either the peer's clock is wrong or ours, so the peer is not punished."""
    ahead, behind = Bench(), Bench()
    ahead.start()
    ahead.propose(3_584)  # the back-off leaves every 64th slot
    raw = ahead.node.view.raw(Topic.BLOCK, ahead.node.chain.head.hash)
    assert raw is not None
    behind.start()
    effects = behind.greet(head_height=2)
    asked = 0
    for tick in range(1, 300):
        requests, effects = block_requests(effects), []
        for request in requests:
            effects += behind.answered(behind.receive(m.Blocks(request.request, (raw,), False)))
            assert not of(effects, Drop)
        asked += len(requests)
        effects += behind.step(Woke(), behind.genesis.time_ms + tick * 100)
    assert 20 < asked <= 31  # asked again each second, and no faster
    score = behind.node.peers.described(behind.now_ms)[0]["score"]
    assert score >= -TRIES_MAX  # the peer never announced vertices


def test_a_dial_that_crossed_is_no_failure() -> None:
    bench = Bench()
    bench.start()
    bench.greet()
    assert not of(bench.step(DialFailed(ADDRESS, "already connected")), Write)
    bench.step(Disconnected(PEER, "reset"))
    book = bench.node.peers._book
    book.learn("", "127.0.0.1", [ADDRESS])
    assert book.to_dial(bench.now_ms + 1, bench.node.peers._connections, 1) == [ADDRESS]
    bench.step(DialFailed(ADDRESS, "refused"))
    assert book.to_dial(bench.now_ms + 1, bench.node.peers._connections, 1) == []


@pytest.mark.parametrize(
    ("ahead_ms", "told"),
    [
        (500, None), (501, "the clock is 501 ms behind peers"), (-500, None),
        (-501, "the clock is 501 ms ahead of peers"), (9_000, "the clock is 9000 ms behind peers"),
    ],
)  # fmt: skip
def test_a_node_that_is_off_by_half_a_slot_proposes_nothing_and_says_why(
    ahead_ms: int, told: str | None
) -> None:
    bench = Bench()
    bench.start()
    bench.greet()
    status = bench.node.view.status()
    for _ in range(SAMPLES_MAX):
        bench.receive(replace(status, time_ms=bench.now_ms + ahead_ms))
    assert bool(proposals(bench.at_slot(1))) == (told is None)
    assert bench.node.voting.idle == told


def test_nothing_is_proposed_while_blocks_are_fetched() -> None:
    bench = Bench()
    bench.start()
    effects = bench.greet(head_height=50)
    assert block_requests(effects)
    assert bench.node.peers.syncing(bench.now_ms) == (0, 50)
    assert not of(bench.at_slot(1), Sign)
    assert not of(bench.at_slot(9), Sign)


def test_a_peer_that_lies_about_its_head_holds_us_up_once_and_not_for_long() -> None:
    bench = Bench()
    bench.start()
    bench.greet(head_height=1 << 40)
    signed = [
        slot
        for slot in range(1, 60)
        for part in range(0, 1_000, 100)
        if of(bench.answered(bench.at_slot(slot, part)), Sign)
    ]
    assert signed == list(range(BELIEF_MS // 1_000, 60))


def test_blocks_of_a_peer_bring_us_to_its_head() -> None:
    far = Bench()
    far.start()
    for slot in range(1, 8):
        far.propose(slot)
    near = Bench(state=far.state)
    near.start()
    near.now_ms = far.now_ms
    out = near.greet(head_height=7)
    (ask,) = block_requests(out)
    raws = tuple(far.node.view.blocks_after(ask.locator))
    near.answered(near.receive(m.Blocks(ask.request, raws, False)))
    assert near.node.chain.head.hash == far.node.chain.head.hash
    assert near.node.peers.syncing(near.now_ms) is None
    assert of(near.at_slot(8), Sign)
