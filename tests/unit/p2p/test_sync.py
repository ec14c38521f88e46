"""Catching up with blocks: it ends or changes its peer, whatever a peer claims or answers."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from dipnet.p2p.blocksync import (
    BELIEF_MS,
    BLOCKS_MAX,
    GRACE_MS,
    IMPORT_MS_MAX,
    OWED_MAX,
    PAUSE_MS,
    PEERS_ASKED_MAX,
    REQUEST_MS_MAX,
    REST_MS,
    SLOW_MS,
    STALE_ANSWERS_MAX,
    TRIES_MAX,
    BlockSync,
    Delivery,
    locator,
)
from dipnet.p2p.messages import (
    LOCATOR_MAX,
    Blocks,
    GetBlocks,
    Status,
    decode,
)
from dipnet.p2p.serve import serve_blocks
from dipnet.primitives.errors import Invalid


def hash_at(height: int) -> bytes:
    return b"h" + height.to_bytes(31, "big")


def status(height: int, branch: bytes = b"h", safe: tuple[int, int] = (0, 0)) -> Status:
    return Status(height, branch + height.to_bytes(31, "big"), 0, hash_at(0), *safe, 0, 0, 0)


def has(height: int) -> Callable[[bytes], bool]:
    """Whether a node has a hash, whose chain is ``hash_at`` up to ``height``."""
    return lambda id_: id_[:1] == b"h" and int.from_bytes(id_[1:], "big") <= height


class Sync(BlockSync):
    """``BlockSync`` on the chain of ``hash_at``; ``claims`` gives it the status of a peer."""

    def claims(self, now_ms: int, peer: str, theirs: Status, ours: int = 10) -> None:
        self.on_status(now_ms, peer, theirs, has(ours)(theirs.head_hash))

    def imported(
        self, now_ms: int, peer: str, ours: int, fresh: int, last: tuple[int, bytes]
    ) -> list[str]:
        delivery = Delivery(fresh, 0, last, led=fresh > 0, early=False)
        return self.on_imported(now_ms, peer, status(ours), delivery, has(ours))


def asked(
    sync: BlockSync, now_ms: int, height: int, safe: tuple[int, int] = (0, 0)
) -> dict[str, GetBlocks]:
    out = {}
    ours = status(height, safe=safe)
    for peer, protocol, frame in sync.requests(now_ms, ours, hash_at, has(height)):
        message = decode(protocol, frame)
        assert isinstance(message, GetBlocks)
        out[peer] = message
    return out


# --- blocks


def test_follows_a_higher_peer_until_level() -> None:
    sync, height, now = Sync(), 0, 0
    chain = [hash_at(h) for h in range(301)]
    sync.claims(now, "a", status(300))
    while requests := asked(sync, now, height):
        (request,) = requests.values()
        raw = serve_blocks(request, lambda marks: chain[chain.index(marks[0]) + 1 :])
        answer = decode("sync", raw)
        assert isinstance(answer, Blocks)
        assert asked(sync, now, height) == {}
        raws = sync.on_blocks(now, "a", answer)
        assert raws == tuple(chain[height + 1 : height + 1 + BLOCKS_MAX])
        assert asked(sync, now, height) == {}
        assert sync.syncing(now)
        height += len(raws)
        assert sync.imported(now, "a", height, len(raws), (height, chain[height])) == []
        now += 5
    assert height == 300
    assert not sync.syncing(now)


def test_only_the_first_claim_and_peers_that_deliver_are_believed() -> None:
    sync = Sync()
    sync.claims(0, "liar", status(2**60))
    assert asked(sync, 0, 5)
    assert sync.syncing(BELIEF_MS - 1)
    assert not sync.syncing(BELIEF_MS)
    sync.forget("liar")
    sync.claims(1, "liar again", status(2**60, b"x"))
    assert asked(sync, 1, 5)
    assert not sync.syncing(1)
    sync.claims(2, "honest", status(200))
    number = asked(sync, 2, 5)["honest"].request
    assert sync.on_blocks(3, "honest", Blocks(number, (b"6",), True)) == (b"6",)
    sync.imported(4, "honest", 6, 1, (6, hash_at(6)))
    assert "honest" in asked(sync, 5, 6)
    assert sync.syncing(5)
    assert not sync.syncing(4 + BELIEF_MS)


@pytest.mark.parametrize(
    ("claim", "after_ms", "asks"),
    [
        (10, 0, False),
        (9, 9999, False),
        (11, GRACE_MS - 1, False),
        (11, GRACE_MS, True),
        (12, 0, True),
    ],
)
def test_when_to_ask(claim: int, after_ms: int, asks: bool) -> None:
    sync = Sync()
    sync.claims(0, "a", status(claim))
    sync.claims(after_ms, "a", status(claim))
    assert bool(asked(sync, after_ms, 10)) is asks


def test_a_head_that_is_here_is_not_asked_for() -> None:
    sync = Sync()
    sync.on_status(0, "a", status(10**6), known=True)
    assert asked(sync, GRACE_MS, 10) == {}
    sync.on_status(GRACE_MS, "a", status(10), known=False)  # the head came since
    assert asked(sync, 2 * GRACE_MS, 10) == {}
    assert sync._peers["a"].strange_ms is None


@pytest.mark.parametrize(
    ("height", "safe", "asks"),
    [
        (10, (1, 7), True),  # another branch of the same height
        (9, (1, 7), False),
        (9, (1, 8), True),  # fewer blocks, but a higher certificate
        (3, (2, 0), True),
        (9, (1, 6), False),
        (11, (0, 0), True),  # the peer may not know our certificate yet
    ],
)
def test_another_branch_is_fetched_by_its_certificate(
    height: int, safe: tuple[int, int], asks: bool
) -> None:
    """Fork choice is not by length; gossip does not bring a head unknown for GRACE_MS."""
    sync = Sync()
    for now in range(0, GRACE_MS, 100):
        sync.claims(now, "a", status(height, bytes([now // 100]), safe))  # the peer's head moves on
        assert asked(sync, now, 10, (1, 7)) == {}
    assert bool(asked(sync, GRACE_MS, 10, (1, 7))) is asks
    sync.claims(GRACE_MS, "a", status(8))
    sync.claims(GRACE_MS, "a", status(height, b"x", safe))
    assert asked(sync, 2 * GRACE_MS - 1, 10, (1, 7)) == {}


def test_a_peer_that_promises_a_certificate_must_deliver() -> None:
    sync, now, offences = Sync(), GRACE_MS, []
    sync.claims(0, "liar", status(5, b"x", (2**64 - 1, 2**64 - 1)))
    while requests := asked(sync, now, 10):
        sync.on_blocks(now, "liar", Blocks(requests["liar"].request, (), False))
        offences += sync.imported(now, "liar", 10, 0, (0, b""))
    assert offences == ["useless"] * TRIES_MAX + ["lying"]
    assert asked(sync, now + PAUSE_MS - 1, 10) == {}


def test_a_peer_that_promises_nothing_better_is_asked_now_and_then() -> None:
    """The peer claims another head of our height each time: that is no offence and costs no
    work."""
    sync, count = Sync(), 0
    for now in range(0, 20 * REST_MS, 10):
        sync.claims(now, "odd", status(10, now.to_bytes(3, "big")))
        for request in asked(sync, now, 10).values():
            count += 1
            sync.on_blocks(now, "odd", Blocks(request.request, (), True))
            assert sync.imported(now, "odd", 10, 0, (0, b"")) == []
    assert count == 20


def test_more_for_ever_from_a_peer_that_called_ends() -> None:
    sync, answers = Sync(), 0
    sync.claims(0, "liar", status(10))
    sync.on_unknown_parent("liar")
    while requests := asked(sync, 1, 10):
        answers += 1
        sync.on_blocks(1, "liar", Blocks(requests["liar"].request, (), True))
        assert sync.imported(1, "liar", 10, 0, (0, b"")) == []
    assert answers == 1


def test_unknown_parent_asks_whatever_is_claimed_once() -> None:
    sync = Sync()
    sync.on_unknown_parent("a")
    assert asked(sync, 0, 10) == {}
    sync.claims(0, "a", status(10, b"x"))
    sync.on_unknown_parent("a")
    (request,) = asked(sync, 0, 10).values()
    sync.on_blocks(1, "a", Blocks(request.request, (b"b",), False))
    assert sync.imported(1, "a", 10, 0, (10, b"x" * 32)) == []
    assert asked(sync, 2, 10) == {}


def test_equal_heads_are_asked_once_and_different_heads_in_parallel() -> None:
    sync = Sync()
    for peer in "abcdef":
        sync.claims(0, peer, status(50))
    assert list(asked(sync, 0, 10)) == ["a"]
    for n, peer in enumerate("cdef"):
        sync.claims(0, peer, status(60 + n))
    more = asked(sync, 0, 10)
    assert list(more) == ["f", "e"]
    assert len(more) + 1 == PEERS_ASKED_MAX


def test_a_late_peer_delays_no_other_peer_with_the_same_head() -> None:
    sync = Sync()
    sync.claims(0, "a", status(9), 0)
    sync.claims(0, "b", status(9), 0)
    assert [*asked(sync, 0, 0)] == ["a"]
    assert not asked(sync, SLOW_MS - 1, 0)
    assert [*asked(sync, SLOW_MS, 0)] == ["b"]
    assert not asked(sync, SLOW_MS + 1, 0)


def test_a_silent_peer_takes_no_other_peers_turn() -> None:
    """After a partition all requests were lost, and all peers would answer now."""
    sync, owed = Sync(), 0
    for number in range(2 * OWED_MAX):
        sync.claims(0, f"{number:02}", status(50 + number), 0)
    while new := asked(sync, owed * SLOW_MS // PEERS_ASKED_MAX, 10):
        owed += len(new)
        assert len(new) <= PEERS_ASKED_MAX
    assert owed == OWED_MAX


def test_silence_changes_peer() -> None:
    sync = Sync()
    sync.claims(0, "a", status(50))
    sync.claims(0, "b", status(50))
    assert list(asked(sync, 0, 10)) == ["a"]
    assert sync.on_tick(REQUEST_MS_MAX - 1) == []
    assert sync.on_tick(REQUEST_MS_MAX) == ["a"]
    assert sync.on_tick(REQUEST_MS_MAX) == []
    assert list(asked(sync, REQUEST_MS_MAX, 10)) == ["b"]


def test_liar_is_left_alone_after_bounded_tries() -> None:
    """The liar claims a height and delivers no blocks that lead there."""
    for raws, last in [((), (0, b"")), ((b"known",), (3, hash_at(3)))]:
        sync, now, offences = Sync(), 0, []
        sync.claims(0, "liar", status(10**9))
        while requests := asked(sync, now, 10):
            sync.on_blocks(now, "liar", Blocks(requests["liar"].request, raws, False))
            offences += sync.imported(now, "liar", 10, 0, last)
            now += 1
        assert offences == ["useless"] * TRIES_MAX + ["lying"]
        assert asked(sync, now + PAUSE_MS - 2, 10) == {}
        assert list(asked(sync, now + PAUSE_MS, 10)) == ["liar"]


def test_surplus_blocks_do_not_shorten_a_pause_and_fresh_blocks_end_the_count() -> None:
    """Surplus blocks of a leader's slot are stored, but do not count as a delivery."""
    for fresh, claim, offences in [(1, 5, []), (0, 5, []), (0, 10**9, ["useless", "lying"])]:
        sync, ours, now, said = Sync(), status(10), 0, list[str]()
        for _ in range(TRIES_MAX):
            sync.claims(now, "a", replace(status(claim, b"x"), head_height=claim))
            sync.on_unknown_parent("a")
            request = asked(sync, now, 10)["a"].request
            sync.on_blocks(now, "a", Blocks(request, (b"x",), False))
            delivery = Delivery(fresh, 1, (1, b"x"), led=False, early=False)
            said = sync.on_imported(now, "a", ours, delivery, has(10))
            now += REST_MS
        assert said == offences
        sync.on_unknown_parent("a")
        paused = now - REST_MS + PAUSE_MS
        assert bool(asked(sync, paused - 1, 10)) == bool(fresh)
        assert fresh or asked(sync, paused, 10)


@pytest.mark.parametrize("ours", [10, 10_000])
def test_endless_more_of_known_blocks_ends(ours: int) -> None:
    """The peer answers ``more`` for ever, with a known block each: it is believed only for a
    time."""
    sync, now, offences, answers = Sync(), 0, [], 0
    sync.claims(0, "liar", status(10**9))
    while requests := asked(sync, now, ours):
        answers += 1
        assert answers <= STALE_ANSWERS_MAX + TRIES_MAX
        sync.on_blocks(now, "liar", Blocks(requests["liar"].request, (b"x",), True))
        height = min(ours, answers)
        offences += sync.imported(now, "liar", ours, 0, (height, hash_at(height)))
        now += 1
    assert offences[-1] == "lying"


def test_height_lowered_after_the_claim_ends_the_wait() -> None:
    """CometBFT CVE-2025-24371: a peer reports height X, then a lower height Y."""
    sync = Sync()
    sync.claims(0, "a", status(1000))
    assert list(asked(sync, 0, 10)) == ["a"]
    sync.claims(1, "a", status(5))
    assert sync.on_tick(REQUEST_MS_MAX) == ["a"]
    assert asked(sync, REQUEST_MS_MAX, 10) == {}
    assert not sync.syncing(REQUEST_MS_MAX)
    sync.claims(REQUEST_MS_MAX, "b", status(20))
    assert list(asked(sync, REQUEST_MS_MAX, 10)) == ["b"]


def served(request: GetBlocks, hashes: list[bytes]) -> Blocks:
    """The answer of a chain that has these blocks after any locator."""
    answer = decode("sync", serve_blocks(request, lambda _: hashes))
    assert isinstance(answer, Blocks)
    return answer


def test_liar_and_honest_together() -> None:
    """The highest claim is a lie, changed each slot; the honest peer still brings us home."""
    sync, height, now = Sync(), 0, 0
    chain = [hash_at(h) for h in range(1001)]
    while height < 1000:
        assert now < 60_000
        sync.claims(now, "liar", status(10**6 + now))
        sync.claims(now, "good", status(1000))
        for peer, request in asked(sync, now, height).items():
            if peer == "good":
                answer = served(request, chain[chain.index(request.locator[0]) + 1 :])
                height += len(sync.on_blocks(now, peer, answer) or ())
                sync.imported(now, peer, height, len(answer.raws), (height, chain[height]))
        sync.on_tick(now)
        now += 100


def test_peers_that_give_one_block_just_in_time_do_not_keep_the_others_from_being_asked() -> None:
    """Each answer has a new and true block, but at that pace the node would never catch up."""
    sync, height, now = Sync(), 0, 0
    chain = [hash_at(h) for h in range(1001)]
    # (request, time at which it was asked)
    liars = {f"liar {number}": (0, 0) for number in range(2 * PEERS_ASKED_MAX)}
    while height < 1000:
        assert now < 60_000
        for number, name in enumerate(liars):
            sync.claims(now, name, status(10**6, b"%d" % number), height)
            number_asked, asked_ms = liars[name]
            if number_asked and now >= asked_ms + REQUEST_MS_MAX - 200:
                told = Blocks(number_asked, (b"new",), True)
                height += len(sync.on_blocks(now, name, told) or ())
                sync.imported(now, name, height, 1, (height, chain[height]))
                liars[name] = (0, 0)
        sync.claims(now, "good", status(1000), height)
        for peer, request in asked(sync, now, height).items():
            if peer != "good":
                liars[peer] = (request.request, now)
                continue
            answer = served(request, chain[height + 1 :])
            height += len(sync.on_blocks(now, peer, answer) or ())
            sync.imported(now, peer, height, len(answer.raws), (height, chain[height]))
        sync.on_tick(now)
        now += 100


def test_side_branch_longer_than_one_answer() -> None:
    """The next locator starts at what was delivered, not at our own chain."""
    sync = Sync()
    branch = [b"s" + n.to_bytes(31, "big") for n in range(300)]
    sync.claims(0, "a", status(299, b"s"))
    request = asked(sync, 0, 200)["a"]
    assert request.locator[0] == hash_at(200)
    sync.on_blocks(0, "a", Blocks(request.request, tuple(branch[:128]), True))
    assert sync.imported(0, "a", 200, 128, (127, branch[127])) == []
    request = asked(sync, 1, 200)["a"]
    assert request.locator[:2] == (branch[127], hash_at(200))
    # the same where all blocks were stored before
    sync.on_blocks(1, "a", Blocks(request.request, tuple(branch[128:256]), True))
    assert sync.imported(1, "a", 200, 0, (255, branch[255])) == []
    assert asked(sync, 2, 200)["a"].locator[0] == branch[255]


def test_overtaken_by_gossip_is_no_lie() -> None:
    sync = Sync()
    sync.claims(0, "a", status(12))
    request = asked(sync, 0, 10)["a"]
    sync.on_blocks(1, "a", Blocks(request.request, (b"x",), False))
    sync.claims(1, "a", status(13))
    assert sync.imported(1, "a", 12, 0, (12, hash_at(12))) == []


def test_answers_out_of_turn() -> None:
    sync = Sync()
    sync.claims(0, "a", status(50))
    sync.claims(0, "b", status(50))
    for number in (0, 1):
        with pytest.raises(Invalid, match="not asked for"):
            sync.on_blocks(0, "a", Blocks(number, (), False))
    request = asked(sync, 0, 10)["a"]
    assert sync.on_blocks(0, "b", Blocks(request.request, (b"x",), False)) is None
    with pytest.raises(Invalid, match="asked for"):
        sync.on_blocks(0, "a", Blocks(request.request, (b"x",) * (BLOCKS_MAX + 1), False))
    sync.on_tick(REQUEST_MS_MAX)
    assert sync.on_blocks(REQUEST_MS_MAX, "a", Blocks(request.request, (b"x",), False)) is None
    assert sync.imported(0, "stranger", 0, 0, (0, b"")) == []


def test_import_that_is_never_reported_does_not_hang() -> None:
    sync = Sync()
    sync.claims(0, "a", status(50))
    request = asked(sync, 0, 10)["a"]
    sync.on_blocks(0, "a", Blocks(request.request, (b"x",), False))
    assert asked(sync, IMPORT_MS_MAX - 1, 10) == {}
    assert sync.on_tick(IMPORT_MS_MAX) == []
    assert list(asked(sync, IMPORT_MS_MAX, 10)) == ["a"]


def test_block_sync_forgets() -> None:
    sync = Sync()
    sync.claims(0, "a", status(50))
    asked(sync, 0, 10)
    sync.forget("a")
    assert sync._peers == {}
    assert not sync.syncing(0)


@pytest.mark.parametrize("height", [0, 1, 7, 8, 9, 1000, 10**9, 2**63])
def test_locator(height: int) -> None:
    marks = locator(height, hash_at, b"c" * 32)
    assert marks[0] == b"c" * 32
    assert marks[-1] == hash_at(0)
    assert len(marks) <= LOCATOR_MAX
    heights = [int.from_bytes(mark[1:], "big") for mark in marks[1:]]
    assert heights[0] == height
    assert heights == sorted(set(heights), reverse=True)
    assert all(
        2 * (height - b) + 16 >= height - a for a, b in zip(heights[1:-1], heights, strict=False)
    )
