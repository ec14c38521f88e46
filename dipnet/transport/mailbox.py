"""The queues between the main thread and the peer thread, and the limits of the transport.

Rules that bind this file (docs/design.md "Peers"): every queue has a limit in frames and in bytes;
``put`` never waits; votes overtake all other frames and events; nothing here uses asyncio or trio.
"""

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from dipnet.node.effects import FIRST, PROTOCOLS, Connected, DialFailed, Disconnected, Received
from dipnet.p2p.messages import FRAME_BYTES_MAX

BATCH_BYTES_MAX: Final = 1 << 20  # of the frames that ``Mailbox.take`` returns
EVENT_OVERHEAD_BYTES: Final = 256  # the cost of a waiting event beside its data

TransportEvent = Connected | Disconnected | DialFailed | Received


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the transport. Names end in their unit; seconds are of trio's clock."""

    frame_bytes_max: Mapping[str, int] = field(
        default_factory=lambda: MappingProxyType(FRAME_BYTES_MAX)
    )
    outbox_bytes_max: int = 16 << 20  # waiting for a peer in a protocol
    outbox_frames_max: int = 8192
    outbox_all_bytes_max: int = 128 << 20  # waiting for all peers; see outbox_fair_bytes
    outbox_fair_bytes: int = 1 << 20  # a peer may have so many waiting above that limit
    inbox_bytes_max: int = 32 << 20  # waiting for the main thread, from all peers, without votes
    inbox_peer_bytes_max: int = (
        4 << 20
    )  # the same, from a single peer; its last frame may exceed it
    inbox_votes_bytes_max: int = 256 << 10  # votes waiting for the main thread, from a single peer
    strangers_max: int = 64  # inbound and not yet a peer; another stranger ends the oldest
    dials_max: int = 16
    large_frames_max: int = 8  # being received at the same time
    dial_s: float = 5.0
    handshake_s: float = 10.0
    write_s: float = 5.0  # for a piece of 64 KiB; py-libp2p's own wait for credit ends at 5
    frame_s: float = 30.0  # for a large frame
    ping_s: float = 15.0  # between pings, and until the answer


class Mailbox:
    """The frames on their way to a connected peer: the main thread puts, the trio thread takes."""

    def __init__(self, peer: str, limits: Limits) -> None:
        self.peer = peer
        self.inbound_bytes = 0  # received and not yet handed to the main thread; Net's lock
        self.inbound_votes_bytes = 0  # the same, of votes
        self.poked = False  # Net's lock
        self._limits = limits
        self._lock = threading.Lock()
        self._open = True
        self._frames: dict[str, deque[bytes]] = {name: deque() for name in PROTOCOLS}
        self._bytes = dict.fromkeys(PROTOCOLS, 0)

    @property
    def unsent(self) -> int:
        """Bytes that are queued or being written."""
        return sum(self._bytes.values())

    def put(self, protocol: str, data: bytes) -> bool:
        """Queues a frame; False when the queue is full or closed."""
        frames = self._frames[protocol]
        with self._lock:
            size = self._bytes[protocol] + len(data)
            full = size > self._limits.outbox_bytes_max
            if not self._open or full or len(frames) >= self._limits.outbox_frames_max:
                return False
            self._bytes[protocol] = size
            frames.append(data)
            return True

    def take(self, protocol: str) -> list[bytes]:
        """The next frames in order: at most ``BATCH_BYTES_MAX`` bytes, or a single longer frame."""
        frames, batch, size = self._frames[protocol], list[bytes](), 0
        while frames and (not batch or size + len(frames[0]) <= BATCH_BYTES_MAX):
            batch.append(frames.popleft())
            size += len(batch[-1])
        return batch

    def sent(self, protocol: str, size: int) -> None:
        """Frees the room of ``size`` bytes that ``take`` returned and that are written."""
        with self._lock:
            self._bytes[protocol] -= size

    def close(self) -> bool:
        """Refuses frames from now on; False when the mailbox was closed before."""
        with self._lock:
            was, self._open = self._open, False
        return was


_Waiting = tuple[TransportEvent, Mailbox, int]


class Inbox:
    """Events on their way to the main thread; ``Net`` holds its lock around each call.

    Peers take turns, an event each, so that a peer that floods delays each other peer by a single
    event. Votes have a queue of their own and every other turn.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._plain: dict[str, deque[_Waiting]] = {}  # by peer, next first
        self._votes: dict[str, deque[_Waiting]] = {}
        self._connecting: dict[str, int] = {}  # how many Connected of a peer wait
        self._votes_next = False
        self._bytes = 0  # in _plain

    def __bool__(self) -> bool:
        return bool(self._plain or self._votes)

    def put(self, event: TransportEvent, mailbox: Mailbox) -> bool:
        """Queues an event; False when there is no room, so that the caller tries again later.

        ``Disconnected`` and ``DialFailed`` always fit: each ends a connection or a dial, whose
        number is bounded.
        """
        limits = self._limits
        cost = EVENT_OVERHEAD_BYTES + (len(event.data) if isinstance(event, Received) else 0)
        if isinstance(event, Received) and event.protocol == FIRST:
            if mailbox.inbound_votes_bytes >= limits.inbox_votes_bytes_max:
                return False
            mailbox.inbound_votes_bytes += cost
            self._votes.setdefault(mailbox.peer, deque()).append((event, mailbox, cost))
            return True
        if isinstance(event, Connected | Received) and (
            self._bytes >= limits.inbox_bytes_max
            or mailbox.inbound_bytes >= limits.inbox_peer_bytes_max
        ):
            return False
        if isinstance(event, Connected):
            self._connecting[event.peer] = self._connecting.get(event.peer, 0) + 1
        self._bytes += cost
        mailbox.inbound_bytes += cost
        self._plain.setdefault(mailbox.peer, deque()).append((event, mailbox, cost))
        return True

    def take(self) -> tuple[TransportEvent, Mailbox]:
        """The next event and the mailbox of its connection; the inbox must not be empty."""
        votes = next((peer for peer in self._votes if peer not in self._connecting), None)
        self._votes_next = not self._votes_next
        if votes is not None and (self._votes_next or not self._plain):
            return self._take_votes(votes)
        peer = next(iter(self._plain))
        ends = isinstance(self._plain[peer][0][0], Disconnected)
        if ends and peer in self._votes and peer not in self._connecting:
            return self._take_votes(peer)  # these votes came before the Disconnected
        event, mailbox, cost = _taken(self._plain, peer)
        if isinstance(event, Connected):
            left = self._connecting.pop(peer) - 1
            if left:
                self._connecting[peer] = left
        self._bytes -= cost
        mailbox.inbound_bytes -= cost
        return event, mailbox

    def _take_votes(self, peer: str) -> tuple[TransportEvent, Mailbox]:
        event, mailbox, cost = _taken(self._votes, peer)
        mailbox.inbound_votes_bytes -= cost
        return event, mailbox


def _taken(queues: dict[str, deque[_Waiting]], peer: str) -> _Waiting:
    """Takes the first event of a peer; the peer goes to the end of the line."""
    queue = queues.pop(peer)
    first = queue.popleft()
    if queue:
        queues[peer] = queue
    return first
