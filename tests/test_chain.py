"""The chain: every rule with a mutant, fork choice, finality, reorgs, restarts, indexes."""

from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.codec import Reader
from dipnet.consensus import records, rules
from dipnet.consensus.block import HASH_ZERO, Block, ordered_root
from dipnet.consensus.chain import Chain
from dipnet.consensus.schedule import genesis_set, set_digest, slot_start_ms
from dipnet.crypto import sha256
from dipnet.errors import Corrupt, Invalid
from dipnet.genesis import Genesis
from dipnet.state import KEY_ACCOUNT, KEY_ACCOUNT_NODE, supply
from tests.chain_builder import (
    ETHER,
    LATE_MS,
    USERS,
    Net,
    add,
    address_of,
    balance,
    final_of,
    secret,
    transfer,
    with_fields,
)
from tests.memory import Memory

STATE = (KEY_ACCOUNT, KEY_ACCOUNT_NODE)


def grow(
    net: Net, chain: Chain, memory: Memory, slots: range, parent: bytes | None = None
) -> list[Block]:
    """Empty blocks on ``parent`` (the head) in these slots, imported."""
    blocks = []
    for slot in slots:
        block = net.child(chain, parent or chain.head.hash, slot)
        add(chain, memory, block)
        blocks.append(block)
        parent = block.hash
    return blocks


def state_records(reader: Reader) -> dict[bytes, bytes]:
    return {key: value for prefix in STATE for key, value in reader.scan(prefix)}


def view(chain: Chain, memory: Memory) -> tuple[Any, ...]:
    """All that must not depend on how a chain came to where it is."""
    heights = range(chain.head.height + 1)
    assert chain.head_state is not None
    return (
        chain.head, chain.base, chain.final,
        [chain.hash_at(height) for height in heights],
        state_records(memory),
        state_records(chain.head_state),
        dict(memory.scan(records.KEY_HEIGHT)),
        dict(memory.scan(records.KEY_TX)),
    )  # fmt: skip


def refusal(chain: Chain, block: Block, now_ms: int = LATE_MS) -> str:
    """The code that refuses ``block``; the chain must be as it was."""
    before = (chain.head, chain.base, chain.final)
    with pytest.raises(Invalid) as caught:
        chain.on_block(block, now_ms)
    assert (chain.head, chain.base, chain.final) == before
    assert chain.header(block.hash) is None
    return caught.value.code


# --- one delegate


def test_a_payment() -> None:
    net = Net.of(base_fee_floor=7, base_fee_initial=1_000)
    chain, memory = net.chain()
    paid = transfer("user 0", 0, address_of("shop"), 5 * ETHER, tip=3, fee=2_000)
    block = net.decoded(net.child(chain, chain.head.hash, 1, [paid]))
    imported = chain.on_block(block, LATE_MS)
    memory.apply(imported.puts)
    assert (imported.new_head, imported.head, imported.applied) == (True, block.header, (block,))
    assert imported.reverted == ()
    price = 875 + 3  # EIP-1559: the empty genesis lowered 1,000 by an eighth
    assert block.header.base_fee == 875
    assert chain.account(address_of("shop")).balance == 5 * ETHER
    left = 1_000 * ETHER - 5 * ETHER - 21_000 * price
    assert chain.account(address_of("user 0")) == replace(
        chain.account(address_of("user 0")), nonce=1, balance=left
    )
    proposer = chain.account(block.header.proposer)
    assert proposer.balance == net.genesis.block_reward + 21_000 * 3
    # supply = genesis + minted - burned
    assert supply(memory) == net.genesis.supply() + net.genesis.block_reward - 21_000 * 875
    assert chain.transaction(paid.hash) == (block.hash, 0)
    receipts = chain.receipts(block.hash)
    assert receipts is not None
    assert [(one.status, one.gas_used) for one in receipts] == [(1, 21_000)]
    assert chain.block(block.hash) == block
    assert chain.raw(block.hash) == block.raw
    assert Chain(net.genesis, memory).block(block.hash) == block


def test_with_one_delegate_the_head_is_final_and_on_disk() -> None:
    net = Net.of()
    chain, memory = net.chain()
    assert chain.head == chain.base == chain.final
    for block in grow(net, chain, memory, range(1, 6)):
        assert block.header.final[0] == block.header.parent
    assert chain.head == chain.base == chain.final
    assert chain.head.height == 5


def test_reads_of_what_is_not_there() -> None:
    net = Net.of()
    chain, _ = net.chain()
    for read in (chain.header, chain.block, chain.raw, chain.receipts, chain.state,
                 chain.transaction):  # fmt: skip
        assert read(HASH_ZERO) is None
    assert chain.hash_at(1) is None
    assert chain.hash_at(-1) is None
    assert chain.account(b"\x77" * 20).balance == 0
    genesis = chain.block(chain.genesis_hash)
    assert genesis is not None
    assert genesis.signature == b""
    assert chain.receipts(chain.genesis_hash) == ()


def test_a_known_block_does_nothing() -> None:
    net = Net.of()
    chain, memory = net.chain()
    blocks = grow(net, chain, memory, range(1, 4))
    for block in blocks:
        again = chain.on_block(block, LATE_MS)
        assert (again.puts, again.new_head, again.head) == ({}, False, chain.head)


# --- every rule has a mutant


NET = Net.of(4)
RULED, RULED_MEMORY = NET.chain()
grow(NET, RULED, RULED_MEMORY, range(1, 30))
VALID = NET.child(RULED, RULED.head.hash, 31, [transfer("user 0", 0), transfer("user 1", 0)])

MUTANTS: list[tuple[str, Any, str]] = [
    ("parent", b"\x01" * 32, "block_parent"),
    ("height", VALID.header.height + 1, "block_form"),
    ("height", VALID.header.height - 1, "block_form"),
    ("proposer", sorted(NET.secrets)[0], "block_leader"),
    ("proposer", sorted(NET.secrets)[1], "block_leader"),
    ("proposer", sorted(NET.secrets)[2], "block_leader"),
    ("proposer", sorted(NET.secrets)[3], "block_leader"),
    ("state_root", HASH_ZERO, "block_root"),
    ("receipt_root", HASH_ZERO, "block_root"),
    ("logs_bloom", b"\x01" * 256, "block_root"),
    ("gas_used", 41_999, "block_root"),
    ("base_fee", VALID.header.base_fee + 1, "block_form"),
    ("base_fee", VALID.header.base_fee - 1, "block_form"),
    ("justify", (VALID.header.parent, 0, 0), "block_form"),
    ("justify", (RULED.genesis_hash, 1, 0), "block_form"),
    ("justify", (RULED.genesis_hash, 0, 1), "block_form"),
    ("final", (RULED.genesis_hash, 0), "block_form"),
    ("final", (VALID.header.final[0], VALID.header.final[1] + 1), "block_form"),
    ("final", (RULED.head.hash, RULED.head.slot), "block_form"),
    ("next_set_hash", HASH_ZERO, "block_form"),
    ("next_set_hash", set_digest(2, genesis_set(NET.genesis)), "block_form"),
    ("dag_acc", b"\x01" * 32, "block_form"),
]


@pytest.mark.parametrize(("name", "value", "code"), MUTANTS, ids=lambda p: str(p)[:12])
def test_a_wrong_field_is_refused(name: str, value: Any, code: str) -> None:
    if value == VALID.header.proposer:
        pytest.skip("the leader himself")
    assert refusal(RULED, NET.forged(VALID, **{name: value})) == code


def test_every_field_has_a_mutant() -> None:
    """Those that follow from the slot alone are in test_block.py."""
    in_block = {
        "chain_id", "slot", "epoch", "timestamp_ms", "gas_limit", "cert_root", "seed_reveal",
        "seed_commitment", "dag_root", "dag_count", "dag_bytes", "tx_root",
    }  # fmt: skip
    fields = set(VALID.header.__slots__) - {"raw", "hash"}
    assert fields == in_block | {name for name, _, _ in MUTANTS}
    chain = Chain(NET.genesis, Memory(RULED_MEMORY))
    assert chain.on_block(VALID, LATE_MS).new_head, "the original is good"


def test_slots_go_up() -> None:
    head = RULED.head
    for slot in (head.slot, head.slot - 1, 0):
        late = NET.child(RULED, head.hash, slot)
        assert refusal(RULED, late) == "block_slot"


def test_a_slot_begins_before_its_block_comes() -> None:
    start_ms = slot_start_ms(NET.genesis, VALID.header.slot)
    assert refusal(RULED, VALID, start_ms - rules.CLOCK_SKEW_MS - 1) == "block_future"
    far = NET.forged(VALID, slot=2**64 - 1)
    assert refusal(RULED, far) == "block_future"
    chain = Chain(NET.genesis, Memory(RULED_MEMORY))
    assert chain.on_block(VALID, start_ms - rules.CLOCK_SKEW_MS).new_head


def bad_body(*txs: Any, **changes: Any) -> Block:
    """The valid block with another body under a header that claims it."""
    root = ordered_root([tx.raw for tx in txs])
    return NET.signed(with_fields(VALID.header, tx_root=root, **changes), txs)


def test_a_transaction_that_cannot_run_spoils_the_block() -> None:
    good = transfer("user 0", 0)
    for txs in (
        [transfer("user 0", 1)],
        [good, good],
        [transfer("user 0", 0, value=1_000 * ETHER)],
        [transfer("nobody", 0)],
        [transfer("user 0", 0, tip=1, fee=VALID.header.base_fee - 1)],
        [transfer("user 0", 0, gas=20_999)],
    ):
        assert refusal(RULED, bad_body(*txs)) == "block_tx"
    assert refusal(RULED, bad_body(good)) == "block_root"


def test_the_gas_limit_binds() -> None:
    net = Net.of(gas_limit=42_000, elasticity=2)
    chain, _ = net.chain()
    over = [transfer("user 0", 0, gas=21_000), transfer("user 1", 0, gas=21_001)]
    exact = [transfer("user 0", 0), transfer("user 1", 0)]
    block = net.child(chain, chain.head.hash, 1, exact)
    claimed = with_fields(block.header, tx_root=ordered_root([tx.raw for tx in over]))
    assert refusal(chain, net.signed(claimed, over)) == "block_tx"
    assert chain.on_block(block, LATE_MS).new_head
    assert chain.head.gas_used == 42_000


def test_a_border_block_names_the_set() -> None:
    borders = [RULED.need(RULED.hash_at(height) or b"") for height in range(RULED.head.height + 1)]
    assert [one.height for one in borders if one.next_set_hash != HASH_ZERO] == [0]
    assert VALID.header.epoch == 1
    assert VALID.header.next_set_hash == set_digest(1, genesis_set(NET.genesis))
    assert VALID.header.cert_root != HASH_ZERO
    assert VALID.header.dag_root == sha256(b"")


def test_a_slot_has_few_blocks() -> None:
    """A proposer that signs many blocks for one slot costs us a few, on each of our disks."""
    memory = Memory(RULED_MEMORY)
    chain = Chain(NET.genesis, memory)
    parents = [chain.hash_at(height) or b"" for height in range(10, chain.head.height + 1)]
    twins = [NET.child(chain, parent, 31) for parent in parents[-(rules.SLOT_BLOCKS_MAX + 1) :]]
    add(chain, memory, *twins[:-1])
    assert refusal(chain, twins[-1]) == "block_limit"
    assert refusal(Chain(NET.genesis, memory), twins[-1]) == "block_limit"
    add(chain, memory, twins[0])


# --- fork choice and finality


def test_longer_then_earlier_then_lower() -> None:
    net = Net.of(4)
    chain, memory = net.chain()
    genesis = chain.head.hash
    late = net.child(chain, genesis, 5)
    add(chain, memory, late)
    early = net.child(chain, genesis, 2)
    imported = chain.on_block(early, LATE_MS)
    memory.apply(imported.puts)
    assert imported.new_head
    assert chain.head == early.header, "of one length the earlier slot wins"
    later = net.child(chain, genesis, 6)
    add(chain, memory, later)
    assert chain.head == early.header
    longer = net.child(chain, later.hash, 7)
    add(chain, memory, longer)
    assert chain.head == longer.header, "length wins over slot"
    twins = [
        net.child(chain, longer.hash, 9),
        net.child(chain, longer.hash, 9, [transfer("user 0", 0)]),
    ]
    lower = min(twins, key=lambda block: block.hash)
    for order in (twins, twins[::-1]):
        memory_of_one = Memory(memory)
        one = Chain(net.genesis, memory_of_one)
        add(one, memory_of_one, *order)
        assert one.head == lower.header, "then the lower hash"


def test_advisory_finality_is_its_definition() -> None:
    net = Net.of(7)
    chain, memory = net.chain()
    random = Random(7)
    slot = 0
    finals = []
    for _ in range(60):
        slot += random.choice((1, 1, 1, 2, 5))
        add(chain, memory, net.child(chain, chain.head.hash, slot))
        assert chain.final == final_of(chain, chain.head)
        finals.append(chain.final.height)
    assert finals[:4] == [0, 0, 0, 0], "five of seven are needed"
    assert all(low <= high for low, high in pairwise(finals))
    assert 40 < finals[-1] < 56


def test_finality_stops_without_two_thirds_and_the_base_follows_the_limit() -> None:
    net = Net.of(4, overlays_max=5, undo_blocks_max=6, epoch_slots=1_000)
    chain, memory = net.chain()
    leads = [slot for slot in range(1, 60) if chain.schedule.leader(slot) in
             sorted(net.secrets)[:2]]  # fmt: skip
    grow(net, chain, memory, leads[:20])
    assert chain.final.height == 0
    assert chain.head.height == 20
    assert chain.base.height == 15
    again = Chain(net.genesis, memory)
    assert view(again, memory) == view(chain, memory)
    assert len([1 for _ in memory.scan(records.KEY_DELTA)]) == 12, "undo window and overlays"


# --- reorgs


def spend(net: Net, chain: Chain, memory: Memory, parent: bytes, slots: list[int], who: str,
          nonce: int = 0) -> list[Block]:  # fmt: skip
    """Blocks on ``parent``, each with a payment to an account of its own."""
    blocks = []
    for slot in slots:
        to = sha256(parent)[:20]
        block = net.child(chain, parent, slot, [transfer(who, nonce, to, 10**15)])
        add(chain, memory, block)
        blocks.append(block)
        parent, nonce = block.hash, nonce + 1
    return blocks


def test_a_reorg_above_the_base() -> None:
    net = Net.of(7)
    chain, memory = net.chain()
    trunk = grow(net, chain, memory, range(1, 4))
    left = spend(net, chain, memory, trunk[-1].hash, [4, 5], "user 0")
    before = dict(memory)
    shared = transfer("user 2", 0)
    first = net.child(chain, trunk[-1].hash, 6, [shared])
    assert not chain.on_block(first, LATE_MS).new_head
    memory.apply(chain.on_block(first, LATE_MS).puts)
    assert chain.head == left[-1].header
    assert before.items() <= memory.items()


def branches(net: Net, seed: int) -> tuple[list[Block], Chain, Memory]:
    """A tree of blocks, parents before children, grown at random on one chain."""
    random = Random(seed)
    chain, memory = net.chain()
    blocks: list[Block] = []
    known = [chain.head]
    nonces = {chain.head.hash: (0,) * len(USERS)}
    for slot in range(1, 45):
        # Mostly on the head, sometimes on something recent, so that branches overtake.
        parent = chain.head if random.random() < 0.5 else random.choice(known[-6:])
        if parent.slot >= slot or chain.state(parent.hash) is None:
            continue
        before = list(nonces[parent.hash])
        txs = []
        for _ in range(random.randrange(3)):
            who = random.randrange(len(USERS))
            to = random.choice([address_of(name) for name in USERS] + [sha256(bytes([slot]))[:20]])
            txs.append(transfer(USERS[who], before[who], to, random.randrange(3) * 10**15))
            before[who] += 1
        block = net.child(chain, parent.hash, slot, txs)
        add(chain, memory, block)
        blocks.append(block)
        known.append(block.header)
        nonces[block.hash] = tuple(before)
    return blocks, chain, memory


def topological(blocks: list[Block], random: Random) -> list[Block]:
    """The blocks in another order, parents before children."""
    waiting, done, order = list(blocks), {blocks[0].header.parent}, []
    while waiting:
        ready = [block for block in waiting if block.header.parent in done]
        chosen = random.choice(ready)
        order.append(chosen)
        done.add(chosen.hash)
        waiting.remove(chosen)
    return order


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.sampled_from([(1, 128), (4, 128), (4, 3), (7, 128), (7, 1)]))
def test_the_order_of_arrival_does_not_matter(seed: int, shape: tuple[int, int]) -> None:
    delegates, overlays_max = shape
    net = Net.of(delegates, overlays_max=overlays_max, undo_blocks_max=200, epoch_slots=9)
    blocks, chain, memory = branches(net, seed)
    expected = view(chain, memory)
    other, disk = net.chain()
    add(other, disk, *topological(blocks, Random(seed + 1)))
    assert view(other, disk) == expected
    # By definition of fork choice, whatever the machinery says.
    best = min(blocks, key=lambda b: (-b.header.height, b.header.slot, b.hash))
    assert chain.head == best.header
    assert chain.final == final_of(chain, chain.head)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from([(1, 12), (4, 2), (7, 4)]))
def test_a_restart_at_any_point_changes_nothing(seed: int, shape: tuple[int, int]) -> None:
    net = Net.of(shape[0], overlays_max=shape[1], undo_blocks_max=12, epoch_slots=9)
    blocks, _, _ = branches(net, seed)
    live, memory = net.chain()
    for block in blocks:
        again = Chain(net.genesis, Memory(memory))
        puts = live.on_block(block, LATE_MS).puts
        assert again.on_block(block, LATE_MS).puts == puts
        memory.apply(puts)
        assert (again.head, again.base, again.final) == (live.head, live.base, live.final)
        assert view(Chain(net.genesis, memory), memory) == view(live, memory)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from([(1, 128), (4, 3), (7, 128)]))
def test_the_state_of_every_block_in_reach(seed: int, shape: tuple[int, int]) -> None:
    """Against a chain that has nothing but the ancestors of the block."""
    net = Net.of(shape[0], overlays_max=shape[1], undo_blocks_max=200, epoch_slots=9)
    blocks, chain, _ = branches(net, seed)
    by_hash = {block.hash: block for block in blocks}
    for block in blocks:
        line = [block]
        while line[-1].header.parent in by_hash:
            line.append(by_hash[line[-1].header.parent])
        alone, disk = net.chain()
        add(alone, disk, *line[::-1])
        assert alone.head == block.header
        state = chain.state(block.hash)
        assert state is not None
        assert state_records(state) == state_records(alone.head_state)


def test_a_reorg_below_the_base_and_back() -> None:
    """With one delegate every block moves the base, so each of these reorgs walks it down."""
    net = Net.of()
    chain, memory = net.chain()
    trunk = grow(net, chain, memory, range(1, 3))
    fork = chain.head
    at_fork = state_records(memory)
    left = spend(net, chain, memory, fork.hash, [3, 4, 5], "user 0")
    on_left = view(chain, memory)
    right = spend(net, chain, memory, fork.hash, [13, 14], "user 1")
    assert view(chain, memory)[:6] == on_left[:6]
    state = chain.state(fork.hash)
    assert state is not None
    assert state_records(state) == at_fork
    third = net.child(chain, right[-1].hash, 15, [transfer("user 0", 0), transfer("user 1", 2)])
    assert not chain.on_block(third, LATE_MS).new_head, "as long, and later"
    add(chain, memory, third)
    fourth = net.child(chain, third.hash, 16)
    imported = chain.on_block(fourth, LATE_MS)
    memory.apply(imported.puts)
    assert [block.hash for block in imported.applied] == [
        block.hash for block in (*right, third, fourth)
    ]
    assert imported.reverted == tuple(tx for block in left for tx in block.txs)
    assert chain.head == chain.base == chain.final == fourth.header
    for block in left:
        assert chain.transaction(block.txs[0].hash) is None
        assert memory.get(records.KEY_UNDO + block.hash) is None
        assert chain.block(block.hash) == block
    assert chain.transaction(third.txs[0].hash) == (third.hash, 0)
    fresh, disk = net.chain()
    add(fresh, disk, *trunk, *right, third, fourth)
    assert view(fresh, disk) == view(chain, memory)
    # and back again
    back = spend(net, chain, memory, left[-1].hash, [17, 18], "user 0", 3)
    assert chain.head == back[-1].header
    assert balance(memory, address_of("user 1")) == 1_000 * ETHER


def test_a_transaction_in_both_branches_keeps_its_place() -> None:
    net = Net.of()
    chain, memory = net.chain()
    root = chain.head.hash
    both, only = transfer("user 0", 0), transfer("user 1", 0)
    add(chain, memory, net.child(chain, root, 1, [only, both]))
    first = net.child(chain, root, 2)
    add(chain, memory, first)
    second = net.child(chain, first.hash, 3, [both])
    imported = chain.on_block(second, LATE_MS)
    memory.apply(imported.puts)
    assert imported.reverted == (only,)
    assert chain.transaction(both.hash) == (second.hash, 0)
    assert chain.transaction(only.hash) is None


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
    assert secret("a") != secret("b")
