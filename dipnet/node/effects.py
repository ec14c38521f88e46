"""What can happen to a node, and what a node can want: plain frozen values.

``node.step(now_ms, event)`` takes one of ``Event`` and gives a list of ``Effect``; the daemon and
the simulator each perform effects in their own world. Events are named for what happened, effects
are imperatives. Reads are no effects: they are plain calls on a ``Reader``.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from dipnet.consensus.finality.tally import Offence
from dipnet.consensus.finality.votes import Ballot, BallotKind, VoteState
from dipnet.primitives.codec import Puts
from dipnet.primitives.errors import Invalid

PROTOCOLS = ("hello", "votes", "gossip", "sync", "peers")
FIRST: Final = "votes"
"""The protocol whose frames wait for no others, nor for the disk."""


# --- events


@dataclass(frozen=True, slots=True)
class Connected:
    """A peer is up. ``peer`` is its libp2p id as text, ``address`` its multiaddr as we see it."""

    peer: str
    address: str
    outbound: bool


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The last connection to the peer is gone."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class DialFailed:
    """Nobody, or somebody else, answered at the address."""

    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """One frame of a protocol of ``PROTOCOLS`` from a connected peer."""

    peer: str
    protocol: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Submitted:
    """A local client hands in raw transactions (``txs``) or wire vertices (``vertices``)."""

    ticket: int
    kind: str
    items: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of a ``Verify``: what ``Node.check`` returned."""

    ticket: int
    result: object


@dataclass(frozen=True, slots=True)
class Signed:
    """The outcome of a ``Sign``: 65 bytes r || s || recovery id, none where the signer refused.

    ``state`` is what the signer keeps, which another node of the same delegate may have moved.
    """

    ticket: int
    signature: bytes
    state: VoteState


@dataclass(frozen=True, slots=True)
class Woke:
    """A time asked for with ``Wake`` has come."""


Event = Connected | Disconnected | DialFailed | Received | Submitted | Verified | Signed | Woke


# --- effects


@dataclass(frozen=True, slots=True)
class Write:
    """Make durable, atomically, before any later effect that others can see."""

    puts: Puts


@dataclass(frozen=True, slots=True)
class Send:
    peer: str
    protocol: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Dial:
    address: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Close the connection to the peer."""

    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Wake:
    """Send ``Woke`` at or soon after ``at_ms``."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a ``Submitted``: per item the id (32 bytes) and what became of it, or ``Invalid``."""

    ticket: int
    results: tuple[tuple[bytes, str] | Invalid, ...]


@dataclass(frozen=True, slots=True)
class Verify:
    """Run the pure ``Node.check(kind, items)`` off the loop; ``Verified`` follows."""

    ticket: int
    kind: str
    items: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Sign:
    """Keep the new vote state on disk, then sign, or refuse (V1, V2); ``Signed`` follows."""

    ticket: int
    ballot: Ballot


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the operator whose key signed twice; the next honest leader reports it to the chain."""

    offence: Offence


@dataclass(frozen=True, slots=True)
class Halt:
    """End the process: this program cannot go on with this network."""

    reason: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell local subscribers: blocks, transactions, or ids of vertices."""

    topic: Literal["newHeads", "finalizedHeads", "newPendingTransactions", "dagVertices"]
    values: tuple[object, ...]


Effect = Write | Send | Dial | Drop | Wake | Reply | Verify | Sign | Report | Halt | Publish


def passes(effect: Effect) -> bool:
    """Whether it may leave before the writes asked for earlier are durable.

    Nobody outside can see it, or it is about votes. What a vote binds its author to is kept by his
    signer before the vote exists, and a prevote for a block that a crash takes binds nobody. A
    commit locks: were its certificate lost everywhere, nobody locked could ever be shown it, and
    so its signature waits.
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

    The world outside stages a write and later says how far it is durable; many writes may become
    durable at once, which is the group commit.
    """

    def __init__(self) -> None:
        self._held: deque[tuple[int, Effect]] = deque()
        self._staged = 0
        self._durable = 0

    def admit(self, effects: list[Effect]) -> Iterator[Effect]:
        """Yields what is to be done now: every ``Write`` (to stage) and all that needs no wait."""
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
        """The first ``staged`` writes are durable: yields what may leave now, in order."""
        self._durable = staged
        while self._held and self._held[0][0] <= staged:
            yield self._held.popleft()[1]
