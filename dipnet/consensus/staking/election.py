"""Elections: a boundary decides the set of the epoch after the next (docs/spec/consensus.md
"Election").

Each candidate holds the sum of its votes, so that a boundary looks at candidates and never at
voters. Candidates are ranked by votes, ties by address. ``seats_per_organisation_max`` bounds the
seats of an organisation.

Jailed candidates rank behind all others. A jailed delegate loses its seat to a waiting candidate,
and keeps it where none waits. So jail never makes a set smaller, whichever side of a partition was
jailed (ADR 72). Where no candidate is registered the newest set goes on.
"""

from collections.abc import Sequence
from typing import Final

from dipnet.consensus.finality.members import Members
from dipnet.consensus.staking import candidates, stakes
from dipnet.consensus.staking.candidates import JAILED_UNTIL, ORGANISATION, VOTES
from dipnet.ledger.parameters import Parameters
from dipnet.vm.storage_layout import SETS, StorageSlot, struct

SETS_KEPT: Final = 3  # of this epoch and, once elected, of the next two epochs
SETS_AHEAD: Final = 2

(
    SET_EPOCH,  # uint64
    MEMBERS,  # address[]: ascending
    STANDBY,  # address[]: the candidates behind the last seat, most votes first
) = struct(64, 256, 256)


def _place(root: StorageSlot, epoch: int) -> StorageSlot:
    return root.under(SETS, epoch % SETS_KEPT)


def seated(root: StorageSlot, epoch: int) -> tuple[bytes, ...]:
    """The delegates of an epoch's set, ascending; empty where it is not known (any more)."""
    record = _place(root, epoch)
    return record.addresses(MEMBERS) if record[SET_EPOCH] == epoch else ()


def standby(root: StorageSlot, epoch: int) -> tuple[bytes, ...]:
    """The standby of an epoch's set, most votes first; empty where it is not known (any more)."""
    record = _place(root, epoch)
    return record.addresses(STANDBY) if record[SET_EPOCH] == epoch else ()


def members(root: StorageSlot, epoch: int) -> Members:
    """The set of an epoch that is kept: at a boundary, the set of the next epoch."""
    return members_of(root, seated(root, epoch))


def members_of(root: StorageSlot, delegates: Sequence[bytes]) -> Members:
    """The set of these candidates with their keys."""
    return Members.of(
        (delegate, candidates.public_key(candidates.record_of(root, delegate)))
        for delegate in delegates
    )


def keep(root: StorageSlot, epoch: int, chosen: Sequence[bytes], waiting: Sequence[bytes]) -> None:
    """Writes the set of an epoch in place of the oldest."""
    record = _place(root, epoch)
    record[SET_EPOCH] = epoch
    record.set_addresses(MEMBERS, sorted(chosen))
    record.set_addresses(STANDBY, waiting)


def _registered(root: StorageSlot) -> list[tuple[bytes, StorageSlot]]:
    """The registered candidates."""
    return [(address, candidates.record_of(root, address)) for address in candidates.roll(root)]


def jail_absent(root: StorageSlot, epoch: int, parameters: Parameters) -> None:
    """At the boundary of ``epoch``: jails the candidates that missed half of their slots in it."""
    for _, record in _registered(root):
        if candidates.is_absent(record, epoch):
            record[JAILED_UNTIL] = epoch + SETS_AHEAD + parameters.jail_epochs


def expire_votes(root: StorageSlot, epoch: int) -> None:
    """At the boundary before ``epoch``: votes that lapse with it no longer count."""
    for candidate in candidates.roll(root):
        stakes.expire(root, candidate, epoch)


def elect(root: StorageSlot, epoch: int, parameters: Parameters) -> Members:
    """Decides and writes the set of ``epoch``, at the boundary two epochs before."""
    ranked = sorted(
        (record[JAILED_UNTIL] > epoch, -record[VOTES], owner) for owner, record in _registered(root)
    )
    seats, cap = parameters.delegates_active, parameters.seats_per_organisation_max
    owners = [owner for _, _, owner in ranked]
    chosen = _fill(root, owners, seats + parameters.delegates_standby, cap)
    chosen = chosen or seated(root, epoch - 1)
    keep(root, epoch, chosen[:seats], chosen[seats:])
    return members_of(root, chosen[:seats])


def _fill(root: StorageSlot, ranked: Sequence[bytes], most: int, cap: int) -> Sequence[bytes]:
    """The first ``most`` candidates with at most ``cap`` of each organisation."""
    chosen: list[bytes] = []
    held: dict[int, int] = {}
    for candidate in ranked:
        if len(chosen) == most:
            break
        organisation = candidates.record_of(root, candidate)[ORGANISATION]
        if organisation:
            if held.get(organisation, 0) == cap:
                continue
            held[organisation] = held.get(organisation, 0) + 1
        chosen.append(candidate)
    return chosen
