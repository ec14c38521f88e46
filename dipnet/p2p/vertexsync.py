"""Catching up with vertices: walk the log of one peer from where it parts from ours.

Rules that bind this file (docs/design.md "DAG" and "Peers"):
* Tips and the fetch of missing parents make DAGs equal. Walks only speed up catching up; their
  state is not stored.
* One peer at a time is walked. Logs have the same vertices in another order, so a walk begins
  MARGIN before the newest vertex that both logs have, found by ids sampled exponentially back.
* An audit finds vertices that gossip lost long ago and no child names: while a peer's set of
  vertices differs from ours for UNEQUAL_MS, section after section of its log is walked, each four
  times as deep. At most one vertex in AUDIT_MS is asked for, over all peers, so that a lying peer
  or a network that is never at rest costs next to nothing.
* Every request ends within ANSWER_MS_MAX, at most INSERTS_MAX ranges wait for insertion, and a
  walk that brings nothing new for STALE_RANGES_MAX ranges is over.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from dipnet.p2p.messages import (
    LOCATOR_MAX,
    GetVertices,
    Located,
    LocateVertices,
    Outgoing,
    VertexRange,
    encode,
    protocol_of,
)
from dipnet.primitives.errors import Invalid

VERTICES_MAX: Final = 2_048  # of one request
MARGIN: Final = 256  # ordinals walked again, because two logs differ in order
INSERTS_MAX: Final = 2
STALE_RANGES_MAX: Final = 64
ANSWER_MS_MAX: Final = 5_000
INSERT_MS_MAX: Final = 60_000
TRIES_MAX: Final = 3
BEHIND_MAX: Final = 1_000  # vertices that gossip is trusted to bring
REST_MS: Final = 10_000  # between two walks of one peer's log
UNEQUAL_MS: Final = 5_000  # a difference that gossip is trusted to heal
AUDIT_MS: Final = 10  # for each vertex of an audit
AUDIT_GROWTH: Final = 4  # depth of an audit, as a multiple of the depth before


@dataclass(slots=True)
class _Walk:
    """The walk of one peer's log. ``request`` 0: nothing in flight."""

    locating: bool = True
    request: int = 0
    start: int = 0
    deadline_ms: int = 0
    inserting: int = 0
    stale: int = 0
    audit: tuple[int, int] | None = None  # its section, in ordinals back from where logs part
    until: int = 0  # where the section of an audit ends; 0: at the end of the log


@dataclass(slots=True)
class _Doubt:
    """A peer whose set of vertices differs from ours."""

    since_ms: int
    depth: int = 0  # audited so far, in ordinals back


class VertexSync:
    """The catching up of one node with the DAGs of its peers."""

    def __init__(self) -> None:
        self._queue: dict[str, int] = {}  # peer -> failed walks, in the order of their turns
        self._walks: dict[str, _Walk] = {}  # at most one entry
        self._rested_ms: dict[str, int] = {}  # peer -> when it may be walked again
        self._doubts: dict[str, _Doubt] = {}
        self._audit_ms = 0  # when the next audit may begin
        self._last_request = 0

    def want(self, peer: str) -> None:
        """The peer has said hello: walk its log when its turn comes."""
        if peer not in self._walks:
            self._queue.setdefault(peer, 0)

    def on_status(self, now_ms: int, peer: str, dag_count: int, our_count: int) -> None:
        """Walk again when the peer is far ahead."""
        if dag_count > our_count + BEHIND_MAX:
            self.on_behind(now_ms, peer)

    def on_behind(self, now_ms: int, peer: str) -> None:
        """The parents of a peer's tips are not here: walk its log, unless that was just done."""
        if now_ms >= self._rested_ms.get(peer, 0):
            self.want(peer)

    def on_compared(self, now_ms: int, peer: str, equal: bool) -> None:
        """The peer has the same vertices (``equal``) or not: audit its log after UNEQUAL_MS."""
        if equal:
            self._doubts.pop(peer, None)
            return
        doubt = self._doubts.setdefault(peer, _Doubt(now_ms))
        busy = self._queue or self._walks or now_ms < self._audit_ms
        if busy or now_ms < doubt.since_ms + UNEQUAL_MS:
            return
        section = max(MARGIN, doubt.depth * (AUDIT_GROWTH - 1))
        self._audit_ms = now_ms + max(REST_MS, section * AUDIT_MS)
        self._queue[peer] = 0
        self._walks[peer] = _Walk(audit=(doubt.depth + section, doubt.depth))

    def requests(self, now_ms: int, sample: Callable[[], Sequence[bytes]]) -> list[Outgoing]:
        """The requests to send now. ``sample`` gives ids of our log, newest first, exponentially
        back."""
        assert len(self._walks) <= 1
        while self._queue or self._walks:
            if not self._walks:
                self._walks[next(iter(self._queue))] = _Walk()
            ((peer, walk),) = self._walks.items()
            if walk.request or walk.inserting >= INSERTS_MAX:
                return []
            ids = tuple(sample()[:LOCATOR_MAX]) if walk.locating else ()
            walk.locating = bool(ids)  # an empty log parts at the start
            self._last_request += 1
            walk.request = self._last_request
            walk.deadline_ms = now_ms + ANSWER_MS_MAX
            left = walk.until - walk.start if walk.until else VERTICES_MAX
            ask = (
                LocateVertices(walk.request, ids)
                if walk.locating
                else GetVertices(walk.request, walk.start, min(left, VERTICES_MAX))
            )
            return [(peer, protocol_of(ask), encode(ask))]
        return []

    def on_located(self, peer: str, located: Located) -> None:
        """Where the peer's log parts from ours; ignored when late.

        ``Invalid("peer_message")``: it was not asked for.
        """
        walk = self._answered(peer, located.request, locating=True)
        if walk is None:
            return
        walk.locating = False
        if walk.audit is None:
            walk.start = max(0, located.ordinal - MARGIN)
            return
        first, last = walk.audit
        walk.start = max(0, located.ordinal - first)
        walk.until = max(1, located.ordinal - last) if last else 0
        if peer in self._doubts:  # from the end again when all has been seen
            self._doubts[peer].depth = first if walk.start else 0

    def on_range(self, now_ms: int, peer: str, answer: VertexRange) -> bytes:
        """Vertices to insert, perhaps none; call ``on_inserted`` when they are.

        Empty when late. ``Invalid("peer_message")``: not asked for, or the range leads nowhere.
        """
        walk = self._answered(peer, answer.request, locating=False)
        if walk is None:
            return b""
        if answer.next < walk.start or (answer.next == walk.start and not answer.end):
            raise Invalid("peer_message", f"range of {walk.start} goes on at {answer.next}")
        walk.start = answer.next
        walk.inserting += 1
        walk.deadline_ms = now_ms + INSERT_MS_MAX
        if answer.end or 0 < walk.until <= walk.start:
            self._finish(now_ms, peer)
        return answer.wire

    def on_inserted(self, now_ms: int, peer: str, fresh: int) -> None:
        """A range is inserted; ``fresh`` of its vertices were new."""
        walk = self._walks.get(peer)
        if walk is None or not walk.inserting:
            return
        walk.inserting -= 1
        walk.stale = 0 if fresh else walk.stale + 1
        if walk.stale >= STALE_RANGES_MAX and walk.audit is None:
            self._finish(now_ms, peer)

    def on_tick(self, now_ms: int) -> list[str]:
        """Peers whose request is overdue, at most one; its turn comes after those of the others."""
        silent = []
        for peer, walk in list(self._walks.items()):
            if now_ms < walk.deadline_ms:
                continue
            if walk.request:
                silent.append(peer)
                del self._walks[peer]
                tries = self._queue.pop(peer) + 1
                if tries < TRIES_MAX:
                    self._queue[peer] = tries
            else:
                walk.inserting = 0
        return silent

    def forget(self, peer: str) -> None:
        """The peer is gone: release all that it took."""
        self._queue.pop(peer, None)
        self._walks.pop(peer, None)
        self._rested_ms.pop(peer, None)
        self._doubts.pop(peer, None)

    def _answered(self, peer: str, request: int, locating: bool) -> _Walk | None:
        if not 0 < request <= self._last_request:
            raise Invalid("peer_message", "an answer that was not asked for")
        walk = self._walks.get(peer)
        if walk is None or walk.request != request:
            return None
        if walk.locating is not locating:
            raise Invalid("peer_message", "an answer of another kind")
        walk.request = 0
        return walk

    def _finish(self, now_ms: int, peer: str) -> None:
        del self._walks[peer]
        self._queue.pop(peer, None)
        self._rested_ms[peer] = now_ms + REST_MS
