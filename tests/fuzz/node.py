"""The shipping node among fake peers that send anything, on a clock that jumps. The fake peers keep
the promises of the peer layer (``Connected``, then frames, then ``Disconnected``) and no other
rule.
"""

import random
from collections import Counter
from collections.abc import Callable

from dipnet.consensus.chain.block import decode_block
from dipnet.consensus.finality.votes import decode_vote
from dipnet.node.effects import (
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
    Submitted,
    Verified,
    Verify,
    Wake,
    Woke,
    Write,
)
from dipnet.node.work import ClientTxs, ClientVertices
from dipnet.p2p import messages as m
from dipnet.primitives.errors import Invalid
from tests.fixtures.chain_builder import TIME_MS
from tests.fixtures.peer_ids import address, peer_id
from tests.fuzz.node_delegates import Delegates
from tests.fuzz.node_messages import KEPT, Messages
from tests.fuzz.node_world import SLOT_MS, World

PEERS = 6


class Fuzz:
    """One run: ``go`` takes a number of steps; ``leave`` ends all work under way."""

    def __init__(self, seed: int) -> None:
        rng = self.rng = random.Random(seed)
        # A run in which all peers are banned at once tests nothing: in some runs peers are almost
        # honest, in some their messages are false but well-formed.
        malice, noise = (1.0, 0.3, 0.05)[seed % 3], (1.0, 0.05)[seed // 3 % 2]
        self.noise = malice * noise
        self.world = World(rng, malice)
        self.delegates = Delegates(self.world)
        self.messages = Messages(self.world, self.delegates)
        self.strangers = 100
        self.up: dict[str, int] = {}
        self.dropped: set[str] = set()
        self.pending: list[Event | Verify] = []
        self.frames: list[tuple[str, bytes]] = []
        self.back_ms = 0
        """Milliseconds by which the clock is behind, until it is set right again."""
        self.refused: Counter[str] = Counter()
        """The number of items that were refused without reading the chain, by code."""
        self.replies = self.tickets = self.accepted = self.restarts = 0
        self.perform(self.world.node.start(self.world.now_ms))

    # --- the world of the node

    def step(self, event: Event) -> None:
        effects = self.world.node.step(self.world.now_ms, event)
        for effect in effects:
            if isinstance(effect, Write):
                self.world.disk.apply(effect.puts)
        self.world.check_step()
        self.perform(effects)

    def perform(self, effects: list[Effect]) -> None:
        world = self.world
        for effect in effects:
            match effect:
                case Verify():
                    self.pending.append(effect if self.rng.random() < 0.5 else self.judged(effect))
                case Sign():
                    self.pending.append(world.sign(effect))
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
                    self.accepted += sum(not isinstance(result, Invalid) for result in results)
                case Wake(at_ms):
                    assert at_ms <= max(world.now_ms, TIME_MS) + 2 * SLOT_MS
                case _:
                    pass

    def judged(self, asked: Verify) -> Verified:
        """The answer of a worker thread, which may read a later state of the chain."""
        outcome = self.world.node.check(asked.work)
        self.refused.update(refusal.code for refusal in outcome.refused)
        return Verified(asked.ticket, outcome)

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
        self.messages.asked(peer, message)
        match message:
            case m.Items(m.Topic.BLOCK, (raw,)) if self.rng.random() < 0.7:
                self.delegates.follow(decode_block(raw, self.world.net.genesis))
            case m.Votes(raws):
                for raw in raws:
                    self.delegates.hear(decode_vote(raw))

    def bad(self, chance: float) -> bool:
        return self.world.bad(chance)

    # --- what happens

    def go(self, steps: int) -> None:
        acts: list[tuple[int, Callable[[], None]]] = [
            (300, self.settle_one),
            (240, self.connect),
            (20, self.disconnect),
            (50, self.pass_time),
            (3, self.jump),
            (80, self.submit),
            (600, self.message),
            (60, self.answer),
            (60, self.take_turn),
            (int(120 * self.noise), self.mutated),
            (int(40 * self.noise), self.garbage),
            (40, self.delegates.sync),
            (4, self.world.check_restart),
            (2, self.restart),
        ]
        weights = [weight for weight, _ in acts]
        for act in self.rng.choices([act for _, act in acts], weights, k=steps):
            act()

    def settle_one(self) -> None:
        """Answers a random check or signature, in any order, even after its peer has left."""
        if self.pending:
            event = self.pending.pop(self.rng.randrange(len(self.pending)))
            if isinstance(event, Connected | Disconnected):
                self.up[event.peer] = 2
            self.step(self.judged(event) if isinstance(event, Verify) else event)

    def restart(self) -> None:
        """The process ends at any point and begins again; no peer is connected."""
        self.restarts += 1
        self.pending.clear()
        self.up.clear()
        self.dropped.clear()
        self.world.check_restart()
        self.world.be_born()
        self.perform(self.world.node.start(self.world.now_ms))

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
            self.receive("hello", m.encode(self.messages.hello()), peer)

    def disconnect(self) -> None:
        up = [p for p in self.up if self.up[p] == 2]
        closing = [p for p in up if p in self.dropped]
        if closing or (up and self.rng.random() < 0.2):
            self.part(self.rng.choice(closing or up))

    def part(self, peer: str) -> None:
        del self.up[peer]
        self.dropped.discard(peer)
        self.step(Disconnected(peer, "gone"))

    def pass_time(self) -> None:
        self.world.now_ms += self.rng.choice((1, 20, 100, 400, 1_000, 3_000))
        self.step(Woke())

    def jump(self) -> None:
        """The clock jumps: forward for good, back for a while, so that some blocks are of the
        past."""
        now_ms = self.world.now_ms
        if self.back_ms:
            self.world.now_ms += self.back_ms
        elif self.rng.random() < 0.5:
            self.world.now_ms -= self.rng.choice((1_000, 60_000, 3_600_000))
            self.world.now_ms = max(self.world.now_ms, TIME_MS - 5_000)
        else:
            self.world.now_ms += 3_600_000 if self.bad(0.1) else self.rng.choice((5_000, 60_000))
        self.back_ms = max(now_ms - self.world.now_ms, 0)
        self.step(Woke())

    def submit(self) -> None:
        kind = self.rng.choice((ClientTxs, ClientVertices))
        make = self.messages.tx if kind is ClientTxs else self.messages.vertex
        items = [make() for _ in range(self.rng.randrange(4))]
        items += [self.rng.randbytes(self.rng.randrange(1, 400))] * (self.rng.random() < 0.2)
        self.tickets += 1
        self.step(Submitted(self.tickets, kind(tuple(items))))

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
        made = self.messages.any()
        self.receive(m.protocol_of(made), m.encode(made))

    def take_turn(self) -> None:
        """A delegate proposes, and the honest delegates vote on the blocks that they know."""
        for made in (self.messages.block_items(), self.messages.honest()):
            self.receive(m.protocol_of(made), m.encode(made))

    def answer(self) -> None:
        peer, made = self.messages.answer()
        self.receive(m.protocol_of(made), m.encode(made), peer if self.up.get(peer) == 2 else "")

    # --- the end

    def leave(self) -> None:
        """All peers disconnect and all checks and signatures are answered."""
        while self.pending or self.up:
            while self.pending:
                self.settle_one()
            self.world.now_ms += 50
            if self.up:
                self.part(next(iter(self.up)))
