"""Points, bans and buckets, which recover with time, and the limits of connections."""

import pytest

from dipnet.p2p.connections import (
    CALL_AGAIN_MS,
    CALLERS_MAX,
    CALLS_BURST,
    OUTBOUND_RESERVED,
    PEERS_MAX,
    PEERS_PER_SITE_MAX,
    PEERS_PER_SUBNET_MAX,
    Connections,
)
from dipnet.p2p.exchange import ASK_MS, SERVE_MS, Exchange
from dipnet.p2p.scores import (
    BAN_MS_MAX,
    BAN_MS_MIN,
    BANS_MAX,
    LENIENT,
    MESSAGE_BYTES,
    OFFENCES,
    PAST_MAX,
    RECOVER_MS,
    SCORE_MIN,
    VERIFY_BURST_BYTES,
    VERIFY_BYTES_PER_S,
    Scores,
)
from dipnet.primitives.errors import Invalid
from tests.fixtures.peer_ids import address

HOST = "8.8.8.8"


def scores(*peers: str, local: bool = False) -> Scores:
    made = Scores(local, rate=1000, burst=10_000)
    for peer in peers:
        made.on_connected(0, peer)
    return made


HARD = [(offence, points) for offence, points in OFFENCES.items() if offence not in LENIENT]


@pytest.mark.parametrize(("offence", "points"), HARD)
def test_each_offence_bans_when_it_adds_up(offence: str, points: int) -> None:
    table = scores("a", "b")

    needed = -(SCORE_MIN // -points)
    for _ in range(needed - 1):
        assert not table.offend(0, "a", HOST, offence)
        assert not table.banned(0, "a", HOST)
    assert table.offend(0, "a", HOST, offence)
    assert table.banned(0, "a", "9.9.9.9")
    assert table.banned(0, "somebody", HOST)
    assert not table.banned(0, "b", "9.9.9.9")
    assert not table.banned(BAN_MS_MIN, "a", HOST)
    assert table.offend(0, "b", "9.9.9.9", offence, times=needed)


@pytest.mark.parametrize(("offence", "lowest"), LENIENT.items())
def test_what_may_be_our_own_fault_bans_nobody_alone(offence: str, lowest: int) -> None:
    table = scores("a", "b")
    assert not table.offend(0, "a", HOST, offence)
    assert table.score(0, "a") == OFFENCES[offence]
    assert not table.offend(0, "a", HOST, offence, times=10_000)
    assert table.score(0, "a") == lowest > SCORE_MIN
    assert not table.banned(0, "a", HOST)
    assert table.offend(0, "a", HOST, "invalid_block"), "it had little left"
    table.offend(0, "b", "9.9.9.9", "invalid_block")
    table.offend(0, "b", "9.9.9.9", "bad_signature")
    assert not table.offend(0, "b", "9.9.9.9", offence)
    assert table.score(0, "b") == -70, "and takes nothing from a lower score"


def test_points_heal() -> None:
    table = scores("a")
    table.offend(0, "a", HOST, "bad_signature")
    assert table.score(RECOVER_MS - 1, "a") == -20
    assert table.score(RECOVER_MS, "a") == -19
    assert table.score(RECOVER_MS + RECOVER_MS // 2, "a") == -19
    assert table.score(2 * RECOVER_MS, "a") == -18
    assert table.score(10**9, "a") == 0
    table.offend(10**9, "a", HOST, "silent")
    assert table.score(0, "a") == -1  # a clock that goes back restores nothing
    assert table.score(10**9, "a") == -1


def test_bans_double_up_to_a_day_and_are_forgiven() -> None:
    table, now, lengths = scores("a"), 0, []
    for _ in range(8):
        assert table.offend(now, "a", HOST, "malformed")
        start = now
        while table.banned(now, "a", HOST):
            now += BAN_MS_MIN
        lengths.append((now - start) // BAN_MS_MIN)
    assert lengths == [1, 2, 4, 8, 16, 24, 24, 24]
    now += BAN_MS_MAX
    table.offend(now, "a", HOST, "malformed")
    assert not table.banned(now + BAN_MS_MIN, "a", HOST)


def test_reconnecting_washes_nothing() -> None:
    table = scores("a")
    for _ in range(9):
        table.offend(0, "a", HOST, "invalid_item")
        table.forget(0, "a")
        table.on_connected(0, "a")
    assert table.score(0, "a") == -90
    table.forget(0, "a")
    assert table.offend(1, "a", "", "invalid_item")  # its frames were judged after it left
    assert table.banned(1, "a", HOST)
    assert not table.banned(1, "b", "")


def test_local_networks_ban_the_peer_only() -> None:
    table = scores("a", local=True)
    assert table.offend(0, "a", "127.0.0.1", "malformed")
    assert table.banned(0, "a", "127.0.0.1")
    assert not table.banned(0, "b", "127.0.0.1")


def test_bytes_are_limited_by_rate_and_burst() -> None:
    table = scores("a")
    for _ in range(10_000 // (488 + MESSAGE_BYTES)):
        table.on_received(0, "a", 488)
    with pytest.raises(Invalid) as refusal:
        table.on_received(0, "a", 0)
    assert refusal.value.code == "peer_limit"
    table.on_received(1, "a", 999_488)  # one message may go below zero
    with pytest.raises(Invalid):
        table.on_received(999_000, "a", 0)
    table.on_received(1_000_001, "a", 0)
    with pytest.raises(Invalid):
        table.on_received(0, "stranger", 0)


def test_answers_have_their_own_bucket() -> None:
    table = scores("a")
    assert table.may_serve(0, "a")
    table.on_served("a", 20_000)
    assert not table.may_serve(10_000, "a")
    assert table.may_serve(10_513, "a")
    table.on_received(0, "a", 1)
    assert not table.may_serve(0, "stranger")
    table.on_served("stranger", 1)


def test_verification_has_its_own_bucket() -> None:
    table = scores("a", "b")
    for _ in range(VERIFY_BURST_BYTES // (16 << 10)):
        table.on_verify(0, "a", 16 << 10)
    with pytest.raises(Invalid) as refusal:
        table.on_verify(0, "a", 1)
    assert refusal.value.code == "peer_limit"
    table.on_verify(0, "b", 1)
    table.on_received(0, "a", 1)
    with pytest.raises(Invalid):
        table.on_verify(0, "stranger", 1)
    passed = 0
    for now in range(1, 10_001):
        try:
            table.on_verify(now, "a", 1 << 10)
            passed += 1 << 10
        except Invalid:
            continue
    assert abs(passed - 10 * VERIFY_BYTES_PER_S) <= 1 << 10


def test_memory_of_scores_is_bounded_and_released() -> None:
    table = scores()
    for number in range(PAST_MAX + 50):
        peer = f"p{number}"
        table.on_connected(0, peer)
        table.offend(0, peer, f"8.{number >> 16}.{number >> 8 & 255}.{number & 255}", "silent")
        table.forget(0, peer)
    assert (table._received, table._served, table._scores) == ({}, {}, {})
    assert len(table._past) == PAST_MAX
    table.on_connected(0, "good")
    table.forget(0, "good")
    assert "good" not in table._past
    for number in range(BANS_MAX):
        table._ban(number, f"x{number}")
    table._ban(BANS_MAX, "y")
    assert len(table._bans) == BANS_MAX
    assert "y" in table._bans
    assert "x0" not in table._bans


# --- places


def test_inbound_cannot_take_the_outbound_places() -> None:
    slots = Connections(local=False)
    for number in range(PEERS_MAX - OUTBOUND_RESERVED):
        where = address(number, f"8.8.{number}.1")
        slots.admit(0, f"p{number}", where)
        slots.on_connected(f"p{number}", where, outbound=False)
    with pytest.raises(Invalid, match="inbound places"):
        slots.admit(0, "late", address(99, "9.9.9.9"))
    for number in range(OUTBOUND_RESERVED):
        slots.on_connected(f"o{number}", address(100 + number, f"9.8.{number}.1"), outbound=True)
    assert (len(slots), slots.outbound()) == (PEERS_MAX, OUTBOUND_RESERVED)
    slots.forget("p0")
    slots.admit(0, "late", address(99, "9.9.9.9"))
    with pytest.raises(Invalid, match="already"):
        slots.admit(0, "p1", address(98, "9.9.9.8"))


def test_few_from_one_network() -> None:
    slots, now = Connections(local=False), 0
    for number in range(PEERS_PER_SITE_MAX):
        now += CALL_AGAIN_MS
        slots.admit(now, f"p{number}", address(number, HOST))
        slots.on_connected(f"p{number}", address(number, HOST), outbound=False)
    assert not slots.room_for(HOST)
    with pytest.raises(Invalid, match="this network"):
        slots.admit(10**9, "third", address(3, HOST))
    for number in range(PEERS_PER_SITE_MAX, PEERS_PER_SUBNET_MAX):
        slots.admit(now, f"p{number}", address(number, f"8.8.8.{100 + number}"))
        slots.on_connected(f"p{number}", address(number, f"8.8.8.{100 + number}"), outbound=False)
    assert not slots.room_for("8.8.8.250")
    assert slots.room_for("8.8.9.99")
    assert slots.host("p0") == HOST
    assert slots.host("nobody") == ""


def test_calling_again_too_soon() -> None:
    """A peer that lost its connection may come back at once, but not again and again."""
    slots = Connections(local=False)
    for _ in range(CALLS_BURST):
        slots.admit(0, "a", address(1, HOST))
    with pytest.raises(Invalid, match="too soon"):
        slots.admit(CALL_AGAIN_MS - 1, "b", address(2, HOST))
    slots.admit(CALL_AGAIN_MS, "b", address(2, HOST))
    with pytest.raises(Invalid, match="too soon"):
        slots.admit(CALL_AGAIN_MS, "b", address(2, HOST))
    rested = (CALLS_BURST + 1) * CALL_AGAIN_MS
    for _ in range(CALLS_BURST):
        slots.admit(rested, "a", address(1, HOST))
    for number in range(CALLERS_MAX + 10):
        slots.admit(rested, "b", address(2, f"9.{number >> 8}.{number & 255}.1"))
    assert len(slots._called_ms) == CALLERS_MAX


def test_loopback_is_exempt_only_on_local_networks() -> None:
    slots = Connections(local=True)
    for number in range(20):
        slots.admit(0, f"p{number}", address(number))
        slots.on_connected(f"p{number}", address(number), outbound=False)
    assert slots.room_for("127.0.0.1")
    for number in range(20):
        slots.forget(f"p{number}")
    assert len(slots) == 0
    strict = Connections(local=False)
    for _ in range(CALLS_BURST):
        strict.admit(0, "a", address(1))
    with pytest.raises(Invalid, match="too soon"):
        strict.admit(0, "b", address(2))


# --- exchange of addresses


def test_addresses_come_when_asked_and_go_rarely() -> None:
    exchange = Exchange()
    exchange.join(5, "a")
    assert exchange.to_ask(4) == []
    assert exchange.to_ask(5) == ["a"]
    assert exchange.to_ask(4 + ASK_MS) == []
    exchange.on_peers("a")
    for peer in ("a", "b"):
        with pytest.raises(Invalid, match="not asked for"):
            exchange.on_peers(peer)
    assert exchange.to_ask(5 + ASK_MS) == ["a"]
    exchange.on_get_peers(0, "a")
    with pytest.raises(Invalid) as refusal:
        exchange.on_get_peers(SERVE_MS - 1, "a")
    assert refusal.value.code == "peer_limit"
    exchange.on_get_peers(SERVE_MS, "a")
    exchange.forget("a")
    assert (exchange._next_ask_ms, exchange._open, exchange._next_serve_ms) == ({}, {}, {})
