"""Every rule broken once: ``make mutants`` prints where each was caught; exits 1 for a survivor.

    python -m tests.mutants.run               all mutants
    python -m tests.mutants.run V1 boundary   those whose row has one of these words

``GROUPS`` is the table: a list in a module, each entry with ``name``, ``put`` and ``find`` as
``Mutant`` says. A bug that a test catches is an ``Edit`` (``edits.py``); a bug that only a search,
a simulation or a scenario catches is planted by ``put`` in the process that searches. The tests of
all edits are run once without any edit.
"""

import argparse
import logging
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from _pytest.monkeypatch import MonkeyPatch

from tests.mutants.edits import Edit, run_tests

WIDTH = 150


class Mutant(Protocol):
    """A bug on purpose: ``put`` plants it, ``find`` says where it showed, or nothing."""

    @property
    def name(self) -> str: ...
    @property
    def put(self) -> Callable[[MonkeyPatch], None]: ...
    @property
    def find(self) -> Callable[[], str]: ...


GROUPS: tuple[tuple[str, str, str], ...] = (
    ("finality", "tests.mutants.rule_mutants", "MUTANTS"),
    ("twins", "tests.mutants.twin_mutants", "MUTANTS"),
    ("simulator", "tests.mutants.sim_mutants", "MUTANTS"),
    ("simulator", "tests.mutants.sim_mutants", "FINALITY"),
    ("rule", "tests.mutants.rule_edits", "EDITS"),
    ("chain", "tests.mutants.chain_edits", "EDITS"),
    ("light", "tests.mutants.light_edits", "EDITS"),
    ("IDpos", "tests.mutants.staking_mutants", "MUTANTS"),
)
"""The first word of the rows of a group, its module, the name of the list there."""


@dataclass(frozen=True)
class Judged:
    """A row of the table. ``where`` is empty for a survivor."""

    row: str
    where: str
    seconds: float
    error: str  # why nothing could be judged


def mutants(module: str, name: str) -> Sequence[Mutant]:
    """The mutants of a group."""
    found: Sequence[Mutant] = getattr(import_module(module), name)
    return found


def row(group: str, mutant: Mutant) -> str:
    """The name of a mutant in the table."""
    rule = f"{mutant.rule}: " if isinstance(mutant, Edit) else ""
    return f"{group}: {rule}{mutant.name}"


def caught(mutant: Mutant) -> str:
    """Where ``mutant`` was caught; empty when it survives."""
    with MonkeyPatch.context() as patch:
        mutant.put(patch)
        return mutant.find()


def judge(place: tuple[str, str, str, int]) -> Judged:
    """Judges the mutant at a place of a group; in any process."""
    group, module, name, index = place
    mutant = mutants(module, name)[index]
    begin = time.perf_counter()
    where = error = ""
    try:
        where = caught(mutant)
    except Exception:
        error = traceback.format_exc()
    return Judged(row(group, mutant), where, time.perf_counter() - begin, error)


def chosen(words: Sequence[str]) -> Iterator[tuple[str, str, str, int]]:
    """The places of the mutants whose row has one of ``words``; of all for none."""
    for group, module, name in GROUPS:
        for index, mutant in enumerate(mutants(module, name)):
            text = row(group, mutant)
            if not words or any(word in text for word in words):
                yield group, module, name, index


def unbroken(places: Sequence[tuple[str, str, str, int]]) -> str:
    """The first test of the edits that fails without any edit; empty where all pass."""
    found = [mutants(module, name)[index] for _, module, name, index in places]
    tests = sorted({test for one in found if isinstance(one, Edit) for test in one.tests})
    return run_tests(tests, {}) if tests else ""


def main() -> int:
    """Runs the mutants that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="only mutants whose row has one of these")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    begin = time.monotonic()
    places = list(chosen(options.words))
    if failed := unbroken(places):
        print(f"nothing is broken yet, and a test fails: {failed}")
        return 1
    survivors = []
    with multiprocessing.get_context("spawn").Pool(options.processes, logging.disable) as pool:
        for one in pool.imap(judge, places):
            word = "caught  " if one.where else "SURVIVES"
            print(f"{word}  {one.row}  ({one.seconds:.1f} s)", flush=True)
            print(f"          {one.error or one.where[:WIDTH]}", flush=True)
            survivors += [] if one.where else [one.row]
    seconds = time.monotonic() - begin
    print(f"{len(places)} mutants, {len(survivors)} survive ({seconds:.0f} s)")
    for text in survivors:
        print(f"    {text}")
    return 1 if survivors or not places else 0


if __name__ == "__main__":
    sys.exit(main())
