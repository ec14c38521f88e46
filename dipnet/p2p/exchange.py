"""Exchange of addresses: when to ask a peer for addresses, and when to answer its request.

Rules that bind this file: addresses come only when asked for, one answer to a request; a peer may
ask once in SERVE_MS.
"""

from typing import Final

from dipnet.primitives.errors import Invalid

ASK_MS: Final = 600_000
SERVE_MS: Final = 60_000


class Exchange:
    """The peers that were asked for addresses, and those that asked us."""

    def __init__(self) -> None:
        self._next_ask_ms: dict[str, int] = {}
        self._open: dict[str, None] = {}  # peers that were asked and have not answered
        self._next_serve_ms: dict[str, int] = {}

    def join(self, now_ms: int, peer: str) -> None:
        """The peer has said hello with capability peers/1."""
        self._next_ask_ms[peer] = now_ms

    def to_ask(self, now_ms: int) -> list[str]:
        """Peers to send GetPeers to now."""
        due = [peer for peer, at_ms in self._next_ask_ms.items() if at_ms <= now_ms]
        for peer in due:
            self._next_ask_ms[peer] = now_ms + ASK_MS
            self._open[peer] = None
        return due

    def on_get_peers(self, now_ms: int, peer: str) -> None:
        """The peer asks for addresses; ``Invalid("peer_limit")``: too soon, do not answer."""
        if now_ms < self._next_serve_ms.get(peer, now_ms):
            raise Invalid("peer_limit", "asks for addresses too often")
        self._next_serve_ms[peer] = now_ms + SERVE_MS

    def on_peers(self, peer: str) -> None:
        """The peer answers with addresses; ``Invalid("peer_message")``: it was not asked."""
        if peer not in self._open:
            raise Invalid("peer_message", "addresses that were not asked for")
        del self._open[peer]

    def forget(self, peer: str) -> None:
        """The peer is gone: release all that it took."""
        self._next_ask_ms.pop(peer, None)
        self._open.pop(peer, None)
        self._next_serve_ms.pop(peer, None)
