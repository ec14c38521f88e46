"""The keys and records of the chain on disk.

A block is written once, in one batch with its receipts and its *delta*, the state records that it
changed. State records have the state of the *base* block; the deltas of the blocks above the base
are overlays. When the base moves up, the *undo* of a block keeps the values that the block's delta
overwrote. The key of a delta begins with the slot: the blocks of one slot lie side by side, and old
blocks are a range. A record that does not decode is ``Corrupt``.
"""

from dataclasses import dataclass
from typing import Any, Final

from dipnet.primitives.codec import Bin, Many, Puts, Shape, pack, unpack
from dipnet.primitives.errors import RECORD_REMEDY, Corrupt, Invalid
from dipnet.vm.receipt import Receipt

KEY_BLOCK = b"B"
"""+ block hash -> the record of the block."""
KEY_HEIGHT = b"H"
"""+ height (8) -> hash of the canonical block."""
KEY_RECEIPTS = b"R"
"""+ block hash -> the receipts of the block and the senders of its transactions."""
KEY_TX = b"T"
"""+ transaction hash -> block hash (32), index (4) of the transaction on the canonical chain."""
KEY_DELTA = b"d"
"""+ slot (8), block hash -> what the block changed; for blocks that a reorganisation can reach."""
KEY_UNDO = b"u"
"""+ block hash -> the values that its delta replaced; for canonical blocks up to the base."""
KEY_HEAD = b"h"
"""-> the hashes of head, base and final block."""

_VERSION: Final = 1
_RECORD_BYTES_MAX: Final = 2**31  # our own bytes: a bound for the decoder, not for an attacker
_ITEMS_MAX: Final = 2**24
_HEAD: Final = (_VERSION, Bin(32), Bin(32), Bin(32))
_RECEIPTS: Final = (_VERSION, Many(Bin(1, 2**24), _ITEMS_MAX), Many(Bin(20), _ITEMS_MAX))
_PUTS: Final = (Many(Bin(1, 4096), _ITEMS_MAX), Many(Bin(0, 2**24), _ITEMS_MAX))
_UNDO: Final = (_VERSION, *_PUTS)
_DELTA: Final = (_VERSION, Bin(32), Bin(32), *_PUTS)


def height_key(height: int) -> bytes:
    """The key of the hash of the canonical block at ``height``."""
    return KEY_HEIGHT + height.to_bytes(8, "big")


def slot_prefix(slot: int) -> bytes:
    """The prefix of the keys of the deltas of all blocks of ``slot``."""
    return KEY_DELTA + slot.to_bytes(8, "big")


def read(raw: bytes | None, shape: Shape, what: str) -> list[Any]:
    """The elements of a record of our disk without its version.

    Raises ``Corrupt``, with ``what`` as the name of the record, where it is missing or damaged.
    """
    if raw is None:
        raise Corrupt(f"{what} is missing: {RECORD_REMEDY}")
    try:
        return unpack(raw, shape, _RECORD_BYTES_MAX)[1:]
    except Invalid as refused:
        raise Corrupt(f"{what} is damaged ({refused}): {RECORD_REMEDY}") from None


def pack_head(head: bytes, base: bytes, final: bytes) -> bytes:
    """The record under ``KEY_HEAD``: the hashes (32 bytes) of head, base and final block."""
    return pack((_VERSION, head, base, final))


def unpack_head(raw: bytes | None) -> tuple[bytes, bytes, bytes]:
    """The hashes of head, base and final block from the record under ``KEY_HEAD``."""
    head, base, final = read(raw, _HEAD, "the record of the head")
    return head, base, final


def pack_receipts(receipts: list[bytes], senders: list[bytes]) -> bytes:
    """The record under ``KEY_RECEIPTS``: a block's encoded receipts, its transactions' senders."""
    return pack((_VERSION, receipts, senders))


def unpack_receipts(raw: bytes | None, what: str) -> tuple[Receipt, ...]:
    """The receipts in a record under ``KEY_RECEIPTS``; ``what`` is its name in ``Corrupt``."""
    receipts: list[Receipt] = []
    gas = 0
    for receipt in read(raw, _RECEIPTS, what)[0]:
        try:
            receipts.append(Receipt.decode(receipt, gas))
        except Invalid as refused:
            raise Corrupt(f"{what} are damaged ({refused}): {RECORD_REMEDY}") from None
        gas = receipts[-1].cumulative_gas
    return tuple(receipts)


def unpack_senders(raw: bytes | None, what: str) -> list[bytes]:
    """The senders in a record under ``KEY_RECEIPTS``; ``what`` is its name in ``Corrupt``."""
    senders: list[bytes] = read(raw, _RECEIPTS, what)[1]
    return senders


def pack_tx_position(block_hash: bytes, index: int) -> bytes:
    """The value under ``KEY_TX``: the hash of a transaction's block, and its index there."""
    return block_hash + index.to_bytes(4, "big")


def unpack_tx_position(raw: bytes) -> tuple[bytes, int]:
    """The hash of the block and the index there, from a value under ``KEY_TX``."""
    return raw[:32], int.from_bytes(raw[32:], "big")


def _split(puts: Puts) -> tuple[list[bytes], list[bytes]]:
    """Writes as two lists: the deleted keys, and in turn the keys and values that are put."""
    deleted = [key for key, value in puts.items() if value is None]
    written: list[bytes] = []
    for key, value in puts.items():
        if value is not None:
            written += (key, value)
    return deleted, written


def _join(deleted: list[bytes], written: list[bytes]) -> Puts:
    puts: Puts = dict.fromkeys(deleted)
    puts.update(zip(written[::2], written[1::2], strict=True))
    return puts


def pack_undo(puts: Puts) -> bytes:
    """The record under ``KEY_UNDO``: the writes that take a delta back."""
    return pack((_VERSION, *_split(puts)))


def unpack_undo(raw: bytes | None, what: str) -> Puts:
    """The writes in a record under ``KEY_UNDO``; ``what`` is its name in ``Corrupt``."""
    deleted, written = read(raw, _UNDO, what)
    return _join(deleted, written)


@dataclass(frozen=True, slots=True)
class Delta:
    """The writes of a block to its parent's state, and two facts of its chain for its children.

    ``boundary`` is the hash of the boundary of the children's epoch, ``mix`` the mix (32 bytes) of
    all secrets that were revealed up to this block.
    """

    boundary: bytes
    mix: bytes
    puts: Puts


def pack_delta(delta: Delta) -> bytes:
    """The record under ``KEY_DELTA``."""
    return pack((_VERSION, delta.boundary, delta.mix, *_split(delta.puts)))


def unpack_delta(raw: bytes | None, what: str) -> Delta:
    """The delta in a record under ``KEY_DELTA``; ``what`` is its name in ``Corrupt``."""
    boundary, mix, deleted, written = read(raw, _DELTA, what)
    return Delta(boundary, mix, _join(deleted, written))
