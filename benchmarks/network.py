"""A development network to measure: genesis with known keys, a daemon in this process or its own.

``python -m benchmarks.network DIRECTORY`` runs the daemon over a directory that ``prepare`` made
and prints where it is reached as one line of JSON.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import uvloop

from dipnet.config import Config
from dipnet.consensus.chain import Chain
from dipnet.crypto import address, keccak256, public_key
from dipnet.daemon import Daemon, Endpoints, Keys
from dipnet.genesis import Genesis
from dipnet.node import first_puts
from dipnet.store import Store

CHAIN_ID: Final = 2018
ETHER: Final = 10**18
READY_S: Final = 30
STOP_S: Final = 15

T = TypeVar("T")


def secret(name: str) -> bytes:
    """A private key of its own for each name."""
    return keccak256(name.encode())


def address_of(name: str) -> bytes:
    """The address of ``secret(name)``."""
    return address(public_key(secret(name)))


def genesis_now(funded: list[str]) -> Genesis:
    """As ``dipnetd dev`` has it: one delegate, slots of a second, the usual limits."""
    delegate = {
        "name": "dev",
        "address": address_of("delegate"),
        "public_key": public_key(secret("delegate")),
    }
    fields: dict[str, Any] = {
        "chain_id": CHAIN_ID,
        "time_ms": time.time_ns() // 1_000_000,
        "slot_ms": 1_000,
        "epoch_slots": 30,
        "delegates": [delegate],
        "delegates_active": 1,
        "delegates_standby": 0,
        "balances": {address_of(name): 10_000 * ETHER for name in funded},
    }
    return Genesis.checked(fields)


def prepare(directory: Path, genesis: Genesis) -> None:
    """Writes genesis.json and a store that holds the first block."""
    (directory / "genesis.json").write_bytes(genesis.encode())
    store = Store(directory / "db")
    store.stage(first_puts(genesis, store))
    store.commit()
    store.close()


def genesis_hash(directory: Path) -> bytes:
    """Hash of the first block of a prepared directory."""
    store = Store(directory / "db")
    try:
        genesis = Genesis.decode((directory / "genesis.json").read_bytes())
        return Chain(genesis, store).genesis_hash
    finally:
        store.close()


def daemon(directory: Path) -> Daemon:
    """The daemon over a prepared directory: loopback, any free ports, no limits of free space."""
    config = Config(
        data=directory,
        listen="/ip4/127.0.0.1/tcp/0",
        local=True,
        rpc_port=0,
        disk_refuse_bytes=0,
        disk_stop_bytes=0,
    )
    genesis = Genesis.decode((directory / "genesis.json").read_bytes())
    keys = Keys(secret("node"), secret("delegate"))
    return Daemon(config, genesis, Store(directory / "db"), keys)


def within(directory: Path, use: Callable[[Daemon], Awaitable[T]]) -> T:
    """Runs the daemon in this process and ``use`` beside it, on its loop; stops it after."""

    async def main() -> T:
        node = daemon(directory)
        ready = asyncio.Event()
        life = asyncio.create_task(node.run(lambda _: ready.set()))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait((life, waiting), return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            raise RuntimeError(f"the daemon ended at once with {life.result()}")
        try:
            return await use(node)
        finally:
            signal.raise_signal(signal.SIGTERM)
            await life

    return uvloop.run(main())


@dataclass(frozen=True, slots=True)
class Process:
    """A daemon in a process of its own."""

    pid: int
    endpoints: Endpoints
    ready_s: float  # from exec to the line that says where it listens

    def rss_bytes(self) -> int:
        """Resident memory now."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def cpu_s(self) -> float:
        """CPU time of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def process(directory: Path) -> Iterator[Process]:
    """Starts a daemon over a prepared directory, waits until it is reached, stops it after."""
    command = [sys.executable, "-m", "benchmarks.network", str(directory)]
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        line = child.stdout.readline()
        if not line:
            raise RuntimeError(f"the daemon ended at once with {child.wait(STOP_S)}")
        ready_s = time.perf_counter() - start
        yield Process(child.pid, Endpoints(**json.loads(line)), ready_s)
    finally:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stdout is not None:
            child.stdout.close()


def serve(directory: Path) -> int:
    """Runs the daemon until it is told to stop."""
    return uvloop.run(daemon_life(directory))


async def daemon_life(directory: Path) -> int:
    """``Daemon.run`` with a line of JSON when it is ready."""
    node = daemon(directory)
    return await node.run(lambda at: print(json.dumps(asdict(at)), flush=True))


if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[1])))
