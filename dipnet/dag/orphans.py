"""Vertices whose parents are not here yet. Bounded; the oldest goes first (docs/spec/dag.md
"Parents and ages").

A parent counts as *wanted* while some orphan names it and it is no orphan itself: it is what peers
are asked for. Order is that of arrival everywhere, so equal arrivals give equal answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

ORPHANS_MAX: Final = 8_192
ORPHAN_BYTES_MAX: Final = 16 << 20


@dataclass(slots=True)
class Orphan:
    """Wire bytes, the parents that were missing on arrival, and how many of them still are."""

    wire: bytes
    parents: tuple[bytes, ...]
    missing: int


class Orphans:
    """The waiting vertices by id, and by the parents that they wait for."""

    def __init__(self, count_max: int = ORPHANS_MAX, bytes_max: int = ORPHAN_BYTES_MAX) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._orphans: dict[bytes, Orphan] = {}
        self._children: dict[bytes, dict[bytes, None]] = {}
        self.size = 0
        """Wire bytes held."""

    def __len__(self) -> int:
        return len(self._orphans)

    def __contains__(self, id: bytes) -> bool:
        return id in self._orphans

    def add(self, id: bytes, wire: bytes, missing: Sequence[bytes]) -> list[bytes]:
        """Keep a vertex; the parents among ``missing`` that nobody waited for before.

        Makes room by dropping the oldest orphans; what waits for those waits on.
        """
        if id in self._orphans:
            return []
        self._orphans[id] = Orphan(wire, tuple(missing), len(missing))
        self.size += len(wire)
        fresh = [parent for parent in missing if parent not in self._children]
        for parent in missing:
            self._children.setdefault(parent, {})[id] = None
        while len(self._orphans) > self._count_max or self.size > self._bytes_max:
            self._forget(next(iter(self._orphans)))
        return fresh

    def release(self, id: bytes) -> list[bytes]:
        """``id`` is in the graph: the wire bytes of the orphans that waited for nothing else."""
        if id in self._orphans:
            self._forget(id)
        ready = []
        for child in self._children.pop(id, {}):
            orphan = self._orphans[child]
            orphan.missing -= 1
            if not orphan.missing:
                ready.append(orphan.wire)
                del self._orphans[child]
                self.size -= len(orphan.wire)
        return ready

    def drop(self, id: bytes) -> list[bytes]:
        """``id`` will never be in the graph: drops all that descends from it, and says which."""
        dropped: list[bytes] = []
        doomed = [id]
        while doomed:
            parent = doomed.pop()
            if parent in self._orphans:
                self._forget(parent)
                dropped.append(parent)
            doomed.extend(self._children.get(parent, {}))
        return dropped

    def is_wanted(self, id: bytes) -> bool:
        """Whether some orphan waits for ``id`` and it is no orphan itself."""
        return id in self._children and id not in self._orphans

    def wanted(self, count_max: int) -> list[bytes]:
        """Parents to ask for, the longest awaited first."""
        wanted = (parent for parent in self._children if self.is_wanted(parent))
        return list(islice(wanted, count_max))

    def _forget(self, id: bytes) -> None:
        orphan = self._orphans.pop(id)
        self.size -= len(orphan.wire)
        for parent in orphan.parents:
            children = self._children.get(parent)
            if children is not None:
                children.pop(id, None)
                if not children:
                    del self._children[parent]
