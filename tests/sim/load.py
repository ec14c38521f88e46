"""Clients of the simulated network: they pay, send readings, and send wrong items."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from dipnet.dag.vertex import VertexDraft, build_envelope, sign_vertex, topic_of
from dipnet.ledger.genesis import Genesis
from dipnet.ledger.tx import sign_tx
from dipnet.node.node import Node
from dipnet.node.work import ClientTxs, ClientVertices, ClientWork
from dipnet.primitives import crypto
from dipnet.primitives.errors import Invalid
from tests.sim.wires import Span
from tests.sim.world import Host, World

WRONG_MS = (300, 1_500)
RESEND_MS = 3_000
MAX_FEE = 10**11


def around(average_ms: int) -> Span:
    """Pauses of so long on average."""
    return average_ms // 4, average_ms * 7 // 4


def secret(name: str) -> bytes:
    """A key that depends on ``name`` alone."""
    return crypto.keccak256(name.encode())


@dataclass
class Ledger:
    """The answers that clients got, and the violations that became known."""

    vertices: dict[bytes, dict[int, None]] = field(default_factory=dict)
    """Acknowledged: id -> hosts that said so."""
    payments: dict[bytes, tuple[int, int, bytes, int]] = field(default_factory=dict)
    """Acknowledged: hash -> host, its life, sender, nonce."""
    never: dict[bytes, None] = field(default_factory=dict)
    """Ids that must be in no DAG."""
    violations: list[str] = field(default_factory=list)

    def wiped(self, index: int) -> None:
        """The host's disk is gone: items that it alone had acknowledged may be lost."""
        for hosts in self.vertices.values():
            hosts.pop(index, None)


class Mixed(Protocol):
    """The part of a mix that clients need."""

    @property
    def doubled(self) -> int: ...
    @property
    def pay_ms(self) -> int: ...
    @property
    def read_ms(self) -> int: ...


class Field(Protocol):
    """The part of a run that clients need."""

    world: World
    rng: random.Random
    genesis: Genesis
    ledger: Ledger

    @property
    def mix(self) -> Mixed: ...

    def some_host(self) -> Host | None:
        """A node that serves clients, if any is up and the load is on."""


class Device:
    """A device that keeps its signed vertex until a node acknowledges it."""

    def __init__(self, run: Field, genesis_hash: bytes, number: int) -> None:
        self.run = run
        self.secret = secret(f"device {number}")
        self.address = crypto.address(crypto.public_key(self.secret))
        self.topic = topic_of(f"sensor {number}")
        self.seq = 0
        self.prev = bytes(32)
        self.ref = (0, genesis_hash)
        self.wire = b""
        self.resend_ms = 0
        self.pause_ms = around(run.mix.read_ms)

    def read(self) -> None:
        """The next reading, or the last again when no node has acknowledged it for long."""
        run = self.run
        run.world.after(self.pause_ms, self.read)
        host = run.some_host()
        if host is None or host.node is None or (self.wire and run.world.now_ms < self.resend_ms):
            return
        self.resend_ms = run.world.now_ms + RESEND_MS
        if not self.wire:
            self.wire = self._signed(host.node)
        self._submit(host)
        other = run.some_host()
        if other is not None and run.rng.randrange(100) < run.mix.doubled:
            self._submit(other)

    def _submit(self, host: Host) -> None:
        wire, run = self.wire, self.run
        if not wire:
            return

        def replied(results: tuple[Any, ...]) -> None:
            (result,) = results
            if isinstance(result, Invalid):
                run.ledger.violations.append(f"honest vertex refused: {result}")
                return
            vertex_id, said = result
            if said == "pending":  # its parents may be lost with the node that gave them
                return
            run.ledger.vertices.setdefault(vertex_id, {})[host.index] = None
            if self.wire == wire:
                self.wire, self.prev = b"", vertex_id

        run.world.submit(host.index, ClientVertices((wire,)), replied)

    def _signed(self, node: Node) -> bytes:
        self.seq += 1
        final = node.chain.final
        if final.height > self.ref[0]:  # never below the reference of its own last vertex
            self.ref = (final.height, final.hash)
        template = node.dag.template(self.address, 4, self.ref[0], self.seq)
        draft = VertexDraft(
            chain_id=self.run.genesis.chain_id,
            ref_height=self.ref[0],
            ref_hash=self.ref[1][:8],
            seq=self.seq,
            prev=self.prev,
            timestamp_ms=self.run.world.now_ms,
            topic=self.topic,
            payload=self.seq.to_bytes(4, "big"),
            parents=template.parents,
        )
        return sign_vertex(self.secret, draft)


class Payer:
    """An account that pays strangers through whatever node answers."""

    def __init__(self, run: Field, key: bytes) -> None:
        self.run = run
        self.secret = key
        self.sender = crypto.address(crypto.public_key(key))
        self.pause_ms = around(run.mix.pay_ms)

    def pay(self) -> None:
        """A payment, and the next later."""
        run = self.run
        run.world.after(self.pause_ms, self.pay)
        host = run.some_host()
        if host is None or host.node is None:
            return
        nonce = host.node.pool.pending_nonce(
            self.sender, host.node.chain.account(self.sender).nonce
        )
        raw = payment(run, self.secret, nonce)
        self._submit(host, raw, nonce)
        other = run.some_host()
        if other is not None and run.rng.randrange(100) < run.mix.doubled:
            self._submit(other, raw, nonce)

    def _submit(self, host: Host, raw: bytes, nonce: int) -> None:
        life, sender, payments = host.life, self.sender, self.run.ledger.payments

        def replied(results: tuple[object, ...]) -> None:
            (result,) = results
            if not isinstance(result, Invalid):
                payments[result[0]] = (host.index, life, sender, nonce)  # type: ignore[index]

        self.run.world.submit(host.index, ClientTxs((raw,)), replied)


def payment(run: Field, key: bytes, nonce: int, **fields: object) -> bytes:
    """A signed transfer of some amount to some account; ``fields`` override."""
    usual: dict[str, object] = {
        "type": 2,
        "chain_id": run.genesis.chain_id,
        "nonce": nonce,
        "max_priority_fee": run.rng.randrange(1, 10**9),
        "max_fee": MAX_FEE,
        "gas": 21_000,
        "to": crypto.keccak256(bytes([run.rng.randrange(256)]))[12:],
        "value": run.rng.randrange(10**15),
    }
    return sign_tx(key, **(usual | fields))  # type: ignore[arg-type]


Wrong = tuple[type[ClientWork], bytes, tuple[str, ...]]
"""Work, its bytes, and the codes of refusal that are right; without codes it must stay pending."""


class Mischief:
    """A client that sends wrong items, and checks the refusals."""

    def __init__(self, run: Field, payer: bytes) -> None:
        self.run = run
        self.payer = payer
        self.key = secret("mischief")
        self.kinds: tuple[Callable[[Node], Wrong], ...] = (
            self.garbage, self.other_chain, self.creation, self.blob, self.old_nonce, self.poor,
            self.cheap, self.little_gas, self.cut_vertex, self.forged_vertex, self.unsorted_vertex,
            self.foreign_vertex, self.swapped_payload, self.lonely_vertex, self.young_vertex,
        )  # fmt: skip

    def send(self) -> None:
        """A wrong item alone or among good items, and the next later."""
        run = self.run
        run.world.after(WRONG_MS, self.send)
        host = run.some_host()
        if host is None or host.node is None:
            return
        kind, raw, codes = run.rng.choice(self.kinds)(host.node)

        def replied(results: tuple[object, ...]) -> None:
            (result,) = results
            if isinstance(result, Invalid):
                answer, expected = result.code, codes
            else:
                answer, expected = result[1], codes or ("pending",)  # type: ignore[index]
            if answer not in expected:
                run.ledger.violations.append(f"{raw.hex()}: {answer} instead of {expected}")

        if kind is ClientVertices and len(raw) > 208:
            run.ledger.never[crypto.sha256(raw[:-69])] = None
        run.world.submit(host.index, kind((raw,)), replied)

    # --- transactions

    def garbage(self, _node: Node) -> Wrong:
        raw = self.run.rng.randbytes(self.run.rng.randrange(0, 200))
        return ClientTxs, raw, ("tx_form", "tx_type", "rlp", "chain_id", "sender")

    def other_chain(self, _node: Node) -> Wrong:
        return ClientTxs, payment(self.run, self.payer, 0, chain_id=1), ("chain_id",)

    def creation(self, node: Node) -> Wrong:
        return (
            ClientTxs,
            payment(self.run, self.payer, self._nonce(node), to=b"", gas=100_000),
            ("no_vm", "nonce_low"),
        )

    def blob(self, _node: Node) -> Wrong:
        return ClientTxs, b"\x03" + payment(self.run, self.payer, 0)[1:], ("tx_type",)

    def old_nonce(self, node: Node) -> Wrong:
        if not self._nonce(node):
            return self.garbage(node)
        return ClientTxs, payment(self.run, self.payer, 0), ("nonce_low",)

    def poor(self, _node: Node) -> Wrong:
        return ClientTxs, payment(self.run, self.key, 0), ("funds",)

    def cheap(self, node: Node) -> Wrong:
        raw = payment(self.run, self.payer, self._nonce(node), max_fee=0, max_priority_fee=0)
        return ClientTxs, raw, ("underpriced", "nonce_low")

    def little_gas(self, node: Node) -> Wrong:
        raw = payment(self.run, self.payer, self._nonce(node), gas=20_999)
        return ClientTxs, raw, ("intrinsic_gas", "nonce_low")

    def _nonce(self, node: Node) -> int:
        return node.chain.account(crypto.address(crypto.public_key(self.payer))).nonce

    # --- vertices

    def _draft(self, node: Node) -> VertexDraft:
        final = node.chain.final
        return VertexDraft(
            chain_id=self.run.genesis.chain_id,
            ref_height=final.height,
            ref_hash=final.hash[:8],
            seq=1,
            prev=bytes(32),
            timestamp_ms=self.run.world.now_ms,
            topic=topic_of("mischief"),
            payload=self.run.rng.randbytes(4),
            parents=node.dag.template(
                bytes(20), 2, final.height, self.run.rng.getrandbits(64)
            ).parents,
        )

    def cut_vertex(self, node: Node) -> Wrong:
        wire = sign_vertex(self.key, self._draft(node))
        return ClientVertices, wire[: self.run.rng.randrange(200)], ("vertex_form",)

    def forged_vertex(self, node: Node) -> Wrong:
        wire = sign_vertex(self.key, self._draft(node))
        at = len(wire) - 69 + self.run.rng.randrange(64)
        bit = 1 << self.run.rng.randrange(8)
        return (
            ClientVertices,
            wire[:at] + bytes([wire[at] ^ bit]) + wire[at + 1 :],
            ("vertex_signature",),
        )

    def unsorted_vertex(self, node: Node) -> Wrong:
        draft = replace(self._draft(node), parents=(bytes(32), bytes(32)))
        envelope = build_envelope(draft, crypto.address(crypto.public_key(self.key)))
        wire = envelope + crypto.sign(crypto.sha256(envelope), self.key) + draft.payload
        return ClientVertices, wire, ("vertex_parents",)

    def foreign_vertex(self, node: Node) -> Wrong:
        draft = replace(self._draft(node), chain_id=1)
        return ClientVertices, sign_vertex(self.key, draft), ("vertex_chain",)

    def swapped_payload(self, node: Node) -> Wrong:
        wire = sign_vertex(self.key, self._draft(node))
        return ClientVertices, wire[:-1] + bytes([wire[-1] ^ 1]), ("vertex_payload",)

    def lonely_vertex(self, node: Node) -> Wrong:
        """Its parent never comes."""
        draft = replace(self._draft(node), parents=(self.run.rng.randbytes(32),))
        return ClientVertices, sign_vertex(self.key, draft), ()

    def young_vertex(self, node: Node) -> Wrong:
        """Its parents are newer than the block that it names."""
        draft = self._draft(node)
        parents = [node.dag.get(parent) for parent in draft.parents]
        if not any(parent is not None and parent.ref_height > 0 for parent in parents):
            return self.garbage(node)
        draft = replace(draft, ref_height=0)
        return ClientVertices, sign_vertex(self.key, draft), ("vertex_age",)
