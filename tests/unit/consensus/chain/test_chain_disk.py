"""The chain and its disk: how long records are kept, and how damage is reported."""

from typing import Any

import pytest

from dipnet.consensus.chain import epochs, records
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.finality.certified import KEY_CERTIFICATE
from dipnet.consensus.finality.header import HASH_ZERO
from dipnet.consensus.finality.votes import BallotKind
from dipnet.ledger.genesis import Genesis
from dipnet.primitives.errors import Corrupt, Invalid
from tests.fixtures.chain_builder import (
    LATE_MS,
    STATE,
    Net,
    add,
    grow,
    refusal,
    spend,
    state_records,
    sustain,
    transfer,
    view,
)
from tests.fixtures.memory import Memory


def kept(memory: Memory, prefix: bytes) -> set[bytes]:
    """The last 32 bytes of all keys with this prefix, which are block hashes."""
    return {key[-32:] for key, _ in memory.scan(prefix)}


# --- while nothing is final


def test_a_deep_unfinal_chain_is_kept_whole() -> None:
    """The chain is longer than both windows; every branch above the final block can become the
    head."""
    net = Net.of(4, overlays_max=5, undo_blocks_max=6, epoch_slots=1_000, backoff_slots=1_000)
    chain, memory = net.chain()
    side = spend(net, chain, memory, chain.genesis_hash, [1, 2, 3], "user 0")
    trunk = spend(net, chain, memory, chain.genesis_hash, list(range(4, 44)), "user 1")
    assert (chain.head.height, chain.base.height, chain.final.height) == (40, 35, 0)
    every = {block.hash for block in (*side, *trunk)} | {chain.genesis_hash}
    assert kept(memory, records.KEY_DELTA) == every
    assert len(kept(memory, records.KEY_UNDO)) == 35
    assert view(Chain(net.genesis, memory), memory) == view(chain, memory)
    on_trunk = view(chain, memory)
    net.certify(chain, memory, side[-1].header, BallotKind.PREVOTE)
    assert (chain.head, chain.base.height) == (side[-1].header, 0)
    assert chain.account(transfer("user 0", 0).sender).nonce == 3
    assert state_records(memory) == state_records(net.chain()[1])
    assert view(Chain(net.genesis, memory), memory) == view(chain, memory)
    net.certify(chain, memory, trunk[0].header, BallotKind.PREVOTE)
    assert chain.safe == trunk[0].header
    assert view(chain, memory)[1:] == on_trunk[1:], "and back again"
    more = net.child(chain, side[-1].hash, 50, [transfer("user 0", 3)])
    add(chain, memory, more)
    net.certify(chain, memory, more.header)
    assert (chain.head, chain.final, chain.base) == (more.header,) * 3
    assert refusal(chain, net.child(chain, trunk[-1].hash, 51)) == "block_old"


def test_a_shallow_final_block_and_a_restart_there() -> None:
    """Blocks above a final block far below the head: all are in the tree again after a restart."""
    net = Net.of(4, overlays_max=3, undo_blocks_max=3, backoff_slots=1_000)
    chain, memory = net.chain()
    trunk = sustain(net, chain, memory, range(1, 4))
    grow(net, chain, memory, range(10, 30))
    side = grow(net, chain, memory, range(31, 34), trunk[-1].hash)
    again = Chain(net.genesis, Memory(memory))
    assert (again.head.height, again.base.height, again.final.height) == (23, 20, 3)
    for either in (chain, again):
        disk = Memory(memory)
        either._reader = disk
        net.certify(either, disk, side[-1].header, BallotKind.PREVOTE)
        assert (either.head, either.safe, either.final) == (
            side[-1].header, side[-1].header, trunk[-1].header,
        )  # fmt: skip


# --- what goes


def test_nothing_goes_from_the_final_block_upwards() -> None:
    """The chain above the final block is kept whole; below it only the window is."""
    net = Net.of(4, overlays_max=1, undo_blocks_max=1, epoch_slots=40, backoff_slots=1_000)
    chain, memory = net.chain()
    first = sustain(net, chain, memory, [1, 2])
    blocks = grow(net, chain, memory, range(3, 30))
    assert chain.final == first[1].header
    every = {block.hash for block in (first[1], *blocks)}
    assert kept(memory, records.KEY_DELTA) == every
    net.certify(chain, memory, blocks[-1].header, BallotKind.COMMIT)
    assert chain.final == chain.base == blocks[-1].header
    assert kept(memory, records.KEY_DELTA) == {block.hash for block in blocks[-2:]}
    (child,) = grow(net, chain, memory, [30])
    net.certify(chain, memory, child.header)
    assert kept(memory, records.KEY_DELTA) == {blocks[-1].hash, child.hash}
    assert kept(memory, records.KEY_UNDO) == {blocks[-1].hash, child.hash}
    assert view(Chain(net.genesis, memory), memory) == view(chain, memory)


def test_below_the_window_only_the_canonical_chain_stays() -> None:
    net = Net.of(4, overlays_max=1, undo_blocks_max=3)
    chain, memory = net.chain()
    blocks = sustain(net, chain, memory, range(1, 5))
    dead = grow(net, chain, memory, [6, 7, 30], blocks[-1].hash)
    more = grow(net, chain, memory, [8, 9], blocks[-1].hash)
    assert chain.head == dead[-1].header
    net.certify(chain, memory, more[-1].header)
    assert chain.head == more[-1].header
    later = net.child(chain, dead[-1].hash, 31)
    assert refusal(chain, later) == "block_old"
    assert refusal(chain, net.forged(later, parent=b"\x01" * 32, height=1)) == "block_old"
    assert chain.header(dead[0].hash) == dead[0].header, "in the window it may still be asked for"
    sustain(net, chain, memory, range(10, 15))
    for block in dead[:2]:
        assert chain.header(block.hash) is None
        assert chain.block(block.hash) is None
        assert chain.receipts(block.hash) is None
        assert chain.state(block.hash) is None
    assert chain.header(dead[2].hash) == dead[2].header, "its slot is not behind the window's yet"
    for either in (chain, Chain(net.genesis, memory)):
        assert either.state(dead[2].hash) is None, "a branch of which a part is gone"
        assert refusal(either, net.forged(later, height=either.head.height + 1)) == "block_old"
    assert chain.block(blocks[0].hash) == blocks[0], "canonical ones stay"
    assert chain.state(blocks[0].hash) is None
    floor = chain.final.height - 3
    expected = {chain.hash_at(height) for height in range(floor, chain.head.height + 1)}
    assert kept(memory, records.KEY_DELTA) == expected | {dead[2].hash}
    assert kept(memory, records.KEY_UNDO) == expected
    assert chain.state(chain.hash_at(floor) or b"") is not None
    assert chain.state(chain.hash_at(floor - 1) or b"") is None
    sustain(net, chain, memory, range(31, 36))
    assert chain.header(dead[2].hash) is None


def test_a_dead_branch_that_was_longer() -> None:
    """The dead branch is higher than the head: no canonical block is at the height of its
    blocks."""
    net = Net.of(4, overlays_max=1, undo_blocks_max=1, backoff_slots=1_000)
    chain, memory = net.chain()
    dead = grow(net, chain, memory, range(1, 12))
    sustained = [net.child(chain, chain.genesis_hash, 20)]
    add(chain, memory, sustained[0])
    net.certify(chain, memory, sustained[0].header)
    sustained += sustain(net, chain, memory, range(21, 24))
    assert chain.head.height == 4
    for block in dead:
        assert chain.header(block.hash) is None
        assert memory.get(records.KEY_RECEIPTS + block.hash) is None
    assert kept(memory, records.KEY_BLOCK) == {chain.genesis_hash, *(b.hash for b in sustained)}


def test_a_dead_boundary_takes_its_epoch_along() -> None:
    """The epoch of the canonical boundary stays for ever and is found without the delta."""
    net = Net.of(4, overlays_max=1, undo_blocks_max=1, epoch_slots=5)
    chain, memory = net.chain()
    trunk = sustain(net, chain, memory, range(1, 4))
    dead = grow(net, chain, memory, [5, 6], trunk[-1].hash)
    alive = grow(net, chain, memory, [7], trunk[-1].hash)
    assert dead[0].header.next_set_hash != HASH_ZERO
    assert alive[0].header.next_set_hash != HASH_ZERO
    assert {epoch.boundary.block_id for epoch in chain.epochs.numbered(1)} == {
        dead[0].hash, alive[0].hash,
    }  # fmt: skip
    net.certify(chain, memory, alive[0].header)
    sustain(net, chain, memory, range(8, 20))
    for either in (chain, Chain(net.genesis, memory)):
        assert [epoch.boundary.block_id for epoch in either.epochs.numbered(1)] == [alive[0].hash]
        low = either.need(either.hash_at(alive[0].header.height + 1) or b"")
        assert either.state(low.hash) is None
        assert either.epoch_at(low).boundary.block_id == alive[0].hash
        assert either.epoch_at(either.need(alive[0].hash)) == either.epoch_at(low)
        assert either.epoch_at(either.need(trunk[0].hash)).number == 0
    assert kept(memory, epochs.KEY_EPOCH) <= kept(memory, records.KEY_BLOCK)


def test_the_floor_of_the_window_never_sinks() -> None:
    """A reorg takes the base down, but pruned blocks stay out of reach, also after a restart."""
    net = Net.of(4, overlays_max=2, undo_blocks_max=2, backoff_slots=1_000)
    chain, memory = net.chain()
    trunk = sustain(net, chain, memory, range(1, 9))
    unfinal = grow(net, chain, memory, range(9, 15))
    floor = chain.final
    assert floor == trunk[-1].header
    assert chain.base == unfinal[3].header
    side = grow(net, chain, memory, [20], trunk[-1].hash)
    net.certify(chain, memory, side[0].header, BallotKind.PREVOTE)
    assert chain.base == trunk[-1].header, "down again"
    for either in (chain, Chain(net.genesis, memory)):
        assert either.state(floor.hash) is not None
        assert either.state(floor.parent) is None
    assert view(Chain(net.genesis, memory), memory) == view(chain, memory)


# --- disks


def test_a_fresh_disk_needs_genesis() -> None:
    net = Net.of()
    with pytest.raises(Corrupt, match="missing"):
        Chain(net.genesis, Memory())


def test_another_genesis_is_told() -> None:
    memory = Memory()
    memory.apply(Chain.genesis_puts(Net.of(slot_ms=500).genesis))
    with pytest.raises(Invalid, match=r"another genesis\.json"):
        Chain(Net.of().genesis, memory)


@pytest.fixture(scope="module")
def unfinal() -> tuple[Genesis, Memory, Chain]:
    net = Net.of(4, epoch_slots=3, overlays_max=5)
    chain, memory = net.chain()
    sustain(net, chain, memory, range(1, 5))
    spend(net, chain, memory, chain.head.hash, list(range(5, 12)), "user 0")
    assert chain.head.height - chain.base.height == 5
    assert chain.base.height - chain.final.height == 2
    return net.genesis, memory, chain


WHAT = [
    "head", "block", "base", "delta", "height", "genesis", "final", "unfinal", "epoch",
    "certificate",
]  # fmt: skip


@pytest.mark.parametrize("how", ["gone", "cut", "other"])
@pytest.mark.parametrize("what", WHAT)
def test_a_damaged_disk_is_corrupt(
    unfinal: tuple[Genesis, Memory, Chain], what: str, how: str
) -> None:
    genesis, memory, chain = unfinal
    middle = chain.need(chain.hash_at(chain.head.height - 1) or b"")
    key = {
        "head": records.KEY_HEAD,
        "block": records.KEY_BLOCK + middle.hash,
        "base": records.KEY_BLOCK + chain.base.hash,
        "delta": records.slot_prefix(middle.slot) + middle.hash,
        "height": records.height_key(middle.height),
        "genesis": records.KEY_BLOCK + chain.genesis_hash,
        "final": records.KEY_BLOCK + chain.final.hash,
        "unfinal": records.KEY_BLOCK + (chain.hash_at(chain.final.height + 1) or b""),
        "epoch": chain.epoch.key,
        "certificate": KEY_CERTIFICATE + b"\x02",
    }[what]
    damaged = Memory(memory)
    good = damaged.pop(key)
    if how == "cut":
        damaged[key] = good[: len(good) // 3]
    if how == "other":
        damaged[key] = memory[records.KEY_BLOCK + chain.head.hash]
    if what == "certificate" and how == "gone":
        return  # no other record shows that there was a certificate
    with pytest.raises(Corrupt, match="synchronise again"):
        Chain(genesis, damaged)


def test_damaged_state_is_corrupt_and_not_a_verdict(unfinal: tuple[Genesis, Memory, Chain]) -> None:
    genesis, memory, chain = unfinal
    net = Net.of(4, epoch_slots=3, overlays_max=5)
    block = net.child(chain, chain.head.hash, 13, [transfer("user 1", 0)])
    for prefix in STATE:
        damaged = Memory(memory)
        for key, value in memory.scan(prefix):
            damaged[key] = value[:-1] + bytes([value[-1] ^ 1])
        with pytest.raises(Corrupt):
            Chain(genesis, damaged).on_block(block, LATE_MS)


def test_the_epoch_of_the_heads_children_is_read_once() -> None:
    """The epoch of the head's children is in the head's delta, which may be megabytes long."""
    net = Net.of(1)
    chain, memory = net.chain()
    sustain(net, chain, memory, range(1, 5))
    read: list[bytes] = []

    class Counted(Memory):
        def get(self, key: bytes, default: object = None) -> Any:
            read.append(key)
            return super().get(key, default)

    again = Chain(net.genesis, Counted(memory))
    for _ in range(2):
        read.clear()
        assert again.epoch_of(again.head) == chain.epoch_of(chain.head)
        assert again.parameters == chain.parameters
    assert not read
