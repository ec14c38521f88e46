"""Gossip: objects are sent once, fetched from a peer at a time; its memory is bounded."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.p2p.gossip import (
    ANNOUNCERS_MAX,
    ANSWER_BYTES_MAX,
    BATCH_BYTES_MAX,
    FETCH_MS_MAX,
    IN_FLIGHT_MAX,
    MENTION_MS,
    OFFERS_MAX,
    PUSH_BYTES_MAX,
    Gossip,
)
from dipnet.p2p.messages import (
    IDS_MAX,
    Announce,
    Fetch,
    Items,
    Message,
    Tips,
    Topic,
    Vertices,
    decode,
)
from dipnet.p2p.seen import Seen


def id_of(number: int) -> bytes:
    return number.to_bytes(32, "big")


def ids_of(*numbers: int) -> tuple[bytes, ...]:
    return tuple(id_of(number) for number in numbers)


def nothing(_id: bytes) -> bool:
    return False


def flushed(gossip: Gossip) -> list[tuple[str, Message]]:
    out = gossip.flush()
    assert all(protocol == "gossip" for _, protocol, _ in out)
    assert gossip.queued_bytes == 0
    assert not gossip.flush()
    return [(peer, decode(protocol, frame)) for peer, protocol, frame in out]


def joined(*peers: str) -> Gossip:
    gossip = Gossip()
    for peer in peers:
        gossip.join(peer)
    return gossip


def test_announces_once_and_not_back() -> None:
    gossip = joined("a", "b", "c")
    gossip.on_items(0, "b", Topic.TX, ids_of(2))
    gossip.announce(Topic.TX, ids_of(1, 2), except_peer="a")
    assert flushed(gossip) == [
        ("b", Announce(Topic.TX, ids_of(1))),
        ("c", Announce(Topic.TX, ids_of(1, 2))),
    ]
    gossip.announce(Topic.TX, ids_of(1, 2))
    assert flushed(gossip) == [("a", Announce(Topic.TX, ids_of(1, 2)))]


def test_blocks_are_pushed_whole_unless_large() -> None:
    gossip = joined("a", "b", "c")
    gossip.on_announce(0, "b", Topic.BLOCK, ids_of(1), lambda _: True)
    gossip.push(Topic.BLOCK, id_of(1), b"block", except_peer="c")
    gossip.push(Topic.BLOCK, id_of(2), b"x" * (PUSH_BYTES_MAX + 1), except_peer="c")
    assert flushed(gossip) == [
        ("a", Items(Topic.BLOCK, (b"block",))),
        ("a", Announce(Topic.BLOCK, ids_of(2))),
        ("b", Announce(Topic.BLOCK, ids_of(2))),
    ]


def test_lanes_leave_in_order() -> None:
    gossip = joined("a", "b")
    gossip.tips(ids_of(9))
    gossip.announce(Topic.VERTEX, ids_of(1))
    gossip.announce(Topic.TX, ids_of(2))
    gossip.push(Topic.BLOCK, id_of(3), b"block")
    out = flushed(gossip)
    assert [type(message) for _, message in out] == [
        *(Items, Items),
        *(Announce, Announce),
        *(Tips, Announce, Tips, Announce),
    ]
    assert [peer for peer, _ in out] == ["a", "b", "a", "b", "a", "a", "b", "b"]


def test_batches_are_cut() -> None:
    gossip = joined("a")
    gossip.announce(Topic.VERTEX, [id_of(n) for n in range(IDS_MAX + 1)])
    sizes = [len(m.ids) for _, m in flushed(gossip) if isinstance(m, Announce)]
    assert sizes == [IDS_MAX, 1]
    gossip.tips([id_of(n) for n in range(IDS_MAX + 5)])
    ((_, tips),) = flushed(gossip)
    assert isinstance(tips, Tips)
    assert tips.ids[0] == id_of(5)


def test_answers_are_cut_and_bounded() -> None:
    gossip = joined("a")
    half = b"v" * (BATCH_BYTES_MAX // 2)
    assert gossip.answer("a", Topic.VERTEX, [half, half, b"w"]) > BATCH_BYTES_MAX
    assert flushed(gossip) == [("a", Vertices(half * 2)), ("a", Vertices(b"w"))]
    assert gossip.answer("a", Topic.TX, [b"t"]) > 0
    assert flushed(gossip) == [("a", Items(Topic.TX, (b"t",)))]
    assert gossip.answer("stranger", Topic.TX, [b"t"]) == 0
    read = 0

    def endless() -> object:
        nonlocal read
        while True:
            read += 1
            yield b"x" * 100_000

    assert gossip.answer("a", Topic.TX, endless()) <= ANSWER_BYTES_MAX + 10_000  # type: ignore[arg-type]
    assert read <= ANSWER_BYTES_MAX // 100_000 + 1
    assert gossip.answer("a", Topic.TX, [b"x" * 100_000]) == 0
    gossip.flush()
    assert gossip.answer("a", Topic.TX, [b"x" * 100_000]) > 0


def test_one_peer_is_asked_then_the_next() -> None:
    gossip = joined("a", "b", "c")
    for peer in "abc":
        gossip.on_announce(0, peer, Topic.TX, ids_of(1), nothing)
    assert flushed(gossip) == [("a", Fetch(Topic.TX, ids_of(1)))]
    assert gossip.on_tick(FETCH_MS_MAX - 1) == {}
    assert gossip.on_tick(FETCH_MS_MAX) == {"a": 1}
    assert flushed(gossip) == [("b", Fetch(Topic.TX, ids_of(1)))]
    gossip.on_refused(FETCH_MS_MAX + 1, "b", Topic.TX, ids_of(1))
    assert flushed(gossip) == [("c", Fetch(Topic.TX, ids_of(1)))]
    assert gossip.on_tick(10 * FETCH_MS_MAX) == {"c": 1}
    assert flushed(gossip) == []
    assert gossip.wanted() == 0
    gossip.on_announce(10 * FETCH_MS_MAX, "a", Topic.TX, ids_of(1), nothing)
    assert flushed(gossip) == [("a", Fetch(Topic.TX, ids_of(1)))]


def test_known_objects_are_not_fetched() -> None:
    gossip = joined("a", "b")
    gossip.on_announce(0, "a", Topic.VERTEX, ids_of(1, 2, 1), lambda id_: id_ == id_of(2))
    assert flushed(gossip) == [("a", Fetch(Topic.VERTEX, ids_of(1)))]
    gossip.on_announce(0, "b", Topic.VERTEX, ids_of(1), nothing)
    gossip.on_items(1, "b", Topic.VERTEX, ids_of(1, 77))
    assert gossip.wanted() == 0
    assert gossip.on_tick(10**6) == {}
    assert flushed(gossip) == []


def test_a_mentioned_object_is_fetched_when_it_does_not_come() -> None:
    gossip = joined("a", "b")
    gossip.on_mention(0, "a", Topic.BLOCK, ids_of(1, 2), nothing)
    gossip.on_mention(1, "b", Topic.BLOCK, ids_of(1, 3), lambda id_: id_ == id_of(3))
    gossip.on_mention(1, "stranger", Topic.BLOCK, ids_of(1), nothing)
    assert gossip.on_tick(MENTION_MS - 1) == {}
    assert flushed(gossip) == []
    gossip.on_items(MENTION_MS - 1, "b", Topic.BLOCK, ids_of(2))
    gossip.on_tick(MENTION_MS)
    assert flushed(gossip) == [("a", Fetch(Topic.BLOCK, ids_of(1)))]
    gossip.on_refused(MENTION_MS, "a", Topic.BLOCK, ids_of(1))
    assert flushed(gossip) == [("b", Fetch(Topic.BLOCK, ids_of(1)))]
    # a peer that only mentioned the object may lack it
    gossip.push(Topic.BLOCK, id_of(1), b"block")
    assert flushed(gossip) == [(peer, Items(Topic.BLOCK, (b"block",))) for peer in "ab"]


def test_an_announced_object_is_fetched_at_once_though_it_was_mentioned() -> None:
    for announcer in "ab":
        gossip = joined("a", "b")
        gossip.on_mention(0, "a", Topic.BLOCK, ids_of(1), nothing)
        gossip.on_announce(1, announcer, Topic.BLOCK, ids_of(1), nothing)
        assert flushed(gossip) == [(announcer, Fetch(Topic.BLOCK, ids_of(1)))]
        gossip.on_tick(MENTION_MS)
        assert flushed(gossip) == []


def test_mentions_of_one_peer_are_bounded_and_released() -> None:
    gossip = joined("a")
    gossip.on_mention(0, "a", Topic.BLOCK, (id_of(n) for n in range(100_000)), nothing)
    assert gossip.wanted() == OFFERS_MAX == len(gossip._later)
    gossip.on_tick(MENTION_MS)
    ((_, fetch),) = flushed(gossip)
    assert isinstance(fetch, Fetch)
    assert len(fetch.ids) == IN_FLIGHT_MAX
    gossip.forget(MENTION_MS, "a")
    assert gossip.wanted() == 0 == len(gossip._later)


def test_refusal_by_another_peer_changes_nothing() -> None:
    gossip = joined("a", "b")
    gossip.on_announce(0, "a", Topic.TX, ids_of(1), nothing)
    gossip.on_announce(0, "b", Topic.TX, ids_of(1), nothing)
    gossip.on_refused(1, "b", Topic.TX, ids_of(1))
    gossip.on_refused(1, "b", Topic.TX, ids_of(5))
    assert flushed(gossip) == [("a", Fetch(Topic.TX, ids_of(1)))]
    assert gossip.on_tick(FETCH_MS_MAX) == {"a": 1}


def test_in_flight_is_bounded_and_refills() -> None:
    gossip = joined("a", "b")
    many = [id_of(n) for n in range(IN_FLIGHT_MAX + 10)]
    gossip.on_announce(0, "a", Topic.VERTEX, many, nothing)
    ((_, first),) = flushed(gossip)
    assert isinstance(first, Fetch)
    assert list(first.ids) == many[:IN_FLIGHT_MAX]
    # a free peer is asked for the objects that the busy peer cannot be asked for
    gossip.on_announce(1, "b", Topic.VERTEX, many[-5:], nothing)
    assert flushed(gossip) == [("b", Fetch(Topic.VERTEX, tuple(many[-5:])))]
    gossip.on_items(2, "a", Topic.VERTEX, many[:3])
    assert flushed(gossip) == [("a", Fetch(Topic.VERTEX, tuple(many[-10:-7])))]


def test_waiting_offers_are_asked_after_a_timeout() -> None:
    gossip = joined("a")
    many = [id_of(n) for n in range(2 * IN_FLIGHT_MAX)]
    gossip.on_announce(0, "a", Topic.VERTEX, many, nothing)
    gossip.flush()
    assert gossip.on_tick(FETCH_MS_MAX) == {"a": IN_FLIGHT_MAX}
    ((_, second),) = flushed(gossip)
    assert isinstance(second, Fetch)
    assert list(second.ids) == many[IN_FLIGHT_MAX:]


def test_offers_of_one_peer_are_bounded() -> None:
    gossip = joined("a", "b")
    gossip.on_announce(0, "a", Topic.TX, (id_of(n) for n in range(100_000)), nothing)
    assert gossip.wanted() == OFFERS_MAX
    gossip.on_announce(0, "b", Topic.TX, ids_of(10**6), nothing)
    assert gossip.wanted() == OFFERS_MAX + 1
    gossip.forget(1, "a")
    assert gossip.wanted() == 1


def test_announcers_of_one_id_are_bounded() -> None:
    peers = [f"p{n}" for n in range(2 * ANNOUNCERS_MAX)]
    gossip = joined(*peers)
    for peer in peers:
        gossip.on_announce(0, peer, Topic.TX, ids_of(1), nothing)
    asked: list[str] = []
    for turn in range(1, 3 * ANNOUNCERS_MAX):
        asked += gossip.on_tick(turn * FETCH_MS_MAX)
    assert asked == peers[: ANNOUNCERS_MAX + 1]
    assert gossip.wanted() == 0


def test_forget_asks_others_and_releases_all() -> None:
    gossip = joined("a", "b")
    for peer in "ab":
        gossip.on_announce(0, peer, Topic.TX, ids_of(1, 2), nothing)
    gossip.on_announce(0, "a", Topic.TX, ids_of(3), nothing)
    gossip.flush()
    gossip.forget(1, "a")
    assert flushed(gossip) == [("b", Fetch(Topic.TX, ids_of(1, 2)))]
    assert gossip.wanted() == 2
    gossip.forget(2, "b")
    gossip.forget(2, "b")
    assert (gossip.wanted(), gossip._asked, gossip._peers) == (0, {}, {})
    gossip.on_announce(3, "a", Topic.TX, ids_of(1), nothing)
    gossip.on_items(3, "a", Topic.TX, ids_of(1))
    assert (gossip.wanted(), flushed(gossip)) == (0, [])


@pytest.mark.parametrize("most", [1, 2, 10])
def test_seen_keeps_the_last_and_no_more_than_two_generations(most: int) -> None:
    seen = Seen(most)
    for number in range(100):
        seen.add(id_of(number))
        assert len(seen) <= 2 * most
        for last in range(max(0, number - most + 1), number + 1):
            assert id_of(last) in seen
    assert id_of(0) not in seen
    for _ in range(1000):
        seen.add(id_of(99))
    assert id_of(99) in seen


def test_seen_again_does_not_push_out() -> None:
    seen = Seen(4)
    for number in [1, 2, 3, 4, 4, 4, 4, 4, 4, 4]:
        seen.add(id_of(number))
    assert all(id_of(number) in seen for number in (1, 2, 3, 4))


def check(gossip: Gossip) -> None:
    """Checks the invariants that hold between any two calls."""
    in_flight = dict.fromkeys(gossip._peers, 0)
    for key, want in gossip._wants.items():
        assert want.asked or want.others
        assert want.asked not in want.others
        assert (key in gossip._asked) == bool(want.asked)
        for name in [*want.others, *([want.asked] if want.asked else [])]:
            assert key in gossip._peers[name].offers
        for name in want.others:
            waits = key in gossip._peers[name].waiting or key in gossip._later
            assert want.asked or waits
        assert not (want.asked and key in gossip._later)
        if want.asked:
            in_flight[want.asked] += 1
    assert set(gossip._later) <= set(gossip._wants)
    assert list(gossip._later.values()) == sorted(gossip._later.values())
    deadlines = [want.deadline_ms for want in gossip._asked.values()]
    assert deadlines == sorted(deadlines)
    for name, peer in gossip._peers.items():
        assert peer.in_flight == in_flight[name] <= IN_FLIGHT_MAX
        assert set(peer.waiting) <= set(peer.offers) <= set(gossip._wants)
        for key in peer.offers:
            want = gossip._wants[key]
            assert name == want.asked or name in want.others


PEERS = st.sampled_from(["a", "b", "c"])
SOME = st.lists(st.integers(0, 12).map(id_of), max_size=8)
CALLS = st.one_of(
    st.tuples(st.just("announce"), PEERS, SOME),
    st.tuples(st.just("mention"), PEERS, SOME),
    st.tuples(st.just("items"), PEERS, SOME),
    st.tuples(st.just("refused"), PEERS, SOME),
    st.tuples(st.just("tick"), st.integers(0, FETCH_MS_MAX)),
    st.tuples(st.just("join"), PEERS),
    st.tuples(st.just("forget"), PEERS),
)


@settings(max_examples=200)
@given(st.lists(CALLS, max_size=30))
def test_books_balance(calls: list[tuple[Any, ...]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dipnet.p2p.gossip.IN_FLIGHT_MAX", 3)
        patch.setattr("dipnet.p2p.gossip.OFFERS_MAX", 8)
        gossip, now_ms = joined("a", "b"), 0
        for name, *rest in calls:
            match name, rest:
                case "announce", (peer, ids):
                    gossip.on_announce(now_ms, peer, Topic.TX, ids, nothing)
                case "mention", (peer, ids):
                    gossip.on_mention(now_ms, peer, Topic.TX, ids, nothing)
                case "items", (peer, ids):
                    gossip.on_items(now_ms, peer, Topic.TX, ids)
                case "refused", (peer, ids):
                    gossip.on_refused(now_ms, peer, Topic.TX, ids)
                case "tick", (step,):
                    now_ms += int(step)
                    gossip.on_tick(now_ms)
                case "join", (peer,):
                    gossip.join(peer)
                case "forget", (peer,):
                    gossip.forget(now_ms, peer)
            check(gossip)
        for _ in range(40):
            now_ms += FETCH_MS_MAX
            gossip.on_tick(now_ms)
        assert gossip.wanted() == 0


def test_a_mentioned_object_is_not_asked_for_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy peer is asked once, as soon as it is free."""
    monkeypatch.setattr("dipnet.p2p.gossip.IN_FLIGHT_MAX", 1)
    gossip = joined("a")
    gossip.on_mention(0, "a", Topic.BLOCK, ids_of(1), nothing)
    gossip.on_announce(0, "a", Topic.BLOCK, ids_of(2, 1), nothing)
    gossip.on_items(0, "a", Topic.BLOCK, ids_of(2))
    check(gossip)
    gossip.on_tick(MENTION_MS)
    check(gossip)
    asked = [m.ids for _, m in flushed(gossip) if isinstance(m, Fetch)]
    assert asked == [ids_of(2, 1)]
