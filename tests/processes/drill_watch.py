"""A watcher that asks every node all the time for finalized, safe and latest, and trusts none.

The answers must hold at any moment, over the deaths of a node and among all nodes:

* ``finalized`` never goes back, also not over a kill -9: an answer was durable;
* no two nodes ever name different blocks of one height;
* the block has a commit certificate, which the node itself shows (``dpos_finalHeader``) and which
  ``dipnet.sdk.light`` verifies from genesis.json alone, over the boundaries that the node shows;
* finalized <= safe <= latest.
"""

import threading
import time
from dataclasses import dataclass, field
from itertools import pairwise

from dipnet.primitives.codec import from_hex
from dipnet.primitives.errors import Invalid
from dipnet.sdk import light, trust
from dipnet.sdk.client import Client
from dipnet.sdk.light import LightState
from tests.processes.drill_net import Network, Node

TAGS = ("finalized", "safe", "latest")  # in this order: what is asked later is not lower


@dataclass(frozen=True, slots=True)
class Seen:
    """The heights in one answer of a node, and Unix seconds before it was asked."""

    at_s: float
    finalized: int
    safe: int
    latest: int


@dataclass
class Told:
    """All answers of a node."""

    height: int = 0
    hash: str = ""
    samples: list[Seen] = field(default_factory=list)
    proven: int = 0
    unanswered: int = 0


class Watcher:
    """A thread for each node; ``faults`` is to stay empty."""

    def __init__(self, net: Network) -> None:
        self.faults: list[str] = []
        self.told = {node.name: Told() for node in net.nodes}
        self.first_final: dict[int, float] = {}  # height -> when a node first said so
        self._net = net
        self._pause_s = net.slot_ms / 2000
        self._final: dict[
            int, tuple[str, str]
        ] = {}  # height -> hash, and the node that said so first
        known = trust.from_genesis(net.genesis)
        self._states: dict[int, LightState] = {0: known.state}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=(node,), daemon=True) for node in net.nodes
        ]

    def __enter__(self) -> "Watcher":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    @property
    def final(self) -> int:
        """The highest block that any node calls final."""
        return max(told.height for told in self.told.values())

    def finals(self, nodes: list[Node]) -> list[int]:
        """The final heights of these."""
        return [self.told[node.name].height for node in nodes]

    def _watch(self, node: Node) -> None:
        told = self.told[node.name]
        with Client(node.url, 20.0) as client:
            while not self._stop.wait(self._pause_s):
                try:
                    self._look(node, client, told)
                except Invalid as error:
                    if error.code != "unreachable":
                        self._fault(node, f"{error.code}: {error}")
                    told.unanswered += 1
                except Exception as error:
                    self._fault(node, repr(error))

    def _fault(self, node: Node, what: str) -> None:
        self.faults.append(f"{time.strftime('%H:%M:%S')} {node.name}: {what}")

    def _look(self, node: Node, client: Client, told: Told) -> None:
        at_s = time.time()
        blocks = client.batch([("eth_getBlockByNumber", (tag, False)) for tag in TAGS])
        for block in blocks:
            if isinstance(block, Invalid):
                raise block
        final, safe, latest = (int(block["number"], 16) for block in blocks)
        told.samples.append(Seen(at_s, final, safe, latest))
        block_hash = blocks[0]["hash"]
        if not final <= safe <= latest:
            self._fault(node, f"finalized {final}, safe {safe}, latest {latest}")
        if final < told.height:
            self._fault(node, f"finalized went back from {told.height} to {final}")
        with self._lock:
            first, by = self._final.setdefault(final, (block_hash, node.name))
            self.first_final.setdefault(final, at_s)
        if first != block_hash:
            self._fault(node, f"block {final} is {block_hash}, but {first} for {by}")
        if block_hash != told.hash:
            self._prove(node, client, block_hash)
            told.proven += 1
        told.height, told.hash = max(final, told.height), block_hash

    def _prove(self, node: Node, client: Client, block_hash: str) -> None:
        raw = client.call("dpos_finalHeader", block_hash)
        if raw is None:
            return  # genesis
        proof = light.decode_final(from_hex(raw))
        if proof.header.hash != from_hex(block_hash):
            self._fault(node, f"proves {proof.header.height} where {block_hash} was asked for")
        state = self._state(client, proof.certificate.ballot.epoch)
        light.verify_final(state, proof.header, proof.path, proof.certificate)

    def _state(self, client: Client, epoch: int) -> LightState:
        """The knowledge of a light client in an epoch, by the boundaries that this node shows."""
        with self._lock:
            known = max(number for number in self._states if number <= epoch)
            while known < epoch:
                for raw in client.call("dpos_borders", known + 1, 64, True):
                    state = light.advance(self._states[known], light.decode_boundary(from_hex(raw)))
                    known = state.epoch
                    self._states[known] = state
                if not self._states.get(epoch) and known < epoch:
                    raise AssertionError(f"shows no boundary of epoch {epoch}")
            return self._states[epoch]

    # --- the outcome

    def pauses_ms(self, since_s: float, until_s: float) -> list[int]:
        """Between a newly final block and the next, as any node said first."""
        at = sorted(when for when in self.first_final.values() if since_s <= when <= until_s)
        return [round(1000 * (after - before)) for before, after in pairwise(at)]

    def told_in_all(self) -> tuple[int, int]:
        """Answers, and final blocks that were proven."""
        told = self.told.values()
        return sum(len(one.samples) for one in told), sum(one.proven for one in told)
