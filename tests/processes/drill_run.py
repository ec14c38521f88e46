"""``make drill``: seven real nodes and a candidate; elections, deaths and what stays final.

Prints each step with figures; exit code 1 when a promise does not hold.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.processes.drill import Drill
from tests.processes.drill_net import network, pace_ms
from tests.processes.drill_watch import Watcher

SLOT_MS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--delegates", type=int, default=7)
    parser.add_argument("--slot-ms", type=int, help="500, longer on a machine that is busy")
    parser.add_argument("--epoch-slots", type=int, default=30)
    parser.add_argument("--outage-slots", type=int, default=40, help="while three are dead")
    parser.add_argument("--keep", type=Path, help="a new directory for the network; it stays")
    given = parser.parse_args()
    slot_ms = given.slot_ms or pace_ms(SLOT_MS)
    options = {
        "delegates": given.delegates, "candidates": 1, "slot-ms": slot_ms,
        "epoch-slots": given.epoch_slots,
    }  # fmt: skip
    flags = [f"--{name}={value}" for name, value in options.items()]
    with tempfile.TemporaryDirectory(prefix="dipnet-drill-") as name:
        out = given.keep or Path(name) / "net"
        print(f"dipnetd testnet --start {' '.join(flags)} --out {out}", flush=True)
        begun = time.monotonic()
        with network(out, *flags) as net, Watcher(net) as watcher:
            drill = Drill(net, watcher, lambda line: print(line, flush=True))
            try:
                drill.begin()
                drill.vote_in()
                drill.stop_one()
                drill.kill_two(given.epoch_slots)
                drill.kill_three(given.outage_slots)
                drill.end()
            except AssertionError as failure:
                print(f"FAILED: {failure}", flush=True)
                for fault in watcher.faults:
                    print(f"watcher: {fault}")
                sys.exit(1)
        print(f"all of it holds; {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
