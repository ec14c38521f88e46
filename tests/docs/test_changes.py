"""docs/changes.md: ten likely changes, each of which touches at most six files that are there."""

import re

import pytest

from tests import ROOT
from tests.docs.test_citations import headings, names

CHANGES = headings((ROOT / "docs" / "changes.md").read_text())
TITLE = "Ten changes"
FILES_MAX = 6


def test_there_are_ten() -> None:
    assert len(CHANGES.keys() - {TITLE}) == 10


@pytest.mark.parametrize("change", sorted(CHANGES.keys() - {TITLE}))
def test_a_change_touches_few_files(change: str) -> None:
    """An item begins with the files of a step; alternatives, joined by "or", count once."""
    steps = re.findall(r"^\* (.*)$", CHANGES[change], re.MULTILINE)
    files = []
    for step in steps:
        listed = step.partition(":")[0]
        found = re.findall(r"`([\w./]+)`", listed)
        assert set(found) <= names(), found
        files += found[:1] if " or " in listed else found or [listed]
    assert 2 <= len(files) <= FILES_MAX, files


@pytest.mark.parametrize(
    ("change", "path", "text"),
    [
        ("A new RPC method", "dipnet/rpc/status.py", "METHODS"),
        ("A new RPC method", "tests/docs/test_rpc.py", "PROMISED"),
        ("A new refusal of vertices", "dipnet/dag/vertex.py", "VERDICTS"),
        ("A new refusal of vertices", "dipnet/primitives/errors.py", "REFUSALS"),
        ("A new header field", "dipnet/consensus/chain/rules.py", "def chained_fields"),
        ("A new system contract", "dipnet/consensus/chain/execute.py", "system"),
        ("A new metric", "dipnet/rpc/readings.py", "Sample("),
    ],
)
def test_what_a_step_names_is_there(change: str, path: str, text: str) -> None:
    assert path in CHANGES[change]
    assert text in (ROOT / path).read_text()
