"""Scenarios of twins: ``make twins``, or ``make twins SCENARIOS=100000``.

    python -m tests.search.twins_run --scenarios 500     500 of all scenarios, evenly
    python -m tests.search.twins_run --scenario 1234     one scenario, with all details

Prints the results and exits 1 on a violation. The controls have two faulty delegates of four: every
control must end in a conflict, which shows that the search can find conflicts.
"""

import argparse
import logging
import multiprocessing
import os
import sys
import time
from itertools import islice

from tests.search.twins import (
    CONTROLS,
    ROUNDS,
    Outcome,
    Scenario,
    count_of,
    numbers,
    run_control,
    run_scenario,
)

PROGRESS_S = 20
CONFLICT = "two final blocks"


def quiet() -> None:
    """Silence the logs of nodes in the processes of the pool."""
    logging.disable()


def main() -> int:
    """Run the scenarios of the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--scenarios", type=int, default=300)
    parser.add_argument("--scenario", type=int, help="this one alone")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.scenario is not None:
        print(Scenario.of(options.scenario))
        outcome = run_scenario(options.scenario)
        print(outcome)
        return 1 if outcome.violations else 0
    begin = told = time.monotonic()
    done: list[Outcome] = []
    with multiprocessing.get_context("spawn").Pool(options.processes, quiet) as pool:
        chosen = islice(numbers(), options.scenarios)
        for outcome in pool.imap_unordered(run_scenario, chosen, 4):
            done.append(outcome)
            for text in outcome.violations:
                print(f"scenario {outcome.number}: {text.strip()}", flush=True)
            if time.monotonic() - told > PROGRESS_S:
                told = time.monotonic()
                print(f"  {len(done)} scenarios ...", flush=True)
        conflicts = sum(
            any(CONFLICT in text for text in outcome.violations)
            for outcome in pool.imap_unordered(run_control, CONTROLS)
        )
    summary(done, time.monotonic() - begin)
    print(f"controls, two twins of four: {conflicts} of {len(CONTROLS)} end in a conflict")
    broken = any(outcome.violations for outcome in done)
    return 1 if broken or not done or conflicts < len(CONTROLS) else 0


def summary(done: list[Outcome], seconds: float) -> None:
    """The results of all scenarios, summed."""
    resumed = [one.resumed_slots for one in done if one.resumed_slots is not None]
    violations = sum(len(one.violations) for one in done)
    print(
        f"{len(done)} scenarios of {ROUNDS} rounds, spread over {count_of():,}: "
        f"{violations} violations ({seconds:.0f} s)"
    )
    print(
        f"{sum(one.equivocations for one in done)} slots with two proposals, "
        f"{sum(one.parted for one in done)} scenarios in which honest heads parted, "
        f"{sum(one.epochs > 0 for one in done)} with a new epoch, {sum(one.final for one in done)} "
        f"final blocks, {sum(one.events for one in done):,} events; finality back after at most "
        f"{max(resumed, default=0)} slots"
    )


if __name__ == "__main__":
    sys.exit(main())
