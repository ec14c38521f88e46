"""Real processes of the two programs, waited for by events with generous limits."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dipnet.client import Client
from dipnet.errors import Invalid

ROOT = Path(__file__).resolve().parent.parent
WAIT_S = 120.0
POLL_S = 0.05


def environment() -> dict[str, str]:
    """Ours without settings of dipnet, and so that the source tree is what runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DIPNET_")}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def until(ready: Callable[[], Any], what: str, process: "Process | None" = None) -> Any:
    """The first true answer of ``ready``; a failure when none comes or the process ends."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        answer = ready()
        if answer:
            return answer
        if process is not None and process.popen.poll() is not None:
            raise AssertionError(f"ended with {process.popen.returncode}: {process.output()}")
        time.sleep(POLL_S)
    raise AssertionError(f"no {what} in {WAIT_S} s: {process.output() if process else ''}")


class Process:
    """``python -m dipnet.<program> <arguments>`` with its output in a file; or a test's program."""

    def __init__(self, log: Path, program: str, *arguments: str) -> None:
        self.log = log
        module = program if "." in program else f"dipnet.{program}"
        with log.open("wb") as file:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", *module.split(), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment(),
                cwd=log.parent,
            )

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def says(self, text: str) -> str:
        """Waits for a line with the text; the line."""

        def line() -> str | None:
            return next((line for line in self.output().splitlines() if text in line), None)

        return str(until(line, repr(text), self))

    def kill(self) -> None:
        """As a power cut for the process."""
        self.popen.kill()
        self.popen.wait()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Asks it to end; its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        return self.popen.wait(WAIT_S)

    def end(self) -> int:
        """Waits until it ends by itself; its exit code."""
        return self.popen.wait(WAIT_S)


@contextmanager
def running(log: Path, program: str, *arguments: str) -> Iterator[Process]:
    """A process that is not left behind."""
    process = Process(log, program, *arguments)
    try:
        yield process
    finally:
        if process.popen.poll() is None:
            process.stop()


def finished(log: Path, program: str, *arguments: str) -> tuple[int, str]:
    """Runs to the end; exit code and output."""
    with running(log, program, *arguments) as process:
        return process.end(), process.output()


def dev_url(process: Process) -> str:
    """Where a ``dipnetd dev`` answers."""
    return next(word for word in process.says("JSON-RPC").split() if word.startswith("http://"))


def ask(url: str, method: str, *params: object) -> Any:
    """The answer of a node, or None while there is none."""
    with Client(url) as client:
        try:
            return client.call(method, *params)
        except Invalid as error:
            if error.code != "unreachable":
                raise
            return None


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())
