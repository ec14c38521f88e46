"""The DAG of one node: insert, tips, templates for devices, reads, and what peers fetch.

Rules that bind this file: a vertex stands when all its parents stand, ``ref_height`` is at least
each parent's and at most ``dag_max_parent_age`` above it (docs/spec/dag.md "Parents and ages";
final heights); then
``height = 1 + max(height of parents)``, 1 without any. Which vertices stand depends on which are
known and never on the order in which they came. Two vertices of one issuer with one ``seq`` both
stand. Nothing here writes: ``insert`` returns the records, reads go through the ``Reader``.

Bodies are on disk under the ordinal of their arrival, a parent before its children; the graph
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
_INVALID = 4  # of the native call: the verdict was not OK


class Rules(Protocol):
    """What the DAG takes from genesis."""

    @property
    def chain_id(self) -> int: ...
    @property
    def dag_max_parent_age(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Inserted:
    """What became of a batch."""

    statuses: bytes
    """One a vertex of the batch: ``ACCEPTED``, ``KNOWN``, ``PENDING`` or ``REFUSED``."""
    ordinal: int
    """Of the first accepted vertex; the others follow without a gap."""
    accepted: tuple[bytes, ...]
    """Ids, parents first; among them orphans of earlier batches, each once in its life."""
    refused: tuple[tuple[int, Invalid], ...]
    """Index in the batch, and why."""
    missing: tuple[bytes, ...]
    """Ids to ask peers for; each only when it is first missed, ``Dag.wanted`` has all."""
    puts: Puts

    def wires(self) -> Iterator[bytes]:
        """Wire bytes of ``accepted``, in its order."""
        for ordinal in range(self.ordinal, self.ordinal + len(self.accepted)):
            wire = self.puts[_vertex_key(ordinal)]
            assert wire is not None
            yield wire


@dataclass(frozen=True, slots=True)
class VertexTemplate:
    """All that a device needs from the DAG to build its next vertex."""

    parents: tuple[bytes, ...]
    seq: int
    prev: bytes


class Dag:
    """The machine. One thread owns it; ``seed`` (u64) keeps peers from choosing collisions."""

    def __init__(self, reader: Reader, rules: Rules, seed: int, orphans: Orphans) -> None:
        self._reader = reader
        self._chain_id = rules.chain_id
        self._graph = Graph(rules.dag_max_parent_age, seed)
        self._orphans = orphans

    @classmethod
    def load(cls, reader: Reader, rules: Rules, seed: int) -> "Dag":
        """The DAG on disk, hashed and attached anew; signatures were judged before it was written.

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
        """Of the first 8 bytes of all ids, modulo 2^64: logs of one set have one, in any order."""
        return self._graph.sum()

    # --- insert

    def insert(self, batch: Batch) -> Inserted:
        """Attach what was judged good, keep what waits for parents, release who waited for it."""
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
        """Inserts the orphans that waited for ``accepted``, and extends it, until none is ready."""
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
        """Ids of missing parents, the longest awaited first, for asking again."""
        return self._orphans.wanted(count_max)

    # --- reads

    def has(self, id: bytes) -> bool:
        """Whether the vertex stands."""
        return self._graph.find(id) >= 0

    def is_pending(self, id: bytes) -> bool:
        """Whether the vertex waits for parents."""
        return id in self._orphans

    def ordinal(self, id: bytes) -> int | None:
        """Place in the order of arrival on this node, from 0."""
        ordinal = self._graph.find(id)
        return None if ordinal < 0 else ordinal

    def height(self, id: bytes) -> int | None:
        """1 + the greatest height of its parents, or None."""
        ordinal = self._graph.find(id)
        return None if ordinal < 0 else self._graph.height(ordinal)

    def raw(self, id: bytes) -> bytes | None:
        """Wire bytes, or None."""
        ordinal = self._graph.find(id)
        return None if ordinal < 0 else self.wire(ordinal)

    def get(self, id: bytes) -> Vertex | None:
        """The vertex, or None."""
        raw = self.raw(id)
        return None if raw is None else decode(raw)

    def latest(self, issuer: bytes, topic: bytes | None = None) -> Vertex | None:
        """The issuer's vertex of greatest ``seq`` (on ``topic``); of two, the first that came."""
        ordinal = self._graph.latest(issuer, topic)
        return None if ordinal < 0 else decode(self.wire(ordinal))

    def range(self, issuer: bytes, seq_from: int, count_max: int) -> tuple[Vertex, ...]:
        """The issuer's vertices with seq >= ``seq_from``, by seq, then by arrival."""
        if not 0 <= seq_from <= SEQ_MAX or not 1 <= count_max <= RANGE_MAX:
            raise Invalid("params", f"seq is a u64, n is 1 to {RANGE_MAX}")
        found = self._graph.range(issuer, seq_from, count_max)
        return tuple(decode(self.wire(ordinal)) for ordinal in found)

    def wires(self, ordinal: int, count_max: int, bytes_max: int) -> tuple[bytes, int]:
        """A batch for a peer that has all before ``ordinal``, and the ordinal to go on with.

        The same ordinal comes back when nothing follows, or when the next vertex alone is longer
        than ``bytes_max`` (never with ``VERTEX_BYTES_MAX`` or more).
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
        """Counts and bytes by name."""
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
        """Ids of up to ``TIPS_MAX`` tips for announcing, each tip as likely as another."""
        count = self._graph.counts()[1]
        if not count:
            return []
        chosen = self._graph.tips(seed % count, min(count_max, TIPS_MAX))
        return [self._graph.id(ordinal) for ordinal in chosen]

    def template(self, issuer: bytes, k: int, final_height: int, seed: int) -> VertexTemplate:
        """Parents, seq and prev for the issuer's next vertex, stamped ``final_height``.

        Tips by URTS; the issuer's own last vertex is among the parents while its age allows.
        None at all where no eligible tip was found: an idle network can always start again.
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
        """Id of the vertex that came as number ``ordinal``, from 0."""
        return self._graph.id(ordinal)

    def wire(self, ordinal: int) -> bytes:
        """Wire bytes of the vertex that came as number ``ordinal``, from 0."""
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
