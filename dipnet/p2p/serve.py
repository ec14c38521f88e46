"""Answers to the questions of others: bounded in count and bytes, read lazily.

What is read comes as iterators, so that an answer never costs more than it carries. At least one
item is given whatever its size: it was accepted here, so it fits into a frame.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from dipnet.p2p.blocksync import BLOCKS_MAX
from dipnet.p2p.messages import (
    Blocks,
    GetBlocks,
    GetVertices,
    Located,
    LocateVertices,
    VertexRange,
    encode,
)
from dipnet.p2p.vertexsync import VERTICES_MAX

ANSWER_BYTES_MAX: Final = 8 << 20


def serve_blocks(
    request: GetBlocks, blocks_after: Callable[[tuple[bytes, ...]], Iterable[bytes]]
) -> bytes:
    """The answer, encoded for "sync".

    ``blocks_after(locator)`` gives the raw canonical blocks above the first of the locator that
    is canonical here, ascending; none when none is.
    """
    raws: list[bytes] = []
    more = False
    size = 0
    for raw in blocks_after(request.locator):
        size += len(raw)
        if len(raws) >= min(max(request.count, 1), BLOCKS_MAX) or (
            raws and size > ANSWER_BYTES_MAX
        ):
            more = True
            break
        raws.append(raw)
    return encode(Blocks(request.request, tuple(raws), more))


def serve_located(request: LocateVertices, ordinal_of: Callable[[bytes], int | None]) -> bytes:
    """The answer, encoded for "sync". ``ordinal_of(id)`` is None for what is not here."""
    for id_ in request.ids:
        ordinal = ordinal_of(id_)
        if ordinal is not None:
            return encode(Located(request.request, ordinal))
    return encode(Located(request.request, 0))


def serve_vertices(
    request: GetVertices, vertices_from: Callable[[int], Iterator[tuple[int, bytes]]]
) -> bytes:
    """The answer, encoded for "sync".

    ``vertices_from(start)`` gives (ordinal, wire bytes) of our log from ``start`` on, ascending.
    """
    wires: list[bytes] = []
    count = min(max(request.count, 1), VERTICES_MAX)
    size = 0
    next_ordinal = request.start
    for ordinal, wire in vertices_from(request.start):
        size += len(wire)
        if len(wires) >= count or (wires and size > ANSWER_BYTES_MAX):
            return encode(VertexRange(request.request, next_ordinal, False, b"".join(wires)))
        wires.append(wire)
        next_ordinal = ordinal + 1
    return encode(VertexRange(request.request, next_ordinal, True, b"".join(wires)))
