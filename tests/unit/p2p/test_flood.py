"""Several peers on a lossy network: in the end all peers have every object.

A minimal node drives the real classes of dipnet/p2p; its vertices are an id and the ids of their
parents, its blocks numbers in a line.
"""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import pytest

from dipnet.p2p import messages as wire
from dipnet.p2p.blocksync import BlockSync, Delivery
from dipnet.p2p.gossip import Gossip
from dipnet.p2p.messages import Outgoing, Topic
from dipnet.p2p.serve import serve_blocks, serve_located, serve_vertices
from dipnet.p2p.vertexsync import VertexSync

TICK_MS = 20
SLOT_MS = 1_000
ID = 32
VERTEX_BYTES = 3 * ID  # id, two parents


def block_hash(height: int) -> bytes:
    return b"block" + height.to_bytes(27, "big")


@dataclass
class Node:
    """A node that drives gossip and sync as dipnet/node does, without consensus rules."""

    name: str
    links: list[str]
    gossip: Gossip = field(default_factory=Gossip)
    blocks: BlockSync = field(default_factory=BlockSync)
    vertices: VertexSync = field(default_factory=VertexSync)
    height: int = 0
    log: list[bytes] = field(default_factory=list)
    ordinals: dict[bytes, int] = field(default_factory=dict)
    tips: dict[bytes, None] = field(default_factory=dict)
    orphans: dict[bytes, bytes] = field(default_factory=dict)
    out: list[Outgoing] = field(default_factory=list)

    def connect(self) -> None:
        for peer in self.links:
            self.gossip.join(peer)
            self.vertices.want(peer)

    def status(self) -> wire.Status:
        head = block_hash(self.height)
        return wire.Status(self.height, head, 0, block_hash(0), 0, 0, len(self.log), 0, 0)

    def has_block(self, id_: bytes) -> bool:
        return int.from_bytes(id_[5:], "big") <= self.height

    def have(self, id_: bytes) -> bool:
        return id_ in self.ordinals or id_ in self.orphans

    def issue(self, random: Random) -> None:
        choice = list(self.tips) or [bytes(ID)]
        parents = random.choice(choice) + random.choice(choice)
        self.insert(0, "", random.randbytes(ID) + parents)

    def propose(self) -> None:
        self.height += 1
        self.gossip.push(Topic.BLOCK, block_hash(self.height), block_hash(self.height))

    def insert(self, now_ms: int, peer: str, raws: bytes) -> int:
        """Attaches vertices whose parents are here; asks ``peer`` for missing parents."""
        before, fresh = len(self.log), []
        for at in range(0, len(raws), VERTEX_BYTES):
            raw = raws[at : at + VERTEX_BYTES]
            if not self.have(raw[:ID]):
                self.orphans[raw[:ID]] = raw
        while ready := [raw for raw in self.orphans.values() if not self.missing(raw)]:
            for raw in ready:
                del self.orphans[raw[:ID]]
                self.ordinals[raw[:ID]] = len(self.log)
                self.log.append(raw)
                self.tips[raw[:ID]] = None
                for parent in (raw[ID : 2 * ID], raw[2 * ID :]):
                    self.tips.pop(parent, None)
                fresh.append(raw[:ID])
        self.gossip.announce(Topic.VERTEX, fresh, except_peer=peer)
        self.ask_missing(now_ms, peer)
        return len(self.log) - before

    def ask_missing(self, now_ms: int, peer: str) -> None:
        lacking = [id_ for raw in self.orphans.values() for id_ in self.missing(raw)]
        self.gossip.on_announce(now_ms, peer, Topic.VERTEX, lacking, self.have)

    def missing(self, raw: bytes) -> list[bytes]:
        parents = (raw[ID : 2 * ID], raw[2 * ID :])
        return [id_ for id_ in parents if id_ != bytes(ID) and id_ not in self.ordinals]

    def take_blocks(self, now_ms: int, peer: str, raws: Iterable[bytes]) -> int:
        fresh = 0
        for raw in raws:
            height = int.from_bytes(raw[5:], "big")
            if height == self.height + 1:
                self.height += 1
                fresh += 1
                self.gossip.push(Topic.BLOCK, raw, raw, except_peer=peer)
            elif height > self.height:
                self.blocks.on_unknown_parent(peer)
        self.gossip.on_items(now_ms, peer, Topic.BLOCK, raws)
        return fresh

    def slot(self) -> None:
        self.gossip.tips(list(self.tips))
        self.out += [(peer, "hello", wire.encode(self.status())) for peer in self.links]

    def tick(self, now_ms: int) -> list[Outgoing]:
        self.gossip.on_tick(now_ms)
        self.blocks.on_tick(now_ms)
        self.vertices.on_tick(now_ms)
        out = self.out + self.gossip.flush()
        self.out = []
        out += self.blocks.requests(now_ms, self.status(), block_hash, self.has_block)
        return out + self.vertices.requests(now_ms, self.sample)

    def sample(self) -> list[bytes]:
        steps = [1 << n for n in range(30) if 1 << n <= len(self.log)]
        return [self.log[-step][:ID] for step in steps]

    def receive(self, now_ms: int, peer: str, protocol: str, data: bytes) -> None:
        match wire.decode(protocol, data):
            case wire.Status() as status:
                known = self.has_block(status.head_hash)
                self.blocks.on_status(now_ms, peer, status, known)
                self.vertices.on_status(now_ms, peer, status.dag_count, len(self.log))
            case wire.Announce(topic, ids):
                self.gossip.on_announce(now_ms, peer, topic, ids, self.have)
            case wire.Tips(ids):
                self.gossip.on_announce(now_ms, peer, Topic.VERTEX, ids, self.have)
                if self.orphans:  # a tip may be here and wait for its ancestors
                    self.ask_missing(now_ms, peer)
                    self.vertices.on_behind(now_ms, peer)
            case wire.Fetch(Topic.VERTEX, ids):
                wanted = (self.log[self.ordinals[i]] for i in ids if i in self.ordinals)
                self.gossip.answer(peer, Topic.VERTEX, wanted)
            case wire.Items(Topic.BLOCK, raws):
                self.take_blocks(now_ms, peer, raws)
            case wire.Vertices(raws):
                found = [raws[at : at + ID] for at in range(0, len(raws), VERTEX_BYTES)]
                self.gossip.on_items(now_ms, peer, Topic.VERTEX, found)
                self.insert(now_ms, peer, raws)
            case message:
                self.sync(now_ms, peer, message)

    def sync(self, now_ms: int, peer: str, message: wire.Message) -> None:
        match message:
            case wire.GetBlocks():
                self.out.append((peer, "sync", serve_blocks(message, self.blocks_after)))
            case wire.Blocks():
                raws = self.blocks.on_blocks(now_ms, peer, message)
                if raws is not None:
                    fresh = self.take_blocks(now_ms, peer, raws)
                    last = (int.from_bytes(raws[-1][5:], "big"), raws[-1]) if raws else (0, b"")
                    ours = self.status()
                    delivery = Delivery(fresh, 0, last, led=fresh > 0, early=False)
                    self.blocks.on_imported(now_ms, peer, ours, delivery, self.has_block)
            case wire.LocateVertices():
                self.out.append((peer, "sync", serve_located(message, self.ordinals.get)))
            case wire.Located():
                self.vertices.on_located(peer, message)
            case wire.GetVertices():
                self.out.append((peer, "sync", serve_vertices(message, self.vertices_from)))
            case wire.VertexRange():
                wires = self.vertices.on_range(now_ms, peer, message)
                self.vertices.on_inserted(now_ms, peer, self.insert(now_ms, peer, wires))
            case _:
                pytest.fail(f"unexpected {message}")

    def blocks_after(self, marks: tuple[bytes, ...]) -> Iterator[bytes]:
        known = [int.from_bytes(mark[5:], "big") for mark in marks]
        start = next((height for height in known if height <= self.height), 0)
        return (block_hash(height) for height in range(start + 1, self.height + 1))

    def vertices_from(self, start: int) -> Iterator[tuple[int, bytes]]:
        return ((n, self.log[n]) for n in range(start, len(self.log)))


class Network:
    """A network with delay, loss and partitions, all drawn from a seed."""

    def __init__(self, seed: int, count: int, loss_percent: int) -> None:
        self.random = Random(seed)
        self.loss_percent = loss_percent
        names = [f"n{number}" for number in range(count)]
        pairs = set(pairwise(names))  # the peers in a line, and some more connections
        pairs |= {(a, b) for a in names for b in names if a < b and self.random.random() < 0.3}
        self.nodes = {
            name: Node(
                name,
                sorted({a for a, b in pairs if b == name} | {b for a, b in pairs if a == name}),
            )
            for name in names
        }
        self.cut: set[str] = set()
        self.now_ms = 0
        self.flying: list[tuple[int, int, str, str, str, bytes]] = []
        self.sent = 0

    def connect(self) -> None:
        for node in self.nodes.values():
            node.connect()

    def send(self, source: str, frames: Iterable[Outgoing]) -> None:
        for target, protocol, data in frames:
            self.sent += 1
            lost = self.random.randrange(100) < self.loss_percent
            if lost or (source in self.cut) != (target in self.cut):
                continue
            at = self.now_ms + self.random.randrange(5, 60)
            heapq.heappush(self.flying, (at, self.sent, source, target, protocol, data))

    def step(self) -> None:
        self.now_ms += TICK_MS
        while self.flying and self.flying[0][0] <= self.now_ms:
            _, _, source, target, protocol, data = heapq.heappop(self.flying)
            self.nodes[target].receive(self.now_ms, source, protocol, data)
        for name, node in self.nodes.items():
            if self.now_ms % SLOT_MS == 0:
                node.slot()
            self.send(name, node.tick(self.now_ms))

    def live(self, ms: int, proposer: str = "n0") -> None:
        """Makes traffic: vertices at all nodes, a block in each slot."""
        end = self.now_ms + ms
        while self.now_ms < end:
            for node in self.nodes.values():
                if self.random.random() < 0.2:
                    node.issue(self.random)
            if self.now_ms % SLOT_MS == 0:
                self.nodes[proposer].propose()
            self.step()

    def settle(self, ms_max: int) -> int:
        """Runs without new traffic; returns the ms until all nodes are equal, at most
        ``ms_max``."""
        start = self.now_ms
        while not self.equal():
            assert self.now_ms < start + ms_max, [
                (node.height, len(node.log), len(node.orphans)) for node in self.nodes.values()
            ]
            self.step()
        return self.now_ms - start

    def equal(self) -> bool:
        first, *others = self.nodes.values()
        return all(
            node.height == first.height and node.ordinals.keys() == first.ordinals.keys()
            for node in others
        )


@pytest.mark.parametrize(
    ("seed", "loss_percent", "settled_ms"),
    [*((seed, 10, 60_000) for seed in range(6)), (4, 30, 120_000), (9, 30, 120_000)],
)
def test_everything_reaches_everyone_despite_loss(
    seed: int, loss_percent: int, settled_ms: int
) -> None:
    net = Network(seed, 3 + seed % 4, loss_percent)
    net.connect()
    net.live(8_000)
    assert not net.equal()
    net.settle(settled_ms)
    assert next(iter(net.nodes.values())).height == 8
    for _ in range(500):
        net.step()
    assert all(node.gossip.wanted() == 0 for node in net.nodes.values())
    assert not any(node.orphans for node in net.nodes.values())


def test_without_loss_nobody_waits_for_tips() -> None:
    net = Network(1, count=4, loss_percent=0)
    net.connect()
    net.live(3_000)
    assert net.settle(1_000) < 600


@pytest.mark.parametrize("seed", range(3))
def test_halves_meet_again(seed: int) -> None:
    net = Network(seed, count=4, loss_percent=5)
    net.connect()
    net.live(2_000)
    net.cut = {"n0", "n1"}
    net.live(6_000)
    assert not net.equal()
    net.cut = set()
    net.connect()
    net.settle(60_000)


def test_newcomer_catches_up() -> None:
    net = Network(5, count=3, loss_percent=0)
    net.connect()
    net.cut = {"n2"}
    net.nodes["n0"].height = 1_000
    net.live(5_000)
    for _ in range(1_000):
        net.nodes["n0"].issue(net.random)
    net.cut = set()
    net.nodes["n2"].vertices = VertexSync()
    net.nodes["n2"].connect()
    net.settle(15_000)


def test_same_seed_same_traffic() -> None:
    runs = []
    for _ in range(2):
        net = Network(3, count=4, loss_percent=20)
        net.connect()
        net.live(3_000)
        runs.append((net.sent, [node.log for node in net.nodes.values()]))
    assert runs[0] == runs[1]


def test_everything_is_released() -> None:
    net = Network(2, count=4, loss_percent=20)
    net.connect()
    net.live(3_000)
    for node in net.nodes.values():
        for peer in node.links:
            node.gossip.forget(net.now_ms, peer)
            node.blocks.forget(peer)
            node.vertices.forget(peer)
        machines = (node.gossip, node.blocks, node.vertices)
        held = [value for machine in machines for value in vars(machine).values()]
        assert not any(value for value in held if isinstance(value, dict))
