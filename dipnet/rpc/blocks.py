"""Ethereum's methods (execution-apis) about blocks, transactions and receipts."""

from typing import Final

from dipnet.rpc import gas, lookup
from dipnet.rpc.backend import Backend
from dipnet.rpc.block_json import (
    JsonObject,
    block_json,
    pending_block_json,
    quantity,
    receipt_json,
    receipts_json,
    tx_json,
)
from dipnet.rpc.method import Param, RpcMethod
from dipnet.rpc.params import BLOCK, BLOCK_NUMBER, FLAG, HASH, BlockRef, ByHash, between

INDEX_MAX: Final = 2**63 - 1


def get_block_by_number(backend: Backend, ref: BlockRef, full: bool) -> JsonObject | None:
    if ref == "pending":
        head = backend.chain.head
        base_fee = gas.base_fee_after(backend, head)
        slot_ms = backend.chain.parameters.slot_ms
        return pending_block_json(head, base_fee, head.timestamp_ms + slot_ms)
    header = lookup.find(backend, ref)
    return None if header is None else block_json(lookup.block(backend, header), full)


def get_block_by_hash(backend: Backend, block_hash: bytes, full: bool) -> JsonObject | None:
    return get_block_by_number(backend, ByHash(block_hash, False), full)


def get_transaction(backend: Backend, tx_hash: bytes) -> JsonObject | None:
    waiting = backend.pool.get(tx_hash)
    if waiting is not None:
        return tx_json(waiting, None, 0)
    place = lookup.place(backend, tx_hash)
    if place is None:
        return None
    block, index = place
    return tx_json(block.txs[index], block.header, index)


def get_receipt(backend: Backend, tx_hash: bytes) -> JsonObject | None:
    place = lookup.place(backend, tx_hash)
    if place is None:
        return None
    block, index = place
    receipts = lookup.receipts(backend, block.header)
    before = sum(len(receipt.logs) for receipt in receipts[:index])
    return receipt_json(block, receipts, index, before)


def get_block_receipts(backend: Backend, ref: BlockRef) -> list[JsonObject] | None:
    header = lookup.find(backend, ref)
    if header is None:
        return None
    return receipts_json(lookup.block(backend, header), lookup.receipts(backend, header))


def count_by_number(backend: Backend, ref: BlockRef) -> str | None:
    if ref == "pending":  # the pending block is shown empty
        return quantity(0)
    header = lookup.find(backend, ref)
    return None if header is None else quantity(len(lookup.block(backend, header).txs))


def count_by_hash(backend: Backend, block_hash: bytes) -> str | None:
    return count_by_number(backend, ByHash(block_hash, False))


def get_transaction_at(backend: Backend, ref: BlockRef, index: int) -> JsonObject | None:
    header = None if ref == "pending" else lookup.find(backend, ref)
    if header is None:
        return None
    txs = lookup.block(backend, header).txs
    return tx_json(txs[index], header, index) if index < len(txs) else None


def get_transaction_in(backend: Backend, block_hash: bytes, index: int) -> JsonObject | None:
    return get_transaction_at(backend, ByHash(block_hash, False), index)


_INDEX: Final = Param("index", between(0, INDEX_MAX))

METHODS: Final = (
    RpcMethod(
        "eth_getTransactionByHash",
        (Param("hash", HASH),),
        get_transaction,
        "transaction, or null",
        "A transaction on the chain, or a waiting transaction (`blockHash` is null).",
    ),
    RpcMethod(
        "eth_getTransactionReceipt",
        (Param("hash", HASH),),
        get_receipt,
        "receipt, or null while it waits",
        "The receipt of a transaction on the chain.",
    ),
    RpcMethod(
        "eth_getBlockByNumber",
        (Param("block", BLOCK_NUMBER), Param("full", FLAG, False)),
        get_block_by_number,
        "block, or null",
        "A block with the hashes of its transactions, or with the transactions if `full`. Beside "
        "Ethereum's fields it has slot, epoch, proposer, timestampMs, dagRoot and dagCount. "
        "`finalized` is the highest block that a commit certificate makes final, `safe` the "
        "highest block with a prevote certificate.",
    ),
    RpcMethod(
        "eth_getBlockByHash",
        (Param("hash", HASH), Param("full", FLAG, False)),
        get_block_by_hash,
        "block, or null",
        "A block by its hash, as in `eth_getBlockByNumber`.",
    ),
    RpcMethod(
        "eth_getBlockReceipts",
        (Param("block", BLOCK),),
        get_block_receipts,
        "array of receipts, or null",
        "The receipts of all transactions of a block.",
        ("not_canonical",),
    ),
    RpcMethod(
        "eth_getBlockTransactionCountByNumber",
        (Param("block", BLOCK_NUMBER),),
        count_by_number,
        "quantity, or null",
        "The number of transactions in a block.",
    ),
    RpcMethod(
        "eth_getBlockTransactionCountByHash",
        (Param("hash", HASH),),
        count_by_hash,
        "quantity, or null",
        "The number of transactions in a block, by the block's hash.",
    ),
    RpcMethod(
        "eth_getTransactionByBlockNumberAndIndex",
        (Param("block", BLOCK_NUMBER), _INDEX),
        get_transaction_at,
        "transaction, or null",
        "A transaction by its index in a block.",
    ),
    RpcMethod(
        "eth_getTransactionByBlockHashAndIndex",
        (Param("hash", HASH), _INDEX),
        get_transaction_in,
        "transaction, or null",
        "A transaction by its index in a block, by the block's hash.",
    ),
)
