"""Many seeds of the simulator, each in two processes with different hash seeds.

    python tests/sim_run.py --seeds 200     seeds 0 to 199
    python tests/sim_run.py --seed 17       that seed alone, again

Two runs of a seed must have one trace: what a hash seed decides is no simulation. Exits 1 on any
broken promise and on any unequal trace. Only this file is run as a script, so it needs no path.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HASH_SEEDS = ("0", "1")
PROGRESS = 10
WIDTH = 110

Outcome = dict[str, Any]


@dataclass
class Totals:
    """What all seeds together did."""

    seeds: int = 0
    broken: int = 0
    unequal: int = 0
    unfinished: list[int] = field(default_factory=list)
    events: int = 0
    virtual_ms: int = 0

    @property
    def failed(self) -> bool:
        return bool(self.broken or self.unequal or self.unfinished)


def outcomes(first: int, count: int, jobs: int) -> Iterator[tuple[str, Outcome]]:
    """(hash seed, outcome) as they come, from ``jobs`` processes for each hash seed."""
    queue: SimpleQueue[tuple[str, Outcome] | None] = SimpleQueue()

    def read(hash_seed: str, offset: int) -> None:
        command = [sys.executable, "-m", "tests.sim_worker"]
        numbers = [str(n) for n in (first + offset, first + count, jobs)]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        with subprocess.Popen(
            [*command, *numbers], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                queue.put((hash_seed, json.loads(line)))
        queue.put(None)

    parts = [(hash_seed, offset) for hash_seed in HASH_SEEDS for offset in range(jobs)]
    for part in parts:
        threading.Thread(target=read, args=part, daemon=True).start()
    ended = 0
    while ended < len(parts):
        item = queue.get()
        if item is None:
            ended += 1
        else:
            yield item


def replay(seed: int) -> str:
    """The command that runs one seed again."""
    return f"python tests/sim_run.py --seed {seed}"


def run(first: int, count: int, jobs: int, verbose: bool) -> Totals:
    """Runs the seeds and tells of each one that is not as it should be."""
    totals = Totals(unfinished=list(range(first, first + count)))
    waiting: dict[int, Outcome] = {}
    for _, outcome in outcomes(first, count, jobs):
        totals.events += outcome["events"]
        totals.virtual_ms += outcome["virtual_ms"]
        seed = outcome["seed"]
        other = waiting.pop(seed, None)
        if other is None:
            waiting[seed] = outcome
            continue
        totals.seeds += 1
        totals.unfinished.remove(seed)
        if verbose:
            print(json.dumps(outcome, indent=1))
        if outcome["violations"]:
            totals.broken += len(outcome["violations"])
            print(f"seed {seed}: {len(outcome['violations'])} violations; {replay(seed)}")
            for text in outcome["violations"] if verbose else outcome["violations"][:3]:
                print(f"    {text if verbose else text[-WIDTH:].strip()}")
        if outcome["trace"] != other["trace"]:
            totals.unequal += 1
            print(f"seed {seed}: the trace depends on PYTHONHASHSEED; {replay(seed)}")
        if totals.seeds % PROGRESS == 0:
            print(f"{totals.seeds} of {count} seeds", flush=True)
    return totals


def main() -> int:
    parser = argparse.ArgumentParser(description="run the deterministic simulator")
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds, from --first on")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this seed alone, with all that it says")
    cores = os.cpu_count() or 2
    parser.add_argument(
        "--jobs", type=int, default=max(1, cores // 2), help="processes a hash seed"
    )
    options = parser.parse_args()
    alone = options.seed is not None
    first, count = (options.seed, 1) if alone else (options.first, options.seeds)
    jobs = 1 if alone else min(options.jobs, count)
    start = time.monotonic()
    totals = run(first, count, jobs, alone)
    wall = time.monotonic() - start
    for seed in totals.unfinished:
        print(f"seed {seed}: a process ended before it did; {replay(seed)}")
    rate = totals.virtual_ms / 1000 / wall / (jobs * len(HASH_SEEDS))
    print(
        f"{totals.seeds} seeds, each under {len(HASH_SEEDS)} hash seeds: "
        f"{totals.broken} violations, {totals.unequal} unequal traces; "
        f"{totals.events:,} events in {wall:.0f} s, "
        f"{rate:.0f} virtual seconds a wall second and core"
    )
    return 1 if totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())
