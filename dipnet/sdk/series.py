"""The rows of a CSV file as SenML readings; a wrong row is named with its number and a remedy.

The file is untrusted: lines and fields have a maximum length, text is UTF-8 (a byte order mark is
skipped), numbers are finite decimals, times are absolute. A time without a zone is UTC.
"""

import csv
import difflib
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

from dipnet.dag import senml
from dipnet.primitives.errors import Invalid

LINE_CHARS_MAX: Final = 1 << 16
FIELD_CHARS_MAX: Final = 1 << 16
COLUMNS_MAX: Final = 4_096
QUOTE_MAX: Final = 60
MS_FROM: Final = 10**11
"""Unix times from this number on are milliseconds: as seconds they would be past the year 5138."""
MS_MAX: Final = 10**14

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of time and value by title, and the SenML name and unit of their readings."""

    time: str
    value: str
    name: str
    unit: str = ""
    delimiter: str = ","


@dataclass(frozen=True, slots=True)
class Row:
    """A reading as a SenML payload. ``number`` is the line that the row ends on, from 1."""

    number: int
    payload: bytes


def rows(
    path: Path, columns: Columns, after: int, on_bad: Callable[[Invalid], None]
) -> Iterator[Row]:
    """The readings of the rows that end after line ``after``.

    ``on_bad`` gets the ``Invalid("series")`` of a row that is no reading, and may raise it. Faults
    of the whole file are raised as ``Invalid("series")``.
    """
    with _opened(path) as file:
        reader, time_at, value_at = _begin(file, path, columns)
        try:
            for fields in reader:
                if reader.line_num <= after or not fields:
                    continue
                try:
                    yield _row(reader.line_num, fields, time_at, value_at, columns)
                except Invalid as bad:
                    on_bad(bad)
        except csv.Error as error:
            raise Invalid("series", f"{path}, line {reader.line_num}: {error}") from None


def check(path: Path, columns: Columns) -> None:
    """Raises ``Invalid("series")`` for a file without the columns, or a wrong name or unit."""
    try:
        senml.encode([senml.Reading(columns.name, senml.RELATIVE_BELOW, 0, columns.unit)])
    except Invalid as error:
        raise Invalid("series", f"{error}; correct --name or --unit") from None
    with _opened(path) as file:
        _begin(file, path, columns)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """The file as text; raises ``Invalid("series")`` when it cannot be read or is not UTF-8."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield file
    except OSError as error:
        raise Invalid("series", f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise Invalid("series", f"{path} is not UTF-8 ({error.reason}); convert it") from None


def _begin(file: TextIO, path: Path, columns: Columns) -> tuple[Any, int, int]:
    """A csv reader behind the titles, and the positions of the two columns in a row."""
    csv.field_size_limit(FIELD_CHARS_MAX)
    reader = csv.reader(_lines(file, path), delimiter=columns.delimiter)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise Invalid("series", f"{path}, line 1: {error}") from None
    wanted = (columns.time, columns.value)
    time_at, value_at = (_column(header, name, path, columns.delimiter) for name in wanted)
    return reader, time_at, value_at


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    """The lines of the file, each of at most ``LINE_CHARS_MAX`` characters."""
    number = 0
    while line := file.readline(LINE_CHARS_MAX + 1):
        number += 1
        if len(line) > LINE_CHARS_MAX:
            raise Invalid("series", f"{path}, line {number}: more than {LINE_CHARS_MAX} characters")
        yield line


def _column(header: list[str], name: str, path: Path, delimiter: str) -> int:
    titles = [title.strip() for title in header[:COLUMNS_MAX]]
    if name in titles:
        if titles.count(name) > 1:
            raise Invalid("series", f"{path} has {titles.count(name)} columns {name[:QUOTE_MAX]!r}")
        return titles.index(name)
    if not titles:
        raise Invalid("series", f"{path} is empty; its first line must name the columns")
    near = difflib.get_close_matches(name[:QUOTE_MAX], [t[:QUOTE_MAX] for t in titles], 1, 0.5)
    others = [other for other in ";\t|," if other != delimiter and other in header[0]]
    if len(titles) == 1 and others:
        hint = f"try --delimiter {others[0]!r}"
    elif near:
        hint = f"did you mean {near[0]!r}?"
    else:
        hint = "there are " + ", ".join(title[:QUOTE_MAX] for title in titles[:12])
    raise Invalid("series", f"{path} has no column {name[:QUOTE_MAX]!r}; {hint}")


def _row(number: int, fields: list[str], time_at: int, value_at: int, columns: Columns) -> Row:
    if max(time_at, value_at) >= len(fields):
        raise Invalid("series", f"row {number}: only {len(fields)} fields")
    try:
        time, value = parse_time(fields[time_at].strip()), parse_value(fields[value_at].strip())
        reading = senml.Reading(columns.name, time, value, columns.unit)
        return Row(number, senml.encode([reading]))
    except ValueError as error:
        raise Invalid("series", f"row {number}: {error}; correct it, or --skip-bad") from None
    except Invalid as error:
        raise Invalid("series", f"row {number}: {error}") from None


def parse_time(text: str) -> senml.Number:
    """Unix seconds of a time in ISO 8601, Unix seconds or Unix milliseconds; ``ValueError``."""
    if _NUMBER.fullmatch(text):
        number = float(text)
        if MS_FROM <= number < MS_MAX:
            number /= 1000
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(
                f"time {text[:QUOTE_MAX]!r} is neither ISO 8601 nor epoch s or ms"
            ) from None
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        number = (zoned - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    if not senml.RELATIVE_BELOW <= number < MS_FROM:
        raise ValueError(f"time {text[:QUOTE_MAX]!r} is before 1978-07-05 or impossible")
    return _plain(number)


def parse_value(text: str) -> senml.Number:
    """The finite number in the text; ``ValueError``."""
    if _INTEGER.fullmatch(text) and abs(int(text)) < 2**63:
        return int(text)
    if not _NUMBER.fullmatch(text):
        hint = "; write a point, not a comma" if re.fullmatch(r"[+-]?\d+,\d+", text) else ""
        raise ValueError(f"value {text[:QUOTE_MAX]!r} is no number{hint}")
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"value {text[:QUOTE_MAX]!r} is too large")
    return number


def name_of(column: str) -> str:
    """A SenML name made of a column's title; ``Invalid("series")`` when no character is left."""
    name = re.sub(r"[^A-Za-z0-9:./_-]+", "-", column.strip()).strip("-:./_")
    if not name:
        raise Invalid("series", f"column {column[:QUOTE_MAX]!r} makes no SenML name; give --name")
    return name[: senml.NAME_BYTES_MAX]


def _plain(number: float) -> senml.Number:
    return int(number) if number.is_integer() else number
