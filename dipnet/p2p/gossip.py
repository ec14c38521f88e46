"""Gossip of blocks, transactions and vertices: announced by id and fetched, or pushed whole.

Rules that bind this file (docs/design.md "Peers"):
* Votes and certificates are not here: ``votepush.VotePush`` sends them at once.
* A block of up to PUSH_BYTES_MAX is pushed whole to each peer that is not known to have it. Larger
  blocks, transactions and vertices are announced by id and fetched.
* One peer at a time is asked for an id. It has FETCH_MS_MAX; then the next peer that announced the
  id is asked. When no such peer is left the id is forgotten: the next tips bring it back.
* A block that a certificate names is mostly on its way: it is fetched if it is MENTION_MS late.
* Nothing is sent at once. ``flush`` gives the batches topic by topic (blocks, transactions,
  vertices), so that a block never waits behind a flood of readings.
* Everything that one peer can make us remember is bounded and released by ``forget``.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, TypeAlias

from dipnet.p2p.messages import (
    FETCHED,
    IDS_MAX,
    ITEMS_MAX,
    Announce,
    Fetch,
    Have,
    Items,
    Outgoing,
    Tips,
    Topic,
    Vertices,
    encode,
)
from dipnet.p2p.seen import Seen

FETCH_MS_MAX: Final = 2_000
MENTION_MS: Final = 300
OFFERS_MAX: Final = 5_000  # ids that a peer announced and we still want (Bitcoin Core's number)
IN_FLIGHT_MAX: Final = 1_024  # ids asked of one peer at a time
ANNOUNCERS_MAX: Final = 8  # peers remembered as next to ask for one id
PUSH_BYTES_MAX: Final = 1 << 20
BATCH_BYTES_MAX: Final = 256 << 10  # of a frame of answers, unless a single item is larger
ANSWER_BYTES_MAX: Final = 8 << 20  # of answers queued for one peer between two flushes
ID_BYTES: Final = 34  # an id on the wire
# Ids of one generation; two are kept. An id that falls out is at worst announced twice.
SEEN_MAX: Final = {Topic.BLOCK: 128, Topic.TX: 4_096, Topic.VERTEX: 8_192}

_Key: TypeAlias = tuple[Topic, bytes]


@dataclass(slots=True)
class _Want:
    """An id whose item is not here.

    ``asked`` is the peer that is asked for it, empty while every announcer has IN_FLIGHT_MAX to
    send, or while the id was only mentioned. ``others`` are the next peers to ask.
    """

    asked: str = ""
    deadline_ms: int = 0
    others: list[str] = field(default_factory=list)


def _by_topic() -> dict[Topic, list[bytes]]:
    return {topic: [] for topic in FETCHED}


@dataclass(slots=True)
class _Peer:
    """What is kept of one peer: ids that it has, ids that it offers, frames that wait for it."""

    seen: dict[Topic, Seen] = field(
        default_factory=lambda: {topic: Seen(most) for topic, most in SEEN_MAX.items()}
    )
    offers: dict[_Key, None] = field(default_factory=dict)
    waiting: dict[_Key, None] = field(default_factory=dict)  # offers to ask for when it is free
    in_flight: int = 0
    answer_bytes: int = 0
    frames: dict[Topic, list[bytes]] = field(default_factory=_by_topic)
    fetch: dict[Topic, list[bytes]] = field(default_factory=_by_topic)
    tell: dict[Topic, list[bytes]] = field(default_factory=_by_topic)


class Gossip:
    """The gossip of one node. A peer takes part from ``join`` to ``forget``; others are ignored."""

    def __init__(self) -> None:
        self._peers: dict[str, _Peer] = {}
        self._wants: dict[_Key, _Want] = {}
        self._asked: dict[_Key, _Want] = {}  # wants that a peer is asked for, by deadline
        self._later: dict[_Key, int] = {}  # wants that were only mentioned: when to ask, in order
        self._mail: dict[tuple[Topic, str], None] = {}  # topics of peers for which frames wait
        self._queued_bytes = 0

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait for ``flush``, about. Flush early when they are many."""
        return self._queued_bytes

    def join(self, peer: str) -> None:
        """The peer has said hello."""
        self._peers.setdefault(peer, _Peer())

    def forget(self, now_ms: int, peer: str) -> None:
        """The peer is gone: release its memory, ask other peers for the objects that it was asked
        for."""
        gone = self._peers.pop(peer, None)
        if gone is None:
            return
        for topic in FETCHED:
            self._mail.pop((topic, peer), None)
        for key in gone.offers:
            want = self._wants[key]
            if want.asked == peer:
                self._ask_another(now_ms, key, want)
            else:
                want.others.remove(peer)
                if not want.asked and not want.others:
                    del self._wants[key]
                    self._later.pop(key, None)

    # --- objects that we have

    def announce(self, topic: Topic, ids: Iterable[bytes], except_peer: str = "") -> None:
        """Tell ``ids`` to every peer that is not known to have their items."""
        chosen = list(ids)
        for name, peer in self._peers.items():
            if name == except_peer:
                continue
            seen, tell = peer.seen[topic], peer.tell[topic]
            news = [id_ for id_ in chosen if id_ not in seen]
            if not news:
                continue
            tell.extend(news)
            self._mail[topic, name] = None
            self._queued_bytes += ID_BYTES * len(news)
            for id_ in news:
                seen.add(id_)

    def push(self, topic: Topic, id_: bytes, raw: bytes, except_peer: str = "") -> None:
        """Send a whole item to every peer that is not known to have it; announce a large item."""
        if len(raw) > PUSH_BYTES_MAX:
            self.announce(topic, (id_,), except_peer)
            return
        frame = encode(Items(topic, (raw,)))
        for name, peer in self._peers.items():
            if name != except_peer and id_ not in peer.seen[topic]:
                peer.seen[topic].add(id_)
                self._queue(name, topic, frame)

    def tips(self, ids: Sequence[bytes]) -> None:
        """Tell every peer the newest IDS_MAX tips of our DAG, also peers that know them."""
        if ids:
            frame = encode(Tips(tuple(ids[-IDS_MAX:])))
            for name in self._peers:
                self._queue(name, Topic.VERTEX, frame)

    def answer(self, peer: str, topic: Topic, raws: Iterable[bytes]) -> int:
        """Queue the answer to a Fetch, read lazily up to ANSWER_BYTES_MAX; its bytes."""
        to = self._peers.get(peer)
        if to is None:
            return 0
        before = to.answer_bytes
        for frame in _answers(topic, _within(raws, ANSWER_BYTES_MAX - before)):
            to.answer_bytes += len(frame)
            self._queue(peer, topic, frame)
        return to.answer_bytes - before

    def flush(self) -> list[Outgoing]:
        """All that waits, as frames, topic by topic."""
        out: list[Outgoing] = []
        for topic, name in sorted(self._mail, key=itemgetter(0)):
            peer = self._peers[name]
            out += [(name, "gossip", frame) for frame in _drain(topic, peer)]
            peer.answer_bytes = 0
        self._mail.clear()
        self._queued_bytes = 0
        return out

    # --- objects that we want

    def on_announce(
        self,
        now_ms: int,
        peer: str,
        topic: Topic,
        ids: Iterable[bytes],
        have: Have,
    ) -> None:
        """Queue the fetches of ``ids``, for which ``peer`` can be asked.

        It announced them, or sent vertices that name them, or they are missing parents for which
        every peer is asked. ``have`` says whether an item is here.
        """
        offerer = self._peers.get(peer)
        if offerer is None:
            return
        seen = offerer.seen[topic]
        for id_ in ids:
            seen.add(id_)
            key = (topic, id_)
            want = self._offer(offerer, key, have)
            if want is None and key in self._later and key in offerer.offers:
                want = self._wants[key]  # the peer had only mentioned the item before
                want.others.remove(peer)
            if want is None:
                continue
            if not want.asked and offerer.in_flight < IN_FLIGHT_MAX:
                self._ask(now_ms, key, want, peer)
                continue
            want.others.append(peer)
            if not want.asked:
                offerer.waiting[key] = None

    def on_mention(
        self,
        now_ms: int,
        peer: str,
        topic: Topic,
        ids: Iterable[bytes],
        have: Have,
    ) -> None:
        """``peer`` named ``ids`` in a certificate, and need not have the items: after MENTION_MS,
        ask it for the items that are still missing."""
        offerer = self._peers.get(peer)
        if offerer is None:
            return
        for id_ in ids:
            key = (topic, id_)
            want = self._offer(offerer, key, have)
            if want is None:
                continue
            if not want.asked:
                if not want.others:
                    self._later[key] = now_ms + MENTION_MS
                elif key not in self._later:
                    offerer.waiting[key] = None
            want.others.append(peer)

    def _offer(self, offerer: _Peer, key: _Key, have: Have) -> _Want | None:
        """The want of ``key``, noted among the peer's offers; None if the offer is not taken."""
        if key in offerer.offers or len(offerer.offers) >= OFFERS_MAX or have(key[1]):
            return None
        want = self._wants.setdefault(key, _Want())
        if len(want.others) >= ANNOUNCERS_MAX:
            return None
        offerer.offers[key] = None
        return want

    def on_items(self, now_ms: int, peer: str, topic: Topic, ids: Iterable[bytes]) -> None:
        """``ids`` came from ``peer`` and are good: no other peer need send them."""
        sender = self._peers.get(peer)
        freed: dict[str, None] = {}
        for id_ in ids:
            if sender is not None:
                sender.seen[topic].add(id_)
            key = (topic, id_)
            want = self._wants.pop(key, None)
            if want is None:
                continue
            self._later.pop(key, None)
            for name in want.others:
                self._release(name, key)
            if want.asked:
                freed[want.asked] = None
                self._release(want.asked, key)
                self._peers[want.asked].in_flight -= 1
                del self._asked[key]
        for name in freed:
            self._ask_waiting(now_ms, name)

    def on_refused(self, now_ms: int, peer: str, topic: Topic, ids: Iterable[bytes]) -> None:
        """``peer`` has not got ``ids``, or sent bad items: ask the next peer."""
        for id_ in ids:
            want = self._wants.get((topic, id_))
            if want is not None and want.asked == peer:
                self._give_up(now_ms, (topic, id_), want)
        self._ask_waiting(now_ms, peer)

    def on_tick(self, now_ms: int) -> dict[str, int]:
        """Ask for ids that were mentioned, and other peers for ids that are overdue. Gives the
        number of overdue ids by peer."""
        while self._later and next(iter(self._later.values())) <= now_ms:
            key = next(iter(self._later))
            del self._later[key]
            self._ask_next(now_ms, key, self._wants[key])
        silent: dict[str, int] = {}
        while self._asked:
            key, want = next(iter(self._asked.items()))
            if want.deadline_ms > now_ms:
                break
            silent[want.asked] = silent.get(want.asked, 0) + 1
            self._give_up(now_ms, key, want)
        for name in silent:
            self._ask_waiting(now_ms, name)
        return silent

    def wanted(self) -> int:
        """Number of known ids whose items are not here."""
        return len(self._wants)

    def _ask(self, now_ms: int, key: _Key, want: _Want, peer: str) -> None:
        self._later.pop(key, None)
        asked = self._peers[peer]
        want.asked = peer
        want.deadline_ms = now_ms + FETCH_MS_MAX
        self._asked[key] = want  # time does not run backwards: ordered by deadline
        asked.in_flight += 1
        asked.fetch[key[0]].append(key[1])
        self._mail[key[0], peer] = None
        self._queued_bytes += ID_BYTES

    def _give_up(self, now_ms: int, key: _Key, want: _Want) -> None:
        """The asked peer failed."""
        self._release(want.asked, key)
        self._peers[want.asked].in_flight -= 1
        self._ask_another(now_ms, key, want)

    def _ask_another(self, now_ms: int, key: _Key, want: _Want) -> None:
        del self._asked[key]
        want.asked = ""
        self._ask_next(now_ms, key, want)

    def _ask_next(self, now_ms: int, key: _Key, want: _Want) -> None:
        """Ask the first announcer that is free, wait until some announcer is, or give up."""
        for name in want.others:
            if self._peers[name].in_flight < IN_FLIGHT_MAX:
                want.others.remove(name)
                self._ask(now_ms, key, want, name)
                return
            self._peers[name].waiting[key] = None
        if not want.others:
            del self._wants[key]

    def _ask_waiting(self, now_ms: int, peer: str) -> None:
        """The peer is free again: ask it for offers of it that no peer is asked for."""
        asked = self._peers.get(peer)
        while asked is not None and asked.waiting and asked.in_flight < IN_FLIGHT_MAX:
            key = next(iter(asked.waiting))
            del asked.waiting[key]
            want = self._wants[key]
            if not want.asked:
                want.others.remove(peer)
                self._ask(now_ms, key, want, peer)

    def _release(self, peer: str, key: _Key) -> None:
        offerer = self._peers[peer]
        del offerer.offers[key]
        offerer.waiting.pop(key, None)

    def _queue(self, peer: str, topic: Topic, frame: bytes) -> None:
        self._peers[peer].frames[topic].append(frame)
        self._mail[topic, peer] = None
        self._queued_bytes += len(frame)


def _within(raws: Iterable[bytes], bytes_max: int) -> Iterator[bytes]:
    """The first of ``raws`` that fit into ``bytes_max``; reads one more than it yields."""
    for raw in raws:
        bytes_max -= len(raw)
        if bytes_max < 0:
            return
        yield raw


def _answers(topic: Topic, raws: Iterable[bytes]) -> Iterator[bytes]:
    """Frames of about BATCH_BYTES_MAX that hold ``raws``."""
    batch: list[bytes] = []
    size = 0
    for raw in raws:
        if batch and (size + len(raw) > BATCH_BYTES_MAX or len(batch) == ITEMS_MAX):
            yield _frame(topic, batch)
            batch, size = [], 0
        batch.append(raw)
        size += len(raw)
    if batch:
        yield _frame(topic, batch)


def _frame(topic: Topic, raws: list[bytes]) -> bytes:
    if topic is Topic.VERTEX:
        return encode(Vertices(b"".join(raws)))
    return encode(Items(topic, tuple(raws)))


def _drain(topic: Topic, peer: _Peer) -> Iterator[bytes]:
    """Frames of one topic for one peer: answers and pushes, then fetches, then announcements."""
    yield from peer.frames[topic]
    for ids, message in ((peer.fetch[topic], Fetch), (peer.tell[topic], Announce)):
        for at in range(0, len(ids), IDS_MAX):
            yield encode(message(topic, tuple(ids[at : at + IDS_MAX])))
        ids.clear()
    peer.frames[topic].clear()
