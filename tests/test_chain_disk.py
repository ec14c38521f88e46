"""The chain and its disk: what is kept how long, and what a damaged one is called."""

import pytest

from dipnet.consensus import records
from dipnet.consensus.chain import Chain
from dipnet.errors import Corrupt, Invalid
from dipnet.genesis import Genesis
from tests.chain_builder import LATE_MS, STATE, Net, add, grow, refusal, spend, transfer, view
from tests.memory import Memory


def test_below_the_undo_window_nothing_forks() -> None:
    net = Net.of(overlays_max=1, undo_blocks_max=3)
    chain, memory = net.chain()
    blocks = grow(net, chain, memory, range(1, 5))
    dead = net.child(chain, blocks[1].hash, 9)
    add(chain, memory, dead)
    old = net.child(chain, blocks[0].hash, 9)
    deep = net.child(chain, dead.hash, 10)
    grow(net, chain, memory, range(5, 7))
    # the base is at 6, the window reaches down to 3
    assert refusal(chain, old) == "block_old"
    assert refusal(chain, deep) == "block_old"
    orphan = net.forged(old, parent=b"\x01" * 32)
    assert refusal(chain, orphan) == "block_old", "its ancestors need not be asked for"
    assert chain.state(blocks[2].hash) is not None
    assert chain.state(blocks[1].hash) is None
    assert refusal(chain, net.child(chain, blocks[2].hash, 3)) == "block_slot"
    at_edge = net.child(chain, blocks[2].hash, 11)
    add(chain, memory, at_edge)
    assert chain.header(dead.hash) is not None, "its slot is not behind the window's yet"
    grow(net, chain, memory, range(20, 25))
    for key in (dead.hash, at_edge.hash):
        assert chain.header(key) is None
        assert chain.block(key) is None
        assert chain.receipts(key) is None
    assert chain.block(blocks[0].hash) == blocks[0], "canonical ones stay"
    kept = [key for prefix in (records.KEY_DELTA, records.KEY_UNDO)
            for key, _ in memory.scan(prefix)]  # fmt: skip
    assert len(kept) == 4 + 4


def test_a_dead_branch_of_which_a_part_is_gone() -> None:
    """Its first block is pruned, its second has a late slot and stays for a while."""
    net = Net.of(overlays_max=1, undo_blocks_max=3)
    chain, memory = net.chain()
    blocks = grow(net, chain, memory, range(1, 5))
    first, second = grow(net, chain, memory, [5, 99], blocks[0].hash)
    third = net.child(chain, second.hash, 100)
    grow(net, chain, memory, range(6, 12), blocks[-1].hash)
    assert chain.header(first.hash) is None
    assert chain.header(second.hash) == second.header
    for one in (chain, Chain(net.genesis, memory)):
        assert one.state(second.hash) is None
        higher = net.forged(third, height=chain.head.height + 1)
        assert refusal(one, higher) == "block_old"
        assert refusal(one, third) == "block_old"


def test_the_floor_of_the_window_never_sinks() -> None:
    """A reorg takes the base down, but what was pruned stays out of reach, after a restart too."""
    net = Net.of(4, overlays_max=6, undo_blocks_max=6, epoch_slots=1_000)
    chain, memory = net.chain()
    trunk = grow(net, chain, memory, range(1, 21))
    assert chain.base.height == 17
    two = chain.schedule.order(0)[:2]
    slots = [slot for slot in range(21, 60) if chain.schedule.leader(slot) in two]
    parent = trunk[13].hash
    early = net.child(chain, trunk[10].hash, 99)
    while chain.head.slot <= 20:
        block = net.child(chain, parent, slots.pop(0))
        add(chain, memory, block)
        parent = block.hash
    assert chain.head.height == 21
    assert chain.base.height == 15 < 17
    assert chain.base.height - net.genesis.undo_blocks_max < trunk[10].header.height == 11
    for one in (chain, Chain(net.genesis, memory)):
        assert one.state(trunk[9].hash) is None
        assert one.state(trunk[10].hash) is not None
        assert one.on_block(early, LATE_MS).puts
        assert refusal(one, net.forged(early, parent=trunk[9].hash)) == "block_old"
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
    net = Net.of(4)
    chain, memory = net.chain()
    spend(net, chain, memory, chain.head.hash, list(range(1, 12)), "user 0")
    assert chain.head.height - chain.base.height >= 2
    return net.genesis, memory, chain


@pytest.mark.parametrize("how", ["gone", "cut", "other"])
@pytest.mark.parametrize("what", ["head", "block", "base", "delta", "height", "genesis"])
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
    }[what]
    damaged = Memory(memory)
    good = damaged.pop(key)
    if how == "cut":
        damaged[key] = good[: len(good) // 3]
    if how == "other" and what not in ("delta", "head"):
        damaged[key] = memory[records.KEY_BLOCK + chain.head.hash]
    with pytest.raises(Corrupt, match="synchronise again"):
        Chain(genesis, damaged)


def test_damaged_state_is_corrupt_and_not_a_verdict(unfinal: tuple[Genesis, Memory, Chain]) -> None:
    genesis, memory, chain = unfinal
    net = Net.of(4)
    block = net.child(chain, chain.head.hash, 13, [transfer("user 1", 0)])
    for prefix in STATE:
        damaged = Memory(memory)
        for key, value in memory.scan(prefix):
            damaged[key] = value[:-1] + bytes([value[-1] ^ 1])
        with pytest.raises(Corrupt):
            Chain(genesis, damaged).on_block(block, LATE_MS)


def test_the_last_proposal() -> None:
    assert records.unpack_proposed(None) == 0
    assert records.unpack_proposed(records.pack_proposed(77)) == 77
    with pytest.raises(Corrupt):
        records.unpack_proposed(b"\x92\x01")
