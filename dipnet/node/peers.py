"""The node's side of every peer: who may stay, what they are told, asked and charged.

``Peers`` joins the machines of ``p2p`` and speaks for the node through ``View``; it knows no vote,
block, transaction or vertex, only bytes and ids. What a peer sends and must be judged comes out as
``Incoming``; once judged, ``on_judged`` settles what it was worth to the peer. Effects gather in
order and leave with ``drain``, votes and certificates before all others.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from dipnet import __version__
from dipnet.ledger.genesis import Genesis
from dipnet.node.effects import Dial, Drop, Effect, Send, Write
from dipnet.node.peering import KIND_OF, OFFENCE_OF, TOPIC_OF, Incoming, Unjudged, View
from dipnet.p2p import messages as m
from dipnet.p2p.address import parse as parse_address
from dipnet.p2p.blocksync import BlockSync
from dipnet.p2p.book import KEY_PEER, AddressBook
from dipnet.p2p.clock import Clock
from dipnet.p2p.connections import Connections
from dipnet.p2p.exchange import Exchange
from dipnet.p2p.gossip import Gossip
from dipnet.p2p.hello import Hellos
from dipnet.p2p.messages import Topic
from dipnet.p2p.scores import Scores
from dipnet.p2p.serve import serve_blocks, serve_located, serve_vertices
from dipnet.p2p.vertexsync import VertexSync
from dipnet.primitives.codec import Puts, Reader
from dipnet.primitives.errors import Invalid

log = logging.getLogger("dipnet.links")

UNTOLD: Final = "the clock has leapt, and too few peers have told theirs since"
FLUSH_MS: Final = 20  # announcements and fetches of this long leave together
FLUSH_BYTES: Final = 64 << 10  # or sooner, when so much waits
TICK_MS: Final = 100  # deadlines of requests are looked at this often
BLOCK_IDS_MAX: Final = 16  # of one Announce or Fetch: blocks come one by one
# What looking up an id costs us, as bytes of the sender's allowance: blocks are read from disk.
WORK_BYTES: Final = {
    Topic.VOTE: 1 << 10,
    Topic.CERTIFICATE: 16 << 10,
    Topic.BLOCK: 1 << 20,
    Topic.TX: 512,
    Topic.VERTEX: 32,
}


class Peers:
    """All peers of one node. ``seed`` (u64) decides whom to dial and whom to tell of whom."""

    def __init__(
        self,
        genesis: Genesis,
        genesis_hash: bytes,
        view: View,
        *,
        reader: Reader,
        peer_id: str,
        addresses: Sequence[str],
        bootstrap: Sequence[str],
        local: bool,
        seed: int,
    ) -> None:
        self.gossip = Gossip()
        self.clock = Clock()
        self.blocks = BlockSync()
        self.vertices = VertexSync()
        self.exchange = Exchange()
        self.connections = Connections(local)
        self.scores = Scores(local)
        self._view = view
        self._addresses = tuple(addresses)
        self._seed = seed
        nonce = seed.to_bytes(8, "big")
        self.hellos = Hellos(f"dipnet/{__version__}", genesis.chain_id, genesis_hash, nonce)
        self._book = AddressBook(reader.scan(KEY_PEER), peer_id, bootstrap, local)
        self._addressed: dict[str, tuple[str, bool]] = {}  # peer -> address, outbound
        self._unjudged = Unjudged()
        self._out: list[Effect] = []
        self._flushed_ms = 0
        self._ticked_ms = 0
        self._on: dict[type, Callable[[int, str, Any], Incoming | None]] = {
            m.Hello: self._on_hello,
            m.Status: self._on_status,
            m.Votes: partial(self._on_pushed, Topic.VOTE),
            m.Certificates: partial(self._on_pushed, Topic.CERTIFICATE),
            m.Announce: self._on_announce,
            m.Fetch: self._on_fetch,
            m.Absent: self._on_absent,
            m.Items: self._on_items,
            m.Vertices: self._on_vertices,
            m.Tips: self._on_tips,
            m.GetBlocks: self._on_get_blocks,
            m.Blocks: self._on_blocks,
            m.LocateVertices: self._on_locate,
            m.Located: self._on_located,
            m.GetVertices: self._on_get_vertices,
            m.VertexRange: self._on_range,
            m.GetPeers: self._on_get_peers,
            m.PeerAddresses: self._on_peers,
        }

    # --- connections

    def on_connected(self, now_ms: int, peer: str, address: str, outbound: bool) -> None:
        """Let the peer in and say hello, or close."""
        try:
            host = parse_address(address).host
            if self.scores.banned(now_ms, peer, host):
                raise Invalid("peer_limit", "banned")
            if not outbound:
                self.connections.admit(now_ms, peer, address)
        except Invalid as refused:
            self._out.append(Drop(peer, str(refused)))
            if outbound:
                self._write(self._book.on_failed(now_ms, address))
            return
        self.scores.on_connected(now_ms, peer)
        self.connections.on_connected(peer, address, outbound)
        self._addressed[peer] = (address, outbound)
        self.hellos.on_connected(now_ms, peer)
        hello = self.hellos.ours(self._view.status(), self._addresses)
        self._out.append(Send(peer, "hello", hello))

    def _drop(self, now_ms: int, peer: str, reason: str) -> None:
        """Close the connection; the peer is gone for us from now on, whatever still arrives."""
        address, outbound = self._addressed.pop(peer, ("", False))
        if not address:
            return
        log.info("peer %s is dropped: %s", address, reason)
        self._out.append(Drop(peer, reason))
        if outbound:  # reached, and none of us: do not dial it again at once
            self._write(self._book.on_failed(now_ms, address))
        self._forget(now_ms, peer)

    def on_disconnected(self, now_ms: int, peer: str) -> None:
        """The connection broke: release all that the peer took, and call again soon."""
        address, outbound = self._addressed.pop(peer, ("", False))
        if outbound and self.hellos.greeted(peer):
            self._book.on_lost(now_ms, address, self._draw(now_ms))
        elif outbound:
            self._write(self._book.on_failed(now_ms, address))
        self._forget(now_ms, peer)

    def _forget(self, now_ms: int, peer: str) -> None:
        self.gossip.forget(now_ms, peer)
        self.clock.forget(peer)
        self.blocks.forget(peer)
        self.vertices.forget(peer)
        self.hellos.forget(peer)
        self.scores.forget(now_ms, peer)
        self.connections.forget(peer)
        self.exchange.forget(peer)

    def _draw(self, now_ms: int) -> int:
        """A number that differs between nodes and between times."""
        return ((self._seed ^ now_ms) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF) >> 32

    def on_dial_failed(self, now_ms: int, address: str) -> None:
        """Nobody, or somebody else, answered at the address, or its peer was faster."""
        if parse_address(address).peer in self._addressed:
            self._book.on_crossed(address)
        else:
            self._write(self._book.on_failed(now_ms, address))

    def _on_hello(self, now_ms: int, peer: str, hello: m.Hello) -> None:
        self.hellos.on_hello(peer, hello)
        address, outbound = self._addressed[peer]
        if outbound:  # reached, and one of us
            self._write(self._book.on_connected(now_ms, address))
        self._book.learn(peer, self.connections.host(peer), hello.listen)
        self.gossip.join(peer)
        self.vertices.want(peer)
        self.exchange.join(now_ms, peer)
        self._on_standing(now_ms, peer, hello.status, self._view.status())

    # --- what peers send

    def on_received(self, now_ms: int, peer: str, protocol: str, data: bytes) -> Incoming | None:
        """Settle a frame, or hand out what the node must judge."""
        if peer not in self._addressed:
            return None  # dropped, and its last frames were on their way
        try:
            self.scores.on_received(now_ms, peer, len(data))
            message = m.decode(protocol, data)
        except Invalid as refused:
            self.offend(now_ms, peer, OFFENCE_OF[refused.code], str(refused))
            return None
        if not (isinstance(message, m.Hello) or self.hellos.greeted(peer)):
            return None  # streams overtake one another: what precedes the hello is ignored
        try:
            incoming = self._on[type(message)](now_ms, peer, message)
        except Invalid as refused:  # well-formed, but nobody asked for it, or it is not of us
            unasked = refused.code == "peer_message"
            offence = "unasked" if unasked else OFFENCE_OF[refused.code]
            self.offend(now_ms, peer, offence, str(refused))
            return None
        return incoming if incoming is not None and self._admit(now_ms, incoming) else None

    def _admit(self, now_ms: int, incoming: Incoming) -> bool:
        """Whether there is room to judge it."""
        waiting = self._unjudged.of(incoming)
        if waiting.full(incoming.peer, incoming.size) and not incoming.asked:
            self.offend(now_ms, incoming.peer, "rate", "more than we can judge")
            return False
        if not waiting.add(incoming.peer, incoming.size):
            return False
        if incoming.kind in TOPIC_OF:
            self.gossip.vote_push.on_judging(TOPIC_OF[incoming.kind], incoming.items)
        return True

    def offend(self, now_ms: int, peer: str, offence: str, reason: str, times: int = 1) -> None:
        """Charge an offence; a banned peer is dropped with the reason."""
        log.debug("peer %s, %s times %d: %s", peer, offence, times, reason)
        banned = self.scores.offend(now_ms, peer, self.connections.host(peer), offence, times)
        if banned or offence == "network":
            self._drop(now_ms, peer, reason)

    def on_judged(self, now_ms: int, incoming: Incoming, refused: Iterable[Invalid]) -> None:
        """What ``incoming`` was worth: its refusals are charged to the peer that sent them."""
        peer = incoming.peer
        self._unjudged.of(incoming).remove(peer, incoming.size)
        if incoming.kind in TOPIC_OF:
            self.gossip.vote_push.on_judged(TOPIC_OF[incoming.kind], incoming.items)
        for refusal in refused:
            offence = OFFENCE_OF.get(refusal.code)
            if incoming.asked and offence == "untimely":
                continue  # we asked, and ``BlockSync`` judges the answer
            if offence is not None:
                self.offend(now_ms, peer, offence, str(refusal))

    def _on_status(self, now_ms: int, peer: str, status: m.Status) -> None:
        self.hellos.on_status(peer, status)
        ours = self._view.status()
        self._on_standing(now_ms, peer, status, ours)
        self.vertices.on_status(now_ms, peer, status.dag_count, ours.dag_count)
        self.vertices.on_compared(now_ms, peer, status.dag_sum == ours.dag_sum)

    def _on_standing(self, now_ms: int, peer: str, theirs: m.Status, ours: m.Status) -> None:
        """Compare clocks, final blocks and heads. ``Invalid``: another block is final there."""
        height, final = theirs.final_height, theirs.final_hash
        comparable = final != ours.final_hash and height <= ours.final_height
        if comparable and self._view.block_hash_at(height) != final:
            raise Invalid("peer_network", f"another final block at height {height}")
        self.clock.on_time(peer, theirs.time_ms, ours.time_ms)
        known = self._view.has(Topic.BLOCK, theirs.head_hash)
        self.blocks.on_status(now_ms, peer, theirs, known)

    def _on_pushed(
        self, topic: Topic, now_ms: int, peer: str, message: m.Votes | m.Certificates
    ) -> Incoming | None:
        """Votes or certificates: those that are new are to be judged, if the peer's turn lasts."""
        self.scores.on_work(peer, WORK_BYTES[topic] * len(message.raws))
        fresh = self.gossip.vote_push.sift(peer, topic, message.raws, self._view.name)
        if not fresh:
            return None
        self.scores.on_verify(now_ms, peer, sum(map(len, fresh)))
        return Incoming(KIND_OF[topic], peer, fresh, asked=False)

    def mentioned(self, now_ms: int, peer: str, block_ids: Iterable[bytes]) -> None:
        """Verified certificates of ``peer`` name these blocks: fetch what is not here and does not
        come by itself. Not for votes: one delegate may name blocks that nobody has, and asking
        for a block costs the asker a large part of his allowance."""
        self.gossip.on_mention(now_ms, peer, Topic.BLOCK, block_ids, self._has_block)

    def push(self, topic: Topic, id_: bytes, raw: bytes, except_peer: str = "") -> None:
        """Send what was verified to every peer that is not known to have it; votes at once."""
        self.gossip.push(topic, id_, raw, except_peer)

    def repeat(self, topic: Topic, raws: Sequence[bytes]) -> None:
        """Send votes or certificates again to every peer, whoever has them: each slot, our own last
        votes and the highest certificates (docs/spec/consensus.md "The protocol"). One frame at
        most."""
        self.gossip.vote_push.repeat(topic, raws)

    def clock_offset_ms(self) -> int | None:
        """How far the clocks of our peers are ahead of ours, None before enough of them have told,
        or told again since our clock has leapt (see ``Clock``)."""
        return self.clock.offset_ms(
            peer for peer, (_, outbound) in self._addressed.items() if outbound
        )

    def clock_fault(self, bound_ms: int, needed: bool) -> str | None:
        """Why nobody may rely on our clock: off by more than the bound, or not known if needed."""
        off_ms = self.clock_offset_ms()
        if off_ms is None:
            return UNTOLD if needed else None
        if abs(off_ms) <= bound_ms:
            return None
        return f"the clock is {abs(off_ms)} ms {'behind' if off_ms > 0 else 'ahead of'} peers"

    def _has_block(self, id_: bytes) -> bool:
        return self._view.has(Topic.BLOCK, id_)

    def _on_announce(self, now_ms: int, peer: str, announce: m.Announce) -> None:
        self._charge(peer, announce.topic, announce.ids)
        self.offered(now_ms, peer, announce.topic, announce.ids)

    def _on_tips(self, now_ms: int, peer: str, tips: m.Tips) -> None:
        self._charge(peer, Topic.VERTEX, tips.ids)
        self.offered(now_ms, peer, Topic.VERTEX, tips.ids)

    def _charge(self, peer: str, topic: Topic, ids: Sequence[bytes]) -> None:
        if topic is Topic.BLOCK and len(ids) > BLOCK_IDS_MAX:
            raise Invalid("peer_message", f"{len(ids)} blocks in one message")
        self.scores.on_work(peer, WORK_BYTES[topic] * len(ids))

    def offered(self, now_ms: int, peer: str, topic: Topic, ids: Iterable[bytes]) -> None:
        """The peer has ``ids``, or can be asked for them: fetch what is not here."""
        self.gossip.on_announce(now_ms, peer, topic, ids, lambda id_: self._view.has(topic, id_))

    def _on_fetch(self, now_ms: int, peer: str, fetch: m.Fetch) -> None:
        self._charge(peer, fetch.topic, fetch.ids)
        if not self.scores.may_serve(now_ms, peer):
            return
        absent: list[bytes] = []

        def found() -> Iterator[bytes]:
            for id_ in fetch.ids:
                raw = self._view.raw(fetch.topic, id_)
                if raw is None:
                    absent.append(id_)
                else:
                    yield raw

        self.scores.on_served(peer, self.gossip.answer(peer, fetch.topic, found()))
        if absent and fetch.topic is Topic.BLOCK:
            self._out.append(Send(peer, "gossip", m.encode(m.Absent(fetch.topic, tuple(absent)))))

    def _on_absent(self, now_ms: int, peer: str, absent: m.Absent) -> None:
        self._charge(peer, absent.topic, absent.ids)
        self.gossip.on_refused(now_ms, peer, absent.topic, absent.ids)

    def _on_items(self, _now_ms: int, peer: str, items: m.Items) -> Incoming:
        return Incoming(KIND_OF[items.topic], peer, items.raws, asked=False)

    def _on_vertices(self, _now_ms: int, peer: str, vertices: m.Vertices) -> Incoming:
        return Incoming("wire", peer, (vertices.wire,), asked=False)

    # --- catching up, and letting others catch up

    def _on_get_blocks(self, now_ms: int, peer: str, request: m.GetBlocks) -> None:
        if not self.scores.may_serve(now_ms, peer):
            return
        marks = iter(request.locator)
        answer = serve_blocks(request, lambda _: self._view.blocks_after(marks))
        looked_up = len(request.locator) - len(tuple(marks))  # as far as the first that we share
        self.scores.on_work(peer, WORK_BYTES[Topic.BLOCK] * looked_up)
        self._served(peer, answer)

    def _on_locate(self, now_ms: int, peer: str, request: m.LocateVertices) -> None:
        if self.scores.may_serve(now_ms, peer):
            self._served(peer, serve_located(request, self._view.vertex_ordinal))

    def _on_get_vertices(self, now_ms: int, peer: str, request: m.GetVertices) -> None:
        if self.scores.may_serve(now_ms, peer):
            self._served(peer, serve_vertices(request, self._view.vertices_from))

    def _served(self, peer: str, answer: bytes) -> None:
        self.scores.on_served(peer, len(answer))
        self._out.append(Send(peer, "sync", answer))

    def _on_blocks(self, now_ms: int, peer: str, blocks: m.Blocks) -> Incoming | None:
        raws = self.blocks.on_blocks(now_ms, peer, blocks)
        return None if raws is None else Incoming("blocks", peer, raws, asked=True)

    def _on_located(self, _now_ms: int, peer: str, located: m.Located) -> None:
        self.vertices.on_located(peer, located)

    def _on_range(self, now_ms: int, peer: str, answer: m.VertexRange) -> Incoming | None:
        wire = self.vertices.on_range(now_ms, peer, answer)
        return Incoming("wire", peer, (wire,), asked=True) if wire else None

    def on_blocks_imported(
        self,
        now_ms: int,
        peer: str,
        fresh: int,
        last: tuple[int, bytes],
        led: bool,
        early: bool,
        surplus: int,
    ) -> None:
        """The outcome of blocks that we asked for; see ``BlockSync.on_imported``."""
        ours = self._view.status()
        for offence in self.blocks.on_imported(
            now_ms, peer, ours, fresh, last, self._has_block, led, early, surplus
        ):
            self.offend(now_ms, peer, offence, "blocks that lead nowhere")

    @property
    def alone(self) -> bool:
        """Whether no peer has said hello: nobody tells where the chain is by now."""
        return not self.hellos.standing()

    def syncing(self, now_ms: int) -> tuple[int, int] | None:
        """(our height, highest claimed) while blocks are fetched that would put us behind."""
        if not self.blocks.syncing(now_ms):
            return None
        ours = self._view.status()
        better = [one for one in self.hellos.standing().values() if one.claim > ours.claim]
        heights = [ours.head_height, *(one.head_height for one in better)]
        return (ours.head_height, max(heights)) if better else None

    # --- addresses

    def _on_get_peers(self, now_ms: int, peer: str, _request: m.GetPeers) -> None:
        self.exchange.on_get_peers(now_ms, peer)
        if self.scores.may_serve(now_ms, peer):
            answer = m.encode(m.PeerAddresses(self._book.tell(self.connections, self._seed)))
            self.scores.on_served(peer, len(answer))
            self._out.append(Send(peer, "peers", answer))

    def _on_peers(self, _now_ms: int, peer: str, peers: m.PeerAddresses) -> None:
        self.exchange.on_peers(peer)
        self._book.learn(peer, self.connections.host(peer), peers.addresses)

    # --- time

    def on_slot(self, now_ms: int, tips: Sequence[bytes], wanted: Sequence[bytes]) -> None:
        """Each slot: say where we stand and what our tips are, ask for parents, look for peers."""
        status = m.encode(self._view.status())
        for peer in self.hellos.standing():
            self._out.append(Send(peer, "hello", status))
            self.offered(now_ms, peer, Topic.VERTEX, wanted)
            if wanted:
                self.vertices.on_behind(now_ms, peer)
        self.gossip.tips(tips)
        ask = m.encode(m.GetPeers())
        self._out += [Send(peer, "peers", ask) for peer in self.exchange.to_ask(now_ms)]
        self._dial(now_ms)

    def _dial(self, now_ms: int) -> None:
        dials = self._book.to_dial(now_ms, self.connections, self._seed ^ now_ms)
        self._out += [Dial(address) for address in dials]

    def on_tick(self, now_ms: int) -> None:
        """Deadlines: ask others for what is overdue, drop who never said hello."""
        if now_ms < self._ticked_ms + TICK_MS:
            return
        self._ticked_ms = now_ms
        if self._book.returning(now_ms):
            self._dial(now_ms)
        # Nobody is charged for an unanswered fetch: frames get lost, and another peer is asked.
        self.gossip.on_tick(now_ms)
        for peer in self.blocks.on_tick(now_ms):
            self.offend(now_ms, peer, "silent", "blocks that never came")
        for peer in self.vertices.on_tick(now_ms):
            self.offend(now_ms, peer, "silent", "vertices that never came")
        for peer in self.hellos.late(now_ms):
            self.offend(now_ms, peer, "late_hello", "no hello")
            self._drop(now_ms, peer, "no hello")

    def next_ms(self, now_ms: int) -> int:
        """When ``on_tick`` or ``drain`` is wanted next, should nothing happen before."""
        if self.gossip.vote_push.waiting:
            return now_ms
        if self.gossip.queued_bytes:
            return max(self._flushed_ms + FLUSH_MS, now_ms)
        return max(self._ticked_ms + TICK_MS, now_ms) if self._addressed else now_ms + TICK_MS * 100

    def drain(self, now_ms: int) -> list[Effect]:
        """All that is to be done, in order: votes at once, other gossip in batches."""
        first = [Send(*frame) for frame in self.gossip.vote_push.flush()]
        ours = self._view.status()
        asks = self.blocks.requests(now_ms, ours, self._view.block_hash_at, self._has_block)
        asks += self.vertices.requests(now_ms, self._view.vertex_sample)
        if self.gossip.queued_bytes >= FLUSH_BYTES or now_ms >= self._flushed_ms + FLUSH_MS:
            self._flushed_ms = now_ms
            asks += self.gossip.flush()
        self._out += [Send(*ask) for ask in asks]
        out, self._out = [*first, *self._out], []
        return out

    def described(self, now_ms: int) -> list[dict[str, Any]]:
        """Connected peers that said hello, for those who watch."""
        return [
            {
                "id": peer,
                "address": self._addressed[peer][0],
                "outbound": self._addressed[peer][1],
                "version": self.hellos.greeting(peer).version,
                "headHeight": status.head_height,
                "finalHeight": status.final_height,
                "dagCount": status.dag_count,
                "clockOffsetMs": self.clock.of(peer),
                "score": self.scores.score(now_ms, peer),
            }
            for peer, status in self.hellos.standing().items()
        ]

    def _write(self, puts: Puts) -> None:
        if puts:
            self._out.append(Write(puts))
