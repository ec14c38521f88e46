"""Votes and certificates between a node and its peers: first out, judged once, paid for."""

import secrets
from dataclasses import replace
from typing import Any

import pytest

from dipnet.consensus.finality.votes import CERTIFIED_BYTES, BallotKind
from dipnet.node.effects import Send
from dipnet.node.offences import OFFENCE_OF
from dipnet.node.peers import FLUSH_MS
from dipnet.node.queues import LIMITS, Queue
from dipnet.node.work import GossipVotes, Incoming
from dipnet.p2p import messages as m
from dipnet.p2p.gossip import FETCH_MS_MAX, MENTION_MS
from dipnet.p2p.scores import LENIENT, SCORE_MIN, VERIFY_BURST_BYTES, VERIFY_BYTES_PER_S
from tests.fixtures.peers_bench import GENESIS, Bench, certificate, forged, sent, vote

BLOCK = b"b" * 32


# --- out


def test_votes_are_the_first_thing_sent_and_wait_for_no_batch() -> None:
    bench = Bench()
    peers = [bench.up(number) for number in (1, 2)]
    bench.pass_ms(FLUSH_MS)
    bench.drain()
    ours, good, proof = bench.peers, vote(5), certificate(5)
    ours.announce(m.Topic.TX, [bytes(32)])
    ours.push(m.Topic.BLOCK, BLOCK, b"block")
    ours.on_slot(bench.now_ms, [bytes(32)], [])  # statuses
    ours.push(m.Topic.CERTIFICATE, proof.id, proof.raw)
    ours.push(m.Topic.VOTE, good.id, good.raw)
    assert ours.next_ms(bench.now_ms) == bench.now_ms
    messages = sent(bench.drain())
    assert messages[:4] == [
        *[(peer, m.Votes((good.raw,))) for peer in peers],
        *[(peer, m.Certificates((proof.raw,))) for peer in peers],
    ]
    assert {m.protocol_of(message) for _, message in messages[4:]} == {"hello", "peers"}
    bench.now_ms += FLUSH_MS
    order = [type(message) for _, message in sent(bench.drain())]
    assert order == [m.Items, m.Items, m.Announce, m.Announce, m.Tips, m.Tips]


def test_our_last_votes_are_repeated_to_all_and_judged_by_none_again() -> None:
    ours, theirs = Bench(), Bench()
    peers = [ours.up(number) for number in (1, 2)]
    us = theirs.up(3)
    good = vote(5)
    for _ in range(3):
        ours.peers.push(m.Topic.VOTE, good.id, good.raw)
        ours.peers.repeat(m.Topic.VOTE, [good.raw])
        ours.peers.repeat(m.Topic.CERTIFICATE, [])
        votes = [(peer, said) for peer, said in sent(ours.drain()) if isinstance(said, m.Votes)]
        assert {peer for peer, _ in votes} == set(peers)
        for _, message in votes:
            theirs.tell(us, message)
    assert theirs.judged == 1
    assert theirs.score(us) == 0


def test_a_vote_is_relayed_to_all_others_once() -> None:
    bench = Bench()
    peers = [bench.up(number) for number in (1, 2, 3)]
    bench.drain()
    good = vote(5)
    for peer in peers:
        bench.tell(peer, m.Votes((good.raw, good.raw)))
    assert bench.judged == 1
    got = [(peer, said) for peer, said in sent(bench.drain()) if isinstance(said, m.Votes)]
    assert got == [(peer, m.Votes((good.raw,))) for peer in peers[1:]]


def test_copies_that_arrive_during_judgement_are_not_judged() -> None:
    bench = Bench()
    peers = [bench.up(number) for number in (1, 2, 3)]
    good = vote(5)
    lie = forged(good)
    first = bench.hear(peers[0], m.Votes((lie.raw,)))
    assert bench.hear(peers[1], m.Votes((lie.raw,))) is None
    true = bench.hear(peers[1], m.Votes((good.raw,)))  # the forged copy does not keep it out
    assert first is not None
    assert true is not None
    assert bench.judge(first) == []
    assert bench.judge(true) == [good]
    # the vote's id is known by now
    assert bench.hear(peers[2], m.Votes((lie.raw, good.raw))) is None
    assert [bench.score(peer) < 0 for peer in peers] == [True, False, False]


# --- in: the cost of bad votes


def test_bad_signatures_get_a_peer_banned() -> None:
    bench = Bench()
    peer, other_peer = bench.up(1), bench.up(2)
    for slot in range(5, 9):
        bench.tell(peer, m.Votes((forged(vote(slot)).raw,)))
        assert not bench.dropped(peer)
    bench.tell(peer, m.Votes((forged(vote(9)).raw,)))
    assert bench.dropped(peer)
    assert bench.hear(peer, m.Votes((vote(9).raw,))) is None
    bench.peers.on_connected(bench.now_ms, peer, f"/ip4/20.0.1.1/tcp/1/p2p/{peer}", False)
    assert not bench.peers._hellos.greeted(peer)
    assert bench.tell(other_peer, m.Votes((vote(9).raw,))) == [vote(9)]


def test_one_frame_of_bad_signatures_is_enough() -> None:
    bench = Bench()
    peer = bench.up(1)
    bench.tell(peer, m.Votes(tuple(forged(vote(slot)).raw for slot in range(5, 15))))
    assert bench.dropped(peer)


def bad_certificates() -> list[tuple[str, bytes]]:
    good = certificate(5)
    few = replace(good, bitmap=b"\x03", signatures=good.signatures[: 2 * CERTIFIED_BYTES])
    outside = replace(good, bitmap=b"\x83")
    spoilt = replace(good, signatures=good.signatures[:-1] + bytes([good.signatures[-1] ^ 1]))
    swapped = replace(good, bitmap=b"\x0b")
    longer = replace(good, bitmap=b"\x07\x00")
    miscounted = replace(good, bitmap=b"\x03")
    return [
        ("certificate_quorum", few.raw), ("certificate_form", outside.raw),
        ("certificate_signature", spoilt.raw), ("certificate_signature", swapped.raw),
        ("certificate_form", longer.raw), ("certificate_form", miscounted.raw),
    ]  # fmt: skip


@pytest.mark.parametrize("case", range(6))
def test_bad_certificates_are_charged_hard(case: int) -> None:
    code, raw = bad_certificates()[case]
    bench = Bench()
    peer = bench.up(1)
    assert bench.tell(peer, m.Certificates((raw,))) == []
    assert OFFENCE_OF[code] == "bad_certificate"
    assert bench.score(peer) == SCORE_MIN // 2
    bench.tell(peer, m.Certificates((raw,)))
    assert bench.dropped(peer)


@pytest.mark.parametrize("raw", [b"x", vote(5).raw + b"1", certificate(5).raw[:150], b"\x98" * 99])
def test_bytes_that_are_no_vote_end_the_connection(raw: bytes) -> None:
    for message in (m.Votes((vote(4).raw, raw)), m.Certificates((raw,))):
        bench = Bench()
        peer = bench.up(1)
        bench.tell(peer, message)
        assert bench.dropped(peer)


def test_a_peer_that_is_ahead_or_early_is_never_banned_for_it() -> None:
    """An epoch that the node does not know yet, a slot that has not begun: it is behind, or
    slow."""
    bench = Bench()
    peer = bench.up(1)
    bench.tell(peer, m.Votes((vote(5, epoch=3).raw,)))
    assert bench.score(peer) == -1
    for slot in range(6, 200):
        bench.tell(peer, m.Votes((vote(slot, epoch=3).raw,)))
    assert bench.score(peer) == LENIENT["untimely"]
    assert not bench.dropped(peer)
    assert "vote_limit" not in OFFENCE_OF
    # the vote may be judged again once the node knows its epoch
    assert bench.hear(peer, m.Votes((vote(5, epoch=3).raw,))) is not None


# --- floods


def votes_of(count: int, size: int = 120) -> list[m.Message]:
    raws = [secrets.token_bytes(size) for _ in range(count)]
    most = m.VOTES_MAX
    return [m.Votes(tuple(raws[at : at + most])) for at in range(0, count, most)]


def votes(incoming: Incoming) -> GossipVotes:
    assert isinstance(incoming.work, GossipVotes)
    return incoming.work


def test_a_flood_of_votes_is_bounded_work() -> None:
    """Of 100,000 votes in ten seconds the node judges only as many as the peer's allowance."""
    bench = Bench()
    peer, waiting = bench.up(1), []
    frames = votes_of(100_000)
    for at, message in enumerate(frames):
        bench.now_ms = bench.now_ms + 25 if at else bench.now_ms
        incoming = bench.hear(peer, message)
        if incoming is not None:
            waiting.append(incoming)
            bench.peers.on_judged(bench.now_ms, incoming, [])  # as if all were of later epochs
    judged = sum(incoming.work.size for incoming in waiting)
    seconds = 25 * len(frames) // 1_000
    assert judged <= VERIFY_BURST_BYTES + seconds * VERIFY_BYTES_PER_S + m.VOTES_MAX * 160
    assert judged >= VERIFY_BURST_BYTES
    assert bench.dropped(peer)  # every frame beyond the allowance cost a point
    assert not bench.peers._vote_push._judging


def test_votes_under_judgement_are_bounded_and_others_have_room() -> None:
    bench = Bench()
    peer, other_peer = bench.up(1), bench.up(2)
    waiting = [bench.hear(peer, message) for message in votes_of(20_000)]
    held = [votes(incoming) for incoming in waiting if incoming is not None]
    most = LIMITS[Queue.VOTES].bytes_max + 160 * m.VOTES_MAX
    assert sum(work.size for work in held) <= most
    assert len(bench.peers._vote_push._judging) == sum(len(work.raws) for work in held)
    assert bench.hear(other_peer, m.Votes((vote(5).raw,))) is not None
    # a flood of other gossip does not fill the queue of votes either
    for number in range(100):
        bench.hear(other_peer, m.Vertices(bytes([number]) * 100))
    assert bench.hear(other_peer, m.Votes((vote(6).raw,))) is not None


def test_known_votes_again_and_again_cost_the_sender_its_allowance() -> None:
    bench = Bench()
    peer, good = bench.up(1), vote(5)
    bench.tell(peer, m.Votes((good.raw,)))
    frame = m.Votes((good.raw,) * m.VOTES_MAX)
    heard = 0
    while not bench.dropped(peer):
        bench.hear(peer, frame)
        heard += 1
        # 256,000 votes were looked up, none was judged, and the peer is banned
        assert heard < 1_000
    assert bench.judged == 1


def test_votes_before_the_hello_are_ignored() -> None:
    bench = Bench()
    peer = bench.up(1, chain_id=1)
    assert bench.hear(peer, m.Votes((vote(5).raw,))) is None


# --- blocks that votes name


def fetches(bench: Bench) -> list[tuple[str, Any]]:
    bench.now_ms += FLUSH_MS
    return [(peer, said) for peer, said in sent(bench.drain()) if isinstance(said, m.Fetch)]


def test_a_block_that_votes_name_is_fetched_if_it_does_not_come() -> None:
    bench = Bench()
    peers = [bench.up(number) for number in (1, 2)]
    for peer in peers:
        for _ in range(10):
            bench.peers.mentioned(bench.now_ms, peer, [BLOCK, GENESIS])
    bench.pass_ms(MENTION_MS - 1)
    assert fetches(bench) == []
    bench.pass_ms(100)
    assert fetches(bench) == [(peers[0], m.Fetch(m.Topic.BLOCK, (BLOCK,)))]
    bench.hear(peers[0], m.Absent(m.Topic.BLOCK, (BLOCK,)))  # this peer only relayed the vote
    assert fetches(bench) == [(peers[1], m.Fetch(m.Topic.BLOCK, (BLOCK,)))]
    bench.pass_ms(FETCH_MS_MAX)
    assert fetches(bench) == []
    assert bench.peers._gossip.wanted() == 0
    # this peer has the block for certain: it is asked at once
    bench.peers.offered(bench.now_ms, peers[1], m.Topic.BLOCK, [BLOCK])
    assert fetches(bench) == [(peers[1], m.Fetch(m.Topic.BLOCK, (BLOCK,)))]
    assert all(bench.score(peer) == 0 for peer in peers)


def test_missing_objects_are_answered_as_missing() -> None:
    bench = Bench()
    peer = bench.up(1)
    bench.view.blocks[BLOCK] = b"block"
    bench.hear(peer, m.Fetch(m.Topic.BLOCK, (bytes(32), BLOCK)))
    bench.now_ms += FLUSH_MS
    answers = [said for _, said in sent(bench.drain()) if isinstance(said, m.Absent | m.Items)]
    assert answers == [m.Absent(m.Topic.BLOCK, (bytes(32),)), m.Items(m.Topic.BLOCK, (b"block",))]
    # an answer without a request does no harm
    bench.hear(peer, m.Absent(m.Topic.VERTEX, (BLOCK,) * m.IDS_MAX))
    assert bench.score(peer) == 0
    for _ in range(20):
        bench.hear(peer, m.Absent(m.Topic.BLOCK, (BLOCK,) * 17))
    assert bench.dropped(peer)


def test_prevotes_and_commits_take_the_same_path() -> None:
    bench = Bench()
    peer = bench.up(1)
    raws = tuple(
        vote(5, index, kind).raw
        for kind in (BallotKind.PREVOTE, BallotKind.COMMIT)
        for index in (0, 1)
    )
    assert len(bench.tell(peer, m.Votes(raws))) == 4
    assert bench.tell(peer, m.Certificates((certificate(5).raw,)))
    assert all(isinstance(effect, Send) for effect in bench.drain())
