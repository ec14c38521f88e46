"""The daemon as a process: killed under load, on a full disk, on damaged records, in each other's
way. Every fact that a client was told is there again; a start that fails says what to do."""

import asyncio
import contextlib
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dipnet.consensus.chain.block import stored_header
from dipnet.consensus.chain.records import KEY_BLOCK
from dipnet.daemon import daemon
from dipnet.daemon.networks import DELEGATE_VOTES, DEV_CHAIN_ID, delegate, dev_genesis
from dipnet.dag.vertex import VertexDraft, sign_vertex
from dipnet.host.config import load
from dipnet.host.store import Store
from dipnet.ledger.genesis import Genesis
from dipnet.node.node import first_puts
from dipnet.node.work import ClientTxs, ClientVertices
from dipnet.primitives.errors import Invalid
from dipnet.sdk.keys import DEV_SECRETS, address_of
from dipnet.signing import votefile
from dipnet.signing.signer import LocalSigner
from dipnet.signing.votefile import VoteFile
from tests.processes.daemon_process import (
    PATIENCE_S,
    SLOT_MS,
    Devices,
    Gone,
    Load,
    Memory,
    Program,
    Refused,
)

ROUNDS = 4
LOADS = 2
EXIT_USAGE, EXIT_STORAGE = 2, 70
FILE_BYTES_MAX = 3 << 20


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Program, Path]]:
    data = tmp_path_factory.mktemp("running") / "data"
    with Program(data) as program:
        program.ready()
        yield program, data


def refused(program: Program) -> str:
    """The sentence of a start that fails."""
    with program:
        assert program.ended() == EXIT_USAGE
        assert "Traceback" not in program.said
        (line,) = program.said.strip().splitlines()
        return line


# --- killed


def test_nothing_that_was_told_is_lost_by_kill_9(tmp_path: Path) -> None:
    data, rng = tmp_path / "data", random.Random(9)
    memory = [Memory() for _ in range(LOADS)]
    for _ in range(ROUNDS):
        with Program(data) as program:
            ask = program.ready().client()
            for one in memory:
                one.check(ask)
            loads = [Load(program.client(), one, payer) for payer, one in enumerate(memory)]
            enough = [one.count + rng.randrange(50, 250) for one in memory]
            for load in loads:
                load.start()
            while any(one.count < most for one, most in zip(memory, enough, strict=True)):
                assert not any(load.bug for load in loads), [load.bug for load in loads]
                threading.Event().wait(rng.random() / 50)
            assert program.kill() == -signal.SIGKILL
            for load in loads:
                load.join()
                assert load.bug is None
    with Program(data) as program:
        ask = program.ready().client()
        for one in memory:
            one.check(ask)
            assert one.receipts
            assert one.vertices
        height = ask.height()
        ask.until(lambda ask: ask.height() > height)
        assert program.kill(signal.SIGTERM) == 0
        assert "Traceback" not in program.said
        assert program.lines[-1].endswith("stopping: asked to stop\n")
    damaged = tmp_path / "damaged"
    shutil.copytree(data, damaged)
    no_slot_was_signed_twice(data)
    damaged_records_are_refused(damaged)


def no_slot_was_signed_twice(data: Path) -> None:
    store = Store(data / "records")
    headers = [stored_header(raw) for _, raw in store.scan(KEY_BLOCK)]
    store.close()
    account = address_of(DEV_SECRETS[0])
    signed = votefile.read(data / DELEGATE_VOTES, DEV_CHAIN_ID, account)
    slots = sorted(header.slot for header in headers)
    assert len(slots) == len({*slots}) > ROUNDS
    assert slots[-1] <= signed.proposed
    heights = sorted(header.height for header in headers)
    assert heights == list(range(len(headers)))  # one chain, continued over every crash


def damaged_records_are_refused(data: Path) -> None:
    log = max((data / "records").glob("*.log"), key=lambda path: path.stat().st_size)
    raw = bytearray(log.read_bytes())
    raw[len(raw) // 2] ^= 0x40
    log.write_bytes(bytes(raw))
    with Program(data) as program:
        assert program.ended() == EXIT_STORAGE
        assert "is damaged" in program.said
        assert "move the directory away" in program.said
        assert "Traceback" not in program.said


# --- a disk that is full


def test_a_full_disk_ends_the_node_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    """A limit on the size of files stands for it: the append fails inside LevelDB."""
    data, memory = tmp_path / "data", Memory()
    with Program(data, file_bytes_max=FILE_BYTES_MAX) as program:
        devices = Devices(memory, program.ready().client(), payload_bytes=16_000)
        with contextlib.suppress(*Gone, Refused):  # "node is stopping", if it still gets to say so
            while True:
                devices.submit(10)
        assert program.ended() == EXIT_STORAGE
        assert "storage failed" in program.said
        assert "check the disk and its free space, then start again" in program.said
        assert "Traceback" not in program.said
    assert len(memory.vertices) * 16_000 > FILE_BYTES_MAX // 2
    with Program(data) as program:
        ask = program.ready().client()
        memory.check(ask)
        height = ask.height()
        ask.until(lambda ask: ask.height() > height)


# --- in each other's way


def test_a_second_process_on_one_directory(running: tuple[Program, Path]) -> None:
    program, data = running
    line = refused(Program(data))
    assert "is in use by another dipnetd; stop it or choose another --data" in line
    assert program.client().height() >= 0


def test_a_busy_port_of_the_interface(running: tuple[Program, Path], tmp_path: Path) -> None:
    program, _ = running
    line = refused(Program(tmp_path / "data", f"--rpc-port={program.port}"))
    assert f"port {program.port} is busy on 127.0.0.1" in line
    assert "choose another with --rpc-port" in line


def test_a_busy_port_for_peers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(Program(tmp_path / "data", f"--listen-port={port}"))
        assert f"port {port} on 127.0.0.1 is busy: stop what listens there" in line


def test_records_of_another_network(running: tuple[Program, Path], tmp_path: Path) -> None:
    """The directory of one network under the genesis.json of another."""
    _, data = running
    mine = tmp_path / "data"
    with Program(mine) as program:
        program.ready()
        assert program.kill(signal.SIGTERM) == 0
    other = (data / "genesis.json").read_bytes()
    assert Genesis.decode(other) != Genesis.decode((mine / "genesis.json").read_bytes())
    (mine / "genesis.json").write_bytes(other)
    assert "holds the chain of another genesis.json" in refused(Program(mine))
    (mine / "genesis.json").write_bytes(other.replace(b"{", b'{"slot_ms": 1,', 1))
    with pytest.raises(Invalid) as caught:
        Genesis.decode((mine / "genesis.json").read_bytes())
    assert caught.value.detail in refused(Program(mine))


def test_secrets_and_records_are_for_their_owner_only(running: tuple[Program, Path]) -> None:
    program, data = running
    assert data.stat().st_mode & 0o077 == 0
    assert (data / "records").stat().st_mode & 0o077 == 0
    key = data / "node.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert key.read_text().strip().removeprefix("0x") not in program.said


# --- a disk that is slow


class SlowStore(Store):
    """Commits when it is allowed to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.allowed = threading.Event()

    def commit(self) -> int:
        if self._thread is not None:
            self.allowed.wait(PATIENCE_S)
        return super().commit()


def test_while_the_disk_is_behind_nobody_is_answered_and_nothing_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "STAGED_BYTES_MAX", 100_000)
    genesis = dev_genesis([delegate("dev", DEV_SECRETS[0])], time.time_ns() // 1_000_000, SLOT_MS)
    store = SlowStore(tmp_path / "records")
    store.stage(first_puts(genesis, store))
    store.allowed.set()
    store.commit()
    store.allowed.clear()
    flags = {"data": tmp_path, "listen": "/ip4/127.0.0.1/tcp/0", "rpc_port": 0, "local": True}
    path, account = tmp_path / DELEGATE_VOTES, address_of(DEV_SECRETS[0])
    votefile.create(path, DEV_CHAIN_ID, account)
    votes = VoteFile(path, DEV_CHAIN_ID, account)
    signer = LocalSigner(DEV_SECRETS[0], votes, DEV_CHAIN_ID)
    node = daemon.Daemon(load(flags, {}).config, genesis, store, b"\7" * 32, signer)

    async def main() -> int:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[daemon.Endpoints] = loop.create_future()
        running = asyncio.create_task(node.run(ready.set_result))
        await ready
        told: list[asyncio.Task[Any]] = []
        while not node._behind:
            offer = node.submit(ClientVertices((reading(genesis, len(told)),)))
            told.append(asyncio.create_task(offer))
            await asyncio.sleep(0.01)
        with pytest.raises(Invalid, match="the disk is behind"):
            await node.submit(ClientVertices((reading(genesis, 0),)))
        assert node._net._paused
        assert node.health()["disk"]
        seen = asyncio.create_task(node.settled())
        await asyncio.sleep(0)
        assert not seen.done()
        assert not any(one.done() for one in told)
        assert node.chain.head.height == 0  # a block that is not durable is not signed
        store.allowed.set()
        await seen
        for one in told:
            ((_, status),) = await one
            assert status == "accepted"
        assert not node._net._paused
        assert not node.health()["disk"]
        node._fail(0, "the test is over")
        with pytest.raises(Invalid, match="stopping"):
            await node.submit(ClientTxs((b"\1",)))
        return await running

    assert asyncio.run(main()) == 0


def reading(genesis: Genesis, seq: int) -> bytes:
    draft = VertexDraft(
        chain_id=genesis.chain_id, ref_height=0, ref_hash=bytes(8), seq=seq, prev=bytes(32),
        timestamp_ms=0, topic=bytes(16), payload=bytes(20_000),
    )  # fmt: skip
    return sign_vertex(b"\5" * 32, draft)
