"""The node's side of every peer: who may stay, what they are told, asked and charged.

``Links`` joins the machines of ``p2p`` and speaks for the node through ``View``; it knows no block,
transaction or vertex, only bytes and ids. What a peer sends and must be judged comes out as
``Incoming``; once judged, ``on_judged`` settles what it was worth to the peer. Effects gather in
order and leave with ``drain``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from dipnet import __version__
from dipnet.codec import Puts, Reader
from dipnet.effects import Dial, Drop, Effect, Send, Write
from dipnet.errors import Invalid
from dipnet.genesis import Genesis
from dipnet.p2p import messages as m
from dipnet.p2p.address import parse as parse_address
from dipnet.p2p.blocksync import BlockSync
from dipnet.p2p.book import KEY_PEER, AddressBook
from dipnet.p2p.exchange import Exchange
from dipnet.p2p.gossip import Gossip
from dipnet.p2p.hello import Hellos
from dipnet.p2p.messages import Lane
from dipnet.p2p.scores import Scores
from dipnet.p2p.serve import serve_blocks, serve_located, serve_vertices
from dipnet.p2p.slots import Slots
from dipnet.p2p.vertexsync import VertexSync

FLUSH_MS: Final = 20  # announcements and fetches of this long leave together
FLUSH_BYTES: Final = 64 << 10  # or sooner, when so much waits
TICK_MS: Final = 100  # deadlines of requests are looked at this often
UNJUDGED_MAX: Final = 64  # frames of one peer under verification
UNJUDGED_BYTES_MAX: Final = 16 << 20  # of them of one peer, unless one frame alone is longer
UNJUDGED_ALL_BYTES_MAX: Final = 128 << 20  # of all peers
BLOCK_IDS_MAX: Final = 16  # of one Announce or Fetch: blocks come one by one
# What looking up an id costs us, as bytes of the sender's allowance: blocks are read from disk.
WORK_BYTES: Final = {Lane.VOTE: 0, Lane.BLOCK: 1 << 20, Lane.TX: 512, Lane.VERTEX: 32}


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


class View(Protocol):
    """What its links read of a node."""

    def status(self) -> m.Status:
        """Where we stand."""

    def has(self, lane: Lane, id_: bytes) -> bool:
        """Whether the item is here, or settled."""

    def raw(self, lane: Lane, id_: bytes) -> bytes | None:
        """Its bytes, None when it is not here."""

    def block_hash_at(self, height: int) -> bytes:
        """The canonical block at a height from 0 to the head's."""

    def blocks_after(self, locator: tuple[bytes, ...]) -> Iterable[bytes]:
        """See ``serve_blocks``."""

    def vertex_ordinal(self, id_: bytes) -> int | None:
        """See ``serve_located``."""

    def vertices_from(self, start: int) -> Iterator[tuple[int, bytes]]:
        """See ``serve_vertices``."""

    def vertex_sample(self) -> Sequence[bytes]:
        """Ids of our log, newest first, exponentially back."""


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
    "vertex_form": "malformed",
    "vertex_chain": "invalid_item",
    "vertex_parents": "invalid_item",
    "vertex_payload": "invalid_item",
    "vertex_age": "invalid_item",
    "vertex_signature": "bad_signature",
}


class Links:
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
        self.blocks = BlockSync()
        self.vertices = VertexSync()
        self.exchange = Exchange()
        self.slots = Slots(local)
        self.scores = Scores(local)
        self._view = view
        self._addresses = tuple(addresses)
        self._seed = seed
        nonce = seed.to_bytes(8, "big")
        self.hellos = Hellos(f"dipnet/{__version__}", genesis.chain_id, genesis_hash, nonce)
        self._book = AddressBook(reader.scan(KEY_PEER), peer_id, bootstrap, local)
        self._addressed: dict[str, tuple[str, bool]] = {}  # peer -> address, outbound
        # peer -> frames and bytes; outlives the connection, or a new one would wash it
        self._unjudged: dict[str, tuple[int, int]] = {}
        self._unjudged_bytes = 0
        self._out: list[Effect] = []
        self._flushed_ms = 0
        self._ticked_ms = 0
        self._on: dict[type, Callable[[int, str, Any], Incoming | None]] = {
            m.Hello: self._on_hello,
            m.Status: self._on_status,
            m.Announce: self._on_announce,
            m.Fetch: self._on_fetch,
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
            m.Peers: self._on_peers,
        }

    # --- connections

    def on_connected(self, now_ms: int, peer: str, address: str, outbound: bool) -> None:
        """Let the peer in and say hello, or close."""
        try:
            host = parse_address(address).host
            if self.scores.banned(now_ms, peer, host):
                raise Invalid("peer_limit", "banned")
            if not outbound:
                self.slots.admit(now_ms, peer, address)
        except Invalid as refused:
            self._out.append(Drop(peer, str(refused)))
            return
        self.scores.on_connected(now_ms, peer)
        self.slots.on_connected(peer, address, outbound)
        self._addressed[peer] = (address, outbound)
        self.hellos.on_connected(now_ms, peer)
        hello = self.hellos.ours(self._view.status(), self._addresses)
        self._out.append(Send(peer, "hello", hello))

    def _drop(self, now_ms: int, peer: str, reason: str) -> None:
        """Close the connection; the peer is gone for us from now on, whatever still arrives."""
        if peer in self._addressed:
            self._out.append(Drop(peer, reason))
            self.on_disconnected(now_ms, peer)

    def on_disconnected(self, now_ms: int, peer: str) -> None:
        """Release all that the peer took."""
        self._addressed.pop(peer, None)
        self.gossip.forget(now_ms, peer)
        self.blocks.forget(peer)
        self.vertices.forget(peer)
        self.hellos.forget(peer)
        self.scores.forget(now_ms, peer)
        self.slots.forget(peer)
        self.exchange.forget(peer)

    def on_dial_failed(self, now_ms: int, address: str) -> None:
        """Nobody, or somebody else, answered at the address."""
        self._write(self._book.on_failed(now_ms, address))

    def _on_hello(self, now_ms: int, peer: str, hello: m.Hello) -> None:
        self.hellos.on_hello(peer, hello)
        address, outbound = self._addressed[peer]
        if outbound:  # reached, and one of us
            self._write(self._book.on_connected(now_ms, address))
        self._book.learn(peer, self.slots.host(peer), hello.listen)
        self.gossip.join(peer)
        self.vertices.want(peer)
        standing = self.hellos.standing()[peer]
        self.blocks.on_status(now_ms, peer, standing)
        self.exchange.join(now_ms, peer)

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
        """Whether there is room to judge it: what is refused, tips and sync bring later."""
        frames, waiting = self._unjudged.get(incoming.peer, (0, 0))
        size = incoming.size
        full = frames >= UNJUDGED_MAX or (frames and waiting + size > UNJUDGED_BYTES_MAX)
        if full and not incoming.asked:
            self.offend(now_ms, incoming.peer, "rate", "more than we can judge")
            return False
        if self._unjudged_bytes + size > UNJUDGED_ALL_BYTES_MAX:
            return False
        self._unjudged[incoming.peer] = (frames + 1, waiting + size)
        self._unjudged_bytes += size
        return True

    def offend(self, now_ms: int, peer: str, offence: str, reason: str, times: int = 1) -> None:
        """Charge an offence; a banned peer is dropped with the reason."""
        banned = self.scores.offend(now_ms, peer, self.slots.host(peer), offence, times)
        if not banned and offence != "network":
            return
        address, outbound = self._addressed.get(peer, ("", False))
        if outbound:  # reached, and none of us: do not dial it again at once
            self._write(self._book.on_failed(now_ms, address))
        self._drop(now_ms, peer, reason)

    def on_judged(self, now_ms: int, incoming: Incoming, refused: Iterable[Invalid]) -> None:
        """What ``incoming`` was worth: its refusals are charged to the peer that sent them."""
        peer = incoming.peer
        frames, waiting = self._unjudged.pop(peer)
        if frames > 1:
            self._unjudged[peer] = (frames - 1, waiting - incoming.size)
        self._unjudged_bytes -= incoming.size
        for refusal in refused:
            offence = OFFENCE_OF.get(refusal.code)
            if offence is not None:
                self.offend(now_ms, peer, offence, str(refusal))

    def _on_status(self, now_ms: int, peer: str, status: m.Status) -> None:
        self.hellos.on_status(peer, status)
        self.blocks.on_status(now_ms, peer, status)
        ours = self._view.status()
        self.vertices.on_status(now_ms, peer, status.dag_count, ours.dag_count)
        self.vertices.on_compared(now_ms, peer, status.dag_sum == ours.dag_sum)

    def _on_announce(self, now_ms: int, peer: str, announce: m.Announce) -> None:
        self._charge(peer, announce.lane, announce.ids)
        self.offered(now_ms, peer, announce.lane, announce.ids)

    def _on_tips(self, now_ms: int, peer: str, tips: m.Tips) -> None:
        self._charge(peer, Lane.VERTEX, tips.ids)
        self.offered(now_ms, peer, Lane.VERTEX, tips.ids)

    def _charge(self, peer: str, lane: Lane, ids: Sequence[bytes]) -> None:
        if lane is Lane.BLOCK and len(ids) > BLOCK_IDS_MAX:
            raise Invalid("peer_message", f"{len(ids)} blocks in one message")
        self.scores.on_work(peer, WORK_BYTES[lane] * len(ids))

    def offered(self, now_ms: int, peer: str, lane: Lane, ids: Iterable[bytes]) -> None:
        """The peer has ``ids``, or can be asked for them: fetch what is not here."""
        self.gossip.on_announce(now_ms, peer, lane, ids, lambda id_: self._view.has(lane, id_))

    def _on_fetch(self, now_ms: int, peer: str, fetch: m.Fetch) -> None:
        self._charge(peer, fetch.lane, fetch.ids)
        if self.scores.may_serve(now_ms, peer):
            found = (self._view.raw(fetch.lane, id_) for id_ in fetch.ids)
            size = self.gossip.answer(peer, fetch.lane, (raw for raw in found if raw is not None))
            self.scores.on_served(peer, size)

    def _on_items(self, _now_ms: int, peer: str, items: m.Items) -> Incoming:
        kind = "blocks" if items.lane is Lane.BLOCK else "relayed"
        return Incoming(kind, peer, items.raws, asked=False)

    def _on_vertices(self, _now_ms: int, peer: str, vertices: m.Vertices) -> Incoming:
        return Incoming("wire", peer, (vertices.wire,), asked=False)

    # --- catching up, and letting others catch up

    def _on_get_blocks(self, now_ms: int, peer: str, request: m.GetBlocks) -> None:
        if self.scores.may_serve(now_ms, peer):
            self._served(peer, serve_blocks(request, self._view.blocks_after))

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
        self, now_ms: int, peer: str, fresh: int, last: tuple[int, bytes], early: bool
    ) -> None:
        """The outcome of blocks that we asked for; see ``BlockSync.on_imported``."""
        ours = self._view.status().head_height
        for offence in self.blocks.on_imported(now_ms, peer, ours, fresh, last, early):
            self.offend(now_ms, peer, offence, "blocks that lead nowhere")

    def syncing(self, now_ms: int) -> tuple[int, int] | None:
        """(our height, highest claimed) while blocks are fetched that would put us behind."""
        ours = self._view.status().head_height
        most = max((one.head_height for one in self.hellos.standing().values()), default=0)
        return (ours, most) if most > ours and self.blocks.syncing(now_ms) else None

    # --- addresses

    def _on_get_peers(self, now_ms: int, peer: str, _request: m.GetPeers) -> None:
        self.exchange.on_get_peers(now_ms, peer)
        if self.scores.may_serve(now_ms, peer):
            answer = m.encode(m.Peers(self._book.tell(self.slots, self._seed)))
            self.scores.on_served(peer, len(answer))
            self._out.append(Send(peer, "peers", answer))

    def _on_peers(self, _now_ms: int, peer: str, peers: m.Peers) -> None:
        self.exchange.on_peers(peer)
        self._book.learn(peer, self.slots.host(peer), peers.addresses)

    # --- time

    def on_slot(self, now_ms: int, tips: Sequence[bytes], wanted: Sequence[bytes]) -> None:
        """Each slot: say where we stand and what our tips are, ask for parents, look for peers."""
        status = m.encode(self._view.status())
        for peer in self.hellos.standing():
            self._out.append(Send(peer, "hello", status))
            self.offered(now_ms, peer, Lane.VERTEX, wanted)
            if wanted:
                self.vertices.on_behind(now_ms, peer)
        self.gossip.tips(tips)
        ask = m.encode(m.GetPeers())
        self._out += [Send(peer, "peers", ask) for peer in self.exchange.to_ask(now_ms)]
        dials = self._book.to_dial(now_ms, self.slots, self._seed ^ now_ms)
        self._out += [Dial(address) for address in dials]

    def on_tick(self, now_ms: int) -> None:
        """Deadlines: ask others for what is overdue, drop who never said hello."""
        if now_ms < self._ticked_ms + TICK_MS:
            return
        self._ticked_ms = now_ms
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
        if self.gossip.queued_bytes:
            return max(self._flushed_ms + FLUSH_MS, now_ms)
        return max(self._ticked_ms + TICK_MS, now_ms) if self._addressed else now_ms + TICK_MS * 100

    def drain(self, now_ms: int) -> list[Effect]:
        """All that is to be done, in order; gossip leaves in batches."""
        ours = self._view.status().head_height
        asks = self.blocks.requests(now_ms, ours, self._view.block_hash_at)
        asks += self.vertices.requests(now_ms, self._view.vertex_sample)
        if self.gossip.queued_bytes >= FLUSH_BYTES or now_ms >= self._flushed_ms + FLUSH_MS:
            self._flushed_ms = now_ms
            asks += self.gossip.flush()
        self._out += [Send(*ask) for ask in asks]
        out, self._out = self._out, []
        return out

    def peers(self, now_ms: int) -> list[dict[str, Any]]:
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
                "score": self.scores.score(now_ms, peer),
            }
            for peer, status in self.hellos.standing().items()
        ]

    def _write(self, puts: Puts) -> None:
        if puts:
            self._out.append(Write(puts))
