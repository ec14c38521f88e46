"""All peers of a node: which of them may stay, what they are told, asked and charged.

``Peers`` joins the machines of ``p2p`` and is the only door to them: the node, the daemon and tests
call its methods. It reads the node through ``View`` and knows no vote, block, transaction or
vertex, only bytes and ids. What a peer sends and the node must judge leaves as ``Incoming``; the
node reports the verdict with ``on_judged``, which charges the peer. Effects gather in order and
leave with ``drain``, votes and certificates before all others.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final

from dipnet import __version__
from dipnet.ledger.genesis import Genesis
from dipnet.node.effects import Dial, Drop, Effect, Send, Write
from dipnet.node.queues import Queues
from dipnet.node.view import View
from dipnet.node.work import (
    GossipBlocks,
    GossipCertificates,
    GossipTxs,
    GossipVertices,
    GossipVotes,
    Incoming,
    PushedWork,
    SyncBlocks,
    SyncVertices,
)
from dipnet.p2p import messages as m
from dipnet.p2p import serve
from dipnet.p2p.address import parse as parse_address
from dipnet.p2p.blocksync import BlockSync, Delivery
from dipnet.p2p.book import KEY_PEER, AddressBook
from dipnet.p2p.clock import Clock
from dipnet.p2p.connections import Connections
from dipnet.p2p.exchange import Exchange
from dipnet.p2p.gossip import Gossip
from dipnet.p2p.hello import Hellos
from dipnet.p2p.messages import PUSHED, Topic
from dipnet.p2p.scores import OFFENCE_OF, PeerOffence, Scores
from dipnet.p2p.vertexsync import VertexSync
from dipnet.p2p.votepush import VotePush
from dipnet.primitives.codec import Puts, Reader
from dipnet.primitives.errors import Invalid
from dipnet.primitives.splitmix import splitmix64

log = logging.getLogger("dipnet.peers")

FLUSH_MS: Final = 20  # announcements and fetches of this long leave together
FLUSH_BYTES: Final = 64 << 10  # or sooner, when so much waits
TICK_MS: Final = 100  # deadlines of requests are looked at this often


class Peers:
    """All peers of one node. ``seed`` (u64) determines which addresses are dialled and told."""

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
        self._vote_push = VotePush()
        self._gossip = Gossip()
        self._clock = Clock()
        self._blocks = BlockSync()
        self._vertices = VertexSync()
        self._exchange = Exchange()
        self._connections = Connections(local)
        self._scores = Scores(local)
        self._view = view
        self._addresses = tuple(addresses)
        self._seed = seed
        nonce = seed.to_bytes(8, "big")
        self._hellos = Hellos(f"dipnet/{__version__}", genesis.chain_id, genesis_hash, nonce)
        self._book = AddressBook(reader.scan(KEY_PEER), peer_id, bootstrap, local)
        self._queues = Queues()
        self._out: list[Effect] = []
        self._flushed_ms = 0
        self._ticked_ms = 0
        self._on: dict[type, Callable[[int, str, Any], Incoming | None]] = {
            m.Hello: self._on_hello,
            m.Status: self._on_status,
            m.Votes: partial(self._on_pushed, GossipVotes),
            m.Certificates: partial(self._on_pushed, GossipCertificates),
            m.Announce: self._on_announce,
            m.Fetch: self._on_fetch,
            m.Absent: self._on_absent,
            m.Items: self._on_items,
            m.Vertices: self._on_vertices,
            m.Tips: self._on_tips,
            m.GetBlocks: self._on_request,
            m.Blocks: self._on_blocks,
            m.LocateVertices: self._on_request,
            m.Located: lambda _, peer, located: self._vertices.on_located(peer, located),
            m.GetVertices: self._on_request,
            m.VertexRange: self._on_range,
            m.GetPeers: self._on_get_peers,
            m.PeerAddresses: self._on_peers,
        }

    # --- connections

    def on_connected(self, now_ms: int, peer: str, address: str, outbound: bool) -> None:
        """Let the peer in and say hello, or close the connection."""
        try:
            host = parse_address(address).host
            if self._scores.banned(now_ms, peer, host):
                raise Invalid("peer_limit", "banned")
            if not outbound:
                self._connections.admit(now_ms, peer, address)
        except Invalid as refused:
            self._out.append(Drop(peer, str(refused)))
            if outbound:
                self._write(self._book.on_failed(now_ms, address))
            return
        self._scores.on_connected(now_ms, peer)
        self._connections.on_connected(peer, address, outbound)
        self._hellos.on_connected(now_ms, peer)
        hello = self._hellos.ours(self._view.status(), self._addresses)
        self._out.append(Send(peer, "hello", hello))

    def _drop(self, now_ms: int, peer: str, reason: str) -> None:
        """Close the connection; frames of the peer that still arrive are ignored."""
        connection = self._connections.get(peer)
        if connection is None:
            return
        log.info("peer %s is dropped: %s", connection.address, reason)
        self._out.append(Drop(peer, reason))
        if connection.outbound:  # do not dial it again at once
            self._write(self._book.on_failed(now_ms, connection.address))
        self._forget(now_ms, peer)

    def on_disconnected(self, now_ms: int, peer: str) -> None:
        """The connection broke: release all that the peer took, and call again soon."""
        connection = self._connections.get(peer)
        if connection is not None and connection.outbound:
            if self._hellos.greeted(peer):
                _, drawn = splitmix64(self._seed ^ now_ms)
                self._book.on_lost(now_ms, connection.address, drawn)
            else:
                self._write(self._book.on_failed(now_ms, connection.address))
        self._forget(now_ms, peer)

    def _forget(self, now_ms: int, peer: str) -> None:
        self._vote_push.forget(peer)
        self._gossip.forget(now_ms, peer)
        self._clock.forget(peer)
        self._blocks.forget(peer)
        self._vertices.forget(peer)
        self._hellos.forget(peer)
        self._scores.forget(now_ms, peer)
        self._connections.forget(peer)
        self._exchange.forget(peer)

    def on_dial_failed(self, now_ms: int, address: str) -> None:
        """No peer of the address's id answered, or that peer has called us meanwhile."""
        if parse_address(address).peer in self._connections:
            self._book.on_crossed(address)
        else:
            self._write(self._book.on_failed(now_ms, address))

    def _on_hello(self, now_ms: int, peer: str, hello: m.Hello) -> None:
        self._hellos.on_hello(peer, hello)
        connection = self._connections.get(peer)
        assert connection is not None
        if connection.outbound:
            self._write(self._book.on_connected(now_ms, connection.address))
        self._book.learn(peer, connection.host, hello.listen)
        self._vote_push.join(peer)
        self._gossip.join(peer)
        self._vertices.want(peer)
        self._exchange.join(now_ms, peer)
        self._on_standing(now_ms, peer, hello.status, self._view.status())

    # --- frames of peers

    def on_received(self, now_ms: int, peer: str, protocol: str, data: bytes) -> Incoming | None:
        """Settle a frame, or give the node the work that it must judge; ``on_judged`` ends that."""
        if peer not in self._connections:
            return None  # dropped, and its last frames were on their way
        try:
            self._scores.on_received(now_ms, peer, len(data))
            message = m.decode(protocol, data)
        except Invalid as refused:
            self._offend(now_ms, peer, OFFENCE_OF[refused.code], str(refused))
            return None
        if not (isinstance(message, m.Hello) or self._hellos.greeted(peer)):
            return None  # streams overtake one another: frames before the hello are ignored
        try:
            incoming = self._on[type(message)](now_ms, peer, message)
        except Invalid as refused:  # well-formed, but not asked for, or of another network
            unasked = refused.code == "peer_message"
            offence = PeerOffence.UNASKED if unasked else OFFENCE_OF[refused.code]
            self._offend(now_ms, peer, offence, str(refused))
            return None
        return incoming if incoming is not None and self._admit(now_ms, incoming) else None

    def _admit(self, now_ms: int, incoming: Incoming) -> bool:
        """Whether its queue takes it."""
        peer, work = incoming.peer, incoming.work
        backlog = self._queues[work.queue]
        if backlog.full(peer, work.size) and not work.asked:
            self._offend(now_ms, peer, PeerOffence.RATE, "more than we can judge")
            return False
        if not backlog.add(peer, work.size):
            return False
        if isinstance(work, PushedWork):
            self._vote_push.on_judging(work.topic, work.raws)
        return True

    def _send(self, peer: str, message: m.Message) -> int:
        """Send ``message`` on its protocol; the number of its bytes."""
        frame = m.encode(message)
        self._out.append(Send(peer, m.protocol_of(message), frame))
        return len(frame)

    def _offend(self, now_ms: int, peer: str, offence: PeerOffence, reason: str) -> None:
        """Charge an offence; a banned peer is dropped with the reason."""
        log.debug("peer %s, %s: %s", peer, offence, reason)
        banned = self._scores.offend(now_ms, peer, self._connections.host(peer), offence)
        if banned or offence is PeerOffence.NETWORK:
            self._drop(now_ms, peer, reason)

    def on_judged(self, now_ms: int, incoming: Incoming, refused: Iterable[Invalid]) -> None:
        """``incoming`` is judged, and its peer is charged for the refusals."""
        peer, work = incoming.peer, incoming.work
        self._queues[work.queue].remove(peer, work.size)
        if isinstance(work, PushedWork):
            self._vote_push.on_judged(work.topic, work.raws)
        for refusal in refused:
            offence = OFFENCE_OF.get(refusal.code)
            if work.asked and offence is PeerOffence.UNTIMELY:
                continue  # we asked, and ``BlockSync`` judges the answer
            if offence is not None:
                self._offend(now_ms, peer, offence, str(refusal))

    def _on_status(self, now_ms: int, peer: str, status: m.Status) -> None:
        self._hellos.on_status(peer, status)
        ours = self._view.status()
        self._on_standing(now_ms, peer, status, ours)
        self._vertices.on_status(now_ms, peer, status.dag_count, ours.dag_count)
        self._vertices.on_compared(now_ms, peer, status.dag_sum == ours.dag_sum)

    def _on_standing(self, now_ms: int, peer: str, theirs: m.Status, ours: m.Status) -> None:
        """Compare clocks, final blocks and heads. ``Invalid``: another block is final there."""
        height, final = theirs.final_height, theirs.final_hash
        comparable = final != ours.final_hash and height <= ours.final_height
        if comparable and self._view.block_hash_at(height) != final:
            raise Invalid("peer_network", f"another final block at height {height}")
        self._clock.on_time(peer, theirs.time_ms, ours.time_ms)
        known = self._view.has(Topic.BLOCK, theirs.head_hash)
        self._blocks.on_status(now_ms, peer, theirs, known)

    def _on_pushed(
        self, kind: type[PushedWork], now_ms: int, peer: str, message: m.Votes | m.Certificates
    ) -> Incoming | None:
        """The new votes or certificates of a message, if the peer may have that many verified."""
        self._scores.on_lookup(peer, kind.topic, len(message.raws))
        fresh = self._vote_push.sift(peer, kind.topic, message.raws, self._view.item_id)
        if not fresh:
            return None
        work = kind(fresh)
        self._scores.on_verify(now_ms, peer, work.size)
        return Incoming(peer, work)

    def _has_block(self, id_: bytes) -> bool:
        return self._view.has(Topic.BLOCK, id_)

    def _on_announce(self, now_ms: int, peer: str, announce: m.Announce) -> None:
        self._scores.on_ids(peer, announce.topic, len(announce.ids))
        self.offered(now_ms, peer, announce.topic, announce.ids)

    def _on_tips(self, now_ms: int, peer: str, tips: m.Tips) -> None:
        self._scores.on_ids(peer, Topic.VERTEX, len(tips.ids))
        self.offered(now_ms, peer, Topic.VERTEX, tips.ids)

    def _on_fetch(self, now_ms: int, peer: str, fetch: m.Fetch) -> None:
        self._scores.on_ids(peer, fetch.topic, len(fetch.ids))
        if not self._scores.may_serve(now_ms, peer):
            return
        absent: list[bytes] = []

        def found() -> Iterator[bytes]:
            for id_ in fetch.ids:
                raw = self._view.raw(fetch.topic, id_)
                if raw is None:
                    absent.append(id_)
                else:
                    yield raw

        self._scores.on_served(peer, self._gossip.answer(peer, fetch.topic, found()))
        if absent and fetch.topic is Topic.BLOCK:
            self._send(peer, m.Absent(fetch.topic, tuple(absent)))

    def _on_absent(self, now_ms: int, peer: str, absent: m.Absent) -> None:
        self._scores.on_ids(peer, absent.topic, len(absent.ids))
        self._gossip.on_refused(now_ms, peer, absent.topic, absent.ids)

    def _on_items(self, _now_ms: int, peer: str, items: m.Items) -> Incoming:
        blocks = items.topic is Topic.BLOCK
        return Incoming(peer, GossipBlocks(items.raws) if blocks else GossipTxs(items.raws))

    def _on_vertices(self, _now_ms: int, peer: str, vertices: m.Vertices) -> Incoming:
        return Incoming(peer, GossipVertices(vertices.wire))

    # --- items that the node has judged or made

    def on_good(self, now_ms: int, peer: str, topic: Topic, ids: Iterable[bytes]) -> None:
        """The items of ``ids`` came from ``peer`` ("": from here) and are good: ask no other."""
        self._gossip.on_items(now_ms, peer, topic, ids)

    def announce(self, topic: Topic, ids: Iterable[bytes], except_peer: str = "") -> None:
        """Tell every peer that is not known to have them that the items of ``ids`` are here."""
        self._gossip.announce(topic, ids, except_peer)

    def push(self, topic: Topic, id_: bytes, raw: bytes, except_peer: str = "") -> None:
        """Send a verified item to every peer that is not known to have it; votes at once."""
        push = self._vote_push.push if topic in PUSHED else self._gossip.push
        push(topic, id_, raw, except_peer)

    def repeat(self, topic: Topic, raws: Sequence[bytes]) -> None:
        """Send votes or certificates again, also to peers that have them; one frame at most."""
        self._vote_push.repeat(topic, raws)

    def offered(self, now_ms: int, peer: str, topic: Topic, ids: Iterable[bytes]) -> None:
        """The peer has ``ids``, or can be asked for them: fetch the objects that are not here."""
        self._gossip.on_announce(now_ms, peer, topic, ids, lambda id_: self._view.has(topic, id_))

    def mentioned(self, now_ms: int, peer: str, block_ids: Iterable[bytes]) -> None:
        """Verified certificates of ``peer`` name these blocks: fetch those that do not come soon.

        Votes are no reason to fetch: a delegate may name blocks that no peer has, and asking for a
        block costs the asker a large part of its allowance."""
        self._gossip.on_mention(now_ms, peer, Topic.BLOCK, block_ids, self._has_block)

    # --- clocks

    def clock_offset_ms(self) -> int | None:
        """How far the clocks of peers are ahead of ours; None: not known (``Clock.offset_ms``)."""
        return self._clock.offset_ms(self._connections.dialled())

    def clock_fault(self, bound_ms: int, needed: bool) -> str | None:
        """Why a delegate must not rely on our clock (``Clock.fault``)."""
        return self._clock.fault(self._connections.dialled(), bound_ms, needed)

    def on_clock_leapt(self) -> None:
        """Our clock was set, or this process stood still: earlier statuses tell no offset."""
        self._clock.leapt()

    # --- catching up, and letting others catch up

    def _on_request(
        self, now_ms: int, peer: str, request: m.GetBlocks | m.LocateVertices | m.GetVertices
    ) -> None:
        if not self._scores.may_serve(now_ms, peer):
            return
        frame, looked_up = serve.answer(request, self._view)
        self._scores.on_lookup(peer, Topic.BLOCK, looked_up)
        self._scores.on_served(peer, len(frame))
        self._out.append(Send(peer, "sync", frame))

    def _on_blocks(self, now_ms: int, peer: str, blocks: m.Blocks) -> Incoming | None:
        raws = self._blocks.on_blocks(now_ms, peer, blocks)
        return None if raws is None else Incoming(peer, SyncBlocks(raws))

    def _on_range(self, now_ms: int, peer: str, answer: m.VertexRange) -> Incoming | None:
        wire = self._vertices.on_range(now_ms, peer, answer)
        return Incoming(peer, SyncVertices(wire)) if wire else None

    def on_blocks_imported(self, now_ms: int, peer: str, delivery: Delivery) -> None:
        """The blocks of a ``SyncBlocks`` are imported, as far as they were good."""
        ours = self._view.status()
        for offence in self._blocks.on_imported(now_ms, peer, ours, delivery, self._has_block):
            self._offend(now_ms, peer, offence, "blocks that lead nowhere")

    def on_unknown_parent(self, peer: str) -> None:
        """``peer`` sent a block whose parent is not here: ask it for the ancestors."""
        self._blocks.on_unknown_parent(peer)

    def on_vertices_inserted(self, now_ms: int, peer: str, fresh: int) -> None:
        """The vertices of a ``SyncVertices`` are inserted; ``fresh`` of them were new."""
        self._vertices.on_inserted(now_ms, peer, fresh)

    @property
    def alone(self) -> bool:
        """Whether no peer has said hello, so that the head of the network is not known."""
        return not self._hellos.standing()

    def syncing(self, now_ms: int) -> tuple[int, int] | None:
        """(our height, highest claimed) while blocks are fetched that would put us behind."""
        if not self._blocks.syncing(now_ms):
            return None
        ours = self._view.status()
        others = self._hellos.standing().values()
        better = [status.head_height for status in others if status.claim > ours.claim]
        return (ours.head_height, max(ours.head_height, *better)) if better else None

    # --- addresses

    def _on_get_peers(self, now_ms: int, peer: str, _request: m.GetPeers) -> None:
        self._exchange.on_get_peers(now_ms, peer)
        if self._scores.may_serve(now_ms, peer):
            answer = m.PeerAddresses(self._book.tell(self._connections, self._seed))
            self._scores.on_served(peer, self._send(peer, answer))

    def _on_peers(self, _now_ms: int, peer: str, peers: m.PeerAddresses) -> None:
        self._exchange.on_peers(peer)
        self._book.learn(peer, self._connections.host(peer), peers.addresses)

    # --- time

    def on_slot(self, now_ms: int, tips: Sequence[bytes], wanted: Sequence[bytes]) -> None:
        """Each slot: tell our status and our tips, ask for wanted parents, look for peers."""
        status = m.encode(self._view.status())
        for peer in self._hellos.standing():
            self._out.append(Send(peer, "hello", status))
            self.offered(now_ms, peer, Topic.VERTEX, wanted)
            if wanted:
                self._vertices.on_behind(now_ms, peer)
        self._gossip.tips(tips)
        for peer in self._exchange.to_ask(now_ms):
            self._send(peer, m.GetPeers())
        self._dial(now_ms)

    def _dial(self, now_ms: int) -> None:
        dials = self._book.to_dial(now_ms, self._connections, self._seed ^ now_ms)
        self._out += [Dial(address) for address in dials]

    def on_tick(self, now_ms: int) -> None:
        """Deadlines: ask other peers for overdue objects, drop peers that never said hello."""
        if now_ms < self._ticked_ms + TICK_MS:
            return
        self._ticked_ms = now_ms
        if self._book.returning(now_ms):
            self._dial(now_ms)
        # An unanswered fetch is no offence: frames get lost, and another peer is asked.
        self._gossip.on_tick(now_ms)
        for peer in self._blocks.on_tick(now_ms):
            self._offend(now_ms, peer, PeerOffence.SILENT, "blocks that never came")
        for peer in self._vertices.on_tick(now_ms):
            self._offend(now_ms, peer, PeerOffence.SILENT, "vertices that never came")
        for peer in self._hellos.late(now_ms):
            self._offend(now_ms, peer, PeerOffence.LATE_HELLO, "no hello")
            self._drop(now_ms, peer, "no hello")

    def next_ms(self, now_ms: int) -> int:
        """When ``on_tick`` or ``drain`` is wanted next, should nothing happen before."""
        if self._vote_push.waiting:
            return now_ms
        if self._gossip.queued_bytes:
            return max(self._flushed_ms + FLUSH_MS, now_ms)
        connected = len(self._connections) > 0
        return max(self._ticked_ms + TICK_MS, now_ms) if connected else now_ms + TICK_MS * 100

    def drain(self, now_ms: int) -> list[Effect]:
        """All that is to be done, in order: votes at once, other gossip in batches."""
        first = [Send(*frame) for frame in self._vote_push.flush()]
        ours = self._view.status()
        asks = self._blocks.requests(now_ms, ours, self._view.block_hash_at, self._has_block)
        asks += self._vertices.requests(now_ms, self._view.vertex_sample)
        if self._gossip.queued_bytes >= FLUSH_BYTES or now_ms >= self._flushed_ms + FLUSH_MS:
            self._flushed_ms = now_ms
            asks += self._gossip.flush()
        self._out += [Send(*ask) for ask in asks]
        out, self._out = [*first, *self._out], []
        return out

    def described(self, now_ms: int) -> list[dict[str, Any]]:
        """Connected peers that said hello, as RPC shows them."""
        return [
            {
                "id": peer,
                "address": connection.address,
                "outbound": connection.outbound,
                "version": self._hellos.greeting(peer).version,
                "headHeight": status.head_height,
                "finalHeight": status.final_height,
                "dagCount": status.dag_count,
                "clockOffsetMs": self._clock.of(peer),
                "score": self._scores.score(now_ms, peer),
            }
            for peer, status in self._hellos.standing().items()
            if (connection := self._connections.get(peer)) is not None
        ]

    def _write(self, puts: Puts) -> None:
        if puts:
            self._out.append(Write(puts))
