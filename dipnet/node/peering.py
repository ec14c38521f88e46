"""The seam between a node and its links: what they read of it, and what it must judge for them.

Rules that bind this file (docs/design.md "Peers"): what waits for verification is bounded in frames
and bytes, of each peer and of all. An account outlives its connection, else a new connection would
wash it. What is refused here, repeats, tips and sync bring later.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from dipnet.p2p.messages import PUSHED, Status, Topic

KIND_OF: Final = {
    Topic.VOTE: "votes",
    Topic.CERTIFICATE: "certificates",
    Topic.BLOCK: "blocks",
    Topic.TX: "relayed",
}
TOPIC_OF: Final = {KIND_OF[topic]: topic for topic in PUSHED}


class View(Protocol):
    """What its links read of a node. No topic of ``PUSHED`` is asked of ``has`` and ``raw``."""

    def status(self) -> Status:
        """Where we stand, and our clock (Unix time, not the time for deadlines)."""

    def name(self, topic: Topic, raw: bytes) -> bytes:
        """The id of a vote or certificate by its bytes; any 32 bytes for what is none.

        Pure and cheap: it is asked before anything is verified. Raises nothing.
        """

    def has(self, topic: Topic, id_: bytes) -> bool:
        """Whether the item is here, or settled."""

    def raw(self, topic: Topic, id_: bytes) -> bytes | None:
        """Its bytes, None when it is not here."""

    def block_hash_at(self, height: int) -> bytes:
        """The canonical block at a height from 0 to the head's."""

    def blocks_after(self, locator: Iterable[bytes]) -> Iterable[bytes]:
        """See ``serve_blocks``. No more of the locator is taken than is looked up."""

    def vertex_ordinal(self, id_: bytes) -> int | None:
        """See ``serve_located``."""

    def vertices_from(self, start: int) -> Iterator[tuple[int, bytes]]:
        """See ``serve_vertices``."""

    def vertex_sample(self) -> Sequence[bytes]:
        """Ids of our log, newest first, exponentially back."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """What a peer sent and the node must judge: ``kind`` is one of ``Node.check``."""

    kind: str
    peer: str
    items: tuple[bytes, ...]
    asked: bool  # the answer to a request of ours, not gossip

    @property
    def size(self) -> int:
        """Bytes to be judged."""
        return sum(map(len, self.items))


@dataclass(frozen=True, slots=True)
class Room:
    """Limits: frames and bytes of one peer, bytes of all. One frame alone may be longer."""

    frames_max: int
    bytes_max: int
    all_bytes_max: int


# Under verification. Votes and blocks have rooms of their own: no flood of readings is before them.
UNJUDGED: Final = Room(frames_max=64, bytes_max=16 << 20, all_bytes_max=128 << 20)
UNJUDGED_PUSHED: Final = Room(frames_max=512, bytes_max=256 << 10, all_bytes_max=16 << 20)

# What a refusal says of the peer whose bytes it refused; what is not here is no offence of his.
OFFENCE_OF: Final[dict[str, str]] = {
    "peer_message": "malformed",
    "peer_network": "network",
    "peer_limit": "rate",
    "record": "malformed",
    "oversized": "malformed",
    "rlp": "malformed",
    "tx_type": "invalid_item",
    "tx_form": "invalid_item",
    "chain_id": "invalid_item",
    "unprotected": "invalid_item",
    "sender": "bad_signature",
    "intrinsic_gas": "invalid_item",
    "block_form": "invalid_block",
    "block_tx": "invalid_block",
    "block_slot": "invalid_block",
    "block_leader": "invalid_block",
    "block_root": "invalid_block",
    "block_signature": "bad_signature",
    "block_seed": "invalid_block",
    "certificate_section": "invalid_block",
    # Somebody is behind, maybe we, or a clock is wrong, maybe ours.
    "block_epoch": "untimely",
    "block_future": "untimely",
    "vote_epoch": "untimely",
    "vote_slot": "untimely",
    "certificate_block": "untimely",
    # vote_old and block_old are missing: whoever repeats his last word may be late with it;
    # vote_limit and block_limit: the offender is the delegate, not who relays him.
    "vote_form": "malformed",
    "vote_member": "bad_signature",
    "vote_signature": "bad_signature",
    "certificate_form": "bad_certificate",
    "certificate_quorum": "bad_certificate",
    "certificate_signature": "bad_certificate",
    "vertex_form": "malformed",
    "vertex_chain": "invalid_item",
    "vertex_parents": "invalid_item",
    "vertex_payload": "invalid_item",
    "vertex_age": "invalid_item",
    "vertex_signature": "bad_signature",
}


class Backlog:
    """The frames under verification, by peer."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._of: dict[str, tuple[int, int]] = {}  # peer -> frames, bytes
        self._bytes = 0

    def full(self, peer: str, size: int) -> bool:
        """Whether a frame of ``size`` bytes more of ``peer`` is more than its part."""
        frames, waiting = self._of.get(peer, (0, 0))
        too_long = frames > 0 and waiting + size > self._room.bytes_max
        return frames >= self._room.frames_max or too_long

    def add(self, peer: str, size: int) -> bool:
        """Take a frame in; False: no room for it, whosesoever it is."""
        if self._bytes + size > self._room.all_bytes_max:
            return False
        frames, waiting = self._of.get(peer, (0, 0))
        self._of[peer] = (frames + 1, waiting + size)
        self._bytes += size
        return True

    def remove(self, peer: str, size: int) -> None:
        """A frame of ``size`` bytes that was taken in is judged."""
        frames, waiting = self._of.pop(peer)
        if frames > 1:
            self._of[peer] = (frames - 1, waiting - size)
        self._bytes -= size

    def __len__(self) -> int:
        """Bytes of all peers."""
        return self._bytes


class Unjudged:
    """All that is under verification: votes, blocks and the rest, each with a room of their own."""

    def __init__(self) -> None:
        self._rest = Backlog(UNJUDGED)
        self._blocks = Backlog(UNJUDGED)
        self._pushed = Backlog(UNJUDGED_PUSHED)
        self._of = {KIND_OF[Topic.BLOCK]: self._blocks} | dict.fromkeys(TOPIC_OF, self._pushed)

    def of(self, incoming: Incoming) -> Backlog:
        """Where ``incoming`` waits."""
        return self._of.get(incoming.kind, self._rest)

    def __len__(self) -> int:
        """Bytes of all peers."""
        return len(self._rest) + len(self._blocks) + len(self._pushed)
