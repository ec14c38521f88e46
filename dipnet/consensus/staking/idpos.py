"""IDpos at 0x...0d02: the table of its methods, and its part in the end of a block.

The rules are in the files of the nouns: ``candidates``, ``stakes``, ``rewards``, ``election``,
``evidence``, ``parameters``. Its account has a code of one byte, which never runs, because only an
account with code may have storage. The storage has Solidity's layout (``vm/storage_layout.py``).
"""

from functools import partial
from typing import Final

from dipnet.consensus.staking import (
    actions,
    candidates,
    election,
    parameters,
    queries,
    rewards,
    stakes,
)
from dipnet.consensus.staking.actions import Frame
from dipnet.consensus.staking.block_context import DPOS_ADDRESS, BlockContext, Elected
from dipnet.consensus.staking.candidates import (
    COMMITMENT,
    COMMITTED_AT,
    STATUS,
    TOMBSTONED,
    Candidate,
    Profile,
)
from dipnet.consensus.staking.stakes import REWARDS
from dipnet.ledger.genesis import Genesis
from dipnet.ledger.state import Journal
from dipnet.primitives.errors import Invalid
from dipnet.vm.abi import INPUT_BYTES_MAX, SELECTOR_BYTES, Method
from dipnet.vm.storage_layout import JournalStorage, StorageSlot
from dipnet.vm.system import Call, Revert, System, error_data

__all__ = [
    "CODE", "DPOS_ADDRESS", "METHODS", "BlockContext", "Elected", "at_boundary", "candidates_of",
    "commitment_of", "end_block", "genesis_state", "is_tombstoned", "system",
]  # fmt: skip

CODE: Final = b"\xfe"
"""INVALID: an account needs code to have storage (EIP-161); the contract itself is in Python."""

# The parameters that price a method.
_CALL: Final = "dpos_gas_call"  # any call, before its method is found
_PLAIN: Final = "dpos_gas_plain"
_TEXTS: Final = "dpos_gas_text"
_ARRAY: Final = "dpos_gas_array"
_JUDGE: Final = "dpos_gas_judge"  # recovers signatures, or judges a whole genesis.json

_TABLE: Final = (
    Method(
        "register",
        "string name, string url, uint16 commissionBps, bytes publicKey, bytes32 seedCommitment, "
        "bytes32 organisation, bytes signature",
        "", _JUDGE, actions.register,
    ),
    Method("resign", "", "", _PLAIN, actions.resign),
    Method("stake", "", "", _PLAIN, actions.stake, payable=True),
    Method("unstake", "uint256 amount", "", _PLAIN, actions.unstake),
    Method("vote", "address[] delegates", "", _ARRAY, actions.vote),
    Method("claim", "", "uint256 paid", _PLAIN, actions.claim),
    Method(
        "submitEvidence", "bytes first, bytes second", "uint256 reward", _JUDGE,
        actions.submit_evidence,
    ),
    Method(
        "proposeParameters", "bytes32 name, uint256 newValue", "uint256 id", _JUDGE,
        actions.propose_parameters,
    ),
    Method("voteParameters", "uint256 id", "", _PLAIN, actions.vote_parameters),
    Method("signalReady", "uint256 rules", "", _PLAIN, actions.signal_ready),
    Method("stakeOf", "address account", "uint256 amount", _PLAIN, queries.stake_of, view=True),
    Method(
        "votesOf", "address account", "address[] delegates, uint64 expiresEpoch", _ARRAY,
        queries.votes_of, view=True,
    ),
    Method("rewardsOf", "address account", "uint256 amount", _PLAIN, queries.rewards_of, view=True),
    Method(
        "unbondingOf", "address account", "uint256 amount, uint64 releaseEpoch", _PLAIN,
        queries.unbonding_of, view=True,
    ),
    Method(
        "delegate", "address account",
        "string name, string url, uint16 commissionBps, bytes publicKey, bytes32 organisation, "
        "uint256 votes, uint64 produced, uint64 missed, uint64 jailedUntil, bool tombstoned, "
        "bool registered",
        _TEXTS, queries.delegate, view=True,
    ),
    Method(
        "delegates", "uint256 offset, uint256 count", "address[] delegates, uint256[] votes",
        _ARRAY, queries.delegates, view=True,
    ),
    Method(
        "activeSet", "uint256 epoch", "address[] members, address[] standby", _ARRAY,
        queries.active_set, view=True,
    ),
    Method(
        "proposal", "uint256 id",
        "bytes32 name, uint256 value, address proposer, uint8 state, uint64 expiresEpoch, "
        "uint64 startsEpoch, uint256 voters",
        _PLAIN, queries.proposal, view=True,
    ),
    Method("parameters", "bytes32 name", "uint256 value", _PLAIN, queries.parameter, view=True),
    Method("burned", "", "uint256 amount", _PLAIN, queries.burned, view=True),
)  # fmt: skip

METHODS: Final = {method.name: method for method in _TABLE}
_BY_SELECTOR: Final = {method.selector: method for method in _TABLE}


def system(context: BlockContext) -> System:
    """The table with which the transactions of a block, or a call on its state, are run."""
    return {DPOS_ADDRESS: partial(_run, context)}


def _run(context: BlockContext, call: Call) -> bytes:
    """Charges for a call and runs its method; the reason of a revert begins with a code."""
    prices = context.parameters
    call.charge(getattr(prices, _CALL))
    try:
        method = _BY_SELECTOR.get(call.input[:SELECTOR_BYTES])
        if method is None or len(call.input) > INPUT_BYTES_MAX:
            raise Invalid("dpos_call", "no such method, or too many bytes")
        call.charge(getattr(prices, method.gas))
        if call.value and not method.payable:
            raise Invalid("dpos_call", "the method takes no value")
        arguments = method.arguments(call.input[SELECTOR_BYTES:])
        return method.returned(method.run(Frame(call, context, StorageSlot(call)), *arguments))
    except Invalid as refused:
        raise Revert(error_data(f"{refused.code}: {refused}")) from None


def _root(journal: Journal) -> StorageSlot:
    return StorageSlot(JournalStorage(journal, DPOS_ADDRESS))


def commitment_of(journal: Journal, delegate: bytes) -> tuple[bytes, int]:
    """The seed commitment (32 bytes) that the delegate's next reveal must open; zeros for none.

    With the slot of the block that made it, 0 for the registration.
    """
    record = candidates.record_of(_root(journal), delegate)
    return record[COMMITMENT].to_bytes(32, "big"), record[COMMITTED_AT]


def is_tombstoned(journal: Journal, signer: bytes) -> bool:
    """Whether the delegate whose key has the address ``signer`` was slashed."""
    root = _root(journal)
    return candidates.record_of(root, candidates.owner_of(root, signer))[STATUS] == TOMBSTONED


def candidates_of(journal: Journal) -> list[Candidate]:
    """All registered candidates, most votes first, ties by address."""
    root = _root(journal)
    found = [candidates.read(root, address) for address in candidates.roll(root)]
    return sorted(found, key=lambda found: (-found.votes, found.address))


def end_block(
    journal: Journal, context: BlockContext, tips: int, missed: tuple[bytes, ...], commitment: bytes
) -> None:
    """Shares out the block's rewards, counts produced and missed slots, keeps the new commitment.

    The tips (wei) are on the contract's balance already; the block reward is minted here.
    ``missed`` names the leader of each slot since the parent in which there is no block.
    """
    root, delegate = _root(journal), context.proposer
    reward = context.parameters.block_reward
    journal.add_balance(DPOS_ADDRESS, reward)
    stakes.record_of(root, delegate)[REWARDS] += rewards.share_out(root, context, reward + tips)
    candidates.count(root, context.epoch, delegate, missed)
    record = candidates.record_of(root, delegate)
    record[COMMITMENT], record[COMMITTED_AT] = int.from_bytes(commitment, "big"), context.slot


def at_boundary(journal: Journal, context: BlockContext) -> Elected:
    """Ends ``context.epoch``, after ``end_block`` of its boundary: jail, parameters, election."""
    root, epoch = _root(journal), context.epoch
    election.jail_absent(root, epoch, context.parameters)
    election.expire_votes(root, epoch + 1)
    amended = parameters.at_boundary(root, context)
    elected = election.elect(root, epoch + election.SETS_AHEAD, amended)
    running = (election.members(root, epoch + 1), elected)
    parameters.close(root, running)
    parameters.decide_rules(root, context, running)
    return Elected(elected, amended)


def genesis_state(journal: Journal, genesis: Genesis) -> None:
    """Writes the contract's account before the first block: code, stakes, Sets 0 and 1.

    Each delegate of genesis is registered under its own key and votes for itself.
    """
    journal.set_code(DPOS_ADDRESS, CODE)
    root, first = _root(journal), genesis.parameters
    for delegate in genesis.delegates:
        profile = Profile(delegate.name, "", 0, bytes(32))
        most = first.candidates_max
        candidates.enter(root, delegate.address, profile, delegate.public_key, bytes(32), most)
        journal.add_balance(DPOS_ADDRESS, delegate.stake)
        stakes.change_stake(root, delegate.address, delegate.stake, 0)
        stakes.cast(root, delegate.address, (delegate.address,), 0, first.vote_expiry_epochs)
    seats, standby = first.delegates_active, first.delegates_standby
    ranked = [delegate.address for delegate in genesis.delegates][: seats + standby]
    for epoch in range(election.SETS_AHEAD):
        election.keep(root, epoch, ranked[:seats], ranked[seats:])
