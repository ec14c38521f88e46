"""A signer in a process of its own, without the rest of dipnetd: it starts in a moment.

python -m tests.processes.signer_process DIRECTORY
"""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dipnet.host.unixsocket import connect
from dipnet.signing import votefile
from tests import ROOT
from tests.fixtures.processes import WAIT_S, environment
from tests.processes.crash_points import ACCOUNT, CHAIN_ID
from tests.processes.crash_points_process import SOCKET, VOTES, run_signer


@contextmanager
def signer_process(directory: Path, log: Path | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """A signer of ``crash_points.SECRET`` on ``directory``, listening; killed in the end."""
    if not (directory / VOTES).exists():
        votefile.create(directory / VOTES, CHAIN_ID, ACCOUNT)
    with (log or directory / "signer.log").open("ab") as file:
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.processes.signer_process", str(directory)],
            cwd=ROOT,
            env=environment(),
            stderr=file,
        )
    try:
        until = time.monotonic() + WAIT_S
        while not _answers(directory / SOCKET):
            assert child.poll() is None
            assert time.monotonic() < until
            time.sleep(0.005)
        yield child
    finally:
        child.kill()
        child.wait(WAIT_S)


def _answers(path: Path) -> bool:
    try:
        connect(path, WAIT_S).close()
    except OSError:  # missing, or left by a signer that was killed
        return False
    return True


if __name__ == "__main__":
    sys.exit(run_signer(Path(sys.argv[1])))
