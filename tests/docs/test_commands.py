"""Pages: every command of ``dipnet`` and ``dipnetd`` that a page shows exists, with its options."""

import re
from collections.abc import Iterator

import pytest
from typer.main import get_command

from dipnet.cli.main import app as client
from dipnet.dipnetd.main import app as node
from tests import ROOT

PROGRAMS = {"dipnet": get_command(client), "dipnetd": get_command(node)}
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = re.compile(r"^ {4,}(?:dipnetd? .*)$|`(?:\.venv/bin/)?(dipnetd? [^`]+)`", re.MULTILINE)
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(text: str) -> Iterator[str]:
    """The command lines of a page: indented, fenced, or in backticks; continued lines joined."""
    text = re.sub(r"\\\n\s*", "", text)
    for match in SHOWN.finditer(text):
        yield (match[1] or match[0]).replace("\n", " ").strip()
    for language, block in FENCED.findall(text):
        for line in "" if language else block.splitlines():
            program = line.strip().removeprefix(".venv/bin/")
            if program.startswith(("dipnet ", "dipnetd ")):
                yield program


def unknown(line: str) -> str:
    """The first word of a command line that the programs do not have; empty where all exist."""
    words = line.split("#")[0].split()
    command = PROGRAMS[words[0]]
    for word in words[1:]:
        below = getattr(command, "commands", {})
        if below and not word.startswith("-"):
            if not below.keys() >= set(word.split("|")):
                return word
            command = below[word.split("|")[0]]
            continue
        options = {
            name for param in command.params for name in (*param.opts, *param.secondary_opts)
        }
        if word.startswith("--") and word.strip("().,:") not in {*options, "--help"}:
            return word
    return ""


def test_every_command_shown_exists() -> None:
    lines = [(page.name, line) for page in PAGES for line in commands(page.read_text())]
    assert len(lines) > 70
    wrong = [f"{page}: {line}: {word}" for page, line in lines if (word := unknown(line))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("dipnet delegate stake 100ether --dev 1", ""),
        ("dipnet delegate steak 100ether", "steak"),
        ("dipnet delegate stake 100ether --devil 1", "--devil"),
        ("dipnetd votes show|create|recover", ""),
        ("dipnetd votes show|forget", "show|forget"),
        ("dipnetd run --no-such-setting", "--no-such-setting"),
    ],
)
def test_what_does_not_exist_is_seen(line: str, word: str) -> None:
    assert unknown(line) == word
