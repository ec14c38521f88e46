"""How fast signed vertices of known devices become durable, against bare signature verification.

A real ``Daemon`` in this process takes batches through ``Daemon.submit``, as the interface does:
check on two native threads, ``Node.step``, ``Barrier``, ``Store``. A vertex counts when its reply
has come, and a reply leaves when the record is synced. Each slice submits four batches of 10,000,
or forty of 1,000, and waits for all replies; the daemon and its database stay from slice to slice.
The limit verifies as many signatures as it can on the same two threads while the daemon waits.
Beside the node stands a pipeline in plain Python, which keeps no orphans, conflicts or replies.
JSON, peers and a database of more than 120 MB are not in the figures.
"""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import network
from benchmarks.harness import (
    Clock,
    Figure,
    Raw,
    Row,
    Run,
    Scale,
    Slices,
    clocked,
    measure,
    two_threads,
)
from benchmarks.python_ingest import PythonIngest
from benchmarks.workload import Vertices, make
from dipnet.daemon import networks
from dipnet.daemon.daemon import Daemon
from dipnet.ledger.genesis import Genesis
from dipnet.node.work import ClientVertices
from dipnet.primitives.crypto import address
from dipnet.primitives.errors import Invalid

DEVICES: Final = {"full": 1_000, "quick": 200, "tiny": 10}
SLICE: Final = {"full": 40_000, "quick": 10_000, "tiny": 40}  # vertices
SESSION_SLICES: Final = {"full": 6, "quick": 4, "tiny": 1}
BATCHES: Final = {"full": (10_000, 1_000), "quick": (10_000, 1_000), "tiny": (20,)}
RAW_SIGNATURES: Final = {"full": 4_000, "quick": 2_000, "tiny": 20}
IN_FLIGHT_MAX: Final = 40_000  # vertices that are submitted and not replied to
GOAL: Final = ">= 0.85 of the limit"  # of the largest batches; smaller ones are shown

Batch = Sequence[bytes]


def run(scale: Scale, say: Callable[[str], None]) -> list[Figure]:
    """Vertices per second: the node with each batch size, and the plain Python pipeline."""
    devices, slice_ = DEVICES[scale.name], SLICE[scale.name]
    count = devices + slice_ * SESSION_SLICES[scale.name]
    say(f"  signing {count:,} vertices of {devices:,} devices")
    with tempfile.TemporaryDirectory() as directory:
        genesis = network.write_genesis(Path(directory))
        ref_hash = network.genesis_hash(genesis, Path(directory) / "first")[:8]
    vertices = make(count, devices, ref_hash)
    raw = vertices.raw_verify(0, RAW_SIGNATURES[scale.name])

    def limit() -> Raw:
        return two_threads(raw.run)

    what = "raw verify, 2 threads"
    first, *others = BATCHES[scale.name]
    rows = [
        Row(
            f"{name}, batches of {size:,}", "vertices/s",
            partial(slices, genesis, vertices, slice_, size), limit, what, goal,
        )
        for name, slices, size, goal in (
            ("ingest", _ingest, first, GOAL),
            *(("ingest", _ingest, size, "") for size in others),
            ("plain Python", _python_ingest, first, ""),
        )
    ]  # fmt: skip
    with network.only_errors():
        return measure(rows, scale, say)


def _slices(vertices: Vertices, slice_: int, size: int) -> list[list[Batch]]:
    """All but the first vertex of each device, by which the node comes to know its key."""
    return [
        [vertices.wires[at : at + size] for at in range(first, first + slice_, size)]
        for first in range(vertices.devices, len(vertices.wires), slice_)
    ]


def _ingest(genesis: Genesis, vertices: Vertices, slice_: int, size: int) -> Slices:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        networks.write_dev(directory, genesis)
        with network.within(directory) as inside:
            inside.run(_submit(inside.node, vertices.wires[: vertices.devices]))
            for batches in _slices(vertices, slice_, size):
                yield partial(_submitted, inside, batches, max(2, IN_FLIGHT_MAX // size))


def _submitted(inside: network.Inside, batches: list[Batch], at_once: int) -> Run:
    with clocked() as clock:
        inside.run(_submit_all(inside.node, batches, at_once))
    return _outcome(batches, clock)


async def _submit_all(node: Daemon, batches: list[Batch], at_once: int) -> None:
    waiting = asyncio.Semaphore(at_once)

    async def submit(batch: Batch) -> None:
        async with waiting:
            await _submit(node, batch)

    await asyncio.gather(*map(submit, batches))


async def _submit(node: Daemon, wires: Batch) -> None:
    results = await node.submit(ClientVertices(tuple(wires)))
    accepted = [result for result in results if not isinstance(result, Invalid)]
    if len(accepted) < len(wires) or {status for _, status in accepted} != {"accepted"}:
        raise RuntimeError("the node refused a good vertex, or lets it wait")


def _python_ingest(_: Genesis, vertices: Vertices, slice_: int, size: int) -> Slices:
    keys = [vertices.keys[33 * at : 33 * at + 33] for at in range(vertices.devices)]
    known = {address(key): key for key in keys}
    with (
        tempfile.TemporaryDirectory() as name,
        closing(PythonIngest(Path(name), network.CHAIN_ID, known)) as pipeline,
    ):
        pipeline.run([vertices.wires[: vertices.devices]])
        for batches in _slices(vertices, slice_, size):
            yield partial(_piped, pipeline, batches)


def _piped(pipeline: PythonIngest, batches: list[Batch]) -> Run:
    with clocked() as clock:
        durable = pipeline.run(batches)
    assert durable == sum(map(len, batches))
    return _outcome(batches, clock)


def _outcome(batches: list[Batch], clock: Clock) -> Run:
    count = sum(map(len, batches))
    return Run(count / clock.wall_s, clock.cpu_s / count * 1e6)
