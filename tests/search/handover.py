"""Random walks over changes of the delegate set, judged by the shipping rules.

An adversary makes blocks and votes in any order. A block may have any slot above that of its
parent and carry any certificates that exist for its branch. One of four voters of each set is
faulty and votes for every block. Blocks get their links, epochs and voting sets from ``finality``
alone, and honest voters ask ``finality`` with a ``VoteState`` of their own. All final blocks must
be on one chain, and no honest voter may sign an offence. Each walk draws how often its adversary
prefers the newest blocks: if never, nothing becomes final; if always, nothing conflicts.

``Plan.disjoint``: each epoch has voters of its own; else the same four vote in all of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from random import Random

from dipnet.consensus.finality import finality, members, votes
from dipnet.consensus.finality.finality import (
    Certified,
    EpochBoundary,
    HeaderLinks,
    Justify,
    Settled,
)
from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState
from dipnet.primitives.errors import Invalid

HONEST = 3
FAULTY = 1
GENESIS_ID = bytes(32)


@dataclass(frozen=True, slots=True)
class Plan:
    """How large a walk is."""

    blocks: int = 9
    epoch_slots: int = 2
    steps: int = 200
    disjoint: bool = True


@dataclass(frozen=True, slots=True)
class Block:
    """A ``LinkedHeader``, the boundary below it, and the blocks that it extends, as bits."""

    number: int
    slot: int
    justify: Justify
    final: Settled
    boundary: EpochBoundary
    ends: bool  # whether it is the boundary of its epoch
    extends: int

    @property
    def hash(self) -> bytes:
        return self.number.to_bytes(32, "big")

    @property
    def epoch(self) -> int:
        return self.boundary.epoch

    @property
    def links(self) -> HeaderLinks:
        return HeaderLinks(self.justify, self.final)

    def __str__(self) -> str:
        under = bin(self.extends)[2:-1][::-1]
        return f"b{self.number}(slot {self.slot} epoch {self.epoch} on {under})"


@dataclass(frozen=True, slots=True)
class Walked:
    """The result of one walk."""

    blocks: int
    finals: int
    handovers: int  # votes of a set on blocks of the next schedule
    epochs: int  # the highest epoch in which something became final by its own set
    violation: str


class Walk:
    """One walk, from one seed."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self._random = Random(seed)
        self._eager = 1 + self._random.randrange(4)
        self._plan = plan
        boundary = EpochBoundary(0, GENESIS_ID, 0)
        self.blocks = [Block(0, 0, (GENESIS_ID, 0, 0), (GENESIS_ID, 0), boundary, False, 1)]
        self._states: dict[tuple[int, int], VoteState] = {}
        self._signed: dict[tuple[int, int], list[Ballot]] = {}
        self._counts: dict[Ballot, int] = {}
        self.finals: dict[int, None] = {0: None}
        self.handovers = 0
        self.epochs = 0
        self._offence = ""

    def run(self) -> Walked:
        """Walks to the end of the plan or to the first violation."""
        conflict = ""
        for _ in range(self._plan.steps):
            if len(self.blocks) <= self._plan.blocks and self._random.randrange(10) == 0:
                self._make()
            elif len(self.blocks) > 1:
                conflict = self._vote()
            if conflict:
                break
        violation = conflict or self._offence
        told = " ".join(map(str, self.blocks[1:]))
        return Walked(
            len(self.blocks) - 1,
            len(self.finals) - 1,
            self.handovers,
            self.epochs,
            f"{violation} in {told}" if violation else "",
        )

    def _make(self) -> None:
        """A new block on a likely high parent, with a section that the rules take."""
        draw = self._random.randrange
        parent = self.blocks[self._drawn(0)]
        highest = max(block.slot for block in self.blocks)
        slot = parent.slot + 1 + (draw(highest - parent.slot + 1) if draw(3) else 0)
        if sum(block.slot == slot for block in self.blocks) > 1:
            return  # a third proposal of a leader adds nothing new
        boundary = parent.boundary
        if parent.ends:
            boundary = EpochBoundary(boundary.epoch + 1, parent.hash, parent.slot)
        section = self._section(parent, boundary)
        links = finality.derive(parent.links, boundary, section)
        end = finality.end_slot(boundary.slot, self._plan.epoch_slots)
        ends = finality.is_boundary(boundary, end, slot, links.final[1])
        number = len(self.blocks)
        extends = parent.extends | 1 << number
        made = Block(number, slot, links.justify, links.final, boundary, ends, extends)
        self.blocks.append(made)

    def _drawn(self, first: int) -> int:
        """A block's number, from ``first``: of several draws the highest."""
        draw = self._random.randrange
        return max(draw(first, len(self.blocks)) for _ in range(self._eager))

    def _section(self, parent: Block, boundary: EpochBoundary) -> tuple[Certified, ...]:
        """A leader's choice of the certificates that exist: at most one of each kind."""
        chosen: list[Certified] = []
        for kind in (BallotKind.PREVOTE, BallotKind.COMMIT):
            known = [
                Certified(ballot, block.boundary)
                for block in self.blocks[1:]
                if parent.extends >> block.number & 1
                for ballot in [self._ballot(block, kind)]
                if self._certified(ballot)
            ]
            if known and self._random.randrange(4):
                chosen.append(self._random.choice((known[-1], self._random.choice(known))))
        section = finality.useful(parent.links, boundary, chosen)
        try:
            finality.check_section(parent.links, boundary, section)
        except Invalid:
            return ()
        return section

    def _ballot(self, block: Block, kind: BallotKind) -> Ballot:
        prevotes = finality.prevote(block, block.boundary)
        return prevotes if kind is BallotKind.PREVOTE else finality.commit(prevotes)

    def _certified(self, ballot: Ballot) -> bool:
        return self._counts.get(ballot, 0) + FAULTY >= members.quorum_of(HONEST + FAULTY)

    def _vote(self) -> str:
        """Show a block to an honest voter; the conflict that its vote makes, empty for none."""
        draw = self._random.randrange
        block = self.blocks[self._drawn(1)]
        prevotes = finality.prevote(block, block.boundary)
        kind = BallotKind.COMMIT if self._certified(prevotes) and draw(2) else BallotKind.PREVOTE
        voter = (prevotes.epoch if self._plan.disjoint else 0, draw(HONEST))
        state = self._states.get(voter, VoteState())
        if kind is BallotKind.PREVOTE:
            ballot, why = prevotes, finality.may_prevote(state, block, block.boundary)
        else:
            ballot, why = finality.commit(prevotes), finality.may_commit(state, prevotes)
        signed = self._signed.setdefault(voter, [])
        if why or ballot in signed:
            return ""
        self._states[voter] = state.after(ballot)
        self.handovers += ballot.epoch < block.epoch
        for old in signed:
            if name := votes.offence(old, ballot):
                self._offence = self._offence or f"an honest voter commits {name}"
        signed.append(ballot)
        self._counts[ballot] = self._counts.get(ballot, 0) + 1
        if kind is BallotKind.COMMIT and self._certified(ballot):
            return self._finalise(block, ballot)
        return ""

    def _finalise(self, block: Block, ballot: Ballot) -> str:
        final, _ = finality.made_final(Certified(ballot, block.boundary))
        number = int.from_bytes(final, "big")
        if number == block.number:
            self.epochs = max(self.epochs, ballot.epoch)
        self.finals[number] = None
        for one, other in combinations(sorted(self.finals), 2):
            if not self.blocks[other].extends >> one & 1:
                return f"conflict of {self.blocks[one]} and {self.blocks[other]}"
        return ""


def walks(seeds: range, plan: Plan) -> Iterator[tuple[int, Walked]]:
    """Each seed with its result."""
    for seed in seeds:
        yield seed, Walk(seed, plan).run()
