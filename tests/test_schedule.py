"""Slots, epochs and the order of leaders."""

import hashlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.consensus import schedule
from dipnet.consensus.schedule import (
    Schedule,
    epoch_of,
    genesis_set,
    set_digest,
    shuffle,
    slot_at,
    slot_start_ms,
)
from dipnet.crypto import keccak256
from tests.chain_builder import TIME_MS, Net

NET = Net.of(5, slot_ms=3_000, epoch_slots=7)
MEMBERS = tuple(bytes([index]) * 20 for index in range(101))


def test_slots_tile_time() -> None:
    genesis = NET.genesis
    assert slot_start_ms(genesis, 0) == TIME_MS
    assert slot_start_ms(genesis, 4) == TIME_MS + 12_000
    assert slot_at(genesis, TIME_MS + 12_000) == 4
    assert slot_at(genesis, TIME_MS + 11_999) == 3
    assert slot_at(genesis, TIME_MS - 1) == 0
    assert slot_at(genesis, 0) == 0
    assert [epoch_of(genesis, slot) for slot in (0, 6, 7, 13, 14)] == [0, 0, 1, 1, 2]


@given(st.binary(min_size=32, max_size=32), st.integers(1, 101))
def test_shuffle_is_a_permutation_that_its_text_reproduces(seed: bytes, size: int) -> None:
    """The oracle reads the docstring: words of keccak(seed, counter), rejection, from the end."""
    order = shuffle(MEMBERS[:size], seed)
    assert sorted(order) == sorted(MEMBERS[:size])

    def words():
        counter = 0
        while True:
            digest = keccak256(seed + counter.to_bytes(8, "big"))
            yield from (int.from_bytes(digest[i : i + 8], "big") for i in range(0, 32, 8))
            counter += 1

    stream, expected = words(), list(MEMBERS[:size])
    for last in reversed(range(1, size)):
        pick = next(word for word in stream if word < 2**64 // (last + 1) * (last + 1))
        word = pick % (last + 1)
        expected[last], expected[word] = expected[word], expected[last]
    assert list(order) == expected


def test_a_word_past_the_last_multiple_is_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """2^64 - 1 is a multiple of three: for three choices it is the one word that is unfair."""
    blocks = [b"\xff" * 8 + (5).to_bytes(8, "big") + bytes(16)]
    monkeypatch.setattr(schedule, "keccak256", lambda _: blocks.pop())
    assert shuffle(MEMBERS[:3], bytes(32)) == (MEMBERS[1], MEMBERS[0], MEMBERS[2])


def test_shuffle_favours_nobody() -> None:
    """Each of the 24 orders of four in 2,400 seeds: 100 expected, 5 standard deviations allowed."""
    seeds = (hashlib.sha256(str(index).encode()).digest() for index in range(2_400))
    orders = Counter(shuffle(MEMBERS[:4], seed) for seed in seeds)
    assert len(orders) == 24
    assert all(50 <= count <= 150 for count in orders.values())


def test_each_leads_in_turn_and_epochs_differ() -> None:
    leads = Schedule(NET.genesis, b"\x01" * 32)
    assert leads.members == tuple(sorted(NET.secrets))
    for epoch in range(4):
        order = leads.order(epoch)
        leaders = [leads.leader(epoch * 7 + index) for index in range(7)]
        assert leaders == [order[(epoch * 7 + index) % 5] for index in range(7)]
        assert set(leaders) == set(NET.secrets)
    assert len({leads.order(epoch) for epoch in range(8)}) > 1
    other = Schedule(NET.genesis, b"\x02" * 32)
    assert [other.order(e) for e in range(8)] != [leads.order(e) for e in range(8)]


def test_only_active_delegates_lead() -> None:
    net = Net.of(5, delegates_active=3)
    first = {delegate.address for delegate in net.genesis.delegates[:3]}
    leads = Schedule(net.genesis, b"\x01" * 32)
    assert set(leads.members) == first
    assert {leads.leader(slot) for slot in range(100)} == first


def test_the_set_digest_is_that_of_its_record() -> None:
    members = genesis_set(NET.genesis)
    assert [address for address, _ in members] == sorted(NET.secrets)
    body = b"".join(b"\x92\xc4\x14" + address + b"\xc4\x21" + key for address, key in members)
    record = b"\x93\x01\x05" + bytes([0x90 + len(members)]) + body
    assert set_digest(5, members) == keccak256(b"DIPNET/set" + record)
    assert set_digest(5, members[::-1]) == set_digest(5, members)
    assert set_digest(6, members) != set_digest(5, members)
