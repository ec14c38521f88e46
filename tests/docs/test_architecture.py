"""ARCHITECTURE.md leaves nothing out: every room, every file of consensus, every kind of record."""

import re
from pathlib import Path

import pytest

from tests import ROOT
from tests.unit.test_house import FLOORS, record_prefixes, tracked

PAGE = (ROOT / "ARCHITECTURE.md").read_text()
WORDS = set(re.findall(r"[A-Za-z_0-9]+", PAGE))
FLOOR = re.compile(r"^(\d)  (\S.*?)(?:  .*)?$", re.MULTILINE)
CONSENSUS = sorted((ROOT / "dipnet" / "consensus").rglob("*.py"))


def test_every_folder_is_on_its_floor() -> None:
    assert {int(floor): line for floor, line in FLOOR.findall(PAGE)} == dict(enumerate(FLOORS))


def test_every_file_of_consensus_is_looked_at() -> None:
    assert set(CONSENSUS) == tracked("dipnet/consensus/*.py")


@pytest.mark.parametrize("path", CONSENSUS)
def test_every_file_of_consensus_is_named(path: Path) -> None:
    assert path.stem in WORDS | {"__init__"}


def test_every_record_is_in_the_table() -> None:
    keys = {prefix.decode() for prefix, _ in record_prefixes()}
    told = set(re.findall(r"`(\w)(?: [\w ]+)?`", "".join(re.findall(r"^\| (`.*?) \|", PAGE, re.M))))
    assert keys == told


def test_it_is_short() -> None:
    assert len(PAGE.splitlines()) < 250
