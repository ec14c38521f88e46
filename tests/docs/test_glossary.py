"""docs/glossary.md: whole lines, names that exist, and no return of the words that it replaced."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator

import pytest

from dipnet.primitives.errors import REFUSALS
from dipnet.rpc.server import METHODS
from tests import ROOT

PAGE = (ROOT / "docs" / "glossary.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| term |", "| name |"))
]
QUOTED = re.findall(r"`([^`]+)`", PAGE)

OLD = {
    "epoch boundary": re.compile(r"\bborders?\b", re.IGNORECASE),
    "prevote certificate": re.compile(r"\bPCs?\b"),
    "commit certificate": re.compile(r"\bCCs?\b"),
    "vote push": re.compile(r"\bExpress\b"),
    "topic": re.compile(r"\blanes?\b", re.IGNORECASE),
}
"""The term, and the word that stood for it before."""
KEPT = re.compile(r"`+[^`]*`+|\"borders?\"|docs/adr/\S+")
"""Code, JSON keys and file names keep their spelling."""
PROOFS = {
    f"docs/spec/consensus.md {heading}"
    for heading in ("Lemmas", "Safety", "Accountable safety", "Liveness")
}
"""The sections in which PC and CC are symbols of the proofs."""


def classes() -> set[str]:
    """Every class of dipnet/ by name."""
    return {
        node.name
        for path in (ROOT / "dipnet").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    }


def exists(name: str, known: set[str]) -> bool:
    """Whether the class, path, method or code that a backticked name means exists."""
    if re.fullmatch(r"(?:[A-Z][a-z0-9]+)+", name):
        return name in known
    if re.fullmatch(r"[\w/]+\.py|[a-z]+/[\w/]+", name):
        return (ROOT / "dipnet" / name).exists() or (ROOT / name).exists()
    if re.match(r"(?:eth|dag|dpos|dipnet)_", name):
        return name in METHODS
    if name.startswith("light_"):
        return name in REFUSALS
    return True


def prose(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Place and text of the docstrings, comments or (of a page) lines of the file ``name``.

    A place is the name with the heading above the line, or with the number of the line.
    """
    if name.endswith(".md"):
        heading = ""
        for line in re.sub(r"(?ms)^```.*?^```", "", text).splitlines():
            heading = line.lstrip("# ") if line.startswith("#") else heading
            yield f"{name} {heading}", line
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        documents = token.type == tokenize.STRING and token.string.startswith('"""')
        if documents or token.type == tokenize.COMMENT:
            yield f"{name} {token.start[0]}", token.string


def old_words(place: str, text: str) -> list[str]:
    """The terms whose old word is in ``text``, a line or docstring at ``place`` (``prose``)."""
    bare = KEPT.sub("", text)
    return [
        term
        for term, word in OLD.items()
        if word.search(bare) and not (term.endswith(" certificate") and place in PROOFS)
    ]


def test_every_line_has_its_columns() -> None:
    assert len(ROWS) > 60
    for row in ROWS:
        assert len(row) == 3, row
        assert all(row), row
    terms = [row[0] for row in ROWS]
    assert len(terms) == len(set(terms))


def test_what_is_named_exists() -> None:
    known = classes()
    assert not [name for name in QUOTED if not exists(name, known)]
    assert sum(name in known for name in QUOTED) > 25


@pytest.mark.parametrize("name", ["NoSuchClass", "p2p/nowhere.py", "dpos_nothing", "light_nothing"])
def test_what_does_not_exist_is_seen(name: str) -> None:
    assert not exists(name, classes())


def test_names_that_users_keep_are_listed() -> None:
    listed = {name for row in ROWS for name in re.findall(r"`([^`]+)`", row[0])}
    kept = {
        name
        for name in [*METHODS, *REFUSALS]
        if OLD["epoch boundary"].search(name.replace("_", " "))
    }
    assert kept == {"dpos_borders", "light_border"}
    assert kept | {"border", "borders"} <= listed


def test_old_words_do_not_come_back() -> None:
    pages = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"]
    pages += [path for path in (ROOT / "docs").rglob("*.md") if path.name != "glossary.md"]
    sources = sorted((ROOT / "dipnet").rglob("*.py"))
    assert len(sources) > 150
    found = []
    for path in [*pages, *sources]:
        name = path.relative_to(ROOT).as_posix()
        found += [
            f"{place}: say {term} in {text[:120]!r}"
            for place, text in prose(name, path.read_text())
            for term in old_words(place, text)
        ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The border of an epoch, and `border`.", ["epoch boundary"]),
        ("A PC of the block", ["prevote certificate"]),
        ("two CCs", ["commit certificate"]),
        ("# Express leaves at once", ["vote push"]),
        ("lane by lane", ["topic"]),
        ('``dpos_borders`` has "border"; expressed, planes, PCI', []),
    ],
)
def test_an_old_word_is_seen(text: str, terms: list[str]) -> None:
    assert old_words("dipnet/p2p/gossip.py", text) == terms


def test_symbols_of_the_proofs_stay_in_the_proofs() -> None:
    page = (ROOT / "docs" / "spec" / "consensus.md").read_text()
    used = {
        place
        for place, text in prose("docs/spec/consensus.md", page)
        if OLD["prevote certificate"].search(text)
    }
    assert used == PROOFS
    outside = page.replace("## Cost\n", "## Cost\n\nOne CC per boundary.\n")
    places = [
        place for place, text in prose("docs/spec/consensus.md", outside) if old_words(place, text)
    ]
    assert places == ["docs/spec/consensus.md Cost"]
