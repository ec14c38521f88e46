"""Reads of the canonical chain: blocks by height, head, and the states in reach.

``Chain`` (``chain.py``) extends this class; it alone judges blocks and moves head and base.
"""

from collections.abc import Iterator
from typing import Final

from dipnet.consensus.chain import records
from dipnet.consensus.chain.overlays import Spine, StoredDelta, undone
from dipnet.consensus.chain.records import height_key
from dipnet.consensus.chain.stored import StoredBlocks
from dipnet.consensus.finality import boundaries
from dipnet.consensus.finality.header import Header
from dipnet.ledger.genesis import Genesis
from dipnet.ledger.state import KEY_ACCOUNT, NO_ACCOUNT, Account, Layer
from dipnet.primitives.codec import Puts, Reader
from dipnet.primitives.errors import RECORD_REMEDY, Corrupt
from dipnet.primitives.recent import Recent

HASH_BYTES: Final = 32
STATES_MAX: Final = 4


class Canonical(StoredBlocks):
    """The canonical chain over the blocks that are stored."""

    def __init__(self, genesis: Genesis, reader: Reader, head: bytes, base: bytes) -> None:
        """Load the blocks from ``base`` to ``head`` (hashes); ``Corrupt`` if a block is missing."""
        super().__init__(genesis, reader)
        self._sides: Recent[Puts] = Recent(STATES_MAX)  # branch tip -> deltas since its fork
        self._olds: Recent[Puts] = Recent(STATES_MAX)  # canonical block below the base -> undone
        self._spine = self._load(head, base)
        self._floor = self._lowest()
        assert self._floor.height <= self.base.height <= self.head.height

    def _load(self, head: bytes, base: bytes) -> Spine:
        """The spine from ``base`` to ``head``, each block checked to be the parent of the next."""
        bottom = self.stored_delta(base)
        above: list[StoredDelta] = []
        expected = head
        while expected != base:
            stored = self.stored_delta(expected)
            header = stored.header
            if header.height <= bottom.header.height:
                raise Corrupt(f"the head does not descend from the base: {RECORD_REMEDY}")
            above.append(stored)
            expected = header.parent
        for stored in (bottom, *above):
            if self._reader.get(height_key(stored.header.height)) != stored.header.hash:
                raise Corrupt(f"block {stored.header.height} is not indexed: {RECORD_REMEDY}")
        return Spine(self._reader, bottom, above[::-1])

    def _lowest(self) -> Header:
        """The lowest canonical block that has a delta; older deltas were pruned.

        No branch forks below it, even when a reorganisation takes the base down again.
        """
        for key, _ in self._reader.scan(records.KEY_DELTA):
            if self._canonical(key[-HASH_BYTES:]):
                return self.need(key[-HASH_BYTES:])
        raise Corrupt(f"the deltas are missing: {RECORD_REMEDY}")

    # --- reads

    @property
    def genesis(self) -> Genesis:
        """The parameters in force at genesis."""
        return self._genesis

    @property
    def head(self) -> Header:
        """The header of the highest canonical block."""
        return self._spine.head.header

    @property
    def head_state(self) -> Reader:
        """The state after the head."""
        return self._spine.state(self.head.height)

    @property
    def base(self) -> Header:
        """The header of the block whose state is on disk."""
        return self._spine.base.header

    def hash_at(self, height: int) -> bytes | None:
        """The hash of the canonical block at ``height``, None above the head."""
        if height > self.head.height or height < 0:
            return None
        if height >= self.base.height:
            return self._spine.at(height).header.hash
        return self._reader.get(height_key(height))

    def state(self, block_hash: bytes) -> Reader | None:
        """The state after a block; None where the block is unknown or out of reach."""
        header = self.header(block_hash)
        if header is None or not self._in_reach(header):
            return None
        return self._state_after(header)

    def account(self, address: bytes) -> Account:
        """The account in the state after the head."""
        raw = self.head_state.get(KEY_ACCOUNT + address)
        return NO_ACCOUNT if raw is None else Account.decode(raw)

    def boundaries(self, first: int, every: bool = False) -> Iterator[tuple[int, bytes]]:
        """(epoch, record) of the final boundaries that open epoch ``first`` or a later epoch.

        Without ``every``, only the boundaries at which the set changes, and the newest boundary
        (``hop_boundaries``).
        """
        choose = boundaries.every_boundary if every else boundaries.hop_boundaries
        return choose(self._reader, first)

    def boundary_proof(self, opens: int) -> bytes | None:
        """The record of the final boundary that opens epoch ``opens``, None where there is none."""
        return boundaries.boundary_at(self._reader, opens)

    # --- where a block stands

    def _need_at(self, height: int) -> bytes:
        block_hash = self.hash_at(height)
        if block_hash is None:
            raise Corrupt(f"block {height} is not indexed: {RECORD_REMEDY}")
        return block_hash

    def _canonical_with(self, puts: Puts, height: int) -> bytes | None:
        """The canonical hash at ``height`` after ``puts`` are written; None above the head."""
        key = height_key(height)
        return puts[key] if key in puts else self.hash_at(height)

    def _canonical(self, block_hash: bytes) -> bool:
        return self.hash_at(self.need(block_hash).height) == block_hash

    def _in_reach(self, header: Header) -> bool:
        """Whether ``header`` or its newest canonical ancestor is in the undo window.

        A branch that forks below the window loses its blocks, those of lower slots first.
        """
        while self.hash_at(header.height) != header.hash:
            parent = self.header(header.parent)
            if parent is None:
                return False
            header = parent
        return header.height >= self._floor.height

    # --- states

    def _state_after(self, header: Header) -> Reader:
        """The state after a block that is in reach."""
        branch: list[bytes] = []
        while self.hash_at(header.height) != header.hash:
            branch.append(header.hash)
            header = self.need(header.parent)
        trunk = self._canonical_state(header)
        if not branch:
            return trunk
        side: Puts = {}
        missing: list[bytes] = []
        for block_hash in branch:
            known = self._sides.get(block_hash)
            if known is not None:
                side = dict(known)
                break
            missing.append(block_hash)
        for block_hash in reversed(missing):
            side |= self.stored_delta(block_hash).delta.puts
        self._sides.put(branch[0], side)
        return Layer(trunk, side)

    def _canonical_state(self, header: Header) -> Reader:
        assert self._floor.height <= header.height <= self.head.height
        if header.height >= self.base.height:
            return self._spine.state(header.height)
        puts = self._olds.get(header.hash)
        if puts is None:
            puts = undone(self._reader, self.base, header.height, self.need)
            self._olds.put(header.hash, puts)
        return Layer(self._reader, puts)
