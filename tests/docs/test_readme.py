"""README.md: its Python and its commands of the client work as typed, on ``dipnetd dev``.

``tests/processes`` runs ``dipnetd testnet``. Of the targets of ``make`` only the names are checked.
"""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dipnet.cli.main import app
from tests import ROOT
from tests.fixtures.processes import dev_url, environment, running

TEXT = (ROOT / "README.md").read_text()
FENCED = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
PYTHON = [text for language, text in FENCED if language == "python"]
SHELL = [text for language, text in FENCED if not language]
DEFAULT = "http://127.0.0.1:8545"


@pytest.fixture(name="url", scope="module")
def _url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("readme") / "log"
    with running(log, "dipnetd", "dev", "--rpc-port", "0", "--slot-ms", "200") as process:
        yield dev_url(process)


def test_the_payment_is_paid(url: str) -> None:
    (example,) = PYTHON
    assert DEFAULT in example
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(example.replace(DEFAULT, url), "README.md", "exec"), {})
    assert "'status': 1" in said.getvalue()


def test_delegates_are_told_and_voted_for(url: str) -> None:
    (commands,) = [block.splitlines() for block in SHELL if "delegate vote" in block]
    assert len(commands) > 4
    for line in commands:
        program, *words = shlex.split(line, comments=True)
        assert program == ".venv/bin/dipnet"
        result = CliRunner().invoke(app, words, env={"DIPNET_URL": url})
        assert result.exit_code == 0, (line, result.output)


def test_readings_are_sent_and_shown(url: str, tmp_path: Path) -> None:
    """The whole block in one shell, as it stands; only ``.venv`` is a stand-in for the real one."""
    (block,) = [block for block in SHELL if "device replay" in block]
    client = tmp_path / ".venv" / "bin" / "dipnet"
    client.parent.mkdir(parents=True)
    client.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dipnet.cli.main "$@"\n')
    client.chmod(0o755)
    ran = subprocess.run(
        ["sh", "-e", "-c", block],
        cwd=tmp_path,
        env=environment() | {"DIPNET_URL": url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len(re.findall(r"device-\d+", ran.stdout)) >= 3, ran.stdout
    assert (tmp_path / "series.csv.outbox").exists()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([\w./]+)\)", TEXT))))
def test_what_it_points_to_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_every_document_is_listed() -> None:
    """No reader finds a page of docs/ that README does not name."""
    pages = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("docs/*.md", "docs/spec/*.md", "tests/README.md")
        for path in ROOT.glob(pattern)
    }
    assert len(pages) > 8
    assert pages <= set(re.findall(r"\]\(([\w./]+)\)", TEXT))


def test_make_has_what_it_promises() -> None:
    targets = re.findall(r"^([a-z]+):", Path(ROOT / "Makefile").read_text(), re.MULTILINE)
    named = re.findall(r"make ([a-z]+)", TEXT)
    listed = re.findall(r"`([a-z]+)`", TEXT[TEXT.index("`make help`") :].split("\n\n")[0])
    assert {"dev", "test"} < set(named)
    assert set(named) | set(listed) <= set(targets)
