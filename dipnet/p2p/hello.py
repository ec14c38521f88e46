"""The handshake: which peers have said hello and are of this network, and the status of each.

Rules that bind this file (docs/design.md "Peers", devp2p's Hello and eth Status):
* Both sides say hello first on every connection. Streams are not ordered among one another, so a
  frame of another protocol that arrives before the hello is ignored, not punished.
* Another chain id, another genesis or a missing capability ends the connection; so does our own
  nonce, because we have dialled ourselves.
* A head that goes down is no offence: a peer may have reorganised its chain. Sync judges claims by
  what they deliver.
"""

from dataclasses import asdict, dataclass
from typing import Final

from dipnet.p2p.messages import LISTEN_MAX, Hello, Status, encode
from dipnet.primitives.errors import Invalid

HELLO_MS_MAX: Final = 10_000
CAPABILITIES: Final = ("gossip/1", "votes/1", "sync/1", "peers/1")
REQUIRED: Final = ("gossip/1", "votes/1", "sync/1")


@dataclass(frozen=True, slots=True)
class Greeting:
    """The hello of a peer; ``capabilities`` are those that both sides have."""

    version: str
    capabilities: tuple[str, ...]
    listen: tuple[str, ...]


class Hellos:
    """Connections that wait for their hello, and hello and status of those that have said it.

    ``nonce`` is 8 fresh random bytes of this process.
    """

    def __init__(self, version: str, chain_id: int, genesis_hash: bytes, nonce: bytes) -> None:
        self._version = version
        self._chain_id = chain_id
        self._genesis_hash = genesis_hash
        self._nonce = nonce
        self._deadline_ms: dict[str, int] = {}
        self._greetings: dict[str, Greeting] = {}
        self._standing: dict[str, Status] = {}

    def on_connected(self, now_ms: int, peer: str) -> None:
        """Expect a hello of ``peer`` within HELLO_MS_MAX."""
        self._deadline_ms[peer] = now_ms + HELLO_MS_MAX

    def ours(self, status: Status, listen: tuple[str, ...]) -> bytes:
        """Our hello, encoded for protocol "hello"."""
        return encode(
            Hello(
                version=self._version,
                chain_id=self._chain_id,
                genesis_hash=self._genesis_hash,
                capabilities=CAPABILITIES,
                listen=listen[:LISTEN_MAX],
                nonce=self._nonce,
                **asdict(status),
            )
        )

    def on_hello(self, peer: str, hello: Hello) -> Greeting:
        """Accept the peer. ``Invalid("peer_network")``: not of our network; ``peer_message``: it
        has said hello before."""
        if peer not in self._deadline_ms:
            raise Invalid("peer_message", "hello without a connection that waits for it")
        if hello.nonce == self._nonce:
            raise Invalid("peer_network", "this is ourselves")
        if hello.chain_id != self._chain_id:
            raise Invalid("peer_network", f"chain id {hello.chain_id}, ours is {self._chain_id}")
        if hello.genesis_hash != self._genesis_hash:
            raise Invalid("peer_network", "another genesis")
        shared = tuple(name for name in CAPABILITIES if name in hello.capabilities)
        lacking = [name for name in REQUIRED if name not in shared]
        if lacking:
            raise Invalid("peer_network", f"{hello.version} lacks {', '.join(lacking)}")
        del self._deadline_ms[peer]
        greeting = Greeting(hello.version, shared, hello.listen)
        self._greetings[peer] = greeting
        self._standing[peer] = hello.status
        return greeting

    def on_status(self, peer: str, status: Status) -> None:
        """Note the status of the peer; ``Invalid("peer_message")`` before its hello, which comes
        first on the same stream."""
        if peer not in self._greetings:
            raise Invalid("peer_message", "status before hello")
        self._standing[peer] = status

    def greeted(self, peer: str) -> bool:
        """Whether the peer has said hello."""
        return peer in self._greetings

    def greeting(self, peer: str) -> Greeting:
        """The greeting of a peer that has said hello."""
        return self._greetings[peer]

    def standing(self) -> dict[str, Status]:
        """The status of every peer that has said hello, in the order of their hellos."""
        return dict(self._standing)

    def late(self, now_ms: int) -> list[str]:
        """Peers whose hello is overdue: drop them."""
        return [peer for peer, at_ms in self._deadline_ms.items() if at_ms <= now_ms]

    def forget(self, peer: str) -> None:
        """The peer is gone: release all that it took."""
        self._deadline_ms.pop(peer, None)
        self._greetings.pop(peer, None)
        self._standing.pop(peer, None)
