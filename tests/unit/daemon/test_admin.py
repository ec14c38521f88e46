"""The admin socket: bounded lines, the three methods, and the client that a program calls."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from dipnet.daemon.admin import AdminSocket, answer_to
from dipnet.host.unixsocket import connect
from dipnet.primitives.errors import Invalid
from dipnet.sdk.admin_client import LINE_BYTES_MAX, SOCKET_NAME, admin_call
from tests.fixtures.processes import WAIT_S


async def paused() -> dict[str, Any]:
    return {"paused": True}


METHODS = {"admin_status": paused}


def answer(line: bytes) -> dict[str, Any]:
    return dict(json.loads(asyncio.run(answer_to(line, METHODS))))


def call(**members: Any) -> dict[str, Any]:
    request = {"jsonrpc": "2.0", "id": 7, "method": "admin_status"} | members
    return answer(json.dumps(request).encode())


def test_a_method_is_answered() -> None:
    assert call() == {"jsonrpc": "2.0", "id": 7, "result": {"paused": True}}
    assert call(params=[])["result"] == {"paused": True}


def test_malformed_requests_are_refused() -> None:
    assert call(method="admin_stop")["error"]["data"]["code"] == "method"
    assert call(method=["admin_status"])["error"]["data"]["code"] == "method"
    assert call(params=[1])["error"]["data"]["code"] == "params"
    assert call(id="x")["error"]["data"]["code"] == "request"
    assert answer(b"[]")["error"]["data"]["code"] == "request"
    assert answer(b"{")["error"]["data"]["code"] == "parse"


@given(st.binary(max_size=80) | st.text('[]{}",:0123456789id method', max_size=60).map(str.encode))
def test_any_line_has_an_answer(line: bytes) -> None:
    assert "error" in answer(line)


def with_a_socket(path: Path, act: Callable[[], Any]) -> Any:
    """The result of ``act``, which runs in another thread while the socket is served."""

    async def run() -> Any:
        admin = AdminSocket(path, METHODS)
        await admin.start()
        try:
            return await asyncio.get_running_loop().run_in_executor(None, act)
        finally:
            await admin.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def test_a_program_calls(tmp_path: Path) -> None:
    path = tmp_path / SOCKET_NAME
    assert with_a_socket(path, lambda: admin_call(path, "admin_status")) == {"paused": True}
    assert not path.exists()

    def wrong() -> str:
        with pytest.raises(Invalid) as caught:
            admin_call(path, "admin_stop")
        return caught.value.code

    assert with_a_socket(path, wrong) == "method"
    with pytest.raises(Invalid) as caught:
        admin_call(path, "admin_status")
    assert caught.value.code == "unreachable"


def test_it_is_private_and_a_long_line_is_closed_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / SOCKET_NAME

    def act() -> None:
        assert path.stat().st_mode & 0o777 == 0o600
        with connect(path, WAIT_S) as connection:
            connection.sendall(b" " * (LINE_BYTES_MAX + 1))
            assert connection.recv(1) == b""
        with connect(path, WAIT_S) as two:
            two.sendall(b'{"id":1,"method":"admin_status"}\n{"id":2,"method":"admin_status"}\n')
            with two.makefile("rb") as lines:
                assert [json.loads(lines.readline())["id"] for _ in range(2)] == [1, 2]
        connect(path, WAIT_S).close()

    with caplog.at_level("WARNING", "dipnet"):
        with_a_socket(path, act)
    # the event loop logged no traceback
    assert {record.name for record in caplog.records} == {"dipnet"}
    assert "admin: closed on a caller" in caplog.text


def test_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / SOCKET_NAME
    monkeypatch.setattr("dipnet.host.unixserver.is_same_user", lambda connected: False)

    def act() -> None:
        with connect(path, WAIT_S) as connection:
            assert connection.recv(1) == b""

    with_a_socket(path, act)
