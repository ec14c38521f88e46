"""CSV files as readings: the readings of a file, and each way in which a file can be wrong."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.cli.replay import Replayed, Watcher, count_rows, replay
from dipnet.dag import senml
from dipnet.primitives.errors import Invalid
from dipnet.sdk import keys, series
from dipnet.sdk.device import Device
from tests.fixtures.device_node import DagNode

COLUMNS = series.Columns("time", "value", "pump", "Cel")
SECRET = keys.DEV_SECRETS[6]
GOOD = "time,note,value\n2024-01-01T00:00:00Z,a,1.5\n\n1704067201,b,2\n1704067202500,c,-3e2\n"


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(
    path: Path, columns: series.Columns = COLUMNS, after: int = 0, *, skip: bool = False
) -> list[tuple[int, object, object]]:
    def on_bad(bad: Invalid) -> None:
        if not skip:
            raise bad

    found: list[tuple[int, object, object]] = []
    for row in series.rows(path, columns, after, on_bad):
        (reading,) = senml.resolve(row.payload, 0)
        assert (reading.name, reading.unit) == (columns.name, columns.unit)
        found.append((row.number, reading.time, reading.value))
    return found


def fault(path: Path, columns: series.Columns = COLUMNS) -> str:
    with pytest.raises(Invalid) as error:
        read(path, columns)
    assert error.value.code == "series"
    return str(error.value)


def test_rows_become_readings(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", GOOD)
    rows = [(2, 1_704_067_200, 1.5), (4, 1_704_067_201, 2), (5, 1_704_067_202.5, -300.0)]
    assert read(path) == rows
    assert read(path, after=2) == rows[1:]
    assert read(path, after=5) == []
    assert count_rows(path) == 4


def test_byte_order_mark_other_delimiter_quotes_and_line_ends(tmp_path: Path) -> None:
    text = '\ufefftime;" value "\r\n"2024-01-01 00:00:00+01:00";"4"\r\n'
    columns = series.Columns("time", "value", "x", delimiter=";")
    assert read(write(tmp_path / "a.csv", text), columns) == [(2, 1_704_063_600, 4)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2024-01-01", 1_704_067_200),
        ("2024-01-01T00:00:00.250", 1_704_067_200.25),
        ("20240101T000000Z", 1_704_067_200),
        ("1704067200.5", 1_704_067_200.5),
        ("1704067200000", 1_704_067_200),
        ("1.7040672e9", 1_704_067_200),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert series.parse_time(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "12:00",
        "0",
        "1970-01-01",
        "-1704067200",
        "1e300",
        "1e14",
        "nan",
        "1_704_067_200",
    ],
)
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        series.parse_time(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("-0", 0),
        ("+1.5", 1.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        (str(2**63), float(2**63)),
    ],
)
def test_values(text: str, value: float) -> None:
    found = series.parse_value(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["", "nan", "inf", "1_000", "0x10", "1e999", "two", "1 2", "٣"])
def test_no_values(text: str) -> None:
    with pytest.raises(ValueError, match="value"):
        series.parse_value(text)


def test_a_decimal_comma_is_pointed_out() -> None:
    with pytest.raises(ValueError, match="write a point"):
        series.parse_value("1,5")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        ("tyme,value\n", ["'time'", "did you mean 'tyme'?"]),
        ("when;value\n", ["try --delimiter ';'"]),
        ("a,b\n", ["there are a, b"]),
        ("time,time,value\n", ["2 columns"]),
        ("time,value\nnow,1\n", ["row 2", "ISO 8601", "--skip-bad"]),
        ("time,value\n2024-01-01,x\n", ["row 2", "no number"]),
        ("time,value\n2024-01-01\n", ["row 2", "only 1 fields"]),
        ("time,value\n2024-01-01," + "9" * 70_000 + "\n", ["line 2", "65536 characters"]),
        ("x" * 70_000, ["line 1"]),
        (b"time,value\n2024-01-01,\xff\n", ["UTF-8"]),
        ('time,value\n2024-01-01,"' + "\n" * 70_000, ["field larger than field limit"]),
    ],
)  # fmt: skip
def test_faults_name_the_place_and_the_remedy(
    text: str | bytes, words: list[str], tmp_path: Path
) -> None:
    said = fault(write(tmp_path / "a.csv", text))
    assert all(word in said for word in words), said


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "cannot read" in fault(tmp_path / "none.csv")
    assert "cannot read" in fault(tmp_path)


@given(st.binary(max_size=300) | st.text('time,value\n"2024-01T:;', max_size=200).map(str.encode))
def test_any_file_is_readings_or_refused(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "any.csv", b"time,value\n" + raw)
    try:
        read(path, skip=True)
    except Invalid as error:
        assert error.code == "series"  # noqa: PT017


def test_names() -> None:
    assert series.name_of("Temp (°C)") == "Temp-C"
    with pytest.raises(Invalid):
        series.name_of("°")
    with pytest.raises(Invalid, match="--name or --unit"):
        series.check(Path("unread"), series.Columns("time", "value", "ä"))


# --- replay


def run(node: DagNode, path: Path, columns: series.Columns = COLUMNS, **more: bool) -> Replayed:
    with Device(SECRET, node, path.with_suffix(".outbox"), batch=7) as device:
        return replay(
            device, path, columns, "topic", Watcher(lambda n: None, lambda text: None),
            batch=7, sleep=lambda s: None, **more,
        )  # fmt: skip


def values(node: DagNode) -> list[object]:
    vertices = node.chain(keys.address_of(SECRET))
    assert [vertex.seq for vertex in vertices] == list(range(1, len(vertices) + 1))
    return [senml.resolve(vertex.payload, 0)[0].value for vertex in vertices]


def long_series(path: Path, count: int) -> Path:
    rows = "".join(f"{1_704_067_200 + n},{n}\n" for n in range(count))
    return write(path, "time,value\n" + rows)


def test_a_series_is_recorded_once_whatever_is_lost(tmp_path: Path) -> None:
    path = long_series(tmp_path / "a.csv", 100)
    faults = ["", "lost", "unanswered", "busy", "cut", "", "unanswered"]
    node = DagNode(faults=faults * 3)
    assert run(node, path).sent == 100
    assert values(node) == list(range(100))
    again = run(node, path)
    assert (again.sent, again.recorded) == (0, 100)
    long_series(path, 120)  # the series grew
    assert run(node, path).sent == 20
    assert values(node) == list(range(120))


def test_a_bad_row_stops_until_it_is_corrected_or_skipped(tmp_path: Path) -> None:
    path = long_series(tmp_path / "a.csv", 30)
    good = path.read_text()
    write(path, good.replace("1704067220,20", "1704067220,x"))
    node = DagNode()
    with pytest.raises(Invalid, match="row 22: value 'x'"):
        run(node, path)
    assert len(values(node)) == 14  # the whole batches before the fault
    write(path, good)
    assert run(node, path).sent == 16
    assert values(node) == list(range(30))
    write(path, good + "x,y\n1704068000,30\n")
    done = run(node, path, skip_bad=True)
    assert (done.sent, done.skipped) == (1, 1)


def test_an_outbox_is_of_one_file_and_its_columns(tmp_path: Path) -> None:
    node, path = DagNode(), long_series(tmp_path / "a.csv", 10)
    run(node, path)
    other = series.Columns("time", "value", "other", "Cel")
    with pytest.raises(Invalid, match="begun with --name 'pump'; now it is 'other'"):
        run(node, path, other)
    write(path, "time,value\n2020-01-01,1\n")
    with pytest.raises(Invalid, match="begun with another file"):
        run(node, path)
    assert len(values(node)) == 10
