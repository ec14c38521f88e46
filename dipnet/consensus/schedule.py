"""Slots, epochs and who leads: wall-clock slots, one leader each (specs/consensus.md 1).

Slot s begins at ``genesis.time_ms + s * slot_ms``. Epoch e is the ``epoch_slots`` slots from
``e * epoch_slots``. The active delegates lead in an order that a seed shuffles anew each epoch.
Until delegates are elected they are the first ``delegates_active`` of genesis.json.
"""

from functools import lru_cache
from typing import Final

from dipnet.codec import pack
from dipnet.crypto import keccak256
from dipnet.genesis import Genesis

SET_VERSION: Final = 1
_WORD_BITS: Final = 64
_ORDERS_MAX: Final = 16  # epochs whose order is kept


def slot_start_ms(genesis: Genesis, slot: int) -> int:
    """Unix time (ms) at which ``slot`` begins; also the timestamp of its block."""
    return genesis.time_ms + slot * genesis.slot_ms


def slot_at(genesis: Genesis, now_ms: int) -> int:
    """The slot that runs at Unix time ``now_ms``; 0, the slot of genesis, before its time."""
    return max(now_ms - genesis.time_ms, 0) // genesis.slot_ms


def epoch_of(genesis: Genesis, slot: int) -> int:
    """The epoch of ``slot``."""
    return slot // genesis.epoch_slots


def shuffle(members: tuple[bytes, ...], seed: bytes) -> tuple[bytes, ...]:
    """``members`` in the order that ``seed`` (32 bytes) gives: Fisher-Yates from the end.

    The random words are the 64-bit big-endian quarters of keccak256(seed || counter of 8 bytes),
    counter from 0. A word that would favour small remainders is thrown away, so that every order
    is equally likely.
    """
    order = list(members)
    words: list[int] = []
    counter = 0
    for last in range(len(order) - 1, 0, -1):
        choices = last + 1
        fair = (1 << _WORD_BITS) // choices * choices
        while True:
            if not words:
                block = keccak256(seed + counter.to_bytes(8, "big"))
                words = [int.from_bytes(block[at : at + 8], "big") for at in (24, 16, 8, 0)]
                counter += 1
            word = words.pop()
            if word < fair:
                break
        order[last], order[word % choices] = order[word % choices], order[last]
    return tuple(order)


def set_digest(epoch: int, members: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """What a border block commits to: the set of ``epoch`` as (address, public key) pairs.

    specs/bytes.md "Certificate section": ``[1, epoch, [[address, key33], ...]]`` by address.
    """
    return keccak256(b"DIPNET/set" + pack([SET_VERSION, epoch, sorted(members)]))


def genesis_set(genesis: Genesis) -> tuple[tuple[bytes, bytes], ...]:
    """The active delegates as (address, public key) pairs, ascending by address."""
    active = genesis.delegates[: genesis.delegates_active]
    return tuple(sorted((one.address, one.public_key) for one in active))


class Schedule:
    """Who leads which slot on the chain that begins with ``genesis_hash``."""

    def __init__(self, genesis: Genesis, genesis_hash: bytes) -> None:
        self._genesis = genesis
        self._genesis_hash = genesis_hash
        self.members: tuple[bytes, ...] = tuple(address for address, _ in genesis_set(genesis))
        """Addresses of the active delegates, ascending: the indices of certificates."""
        self.order = lru_cache(_ORDERS_MAX)(self._shuffled)
        """The leaders of an epoch in turn; slot s belongs to the one at s mod n."""

    def _shuffled(self, epoch: int) -> tuple[bytes, ...]:
        seed = keccak256(b"DIPNET/schedule" + self._genesis_hash + epoch.to_bytes(8, "big"))
        return shuffle(self.members, seed)

    def leader(self, slot: int) -> bytes:
        """Address of the delegate that may propose in ``slot``."""
        order = self.order(epoch_of(self._genesis, slot))
        return order[slot % len(order)]
