"""Blocks on the node's disk were judged before they were written and are not judged again."""

from typing import Any

import msgpack
import pytest

from dipnet.consensus.chain import block as block_module
from dipnet.consensus.chain import records
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.finality import header as header_module
from dipnet.ledger import tx
from dipnet.primitives import crypto
from dipnet.primitives.errors import Corrupt
from tests.fixtures.chain_builder import Net, add, transfer
from tests.fixtures.memory import Memory

NET = Net.of(4)
CHAIN, DISK = NET.chain()
BLOCK = NET.child(CHAIN, CHAIN.genesis_hash, 3, [transfer("user 0", nonce) for nonce in range(3)])
add(CHAIN, DISK, BLOCK)


def test_a_block_of_ours_is_not_judged_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No root is computed, no signature recovered, nothing encoded, no known header decoded."""
    chain = Chain(NET.genesis, Memory(DISK))
    work: list[str] = []

    def count(module: Any, name: str) -> None:
        call = getattr(module, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            work.append(name)
            return call(*args, **kwargs)

        monkeypatch.setattr(module, name, counted)

    for module, name in (
        (block_module, "ordered_root"), (block_module, "trie_root"), (block_module, "recover"),
        (block_module, "cert_root"), (block_module, "decode_batch"), (crypto, "recover_batch"),
        (tx, "recover_batch"), (header_module, "keccak256"), (msgpack, "packb"),
    ):  # fmt: skip
        count(module, name)
    assert chain.header(BLOCK.hash) == BLOCK.header
    work.clear()
    block = chain.need_block(BLOCK.hash)
    assert not work
    assert (block.header, block.txs, block.raw) == (BLOCK.header, BLOCK.txs, BLOCK.raw)
    assert block.signer == b""
    assert chain.need_block(BLOCK.hash) is block, "and kept"
    NET.decoded(BLOCK)
    assert {"ordered_root", "recover"} <= {*work}, "the bytes of a peer are judged"


@pytest.mark.parametrize("how", ["another header", "one sender less", "no block"])
def test_a_disk_that_contradicts_itself_is_corrupt(how: str) -> None:
    damaged = Memory(DISK)
    chain = Chain(NET.genesis, damaged)
    assert chain.header(BLOCK.hash) is not None
    key = records.KEY_BLOCK + BLOCK.hash
    match how:
        case "another header":
            damaged[key] = NET.forged(BLOCK, gas_used=1).raw
        case "one sender less":
            senders = [tx.sender for tx in BLOCK.txs[1:]]
            damaged[records.KEY_RECEIPTS + BLOCK.hash] = records.pack_receipts([], senders)
        case _:
            damaged[key] = BLOCK.raw[:-1]
    with pytest.raises(Corrupt, match="synchronise again"):
        chain.need_block(BLOCK.hash)
