"""``dipnet device replay``: sends a recorded time series row by row, and can be resumed.

Rules that bind this file: a row enters the outbox together with its number in a single transaction
and is never read again. So after a crash the same command goes on behind the last row in the
outbox. The outbox keeps the name of its file and columns and refuses other files.
"""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from dipnet.dag.vertex import PAYLOAD_SENML, topic_of
from dipnet.primitives import jsontext
from dipnet.primitives.errors import Invalid
from dipnet.sdk import series
from dipnet.sdk.device import BATCH, Device, patiently
from dipnet.sdk.outbox import NO_SOURCE, Unsigned

CHUNK_BYTES: Final = 1 << 20
_ABOUT: Final = jsontext.JsonBounds(1 << 20)


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result of a run: rows sent and skipped by it, rows of the file recorded in total."""

    sent: int
    skipped: int
    recorded: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Rows a second that were acknowledged in this run."""
        return self.sent / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Watcher:
    """The receivers of a run's progress."""

    recorded: Callable[[int], None]
    """Gets the number of rows of the file that are acknowledged."""
    say: Callable[[str], None]


def replay(
    device: Device,
    path: Path,
    columns: series.Columns,
    topic: str,
    watcher: Watcher,
    *,
    skip_bad: bool = False,
    batch: int = BATCH,
    sleep: Callable[[float], None] = time.sleep,
) -> Replayed:
    """Sends the rows that are not acknowledged yet; waits while the node is not ready.

    Raises ``Invalid``: ``series`` for a wrong file, ``outbox`` for another file or another chain,
    and the node's refusals that are not in ``PASSING``. After any error a new call goes on.
    """
    started_s = time.monotonic()
    series.check(path, columns)
    outbox = device.outbox
    describe(device, path, columns, topic)
    skipped = 0

    def on_bad(bad: Invalid) -> None:
        nonlocal skipped
        if not skip_bad:
            raise bad
        skipped += 1
        watcher.say(f"skipped: {bad.detail}")

    def on_settled(count: int) -> None:
        watcher.recorded(outbox.settled)

    before = outbox.settled
    watcher.recorded(before)
    patiently(lambda: device.flush(on_settled), watcher.say, sleep)
    found = series.rows(path, columns, outbox.source, on_bad)
    while chunk := list(islice(found, batch)):
        device.put(
            [Unsigned(topic_of(topic), row.payload, PAYLOAD_SENML, row.number) for row in chunk]
        )
        patiently(lambda: device.flush(on_settled), watcher.say, sleep)
    seconds = time.monotonic() - started_s
    return Replayed(outbox.settled - before, skipped, outbox.settled, seconds)


def describe(device: Device, path: Path, columns: series.Columns, topic: str) -> None:
    """Keeps file, columns and topic in a new outbox; ``Invalid("outbox")`` if it has others."""
    asked = {
        "time": columns.time,
        "value": columns.value,
        "name": columns.name,
        "unit": columns.unit,
        "delimiter": columns.delimiter,
        "topic": topic,
    }
    asked["begins"] = _begin(path)
    if device.outbox.source == NO_SOURCE:
        return device.outbox.describe(json.dumps(asked))
    try:
        kept = jsontext.load(device.outbox.about.encode(), _ABOUT)
        other = next((name for name in asked if kept[name] != asked[name]), None)
    except (KeyError, TypeError, ValueError):
        raise Invalid("outbox", "it is not of a replay") from None
    if other == "begins":
        raise Invalid("outbox", f"it was begun with another file than what {path} is now")
    if other is not None:
        raise Invalid(
            "outbox", f"it was begun with --{other} {kept[other]!r}; now it is {asked[other]!r}"
        )
    return None


def _begin(path: Path) -> str:
    """Digest of the first two lines, which corrections and appended rows do not change."""
    try:
        with path.open("rb") as file:
            lines = file.readline(series.LINE_CHARS_MAX) + file.readline(series.LINE_CHARS_MAX)
    except OSError as error:
        raise Invalid("series", f"cannot read {path}: {error.strerror}") from None
    return hashlib.sha256(lines).hexdigest()


def count_rows(path: Path) -> int:
    """The approximate number of rows, counted by line ends; for progress only."""
    with path.open("rb") as file:
        lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))
    return max(lines - 1, 0)
