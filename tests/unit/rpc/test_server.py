"""The HTTP door: hosts and origins that may call, limits, answers about the node."""

import asyncio
from typing import Any

import httpx
import pytest

from dipnet.rpc import server
from dipnet.rpc.bounds import BODY_BYTES_MAX
from dipnet.rpc.server import Access, application
from tests.fixtures.rpc_node import Node

JSON = {"content-type": "application/json"}
CALL = b'{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}'


def ask(
    method: str = "POST",
    path: str = "/",
    content: Any = CALL,
    headers: dict[str, str] | None = None,
    access: Access | None = None,
    node: Node | None = None,
) -> httpx.Response:
    async def run() -> httpx.Response:
        app = application(node or Node(), access or Access())
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            body = content if method == "POST" else None
            return await client.request(
                method, path, content=body, headers=JSON if headers is None else headers
            )

    return asyncio.run(run())


def code(response: httpx.Response) -> str:
    return str(response.json()["error"]["data"]["code"])


def test_a_call() -> None:
    response = ask()
    assert (response.status_code, response.headers["content-type"]) == (200, JSON["content-type"])
    assert response.json() == {"jsonrpc": "2.0", "id": 1, "result": "0x7e2"}


def test_a_notification_has_no_answer() -> None:
    response = ask(content=b'{"jsonrpc":"2.0","method":"eth_chainId"}')
    assert (response.status_code, response.content) == (204, b"")


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:8545", "127.0.0.1:1", "[::1]:8545", "[::1]", "node.example:80",
     "NODE.example"],
)  # fmt: skip
def test_known_hosts(host: str) -> None:
    access = Access(hosts=("Node.Example",))
    assert ask(headers=JSON | {"host": host}, access=access).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "evil:80", "127.0.0.2",
     "[::1", "[::2]:80", "localhost@evil.example", "evil/localhost", "x" * 5000],
)  # fmt: skip
def test_foreign_hosts(host: str) -> None:
    for path in ("/", "/metrics", "/livez", "/nowhere"):
        response = ask("GET", path, headers={"host": host})
        assert (response.status_code, code(response)) == (403, "host")
    for method, path, status in (("POST", "/", 415), ("GET", "/nowhere", 404), ("PUT", "/", 405)):
        headers = {"host": host}
        response = ask(method, path, headers=headers, access=Access(hosts=("*",)))
        assert (response.status_code, code(response)) == (status, "http")


@pytest.mark.parametrize(
    "media", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "json"]
)
def test_other_media_types(media: str) -> None:
    response = ask(headers={"content-type": media})
    assert (response.status_code, code(response)) == (415, "http")


def test_media_type_with_a_parameter() -> None:
    assert ask(headers={"content-type": "Application/JSON; charset=utf-8"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/livez", 405), ("PUT", "/", 405), ("GET", "/nowhere", 404), ("POST", "/x", 404),
     ("DELETE", "/", 405), ("OPTIONS", "/", 405)],
)  # fmt: skip
def test_no_such_door(method: str, path: str, status: int) -> None:
    response = ask(method, path)
    assert (response.status_code, code(response)) == (status, "http")


def test_a_body_that_says_it_is_too_long_is_not_read() -> None:
    for length in (BODY_BYTES_MAX + 1, 10**30):
        reads, status = run_raw([(b"content-length", str(length).encode())], b" ")
        assert (reads, status) == (0, 413)


def test_a_long_body_is_not_read_to_its_end() -> None:
    reads, status = run_raw([], b" " * (BODY_BYTES_MAX // 4))
    assert (reads, status) == (5, 413)


def run_raw(headers: list[tuple[bytes, bytes]], part: bytes, pause_s: float = 0) -> tuple[int, int]:
    """Posts an endless body of ``part``s; returns how many parts were read, and the status."""
    reads, statuses = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal reads
        reads += 1
        await asyncio.sleep(pause_s)
        return {"type": "http.request", "body": part, "more_body": True}

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "path": "/", "raw_path": b"/", "root_path": "", "scheme": "http", "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json"), *headers],
        "client": None, "server": None,
    }  # fmt: skip
    asyncio.run(application(Node(), Access())(scope, receive, send))
    return reads, statuses[0]


def test_the_longest_body_is_read() -> None:
    assert ask(content=CALL + b" " * (BODY_BYTES_MAX - len(CALL))).status_code == 200


def test_a_slow_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_S", 0.01)
    assert run_raw([], b"{", pause_s=30) == (1, 413)


def test_no_cors_unless_configured() -> None:
    origin = {"origin": "https://app.example"}
    assert "access-control-allow-origin" not in ask(headers=JSON | origin).headers
    access = Access(origins=("https://app.example",))
    allowed = ask(headers=JSON | origin, access=access)
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    other = ask(headers=JSON | {"origin": "https://evil.example"}, access=access)
    assert "access-control-allow-origin" not in other.headers


def test_a_get_request_describes_the_node() -> None:
    about = ask("GET").json()
    assert about["chainId"] == 2018
    assert about["client"].startswith("dipnet/")


def test_health() -> None:
    node = Node()
    assert ask("GET", "/livez").status_code == 200
    assert ask("GET", "/readyz", node=node).json()["ready"] is True
    node.complaints["peers"] = "no peer for 60 s"
    response = ask("GET", "/readyz", node=node)
    assert response.status_code == 503
    assert response.json()["components"] == {"store": None, "peers": "no peer for 60 s"}
    assert ask("GET", "/livez", node=node).status_code == 200


def test_metrics_have_gauges_and_a_bounded_set_of_labels() -> None:
    async def run() -> str:
        node = Node()
        node.produce()
        transport = httpx.ASGITransport(application(node, Access()))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            for method in ("eth_chainId", "evil\n{}", "eth_foo"):
                call = {"jsonrpc": "2.0", "id": 1, "method": method}
                await client.post("/", json=call)
            for _ in range(2):  # a scrape changes nothing and can be repeated
                text = (await client.get("/metrics")).text
            return text

    lines = asyncio.run(run()).splitlines()
    assert "dipnet_head_height 1.0" in lines
    assert 'dipnet_pool_txs{state="pending"} 0.0' in lines
    assert 'dipnet_rpc_requests_total{error="",method="eth_chainId"} 1.0' in lines
    assert 'dipnet_rpc_requests_total{error="method",method="other"} 2.0' in lines
    assert all(line.startswith(("dipnet_", "# ")) for line in lines)
    assert not [line for line in lines if "evil" in line]


def test_a_bug_is_coded_and_reported() -> None:
    node = Node()
    node.health = lambda: 1 // 0  # type: ignore[method-assign,assignment,return-value]
    response = ask("GET", "/readyz", node=node)
    assert (response.status_code, code(response)) == (500, "internal")
    assert [type(bug) for bug in node.bugs] == [ZeroDivisionError]
