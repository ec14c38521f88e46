"""Checks of the rules of the house (docs/design.md "Rules").

Run alone, it prints the table of floors.
"""

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

from dipnet.primitives.errors import REFUSALS
from tests import ROOT

LINES_MAX = 500
FUNCTION_LINES_MAX = 70

FLOORS = (
    "primitives",
    "ledger",
    "vm",
    "consensus/finality consensus/staking consensus/chain | dag | p2p",
    "node",
    "host",
    "transport | signing | rpc | sdk",
    "daemon",
    "cli dipnetd",
)
"""The folders of ``dipnet/``, lowest floor first. A file sees its own folder and lower floors.
On a floor, folders separated by a bar do not see each other; between bars a later folder sees the
earlier."""

ABOVE_CLOCK = "host"  # the floor from which on there are clock, disk, sockets, threads, chance
BANNED_BELOW = {"asyncio", "time", "random", "os", "secrets", "socket", "threading", "trio"}
BANNED_NAMES = {
    "manager", "service", "handler", "helper", "helpers", "util", "utils", "common", "misc", "base",
    "abc", "interfaces", "builder", "factory", "registry", "pubsub", "types", "constants",
}  # fmt: skip
DETERMINISTIC = ("primitives", "ledger", "vm", "consensus/", "dag")
FOLDERS_WITHOUT_FLOOR = {"", "_native", "consensus"}  # they hold no file but __init__.py


class Place(NamedTuple):
    """The place of a folder: its floor, its column there, and its step in the column."""

    floor: int
    column: int
    step: int

    def sees(self, other: "Place") -> bool:
        """Whether a file here may import from ``other``."""
        same_column = self[:2] == other[:2]
        return other.floor < self.floor or (same_column and other.step <= self.step)


PLACES = {
    folder: Place(floor, column, step)
    for floor, line in enumerate(FLOORS)
    for column, names in enumerate(line.split("|"))
    for step, folder in enumerate(names.split())
}


def tracked(*patterns: str) -> set[Path]:
    """The files that git would commit, found with git's pathspecs in place of ``files``."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {path for line in told.splitlines() if (path := ROOT / line).exists()}


def files(folder: str, *suffixes: str) -> list[Path]:
    """The sources below ``folder``, sorted, without the files that a build makes."""
    found = (path for path in (ROOT / folder).rglob("*") if path.suffix in suffixes)
    built = re.compile(r"native/(build/|doors/\w+\.c$)")
    return sorted(path for path in found if not built.match(path.relative_to(ROOT).as_posix()))


SOURCES = files("dipnet", ".py")
BESIDE = [*files("tests", ".py"), *files("benchmarks", ".py")]
NATIVE = files("native", ".c", ".h", ".pyx", ".pxi")


def folder_of(path: Path) -> str:
    """``consensus/chain`` for a file of ``dipnet/consensus/chain/``, empty for ``dipnet/``."""
    folder = path.parent.relative_to(ROOT / "dipnet").as_posix()
    return "" if folder == "." else folder


def tree(path: Path) -> ast.Module:
    """The file, parsed."""
    return ast.parse(path.read_text(), str(path))


def imported(node: ast.AST) -> Iterator[str]:
    """The modules that an import statement names; ``from a import b`` gives ``a`` and ``a.b``."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "a relative import"
        assert node.module
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules_of(path: Path) -> Iterator[Path]:
    """The files of ``dipnet/`` that a file imports, without the packages they are in."""
    for node in ast.walk(tree(path)):
        for name in imported(node):
            there = ROOT / (name.replace(".", "/") + ".py")
            if there.is_file():
                yield there


def test_every_file_is_looked_at() -> None:
    """A pattern whose folder was moved would check no file and pass."""
    for looked_at, patterns in (
        (SOURCES, ["dipnet/*.py"]),
        (BESIDE, ["tests/*.py", "benchmarks/*.py"]),
        (NATIVE, ["native/*.c", "native/*.h", "native/*.pyx", "native/*.pxi"]),
    ):
        assert len(looked_at) == len(tracked(*patterns)), patterns
        assert set(looked_at) == tracked(*patterns)


def test_every_folder_has_a_floor(capsys: pytest.CaptureFixture[str]) -> None:
    folders = {folder_of(path) for path in SOURCES}
    assert folders == set(PLACES) | FOLDERS_WITHOUT_FLOOR
    assert len(FLOORS) <= 12
    with capsys.disabled():
        print()
        for floor, line in reversed([*enumerate(FLOORS)]):
            print(f"{floor}  {line}")
    bare = [p for p in SOURCES if folder_of(p) in FOLDERS_WITHOUT_FLOOR]
    assert {path.name for path in bare} == {"__init__.py"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_file(path: Path) -> None:
    text, module, here = path.read_text(), tree(path), folder_of(path)
    assert len(text.splitlines()) <= LINES_MAX, "a file past 500 lines asks to be two"
    assert path.stem not in BANNED_NAMES
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"
            hidden = [n for inner in ast.walk(node) for n in imported(inner)]
            assert not hidden, f"import inside {node.name}: {hidden}"
        if isinstance(node, ast.Name):
            assert node.id != "TYPE_CHECKING"
        for name in imported(node):
            assert name != "typing.TYPE_CHECKING"
            below_clock = here in PLACES and PLACES[here].floor < PLACES[ABOVE_CLOCK].floor
            assert not (below_clock and name.split(".")[0] in BANNED_BELOW), name
    for there in modules_of(path):
        room = folder_of(there)
        if room in PLACES:
            assert here in PLACES, f"{here or 'dipnet'} imports {room}"
            assert PLACES[here].sees(PLACES[room]), f"{here} imports {room}/{there.name}"


def test_no_cycle_of_imports() -> None:
    """No cycle of imports exists, not even within a folder."""
    graph = {path: set(modules_of(path)) - {path} for path in SOURCES}
    assert sum(map(len, graph.values())) > len(SOURCES), "hardly any import was seen"
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    "path",
    [p for p in SOURCES if f"{folder_of(p)}/".startswith(DETERMINISTIC)],
    ids=lambda p: str(p.relative_to(ROOT / "dipnet")),
)
def test_consensus_sees_no_float_and_no_hash_order(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant):
            assert not isinstance(node.value, float), f"float at line {node.lineno}"
        if isinstance(node, ast.BinOp):
            assert not isinstance(node.op, ast.Div), f"true division at line {node.lineno}"
        if isinstance(node, ast.For):
            loop = node.iter
            is_set = isinstance(loop, ast.Set | ast.SetComp) or (
                isinstance(loop, ast.Call) and getattr(loop.func, "id", "") in ("set", "frozenset")
            )
            assert not is_set, f"iteration over a set at line {node.lineno}"


def test_every_refusal_is_used_and_known() -> None:
    for path in SOURCES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Invalid":
                assert node.args, f"{path}: Invalid without a code"
                if isinstance(node.args[0], ast.Constant):
                    assert node.args[0].value in REFUSALS, f"{path}: {node.args[0].value!r}"
    everywhere = [t for p in SOURCES if p.name != "errors.py" for t in [p.read_text()]]
    unused = [code for code in REFUSALS if not any(f'"{code}"' in text for text in everywhere)]
    assert not unused, f"refusals nobody raises: {unused}"


def public_classes() -> Iterable[tuple[str, Path]]:
    """Every class without an underscore before its name, and the file that defines it."""
    for path in SOURCES:
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, path


def test_no_two_public_classes_of_one_name() -> None:
    seen: dict[str, Path] = {}
    for name, path in public_classes():
        assert seen.setdefault(name, path) == path, f"{name} in {seen[name]} and {path}"
    assert len(seen) > 100


def record_prefixes() -> Iterator[tuple[bytes, str]]:
    """The first byte of each kind of record, and the name of its constant."""
    for path in SOURCES:
        for node in tree(path).body:
            if not isinstance(node, ast.Assign | ast.AnnAssign):
                continue
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                prefix = getattr(node.value, "value", None)
                name = target.id if isinstance(target, ast.Name) else ""
                if name.startswith("KEY_") and isinstance(prefix, bytes):
                    yield prefix, f"{path.stem}.{name}"


def test_record_prefixes_are_unique() -> None:
    seen: dict[bytes, str] = {}
    for prefix, name in record_prefixes():
        assert len(prefix) == 1, name
        assert seen.setdefault(prefix, name) == name
    assert len(seen) > 10


@pytest.mark.parametrize("room", ["tests", "benchmarks"])
def test_files_beside_the_house_are_bounded(room: str) -> None:
    for path in BESIDE:
        if path.is_relative_to(ROOT / room):
            assert len(path.read_text().splitlines()) <= LINES_MAX, path.name


def test_the_tests_mirror_the_house() -> None:
    """A room's unit tests are in the folder of its name, and in no other."""
    mirrored = {
        path.parent.relative_to(ROOT / "tests" / "unit").as_posix()
        for path in files("tests/unit", ".py")
        if path.name.startswith("test_")
    }
    assert mirrored <= set(PLACES) | {".", "native"}


def test_native_files_are_bounded() -> None:
    for path in NATIVE:
        assert len(path.read_text().splitlines()) <= LINES_MAX, path.name
        assert "Python.h" not in path.read_text(), path.name
