"""Reads of stored blocks, canonical or not, through caches.

Records of our disk were judged before they were written, and are not judged again. A record that
does not decode, or a header with another hash than its key, is ``Corrupt``.
"""

from typing import Final

from dipnet.consensus.chain import records
from dipnet.consensus.chain.block import Block, seal, stored_block, stored_header
from dipnet.consensus.chain.overlays import StoredDelta
from dipnet.consensus.finality.header import Header
from dipnet.ledger.genesis import Genesis
from dipnet.primitives.codec import Reader
from dipnet.primitives.errors import RECORD_REMEDY, Corrupt, Invalid
from dipnet.primitives.recent import Recent
from dipnet.vm.receipt import Receipt

HEADERS_MAX: Final = 1_024
BLOCKS_MAX: Final = 16
DELTAS_MAX: Final = 16
RECEIPTS_MAX: Final = 4  # blocks: each client that waits for a transaction reads all of its block


class StoredBlocks:
    """Headers, blocks, receipts and deltas by the hash of the block."""

    def __init__(self, genesis: Genesis, reader: Reader) -> None:
        self._genesis = genesis
        self._reader = reader
        self._headers: Recent[Header] = Recent(HEADERS_MAX)
        self._blocks: Recent[Block] = Recent(BLOCKS_MAX)
        self._deltas: Recent[StoredDelta] = Recent(DELTAS_MAX)
        self._receipts: Recent[tuple[Receipt, ...]] = Recent(RECEIPTS_MAX)

    def header(self, block_hash: bytes) -> Header | None:
        """The header of a block, None where the block is not stored."""
        header = self._headers.get(block_hash)
        if header is None:
            raw = self.raw(block_hash)
            if raw is None:
                return None
            try:
                header = stored_header(raw)
            except Invalid as refused:
                raise _damaged(block_hash, str(refused)) from None
            if header.hash != block_hash:
                raise _damaged(block_hash, "another hash")
            self._headers.put(block_hash, header)
        return header

    def raw(self, block_hash: bytes) -> bytes | None:
        """The bytes of a block as peers exchange them, None where it is not stored."""
        return self._reader.get(records.KEY_BLOCK + block_hash)

    def block(self, block_hash: bytes) -> Block | None:
        """A block, None where it is not stored."""
        block = self._blocks.get(block_hash)
        if block is None:
            raw = self.raw(block_hash)
            if raw is None:
                return None
            header = self.need(block_hash)
            if header.height == 0:
                return seal(header, (), b"")  # genesis has no signature
            try:
                senders = self._senders(block_hash)
                block = stored_block(raw, header, self._genesis.chain_id, senders)
            except Invalid as refused:
                raise _damaged(block_hash, str(refused)) from None
            self._blocks.put(block_hash, block)
        return block

    def receipts(self, block_hash: bytes) -> tuple[Receipt, ...] | None:
        """The receipts of a block, None where it is not stored."""
        receipts = self._receipts.get(block_hash)
        if receipts is None:
            raw = self._reader.get(records.KEY_RECEIPTS + block_hash)
            if raw is None:
                return None
            receipts = records.unpack_receipts(raw, _receipts_of(block_hash))
            self._receipts.put(block_hash, receipts)
        return receipts

    def _senders(self, block_hash: bytes) -> list[bytes]:
        raw = self._reader.get(records.KEY_RECEIPTS + block_hash)
        return records.unpack_senders(raw, _receipts_of(block_hash))

    def transaction(self, tx_hash: bytes) -> tuple[bytes, int] | None:
        """The hash of the canonical block with this transaction and its index there, or None."""
        raw = self._reader.get(records.KEY_TX + tx_hash)
        return None if raw is None else records.unpack_tx_position(raw)

    def need(self, block_hash: bytes) -> Header:
        """The header of a block that must be stored; ``Corrupt`` where it is not."""
        header = self.header(block_hash)
        if header is None:
            raise _damaged(block_hash, "missing")
        return header

    def need_block(self, block_hash: bytes) -> Block:
        """A block that must be stored; ``Corrupt`` where it is not."""
        block = self.block(block_hash)
        if block is None:
            raise _damaged(block_hash, "missing")
        return block

    def stored_delta(self, block_hash: bytes) -> StoredDelta:
        """The header and delta of a block that a reorganisation can reach; ``Corrupt`` where they
        are not stored."""
        stored = self._deltas.get(block_hash)
        if stored is None:
            header = self.need(block_hash)
            raw = self._reader.get(records.slot_prefix(header.slot) + block_hash)
            what = f"the delta of block {header.height} ({block_hash.hex()})"
            stored = StoredDelta(header, records.unpack_delta(raw, what))
            self._deltas.put(block_hash, stored)
        return stored

    def remember(self, block: Block, stored: StoredDelta) -> None:
        """Cache a block and its delta, which are being written."""
        self._headers.put(block.hash, block.header)
        self._blocks.put(block.hash, block)
        self._deltas.put(block.hash, stored)

    def forget(self, block_hash: bytes) -> None:
        """Drop a block, which is being deleted, from the caches."""
        self._headers.drop(block_hash)
        self._blocks.drop(block_hash)
        self._deltas.drop(block_hash)
        self._receipts.drop(block_hash)


def _damaged(block_hash: bytes, why: str) -> Corrupt:
    return Corrupt(f"block {block_hash.hex()} is damaged ({why}): {RECORD_REMEDY}")


def _receipts_of(block_hash: bytes) -> str:
    return f"the receipts of block {block_hash.hex()}"
