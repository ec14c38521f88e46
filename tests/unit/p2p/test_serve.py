"""Answers to sync requests are bounded, and read no more from disk than they carry."""

from collections.abc import Iterator

from dipnet.p2p.blocksync import BLOCKS_MAX
from dipnet.p2p.messages import (
    Blocks,
    GetBlocks,
    GetVertices,
    Located,
    LocateVertices,
    VertexRange,
    decode,
)
from dipnet.p2p.serve import ANSWER_BYTES_MAX, serve_blocks, serve_located, serve_vertices
from dipnet.p2p.vertexsync import VERTICES_MAX


def test_served_blocks_are_bounded() -> None:
    read = 0

    def endless(size: int) -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield bytes(size)

    def served(count: int, size: int) -> Blocks:
        answer = decode("sync", serve_blocks(GetBlocks(1, (), count), lambda _: endless(size)))
        assert isinstance(answer, Blocks)
        assert answer.more
        return answer

    assert len(served(2**64 - 1, 1).raws) == BLOCKS_MAX
    assert len(served(0, 1).raws) == 1
    read = 0
    assert len(served(128, ANSWER_BYTES_MAX // 3).raws) == 3
    assert read == 4
    assert len(served(128, ANSWER_BYTES_MAX + 1).raws) == 1
    assert decode("sync", serve_blocks(GetBlocks(7, (), 1), lambda _: [])) == Blocks(7, (), False)


def test_served_vertices_are_bounded() -> None:
    def log(size: int, end: int) -> VertexRange:
        raw = serve_vertices(
            GetVertices(1, 10, 2**64 - 1),
            lambda start: ((2 * n, bytes(size)) for n in range(start, end)),
        )
        answer = decode("sync", raw)
        assert isinstance(answer, VertexRange)
        return answer

    full = log(1, 10**9)
    assert (len(full.wire), full.end) == (VERTICES_MAX, False)
    assert full.next == 2 * (10 + VERTICES_MAX - 1) + 1
    assert len(log(ANSWER_BYTES_MAX // 2, 10**9).wire) == ANSWER_BYTES_MAX
    assert len(log(ANSWER_BYTES_MAX + 9, 10**9).wire) == ANSWER_BYTES_MAX + 9
    assert log(1, 10) == VertexRange(1, 10, True, b"")
    assert log(1, 12) == VertexRange(1, 23, True, bytes(2))


def test_unknown_ids_are_located_nowhere() -> None:
    raw = serve_located(LocateVertices(4, (bytes(31) + b"\x01",)), lambda _: None)
    assert decode("sync", raw) == Located(4, 0)
