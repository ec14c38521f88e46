"""A network of nodes on a virtual clock, network and disk; the nodes are the shipping ones.

One heap of (virtual ms, number, action) drives everything. Each ``Host`` runs the shipping
``node.step`` behind the shipping ``Barrier`` and performs effects against a simulated world: links
with delay, loss, duplication, reordering and partitions, a disk whose crash keeps a prefix of the
writes that were not synced yet. Seed + commit = replay: ``trace`` hashes every event and its time.
"""

import hashlib
import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dipnet import crypto
from dipnet.codec import Puts
from dipnet.effects import (
    Barrier,
    Connected,
    Dial,
    DialFailed,
    Disconnected,
    Drop,
    Effect,
    Event,
    Publish,
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
from dipnet.genesis import Genesis
from dipnet.node import Node, first_puts
from tests.memory import Memory

SYNC_MS = (1, 30)  # a batch becomes durable after this long
CHECK_MS = (0, 4)  # a signature check takes this long


@dataclass
class Faults:
    """Chances in percent, times in virtual ms; drawn anew for each seed."""

    loss: int = 0
    duplicate: int = 0
    delay_ms: tuple[int, int] = (5, 60)
    slow: int = 0  # chance of a message that takes up to slow_ms and is overtaken
    slow_ms: int = 3000

    @classmethod
    def draw(cls, rng: random.Random) -> "Faults":
        low = rng.randrange(1, 40)
        return cls(
            loss=rng.choice((0, 0, 2, 10, 25)),
            duplicate=rng.choice((0, 5, 30)),
            delay_ms=(low, low + rng.randrange(1, 200)),
            slow=rng.choice((0, 1, 5)),
            slow_ms=rng.randrange(500, 5000),
        )


class Disk:
    """What is synced, and what a node believes to be written. A crash keeps a prefix of the rest."""

    def __init__(self) -> None:
        self.view = Memory()
        self._synced = Memory()
        self._journal: list[Puts] = []

    def stage(self, puts: Puts) -> None:
        self.view.apply(puts)
        self._journal.append(puts)

    def sync(self, count: int) -> None:
        for puts in self._journal[:count]:
            self._synced.apply(puts)
        del self._journal[:count]

    @property
    def unsynced(self) -> int:
        return len(self._journal)

    def crash(self, rng: random.Random) -> None:
        self.sync(rng.randint(0, len(self._journal)))
        self._journal.clear()
        self.view = Memory(self._synced)


@dataclass
class Host:
    """One machine: a disk that outlives its node, a node while it is up."""

    index: int
    secret: bytes
    name: str
    disk: Disk = field(default_factory=Disk)
    node: Node | None = None
    barrier: Barrier = field(default_factory=Barrier)
    life: int = 0  # counts starts; what an earlier life asked for is void
    durable: int = 0
    wake_at: int = 0

    @property
    def address(self) -> str:
        return f"/ip4/127.0.0.1/tcp/{30000 + self.index}/p2p/{self.name}"


def peer_id(key: bytes) -> str:
    """libp2p's id of a secp256k1 key: base58 of the identity multihash of its protobuf."""
    digits = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    raw = bytes((0x00, 0x25, 0x08, 0x02, 0x12, 0x21)) + key
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = digits[digit] + text
    return "1" + text  # the leading zero byte


def _seen(event: Event) -> tuple[object, ...]:
    """What two runs of one seed must share: all of an event but the results of pure checks."""
    match event:
        case Verified(ticket, _):
            return ("Verified", ticket)
        case Received(peer, protocol, data):
            return (peer, protocol, hashlib.sha256(data).digest())
        case _:
            return (event,)


class World:
    """The clock, the hosts and what lies between them."""

    def __init__(self, genesis: Genesis, secrets: list[bytes], seed: int, faults: Faults) -> None:
        self.genesis = genesis
        self.rng = random.Random(seed)
        self.faults = faults
        self.now_ms = genesis.time_ms
        self.hosts = [
            Host(i, secret, peer_id(crypto.public_key(secret))) for i, secret in enumerate(secrets)
        ]
        self.links: dict[tuple[int, int], int] = {}  # connected pairs -> number of the connection
        self.cut: set[tuple[int, int]] = set()
        self.events = 0
        self.replies: dict[int, tuple[object, ...]] = {}
        self.on_reply: dict[int, Callable[[tuple[object, ...]], None]] = {}
        self._tickets = 0
        self._number = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._trace = hashlib.sha256()

    @property
    def trace(self) -> str:
        return self._trace.hexdigest()

    # --- time

    def at(self, ms: int, action: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._heap, (ms, self._number, action))

    def after(self, span: tuple[int, int], action: Callable[[], None]) -> None:
        self.at(self.now_ms + self.rng.randint(*span), action)

    def run(self, until_ms: int) -> None:
        while self._heap and self._heap[0][0] <= until_ms:
            ms, _, action = heapq.heappop(self._heap)
            self.now_ms = max(self.now_ms, ms)
            action()
        self.now_ms = until_ms

    # --- hosts

    def start(self, index: int) -> None:
        host = self.hosts[index]
        host.life += 1
        host.barrier = Barrier()
        host.durable = host.wake_at = 0
        if puts := first_puts(self.genesis, host.disk.view):
            host.disk.stage(puts)
            host.disk.sync(1)
        host.node = Node(
            self.genesis,
            host.disk.view,
            peer_id=host.name,
            addresses=[host.address],
            proposer=crypto.address(crypto.public_key(host.secret)),
            bootstrap=tuple(h.address for h in self.hosts if h is not host),
            local=True,
            seed=self.rng.getrandbits(64),
        )
        self._perform(host, host.node.start(self.now_ms))

    def crash(self, index: int) -> None:
        host = self.hosts[index]
        host.life += 1
        host.node = None
        host.disk.crash(self.rng)
        for a, b in sorted(self.links):
            if index in (a, b):
                self._disconnect(a, b, "gone")

    def alive(self) -> Iterator[Host]:
        return (host for host in self.hosts if host.node is not None)

    def deliver(self, host: Host, event: Event) -> None:
        if host.node is None:
            return
        self.events += 1
        self._trace.update(f"{self.now_ms} {host.index} {_seen(event)!r}".encode())
        self._perform(host, host.node.step(self.now_ms, event))

    def submit(
        self,
        index: int,
        kind: str,
        items: tuple[bytes, ...],
        on_reply: Callable[[tuple[object, ...]], None],
    ) -> None:
        self._tickets += 1
        self.on_reply[self._tickets] = on_reply
        self.deliver(self.hosts[index], Submitted(self._tickets, kind, items))

    # --- effects

    def _perform(self, host: Host, effects: list[Effect]) -> None:
        wrote = False
        for effect in host.barrier.admit(effects):
            if isinstance(effect, Write):
                host.disk.stage(effect.puts)
                wrote = True
            else:
                self._do(host, effect)
        if wrote:
            self.after(SYNC_MS, self._in_life(host, lambda: self._sync(host)))

    def _sync(self, host: Host) -> None:
        count = host.disk.unsynced
        host.disk.sync(count)
        host.durable += count
        for effect in host.barrier.durable(host.durable):
            self._do(host, effect)

    def _do(self, host: Host, effect: Effect) -> None:
        match effect:
            case Send(peer, protocol, data):
                self._send(host, peer, Received(host.name, protocol, data))
            case Wake(at_ms):
                self._wake(host, at_ms)
            case Verify(ticket, kind, items):
                assert host.node is not None
                result = host.node.check(kind, items)
                self._later(host, CHECK_MS, Verified(ticket, result))
            case Sign(ticket, digest):
                self._later(host, (0, 1), Signed(ticket, crypto.sign(digest, host.secret)))
            case Dial(address):
                self.after(
                    self.faults.delay_ms, self._in_life(host, lambda: self._dial(host, address))
                )
            case Drop(peer, reason):
                other = self._named(peer)
                self._disconnect(*sorted((host.index, other.index)), reason)
            case Reply(ticket, results):
                self.on_reply.pop(ticket)(results)
            case Publish():
                pass
            case _:
                raise AssertionError(effect)

    def _wake(self, host: Host, at_ms: int) -> None:
        """One timer a host, the earliest asked for, as in the daemon."""
        if host.wake_at and host.wake_at <= at_ms:
            return
        host.wake_at = at_ms

        def wake() -> None:
            if host.wake_at == at_ms:
                host.wake_at = 0
                self.deliver(host, Woke())

        self.at(at_ms, self._in_life(host, wake))

    def _in_life(self, host: Host, action: Callable[[], None]) -> Callable[[], None]:
        life = host.life

        def act() -> None:
            if host.life == life and host.node is not None:
                action()

        return act

    def _later(self, host: Host, span: tuple[int, int], event: Event) -> None:
        self.after(span, self._in_life(host, lambda: self.deliver(host, event)))

    # --- network

    def _named(self, peer: str) -> Host:
        return next(host for host in self.hosts if host.name == peer)

    def _pair(self, a: Host, b: Host) -> tuple[int, int]:
        return (a.index, b.index) if a.index < b.index else (b.index, a.index)

    def _dial(self, host: Host, address: str) -> None:
        other = next((h for h in self.hosts if h.address == address), None)
        if other is None or other.node is None or self._pair(host, other) in self.cut:
            self.deliver(host, DialFailed(address, "refused"))
            return
        pair = self._pair(host, other)
        if pair in self.links:
            return
        self._number += 1
        self.links[pair] = self._number
        self.deliver(other, Connected(host.name, host.address, False))
        self.deliver(host, Connected(other.name, other.address, True))

    def _disconnect(self, a: int, b: int, reason: str) -> None:
        if self.links.pop((a, b), None) is not None:
            for host, other in ((self.hosts[a], self.hosts[b]), (self.hosts[b], self.hosts[a])):
                self.deliver(host, Disconnected(other.name, reason))

    def _send(self, host: Host, peer: str, event: Received) -> None:
        other, rng, faults = self._named(peer), self.rng, self.faults
        pair = self._pair(host, other)
        link = self.links.get(pair)
        # A stream keeps its frames or breaks. Gossip and sync are spared nothing; the greeting is
        # what a connection begins with, so its loss is the loss of the connection (Drop, cut).
        spared = event.protocol == "hello"
        if link is None or pair in self.cut or (not spared and rng.randrange(100) < faults.loss):
            return
        for _ in range(2 if not spared and rng.randrange(100) < faults.duplicate else 1):
            slow = not spared and rng.randrange(100) < faults.slow
            span = (faults.delay_ms[0], faults.slow_ms) if slow else faults.delay_ms

            def arrive() -> None:
                if self.links.get(pair) == link and pair not in self.cut:
                    self.deliver(other, event)

            self.after(span, self._in_life(other, arrive))

    def partition(self, group: set[int]) -> None:
        """Cuts every link between ``group`` and the others, silently."""
        self.cut = {
            (a.index, b.index)
            for a in self.hosts
            for b in self.hosts
            if a.index < b.index and (a.index in group) != (b.index in group)
        }

    def heal(self) -> None:
        self.cut = set()
