"""The node: events in, effects out; the only place where the chain, the DAG and the peers meet.

``Node.step(now_ms, event) -> list[Effect]`` is all that a node does (DESIGN 2, rule 3). It reads no
clock, no disk but its ``Reader``, and no randomness but its seed, so that the simulator runs it as
it ships. What is expensive and pure (decoding, signatures) is asked for with ``Verify`` and done by
``Node.check`` on any thread.

The three ways through it: a payment, ``Submitted`` or gossip -> ``_on_txs`` -> pool -> a block;
a vertex, ``Submitted`` or gossip -> ``_on_vertices`` -> the graph -> ``Write``; a block, ``Woke`` at
our slot -> ``_propose`` -> ``Signed`` -> ``_import``, which is also where a peer's block arrives.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dipnet.codec import Puts, Reader
from dipnet.consensus.block import Block, Header, decode_block, seal
from dipnet.consensus.chain import KEY_HEAD, Chain, Imported
from dipnet.consensus.pool import Pool
from dipnet.consensus.produce import Proposal, build, last_proposed, proposed_puts
from dipnet.consensus.schedule import leader, slot_at, slot_start_ms
from dipnet.dag.graph import Dag
from dipnet.dag.vertex import Checker
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
from dipnet.links import Incoming, Links
from dipnet.p2p.messages import Lane
from dipnet.tx import Tx, decode_batch

log = logging.getLogger("dipnet.node")

TIPS_MAX: Final = 256  # tips announced each slot
PROPOSE_SHARE: Final = 2  # a slot is proposed in its first 1/PROPOSE_SHARE or not at all


@dataclass(frozen=True, slots=True)
class Check:
    """Why a ``Verify`` was asked for: for a client's ticket, or for what a peer sent."""

    kind: str
    ticket: int
    incoming: Incoming | None


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
        peers_max: int,
        peers_out: int,
        seed: int,
    ) -> None:
        self.genesis = genesis
        self.chain = Chain(genesis, reader)
        self.pool = Pool(genesis)
        self.dag = Dag.load(reader, genesis)
        self._checker = Checker(genesis.chain_id)
        self.links = Links(
            genesis,
            self.chain.genesis_hash,
            self,
            reader=reader,
            peer_id=peer_id,
            addresses=addresses,
            bootstrap=bootstrap,
            peers_max=peers_max,
            peers_out=peers_out,
            seed=seed,
        )
        self._proposer = proposer
        self._proposed_slot = last_proposed(reader)
        self._proposals: dict[int, Proposal] = {}
        self._seed = seed
        self._checks: dict[int, Check] = {}
        self._tickets = 0
        self._slot = -1
        self._wake_ms = 0
        self._now_ms = 0
        self._out: list[Effect] = []
        self._on: dict[type, Callable[[Any], None]] = {
            Connected: self._on_connected,
            Disconnected: lambda e: self.links.on_disconnected(self._now_ms, e.peer),
            DialFailed: lambda e: self.links.on_dial_failed(self._now_ms, e.address),
            Received: self._on_received,
            Submitted: self._on_submitted,
            Verified: self._on_verified,
            Signed: self._on_signed,
            Woke: self._on_woke,
        }
        self._on_result: dict[str, Callable[[Check, Any], None]] = {
            "txs": self._on_txs,
            "vertices": self._on_vertices,
            "blocks": self._on_blocks,
        }

    # --- the two doors

    def start(self, now_ms: int) -> list[Effect]:
        """What a node does first; call once."""
        return self.step(now_ms, Woke())

    def step(self, now_ms: int, event: Event) -> list[Effect]:
        """What follows from ``event`` at Unix time ``now_ms``, in the order to be done."""
        self._now_ms = now_ms
        self._on[type(event)](event)
        self._out += self.links.drain(now_ms)
        self._ask_to_wake()
        out, self._out = self._out, []
        return out

    def check(self, kind: str, items: Sequence[bytes]) -> object:
        """The pure and costly part of judging ``items``; any thread. Refusals are values."""
        match kind:
            case "txs":
                return decode_batch(items, self.genesis.chain_id)
            case "vertices":
                return self._checker.check(items)
            case "blocks":
                return [self._check_block(raw) for raw in items]
            case _:
                raise AssertionError(kind)

    def _check_block(self, raw: bytes) -> Block | Invalid:
        try:
            return decode_block(raw, self.genesis)
        except Invalid as refused:
            return refused

    # --- time

    def _on_woke(self, _event: Woke) -> None:
        self._wake_ms = 0
        slot = slot_at(self.genesis, self._now_ms)
        if slot > self._slot:
            self._slot = slot
            self._on_slot(slot)
        self.links.on_tick(self._now_ms)

    def _on_slot(self, slot: int) -> None:
        self._propose(slot)
        self.links.on_slot(self._now_ms, self.dag.tips(TIPS_MAX, self._draw()))

    def _ask_to_wake(self) -> None:
        """One wake-up at a time: the next slot, or sooner when something waits to be sent."""
        next_slot = slot_start_ms(self.genesis, max(self._slot, 0) + 1)
        at_ms = min(next_slot, self.links.next_ms(self._now_ms))
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
        if late * PROPOSE_SHARE > self.genesis.slot_ms or self.links.behind(self._now_ms):
            return
        if slot <= max(self._proposed_slot, chain.head.header.slot):
            return
        proposal = build(chain, self.pool, slot, self._proposer)
        self._proposed_slot = slot
        self._tickets += 1
        self._proposals = {self._tickets: proposal}
        # Durable before it is signed: a restart never signs one slot twice (DESIGN 5).
        self._out += [Write(proposed_puts(slot)), Sign(self._tickets, proposal.digest)]

    def _on_signed(self, event: Signed) -> None:
        proposal = self._proposals.pop(event.ticket, None)
        if proposal is not None:
            block = seal(proposal.header, proposal.txs, event.signature)
            self._import(block, peer="")

    # --- what comes in

    def _on_connected(self, event: Connected) -> None:
        self.links.on_connected(self._now_ms, event.peer, event.address, event.outbound)

    def _on_received(self, event: Received) -> None:
        incoming = self.links.on_received(self._now_ms, event.peer, event.protocol, event.data)
        if incoming is not None:
            self._verify(Check(incoming.kind, 0, incoming), incoming.items)

    def _on_submitted(self, event: Submitted) -> None:
        self._verify(Check(event.kind, event.ticket, None), event.items)

    def _verify(self, check: Check, items: tuple[bytes, ...]) -> None:
        self._tickets += 1
        self._checks[self._tickets] = check
        self._out.append(Verify(self._tickets, check.kind, items))

    def _on_verified(self, event: Verified) -> None:
        check = self._checks.pop(event.ticket)
        self._on_result[check.kind](check, event.result)

    # --- payments

    def _on_txs(self, check: Check, txs: list[Tx | Invalid]) -> None:
        peer = check.incoming.peer if check.incoming else ""
        results: list[object] = [self._add_tx(tx) for tx in txs]
        fresh = [result for result in results if isinstance(result, bytes)]
        if check.incoming:
            self.links.on_judged(self._now_ms, check.incoming, Lane.TX, fresh, results)
        self._announce_txs(fresh, peer)
        if check.ticket:
            self._out.append(Reply(check.ticket, tuple(results)))

    def _add_tx(self, tx: Tx | Invalid) -> bytes | Invalid:
        """The hash of a transaction that the pool took, or why it did not."""
        if isinstance(tx, Invalid):
            return tx
        account = self.chain.account(tx.sender)
        try:
            self.pool.add(tx, account.nonce, account.balance, self.chain.next_base_fee)
        except Invalid as refused:
            return refused
        return tx.hash

    def _announce_txs(self, hashes: list[bytes], peer: str) -> None:
        if hashes:
            self.links.gossip.announce(Lane.TX, hashes, except_peer=peer)
            self._out.append(Publish("newPendingTransactions", tuple(hashes)))
