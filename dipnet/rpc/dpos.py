"""The ``dpos_`` methods: who the delegates are and who leads which slot."""

from typing import Final

from dipnet.codec import to_hex
from dipnet.consensus.schedule import epoch_of, slot_at, slot_start_ms
from dipnet.crypto import checksum
from dipnet.errors import Invalid
from dipnet.rpc.backend import Backend
from dipnet.rpc.method import Method, Param
from dipnet.rpc.params import between
from dipnet.rpc.views import View

SCHEDULE_SLOTS_MAX: Final = 10_000


def _current_epoch(backend: Backend) -> int:
    return epoch_of(backend.genesis, slot_at(backend.genesis, backend.now_ms()))


def delegates(backend: Backend) -> list[View]:
    active = set(backend.chain.schedule.members)
    return [
        {
            "name": delegate.name,
            "address": checksum(delegate.address),
            "publicKey": to_hex(delegate.public_key),
            "active": delegate.address in active,
        }
        for delegate in backend.genesis.delegates
    ]


def schedule(backend: Backend, epoch: int) -> View:
    genesis = backend.genesis
    current = _current_epoch(backend)
    if epoch < 0:
        epoch = current
    if epoch > current + 1:
        raise Invalid("not_found", f"the leaders of epoch {epoch} are not known before {epoch - 1}")
    first = epoch * genesis.epoch_slots
    last = min(first + genesis.epoch_slots, first + SCHEDULE_SLOTS_MAX) - 1
    return {
        "epoch": epoch,
        "firstSlot": first,
        "lastSlot": last,
        "startMs": slot_start_ms(genesis, first),
        "slotMs": genesis.slot_ms,
        # Leaders take turns in this order: slot s belongs to the one at s mod their number.
        "order": [checksum(address) for address in backend.chain.schedule.order(epoch)],
        "leaders": [
            checksum(backend.chain.schedule.leader(slot)) for slot in range(first, last + 1)
        ],
    }


METHODS: Final = (
    Method(
        "dpos_delegates",
        (),
        delegates,
        "array of objects of name, address, publicKey, active",
        "Every delegate of genesis, in its order; the active ones take turns.",
    ),
    Method(
        "dpos_schedule",
        (Param("epoch", between(0, 2**53), -1),),
        schedule,
        "object of epoch, firstSlot, lastSlot, startMs, slotMs, order, leaders",
        "Leaders of the slots of an epoch, the current one by default; known one epoch ahead. "
        f"`leaders` holds the first {SCHEDULE_SLOTS_MAX} slots.",
        ("not_found",),
    ),
)
