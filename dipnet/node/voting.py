"""The delegate of a node: what it proposes, prevotes and commits; and the votes of all delegates.

``Voting`` joins the chain, the tally of votes and the answers of the signer. It asks for signatures
(``Sign``) by its own copy of the vote state. The signer keeps the state itself on disk, may serve
another node too, and has the last word (V1, V2). The order is persist, sign, send. A refusal of the
signer costs the ballot and nothing else.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from dipnet.consensus.chain import produce, reports
from dipnet.consensus.chain.block import Block
from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.chain.pool import Pool
from dipnet.consensus.chain.produce import BlockDraft
from dipnet.consensus.chain.records import read
from dipnet.consensus.chain.schedule import slot_at, slot_start_ms
from dipnet.consensus.finality import finality
from dipnet.consensus.finality.header import Header
from dipnet.consensus.finality.members import Members
from dipnet.consensus.finality.tally import VOTE_SLOTS_MAX, Offence, Statement, Tally
from dipnet.consensus.finality.votes import Ballot, BallotKind, Certificate, Vote, Voter, VoteState
from dipnet.node.effects import Effect, Report, Sign, Signed
from dipnet.primitives.codec import UINT, Puts, Reader, pack
from dipnet.primitives.crypto import address
from dipnet.primitives.errors import Invalid

log = logging.getLogger("dipnet.voting")

ASKED_MAX: Final = 16  # ballots that wait for the signer; when it hangs no more are asked
PROPOSE_SHARE: Final = 2
"""A block is proposed in the first 1/PROPOSE_SHARE of its slot or not at all."""

KEY_SIGNED: Final = b"s"
"""+ address of a delegate's key -> the newest vote state that its signer has reported."""

_SIGNED: Final = (1, UINT, UINT, UINT, UINT)


def signed_state(reader: Reader, public_key: bytes) -> VoteState:
    """The newest recorded vote state of the signer of a key; the zero state without a record.

    A signer whose own state is older was set back, perhaps to a copy from a backup.
    """
    raw = reader.get(KEY_SIGNED + address(public_key))
    return VoteState(*read(raw, _SIGNED, "the record of what was signed")) if raw else VoteState()


@dataclass(frozen=True, slots=True)
class VoteDraft:
    """An unsigned vote: the ballot, and the index of our delegate in the set of its epoch."""

    ballot: Ballot
    index: int

    def sealed(self, signature: bytes) -> Vote:
        """The vote with its ``signature`` (65 bytes)."""
        return Vote(self.ballot, self.index, signature)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A block or vote that waits for its signature.

    ``heard`` is the vote state that our key was known to have when the signature was asked for.
    """

    draft: BlockDraft | VoteDraft
    heard: VoteState


class Voting:
    """The votes of one node's delegate and of all other delegates. An observer only counts."""

    def __init__(
        self, chain: Chain, pool: Pool, reader: Reader, voter: Voter | None, paused: bool
    ) -> None:
        """``reader`` has the offences known before a restart. An observer has no ``voter``."""
        self.chain = chain
        self.tally = Tally(lambda epoch: chain.sets.get(epoch))
        self.voter = voter
        self.paused = paused
        self.idle: str | None = None
        """Why the delegate proposes nothing at present, for people; None when it may propose."""
        self.results: Counter[str] = Counter()
        """Number of votes since start by the code that refused them, "" for counted votes."""
        self.unsigned = 0
        """Ballots that our signer refused."""
        self._pool = pool
        self._votes: dict[BallotKind, Vote] = {}  # our last of each kind, to be sent again
        self._asked: dict[int, _Asked] = {}  # blocks and votes at the signer, by ticket
        self._tickets = 0
        self._heard = VoteState()  # the vote state of our key's known signatures, here or elsewhere
        self.elsewhere: str | None = None
        """Why nothing is signed any more: our key has signed ballots unknown to our signer."""
        self._us = address(voter.public_key) if voter is not None else b""
        self._told = self._recorded = voter.state if voter is not None else VoteState()
        self._recorded_slot = -1
        # Head, prevote certificate and sets when ``vote`` last looked.
        self._judged: tuple[Header, Certificate | None, Mapping[int, Members]] | None = None
        self._out: list[Effect] = []
        for offence in reports.stored(reader):
            self.tally.remember(offence)
        self._noted = len(self.tally.offences())
        self._new: tuple[Offence, ...] = ()  # not recorded yet

    # --- ballots of our delegate

    def propose(self, now_ms: int, slot: int) -> None:
        """Draft a block and have it signed, if it is our turn, early enough and unsigned yet."""
        voter, chain = self.voter, self.chain
        if voter is None or self.idle is not None:
            return
        parameters = chain.parameters
        late = now_ms - slot_start_ms(parameters, slot)
        if late * PROPOSE_SHARE > parameters.slot_ms:
            return
        if any(isinstance(asked.draft, BlockDraft) for asked in self._asked.values()):
            return  # that block is to be the parent of this block
        if slot <= max(chain.head.slot, voter.state.proposed):
            return
        turn = produce.turn(chain, slot)
        if not turn.is_of(voter.public_key):
            return
        draft = produce.build(chain, self._pool, turn, voter.seed_key, self._unpunished())
        for tx_hash, reason in draft.refused:
            log.info("transaction %s leaves the pool: %s", tx_hash.hex(), reason)
            self._pool.drop(tx_hash)
        self._ask(draft.header.proposal, draft)

    def vote(self, now_ms: int, vouched_ms: Callable[[], int]) -> None:
        """Prevote the head (V1) and commit to the prevote-certified block (V2), where we may.

        A head whose slot begins after ``vouched_ms`` (Unix time) waits: after a prevote for a slot
        that only our own clock has reached the delegate could prevote no earlier slot. The slot of
        a certified block has been reached by the clocks of a quorum.
        """
        voter, chain = self.voter, self.chain
        if voter is None or self.paused:
            return
        head, certificate = chain.head, chain.certificates.highest.get(BallotKind.PREVOTE)
        judged = (head, certificate, chain.sets)
        # The vote state only grows: a ballot that it refused for these values it refuses again.
        if judged == self._judged:
            return
        timely = slot_start_ms(chain.parameters, head.slot) <= vouched_ms()
        self._judged = judged if timely else None
        recent = slot_at(chain.parameters, now_ms) - VOTE_SLOTS_MAX
        if timely and head.height and head.slot > recent:
            self._vote(finality.prevote(head, chain.epoch_of(head).boundary))
        if certificate is not None and certificate.ballot.slot > max(recent, chain.final.slot):
            self._vote(finality.commit(certificate.ballot))

    def _vote(self, ballot: Ballot) -> None:
        voter = self.voter
        assert voter is not None
        members = self.chain.sets.get(ballot.epoch)
        index = members.index_of_key(voter.public_key) if members is not None else None
        if index is not None and not voter.state.refuse(ballot):
            self._ask(ballot, VoteDraft(ballot, index))

    def _ask(self, ballot: Ballot, draft: BlockDraft | VoteDraft) -> None:
        """Ask for a signature; our copy of the vote state counts it as given from now on."""
        assert self.voter is not None
        assert not self.voter.state.refuse(ballot)
        if self.elsewhere or len(self._asked) >= ASKED_MAX:
            return
        self.voter = replace(self.voter, state=self.voter.state.after(ballot))
        self._tickets += 1
        self._asked[self._tickets] = _Asked(draft, self._heard)
        self._out.append(Sign(self._tickets, ballot))

    def on_signed(self, event: Signed) -> Block | Vote | None:
        """The signed block or vote; None where the signer refused, or must not be believed."""
        asked = self._asked.pop(event.ticket)
        draft = asked.draft
        assert self.voter is not None
        self._told = self._told.joined(event.state)
        # Our copy is never set back to what it was before we asked: otherwise a faulty signer would
        # be asked for the same signature again and again.
        self.voter = replace(self.voter, state=self.voter.state.joined(event.state))
        if not event.signature:
            self.unsigned += 1
            what = "block" if isinstance(draft, BlockDraft) else "vote"
            log.info("the signer refuses a %s", what)
            return None
        if event.state.joined(asked.heard) != event.state:
            self._stop_signing(asked.heard, event.state)
            return None
        if isinstance(draft, BlockDraft):
            return draft.sealed(event.signature, self.voter.public_key)
        vote = draft.sealed(event.signature)
        self._votes[vote.ballot.kind] = vote
        return vote

    def unrecorded(self, slot: int) -> Puts:
        """Records to write now: new offences, and once a slot the vote state of the signer."""
        puts = self._unrecorded_state(slot)
        for offence in self._new:
            puts |= reports.puts(offence)
        self._new = ()
        return puts

    def _unrecorded_state(self, slot: int) -> Puts:
        """The record that ``signed_state`` reads."""
        state = self._told.joined(self._heard)
        if self.voter is None or state == self._recorded or slot == self._recorded_slot:
            return {}
        self._recorded, self._recorded_slot = state, slot
        key = KEY_SIGNED + address(self.voter.public_key)
        return {key: pack((1, state.epoch, state.proposed, state.prevoted, state.committed))}

    def again(self) -> tuple[list[Vote], list[Certificate]]:
        """The votes and certificates to send again each slot: our last votes, the highest
        certificates (docs/spec/consensus.md "The protocol")."""
        return [self._votes[kind] for kind in sorted(self._votes)], list(self.chain.certificates)

    # --- votes of all delegates

    def add(self, vote: Vote, now_ms: int) -> Certificate | None:
        """Count a verified vote; the certificate that it completes. Raises as ``Tally.add``."""
        members = self.chain.sets.get(vote.ballot.epoch)
        if members is not None and members.signers[vote.index] == self._us:
            self._hear(vote.ballot)
        certificate = self.tally.add(vote, slot_at(self.chain.parameters, now_ms))
        self.results[""] += 1
        return certificate

    def add_certificates(self, certificates: Iterable[Certificate]) -> None:
        """Look for signatures of our key in verified certificates."""
        for certificate in certificates if self._us else ():
            ballot = certificate.ballot
            members = self.chain.sets.get(ballot.epoch)
            indices = certificate.indices()
            if members is not None and self._us in (members.signers[index] for index in indices):
                self._hear(ballot)

    def _hear(self, ballot: Ballot) -> None:
        """Our key has signed ``ballot``, here or elsewhere: ask for no contradicting signature."""
        assert self.voter is not None
        self._heard = self._heard.joined(VoteState().after(ballot))
        self.voter = replace(self.voter, state=self.voter.state.joined(self._heard))

    def _stop_signing(self, heard: VoteState, told: VoteState) -> None:
        """A signer records a ballot before its signature leaves: ours has not signed ``heard``."""
        self.elsewhere = (
            f"the key has signed up to {heard}, and its signer knows of {told}: something else "
            "signs with it, or its vote state was set back; see docs/signing.md"
        )
        log.critical("no more signatures: %s", self.elsewhere)

    def add_proposal(self, block: Block, now_ms: int) -> None:
        """Remember the proposal: a second proposal of its delegate for the slot is offence E0."""
        if block.signer == self._us:
            self._hear(block.header.proposal)
        slot = slot_at(self.chain.parameters, now_ms)
        try:
            proposal = Statement(block.header.proposal, block.signature)
            self.tally.add_proposal(proposal, block.signer, slot)
        except Invalid as refused:
            log.debug("proposal of slot %d is not counted: %s", block.header.slot, refused)

    def on_final(self, now_ms: int) -> None:
        """Blocks became final: forget votes that are no longer needed."""
        self.tally.prune(self.chain.final.slot, slot_at(self.chain.parameters, now_ms))

    def _unpunished(self) -> list[Offence]:
        """The known offences that a proposal on the head may report."""
        epoch = self.chain.epoch
        oldest = epoch.number - epoch.parameters.evidence_epochs
        return [
            offence
            for offence in self.tally.offences()
            if max(offence.first.ballot.epoch, offence.second.ballot.epoch) >= oldest
            and not self.chain.is_tombstoned(offence.signer)
        ]

    def drain(self) -> Iterator[Effect]:
        """The effects since the last call, in order."""
        fresh = self.tally.offences()[self._noted :]
        self._noted += len(fresh)
        self._new += fresh
        out, self._out = [*self._out, *map(Report, fresh)], []
        return iter(out)
