"""A network of real processes for a drill: ``dipnetd testnet --start``, and nodes that die.

A node that was killed is started again by hand, as the supervisor's line tells an operator to.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dipnet.daemon.networks import DELEGATE_PASSWORD, GENESIS_NAME
from dipnet.dipnetd.testnet import LOG_NAME
from dipnet.ledger.genesis import Genesis
from dipnet.primitives.errors import Invalid
from dipnet.sdk import keys
from dipnet.sdk.client import Client
from tests import ROOT
from tests.fixtures.processes import Process, environment, read_json, running, until

BATCH = 50
SLOT_MS_PER_S = 200
SLOT_MS_MAX = 5_000
QUIET = re.compile(r"^\S+ \S+ (INFO|DEBUG) ")
EXPECTED = ("finality lags", "finality is back", "is of no use now", "proposes ")
"""Warnings that outages call for, a start alone, and blocks late on a machine that is too busy."""


class Node:
    """One node of the network, in its present life."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self.name: str = fields["name"]
        self.url: str = fields["rpc"]
        self.key = bytes.fromhex(fields["delegate"][2:])
        self.directory = Path(fields["data"])
        self.config = fields["config"]
        self.pid: int = fields["pid"]
        self.lives: list[Process] = []
        self.down = False

    def ask(self, method: str, *params: object) -> Any:
        """The answer; ``Invalid("unreachable")`` while there is none."""
        with Client(self.url, 20.0) as client:
            return client.call(method, *params)

    def blocks(self, first: int, last: int) -> list[dict[str, Any]]:
        """The canonical blocks of these heights."""
        found: list[dict[str, Any]] = []
        with Client(self.url, 20.0) as client:
            for at in range(first, last + 1, BATCH):
                heights = range(at, min(at + BATCH, last + 1))
                found += client.batch([("eth_getBlockByNumber", (hex(n), False)) for n in heights])
        return found

    def answers(self) -> bool:
        try:
            return bool(self.ask("eth_chainId"))
        except Invalid:
            return False

    def end(self, number: int) -> None:
        """Sends the signal, and waits until the process is gone."""
        self.down = True
        if self.lives:
            self.lives[-1].stop(number)
        else:  # a child of the supervisor
            os.kill(self.pid, number)
            until(lambda: not Path(f"/proc/{self.pid}").exists(), f"end of {self.name}")

    def start(self) -> None:
        """Starts it by hand, without waiting for it."""
        log = self.directory / f"life{len(self.lives) + 2}.log"
        self.lives.append(Process(log, "dipnetd", "run", "--config", self.config))
        self.pid = self.lives[-1].popen.pid
        self.down = False

    def secret(self) -> bytes:
        """The signing key."""
        password = keys.read_password(self.directory / DELEGATE_PASSWORD)
        return keys.read_keystore(self.directory / "delegate.json", password)

    def logs(self) -> list[Path]:
        return [self.directory / LOG_NAME, *(life.log for life in self.lives)]

    def noise(self) -> list[str]:
        """Unexpected lines of its logs."""
        lines = [line for log in self.logs() for line in log.read_text().splitlines()]
        return [
            line
            for line in lines
            if not QUIET.match(line) and not any(text in line for text in EXPECTED)
        ]

    def log_bytes(self) -> int:
        return sum(log.stat().st_size for log in self.logs())

    def disk_bytes(self) -> int:
        """Of its records."""
        return sum(path.stat().st_size for path in (self.directory / "records").iterdir())

    def rss_bytes(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
        return int(kib) * 1024

    def cpu_s(self) -> float:
        """User and system time of the process so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Network:
    """All nodes; ``nodes`` by name, delegates of genesis first."""

    def __init__(self, net: dict[str, Any]) -> None:
        self.slot_ms: int = net["slotMs"]
        self.epoch_slots: int = net["epochSlots"]
        self.accounts = [bytes.fromhex(one["privateKey"][2:]) for one in net["accounts"]]
        self.nodes = [Node(fields) for fields in net["nodes"]]
        self.genesis = Genesis.decode((self.nodes[0].directory / GENESIS_NAME).read_bytes())

    @property
    def up(self) -> list[Node]:
        return [node for node in self.nodes if not node.down]

    def end(self) -> None:
        """Stops the nodes that were started by hand."""
        for node in self.nodes:
            if node.lives:
                node.lives[-1].stop()


def pace_ms(least: int) -> int:
    """Slots that this machine keeps as busy as it is now, told by how long a process takes to
    start: on an idle one ``least`` ms."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "dipnet.dipnetd.main", "version"]
    subprocess.run(command, env=environment(), cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return round(min(max(SLOT_MS_PER_S * (time.monotonic() - begun), least), SLOT_MS_MAX))


@contextmanager
def network(out: Path, *options: str) -> Iterator[Network]:
    """``dipnetd testnet --start`` with these options, until the end of the block."""
    command = ("testnet", "--out", str(out), "--start", *options)
    described = out / "net.json"
    with running(out.parent / f"{out.name}.log", "dipnetd", *command) as supervisor:
        until(
            lambda: described.exists() and all(n["pid"] for n in read_json(described)["nodes"]),
            "net.json",
            supervisor,
        )
        net = Network(read_json(described))
        for node in net.nodes:
            until(node.answers, f"answer of {node.name}", supervisor)
        try:
            yield net
        finally:
            net.end()
            supervisor.stop(signal.SIGINT)
