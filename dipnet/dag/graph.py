"""The DAG of one node: insertion, tips, templates for devices, and reads for clients and peers.

Rules that bind this file (docs/spec/dag.md "Parents and ages"): a vertex stands when all its
parents stand and its ``ref_height`` is at least each parent's and at most ``dag_max_parent_age``
above it. Then ``height = 1 + max(height of parents)``, or 1 without parents. Which vertices stand
depends on the known vertices only, never on their order of arrival. Two vertices of one issuer with
the same ``seq`` can both stand. No method writes: ``insert`` returns the records, reads use the
``Reader``.

Bodies are on disk under the ordinal of their arrival, a parent before its children. The graph
(native/dag/graph.h) holds what tips, rules and look-ups need, about 100 bytes a vertex.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from dipnet._native.dag import Batch, Graph, check_items
from dipnet.dag.orphans import Orphans
from dipnet.dag.vertex import ID_ZERO, PARENTS_MAX, SEQ_FIRST, Vertex, decode, refusal
from dipnet.primitives.codec import Puts, Reader
from dipnet.primitives.crypto import THREADS
from dipnet.primitives.errors import Corrupt, Invalid

KEY_VERTEX: Final = b"V"
"""+ ordinal 8 -> wire bytes."""

RANGE_MAX: Final = 256
TIPS_MAX: Final = 256
WANTED_MAX: Final = 1_024
LOAD_VERTICES: Final = 4_096
SEQ_MAX: Final = 2**64 - 1

ACCEPTED, KNOWN, PENDING, REFUSED = range(4)
_INVALID = 4  # status of the native call: the verdict was not OK


class Rules(Protocol):
    """The parameters that the DAG needs."""

    @property
    def chain_id(self) -> int: ...
    @property
    def dag_max_parent_age(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Inserted:
    """The result of inserting a batch."""

    statuses: bytes
    """One byte for each vertex: ``ACCEPTED``, ``KNOWN``, ``PENDING`` or ``REFUSED``."""
    ordinal: int
    """Ordinal of the first accepted vertex; the others follow without a gap."""
    accepted: tuple[bytes, ...]
    """Ids of the accepted vertices, parents first; orphans of earlier batches are among them."""
    refused: tuple[tuple[int, Invalid], ...]
    """Index in the batch, and the reason."""
    missing: tuple[bytes, ...]
    """Ids of parents that are missing for the first time; ``Dag.wanted`` has all of them."""
    puts: Puts
    """The records to write."""

    def wires(self) -> Iterator[bytes]:
        """Wire bytes of the accepted vertices, in the order of ``accepted``."""
        for ordinal in range(self.ordinal, self.ordinal + len(self.accepted)):
            wire = self.puts[_vertex_key(ordinal)]
            assert wire is not None
            yield wire


@dataclass(frozen=True, slots=True)
class VertexTemplate:
    """What a device needs from the DAG for its next vertex: parents' ids sorted, seq, prev."""

    parents: tuple[bytes, ...]
    seq: int
    prev: bytes


class Dag:
    """The vertices of one node. One thread owns it. ``seed`` (u64) is secret: peers that knew it
    could choose colliding ids."""

    def __init__(self, reader: Reader, rules: Rules, seed: int, orphans: Orphans) -> None:
        self._reader = reader
        self._chain_id = rules.chain_id
        self._graph = Graph(rules.dag_max_parent_age, seed)
        self._orphans = orphans

    @classmethod
    def load(cls, reader: Reader, rules: Rules, seed: int) -> "Dag":
        """The DAG of the records on disk. Ids are computed anew; signatures are not checked again.

        Raises ``Corrupt`` when a record is missing, damaged, or out of order.
        """
        dag = cls(reader, rules, seed, Orphans())
        wires: list[bytes] = []
        for key, wire in reader.scan(KEY_VERTEX):
            if key != _vertex_key(len(dag) + len(wires)):
                raise Corrupt(f"vertex record {len(dag) + len(wires)} is missing")
            wires.append(wire)
            if len(wires) == LOAD_VERTICES:
                dag._attach(wires)
                wires = []
        dag._attach(wires)
        return dag

    def _attach(self, wires: list[bytes]) -> None:
        first = len(self)
        statuses = self._graph.attach(check_items(wires, self._chain_id, None, THREADS))
        for index, status in enumerate(statuses):
            if status != ACCEPTED:
                raise Corrupt(f"vertex record {first + index} is damaged or out of order")

    def __len__(self) -> int:
        return len(self._graph)

    @property
    def sum(self) -> int:
        """The sum of the first 8 bytes of all ids, modulo 2^64; equal for equal sets (ADR 50)."""
        return self._graph.sum()

    # --- insert

    def insert(self, batch: Batch) -> Inserted:
        """Insert the valid vertices of a batch, and the orphans that waited for them.

        Vertices with missing parents become orphans (status ``PENDING``).
        """
        first = len(self)
        raw_statuses, accepted, waiting, puts = self._graph.insert_batch(batch, KEY_VERTEX)
        statuses = bytearray(raw_statuses)
        doomed = {batch.id(i): None for i, status in enumerate(statuses) if status == REFUSED}
        fresh: list[bytes] = []
        for index, parents in waiting:
            fresh += self._orphans.add(batch.id(index), batch.wire(index), parents)
        for id in list(doomed):
            doomed.update(dict.fromkeys(self._orphans.drop(id)))
        self._release(accepted, puts, doomed)
        refused = []
        for index, _ in waiting:
            statuses[index] = self._waiting_status(batch.id(index))
        for index, status in enumerate(statuses):
            if status >= REFUSED:
                refused.append((index, _reason(batch, index, status, doomed)))
        missing = [id for id in dict.fromkeys(fresh) if self._orphans.is_wanted(id)]
        return Inserted(
            bytes(statuses).replace(bytes((_INVALID,)), bytes((REFUSED,))),
            first,
            tuple(accepted),
            tuple(refused),
            tuple(missing),
            puts,
        )

    def _release(self, accepted: list[bytes], puts: Puts, doomed: dict[bytes, None]) -> None:
        """Insert the orphans that waited for ``accepted``, append them to it, and so on until no
        orphan is ready. Ids of refused orphans and their descendants are added to ``doomed``."""
        at = 0
        while self._orphans and at < len(accepted):
            ready = [wire for id in accepted[at:] for wire in self._orphans.release(id)]
            at = len(accepted)
            batch = check_items(ready, self._chain_id, None, THREADS)
            statuses, released, _, more = self._graph.insert_batch(batch, KEY_VERTEX)
            accepted += released
            puts.update(more)
            for index, status in enumerate(statuses):
                if status == REFUSED:
                    doomed[batch.id(index)] = None
                    doomed.update(dict.fromkeys(self._orphans.drop(batch.id(index))))

    def _waiting_status(self, id: bytes) -> int:
        if id in self._orphans:
            return PENDING
        return ACCEPTED if self.has(id) else REFUSED

    def wanted(self, count_max: int = WANTED_MAX) -> list[bytes]:
        """Ids of up to ``count_max`` missing parents, the longest awaited first."""
        return self._orphans.wanted(count_max)

    # --- reads

    def has(self, id: bytes) -> bool:
        """Whether the vertex is in the DAG."""
        return self._graph.find(id) >= 0

    def is_pending(self, id: bytes) -> bool:
        """Whether the vertex is an orphan: it waits for parents."""
        return id in self._orphans

    def ordinal(self, id: bytes) -> int | None:
        """Ordinal of the vertex in the order of arrival on this node, from 0; None if unknown."""
        ordinal = self._graph.find(id)
        return None if ordinal < 0 else ordinal

    def height(self, id: bytes) -> int | None:
        """Height of the vertex: 1 + the greatest height of its parents; None if unknown."""
        ordinal = self._graph.find(id)
        return None if ordinal < 0 else self._graph.height(ordinal)

    def raw(self, id: bytes) -> bytes | None:
        """Wire bytes of the vertex, or None if it is not in the DAG."""
        ordinal = self._graph.find(id)
        return None if ordinal < 0 else self.wire(ordinal)

    def get(self, id: bytes) -> Vertex | None:
        """The decoded vertex, or None if it is not in the DAG."""
        raw = self.raw(id)
        return None if raw is None else decode(raw)

    def latest(self, issuer: bytes, topic: bytes | None = None) -> Vertex | None:
        """The issuer's vertex with the greatest ``seq``, on a topic or on any topic.

        Of two vertices with the same ``seq`` it is the first that arrived.
        """
        ordinal = self._graph.latest(issuer, topic)
        return None if ordinal < 0 else decode(self.wire(ordinal))

    def range(self, issuer: bytes, seq_from: int, count_max: int) -> tuple[Vertex, ...]:
        """Up to ``count_max`` vertices of the issuer with seq >= ``seq_from``, by seq, then by
        arrival. Raises ``Invalid("params")`` for arguments out of range."""
        if not 0 <= seq_from <= SEQ_MAX or not 1 <= count_max <= RANGE_MAX:
            raise Invalid("params", f"seq is a u64, n is 1 to {RANGE_MAX}")
        found = self._graph.range(issuer, seq_from, count_max)
        return tuple(decode(self.wire(ordinal)) for ordinal in found)

    def wires(self, ordinal: int, count_max: int, bytes_max: int) -> tuple[bytes, int]:
        """Vertices from ``ordinal`` on as one batch of wire bytes, and the ordinal after the batch.

        The returned ordinal is ``ordinal`` itself when there are no more vertices, or when the next
        vertex is longer than ``bytes_max`` (never with ``VERTEX_BYTES_MAX`` or more).
        """
        wires: list[bytes] = []
        size, last = 0, min(ordinal + count_max, len(self))
        for key, wire in self._reader.scan(KEY_VERTEX, _vertex_key(ordinal)):
            size += len(wire)
            if ordinal >= last or size > bytes_max:
                break
            if key != _vertex_key(ordinal):
                raise Corrupt(f"vertex record {ordinal} is missing")
            wires.append(wire)
            ordinal += 1
        return b"".join(wires), ordinal

    def stats(self) -> dict[str, int]:
        """Counts, and sizes in bytes, by their names in ``dag_stats``."""
        vertices, tips, edges, issuers, streams, size = self._graph.counts()
        return {
            "vertices": vertices,
            "tips": tips,
            "edges": edges,
            "issuers": issuers,
            "streams": streams,
            "graphBytes": size,
            "orphans": len(self._orphans),
            "orphanBytes": self._orphans.size,
        }

    # --- tips

    def tips(self, count_max: int, seed: int) -> list[bytes]:
        """Ids of up to ``count_max`` (at most ``TIPS_MAX``) tips, each tip equally likely."""
        count = self._graph.counts()[1]
        if not count:
            return []
        chosen = self._graph.tips(seed % count, min(count_max, TIPS_MAX))
        return [self._graph.id(ordinal) for ordinal in chosen]

    def template(self, issuer: bytes, k: int, final_height: int, seed: int) -> VertexTemplate:
        """Up to ``k`` parents, seq and prev for the issuer's next vertex at ``final_height``.

        Parents are tips drawn uniformly by ``seed``; the issuer's own last vertex is among them
        while its age allows. Without an eligible tip there are no parents, so that an idle network
        can always start again. Raises ``Invalid`` ("params", "limit").
        """
        if not 1 <= k <= PARENTS_MAX:
            raise Invalid("params", f"k is 1 to {PARENTS_MAX}")
        chosen = self._graph.select(k, final_height, seed)
        head = self._graph.latest(issuer, None)
        if head < 0:
            return VertexTemplate(self._ids(chosen), SEQ_FIRST, ID_ZERO)
        if head not in chosen and self._graph.nameable(head, final_height):
            chosen = [*chosen[: k - 1], head]
        seq = self._graph.seq(head)
        if seq == SEQ_MAX:
            raise Invalid("limit", "the issuer's sequence numbers are used up")
        return VertexTemplate(self._ids(chosen), seq + 1, self._graph.id(head))

    def _ids(self, ordinals: Sequence[int]) -> tuple[bytes, ...]:
        return tuple(sorted(map(self._graph.id, ordinals)))

    def id_at(self, ordinal: int) -> bytes:
        """Id of the vertex at ``ordinal`` in the order of arrival, from 0."""
        return self._graph.id(ordinal)

    def wire(self, ordinal: int) -> bytes:
        """Wire bytes of the vertex at ``ordinal`` in the order of arrival, from 0."""
        wire = self._reader.get(_vertex_key(ordinal))
        if wire is None:
            raise Corrupt(f"vertex record {ordinal} is missing")
        return wire


def _vertex_key(ordinal: int) -> bytes:
    return KEY_VERTEX + ordinal.to_bytes(8, "big")


def _reason(batch: Batch, index: int, status: int, doomed: dict[bytes, None]) -> Invalid:
    if status == _INVALID:
        return refusal(batch.verdict(index))
    if batch.id(index) in doomed:
        return Invalid("vertex_age", "its own parents, or those of an ancestor")
    return Invalid("vertex_orphan")
