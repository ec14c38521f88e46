"""Every schedule of every small block tree, judged by the shipping rules.

docs/spec/consensus.md "How it is checked". All blocks of a tree exist from the start. The adversary
has the leaders, the network and ``faulty`` voters, which prevote and commit every block. An honest
voter casts, at any moment, any vote that the shipping rules allow: ``may_prevote`` for a block
whose justify is certified, ``may_commit`` for a certified block. Two final blocks of which neither
extends the other are a violation.

The behaviour of a voter is an automaton, built anew for each tree; each edge is an answer of
``finality.may_prevote`` or ``finality.may_commit`` over a ``VoteState``. The joint states of all
voters are explored over these edges, up to the order of voters. Functions are called through their
modules, so that a planted mutant is explored.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product

from dipnet.consensus.finality import finality, members, votes
from dipnet.consensus.finality.finality import (
    Certified,
    EpochBoundary,
    HeaderLinks,
    Justify,
    Settled,
)
from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState

VOTERS = 4
GENESIS_ID = bytes(32)
BOUNDARY = EpochBoundary(0, GENESIS_ID, 0)


@dataclass(frozen=True, slots=True)
class Block:
    """Block ``number`` of a tree: a ``LinkedHeader`` with its parent and the blocks it extends.

    ``extends`` is a bit for each block of its branch, itself among them; block 0 is genesis.
    """

    number: int
    parent: int
    slot: int
    justify: Justify
    final: Settled
    extends: int
    epoch: int = 0

    @property
    def hash(self) -> bytes:
        return self.number.to_bytes(32, "big")

    def __str__(self) -> str:
        justify = int.from_bytes(self.justify[0], "big")
        return f"b{self.number}(slot {self.slot} parent {self.parent} justify {justify})"


GENESIS = Block(0, 0, 0, (GENESIS_ID, 0, 0), (GENESIS_ID, 0), 1)
Tree = tuple[Block, ...]


def trees(blocks: int, tree: Tree = (GENESIS,)) -> Iterator[Tree]:
    """All trees of ``blocks`` blocks above genesis.

    Slots rise without gaps, since only their order matters, and a slot has at most two blocks. A
    block carries no certificate, or the prevote certificate of any block below it that a section
    may have. Commit certificates are left out: within an epoch they allow a voter no vote that the
    prevote certificate does not.
    """
    if len(tree) > blocks:
        yield tree
        return
    for slot in _slots(tree):
        for parent in tree:
            if parent.slot < slot:
                for links in _links(tree, parent):
                    number = len(tree)
                    extends = parent.extends | 1 << number
                    made = Block(number, parent.number, slot, links.justify, links.final, extends)
                    yield from trees(blocks, (*tree, made))


def _slots(tree: Tree) -> tuple[int, ...]:
    last = tree[-1].slot
    again = len(tree) > 1 and sum(block.slot == last for block in tree) < 2
    return (last, last + 1) if again else (last + 1,)


def _links(tree: Tree, parent: Block) -> Iterator[HeaderLinks]:
    before = HeaderLinks(parent.justify, parent.final)
    yield finality.derive(before, BOUNDARY, ())
    for below in tree[1:]:
        if parent.extends >> below.number & 1:
            section = [Certified(finality.prevote(below, BOUNDARY), BOUNDARY)]
            finality.check_certified(section[0], below)
            if finality.useful(before, BOUNDARY, section):
                yield finality.derive(before, BOUNDARY, section)


def conflict(tree: Tree, finals: int) -> bool:
    """Whether two of the blocks whose bits are in ``finals`` are on different branches."""
    chosen = [block for block in tree if finals >> block.number & 1]
    return any(
        not (one.extends >> other.number & 1 or other.extends >> one.number & 1)
        for one, other in combinations(chosen, 2)
    )


@dataclass(slots=True)
class Voter:
    """The automaton of an honest voter, whose states are numbers from 0.

    ``prevotes`` and ``commits`` of a state are bits of blocks; ``edges[state]`` are pairs of the
    block that must have a prevote certificate first, as a bit, and the next state.
    """

    prevotes: list[int]
    commits: list[int]
    edges: list[list[tuple[int, int]]]
    offence: str = ""


def voter(tree: Tree) -> Voter:
    """Every vote that the shipping rules allow an honest voter, and the first offence among
    them."""
    own = Voter([0], [0], [])
    known = {(0, 0, VoteState()): 0}
    todo = list(known)
    while todo:  # in the order of their numbers
        prevotes, commits, kept = todo.pop(0)
        edges = []
        for ballot, block, needed in _choices(tree, kept):
            mine = prevotes if ballot.kind is BallotKind.PREVOTE else commits
            if mine >> block & 1:
                continue
            own.offence = own.offence or _offence(tree, prevotes, commits, ballot)
            after = (
                prevotes | (ballot.kind is BallotKind.PREVOTE) << block,
                commits | (ballot.kind is BallotKind.COMMIT) << block,
                kept.after(ballot),
            )
            if after not in known:
                known[after] = len(known)
                own.prevotes.append(after[0])
                own.commits.append(after[1])
                todo.append(after)
            edges.append((needed, known[after]))
        own.edges.append(edges)
    return own


def _choices(tree: Tree, kept: VoteState) -> Iterator[tuple[Ballot, int, int]]:
    """The ballots that may be signed in this state, each with its block and, as a bit, the block
    that must have a prevote certificate before."""
    for block in tree[1:]:
        prevotes = finality.prevote(block, BOUNDARY)
        if not finality.may_prevote(kept, block, BOUNDARY):
            yield prevotes, block.number, 1 << int.from_bytes(block.justify[0], "big")
        if not finality.may_commit(kept, prevotes):
            yield finality.commit(prevotes), block.number, 1 << block.number


def _offence(tree: Tree, prevotes: int, commits: int, ballot: Ballot) -> str:
    """The offence that ``ballot`` completes with the ballots signed before; empty for none."""
    for block in tree[1:]:
        prevote = finality.prevote(block, BOUNDARY)
        for signed, old in ((prevotes, prevote), (commits, finality.commit(prevote))):
            if signed >> block.number & 1 and (name := votes.offence(old, ballot)):
                number = int.from_bytes(ballot.block_id, "big")
                return f"{name} with {ballot.kind.name} b{number} and {old.kind.name} {block}"
    return ""


@lru_cache(maxsize=8)
def _certified(bits: int, honest: int, needed: int) -> list[int]:
    """For each joint choice of ``honest`` voters, as one number, the certified blocks as bits."""
    table = []
    for joined in product(range(1 << bits), repeat=honest):
        mask = 0
        for bit in range(bits):
            if sum(one >> bit & 1 for one in joined) >= needed:
                mask |= 1 << bit
        table.append(mask)
    return table


@dataclass(frozen=True, slots=True)
class Explored:
    """The result of one tree; ``violation`` is empty where all its states are safe."""

    states: int
    violation: str


def explore(tree: Tree, faulty: int = 1) -> Explored:
    """All reachable states of the honest voters of ``VOTERS``, to the first violation."""
    if not conflict(tree, (1 << len(tree)) - 1):
        return Explored(0, "")  # a chain
    own = voter(tree)
    honest = VOTERS - faulty
    needed = members.quorum_of(VOTERS) - faulty
    states, bad = _explore(tree, own, honest, needed)
    if bad is None:
        return Explored(states, own.offence and f"an honest voter commits {own.offence}")
    blocks = " ".join(str(block) for block in tree[1:])
    voted = "; ".join(_told(own.prevotes[one], own.commits[one]) for one in bad)
    return Explored(states, f"conflict in {blocks}: {voted}")


def _told(prevotes: int, commits: int) -> str:
    """The votes of one voter in words."""
    numbers = range((prevotes | commits).bit_length())
    words = [f"prevotes b{number}" for number in numbers if prevotes >> number & 1]
    words += [f"commits b{number}" for number in numbers if commits >> number & 1]
    return ", ".join(words) or "no vote"


def _explore(
    tree: Tree, own: Voter, honest: int, needed: int
) -> tuple[int, tuple[int, ...] | None]:
    size = len(tree)
    table = _certified(size, honest, max(needed, 0))
    bad = [conflict(tree, finals) for finals in range(1 << size)]
    moves: dict[tuple[int, int], list[int]] = {}
    start = (0,) * honest
    seen = {start}
    todo = [start]
    while todo:
        now = todo.pop()
        prevoted = committed = 0
        for one in now:
            prevoted = prevoted << size | own.prevotes[one]
            committed = committed << size | own.commits[one]
        if bad[table[committed]]:
            return len(seen), now
        certified = table[prevoted] | 1  # genesis needs no votes
        for at, one in enumerate(now):
            if at and now[at - 1] == one:
                continue  # as the voter before it
            key = one, certified
            choices = moves.get(key)
            if choices is None:
                choices = [then for need, then in own.edges[one] if need & certified]
                moves[key] = choices
            for then in choices:
                after = tuple(sorted((*now[:at], then, *now[at + 1 :])))
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
    return len(seen), None


def proof(tree: Tree, one: Block, other: Block) -> tuple[Ballot, Ballot]:
    """The two ballots that f+1 voters have signed when both of these conflicting blocks are final.

    docs/spec/consensus.md "Accountable safety": go down the justify links of the later block to the
    first block whose justify is not above the earlier block.
    """
    first, later = sorted((one, other), key=lambda block: block.slot)
    commits = finality.commit(finality.prevote(first, BOUNDARY))
    if first.slot == later.slot:
        return commits, finality.commit(finality.prevote(later, BOUNDARY))
    while later.justify[1] > first.slot:
        later = tree[int.from_bytes(later.justify[0], "big")]
    if later.justify[1] == first.slot:
        justify = tree[int.from_bytes(later.justify[0], "big")]
        return finality.prevote(first, BOUNDARY), finality.prevote(justify, BOUNDARY)
    return commits, finality.prevote(later, BOUNDARY)


def unproven(tree: Tree) -> str:
    """The first pair of conflicting blocks that convicts no voter; empty for none."""
    for one, other in combinations(tree[1:], 2):
        if conflict(tree, 1 << one.number | 1 << other.number):
            pair = proof(tree, one, other)
            if not votes.offence(*pair):
                return f"{one} and {other}: {pair}"
    return ""
