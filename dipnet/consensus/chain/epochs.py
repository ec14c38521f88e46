"""Epochs: what a boundary block decides for the blocks above it.

Epochs are counted along a chain. The *boundary* of epoch e is the first block from the end of e - 1
on whose own header knows the boundary before to be final; genesis is the boundary of epoch 0. The
children of a boundary are of its epoch. What is in an ``Epoch`` follows from its boundary alone, so
it is made once, kept for ever, and found by the boundary's hash.
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
"""+ number (8), boundary hash -> the epoch."""

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
    """One epoch on one chain. ``parameters`` are those in force for its blocks.

    ``before`` is the boundary of the epoch before, its own for epoch 0. ``next_members`` and
    ``next_seed`` are of the epoch after, so that everybody knows it a whole epoch ahead.
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
        """The delegates in the order in which they lead."""
        return schedule.shuffle(self.members.addresses, self.seed)

    @property
    def end_slot(self) -> int:
        """The first slot whose block may end the epoch."""
        return end_slot(self.boundary.slot, self.parameters.epoch_slots)

    @property
    def key(self) -> bytes:
        """Where it is kept."""
        return key_of(self.number) + self.boundary.block_id

    def ends_with(self, slot: int, final_slot: int) -> bool:
        """Whether a block of this epoch with these fields of its header is the next boundary."""
        return is_boundary(self.boundary, self.end_slot, slot, final_slot)

    def members_of(self, epoch: int) -> Members:
        """The set of this epoch or of the next."""
        return self.members if epoch == self.number else self.next_members

    def encode(self, first: Parameters) -> bytes:
        """Its record; of the parameters it keeps those that differ from the ``first``."""
        return pack((
            _VERSION, self.number, _fields(self.boundary), _fields(self.before), self.seed,
            self.next_seed, self.members.pairs, self.next_members.pairs,
            [(name.encode(), big(value)) for name, value in _changes(first, self.parameters)],
        ))  # fmt: skip


def key_of(number: int) -> bytes:
    """What the keys of all epochs of a number begin with."""
    return KEY_EPOCH + number.to_bytes(8, "big")


def _fields(boundary: EpochBoundary) -> tuple[int, bytes, int]:
    return boundary.epoch, boundary.block_id, boundary.slot


def _changes(first: Parameters, now: Parameters) -> list[tuple[str, int]]:
    """Every parameter that votes have changed, by name: whole numbers all."""
    fields = [(name, getattr(now, name)) for name in sorted(rows(type(first)))]
    return [(name, value) for name, value in fields if value != getattr(first, name)]


def decode(raw: bytes | None, first: Parameters) -> Epoch:
    """The epoch in a record of ours, of a network whose first parameters these are; ``Corrupt``."""
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
    """Epoch 0, which genesis opens; ``members`` are Sets 0 and 1."""
    boundary = EpochBoundary(0, header.hash, header.slot)
    seed, next_seed = (schedule.seed(header.hash, number) for number in (0, 1))
    return Epoch(0, boundary, boundary, seed, next_seed, members, members, genesis.parameters)


def following(
    epoch: Epoch, header: Header, mix: bytes, elected: Members, parameters: Parameters
) -> Epoch:
    """The epoch after ``epoch``, which ``header`` opens.

    ``mix`` is that of the secrets up to this boundary, ``elected`` the set that its state elects;
    both are for the epoch after the new one. Nothing that the boundary's proposer may choose is in
    the mix: not which certificates he carries, nor what they make final (ADR 85).
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
    """All epochs that are kept, of every branch, by number and boundary."""

    def __init__(self, first: Parameters, reader: Reader) -> None:
        """``first`` are the parameters of epoch 0, which the records are told against."""
        self._first = first
        self._reader = reader
        self._known: Recent[Epoch] = Recent(EPOCHS_KEPT)

    def get(self, number: int, boundary: bytes) -> Epoch:
        """The epoch that the block ``boundary`` opened; ``Corrupt`` when it is not here."""
        key = key_of(number) + boundary
        epoch = self._known.get(key)
        if epoch is None:
            epoch = decode(self._reader.get(key), self._first)
            self.remember(epoch)
        return epoch

    def numbered(self, number: int) -> list[Epoch]:
        """The epochs of all branches that have this number."""
        keys = [key for key, _ in self._reader.scan(key_of(number))]
        return [self.get(number, key[-32:]) for key in keys]

    def remember(self, epoch: Epoch) -> None:
        """Cache an epoch that is here or being written."""
        self._known.put(epoch.key, epoch)
