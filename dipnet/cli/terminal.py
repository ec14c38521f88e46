"""The terminal of both programs: results, errors with exit codes, progress.

Rules that bind this file: a result is on stdout, everything else on stderr. An expected failure is
a single sentence with its remedy and an exit code, never a traceback. Without a terminal there is
neither colour nor a moving line. With ``--json`` stdout holds JSON only.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Annotated, Any, Final, Self

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text
from typer.core import TyperGroup

from dipnet.primitives.errors import Corrupt, Invalid
from dipnet.sdk.client import URL_DEFAULT

EXIT_USAGE: Final = 2
EXIT_STORAGE: Final = 70
EXIT_INTERRUPTED: Final = 130
PLAIN_EVERY_S: Final = 5.0
SELF_EXPLAINED: Final = frozenset(("config", "genesis", "key", "params", "series"))
"""Codes whose details contain the remedy; other codes get the remedy of ``REFUSALS``."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on stdout.")]
Url = Annotated[str, typer.Option("--url", envvar="DIPNET_URL", help="JSON-RPC of a node.")]
URL: Final = URL_DEFAULT


def out() -> Console:
    """A console on the present stdout, which tests replace."""
    return Console(highlight=False, soft_wrap=True)


def err() -> Console:
    """A console on the present stderr."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


class Group(TyperGroup):
    """The commands of a program; an expected failure becomes a sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Invalid as error:
            remedy = "" if error.code in SELF_EXPLAINED else f" ({error.refusal.remedy})"
            say_error(f"{error}{remedy}")
            raise typer.Exit(EXIT_USAGE) from None
        except Corrupt as error:
            say_error(str(error))
            raise typer.Exit(EXIT_STORAGE) from None
        except KeyboardInterrupt:
            err().print("stopped")
            raise typer.Exit(EXIT_INTERRUPTED) from None


def program(about: str) -> typer.Typer:
    """An empty program; ``--install-completion`` sets up the shell."""
    return typer.Typer(
        cls=Group,
        help=about,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def group(about: str) -> typer.Typer:
    """A group of commands under a word of a program."""
    return typer.Typer(help=about, no_args_is_help=True)


def say_error(text: str) -> None:
    """Prints an error on stderr, on a single line."""
    err().print(f"error: {printable(text)}", style="bold red", markup=False)


def note(text: str) -> None:
    """Prints a remark on stderr."""
    err().print(printable(text), markup=False)


def printable(text: str) -> str:
    """The text without control characters, by which a foreign text could control the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def show_json(value: object) -> None:
    """Prints JSON on a line of stdout."""
    typer.echo(json.dumps(value))


def show_fields(fields: Mapping[str, object]) -> None:
    """Prints names and values, a pair on each line."""
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        line = Text(name.ljust(width), style="bold")
        out().print(line.append(f"  {printable(str(value))}", style="not bold"))


def show_rows(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table. Lines may be longer than the terminal: half an address is of no use."""
    cells = [[printable(str(value)) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    out().print(Text(_line(titles, widths), style="bold"))
    for row in cells:
        out().print(Text(_line(row, widths)))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return "  ".join(padded).rstrip()


class Meter:
    """Progress on stderr: a bar on a terminal, else a line every 5 s; with ``quiet`` nothing."""

    def __init__(self, what: str, total: int, unit: str, *, quiet: bool = False) -> None:
        self._what, self._total, self._unit = what, total, unit
        self._quiet = quiet
        self._done = 0
        self._console = err()
        self._shown_s = time.monotonic()
        self._bar: Progress | None = None
        if self._console.is_terminal and not quiet:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn(unit),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(what, total=total or None)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def to(self, done: int) -> None:
        """Shows that ``done`` of the total are done."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif not self._quiet and time.monotonic() - self._shown_s >= PLAIN_EVERY_S:
            self._shown_s = time.monotonic()
            self.say(f"{self._what}: {done} of {self._total} {self._unit}")

    def say(self, text: str) -> None:
        """Prints a line above the bar, also with ``quiet``."""
        self._console.print(printable(text), markup=False)
