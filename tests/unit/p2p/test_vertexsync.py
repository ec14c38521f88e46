"""Catching up with vertices: walks of a peer's log, and audits where two logs differ for long."""

import pytest

from dipnet.p2p.blocksync import (
    TRIES_MAX,
)
from dipnet.p2p.messages import (
    GetVertices,
    Located,
    LocateVertices,
    Message,
    VertexRange,
    decode,
)
from dipnet.p2p.serve import serve_located, serve_vertices
from dipnet.p2p.vertexsync import (
    ANSWER_MS_MAX,
    AUDIT_MS,
    BEHIND_MAX,
    INSERT_MS_MAX,
    INSERTS_MAX,
    MARGIN,
    REST_MS,
    STALE_RANGES_MAX,
    UNEQUAL_MS,
    VERTICES_MAX,
    VertexSync,
)
from dipnet.primitives.errors import Invalid


def ask(sync: VertexSync, now_ms: int, sample: list[bytes] | None = None) -> tuple[str, Message]:
    ((peer, protocol, frame),) = sync.requests(now_ms, lambda: sample or [])
    return peer, decode(protocol, frame)


def vertex(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_walks_from_where_the_logs_part() -> None:
    sync, theirs = VertexSync(), [vertex(n) for n in range(10_000)]
    sync.want("a")
    ours = [vertex(n) for n in (20_000, 19_000, 5_000, 3)]
    _, locate = ask(sync, 0, ours)
    assert isinstance(locate, LocateVertices)
    index = {id_: n for n, id_ in enumerate(theirs)}
    located = decode("sync", serve_located(locate, index.get))
    assert located == Located(locate.request, 5_000)
    assert isinstance(located, Located)
    sync.on_located("a", located)
    got = b""
    for now in range(1, 100):
        if not sync.requests(now, lambda: []):
            break
        (request,) = [GetVertices(now + 1, len(got) // 32 + 5_000 - MARGIN, VERTICES_MAX)]
        raw = serve_vertices(
            request, lambda start: ((n, theirs[n]) for n in range(start, len(theirs)))
        )
        answer = decode("sync", raw)
        assert isinstance(answer, VertexRange)
        got += sync.on_range(now, "a", answer)
        sync.on_inserted(now, "a", 1)
    assert got == b"".join(theirs[5_000 - MARGIN :])
    assert not sync._walks
    assert not sync._queue


def test_empty_log_starts_at_the_start() -> None:
    sync = VertexSync()
    assert sync.requests(0, lambda: []) == []
    sync.want("a")
    assert ask(sync, 0) == ("a", GetVertices(1, 0, VERTICES_MAX))
    assert sync.on_range(1, "a", VertexRange(1, 0, True, b"")) == b""
    assert sync.requests(2, lambda: []) == []


def test_one_peer_at_a_time_and_silence_changes_peer() -> None:
    sync = VertexSync()
    for peer in "ab":
        sync.want(peer)
    assert ask(sync, 0)[0] == "a"
    assert sync.requests(1, lambda: []) == []
    assert sync.on_tick(ANSWER_MS_MAX - 1) == []
    assert sync.on_tick(ANSWER_MS_MAX) == ["a"]
    assert ask(sync, ANSWER_MS_MAX)[0] == "b"
    # all peers are silent: the walk ends
    turns, now = ["a", "b"], ANSWER_MS_MAX
    for _ in range(20):
        now += ANSWER_MS_MAX
        sync.on_tick(now)
        turns += [peer for peer, _, _ in sync.requests(now, lambda: [])]
    assert turns == ["a", "b"] * TRIES_MAX
    assert not sync._queue


def test_insertion_holds_the_walk_back() -> None:
    sync = VertexSync()
    sync.want("a")
    for turn in range(INSERTS_MAX):
        ask(sync, turn)
        sync.on_range(turn, "a", VertexRange(turn + 1, turn + 1, False, b"v"))
    assert sync.requests(9, lambda: []) == []
    sync.on_inserted(9, "a", 1)
    assert ask(sync, 9)[1] == GetVertices(INSERTS_MAX + 1, INSERTS_MAX, VERTICES_MAX)
    sync.on_range(9, "a", VertexRange(INSERTS_MAX + 1, 99, False, b"v"))
    assert sync.requests(10, lambda: []) == []
    assert sync.on_tick(9 + INSERT_MS_MAX) == []  # the node's own delay is no offence of the peer
    assert ask(sync, 9 + INSERT_MS_MAX)[0] == "a"


def test_log_without_end_or_news_is_left() -> None:
    sync, now = VertexSync(), 0
    sync.want("liar")
    while sync.requests(now, lambda: []):
        now += 1
        assert now <= STALE_RANGES_MAX
        sync.on_range(now, "liar", VertexRange(now, now * VERTICES_MAX, False, b"old"))
        sync.on_inserted(now, "liar", 0)
    assert now == STALE_RANGES_MAX


@pytest.mark.parametrize(
    ("start", "end", "ok"),
    [(299, True, False), (300, False, False), (300, True, True), (301, False, True)],
)
def test_ranges_must_lead_on(start: int, end: bool, ok: bool) -> None:
    sync = VertexSync()
    sync.want("a")
    ask(sync, 0, [vertex(1)])
    sync.on_located("a", Located(1, 300 + MARGIN))
    assert ask(sync, 0)[1] == GetVertices(2, 300, VERTICES_MAX)
    if ok:
        assert sync.on_range(0, "a", VertexRange(2, start, end, b"v")) == b"v"
    else:
        with pytest.raises(Invalid, match="goes on at"):
            sync.on_range(0, "a", VertexRange(2, start, end, b"v"))


def test_vertex_answers_out_of_turn() -> None:
    sync = VertexSync()
    with pytest.raises(Invalid, match="not asked for"):
        sync.on_range(0, "a", VertexRange(1, 1, False, b""))
    sync.want("a")
    ask(sync, 0)
    with pytest.raises(Invalid, match="another kind"):
        sync.on_located("a", Located(1, 1))
    sync.on_located("b", Located(1, 1))
    assert sync.on_range(0, "b", VertexRange(1, 1, False, b"v")) == b""
    sync.on_tick(ANSWER_MS_MAX)
    assert sync.on_range(0, "a", VertexRange(1, 1, False, b"v")) == b""
    sync.on_inserted(0, "a", 1)


def test_far_behind_walks_again_after_a_rest() -> None:
    sync = VertexSync()
    sync.on_status(0, "a", BEHIND_MAX + 5, 5)
    assert sync.requests(0, lambda: []) == []
    sync.on_status(0, "a", BEHIND_MAX + 6, 5)
    ask(sync, 0)
    sync.on_range(0, "a", VertexRange(1, 0, True, b""))
    sync.on_status(REST_MS - 1, "a", 10**9, 5)
    assert sync.requests(REST_MS - 1, lambda: []) == []
    sync.on_status(REST_MS, "a", 10**9, 5)
    assert ask(sync, REST_MS)[0] == "a"
    sync.on_range(REST_MS, "a", VertexRange(2, 0, True, b""))
    sync.on_behind(2 * REST_MS - 1, "a")
    assert sync.requests(2 * REST_MS - 1, lambda: []) == []
    sync.on_behind(2 * REST_MS, "a")
    assert ask(sync, 2 * REST_MS)[0] == "a"
    sync.forget("a")
    assert (sync._queue, sync._walks, sync._rested_ms) == ({}, {}, {})
    sync.on_inserted(0, "a", 1)


def audited(sync: VertexSync, now_ms: int, ordinal: int, next_: int) -> tuple[int, int]:
    """(start, count) that the audit asks of "a" next; a's log differs from ours from ``ordinal``
    on."""
    _, message = ask(sync, now_ms, [vertex(1)])
    assert isinstance(message, LocateVertices)
    sync.on_located("a", Located(message.request, ordinal))
    _, message = ask(sync, now_ms)
    assert isinstance(message, GetVertices)
    answer = VertexRange(message.request, next_ or message.start + message.count, not next_, b"v")
    sync.on_range(now_ms, "a", answer)
    sync.on_inserted(now_ms, "a", 0)
    return message.start, message.count


def test_long_difference_is_audited_section_by_section() -> None:
    sync, now, ordinal = VertexSync(), 0, 5_000
    sync.on_compared(now, "a", equal=False)
    sync.on_compared(UNEQUAL_MS - 1, "a", equal=False)
    assert not sync.requests(UNEQUAL_MS - 1, lambda: [vertex(1)])
    seen, now = [], UNEQUAL_MS
    for section in (MARGIN, 3 * MARGIN, 12 * MARGIN, 48 * MARGIN):
        sync.on_compared(now, "a", equal=False)
        seen.append(audited(sync, now, ordinal, 0)[0])
        now += max(REST_MS, AUDIT_MS * section)
        sync.on_compared(now - 1, "a", equal=False)
        assert not sync.requests(now - 1, lambda: [vertex(1)])
    # four times as deep each time, to the bottom, then from the end again
    assert seen == [ordinal - MARGIN, ordinal - 4 * MARGIN, ordinal - 16 * MARGIN, 0]
    sync.on_compared(now, "a", equal=False)
    assert audited(sync, now, ordinal, 0)[0] == ordinal - MARGIN


def test_an_audit_ends_where_the_last_audit_began() -> None:
    sync = VertexSync()
    for now in (0, UNEQUAL_MS):
        sync.on_compared(now, "a", equal=False)
    audited(sync, UNEQUAL_MS, 5_000, 0)
    now = UNEQUAL_MS + REST_MS
    sync.on_compared(now, "a", equal=False)
    assert audited(sync, now, 5_000, 5_000 - MARGIN) == (5_000 - 4 * MARGIN, 3 * MARGIN)
    assert not sync._walks


def test_equal_logs_are_not_audited() -> None:
    sync = VertexSync()
    sync.on_compared(0, "a", equal=False)
    sync.on_compared(UNEQUAL_MS - 1, "a", equal=True)
    sync.on_compared(UNEQUAL_MS, "a", equal=False)
    assert not sync.requests(UNEQUAL_MS, lambda: [vertex(1)])
    sync.on_compared(2 * UNEQUAL_MS, "a", equal=False)
    assert sync.requests(2 * UNEQUAL_MS, lambda: [vertex(1)])
    sync.forget("a")
    assert (sync._queue, sync._walks, sync._doubts) == ({}, {}, {})
