"""Changes of the protocol's parameters by vote of the delegates (docs/spec/consensus.md
"Election").

A member of the current set proposes a value of one parameter. At each boundary a proposal passes
when a quorum of that epoch's set has voted for it. It takes effect at another boundary,
``parameter_delay_epochs`` later. A proposal that has not passed after ``PROPOSAL_EPOCHS`` expires,
and sooner when its proposer leaves the sets. ``Parameters.amended`` judges the value when it is
proposed and again when it takes effect (ADR 76).

A new version of the rules also needs signals of readiness: at a boundary, of a quorum of the set of
the next epoch and of a quorum of the set after that. Then it is *decided*, and in force above the
next boundary. The next boundary comes only after this boundary is final: so a new version starts at
a final boundary at which a quorum was ready, and every node knows an epoch ahead. A version without
readiness expires ``PROPOSAL_EPOCHS`` after its delay.
"""

from dataclasses import dataclass
from typing import Final

from dipnet.consensus.finality.members import Members
from dipnet.consensus.staking import candidates
from dipnet.consensus.staking.block_context import BlockContext
from dipnet.consensus.staking.candidates import PROPOSED, READY, REGISTERED, STATUS
from dipnet.ledger.parameters import DELEGATES_MAX, Parameters
from dipnet.primitives.errors import Invalid
from dipnet.vm.storage_layout import (
    PARAMETERS,
    PROPOSALS,
    PROPOSALS_MADE,
    PROPOSALS_OPEN,
    WORD,
    StorageSlot,
    struct,
    to_address,
)

PROPOSAL_EPOCHS: Final = 336
PROPOSALS_OPEN_MAX: Final = 2 * DELEGATES_MAX  # one for each member of two sets

OPEN: Final = 1
PASSED: Final = 2
EFFECTIVE: Final = 3
EXPIRED: Final = 4
REFUSED: Final = 5  # passed, but no longer valid when it was to take effect
DECIDED: Final = 6  # rules for which a quorum is ready: in force from the epoch STARTS on
_PENDING: Final = (OPEN, PASSED, DECIDED)
RULES: Final = "rules"

(
    FIELD,  # bytes32: the name, ASCII with zeros after it
    VALUE,  # uint256
    PROPOSER,  # address
    STATE,  # uint8: OPEN to DECIDED
    EXPIRES,  # uint64: epoch
    STARTS,  # uint64: the first epoch in which it is in force, 0 unless it has passed
    VOTERS,  # mapping(address => bool)
) = struct(256, 256, 160, 8, 64, 64, 256)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposal. ``starts`` is 0 unless it has passed; ``voters`` are those of the current set."""

    name: str
    value: int
    proposer: bytes
    state: int
    expires: int
    starts: int
    voters: int


def _place(root: StorageSlot, number: int) -> StorageSlot:
    return root.under(PROPOSALS, number)


def _name(word: int) -> str:
    return word.to_bytes(32, "big").rstrip(b"\0").decode()


def read(root: StorageSlot, number: int, members: Members) -> Proposal:
    """The proposal of a number; ``Invalid("dpos_proposal")`` where there is none."""
    proposal = _place(root, number)
    if not proposal[STATE]:
        raise Invalid("dpos_proposal", f"there is no proposal {number}")
    return Proposal(
        _name(proposal[FIELD]), proposal[VALUE], to_address(proposal[PROPOSER]), proposal[STATE],
        proposal[EXPIRES], proposal[STARTS], _support(proposal, members),
    )  # fmt: skip


def _support(proposal: StorageSlot, members: Members) -> int:
    return sum(proposal.under(VOTERS, member)[WORD] for member in members.addresses)


def _quorum_ready(root: StorageSlot, members: Members, version: int) -> bool:
    ready = [
        member
        for member in members.addresses
        if candidates.record_of(root, member)[READY] >= version
    ]
    return len(ready) >= members.quorum


def value_of(parameters: Parameters, name: bytes) -> int:
    """The parameter in force under a name (32 bytes); ``Invalid("dpos_parameter")``."""
    return int(getattr(parameters, _amendable(parameters, name)))


def _amendable(parameters: Parameters, name: bytes) -> str:
    """The parameter of a name: ASCII with zeros after it, as Solidity casts a text to bytes32."""
    text = name.rstrip(b"\0").decode("ascii", "replace")
    if not parameters.is_amendable(text):
        raise Invalid("dpos_parameter", "no parameter of this name is up for votes")
    return text


def _need_member(context: BlockContext, account: bytes) -> None:
    if context.members.index(account) is None:
        raise Invalid("dpos_member", f"epoch {context.epoch}")


def propose(
    root: StorageSlot, context: BlockContext, proposer: bytes, name: bytes, value: int
) -> int:
    """Opens a proposal with its proposer's vote; returns the number.

    Raises ``Invalid``: ``dpos_member``, ``dpos_parameter`` (unknown, out of range),
    ``dpos_proposal`` (the proposer has an open proposal, or too many are open).
    """
    _need_member(context, proposer)
    known = _amendable(context.parameters, name)
    if known == RULES and value <= context.parameters.rules:
        raise Invalid("dpos_parameter", f"rules: version {context.parameters.rules} is in force")
    _amended(context.parameters, context.slot, known, value)
    candidate = candidates.record_of(root, proposer)
    if candidate[PROPOSED]:
        raise Invalid("dpos_proposal", f"your proposal {candidate[PROPOSED]} is still open")
    count = root[PROPOSALS_OPEN]
    if count == PROPOSALS_OPEN_MAX:
        raise Invalid("dpos_proposal", f"{count} are open")
    number = root[PROPOSALS_MADE] + 1
    candidate[PROPOSED] = root[PROPOSALS_MADE] = number
    proposal = _place(root, number)
    proposal[FIELD], proposal[VALUE] = int.from_bytes(name, "big"), value
    proposal[PROPOSER], proposal[STATE] = int.from_bytes(proposer, "big"), OPEN
    proposal[EXPIRES] = context.epoch + PROPOSAL_EPOCHS
    proposal.under(VOTERS, proposer)[WORD] = 1
    root.element(PROPOSALS_OPEN, count)[WORD] = number
    root[PROPOSALS_OPEN] = count + 1
    return number


def _amended(parameters: Parameters, slot: int, name: str, value: int) -> Parameters:
    try:
        return parameters.amended(slot, name, value)
    except Invalid as refused:
        raise Invalid("dpos_parameter", refused.detail) from None


def vote(root: StorageSlot, context: BlockContext, member: bytes, number: int) -> None:
    """A member votes for a proposal.

    Raises ``Invalid``: ``dpos_member``, ``dpos_proposal`` (unknown, not open, voted already).
    """
    _need_member(context, member)
    proposal = _place(root, number)
    if proposal[STATE] != OPEN:
        raise Invalid("dpos_proposal", f"proposal {number} is not open")
    voter = proposal.under(VOTERS, member)
    if voter[WORD]:
        raise Invalid("dpos_proposal", f"you voted for proposal {number} already")
    voter[WORD] = 1


def _open(root: StorageSlot) -> list[int]:
    return [root.element(PROPOSALS_OPEN, at)[WORD] for at in range(root[PROPOSALS_OPEN])]


def at_boundary(root: StorageSlot, context: BlockContext) -> Parameters:
    """The parameters after the boundary of ``context.epoch``, before its election.

    Proposals that are due take effect in the order in which they were made.
    """
    parameters = context.parameters
    for number in _open(root):
        proposal = _place(root, number)
        _pass(proposal, context)
        parameters = _start(root, proposal, context, parameters)
    return parameters


def close(root: StorageSlot, running: tuple[Members, ...]) -> None:
    """At a boundary, after its election: takes proposals that are no longer pending off the list.

    ``running`` are the sets of the next two epochs. An open proposal expires when its proposer has
    no seat in them or is no candidate any more. Otherwise a seat that changes hands would leave an
    open proposal each time, and fill the list.
    """
    numbers = _open(root)
    still = []
    for number in numbers:
        proposal = _place(root, number)
        proposer = to_address(proposal[PROPOSER])
        if proposal[STATE] == OPEN and not _stays(root, proposer, running):
            proposal[STATE] = EXPIRED
        if proposal[STATE] in _PENDING:
            still.append(number)
        else:
            candidates.record_of(root, proposer)[PROPOSED] = 0
    for at in range(len(numbers)):
        root.element(PROPOSALS_OPEN, at)[WORD] = still[at] if at < len(still) else 0
    root[PROPOSALS_OPEN] = len(still)


def _stays(root: StorageSlot, proposer: bytes, running: tuple[Members, ...]) -> bool:
    registered = candidates.record_of(root, proposer)[STATUS] == REGISTERED
    return registered and any(members.index(proposer) is not None for members in running)


def _pass(proposal: StorageSlot, context: BlockContext) -> None:
    following = context.epoch + 1
    if proposal[STATE] == OPEN and _support(proposal, context.members) >= context.members.quorum:
        proposal[STATE] = PASSED
        proposal[STARTS] = following + context.parameters.parameter_delay_epochs
        proposal[EXPIRES] = proposal[STARTS] + PROPOSAL_EPOCHS
    if proposal[STATE] != DECIDED and proposal[EXPIRES] <= following:
        proposal[STATE] = EXPIRED


def _start(
    root: StorageSlot, proposal: StorageSlot, context: BlockContext, parameters: Parameters
) -> Parameters:
    """The parameters with a proposal that takes effect at this boundary, or as they are."""
    name, value = _name(proposal[FIELD]), proposal[VALUE]
    if (
        proposal[STATE] != (DECIDED if name == RULES else PASSED)
        or proposal[STARTS] > context.epoch + 1
    ):
        return parameters
    if name == RULES and value <= parameters.rules:
        proposal[STATE] = REFUSED
        return parameters
    try:
        amended = parameters.amended(context.slot, name, value)
    except Invalid:
        proposal[STATE] = REFUSED
        return parameters
    proposal[STATE], proposal[STARTS] = EFFECTIVE, context.epoch + 1
    root.under(PARAMETERS, proposal[FIELD].to_bytes(32, "big"))[WORD] = value
    return amended


def decide_rules(root: StorageSlot, context: BlockContext, running: tuple[Members, ...]) -> None:
    """At a boundary, after its election: decides new rules that are due and have a quorum ready.

    ``running`` are the sets of the next two epochs: the first makes the last blocks by the old
    rules, the second the first blocks by the new rules.
    """
    starts = context.epoch + 2
    for number in _open(root):
        proposal = _place(root, number)
        if (
            proposal[STATE] == PASSED
            and _name(proposal[FIELD]) == RULES
            and proposal[STARTS] <= starts
        ):
            version = proposal[VALUE]
            if all(_quorum_ready(root, members, version) for members in running):
                proposal[STATE], proposal[STARTS] = DECIDED, starts
