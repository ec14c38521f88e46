"""The rules of the house (DESIGN 2), checked and not remembered."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dipnet.primitives.errors import REFUSALS

ROOT = Path(__file__).resolve().parent.parent
LINES_MAX = 500
FUNCTION_LINES_MAX = 70

FLOORS = {
    "errors": 0, "codec": 0, "crypto": 0, "jsontext": 0,
    "genesis": 1, "tx": 1, "state": 1,
    "vm": 2,
    "consensus": 3, "dag": 3, "p2p": 3,
    "effects": 4, "peering": 4, "links": 4, "voting": 4, "checks": 4,
    "view": 4, "node": 4,
    "store": 5, "mailbox": 5, "libp2p_link": 5, "libp2p_host": 5, "net": 5, "rpc": 5,
    "lockfile": 5, "votefile": 5, "unixsocket": 5, "unixserver": 5, "signer": 5, "signer_socket": 5,
    "signer_server": 5, "admin_client": 5,
    "config": 5, "metrics": 5, "keys": 5, "client": 5, "outbox": 5, "series": 5, "mnemonic": 5,
    "light": 5, "trust": 5,
    "admin": 6, "duty": 6, "daemon": 6, "networks": 6,
    "terminal": 7, "device": 7, "replay": 7, "simulate": 7, "tail": 7, "testnet": 7,
    "cli_device": 7, "cli_light": 7, "cli": 7,
    "dipnetd_settings": 7, "dipnetd_new": 7, "dipnetd_signer": 7, "dipnetd": 7,
    "watch": 5, "wallet": 7, "cli_sending": 7, "cli_delegate": 7, "cli_delegate_views": 7,
}  # fmt: skip
# Files of one floor that may see one another, in this order (later imports earlier).
STAIRS = [
    ["errors", "codec", "crypto"],
    ["effects", "peering", "links", "voting", "checks", "view", "node"],
    ["light", "trust"],
    ["config", "store", "metrics", "rpc"],
    [
        "lockfile",
        "votefile",
        "unixsocket",
        "signer",
        "signer_socket",
        "unixserver",
        "signer_server",
    ],
    ["lockfile", "unixsocket", "client", "admin_client"],
    ["admin", "duty", "daemon"],
    ["mailbox", "libp2p_link", "libp2p_host", "net"],
    ["terminal", "device", "replay", "simulate", "tail", "cli_device", "cli_light", "cli"],
    ["terminal", "testnet", "dipnetd_settings", "dipnetd_new", "dipnetd_signer", "dipnetd"],
    ["metrics", "watch", "rpc"],
    ["terminal", "wallet", "cli_sending", "cli_delegate", "cli_delegate_views", "cli"],
]
CLOCK_FLOOR = 5
BANNED_BELOW = {"asyncio", "time", "random", "os", "secrets", "socket", "threading", "trio"}
BANNED_NAMES = {
    "manager", "service", "handler", "helper", "helpers", "util", "utils", "common", "misc", "base",
    "abc", "interfaces", "builder", "factory", "registry", "pubsub", "types", "constants",
}  # fmt: skip
CONSENSUS_ROOMS = {"codec", "crypto", "genesis", "tx", "state", "vm", "consensus", "dag"}


def sources() -> list[Path]:
    return sorted((ROOT / "dipnet").rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(ROOT / "dipnet").parts[0].removesuffix(".py")


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
        if node.module == "dipnet":
            yield from (f"dipnet.{alias.name}" for alias in node.names)
        else:
            yield node.module


def may_import(here: str, there: str) -> bool:
    if here == there or FLOORS[there] < FLOORS[here]:
        return True
    return any(
        here in stair and there in stair and stair.index(there) < stair.index(here)
        for stair in STAIRS
    )


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_file(path: Path) -> None:
    text, module, here = path.read_text(), tree(path), room(path)
    assert len(text.splitlines()) <= LINES_MAX, "a file past 500 lines asks to be two"
    assert path.stem not in BANNED_NAMES
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text)
    if here == "__init__":
        return
    assert here == "_native" or here in FLOORS, "a new room needs a floor"
    for node in ast.walk(module):
        names = list(imported(node))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{node.name} has {length} lines"
            hidden = [n for inner in ast.walk(node) for n in imported(inner)]
            assert not hidden, f"import inside {node.name}: {hidden}"
        for name in names:
            top, *rest = name.split(".")
            assert name != "typing.TYPE_CHECKING"
            if top == "dipnet" and rest and rest[0] not in ("_native", "__version__"):
                assert may_import(here, rest[0]), f"{here} imports {name}"
            if here in FLOORS and FLOORS[here] < CLOCK_FLOOR:
                assert top not in BANNED_BELOW, f"{here} imports {top}"
        if isinstance(node, ast.Name):
            assert node.id != "TYPE_CHECKING"


@pytest.mark.parametrize(
    "path", [p for p in sources() if room(p) in CONSENSUS_ROOMS], ids=lambda p: p.stem
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
    for path in sources():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Invalid":
                assert node.args, f"{path}: Invalid without a code"
                if isinstance(node.args[0], ast.Constant):
                    assert node.args[0].value in REFUSALS, f"{path}: {node.args[0].value}"
    everywhere = [t for p in sources() if p.name != "errors.py" for t in [p.read_text()]]
    unused = [code for code in REFUSALS if not any(f'"{code}"' in text for text in everywhere)]
    assert not unused, f"refusals nobody raises: {unused}"


def record_prefixes() -> Iterator[tuple[bytes, str]]:
    """The first byte of each kind of record, and the name of its constant."""
    for path in sources():
        for node in tree(path).body:
            if not isinstance(node, ast.Assign | ast.AnnAssign):
                continue
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                prefix = getattr(node.value, "value", None)
                named = isinstance(target, ast.Name) and target.id.startswith("KEY_")
                if named and isinstance(prefix, bytes):
                    yield prefix, f"{path.stem}.{target.id}"


def test_record_prefixes_are_unique() -> None:
    seen: dict[bytes, str] = {}
    for prefix, name in record_prefixes():
        assert len(prefix) == 1, name
        assert seen.setdefault(prefix, name) == name
    assert len(seen) > 10


@pytest.mark.parametrize("room", ["tests", "benchmarks"])
def test_files_beside_the_house_are_bounded(room: str) -> None:
    for path in sorted((ROOT / room).glob("*.py")):
        assert len(path.read_text().splitlines()) <= LINES_MAX, path.name


def test_native_files_are_bounded() -> None:
    for path in sorted((ROOT / "native").iterdir()):
        if path.suffix in (".c", ".h", ".pyx", ".pxi") and not path.name.endswith("_door.c"):
            assert len(path.read_text().splitlines()) <= LINES_MAX, path.name
            assert "Python.h" not in path.read_text(), path.name
