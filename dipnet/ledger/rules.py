"""The versions of the protocol's rules: a table of their numbers and of what each changed.

The parameter ``rules`` holds the number in force. Delegates raise it by vote (ADR 76). Code that
depends on the version asks ``Parameters.rules_in_force`` and compares no numbers of its own: a
change of the rules is a new row here with a new field of ``ProtocolRules``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from dipnet.primitives.errors import Invalid


@dataclass(frozen=True, slots=True)
class ProtocolRules:
    """A version of the rules. ``changes`` is its difference to the version before, for people."""

    number: int
    changes: str


RULES: Final[Mapping[int, ProtocolRules]] = MappingProxyType({
    2: ProtocolRules(2, "the rules of the first release, open to changes until that release"),
})  # fmt: skip
"""The versions that this program follows, by number."""

RULES_FIRST: Final = min(RULES)
"""The oldest number that this program follows. No network of a lower number exists any more."""

RULES_KNOWN: Final = max(RULES)
"""The newest number that this program follows."""


def rules_of(number: int) -> ProtocolRules:
    """The version ``number``; ``Invalid("rules_unknown")`` if it is not in ``RULES``."""
    if number not in RULES:
        raise Invalid("rules_unknown", f"number {number}, here are {RULES_KNOWN}")
    return RULES[number]
