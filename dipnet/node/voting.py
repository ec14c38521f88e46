"""A delegate's part in a node: what he proposes, prevotes and commits, and what others voted.

``Voting`` joins the chain, the tally of votes and the signer's answers. It asks for signatures
(``Sign``) by its own copy of the vote state, which is never ahead of the signer's: the signer, who
keeps the state on disk and may serve another node too, has the last word (V1, V2). The order is
persist, sign, send; a ballot that is refused is lost, and nothing else.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
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
from dipnet.consensus.finality.tally import VOTE_SLOTS_MAX, Offence, Statement, Tally
from dipnet.consensus.finality.votes import Ballot, BallotKind, Certificate, Vote, Voter, VoteState
from dipnet.node.effects import Effect, Report, Sign, Signed
from dipnet.primitives.codec import UINT, Puts, Reader, pack
from dipnet.primitives.crypto import address
from dipnet.primitives.errors import Invalid

log = logging.getLogger("dipnet.voting")

ASKED_MAX: Final = 16  # ballots that wait for a signer; one that hangs is asked no more
PROPOSE_SHARE: Final = 2  # a slot is proposed in its first 1/PROPOSE_SHARE or not at all

KEY_SIGNED: Final = b"s"
"""+ address of a delegate's key -> the newest vote state that its signer has told."""

_SIGNED: Final = (1, UINT, UINT, UINT, UINT)


def signed_state(reader: Reader, public_key: bytes) -> VoteState:
    """What the signer of a key told this node last, as far as it is recorded; else nothing.

    A signer that knows less was set back, to a copy from a backup perhaps.
    """
    raw = reader.get(KEY_SIGNED + address(public_key))
    return VoteState(*read(raw, _SIGNED, "the record of what was signed")) if raw else VoteState()


@dataclass(frozen=True, slots=True)
class _Asked:
    """What waits for the signer, and what our key was known to have signed when it was asked."""

    what: BlockDraft | Vote  # a vote without its signature
    heard: VoteState


class Voting:
    """The votes of one node's delegate and of all others; an observer only counts them."""

    def __init__(
        self, chain: Chain, pool: Pool, reader: Reader, voter: Voter | None, paused: bool
    ) -> None:
        """``reader`` has the offences that were known before a restart."""
        self.chain = chain
        self.tally = Tally(lambda epoch: chain.sets.get(epoch))
        self.voter = voter
        self.paused = paused
        self.idle: str | None = None
        """Why nothing is proposed at present, for people; None while all is well."""
        self.results: Counter[str] = Counter()
        """Votes since start by what became of them: "" counted, else the code that refused."""
        self.unsigned = 0
        """Ballots that our signer refused."""
        self._pool = pool
        self._votes: dict[BallotKind, Vote] = {}  # our last of each kind, to be sent again
        self._asked: dict[int, _Asked] = {}  # waiting for the signer
        self._tickets = 0
        self._heard = VoteState()  # what our key is known to have signed, here or elsewhere
        self.elsewhere: str | None = None
        """Why nothing is signed any more: our signer does not know what our key has signed."""
        self._us = address(voter.public_key) if voter is not None else b""
        self._told = self._recorded = voter.state if voter is not None else VoteState()
        self._recorded_slot = -1
        self._judged: object = None  # head, certificate and sets when ``vote`` last looked
        self._out: list[Effect] = []
        for offence in reports.stored(reader):
            self.tally.remember(offence)
        self._noted = len(self.tally.offences())
        self._new: tuple[Offence, ...] = ()  # since they were recorded

    # --- what we say

    def propose(self, now_ms: int, slot: int) -> None:
        """Our slot, in time, and not signed before: draft a block and have it signed."""
        voter, chain = self.voter, self.chain
        if voter is None or self.idle is not None:
            return
        parameters = chain.parameters
        late = now_ms - slot_start_ms(parameters, slot)
        if late * PROPOSE_SHARE > parameters.slot_ms:
            return
        if any(isinstance(asked.what, BlockDraft) for asked in self._asked.values()):
            return  # it is to be the parent of this one
        address = produce.proposer(chain, slot, voter)
        if address is None or slot <= voter.state.proposed:
            return
        offences = self._unpunished()
        draft = produce.build(chain, self._pool, slot, address, voter.seed_key, offences)
        for tx_hash, reason in draft.refused:
            log.info("transaction %s leaves the pool: %s", tx_hash.hex(), reason)
            self._pool.drop(tx_hash)
        self._ask(draft.header.proposal, draft)

    def vote(self, now_ms: int, vouched_ms: Callable[[], int]) -> None:
        """Prevote the head (V1) and commit to what is prevote-certified (V2), where we may.

        A head whose slot begins after ``vouched_ms`` waits: a prevote for a slot that only our own
        clock has shown would keep us from all before it. A certified one was seen by a quorum.
        """
        voter, chain = self.voter, self.chain
        if voter is None or self.paused:
            return
        head, certificate = chain.head, chain.certificates.highest.get(BallotKind.PREVOTE)
        judged = (head, certificate, chain.sets)
        if judged == self._judged:  # our state only grows, so nothing may be voted that might not
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
            self._ask(ballot, Vote(ballot, index, b""))

    def _ask(self, ballot: Ballot, what: BlockDraft | Vote) -> None:
        """Have it signed; until the answer our copy of the state takes it for done."""
        assert self.voter is not None
        if self.elsewhere or len(self._asked) >= ASKED_MAX:
            return
        self.voter = replace(self.voter, state=self.voter.state.after(ballot))
        self._tickets += 1
        self._asked[self._tickets] = _Asked(what, self._heard)
        self._out.append(Sign(self._tickets, ballot))

    def on_signed(self, event: Signed) -> Block | Vote | None:
        """What is to be imported or sent now; None where the signer refused, or took too long."""
        asked = self._asked.pop(event.ticket)
        what = asked.what
        assert self.voter is not None
        self._told = self._told.joined(event.state)
        # Never back to what we had before we asked: a signer that is out of order would be asked
        # the same again and again.
        self.voter = replace(self.voter, state=self.voter.state.joined(event.state))
        if not event.signature:
            self.unsigned += 1
            log.info("the signer refuses %s", "a vote" if isinstance(what, Vote) else "a block")
            return None
        if event.state.joined(asked.heard) != event.state:
            self._stop_signing(asked.heard, event.state)
            return None
        if isinstance(what, BlockDraft):
            return what.sealed(event.signature, self.voter.public_key)
        vote = self._votes[what.ballot.kind] = replace(what, signature=event.signature)
        return vote

    def unrecorded(self, slot: int) -> Puts:
        """What must outlive this process: new offences, and what the signer told, once a slot."""
        puts = self._unrecorded_state(slot)
        for offence in self._new:
            puts |= reports.puts(offence)
        self._new = ()
        return puts

    def _unrecorded_state(self, slot: int) -> Puts:
        """See ``signed_state``."""
        one = self._told.joined(self._heard)
        if self.voter is None or one == self._recorded or slot == self._recorded_slot:
            return {}
        self._recorded, self._recorded_slot = one, slot
        key = KEY_SIGNED + address(self.voter.public_key)
        return {key: pack((1, one.epoch, one.proposed, one.prevoted, one.committed))}

    def again(self) -> tuple[list[Vote], list[Certificate]]:
        """What is sent again each slot: our last votes, the highest certificates."""
        return [self._votes[kind] for kind in sorted(self._votes)], list(self.chain.certificates)

    # --- what others say

    def add(self, vote: Vote, now_ms: int) -> Certificate | None:
        """Count a verified vote; the certificate that it completes. Raises as ``Tally.add``."""
        members = self.chain.sets.get(vote.ballot.epoch)
        if members is not None and members.signers[vote.index] == self._us:
            self._hear(vote.ballot)
        certificate = self.tally.add(vote, slot_at(self.chain.parameters, now_ms))
        self.results[""] += 1
        return certificate

    def add_certificates(self, certificates: Iterable[Certificate]) -> None:
        """Verified certificates, in which our own votes may be."""
        for one in certificates if self._us else ():
            members = self.chain.sets.get(one.ballot.epoch)
            if members is not None and self._us in (members.signers[i] for i in one.indices()):
                self._hear(one.ballot)

    def _hear(self, ballot: Ballot) -> None:
        """Our key has signed this, here or elsewhere: nothing is asked for that contradicts it."""
        assert self.voter is not None
        self._heard = self._heard.joined(VoteState().after(ballot))
        self.voter = replace(self.voter, state=self.voter.state.joined(self._heard))

    def _stop_signing(self, heard: VoteState, told: VoteState) -> None:
        """A signer keeps what it signs before anybody can hear of it: ours has not signed this."""
        self.elsewhere = (
            f"the key has signed up to {heard}, and its signer knows of {told}: something else "
            "signs with it, or its vote state was set back; see docs/signing.md"
        )
        log.critical("no more signatures: %s", self.elsewhere)

    def add_proposal(self, block: Block, now_ms: int) -> None:
        """Remember who proposed a block: a second one for the slot is an offence (E0)."""
        if block.signer == self._us:
            self._hear(block.header.proposal)
        slot = slot_at(self.chain.parameters, now_ms)
        try:
            proposal = Statement(block.header.proposal, block.signature)
            self.tally.add_proposal(proposal, block.signer, slot)
        except Invalid as refused:
            log.debug("proposal of slot %d is not counted: %s", block.header.slot, refused)

    def on_final(self, now_ms: int) -> None:
        """Blocks became final: forget the votes that are not needed any more."""
        self.tally.prune(self.chain.final.slot, slot_at(self.chain.parameters, now_ms))

    def _unpunished(self) -> list[Offence]:
        """The offences that are known and may still be reported, by a proposal on the head."""
        epoch = self.chain.epoch
        oldest = epoch.number - epoch.parameters.evidence_epochs
        return [
            one
            for one in self.tally.offences()
            if max(one.one.ballot.epoch, one.other.ballot.epoch) >= oldest
            and not self.chain.is_tombstoned(one.signer)
        ]

    def drain(self) -> Iterator[Effect]:
        """All that is to be done, in order."""
        fresh = self.tally.offences()[self._noted :]
        self._noted += len(fresh)
        self._new += fresh
        out, self._out = [*self._out, *map(Report, fresh)], []
        return iter(out)
