"""Rewards: what a block earns, to its delegate and those who vote for him (docs/spec/consensus.md
"Election").

The delegate keeps his commission; the rest accrues to the wei of stake that vote for him. What one
wei has earned since ever, times ``SCALE``, is one number a delegate: sharing out costs the same
for one voter and for a million. Who votes keeps the number at which he began, and has earned his
stake times the difference. Every division rounds down, so that all claims together never exceed
what was put in; what is lost so, less than a wei a voter and block, stays with the contract.
"""

from typing import Final

from dipnet.consensus.staking import candidates
from dipnet.consensus.staking.block_context import BlockContext
from dipnet.consensus.staking.candidates import ACCRUED, REGISTERED, STATUS, VOTES
from dipnet.ledger.parameters import BPS_ALL
from dipnet.vm.storage_layout import StorageSlot

SCALE: Final = 10**18


def share_out(root: StorageSlot, context: BlockContext, amount: int) -> int:
    """Lets the voters of the proposer earn from ``amount`` wei; gives what is his own to keep.

    A candidate for whom nobody votes keeps all. One who has resigned or is tombstoned, and leads
    slots until his sets are over, has no voters any more: what would be theirs stays with the
    contract, so that leaving never pays.
    """
    one = candidates.place(root, context.proposer)
    kept = candidates.commission(one).at(context.epoch, context.parameters.commission_bps_max)
    own = amount * kept // BPS_ALL
    if one[STATUS] != REGISTERED:
        return own
    votes = one[VOTES]
    if not votes:
        return amount
    one[ACCRUED] += (amount - own) * SCALE // votes
    return own


def earned(share: int, since: int, until: int) -> int:
    """What ``share`` wei of stake have earned while a delegate's number rose so."""
    return share * (until - since) // SCALE
