"""How fast signed vertices of known devices become durable, against bare signature verification.

A real ``Daemon`` in this process takes batches at the door that the interface uses,
``Daemon.submit``: check on two native threads, ``Node.step``, ``Barrier``, ``Store``. A vertex
counts when its reply has come, and a reply leaves when the record is synced. Peers and JSON are not
in it; the node produces its blocks meanwhile.
"""

import asyncio
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks import network
from benchmarks.harness import Clock, Figure, Raw, Row, Run, Scale, clocked, measure, two_threads
from benchmarks.python_ingest import PythonIngest
from benchmarks.workload import Vertices, make
from dipnet.daemon import networks
from dipnet.daemon.daemon import Daemon
from dipnet.ledger.genesis import Genesis
from dipnet.node.work import ClientVertices
from dipnet.primitives.crypto import address
from dipnet.primitives.errors import Invalid

DEVICES: Final = {"full": 1_000, "quick": 200, "tiny": 10}
VERTICES: Final = {"full": 201_000, "quick": 8_200, "tiny": 60}
BATCHES: Final = {"full": (10_000, 1_000), "quick": (1_000,), "tiny": (20,)}
RAW_SIGNATURES: Final = {"full": 4_000, "quick": 2_000, "tiny": 20}
IN_FLIGHT_MAX: Final = 40_000  # vertices that are submitted and not replied to
GOAL: Final = ">= 0.85"


def run(scale: Scale, say: Callable[[str], None]) -> list[Figure]:
    """The node with each batch size, and the plain Python pipeline."""
    count, devices = VERTICES[scale.name], DEVICES[scale.name]
    say(f"  signing {count:,} vertices of {devices:,} devices")
    with tempfile.TemporaryDirectory() as directory:
        genesis = network.write_genesis(Path(directory))
        ref_hash = network.genesis_hash(genesis, Path(directory) / "first")[:8]
    vertices = make(count, devices, ref_hash)
    raw = vertices.raw_verify(0, RAW_SIGNATURES[scale.name])

    def limit() -> Raw:
        return two_threads(raw.run)

    rows = [
        Row(
            f"ingest, batches of {size:,}",
            "vertices/s",
            partial(_ingest, genesis, vertices, size),
            limit,
            "raw verify, 2 threads",
            GOAL,
        )
        for size in BATCHES[scale.name]
    ]
    size = BATCHES[scale.name][0]
    peer = partial(_python_ingest, vertices, size)
    name = f"plain Python, batches of {size:,}"
    rows.append(Row(name, "vertices/s", peer, limit, "raw verify, 2 threads"))
    return measure(rows, scale, say)


def _batches(vertices: Vertices, size: int) -> list[tuple[bytes, ...]]:
    """All but the first vertex of each device, by which the node comes to know its key."""
    wires = vertices.wires[vertices.devices :]
    return [wires[at : at + size] for at in range(0, len(wires), size)]


def _ingest(genesis: Genesis, vertices: Vertices, size: int) -> Run:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        networks.write_dev(directory, genesis)
        return network.within(directory, partial(_submit_all, vertices, size))


async def _submit_all(vertices: Vertices, size: int, node: Daemon) -> Run:
    await _submit(node, vertices.wires[: vertices.devices])
    batches = _batches(vertices, size)
    room = asyncio.Semaphore(max(2, IN_FLIGHT_MAX // size))

    async def one(batch: tuple[bytes, ...]) -> None:
        async with room:
            await _submit(node, batch)

    with clocked() as clock:
        await asyncio.gather(*map(one, batches))
    return _outcome(sum(map(len, batches)), clock)


async def _submit(node: Daemon, wires: tuple[bytes, ...]) -> None:
    results = await node.submit(ClientVertices(wires))
    accepted = [result for result in results if not isinstance(result, Invalid)]
    if len(accepted) < len(wires) or {status for _, status in accepted} != {"accepted"}:
        raise RuntimeError("the node refused a good vertex, or lets it wait")


def _python_ingest(vertices: Vertices, size: int) -> Run:
    keys = [vertices.keys[33 * at : 33 * at + 33] for at in range(vertices.devices)]
    batches = _batches(vertices, size)
    with tempfile.TemporaryDirectory() as name:
        pipeline = PythonIngest(Path(name), network.CHAIN_ID, {address(key): key for key in keys})
        pipeline.run([vertices.wires[: vertices.devices]])
        with clocked() as clock:
            durable = pipeline.run(batches)
        pipeline.close()
    return _outcome(durable, clock)


def _outcome(count: int, clock: Clock) -> Run:
    return Run(count / clock.wall_s, clock.cpu_s / count * 1e6)
