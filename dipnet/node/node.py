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
from typing import Final, TypeAlias, TypeVar, assert_never

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
from dipnet.node.checks import (
    Checked,
    CheckedBlocks,
    CheckedCertificates,
    CheckedTxs,
    CheckedVertices,
    CheckedVotes,
    Checker,
)
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
from dipnet.node.node_view import NodeView
from dipnet.node.peers import Peers
from dipnet.node.readiness import Readiness
from dipnet.node.voting import Voting
from dipnet.node.work import GossipBlocks, Incoming, Work
from dipnet.p2p.blocksync import NOWHERE, Delivery
from dipnet.p2p.messages import Topic
from dipnet.primitives.codec import Puts, Reader
from dipnet.primitives.errors import Invalid
from dipnet.primitives.splitmix import splitmix64

log = logging.getLogger("dipnet.node")

TIPS_MAX: Final = 256  # tips announced each slot
RECENT_SLOTS: Final = 8  # an older block is not pushed on, an older head lags behind
STATUS_NAMES: Final = {ACCEPTED: "accepted", KNOWN: "known", PENDING: "pending"}
FINALIZED_SHOWN_MAX: Final = 64  # blocks told to subscribers when many become final at once


Origin: TypeAlias = Submitted | Incoming
"""Why a ``Verify`` was asked for: a client submitted the work, or a peer sent it."""
_Item = TypeVar("_Item")


def _refusals(results: Iterable[_Item | Invalid], act: Callable[[_Item], None]) -> list[Invalid]:
    """The refusals among ``results``, and those that ``act`` raises for the items among them."""
    refused = []
    for result in results:
        try:
            if isinstance(result, Invalid):
                raise result
            act(result)
        except Invalid as refusal:
            refused.append(refusal)
    return refused


def _peer_of(origin: Origin) -> str:
    """The peer that sent the work, "" for a client."""
    return origin.peer if isinstance(origin, Incoming) else ""


def first_puts(genesis: Genesis, reader: Reader) -> Puts:
    """The records that a new directory needs before its ``Node`` is made; none for others."""
    return {} if reader.get(KEY_HEAD) is not None else Chain.genesis_puts(genesis)


class Node:
    """One node over the records that ``reader`` shows; an observer has no ``voter``."""

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
        # The writes of the running step: not staged yet, and read before the records on disk.
        self._fresh: Puts = {}
        reader = Layer(reader, self._fresh)
        self.chain = Chain(genesis, reader)
        self.pool = Pool(self.chain.parameters)
        self.dag = Dag.load(reader, genesis.parameters, seed)
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
        self._readiness = Readiness(self.chain, self.peers, self.voting)
        self._seed = seed
        self._checks: dict[int, Origin] = {}  # the origins of the checks in threads, by ticket
        self._tickets = 0
        self._slot = -1
        self._wake_ms = self._now_ms = 0
        # Time for deadlines: as the clock, but it stands still where the clock is set back.
        self.steady_ms = 0
        self._out: list[Effect] = []

    # --- the two doors

    def start(self, now_ms: int) -> list[Effect]:
        """The first effects of a node; call once, before any ``step``."""
        self._stop_before_unknown_rules()
        return self.step(now_ms, Woke())

    def step(self, now_ms: int, event: Event) -> list[Effect]:
        """The effects of ``event`` at Unix time ``now_ms``, to be performed in their order.

        ``now_ms`` may jump, back too: slots follow it, deadlines do not (``steady_ms``).
        """
        passed_ms = now_ms - self._now_ms
        if passed_ms > self.chain.parameters.slot_ms:  # we wake each slot: the clock was set, or
            self.peers.on_clock_leapt()  # we stood still, which looks the same
        self.steady_ms += max(0, passed_ms)
        self._now_ms = self.view.now_ms = now_ms
        self._fresh.clear()
        self._on_event(event)
        if not self.peers.syncing(self.steady_ms):
            self.voting.vote(now_ms, lambda: self._readiness.vouched_ms(now_ms))
        self._out += self.voting.drain()
        self._out += self.peers.drain(self.steady_ms)
        if puts := self.voting.unrecorded(self._slot):  # last: no effect of this step waits for it
            self._write(puts)
        self._ask_to_wake()
        out, self._out = self._out, []
        return out

    def check(self, work: Work) -> Checked:
        """Do the check of a ``Verify``, in any thread. Refusals are values."""
        return work.check(self._checker)

    def _on_event(self, event: Event) -> None:
        match event:
            case Connected(peer, address, outbound):
                self.peers.on_connected(self.steady_ms, peer, address, outbound)
            case Disconnected(peer):
                self.peers.on_disconnected(self.steady_ms, peer)
            case DialFailed(address):
                self.peers.on_dial_failed(self.steady_ms, address)
            case Received():
                self._on_received(event)
            case Submitted():
                self._verify(event)
            case Verified(ticket, outcome):
                self._on_outcome(self._checks.pop(ticket), outcome)
            case Signed():
                self._on_signed(event)
            case Woke():
                self._on_woke()
            case _:
                assert_never(event)

    def _on_outcome(self, origin: Origin, outcome: Checked) -> None:
        match origin, outcome:
            case _, CheckedTxs():
                self._on_txs(origin, outcome.results)
            case _, CheckedVertices():
                self._on_vertices(origin, outcome.batch)
            case Incoming(), CheckedBlocks():
                self._on_blocks(origin, outcome.results)
            case Incoming(), CheckedVotes():
                self._on_votes(origin, outcome.results)
            case Incoming(), CheckedCertificates():
                self._on_certificates(origin, outcome.results)
            case _:
                raise AssertionError(f"{outcome} for {origin}")

    # --- time

    def _on_woke(self) -> None:
        self._wake_ms = 0
        slot = self.slot
        if slot != self._slot:  # lower where the clock was set back
            self._slot = slot
            self._on_slot(slot)
        self.peers.on_tick(self.steady_ms)

    def _on_slot(self, slot: int) -> None:
        self._readiness.on_slot(self.steady_ms)
        self.voting.propose(self._now_ms, slot)
        votes, certificates = self.voting.again()
        self.peers.repeat(Topic.VOTE, [vote.raw for vote in votes])
        self.peers.repeat(Topic.CERTIFICATE, [certificate.raw for certificate in certificates])
        self._seed, drawn = splitmix64(self._seed)
        tips = self.dag.tips(TIPS_MAX, drawn)
        self.peers.on_slot(self.steady_ms, tips, self.dag.wanted())

    @property
    def slot(self) -> int:
        """The slot that runs."""
        return slot_at(self.chain.parameters, self._now_ms)

    def _ask_to_wake(self) -> None:
        """One wake-up at a time: at the next slot, or sooner when frames wait to be sent."""
        next_slot = slot_start_ms(self.chain.parameters, max(self._slot, 0) + 1)
        wait_ms = self.peers.next_ms(self.steady_ms) - self.steady_ms
        at_ms = min(next_slot, self._now_ms + wait_ms)
        if self._wake_ms == 0 or at_ms < self._wake_ms:
            self._wake_ms = at_ms
            self._out.append(Wake(at_ms))

    # --- signatures

    def _on_signed(self, event: Signed) -> None:
        signed = self.voting.on_signed(event)
        try:  # the clock or the chain may have moved on since the signature was asked for
            if isinstance(signed, Vote):
                self._count(signed, "")
            elif signed is not None:
                self._import(signed, peer="")
        except Invalid as refused:
            log.warning("what we have signed is of no use now: %s", refused)

    # --- frames of peers, work for threads

    def _on_received(self, event: Received) -> None:
        incoming = self.peers.on_received(self.steady_ms, event.peer, event.protocol, event.data)
        if incoming is None:
            return
        if isinstance(incoming.work, GossipBlocks) and self._known(incoming.peer, incoming.work):
            self._judged(incoming, [])
        else:
            self._verify(incoming)

    def _known(self, peer: str, blocks: GossipBlocks) -> bool:
        """Whether all these blocks are here: every peer pushes each block, one copy is judged."""
        try:
            ids = [claimed_id(raw) for raw in blocks.raws]
        except Invalid:
            return False
        if not all(self.view.has(Topic.BLOCK, id_) for id_ in ids):
            return False
        self.peers.on_good(self.steady_ms, peer, Topic.BLOCK, ids)
        return True

    def _verify(self, origin: Origin) -> None:
        self._tickets += 1
        self._checks[self._tickets] = origin
        self._out.append(Verify(self._tickets, origin.work))

    def _judged(self, origin: Origin, refused: Iterable[Invalid]) -> None:
        if isinstance(origin, Incoming):
            self.peers.on_judged(self.steady_ms, origin, refused)

    def _write(self, puts: Puts) -> None:
        self._fresh.update(puts)
        self._out.append(Write(puts))

    # --- payments

    def _on_txs(self, origin: Origin, txs: Sequence[Tx | Invalid]) -> None:
        peer, results = _peer_of(origin), [self._add_tx(tx) for tx in txs]
        fresh = [
            tx
            for tx, result in zip(txs, results, strict=True)
            if isinstance(tx, Tx) and not isinstance(result, Invalid)
        ]
        refused = [result for result in results if isinstance(result, Invalid)]
        if isinstance(origin, Incoming):
            well_formed = [tx.hash for tx in txs if isinstance(tx, Tx)]
            self.peers.on_good(self.steady_ms, peer, Topic.TX, well_formed)
        self._judged(origin, refused)
        if fresh:
            self.peers.announce(Topic.TX, [tx.hash for tx in fresh], except_peer=peer)
            self._out.append(Publish("newPendingTransactions", tuple(fresh)))
        if isinstance(origin, Submitted):
            self._out.append(Reply(origin.ticket, tuple(results)))

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

    def _on_vertices(self, origin: Origin, batch: Batch | Invalid) -> None:
        if isinstance(batch, Invalid):  # too many bytes or vertices for one batch
            self._judged(origin, [batch])
            if isinstance(origin, Submitted):
                self._out.append(Reply(origin.ticket, (batch,) * len(origin.work.raws)))
            return
        # The seam of admission: quota and age are judged here, before anything is kept. A wrong
        # recovery hint was corrected and costs no peer points: a relay that knows the key cannot
        # see it (docs/spec/dag.md "Vertex"; the batch equation will).
        inserted, peer = self.dag.insert(batch), _peer_of(origin)
        if inserted.puts:
            self._write(inserted.puts)
        if isinstance(origin, Incoming):
            arrived = [batch.id(i) for i, s in enumerate(inserted.statuses) if s != REFUSED]
            self.peers.on_good(self.steady_ms, peer, Topic.VERTEX, arrived)
            self.peers.offered(self.steady_ms, peer, Topic.VERTEX, inserted.missing)
            if origin.work.asked:
                self.peers.on_vertices_inserted(self.steady_ms, peer, len(inserted.accepted))
        reasons = dict(inserted.refused)
        self._judged(origin, reasons.values())
        if inserted.accepted:
            self.peers.announce(Topic.VERTEX, inserted.accepted, except_peer=peer)
            self._out.append(Publish("dagVertices", inserted.accepted))
        if isinstance(origin, Submitted):
            said = (
                reasons.get(i) or (batch.id(i), STATUS_NAMES[status])
                for i, status in enumerate(inserted.statuses)
            )
            self._out.append(Reply(origin.ticket, tuple(said)))

    # --- blocks

    def _on_blocks(self, incoming: Incoming, blocks: Sequence[Block | Invalid]) -> None:
        """Blocks of a peer, parents first; the blocks above a refused block are not looked at.

        Blocks that we asked for must be one branch, and surplus blocks do not count as delivered:
        otherwise a leader could have this node execute and keep a thousand blocks of its slot.
        """
        peer, asked = incoming.peer, incoming.work.asked
        fresh, surplus, last, head = 0, 0, NOWHERE, self.chain.head
        refused: list[Invalid] = []
        for block in blocks:
            try:
                if isinstance(block, Invalid):
                    raise block
                if asked and last is not NOWHERE and block.header.parent != last[1]:
                    raise Invalid("peer_message", "blocks that are no chain")
                imported = self._import(block, peer, asked)
                surplus += imported.surplus
                fresh += bool(imported.puts) and not imported.surplus
                last = (block.header.height, block.hash)
            except Invalid as refusal:
                refused.append(refusal)
                if refusal.code in ("block_parent", "block_epoch"):
                    self.peers.on_unknown_parent(peer)
                break
        self._judged(incoming, refused)
        if asked:
            early = any(refusal.code == "block_future" for refusal in refused)
            led = self.chain.head is not head and self.chain.head.slot + RECENT_SLOTS < self.slot
            delivery = Delivery(fresh, surplus, last, led, early)
            self.peers.on_blocks_imported(self.steady_ms, peer, delivery)

    def _import(self, block: Block, peer: str, asked: bool = False) -> Imported:
        """Import a block, ours or of a peer; without ``puts`` the chain knew it already."""
        self.voting.add_proposal(block, self._now_ms)
        imported = self.chain.on_block(block, self._now_ms, asked)
        self.peers.on_good(self.steady_ms, peer, Topic.BLOCK, [block.hash])
        if not imported.puts:
            return imported
        self.voting.add_certificates(block.certificates)
        self._follow(imported)
        # Older blocks are not pushed on: a node that catches up asks for them.
        if block.header.slot + RECENT_SLOTS >= self.slot:
            self.peers.push(Topic.BLOCK, block.hash, block.raw, except_peer=peer)
        return imported

    def _follow(self, imported: Imported) -> None:
        """Write the records of an import, and tell the pool and subscribers of it."""
        if imported.puts:
            self._write(imported.puts)
        if imported.applied:
            self.pool.on_head(
                lambda address: self.chain.account(address).nonce,
                lambda address: self.chain.account(address).balance,
                self.chain.parameters,
                self.chain.next_base_fee,
                [tx for block in imported.applied for tx in block.txs],
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
        """Halt when a final boundary has started rules that this program does not know."""
        try:
            check_known(self.chain.epoch_at(self.chain.final))
        except Invalid as unknown:
            self._out.append(Halt(str(unknown)))

    # --- votes

    def _on_votes(self, incoming: Incoming, votes: Sequence[Vote | Invalid]) -> None:
        refused = _refusals(votes, lambda vote: self._count(vote, incoming.peer))
        self.voting.results.update(refusal.code for refusal in refused)
        self._judged(incoming, refused)

    def _count(self, vote: Vote, peer: str) -> None:
        """A verified vote, ours or of a peer: relay it, follow a certificate that it completes."""
        certificate = self.voting.add(vote, self._now_ms)
        self.peers.push(Topic.VOTE, vote.id, vote.raw, except_peer=peer)
        if certificate is not None:
            self._certify(certificate, peer)

    def _on_certificates(
        self, incoming: Incoming, certificates: Sequence[Certificate | Invalid]
    ) -> None:
        refused = _refusals(
            certificates, lambda certificate: self._certify(certificate, incoming.peer)
        )
        self._judged(incoming, refused)

    def _certify(self, certificate: Certificate, peer: str) -> None:
        """A verified certificate: follow it, and tell peers that are not known to have it."""
        imported = self.chain.on_certificate(certificate)
        self.voting.add_certificates([certificate])
        self.peers.push(Topic.CERTIFICATE, certificate.id, certificate.raw, except_peer=peer)
        self._follow(imported)
        self.peers.mentioned(self.steady_ms, peer, [certificate.ballot.block_id])
