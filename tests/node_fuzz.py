"""One shipping node among fake peers that send whatever they like, on a clock that jumps.

What the peer layer promises is kept (a peer is ``Connected``, then its frames come, then it is
``Disconnected``); nothing else is. The fuzzer knows all delegates' keys, so that its blocks get as
far as a hostile delegate's would.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dipnet import crypto
from dipnet.codec import pack
from dipnet.consensus.block import Block, decode_block
from dipnet.dag.vertex import Draft, sign_vertex
from dipnet.effects import (
    PROTOCOLS,
    Connected,
    Dial,
    DialFailed,
    Disconnected,
    Drop,
    Effect,
    Event,
    Received,
    Reply,
    Send,
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
from dipnet.node import Node, first_puts
from dipnet.p2p import messages as m
from dipnet.p2p.hello import CAPABILITIES
from dipnet.tx import sign_tx
from tests.chain_builder import CHAIN_ID, TIME_MS, USERS, Net, address_of, secret
from tests.memory import Memory
from tests.peer_ids import address, peer_id

SLOT_MS = 1_000
PEERS = 6
US = "delegate 0"
KEPT = 256
U64 = 2**64 - 1
NUMBERS = (0, 1, 2, 3, 5, 127, 128, 2**31, 2**32, 2**53, 2**63, U64)


@dataclass
class Ask:
    """A request of the node that a peer may answer."""

    peer: str
    number: int
    kind: type


class Fuzz:
    """One run: ``go`` takes so many steps; ``leave`` ends what is under way."""

    def __init__(self, seed: int, delegates: int = 3) -> None:
        self.rng = random.Random(seed)
        # Where everybody is banned at once, nothing is tried: some runs are almost honest.
        self.malice = (1.0, 0.3, 0.05)[seed % 3]
        self.net = Net.of(
            delegates, slot_ms=SLOT_MS, undo_blocks_max=6, overlays_max=3, pool_txs_max=24,
            pool_account_txs_max=12, gas_limit=40 * 21_000,
        )  # fmt: skip
        self.disk = Memory()
        self.disk.apply(first_puts(self.net.genesis, self.disk))
        self.now_ms = TIME_MS + 10 * SLOT_MS
        self.node = self.born()
        # What a hostile delegate sees: a chain of its own, so that it can build on anything.
        self.theirs, self.their_disk = self.net.chain()
        self.strangers = 100
        self.up: dict[str, int] = {}
        self.dropped: set[str] = set()
        self.pending: list[Event] = []
        self.asks: list[Ask] = []
        self.blocks: list[Block] = []
        self.vertices: list[bytes] = []
        self.ids: list[bytes] = [bytes(32)]
        self.frames: list[tuple[str, bytes]] = []
        self.replies = self.tickets = self.accepted = 0
        self.signed: dict[int, bytes] = {}  # slot -> digest
        self.perform(self.node.start(self.now_ms))

    def born(self) -> Node:
        return Node(
            self.net.genesis, self.disk, peer_id=peer_id(999), addresses=[address(999)],
            proposer=address_of(US), bootstrap=[address(n) for n in (1, 77)], local=True,
            seed=self.rng.getrandbits(64),
        )  # fmt: skip

    # --- the world of the node

    def step(self, event: Event) -> None:
        self.perform(self.node.step(self.now_ms, event))

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Write(puts):
                    self.disk.apply(puts)
                case Verify(ticket, kind, items):
                    self.pending.append(Verified(ticket, self.node.check(kind, items)))
                case Sign(ticket, digest):
                    # Durable before it is signed, and never two digests of one slot.
                    slot = self.node._proposed_slot
                    assert self.signed.setdefault(slot, digest) == digest
                    signature = crypto.sign(digest, secret(US))
                    self.pending.append(Signed(ticket, signature))
                case Drop(peer):
                    if peer in self.up:
                        self.dropped.add(peer)
                case Dial(at):
                    self.dial(at)
                case Send(peer, protocol, data):
                    assert peer in self.up
                    self.sent(peer, protocol, data)
                case Reply(_, results):
                    self.replies += 1
                    self.accepted += sum(not isinstance(one, Invalid) for one in results)
                case Wake(at_ms):
                    assert at_ms <= max(self.now_ms, TIME_MS) + 2 * SLOT_MS
                case _:
                    pass

    def dial(self, at: str) -> None:
        peer = at.rpartition("/")[2]
        if peer in self.up or self.rng.random() < 0.5:
            self.pending.append(DialFailed(at, "nobody"))
        else:
            self.up[peer] = 1
            self.pending.append(Connected(peer, at, True))

    def sent(self, peer: str, protocol: str, data: bytes) -> None:
        assert 0 < len(data) <= m.FRAME_BYTES_MAX[protocol]
        message = m.decode(protocol, data)
        match message:
            case m.GetBlocks() | m.LocateVertices() | m.GetVertices():
                self.asks = [*self.asks[-20:], Ask(peer, message.request, type(message))]
            case m.Announce() | m.Fetch() | m.Tips():
                self.ids = [*self.ids[-KEPT:], *message.ids[:8]]
            case m.Items(m.Lane.BLOCK, (raw,)) if self.rng.random() < 0.7:
                self.follow(decode_block(raw, self.net.genesis))

    def bad(self, chance: float) -> bool:
        return self.rng.random() < chance * self.malice

    # --- what happens

    def go(self, steps: int) -> None:
        acts: list[tuple[int, Callable[[], None]]] = [
            (12, self.settle_one),
            (8, self.connect),
            (1, self.disconnect),
            (4, self.pass_time),
            (1, self.jump),
            (4, self.submit),
            (30, self.message),
            (6, self.mutated),
            (2, self.garbage),
        ]
        acts = [
            (int(w * 20 * self.malice) if a in (self.mutated, self.garbage) else w * 20, a)
            for w, a in acts
        ]
        weights = [weight for weight, _ in acts]
        for act in self.rng.choices([act for _, act in acts], weights, k=steps):
            act()

    def settle_one(self) -> None:
        """Results come in any order, also after the peer has left."""
        if self.pending:
            event = self.pending.pop(self.rng.randrange(len(self.pending)))
            if isinstance(event, Connected | Disconnected):
                self.up[event.peer] = 2
            self.step(event)

    def connect(self) -> None:
        self.strangers += 1
        number = self.rng.choice((self.strangers, self.strangers, self.rng.randrange(PEERS)))
        peer = peer_id(number)
        if peer in self.up or len(self.up) >= PEERS:
            return
        self.up[peer] = 2
        host = self.rng.choice(("127.0.0.1", "127.0.0.1", "8.8.8.8", "2a00::1"))
        self.step(Connected(peer, address(number, host), False))
        if self.rng.random() < 0.9 and peer not in self.dropped:
            self.receive("hello", m.encode(self.hello()), peer)

    def disconnect(self) -> None:
        up = [p for p in self.up if self.up[p] == 2]
        closing = [p for p in up if p in self.dropped]
        if closing or (up and self.rng.random() < 0.2):
            peer = self.rng.choice(closing or up)
            del self.up[peer]
            self.dropped.discard(peer)
            self.step(Disconnected(peer, "gone"))

    def pass_time(self) -> None:
        self.now_ms += self.rng.choice((1, 20, 100, 400, 1_000, 3_000))
        self.step(Woke())

    def jump(self) -> None:
        """The clock is set, back or forth, by up to hours."""
        if self.rng.random() < 0.05:
            self.now_ms += self.rng.choice((-3_600_000, -60_000, -1_000, 60_000, 3_600_000))
            self.now_ms = max(self.now_ms, TIME_MS - 5_000)
            self.step(Woke())

    def submit(self) -> None:
        kind = self.rng.choice(("txs", "vertices"))
        make = self.tx if kind == "txs" else self.vertex
        items = [make() for _ in range(self.rng.randrange(4))]
        items += [self.rng.randbytes(self.rng.randrange(1, 400))] * (self.rng.random() < 0.2)
        self.tickets += 1
        self.step(Submitted(self.tickets, kind, tuple(items)))

    def receive(self, protocol: str, data: bytes, peer: str = "") -> None:
        known = [p for p in self.up if self.up[p] == 2]
        if known and data:
            self.frames = [*self.frames[-KEPT:], (protocol, data)]
            self.step(Received(peer or self.rng.choice(known), protocol, data))

    def garbage(self) -> None:
        self.receive(self.rng.choice(PROTOCOLS), self.rng.randbytes(self.rng.randrange(1, 300)))

    def mutated(self) -> None:
        if not self.frames:
            return
        protocol, data = self.rng.choice(self.frames)
        raw = bytearray(data)
        for _ in range(self.rng.randrange(1, 4)):
            match self.rng.randrange(3):
                case 0 if raw:
                    raw[self.rng.randrange(len(raw))] ^= 1 << self.rng.randrange(8)
                case 1 if raw:
                    del raw[self.rng.randrange(len(raw)) :]
                case _:
                    at = self.rng.randrange(len(raw) + 1)
                    raw[at:at] = self.rng.randbytes(self.rng.randrange(8))
        self.receive(protocol, bytes(raw))

    def message(self) -> None:
        made = self.rng.choice(self.makers())()
        if made is not None:
            self.receive(m.protocol_of(made), m.encode(made))

    # --- messages of valid form

    def makers(self) -> list[Callable[[], Any]]:
        return [
            self.hello, self.status, self.status, self.ids_of, self.ids_of, self.fetch, self.txs,
            self.txs, self.block_items, self.block_items, self.wires, self.wires, self.answer,
            self.answer, self.request, self.exchange,
        ]  # fmt: skip

    def number(self) -> int:
        return self.rng.choice((*NUMBERS, self.rng.randrange(50), self.node.chain.head.height))

    def hello(self) -> m.Hello:
        rng, node = self.rng, self.node
        good = m.Hello(
            version="fuzz/1", chain_id=CHAIN_ID, genesis_hash=node.chain.genesis_hash,
            capabilities=CAPABILITIES, head_height=self.number(), head_hash=self.id(),
            final_height=0, dag_count=self.number(), dag_sum=self.number(),
            listen=(address(rng.randrange(9)), "x"), nonce=rng.randbytes(8),
        )  # fmt: skip
        bad: list[dict[str, Any]] = [
            {"chain_id": 1}, {"genesis_hash": bytes(32)}, {"capabilities": ()},
        ]  # fmt: skip
        return replace(good, **rng.choice(bad)) if self.bad(0.1) else good

    def status(self) -> m.Status:
        return m.Status(self.number(), self.id(), self.number(), self.number(), self.number())

    def id(self) -> bytes:
        known = [block.hash for block in self.blocks[-8:]]
        return self.rng.choice((self.rng.choice(self.ids), self.rng.randbytes(32), *known))

    def many_ids(self) -> tuple[bytes, ...]:
        count = self.rng.choice((0, 1, 3, 40, 900))
        return tuple(self.id() if n < 40 else self.rng.randbytes(32) for n in range(count))

    def lane(self) -> m.Lane:
        return self.rng.choice((m.Lane.BLOCK, m.Lane.TX, m.Lane.VERTEX))

    def ids_of(self) -> Any:
        ids = self.many_ids()
        return m.Tips(ids) if self.rng.random() < 0.3 else m.Announce(self.lane(), ids)

    def fetch(self) -> m.Fetch:
        return m.Fetch(self.lane(), self.many_ids())

    def txs(self) -> m.Items:
        raws = [self.tx() for _ in range(self.rng.randrange(6))]
        return m.Items(m.Lane.TX, tuple(raws))

    def tx(self) -> bytes:
        rng = self.rng
        user = rng.choice((*USERS[:5], "poor"))
        nonce = self.node.chain.account(address_of(user)).nonce
        if not self.bad(0.5):
            tip = rng.randrange(1, 10**9)
            raw = sign_tx(
                secret(user), type=2, chain_id=CHAIN_ID, nonce=nonce + rng.randrange(6),
                max_fee=10**9 * rng.choice((2, 2, 3, 5, 10)), max_priority_fee=tip, gas=21_000,
                to=address_of(rng.choice(USERS)), value=rng.choice((1, 10**18, 10**20)), data=b"",
            )  # fmt: skip
            self.ids.append(crypto.keccak256(raw))
            return raw
        top = rng.choice((0, 1, 10**6, 10**9, 10**10, 2**255, 2**256 - 1))
        raw = sign_tx(
            secret(user), type=rng.choice((0, 1, 2)), chain_id=rng.choice((CHAIN_ID,) * 9 + (7,)),
            nonce=rng.choice((nonce, nonce + rng.randrange(12), 2**64 - 2)), max_fee=top,
            gas=rng.choice((21_000, 21_000, 53_000, 2**24, 0, 2**63)),
            max_priority_fee=rng.choice((0, top // 10, top, min(top * 2, 2**256 - 1))),
            to=rng.choice((b"", address_of(user), address_of(US), rng.randbytes(20))),
            value=rng.choice((0, 1, 10**18, 10**30, 2**256 - 1)),
            data=rng.randbytes(rng.choice((0, 0, 9, 900))),
        )  # fmt: skip
        self.ids.append(crypto.keccak256(raw))
        return raw

    def vertex(self) -> bytes:
        rng = self.rng
        final = self.node.chain.final
        dag, ahead = self.node.dag, self.rng.random() < 0.3
        known = rng.sample(self.vertices, min(3, len(self.vertices))) if ahead else []
        parents = {crypto.sha256(self.envelope(wire)) for wire in known}
        parents |= {dag.id_at(rng.randrange(len(dag)))} if len(dag) and not ahead else set()
        parents |= {rng.randbytes(32)} if self.bad(0.1) else set()
        draft = Draft(
            chain_id=1 if self.bad(0.05) else CHAIN_ID,
            ref_height=rng.choice((2**32 - 1, 0)) if self.bad(0.2) else final.height,
            ref_hash=final.hash[:8], seq=rng.choice((1, 2, rng.randrange(99), U64)),
            prev=self.id(), timestamp_ms=self.number(), topic=rng.randbytes(16),
            payload=rng.randbytes(rng.choice((0, 5, 200))), parents=tuple(sorted(parents)),
        )  # fmt: skip
        wire = bytearray(sign_vertex(secret(f"device {rng.randrange(5)}"), draft))
        spoilt = rng.random() if self.bad(0.3) else 1
        at = len(wire) - len(draft.payload) - 1
        if spoilt < 0.1:
            wire[at] ^= 1  # the recovery id: a hint
        elif spoilt < 0.2:
            wire[at - rng.randrange(64)] ^= 1 << rng.randrange(8)
        elif spoilt < 0.3:
            wire[rng.randrange(len(wire))] ^= 1 << rng.randrange(8)
        raw = bytes(wire)
        if spoilt > 0.3 or spoilt < 0.1:
            self.vertices = [*self.vertices[-KEPT:], raw]
            self.ids.append(crypto.sha256(self.envelope(raw)))
        return raw

    def envelope(self, wire: bytes) -> bytes:
        parents = wire[142]
        return wire[: 143 + 32 * parents]

    def wires(self) -> m.Vertices:
        made = [self.vertex() for _ in range(self.rng.randrange(5))]
        made += self.rng.sample(self.vertices, min(2, len(self.vertices)))
        self.rng.shuffle(made)
        return m.Vertices(self.number(), b"".join(made) + self.rng.randbytes(3) * self.bad(0.05))

    def block(self) -> bytes:
        """A block on any block known to us, honest or forged by its leader or by a stranger."""
        rng, chain = self.rng, self.theirs
        parent = rng.choice(self.blocks[-6:]).header if self.blocks else chain.head
        if rng.random() < 0.6:
            parent = chain.head
        slot = max(parent.slot, (self.now_ms - TIME_MS) // SLOT_MS - rng.randrange(3)) + rng.choice(
            (1, 1, 2, 5)
        )
        if chain.state(parent.hash) is None:
            parent, slot = chain.head, chain.head.slot + 1
        block = self.net.child(chain, parent.hash, slot)
        change: dict[str, Any] = rng.choice((
            {}, {}, {}, {"state_root": rng.randbytes(32)}, {"parent": rng.randbytes(32)},
            {"height": self.number()}, {"gas_used": self.number()}, {"base_fee": self.number()},
            {"proposer": address_of("delegate 1")}, {"final": (rng.randbytes(32), self.number())},
            {"tx_root": rng.randbytes(32)}, {"justify": (bytes(32), 1, 1)},
        ))  # fmt: skip
        if change and self.bad(0.5):
            return self.net.forged(block, **change).raw
        self.follow(block)
        return block.raw

    def follow(self, block: Block) -> None:
        """The hostile delegates build on it from now on."""
        try:
            self.their_disk.apply(self.theirs.on_block(block, 2**52).puts)
            self.blocks = [*self.blocks[-KEPT:], block]
        except Invalid:  # below the window, too many of a slot, or its parent went another way
            pass

    def block_items(self) -> m.Items:
        raws = [self.block() for _ in range(self.rng.randrange(3))]
        raws += [one.raw for one in self.rng.sample(self.blocks, min(len(self.blocks), 2))]
        return m.Items(m.Lane.BLOCK, tuple(raws))

    def answer(self) -> Any:
        rng = self.rng
        ask = rng.choice(self.asks) if self.asks else Ask("", 1, m.GetBlocks)
        number = self.number() if self.bad(0.1) else ask.number
        kind = ask.kind if not self.bad(0.1) else rng.choice((m.GetBlocks, m.GetVertices))
        if kind is m.GetBlocks:
            raws = [one.raw for one in self.blocks[-rng.randrange(1, 20) :]] or [self.block()]
            made: Any = m.Blocks(number, tuple(raws), rng.random() < 0.5)
        elif kind is m.LocateVertices:
            made = m.Located(number, self.number())
        else:
            made = m.VertexRange(number, self.number(), rng.random() < 0.5, self.wires().wire)
        if self.up.get(ask.peer) == 2:
            self.receive("sync", m.encode(made), ask.peer)
            return None
        return made

    def request(self) -> Any:
        ids = self.many_ids()[: m.LOCATOR_MAX]
        return self.rng.choice((
            m.GetBlocks(self.number(), ids, self.number()),
            m.LocateVertices(self.number(), ids),
            m.GetVertices(self.number(), self.number(), self.number()),
        ))  # fmt: skip

    def exchange(self) -> Any:
        told = (address(self.rng.randrange(100)), "/ip4/1.2.3/tcp/1", "", "/dns4/a.b/tcp/1/p2p/x")
        return self.rng.choice((m.GetPeers(), m.Peers(told)))

    # --- the end

    def leave(self) -> None:
        """All peers go and all that was asked for is done."""
        while self.pending or self.up:
            while self.pending:
                self.settle_one()
            self.now_ms += 50
            if self.up:
                peer = next(iter(self.up))
                del self.up[peer]
                self.dropped.discard(peer)
                self.step(Disconnected(peer, "gone"))


def record(version: int, *fields: Any) -> bytes:
    """A canonical record of any form."""
    return pack((version, *fields))
