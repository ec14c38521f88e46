"""Blocks, transactions and receipts as Ethereum's JSON, which web3.py, ethers and viem read.

Ethereum's fields are 0x quantities. Our own fields (slot, epoch, proposer, timestampMs, dagRoot,
dagCount) are plain numbers and 0x bytes beside them. ``extraData`` is empty, so clients need no
proof-of-authority middleware. The block hash is keccak256 of our own header record.
"""

from collections.abc import Sequence
from typing import Final

from dipnet.consensus.chain.block import Block
from dipnet.consensus.finality.header import Header
from dipnet.ledger.tx import DYNAMIC_FEE, LEGACY, Tx
from dipnet.primitives.codec import to_hex
from dipnet.vm.receipt import Receipt, bloom

JsonObject = dict[str, object]

NO_UNCLES: Final = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"
_HASH_ZERO: Final = to_hex(bytes(32))
_NONCE_ZERO: Final = to_hex(bytes(8))


def quantity(number: int) -> str:
    """Ethereum's 0x form of an integer."""
    return hex(number)


def header_json(header: Header) -> JsonObject:
    """The fields of a header; ``newHeads`` and ``finalizedHeads`` send the same."""
    return {
        "number": quantity(header.height),
        "hash": to_hex(header.hash),
        "parentHash": to_hex(header.parent),
        "sha3Uncles": NO_UNCLES,
        "miner": to_hex(header.proposer),
        "stateRoot": to_hex(header.state_root),
        "transactionsRoot": to_hex(header.tx_root),
        "receiptsRoot": to_hex(header.receipt_root),
        "logsBloom": to_hex(header.logs_bloom),
        "difficulty": "0x0",
        "extraData": "0x",
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp_ms // 1000),
        "baseFeePerGas": quantity(header.base_fee),
        "mixHash": _HASH_ZERO,
        "nonce": _NONCE_ZERO,
        "slot": header.slot,
        "epoch": header.epoch,
        "proposer": to_hex(header.proposer),
        "timestampMs": header.timestamp_ms,
        "dagRoot": to_hex(header.dag_root),
        "dagCount": header.dag_count,
    }


def block_json(block: Block, full: bool) -> JsonObject:
    """A block with the hashes of its transactions, or with the transactions if ``full``."""
    txs: list[object]
    if full:
        txs = [tx_json(tx, block.header, index) for index, tx in enumerate(block.txs)]
    else:
        txs = [to_hex(tx.hash) for tx in block.txs]
    return header_json(block.header) | {
        "size": quantity(len(block.raw)),
        "totalDifficulty": "0x0",
        "uncles": [],
        "transactions": txs,
    }


def pending_block_json(head: Header, base_fee: int, timestamp_ms: int) -> JsonObject:
    """The block after ``head`` as far as it is known: no hash, proposer or transactions yet."""
    return header_json(head) | {
        "number": quantity(head.height + 1),
        "hash": None,
        "parentHash": to_hex(head.hash),
        "miner": None,
        "logsBloom": None,
        "nonce": None,
        "gasUsed": "0x0",
        "timestamp": quantity(timestamp_ms // 1000),
        "baseFeePerGas": quantity(base_fee),
        "size": "0x0",
        "totalDifficulty": "0x0",
        "uncles": [],
        "transactions": [],
        "slot": None,
        "proposer": None,
        "timestampMs": timestamp_ms,
    }


def tx_json(tx: Tx, header: Header | None, index: int) -> JsonObject:
    """A transaction at ``index`` in the block of ``header``; it waits if ``header`` is None."""
    price = tx.max_fee if header is None else tx.effective_price(header.base_fee)
    fields: JsonObject = {
        "blockHash": None if header is None else to_hex(header.hash),
        "blockNumber": None if header is None else quantity(header.height),
        "transactionIndex": None if header is None else quantity(index),
        "hash": to_hex(tx.hash),
        "type": quantity(tx.type),
        "from": to_hex(tx.sender),
        "to": to_hex(tx.to) if tx.to else None,
        "nonce": quantity(tx.nonce),
        "value": quantity(tx.value),
        "gas": quantity(tx.gas),
        "gasPrice": quantity(price),
        "input": to_hex(tx.data),
        "v": quantity(tx.v),
        "r": quantity(tx.r),
        "s": quantity(tx.s),
    }
    if tx.chain_id is not None:
        fields["chainId"] = quantity(tx.chain_id)
    if tx.type != LEGACY:
        fields["yParity"] = quantity(tx.v)
        fields["accessList"] = [
            {"address": to_hex(address), "storageKeys": [to_hex(key) for key in keys]}
            for address, keys in tx.access_list
        ]
    if tx.type == DYNAMIC_FEE:
        fields["maxFeePerGas"] = quantity(tx.max_fee)
        fields["maxPriorityFeePerGas"] = quantity(tx.max_priority_fee)
    return fields


def _place(block: Block, index: int) -> JsonObject:
    header = block.header
    return {
        "blockHash": to_hex(header.hash),
        "blockNumber": quantity(header.height),
        "transactionHash": to_hex(block.txs[index].hash),
        "transactionIndex": quantity(index),
    }


def logs_json(
    block: Block, index: int, receipt: Receipt, log_index: int, removed: bool
) -> list[JsonObject]:
    """Logs of the transaction at ``index``; the first has index ``log_index`` in the block."""
    place = _place(block, index)
    return [
        place
        | {
            "logIndex": quantity(log_index + at),
            "address": to_hex(log.address),
            "topics": [to_hex(topic) for topic in log.topics],
            "data": to_hex(log.data),
            "removed": removed,
        }
        for at, log in enumerate(receipt.logs)
    ]


def receipt_json(
    block: Block, receipts: Sequence[Receipt], index: int, log_index: int
) -> JsonObject:
    """The receipt of the transaction at ``index``; its first log has the index ``log_index``."""
    header, tx, receipt = block.header, block.txs[index], receipts[index]
    return _place(block, index) | {
        "from": to_hex(tx.sender),
        "to": to_hex(tx.to) if tx.to else None,
        "contractAddress": None,
        "cumulativeGasUsed": quantity(receipt.cumulative_gas),
        "gasUsed": quantity(receipt.gas_used),
        "effectiveGasPrice": quantity(tx.effective_price(header.base_fee)),
        "logs": logs_json(block, index, receipt, log_index, False),
        "logsBloom": to_hex(bloom(receipt.logs)),
        "status": quantity(receipt.status),
        "type": quantity(tx.type),
    }


def receipts_json(block: Block, receipts: Sequence[Receipt]) -> list[JsonObject]:
    """The receipts of all transactions of a block, in their order."""
    shown, log_index = [], 0
    for index, receipt in enumerate(receipts):
        shown.append(receipt_json(block, receipts, index, log_index))
        log_index += len(receipt.logs)
    return shown
