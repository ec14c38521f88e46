"""The records of a node on disk: LevelDB below staged writes that are committed in synced batches.

Rules of this file (docs/design.md "Storage"): LevelDB acknowledges synced writes after a failed
append and loses them on reopening, so the first error of any kind latches: every later call raises
``Corrupt``, and the process ends. The database is opened with paranoid checks and read with
checksums. There is no clean shutdown to depend on: opening is recovery.
"""

import os
import threading
from collections.abc import Callable, Iterator
from heapq import merge
from operator import itemgetter
from pathlib import Path

import plyvel

from dipnet.primitives.codec import Puts
from dipnet.primitives.errors import Corrupt, Invalid

KEY_META = b"m"
META_FORMAT = KEY_META + b"format"
FORMAT_NUMBER = 2
DIGITS_MAX = 18  # of the number of a format
FORMAT_NAME = b"dipnet "
FORMAT = FORMAT_NAME + str(FORMAT_NUMBER).encode()
WRITE_BUFFER_BYTES = 16 << 20
CACHE_BYTES = 16 << 20
FILES_MAX = 256

REMEDY = (
    "stop signing with this directory, check the disk and its free space, then start again; "
    "if that fails, move the directory away and let the node fetch the chain from its peers"
)


class Store:
    """A ``Reader`` over LevelDB with staged writes in front.

    ``stage`` makes a write visible to reads at once; ``start`` runs a thread that joins all staged
    writes into one synced batch and then calls ``on_durable(count)`` from that thread, ``count``
    being how many calls of ``stage`` since ``start`` are durable.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._db = _open(path)
        self._staged: Puts = {}
        self._staged_bytes = 0
        self._writing: Puts = {}
        self._count = 0  # calls of stage
        self._durable = 0  # of them, when the thread runs
        self._dead: str | None = None
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        if self.get(META_FORMAT) is None and next(self.scan(b""), None) is None:
            self.stage({META_FORMAT: FORMAT})
            self.commit()
        if (found := self.get(META_FORMAT)) != FORMAT:
            self.close()
            raise Invalid("config", _other_format(path, found or b""))

    # --- reads: staged, then in flight, then disk

    def get(self, key: bytes) -> bytes | None:
        for puts in (self._staged, self._writing):
            if key in puts:
                return puts[key]
        try:
            value: bytes | None = self._db.get(key, verify_checksums=True)
        except (plyvel.Error, OSError) as error:
            raise self._latch(error) from error
        return value

    def scan(
        self, prefix: bytes, start: bytes = b"", reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Records under ``prefix``, from ``start`` on (downwards and below it when ``reverse``)."""
        staged, writing = self._staged, self._writing  # in this order, as in ``get``
        fresh = {
            key: value
            for puts in (writing, staged)
            for key, value in puts.items()
            if key.startswith(prefix) and _within(key, start, reverse)
        }
        disk = self._scan_disk(prefix, start, reverse)
        last = None
        for key, value in merge(
            sorted(fresh.items(), reverse=reverse), disk, key=itemgetter(0), reverse=reverse
        ):
            if key != last and value is not None:  # the staged record of a key comes first
                yield key, value
            last = key

    def _scan_disk(
        self, prefix: bytes, start: bytes, reverse: bool
    ) -> Iterator[tuple[bytes, bytes]]:
        low = prefix if reverse else max(prefix, start)
        high = start if reverse and start else _after(prefix)
        try:
            with self._db.iterator(
                start=low, stop=high, include_stop=False, reverse=reverse, verify_checksums=True
            ) as records:
                yield from records
        except (plyvel.Error, OSError) as error:
            raise self._latch(error) from error

    # --- writes

    def stage(self, puts: Puts) -> None:
        """Makes writes visible to reads at once; they are durable with the next commit."""
        if self._dead:
            raise Corrupt(self._dead)
        size = sum(len(key) + len(value or b"") for key, value in puts.items())
        with self._change:
            self._staged.update(puts)
            self._staged_bytes += size
            self._count += 1
            self._change.notify()

    def commit(self) -> int:
        """Writes the staged records in a synced batch; returns how many ``stage`` calls it covers.

        Raises ``Corrupt`` when LevelDB fails.
        """
        if self._dead:
            raise Corrupt(self._dead)
        with self._change:
            # In this order a reader in another thread finds each record in one dict or the other.
            self._writing = self._staged
            self._staged, self._staged_bytes = {}, 0
            count = self._count
        try:
            with self._db.write_batch(sync=True) as batch:
                for key, value in self._writing.items():
                    if value is None:
                        batch.delete(key)
                    else:
                        batch.put(key, value)
        except (plyvel.Error, OSError) as error:
            raise self._latch(error) from error
        self._writing = {}
        return count

    def start(self, on_durable: Callable[[int], None], on_failure: Callable[[str], None]) -> None:
        """Starts a thread that commits staged writes; both callbacks run in that thread.

        ``on_durable`` gets the number of ``stage`` calls since ``start`` that are durable,
        ``on_failure`` the reason of the first error.
        """
        before = self._durable = self._count  # here: the thread may begin after the next write

        def run() -> None:
            try:
                while self._wait_for_work():
                    self._durable = self.commit()
                    on_durable(self._durable - before)
            except Corrupt as failure:
                on_failure(str(failure))
            except BaseException as error:
                # A bug here must not leave a node that waits for a commit that never comes.
                on_failure(str(self._latch(error)))
                raise

        self._thread = threading.Thread(target=run, name="dipnet-store", daemon=True)
        self._thread.start()

    def _wait_for_work(self) -> bool:
        """Until something is staged; False when the store is closed or dead."""
        with self._change:
            self._change.wait_for(lambda: self._count != self._durable or self._dead)
        return not self._dead

    def close(self) -> None:
        """Ends the thread and releases the database; records that are not durable are lost."""
        with self._change:
            self._dead = self._dead or "the store is closed"
            self._change.notify()
        if self._thread is not None:
            self._thread.join()
        self._db.close()

    @property
    def staged_bytes(self) -> int:
        """Bytes that wait for the next commit; they grow when the disk is slower than the peers."""
        return self._staged_bytes

    def free_bytes(self) -> int:
        """Free space of the file system for this user, in bytes."""
        at = os.statvfs(self._path)
        return at.f_bavail * at.f_frsize

    def _latch(self, error: BaseException) -> Corrupt:
        self._dead = f"storage failed in {self._path}: {error}; {REMEDY}"
        return Corrupt(self._dead)


def _other_format(path: Path, found: bytes) -> str:
    """What to do about a database that this program has not written."""
    number = found.removeprefix(FORMAT_NAME)
    if not found.startswith(FORMAT_NAME) or not number.isdigit():
        return f"{path} holds a database that is not dipnetd's; choose another --data"
    if int(number[:DIGITS_MAX]) < FORMAT_NUMBER:
        return (
            f"{path} was written by an earlier dipnetd, whose chains this one does not read; move "
            "the directory away, and start with the genesis.json of a network that this one reads"
        )
    return f"{path} was written by a later dipnetd; run that one, or choose another --data"


def _open(path: Path) -> plyvel.DB:
    try:
        return plyvel.DB(
            str(path),
            create_if_missing=True,
            paranoid_checks=True,
            write_buffer_size=WRITE_BUFFER_BYTES,
            lru_cache_size=CACHE_BYTES,
            max_open_files=FILES_MAX,
            compression=None,  # hashes and signatures: ADR 30
        )
    except plyvel.CorruptionError as error:
        raise Corrupt(f"the database in {path} is damaged: {error}; {REMEDY}") from error
    except (plyvel.Error, OSError) as error:
        if "lock" in str(error).lower():
            raise Invalid(
                "config", f"{path} is in use by another dipnetd; stop it or choose another --data"
            ) from error
        raise Invalid(
            "config", f"cannot open {path}: {error}; free space or fix its rights"
        ) from error


def _after(prefix: bytes) -> bytes | None:
    """The least key above every key that starts with ``prefix``; None when there is no bound."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else None


def _within(key: bytes, start: bytes, reverse: bool) -> bool:
    return not start or (key < start if reverse else key >= start)
