"""Votes and certificates: pushed whole, at once, to every peer that is not known to have them.

Rules that bind this file (docs/design.md "Peers": votes first; docs/spec/consensus.md "The
protocol"):
* Votes wait for no batch: ``flush`` is called after every step of the node. The items that a step
  pushed to a peer leave in as few frames as hold them, votes before certificates.
* A verified item is known by its id. An item that is not verified yet is known by all of its bytes:
  otherwise a forged copy of a vote would keep the true vote from being judged.
* Each filter is bounded. An item that falls out of a filter is at worst sent, or judged, twice.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from dipnet.p2p.messages import (
    CERTIFICATES_MAX,
    PUSHED,
    VOTES_MAX,
    Certificates,
    Outgoing,
    Topic,
    Votes,
    encode,
)
from dipnet.p2p.seen import Seen

# Ids of one generation; two are kept. 101 delegates cast 202 votes a slot.
SEEN_MAX: Final = {Topic.VOTE: 1_024, Topic.CERTIFICATE: 64}  # of one peer
GOOD_MAX: Final = {Topic.VOTE: 4_096, Topic.CERTIFICATE: 256}
FRAME_MAX: Final = {Topic.VOTE: VOTES_MAX, Topic.CERTIFICATE: CERTIFICATES_MAX}
_MESSAGE: Final[dict[Topic, type[Votes] | type[Certificates]]] = {
    Topic.VOTE: Votes,
    Topic.CERTIFICATE: Certificates,
}

ItemId: TypeAlias = Callable[[Topic, bytes], bytes]
"""The id of a vote or certificate by its bytes; any 32 bytes for other bytes. Never raises."""


def _filters(sizes: dict[Topic, int]) -> dict[Topic, Seen]:
    return {topic: Seen(most) for topic, most in sizes.items()}


@dataclass(slots=True)
class _Peer:
    """The items that one peer has, and those that wait to be sent to it."""

    seen: dict[Topic, Seen] = field(default_factory=lambda: _filters(SEEN_MAX))
    raws: dict[Topic, list[bytes]] = field(default_factory=lambda: {topic: [] for topic in PUSHED})


class VotePush:
    """The pushed topics of one node. A peer takes part from ``join`` to ``forget``."""

    def __init__(self) -> None:
        self._peers: dict[str, _Peer] = {}
        self._mail: dict[str, None] = {}  # peers for which items wait
        self._good = _filters(GOOD_MAX)
        self._judging: dict[tuple[Topic, bytes], None] = {}  # items under verification

    @property
    def waiting(self) -> bool:
        """Whether ``flush`` has something to give."""
        return bool(self._mail)

    def join(self, peer: str) -> None:
        """The peer has said hello."""
        self._peers.setdefault(peer, _Peer())

    def forget(self, peer: str) -> None:
        """The peer is gone: release all that it took."""
        self._peers.pop(peer, None)
        self._mail.pop(peer, None)

    # --- out

    def push(self, topic: Topic, id_: bytes, raw: bytes, except_peer: str = "") -> None:
        """Send a verified item to every peer that is not known to have it."""
        self._good[topic].add(id_)
        for name, peer in self._peers.items():
            if name != except_peer and id_ not in peer.seen[topic]:
                peer.seen[topic].add(id_)
                self._queue(name, topic, raw)

    def repeat(self, topic: Topic, raws: Sequence[bytes]) -> None:
        """Send again to every peer, also to those that have them; at most one frame of ``raws``."""
        for raw in raws[: FRAME_MAX[topic]]:
            for name in self._peers:
                self._queue(name, topic, raw)

    def flush(self) -> list[Outgoing]:
        """The frames that wait: votes to all peers, then certificates."""
        out: list[Outgoing] = []
        framed: dict[tuple[bytes, ...], bytes] = {}  # most peers get the same frame
        for topic in PUSHED:
            most, message = FRAME_MAX[topic], _MESSAGE[topic]
            for name in self._mail:
                raws = self._peers[name].raws[topic]
                for at in range(0, len(raws), most):
                    batch = tuple(raws[at : at + most])
                    if batch not in framed:
                        framed[batch] = encode(message(batch))
                    out.append((name, "votes", framed[batch]))
                raws.clear()
        self._mail.clear()
        return out

    def _queue(self, peer: str, topic: Topic, raw: bytes) -> None:
        self._peers[peer].raws[topic].append(raw)
        self._mail[peer] = None

    # --- in

    def sift(
        self, peer: str, topic: Topic, raws: Iterable[bytes], item_id: ItemId
    ) -> tuple[bytes, ...]:
        """The items of ``raws`` that must be judged: not known to be good, nor under verification.

        None of ``raws`` is sent back to the peer. Call ``on_judging`` if the result is judged.
        """
        sender = self._peers.get(peer)
        fresh: dict[bytes, None] = {}
        for raw in raws:
            id_ = item_id(topic, raw)
            if sender is not None:
                sender.seen[topic].add(id_)
            if id_ not in self._good[topic] and (topic, raw) not in self._judging:
                fresh[raw] = None
        return tuple(fresh)

    def on_judging(self, topic: Topic, raws: Iterable[bytes]) -> None:
        """``raws``, which ``sift`` gave, are being verified; ``on_judged`` ends it."""
        self._judging.update(dict.fromkeys((topic, raw) for raw in raws))

    def on_judged(self, topic: Topic, raws: Iterable[bytes]) -> None:
        """``raws`` were verified, with any outcome: the same bytes may be judged again."""
        for raw in raws:
            self._judging.pop((topic, raw), None)

    def on_good(self, peer: str, topic: Topic, ids: Iterable[bytes]) -> None:
        """``ids`` came from ``peer`` and are good: never judge them again, nor send them back."""
        sender = self._peers.get(peer)
        for id_ in ids:
            self._good[topic].add(id_)
            if sender is not None:
                sender.seen[topic].add(id_)
