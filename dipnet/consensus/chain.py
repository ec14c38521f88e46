"""The chain: validates blocks, chooses the head, keeps state in reach of a reorg.

``Chain`` reads through a ``Reader`` and writes nothing: ``on_block`` returns the writes of one
batch. Its contract with the caller: the writes of a call are visible through the reader before
the next call, and durable in the order of the calls. A ``Reader`` that ``state`` gives is good
until the next ``on_block``.

A block is executed once, on the state of its parent, wherever that is: on the spine, below the
base, or on a branch. Loading executes nothing. What is remembered here beside the spine are caches.
"""

from dataclasses import dataclass
from typing import Any, Final

from dipnet.codec import Puts, Reader
from dipnet.consensus import records, rules
from dipnet.consensus.block import (
    Block,
    Header,
    check_fields,
    fixed_fields,
    genesis_block,
)
from dipnet.consensus.execute import Execution
from dipnet.consensus.fees import next_base_fee
from dipnet.consensus.overlays import Link, Recent, Spine, moved, undone
from dipnet.consensus.records import Delta, height_key, slot_prefix
from dipnet.consensus.schedule import Schedule, genesis_set, slot_start_ms
from dipnet.consensus.stored import StoredBlocks
from dipnet.crypto import keccak256
from dipnet.errors import Corrupt, Invalid
from dipnet.genesis import Genesis
from dipnet.state import KEY_ACCOUNT, NO_ACCOUNT, Account, Layer
from dipnet.tx import Tx

HASH_BYTES: Final = 32
VIEWS_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class Imported:
    """What a block did. ``applied`` came onto the canonical chain, lowest first.

    ``reverted`` are the transactions of blocks that left it and are not in ``applied``.
    """

    puts: Puts
    new_head: bool
    head: Header
    reverted: tuple[Tx, ...]
    applied: tuple[Block, ...]


class Chain(StoredBlocks):
    """The chain of one network on one disk."""

    def __init__(self, genesis: Genesis, reader: Reader) -> None:
        """Load from ``reader``, which on a new disk holds at least ``Chain.genesis_puts``.

        Raises ``Corrupt`` when what it holds is not whole, ``Invalid("genesis")`` when it is
        another network's chain.
        """
        super().__init__(genesis, reader)
        self._sides: Recent[Puts] = Recent(VIEWS_MAX)  # branch tip -> deltas since its fork
        self._olds: Recent[Puts] = Recent(VIEWS_MAX)  # canonical block below the base -> undone
        head, base = records.unpack_head(reader.get(records.KEY_HEAD))
        self.genesis_hash = reader.get(height_key(0)) or b""
        if self.need(self.genesis_hash).seed_reveal != keccak256(genesis.encode()):
            raise Invalid("genesis", "the data directory holds the chain of another genesis.json")
        self.schedule = Schedule(genesis, self.genesis_hash)
        self._spine = self._load(head, base)
        self._floor = self._lowest()
        self.final = self._final(self._spine.head)
        """Header of the advisory-final block."""

    @staticmethod
    def genesis_puts(genesis: Genesis) -> Puts:
        """What an empty disk must hold before a ``Chain`` can stand on it."""
        block, puts = genesis_block(genesis)
        delta = Delta((0,) * len(genesis_set(genesis)), {})
        return puts | {
            records.KEY_BLOCK + block.hash: block.raw,
            records.KEY_RECEIPTS + block.hash: records.pack_receipts([], []),
            slot_prefix(0) + block.hash: records.pack_delta(delta),
            height_key(0): block.hash,
            records.KEY_HEAD: records.pack_head(block.hash, block.hash),
        }

    def _load(self, head: bytes, base: bytes) -> Spine:
        """The spine, from stored deltas; every block is checked to follow its parent."""
        bottom = self.link(base)
        links: list[Link] = []
        expected = head
        while expected != base:
            link = self.link(expected)
            header = link.header
            if header.height <= bottom.header.height:
                raise Corrupt(f"the head does not descend from the base: {records.REMEDY}")
            links.append(link)
            expected = header.parent
        for link in (bottom, *links):
            if self._reader.get(height_key(link.header.height)) != link.header.hash:
                raise Corrupt(f"block {link.header.height} is not indexed: {records.REMEDY}")
        return Spine(self._reader, bottom, links[::-1])

    def _lowest(self) -> Header:
        """The lowest canonical block that has a delta: older ones were pruned.

        No branch forks below it, even when a reorg takes the base down again.
        """
        for key, _ in self._reader.scan(records.KEY_DELTA):
            if self._canonical(key[-HASH_BYTES:]):
                return self.need(key[-HASH_BYTES:])
        raise Corrupt(f"the deltas are missing: {records.REMEDY}")

    # --- reads

    @property
    def genesis(self) -> Genesis:
        """The parameters of the network."""
        return self._genesis

    @property
    def head(self) -> Header:
        """Header of the best block."""
        return self._spine.head.header

    @property
    def head_state(self) -> Reader:
        """State after the head."""
        return self._spine.view(self.head.height)

    @property
    def base(self) -> Header:
        """Header of the block whose state is on disk."""
        return self._spine.base.header

    @property
    def next_base_fee(self) -> int:
        """Base fee (wei for a unit of gas) of the block after the head."""
        return next_base_fee(self._genesis, self.head.base_fee, self.head.gas_used)

    def hash_at(self, height: int) -> bytes | None:
        """Hash of the canonical block at ``height``."""
        if height > self.head.height or height < 0:
            return None
        if height >= self.base.height:
            return self._spine.at(height).header.hash
        return self._reader.get(height_key(height))

    def state(self, block_hash: bytes) -> Reader | None:
        """State after a block; None when we do not have it or it is out of reach."""
        header = self.header(block_hash)
        if header is None or not self._in_reach(header):
            return None
        return self._view(header)

    def account(self, address: bytes) -> Account:
        """The account at the head."""
        raw = self.head_state.get(KEY_ACCOUNT + address)
        return NO_ACCOUNT if raw is None else Account.decode(raw)

    def next_fields(self, slot: int) -> dict[str, Any]:
        """The fields that the header of the head's child in ``slot`` must have."""
        chained = rules.chained_fields(
            self._genesis, self.genesis_hash, self.head, self.final, slot
        )
        return fixed_fields(self._genesis, slot) | chained

    # --- import

    def on_block(self, block: Block, now_ms: int) -> Imported:
        """Judge a block that ``decode_block`` gave, and follow it if it is the best.

        The same function for own and foreign blocks. A block that is known does nothing. Raises
        ``Invalid``: ``block_parent`` (unknown), ``block_old`` (forks below the undo window),
        ``block_future``, ``block_leader``, ``block_slot``, ``block_limit`` (too many of one
        slot), ``block_form``, ``block_tx``, ``block_root``.
        """
        header = block.header
        if self.header(header.hash) is not None:
            return Imported({}, False, self.head, (), ())
        parent = self._admit(header, now_ms)
        link, receipts = self._execute(block, parent)
        senders = [tx.sender for tx in block.txs]
        puts: Puts = {
            records.KEY_BLOCK + header.hash: block.raw,
            records.KEY_RECEIPTS + header.hash: records.pack_receipts(receipts, senders),
            slot_prefix(header.slot) + header.hash: records.pack_delta(link.delta),
        }
        if not rules.better(header, self.head):
            imported = Imported(puts, False, self.head, (), ())
        else:
            imported = self._follow(block, link, puts)
        self.remember(block, link)
        return imported

    def _admit(self, header: Header, now_ms: int) -> Link:
        """The parent of a block that has a place in a chain, at little cost."""
        if header.height <= self._edge():
            raise Invalid("block_old", f"height {header.height} is settled")
        start_ms = slot_start_ms(self._genesis, header.slot)
        if start_ms > now_ms + rules.CLOCK_SKEW_MS:
            raise Invalid("block_future", f"slot {header.slot} is {start_ms - now_ms} ms ahead")
        if self.schedule.leader(header.slot) != header.proposer:
            raise Invalid("block_leader", f"slot {header.slot}")
        parent = self.header(header.parent)
        if parent is None:
            raise Invalid("block_parent", header.parent.hex())
        if header.slot <= parent.slot:
            raise Invalid("block_slot", f"{header.slot} after {parent.slot}")
        if not self._in_reach(parent):
            raise Invalid("block_old", "forks below the undo window")
        if sum(1 for _ in self._reader.scan(slot_prefix(header.slot))) >= rules.SLOT_BLOCKS_MAX:
            raise Invalid("block_limit", f"slot {header.slot}")
        return self.link(parent.hash)

    def _execute(self, block: Block, parent: Link) -> tuple[Link, list[bytes]]:
        """Run a block on its parent's state and compare all that its header claims.

        Gives its link and its encoded receipts.
        """
        header = block.header
        final = self._final(parent)
        check_fields(
            header,
            rules.chained_fields(
                self._genesis, self.genesis_hash, parent.header, final, header.slot
            ),
        )
        execution = Execution(
            self._genesis, self._view(parent.header), parent.header.state_root, header.height,
            header.slot, header.proposer, header.base_fee,
        )  # fmt: skip
        for index, tx in enumerate(block.txs):
            try:
                execution.add(tx)
            except Invalid as refused:
                raise Invalid("block_tx", f"transaction {index}: {refused}") from None
        executed = execution.finish()
        for name, value in executed.fields.items():
            if getattr(header, name) != value:
                raise Invalid("block_root", name)
        member = self.schedule.members.index(header.proposer)
        newest = rules.newest_with(parent.delta.newest, member, header.height)
        return Link(header, Delta(newest, executed.puts)), executed.receipts

    def _follow(self, block: Block, link: Link, puts: Puts) -> Imported:
        """Make ``block`` the head; ``puts`` already holds the block itself."""
        head, old_head = link.header, self.head
        branch = [link]
        while not self._canonical(branch[-1].header.parent):
            branch.append(self.link(branch[-1].header.parent))
        branch.reverse()
        fork = branch[0].header.height - 1
        final = self._final(link)
        # A function of the new head alone. In the window, for overlays_max <= undo_blocks_max.
        target = max(final.height, head.height - self._genesis.overlays_max)
        spine, moves = moved(self._reader, self._spine, fork, branch, target, self.link)
        puts |= moves
        applied = [self.need_block(one.header.hash) for one in branch[:-1]] + [block]
        left = [self._need_at(height) for height in range(fork + 1, old_head.height + 1)]
        reverted = [tx for one in left for tx in self.need_block(one).txs]
        puts |= dict.fromkeys([records.KEY_TX + tx.hash for tx in reverted])
        for one in applied:
            puts[height_key(one.header.height)] = one.hash
            for index, tx in enumerate(one.txs):
                puts[records.KEY_TX + tx.hash] = records.pack_tx_place(one.hash, index)
        self._prune(spine, puts)
        puts[records.KEY_HEAD] = records.pack_head(head.hash, spine.base.header.hash)
        if left:
            self._sides.clear()
        if spine.base is not self._spine.base:
            self._olds.clear()
        self._spine, self.final = spine, final
        lost = tuple(tx for tx in reverted if puts[records.KEY_TX + tx.hash] is None)
        return Imported(puts, True, head, lost, tuple(applied))

    def _prune(self, spine: Spine, puts: Puts) -> None:
        """Delete what no reorg can reach any more: deltas, undo records, dead branches."""
        edge = spine.base.header.height - self._genesis.undo_blocks_max
        if edge <= self._floor.height:
            return
        floor = self.need(self._canonical_with(puts, edge))
        for key, _ in self._reader.scan(records.KEY_DELTA, slot_prefix(self._floor.slot)):
            if key >= slot_prefix(floor.slot):
                break
            block_hash = key[-HASH_BYTES:]
            puts[key] = puts[records.KEY_UNDO + block_hash] = None
            if self._canonical_with(puts, self.need(block_hash).height) != block_hash:
                puts[records.KEY_BLOCK + block_hash] = None
                puts[records.KEY_RECEIPTS + block_hash] = None
                self.forget(block_hash)
        self._floor = floor

    # --- where a block stands

    def _edge(self) -> int:
        """The lowest height that a branch may fork at."""
        return max(self.base.height - self._genesis.undo_blocks_max, self._floor.height)

    def _need_at(self, height: int) -> bytes:
        block_hash = self.hash_at(height)
        if block_hash is None:
            raise Corrupt(f"block {height} is not indexed: {records.REMEDY}")
        return block_hash

    def _canonical_with(self, puts: Puts, height: int) -> bytes:
        """The canonical hash at ``height`` once ``puts`` are written."""
        return puts.get(height_key(height)) or self._need_at(height)

    def _canonical(self, block_hash: bytes) -> bool:
        return self.hash_at(self.need(block_hash).height) == block_hash

    def _in_reach(self, header: Header) -> bool:
        """Whether the newest canonical ancestor of ``header``, or itself, is in the undo window.

        A branch that forks below it loses its blocks by their slots, the lower ones first.
        """
        while self.hash_at(header.height) != header.hash:
            parent = self.header(header.parent)
            if parent is None:
                return False
            header = parent
        return header.height >= self._edge()

    def _final(self, link: Link) -> Header:
        """The advisory-final block of the chain that ends with ``link``."""
        header = link.header
        height = rules.final_height(link.delta.newest, header.height)
        while header.height > height:
            if self.hash_at(header.height) == header.hash:
                return self.need(self._need_at(height))
            header = self.need(header.parent)
        return header

    # --- states

    def _view(self, header: Header) -> Reader:
        """State after a block whose fork is in the undo window."""
        branch: list[bytes] = []
        while self.hash_at(header.height) != header.hash:
            branch.append(header.hash)
            header = self.need(header.parent)
        view = self._canonical_view(header)
        if not branch:
            return view
        side: Puts = {}
        missing: list[bytes] = []
        for block_hash in branch:
            known = self._sides.get(block_hash)
            if known is not None:
                side = dict(known)
                break
            missing.append(block_hash)
        for block_hash in reversed(missing):
            side |= self.link(block_hash).delta.puts
        self._sides.put(branch[0], side)
        return Layer(view, side)

    def _canonical_view(self, header: Header) -> Reader:
        if header.height >= self.base.height:
            return self._spine.view(header.height)
        puts = self._olds.get(header.hash)
        if puts is None:
            puts = undone(self._reader, self.base, header.height, self.need)
            self._olds.put(header.hash, puts)
        return Layer(self._reader, puts)
