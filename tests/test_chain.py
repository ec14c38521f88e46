"""The chain: payments, fork choice, advisory finality, reorgs, restarts, indexes."""

from dataclasses import replace
from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.consensus import records
from dipnet.consensus.block import HASH_ZERO, Block
from dipnet.consensus.chain import Chain
from dipnet.crypto import sha256
from dipnet.state import supply
from tests.chain_builder import (
    ETHER,
    LATE_MS,
    USERS,
    Net,
    add,
    address_of,
    balance,
    final_of,
    grow,
    spend,
    state_records,
    transfer,
    view,
)
from tests.memory import Memory

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
    assert chain.receipts(block.hash) is receipts  # decoded once, however many ask
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


def test_a_reorg_above_the_base() -> None:
    net = Net.of(7)
    chain, memory = net.chain()
    trunk = grow(net, chain, memory, range(1, 4))
    left = spend(net, chain, memory, trunk[-1].hash, [4, 5], "user 0")
    before = dict(memory)
    shared = left[0].txs[0]
    first = net.child(chain, trunk[-1].hash, 6, [shared, transfer("user 2", 0)])
    add(chain, memory, first)
    assert chain.head == left[-1].header
    assert before.items() <= memory.items(), "a branch touches nothing"
    second = net.child(chain, first.hash, 7)
    add(chain, memory, second)
    assert chain.head == left[-1].header, "as long, and later"
    last = net.child(chain, second.hash, 9)
    imported = chain.on_block(last, LATE_MS)
    memory.apply(imported.puts)
    assert imported.applied == (first, second, last)
    assert imported.reverted == left[1].txs
    assert chain.base.height == 0
    assert state_records(memory) == state_records(net.chain()[1]), "the disk still has genesis"
    assert chain.transaction(shared.hash) == (first.hash, 0)
    assert chain.account(address_of("user 0")).nonce == 1
    assert chain.account(address_of("user 2")).nonce == 1


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


@settings(max_examples=20)
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


SMALL = st.sampled_from([(1, 1, 2), (4, 2, 4), (7, 4, 12), (1, 12, 12)])


@settings(max_examples=10)
@given(st.integers(0, 10**6), SMALL)
def test_a_restart_at_any_point_changes_nothing(seed: int, shape: tuple[int, int, int]) -> None:
    """Under windows so small that branches die, in part or whole, all the time."""
    delegates, overlays_max, undo_blocks_max = shape
    net = Net.of(delegates, overlays_max=overlays_max, undo_blocks_max=undo_blocks_max)
    blocks, _, _ = branches(net, seed)
    live, memory = net.chain()
    for block in blocks:
        again = Chain(net.genesis, Memory(memory))
        puts = live.on_block(block, LATE_MS).puts
        assert again.on_block(block, LATE_MS).puts == puts
        memory.apply(puts)
        assert (again.head, again.base, again.final) == (live.head, live.base, live.final)
        assert view(Chain(net.genesis, memory), memory) == view(live, memory)


@settings(max_examples=10)
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


def test_a_branch_whose_root_leaves_the_chain() -> None:
    """What is remembered of a branch since its fork is void when the fork moves down."""
    net = Net.of(7)
    chain, memory = net.chain()
    root = chain.head.hash
    trunk = spend(net, chain, memory, root, [1, 2, 3], "user 0")
    side = spend(net, chain, memory, trunk[0].hash, [11, 12], "user 1")
    assert chain.head == trunk[-1].header
    rival = grow(net, chain, memory, range(20, 24), root)
    assert chain.head == rival[-1].header
    more = spend(net, chain, memory, side[-1].hash, [31, 32], "user 0", 1)
    assert chain.head == more[-1].header
    assert chain.account(address_of("user 0")).nonce == 3
    assert chain.account(address_of("user 1")).nonce == 2


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
