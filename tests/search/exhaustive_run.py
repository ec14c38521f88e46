"""Every tree of some blocks in every state: ``make exhaustive``, or ``make exhaustive BLOCKS=5``.

Prints the numbers of trees, states and violations, and the walks over changes of the set; exits 1
on a violation. Trees are distributed over processes. Four blocks take seconds, five blocks about
twenty minutes on two cores.
"""

import argparse
import multiprocessing
import os
import sys
import time
from multiprocessing.pool import Pool

from tests.search.exhaustive import Explored, Tree, explore, trees, unproven
from tests.search.handover import Plan, Walked, walks

PROGRESS_S = 20
SHARE = 500  # walks that a process takes at once
PLANS = (
    Plan(),
    Plan(blocks=14, steps=300),
    Plan(disjoint=False),
    Plan(blocks=12, epoch_slots=3, steps=240, disjoint=False),
)


def judge(tree: Tree) -> Explored:
    """One tree: its states, and whether every conflict in it could be proven."""
    explored = explore(tree)
    if not explored.violation and (pair := unproven(tree)):
        return Explored(explored.states, f"no proof against {pair}")
    return explored


def walk(share: tuple[Plan, range]) -> list[tuple[int, Walked]]:
    """Some walks of one plan."""
    plan, seeds = share
    return list(walks(seeds, plan))


def main() -> int:
    """Run the search of the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--walks", type=int, default=5_000, help="of each kind")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        violations = run_trees(pool, options.blocks) + run_walks(pool, options.walks)
    return 1 if violations else 0


def run_trees(pool: Pool, blocks: int) -> int:
    """Explore all trees; the number of trees with a violation."""
    begin = told = time.monotonic()
    count = states = violations = 0
    for explored in pool.imap_unordered(judge, trees(blocks), 4):
        count, states = count + 1, states + explored.states
        violations += bool(explored.violation)
        if explored.violation and violations < 10:
            print(explored.violation, flush=True)
        if time.monotonic() - told > PROGRESS_S:
            told = time.monotonic()
            print(f"  {count} trees, {states} states ...", flush=True)
    print(
        f"{blocks} blocks, 3 honest voters of 4: {count} trees, {states} states, "
        f"{violations} violations ({time.monotonic() - begin:.0f} s)",
        flush=True,
    )
    return violations


def run_walks(pool: Pool, count: int) -> int:
    """Run walks of every plan; the number of walks with a violation."""
    total = 0
    for plan in PLANS:
        shares = [(plan, range(at, min(at + SHARE, count))) for at in range(0, count, SHARE)]
        done = [one for share in pool.imap_unordered(walk, shares) for one in share]
        bad = sorted((seed, walked.violation) for seed, walked in done if walked.violation)
        for seed, violation in bad[:10]:
            print(f"seed {seed} of {plan}: {violation}")
        finals = sum(walked.finals for _, walked in done)
        handovers = sum(walked.handovers for _, walked in done)
        crossed = sum(walked.epochs > 0 for _, walked in done)
        print(
            f"{plan}: {len(done)} walks, {finals} final blocks, {handovers} hand-over votes, "
            f"{crossed} walks with finality by a new set, {len(bad)} violations",
            flush=True,
        )
        total += len(bad)
    return total


if __name__ == "__main__":
    sys.exit(main())
