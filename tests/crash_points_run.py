"""``make crashes KILLS=n``: kills on the modelled disk, and as many of real processes."""

import argparse

from tests.crash_points import run_all
from tests.crash_points_process import run_processes

KILLS_OF_KEY = 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sent = run_all(given.kills, given.seed)
    print(f"modelled disk: {given.kills} kills, {sent} signatures, no offence", flush=True)
    kills = signatures = 0
    while kills < given.kills:
        told = run_processes(min(KILLS_OF_KEY, given.kills - kills), given.seed + kills)
        kills += told.kills
        signatures += told.signatures
        print(f"real processes: {kills} kills, {signatures} signatures, no offence", flush=True)


if __name__ == "__main__":
    main()
