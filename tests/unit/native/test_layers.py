"""C files call one another in one direction only: no cycle among the files of ``native/``."""

import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests import ROOT

SOURCES = sorted(
    path
    for path in (ROOT / "native").glob("*/*.c")
    if not path.name.startswith(("test_", "fuzz_")) and path.parent.name not in ("doors", "build")
)
DEFINED = re.compile(r"^\w[\w \*]*?\b(dip_\w+)\([^;{]*\)\s*\{", re.MULTILINE)


def calls(sources: dict[str, str]) -> dict[str, set[str]]:
    """For each file, the other files that define a ``dip_`` function it names."""
    home = {name: file for file, text in sources.items() for name in DEFINED.findall(text)}
    return {
        file: {home[name] for name in re.findall(r"\b(dip_\w+)\(", text) if name in home} - {file}
        for file, text in sources.items()
    }


def texts(paths: list[Path]) -> dict[str, str]:
    """The text of each file by its path below ``native/``."""
    return {path.relative_to(ROOT / "native").as_posix(): path.read_text() for path in paths}


def test_no_cycle_of_calls() -> None:
    graph = calls(texts(SOURCES))
    assert len(graph) == len(SOURCES) > 8
    assert graph["trie/trie.c"] >= {"trie/trie_change.c", "trie/trie_records.c"}
    assert "trie/trie.c" not in graph["trie/trie_change.c"]
    TopologicalSorter(graph).prepare()


def test_a_cycle_would_be_seen() -> None:
    looped = {
        "a.c": "int dip_a(int n) {\n    return dip_b(n);\n}\n",
        "b.c": "int dip_b(int n) {\n    return n ? dip_a(0) : 1;\n}\n",
    }
    with pytest.raises(CycleError):
        TopologicalSorter(calls(looped)).prepare()
