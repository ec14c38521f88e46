"""The methods of IDpos that change it. Each checks all of its arguments before it writes.

A refusal is ``Invalid`` with a code of the group ``dpos_``; the caller sees it as the reason of the
revert. Events are declared here and in ``contracts/IDpos.sol``.
"""

from dataclasses import dataclass
from typing import Any, Final

from dipnet.consensus.staking import candidates, evidence, parameters, stakes
from dipnet.consensus.staking.block_context import BlockContext
from dipnet.consensus.staking.candidates import (
    NONE,
    READY,
    REGISTERED,
    RESIGNED,
    STATUS,
    TOMBSTONED,
    Profile,
)
from dipnet.consensus.staking.election import SETS_AHEAD
from dipnet.consensus.staking.stakes import FREE, RELEASE, REWARDS, STAKE, UNBONDING
from dipnet.ledger.parameters import BPS_ALL
from dipnet.primitives.errors import Invalid
from dipnet.vm.abi import AbiEvent
from dipnet.vm.storage_layout import BURNED, StorageSlot
from dipnet.vm.system import Call

VERSION_MAX: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Frame:
    """A call of the contract, the chain around it, the contract's variables."""

    call: Call
    context: BlockContext
    root: StorageSlot

    @property
    def caller(self) -> bytes:
        """The address of the calling account."""
        return self.call.caller

    def emit(self, event: AbiEvent, indexed: tuple[bytes | int, ...], *rest: Any) -> None:
        """Leaves an event."""
        self.call.log(event.topics(*indexed), event.data(*rest))


REGISTERED_EVENT: Final = AbiEvent("Registered", "address delegate", "bytes publicKey, string name")
RESIGNED_EVENT: Final = AbiEvent("Resigned", "address delegate", "")
STAKED: Final = AbiEvent("Staked", "address account", "uint256 amount")
UNSTAKED: Final = AbiEvent("Unstaked", "address account", "uint256 amount, uint64 releaseEpoch")
VOTED: Final = AbiEvent("Voted", "address account", "address[] delegates, uint64 expiresEpoch")
CLAIMED: Final = AbiEvent("Claimed", "address account", "uint256 rewards, uint256 released")
SLASHED: Final = AbiEvent(
    "Slashed", "address delegate, address reporter",
    "string offence, uint256 burned, uint256 rewarded",
)  # fmt: skip
PROPOSED: Final = AbiEvent(
    "ParameterProposed", "uint256 id, address delegate", "bytes32 name, uint256 value"
)
PARAMETER_VOTED: Final = AbiEvent("ParameterVoted", "uint256 id, address delegate", "")
READY_EVENT: Final = AbiEvent("ReadySignalled", "address delegate", "uint256 rules")

EVENTS: Final = (
    REGISTERED_EVENT, RESIGNED_EVENT, STAKED, UNSTAKED, VOTED, CLAIMED, SLASHED, PROPOSED,
    PARAMETER_VOTED, READY_EVENT,
)  # fmt: skip


# --- candidates


def register(
    frame: Frame,
    name: str,
    url: str,
    commission_bps: int,
    key: bytes,
    commitment: bytes,
    organisation: bytes,
    signature: bytes,
) -> tuple[()]:
    """Makes the caller a candidate, or changes the profile of a candidate; the key stays.

    A higher commission acts together with the votes that are cast in answer to it. If it acted at
    once, a delegate could raise it for its own blocks and lower it in between (ADR 96).
    """
    root, caller, in_force = frame.root, frame.caller, frame.context.parameters
    profile = Profile(name, url, commission_bps, organisation)
    profile.check(in_force)
    candidates.check_key(in_force.chain_id, caller, key, signature)
    record = candidates.record_of(root, caller)
    status = record[STATUS]
    if status == REGISTERED:
        if candidates.public_key(record) != key:
            raise Invalid("dpos_key", "a delegate keeps the key that it registered with")
        candidates.describe(record, profile)
        epoch = frame.context.epoch
        candidates.charge(record, commission_bps, epoch, epoch + SETS_AHEAD)
    elif status != NONE:
        raise Invalid("dpos_registered", "this account has been a delegate; use another")
    else:
        held = stakes.record_of(root, caller)[STAKE]
        if held < in_force.delegate_stake_min:
            raise Invalid(
                "dpos_stake", f"{held} staked, a delegate needs {in_force.delegate_stake_min}"
            )
        candidates.enter(root, caller, profile, key, commitment, in_force.candidates_max)
    frame.emit(REGISTERED_EVENT, (caller,), key, name)
    return ()


def resign(frame: Frame) -> tuple[()]:
    """Takes the caller off the roll for good; it leads slots until the end of its last set."""
    if not candidates.is_open(frame.root, frame.caller):
        raise Invalid("dpos_unknown", "you are not registered")
    candidates.close(frame.root, frame.caller, RESIGNED)
    frame.emit(RESIGNED_EVENT, (frame.caller,))
    return ()


# --- stakes and votes


def stake(frame: Frame) -> tuple[()]:
    """Adds the value to the caller's stake."""
    amount = frame.call.value
    if not amount:
        raise Invalid("dpos_stake", "send the wei that you stake")
    stakes.change_stake(frame.root, frame.caller, amount, frame.context.epoch)
    frame.emit(STAKED, (frame.caller,), amount)
    return ()


def unstake(frame: Frame, amount: int) -> tuple[()]:
    """Begins to release a part of the caller's stake. One release runs at a time.

    The stake of a present or former delegate waits longer by the epochs in whose sets it may
    still be, so that evidence against it comes before the release.
    """
    root, caller, context = frame.root, frame.caller, frame.context
    record, status = stakes.record_of(root, caller), candidates.record_of(root, caller)[STATUS]
    held = record[STAKE]
    if not 0 < amount <= held:
        raise Invalid("dpos_stake", f"unstake {amount} of {held}")
    least = context.parameters.delegate_stake_min
    if status == REGISTERED and held - amount < least:
        raise Invalid("dpos_stake", f"a delegate keeps {least}; resign first")
    if record[UNBONDING]:
        raise Invalid("dpos_unbonding", f"{record[UNBONDING]} until epoch {record[RELEASE]}")
    stakes.change_stake(root, caller, -amount, context.epoch)
    release = context.epoch + context.parameters.unbonding_epochs + (SETS_AHEAD if status else 0)
    record[UNBONDING], record[RELEASE] = amount, release
    frame.emit(UNSTAKED, (caller,), amount, release)
    return ()


def vote(frame: Frame, delegates: tuple[bytes, ...]) -> tuple[()]:
    """Gives the caller's stake to these delegates in equal parts, in place of earlier votes.

    Once an epoch: a voter whose votes followed the leaders from slot to slot would earn from
    every block, at the cost of the other voters (ADR 73). Votes can be taken back at any time.
    """
    context = frame.context
    most = context.parameters.votes_per_account_max
    if len(delegates) > most:
        raise Invalid("dpos_votes", f"{len(delegates)} delegates, at most {most}")
    if len({*delegates}) != len(delegates):
        raise Invalid("dpos_votes", "a delegate is named twice")
    record = stakes.record_of(frame.root, frame.caller)
    if delegates and record[FREE] > context.epoch:
        raise Invalid("dpos_voted", f"epoch {context.epoch}")
    expires = context.epoch + context.parameters.vote_expiry_epochs
    stakes.cast(frame.root, frame.caller, delegates, context.epoch, expires)
    if delegates:
        record[FREE] = context.epoch + 1
    frame.emit(VOTED, (frame.caller,), delegates, expires if delegates else 0)
    return ()


def claim(frame: Frame) -> tuple[int]:
    """Pays the caller its rewards and the stake whose release is due; returns the sum in wei."""
    root, caller, epoch = frame.root, frame.caller, frame.context.epoch
    record = stakes.settle(root, caller, epoch)
    rewards, released = record[REWARDS], stakes.matured(record, epoch)
    if not rewards + released:
        raise Invalid("dpos_claim")
    record[REWARDS] = 0
    if released:
        record[UNBONDING] = record[RELEASE] = 0
    frame.call.transfer(caller, rewards + released)
    frame.emit(CLAIMED, (caller,), rewards, released)
    return (rewards + released,)


# --- penalties


def submit_evidence(frame: Frame, first: bytes, second: bytes) -> tuple[int]:
    """Punishes the delegate whose key signed both records; returns the reporter's reward in wei.

    The reporter of a report without a fee is the block's proposer (ADR 83).
    """
    root, context = frame.root, frame.context
    in_force = context.parameters
    offence = evidence.prove(in_force.chain_id, first, second)
    delegate = candidates.owner_of(root, offence.signer)
    record = candidates.record_of(root, delegate)
    if record[STATUS] == NONE:
        raise Invalid("dpos_unknown", "the signatures are by no delegate's key")
    if record[STATUS] == TOMBSTONED:
        raise Invalid("dpos_tombstoned", f"0x{delegate.hex()}")
    if context.epoch > offence.epoch + in_force.evidence_epochs:
        raise Invalid("dpos_old", f"epoch {offence.epoch}, now {context.epoch}")
    lost = _slash(root, delegate, context.epoch, in_force.slash_bps)
    reward = lost * in_force.reporter_bps // BPS_ALL
    candidates.close(root, delegate, TOMBSTONED)
    root[BURNED] += lost - reward
    frame.call.burn(lost - reward)
    reporter = context.proposer if frame.caller == evidence.REPORTER else frame.caller
    frame.call.transfer(reporter, reward)
    frame.emit(SLASHED, (delegate, reporter), offence.name, lost - reward, reward)
    return (reward,)


def _slash(root: StorageSlot, delegate: bytes, epoch: int, bps: int) -> int:
    """Takes ``bps`` of a delegate's stake and of its unbonding stake; returns the wei taken."""
    record = stakes.record_of(root, delegate)
    held, leaving = record[STAKE], record[UNBONDING]
    lost = (held + leaving) * bps // BPS_ALL
    from_stake = min(lost, held)
    stakes.change_stake(root, delegate, -from_stake, epoch)
    record[UNBONDING] = leaving - (lost - from_stake)
    return lost


# --- parameters


def propose_parameters(frame: Frame, name: bytes, value: int) -> tuple[int]:
    """Opens a proposal of a member of the current set with its vote; returns the number."""
    number = parameters.propose(frame.root, frame.context, frame.caller, name, value)
    frame.emit(PROPOSED, (number, frame.caller), name, value)
    return (number,)


def vote_parameters(frame: Frame, number: int) -> tuple[()]:
    """A member of the current set votes for a proposal."""
    parameters.vote(frame.root, frame.context, frame.caller, number)
    frame.emit(PARAMETER_VOTED, (number, frame.caller))
    return ()


def signal_ready(frame: Frame, rules: int) -> tuple[()]:
    """Records the newest version of the rules that the caller's node follows."""
    if not candidates.is_open(frame.root, frame.caller):
        raise Invalid("dpos_unknown", "you are not registered")
    if not 0 < rules <= VERSION_MAX:
        raise Invalid("dpos_parameter", f"rules: 1 to {VERSION_MAX}")
    candidates.record_of(frame.root, frame.caller)[READY] = rules
    frame.emit(READY_EVENT, (frame.caller,), rules)
    return ()
