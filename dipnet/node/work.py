"""The kinds of work that a node gives to worker threads: one class each, dispatched by type.

The class says everything that differs between kinds: the bytes to be judged, the thread on which
they wait, their decoder (``check``), and for the work of peers the queue that bounds it
(``queues.LIMITS``), its gossip topic, and whether this node asked for it. ``Node._on_outcome``
dispatches on the type of the outcome.
"""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from dipnet.node.checks import (
    CheckedBlocks,
    CheckedCertificates,
    CheckedTxs,
    CheckedVertices,
    CheckedVotes,
    Checker,
)
from dipnet.node.queues import Queue
from dipnet.p2p.messages import Topic


class Thread(Enum):
    """The worker threads. Work on one thread does not wait for work on another."""

    VOTES = "votes"
    BLOCKS = "blocks"
    SYNC = "sync"
    CLIENTS = "clients"
    PEERS = "peers"


@dataclass(frozen=True, slots=True)
class _Raws:
    """Work on byte strings that are one item each."""

    raws: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes to be judged."""
        return sum(map(len, self.raws))


@dataclass(frozen=True, slots=True)
class _Wire:
    """Work on concatenated vertices."""

    wire: bytes

    @property
    def size(self) -> int:
        """Bytes to be judged."""
        return len(self.wire)


class ClientTxs(_Raws):
    """Transactions that a local client submits."""

    __slots__ = ()
    thread: ClassVar = Thread.CLIENTS

    def check(self, checker: Checker) -> CheckedTxs:
        """Any thread."""
        return checker.txs(self.raws)


class ClientVertices(_Raws):
    """Vertices that a local client submits."""

    __slots__ = ()
    thread: ClassVar = Thread.CLIENTS

    def check(self, checker: Checker) -> CheckedVertices:
        """Any thread."""
        return checker.vertices(self.raws)


class GossipTxs(_Raws):
    """Transactions that a peer relays."""

    __slots__ = ()
    thread: ClassVar = Thread.PEERS
    queue: ClassVar = Queue.OTHERS
    topic: ClassVar = Topic.TX
    asked: ClassVar = False

    def check(self, checker: Checker) -> CheckedTxs:
        """Any thread."""
        return checker.txs(self.raws)


class GossipVertices(_Wire):
    """Vertices that a peer relays."""

    __slots__ = ()
    thread: ClassVar = Thread.PEERS
    queue: ClassVar = Queue.OTHERS
    topic: ClassVar = Topic.VERTEX
    asked: ClassVar = False

    def check(self, checker: Checker) -> CheckedVertices:
        """Any thread."""
        return checker.concatenated(self.wire)


class SyncVertices(_Wire):
    """Vertices of the log of a peer, as we asked."""

    __slots__ = ()
    thread: ClassVar = Thread.PEERS
    queue: ClassVar = Queue.OTHERS
    topic: ClassVar = Topic.VERTEX
    asked: ClassVar = True

    def check(self, checker: Checker) -> CheckedVertices:
        """Any thread."""
        return checker.concatenated(self.wire)


class GossipBlocks(_Raws):
    """Blocks that a peer pushes, or gives by id."""

    __slots__ = ()
    thread: ClassVar = Thread.BLOCKS
    queue: ClassVar = Queue.BLOCKS
    topic: ClassVar = Topic.BLOCK
    asked: ClassVar = False

    def check(self, checker: Checker) -> CheckedBlocks:
        """Any thread."""
        return checker.pushed_blocks(self.raws)


class SyncBlocks(_Raws):
    """Blocks of the chain of a peer, as we asked: one branch, parents first."""

    __slots__ = ()
    thread: ClassVar = Thread.SYNC
    queue: ClassVar = Queue.BLOCKS
    topic: ClassVar = Topic.BLOCK
    asked: ClassVar = True

    def check(self, checker: Checker) -> CheckedBlocks:
        """Any thread."""
        return checker.synced_blocks(self.raws)


class GossipVotes(_Raws):
    """Votes that a peer pushes."""

    __slots__ = ()
    thread: ClassVar = Thread.VOTES
    queue: ClassVar = Queue.VOTES
    topic: ClassVar = Topic.VOTE
    asked: ClassVar = False

    def check(self, checker: Checker) -> CheckedVotes:
        """Any thread."""
        return checker.votes(self.raws)


class GossipCertificates(_Raws):
    """Certificates that a peer pushes."""

    __slots__ = ()
    thread: ClassVar = Thread.VOTES
    queue: ClassVar = Queue.VOTES
    topic: ClassVar = Topic.CERTIFICATE
    asked: ClassVar = False

    def check(self, checker: Checker) -> CheckedCertificates:
        """Any thread."""
        return checker.certificates(self.raws)


ClientWork = ClientTxs | ClientVertices
PushedWork = GossipVotes | GossipCertificates
"""Work of the topics of ``PUSHED``: ``VotePush`` is told while it is judged."""
PeerWork = GossipTxs | GossipVertices | SyncVertices | GossipBlocks | SyncBlocks | PushedWork
Work = ClientWork | PeerWork


@dataclass(frozen=True, slots=True)
class Incoming:
    """Work that a peer sent and the node must judge."""

    peer: str
    work: PeerWork
