"""A device's outbox: one SQLite file that knows what was measured, signed and acknowledged.

Rules that bind this file (docs/spec/dag.md "Resending"): a reading is here before it is signed, and
the signed bytes are here before they are sent, so that whatever dies in between, the same bytes are
sent again and no reading is lost or doubled. What is acknowledged leaves; its place in the issuer's
chain stays. Every change is one transaction, synced. One process at a time holds the file.
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
    """The issuer's last signed vertex; ``seq`` 0 when there is none."""

    seq: int
    id: bytes
    ref_height: int
    ref_hash: bytes


HEAD_NONE: Final = Head(0, bytes(32), 0, bytes(8))


@dataclass(frozen=True, slots=True)
class Unsigned:
    """A reading that waits for its place in the chain."""

    topic: bytes
    payload: bytes
    payload_type: int
    source: int = NO_SOURCE
    """Where it came from, ascending (a row number); the outbox remembers the greatest."""
    number: int = 0
    """Its place in the outbox, given there."""


@dataclass(frozen=True, slots=True)
class SignedVertex:
    """A vertex that is in the outbox until a node says that it stands."""

    number: int
    seq: int
    wire: bytes


class Outbox:
    """The file of one issuer. ``IN_MEMORY`` keeps nothing after the process."""

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
        with self._change():  # takes the lock now, and not with the first reading
            owner = self._one("SELECT issuer FROM state")
        if owner != issuer:
            raise Invalid("outbox", f"{self._path} is of another key, 0x{owner.hex()}")

    def close(self) -> None:
        """Releases the file."""
        self._db.close()

    # --- what it knows

    @property
    def head(self) -> Head:
        row = self._row("SELECT seq, id, ref_height, ref_hash FROM state")
        return Head(*row)

    @property
    def settled_seq(self) -> int:
        """Seq of the last vertex that a node acknowledged; 0 when none was."""
        return int(self._one("SELECT settled_seq FROM state"))

    @property
    def settled(self) -> int:
        """How many readings were acknowledged in the life of this file."""
        return int(self._one("SELECT settled FROM state"))

    @property
    def waiting(self) -> int:
        """How many readings are not acknowledged yet."""
        return int(self._one("SELECT count(*) FROM reading"))

    @property
    def source(self) -> int:
        """The greatest source that was ever put in."""
        return int(self._one("SELECT source FROM state"))

    @property
    def genesis(self) -> bytes:
        """Hash of the chain that the vertices are for; empty before the first contact."""
        return bytes(self._one("SELECT genesis FROM state"))

    @property
    def about(self) -> str:
        """What its user wrote on it."""
        return str(self._one("SELECT about FROM state"))

    def unsigned(self, count_max: int, bytes_max: int) -> list[Unsigned]:
        """The next readings to sign, with payloads of ``bytes_max`` in all, at least one."""
        rows = self._rows(
            "SELECT topic, payload, type, number FROM reading WHERE wire IS NULL "
            "ORDER BY number LIMIT ?",
            count_max,
        )
        found = [Unsigned(topic, payload, kind, NO_SOURCE, n) for topic, payload, kind, n in rows]
        return found[: _fitting([len(one.payload) for one in found], bytes_max)]

    def signed(self, count_max: int, bytes_max: int) -> list[SignedVertex]:
        """The next vertices to send, in order, of ``bytes_max`` in all, at least one."""
        rows = self._rows(
            "SELECT number, seq, wire FROM reading WHERE wire IS NOT NULL ORDER BY number LIMIT ?",
            count_max,
        )
        found = [SignedVertex(*row) for row in rows]
        return found[: _fitting([len(one.wire) for one in found], bytes_max)]

    # --- changes, each durable on return

    def put(self, readings: Sequence[Unsigned]) -> None:
        """Keeps readings; those whose source is not above ``source`` are here or were."""
        with self._change():
            self._db.executemany(
                "INSERT INTO reading (topic, type, payload) VALUES (?, ?, ?)",
                [(one.topic, one.payload_type, one.payload) for one in readings],
            )
            source = max((one.source for one in readings), default=NO_SOURCE)
            self._db.execute("UPDATE state SET source = max(source, ?)", (source,))

    def sign(self, vertices: Sequence[SignedVertex], head: Head) -> None:
        """Keeps the signed bytes, before anybody sees them, and the chain's new head."""
        with self._change():
            self._db.executemany(
                "UPDATE reading SET seq = ?, wire = ? WHERE number = ?",
                [(vertex.seq, vertex.wire, vertex.number) for vertex in vertices],
            )
            self._set_head(head)

    def settle(self, vertices: Sequence[SignedVertex]) -> None:
        """Forgets vertices that a node acknowledged: the oldest signed ones."""
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
        """Goes on with a chain that the key has already; for an outbox that signed nothing."""
        with self._change():
            self._set_head(head)
            self._db.execute("UPDATE state SET settled_seq = ?", (head.seq,))

    def bind(self, genesis: bytes) -> None:
        """Remembers the chain that the vertices are for."""
        with self._change():
            self._db.execute("UPDATE state SET genesis = ?", (genesis,))

    def describe(self, about: str) -> None:
        """Writes on it what its user wants to find again."""
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
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # the primary one
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
    """How many of the first fit together; at least one."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if total > bytes_max and count:
            return count
    return len(sizes)
