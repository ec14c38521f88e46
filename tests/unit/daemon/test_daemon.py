"""The life of a daemon in this process."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from dipnet.daemon.daemon import EXIT_MEND, EXIT_OK, Daemon, Endpoints
from dipnet.daemon.networks import delegate, dev_genesis
from dipnet.host.config import load
from dipnet.host.store import Store
from dipnet.ledger import rules
from dipnet.node.effects import Dial, Halt
from dipnet.node.node import first_puts
from dipnet.sdk.keys import DEV_SECRETS
from tests.fixtures.processes import WAIT_S

SLOT_MS = 200


def observer(data: Path) -> Daemon:
    """A node without a delegate's key, on free ports of loopback."""
    genesis = dev_genesis([delegate("dev", DEV_SECRETS[0])], 1_700_000_000_000, SLOT_MS)
    store = Store(data / "records")
    store.stage(first_puts(genesis, store))
    flags = {
        "data": data, "listen": "/ip4/127.0.0.1/tcp/0", "rpc_port": 0, "local": True,
        "disk_stop_bytes": 0, "disk_refuse_bytes": 0,
    }  # fmt: skip
    return Daemon(load(flags, {}).config, genesis, store, b"\7" * 32)


def run(node: Daemon, ready: Callable[[Endpoints], None]) -> int:
    """The exit code of ``node``; TimeoutError where it lives on."""
    return asyncio.run(asyncio.wait_for(node.run(ready), WAIT_S))


def test_a_node_that_ends_at_its_start_says_why_last_and_is_never_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """docs/operating.md: exit code 2 stands for a reason on the last line of stderr."""
    monkeypatch.setattr(rules, "RULES", {})
    ready: list[Endpoints] = []

    def told(endpoints: Endpoints) -> None:
        ready.append(endpoints)
        logging.getLogger("dipnet").critical("ready")

    assert run(observer(tmp_path), told) == EXIT_MEND
    assert not ready
    last = caplog.records[-1]
    assert last.levelname == "CRITICAL"
    assert last.message.startswith("stopping: rules unknown")


def test_no_effect_follows_a_halt(tmp_path: Path) -> None:
    node = observer(tmp_path)
    dialled: list[str] = []
    node._perform[Dial] = lambda effect: dialled.append(effect.address)

    def told(_: Endpoints) -> None:
        node._run(lambda: [Dial("before"), Halt("the test is over"), Dial("after")])

    assert run(node, told) == EXIT_MEND
    assert dialled == ["before"]


def test_a_node_that_starts_is_ready_once(tmp_path: Path) -> None:
    node = observer(tmp_path)
    ready: list[Endpoints] = []

    def told(endpoints: Endpoints) -> None:
        ready.append(endpoints)
        node._fail(EXIT_OK, "the test is over")

    assert run(node, told) == EXIT_OK
    assert [endpoints.peer_id for endpoints in ready] == [node.peer_id]
