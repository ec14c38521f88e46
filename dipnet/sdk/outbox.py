"""A device's outbox: an SQLite file of the readings that a node has not acknowledged yet.

Rules that bind this file (docs/spec/dag.md "Resending"): a reading is here before it is signed, and
the signed bytes are here before they are sent. So after a crash at any point the same bytes are
sent again, and no reading is lost or doubled. An acknowledged reading leaves; its sequence number
stays used. Every change is a synced transaction. A single process holds the file.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from dipnet.primitives.errors import Corrupt, Invalid

FORMAT: Final = 0x64697031  # "dip1", as SQLite's application id
IN_MEMORY: Final = Path(":memory:")
NO_SOURCE: Final = 0

_SCHEMA: Final = """
CREATE TABLE state (
    only INTEGER PRIMARY KEY CHECK (only = 1), issuer BLOB NOT NULL, genesis BLOB NOT NULL,
    seq INTEGER NOT NULL, id BLOB NOT NULL, ref_height INTEGER NOT NULL, ref_hash BLOB NOT NULL,
    settled_seq INTEGER NOT NULL, settled INTEGER NOT NULL,
    source INTEGER NOT NULL, about TEXT NOT NULL
) STRICT;
CREATE TABLE reading (
    number INTEGER PRIMARY KEY, topic BLOB NOT NULL, type INTEGER NOT NULL, payload BLOB NOT NULL,
    seq INTEGER, wire BLOB
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Head:
    """The issuer's last signed vertex: its ``seq`` (0: none yet), id (32 bytes) and reference."""

    seq: int
    id: bytes
    ref_height: int
    ref_hash: bytes


HEAD_NONE: Final = Head(0, bytes(32), 0, bytes(8))


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A reading that is not signed yet."""

    topic: bytes
    payload: bytes
    payload_type: int
    source: int = NO_SOURCE
    """Its position in a source, such as a row number; the outbox keeps the greatest."""
    number: int = 0
    """The position in the outbox, which the outbox assigns."""


@dataclass(frozen=True, slots=True)
class SignedVertex:
    """A signed vertex that stays in the outbox until a node acknowledges it."""

    number: int
    seq: int
    wire: bytes


class Outbox:
    """The outbox of an issuer (20 bytes). With ``IN_MEMORY`` it ends with the process.

    Every method raises ``Invalid("outbox")`` when the file is locked, of another key or no outbox,
    and ``Corrupt`` when the disk fails.
    """

    def __init__(self, path: Path, issuer: bytes) -> None:
        self._path = path
        if path != IN_MEMORY and not path.parent.is_dir():
            raise Invalid("outbox", f"there is no directory {path.parent}")
        try:
            self._db = sqlite3.connect(path, timeout=0.0, isolation_level=None)
            self._open(issuer)
        except sqlite3.Error as error:
            self._fail(error)

    def _open(self, issuer: bytes) -> None:
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        found = self._one("PRAGMA application_id")
        if found == 0 and self._one("SELECT count(*) FROM sqlite_master") == 0:
            with self._change():
                for statement in _SCHEMA.split(";")[:-1]:
                    self._db.execute(statement)
                self._db.execute(
                    "INSERT INTO state VALUES (1, ?, x'', 0, ?, 0, ?, 0, 0, 0, '')",
                    (issuer, HEAD_NONE.id, HEAD_NONE.ref_hash),
                )
                self._db.execute(f"PRAGMA application_id = {FORMAT}")
        elif found != FORMAT:
            raise Invalid("outbox", f"{self._path} is a database of something else")
        with self._change():  # takes the lock now instead of with the first reading
            owner = self._one("SELECT issuer FROM state")
        if owner != issuer:
            raise Invalid("outbox", f"{self._path} is of another key, 0x{owner.hex()}")

    def close(self) -> None:
        """Releases the file."""
        self._db.close()

    # --- queries

    @property
    def head(self) -> Head:
        row = self._row("SELECT seq, id, ref_height, ref_hash FROM state")
        return Head(*row)

    @property
    def settled_seq(self) -> int:
        """``seq`` of the last vertex that a node acknowledged; 0 before the first."""
        return int(self._one("SELECT settled_seq FROM state"))

    @property
    def settled(self) -> int:
        """The number of readings that were ever acknowledged."""
        return int(self._one("SELECT settled FROM state"))

    @property
    def waiting(self) -> int:
        """The number of readings that are not acknowledged yet."""
        return int(self._one("SELECT count(*) FROM reading"))

    @property
    def source(self) -> int:
        """The greatest ``Unsigned.source`` that was ever kept."""
        return int(self._one("SELECT source FROM state"))

    @property
    def genesis(self) -> bytes:
        """The genesis hash of the vertices' chain, 32 bytes; empty before ``bind``."""
        return bytes(self._one("SELECT genesis FROM state"))

    @property
    def about(self) -> str:
        """The text that ``describe`` kept; empty before."""
        return str(self._one("SELECT about FROM state"))

    def unsigned(self, count_max: int, bytes_max: int) -> list[Unsigned]:
        """The next readings to sign: at most ``count_max``, their payloads together at most
        ``bytes_max``, but at least one reading."""
        rows = self._rows(
            "SELECT topic, payload, type, number FROM reading WHERE wire IS NULL "
            "ORDER BY number LIMIT ?",
            count_max,
        )
        found = [Unsigned(topic, payload, kind, NO_SOURCE, n) for topic, payload, kind, n in rows]
        return found[: _fitting([len(reading.payload) for reading in found], bytes_max)]

    def signed(self, count_max: int, bytes_max: int) -> list[SignedVertex]:
        """The next vertices to send: at most ``count_max``, together at most ``bytes_max``, but at
        least one vertex."""
        rows = self._rows(
            "SELECT number, seq, wire FROM reading WHERE wire IS NOT NULL ORDER BY number LIMIT ?",
            count_max,
        )
        found = [SignedVertex(*row) for row in rows]
        return found[: _fitting([len(vertex.wire) for vertex in found], bytes_max)]

    # --- changes, each durable on return

    def put(self, readings: Sequence[Unsigned]) -> None:
        """Keeps readings. A caller skips those whose source is not above the property ``source``:
        they were kept before."""
        with self._change():
            self._db.executemany(
                "INSERT INTO reading (topic, type, payload) VALUES (?, ?, ?)",
                [(r.topic, r.payload_type, r.payload) for r in readings],
            )
            source = max((reading.source for reading in readings), default=NO_SOURCE)
            self._db.execute("UPDATE state SET source = max(source, ?)", (source,))

    def sign(self, vertices: Sequence[SignedVertex], head: Head) -> None:
        """Keeps the signed bytes, before they are sent, and the chain's new head."""
        with self._change():
            self._db.executemany(
                "UPDATE reading SET seq = ?, wire = ? WHERE number = ?",
                [(vertex.seq, vertex.wire, vertex.number) for vertex in vertices],
            )
            self._set_head(head)

    def settle(self, vertices: Sequence[SignedVertex]) -> None:
        """Removes vertices that a node acknowledged; they must be the oldest signed vertices."""
        if vertices:
            last = vertices[-1]
            with self._change():
                self._db.execute(
                    "DELETE FROM reading WHERE number <= ? AND wire IS NOT NULL", (last.number,)
                )
                self._db.execute(
                    "UPDATE state SET settled_seq = ?, settled = settled + ?",
                    (last.seq, len(vertices)),
                )

    def adopt(self, head: Head) -> None:
        """Continues a chain that the key began elsewhere; for an outbox that signed nothing."""
        with self._change():
            self._set_head(head)
            self._db.execute("UPDATE state SET settled_seq = ?", (head.seq,))

    def bind(self, genesis: bytes) -> None:
        """Keeps the genesis hash of the vertices' chain."""
        with self._change():
            self._db.execute("UPDATE state SET genesis = ?", (genesis,))

    def describe(self, about: str) -> None:
        """Keeps a text of the caller."""
        with self._change():
            self._db.execute("UPDATE state SET about = ?", (about,))

    def _set_head(self, head: Head) -> None:
        self._db.execute(
            "UPDATE state SET seq = ?, id = ?, ref_height = ?, ref_hash = ?",
            (head.seq, head.id, head.ref_height, head.ref_hash),
        )

    # --- SQLite

    @contextmanager
    def _change(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._fail(error)

    def _rows(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, params).fetchall()
        except sqlite3.Error as error:
            self._fail(error)

    def _row(self, query: str) -> tuple[Any, ...]:
        rows = self._rows(query)
        if not rows:
            raise Corrupt(f"the outbox {self._path} has lost its state; choose another --state")
        return rows[0]

    def _one(self, query: str) -> Any:
        return self._row(query)[0]

    def _fail(self, error: sqlite3.Error) -> NoReturn:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the primary code
        faults = {
            sqlite3.SQLITE_NOTADB: "is no outbox",
            sqlite3.SQLITE_BUSY: "is in use by another process; end that",
            sqlite3.SQLITE_CANTOPEN: "cannot be opened; check its rights",
            sqlite3.SQLITE_READONLY: "cannot be written; check its rights",
        }
        if code in faults:
            raise Invalid("outbox", f"{self._path} {faults[code]}") from None
        raise Corrupt(
            f"the outbox {self._path} failed: {error}; nothing acknowledged is lost; check the "
            "disk and its free space, then run the same command again"
        ) from error


def _fitting(sizes: Sequence[int], bytes_max: int) -> int:
    """How many of the first sizes fit into ``bytes_max`` together; at least one."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if total > bytes_max and count:
            return count
    return len(sizes)
