"""``python -m benchmarks [names] [--quick] [--json FILE]``: measure and print, see RESULTS.md."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks import (
    bench_dag_ingest,
    bench_election,
    bench_finality,
    bench_finality_latency,
    bench_finality_processes,
    bench_idle,
    bench_light,
    bench_payments,
    bench_tips,
)
from benchmarks.harness import FULL, QUICK, Figure, Scale
from benchmarks.report import bars, circumstances, markdown, table

Benchmark = Callable[[Scale, Callable[[str], None]], list[Figure]]

BENCHMARKS: Final[dict[str, Benchmark]] = {
    "dag_ingest": bench_dag_ingest.run,
    "payments": bench_payments.run,
    "tips": bench_tips.run,
    "finality": bench_finality.run,
    "finality_latency": bench_finality_latency.run,
    "finality_processes": bench_finality_processes.run,
    "election": bench_election.run,
    "idle": bench_idle.run,
    "light": bench_light.run,
}


def main() -> int:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="small sizes, two repetitions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every repetition there")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    scale = QUICK if options.quick else FULL
    where = circumstances()
    print(json.dumps(where, indent=1))
    figures: dict[str, list[Figure]] = {}
    for name in options.names or BENCHMARKS:
        print(f"\n{name}", flush=True)
        figures[name] = BENCHMARKS[name](scale, lambda line: print(line, flush=True))
    everything = [figure for some in figures.values() for figure in some]
    print(f"\n{table(everything)}\n\n{bars(everything)}\n\n{markdown(everything)}")
    if options.json:
        record = {
            "circumstances": where,
            "scale": scale.name,
            "benchmarks": {
                name: [figure.record() for figure in some] for name, some in figures.items()
            },
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
