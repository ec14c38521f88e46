"""An equivocating delegate among real processes, and that no release can equivocate."""

import re
import tomllib
from pathlib import Path

from setuptools import find_packages
from typer.testing import CliRunner

from dipnet.dipnetd.main import app
from dipnet.host.config import Config
from tests import ROOT
from tests.fixtures.processes import finished
from tests.processes.equivocation_run import BLOCKS_MAX, run_offence


def test_two_blocks_of_a_slot_are_punished_within_two_blocks(tmp_path: Path) -> None:
    told = run_offence(tmp_path, "E0", honest=3, slot_ms=1000)
    assert {one.offence for one in told} == {"E0"}
    assert max(one.blocks for one in told) <= BLOCKS_MAX


def test_the_release_has_no_flag_for_it(tmp_path: Path) -> None:
    """Every flag of ``dipnetd run`` is a setting, and no test is installed."""
    code, told = finished(tmp_path / "log", "dipnetd", "E0", "run")
    assert code == 2
    assert "No such command 'E0'" in told
    shown = CliRunner().invoke(app, ["run", "--help"], terminal_width=200).output
    flags = set(re.findall(r"--([a-z][a-z-]*)", shown))
    settings = {name.replace("_", "-") for name in Config.model_fields}
    assert flags <= settings | {f"no-{name}" for name in settings} | {"config", "help"}
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    built = find_packages(str(ROOT), include=found["find"]["include"])
    assert {name.split(".")[0] for name in built} == {"dipnet"}
    for path in (ROOT / "dipnet").rglob("*.py"):
        assert "tests" not in re.findall(r"^(?:from|import) (\w+)", path.read_text(), re.MULTILINE)
