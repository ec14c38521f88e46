"""Rewards: a block's reward and tips go to its delegate and the delegate's voters
(docs/spec/consensus.md "Election").

The delegate keeps its commission; the rest accrues to the wei of stake that vote for it. Each
delegate has one number: the earnings of a wei of such stake since genesis, times ``SCALE``. So
sharing out costs the same for one voter and for a million. A vote stores the number at which it
began, and has earned its stake times the difference (ADR 74). Every division rounds down, so that
all claims together never exceed the rewards. The remainder, less than a wei for each voter and
block, stays with the contract.
"""

from typing import Final

from dipnet.consensus.staking import candidates
from dipnet.consensus.staking.block_context import BlockContext
from dipnet.consensus.staking.candidates import ACCRUED, REGISTERED, STATUS, VOTES
from dipnet.ledger.parameters import BPS_ALL
from dipnet.vm.storage_layout import StorageSlot

SCALE: Final = 10**18


def share_out(root: StorageSlot, context: BlockContext, amount: int) -> int:
    """Shares ``amount`` wei among the proposer's voters; returns the wei that the proposer keeps.

    A candidate without votes keeps all. A delegate that has resigned or is tombstoned leads slots
    until the end of its last set and has no voters any more: their part stays with the contract, so
    that leaving never pays.
    """
    record = candidates.record_of(root, context.proposer)
    kept = candidates.commission(record).at(context.epoch, context.parameters.commission_bps_max)
    own = amount * kept // BPS_ALL
    if record[STATUS] != REGISTERED:
        return own
    votes = record[VOTES]
    if not votes:
        return amount
    record[ACCRUED] += (amount - own) * SCALE // votes
    return own


def earned(share: int, since: int, until: int) -> int:
    """The earnings (wei) of ``share`` wei of stake while the number rose from since to until."""
    return share * (until - since) // SCALE
