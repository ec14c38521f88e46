"""The connections of a node, and the limits of their number: in all, of a site, of a subnet.

Rules that bind this file (docs/design.md "Peers", go-ethereum's and Bitcoin Core's numbers):
PEERS_MAX in all, of which OUTBOUND_RESERVED are never inbound; few from one site and one subnet. A
peer that lost its connection must be able to come back at once: a site may call CALLS_BURST times,
then once in CALL_AGAIN_MS. ``local`` is for test networks: loopback is exempt.
"""

from dataclasses import dataclass
from typing import Final

from dipnet.p2p.address import is_loopback, parse, site, subnet
from dipnet.primitives.errors import Invalid

PEERS_MAX: Final = 50
OUTBOUND_RESERVED: Final = 17  # at least a third
PEERS_PER_SITE_MAX: Final = 2
PEERS_PER_SUBNET_MAX: Final = 10
CALL_AGAIN_MS: Final = 30_000  # one more inbound connection a site in this time
CALLS_BURST: Final = 4
CALLERS_MAX: Final = 4_096


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection: the multiaddr of the peer as we see it, and the networks of its host."""

    address: str
    host: str
    site: str
    subnet: str
    outbound: bool


class Connections:
    """The connections of one node, by peer."""

    def __init__(self, local: bool) -> None:
        self._local = local
        self._connections: dict[str, Connection] = {}
        # site -> when it will have CALLS_BURST calls again; the longest silent site first
        self._called_ms: dict[str, int] = {}

    def admit(self, now_ms: int, peer: str, address: str) -> None:
        """Let an inbound connection in, else ``Invalid("peer_limit")``. Then ``on_connected``."""
        host = parse(address).host
        if peer in self._connections:
            raise Invalid("peer_limit", "connected already")
        inbound = len(self._connections) - self.outbound()
        if len(self._connections) >= PEERS_MAX or inbound >= PEERS_MAX - OUTBOUND_RESERVED:
            raise Invalid("peer_limit", "all inbound places are taken")
        if self._exempt(host):
            return
        if not self.room_for(host):
            raise Invalid("peer_limit", "too many connections from this network")
        rested_ms = max(self._called_ms.get(site(host), 0), now_ms) + CALL_AGAIN_MS
        if rested_ms > now_ms + CALLS_BURST * CALL_AGAIN_MS:
            raise Invalid("peer_limit", "calling again too soon")
        self._called_ms.pop(site(host), None)
        self._called_ms[site(host)] = rested_ms
        if len(self._called_ms) > CALLERS_MAX:
            del self._called_ms[next(iter(self._called_ms))]

    def on_connected(self, peer: str, address: str, outbound: bool) -> None:
        """A connection stands."""
        host = parse(address).host
        self._connections[peer] = Connection(address, host, site(host), subnet(host), outbound)

    def forget(self, peer: str) -> None:
        """The connection is gone."""
        self._connections.pop(peer, None)

    def room_for(self, host: str) -> bool:
        """Whether one more connection with this address and subnet is within the limits."""
        if self._exempt(host):
            return True
        near, wider = site(host), subnet(host)
        connections = self._connections.values()
        return (
            sum(connection.site == near for connection in connections) < PEERS_PER_SITE_MAX
            and sum(connection.subnet == wider for connection in connections) < PEERS_PER_SUBNET_MAX
        )

    def get(self, peer: str) -> Connection | None:
        """The connection of ``peer``, None when it is not connected."""
        return self._connections.get(peer)

    def host(self, peer: str) -> str:
        """The host of the connected ``peer``; "" when it is not connected."""
        connection = self._connections.get(peer)
        return connection.host if connection is not None else ""

    def dialled(self) -> list[str]:
        """The connected peers that we dialled."""
        return [peer for peer, connection in self._connections.items() if connection.outbound]

    def outbound(self) -> int:
        """Number of connections that we dialled."""
        return len(self.dialled())

    def __contains__(self, peer: str) -> bool:
        return peer in self._connections

    def __len__(self) -> int:
        return len(self._connections)

    def _exempt(self, host: str) -> bool:
        return self._local and is_loopback(host)
