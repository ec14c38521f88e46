"""The state of every block in reach: overlays above the base, undo records below it.

State records on disk are those of one block, the *base*. The canonical blocks above it are the
*spine*; each is a ``Layer`` of its delta over the one below. A block under the base is seen through
what its successors wrote over. Moving the base is a value: the new spine and the writes that take
the disk there, up by deltas and down by undo records.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dipnet.consensus.chain.records import KEY_UNDO, Delta, pack_undo, unpack_undo
from dipnet.consensus.finality.header import Header
from dipnet.ledger.state import Layer, undo_of
from dipnet.primitives.codec import Puts, Reader


@dataclass(frozen=True, slots=True)
class StoredDelta:
    """A block as state sees it: header and delta."""

    header: Header
    delta: Delta


class Spine:
    """The base and the canonical blocks above it, lowest first. Never changed, only replaced."""

    def __init__(self, reader: Reader, base: StoredDelta, links: list[StoredDelta]) -> None:
        self.base = base
        self.links = links
        self._views = [reader]
        for link in links:
            self._views.append(Layer(self._views[-1], link.delta.puts))

    @property
    def head(self) -> StoredDelta:
        """The highest block."""
        return self.links[-1] if self.links else self.base

    def at(self, height: int) -> StoredDelta:
        """The block at ``height``, which is not below the base nor above the head."""
        above = height - self.base.header.height
        return self.links[above - 1] if above else self.base

    def view(self, height: int) -> Reader:
        """State after the block at ``height``, which is not below the base nor above the head."""
        return self._views[height - self.base.header.height]


def undone(reader: Reader, base: Header, height: int, need: Callable[[bytes], Header]) -> Puts:
    """What makes the state of ``base`` that of its ancestor at ``height``.

    ``need`` reads a stored header by hash.
    """
    puts: Puts = {}
    while base.height > height:
        puts.update(_undo(reader, base))
        base = need(base.parent)
    return puts


def _undo(reader: Reader, header: Header) -> Puts:
    what = f"the undo record of block {header.height} ({header.hash.hex()})"
    return unpack_undo(reader.get(KEY_UNDO + header.hash), what)


def moved(
    reader: Reader,
    spine: Spine,
    fork: int,
    branch: list[StoredDelta],
    target: int,
    link_of: Callable[[bytes], StoredDelta],
) -> tuple[Spine, Puts]:
    """The spine after the blocks above height ``fork`` gave way to ``branch``, and the writes.

    The new base is the block at height ``target`` of the new chain. ``link_of`` reads a stored
    block by hash. Where the base has to go down, undo records must be there.
    """
    puts: Puts = {}
    base = spine.base
    chain = spine.links
    below: list[StoredDelta] = []
    while base.header.height > min(fork, target):
        puts.update(_undo(reader, base.header))
        puts[KEY_UNDO + base.header.hash] = None
        below.append(base)
        base = link_of(base.header.parent)
    chain = (below[::-1] + chain)[: fork - base.header.height] + branch
    rise = target - base.header.height
    for link in chain[:rise]:
        # Read through the writes so far: they are where the base will be by then.
        undo = undo_of(Layer(reader, puts), link.delta.puts)
        puts.update(link.delta.puts)
        puts[KEY_UNDO + link.header.hash] = pack_undo(undo)
    if rise:
        base = chain[rise - 1]
    return Spine(reader, base, chain[rise:]), puts
