"""The chain: payments, reorgs, restarts, indexes, and that the order of arrival does not matter."""

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dipnet.consensus.chain import records
from dipnet.consensus.chain.block import Block
from dipnet.consensus.chain.chain import Chain, Imported
from dipnet.consensus.finality.header import HASH_ZERO
from dipnet.consensus.finality.votes import BallotKind, Certificate
from dipnet.consensus.staking.idpos import DPOS_ADDRESS
from dipnet.ledger.state import supply
from dipnet.primitives.codec import Puts
from tests.fixtures.chain_builder import (
    ETHER,
    LATE_MS,
    STAKE,
    Net,
    add,
    address_of,
    balance,
    grow,
    learn,
    spend,
    stands,
    state_records,
    sustain,
    transfer,
    view,
)
from tests.fixtures.chain_trees import Grown, defined, deliver
from tests.fixtures.elections import Elections
from tests.fixtures.memory import Memory

# --- one delegate


def test_a_payment() -> None:
    net = Net.of(base_fee_floor=7, base_fee_initial=1_000)
    chain, memory = net.chain()
    paid = transfer("user 0", 0, address_of("shop"), 5 * ETHER, tip=3, fee=2_000)
    block = net.decoded(net.child(chain, chain.head.hash, 1, [paid]))
    imported = chain.on_block(block, LATE_MS)
    memory.apply(imported.puts)
    assert imported == Imported(imported.puts, (block,))
    price = 875 + 3  # EIP-1559: the empty genesis lowered 1,000 by an eighth
    assert block.header.base_fee == 875
    assert chain.account(address_of("shop")).balance == 5 * ETHER
    left = 1_000 * ETHER - 5 * ETHER - 21_000 * price
    assert chain.account(address_of("user 0")) == replace(
        chain.account(address_of("user 0")), nonce=1, balance=left
    )
    # The contract's balance has tips and reward, and its books give them to the proposer.
    assert chain.account(block.header.proposer).balance == 0
    assert (
        chain.account(DPOS_ADDRESS).balance
        == STAKE + net.genesis.parameters.block_reward + 21_000 * 3
    )
    # supply = genesis + minted - burned
    net.certify(chain, memory, block.header)
    assert (
        supply(memory) == net.genesis.supply() + net.genesis.parameters.block_reward - 21_000 * 875
    )
    assert chain.transaction(paid.hash) == (block.hash, 0)
    receipts = chain.receipts(block.hash)
    assert receipts is not None
    assert chain.receipts(block.hash) is receipts  # decoded once, however often it is read
    assert [(receipt.status, receipt.gas_used) for receipt in receipts] == [(1, 21_000)]
    assert chain.block(block.hash) == block
    assert chain.raw(block.hash) == block.raw
    assert Chain(net.genesis, memory).block(block.hash) == replace(block, signer=b"")


def test_what_is_certified_is_final_and_on_disk() -> None:
    net = Net.of(4)
    chain, memory = net.chain()
    blocks = sustain(net, chain, memory, range(1, 6))
    assert chain.head == chain.base == chain.final == chain.safe == blocks[-1].header
    assert [block.header.final[0] for block in blocks[1:]] == [block.hash for block in blocks[:-1]]
    assert [block.header.justify[0] for block in blocks[1:]] == [
        block.hash for block in blocks[:-1]
    ]
    assert state_records(memory) == state_records(chain.head_state)


def test_reads_of_what_is_not_there() -> None:
    net = Net.of()
    chain, _ = net.chain()
    reads: list[Any] = [chain.header, chain.block, chain.raw, chain.receipts, chain.state]
    for read in (*reads, chain.transaction):
        assert read(HASH_ZERO) is None
    assert chain.hash_at(1) is None
    assert chain.hash_at(-1) is None
    assert chain.account(b"\x77" * 20).balance == 0
    genesis = chain.block(chain.genesis_hash)
    assert genesis is not None
    assert genesis.signature == b""
    assert chain.receipts(chain.genesis_hash) == ()
    assert chain.final == chain.safe == chain.head == genesis.header
    assert chain.section(chain.head) == ()


def test_what_is_known_does_nothing() -> None:
    net = Net.of(4)
    chain, memory = net.chain()
    blocks = sustain(net, chain, memory, range(1, 4))
    before = stands(chain)
    known = [net.certificate(chain, blocks[-1].header, kind) for kind in BallotKind if kind]
    for block in blocks:
        assert chain.on_block(block, LATE_MS) == Imported({})
    for certificate in known:
        assert chain.on_certificate(certificate) == Imported({})
    assert stands(chain) == before


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


def test_a_reorg_below_the_base_and_back() -> None:
    """With ``overlays_max`` 1 nearly every block moves the base: each of these reorgs walks it
    down."""
    net = Net.of(overlays_max=1)
    chain, memory = net.chain()
    trunk = grow(net, chain, memory, range(1, 3))
    fork = chain.head
    at_fork = state_records(chain.head_state)
    left = spend(net, chain, memory, fork.hash, [3, 4, 5], "user 0")
    assert chain.base == left[1].header
    on_left = view(chain, memory)
    right = spend(net, chain, memory, fork.hash, [13, 14], "user 1")
    assert view(chain, memory) == on_left
    state = chain.state(fork.hash)
    assert state is not None
    assert state_records(state) == at_fork
    third = net.child(chain, right[-1].hash, 15, [transfer("user 0", 0), transfer("user 1", 2)])
    add(chain, memory, third)
    assert chain.head == left[-1].header, "as long, and later"
    fourth = net.child(chain, third.hash, 16)
    imported = chain.on_block(fourth, LATE_MS)
    memory.apply(imported.puts)
    assert [block.hash for block in imported.applied] == [
        block.hash for block in (*right, third, fourth)
    ]
    assert imported.reverted == tuple(tx for block in left for tx in block.txs)
    assert (chain.head, chain.base) == (fourth.header, third.header)
    for block in left:
        assert chain.transaction(block.txs[0].hash) is None
        assert memory.get(records.KEY_UNDO + block.hash) is None
        assert chain.block(block.hash) == block
    assert chain.transaction(third.txs[0].hash) == (third.hash, 0)
    fresh, disk = net.chain()
    add(fresh, disk, *trunk, *right, third, fourth)
    assert view(fresh, disk) == view(chain, memory)
    # the first branch is the head again
    back = spend(net, chain, memory, left[-1].hash, [17, 18], "user 0", 3)
    assert chain.head == back[-1].header
    assert balance(chain.head_state, address_of("user 1")) == 1_000 * ETHER


def test_a_branch_whose_root_leaves_the_chain() -> None:
    """The cached deltas of a branch are invalid once its fork point moves down."""
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


def test_a_certificate_makes_a_shorter_branch_the_head() -> None:
    """A certificate alone takes the head down: no index may keep an entry above the head."""
    net = Net.of(4)
    chain, memory = net.chain()
    long = spend(net, chain, memory, chain.genesis_hash, [1, 2, 3, 4], "user 0")
    short = net.child(chain, chain.genesis_hash, 5, [long[0].txs[0], transfer("user 1", 0)])
    add(chain, memory, short)
    assert chain.head == long[-1].header
    imported = chain.on_certificate(net.certificate(chain, short.header, BallotKind.PREVOTE))
    memory.apply(imported.puts)
    assert imported.applied == (short,)
    assert imported.reverted == tuple(tx for block in long[1:] for tx in block.txs)
    assert imported.finalized == range(1, 1)
    assert (chain.head, chain.safe) == (short.header, short.header)
    assert chain.final.height == 0
    assert chain.transaction(long[0].txs[0].hash) == (short.hash, 0)
    assert chain.hash_at(2) is None
    assert dict(memory.scan(records.KEY_HEIGHT)) == {
        records.height_key(0): chain.genesis_hash,
        records.height_key(1): short.hash,
    }
    assert view(Chain(net.genesis, memory), memory) == view(chain, memory)
    # A higher certificate makes the long branch the head for good.
    last = net.child(chain, long[-1].hash, 6)
    add(chain, memory, last)
    assert chain.head == short.header
    imported = chain.on_certificate(net.certificate(chain, last.header, BallotKind.COMMIT))
    memory.apply(imported.puts)
    assert [block.hash for block in imported.applied] == [block.hash for block in (*long, last)]
    assert imported.finalized == range(1, 6)
    assert chain.head == chain.final == chain.safe == last.header
    assert view(Chain(net.genesis, memory), memory) == view(chain, memory)


# --- trees

SHAPES: list[dict[str, Any]] = [
    {},
    {"overlays_max": 3, "undo_blocks_max": 5},
    {"overlays_max": 1, "undo_blocks_max": 1},
    {"backoff_slots": 3},
]


def planted(seed: int, patch: pytest.MonkeyPatch) -> Grown:
    """A random tree made from ``seed``: its sizes, windows, losses, and in half of them
    elections."""
    random = Random(seed)
    delegates = random.choice((1, 4, 4, 7))
    net = Net.of(delegates, epoch_slots=random.choice((3, 6, 20)), **random.choice(SHAPES))
    if random.random() < 0.5:
        names = [[f"{name} {index}" for index in range(delegates)] for name in "ab"]
        sets = [net.recruits(*some) for some in names]
        Elections(lambda _, epoch: sets[epoch % 2]).put(patch)
    silent, forks = random.choice((3, 10, 20, 35, 50)), random.choice((20, 50, 80))
    return Grown(net, seed, silent, forks).grow(range(1, 31))


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_the_order_of_arrival_does_not_matter(seed: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        grown = planted(seed, patch)
        chain = grown.chain
        other, disk = grown.net.chain()
        deliver(other, disk, grown.log, Random(seed + 1))
        assert view(other, disk) == view(chain, grown.memory)
        genesis = chain.need(chain.genesis_hash)
        # ``defined`` follows the definition and uses none of the code under test.
        expected = defined(grown.blocks, grown.certificates, genesis)
        assert [chain.head, chain.final, chain.safe] == expected


def plain(puts: Puts) -> dict[bytes, Any]:
    """Writes without the order within an undo record, which depends on the order of execution."""
    return {
        key: records.unpack_undo(value, "") if value and key[:1] == records.KEY_UNDO else value
        for key, value in puts.items()
    }


@settings(max_examples=8)
@given(st.integers(0, 10**6))
def test_a_restart_at_any_point_changes_nothing(seed: int) -> None:
    """The windows are so small that branches die, in part or whole, all the time."""
    with pytest.MonkeyPatch.context() as patch:
        grown = planted(seed, patch)
        live, memory = grown.net.chain()

        def both(call: Any) -> None:
            again = Chain(grown.net.genesis, Memory(memory))
            assert stands(again) == stands(live)
            puts = call(live).puts
            assert plain(call(again).puts) == plain(puts)
            memory.apply(puts)
            assert stands(again) == stands(live)

        for item in grown.log:
            if isinstance(item, Block):
                both(lambda chain, block=item: chain.on_block(block, LATE_MS))
            else:
                both(lambda chain, certificate=item: chain.on_certificate(certificate))
        assert view(Chain(grown.net.genesis, memory), memory) == view(live, memory)
        assert live.sets == Chain(grown.net.genesis, memory).sets


@settings(max_examples=5)
@given(st.integers(0, 10**6))
def test_the_state_of_every_block_in_reach(seed: int) -> None:
    """Compares each state with that of a chain that has only the ancestors of the block."""
    with pytest.MonkeyPatch.context() as patch:
        grown = planted(seed, patch)
        chain = grown.chain
        by_hash = {block.hash: block for block in grown.blocks}
        assert chain.state(chain.head.hash) is not None
        for block in grown.blocks:
            state = chain.state(block.hash)
            if block.header.height < chain.final.height or state is None:
                continue
            line = [block]
            while line[-1].header.parent in by_hash:
                line.append(by_hash[line[-1].header.parent])
            alone, disk = grown.net.chain()
            add(alone, disk, *line[::-1])
            assert alone.head == block.header
            assert state_records(state) == state_records(alone.head_state)


def test_certificates_may_come_first() -> None:
    """All certificates arrive before all blocks: each block finds those that wait for it."""
    net = Net.of(4, epoch_slots=4)
    told, told_memory = net.chain()
    blocks = sustain(net, told, told_memory, range(1, 12))
    chain, memory = net.chain()
    first = [
        net.certificate(told, block.header, kind)
        for block in blocks
        if block.header.epoch < 2
        for kind in (BallotKind.COMMIT, BallotKind.PREVOTE)
    ]
    late: list[Certificate] = list(told.certificates)
    learn(chain, memory, *first[::-1])
    assert stands(chain) == stands(net.chain()[0])
    for at, block in enumerate(blocks):
        imported = chain.on_block(net.decoded(block), LATE_MS)
        memory.apply(imported.puts)
        if block.header.epoch < 2:
            assert chain.final == block.header
            assert imported.finalized == range(at + 1, at + 2)
    learn(chain, memory, *late)
    assert view(chain, memory) == view(told, told_memory)
