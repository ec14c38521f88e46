"""Votes and certificates: pushed whole, at once, to every peer that is not known to have them.

Rules that bind this file (DESIGN 7: votes first; specs/consensus.md 1):
* Nothing here waits for a batch of others: ``flush`` is called after every step of the node. What
  one step pushed to a peer leaves in as few frames as will hold it, votes before certificates.
* An id names what was verified. What is not yet is told apart by all of its bytes, else a forged
  copy of a vote would keep the true one from being judged.
* Each filter is bounded; what falls out of one is at worst sent, or judged, twice.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from dipnet.p2p.messages import (
    CERTIFICATES_MAX,
    PUSHED,
    VOTES_MAX,
    Certificates,
    Lane,
    Outgoing,
    Votes,
    encode,
)
from dipnet.p2p.seen import Seen

# Ids of one generation; two are kept. 101 delegates cast 202 votes a slot.
SEEN_MAX: Final = {Lane.VOTE: 1_024, Lane.CERTIFICATE: 64}  # of one peer
GOOD_MAX: Final = {Lane.VOTE: 4_096, Lane.CERTIFICATE: 256}
FRAME_MAX: Final = {Lane.VOTE: VOTES_MAX, Lane.CERTIFICATE: CERTIFICATES_MAX}
_MESSAGE: Final[dict[Lane, type[Votes] | type[Certificates]]] = {
    Lane.VOTE: Votes,
    Lane.CERTIFICATE: Certificates,
}

ItemId: TypeAlias = Callable[[Lane, bytes], bytes]
"""The id of a vote or certificate by its bytes; any 32 bytes for what is none. Never raises."""


def _filters(sizes: dict[Lane, int]) -> dict[Lane, Seen]:
    return {lane: Seen(most) for lane, most in sizes.items()}


@dataclass(slots=True)
class _Peer:
    """What one peer has, and what is on its way to it."""

    seen: dict[Lane, Seen] = field(default_factory=lambda: _filters(SEEN_MAX))
    raws: dict[Lane, list[bytes]] = field(default_factory=lambda: {lane: [] for lane in PUSHED})


class Express:
    """The fast lanes of one node. A peer takes part from ``join`` to ``forget``."""

    def __init__(self) -> None:
        self._peers: dict[str, _Peer] = {}
        self._mail: dict[str, None] = {}  # peers for whom something waits
        self._good = _filters(GOOD_MAX)
        self._judging: dict[tuple[Lane, bytes], None] = {}  # what is under verification

    @property
    def waiting(self) -> bool:
        """Whether there is something for ``flush``."""
        return bool(self._mail)

    def join(self, peer: str) -> None:
        """The peer has said hello."""
        self._peers.setdefault(peer, _Peer())

    def forget(self, peer: str) -> None:
        """The peer is gone: release all that it took."""
        self._peers.pop(peer, None)
        self._mail.pop(peer, None)

    # --- out

    def push(self, lane: Lane, id_: bytes, raw: bytes, except_peer: str = "") -> None:
        """Send a verified item to every peer that is not known to have it."""
        self._good[lane].add(id_)
        for name, peer in self._peers.items():
            if name != except_peer and id_ not in peer.seen[lane]:
                peer.seen[lane].add(id_)
                self._queue(name, lane, raw)

    def repeat(self, lane: Lane, raws: Sequence[bytes]) -> None:
        """Send again to everybody, whoever has it: the first frame's worth of ``raws``."""
        for raw in raws[: FRAME_MAX[lane]]:
            for name in self._peers:
                self._queue(name, lane, raw)

    def flush(self) -> list[Outgoing]:
        """All that waits: votes of all peers, then certificates."""
        out: list[Outgoing] = []
        framed: dict[tuple[bytes, ...], bytes] = {}  # most peers get the same
        for lane in PUSHED:
            most, message = FRAME_MAX[lane], _MESSAGE[lane]
            for name in self._mail:
                raws = self._peers[name].raws[lane]
                for at in range(0, len(raws), most):
                    batch = tuple(raws[at : at + most])
                    if batch not in framed:
                        framed[batch] = encode(message(batch))
                    out.append((name, "votes", framed[batch]))
                raws.clear()
        self._mail.clear()
        return out

    def _queue(self, peer: str, lane: Lane, raw: bytes) -> None:
        self._peers[peer].raws[lane].append(raw)
        self._mail[peer] = None

    # --- in

    def sift(
        self, peer: str, lane: Lane, raws: Iterable[bytes], item_id: ItemId
    ) -> tuple[bytes, ...]:
        """Those of ``raws`` that must be judged: neither known to be good nor under verification.

        The peer is not sent what it has sent. What comes out is to be ended by ``on_judged``.
        """
        sender = self._peers.get(peer)
        fresh: dict[bytes, None] = {}
        for raw in raws:
            id_ = item_id(lane, raw)
            if sender is not None:
                sender.seen[lane].add(id_)
            if id_ not in self._good[lane] and (lane, raw) not in self._judging:
                fresh[raw] = None
        return tuple(fresh)

    def on_judging(self, lane: Lane, raws: Iterable[bytes]) -> None:
        """``raws``, which ``sift`` gave, went to be verified."""
        self._judging.update(dict.fromkeys((lane, raw) for raw in raws))

    def on_judged(self, lane: Lane, raws: Iterable[bytes]) -> None:
        """They were verified, with whatever outcome: the same bytes may be judged again."""
        for raw in raws:
            self._judging.pop((lane, raw), None)

    def on_good(self, peer: str, lane: Lane, ids: Iterable[bytes]) -> None:
        """``ids`` came from ``peer`` and are good: never judge them again, nor send them back."""
        sender = self._peers.get(peer)
        for id_ in ids:
            self._good[lane].add(id_)
            if sender is not None:
                sender.seen[lane].add(id_)
