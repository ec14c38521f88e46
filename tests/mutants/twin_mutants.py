"""Rules of finality that twins need to be broken before they can do harm (``twins.py``)."""

from functools import partial
from typing import Final

from tests.mutants.rule_mutants import MUTANTS as RULES
from tests.mutants.rule_mutants import Mutant
from tests.search.twins import search

SCENARIOS: Final = 40
FOUND: Final = (
    "V1 without the lock",
    "V1 prevotes twice in a slot",
    "V1 prevotes below its last prevote",
    "V2 dropped",
    "prevotes are forgotten",
    "commits are forgotten",
    "a half is a quorum",
    "two thirds are a quorum",
)

MUTANTS: Final = tuple(
    Mutant(one.name, one.put, partial(search, SCENARIOS)) for one in RULES if one.name in FOUND
)
