"""The events that happen to a node, and the effects that it asks for: plain frozen values.

``node.step(now_ms, event)`` takes an ``Event`` and gives a list of ``Effect``; the daemon and the
simulator each perform effects in their own world. An event is named for what happened, an effect is
an imperative, and its docstring names the event that answers it. Reads are no effects: they are
plain calls on a ``Reader``.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, get_args

from dipnet.consensus.chain.block import Block
from dipnet.consensus.finality.tally import Offence
from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState
from dipnet.ledger.tx import Tx
from dipnet.node.checks import Checked
from dipnet.node.work import ClientWork, Work
from dipnet.primitives.codec import Puts
from dipnet.primitives.errors import Invalid

PROTOCOLS = ("hello", "votes", "gossip", "sync", "peers")
FIRST: Final = "votes"
"""The protocol whose frames wait neither for other frames nor for the disk."""

StreamName = Literal["newHeads", "finalizedHeads", "newPendingTransactions", "dagVertices"]
"""What the node publishes for local subscribers, by the names of ``eth_subscribe``."""
STREAM_NAMES: Final[tuple[StreamName, ...]] = get_args(StreamName)


# --- events


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection to a peer is up: its libp2p id as text, and its multiaddr as we see it."""

    peer: str
    address: str
    outbound: bool


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The last connection to the peer is gone, also after a ``Drop``."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class DialFailed:
    """No peer of the address's id answered a ``Dial``."""

    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A frame of a protocol of ``PROTOCOLS`` came from a connected peer."""

    peer: str
    protocol: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Submitted:
    """A local client hands in transactions or vertices. ``Reply`` with this ticket answers it."""

    ticket: int
    work: ClientWork


@dataclass(frozen=True, slots=True)
class Verified:
    """``Node.check`` has done the work of the ``Verify`` with this ticket."""

    ticket: int
    outcome: Checked


@dataclass(frozen=True, slots=True)
class Signed:
    """The signer has answered the ``Sign`` with this ticket.

    ``signature`` is 65 bytes r || s || recovery id, empty where the signer refused. ``state`` is
    the vote state that the signer keeps; another node of the same delegate may have moved it.
    """

    ticket: int
    signature: bytes
    state: VoteState


@dataclass(frozen=True, slots=True)
class Woke:
    """The time of a ``Wake`` has come."""


Event = Connected | Disconnected | DialFailed | Received | Submitted | Verified | Signed | Woke


# --- effects


@dataclass(frozen=True, slots=True)
class Write:
    """Make ``puts`` durable, atomically, before any later effect that can be seen outside.

    No event answers: ``Barrier`` holds back the effects that wait for it.
    """

    puts: Puts


@dataclass(frozen=True, slots=True)
class Send:
    """Send a frame to a connected peer. No event answers, and the frame may be lost."""

    peer: str
    protocol: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to a multiaddr with a peer id. Answered by ``Connected`` or ``DialFailed``."""

    address: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the connection to the peer. Answered by ``Disconnected``."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Wake:
    """Set the one timer to Unix time ``at_ms``, if it is not set to an earlier time.

    Answered by ``Woke`` at or soon after it.
    """

    at_ms: int


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer the client of the ``Submitted`` with this ticket. No event follows.

    For each item its id (32 bytes) with "accepted", "known" or "pending", or the refusal.
    """

    ticket: int
    results: tuple[tuple[bytes, str] | Invalid, ...]


@dataclass(frozen=True, slots=True)
class Verify:
    """Run the pure ``Node.check(work)`` on ``work.thread``. Answered by ``Verified``."""

    ticket: int
    work: Work


@dataclass(frozen=True, slots=True)
class Sign:
    """Have the signer refuse (V1, V2), or keep its new vote state on disk and then sign.

    Answered by ``Signed`` in both cases.
    """

    ticket: int
    ballot: Ballot


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the operator of an offence; the next honest leader reports it to the chain.

    No event answers.
    """

    offence: Offence


@dataclass(frozen=True, slots=True)
class Halt:
    """End the process: this program cannot go on with this network. No event follows."""

    reason: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell local subscribers of blocks, transactions, or ids of vertices. No event answers."""

    stream: StreamName
    values: tuple[Block | Tx | bytes, ...]


Effect = Write | Send | Dial | Drop | Wake | Reply | Verify | Sign | Report | Halt | Publish


def passes(effect: Effect) -> bool:
    """Whether ``effect`` may leave before the writes asked for earlier are durable.

    It may if it cannot be seen outside, or is about votes: the signer of a delegate keeps its vote
    state before the vote exists, and a prevote for a block that a crash takes binds no delegate.
    The signature of a commit waits, because a commit locks its delegate: if a crash took the
    prevote certificate from every disk, no locked delegate could ever be shown it.
    """
    match effect:
        case Send():
            return effect.protocol == FIRST
        case Sign():
            return effect.ballot.kind is BallotKind.PREVOTE
        case _:
            return isinstance(effect, Wake | Verify | Dial)


class Barrier:
    """Holds back each visible effect until every ``Write`` before it is durable (docs/design.md
    "Rules", rule 3).

    The caller stages each write that ``admit`` yields and later says with ``durable`` how many are
    durable; many may become durable at once, which is the group commit.
    """

    def __init__(self) -> None:
        self._held: deque[tuple[int, Effect]] = deque()
        self._staged = 0
        self._durable = 0

    def admit(self, effects: list[Effect]) -> Iterator[Effect]:
        """Yields the effects to perform now: every ``Write`` and all that need not wait."""
        for effect in effects:
            if isinstance(effect, Write):
                self._staged += 1
                yield effect
            elif passes(effect) or (self._durable == self._staged and not self._held):
                yield effect
            else:
                self._held.append((self._staged, effect))

    @property
    def staged(self) -> int:
        """Number of writes admitted so far."""
        return self._staged

    def durable(self, staged: int) -> Iterator[Effect]:
        """The first ``staged`` writes are durable: yields the effects that waited, in order."""
        assert self._durable <= staged <= self._staged
        self._durable = staged
        while self._held and self._held[0][0] <= staged:
            yield self._held.popleft()[1]
