"""Orphans: vertices that wait for missing parents. Bounded; the oldest orphan is dropped first
(docs/spec/dag.md "Parents and ages").

A parent is *wanted* while an orphan names it and it is not an orphan itself: the node asks its
peers for it. Every order is the order of arrival, so equal arrivals give equal results.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

ORPHANS_MAX: Final = 8_192
ORPHAN_BYTES_MAX: Final = 16 << 20


@dataclass(slots=True)
class Orphan:
    """Wire bytes, the parents that were missing on arrival, and how many are still missing."""

    wire: bytes
    parents: tuple[bytes, ...]
    missing: int


class Orphans:
    """The orphans by id and by the parents that they wait for."""

    def __init__(self, count_max: int = ORPHANS_MAX, bytes_max: int = ORPHAN_BYTES_MAX) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._orphans: dict[bytes, Orphan] = {}
        self._children: dict[bytes, dict[bytes, None]] = {}
        self.size = 0
        """Wire bytes of all orphans."""

    def __len__(self) -> int:
        return len(self._orphans)

    def __contains__(self, id: bytes) -> bool:
        return id in self._orphans

    def add(self, id: bytes, wire: bytes, missing: Sequence[bytes]) -> list[bytes]:
        """Keep a vertex. Returns the ids in ``missing`` that no other orphan waits for.

        Drops the oldest orphans beyond the bounds; orphans that wait for a dropped orphan stay.
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
        """Take out the orphans whose last missing parent was ``id``; returns their wire bytes."""
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
        """Drop the orphans that descend from ``id``, which was refused; returns their ids."""
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
        """Whether an orphan waits for ``id`` and ``id`` is not an orphan itself."""
        return id in self._children and id not in self._orphans

    def wanted(self, count_max: int) -> list[bytes]:
        """Ids of up to ``count_max`` wanted parents, the longest awaited first."""
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
