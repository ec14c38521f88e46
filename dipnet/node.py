"""The node: events in, effects out; the only place where the chain, the DAG and the peers meet.

``Node.step(now_ms, event) -> list[Effect]`` is all that a node does (DESIGN 2, rule 3). It reads no
clock, no disk but its ``Reader``, and no randomness but its seed, so that the simulator runs it as
it ships. What is expensive and pure (decoding, signatures) is asked for with ``Verify`` and done by
``Node.check`` on any thread.

The three ways through it: a payment, ``Submitted`` or gossip -> ``_on_txs`` -> pool -> a block; a
vertex, ``Submitted`` or gossip -> ``_on_vertices`` -> the graph -> ``Write``; a block, ``Woke`` at
our slot -> ``_propose`` -> ``Signed`` -> ``_import``, which is also where a peer's block arrives.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dipnet.codec import Puts, Reader
from dipnet.consensus.block import Block, decode_block, header_of
from dipnet.consensus.chain import Chain
from dipnet.consensus.pool import Pool
from dipnet.consensus.produce import Draft, build
from dipnet.consensus.records import KEY_HEAD, KEY_PROPOSED, pack_proposed, unpack_proposed
from dipnet.consensus.schedule import slot_at, slot_start_ms
from dipnet.consensus.votes import Certificate, Vote, decode_certificate, decode_vote, gossip_id
from dipnet.dag import vertex
from dipnet.dag.graph import ACCEPTED, KNOWN, PENDING, REFUSED, Dag
from dipnet.dag.vertex import Batch, Keys
from dipnet.effects import (
    Connected,
    DialFailed,
    Disconnected,
    Effect,
    Event,
    Publish,
    Received,
    Reply,
    Sign,
    Signed,
    Submitted,
    Verified,
    Verify,
    Wake,
    Woke,
    Write,
)
from dipnet.errors import Invalid
from dipnet.genesis import Genesis
from dipnet.links import Links
from dipnet.p2p.blocksync import NOWHERE
from dipnet.p2p.messages import Lane, Status
from dipnet.peering import Incoming
from dipnet.state import Layer
from dipnet.tx import Tx, decode_batch

log = logging.getLogger("dipnet.node")

TIPS_MAX: Final = 256  # tips announced each slot
RELAY_SLOTS: Final = 8  # a block that is older is not pushed on
STATUS_NAMES: Final = {ACCEPTED: "accepted", KNOWN: "known", PENDING: "pending"}
PROPOSE_SHARE: Final = 2  # a slot is proposed in its first 1/PROPOSE_SHARE or not at all


@dataclass(frozen=True, slots=True)
class Check:
    """Why a ``Verify`` was asked for: for a client's ticket, or for what a peer sent."""

    ticket: int
    count: int
    incoming: Incoming | None

    @property
    def peer(self) -> str:
        """Who sent it, "" for a client."""
        return self.incoming.peer if self.incoming is not None else ""


def first_puts(genesis: Genesis, reader: Reader) -> Puts:
    """What a directory without a chain must hold before its node is made; empty for others."""
    return {} if reader.get(KEY_HEAD) is not None else Chain.genesis_puts(genesis)


class Node:
    """One node over the records that ``reader`` shows; ``proposer`` is its delegate's address."""

    def __init__(
        self,
        genesis: Genesis,
        reader: Reader,
        *,
        peer_id: str,
        addresses: Sequence[str],
        proposer: bytes | None,
        bootstrap: Sequence[str],
        local: bool,
        seed: int,
    ) -> None:
        self.genesis = genesis
        # What this step has asked to write and nobody could stage yet, before what is on disk.
        self._fresh: Puts = {}
        reader = Layer(reader, self._fresh)
        self.chain = Chain(genesis, reader)
        self.pool = Pool(genesis)
        self.dag = Dag.load(reader, genesis, seed)
        self._keys = vertex.issuer_keys(seed)
        self.links = Links(
            genesis,
            self.chain.genesis_hash,
            self,
            reader=reader,
            peer_id=peer_id,
            addresses=addresses,
            bootstrap=bootstrap,
            local=local,
            seed=seed,
        )
        self._proposer = proposer
        self._proposed_slot = unpack_proposed(reader.get(KEY_PROPOSED))
        self._drafts: dict[int, Draft] = {}  # at most one: waiting for its signature
        self._seed = seed
        self._checks: dict[int, tuple[str, Check]] = {}
        self._tickets = 0
        self._slot = -1
        self._wake_ms = 0
        self._now_ms = 0
        # Time for deadlines: as the clock, but it stands still where the clock is set back.
        self.steady_ms = 0
        self._out: list[Effect] = []
        self._on: dict[type, Callable[[Any], None]] = {
            Connected: self._on_connected,
            Disconnected: lambda e: self.links.on_disconnected(self.steady_ms, e.peer),
            DialFailed: lambda e: self.links.on_dial_failed(self.steady_ms, e.address),
            Received: self._on_received,
            Submitted: self._on_submitted,
            Verified: self._on_verified,
            Signed: self._on_signed,
            Woke: self._on_woke,
        }
        self._on_result: dict[str, Callable[[Check, Any], None]] = {
            "txs": self._on_txs,
            "relayed": self._on_txs,
            "vertices": self._on_vertices,
            "wire": self._on_vertices,
            "blocks": self._on_blocks,
            "votes": self._on_votes,
            "certificates": self._on_votes,
        }

    # --- the two doors

    def start(self, now_ms: int) -> list[Effect]:
        """What a node does first; call once."""
        # A disk that is new, or put back, does not know what was signed in the slot that runs.
        self._proposed_slot = max(self._proposed_slot, slot_at(self.genesis, now_ms))
        return self.step(now_ms, Woke())

    def step(self, now_ms: int, event: Event) -> list[Effect]:
        """What follows from ``event`` at Unix time ``now_ms``, in the order to be done.

        ``now_ms`` may jump, back too: slots follow it, deadlines do not (``steady_ms``).
        """
        self.steady_ms += max(0, now_ms - self._now_ms)
        self._now_ms = now_ms
        self._fresh.clear()
        self._on[type(event)](event)
        self._out += self.links.drain(self.steady_ms)
        self._ask_to_wake()
        out, self._out = self._out, []
        return out

    def check(self, kind: str, items: Sequence[bytes]) -> object:
        """The pure and costly part of judging ``items``; any thread. Refusals are values."""
        match kind:
            case "txs" | "relayed":
                return decode_batch(items, self.genesis.chain_id)
            case "vertices":
                return self._checked(vertex.check_each, items)
            case "wire":
                return self._checked(vertex.check, items[0])
            case "blocks":
                return [self._check_block(raw) for raw in items]
            case "votes" | "certificates":
                return [self._decoded(kind, raw) for raw in items]
            case _:
                raise AssertionError(kind)

    def _checked(self, check: Callable[[Any, int, Keys], Batch], data: object) -> Batch | Invalid:
        try:
            return check(data, self.genesis.chain_id, self._keys)
        except Invalid as refused:
            return refused

    def _decoded(self, kind: str, raw: bytes) -> Vote | Certificate | Invalid:
        try:
            return decode_vote(raw) if kind == "votes" else decode_certificate(raw)
        except Invalid as refused:
            return refused

    def _check_block(self, raw: bytes) -> Block | Invalid:
        try:
            return decode_block(raw, self.genesis, self.chain.schedule.leader)
        except Invalid as refused:
            return refused

    # --- time

    def _on_woke(self, _event: Woke) -> None:
        self._wake_ms = 0
        slot = slot_at(self.genesis, self._now_ms)
        if slot != self._slot:  # lower where the clock was set back
            self._slot = slot
            self._on_slot(slot)
        self.links.on_tick(self.steady_ms)

    def _on_slot(self, slot: int) -> None:
        self._propose(slot)
        tips = self.dag.tips(TIPS_MAX, self._draw())
        self.links.on_slot(self.steady_ms, tips, self.dag.wanted())

    def _ask_to_wake(self) -> None:
        """One wake-up at a time: the next slot, or sooner when something waits to be sent."""
        next_slot = slot_start_ms(self.genesis, max(self._slot, 0) + 1)
        wait_ms = self.links.next_ms(self.steady_ms) - self.steady_ms
        at_ms = min(next_slot, self._now_ms + wait_ms)
        if self._wake_ms == 0 or at_ms < self._wake_ms:
            self._wake_ms = at_ms
            self._out.append(Wake(at_ms))

    def _draw(self) -> int:
        """The next of a sequence of 64-bit numbers that the seed determines (splitmix64)."""
        self._seed = (self._seed + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = self._seed
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
        return mixed ^ (mixed >> 31)

    # --- producing

    def _propose(self, slot: int) -> None:
        """Our slot, in time, not signed before, and nobody known to be ahead of us."""
        chain = self.chain
        if self._proposer is None or chain.schedule.leader(slot) != self._proposer:
            return
        late = self._now_ms - slot_start_ms(self.genesis, slot)
        if late * PROPOSE_SHARE > self.genesis.slot_ms or self.links.syncing(self.steady_ms):
            return
        if slot <= max(self._proposed_slot, chain.head.slot):
            return
        draft = build(chain, self.pool, slot, self._proposer)
        for tx_hash, reason in draft.refused:
            log.info("transaction %s leaves the pool: %s", tx_hash.hex(), reason)
            self.pool.drop(tx_hash)
        self._proposed_slot = slot
        self._tickets += 1
        self._drafts = {self._tickets: draft}
        # Durable before it is signed: a restart never signs one slot twice (DESIGN 5).
        self._write({KEY_PROPOSED: pack_proposed(slot)})
        self._out.append(Sign(self._tickets, draft.digest))

    def _on_signed(self, event: Signed) -> None:
        draft = self._drafts.pop(event.ticket, None)
        if draft is None:
            return
        try:
            self._import(draft.sealed(event.signature), peer="")
        except Invalid as refused:  # the clock or the chain has moved on since it was drafted
            log.warning("our block of slot %d is of no use: %s", draft.header.slot, refused)

    # --- what comes in

    def _on_connected(self, event: Connected) -> None:
        self.links.on_connected(self.steady_ms, event.peer, event.address, event.outbound)

    def _on_received(self, event: Received) -> None:
        incoming = self.links.on_received(self.steady_ms, event.peer, event.protocol, event.data)
        if incoming is not None:
            check = Check(0, 0, incoming)
            if incoming.kind == "blocks" and not incoming.asked and self._known(incoming):
                self._judged(check, [])
            else:
                self._verify(incoming.kind, incoming.items, check)

    def _known(self, incoming: Incoming) -> bool:
        """Whether all these blocks are here: every neighbour pushes each, one is judged."""
        try:
            ids = [header_of(raw).hash for raw in incoming.items]
        except Invalid:
            return False
        if not all(self.has(Lane.BLOCK, id_) for id_ in ids):
            return False
        self.links.gossip.on_items(self.steady_ms, incoming.peer, Lane.BLOCK, ids)
        return True

    def _on_submitted(self, event: Submitted) -> None:
        self._verify(event.kind, event.items, Check(event.ticket, len(event.items), None))

    def _verify(self, kind: str, items: tuple[bytes, ...], check: Check) -> None:
        self._tickets += 1
        self._checks[self._tickets] = (kind, check)
        self._out.append(Verify(self._tickets, kind, items))

    def _on_verified(self, event: Verified) -> None:
        kind, check = self._checks.pop(event.ticket)
        self._on_result[kind](check, event.result)

    def _judged(self, check: Check, refused: Iterable[Invalid]) -> None:
        if check.incoming is not None:
            self.links.on_judged(self.steady_ms, check.incoming, refused)

    def _reply(self, check: Check, results: Iterable[tuple[bytes, str] | Invalid]) -> None:
        if check.incoming is None:
            self._out.append(Reply(check.ticket, tuple(results)))

    def _write(self, puts: Puts) -> None:
        self._fresh.update(puts)
        self._out.append(Write(puts))

    # --- payments

    def _on_txs(self, check: Check, txs: list[Tx | Invalid]) -> None:
        results = [self._add_tx(tx) for tx in txs]
        refused = [result for result in results if isinstance(result, Invalid)]
        fresh = [tx for tx, it in zip(txs, results, strict=True) if not isinstance(it, Invalid)]
        if check.incoming is not None:
            well_formed = [tx.hash for tx in txs if isinstance(tx, Tx)]
            self.links.gossip.on_items(self.steady_ms, check.peer, Lane.TX, well_formed)
        self._judged(check, refused)
        if fresh:
            hashes = [tx.hash for tx in fresh if isinstance(tx, Tx)]
            self.links.gossip.announce(Lane.TX, hashes, except_peer=check.peer)
            self._out.append(Publish("newPendingTransactions", tuple(fresh)))
        self._reply(check, results)

    def _add_tx(self, tx: Tx | Invalid) -> tuple[bytes, str] | Invalid:
        """The hash of a transaction that the pool took, or why it did not."""
        if isinstance(tx, Invalid):
            return tx
        account = self.chain.account(tx.sender)
        try:
            self.pool.add(tx, account.nonce, account.balance, self.chain.next_base_fee)
        except Invalid as refused:
            return refused
        return tx.hash, "accepted"

    # --- vertices

    def _on_vertices(self, check: Check, batch: Batch | Invalid) -> None:
        if isinstance(batch, Invalid):  # too many bytes for one batch
            self._judged(check, [batch])
            self._reply(check, [batch] * check.count)
            return
        # The seam of admission: quota and age are judged here, before anything is kept. A wrong
        # recovery hint was corrected and is charged to nobody: a relay that knows the key cannot
        # see it (specs/dag.md; the batch equation will).
        inserted = self.dag.insert(batch)
        if inserted.puts:
            self._write(inserted.puts)
        peer = check.peer
        if check.incoming is not None:
            arrived = [batch.id(i) for i, s in enumerate(inserted.statuses) if s != REFUSED]
            self.links.gossip.on_items(self.steady_ms, peer, Lane.VERTEX, arrived)
            self.links.offered(self.steady_ms, peer, Lane.VERTEX, inserted.missing)
            if check.incoming.asked:
                fresh = len(inserted.accepted)
                self.links.vertices.on_inserted(self.steady_ms, peer, fresh)
        self._judged(check, [reason for _, reason in inserted.refused])
        if inserted.accepted:
            self.links.gossip.announce(Lane.VERTEX, inserted.accepted, except_peer=peer)
            self._out.append(Publish("dagVertices", inserted.accepted))
        if check.incoming is None:
            reasons = dict(inserted.refused)
            self._reply(
                check,
                [
                    reasons.get(i) or (batch.id(i), STATUS_NAMES[status])
                    for i, status in enumerate(inserted.statuses)
                ],
            )

    # --- votes

    def _on_votes(self, check: Check, votes: list[Vote | Certificate | Invalid]) -> None:
        self._judged(check, [one for one in votes if isinstance(one, Invalid)])

    # --- blocks

    def _on_blocks(self, check: Check, blocks: list[Block | Invalid]) -> None:
        """Blocks of a peer, parents first; the rest of a branch falls with the first refused."""
        fresh, last = 0, NOWHERE
        refused: list[Invalid] = []
        for block in blocks:
            try:
                if isinstance(block, Invalid):
                    raise block
                fresh += self._import(block, check.peer)
                last = (block.header.height, block.hash)
            except Invalid as refusal:
                refused.append(refusal)
                if refusal.code == "block_parent":
                    self.links.blocks.on_unknown_parent(check.peer)
                break
        self._judged(check, refused)
        if check.incoming is not None and check.incoming.asked:
            early = any(refusal.code == "block_future" for refusal in refused)
            self.links.on_blocks_imported(self.steady_ms, check.peer, fresh, last, early)

    def _import(self, block: Block, peer: str) -> bool:
        """The one way of a block onto the chain, ours or a peer's; whether it was new."""
        imported = self.chain.on_block(block, self._now_ms)
        self.links.gossip.on_items(self.steady_ms, peer, Lane.BLOCK, [block.hash])
        if not imported.puts:
            return False
        self._write(imported.puts)
        # Only what is of now is pushed on: who catches up asks.
        if block.header.slot + RELAY_SLOTS >= slot_at(self.genesis, self._now_ms):
            self.links.gossip.push(Lane.BLOCK, block.hash, block.raw, except_peer=peer)
        if imported.new_head:
            self.pool.on_head(
                lambda address: self.chain.account(address).nonce,
                lambda address: self.chain.account(address).balance,
                self.chain.next_base_fee,
                [tx for one in imported.applied for tx in one.txs],
                imported.reverted,
            )
            self._out.append(Publish("newHeads", imported.applied))
        return True

    # --- what our links read (links.View)

    def status(self) -> Status:
        """Where we stand."""
        head, final = self.chain.head, self.chain.final
        return Status(
            head_height=head.height,
            head_hash=head.hash,
            final_height=final.height,
            final_hash=final.hash,
            safe_epoch=0,
            safe_slot=0,
            dag_count=len(self.dag),
            dag_sum=self.dag.sum,
            time_ms=self._now_ms,
        )

    def name(self, lane: Lane, raw: bytes) -> bytes:
        """The id of a vote or certificate by its bytes."""
        return gossip_id(raw, certificate=lane is Lane.CERTIFICATE)

    def has(self, lane: Lane, id_: bytes) -> bool:
        """Whether the item is here, or settled."""
        match lane:
            case Lane.TX:
                return id_ in self.pool or self.chain.transaction(id_) is not None
            case Lane.VERTEX:
                return self.dag.has(id_) or self.dag.is_pending(id_)
            case _:
                return self.chain.header(id_) is not None

    def raw(self, lane: Lane, id_: bytes) -> bytes | None:
        """The bytes of an item, None when it is not here."""
        match lane:
            case Lane.TX:
                tx = self.pool.get(id_)
                return tx.raw if tx else None
            case Lane.VERTEX:
                return self.dag.raw(id_)
            case _:
                return self.chain.raw(id_)

    def block_hash_at(self, height: int) -> bytes:
        """The canonical block at a height from 0 to the head's."""
        block_hash = self.chain.hash_at(height)
        assert block_hash is not None
        return block_hash

    def blocks_after(self, locator: tuple[bytes, ...]) -> Iterator[bytes]:
        """Raw canonical blocks above the first hash of the locator that is canonical."""
        for block_hash in locator:
            header = self.chain.header(block_hash)
            if header is not None and self.chain.hash_at(header.height) == block_hash:
                for height in range(header.height + 1, self.chain.head.height + 1):
                    raw = self.chain.raw(self.block_hash_at(height))
                    assert raw is not None
                    yield raw
                return

    def vertex_ordinal(self, id_: bytes) -> int | None:
        """Place of a vertex in our log."""
        return self.dag.ordinal(id_)

    def vertices_from(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Ordinal and wire bytes of our log from ``start`` on."""
        for ordinal in range(start, len(self.dag)):
            yield ordinal, self.dag.wire(ordinal)

    def vertex_sample(self) -> list[bytes]:
        """Ids of our log, newest first, exponentially back."""
        return [self.dag.id_at(len(self.dag) - back) for back in backwards(len(self.dag))]


def backwards(count: int) -> Iterator[int]:
    """1, 2, 3 ... 8, then in doubling steps, up to ``count``."""
    back, step = 1, 1
    while back <= count:
        yield back
        if back >= 8:
            step *= 2
        back += step
