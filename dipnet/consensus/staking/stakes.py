"""Stakes, votes and their expiry, and the rewards of accounts (docs/spec/consensus.md
"Election").

A stake is counted once: the delegates that an account names have equal *shares* of it, and the
remainder of the division does not vote. Each candidate holds the sum of the shares that vote for
it, updated with every change, so that an election never looks at a voter.

Votes lapse unless they are cast again. The shares that lapse with an epoch are summed by candidate
(``LAPSES``). At the boundary before it the sum is taken off the candidate's votes, and the
candidate's ACCRUED is stored: lapsed votes earn up to it, whenever they are settled.

*Settling* adds the earnings of votes to the account's rewards and removes lapsed votes. A change of
stake or votes settles first. It costs a few words of storage for each delegate voted for.
"""

from collections.abc import Sequence
from typing import Final

from dipnet.consensus.staking import candidates
from dipnet.consensus.staking.candidates import ACCRUED, REGISTERED
from dipnet.consensus.staking.rewards import earned
from dipnet.primitives.errors import Invalid
from dipnet.vm.storage_layout import ACCOUNTS, LAPSES, WORD, StorageSlot, struct, to_address

(
    STAKE,  # uint256: wei
    REWARDS,  # uint256: wei that are settled and not yet claimed
    UNBONDING,  # uint256: wei of stake that is being released
    SHARE,  # uint256: wei of stake that vote for each of the delegates
    RELEASE,  # uint64: the epoch from which UNBONDING may be claimed
    EXPIRES,  # uint64: the epoch with which the votes lapse
    FREE,  # uint64: the epoch from which the account may vote for others
    VOTES,  # Vote[]
) = struct(256, 256, 256, 256, 64, 64, 64, 256)

(
    DELEGATE,  # address
    PAID,  # uint256: the delegate's ACCRUED up to which this vote is settled
) = struct(160, 256)
VOTE_WORDS: Final = 2

(
    WEIGHT,  # uint256: the shares that lapse, or have lapsed and are not yet settled
    CLOSED,  # uint256: the delegate's ACCRUED when they lapsed, plus one; 0 before
) = struct(256, 256)


def record_of(root: StorageSlot, account: bytes) -> StorageSlot:
    """The struct of an account (address)."""
    return root.under(ACCOUNTS, account)


def _lapse(root: StorageSlot, epoch: int, delegate: bytes) -> StorageSlot:
    return root.under(LAPSES, epoch).under(WORD, delegate)


# --- reads


def votes(record: StorageSlot) -> list[bytes]:
    """The delegates that an account votes for, lapsed or not."""
    return [to_address(vote[DELEGATE]) for vote in _votes(record)]


def _votes(record: StorageSlot) -> list[StorageSlot]:
    return [record.element(VOTES, at, VOTE_WORDS) for at in range(record[VOTES])]


def _unsettled(root: StorageSlot, record: StorageSlot) -> list[tuple[StorageSlot, int]]:
    """Each vote of an account, and its delegate's number up to which it earns."""
    expires = record[EXPIRES]
    until = []
    for vote in _votes(record):
        delegate = to_address(vote[DELEGATE])
        closed = _lapse(root, expires, delegate)[CLOSED]
        until.append(
            (vote, closed - 1 if closed else candidates.record_of(root, delegate)[ACCRUED])
        )
    return until


def rewards(root: StorageSlot, account: bytes) -> int:
    """The rewards (wei) of an account, settled or not, that it has not claimed."""
    record = record_of(root, account)
    share = record[SHARE]
    return record[REWARDS] + sum(
        earned(share, vote[PAID], until) for vote, until in _unsettled(root, record)
    )


def matured(record: StorageSlot, epoch: int) -> int:
    """The unbonding stake (wei) of an account that may be claimed in ``epoch``."""
    return record[UNBONDING] if record[RELEASE] <= epoch else 0


# --- changes


def settle(root: StorageSlot, account: bytes, epoch: int) -> StorageSlot:
    """Adds the earnings of an account's votes to its rewards; returns the account's struct."""
    record = record_of(root, account)
    share = record[SHARE]
    total = 0
    for vote, until in _unsettled(root, record):
        total += earned(share, vote[PAID], until)
        vote[PAID] = until
    record[REWARDS] += total
    if record[VOTES] and record[EXPIRES] <= epoch:
        _forget(root, record, lapsed=True)
    return record


def cast(
    root: StorageSlot, account: bytes, delegates: Sequence[bytes], epoch: int, expires: int
) -> None:
    """Gives the stake of an account to ``delegates`` alone: distinct addresses, or none.

    Raises ``Invalid``: ``dpos_unknown`` (not registered), ``dpos_stake`` (nothing to vote with).
    """
    for delegate in delegates:
        if not candidates.is_open(root, delegate):
            raise Invalid("dpos_unknown", f"0x{delegate.hex()}")
    record = settle(root, account, epoch)
    _forget(root, record, lapsed=False)
    if not delegates:
        return
    share = record[STAKE] // len(delegates)
    if not share:
        raise Invalid("dpos_stake", "stake before you vote")
    record[VOTES], record[EXPIRES] = len(delegates), expires
    for entry, delegate in zip(_votes(record), delegates, strict=True):
        entry[DELEGATE] = int.from_bytes(delegate, "big")
        entry[PAID] = candidates.record_of(root, delegate)[ACCRUED]
    _reweigh(root, record, share)


def change_stake(root: StorageSlot, account: bytes, amount: int, epoch: int) -> StorageSlot:
    """Adds ``amount`` wei, negative to take, to an account's stake and to its votes."""
    record = settle(root, account, epoch)
    record[STAKE] += amount
    if record[VOTES]:
        _reweigh(root, record, record[STAKE] // record[VOTES])
    return record


def _reweigh(root: StorageSlot, record: StorageSlot, share: int) -> None:
    """Makes every vote of a settled account weigh ``share``."""
    change = share - record[SHARE]
    expires = record[EXPIRES]
    for delegate in votes(record):
        candidate = candidates.record_of(root, delegate)
        if candidate[candidates.STATUS] == REGISTERED:
            candidate[candidates.VOTES] += change
        _lapse(root, expires, delegate)[WEIGHT] += change
    record[SHARE] = share


def _forget(root: StorageSlot, record: StorageSlot, lapsed: bool) -> None:
    """Removes the votes of a settled account; ``lapsed`` votes are off their candidates already."""
    share, expires = record[SHARE], record[EXPIRES]
    for entry in _votes(record):
        delegate = to_address(entry[DELEGATE])
        candidate = candidates.record_of(root, delegate)
        if not lapsed and candidate[candidates.STATUS] == REGISTERED:
            candidate[candidates.VOTES] -= share
        lapse = _lapse(root, expires, delegate)
        lapse[WEIGHT] -= share
        if not lapse[WEIGHT]:
            lapse[CLOSED] = 0
        entry[DELEGATE] = entry[PAID] = 0
    record[SHARE] = record[EXPIRES] = record[VOTES] = 0


def expire(root: StorageSlot, delegate: bytes, epoch: int) -> None:
    """At the boundary before ``epoch``: takes the votes that lapse with it off a delegate."""
    lapse = _lapse(root, epoch, delegate)
    weight = lapse[WEIGHT]
    if weight:
        record = candidates.record_of(root, delegate)
        record[candidates.VOTES] -= weight
        lapse[CLOSED] = record[ACCRUED] + 1
