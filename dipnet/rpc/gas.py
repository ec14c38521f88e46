"""Gas prices suggested from recent blocks: wei for a unit of gas, integers throughout.

The suggested tip is the 60th percentile of the lowest tips in the last blocks, as in go-ethereum's
oracle, and ``TIP_IDLE_WEI`` if those blocks hold no transaction. ``eth_gasPrice`` suggests the base
fee of the next block plus that tip.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import Final

from dipnet.consensus.chain.block import Block
from dipnet.consensus.chain.fees import next_base_fee
from dipnet.consensus.finality.header import Header
from dipnet.ledger.tx import Tx
from dipnet.rpc import lookup
from dipnet.rpc.backend import Backend
from dipnet.rpc.block_json import JsonObject, quantity
from dipnet.rpc.params import BlockRef
from dipnet.vm.receipt import Receipt

TIP_IDLE_WEI: Final = 10**8
SAMPLE_BLOCKS: Final = 20
SAMPLE_TIPS_PER_BLOCK: Final = 3
SAMPLE_PERCENTILE: Final = 60
HISTORY_BLOCKS_MAX: Final = 1024
REWARD_BLOCKS_MAX: Final = 64  # percentiles need the body of every block


def base_fee_after(backend: Backend, header: Header) -> int:
    """Base fee of the block that follows ``header``, wei."""
    parameters = backend.chain.epoch_at(header).parameters
    return next_base_fee(parameters, header.base_fee, header.gas_used)


def _back(backend: Backend, header: Header) -> Iterator[Header]:
    """``header`` and its ancestors down to genesis."""
    at: Header | None = header
    while at is not None:
        yield at
        at = backend.chain.header(at.parent) if at.height else None


def _tip(tx: Tx, base_fee: int) -> int:
    """Tip of a transaction, wei for a unit of gas; 0 for a report, which pays no fee (ADR 83)."""
    return max(tx.effective_tip(base_fee), 0)


def suggested_tip(backend: Backend) -> int:
    """The tip to suggest, wei for a unit of gas (see the module)."""
    tips: list[int] = []
    for header in islice(_back(backend, backend.chain.head), SAMPLE_BLOCKS):
        if header.gas_used:
            txs = lookup.block(backend, header).txs
            paid = sorted(_tip(tx, header.base_fee) for tx in txs)
            tips += paid[:SAMPLE_TIPS_PER_BLOCK]
    if not tips:
        return TIP_IDLE_WEI
    return sorted(tips)[(len(tips) - 1) * SAMPLE_PERCENTILE // 100]


def gas_price(backend: Backend) -> str:
    return quantity(base_fee_after(backend, backend.chain.head) + suggested_tip(backend))


def max_priority_fee(backend: Backend) -> str:
    return quantity(suggested_tip(backend))


def _rewards(
    block: Block, receipts: Sequence[Receipt], percentiles: tuple[float, ...]
) -> list[str]:
    """The tips at ``percentiles`` of the block's gas, ordered from the lowest tip."""
    if not block.txs:
        return ["0x0"] * len(percentiles)
    base_fee = block.header.base_fee
    paid = sorted(
        (_tip(tx, base_fee), receipt.gas_used)
        for tx, receipt in zip(block.txs, receipts, strict=True)
    )
    sums = list(accumulate(gas for _, gas in paid))
    last = len(paid) - 1
    places = [bisect_left(sums, int(sums[-1] * percent / 100)) for percent in percentiles]
    return [quantity(paid[min(place, last)][0]) for place in places]


def fee_history(
    backend: Backend, count: int, newest: BlockRef, percentiles: tuple[float, ...]
) -> JsonObject:
    """Fees of up to ``count`` blocks that end at ``newest``, oldest first."""
    limit = REWARD_BLOCKS_MAX if percentiles else HISTORY_BLOCKS_MAX
    header = lookup.need(backend, newest)
    headers = list(islice(_back(backend, header), min(count, limit)))[::-1]
    fees = [ancestor.base_fee for ancestor in headers] + [base_fee_after(backend, header)]
    fields: JsonObject = {
        "oldestBlock": quantity(headers[0].height if headers else header.height),
        "baseFeePerGas": [quantity(fee) for fee in fees] if headers else [],
        "gasUsedRatio": [ancestor.gas_used / ancestor.gas_limit for ancestor in headers],
        "baseFeePerBlobGas": ["0x0"] * len(fees) if headers else [],
        "blobGasUsedRatio": [0.0] * len(headers),
    }
    if percentiles:
        fields["reward"] = [
            _rewards(
                lookup.block(backend, ancestor), lookup.receipts(backend, ancestor), percentiles
            )
            for ancestor in headers
        ]
    return fields
