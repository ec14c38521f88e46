"""One seed of the simulator: a network under load and faults, healed, then held to its promises.

The invariants (issue of the node, DESIGN 2): after healing all heads, states and DAGs are equal; no
money is made or lost but by reward and base fee; nothing that a client was told is accepted is
lost; no delegate signed two blocks for one slot.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dipnet import crypto
from dipnet.consensus.block import header_of
from dipnet.consensus.records import KEY_BLOCK
from dipnet.dag.vertex import Draft, sign_vertex, topic_of
from dipnet.effects import Event
from dipnet.errors import Invalid
from dipnet.genesis import Genesis
from dipnet.node import Node
from dipnet.state import supply
from dipnet.tx import sign_tx
from tests.sim import Faults, Host, World

BALANCE = 10**21
FAULT_MS = 40_000
HEAL_MS = 60_000
PAY_MS = (50, 800)
READ_MS = (50, 400)
RESEND_MS = 3_000
ACCOUNTS, DEVICES = 5, 4


def secret(name: str) -> bytes:
    return crypto.keccak256(name.encode())


def network(delegates: int) -> tuple[Genesis, list[bytes], list[bytes]]:
    """Genesis, the delegates' secrets, the funded accounts' secrets."""
    delegate_keys = [secret(f"delegate {i}") for i in range(delegates)]
    account_keys = [secret(f"account {i}") for i in range(ACCOUNTS)]
    public = [crypto.public_key(key) for key in delegate_keys]
    genesis = Genesis(
        chain_id=2018,
        time_ms=1_700_000_000_000,
        slot_ms=1000,
        epoch_slots=30,
        delegates=[
            {"name": f"d{i}", "address": crypto.checksum(crypto.address(k)), "public_key": k}
            for i, k in enumerate(public)
        ],
        delegates_active=delegates,
        delegates_standby=0,
        undo_blocks_max=64,
        overlays_max=8,
        balances={
            crypto.checksum(crypto.address(crypto.public_key(k))): BALANCE for k in account_keys
        },
    )
    return genesis, delegate_keys, account_keys


@dataclass
class Outcome:
    """What one seed did."""

    seed: int
    trace: str
    events: int
    virtual_ms: int
    height: int
    vertices: int
    payments: int
    violations: list[str] = field(default_factory=list)


class Device:
    """A device that keeps what it signed until a node says that it has it."""

    def __init__(self, run: "Run", number: int) -> None:
        self.run = run
        self.secret = secret(f"device {number}")
        self.address = crypto.address(crypto.public_key(self.secret))
        self.topic = topic_of(f"sensor {number}")
        self.seq = 0
        self.prev = bytes(32)
        self.ref = (0, run.genesis_hash)
        self.wire = b""

    def read(self) -> None:
        """The next reading, or the last one again while nobody has confirmed it."""
        run = self.run
        host = run.some_host()
        if host is None or host.node is None:
            return run.world.after(READ_MS, self.read)
        if not self.wire:
            self.wire = self._signed(host.node)
        wire, world = self.wire, run.world

        def replied(results: tuple[object, ...]) -> None:
            (result,) = results
            if isinstance(result, Invalid):
                run.outcome.violations.append(f"honest vertex refused: {result}")
            elif self.wire == wire:
                run.kept[result[0]] = None  # type: ignore[index]
                self.wire, self.prev = b"", result[0]  # type: ignore[index]

        world.submit(host.index, "vertices", (wire,), replied)
        world.after((RESEND_MS, RESEND_MS) if run.busy(host) else READ_MS, self.read)
        return None

    def _signed(self, node: Node) -> bytes:
        self.seq += 1
        final = node.chain.final
        if final.height > self.ref[0]:  # never behind what its own last vertex named
            self.ref = (final.height, final.hash)
        template = node.dag.template(self.address, 4, self.ref[0], self.seq)
        parents = [p for p in template.parents if node.dag.get(p).ref_height <= self.ref[0]]  # type: ignore[union-attr]
        draft = Draft(
            chain_id=self.run.genesis.chain_id,
            ref_height=self.ref[0],
            ref_hash=self.ref[1][:8],
            seq=self.seq,
            prev=self.prev,
            timestamp_ms=self.run.world.now_ms,
            topic=self.topic,
            payload=self.seq.to_bytes(4, "big"),
            parents=tuple(parents),
        )
        return sign_vertex(self.secret, draft)


class Run:
    """One seed."""

    def __init__(self, seed: int, delegates: int = 4) -> None:
        self.rng = random.Random(seed)
        self.genesis, keys, self.payers = network(delegates)
        self.world = World(self.genesis, keys, seed, Faults.draw(self.rng))
        self.outcome = Outcome(seed, "", 0, 0, 0, 0, 0)
        self.kept: dict[bytes, None] = {}  # vertices that a client was told are here
        self.paid: dict[bytes, tuple[int, int, bytes, int]] = {}  # hash: host, life, sender, nonce
        for index in range(delegates):
            self.world.start(index)
        first = self.world.hosts[0].node
        assert first is not None
        self.genesis_hash = first.chain.genesis_hash

    def go(self) -> Outcome:
        """Load and faults, then peace, then the reckoning."""
        world, start = self.world, self.genesis.time_ms
        for key in self.payers:
            world.after(PAY_MS, lambda key=key: self._pay(key))  # type: ignore[misc]
        for number in range(DEVICES):
            world.after(READ_MS, Device(self, number).read)
        self._plan_faults(start + FAULT_MS)
        world.run(start + FAULT_MS)
        world.faults = Faults()
        world.heal()
        for host in world.hosts:
            if host.node is None:
                world.start(host.index)
        world.run(start + FAULT_MS + HEAL_MS // 2)
        self.loaded = False
        world.run(start + FAULT_MS + HEAL_MS)
        self._reckon()
        return self.outcome

    loaded = True

    def some_host(self) -> Host | None:
        up = list(self.world.alive())
        return self.rng.choice(up) if up and self.loaded else None

    def busy(self, host: Host) -> bool:
        return bool(host.barrier.staged - host.durable)

    # --- load

    def _pay(self, key: bytes) -> None:
        self.world.after(PAY_MS, lambda: self._pay(key))
        host = self.some_host()
        if host is None or host.node is None:
            return
        node, life = host.node, host.life
        sender = crypto.address(crypto.public_key(key))
        nonce = node.pool.pending_nonce(sender, node.chain.account(sender).nonce)
        raw = sign_tx(
            key,
            type=2,
            chain_id=self.genesis.chain_id,
            nonce=nonce,
            max_priority_fee=self.rng.randrange(1, 10**9),
            max_fee=10**11,
            gas=21_000,
            to=crypto.keccak256(bytes([self.rng.randrange(256)]))[12:],
            value=self.rng.randrange(10**15),
        )

        def replied(results: tuple[object, ...]) -> None:
            (result,) = results
            if not isinstance(result, Invalid):
                self.paid[result[0]] = (host.index, life, sender, nonce)  # type: ignore[index]

        self.world.submit(host.index, "txs", (raw,), replied)

    # --- faults

    def _plan_faults(self, until_ms: int) -> None:
        """A swarm: each seed has its own mix of crashes and partitions."""
        rng, world = self.rng, self.world
        kinds: list[Callable[[], None]] = rng.choice(
            ([], [self._crash], [self._partition], [self._crash, self._partition])
        )
        at = world.now_ms + rng.randrange(1000, 6000)
        while kinds and at < until_ms:
            world.at(at, rng.choice(kinds))
            at += rng.randrange(500, 12_000)

    def _crash(self) -> None:
        up = [host.index for host in self.world.alive()]
        if up:
            index = self.rng.choice(up)
            self.world.crash(index)
            self.world.after((10, 8000), lambda: self._restart(index))

    def _restart(self, index: int) -> None:
        if self.world.hosts[index].node is None:
            self.world.start(index)

    def _partition(self) -> None:
        count = len(self.world.hosts)
        self.world.partition(set(self.rng.sample(range(count), self.rng.randrange(1, count))))
        self.world.after((1000, 12_000), self.world.heal)

    # --- the reckoning

    def _reckon(self) -> None:
        world, outcome = self.world, self.outcome
        nodes = [host.node for host in world.hosts if host.node is not None]
        outcome.violations += self._violations(nodes)
        chain = nodes[0].chain
        outcome.trace, outcome.events = world.trace, world.events
        outcome.virtual_ms = world.now_ms - self.genesis.time_ms
        outcome.height, outcome.vertices = chain.head.height, len(nodes[0].dag)
        outcome.payments = len(self.paid)

    def _violations(self, nodes: list[Node]) -> Iterator[str]:
        chain = nodes[0].chain
        if len({node.chain.head.hash for node in nodes}) != 1:
            yield f"heads differ: {[(n.chain.head.height, n.chain.head.slot) for n in nodes]}"
        ids = [{node.dag.id_at(i) for i in range(len(node.dag))} for node in nodes]
        if any(one != ids[0] for one in ids):
            yield f"DAGs differ: {[len(one) for one in ids]}, of all {len(set().union(*ids))}"
        for vertex_id in self.kept:
            if not all(vertex_id in one for one in ids):
                yield f"acknowledged vertex {vertex_id.hex()} is lost"
        for node in nodes:
            expected = self._expected_supply(node)
            if supply(node.chain.head_state) != expected:
                yield f"supply is {supply(node.chain.head_state)}, expected {expected}"
        lives = {host.index: host.life for host in self.world.hosts}
        for tx_hash, (index, life, sender, nonce) in self.paid.items():
            gone = chain.account(sender).nonce <= nonce and tx_hash not in nodes[index].pool
            if life == lives[index] and gone:
                yield f"acknowledged payment {tx_hash.hex()} is lost"
        yield from self._double_proposals()

    def _expected_supply(self, node: Node) -> int:
        total = self.genesis.supply()
        for height in range(1, node.chain.head.height + 1):
            header = node.chain.header(node.block_hash_at(height))
            assert header is not None
            total += self.genesis.block_reward - header.gas_used * header.base_fee
        return total

    def _double_proposals(self) -> Iterator[str]:
        seen: dict[tuple[bytes, int], bytes] = {}
        for host in self.world.hosts:
            for _, raw in host.disk.view.scan(KEY_BLOCK):
                header = header_of(raw)
                known = seen.setdefault((header.proposer, header.slot), header.hash)
                if known != header.hash:
                    yield f"two blocks of one proposer for slot {header.slot}"


def run_seed(seed: int) -> Outcome:
    """The outcome of one seed; the same in every process."""
    return Run(seed).go()


__all__ = ["Event", "Outcome", "Run", "run_seed"]
