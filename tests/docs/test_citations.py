"""Every citation leads somewhere: headings of pages, ADRs, links, files, modules, make targets.

Pages, comments and docstrings are read, code is not. With ``-s`` the test prints how many
citations of each kind it resolved. A kind that finds fewer of them than its row in ``RESOLVERS``
says has lost its pattern and fails.
"""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests import ROOT
from tests.unit.test_house import tracked

SUFFIXES: Final = frozenset((".py", ".md", ".c", ".h", ".pyx", ".pxi", ".pyi", ".sol", ".toml"))
FOLDERS: Final = "tests|dipnet|native|benchmarks|docs"
FOREIGN: Final = frozenset(("web3.py", "Python.h"))
"""Names that look like files of this tree and are of other projects."""

_CITED: Final = r'"[^"]{1,40}"'
HEADING: Final = re.compile(
    rf"([\w./-]*\w\.md) ({_CITED}(?:(?:, | and ){_CITED})*)(?:, (?:rule|goal) (\d+))?"
)
ADR: Final = re.compile(r"\bADRs? (\d+)((?:(?:, | and | to )\d+)*)")
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
PATH: Final = re.compile(
    rf"(?<![\w./:{{}}<*-])((?:{FOLDERS})/[\w./*-]*(?:/\*|[\w/])"
    r"|[\w./*-]*\w\.(?:pyx|pxi|pyi|py|c|h|md|sol|vyi))(?![\w/{<(-])"
)
MODULE: Final = re.compile(rf"python -m ((?:{FOLDERS})(?:\.\w+)*)(?!\.<)")
TARGET: Final = re.compile(r"`make ([a-z]+)")
SUPERSEDED: Final = re.compile(r"\bDESIGN\.md\b|\bDESIGN \d|\bspecs/|\bresearch/")
"""Papers that are not in this repository."""


class Lost(NamedTuple):
    """A citation that leads nowhere: the file that has it, and its text."""

    where: str
    text: str


# --- what is read


def prose(path: Path, text: str) -> str:
    """The pages, comments and docstrings of a file, each paragraph on one line."""
    if path.suffix == ".py":
        text = "\n\n".join(_python(text))
    elif path.suffix in (".c", ".h"):
        text = re.sub(r"^#include <.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"[ \t]*\n[ \t]*(?:#|\*|//)?[ \t]*(?=\S)", " ", text)


def _python(text: str) -> Iterator[str]:
    """Blocks of comments, strings that stand as statements, and strings that name a page."""
    module = ast.parse(text)
    alone = {node.value for node in ast.walk(module) if isinstance(node, ast.Expr)}
    for node in ast.walk(module):
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and (node in alone or re.search(r"docs/\S+\.md", value)):
            yield value
    block: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            block.append(token.string)
        elif token.type != tokenize.NL:
            yield "\n".join(block)
            block = []


@cache
def read() -> dict[Path, str]:
    """The prose of every file that git would commit."""
    files = sorted(path for path in tracked() if path.suffix in SUFFIXES)
    own = {ROOT / "tests" / "docs" / f"test_{name}.py" for name in ("citations", "glossary")}
    return {path: prose(path, path.read_text()) for path in files if path not in own}


# --- what is there


@cache
def names() -> frozenset[str]:
    """Every file and folder of the tree, by each end of its path."""
    ends: set[str] = set()
    for path in tracked():
        parts = path.relative_to(ROOT).parts
        for last in range(1, len(parts) + 1):
            ends.update("/".join(parts[first:last]) for first in range(last))
    return frozenset(ends)


def page_of(where: Path, name: str) -> Path | None:
    """The page that a file means by a name: from the root, beside it, or in docs/."""
    for base in (ROOT, where.parent, ROOT / "docs", ROOT / "docs" / "spec"):
        if (base / name).is_file():
            return base / name
    return None


def headings(text: str) -> dict[str, str]:
    """The headings of a page, each with the text below it."""
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    parts = re.split(r"^#+ (.+)$", plain, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def anchor(heading: str) -> str:
    """What GitHub calls a heading in a link."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@cache
def headings_of(page: Path) -> dict[str, str]:
    """The headings of a page of the tree."""
    return headings(page.read_text())


# --- one resolver for each kind: citations of a text as (text, whether it leads somewhere)

Resolver = Callable[[Path, str], Iterator[tuple[str, bool]]]


def resolve_headings(where: Path, text: str) -> Iterator[tuple[str, bool]]:
    for name, quoted, number in HEADING.findall(text):
        page = page_of(where, name)
        there = headings_of(page) if page else {}
        for heading in re.findall(r'"([^"]+)"', quoted):
            listed = not number or re.search(rf"^{number}\. ", there.get(heading, ""), re.MULTILINE)
            yield f'{name} "{heading}" {number}'.rstrip(), heading in there and bool(listed)


def resolve_adrs(where: Path, text: str) -> Iterator[tuple[str, bool]]:
    for first, others in ADR.findall(text):
        numbers = [int(first)]
        for word, number in re.findall(r"(,|and|to) (\d+)", others):
            numbers += range(numbers[-1] + 1, int(number)) if word == "to" else ()
            numbers.append(int(number))
        for number in numbers:
            yield f"ADR {number}", bool(list((ROOT / "docs" / "adr").glob(f"{number:04}-*.md")))


def resolve_links(where: Path, text: str) -> Iterator[tuple[str, bool]]:
    if where.suffix != ".md":
        return
    for target in LINK.findall(text):
        if not re.match(r"https?:", target):
            name, _, part = target.partition("#")
            page = where.parent / name if name else where
            there = page.exists()
            if part:
                there = there and part in map(anchor, headings_of(page))
            yield target, there


def resolve_paths(where: Path, text: str) -> Iterator[tuple[str, bool]]:
    for match in PATH.finditer(text):
        name = match[1].rstrip("/")
        beside = where.parent / name
        if "*" in name:
            yield name, any(ROOT.glob(name))
        elif name not in FOREIGN:
            yield name, name in names() or (where.suffix == ".md" and beside.exists())


def resolve_modules(where: Path, text: str) -> Iterator[tuple[str, bool]]:
    for name in MODULE.findall(text):
        path = name.replace(".", "/")
        yield name, f"{path}.py" in names() or f"{path}/__main__.py" in names()


def resolve_targets(where: Path, text: str) -> Iterator[tuple[str, bool]]:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for name in TARGET.findall(text):
        yield f"make {name}", name in targets


RESOLVERS: Final[dict[str, tuple[Resolver, int]]] = {
    "headings": (resolve_headings, 85),
    "ADRs": (resolve_adrs, 90),
    "links": (resolve_links, 25),
    "paths": (resolve_paths, 450),
    "modules": (resolve_modules, 20),
    "make targets": (resolve_targets, 60),
}
"""Each kind with the least number of citations that the tree has."""


@pytest.mark.parametrize("kind", RESOLVERS)
def test_every_citation_resolves(kind: str) -> None:
    resolve, least = RESOLVERS[kind]
    count = 0
    lost = []
    for path, text in read().items():
        for cited, there in resolve(path, text):
            count += 1
            if not there:
                lost.append(Lost(str(path.relative_to(ROOT)), cited))
    print(f"{count} {kind} cited, {len(lost)} lost")
    assert not lost, "\n".join(f"{one.where}: {one.text}" for one in lost)
    assert count >= least, f"{count} {kind} found where there were {least}: the pattern is lost"


def test_every_page_and_source_is_read() -> None:
    """By another way than suffixes: the folders that citations stand in."""
    sources = {path for folder in ("dipnet", "tests", "native") for path in tracked(f"{folder}/*")}
    unread = sources - read().keys()
    unread -= {path for path in unread if path.parent == Path(__file__).parent}
    assert {path.suffix for path in unread} <= {"", ".typed", ".vyi"}
    assert tracked("*.md") <= read().keys()


def test_code_cites_the_papers_with_a_heading() -> None:
    """A page of three hundred lines is no citation, but for a room as a whole and for users."""
    bare = re.compile(r"docs/(?:design|spec/\w+)\.md(?! \")")
    whole = {"__init__.py", "errors.py"}
    lost = [
        str(path.relative_to(ROOT))
        for path, text in read().items()
        if bare.search(text) and path.suffix != ".md" and path.name not in whole
    ]
    assert lost == []


def test_no_paper_outside_the_repository_is_cited() -> None:
    found = {path.relative_to(ROOT): SUPERSEDED.findall(text) for path, text in read().items()}
    assert {str(path): cited for path, cited in found.items() if cited} == {}


# --- the test can fail: invented text


@pytest.mark.parametrize(
    ("kind", "text", "cited"),
    [
        ("headings", 'see docs/design.md "No such heading" there', 1),
        ("headings", 'docs/spec/consensus.md "Fork choice" and "Fork joice"', 2),
        ("headings", '# (docs/design.md\n# "Rules", rule 99)', 1),
        ("headings", 'docs/lost.md "Rules"', 1),
        ("ADRs", "ADR 9999", 1),
        ("ADRs", "(ADR 60 to\n   64)", 5),
        ("links", "[page](lost.md)", 1),
        ("links", "[page](docs/design.md#no-such-heading)", 1),
        ("paths", "tests/unit/lost/ and `finality.py`", 2),
        ("paths", "``lostfile.py`` says", 1),
        ("paths", "docs/spec/*.tex", 1),
        ("modules", "`python -m tests.sim.lost`", 1),
        ("make targets", "`make coffee`", 1),
    ],
)
def test_a_lost_citation_is_found(kind: str, text: str, cited: int) -> None:
    page = ROOT / "README.md"
    found = list(RESOLVERS[kind][0](page, prose(page, text)))
    assert len(found) == cited
    assert [there for _, there in found].count(False) == 1


def test_a_renamed_heading_is_lost() -> None:
    page = ROOT / "docs" / "design.md"
    assert "Peers" in headings(page.read_text())
    assert "Peers" not in headings(page.read_text().replace("## Peers", "## Neighbours"))


def test_comments_and_docstrings_are_read_and_code_is_not() -> None:
    source = (
        '"""Doc of\n    a module."""\nnames = "tests/lost.py"  # a comment\n# of two\n# lines\n'
    )
    read_of = prose(Path("invented.py"), source)
    assert "Doc of a module." in read_of
    assert "of two lines" in read_of
    assert "lost" not in read_of
