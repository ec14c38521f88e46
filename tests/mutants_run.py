"""Every rule broken once: ``make mutants`` prints what caught each, and exits 1 if one survives.

    python tests/mutants_run.py             all of them
    python tests/mutants_run.py V1 border   those whose name has one of these words

A list with ``name``, ``put`` and ``find`` for each is one entry of ``GROUPS``.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from _pytest.monkeypatch import MonkeyPatch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a script

from tests import rule_mutants, staking_mutants

WIDTH = 160


class Mutant(Protocol):
    """A bug on purpose: ``put`` plants it, ``find`` says where it showed, or nothing."""

    @property
    def name(self) -> str: ...
    @property
    def put(self) -> Callable[[MonkeyPatch], None]: ...
    @property
    def find(self) -> Callable[[], str]: ...


GROUPS: list[tuple[str, Sequence[Mutant]]] = [
    ("rules of finality", rule_mutants.MUTANTS),
    ("rules of IDpos", staking_mutants.MUTANTS),
]


def caught(mutant: Mutant) -> str:
    """Where ``mutant`` was caught; empty when it survives."""
    with MonkeyPatch.context() as patch:
        mutant.put(patch)
        return mutant.find()


def main() -> int:
    """Runs those that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="only mutants whose name has one of these")
    words = parser.parse_args().words
    survivors = count = 0
    for group, mutants in GROUPS:
        chosen = [one for one in mutants if not words or any(word in one.name for word in words)]
        for mutant in chosen:
            begin = time.perf_counter()
            where = caught(mutant)
            count += 1
            survivors += not where
            print(f"{'caught  ' if where else 'SURVIVES'}  {group}: {mutant.name}", end="")
            print(f"  ({time.perf_counter() - begin:.1f} s)\n          {where[:WIDTH]}", flush=True)
    print(f"{count} mutants, {survivors} survive")
    return 1 if survivors or not count else 0


if __name__ == "__main__":
    sys.exit(main())
