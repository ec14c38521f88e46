"""ARCHITECTURE.md leaves nothing out: every room, every file of the core, every kind of record."""

import re
from pathlib import Path

import pytest

from tests import ROOT
from tests.unit.test_house import FLOORS, files, record_prefixes, tracked

PAGE = (ROOT / "ARCHITECTURE.md").read_text()
SECTION = PAGE[PAGE.index("## The rooms") : PAGE.index("## Four ways")]
FLOOR = re.compile(r"^(\d)  (\S.*?)(?:  .*)?$", re.MULTILINE)
PARTS = re.split(r"^\*\*(\w+)\*\* .*$|^\*\*Other rooms\*\*$", SECTION, flags=re.MULTILINE)
DRAWN = dict(zip(PARTS[1::2], PARTS[2::2], strict=True))
"""What the page says of each room that it draws; the table of the other rooms under None."""
OTHERS = re.findall(r"^\| `(\w+)` \| (.*) \|$", DRAWN.pop(None), re.MULTILINE)
ROOMS = DRAWN | dict(OTHERS)
SOURCES = [path for room in ROOMS for path in files(f"dipnet/{room}", ".py")]


def test_every_folder_is_on_its_floor() -> None:
    assert {int(floor): line for floor, line in FLOOR.findall(PAGE)} == dict(enumerate(FLOORS))


def test_every_file_of_the_rooms_is_looked_at() -> None:
    """A pattern that has lost its folder would check nothing and pass."""
    assert set(SOURCES) == {path for room in ROOMS for path in tracked(f"dipnet/{room}/*.py")}
    assert len(SOURCES) > 90


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_of_a_room_is_named(path: Path) -> None:
    room = path.relative_to(ROOT / "dipnet").parts[0]
    assert path.stem in {*re.findall(r"\w+", ROOMS[room]), "__init__"}


@pytest.mark.parametrize(
    ("room", "column"), [("node", r"^\| `(\w+)` \|"), ("dag", r"^.{21}(\w[\w ]*?)  "),
                         ("p2p", r"^.{21}(\w[\w ]*?)  "), ("consensus", r"^.{31}(\w[\w =]*?)  ")]
)  # fmt: skip
def test_no_file_is_drawn_that_is_not_there(room: str, column: str) -> None:
    there = {path.stem for path in files(f"dipnet/{room}", ".py")} - {"__init__"}
    drawn = {
        name for cell in re.findall(column, DRAWN[room], re.MULTILINE) for name in cell.split()
    }
    assert len(drawn) >= len(there) / 2
    assert drawn - {"=", "over", "c"} <= there


def test_every_record_is_in_the_table() -> None:
    keys = {prefix.decode() for prefix, _ in record_prefixes()}
    told = set(re.findall(r"`(\w)(?: [\w ]+)?`", "".join(re.findall(r"^\| (`.*?) \|", PAGE, re.M))))
    assert keys == told


def test_it_is_short() -> None:
    assert len(PAGE.splitlines()) < 260
