"""``python -m benchmarks [names] [--quick] [--json FILE] [--write]``: measure and print.

The tables, a bar for each ratio, and with ``--write`` benchmarks/RESULTS.md written anew.
"""

import argparse
import json
import sys
from pathlib import Path
from types import ModuleType
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
from benchmarks.harness import FULL, QUICK, Figure
from benchmarks.report import RESULTS, bars, circumstances, results, table

BENCHMARKS: Final[dict[str, ModuleType]] = {
    "dag_ingest": bench_dag_ingest,
    "payments": bench_payments,
    "tips": bench_tips,
    "finality": bench_finality,
    "finality_latency": bench_finality_latency,
    "finality_processes": bench_finality_processes,
    "election": bench_election,
    "idle": bench_idle,
    "light": bench_light,
}
"""Each has ``run(scale, say) -> list[Figure]`` and a docstring that says what it measures."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="small sizes, fewer pairs to try")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample there")
    parser.add_argument("--write", action="store_true", help="write benchmarks/RESULTS.md anew")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"no benchmark {unknown[0]}; there are {', '.join(BENCHMARKS)}")
    if options.write and (options.names or options.quick):
        parser.error("--write takes every benchmark at full size")
    return options


def main() -> int:
    """Runs the benchmarks that the command line names, or all."""
    options = _options()
    scale = QUICK if options.quick else FULL
    where = circumstances()
    print(json.dumps(where, indent=1))
    figures: dict[str, list[Figure]] = {}
    for name in options.names or BENCHMARKS:
        print(f"\n{name}", flush=True)
        figures[name] = BENCHMARKS[name].run(scale, lambda line: print(line, flush=True))
    everything = [figure for some in figures.values() for figure in some]
    print(f"\n{table(everything)}\n\n{bars(everything)}")
    invalid = sum(not figure.valid for figure in everything)
    print(f"\n{len(everything)} figures, {invalid} INVALID")
    if options.json:
        record = {
            "circumstances": where,
            "scale": scale.name,
            "benchmarks": {
                name: [figure.record() for figure in some] for name, some in figures.items()
            },
        }
        options.json.write_text(json.dumps(record, indent=1) + "\n")
    if options.write:
        words = {name: module.__doc__ or "" for name, module in BENCHMARKS.items()}
        RESULTS.write_text(results(where, figures, words))
    return 0


if __name__ == "__main__":
    sys.exit(main())
