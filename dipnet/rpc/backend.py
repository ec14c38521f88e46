"""What the RPC needs of a node, and nothing more: the seam between this room and the daemon.

Reads are plain calls on the loop's thread. Only ``submit`` changes anything.
"""

from collections.abc import Sequence
from typing import Protocol

from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.chain.pool import Pool
from dipnet.dag.graph import Dag
from dipnet.ledger.genesis import Genesis
from dipnet.node.voting import Voting
from dipnet.node.work import ClientWork
from dipnet.primitives.errors import Invalid
from dipnet.rpc.feed import Feed, Topic
from dipnet.rpc.watch import FinalityWatch

Accepted = tuple[bytes, str]
"""Id (32 bytes) and, for a vertex, "accepted", "pending" or "known"."""


class Backend(Protocol):
    """A running node, as the RPC sees it."""

    @property
    def genesis(self) -> Genesis: ...
    @property
    def chain(self) -> Chain: ...
    @property
    def pool(self) -> Pool: ...
    @property
    def dag(self) -> Dag: ...
    @property
    def voting(self) -> Voting: ...
    @property
    def finality(self) -> FinalityWatch: ...
    @property
    def peer_id(self) -> str: ...

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970."""

    def clock_offset_ms(self) -> int | None:
        """How far the clocks of peers are ahead of ours, None while nobody says."""

    def started_ms(self) -> int:
        """``now_ms`` when the node started."""

    def peers(self) -> Sequence[dict[str, object]]:
        """Connected peers: peer, address, outbound and what else is worth showing."""

    def listen_addresses(self) -> Sequence[str]:
        """Multiaddresses that peers can dial."""

    def syncing(self) -> tuple[int, int] | None:
        """(current height, highest height known) while catching up, else None."""

    def health(self) -> dict[str, str | None]:
        """Each component's complaint, None when it has none."""

    async def submit(self, work: ClientWork) -> Sequence[Accepted | Invalid]:
        """Offer signed bytes; one result each, in order, after they are durable.

        Raises ``Invalid`` ("busy", "stopping", "syncing") when none of them was looked at.
        """

    async def settled(self) -> None:
        """Returns when all that reads have shown so far is durable: a crash takes back nothing
        that a client has seen. Raises ``Invalid`` ("stopping")."""

    def subscribe(self, topic: Topic) -> Feed:
        """A bounded queue of what is published on ``topic``: Block, Header, Tx or Vertex."""

    def failed(self, error: Exception) -> None:
        """A bug or ``Corrupt`` met while answering; the daemon decides what it ends."""
