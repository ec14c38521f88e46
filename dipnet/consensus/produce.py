"""Making a block: what to put in, and the header that commits to it.

The result is unsigned. The caller persists the slot under ``records.KEY_PROPOSED``, has
``draft.digest`` signed, seals the block and gives it to ``Chain.on_block`` like any other.
"""

from dataclasses import dataclass
from typing import Final

from dipnet.consensus.block import (
    HEADER_BYTES_MAX,
    TX_GAS_MIN,
    Block,
    Header,
    ordered_root,
    seal,
)
from dipnet.consensus.chain import Chain
from dipnet.consensus.execute import Execution
from dipnet.consensus.pool import Pool
from dipnet.errors import Invalid
from dipnet.tx import Tx

PROPOSAL_TXS_MAX: Final = 5_000
"""What one proposal tries at most, so that it is ready within its slot; not a rule of blocks."""

BIN_HEAD_BYTES_MAX: Final = 5
"""msgpack: what stands before the bytes of a bin, at most."""

BODY_BYTES_MIN: Final = HEADER_BYTES_MAX + 128
"""What a block takes without transactions, at most: header, signature, heads of its parts."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An unsigned block, and the transactions that proved invalid with the reason."""

    header: Header
    txs: tuple[Tx, ...]
    refused: tuple[tuple[bytes, Invalid], ...]

    @property
    def digest(self) -> bytes:
        """What the proposer signs."""
        return self.header.proposal_digest

    def sealed(self, signature: bytes) -> Block:
        """The block."""
        return seal(self.header, self.txs, signature)


def build(chain: Chain, pool: Pool, slot: int, proposer: bytes) -> Draft:
    """A block of ``proposer`` (address) for ``slot`` on the head, from the pool's best.

    Takes by effective tip, then arrival, in nonce order of each account, until gas, bytes or
    ``PROPOSAL_TXS_MAX`` are used up. A transaction that proves invalid is left out with its
    account and reported: it never stops production (drop it from the pool). The slot must be
    later than the head's.
    """
    genesis, parent = chain.genesis, chain.head
    fields = chain.next_fields(slot)
    execution = Execution(
        genesis, chain.head_state, parent.state_root, parent.height + 1, slot, proposer,
        fields["base_fee"],
    )  # fmt: skip
    txs: list[Tx] = []
    refused: list[tuple[bytes, Invalid]] = []
    bytes_left = genesis.block_bytes_max - BODY_BYTES_MIN
    picks = pool.picks(fields["base_fee"])
    while (tx := picks.peek()) is not None and len(txs) + len(refused) < PROPOSAL_TXS_MAX:
        size = len(tx.raw) + BIN_HEAD_BYTES_MAX
        if tx.gas > execution.gas_left or size > bytes_left:
            picks.skip()
            if execution.gas_left < TX_GAS_MIN:
                break
            continue
        try:
            execution.add(tx)
        except Invalid as reason:
            refused.append((tx.hash, reason.with_traceback(None)))
            picks.skip()
            continue
        txs.append(tx)
        bytes_left -= size
        picks.take()
    executed = execution.finish()
    header = Header(
        proposer=proposer,
        tx_root=ordered_root([tx.raw for tx in txs]),
        **fields,
        **executed.fields,
    )
    return Draft(header, tuple(txs), tuple(refused))
