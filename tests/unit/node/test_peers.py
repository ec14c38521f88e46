"""``Peers``: which peers' clocks count, peers of another chain, redialling, peers that are
ahead."""

from dataclasses import replace
from typing import Any

import pytest

from dipnet.node.effects import Dial, Drop
from dipnet.p2p import messages as m
from dipnet.p2p.blocksync import GRACE_MS
from dipnet.p2p.book import REDIAL_LOST_MS, STOOD_MS
from dipnet.p2p.clock import SAMPLES_MAX
from dipnet.p2p.scores import BURST_BYTES, LOOKUP_BYTES, OFFENCES
from tests.fixtures.peer_ids import address, peer_id
from tests.fixtures.peers_bench import GENESIS, NOW, Bench, sent

SLOT_MS = 1_000


def status(bench: Bench, peer: str, **changes: Any) -> None:
    bench.hear(peer, replace(bench.view.standing, **changes))


def dials(bench: Bench) -> list[str]:
    return [effect.address for effect in bench.drain() if isinstance(effect, Dial)]


# --- clocks


def test_the_hello_tells_of_a_wrong_clock_already() -> None:
    bench = Bench()
    assert bench.peers.clock_offset_ms() is None
    bench.up(1, time_ms=NOW + 700)
    assert bench.peers.clock_offset_ms() == 700
    bench.up(2, time_ms=NOW + 650)
    bench.up(3, time_ms=NOW - 10**12)  # a liar
    assert bench.peers.clock_offset_ms() == 650
    (shown,) = [peer for peer in bench.peers.described(NOW) if peer["id"] == peer_id(1)]
    assert shown["clockOffsetMs"] == 700


def test_a_clock_that_is_set_right_is_believed_again() -> None:
    bench = Bench()
    peer = bench.up(1, time_ms=NOW - 5_000)
    for _ in range(SAMPLES_MAX):
        assert bench.peers.clock_offset_ms() == -5_000
        status(bench, peer, time_ms=NOW - 5_000)
    status(bench, peer, time_ms=NOW)
    assert bench.peers.clock_offset_ms() == 0


def test_inbound_peers_do_not_outvote_outbound_peers() -> None:
    bench = Bench()
    for number in range(1, 4):
        bench.up(number, outbound=True, time_ms=NOW + 10 * number)
    callers = [bench.up(number, time_ms=NOW + 9_000) for number in range(10, 30)]
    assert bench.peers.clock_offset_ms() == 20
    bench.peers.on_disconnected(bench.now_ms, peer_id(1))
    assert bench.peers.clock_offset_ms() == 9_000
    for peer in callers:
        bench.peers.on_disconnected(bench.now_ms, peer)
    assert bench.peers.clock_offset_ms() == 20  # the median of 20 and 30


# --- other final blocks


def test_a_peer_with_another_final_block_is_dropped() -> None:
    bench = Bench()
    bench.view.chain = [GENESIS, b"1" * 32, b"2" * 32]
    bench.view.standing = replace(
        bench.view.standing, head_height=2, head_hash=b"2" * 32, final_height=1,
        final_hash=b"1" * 32,
    )  # fmt: skip
    behind, ahead, conflicting = bench.up(1), bench.up(2), bench.up(3)
    status(bench, behind, final_height=0, final_hash=GENESIS)
    status(bench, ahead, final_height=5, final_hash=b"5" * 32)
    status(bench, conflicting, final_height=1, final_hash=b"x" * 32)
    assert [bench.dropped(peer) for peer in (behind, ahead, conflicting)] == [False, False, True]
    drops = [effect.reason for effect in bench.out if isinstance(effect, Drop)]
    assert "another final block at height 1" in drops[0]
    # the same in a hello
    assert bench.dropped(bench.up(4, final_height=1, final_hash=b"y" * 32))


# --- broken connections


def test_a_broken_connection_is_dialled_again_within_a_slot() -> None:
    bench = Bench(bootstrap=[address(1, "20.0.1.1")])
    bench.peers.on_slot(bench.now_ms, [], [])
    assert dials(bench) == [address(1, "20.0.1.1")]
    peer = bench.up(1, outbound=True)
    bench.pass_ms(STOOD_MS)
    bench.peers.on_disconnected(bench.now_ms, peer)
    assert dials(bench) == []
    waited = 0
    while not (again := dials(bench)):
        bench.pass_ms(100)
        waited += 100
    assert again == [address(1, "20.0.1.1")]
    assert waited <= REDIAL_LOST_MS
    bench.peers.on_dial_failed(bench.now_ms, again[0])  # the peer is being restarted
    waits = []
    for _ in range(4):
        waited = 0
        while not (again := dials(bench)):
            bench.pass_ms(100)
            waited += 100
            if waited % SLOT_MS == 0:
                bench.peers.on_slot(bench.now_ms, [], [])
        waits.append(waited // SLOT_MS)
        bench.peers.on_dial_failed(bench.now_ms, again[0])
    assert waits == [1, 2, 4, 8]


def test_a_dropped_peer_is_not_dialled_at_once() -> None:
    bench = Bench(bootstrap=[address(1, "20.0.1.1")])
    bench.peers.on_slot(bench.now_ms, [], [])
    assert dials(bench)
    peer = bench.up(1, outbound=True)
    bench.pass_ms(STOOD_MS)
    bench.peers.on_received(bench.now_ms, peer, "votes", b"garbage")
    assert bench.dropped(peer)
    bench.peers.on_disconnected(bench.now_ms, peer)
    bench.pass_ms(REDIAL_LOST_MS)
    assert dials(bench) == []
    bench.pass_ms(60_000)
    bench.peers.on_slot(bench.now_ms, [], [])
    assert dials(bench)
    # the peer is still banned: the dial has ended, and the next dial waits longer
    bench.peers.on_connected(bench.now_ms, peer, address(1, "20.0.1.1"), True)
    assert bench.dropped(peer)
    bench.pass_ms(1_000)
    bench.peers.on_slot(bench.now_ms, [], [])
    assert dials(bench) == []


def test_a_connection_without_a_hello_is_a_failed_dial() -> None:
    bench = Bench(bootstrap=[address(1, "20.0.1.1")])
    bench.peers.on_slot(bench.now_ms, [], [])
    assert dials(bench)
    bench.peers.on_connected(bench.now_ms, peer_id(1), address(1, "20.0.1.1"), True)
    bench.peers.on_disconnected(bench.now_ms, peer_id(1))
    bench.pass_ms(REDIAL_LOST_MS)
    bench.peers.on_slot(bench.now_ms, [], [])
    assert dials(bench) == []
    bench.pass_ms(1_000)
    bench.peers.on_slot(bench.now_ms, [], [])
    assert dials(bench) == [address(1, "20.0.1.1")]


# --- peers that are ahead


@pytest.mark.parametrize(
    ("height", "safe_slot", "syncing"),
    [(9, 8, (5, 9)), (3, 8, (5, 5)), (5, 7, None), (9, 6, None)],
)
def test_syncing_is_by_certificate_then_by_height(
    height: int, safe_slot: int, syncing: tuple[int, int] | None
) -> None:
    bench = Bench()
    bench.view.chain += [bytes([n]) * 32 for n in range(1, 6)]
    bench.view.standing = replace(
        bench.view.standing, head_height=5, head_hash=b"\x05" * 32, safe_slot=7
    )
    peer = bench.up(1)
    claim: dict[str, Any] = {"head_height": height, "head_hash": b"x" * 32, "safe_slot": safe_slot}
    status(bench, peer, **claim)
    bench.drain()
    bench.pass_ms(GRACE_MS)
    status(bench, peer, **claim)
    bench.drain()
    assert any(isinstance(said, m.GetBlocks) for _, said in sent(bench.out))
    assert bench.peers.syncing(bench.now_ms) == syncing


def test_looking_for_a_shared_block_is_charged_as_fetching_is() -> None:
    """Looking up blocks of branches reads the disk even where the answer is empty."""
    bench = Bench()
    honest, asking = bench.up(1), bench.up(2)
    strange = tuple(bytes([n]) * 32 for n in range(1, m.LOCATOR_MAX))
    for _ in range(BURST_BYTES // LOOKUP_BYTES[m.Topic.BLOCK] // 2):
        # the first hash is found at once
        bench.hear(honest, m.GetBlocks(1, (GENESIS, *strange), 1))
    bench.hear(asking, m.GetBlocks(1, (*strange, GENESIS), 1))
    assert bench.score(honest) == bench.score(asking) == 0
    bench.hear(asking, m.GetBlocks(2, (*strange, GENESIS), 1))
    assert bench.score(honest) == 0
    assert bench.score(asking) == OFFENCES["rate"]
