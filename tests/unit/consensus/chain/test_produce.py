"""Making blocks: the transactions taken and left out, and that the chain accepts the block."""

import subprocess
import sys
from itertools import count

import pytest

from dipnet.consensus.chain import produce
from dipnet.consensus.chain.block import Block
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.chain.pool import Pool
from dipnet.consensus.chain.produce import BlockDraft, Turn, build, turn
from dipnet.consensus.chain.schedule import seed_key
from dipnet.ledger.state import Journal
from dipnet.ledger.tx import Tx
from dipnet.primitives.crypto import public_key, sign
from tests import ROOT
from tests.fixtures.chain_builder import ETHER, LATE_MS, USERS, Net, add, address_of, transfer
from tests.fixtures.memory import Memory
from tests.fixtures.processes import environment


def filled(chain: Chain, *txs: Tx) -> Pool:
    pool = Pool(chain.genesis.parameters)
    for tx in txs:
        account = chain.account(tx.sender)
        pool.add(tx, account.nonce, account.balance, chain.next_base_fee)
    return pool


def drafted(net: Net, chain: Chain, pool: Pool, slot: int) -> BlockDraft:
    """A draft by the leader of ``slot``, which a copy of the chain has accepted."""
    draft = build(chain, pool, *leads(net, chain, slot))
    disk = chain._reader
    assert isinstance(disk, Memory)
    copy = Chain(net.genesis, disk)
    copy.on_block(net.decoded(sealed(net, draft)), LATE_MS)
    assert copy.head == draft.header
    return draft


def leads(net: Net, chain: Chain, slot: int) -> tuple[Turn, bytes]:
    """The turn of ``slot`` on the head, and the seed key of its leader."""
    next_turn = turn(chain, slot)
    assert next_turn.leader is not None
    return next_turn, seed_key(net.secrets[next_turn.leader])


def sealed(net: Net, draft: BlockDraft) -> Block:
    """The draft, signed by its proposer."""
    key = net.secrets[draft.header.proposer]
    return draft.sealed(sign(draft.header.proposal_digest, key), public_key(key))


def test_best_first_and_the_chain_agrees() -> None:
    net = Net.of()
    chain, _ = net.chain()
    txs = [
        transfer("user 0", 0, tip=5),
        transfer("user 0", 1, tip=90),
        transfer("user 1", 0, tip=7),
        transfer("user 2", 1, tip=99),
        transfer("user 3", 0, fee=chain.next_base_fee - 1, tip=1),
    ]
    draft = drafted(net, chain, filled(chain, *txs), 1)
    assert draft.txs == (txs[2], txs[0], txs[1])
    assert draft.refused == ()
    empty = drafted(net, chain, Pool(net.genesis.parameters), 4)
    assert empty.txs == ()
    assert empty.header.gas_used == 0


def produced() -> str:
    """The hash of a block of several transactions of each user, in hex."""
    net = Net.of(3)
    chain, _ = net.chain()
    txs = [transfer(user, nonce, tip=nonce + 1) for nonce in range(3) for user in USERS]
    return drafted(net, chain, filled(chain, *txs), 2).header.hash.hex()


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_production_is_deterministic_in_another_process(hash_seed: str) -> None:
    """The order of a Python set of bytes depends on the hash seed; a block must not."""
    again = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import produced; print(produced())"],
        cwd=ROOT,
        env=environment() | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert again.stdout.strip() == produced()


def test_the_gas_limit_is_filled_and_not_passed() -> None:
    net = Net.of(gas_limit=21_000 * 5, elasticity=1)
    chain, _ = net.chain()
    large = transfer("user 3", 0, tip=10**9 + 1, gas=60_000)
    txs = [transfer(user, 0) for user in USERS]
    draft = drafted(net, chain, filled(chain, large, *(tx for tx in txs if tx.nonce == 0
                    and tx.sender != large.sender)), 1)  # fmt: skip
    assert draft.txs[0] == large
    assert draft.header.gas_used == 21_000 * 5, "what was not used went to others"


def test_a_transaction_that_does_not_fit_leaves_room_to_smaller_ones() -> None:
    net = Net.of(gas_limit=21_000 * 3, elasticity=1)
    chain, _ = net.chain()
    first = transfer("user 0", 0, tip=9)
    large = transfer("user 1", 0, tip=8, gas=50_000)
    small = transfer("user 2", 0, tip=7)
    draft = drafted(net, chain, filled(chain, first, large, small), 1)
    assert draft.txs == (first, small)
    assert draft.refused == ()


def test_the_bytes_of_a_block_are_bounded() -> None:
    net = Net.of(block_bytes_max=256 * 1024)
    chain, _ = net.chain()
    data = b"\x00" * 100_000
    txs = [
        transfer(user, 0, data=data, gas=1_100_000, tip=10**9 - index)
        for index, user in enumerate(USERS[:4])
    ]
    tiny = transfer("user 7", 0, tip=1)
    draft = drafted(net, chain, filled(chain, *txs, tiny), 1)
    assert draft.txs == (*txs[:2], tiny)


def test_a_poisoned_transaction_never_stops_production() -> None:
    """The pool has wrong nonces and balances: the transactions of bad accounts are left out."""
    net = Net.of()
    chain, memory = net.chain()
    used = transfer("user 0", 0)
    add(chain, memory, net.child(chain, chain.head.hash, 1, [used]))
    pool = Pool(net.genesis.parameters)
    stale = transfer("user 0", 0, value=5, tip=10**9 + 7)
    behind = transfer("user 0", 1)
    poor = transfer("nobody", 0, value=ETHER)
    early = transfer("user 1", 3, tip=10**9 + 9)
    good = [transfer("user 2", 0), transfer("user 3", 0)]
    for tx, nonce in ((stale, 0), (behind, 0), (poor, 0), (early, 3), *zip(good, (0, 0))):  # noqa: B905
        pool.add(tx, nonce, 10**9 * ETHER, 0)
    draft = drafted(net, chain, pool, 2)
    assert draft.txs == tuple(good)
    reasons = {tx_hash: reason.code for tx_hash, reason in draft.refused}
    assert reasons == {stale.hash: "nonce_low", poor.hash: "funds", early.hash: "nonce_high"}
    for tx_hash, _ in draft.refused:
        pool.drop(tx_hash)
    assert all(pool.get(tx.hash) is None for tx in (stale, poor, early))
    assert drafted(net, chain, pool, 3).refused == ()


def test_a_proposal_is_short_enough_for_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(produce, "PROPOSAL_TXS_MAX", 3)
    net = Net.of()
    chain, _ = net.chain()
    draft = drafted(net, chain, filled(chain, *(transfer(user, 0) for user in USERS)), 1)
    assert len(draft.txs) == 3


def test_a_chain_lives_with_its_pool() -> None:
    """Produces and imports blocks; every payment is included once, in the order of nonces."""
    net = Net.of(4, gas_limit=21_000 * 4, elasticity=2, base_fee_initial=10**6)
    chain, memory = net.chain()
    pool = Pool(net.genesis.parameters)
    shop = address_of("shop")
    sent = 0
    for nonce in range(10):
        for user in USERS[:3]:
            tx = transfer(user, nonce, shop, 10, tip=1 + nonce % 3)
            pool.add(tx, 0, 1_000 * ETHER, chain.next_base_fee)
            sent += 1
    for slot in count(1):
        draft = drafted(net, chain, pool, slot)
        imported = chain.on_block(sealed(net, draft), LATE_MS)
        memory.apply(imported.puts)
        included = [tx for block in imported.applied for tx in block.txs]
        pool.on_head(
            lambda sender: chain.account(sender).nonce,
            lambda sender: chain.account(sender).balance,
            chain.parameters,
            chain.next_base_fee,
            included,
            imported.reverted,
        )
        assert draft.header.gas_used <= net.genesis.parameters.gas_limit
        if not len(pool):
            break
    assert Journal(chain.head_state).balance(shop) == 10 * sent
    assert slot >= sent // 4
    assert chain.account(address_of("user 0")).nonce == 10
