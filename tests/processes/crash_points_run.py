"""``make crashes KILLS=n``: kills on the modelled disk, and as many of real processes.

Before them the positive controls: signers that persist after they have signed must be found out,
else the run proves nothing and fails.
"""

import argparse
import time

from tests.processes.crash_points import Broken, caught, open_sends_first, run_all
from tests.processes.crash_points_process import run_processes

KILLS_OF_KEY = 50
CONTROL_KILLS = 200


def controls(seed: int) -> list[str]:
    """What was found of the signers that must be found out; empty where nothing was."""
    found = [caught(open_sends_first)]
    try:
        run_processes(CONTROL_KILLS, seed, late=True)
    except Broken as broken:
        found.append(str(broken))
    else:
        found.append("")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began = time.monotonic()
    for what, found in zip(("modelled disk", "real process"), controls(given.seed), strict=True):
        print(f"control, {what}: persisting after signing is {found or 'NOT CAUGHT'}", flush=True)
        if not found:
            raise SystemExit(1)
    sent, crashed = run_all(given.kills, given.seed)
    print(f"modelled disk: {given.kills} kills, {sent} signatures, no offence")
    print("\n".join(f"  {times:4} {where}" for where, times in crashed.most_common()), flush=True)
    kills = signatures = 0
    while kills < given.kills:
        told = run_processes(min(KILLS_OF_KEY, given.kills - kills), given.seed + kills)
        kills += told.kills
        signatures += told.signatures
        print(f"real processes: {kills} kills, {signatures} signatures, no offence", flush=True)
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
