"""Every rule of ballots, certificates, sets and finality, each broken by an edit (``edits.py``).

V1, V2, quorum, hand-over and truncation, whose loss makes conflicts, are in ``rule_mutants.py``.
"""

from typing import Final

from tests.mutants.edits import Edit

VOTES: Final = "dipnet.consensus.finality.votes"
MEMBERS: Final = "dipnet.consensus.finality.members"
FINALITY: Final = "dipnet.consensus.finality.finality"
TALLY: Final = "dipnet.consensus.finality.tally"
NODE: Final = "dipnet.node.node"
READINESS: Final = "dipnet.node.readiness"
VOTING: Final = "dipnet.node.voting"
CLOCK: Final = "dipnet.p2p.clock"
STATE_TESTS: Final = ("tests/unit/consensus/finality/test_vote_state.py",)
VOTES_TESTS: Final = ("tests/unit/consensus/finality/test_votes.py",)
FINALITY_TESTS: Final = ("tests/unit/consensus/finality/test_finality.py",)
TALLY_TESTS: Final = ("tests/unit/consensus/finality/test_tally.py",)
CLOCK_TESTS: Final = ("tests/unit/node/test_clock.py",)

BALLOTS: Final = (
    Edit("b", "proposes twice in a slot", VOTES,
         "if slot > self.proposed else", "if slot >= self.proposed else", STATE_TESTS),
    Edit("b", "forgets what it proposed", VOTES,
         "return replace(self, proposed=ballot.slot)", "return self", STATE_TESTS),
    Edit("b, p, l", "of two states takes the lower proposal", VOTES,
         "max(new.proposed, old.proposed)", "min(new.proposed, old.proposed)", STATE_TESTS),
    Edit("b, p, l", "of two states takes the lower prevote", VOTES,
         "max(new.prevoted, old.prevoted)", "min(new.prevoted, old.prevoted)", STATE_TESTS),
    Edit("b, p, l", "of two states takes the lower commit", VOTES,
         "max(new.committed, old.committed)", "min(new.committed, old.committed)", STATE_TESTS),
    Edit("b, p, l", "votes in an epoch after a newer one", VOTES,
         "if ballot.epoch < self.epoch:", "if ballot.epoch < 0:", STATE_TESTS),
    Edit("b, p, l", "carries p and l into a new epoch", VOTES,
         "replace(self, epoch=epoch, prevoted=0, committed=0) if epoch > self.epoch else self",
         "replace(self, epoch=max(epoch, self.epoch))", STATE_TESTS),
    Edit("E0", "lets two proposals pass that name two epochs", VOTES,
         "if first.epoch != second.epoch and first.kind is not BallotKind.PROPOSAL:",
         "if first.epoch != second.epoch:", STATE_TESTS),
    Edit("E1", "lets two justify slots of one block pass", VOTES,
         "if first.slot == second.slot and first != second else",
         "if first.slot == second.slot and first.block_id != second.block_id else", STATE_TESTS),
    Edit("E1, E2", "convicts of votes in two slots", VOTES,
         "if first.slot == second.slot and first != second else",
         "if first != second else", STATE_TESTS),
    Edit("E1-E3", "convicts of votes in two epochs", VOTES,
         "if first.epoch != second.epoch and first.kind is not BallotKind.PROPOSAL:",
         "if False:", STATE_TESTS),
    Edit("E3", "convicts of a justify at the lock", VOTES,
         "second.slot > first.slot > second.justify_slot",
         "second.slot > first.slot >= second.justify_slot", STATE_TESTS),
    Edit("E3", "convicts of commit and prevote of one slot", VOTES,
         "second.slot > first.slot > second.justify_slot",
         "second.slot >= first.slot > second.justify_slot", STATE_TESTS),
    Edit("E3", "knows none", VOTES, 'return "E3" if surrounds else ""', 'return ""', STATE_TESTS),
    Edit("digest", "signs for any chain", VOTES,
         "[VOTE_VERSION, chain_id, self.epoch", "[VOTE_VERSION, 0, self.epoch", VOTES_TESTS),
    Edit("digest", "signs for any kind of ballot", VOTES,
         "KIND_TEXT[self.kind] +", "KIND_TEXT[BallotKind.COMMIT] +", VOTES_TESTS),
    Edit("digest", "does not sign the justify slot", VOTES,
         "record.append(self.justify_slot)", "pass", VOTES_TESTS),
    Edit("form", "decodes a proposal as a vote", VOTES,
         "if kind == BallotKind.PROPOSAL or (", "if (", VOTES_TESTS),
    Edit("form", "decodes a commit with a justify slot", VOTES,
         "or (kind == BallotKind.COMMIT and justify_slot):", "or False:", VOTES_TESTS),
    Edit("form", "takes more signatures than bits", VOTES,
         '.bit_count() * CERTIFIED_BYTES != len(signatures)',
         '.bit_count() * CERTIFIED_BYTES > len(signatures)', VOTES_TESTS),
    Edit("votes", "counts a signature of any member", VOTES,
         "its.signers[vote.index] == signers[20 * at : 20 * at + 20]",
         "signers[20 * at : 20 * at + 20] in its.signers", VOTES_TESTS),
    Edit("votes", "takes an index outside of the set", VOTES,
         "vote.index < len(its) and its.signers[vote.index]",
         "its.signers[vote.index % len(its)]", VOTES_TESTS),
    Edit("certificates", "takes one signature less than a quorum", VOTES,
         "if len(indices) < members.quorum:", "if len(indices) + 1 < members.quorum:", VOTES_TESTS),
    Edit("certificates", "looks at one signature", VOTES,
         "if not all(verify_batch(", "if not any(verify_batch(", VOTES_TESTS),
    Edit("certificates", "takes a bitmap of any length", VOTES,
         "if len(certificate.bitmap) != (len(members) + 7) // 8 or indices",
         "if indices", VOTES_TESTS),
    Edit("certificates", "takes a bit outside of the set", VOTES,
         "or indices[-1:] >= (len(members),):", "or False:", VOTES_TESTS),
)  # fmt: skip

SETS: Final = (
    Edit("sets", "two members may have one key", MEMBERS,
         "if len({*self.keys}) != len(self.pairs):", "if False:", STATE_TESTS),
    Edit("sets", "a member may stand in it twice", MEMBERS,
         "if any(lower >= upper for", "if any(lower > upper for", STATE_TESTS),
    Edit("sets", "may have any size", MEMBERS,
         "if not 1 <= len(self.pairs) <= MEMBERS_MAX:", "if False:", STATE_TESTS),
    Edit("sets", "the digest says no epoch", MEMBERS,
         "pack([SET_VERSION, epoch, self.pairs])", "pack([SET_VERSION, 0, self.pairs])",
         STATE_TESTS),
)  # fmt: skip

LINKS: Final = (
    Edit("epochs", "an epoch ends a slot late", FINALITY,
         "return slot >= end and final_slot", "return slot > end and final_slot", FINALITY_TESTS),
    Edit("epochs", "ends count from the boundary", FINALITY,
         "return (boundary_slot // epoch_slots + 1) * epoch_slots",
         "return boundary_slot + epoch_slots", FINALITY_TESTS),
    Edit("certified", "a certificate may be of another justify", FINALITY,
         "if certified.ballot != expected:",
         "if (certified.ballot.epoch, certified.ballot.block_id)"
         " != (expected.epoch, expected.block_id):", FINALITY_TESTS),
    Edit("certified", "a certificate may be of anything", FINALITY,
         "if certified.ballot != expected:", "if False:", FINALITY_TESTS),
    Edit("links", "a commit certificate does not raise justify", FINALITY,
         "justify = max(justify, (ballot.block_id, ballot.slot, ballot.epoch), key=rank)",
         "justify = max(justify, (ballot.block_id, ballot.slot, ballot.epoch), key=rank) "
         "if ballot.kind is BallotKind.PREVOTE else justify", FINALITY_TESTS),
    Edit("links", "final may fall", FINALITY,
         "final = max(final, made_final(certified), key=_slot)",
         "final = made_final(certified)",
         FINALITY_TESTS),
    Edit("links", "a prevote certificate makes final", FINALITY,
         "        if ballot.kind is BallotKind.COMMIT:\n            final",
         "        if ballot:\n            final", FINALITY_TESTS),
    Edit("section", "any certificates in any order", FINALITY,
         "if kinds not in _SECTION_KINDS:",
         "if False:", FINALITY_TESTS),
    Edit("section", "certificates that raise nothing", FINALITY,
         "if len(useful(parent, boundary, section)) != len(section):", "if False:", FINALITY_TESTS),
    Edit("back-off", "begins at its parameter", FINALITY,
         "if unfinal_slots < 2 * backoff_slots:", "if unfinal_slots < backoff_slots // 2:",
         FINALITY_TESTS),
    Edit("back-off", "grows without end", FINALITY,
         "return min(BACKOFF_STEP_MAX, 1 << doublings)", "return 1 << doublings", FINALITY_TESTS),
    Edit("back-off", "one leader may own all slots", FINALITY,
         "return slot // step % leaders if", "return slot % leaders if", FINALITY_TESTS),
    Edit("back-off", "leaves no slot out", FINALITY,
         "leaders if slot % step == 0 else None", "leaders", FINALITY_TESTS),
    Edit("back-off", "users are never refused", FINALITY,
         "return unfinal_slots >= 4 * backoff_slots", "return False", FINALITY_TESTS),
)  # fmt: skip

EVIDENCE: Final = (
    Edit("tally", "votes for two blocks count together", TALLY,
         "votes = at.votes.setdefault(ballot, {})",
         "votes = at.votes.setdefault(next(iter(at.votes), ballot), {})", TALLY_TESTS),
    Edit("tally", "a certificate for each vote above the quorum", TALLY,
         "or ballot in at.certified:", "or False:", TALLY_TESTS),
    Edit("tally", "takes votes of any slot", TALLY,
         "if slot not in self._window:", "if False:", TALLY_TESTS),
    Edit("tally", "keeps all ballots of a slot", TALLY,
         "if len(own) >= BALLOTS_MAX:", "if False:", TALLY_TESTS),
    Edit("tally", "keeps one ballot of a slot", TALLY,
         "BALLOTS_MAX: Final = 2", "BALLOTS_MAX: Final = 1", TALLY_TESTS),
    Edit("E3", "is not looked for behind a prevote", TALLY,
         "slots = range(max(ballot.justify_slot + 1, window.start), ballot.slot)",
         "slots = range(0)", TALLY_TESTS),
    Edit("E3", "is not looked for behind a commit", TALLY,
         "kind, slots = BallotKind.PREVOTE, range(ballot.slot + 1, window.stop)",
         "return []", TALLY_TESTS),
    Edit("E0", "is not looked for across epochs", TALLY,
         "return signer, kind, 0 if kind is BallotKind.PROPOSAL else epoch",
         "return signer, kind, epoch", TALLY_TESTS),
    Edit("tally", "takes proposals of strangers", TALLY,
         "if signer not in members.signers:", "if False:", TALLY_TESTS),
    Edit("tally", "offenders are without bound", TALLY,
         "and len(self._offences) < OFFENDERS_MAX:", ":", TALLY_TESTS),
)  # fmt: skip

CLOCKS: Final = (
    Edit("clock", "a leap is not seen", NODE,
         "if passed_ms > self.chain.parameters.slot_ms:", "if False:", CLOCK_TESTS),
    Edit("clock", "a leap at each wake-up", NODE,
         "if passed_ms > self.chain.parameters.slot_ms:", "if passed_ms > 0:", CLOCK_TESTS),
    Edit("clock", "after a leap proposes before peers have told", CLOCK,
         "return UNTOLD if needed else None", "return None", CLOCK_TESTS),
    Edit("clock", "after a leap prevotes before peers have told", READINESS,
         "if off_ms is None and self._needs_others and not self._peers.alone:", "if False:",
         CLOCK_TESTS),
    Edit("clock", "prevotes by its own clock", READINESS,
         "return now_ms + (off_ms or 0) +", "return now_ms +", CLOCK_TESTS),
    Edit("clock", "a head that waits is not looked at again", VOTING,
         "self._judged = judged if timely else None", "self._judged = judged", CLOCK_TESTS),
    Edit("clock", "does not commit while a head waits", VOTING,
         "if certificate is not None and certificate.ballot.slot",
         "if timely and certificate is not None and certificate.ballot.slot", CLOCK_TESTS),
    Edit("clock", "believes the first peer that speaks after a leap", CLOCK,
         "for peer in voices)", "for peer in voices if self._samples[peer])",
         ("tests/unit/p2p/test_clock.py",)),
)  # fmt: skip

EDITS: Final = (*BALLOTS, *SETS, *LINKS, *EVIDENCE, *CLOCKS)
