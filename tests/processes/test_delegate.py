"""``dipnet delegate`` on a real node: streams, and a pause with its alarm."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner
from websockets.sync.client import connect

from dipnet.cli.main import app
from dipnet.consensus.staking.idpos import DPOS_ADDRESS
from dipnet.dipnetd import main as dipnetd
from dipnet.primitives.codec import to_hex
from dipnet.sdk import keys
from tests.fixtures.processes import WAIT_S, Process, ask, dev_url, running, until

BOB = to_hex(keys.address_of(keys.DEV_SECRETS[1]))


@pytest.fixture(name="node")
def _node(tmp_path: Path) -> Iterator[tuple[Process, str, Path]]:
    data = tmp_path / "data"
    more = ("--data", str(data), "--rpc-port", "0", "--slot-ms", "200")
    with running(tmp_path / "log", "dipnetd", "dev", *more) as process:
        yield process, dev_url(process), data


def told(data: Path, *words: str) -> Any:
    result = CliRunner().invoke(app, ["delegate", *words, "--data", str(data), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def request(method: str, params: list[Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def ready(url: str) -> tuple[int, Any]:
    """The answer of /readyz."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_a_pause_is_an_alarm_and_its_end_is_told(node: tuple[Process, str, Path]) -> None:
    process, url, data = node
    until(lambda: ready(url)[0] == 200, "readiness", process)
    assert told(data, "pause")["paused"] is True
    status = ask(url, "dpos_status")
    assert (status["delegate"]["paused"], status["delegate"]["silent"]) == (True, "paused")
    code, answer = until(
        lambda: (found := ready(url))[1]["components"]["finality"] and found, "alarm", process
    )
    assert code == 503
    assert "the last final block is" in answer["components"]["finality"]
    process.says("finality lags")
    assert told(data, "resume")["paused"] is False
    process.says("finality is back")
    until(lambda: ready(url)[0] == 200, "readiness", process)
    assert process.output().count("finality lags") == 1
    assert ask(url, "dpos_status")["delegate"]["silent"] is None


def test_a_stake_is_streamed_and_becomes_final(node: tuple[Process, str, Path]) -> None:
    """The terminal sends, a WebSocket hears of the event and of the block's being final."""
    process, url, _ = node
    until(lambda: ready(url)[0] == 200, "readiness", process)
    with connect("ws" + url.removeprefix("http")) as socket:
        names = {}
        for stream in (["logs", {"address": to_hex(DPOS_ADDRESS)}], ["finalizedHeads"]):
            socket.send(json.dumps(request("eth_subscribe", stream)))
            names[json.loads(socket.recv(WAIT_S))["result"]] = stream[0]
        assert ask(url, "dpos_account", BOB)["stake"] == "0x0"
        sending = CliRunner().invoke(
            app, ["delegate", "stake", "3ether", "--dev", "1", "--url", url]
        )
        assert sending.exit_code == 0, sending.output
        log, final = None, -1
        while log is None or final < int(log["blockNumber"], 16):
            told = json.loads(socket.recv(WAIT_S))["params"]
            if names[told["subscription"]] == "logs":
                log = told["result"]
                continue
            height = int(told["result"]["number"], 16)
            assert final in (-1, height - 1)  # each block, lowest first
            final = height
    assert log["topics"][1][-40:] == BOB[2:].lower()
    assert ask(url, "eth_getLogs", {"fromBlock": "earliest", "toBlock": "finalized"}) == [log]
    assert ask(url, "dpos_account", BOB, "finalized")["stake"] == hex(3 * 10**18)


def test_a_delegate_that_starts_paused_signs_when_it_is_told_to(tmp_path: Path) -> None:
    data = tmp_path / "data"
    made = CliRunner().invoke(dipnetd.app, ["init", "--data", str(data), "--slot-ms", "200"])
    assert made.exit_code == 0, made.output
    run = ("run", "--data", str(data), "--local", "--rpc-port", "0", "--paused")
    with running(tmp_path / "log", "dipnetd", *run, "--listen", "/ip4/127.0.0.1/tcp/0") as process:
        words = process.says("rpc http://").split()
        url = next(word for word in words if word.startswith("http://"))
        assert str(data) in process.says("signing is paused: dipnet delegate resume --data")
        status = ask(url, "dpos_status")
        assert (status["head"]["height"], status["delegate"]["silent"]) == (0, "paused")
        assert told(data, "resume")["paused"] is False
        until(lambda: ask(url, "dpos_status")["finalized"]["height"], "a final block", process)
