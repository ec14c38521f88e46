"""A network of nodes on a virtual clock, network and disk; the nodes are the shipping ones.

One heap of (virtual ms, number, action) drives everything. Each ``Host`` runs the shipping
``node.step`` behind the shipping ``Barrier`` and performs effects against a simulated world: links
with delay, loss, duplication, reordering, breaks and partitions, clocks that are wrong, disks that
crash, fail or are wiped. Seed + commit = replay: ``trace`` hashes every event and its time.
"""

import hashlib
import heapq
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from dipnet import crypto
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
from tests.sim_disk import Disk

SYNC_MS = (1, 30)  # a batch becomes durable after this long
CHECK_MS = (0, 4)  # a signature check takes this long
CLOSE_MS = (0, 50)  # until one side of a link learns that it is closed
CHECKS_KEPT = 4_096
TRACE_BYTES = 16


@dataclass(frozen=True)
class Faults:
    """Of every link: chances in percent, times in virtual ms."""

    loss: int = 0
    duplicate: int = 0
    delay_ms: tuple[int, int] = (5, 60)
    slow: int = 0  # chance of a message that takes up to slow_ms and is overtaken
    slow_ms: int = 3000


class Rewriter(Protocol):
    """What stands between a hostile node and the network."""

    def frames(self, host: "Host", protocol: str, data: bytes) -> Iterator[tuple[str, bytes]]:
        """What is sent instead of one frame of the node."""


@dataclass
class Host:
    """One machine: a disk that outlives its node, a node while it is up."""

    index: int
    secret: bytes
    delegate: bytes | None  # the secret it signs proposals with
    name: str
    disk: Disk = field(default_factory=Disk)
    node: Node | None = None
    barrier: Barrier = field(default_factory=Barrier)
    life: int = 0  # counts starts; what an earlier life asked for is void
    durable: int = 0
    wake_at: int = 0
    skew_ms: int = 0  # what its clock shows too much
    lag_ms: int = 0  # what each of its messages takes longer
    rewriter: Rewriter | None = None

    @property
    def address(self) -> str:
        return f"/ip4/127.0.0.1/tcp/{30000 + self.index}/p2p/{self.name}"

    @property
    def proposer(self) -> bytes | None:
        return crypto.address(crypto.public_key(self.delegate)) if self.delegate else None


def peer_id(key: bytes) -> str:
    """libp2p's id of a secp256k1 key: base58 of the identity multihash of its protobuf."""
    digits = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    raw = bytes((0x00, 0x25, 0x08, 0x02, 0x12, 0x21)) + key
    number, text = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = digits[digit] + text
    return "1" + text  # the leading zero byte


def _seen(event: Event) -> bytes:
    """What two runs of one seed must share: all of an event but the results of pure checks."""
    match event:
        case Received(peer, protocol, data):
            return f"R{peer}{protocol}".encode() + data
        case Submitted(ticket, kind, items):
            return f"S{ticket}{kind}".encode() + b"".join(items)
        case Verified(ticket, _):
            return b"V%d" % ticket
        case Signed(ticket, signature):
            return b"G%d" % ticket + signature
        case _:
            return repr(event).encode()


class World:
    """The clock, the hosts and what lies between them."""

    def __init__(
        self,
        genesis: Genesis,
        secrets: list[tuple[bytes, bytes | None]],
        seed: int,
        faults: Faults,
    ) -> None:
        """``secrets`` has a node's and its delegate's for each host. Nothing is started."""
        self.genesis = genesis
        self.rng = random.Random(seed)
        self.faults = faults
        self.now_ms = genesis.time_ms
        self.hosts = [
            Host(index, secret, delegate, peer_id(crypto.public_key(secret)))
            for index, (secret, delegate) in enumerate(secrets)
        ]
        self.links: dict[tuple[int, int], int] = {}  # connected pairs -> number of the connection
        self.cut: set[tuple[int, int]] = set()  # (from, to): nothing passes that way
        self.events = 0
        self.on_reply: dict[int, Callable[[tuple[object, ...]], None]] = {}
        self._names = {host.name: host for host in self.hosts}
        self._addresses = {host.address: host for host in self.hosts}
        self._closing: set[tuple[int, int]] = set()  # pairs of which a side does not know yet
        self._checks: OrderedDict[tuple[str, tuple[bytes, ...]], object] = OrderedDict()
        self._tickets = 0
        self._number = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []
        self._trace = hashlib.blake2b(digest_size=TRACE_BYTES)

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
        heap = self._heap
        while heap and heap[0][0] <= until_ms:
            ms, _, action = heapq.heappop(heap)
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
        host.node = self.load(host, self.rng.getrandbits(64))
        self._perform(host, host.node.start(self.now_ms + host.skew_ms))

    def load(self, host: Host, seed: int) -> Node:
        """A node as it starts from what the host's disk shows."""
        return Node(
            self.genesis,
            host.disk.view,
            peer_id=host.name,
            addresses=[host.address],
            proposer=host.proposer,
            bootstrap=tuple(h.address for h in self.hosts if h is not host),
            local=True,
            seed=seed,
        )

    def crash(self, index: int, wipe: bool = False) -> None:
        """The process ends at once; ``wipe``: its disk is replaced by an empty one."""
        host = self.hosts[index]
        host.life += 1
        host.node = None
        host.disk.crash(self.rng)
        if wipe:
            host.disk = Disk()
        for pair in sorted(self.links):
            if index in pair:
                self.disconnect(pair, "gone")

    def alive(self) -> Iterator[Host]:
        return (host for host in self.hosts if host.node is not None)

    def deliver(self, host: Host, event: Event) -> None:
        """One step of the host's node, if it is up."""
        if host.node is None:
            return
        self.events += 1
        self._trace.update(b"%d %d " % (self.now_ms, host.index))
        self._trace.update(_seen(event))
        self._perform(host, host.node.step(self.now_ms + host.skew_ms, event))

    def submit(
        self,
        index: int,
        kind: str,
        items: tuple[bytes, ...],
        on_reply: Callable[[tuple[object, ...]], None],
    ) -> None:
        """What a local client asks of the host's node."""
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
        if host.disk.failing:
            self.crash(host.index)
            return
        count = host.disk.unsynced
        host.disk.sync(count)
        host.durable += count
        for effect in host.barrier.durable(host.durable):
            self._do(host, effect)

    def _do(self, host: Host, effect: Effect) -> None:
        match effect:
            case Send(peer, protocol, data):
                self._send(host, self._names[peer], protocol, data)
            case Wake(at_ms):
                self._wake(host, at_ms - host.skew_ms)
            case Verify(ticket, kind, items):
                self._later(host, CHECK_MS, Verified(ticket, self._check(host, kind, items)))
            case Sign(ticket, digest):
                assert host.delegate is not None
                self._later(host, (0, 1), Signed(ticket, crypto.sign(digest, host.delegate)))
            case Dial(address):
                self.after(
                    self.faults.delay_ms, self._in_life(host, lambda: self._dial(host, address))
                )
            case Drop(peer, reason):
                self.disconnect(_pair(host, self._names[peer]), reason)
            case Reply(ticket, results):
                self.on_reply.pop(ticket)(results)
            case Publish():
                pass
            case _:
                raise AssertionError(effect)

    def _check(self, host: Host, kind: str, items: tuple[bytes, ...]) -> object:
        """``Node.check`` is a function of bytes, so four nodes may share what one has computed."""
        assert host.node is not None
        key = (kind, items)
        known = self._checks.get(key)
        if known is None:
            known = self._checks[key] = host.node.check(kind, items)
            if len(self._checks) > CHECKS_KEPT:
                self._checks.popitem(last=False)
        return known

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

    def _dial(self, host: Host, address: str) -> None:
        other = self._addresses.get(address)
        if other is not None and _pair(host, other) in self._closing:
            self.after(CLOSE_MS, self._in_life(host, lambda: self._dial(host, address)))
            return
        if other is None or other.node is None or self._blocked(host, other):
            self.deliver(host, DialFailed(address, "refused"))
            return
        pair = _pair(host, other)
        if pair in self.links:
            self.deliver(host, DialFailed(address, "already connected"))
            return
        self._number += 1
        self.links[pair] = self._number
        self.deliver(other, Connected(host.name, host.address, False))
        self.deliver(host, Connected(other.name, other.address, True))

    def _blocked(self, host: Host, other: Host) -> bool:
        there, back = (host.index, other.index), (other.index, host.index)
        return there in self.cut or back in self.cut

    def disconnect(self, pair: tuple[int, int], reason: str) -> None:
        """Close a link: nothing passes any more, and each side learns of it in its own time."""
        if self.links.pop(pair, None) is None:
            return
        self._closing.add(pair)
        unaware = list(pair)

        def learn(index: int, name: str, life: int) -> None:
            unaware.remove(index)
            if not unaware:
                self._closing.discard(pair)
            if self.hosts[index].life == life:
                self.deliver(self.hosts[index], Disconnected(name, reason))

        for index, other in (pair, pair[::-1]):
            name, life = self.hosts[other].name, self.hosts[index].life
            self.after(CLOSE_MS, lambda i=index, n=name, k=life: learn(i, n, k))  # type: ignore[misc]

    def _send(self, host: Host, to: Host, protocol: str, data: bytes) -> None:
        if host.rewriter is None:
            self.transmit(host, to, protocol, data)
        else:
            for other_protocol, other_data in host.rewriter.frames(host, protocol, data):
                self.transmit(host, to, other_protocol, other_data)

    def transmit(self, host: Host, to: Host, protocol: str, data: bytes) -> None:
        """One frame on its way, if there is one."""
        faults, way = self.faults, (host.index, to.index)
        pair = _pair(host, to)
        link = self.links.get(pair)
        # A stream keeps its frames or breaks. Gossip and sync are spared nothing; the greeting is
        # what a connection begins with, so its loss is the loss of the connection (Drop, cut).
        spared = protocol == "hello"
        if link is None or way in self.cut or (not spared and self._happens(faults.loss)):
            return
        event = Received(host.name, protocol, data)

        def arrive() -> None:
            if self.links.get(pair) == link and way not in self.cut:
                self.deliver(to, event)

        low, high = faults.delay_ms
        lag = host.lag_ms + to.lag_ms
        for _ in range(2 if not spared and self._happens(faults.duplicate) else 1):
            slow = not spared and self._happens(faults.slow)
            span = (low + lag, (faults.slow_ms if slow else high) + lag)
            self.after(span, self._in_life(to, arrive))

    def _happens(self, percent: int) -> bool:
        return percent > 0 and self.rng.randrange(100) < percent

    def partition(self, group: set[int], one_way: bool = False) -> None:
        """Cut every link between ``group`` and the others, silently; ``one_way``: from it only."""
        inside = [host.index for host in self.hosts if host.index in group]
        outside = [host.index for host in self.hosts if host.index not in group]
        for one in inside:
            for other in outside:
                self.cut.add((one, other))
                if not one_way:
                    self.cut.add((other, one))

    def heal(self) -> None:
        """No link is cut any more."""
        self.cut.clear()


def _pair(a: Host, b: Host) -> tuple[int, int]:
    return (a.index, b.index) if a.index < b.index else (b.index, a.index)
