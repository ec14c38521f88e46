"""Epochs: the decisions of a boundary block for the blocks above it.

Epochs are counted along a chain. The *boundary* of epoch e is the first block, from the end slot of
epoch e - 1 on, whose own header says that the boundary of e - 1 is final. Genesis is the boundary
of epoch 0. The blocks above a boundary are of its epoch. An ``Epoch`` follows from its boundary
alone: it is made once, stored for ever, and found by the boundary's hash.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

from dipnet.consensus.chain import schedule
from dipnet.consensus.chain.records import read
from dipnet.consensus.finality.finality import EpochBoundary, end_slot, is_boundary
from dipnet.consensus.finality.header import Header
from dipnet.consensus.finality.members import MEMBERS_MAX, Members
from dipnet.ledger.genesis import Genesis
from dipnet.ledger.parameters import Parameters, rows
from dipnet.primitives.codec import BIG, TEXT, UINT, Bin, Many, Reader, big, from_big, pack
from dipnet.primitives.errors import Corrupt
from dipnet.primitives.recent import Recent

KEY_EPOCH = b"e"
"""+ number (8), hash of the boundary -> the epoch."""

EPOCHS_KEPT: Final = 16
_VERSION: Final = 1
_NAME_BYTES_MAX: Final = 64
_CHANGES_MAX: Final = 64
_BOUNDARY: Final = (UINT, Bin(32), UINT)
_PAIRS: Final = Many((Bin(20), Bin(33)), MEMBERS_MAX)
_EPOCH: Final = (
    _VERSION, UINT, _BOUNDARY, _BOUNDARY, Bin(32), Bin(32), _PAIRS, _PAIRS,
    Many((TEXT(_NAME_BYTES_MAX), BIG), _CHANGES_MAX),
)  # fmt: skip


@dataclass(frozen=True)
class Epoch:
    """An epoch of one chain. ``parameters`` are in force for its blocks.

    ``before`` is the boundary of the epoch before; in epoch 0 it is genesis. ``next_members`` and
    ``next_seed`` are those of the epoch after, which is so known a whole epoch ahead.
    """

    number: int
    boundary: EpochBoundary
    before: EpochBoundary
    seed: bytes
    next_seed: bytes
    members: Members
    next_members: Members
    parameters: Parameters

    @cached_property
    def order(self) -> tuple[bytes, ...]:
        """The addresses of the delegates in the order in which they lead."""
        return schedule.shuffle(self.members.addresses, self.seed)

    @property
    def end_slot(self) -> int:
        """The first slot whose block may end this epoch."""
        return end_slot(self.boundary.slot, self.parameters.epoch_slots)

    @property
    def key(self) -> bytes:
        """The key of the epoch's record."""
        return key_of(self.number) + self.boundary.block_id

    def ends_with(self, slot: int, final_slot: int) -> bool:
        """Whether a block of this epoch in ``slot`` with this final slot is the next boundary."""
        return is_boundary(self.boundary, self.end_slot, slot, final_slot)

    def members_of(self, epoch: int) -> Members:
        """The set of epoch ``epoch``, which is this epoch or the next."""
        return self.members if epoch == self.number else self.next_members

    def encode(self, first: Parameters) -> bytes:
        """The record of the epoch; of its parameters only those that differ from ``first``."""
        return pack((
            _VERSION, self.number, _fields(self.boundary), _fields(self.before), self.seed,
            self.next_seed, self.members.pairs, self.next_members.pairs,
            [(name.encode(), big(value)) for name, value in _changes(first, self.parameters)],
        ))  # fmt: skip


def key_of(number: int) -> bytes:
    """The prefix of the keys of all epochs with this number."""
    return KEY_EPOCH + number.to_bytes(8, "big")


def _fields(boundary: EpochBoundary) -> tuple[int, bytes, int]:
    return boundary.epoch, boundary.block_id, boundary.slot


def _changes(first: Parameters, now: Parameters) -> list[tuple[str, int]]:
    """Name and value of each parameter that a vote has changed; all are integers."""
    fields = [(name, getattr(now, name)) for name in sorted(rows(type(first)))]
    return [(name, value) for name, value in fields if value != getattr(first, name)]


def decode(raw: bytes | None, first: Parameters) -> Epoch:
    """The epoch in a record of our disk; ``Corrupt`` where it is missing or damaged.

    ``first`` are the parameters of genesis.
    """
    number, boundary, before, seed, next_seed, members, next_members, changes = read(
        raw, _EPOCH, "the record of an epoch"
    )
    update: dict[str, Any] = {name.decode(): from_big(value) for name, value in changes}
    for name in update:
        if name not in rows(type(first)):
            raise Corrupt(f"an epoch has a parameter {name}: run the newer dipnetd that wrote it")
    return Epoch(
        number, EpochBoundary(*boundary), EpochBoundary(*before), seed, next_seed,
        _members(members),
        _members(next_members), replace(first, **update),
    )  # fmt: skip


def _members(pairs: list[list[bytes]]) -> Members:
    return Members(tuple((address, key) for address, key in pairs))


def first(genesis: Genesis, header: Header, members: Members) -> Epoch:
    """Epoch 0, which genesis opens; ``members`` is the set of epochs 0 and 1."""
    boundary = EpochBoundary(0, header.hash, header.slot)
    seed, next_seed = (schedule.seed(header.hash, number) for number in (0, 1))
    return Epoch(0, boundary, boundary, seed, next_seed, members, members, genesis.parameters)


def following(
    epoch: Epoch, header: Header, mix: bytes, elected: Members, parameters: Parameters
) -> Epoch:
    """The epoch after ``epoch``, which the boundary ``header`` opens.

    ``mix`` (32 bytes) is the mix of the secrets up to this boundary, ``elected`` the set that its
    state elects. Both are for the epoch after the new epoch. The proposer of the boundary cannot
    choose the mix by its choice of certificates (ADR 85).
    """
    return Epoch(
        epoch.number + 1,
        EpochBoundary(epoch.number + 1, header.hash, header.slot),
        epoch.boundary,
        epoch.next_seed,
        schedule.seed(mix, epoch.number + 2),
        epoch.next_members,
        elected,
        parameters,
    )


class Epochs:
    """The stored epochs of all branches, by number and boundary."""

    def __init__(self, first: Parameters, reader: Reader) -> None:
        """``first`` are the parameters of epoch 0, which the records are told against."""
        self._first = first
        self._reader = reader
        self._known: Recent[Epoch] = Recent(EPOCHS_KEPT)

    def get(self, number: int, boundary: bytes) -> Epoch:
        """The epoch ``number`` that the block ``boundary`` opened; ``Corrupt`` if it is missing."""
        key = key_of(number) + boundary
        epoch = self._known.get(key)
        if epoch is None:
            epoch = decode(self._reader.get(key), self._first)
            self.remember(epoch)
        return epoch

    def numbered(self, number: int) -> list[Epoch]:
        """The epochs of all branches with this number."""
        keys = [key for key, _ in self._reader.scan(key_of(number))]
        return [self.get(number, key[-32:]) for key in keys]

    def remember(self, epoch: Epoch) -> None:
        """Cache an epoch that is stored or being written."""
        self._known.put(epoch.key, epoch)
