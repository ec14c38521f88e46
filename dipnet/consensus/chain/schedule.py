"""Slots, who leads them, and the seeds that nobody chooses (docs/spec/consensus.md "Seeds and
leaders").

Slot s begins at ``slot_zero_ms + s * slot_ms`` of the parameters in force. The members of an
epoch lead in an order that a seed shuffles. The seed is made of secrets to which proposers have
committed before: each header opens the commitment of its proposer's last one and makes a new one,
so that who withholds a block chooses between two seeds, and nobody between more.
"""

from typing import Final

from dipnet.ledger.parameters import Parameters
from dipnet.primitives.crypto import keccak256

NO_SECRET: Final = bytes(32)
_WORD_BITS: Final = 64


def slot_start_ms(parameters: Parameters, slot: int) -> int:
    """Unix time (ms) at which ``slot`` begins; also the timestamp of its block."""
    return parameters.slot_zero_ms + slot * parameters.slot_ms


def slot_at(parameters: Parameters, now_ms: int) -> int:
    """The slot that runs at Unix time ``now_ms``; 0, the slot of genesis, before its time."""
    return max(now_ms - parameters.slot_zero_ms, 0) // parameters.slot_ms


# --- order


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


# --- seeds


def seed(mix: bytes, epoch: int) -> bytes:
    """The seed of an epoch from the mix of what was revealed."""
    return keccak256(b"DIPNET/schedule" + mix + epoch.to_bytes(8, "big"))


def mixed(mix: bytes, reveal: bytes) -> bytes:
    """The mix after one more block."""
    return keccak256(mix + reveal)


def seed_key(secret: bytes) -> bytes:
    """What a delegate's secrets are made of: knowing it foretells them, and signs nothing."""
    return keccak256(b"DIPNET/seed-key" + secret)


def seed_secret(key: bytes, slot: int) -> bytes:
    """The secret to which the holder of the seed key commits in his block of ``slot``."""
    return keccak256(b"DIPNET/seed" + key + slot.to_bytes(8, "big"))


def commitment(secret: bytes) -> bytes:
    """What a secret is committed to by."""
    return keccak256(secret)


def opens(reveal: bytes, committed: bytes) -> bool:
    """Whether ``reveal`` is what was committed to; where nothing was, only ``NO_SECRET`` is."""
    if committed == bytes(32):
        return reveal == NO_SECRET
    return commitment(reveal) == committed
