"""Ethereum's methods (execution-apis) about the node, accounts, fees, and sending transactions.

``blocks`` has the methods about blocks and receipts, ``calls`` about calls, ``logs`` about logs.
"""

from collections.abc import Sequence
from typing import Final

from dipnet.primitives.codec import to_hex
from dipnet.primitives.errors import Invalid
from dipnet.rpc import gas, lookup
from dipnet.rpc.backend import Accepted, Backend
from dipnet.rpc.block_json import quantity
from dipnet.rpc.method import Param, RpcMethod
from dipnet.rpc.params import ADDRESS, BLOCK, BLOCK_NUMBER, PERCENTILES, RAW_ITEM, BlockRef, between
from dipnet.rpc.status import client_version


def web3_client_version(backend: Backend) -> str:
    return client_version()


def net_version(backend: Backend) -> str:
    return str(backend.genesis.chain_id)


def net_peer_count(backend: Backend) -> str:
    return quantity(len(backend.peers()))


def chain_id(backend: Backend) -> str:
    return quantity(backend.genesis.chain_id)


def syncing(backend: Backend) -> object:
    progress = backend.syncing()
    if progress is None:
        return False
    current, highest = progress
    return {
        "startingBlock": "0x0",
        "currentBlock": quantity(current),
        "highestBlock": quantity(highest),
    }


def accounts(backend: Backend) -> list[str]:
    return []


def block_number(backend: Backend) -> str:
    return quantity(backend.chain.head.height)


def get_balance(backend: Backend, address: bytes, ref: BlockRef) -> str:
    return quantity(lookup.account(backend, address, ref).balance)


def get_transaction_count(backend: Backend, address: bytes, ref: BlockRef) -> str:
    nonce = lookup.account(backend, address, ref).nonce
    if ref == "pending":
        nonce = backend.pool.pending_nonce(address, nonce)
    return quantity(nonce)


def get_code(backend: Backend, address: bytes, ref: BlockRef) -> str:
    return to_hex(lookup.code(backend, address, ref))


def sent(results: Sequence[Accepted | Invalid]) -> str:
    result = results[0]
    if isinstance(result, Invalid):
        raise result
    return to_hex(result[0])


_AT: Final = Param("block", BLOCK, "latest")
_POOL_ERRORS: Final = (
    "tx_form", "tx_type", "chain_id", "unprotected", "sender", "nonce_low", "nonce_max", "funds",
    "intrinsic_gas", "floor_gas", "block_gas", "gas_cap", "fee_cap_low", "tip_above_cap",
    "underpriced", "replacement", "known", "pool_full", "account_full", "no_vm", "initcode", "rlp",
    "busy", "disk", "stopping", "syncing",
)  # fmt: skip

METHODS: Final = (
    RpcMethod(
        "web3_clientVersion", (), web3_client_version, "string", "Name and version of this node."
    ),
    RpcMethod("net_version", (), net_version, "string", "The chain id in decimal."),
    RpcMethod("net_peerCount", (), net_peer_count, "quantity", "Number of connected peers."),
    RpcMethod(
        "eth_chainId", (), chain_id, "quantity", "The chain id that transactions are signed for."
    ),
    RpcMethod(
        "eth_syncing",
        (),
        syncing,
        "false, or object of startingBlock, currentBlock, highestBlock",
        "Whether the node is catching up with the chain.",
    ),
    RpcMethod(
        "eth_accounts", (), accounts, "empty array", "Always empty: the node holds no user's key."
    ),
    RpcMethod("eth_blockNumber", (), block_number, "quantity", "Height of the head."),
    RpcMethod(
        "eth_getBalance",
        (Param("address", ADDRESS), _AT),
        get_balance,
        "quantity, wei",
        "Balance of an account.",
        ("not_found", "not_canonical", "no_state"),
    ),
    RpcMethod(
        "eth_getTransactionCount",
        (Param("address", ADDRESS), _AT),
        get_transaction_count,
        "quantity",
        "Next nonce of an account; with `pending`, the nonce after its waiting transactions.",
        ("not_found", "not_canonical", "no_state"),
    ),
    RpcMethod(
        "eth_getCode",
        (Param("address", ADDRESS), _AT),
        get_code,
        "bytes",
        "Code of an account, `0x` when it has none.",
        ("not_found", "not_canonical", "no_state"),
    ),
    RpcMethod(
        "eth_gasPrice",
        (),
        gas.gas_price,
        "quantity, wei for a unit of gas",
        "The base fee of the next block plus the suggested tip.",
    ),
    RpcMethod(
        "eth_maxPriorityFeePerGas",
        (),
        gas.max_priority_fee,
        "quantity, wei for a unit of gas",
        f"The suggested tip: the {gas.SAMPLE_PERCENTILE}th percentile of the lowest "
        f"{gas.SAMPLE_TIPS_PER_BLOCK} tips of each of the last {gas.SAMPLE_BLOCKS} blocks, "
        f"{gas.TIP_IDLE_WEI} wei if those blocks were empty.",
    ),
    RpcMethod(
        "eth_feeHistory",
        (
            Param("blockCount", between(0, 2**63 - 1)),
            Param("newestBlock", BLOCK_NUMBER),
            Param("rewardPercentiles", PERCENTILES, ()),
        ),
        gas.fee_history,
        "object of oldestBlock, baseFeePerGas, gasUsedRatio, reward and the blob fields (zero)",
        f"Fees of up to {gas.HISTORY_BLOCKS_MAX} blocks, with percentiles of up to "
        f"{gas.REWARD_BLOCKS_MAX}. A longer range is cut at its oldest end; see `oldestBlock`.",
        ("not_found",),
    ),
    RpcMethod(
        "eth_sendRawTransaction",
        (Param("transaction", RAW_ITEM),),
        sent,
        "hash, 32 bytes",
        "Submit a signed transaction. Adjacent submissions in a batch are processed together.",
        _POOL_ERRORS,
        way="txs",
    ),
)
