"""What the chain keeps on disk: keys and records, the only spelling of both.

A block is written once, in one batch, with its receipts and its *delta* (the state records that it
changed). State records themselves hold the state of the *base* block; the deltas of the blocks
above it are overlays. When the base moves up, the *undo* of a block keeps what its delta wrote
over. Keys of deltas begin with the slot, so that the blocks of one slot lie side by side and old
ones are found by a range. Our own records that do not decode are ``Corrupt``.
"""

from dataclasses import dataclass
from typing import Any, Final

from dipnet.primitives.codec import Bin, Many, Puts, Shape, pack, unpack
from dipnet.primitives.errors import RECORD_REMEDY, Corrupt, Invalid
from dipnet.vm.receipt import Receipt

KEY_BLOCK = b"B"
"""+ hash -> the block's record."""
KEY_HEIGHT = b"H"
"""+ height (8) -> hash, of the canonical chain."""
KEY_RECEIPTS = b"R"
"""+ hash -> the receipts of the block and the senders of its transactions."""
KEY_TX = b"T"
"""+ transaction hash -> block hash (32), index (4), of the canonical chain."""
KEY_DELTA = b"d"
"""+ slot (8), block hash -> what the block changed; for blocks in reach of a reorg."""
KEY_UNDO = b"u"
"""+ block hash -> what its delta wrote over; for canonical blocks up to the base."""
KEY_HEAD = b"h"
"""-> head and base."""

_VERSION: Final = 1
_RECORD_BYTES_MAX: Final = 2**31  # our own bytes: a bound for the decoder, not for an attacker
_ITEMS_MAX: Final = 2**24
_HEAD: Final = (_VERSION, Bin(32), Bin(32), Bin(32))
_RECEIPTS: Final = (_VERSION, Many(Bin(1, 2**24), _ITEMS_MAX), Many(Bin(20), _ITEMS_MAX))
_PUTS: Final = (Many(Bin(1, 4096), _ITEMS_MAX), Many(Bin(0, 2**24), _ITEMS_MAX))
_UNDO: Final = (_VERSION, *_PUTS)
_DELTA: Final = (_VERSION, Bin(32), Bin(32), *_PUTS)


def height_key(height: int) -> bytes:
    """Where the hash of the canonical block at ``height`` is."""
    return KEY_HEIGHT + height.to_bytes(8, "big")


def slot_prefix(slot: int) -> bytes:
    """What the delta keys of all blocks of ``slot`` begin with."""
    return KEY_DELTA + slot.to_bytes(8, "big")


def read(raw: bytes | None, shape: Shape, what: str) -> list[Any]:
    """Our own record without its version; ``Corrupt`` when it is not there or not ours."""
    if raw is None:
        raise Corrupt(f"{what} is missing: {RECORD_REMEDY}")
    try:
        return unpack(raw, shape, _RECORD_BYTES_MAX)[1:]
    except Invalid as refused:
        raise Corrupt(f"{what} is damaged ({refused}): {RECORD_REMEDY}") from None


def pack_head(head: bytes, base: bytes, final: bytes) -> bytes:
    """The record under ``KEY_HEAD``: the hashes of the three blocks."""
    return pack((_VERSION, head, base, final))


def unpack_head(raw: bytes | None) -> tuple[bytes, bytes, bytes]:
    """Head, base and final hash from the record under ``KEY_HEAD``."""
    head, base, final = read(raw, _HEAD, "the record of the head")
    return head, base, final


def pack_receipts(receipts: list[bytes], senders: list[bytes]) -> bytes:
    """The record under ``KEY_RECEIPTS``: encoded receipts and the addresses that paid for them."""
    return pack((_VERSION, receipts, senders))


def unpack_receipts(raw: bytes | None, what: str) -> tuple[Receipt, ...]:
    """The receipts of a block; ``what`` names it in the text of ``Corrupt``."""
    receipts: list[Receipt] = []
    gas = 0
    for one in read(raw, _RECEIPTS, what)[0]:
        try:
            receipts.append(Receipt.decode(one, gas))
        except Invalid as refused:
            raise Corrupt(f"{what} are damaged ({refused}): {RECORD_REMEDY}") from None
        gas = receipts[-1].cumulative_gas
    return tuple(receipts)


def unpack_senders(raw: bytes | None, what: str) -> list[bytes]:
    """The senders of a block's transactions, from the same record."""
    senders: list[bytes] = read(raw, _RECEIPTS, what)[1]
    return senders


def pack_tx_position(block_hash: bytes, index: int) -> bytes:
    """Where a transaction is: the value under ``KEY_TX``."""
    return block_hash + index.to_bytes(4, "big")


def unpack_tx_position(raw: bytes) -> tuple[bytes, int]:
    """Block hash and index of a transaction."""
    return raw[:32], int.from_bytes(raw[32:], "big")


def _split(puts: Puts) -> tuple[list[bytes], list[bytes]]:
    """Puts as two flat lists of bytes: deleted keys, and keys and values in turn."""
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
    """The record of what a delta wrote over."""
    return pack((_VERSION, *_split(puts)))


def unpack_undo(raw: bytes | None, what: str) -> Puts:
    """What a delta wrote over; ``what`` names it in the text of ``Corrupt``."""
    deleted, written = read(raw, _UNDO, what)
    return _join(deleted, written)


@dataclass(frozen=True, slots=True)
class Delta:
    """What a block added to its parent's state, and what its children need to know of its chain.

    ``boundary`` is the hash of the boundary that opened the epoch of its children, ``mix`` what all
    secrets revealed up to it make.
    """

    boundary: bytes
    mix: bytes
    puts: Puts


def pack_delta(delta: Delta) -> bytes:
    """The record of a delta."""
    return pack((_VERSION, delta.boundary, delta.mix, *_split(delta.puts)))


def unpack_delta(raw: bytes | None, what: str) -> Delta:
    """A block's delta; ``what`` names it in the text of ``Corrupt``."""
    boundary, mix, deleted, written = read(raw, _DELTA, what)
    return Delta(boundary, mix, _join(deleted, written))
