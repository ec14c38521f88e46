"""``Backend``: everything that the RPC needs of a node; the daemon implements it.

Reads are plain calls on the thread of the event loop. Only ``submit`` changes the node.
"""

from collections.abc import Sequence
from typing import Protocol

from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.chain.pool import Pool
from dipnet.dag.graph import Dag
from dipnet.ledger.genesis import Genesis
from dipnet.node.effects import StreamName
from dipnet.node.voting import Voting
from dipnet.node.work import ClientWork
from dipnet.primitives.errors import Invalid
from dipnet.rpc.feed import Feed
from dipnet.rpc.watch import FinalityWatch

Accepted = tuple[bytes, str]
"""Id (32 bytes), and "accepted", "pending" or "known" for a vertex."""


class Backend(Protocol):
    """A running node as the RPC sees it."""

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
        """How far the clocks of peers are ahead of ours; None while no peer has told its clock."""

    def started_ms(self) -> int:
        """``now_ms`` at the start of the node."""

    def peers(self) -> Sequence[dict[str, object]]:
        """Connected peers, each an object of ``dipnet_status``: peer, address, outbound, ..."""

    def listen_addresses(self) -> Sequence[str]:
        """Multiaddresses that peers can dial."""

    def syncing(self) -> tuple[int, int] | None:
        """Current height and highest known height while the node catches up, else None."""

    def health(self) -> dict[str, str | None]:
        """The complaint of each component by its name; None for a component that is fine."""

    async def submit(self, work: ClientWork) -> Sequence[Accepted | Invalid]:
        """Submit signed bytes. Returns one result for each item, in order, once it is durable.

        Raises ``Invalid`` ("busy", "disk", "stopping", "syncing") when no item was looked at.
        """

    async def settled(self) -> None:
        """Return when everything that reads have shown so far is durable, so that a crash takes
        back nothing that a client has seen. Raises ``Invalid`` ("stopping").
        """

    def subscribe(self, stream: StreamName) -> Feed:
        """A bounded queue of the items of ``stream``: Block, Header, Tx or Vertex."""

    def failed(self, error: Exception) -> None:
        """Report a bug or ``Corrupt`` met while answering; the daemon decides what follows."""
