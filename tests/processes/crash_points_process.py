"""``kill -9`` of real signers at any time, while clients ask; what they were given, pair by pair.

The process that imports is not the one that is killed: a *nursery* forks a signer for each life, so
that a thousand lives take a minute. Signer, vote file, socket and clients are the shipping ones.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from dipnet.consensus.finality.votes import Ballot
from dipnet.host.unixsocket import PrivateListener
from dipnet.primitives.errors import Invalid
from dipnet.signing import votefile
from dipnet.signing.signer import LocalSigner
from dipnet.signing.signer_server import serve
from dipnet.signing.signer_socket import RemoteSigner
from dipnet.signing.votefile import VoteFile
from tests import ROOT
from tests.processes.crash_points import ACCOUNT, CHAIN_ID, SECRET, History, PersistsLate, draw

VOTES, SOCKET = "delegate.votes", "signer.sock"
CLIENTS = 2
LIFE_S_MAX = 0.03
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Told:
    """The outcome of a run."""

    kills: int
    signatures: int


# --- the nursery's process


def nursery(directory: Path, make: type[LocalSigner]) -> None:
    """Forks a signer for each line of stdin; says its pid, and waits until it is dead."""
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(run_signer(directory, make))
        print(child, flush=True)
        os.waitpid(child, 0)


def run_signer(directory: Path, make: type[LocalSigner] = LocalSigner) -> int:
    """One life."""
    votes = VoteFile(directory / VOTES, CHAIN_ID, ACCOUNT)
    listener = PrivateListener(directory / SOCKET)
    return serve(make(SECRET, votes, CHAIN_ID), CHAIN_ID, listener)


# --- ours


class Client(threading.Thread):
    """A hot node that asks for anything, all the time."""

    def __init__(self, path: Path, seed: int) -> None:
        super().__init__(daemon=True)
        self.sent: list[Ballot] = []
        self.failure: BaseException | None = None
        self._path = path
        self._random = Random(seed)
        self._over = threading.Event()

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._ask_until_it_dies()
        except BaseException as failure:
            self.failure = failure

    def _ask_until_it_dies(self) -> None:
        try:
            signer = RemoteSigner(self._path, CHAIN_ID, start_s=1.0)
        except Invalid:
            return
        while signer.complaint is None and not self._over.is_set():
            ballot = draw(self._random, signer.state)
            if signer.sign(ballot).signature:
                self.sent.append(ballot)
        signer.close()

    def end(self) -> None:
        self._over.set()
        self.join(PATIENCE_S)
        if self.failure is not None:
            raise self.failure


def run_processes(kills: int, seed: int, late: bool = False) -> Told:
    """So many lives of one key's signer; ``Broken`` for an offence among all that was sent.

    ``late``: the positive control, a signer that persists after it has signed.
    """
    random = Random(seed)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        votefile.create(directory / VOTES, CHAIN_ID, ACCOUNT)
        clients = [Client(directory / SOCKET, seed + n) for n in range(CLIENTS)]
        child = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.processes.crash_points_process",
                str(directory),
                *["late"] * late,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            text=True,
        )
        try:
            for client in clients:
                client.start()
            for _ in range(kills):
                _one_life(child, clients, random)
        finally:
            for client in clients:
                client.end()
            child.stdin.close() if child.stdin else None
            child.wait(PATIENCE_S)
            child.stdout.close() if child.stdout else None
    history = History(seed, kills, sent=[ballot for client in clients for ballot in client.sent])
    history.check()
    return Told(kills, len(history.sent))


def _one_life(child: "subprocess.Popen[str]", clients: list[Client], random: Random) -> None:
    """Until a client was given something, and a moment longer."""
    assert child.stdin is not None
    assert child.stdout is not None
    before = sum(len(client.sent) for client in clients)
    child.stdin.write("\n")
    child.stdin.flush()
    pid = int(child.stdout.readline())
    until = time.monotonic() + PATIENCE_S
    try:
        while sum(len(client.sent) for client in clients) == before:
            assert time.monotonic() < until, "nobody was given a signature"
            time.sleep(0.001)
        time.sleep(random.uniform(0, LIFE_S_MAX))
    finally:
        os.kill(pid, signal.SIGKILL)  # its parent waits for nothing else


if __name__ == "__main__":
    nursery(Path(sys.argv[1]), PersistsLate if "late" in sys.argv[2:] else LocalSigner)
