"""The rules that tie a block to its chain, as functions of plain values.

The producer of a block and its judges call the same functions. The rules of finality are in
``finality.py``.
"""

from dataclasses import dataclass
from typing import Any, Final

from dipnet.consensus.chain import schedule
from dipnet.consensus.chain.epochs import Epoch
from dipnet.consensus.chain.fees import next_base_fee
from dipnet.consensus.chain.overlays import StoredDelta
from dipnet.consensus.finality import finality
from dipnet.consensus.finality.finality import HeaderLinks
from dipnet.consensus.finality.header import HASH_ZERO, Header

CLOCK_SKEW_MS: Final = 500
"""How far ahead of our clock the slot of a valid block may begin."""

SLOT_BLOCKS_MAX: Final = 4
"""Blocks of one slot and proposer that are kept; an honest proposer makes one.

Blocks of other proposers do not count: on branches with other seeds or another step of the back-off
a slot has other leaders.
"""

MISSED_SLOTS_MAX: Final = 256
"""The number of slots before a block whose leaders are reported as absent, the nearest slots."""


def links_of(header: Header) -> HeaderLinks:
    """The links of a header; those of genesis, which cannot contain its own hash, are genesis."""
    if header.height == 0:
        return HeaderLinks((header.hash, header.slot, header.epoch), (header.hash, header.slot))
    return HeaderLinks(header.justify, header.final)


def leader(epoch: Epoch, slot: int, final_slot: int) -> bytes | None:
    """The address of the leader of ``slot``; None where the back-off leaves the slot empty.

    ``final_slot`` is that of the block's own header.
    """
    step = finality.backoff_step(slot - final_slot, epoch.parameters.backoff_slots)
    index = finality.leader_index(slot, step, len(epoch.order))
    return None if index is None else epoch.order[index]


def missed(epoch: Epoch, parent: Header, slot: int) -> tuple[bytes, ...]:
    """The leaders (addresses) of the empty slots between ``parent`` and its child in ``slot``."""
    first = max(parent.slot + 1, slot - MISSED_SLOTS_MAX)
    final_slot = links_of(parent).final[1]
    leaders = [leader(epoch, at, final_slot) for at in range(first, slot)]
    return tuple(address for address in leaders if address is not None)


def system_only(epoch: Epoch, slot: int, final_slot: int) -> bool:
    """Whether a block takes transactions to system contracts only, since finality is far behind."""
    return finality.system_only(slot - final_slot, epoch.parameters.backoff_slots)


def chained_fields(parent: Header, epoch: Epoch, slot: int, links: HeaderLinks) -> dict[str, Any]:
    """The header's fields, by name, that follow from parent, epoch, slot and links of a block."""
    boundary = epoch.ends_with(slot, links.final[1])
    in_force, next_epoch = epoch.parameters, epoch.number + 1
    return {
        "parent": parent.hash,
        "height": parent.height + 1,
        "slot": slot,
        "epoch": epoch.number,
        "timestamp_ms": schedule.slot_start_ms(in_force, slot),
        "gas_limit": in_force.gas_limit,
        "base_fee": next_base_fee(in_force, parent.base_fee, parent.gas_used),
        "justify": links.justify,
        "final": links.final,
        "next_set_hash": epoch.next_members.digest(next_epoch) if boundary else HASH_ZERO,
        "dag_acc": parent.dag_acc,
    }


@dataclass(frozen=True, slots=True)
class BlockPosition:
    """Where a new block stands: the child of ``parent`` in ``slot`` of ``epoch``, with ``links``.

    The fields of its header that follow from its position are made here for its proposer and
    compared here by everybody else.
    """

    parent: StoredDelta
    epoch: Epoch
    slot: int
    links: HeaderLinks

    @property
    def boundary(self) -> bool:
        """Whether the block ends its epoch."""
        return self.epoch.ends_with(self.slot, self.links.final[1])

    @property
    def missed(self) -> tuple[bytes, ...]:
        """The addresses of the leaders of the empty slots between the parent and the block."""
        return missed(self.epoch, self.parent.header, self.slot)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the block's header that follow from its position."""
        return chained_fields(self.parent.header, self.epoch, self.slot, self.links)


def check_known(epoch: Epoch) -> None:
    """Raise ``Invalid("rules_unknown")`` where an epoch has rules unknown to this program."""
    in_force = epoch.parameters.rules_in_force
    assert in_force.number == epoch.parameters.rules
