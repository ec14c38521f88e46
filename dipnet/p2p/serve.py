"""Answers to the sync requests of peers: bounded in count and bytes, read lazily.

Records come as iterators, so that an answer never costs more than it carries. An answer has at
least one item, whatever its size: the item was accepted here, so it fits into a frame.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

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


class Source(Protocol):
    """The records that answers are made of."""

    def blocks_after(self, locator: Iterable[bytes]) -> Iterable[bytes]:
        """As ``serve_blocks`` wants it. Takes no more of the locator than it looks up."""

    def vertex_ordinal(self, id_: bytes) -> int | None:
        """As ``serve_located`` wants it."""

    def vertices_from(self, start: int) -> Iterator[tuple[int, bytes]]:
        """As ``serve_vertices`` wants it."""


def answer(request: GetBlocks | LocateVertices | GetVertices, source: Source) -> tuple[bytes, int]:
    """The answer, encoded for "sync", and how many hashes of blocks were looked up for it."""
    match request:
        case GetBlocks():
            marks = iter(request.locator)
            frame = serve_blocks(request, lambda _: source.blocks_after(marks))
            return frame, len(request.locator) - len(tuple(marks))  # up to the first shared block
        case LocateVertices():
            return serve_located(request, source.vertex_ordinal), 0
        case GetVertices():
            return serve_vertices(request, source.vertices_from), 0


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
    """The answer, encoded for "sync". ``ordinal_of(id)`` is None for unknown ids."""
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
