"""Catching up with blocks: which peer to ask, from which block on, and when to stop asking it.

Rules that bind this file (docs/design.md "Peers"; CometBFT CVE-2025-24371: a peer that lowers its
height must not leave us waiting):
* The next requests follow from the current claims alone: nothing waits for a height that was
  claimed once.
* Fork choice is not by length (docs/spec/consensus.md "The protocol"). A peer is worth asking if
  its head is not here, and is as high as ours or comes with a higher prevote certificate.
* A peer has one request at a time, PEERS_ASKED_MAX peers have a request, no two of them for the
  same head. Each request ends within REQUEST_MS_MAX, each delivery within IMPORT_MS_MAX. A late
  peer does not count as asked, so that another is asked beside it, OWED_MAX in all. A slow peer is
  asked last: otherwise a few peers that give one block at a time could be the only peers asked.
* A peer is asked on as long as it delivers blocks that are new, or, in STALE_ANSWERS_MAX answers at
  most, higher blocks of a branch that is stored here. After TRIES_MAX failures in a row it is not
  asked for PAUSE_MS. Only answers that lead nowhere are lies: silence may be the network's fault.
* Surplus blocks of a leader's slot are stored, as other leaders may build on them, but they
  are no delivery: an answer of surplus blocks alone is a failure. It is a lie only if the same
  answer of stored blocks would be a lie.
* ``syncing`` stops a delegate, so that a peer must not be able to cause it at will. Claims do not
  cause it, nor do recent blocks, nor blocks of a branch that is not the best. It is caused for
  BELIEF_MS by blocks that move our head while the head is old, and once by the first request.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dipnet.p2p.messages import (
    LOCATOR_MAX,
    Blocks,
    GetBlocks,
    Have,
    Outgoing,
    Status,
    encode,
    protocol_of,
)
from dipnet.p2p.scores import PeerOffence
from dipnet.primitives.errors import Invalid

BLOCKS_MAX: Final = 128  # of one request
PEERS_ASKED_MAX: Final = 3  # at once, those that are late not counted
OWED_MAX: Final = 8  # answers that are waited for, late answers too: of ANSWER_BYTES_MAX each
REQUEST_MS_MAX: Final = 10_000
SLOW_MS: Final = 2_000  # a peer that takes longer to answer is asked after all others
IMPORT_MS_MAX: Final = 60_000
GRACE_MS: Final = 1_000  # a head that is new to us is most often on its way by gossip
REST_MS: Final = 5_000  # after an answer without new blocks, where no better head was claimed
TRIES_MAX: Final = 3
STALE_ANSWERS_MAX: Final = 64  # in a row that only climb a branch stored here
PAUSE_MS: Final = 15_000
EARLY_MS: Final = 1_000  # after blocks from the future
BELIEF_MS: Final = 10_000  # how long we expect more blocks of a peer that moved our old head
NOWHERE: Final = (0, b"")
"""No block, as height and hash."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of the blocks of one answer to ``GetBlocks``."""

    fresh: int
    """The number of blocks that were new and valid, on any branch, without surplus blocks."""
    surplus: int
    """Blocks that were new and valid, but too many of their leader and slot."""
    last: tuple[int, bytes]
    """Height and hash of the last block that is stored now, new or not; ``NOWHERE``: none."""
    led: bool
    """The delivery gave us another head, whose slot is still long past."""
    early: bool
    """It ended with a block from the future: the clock of the peer or ours is wrong."""


@dataclass(slots=True)
class _Peer:
    """The claim of a peer, and the outcome of its answers."""

    status: Status
    strange_ms: int | None = None  # since when its heads are not here
    called: bool = False  # it sent a block whose parent is not here: ask it in spite of its claim
    request: int = 0  # in flight, 0 = none
    asked_ms: int = 0
    slow: bool = False  # its last answer took SLOW_MS or longer
    promised: Status | None = None  # its claim when it was asked
    more: bool = False  # its last answer said that there are more blocks
    busy_until_ms: int = 0  # a request or an import is running
    cursor: tuple[int, bytes] = NOWHERE  # its last delivered block, where the next locator starts
    stale: int = 0  # answers since the last fresh block
    tries: int = 0
    paused_until_ms: int = 0
    believed_until_ms: int = 0

    def late(self, now_ms: int) -> bool:
        """Whether its answer is overdue by the measure of SLOW_MS."""
        return bool(self.request) and now_ms >= self.asked_ms + SLOW_MS

    def ahead(self, now_ms: int, ours: Status) -> bool:
        """Whether it is worth asking."""
        if self.called or self.strange_ms is None:
            return self.called
        height, ranks = self.status.head_height, (self.status.claim[:2], ours.claim[:2])
        if height > ours.head_height + 1:
            return True
        better = height >= ours.head_height or ranks[0] > ranks[1]
        return better and now_ms >= self.strange_ms + GRACE_MS


class BlockSync:
    """The catching up of one node. Peers are known from their first status to ``forget``."""

    def __init__(self) -> None:
        self._peers: dict[str, _Peer] = {}
        self._last_request = 0
        self._asked_none = True  # no peer was asked yet: after a start we are behind, mostly

    def on_status(self, now_ms: int, peer: str, status: Status, known: bool) -> None:
        """The peer claims ``status`` now, also if it claimed more before; ``known``: its head is
        here."""
        claimant = self._peers.setdefault(peer, _Peer(status))
        claimant.status = status
        if known:
            claimant.strange_ms = None
        elif claimant.strange_ms is None:
            claimant.strange_ms = now_ms

    def on_unknown_parent(self, peer: str) -> None:
        """The peer sent a block whose parent is not here: it can give the ancestors."""
        if peer in self._peers:
            self._peers[peer].called = True

    def requests(
        self, now_ms: int, ours: Status, hash_at: Callable[[int], bytes], have: Have
    ) -> list[Outgoing]:
        """The requests to send now. ``hash_at`` gives the hash of the canonical block of a height
        from 0 to our head's, ``have`` says whether a block is here."""
        out: list[Outgoing] = []
        names = self._by_claim(now_ms, ours)
        if not names:
            return out
        busy = [peer for peer in self._peers.values() if now_ms < peer.busy_until_ms]
        prompt = [peer for peer in busy if not peer.late(now_ms)]
        late = len(busy) - len(prompt)
        # One peer for each head; if it is late another peer is asked for the same head.
        heads = {peer.status.head_hash for peer in prompt}
        for name in names:
            peer = self._peers[name]
            if len(prompt) >= PEERS_ASKED_MAX or len(prompt) + late >= OWED_MAX:
                break
            head = peer.status.head_hash
            if head in heads:
                continue
            if not peer.called and have(head):
                peer.strange_ms = None
                continue
            self._last_request += 1
            peer.request, peer.promised = self._last_request, peer.status
            peer.asked_ms, peer.busy_until_ms = now_ms, now_ms + REQUEST_MS_MAX
            if self._asked_none:
                peer.believed_until_ms, self._asked_none = now_ms + BELIEF_MS, False
            marks = locator(ours.head_height, hash_at, peer.cursor[1])
            ask = GetBlocks(peer.request, marks, BLOCKS_MAX)
            out.append((name, protocol_of(ask), encode(ask)))
            prompt.append(peer)
            heads.add(head)
        return out

    def on_blocks(self, now_ms: int, peer: str, blocks: Blocks) -> tuple[bytes, ...] | None:
        """The blocks to import, perhaps none; call ``on_imported`` when they are.

        None for a late answer, ``Invalid("peer_message")`` for an answer that was not asked for.
        """
        known = self._peers.get(peer)
        if not 0 < blocks.request <= self._last_request:
            raise Invalid("peer_message", "blocks that were not asked for")
        if known is None or known.request != blocks.request:
            return None
        if len(blocks.raws) > BLOCKS_MAX:
            raise Invalid("peer_message", f"{len(blocks.raws)} blocks, {BLOCKS_MAX} asked for")
        known.slow, known.request = known.late(now_ms), 0
        known.more = blocks.more
        known.called = known.called and blocks.more
        known.busy_until_ms = now_ms + IMPORT_MS_MAX
        return blocks.raws

    def on_imported(
        self, now_ms: int, peer: str, ours: Status, delivery: Delivery, have: Have
    ) -> list[PeerOffence]:
        """The offences of ``peer`` after a delivery.

        ``ours`` is where we stand after it, ``have`` whether a block is here.
        """
        known = self._peers.get(peer)
        if known is None or known.promised is None:
            return []
        promised = known.promised
        known.busy_until_ms = now_ms
        higher = known.more and delivery.last[0] > known.cursor[0]
        climbed = higher and known.stale < STALE_ANSWERS_MAX
        known.cursor = delivery.last if known.more else NOWHERE
        if delivery.early:
            known.cursor, known.paused_until_ms = NOWHERE, now_ms + EARLY_MS
        if delivery.led:
            known.believed_until_ms = now_ms + BELIEF_MS
        if delivery.fresh:
            known.tries = known.stale = 0
            return []
        failed = delivery.surplus > 0 and self._fail(now_ms, known)
        if delivery.early:
            return []
        known.stale += 1
        if climbed:
            return []
        known.called = False
        if have(promised.head_hash):  # other peers were faster: the answer is no lie
            return []
        if ours.claim >= promised.claim:
            known.cursor = NOWHERE
            known.paused_until_ms = max(known.paused_until_ms, now_ms + REST_MS)
            return []
        failed = failed if delivery.surplus else self._fail(now_ms, known)
        return [PeerOffence.USELESS, PeerOffence.LYING] if failed else [PeerOffence.USELESS]

    def on_tick(self, now_ms: int) -> list[str]:
        """Peers whose request is overdue; the next ``requests`` asks others first."""
        silent = [
            name
            for name, peer in self._peers.items()
            if peer.request and peer.busy_until_ms <= now_ms
        ]
        for name in silent:
            self._fail(now_ms, self._peers[name])
        return silent

    def syncing(self, now_ms: int) -> bool:
        """Whether a request to a peer that is believed, or the import of its answer, is running."""
        return any(
            now_ms < min(peer.busy_until_ms, peer.believed_until_ms)
            for peer in self._peers.values()
        )

    def forget(self, peer: str) -> None:
        """The peer is gone: release all that it took."""
        self._peers.pop(peer, None)

    def _by_claim(self, now_ms: int, ours: Status) -> list[str]:
        """Peers worth asking now, in order of fewest failures, then quick ones, then best claim."""
        free = [
            name
            for name, peer in self._peers.items()
            if peer.busy_until_ms <= now_ms
            and peer.paused_until_ms <= now_ms
            and peer.ahead(now_ms, ours)
        ]
        free.sort()
        free.sort(key=lambda name: self._peers[name].status.claim, reverse=True)
        return sorted(free, key=lambda name: (self._peers[name].tries, self._peers[name].slow))

    def _fail(self, now_ms: int, peer: _Peer) -> bool:
        """Count a failure. True: TRIES_MAX is reached, and the peer is not asked for PAUSE_MS."""
        peer.request = 0
        peer.busy_until_ms = now_ms
        peer.cursor = NOWHERE
        peer.tries += 1
        if peer.tries < TRIES_MAX:
            return False
        peer.tries, peer.stale, peer.called = 0, 0, False
        peer.paused_until_ms = now_ms + PAUSE_MS
        return True


def locator(height: int, hash_at: Callable[[int], bytes], cursor: bytes) -> tuple[bytes, ...]:
    """Hashes for ``GetBlocks``: ``cursor`` if any, then our chain exponentially back to genesis."""
    marks = [cursor] if cursor else []
    step = 1
    while height > 0 and len(marks) < LOCATOR_MAX - 1:
        marks.append(hash_at(height))
        if len(marks) > 8:
            step *= 2
        height -= step
    marks.append(hash_at(0))
    return tuple(marks)
