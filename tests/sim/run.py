"""Many seeds of the simulator, the first ``TWICE`` in two processes with different hash seeds.

    python -m tests.sim.run --seeds 200     seeds 0 to 199
    python -m tests.sim.run --seed 17       that seed alone, with all that it did

Two runs of a seed must have the same trace, whatever their hash seeds. Exits 1 on any
broken promise, on any unequal trace, and when a long run lacks a kind of event that it should have
(``Outcome.happened``). Only this file is run as a script, so it needs no path.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from tests import ROOT

HASH_SEEDS = ("0", "1")
PART = 10  # seeds of a process
TWICE = 200  # seeds that run under each hash seed; an order that it decides shows in few
PROGRESS = 25
LONG = 500  # so many seeds must have everything at least once
WIDTH = 110

Outcome = dict[str, Any]


@dataclass
class Totals:
    """The sums over all seeds."""

    seeds: int = 0
    twice: int = 0  # of them under both hash seeds
    broken: int = 0
    unequal: int = 0
    unfinished: list[int] = field(default_factory=list)
    events: int = 0
    virtual_ms: int = 0
    settled_ms: list[int] = field(default_factory=list)
    resumed_slots: list[int] = field(default_factory=list)
    resumed_percent: int = 0  # of the bound, at most
    latencies_ms: Counter[int] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)

    @property
    def missing(self) -> list[str]:
        """The kinds of events that a run of this length must have, and lacks."""
        return [what for what, count in self.happened.items() if not count and self.seeds >= LONG]

    @property
    def failed(self) -> bool:
        return bool(self.broken or self.unequal or self.unfinished or self.missing)


def jobs_of(first: int, count: int) -> Iterator[tuple[str, list[int]]]:
    """For each process its hash seed and its seeds; both runs of a seed come soon after another."""
    seeds = range(first, first + count)
    for at in range(0, count, PART):
        for hash_seed in HASH_SEEDS if at < TWICE else HASH_SEEDS[:1]:
            yield hash_seed, list(seeds[at : at + PART])


def outcomes(parts: Iterable[tuple[str, list[int]]], jobs: int) -> Iterator[Outcome]:
    """Outcomes as they come, ``jobs`` processes at a time."""
    queue: SimpleQueue[Outcome | None] = SimpleQueue()
    waiting = deque(parts)

    def work() -> None:
        with contextlib.suppress(IndexError):
            while True:
                read(*waiting.popleft())
        queue.put(None)

    def read(hash_seed: str, seeds: list[int]) -> None:
        command = [sys.executable, "-m", "tests.sim.worker", *map(str, seeds)]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                queue.put(json.loads(line))

    for _ in range(jobs):
        threading.Thread(target=work, daemon=True).start()
    ended = 0
    while ended < jobs:
        item = queue.get()
        if item is None:
            ended += 1
        else:
            yield item


def replay(seed: int) -> str:
    """The command that runs a seed again."""
    return f"python -m tests.sim.run --seed {seed}"


def run(first: int, count: int, jobs: int, alone: bool) -> Totals:
    """Runs the seeds and prints each that breaks a promise."""
    parts = list(jobs_of(first, count))
    totals = Totals(unfinished=sorted(seed for _, seeds in parts for seed in seeds))
    traces: dict[int, str] = {}
    for outcome in outcomes(parts, jobs):
        totals.unfinished.remove(outcome["seed"])
        totals.events += outcome["events"]
        totals.virtual_ms += outcome["virtual_ms"]
        if outcome["seed"] not in traces:
            traces[outcome["seed"]] = outcome["trace"]
            count_in(totals, outcome)
            tell(outcome, alone)
        else:
            totals.twice += 1
            if outcome["trace"] != traces[outcome["seed"]]:
                totals.unequal += 1
                print(f"seed {outcome['seed']}: the trace depends on PYTHONHASHSEED")
    return totals


def count_in(totals: Totals, outcome: Outcome) -> None:
    """Adds the outcome of a seed."""
    totals.seeds += 1
    totals.broken += len(outcome["violations"])
    if outcome["settled_ms"] is not None:
        totals.settled_ms.append(outcome["settled_ms"])
    if outcome["resumed_slots"] is not None:
        totals.resumed_slots.append(outcome["resumed_slots"])
        percent = 100 * outcome["resumed_slots"] // outcome["bound_slots"]
        totals.resumed_percent = max(totals.resumed_percent, percent)
    totals.latencies_ms.update(outcome.pop("latencies_ms"))
    totals.happened.update(outcome["happened"])
    if totals.seeds % PROGRESS == 0:
        print(f"{totals.seeds} seeds, {totals.broken} violations", flush=True)


def tell(outcome: Outcome, verbose: bool) -> None:
    """The outcome of a seed in words, or its violations."""
    seed, broken = outcome["seed"], outcome["violations"]
    if verbose:
        print(json.dumps(outcome, indent=1))
    if broken:
        print(f"seed {seed}: {len(broken)} violations; {replay(seed)}")
        for text in broken if verbose else broken[:3]:
            print(f"    {text if verbose else text[-WIDTH:].strip()}", flush=True)


def percentile(values: list[int], percent: int) -> int:
    """The sorted value that so many percent of the values do not exceed."""
    return values[min(len(values) - 1, len(values) * percent // 100)] if values else 0


def summary(totals: Totals, wall_s: float, processes: int) -> Iterator[str]:
    """The result of the run in words."""
    rate = totals.virtual_ms / 1000 / wall_s / processes
    yield (
        f"{totals.seeds} seeds, {totals.twice} of them under {len(HASH_SEEDS)} hash seeds: "
        f"{totals.broken} violations, {totals.unequal} unequal traces; "
        f"{totals.events:,} events in {wall_s:.0f} s, "
        f"{rate:.0f} virtual seconds a wall second and core"
    )
    yield ", ".join(f"{what}: {count:,}" for what, count in totals.happened.items())
    if totals.missing:
        yield f"never seen: {', '.join(totals.missing)}"
    latencies = sorted(totals.latencies_ms.elements())
    yield (
        f"finality in peace, from the start of the slot: p50 {percentile(latencies, 50)} ms, "
        f"p99 {percentile(latencies, 99)} ms of {len(latencies):,}"
    )
    resumed, settled = sorted(totals.resumed_slots), sorted(totals.settled_ms)
    yield (
        f"finality back after healing: median {percentile(resumed, 50)} slots, "
        f"longest {percentile(resumed, 100)}, at most {totals.resumed_percent} % of 2n x step; "
        f"DAGs equal after the load: "
        f"median {percentile(settled, 50) / 1000:.1f} s, "
        f"longest {percentile(settled, 100) / 1000:.1f} s"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="run the deterministic simulator")
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds, from --first on")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this seed alone, with all that it says")
    cores = os.cpu_count() or 2
    parser.add_argument("--jobs", type=int, default=cores, help="processes")
    options = parser.parse_args()
    alone = options.seed is not None
    first, count = (options.seed, 1) if alone else (options.first, options.seeds)
    start = time.monotonic()
    totals = run(first, count, options.jobs, alone)
    for seed in sorted({*totals.unfinished}):
        print(f"seed {seed}: a process ended before it did; {replay(seed)}")
    for line in summary(totals, time.monotonic() - start, options.jobs):
        print(line)
    return 1 if totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())
