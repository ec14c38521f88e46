"""IDpos without stakes or votes: what a border decides is what the test says.

The tests of the chain ask how it follows a border's decision, whoever makes it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from dipnet.consensus import idpos
from dipnet.consensus.idpos import DPOS_ADDRESS, Around, Elected
from dipnet.consensus.members import Members
from dipnet.crypto import keccak256
from dipnet.genesis import Genesis
from dipnet.state import Journal


def _same(members: Members, epoch: int) -> Members:
    return members


def _none(epoch: int) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Elections:
    """``members`` gives Set(epoch) in place of the present one, ``changes`` what parameters differ.

    Both take the number of the epoch that they are for: sets are decided two epochs ahead,
    parameters hold from the next epoch on.
    """

    members: Callable[[Members, int], Members] = _same
    changes: Callable[[int], dict[str, Any]] = _none

    def put(self, patch: pytest.MonkeyPatch) -> "Elections":
        """Take the place of the contract."""
        patch.setattr(idpos, "commitment_of", self._commitment_of)
        patch.setattr(idpos, "end_block", self._end_block)
        patch.setattr(idpos, "at_border", self._at_border)
        return self

    @staticmethod
    def _keys(delegate: bytes) -> tuple[bytes, bytes]:
        return keccak256(b"commitment" + delegate), keccak256(b"slot" + delegate)

    def _commitment_of(self, journal: Journal, delegate: bytes) -> tuple[bytes, int]:
        committed, slot = (journal.slot(DPOS_ADDRESS, key) for key in self._keys(delegate))
        return committed.to_bytes(32, "big"), slot

    def _end_block(
        self, journal: Journal, around: Around, tips: int, missed: tuple[bytes, ...],
        commitment: bytes,
    ) -> None:  # fmt: skip
        committed, slot = self._keys(around.proposer)
        journal.set_slot(DPOS_ADDRESS, committed, int.from_bytes(commitment, "big"))
        journal.set_slot(DPOS_ADDRESS, slot, around.slot)

    def _at_border(self, journal: Journal, around: Around) -> Elected:
        parameters: Genesis = around.parameters
        changed = parameters.model_copy(update=self.changes(around.epoch + 1))
        return Elected(self.members(around.members, around.epoch + 2), changed)
