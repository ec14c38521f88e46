"""A development chain to measure: in this process, or ``dipnetd dev`` in one of its own."""

import asyncio
import contextlib
import http.client
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import uvloop

from dipnet.consensus.chain.chain import Chain
from dipnet.daemon import networks
from dipnet.daemon.daemon import Daemon
from dipnet.daemon.networks import RECORDS
from dipnet.host.config import load
from dipnet.host.store import Store
from dipnet.ledger.genesis import Genesis
from dipnet.node.node import first_puts
from dipnet.primitives.crypto import keccak256
from dipnet.sdk import keys
from dipnet.signing.signer import LocalSigner
from dipnet.signing.votefile import VoteFile

ROOT: Final = Path(__file__).resolve().parent.parent
CHAIN_ID: Final = networks.DEV_CHAIN_ID
READY_S: Final = 30
STOP_S: Final = 15
POLL_S: Final = 0.01
CALL_S: Final = 60

T = TypeVar("T")


def secret(name: str) -> bytes:
    """A private key of its own for each name."""
    return keccak256(name.encode())


def write_genesis(
    directory: Path, funded: Sequence[bytes] = (), slot_ms: int = networks.DEV_SLOT_MS
) -> Genesis:
    """The network of ``dipnetd dev`` in an empty directory, with further rich addresses."""
    balances = dict.fromkeys(funded, networks.DEV_BALANCE_WEI)
    genesis = networks.new_genesis(
        [networks.delegate("dev", keys.DEV_SECRETS[0])],
        CHAIN_ID,
        time.time_ns() // 1_000_000,
        balances,
        slot_ms=slot_ms,
        epoch_slots=networks.DEV_EPOCH_SLOTS,
    )
    networks.write_dev(directory, genesis)
    return genesis


def genesis_hash(genesis: Genesis, directory: Path) -> bytes:
    """Hash of the first block; the directory must be empty."""
    store = Store(directory)
    try:
        store.stage(first_puts(genesis, store))
        return Chain(genesis, store).genesis_hash
    finally:
        store.close()


# --- in this process


def daemon(directory: Path) -> Daemon:
    """The daemon of ``dipnetd dev``, on any free ports and without limits of free space."""
    flags: dict[str, object] = {
        "data": directory,
        "listen": f"/ip4/{networks.LOOPBACK}/tcp/0",
        "local": True,
        "rpc_port": 0,
        "disk_refuse_bytes": 0,
        "disk_stop_bytes": 0,
    }
    genesis = networks.read_genesis(directory / networks.GENESIS_NAME)
    store = Store(directory / RECORDS)
    store.stage(first_puts(genesis, store))
    held = VoteFile(
        directory / networks.DELEGATE_VOTES,
        genesis.chain_id,
        keys.address_of(keys.DEV_SECRETS[0]),
    )
    signer = LocalSigner(keys.DEV_SECRETS[0], held, genesis.chain_id)
    return Daemon(load(flags, {}).config, genesis, store, secret("node"), signer)


@dataclass(frozen=True, slots=True)
class Inside:
    """A daemon in this process. Its loop turns only while ``run`` waits."""

    node: Daemon
    life: "asyncio.Task[int]"
    runner: asyncio.Runner

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs ``work`` beside the daemon, on its loop; RuntimeError where the daemon ends."""
        return self.runner.run(_beside(self.life, work))


async def _beside(life: "asyncio.Task[int]", work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.create_task(work)
    await asyncio.wait((life, task), return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        task.cancel()
        raise RuntimeError(f"the daemon ended early with {life.result()}")
    return task.result()


async def _begun(directory: Path) -> tuple[Daemon, "asyncio.Task[int]"]:
    node, ready = daemon(directory), asyncio.Event()
    life = asyncio.create_task(node.run(lambda _: ready.set()))
    await _beside(life, ready.wait())
    return node, life


async def _ended(life: "asyncio.Task[int]") -> None:
    if not life.done():
        signal.raise_signal(signal.SIGTERM)
    await life


@contextlib.contextmanager
def only_errors() -> Iterator[None]:
    """Keeps the log of nodes in this process to errors: a daemon whose loop stands says that
    finality lags, and simulated nodes say that they have started."""
    log = logging.getLogger("dipnet")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@contextlib.contextmanager
def within(directory: Path) -> Iterator[Inside]:
    """Starts the daemon in this process, on a loop of its own; stops it after."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        node, life = runner.run(_begun(directory))
        try:
            yield Inside(node, life, runner)
        finally:
            runner.run(_ended(life))


# --- in a process of its own


class Client:
    """An HTTP connection to a node's JSON-RPC."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection(networks.LOOPBACK, port, timeout=CALL_S)

    def post(self, body: bytes) -> Any:
        """The JSON that answers a JSON text."""
        self._http.request("POST", "/", body, {"content-type": "application/json"})
        return json.loads(self._http.getresponse().read())

    def call(self, method: str, *params: object) -> Any:
        """The result; RuntimeError for an error."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = self.post(json.dumps(request).encode())
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def close(self) -> None:
        self._http.close()


@dataclass(frozen=True, slots=True)
class Process:
    """A running ``dipnetd dev``."""

    pid: int
    port: int
    answer_ms: float  # from exec to the first answer

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
    """Starts ``dipnetd dev`` over a directory, waits until it answers, stops it after."""
    (port,) = networks.free_ports(1)
    command = [sys.executable, "-m", "dipnet.dipnetd.main", "dev", "--data", str(directory)]
    command += ["--rpc-port", str(port), "--log", "warning"]
    start = time.perf_counter()
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        _first_answer(child, port)
        yield Process(child.pid, port, (time.perf_counter() - start) * 1e3)
    finally:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _first_answer(child: "subprocess.Popen[bytes]", port: int) -> None:
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if child.poll() is not None:
            raise RuntimeError(f"dipnetd ended at once with {child.returncode}")
        client = Client(port)
        try:
            client.call("eth_chainId")
            return
        except OSError:
            time.sleep(POLL_S)
        finally:
            client.close()
    raise RuntimeError(f"dipnetd did not answer within {READY_S} s")
