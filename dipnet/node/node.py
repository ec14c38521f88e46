"""The node: events in, effects out; the only place where the chain, the DAG and the peers meet.

``Node.step(now_ms, event) -> list[Effect]`` is all that a node does (docs/design.md "Rules", rule
3). It reads no clock, no disk but its ``Reader``, and no randomness but its seed, so that the
simulator runs it as it ships. ``Verify`` asks for pure and expensive work (decoding, signatures),
and ``Node.check`` does it on any thread.

The ways through it: a payment, ``Submitted`` or gossip -> ``_on_txs`` -> pool -> a block; a vertex,
``Submitted`` or gossip -> ``_on_vertices`` -> the graph -> ``Write``; a block, ``Woke`` at our slot
-> ``voting.propose`` -> ``Signed`` -> ``_import``, which is also where a peer's block arrives; a
vote, ``voting.vote`` -> ``Signed``, or a peer's -> ``_count`` -> a certificate -> ``_certify``.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dipnet.consensus.chain.block import Block, claimed_id
from dipnet.consensus.chain.chain import Chain, Imported
from dipnet.consensus.chain.pool import Pool
from dipnet.consensus.chain.records import KEY_HEAD
from dipnet.consensus.chain.rules import check_known
from dipnet.consensus.chain.schedule import slot_at, slot_start_ms
from dipnet.consensus.finality.votes import Certificate, Vote, Voter
from dipnet.dag import vertex
from dipnet.dag.graph import ACCEPTED, KNOWN, PENDING, REFUSED, Dag
from dipnet.dag.vertex import Batch
from dipnet.ledger.genesis import Genesis
from dipnet.ledger.state import Layer
from dipnet.ledger.tx import Tx
from dipnet.node.checks import Checker
from dipnet.node.effects import (
    Connected,
    DialFailed,
    Disconnected,
    Effect,
    Event,
    Halt,
    Publish,
    Received,
    Reply,
    Signed,
    Submitted,
    Verified,
    Verify,
    Wake,
    Woke,
    Write,
)
from dipnet.node.peering import Incoming
from dipnet.node.peers import Peers
from dipnet.node.view import NodeView
from dipnet.node.voting import Voting
from dipnet.p2p.blocksync import NOWHERE
from dipnet.p2p.messages import Topic
from dipnet.primitives.codec import Puts, Reader
from dipnet.primitives.errors import Invalid

log = logging.getLogger("dipnet.node")

TIPS_MAX: Final = 256  # tips announced each slot
RECENT_SLOTS: Final = 8  # what is older is not pushed on, and a head that is older lags behind
CLOCK_SHARE: Final = 2  # who is off by more than 1/CLOCK_SHARE of a slot makes no blocks
STATUS_NAMES: Final = {ACCEPTED: "accepted", KNOWN: "known", PENDING: "pending"}
FINALIZED_SHOWN_MAX: Final = 64  # blocks told to subscribers when many become final at once


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


def _kind(complaint: str | None) -> str:
    """A complaint without its numbers, which change all the time."""
    return "".join(one for one in complaint or "" if not one.isdigit())


def first_puts(genesis: Genesis, reader: Reader) -> Puts:
    """What a directory without a chain must hold before its node is made; empty for others."""
    return {} if reader.get(KEY_HEAD) is not None else Chain.genesis_puts(genesis)


class Node:
    """One node over the records that ``reader`` shows; ``voter`` is its delegate, if it has one."""

    def __init__(
        self,
        genesis: Genesis,
        reader: Reader,
        *,
        peer_id: str,
        addresses: Sequence[str],
        voter: Voter | None,
        bootstrap: Sequence[str],
        local: bool,
        seed: int,
        paused: bool = False,
    ) -> None:
        self.genesis = genesis
        # What this step has asked to write and nobody could stage yet, before what is on disk.
        self._fresh: Puts = {}
        reader = Layer(reader, self._fresh)
        self.chain = Chain(genesis, reader)
        self.pool = Pool(genesis)
        self.dag = Dag.load(reader, genesis, seed)
        self._checker = Checker(genesis, self.chain, vertex.issuer_keys(seed))
        self.view = NodeView(self.chain, self.pool, self.dag)
        self.peers = Peers(
            genesis,
            self.chain.genesis_hash,
            self.view,
            reader=reader,
            peer_id=peer_id,
            addresses=addresses,
            bootstrap=bootstrap,
            local=local,
            seed=seed,
        )
        self.voting = Voting(self.chain, self.pool, reader, voter, paused)
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
            Disconnected: lambda e: self.peers.on_disconnected(self.steady_ms, e.peer),
            DialFailed: lambda e: self.peers.on_dial_failed(self.steady_ms, e.address),
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
            "synced": self._on_blocks,
            "votes": self._on_votes,
            "certificates": self._on_certificates,
        }

    # --- the two doors

    def start(self, now_ms: int) -> list[Effect]:
        """What a node does first; call once."""
        self._stop_before_unknown_rules()
        return self.step(now_ms, Woke())

    def step(self, now_ms: int, event: Event) -> list[Effect]:
        """What follows from ``event`` at Unix time ``now_ms``, in the order to be done.

        ``now_ms`` may jump, back too: slots follow it, deadlines do not (``steady_ms``).
        """
        passed_ms = now_ms - self._now_ms
        if passed_ms > self.chain.parameters.slot_ms:  # we wake each slot: the clock was set, or
            self.peers.clock.leapt()  # we stood still, which looks the same
        self.steady_ms += max(0, passed_ms)
        self._now_ms = self.view.now_ms = now_ms
        self._fresh.clear()
        self._on[type(event)](event)
        if not self.peers.syncing(self.steady_ms):
            self.voting.vote(now_ms, self._vouched_ms)
        self._out += self.voting.drain()
        self._out += self.peers.drain(self.steady_ms)
        if puts := self.voting.unrecorded(self._slot):  # nothing of this step waits for it
            self._write(puts)
        self._ask_to_wake()
        out, self._out = self._out, []
        return out

    def check(self, kind: str, items: Sequence[bytes]) -> object:
        """The pure and costly part of judging ``items``; any thread. Refusals are values."""
        return self._checker.check(kind, items)

    # --- time

    def _on_woke(self, _event: Woke) -> None:
        self._wake_ms = 0
        slot = self.slot
        if slot != self._slot:  # lower where the clock was set back
            self._slot = slot
            self._on_slot(slot)
        self.peers.on_tick(self.steady_ms)

    def _on_slot(self, slot: int) -> None:
        idle = self._idle()
        if self.voting.voter is not None and _kind(idle) != _kind(self.voting.idle):
            log.warning("proposes %s", f"nothing: {idle}" if idle else "again")
        self.voting.idle = idle
        self.voting.propose(self._now_ms, slot)
        votes, certificates = self.voting.again()
        self.peers.repeat(Topic.VOTE, [vote.raw for vote in votes])
        self.peers.repeat(Topic.CERTIFICATE, [one.raw for one in certificates])
        tips = self.dag.tips(TIPS_MAX, self._draw())
        self.peers.on_slot(self.steady_ms, tips, self.dag.wanted())

    def _idle(self) -> str | None:
        """Why we must not make blocks now."""
        if self.voting.elsewhere:
            return self.voting.elsewhere
        if self.voting.paused:
            return "paused"
        if self.peers.alone and self._needs_others:
            return "no peer has said hello"  # what we would build on may be old
        if syncing := self.peers.syncing(self.steady_ms):
            return f"at block {syncing[0]} of {syncing[1]}"
        bound_ms = self.chain.parameters.slot_ms // CLOCK_SHARE
        return self.peers.clock_fault(bound_ms, self._needs_others)

    @property
    def _needs_others(self) -> bool:
        """Whether our own votes make nothing final."""
        return self.chain.epoch.members.quorum > 1

    def _vouched_ms(self) -> int:
        """Up to when the slot of a prevoted block may begin: our clock, put right by those of our
        peers, and what it may be off. 0 while they must be heard first."""
        off_ms = self.peers.clock_offset_ms()
        if off_ms is None and self._needs_others and not self.peers.alone:
            return 0
        return self._now_ms + (off_ms or 0) + self.chain.parameters.slot_ms // CLOCK_SHARE

    @property
    def slot(self) -> int:
        """The slot that runs."""
        return slot_at(self.chain.parameters, self._now_ms)

    def _ask_to_wake(self) -> None:
        """One wake-up at a time: the next slot, or sooner when something waits to be sent."""
        next_slot = slot_start_ms(self.chain.parameters, max(self._slot, 0) + 1)
        wait_ms = self.peers.next_ms(self.steady_ms) - self.steady_ms
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

    # --- what we sign

    def _on_signed(self, event: Signed) -> None:
        signed = self.voting.on_signed(event)
        try:  # the clock or the chain may have moved on since it was drafted
            if isinstance(signed, Vote):
                self._count(signed, "")
            elif signed is not None:
                self._import(signed, peer="")
        except Invalid as refused:
            log.warning("what we have signed is of no use now: %s", refused)

    # --- what comes in

    def _on_connected(self, event: Connected) -> None:
        self.peers.on_connected(self.steady_ms, event.peer, event.address, event.outbound)

    def _on_received(self, event: Received) -> None:
        incoming = self.peers.on_received(self.steady_ms, event.peer, event.protocol, event.data)
        if incoming is not None:
            check = Check(0, 0, incoming)
            if incoming.kind == "blocks" and not incoming.asked and self._known(incoming):
                self._judged(check, [])
            else:
                kind = "synced" if incoming.kind == "blocks" and incoming.asked else incoming.kind
                self._verify(kind, incoming.items, check)

    def _known(self, incoming: Incoming) -> bool:
        """Whether all these blocks are here: every neighbour pushes each, one is judged."""
        try:
            ids = [claimed_id(raw) for raw in incoming.items]
        except Invalid:
            return False
        if not all(self.view.has(Topic.BLOCK, id_) for id_ in ids):
            return False
        self.peers.gossip.on_items(self.steady_ms, incoming.peer, Topic.BLOCK, ids)
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
            self.peers.on_judged(self.steady_ms, check.incoming, refused)

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
            self.peers.gossip.on_items(self.steady_ms, check.peer, Topic.TX, well_formed)
        self._judged(check, refused)
        if fresh:
            hashes = [tx.hash for tx in fresh if isinstance(tx, Tx)]
            self.peers.gossip.announce(Topic.TX, hashes, except_peer=check.peer)
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
        # see it (docs/spec/dag.md "Vertex"; the batch equation will).
        inserted = self.dag.insert(batch)
        if inserted.puts:
            self._write(inserted.puts)
        peer = check.peer
        if check.incoming is not None:
            arrived = [batch.id(i) for i, s in enumerate(inserted.statuses) if s != REFUSED]
            self.peers.gossip.on_items(self.steady_ms, peer, Topic.VERTEX, arrived)
            self.peers.offered(self.steady_ms, peer, Topic.VERTEX, inserted.missing)
            if check.incoming.asked:
                fresh = len(inserted.accepted)
                self.peers.vertices.on_inserted(self.steady_ms, peer, fresh)
        self._judged(check, [reason for _, reason in inserted.refused])
        if inserted.accepted:
            self.peers.gossip.announce(Topic.VERTEX, inserted.accepted, except_peer=peer)
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

    # --- blocks

    def _on_blocks(self, check: Check, blocks: list[Block | Invalid]) -> None:
        """Blocks of a peer, parents first; the rest of a branch falls with the first refused.

        What we asked for is one branch: a leader with a thousand blocks for his slot must not have
        all of them run and kept at once, nor one by one: what is surplus is no delivery.
        """
        asked = check.incoming is not None and check.incoming.asked
        fresh, surplus, last, head = 0, 0, NOWHERE, self.chain.head
        refused: list[Invalid] = []
        for block in blocks:
            try:
                if isinstance(block, Invalid):
                    raise block
                if asked and last is not NOWHERE and block.header.parent != last[1]:
                    raise Invalid("peer_message", "blocks that are no chain")
                imported = self._import(block, check.peer, asked)
                surplus += imported.surplus
                fresh += bool(imported.puts) and not imported.surplus
                last = (block.header.height, block.hash)
            except Invalid as refusal:
                refused.append(refusal)
                if refusal.code in ("block_parent", "block_epoch"):
                    self.peers.blocks.on_unknown_parent(check.peer)
                break
        self._judged(check, refused)
        if asked:
            early = any(refusal.code == "block_future" for refusal in refused)
            led = self.chain.head is not head and self.chain.head.slot + RECENT_SLOTS < self.slot
            self.peers.on_blocks_imported(
                self.steady_ms, check.peer, fresh, last, led, early, surplus
            )

    def _import(self, block: Block, peer: str, asked: bool = False) -> Imported:
        """The one way of a block onto the chain, ours or a peer's; no writes: it was known."""
        self.voting.add_proposal(block, self._now_ms)
        imported = self.chain.on_block(block, self._now_ms, asked)
        self.peers.gossip.on_items(self.steady_ms, peer, Topic.BLOCK, [block.hash])
        if not imported.puts:
            return imported
        self.voting.add_certificates(block.certificates)
        self._follow(imported)
        # Only what is of now is pushed on: who catches up asks.
        if block.header.slot + RECENT_SLOTS >= self.slot:
            self.peers.gossip.push(Topic.BLOCK, block.hash, block.raw, except_peer=peer)
        return imported

    def _follow(self, imported: Imported) -> None:
        """Write what the chain says, and tell everybody what has changed."""
        if imported.puts:
            self._write(imported.puts)
        if imported.applied:
            self.pool.on_head(
                lambda address: self.chain.account(address).nonce,
                lambda address: self.chain.account(address).balance,
                self.chain.next_base_fee,
                [tx for one in imported.applied for tx in one.txs],
                imported.reverted,
            )
            self._out.append(Publish("newHeads", imported.applied))
        if imported.finalized:
            self.voting.on_final(self._now_ms)
            heights = imported.finalized[-FINALIZED_SHOWN_MAX:]
            blocks = [self.chain.need_block(self.view.block_hash_at(height)) for height in heights]
            self._out.append(Publish("finalizedHeads", tuple(blocks)))
            self._stop_before_unknown_rules()

    def _stop_before_unknown_rules(self) -> None:
        """A final boundary may have started rules that this program has not: it must not go on."""
        try:
            check_known(self.chain.epoch_at(self.chain.final))
        except Invalid as unknown:
            self._out.append(Halt(str(unknown)))

    # --- votes

    def _on_votes(self, check: Check, votes: list[Vote | Invalid]) -> None:
        refused = []
        for vote in votes:
            try:
                if isinstance(vote, Invalid):
                    raise vote
                self._count(vote, check.peer)
            except Invalid as refusal:
                refused.append(refusal)
                self.voting.results[refusal.code] += 1
        self._judged(check, refused)

    def _count(self, vote: Vote, peer: str) -> None:
        """A verified vote, ours or a peer's: relay it first, then see what it completes."""
        certificate = self.voting.add(vote, self._now_ms)
        self.peers.push(Topic.VOTE, vote.id, vote.raw, except_peer=peer)
        if certificate is not None:
            self._certify(certificate, peer)

    def _on_certificates(self, check: Check, certificates: list[Certificate | Invalid]) -> None:
        refused = []
        for certificate in certificates:
            try:
                if isinstance(certificate, Invalid):
                    raise certificate
                self._certify(certificate, check.peer)
            except Invalid as refusal:
                refused.append(refusal)
        self._judged(check, refused)

    def _certify(self, certificate: Certificate, peer: str) -> None:
        """A verified certificate: tell who does not know it, and follow it."""
        imported = self.chain.on_certificate(certificate)
        self.voting.add_certificates([certificate])
        self.peers.push(Topic.CERTIFICATE, certificate.id, certificate.raw, except_peer=peer)
        self._follow(imported)
        self.peers.mentioned(self.steady_ms, peer, [certificate.ballot.block_id])
