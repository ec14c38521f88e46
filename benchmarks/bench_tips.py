"""Insert and tip selection of the native graph at 10^4, 10^5 and 10^6 vertices that are all tips.

This is the worst case: parents are drawn from all vertices, so that none is in the cache. The limit
is a read of memory that waits for the read before it, over 64 MiB. Beside the graph stand the same
rules in plain Python dicts.
"""

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from benchmarks.harness import Figure, Raw, Row, Run, Scale, again, clocked, measure
from dipnet._native.dag import Batch, Chase, Graph, check_batch
from dipnet.dag.vertex import BATCH_VERTICES_MAX, VertexDraft, build_envelope

TIPS: Final = {"full": (10_000, 100_000, 1_000_000), "quick": (10_000, 100_000), "tiny": (200,)}
INSERTS: Final = {"full": 10_000, "quick": 5_000, "tiny": 100}
SELECTIONS: Final = {"full": 1_000_000, "quick": 100_000, "tiny": 100}
READS: Final = {"full": 1_000_000, "quick": 200_000, "tiny": 1_000}
CHAIN_ID: Final = 2018
PARENTS: Final = 4
INSERT_BATCH: Final = 1_000
CHASE_BYTES: Final = 64 << 20  # far beyond the caches of one core
SEED: Final = 2018
AT_SEQ: Final = 40  # native/dag/vertex.c
UNSIGNED: Final = bytes(65)


def run(scale: Scale, say: Callable[[str], None]) -> list[Figure]:
    """Nanoseconds an operation."""
    rows: list[Row] = []
    chase = Chase(CHASE_BYTES, SEED)
    for count in TIPS[scale.name]:
        say(f"  filling graphs of {count:,} tips")
        graph, growing, python = _filled(count), _filled(count), _python_filled(count)
        numbers = _Numbers(count)
        inserts = min(INSERTS[scale.name], count // 10)
        latency = partial(_latency, chase, READS[scale.name])
        what = f"{count:,} tips"
        reading = "a read of memory"
        last = count == TIPS[scale.name][-1]
        rows += [
            Row(
                f"insert, 4 parents, {what}", "ns",
                again(partial(_insert, growing, numbers, inserts)),
                latency, reading, "<= 1,000" if last else "", more=False,
            ),
            Row(
                f"select 4, {what}", "ns",
                again(partial(_select, graph, PARENTS, SELECTIONS[scale.name])),
                latency, reading, more=False,
            ),
            Row(
                f"select 1, {what}", "ns",
                again(partial(_select, graph, 1, SELECTIONS[scale.name])),
                latency, reading, "<= 100" if last else "", more=False,
            ),
            Row(
                f"plain Python insert, {what}", "ns",
                again(partial(_python_insert, python, inserts)),
                latency, reading, more=False,
            ),
            Row(
                f"plain Python select 4, {what}", "ns",
                again(partial(_python_select, python, inserts)),
                latency, reading, more=False,
            ),
        ]  # fmt: skip
    return measure(rows, scale, say)


@dataclass(slots=True)
class _Numbers:
    """Sequence numbers that no vertex has yet."""

    next: int


@dataclass(slots=True)
class _Python:
    """The peer: the same in dicts and a list. Tips leave by a swap with the last."""

    parents: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)
    heights: dict[bytes, int] = field(default_factory=dict)
    tips: list[bytes] = field(default_factory=list)
    places: dict[bytes, int] = field(default_factory=dict)
    draw: random.Random = field(default_factory=lambda: random.Random(SEED))

    def insert(self, id: bytes, parents: tuple[bytes, ...]) -> None:
        if id in self.parents:
            return
        height = 0
        for parent in parents:
            height = max(height, self.heights[parent])
            place = self.places.pop(parent, None)
            if place is not None:
                last = self.tips.pop()
                if last != parent:
                    self.tips[place] = last
                    self.places[last] = place
        self.parents[id] = parents
        self.heights[id] = height + 1
        self.places[id] = len(self.tips)
        self.tips.append(id)

    def select(self, count: int) -> list[bytes]:
        return self.draw.sample(self.tips, min(count, len(self.tips)))


def _wires(numbers: _Numbers, parents: list[tuple[bytes, ...]]) -> bytes:
    """Unsigned vertices of one device with these parents."""
    out: list[bytes] = []
    known: dict[int, bytes] = {}
    for chosen in parents:
        if len(chosen) not in known:
            known[len(chosen)] = _envelope(len(chosen))
        whole = bytearray(known[len(chosen)])
        struct.pack_into(">Q", whole, AT_SEQ, numbers.next)
        numbers.next += 1
        if chosen:
            whole[-32 * len(chosen) :] = b"".join(sorted(chosen))
        out += (bytes(whole), UNSIGNED)
    return b"".join(out)


def _envelope(parents: int) -> bytes:
    some = tuple(bytes([index]) * 32 for index in range(parents))
    draft = VertexDraft(CHAIN_ID, 0, bytes(8), 1, bytes(32), 1, bytes(16), b"", parents=some)
    return build_envelope(draft, bytes(20))


def _batches(numbers: _Numbers, parents: list[tuple[bytes, ...]], size: int) -> list[Batch]:
    return [
        check_batch(_wires(numbers, parents[at : at + size]), size, CHAIN_ID, None, 0)
        for at in range(0, len(parents), size)
    ]


def _filled(count: int) -> Graph:
    graph = Graph(60, SEED)
    for batch in _batches(_Numbers(0), [()] * count, BATCH_VERTICES_MAX):
        graph.attach(batch)
    return graph


def _python_filled(count: int) -> _Python:
    python = _Python()
    for _ in range(count):
        python.insert(python.draw.randbytes(32), ())
    return python


def _latency(chase: Chase, reads: int) -> Raw:
    with clocked() as clock:
        chase.run(reads)
    return Raw(clock.wall_s / reads * 1e9, clock.cpu_s / reads * 1e6)


def _insert(graph: Graph, numbers: _Numbers, count: int) -> Run:
    random_ = random.Random(numbers.next)
    known = len(graph)
    parents = [tuple(map(graph.id, random_.sample(range(known), PARENTS))) for _ in range(count)]
    batches = _batches(numbers, parents, INSERT_BATCH)
    with clocked() as clock:
        for batch in batches:
            graph.attach(batch)
    assert len(graph) == known + count
    return Run(clock.wall_s / count * 1e9, clock.cpu_s / count * 1e6)


def _select(graph: Graph, parents: int, count: int) -> Run:
    with clocked() as clock:
        graph.select_many(count, parents, 0, SEED)
    return Run(clock.wall_s / count * 1e9, clock.cpu_s / count * 1e6)


def _python_insert(python: _Python, count: int) -> Run:
    ids = list(python.parents)
    work = []
    for _ in range(count):
        chosen = tuple(python.draw.sample(ids, PARENTS))
        work.append((python.draw.randbytes(32), chosen))
    with clocked() as clock:
        for id, parents in work:
            python.insert(id, parents)
    return Run(clock.wall_s / count * 1e9, clock.cpu_s / count * 1e6)


def _python_select(python: _Python, count: int) -> Run:
    with clocked() as clock:
        for _ in range(count):
            python.select(PARENTS)
    return Run(clock.wall_s / count * 1e9, clock.cpu_s / count * 1e6)
