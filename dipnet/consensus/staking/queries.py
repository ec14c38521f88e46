"""The methods of IDpos that only read. Arguments or gas bound the length of each answer."""

from typing import Final

from dipnet.consensus.staking import candidates, election, parameters, stakes
from dipnet.consensus.staking.actions import Frame
from dipnet.consensus.staking.candidates import NONE, REGISTERED, TOMBSTONED
from dipnet.consensus.staking.stakes import EXPIRES, RELEASE, STAKE, UNBONDING
from dipnet.primitives.errors import Invalid
from dipnet.vm.storage_layout import BURNED, ROLL

PAGE_MAX: Final = 256


def stake_of(frame: Frame, account: bytes) -> tuple[int]:
    """The stake of an account, wei."""
    return (stakes.record_of(frame.root, account)[STAKE],)


def votes_of(frame: Frame, account: bytes) -> tuple[list[bytes], int]:
    """The delegates that an account votes for, and the epoch with which the votes lapse."""
    record = stakes.record_of(frame.root, account)
    if record[EXPIRES] <= frame.context.epoch:
        return [], 0
    return stakes.votes(record), record[EXPIRES]


def rewards_of(frame: Frame, account: bytes) -> tuple[int]:
    """The rewards (wei) that ``claim`` would pay an account for votes and blocks."""
    return (stakes.rewards(frame.root, account),)


def unbonding_of(frame: Frame, account: bytes) -> tuple[int, int]:
    """The unbonding stake (wei) of an account, and the epoch from which it may be claimed."""
    record = stakes.record_of(frame.root, account)
    return record[UNBONDING], record[RELEASE]


def delegate(
    frame: Frame, account: bytes
) -> tuple[str, str, int, bytes, bytes, int, int, int, int, bool, bool]:
    """The contract's record of a delegate; ``Invalid("dpos_unknown")`` for other accounts.

    The commission is the commission in force, not an announced commission.
    """
    context, found = frame.context, candidates.read(frame.root, account)
    if found.status == NONE:
        raise Invalid("dpos_unknown", f"0x{account.hex()}")
    kept = found.commission.at(context.epoch, context.parameters.commission_bps_max)
    return (
        found.name, found.url, kept, found.public_key, found.organisation, found.votes,
        found.produced, found.missed, found.jailed_until, found.status == TOMBSTONED,
        found.status == REGISTERED,
    )  # fmt: skip


def delegates(frame: Frame, offset: int, count: int) -> tuple[list[bytes], list[int]]:
    """A page of the registered delegates, and their votes in wei of stake."""
    end = min(frame.root[ROLL], offset + min(count, PAGE_MAX))
    page = [frame.root.address_at(ROLL, at) for at in range(offset, end)]
    return page, [candidates.record_of(frame.root, address)[candidates.VOTES] for address in page]


def active_set(frame: Frame, epoch: int) -> tuple[list[bytes], list[bytes]]:
    """The members of an epoch's set, ascending, and its standby; empty where not known."""
    root = frame.root
    return list(election.seated(root, epoch)), list(election.standby(root, epoch))


def proposal(frame: Frame, number: int) -> tuple[bytes, int, bytes, int, int, int, int]:
    """A proposal of a parameter; only voters of the current set count."""
    found = parameters.read(frame.root, number, frame.context.members)
    return (
        found.name.encode().ljust(32, b"\0"), found.value, found.proposer, found.state,
        found.expires, found.starts, found.voters,
    )  # fmt: skip


def parameter(frame: Frame, name: bytes) -> tuple[int]:
    """The value of a parameter in force; ``Invalid("dpos_parameter")``."""
    return (parameters.value_of(frame.context.parameters, name),)


def burned(frame: Frame) -> tuple[int]:
    """The wei of stake that penalties have burned."""
    return (frame.root[BURNED],)
