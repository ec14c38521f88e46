"""The state of every block in reach: overlays above the base, undo records below it.

State records on disk are those of the *base* block. The canonical blocks above the base are the
*spine*: each is a ``Layer`` of its delta over the state of its parent. The state of a block below
the base is that of the base with the undo records in between applied. A move of the base is a
value: the new spine, and the writes that take the disk there, up by deltas, down by undo records.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from dipnet.consensus.chain.records import KEY_UNDO, Delta, pack_undo, unpack_undo
from dipnet.consensus.finality.header import Header
from dipnet.ledger.state import Layer, undo_of
from dipnet.primitives.codec import Puts, Reader


@dataclass(frozen=True, slots=True)
class StoredDelta:
    """The header of a block and what the block changed in its parent's state."""

    header: Header
    delta: Delta


class Spine:
    """The base and the canonical blocks ``above`` it, lowest first. Never changed, only replaced.

    ``reader`` reads the state of the base, which is on disk.
    """

    def __init__(self, reader: Reader, base: StoredDelta, above: list[StoredDelta]) -> None:
        self.base = base
        self.above = above
        self._states = [reader]
        for parent, stored in pairwise([base, *above]):
            assert stored.header.parent == parent.header.hash, "a spine is one chain"
            self._states.append(Layer(self._states[-1], stored.delta.puts))

    @property
    def head(self) -> StoredDelta:
        """The highest block."""
        return self.above[-1] if self.above else self.base

    def at(self, height: int) -> StoredDelta:
        """The block at ``height``, from the base's to the head's."""
        index = height - self.base.header.height
        assert 0 <= index <= len(self.above)
        return self.above[index - 1] if index else self.base

    def state(self, height: int) -> Reader:
        """State after the block at ``height``, from the base's to the head's."""
        index = height - self.base.header.height
        assert 0 <= index <= len(self.above)
        return self._states[index]


def undone(reader: Reader, base: Header, height: int, need: Callable[[bytes], Header]) -> Puts:
    """The writes that turn the state of ``base`` into that of its ancestor at ``height``.

    ``need`` reads a stored header by hash. Raises ``Corrupt`` where an undo record is missing.
    """
    assert height <= base.height
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
    delta_of: Callable[[bytes], StoredDelta],
) -> tuple[Spine, Puts]:
    """The spine after the blocks above height ``fork`` gave way to ``branch``, and the writes.

    The new base is the block at height ``target`` of the new chain. ``delta_of`` reads a stored
    delta by the hash of its block. Raises ``Corrupt`` where the base has to go down and an undo
    record is missing.
    """
    assert fork <= spine.head.header.height
    assert 0 <= target <= fork + len(branch)
    assert not branch or branch[0].header.height == fork + 1
    puts: Puts = {}
    base = spine.base
    chain = spine.above
    below: list[StoredDelta] = []
    while base.header.height > min(fork, target):
        puts.update(_undo(reader, base.header))
        puts[KEY_UNDO + base.header.hash] = None
        below.append(base)
        base = delta_of(base.header.parent)
    chain = (below[::-1] + chain)[: fork - base.header.height] + branch
    rise = target - base.header.height
    for stored in chain[:rise]:
        # Read through the writes so far: they hold the state that the base will have.
        undo = undo_of(Layer(reader, puts), stored.delta.puts)
        puts.update(stored.delta.puts)
        puts[KEY_UNDO + stored.header.hash] = pack_undo(undo)
    if rise:
        base = chain[rise - 1]
    assert base.header.height == target
    return Spine(reader, base, chain[rise:]), puts
