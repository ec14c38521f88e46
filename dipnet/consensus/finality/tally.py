"""The votes that a node has received; it makes certificates and proofs of offences of them.

A tally is bounded whatever delegates sign: a window of slots, and in it two different ballots for
each member, kind, slot and epoch, which a proof needs (docs/spec/consensus.md "Accountable
safety"). ``check`` is pure and costly, for a worker thread; a ``Tally`` belongs to the event loop.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from dipnet.consensus.finality.members import Members
from dipnet.consensus.finality.votes import (
    Ballot,
    BallotKind,
    Certificate,
    Vote,
    certificate_of,
    check_votes,
    decode_vote,
    offence,
)
from dipnet.primitives.crypto import ADDRESS_BYTES
from dipnet.primitives.errors import Invalid

VOTE_SLOTS_MAX: Final = 256  # four blocks at the longest back-off
VOTE_AHEAD_SLOTS: Final = 1  # a voter's clock may be before ours
VOTE_LATE_SLOTS: Final = 8  # below the final slot: late votes count for participation and offences
BALLOTS_MAX: Final = 2  # of one member, kind, slot and epoch
OFFENDERS_MAX: Final = 1024
PARTICIPATION_SLOTS_MAX: Final = 128

Sets: TypeAlias = Callable[[int], Members | None]
"""Number of an epoch -> its set, None where the epoch is not known."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A ballot of any kind with its signature (65 bytes): half of a proof."""

    ballot: Ballot
    signature: bytes


@dataclass(frozen=True, slots=True)
class Offence:
    """Two statements that no honest delegate makes with one key, whose address is ``signer``.

    ``name`` is ``E0`` to ``E3``.
    """

    name: str
    signer: bytes
    one: Statement
    other: Statement


@dataclass(frozen=True, slots=True)
class Participation:
    """In how many of ``slots``, slots with a certificate, votes of a delegate for it were seen."""

    slots: int = 0
    prevotes: int = 0
    commits: int = 0


def check(
    raws: Sequence[bytes], sets: Sets, chain_id: int, final_slot: int
) -> list[Vote | Invalid]:
    """Each of ``raws`` as a vote that a member of a known set has signed, or its refusal.

    Codes: those of ``decode_vote``, ``vote_old``, ``vote_epoch``, ``vote_member``,
    ``vote_signature``. All signatures are recovered in one native batch, except those of votes too
    far below ``final_slot`` for the tally: old votes, which anybody can send again, cost nothing.
    """
    judged: list[Vote | Invalid] = []
    votes, members = [], []
    for raw in raws:
        try:
            vote = decode_vote(raw)
            if vote.ballot.slot <= final_slot - VOTE_LATE_SLOTS:
                raise Invalid("vote_old", f"slot {vote.ballot.slot} is settled")
            members.append(_set_of(vote.ballot, sets, vote.index))
        except Invalid as refusal:
            judged.append(refusal)
        else:
            judged.append(vote)
            votes.append(vote)
    good = iter(check_votes(votes, members, chain_id))
    return [
        Invalid("vote_signature") if isinstance(verdict, Vote) and not next(good) else verdict
        for verdict in judged
    ]


def _set_of(ballot: Ballot, sets: Sets, index: int) -> Members:
    members = sets(ballot.epoch)
    if members is None:
        raise Invalid("vote_epoch", f"epoch {ballot.epoch}")
    if index >= len(members):
        raise Invalid("vote_member", f"index {index} of {len(members)}")
    return members


@dataclass(slots=True)
class _Slot:
    """The ballots of one slot: statements by ``_author``, votes by ballot and index."""

    stated: dict[tuple[bytes, BallotKind, int], list[Statement]] = field(default_factory=dict)
    votes: dict[Ballot, dict[int, Vote]] = field(default_factory=dict)
    certified: dict[Ballot, Members] = field(default_factory=dict)


def _author(signer: bytes, kind: BallotKind, epoch: int) -> tuple[bytes, BallotKind, int]:
    """The key of a statement in ``_Slot.stated``: two different statements there are an offence."""
    return signer, kind, 0 if kind is BallotKind.PROPOSAL else epoch


class Tally:
    """The votes and proposals of a window of slots, and the certificates and offences among them.

    The window ends ``VOTE_AHEAD_SLOTS`` after ``slot_now``, the clock's slot in each call. It
    begins ``VOTE_SLOTS_MAX`` before ``slot_now`` or ``VOTE_LATE_SLOTS`` below the final slot,
    whichever is later. It goes back with the clock: a clock that was wrong shuts out no later vote.
    """

    def __init__(self, sets: Sets) -> None:
        self._sets = sets
        self._final = 0
        self._window = range(1, 1)  # the slots that may be kept
        self._slots: dict[int, _Slot] = {}
        self._offences: dict[bytes, Offence] = {}
        self._taken: deque[dict[bytes, Participation]] = deque(maxlen=PARTICIPATION_SLOTS_MAX)

    def add(self, vote: Vote, slot_now: int) -> Certificate | None:
        """Keep a vote that ``check`` has passed; return the certificate that it completes.

        A vote that is kept already changes nothing. Raises ``Invalid``: ``vote_slot`` (ahead of the
        clock), ``vote_old`` (below the window), ``vote_epoch``, ``vote_member``, ``vote_limit``
        (two other ballots of this member, kind, slot and epoch are kept).
        """
        ballot = vote.ballot
        assert ballot.kind is not BallotKind.PROPOSAL
        self._check_slot(ballot.slot, slot_now)
        members = _set_of(ballot, self._sets, vote.index)
        at = self._slots.setdefault(ballot.slot, _Slot())
        self._state(members.signers[vote.index], Statement(ballot, vote.signature))
        votes = at.votes.setdefault(ballot, {})
        votes.setdefault(vote.index, vote)
        assert len(votes) <= len(members)
        if len(votes) < members.quorum or ballot in at.certified:
            return None
        at.certified[ballot] = members
        return certificate_of(list(votes.values()), members)

    def add_proposal(self, proposal: Statement, signer: bytes, slot_now: int) -> None:
        """Keep a proposal for E0; ``signer`` is the address (20 bytes) of the key that signed it.

        The signer was recovered when the block was decoded (``Block.signer``). Raises as ``add``
        does, ``vote_member`` where the signer is no member of the set.
        """
        assert len(signer) == ADDRESS_BYTES, "the signer was not recovered"
        ballot = proposal.ballot
        assert ballot.kind is BallotKind.PROPOSAL
        self._check_slot(ballot.slot, slot_now)
        members = _set_of(ballot, self._sets, 0)
        if signer not in members.signers:
            raise Invalid("vote_member", "no proposer of this epoch")
        self._slots.setdefault(ballot.slot, _Slot())
        self._state(signer, proposal)

    def offences(self) -> tuple[Offence, ...]:
        """The first proof against each offender, in the order of discovery."""
        return tuple(self._offences.values())

    def remember(self, offence: Offence) -> None:
        """Take a proof that was found before a restart."""
        self._offences.setdefault(offence.signer, offence)

    def participation(self) -> dict[bytes, Participation]:
        """By delegate, over the last ``PARTICIPATION_SLOTS_MAX`` certified slots of the past."""
        total: dict[bytes, Participation] = {}
        for taken in self._taken:
            for delegate, slot in taken.items():
                sum_ = total.get(delegate, Participation())
                total[delegate] = Participation(
                    sum_.slots + 1, sum_.prevotes + slot.prevotes, sum_.commits + slot.commits
                )
        return total

    def prune(self, final_slot: int, slot_now: int) -> None:
        """Move the window: forget slots far below ``final_slot`` or far before ``slot_now``."""
        self._final = max(self._final, final_slot)
        first = max(self._final - VOTE_LATE_SLOTS, slot_now - VOTE_SLOTS_MAX, 0) + 1
        window = range(first, slot_now + VOTE_AHEAD_SLOTS + 1)
        assert len(window) <= VOTE_SLOTS_MAX + VOTE_AHEAD_SLOTS
        if window != self._window:
            self._window = window
            for slot in sorted(slot for slot in self._slots if slot not in window):
                self._count(self._slots.pop(slot))

    def _check_slot(self, slot: int, slot_now: int) -> None:
        self.prune(0, slot_now)
        if slot not in self._window:
            code = "vote_old" if slot < self._window.start else "vote_slot"
            window = f"from {self._window.start} to {slot_now + VOTE_AHEAD_SLOTS}"
            raise Invalid(code, f"slot {slot}, votes count {window}")

    def _state(self, signer: bytes, new: Statement) -> None:
        """Keep a statement of ``signer`` and look for the offence that it completes."""
        ballot = new.ballot
        own = self._slots[ballot.slot].stated.setdefault(
            _author(signer, ballot.kind, ballot.epoch), []
        )
        if any(old.ballot == ballot for old in own):
            return
        if len(own) >= BALLOTS_MAX:
            raise Invalid("vote_limit", f"slot {ballot.slot}")
        if signer not in self._offences and len(self._offences) < OFFENDERS_MAX:
            for old in (*own, *self._crossing(signer, ballot)):
                if name := offence(old.ballot, ballot):
                    self._offences[signer] = Offence(name, signer, old, new)
                    break
        own.append(new)
        assert len(own) <= BALLOTS_MAX

    def _crossing(self, signer: bytes, ballot: Ballot) -> list[Statement]:
        """The statements of ``signer`` in other slots with which ``ballot`` may be E3."""
        window = self._window
        if ballot.kind is BallotKind.PREVOTE:
            kind = BallotKind.COMMIT
            slots = range(max(ballot.justify_slot + 1, window.start), ballot.slot)
        elif ballot.kind is BallotKind.COMMIT:
            kind, slots = BallotKind.PREVOTE, range(ballot.slot + 1, window.stop)
        else:
            return []
        author = _author(signer, kind, ballot.epoch)
        there = (self._slots[slot].stated for slot in slots if slot in self._slots)
        return [statement for stated in there for statement in stated.get(author, ())]

    def _count(self, past: _Slot) -> None:
        """Keep for ``participation`` which members have voted for the certified block."""
        if not past.certified:
            return
        ballot, members = next(iter(past.certified.items()))
        assert len(past.votes[ballot]) >= members.quorum
        voted: dict[BallotKind, set[int]] = {BallotKind.PREVOTE: set(), BallotKind.COMMIT: set()}
        for seen, votes in past.votes.items():
            if (seen.epoch, seen.block_id) == (ballot.epoch, ballot.block_id):
                voted[seen.kind].update(votes)
        prevoted, committed = voted[BallotKind.PREVOTE], voted[BallotKind.COMMIT]
        self._taken.append({
            delegate: Participation(1, index in prevoted, index in committed)
            for index, delegate in enumerate(members.addresses)
        })  # fmt: skip
