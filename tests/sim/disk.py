"""The simulator's disk: synced records, records that a node believes written, and losses."""

import random
from bisect import bisect_left
from collections.abc import Iterator

from dipnet.primitives.codec import Puts
from tests.fixtures.memory import Memory


class Records(Memory):
    """A ``Memory`` that is written with ``apply`` alone and keeps a sorted list by first byte.

    Every record's kind is its first byte, so a scan sorts its own kind only, and only after a
    key of it came or went.
    """

    def __init__(self, records: "Records | None" = None) -> None:
        super().__init__(records or {})
        self._sorted: dict[int, list[bytes]] = {}
        self._kinds: dict[int, dict[bytes, None]] = {}
        for key in self:
            self._kinds.setdefault(key[0], {})[key] = None

    def apply(self, puts: Puts) -> None:
        for key, value in puts.items():
            known = key in self
            if value is not None:
                self[key] = value
                if not known:
                    self._kinds.setdefault(key[0], {})[key] = None
                    self._sorted.pop(key[0], None)
            elif known:
                del self[key]
                del self._kinds[key[0]][key]
                self._sorted.pop(key[0], None)

    def scan(
        self, prefix: bytes, start: bytes = b"", reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        keys = self._sorted.get(prefix[0])
        if keys is None:
            keys = self._sorted[prefix[0]] = sorted(self._kinds.get(prefix[0], ()))
        low = bisect_left(keys, prefix if reverse else max(prefix, start))
        if reverse:
            high = bisect_left(keys, start) if start else len(keys)
            chosen = keys[low:high][::-1]
        else:
            chosen = keys[low:]
        for key in chosen:
            if key.startswith(prefix):
                yield key, self[key]
            elif not reverse:
                return


class Disk:
    """A disk that joins staged writes into synced batches, like ``dipnet.host.store.Store``.

    A crash keeps a prefix of the records that were not synced. A failed write (full disk, bad
    sector) keeps nothing of it: the store latches, and the process ends.
    """

    def __init__(self) -> None:
        self.view = Records()
        self.failing = False
        self._synced = Records()
        self._journal: list[Puts] = []

    def stage(self, puts: Puts) -> None:
        """Visible at once, durable with a later ``sync``."""
        self.view.apply(puts)
        self._journal.append(puts)

    def sync(self, count: int) -> None:
        """The first ``count`` of the staged writes are durable."""
        for puts in self._journal[:count]:
            self._synced.apply(puts)
        del self._journal[:count]

    @property
    def unsynced(self) -> int:
        """How many writes a crash may lose."""
        return len(self._journal)

    def crash(self, rng: random.Random) -> None:
        """The process is gone; the operating system had written a prefix of its records."""
        kept = 0 if self.failing else rng.randint(0, len(self._journal))
        self.sync(kept)
        self._journal.clear()
        self.failing = False
        self.view = Records(self._synced)
