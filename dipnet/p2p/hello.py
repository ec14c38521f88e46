"""The handshake: who has said hello, who belongs to this network, where each peer stands.

Rules that bind this file (docs/design.md "Peers", devp2p's Hello and eth Status):
* Both sides say hello first on every connection. Streams are not ordered among one another, so
  what arrives on another protocol before the hello is ignored, not punished.
* Another chain id, genesis or required capability ends the connection; so does our own nonce.
* A head that goes down is no offence: a peer may have been told to reorganise. Sync judges claims
  by what they deliver.
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
    """What a peer said of itself; ``capabilities`` are those that both sides have."""

    version: str
    capabilities: tuple[str, ...]
    listen: tuple[str, ...]


class Hellos:
    """Connections waiting for their hello, and the word and standing of those that gave it.

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
        """Our hello, encoded: protocol "hello"."""
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
        """Accept the peer. ``Invalid("peer_network")``: not one of us; "peer_message": unasked."""
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
        """Note where the peer stands. The hello comes first on this very stream."""
        if peer not in self._greetings:
            raise Invalid("peer_message", "status before hello")
        self._standing[peer] = status

    def greeted(self, peer: str) -> bool:
        """Whether the peer has said hello: what it sends before is ignored."""
        return peer in self._greetings

    def greeting(self, peer: str) -> Greeting:
        """What the greeted ``peer`` said of itself."""
        return self._greetings[peer]

    def standing(self) -> dict[str, Status]:
        """Where every greeted peer stands, in the order of greeting."""
        return dict(self._standing)

    def late(self, now_ms: int) -> list[str]:
        """Peers that should have said hello by now: drop them."""
        return [peer for peer, at_ms in self._deadline_ms.items() if at_ms <= now_ms]

    def forget(self, peer: str) -> None:
        """The peer is gone: release all that it took."""
        self._deadline_ms.pop(peer, None)
        self._greetings.pop(peer, None)
        self._standing.pop(peer, None)
