"""The cost of a node that does nothing: memory, and the time from its start to its first answer.

Beside the start stands the start of a bare Python interpreter, which no change here can shorten.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks import network
from benchmarks.harness import Figure, Row, Run, Scale, again, measure

IDLE_S: Final = {"full": 3.0, "quick": 2.0, "tiny": 0.0}


def run(scale: Scale, say: Callable[[str], None]) -> list[Figure]:
    """Start and memory of ``dipnetd dev`` in an empty directory."""

    def start() -> Run:
        with tempfile.TemporaryDirectory() as name, network.process(Path(name)) as node:
            return Run(node.answer_ms)

    def memory() -> Run:
        with tempfile.TemporaryDirectory() as name, network.process(Path(name)) as node:
            before = node.cpu_s()
            time.sleep(IDLE_S[scale.name])
            busy = (node.cpu_s() - before) / IDLE_S[scale.name] if IDLE_S[scale.name] else 0
            return Run(node.rss_bytes() / 2**20, notes={"cpu_share": busy})

    rows = [
        Row("exec to first answer", "ms", again(start), goal="<= 3,000", more=False),
        Row("of it, a bare interpreter", "ms", again(_python_start), more=False),
        Row("memory of an idle node", "MiB", again(memory), goal="<= 150", more=False),
    ]
    return measure(rows, scale, say)


def _python_start() -> Run:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", ""], check=True)
    return Run((time.perf_counter() - begin) * 1e3)
