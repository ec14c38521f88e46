"""How long a block takes to be final on four real nodes of this machine, as their clients see it.

A network of ``dipnetd testnet`` has a process for each delegate, and a WebSocket to each node. A
latency is that of a block on a node: from ``newHeads`` to ``finalizedHeads``; and from the start of
the block's slot, which adds making it, sending it and judging it. All processes have one clock.
"""

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect

from benchmarks.harness import Figure, Row, Run, Scale, again, measure
from benchmarks.network import ROOT, STOP_S
from dipnet.dipnetd import testnet

NODES: Final = {"full": 4, "quick": 4, "tiny": 2}
SLOTS: Final = {"full": 10, "quick": 10, "tiny": 1}
SLOT_MS: Final = 1_000
GOAL_MS: Final = 150
ANSWER_S: Final = 60
MEET_BLOCKS: Final = 2  # final blocks that are not counted: the nodes have only just met


@dataclass(slots=True)
class Heard:
    """When a client heard of each block, by its hash; Unix time in ms."""

    heads: dict[str, int] = field(default_factory=dict)
    finals: dict[str, int] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)  # when the block's slot began

    def counted(self) -> list[str]:
        """The blocks that count."""
        known = [block for block in self.finals if block in self.heads]
        return known[MEET_BLOCKS:]


@contextlib.contextmanager
def network(directory: Path, nodes: int) -> Iterator[list[str]]:
    """Runs so many nodes; where each listens."""
    layout = testnet.Layout(nodes, slot_ms=SLOT_MS)
    testnet.write(directory, layout, time.time_ns() // 1_000_000)
    places = testnet.read(directory)["nodes"]
    command = (sys.executable, "-m", "dipnet.dipnetd.main", "run", "--log", "error", "--config")
    children = [subprocess.Popen([*command, place["config"]], cwd=ROOT) for place in places]
    try:
        yield [place["rpc"] for place in places]
    finally:
        for child in children:
            child.terminate()
        for child in children:
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


async def _open(url: str) -> ClientConnection:
    until = time.monotonic() + ANSWER_S
    while True:
        try:
            return await connect("ws" + url.removeprefix("http"))
        except OSError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(0.05)


async def _listen(url: str, blocks: int) -> Heard:
    """Until so many blocks that count are final."""
    heard, names = Heard(), {}
    async with await _open(url) as socket:
        for stream in ("newHeads", "finalizedHeads"):
            request = {"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": [stream]}
            await socket.send(json.dumps(request))
            answer: dict[str, Any] = {}
            while "id" not in answer:  # a block may come before the second answer
                answer = json.loads(await socket.recv())
            names[answer["result"]] = heard.heads if stream == "newHeads" else heard.finals
        while len(heard.counted()) < blocks:
            told = json.loads(await socket.recv())["params"]
            header = told["result"]
            names[told["subscription"]][header["hash"]] = time.time_ns() // 1_000_000
            heard.slots[header["hash"]] = header["timestampMs"]
    return heard


async def _listen_to_all(urls: list[str], blocks: int) -> list[Heard]:
    async with asyncio.timeout(ANSWER_S + 4 * blocks):
        return await asyncio.gather(*(_listen(url, blocks) for url in urls))


@cache
def latencies_ms(nodes: int, slots: int, repetition: int) -> tuple[list[int], list[int]]:
    """Sorted, over all nodes: from the block to finality, and from the slot's start."""
    with tempfile.TemporaryDirectory() as name, network(Path(name) / "net", nodes) as urls:
        everybody = asyncio.run(_listen_to_all(urls, slots))
    pairs = [(one, block) for one in everybody for block in one.counted()]
    from_block = [one.finals[block] - one.heads[block] for one, block in pairs]
    from_slot = [one.finals[block] - one.slots[block] for one, block in pairs]
    return sorted(from_block), sorted(from_slot)


def run(scale: Scale, say: Callable[[str], None]) -> list[Figure]:
    """p50 and p99 of both."""
    nodes, slots = NODES[scale.name], SLOTS[scale.name]
    rows = [
        Row(
            f"{what} to finality p{percent}, {nodes} processes",
            "ms",
            again(_measured(nodes, slots, which, percent)),
            goal=goal,
            more=False,
        )
        for which, what, percent, goal in (
            (0, "block", 50, f"<= {GOAL_MS}"),
            (0, "block", 99, ""),
            (1, "start of the slot", 50, ""),
            (1, "start of the slot", 99, f"<= {SLOT_MS:,}"),
        )
    ]
    return measure(rows, scale, say)


def _measured(nodes: int, slots: int, which: int, percent: int) -> Callable[[], Run]:
    repetitions = count()

    def measured() -> Run:
        found = latencies_ms(nodes, slots, next(repetitions))[which]
        # A block that is final at once counts as 1 ms, so that no figure is zero.
        value = max(found[(len(found) * percent + 99) // 100 - 1], 1)
        return Run(value, notes={"blocks": len(found)})

    return measured
