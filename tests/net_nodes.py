"""Nodes and strangers over real sockets on loopback, for the tests of the peer layer."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable

from dipnet.effects import Connected
from dipnet.libp2p_host import SERVED
from dipnet.libp2p_link import (
    Mux,
    Socket,
    Stream,
    accept_stream,
    key_pair,
    negotiate,
    noise,
    parse_address,
    upgrade,
)
from dipnet.mailbox import Event
from dipnet.net import Net, peer_id

PATIENCE_S = 30  # only a hang waits so long
THROWN_OUT = (BaseLibp2pError, trio.ClosedResourceError, trio.BrokenResourceError)
IDLE_TASKS = 5  # trio's two, the host, its server, its listener
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
KEYS = sorted(
    (bytes([n]) * 32 for n in range(1, 9)), key=lambda k: ID.from_base58(peer_id(k))._bytes
)


class Node:
    """A Net, what it told, and waits for it."""

    def __init__(self, key: bytes, **options: Any) -> None:
        self.events: list[Event] = []
        self.failures: list[str] = []
        self._told = asyncio.Event()
        self.net = Net(
            secret=key,
            listen=options.pop("listen", LOOPBACK),
            on_event=self.tell,
            on_failure=self.failures.append,
            **options,
        )
        self.id, addresses = self.net.start()
        (self.address,) = addresses

    def tell(self, event: Event) -> None:
        self.events.append(event)
        self._told.set()

    def seen(self, kind: type[Event], **fields: object) -> list[Any]:
        return [
            e
            for e in self.events
            if isinstance(e, kind) and all(getattr(e, k) == v for k, v in fields.items())
        ]

    async def until(self, kind: type[Event], count: int = 1, **fields: object) -> Any:
        """The ``count``-th such event."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.seen(kind, **fields)) < count:
                self._told.clear()
                await self._told.wait()
        return self.seen(kind, **fields)[count - 1]

    async def poll(self, done: Callable[[], Awaitable[bool]]) -> None:
        """For what no event tells."""
        async with asyncio.timeout(PATIENCE_S):
            while not await done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def in_trio(self, ask: Callable[[], Any]) -> Any:
        answer = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        self.net._in_trio(lambda: loop.call_soon_threadsafe(answer.set_result, ask()) and None)
        return await asyncio.wait_for(answer, PATIENCE_S)


@asynccontextmanager
async def nodes(count: int, **options: Any) -> AsyncIterator[list[Node]]:
    """``count`` nodes, in rising order of their peer ids."""
    started: list[Node] = []
    try:
        started.extend(Node(key, **options) for key in KEYS[:count])
        yield started
    finally:
        for node in started:
            await asyncio.to_thread(node.net.stop)
            assert not node.net._thread.is_alive()
            assert node.failures == []


async def connect(a: Node, b: Node, count: int = 1) -> None:
    a.net.dial(b.address)
    await a.until(Connected, count, peer=b.id)
    await b.until(Connected, count, peer=a.id)


def run(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def wrapped() -> None:
        asyncio.run(test())  # type: ignore[arg-type]

    wrapped.__name__ = test.__name__
    wrapped.__doc__ = test.__doc__
    return wrapped


Script = Callable[[Mux], Awaitable[Any]]


async def agree_to_all(mux: Mux, nursery: trio.Nursery) -> None:
    while True:
        try:
            stream = await accept_stream(mux)
        except MuxedConnUnavailable:
            return
        nursery.start_soon(agree, stream)


async def agree(stream: Stream) -> None:
    with contextlib.suppress(BaseLibp2pError):
        await negotiate(stream, SERVED, ask=False)


async def rude(node: Node, script: Script, key: bytes | None = None) -> None:
    """A ``stranger`` that expects to be thrown out at any moment."""

    async def until_thrown_out(mux: Mux) -> None:
        with contextlib.suppress(*THROWN_OUT):
            try:
                await script(mux)
            except ExceptionGroup as group:
                if group.split(THROWN_OUT)[1] is not None:
                    raise

    with contextlib.suppress(*THROWN_OUT):
        await stranger(node, until_thrown_out, key)


async def stranger(node: Node, script: Script, key: bytes | None = None) -> Any:
    """Runs ``script`` on an authenticated libp2p connection to ``node``, in a thread of its own."""
    host, port, peer = parse_address(node.address)

    async def main() -> Any:
        tcp = await trio.open_tcp_stream(host, port)
        security = noise(key_pair(key or secrets.token_bytes(32)))
        async with tcp:
            mux = await upgrade(Socket(tcp, True), security, ID.from_base58(peer))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mux.start)
                nursery.start_soon(agree_to_all, mux, nursery)
                await mux.event_started.wait()
                result = await script(mux)
                nursery.cancel_scope.cancel()
        return result

    return await asyncio.to_thread(trio.run, main)


async def closed(mux: Mux) -> None:
    with trio.fail_after(PATIENCE_S):
        await mux.event_shutting_down.wait()
