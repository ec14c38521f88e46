"""Fork choice: which block is the head (docs/spec/consensus.md "Fork choice").

The head descends from the final block, and there from the block with the highest known certificate
by (epoch, slot). Of all blocks above that block the head is the one of the greatest height, then of
the lowest slot, then of the lowest id.
"""

from collections.abc import Iterator

from dipnet.consensus.finality.header import Header


def preference(header: Header) -> tuple[int, int, bytes]:
    """The sort key of blocks above one certificate; the least is the head."""
    return -header.height, header.slot, header.hash


class Tree:
    """The headers of the final block and of its stored descendants, by hash."""

    def __init__(self, final: Header) -> None:
        self.final = final
        self._headers: dict[bytes, Header] = {final.hash: final}
        self._children: dict[bytes, list[bytes]] = {}

    def __contains__(self, block_id: bytes) -> bool:
        return block_id in self._headers

    def __len__(self) -> int:
        return len(self._headers)

    def get(self, block_id: bytes) -> Header | None:
        """The header of a block of the tree, None for any other block."""
        return self._headers.get(block_id)

    def add(self, header: Header) -> bool:
        """Add a valid block above its parent; False where the parent is not in the tree."""
        if header.parent not in self._headers or header.hash in self._headers:
            return header.hash in self._headers
        assert header.height == self._headers[header.parent].height + 1
        assert header.slot > self._headers[header.parent].slot
        self._headers[header.hash] = header
        self._children.setdefault(header.parent, []).append(header.hash)
        return True

    def above(self, block_id: bytes) -> Iterator[Header]:
        """The block and its descendants, parents first."""
        open_ids = [block_id]
        while open_ids:
            header = self._headers[open_ids.pop()]
            yield header
            open_ids += self._children.get(header.hash, ())

    def head(self, certified: bytes) -> Header:
        """The best block above ``certified`` (32 bytes), the block with the highest certificate;
        above the final block where the tree does not have ``certified``."""
        start = certified if certified in self._headers else self.final.hash
        return min(self.above(start), key=preference)

    def ancestor(self, header: Header, block_id: bytes) -> bool:
        """Whether ``block_id`` is in the tree and is ``header`` or an ancestor of it."""
        wanted = self._headers.get(block_id)
        at: Header | None = header
        while wanted is not None and at is not None and at.height > wanted.height:
            at = self._headers.get(at.parent)
        return at is not None and at.hash == block_id

    def finalize(self, final: Header) -> None:
        """Make ``final``, a block of the tree, the root, and drop all that does not descend."""
        assert final.hash in self._headers, "a final block is never left"
        kept = list(self.above(final.hash))
        self._headers = {header.hash: header for header in kept}
        self._children = {
            header.hash: self._children[header.hash]
            for header in kept
            if header.hash in self._children
        }
        self.final = final
