"""Slots, the order of leaders, and the seeds of the order."""

import hashlib
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.consensus.chain import schedule
from dipnet.consensus.chain.block import genesis_members
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.chain.schedule import (
    NO_SECRET,
    commitment,
    mixed,
    opens,
    seed,
    seed_key,
    seed_secret,
    shuffle,
    slot_at,
    slot_start_ms,
)
from dipnet.consensus.finality.header import HASH_ZERO
from dipnet.consensus.finality.votes import BallotKind
from dipnet.primitives.crypto import keccak256
from tests.fixtures.chain_builder import LATE_MS, TIME_MS, Net, add, grow, refusal, secret, sustain

NET = Net.of(5, slot_ms=3_000, epoch_slots=7)
MEMBERS = tuple(bytes([index]) * 20 for index in range(101))
HASHES = st.binary(min_size=32, max_size=32)


def test_slots_tile_time() -> None:
    parameters = NET.genesis.parameters
    assert slot_start_ms(parameters, 0) == TIME_MS
    assert slot_start_ms(parameters, 4) == TIME_MS + 12_000
    assert slot_at(parameters, TIME_MS + 12_000) == 4
    assert slot_at(parameters, TIME_MS + 11_999) == 3
    assert slot_at(parameters, TIME_MS - 1) == 0
    assert slot_at(parameters, 0) == 0


@given(st.integers(0, 10**7), st.integers(100, 60_000))
def test_a_boundary_begins_when_it_did(boundary_slot: int, slot_ms: int) -> None:
    parameters = NET.genesis.parameters
    changed = parameters.with_slot_ms(boundary_slot, slot_ms)
    assert slot_start_ms(changed, boundary_slot) == slot_start_ms(parameters, boundary_slot)
    assert (
        slot_start_ms(changed, boundary_slot + 1) - slot_start_ms(changed, boundary_slot) == slot_ms
    )
    assert parameters.with_slot_ms(boundary_slot, parameters.slot_ms) == parameters
    back = changed.with_slot_ms(boundary_slot, parameters.slot_ms)
    assert back == parameters, "there and back at one slot"


@given(HASHES, st.integers(1, 101))
def test_shuffle_is_a_permutation_that_its_text_reproduces(start: bytes, size: int) -> None:
    """The oracle reads the docstring: words of keccak(seed, counter), rejection, from the end."""
    order = shuffle(MEMBERS[:size], start)
    assert sorted(order) == sorted(MEMBERS[:size])

    def words() -> Iterator[int]:
        counter = 0
        while True:
            digest = keccak256(start + counter.to_bytes(8, "big"))
            yield from (int.from_bytes(digest[i : i + 8], "big") for i in range(0, 32, 8))
            counter += 1

    stream, expected = words(), list(MEMBERS[:size])
    for last in reversed(range(1, size)):
        pick = next(word for word in stream if word < 2**64 // (last + 1) * (last + 1))
        word = pick % (last + 1)
        expected[last], expected[word] = expected[word], expected[last]
    assert list(order) == expected


def test_a_word_past_the_last_multiple_is_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """2^64 - 1 is a multiple of 3, so only the word 2^64 - 1 is rejected for 3 choices."""
    blocks = [b"\xff" * 8 + (5).to_bytes(8, "big") + bytes(16)]
    monkeypatch.setattr(schedule, "keccak256", lambda _: blocks.pop())
    assert shuffle(MEMBERS[:3], bytes(32)) == (MEMBERS[1], MEMBERS[0], MEMBERS[2])


def test_shuffle_favours_nobody() -> None:
    """Each of the 24 orders of four in 2,400 seeds: 100 expected, 5 standard deviations allowed."""
    seeds = (hashlib.sha256(str(index).encode()).digest() for index in range(2_400))
    orders = Counter(shuffle(MEMBERS[:4], seed) for seed in seeds)
    assert len(orders) == 24
    assert all(50 <= count <= 150 for count in orders.values())


def test_only_active_delegates_lead() -> None:
    net = Net.of(5, delegates_active=3)
    first = {delegate.address for delegate in net.genesis.delegates[:3]}
    chain, _ = net.chain()
    assert set(genesis_members(net.genesis).addresses) == first
    assert sorted(chain.epoch.order) == list(chain.epoch.members.addresses) == sorted(first)


def test_the_set_digest_is_that_of_its_record() -> None:
    members = genesis_members(NET.genesis)
    assert list(members.addresses) == sorted(NET.secrets)
    body = b"".join(b"\x92\xc4\x14" + address + b"\xc4\x21" + key for address, key in members.pairs)
    record = b"\x93\x01\x05" + bytes([0x90 + len(members)]) + body
    assert members.digest(5) == keccak256(b"DIPNET/set" + record)
    assert members.digest(6) != members.digest(5)


# --- seeds


def eight(number: int) -> bytes:
    return number.to_bytes(8, "big")


@given(HASHES, HASHES, st.integers(0, 2**32))
def test_seeds_are_the_digests_of_the_specification(
    first: bytes, second: bytes, number: int
) -> None:
    assert seed(first, number) == keccak256(b"DIPNET/schedule" + first + eight(number))
    assert mixed(first, second) == keccak256(first + second)
    assert seed_key(first) == keccak256(b"DIPNET/seed-key" + first)
    assert seed_secret(first, number) == keccak256(b"DIPNET/seed" + first + eight(number))
    assert commitment(first) == keccak256(first)


def test_what_opens_a_commitment() -> None:
    hidden = seed_secret(b"\x01" * 32, 7)
    assert opens(hidden, commitment(hidden))
    assert not opens(b"\x02" * 32, commitment(hidden))
    assert not opens(NO_SECRET, commitment(hidden))
    assert opens(NO_SECRET, HASH_ZERO), "nothing was promised"
    assert not opens(hidden, HASH_ZERO), "else the first reveal would be anybody's choice"
    assert not opens(b"", HASH_ZERO)


def test_each_block_reveals_what_its_proposer_promised_last() -> None:
    net = Net.of(3)
    chain, memory = net.chain()
    promised: dict[bytes, bytes] = {}
    for slot in (1, 2, 3, 5, 6, 7, 9, 12):
        (block,) = sustain(net, chain, memory, [slot])
        header = block.header
        before = promised.get(header.proposer, HASH_ZERO)
        if before == HASH_ZERO:
            assert header.seed_reveal == NO_SECRET, "genesis holds no promises"
        else:
            assert keccak256(header.seed_reveal) == before
        key = seed_key(net.secrets[header.proposer])
        assert header.seed_commitment == commitment(seed_secret(key, slot))
        promised[header.proposer] = header.seed_commitment
    assert len(promised) == 3


def test_a_wrong_reveal_is_refused() -> None:
    net = Net.of(2)
    chain, memory = net.chain()
    first = net.child(chain, chain.genesis_hash, 1)
    for reveal in (b"\x01" * 32, seed_secret(seed_key(net.secrets[first.header.proposer]), 0)):
        assert refusal(chain, net.forged(first, seed_reveal=reveal)) == "block_seed"
    sustain(net, chain, memory, [1, 2])
    second = net.child(chain, chain.head.hash, 3)
    assert second.header.proposer == first.header.proposer
    key = seed_key(net.secrets[second.header.proposer])
    assert second.header.seed_reveal == seed_secret(key, 1)
    stranger = seed_key(secret("stranger"))
    wrong = (NO_SECRET, seed_secret(key, 3), seed_secret(key, 2), seed_secret(stranger, 1))
    for reveal in wrong:
        assert refusal(chain, net.forged(second, seed_reveal=reveal)) == "block_seed"


def test_a_promise_holds_on_its_own_branch() -> None:
    """The slot of the open commitment is that of the proposer's last block below this block."""
    net = Net.of(1)
    chain, memory = net.chain()
    trunk = grow(net, chain, memory, [1, 2, 3])
    side = net.child(chain, trunk[0].hash, 9)
    key = seed_key(net.secrets[side.header.proposer])
    assert side.header.seed_reveal == seed_secret(key, 1)
    wrong = net.forged(side, seed_reveal=seed_secret(key, 3))
    assert refusal(chain, wrong) == "block_seed"


# --- the public script


def script(chain: Chain) -> list[tuple[bytes, ...]]:
    """The order of every epoch from the headers of a chain alone, as docs/spec/consensus.md
    "Seeds and leaders" says
    it."""
    heights = range(chain.head.height + 1)
    headers = [chain.need(chain.hash_at(height) or b"") for height in heights]
    mix = {headers[0].hash: headers[0].hash}
    for header in headers[1:]:
        mix[header.hash] = keccak256(mix[header.parent] + header.seed_reveal)
    seeds = [keccak256(b"DIPNET/schedule" + headers[0].hash + eight(epoch)) for epoch in (0, 1)]
    for header in headers[1:]:
        if header.next_set_hash != bytes(32):
            epoch = header.epoch + 2
            seeds.append(keccak256(b"DIPNET/schedule" + mix[header.hash] + eight(epoch)))
    members = sorted(delegate.address for delegate in chain.genesis.delegates)
    orders = []
    for epoch_seed in seeds:
        order, counter = list(members), 0
        words: list[int] = []
        for last in reversed(range(1, len(order))):
            while not words or words[0] >= 2**64 - 2**64 % (last + 1):
                words = words[1:]
                if not words:
                    block, counter = keccak256(epoch_seed + eight(counter)), counter + 1
                    words = [int.from_bytes(block[at : at + 8], "big") for at in (0, 8, 16, 24)]
            pick, words = words[0] % (last + 1), words[1:]
            order[last], order[pick] = order[pick], order[last]
        orders.append(tuple(order))
    return orders


def test_certificates_do_not_change_the_seed_of_a_boundary() -> None:
    net = Net.of(4, epoch_slots=12)
    chain, memory = net.chain()
    sustain(net, chain, memory, range(1, 9))
    for slot in range(9, 12):
        add(chain, memory, net.child(chain, chain.head.hash, slot, section=()))
    headers = [chain.need(chain.hash_at(height) or b"") for height in range(9, 12)]
    commits = [net.certificate(chain, header, BallotKind.COMMIT) for header in headers]
    boundaries = [
        net.child(chain, headers[-1].hash, 12, section=it)
        for it in ((), *zip(commits, strict=True))
    ]
    for boundary in boundaries:
        memory.apply(chain.on_block(boundary, LATE_MS, asked=True).puts)
    assert len({boundary.header.final for boundary in boundaries}) == len(boundaries) == 4
    assert len({chain.epochs.get(1, boundary.hash).next_seed for boundary in boundaries}) == 1


def test_a_script_over_headers_gives_every_order() -> None:
    net = Net.of(7, epoch_slots=8)
    chain, memory = net.chain()
    sustain(net, chain, memory, [1, 2, 3, 4, 6, 7, 8])
    grow(net, chain, memory, [9, 10])  # the boundary is made final by a block far above
    sustain(net, chain, memory, [11, 12, 15, 16, 18, 19, 20, 23, 25, 26, 31, 40])
    orders = script(chain)
    assert len(orders) == chain.epoch.number + 2 == 6
    for height in range(1, chain.head.height + 1):
        header = chain.need(chain.hash_at(height) or b"")
        assert chain.epoch_of(header).order == orders[header.epoch]
        assert header.proposer == orders[header.epoch][header.slot % 7]
    following = shuffle(chain.epoch.next_members.addresses, chain.epoch.next_seed)
    assert following == orders[-1], "known a whole epoch ahead"
    assert len(set(orders)) > 3
