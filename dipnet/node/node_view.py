"""The ``View`` of a running node: reads of its chain, pool and DAG."""

from collections.abc import Iterable, Iterator

from dipnet.consensus.chain.chain import Chain
from dipnet.consensus.chain.pool import Pool
from dipnet.consensus.finality.votes import decode_certificate, vote_id
from dipnet.dag.graph import Dag
from dipnet.p2p.messages import Status, Topic
from dipnet.primitives.crypto import keccak256
from dipnet.primitives.errors import Invalid


class NodeView:
    """Implements ``View``. ``now_ms`` is the time that the clock of the node shows."""

    def __init__(self, chain: Chain, pool: Pool, dag: Dag) -> None:
        self._chain = chain
        self._pool = pool
        self._dag = dag
        self.now_ms = 0

    def status(self) -> Status:
        """Where the node stands."""
        chain = self._chain
        head, final, top = chain.head, chain.final, chain.certificates.rank
        return Status(
            head.height, head.hash, final.height, final.hash, *top, len(self._dag), self._dag.sum,
            self.now_ms,
        )  # fmt: skip

    def has(self, topic: Topic, id_: bytes) -> bool:
        """Whether the item is here, or settled."""
        match topic:
            case Topic.TX:
                return id_ in self._pool or self._chain.transaction(id_) is not None
            case Topic.VERTEX:
                return self._dag.has(id_) or self._dag.is_pending(id_)
            case _:
                return self._chain.header(id_) is not None

    def item_id(self, topic: Topic, raw: bytes) -> bytes:
        """The id of a vote or certificate; for other bytes some hash of them.

        Every peer sends every vote, so the id of a vote is read from its bytes without decoding
        (``Vote.id``).
        """
        try:
            return vote_id(raw) if topic is Topic.VOTE else decode_certificate(raw).id
        except Invalid:
            return keccak256(raw)

    def raw(self, topic: Topic, id_: bytes) -> bytes | None:
        """The bytes of an item, None when it is not here."""
        match topic:
            case Topic.TX:
                tx = self._pool.get(id_)
                return tx.raw if tx else None
            case Topic.VERTEX:
                return self._dag.raw(id_)
            case _:
                return self._chain.raw(id_)

    def block_hash_at(self, height: int) -> bytes:
        """The canonical block at a height from 0 to the head's."""
        block_hash = self._chain.hash_at(height)
        assert block_hash is not None
        return block_hash

    def blocks_after(self, locator: Iterable[bytes]) -> Iterator[bytes]:
        """Raw canonical blocks above the first hash of the locator that is canonical."""
        for block_hash in locator:
            header = self._chain.header(block_hash)
            if header is not None and self._chain.hash_at(header.height) == block_hash:
                for height in range(header.height + 1, self._chain.head.height + 1):
                    raw = self._chain.raw(self.block_hash_at(height))
                    assert raw is not None
                    yield raw
                return

    def vertex_ordinal(self, id_: bytes) -> int | None:
        """The place of a vertex in our log, None when it is not here."""
        return self._dag.ordinal(id_)

    def vertices_from(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Ordinal and wire bytes of our log from ``start`` on."""
        for ordinal in range(start, len(self._dag)):
            yield ordinal, self._dag.wire(ordinal)

    def vertex_sample(self) -> list[bytes]:
        """Ids of our log, newest first, exponentially back."""
        return [self._dag.id_at(len(self._dag) - back) for back in backwards(len(self._dag))]


def backwards(count: int) -> Iterator[int]:
    """1, 2, 3 ... 8, then in doubling steps, up to ``count``."""
    back, step = 1, 1
    while back <= count:
        yield back
        if back >= 8:
            step *= 2
        back += step
