"""Slots, the order of their leaders, and seeds (docs/spec/consensus.md "Seeds and leaders").

Slot s begins at ``slot_zero_ms + s * slot_ms`` of the parameters in force. The members of an
epoch lead in an order that a seed shuffles. A seed is the mix of secrets to which proposers have
committed before: each header reveals the secret of its proposer's last commitment and commits to a
new secret. So a proposer that withholds a block chooses between two seeds, and no delegate chooses
among more.
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
    """The slot at Unix time ``now_ms``; before the time of genesis its slot, 0."""
    return max(now_ms - parameters.slot_zero_ms, 0) // parameters.slot_ms


# --- order


def shuffle(members: tuple[bytes, ...], seed: bytes) -> tuple[bytes, ...]:
    """``members`` in the order of ``seed`` (32 bytes): Fisher-Yates, from the last place down.

    The random words are the four big-endian 64-bit words of keccak256(seed || counter), counter 0,
    1, ... in 8 bytes. A word of the last, incomplete range is dropped, so that every order is
    equally likely.
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
    """The seed (32 bytes) of an epoch from the mix of revealed secrets."""
    return keccak256(b"DIPNET/schedule" + mix + epoch.to_bytes(8, "big"))


def mixed(mix: bytes, reveal: bytes) -> bytes:
    """The mix after a block with this ``seed_reveal``."""
    return keccak256(mix + reveal)


def seed_key(secret: bytes) -> bytes:
    """The key of a delegate's seed secrets, from its secret key. It foretells the secrets and can
    sign nothing."""
    return keccak256(b"DIPNET/seed-key" + secret)


def seed_secret(key: bytes, slot: int) -> bytes:
    """The secret to which the owner of the seed key commits in its block of ``slot``."""
    return keccak256(b"DIPNET/seed" + key + slot.to_bytes(8, "big"))


def commitment(secret: bytes) -> bytes:
    """The commitment (32 bytes) to a secret."""
    return keccak256(secret)


def opens(reveal: bytes, committed: bytes) -> bool:
    """Whether ``reveal`` opens the commitment; only ``NO_SECRET`` opens no commitment (zeros)."""
    if committed == bytes(32):
        return reveal == NO_SECRET
    return commitment(reveal) == committed
