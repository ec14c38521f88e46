"""The socket door: a real port in a running loop, WebSockets, and connections that misbehave."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dipnet.node.work import ClientTxs
from dipnet.primitives.codec import to_hex
from dipnet.primitives.errors import Invalid
from dipnet.rpc import feed, listen, websocket
from dipnet.rpc.bounds import BODY_BYTES_MAX
from dipnet.rpc.listen import Listener, serve
from dipnet.rpc.server import Access, application
from tests.fixtures.chain_builder import USERS, transfer
from tests.fixtures.rpc_node import Node

HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CALL = b'{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber"}'
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(CALL) + CALL


def with_node(
    run: Callable[[Node, Listener], Awaitable[None]], access: Access | None = None
) -> None:
    """Run a test against a node that listens on a free port."""

    async def main() -> None:
        node = Node()
        listener = await serve(application(node, access or Access()), "127.0.0.1", 0)
        try:
            async with asyncio.timeout(30):
                await run(node, listener)
        finally:
            await listener.stop()
        assert not node.bugs

    asyncio.run(main())


def url(listener: Listener) -> str:
    return f"ws://127.0.0.1:{listener.port}/"


async def call(client: ClientConnection, method: str, *params: object) -> Any:
    await client.send(json.dumps({"jsonrpc": "2.0", "id": 9, "method": method, "params": params}))
    return json.loads(await client.recv())


async def answer_to(listener: Listener, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    writer.write(sent)
    try:
        return await reader.read(1 << 16)
    finally:
        writer.close()


async def read_to_the_end(client: ClientConnection) -> None:
    while True:
        await client.recv()


# --- listening


def test_answers_on_the_port_it_names() -> None:
    async def run(node: Node, listener: Listener) -> None:
        assert b'"result":"0x0"' in await answer_to(listener, WHOLE)

    with_node(run)


def test_a_busy_port_is_a_sentence() -> None:
    async def run(node: Node, listener: Listener) -> None:
        with pytest.raises(Invalid) as refused:
            await serve(application(node, Access()), "127.0.0.1", listener.port)
        assert refused.value.code == "config"
        assert f"port {listener.port} is busy" in str(refused.value)
        assert "--rpc-port" in str(refused.value)

    with_node(run)


def test_a_foreign_address_cannot_be_listened_on() -> None:
    with pytest.raises(Invalid) as refused:
        asyncio.run(serve(application(Node(), Access()), "192.0.2.1", 0))
    assert "cannot listen on 192.0.2.1" in str(refused.value)


def test_the_port_is_free_after_stop_with_clients_connected() -> None:
    async def main() -> None:
        listener = await serve(application(Node(), Access()), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(HEAD + b"Content-Length: 10\r\n\r\n")  # the body never comes
        async with connect(url(listener)) as client:
            async with asyncio.timeout(10):
                await listener.stop()
            with pytest.raises(ConnectionClosed):
                await client.recv()
        writer.close()
        again = socket.create_server(("127.0.0.1", listener.port))
        again.close()

    asyncio.run(main())


# --- connections that misbehave


def test_garbage_and_headers_without_end() -> None:
    async def run(node: Node, listener: Listener) -> None:
        assert b" 400 " in await answer_to(listener, b"\x16\x03\x01 garbage\r\n\r\n")
        long = HEAD + b"X: " + b"a" * (listen.HEAD_BYTES_MAX + 1)
        assert b" 431 " in await answer_to(listener, long)
        assert b'"result"' in await answer_to(listener, WHOLE)

    with_node(run)


def test_slow_headers_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "HEADERS_S", 0.05)

    async def run(node: Node, listener: Listener) -> None:
        for sent in (b"", b"POST / HT", HEAD):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(sent)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        assert b'"result"' in await answer_to(listener, WHOLE)

    with_node(run)


def test_too_many_connections_are_turned_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "CONNECTIONS_MAX", 2)

    async def run(node: Node, listener: Listener) -> None:
        async with connect(url(listener)), connect(url(listener)):
            assert b" 503 " in await answer_to(listener, b"")
        while b'"result"' not in await answer_to(listener, WHOLE):
            pass  # until the server has seen both clients leave

    with_node(run)


# --- WebSocket


def test_calls_and_batches() -> None:
    async def run(node: Node, listener: Listener) -> None:
        async with connect(url(listener)) as client:
            assert (await call(client, "eth_chainId"))["result"] == "0x7e2"
            batch = [{"jsonrpc": "2.0", "id": n, "method": "eth_blockNumber"} for n in range(3)]
            await client.send(json.dumps(batch).encode())
            assert [answer["id"] for answer in json.loads(await client.recv())] == [0, 1, 2]
            for garbage in ("", "{", "[", "null", b"\xff\xfe"):
                await client.send(garbage)
                assert json.loads(await client.recv())["error"]["code"] in (-32700, -32600)

    with_node(run)


def test_a_message_too_long_ends_the_connection() -> None:
    async def run(node: Node, listener: Listener) -> None:
        async with connect(url(listener)) as client:
            await client.send(" " * (BODY_BYTES_MAX + 1))
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009

    with_node(run)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost", "x" * 999])
def test_a_foreign_origin_is_refused(origin: str) -> None:
    async def run(node: Node, listener: Listener) -> None:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(url(listener), additional_headers={"Origin": origin}):
                pass
        assert refused.value.response.status_code == 403
        assert json.loads(refused.value.response.body)["error"]["data"]["code"] == "origin"

    with_node(run)


def test_the_own_and_the_configured_origins_come_in() -> None:
    async def run(node: Node, listener: Listener) -> None:
        for origin in (f"http://127.0.0.1:{listener.port}", "https://app.example"):
            async with connect(url(listener), additional_headers={"Origin": origin}) as client:
                assert (await call(client, "eth_chainId"))["result"]

    with_node(run, Access(origins=("https://app.example",)))


def test_a_foreign_host_is_refused() -> None:
    async def run(node: Node, listener: Listener) -> None:
        with pytest.raises(InvalidStatus) as refused:
            async with connect(f"ws://evil.example:{listener.port}/", host="127.0.0.1"):
                pass
        assert refused.value.response.status_code == 403

    with_node(run)


# --- subscriptions


def test_heads_transactions_and_vertices_arrive() -> None:
    async def run(node: Node, listener: Listener) -> None:
        async with connect(url(listener)) as client:
            heads = (await call(client, "eth_subscribe", "newHeads"))["result"]
            txs = (await call(client, "eth_subscribe", "newPendingTransactions"))["result"]
            assert heads != txs
            tx = transfer(USERS[0], 0)
            await node.submit(ClientTxs((tx.raw,)))
            noted = json.loads(await client.recv())
            assert noted["method"] == "eth_subscription"
            assert noted["params"] == {"subscription": txs, "result": to_hex(tx.hash)}
            block = node.produce()
            noted = json.loads(await client.recv())["params"]
            assert (noted["subscription"], noted["result"]["hash"]) == (heads, to_hex(block.hash))
            assert (await call(client, "eth_unsubscribe", heads))["result"] is True
            refused = (await call(client, "eth_unsubscribe", heads))["error"]
            assert refused["message"].endswith("subscription not found")
            node.produce()
            assert (await call(client, "eth_blockNumber"))["result"] == "0x2"
        while node.feeds.listeners("newPendingTransactions"):  # a client that leaves is forgotten
            await answer_to(listener, WHOLE)

    with_node(run)


def test_subscriptions_are_bounded_and_known_by_name() -> None:
    async def run(node: Node, listener: Listener) -> None:
        async with connect(url(listener)) as client:
            refused = (await call(client, "eth_subscribe", "blocks"))["error"]
            assert refused["data"]["code"] == "params"
            filtered = await call(client, "eth_subscribe", "newHeads", {"topic": "0x" + "1" * 32})
            assert filtered["error"]["data"]["code"] == "params"
            for _ in range(websocket.SUBSCRIPTIONS_MAX):
                assert (await call(client, "eth_subscribe", "newHeads"))["result"]
            refused = (await call(client, "eth_subscribe", "newHeads"))["error"]
            assert refused["data"]["code"] == "limit"
            assert node.feeds.listeners("newHeads") == websocket.SUBSCRIPTIONS_MAX

    with_node(run)


def test_a_client_that_was_cut_may_go_on_talking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "WAITING_ITEMS_MAX", 1)

    async def run(node: Node, listener: Listener) -> None:
        for _ in range(5):
            async with connect(url(listener)) as client:
                await call(client, "eth_subscribe", "newHeads")
                await call(client, "eth_subscribe", "newHeads")
                await client.send(CALL)
                for _ in range(3):
                    node.produce()
                with pytest.raises(ConnectionClosed):
                    await read_to_the_end(client)
        assert node.feeds.listeners("newHeads") == 0

    with_node(run)


def test_a_client_that_vanishes_is_no_bug() -> None:
    async def run(node: Node, listener: Listener) -> None:
        for subscribed in (False, True):
            client = await connect(url(listener))
            if subscribed:
                await call(client, "eth_subscribe", "newHeads")
            await client.send(CALL)
            client.transport.abort()
            node.produce()
        for sent in (WHOLE, HEAD + b"Content-Length: 10\r\n\r\n{", WHOLE[:-3]):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            writer.write(sent)
            await writer.drain()
            writer.transport.abort()
        while node.feeds.listeners("newHeads"):
            node.produce()
            assert b'"result"' in await answer_to(listener, WHOLE)

    with_node(run)


def test_a_subscriber_that_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "WAITING_ITEMS_MAX", 3)

    async def run(node: Node, listener: Listener) -> None:
        async with connect(url(listener)) as client:
            await call(client, "eth_subscribe", "newHeads")
            for _ in range(5):  # the loop gets no turn to send the messages
                node.produce()
            with pytest.raises(ConnectionClosed) as closed:
                await read_to_the_end(client)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == websocket.TOO_SLOW
            assert "unread" in closed.value.rcvd.reason
        assert node.feeds.listeners("newHeads") == 0

    with_node(run)
