"""``pip install dipnet`` without extras: the client and its libraries work, ``dipnetd`` says what
it needs.

The wheel is built from a copy of the sources and installed into a virtual environment that has the
packages of ``[project.dependencies]``, linked from the environment of the tests, and no others.
Nothing is downloaded.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import distribution
from pathlib import Path
from typing import Any, Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dipnet.dipnetd.__main__ import NODE_MODULES
from tests import ROOT

PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SMALL: Final[list[str]] = PROJECT["dependencies"]
EXTRAS: Final[dict[str, list[str]]] = PROJECT["optional-dependencies"]
NOT_IMPORTED: Final = {
    "eth_account",  # sdk/mnemonic.py reads its word list
    "httptools",  # uvicorn imports it for rpc/listen.py
}
LINE: Final = (
    "error: dipnetd needs the node's packages ({} is missing): pip install 'dipnet[node]'\n"
)

WITHOUT: Final = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
from dipnet.dipnetd.__main__ import main
main()
"""
"""Runs ``dipnetd`` where the module that the argument names is not installed."""


def module_of(requirement: str) -> str:
    """The module that a requirement of dipnet installs: the package's name with underscores."""
    return Requirement(requirement).name.replace("-", "_")


def closure(requirements: list[str]) -> set[str]:
    """The names of the packages that these requirements install, with their own requirements."""
    found: set[str] = set()
    todo = [Requirement(text) for text in requirements]
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if name not in found and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
            found.add(name)
            todo += map(Requirement, distribution(name).requires or [])
    return found


def run(*command: object, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DIPNET_", "PYTHON", "PIP_"))}
    offline = {"PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "NO_COLOR": "1"}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=kept | offline, capture_output=True, text=True
    )


def pip(*arguments: object, cwd: Path = ROOT) -> None:
    done = run(sys.executable, "-m", "pip", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", name="bin")
def _bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of programs of an environment in which dipnet is installed without extras."""
    there = tmp_path_factory.mktemp("install")
    source, environment = there / "source", there / "venv"
    source.mkdir()
    for name in ("README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    project = (ROOT / "pyproject.toml").read_text()
    (source / "pyproject.toml").write_text(project.replace('"-O3"', '"-O0"'))  # takes half the time
    for folder in ("dipnet", "native"):
        built = shutil.ignore_patterns("*.so", "*.o", "__pycache__", "build")
        shutil.copytree(ROOT / folder, source / folder, ignore=built)
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", there, ".", cwd=source)
    venv.create(environment, with_pip=False)
    (packages,) = environment.glob("lib/python*/site-packages")
    for name in closure(SMALL):
        for file in distribution(name).files or []:
            link = packages / file
            if ".." not in file.parts and not link.is_symlink():  # some packages share a file
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(Path(str(file.locate())).resolve())
    (wheel,) = there.glob("*.whl")
    pip("--python", environment / "bin" / "python", "install", "--no-deps", wheel)
    pip("--python", environment / "bin" / "python", "check")
    return environment / "bin"


def told(bin_: Path, code: str) -> str:
    """The output of a program that imports installed packages only, not the sources."""
    done = run(bin_ / "python", "-I", "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_client_and_its_libraries_can_be_imported(bin: Path) -> None:
    rooms = ("sdk", "cli")
    names = [
        f"dipnet.{room}.{p.stem}" for room in rooms for p in (ROOT / "dipnet" / room).glob("*.py")
    ]
    code = f"import importlib; print(len([importlib.import_module(n) for n in {names}]))"
    assert told(bin, code) == str(len(names))
    assert len(names) > 20
    here = told(bin, "import dipnet; print(dipnet.__file__)")
    assert here.startswith(str(bin.parent)), "the sources were imported, not the wheel"
    code = f"from importlib.util import find_spec; print(*filter(find_spec, {NODE_MODULES}))"
    assert told(bin, code) == "", "a package of the node is in the small environment"


def test_a_device_keeps_readings_and_a_mnemonic_is_read(bin: Path) -> None:
    code = """
from dipnet.sdk.client import Client
from dipnet.sdk.device import Device
from dipnet.sdk.keys import DEV_MNEMONIC, DEV_SECRETS
from dipnet.sdk.mnemonic import secret_of
with Client() as client, Device(secret_of(DEV_MNEMONIC), client) as device:
    device.reading("pump-7", 21.5, unit="Cel")
    print(device.outbox.waiting, secret_of(DEV_MNEMONIC) == DEV_SECRETS[0])
"""
    assert told(bin, code) == "1 True"


def test_the_client_runs(bin: Path, tmp_path: Path) -> None:
    shown = run(bin / "dipnet", "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "verify-header" in shown.stdout
    shown = run(bin / "dipnet", "version")
    assert (shown.returncode, shown.stdout) == (0, f"dipnet {PROJECT['version']}\n")
    refused = run(bin / "dipnet", "status", "--url", "http://127.0.0.1:1")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: no answer"), refused.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], ["version"], ["run"], ["dev"], ["signer"]])
def test_dipnetd_says_in_one_line_how_to_install_the_rest(arguments: list[str], bin: Path) -> None:
    done = run(bin / "dipnetd", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr in {LINE.format(module) for module in NODE_MODULES}


# --- what pyproject.toml says


def test_dipnetd_knows_the_packages_of_the_extra() -> None:
    assert sorted(NODE_MODULES) == sorted(map(module_of, EXTRAS["node"]))
    assert "dipnet[node]" in EXTRAS["dev"]


@pytest.mark.parametrize("module", NODE_MODULES)
def test_each_missing_package_is_told(module: str) -> None:
    done = run(sys.executable, "-c", WITHOUT, module)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", LINE.format(module))


def test_a_module_that_no_extra_brings_is_a_bug() -> None:
    done = run(sys.executable, "-c", WITHOUT, "dipnet.daemon.daemon")
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_every_requirement_is_imported_and_every_import_is_required() -> None:
    imported = set()
    for path in (ROOT / "dipnet").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").split(".")[0])
    required = {module_of(text) for text in (*SMALL, *EXTRAS["node"])}
    assert imported - set(sys.stdlib_module_names) - {"dipnet"} == required - NOT_IMPORTED


def test_the_lock_file_has_every_requirement_with_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text()
    locked = re.findall(r"^([\w.-]+)==\S+.* \\\n    --hash=sha256:", text, re.MULTILINE)
    assert len(locked) == len(re.findall(r"^\w", text, re.MULTILINE))
    wanted = closure(
        [text for text in SMALL + EXTRAS["node"] + EXTRAS["dev"] if text[:6] != "dipnet"]
    )
    assert wanted <= set(locked)
