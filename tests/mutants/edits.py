"""Bugs as edits of a line of a shipping module, and the tests that fail with them.

An ``Edit`` names the rule that it breaks, the line, and its replacement. ``find`` runs its tests
in a process of its own, into which this file is loaded as a plugin of pytest: there the module is
compiled from the edited source, so that every import of it, by any name, gets the bug.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Final

from tests import ROOT

VARIABLE: Final = "DIPNET_EDIT"
TEST_S: Final = 60  # of a test: an edit may make an endless loop
FAILED, PASSED = 1, 0  # exit codes of pytest
PLUGINS: Final = (
    "-p",
    "tests.mutants.edits",
    "-p",
    "pytest_timeout",
    "-p",
    "_hypothesis_pytestplugin",
)
"""The plugins that are needed: those of web3 take longer to import than most tests to run."""


@dataclass(frozen=True)
class Edit:
    """``old`` stands once in ``module`` and becomes ``new``; ``tests`` are files or test ids."""

    rule: str
    name: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def put(self) -> Callable[[Any], None]:
        """Nothing is planted here: the bug is in the other process alone."""
        return lambda _: None

    @property
    def path(self) -> Path:
        """The file of the module."""
        return ROOT / (self.module.replace(".", "/") + ".py")

    def source(self) -> str:
        """The module with the bug; ValueError unless the line is there, once."""
        text = self.path.read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.module} has {text.count(self.old)} times: {self.old}")
        return text.replace(self.old, self.new)

    def find(self) -> str:
        """The first test that fails; empty where all pass. RuntimeError: nothing was judged."""
        compile(self.source(), self.path, "exec")
        fields = {"module": self.module, "old": self.old, "new": self.new}
        return run_tests(self.tests, {VARIABLE: json.dumps(fields)})


def run_tests(tests: Sequence[str], environment: dict[str, str]) -> str:
    """Runs tests in another process: the first that fails, or empty."""
    with tempfile.TemporaryDirectory() as kept:
        command = [
            sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider",
            *PLUGINS, "--hypothesis-profile", "found", "--timeout", str(TEST_S), *tests,
        ]  # fmt: skip
        more = {"HYPOTHESIS_STORAGE_DIRECTORY": kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **more, **environment}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
    failed = re.search(r"^(?:FAILED|ERROR) (.*)$", done.stdout, re.MULTILINE)
    if done.returncode == PASSED:
        return ""
    told = done.returncode == FAILED or failed or "Timeout" in done.stdout + done.stderr
    if not told:
        raise RuntimeError(
            f"pytest ends with {done.returncode}: {(done.stdout + done.stderr)[-500:]}"
        )
    return failed[1] if failed else "a test that does not end"


class _Loader(SourceFileLoader):
    """Compiles the edited source in place of the file's."""

    def __init__(self, name: str, edit: Edit) -> None:
        super().__init__(name, str(edit.path))
        self._edit = edit

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._edit.source(), self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def __init__(self, edit: Edit) -> None:
        self._edit = edit

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._edit.module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None:
            spec.loader = _Loader(fullname, self._edit)
        return spec


def _install() -> None:
    """In the process of ``find``: before anything of the package is imported."""
    fields = json.loads(os.environ.pop(VARIABLE))
    edit = Edit("", "", fields["module"], fields["old"], fields["new"], ())
    if edit.module in sys.modules:
        raise RuntimeError(f"{edit.module} is imported already")
    sys.meta_path.insert(0, _Finder(edit))


if VARIABLE in os.environ:
    _install()
