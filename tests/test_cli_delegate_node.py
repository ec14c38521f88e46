"""``dipnet delegate pause`` and ``resume`` on a real node: the alarm of finality and its end."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from dipnet.cli import app
from tests.processes import Process, ask, dev_url, running, until


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


def ready(url: str) -> tuple[int, Any]:
    """What /readyz answers."""
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
