"""Prices and amounts of gas, from what recent blocks paid. Integers throughout.

The suggested tip is the 60th percentile of the lowest tips that got into the last blocks, as
go-ethereum's oracle has it, and ``TIP_IDLE_WEI`` where nobody paid any. What is suggested as
``eth_gasPrice`` is the next block's base fee with that tip.
"""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate, islice
from typing import Final

from dipnet.consensus.block import Block, Header
from dipnet.consensus.fees import next_base_fee
from dipnet.errors import Invalid
from dipnet.rpc import lookup
from dipnet.rpc.backend import Backend
from dipnet.rpc.params import BlockRef, CallRequest
from dipnet.rpc.views import View, quantity
from dipnet.tx import DYNAMIC_FEE, Tx
from dipnet.vm.transaction import TX_GAS_MAX, floor_gas, intrinsic_gas

TIP_IDLE_WEI: Final = 10**8
SAMPLE_BLOCKS: Final = 20
SAMPLE_TIPS_PER_BLOCK: Final = 3
SAMPLE_PERCENTILE: Final = 60
HISTORY_BLOCKS_MAX: Final = 1024
REWARD_BLOCKS_MAX: Final = 64  # with percentiles every body is read


def base_fee_after(backend: Backend, header: Header) -> int:
    """Base fee of the block that follows ``header``, wei."""
    return next_base_fee(backend.genesis, header.base_fee, header.gas_used)


def _back(backend: Backend, header: Header) -> Iterator[Header]:
    """``header`` and its ancestors down to genesis."""
    at: Header | None = header
    while at is not None:
        yield at
        at = backend.chain.header(at.parent) if at.height else None


def suggested_tip(backend: Backend) -> int:
    """Tip (wei for a unit of gas) that recent blocks took."""
    tips: list[int] = []
    for header in islice(_back(backend, backend.chain.head), SAMPLE_BLOCKS):
        if header.gas_used:
            txs = lookup.block(backend, header).txs
            paid = sorted(tx.effective_tip(header.base_fee) for tx in txs)
            tips += paid[:SAMPLE_TIPS_PER_BLOCK]
    if not tips:
        return TIP_IDLE_WEI
    return sorted(tips)[(len(tips) - 1) * SAMPLE_PERCENTILE // 100]


def gas_price(backend: Backend) -> str:
    return quantity(base_fee_after(backend, backend.chain.head) + suggested_tip(backend))


def max_priority_fee(backend: Backend) -> str:
    return quantity(suggested_tip(backend))


def _rewards(block: Block, percentiles: tuple[float, ...]) -> list[str]:
    """The tips at those percentiles of the block's gas, cheapest gas first."""
    if not block.txs:
        return ["0x0"] * len(percentiles)
    # A transfer uses what it must, so that its share of gas needs no receipt.
    paid = sorted(
        (tx.effective_tip(block.header.base_fee), max(intrinsic_gas(tx), floor_gas(tx)))
        for tx in block.txs
    )
    sums = list(accumulate(gas for _, gas in paid))
    last = len(paid) - 1
    places = [bisect_left(sums, int(sums[-1] * percent / 100)) for percent in percentiles]
    return [quantity(paid[min(place, last)][0]) for place in places]


def fee_history(
    backend: Backend, count: int, newest: BlockRef, percentiles: tuple[float, ...]
) -> View:
    """``count`` blocks up to ``newest``, oldest first; fewer where there are not so many."""
    limit = REWARD_BLOCKS_MAX if percentiles else HISTORY_BLOCKS_MAX
    header = lookup.need(backend, newest)
    headers = list(islice(_back(backend, header), min(count, limit)))[::-1]
    fees = [one.base_fee for one in headers] + [base_fee_after(backend, header)]
    view: View = {
        "oldestBlock": quantity(headers[0].height if headers else header.height),
        "baseFeePerGas": [quantity(fee) for fee in fees] if headers else [],
        "gasUsedRatio": [one.gas_used / one.gas_limit for one in headers],
        "baseFeePerBlobGas": ["0x0"] * len(fees) if headers else [],
        "blobGasUsedRatio": [0.0] * len(headers),
    }
    if percentiles:
        view["reward"] = [_rewards(lookup.block(backend, one), percentiles) for one in headers]
    return view


def _as_tx(call: CallRequest, gas: int) -> Tx:
    """The transaction that ``call`` would be, as far as its gas depends on it."""
    return Tx(
        raw=b"", hash=b"", type=DYNAMIC_FEE, chain_id=None, nonce=call.nonce or 0,
        max_priority_fee=call.max_priority_fee or 0, max_fee=call.max_fee or 0, gas=gas,
        to=call.to, value=call.value, data=call.data, access_list=call.access_list,
        v=0, r=0, s=0, sender=call.sender,
    )  # fmt: skip


def estimate_gas(backend: Backend, call: CallRequest, ref: BlockRef) -> str:
    """Gas that the transaction needs; go-ethereum's refusals where it could not run."""
    if not call.to:
        raise Invalid("no_vm")
    header = lookup.need(backend, ref)
    tx = _as_tx(call, 0)
    needed = max(intrinsic_gas(tx), floor_gas(tx))
    allowance = min(header.gas_limit, TX_GAS_MAX, call.gas or TX_GAS_MAX)
    if tx.max_fee and tx.max_priority_fee > tx.max_fee:
        raise Invalid("tip_above_cap", f"tip {tx.max_priority_fee}, cap {tx.max_fee}")
    if tx.max_fee and tx.max_fee < header.base_fee:
        raise Invalid("fee_cap_low", f"maxFeePerGas {tx.max_fee}, baseFee {header.base_fee}")
    if call.value or tx.max_fee:
        balance = lookup.account(backend, call.sender, ref).balance
        if balance < call.value:
            raise Invalid("funds", f"balance {balance}, tx cost {call.value}")
        if tx.max_fee:
            allowance = min(allowance, (balance - call.value) // tx.max_fee)
    if needed > allowance:
        raise Invalid("allowance", f"{allowance}, of {needed} needed")
    return quantity(needed)
