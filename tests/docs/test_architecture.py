"""ARCHITECTURE.md leaves nothing out: every room, every file of consensus, every kind of record."""

import re
from pathlib import Path

import pytest

from tests import ROOT
from tests.unit.test_house import FLOORS, record_prefixes

PAGE = (ROOT / "ARCHITECTURE.md").read_text()
WORDS = set(re.findall(r"[A-Za-z_0-9]+", PAGE))
FLOOR = re.compile(r"^([0-7])  (.*?)(?=^[0-7]  |^   _native)", re.MULTILINE | re.DOTALL)


def test_every_room_is_on_its_floor() -> None:
    drawn = {int(floor): set(re.findall(r"\w+", text)) for floor, text in FLOOR.findall(PAGE)}
    assert sorted(drawn) == sorted(set(FLOORS.values()))
    missing = [room for room, floor in FLOORS.items() if room not in drawn[floor]]
    assert not missing


@pytest.mark.parametrize("path", sorted((ROOT / "dipnet" / "consensus").glob("*.py")))
def test_every_file_of_consensus_is_named(path: Path) -> None:
    assert path.stem in WORDS | {"__init__"}


def test_every_record_is_in_the_table() -> None:
    keys = {prefix.decode() for prefix, _ in record_prefixes()}
    told = set(re.findall(r"`(\w)(?: [\w ]+)?`", "".join(re.findall(r"^\| (`.*?) \|", PAGE, re.M))))
    assert keys == told


def test_it_is_short() -> None:
    assert len(PAGE.splitlines()) < 250
