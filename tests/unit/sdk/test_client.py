"""The JSON-RPC client against servers that answer well, badly, or not at all."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dipnet.primitives.errors import Invalid
from dipnet.sdk.client import Client, refusal


class Answers(BaseHTTPRequestHandler):
    """Answers a request with ``answer(request)``; None ends the connection."""

    protocol_version = "HTTP/1.1"
    answer: Any = None
    cut = 0  # bytes that are announced and never sent

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        assert self.headers["content-type"] == "application/json"
        body = type(self).answer(request)
        if body is None:
            self.close_connection = True
            return
        self.send_response(200)
        self.close_connection = type(self).cut > 0
        self.send_header("content-length", str(len(body) + type(self).cut))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(name="server")
def _server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.block_on_close = False
    server.server_close()


def client(server: ThreadingHTTPServer, answer: Any) -> Client:
    Answers.answer = staticmethod(answer)
    return Client(f"http://127.0.0.1:{server.server_address[1]}", timeout_s=10)


def reply(request: Any) -> Any:
    if request["method"] == "fail":
        error = {"code": -32000, "message": "nonce too low: 3 < 4", "data": {"code": "nonce_low"}}
        return {"jsonrpc": "2.0", "id": request["id"], "error": error}
    return {"jsonrpc": "2.0", "id": request["id"], "result": request["params"]}


def refused(call: Any, *args: Any) -> Invalid:
    with pytest.raises(Invalid) as error:
        call(*args)
    return error.value


def test_calls_and_refusals(server: ThreadingHTTPServer) -> None:
    with client(server, lambda request: json.dumps(reply(request)).encode()) as caller:
        assert caller.call("echo", 1, "a") == [1, "a"]
        error = refused(caller.call, "fail")
        assert (error.code, str(error)) == ("nonce_low", "nonce too low: 3 < 4")


def test_a_batch_in_any_order(server: ThreadingHTTPServer) -> None:
    shuffled = client(server, lambda batch: json.dumps([reply(r) for r in batch[::-1]]).encode())
    first, second, third = shuffled.batch([("echo", (1,)), ("fail", ()), ("echo", (3,))])
    assert (first, second.code, third) == ([1], "nonce_low", [3])
    assert shuffled.batch([]) == []
    partial = client(server, lambda batch: json.dumps([reply(batch[0])]).encode())
    assert partial.batch([("echo", (1,)), ("echo", (2,))])[1].code == "remote"
    shuffled.close()
    partial.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"7",
        b"[" * 100_000,
        b'{"jsonrpc"',
        b"\xff",
        b"null",
        b"{}",
        b"[]",
        b'[{"id": []}]',
    ],
)
def test_garbage(server: ThreadingHTTPServer, body: bytes) -> None:
    with client(server, lambda request: body) as caller:
        assert refused(caller.call, "echo").code == "remote"


def test_a_refused_batch(server: ThreadingHTTPServer) -> None:
    error = {"error": {"code": -32005, "message": "limit exceeded", "data": {"code": "limit"}}}
    with client(server, lambda request: json.dumps(error).encode()) as caller:
        assert refused(caller.batch, [("echo", ())]).code == "limit"


def test_no_answer(server: ThreadingHTTPServer) -> None:
    with client(server, lambda request: None) as caller:
        assert refused(caller.call, "echo").code == "unreachable"
    with Client("http://127.0.0.1:1", timeout_s=5) as caller:
        error = refused(caller.call, "echo")
    assert error.code == "unreachable"
    assert "http://127.0.0.1:1" in str(error)


@pytest.mark.parametrize("body", [b"", b'{"jsonrpc":'])
def test_an_answer_that_was_cut_is_none(
    server: ThreadingHTTPServer, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client waits for a node that was killed while it answered: a cut answer is no false
    answer."""
    monkeypatch.setattr(Answers, "cut", 9)
    with client(server, lambda request: body) as caller:
        assert refused(caller.call, "echo").code == "unreachable"
        monkeypatch.setattr(Answers, "cut", 0)
        Answers.answer = staticmethod(lambda request: json.dumps(reply(request)).encode())
        assert caller.call("echo", 1) == [1]


def test_a_connection_that_ended_while_idle_is_opened_again(server: ThreadingHTTPServer) -> None:
    turns = iter([True, False, True])

    def answer(request: Any) -> bytes | None:
        return json.dumps(reply(request)).encode() if next(turns) else None

    with client(server, answer) as caller:
        assert caller.call("echo", 1) == [1]
        assert caller.call("echo", 2) == [2]


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8545", "ftp://x", "http://", "http://h:99999", "http://u:p@h", "http://[::"],
)
def test_urls_that_are_none(url: str) -> None:
    assert refused(Client, url).code == "config"


@pytest.mark.parametrize(
    "error", [None, [], "x", {}, {"data": {"code": "no such"}}, {"data": {"code": []}}]
)
def test_any_error_object_is_a_refusal(error: object) -> None:
    assert refusal(error).code == "remote"
