"""One WebSocket connection: answers requests in order and sends notifications of subscriptions.

A client that leaves its notifications unread is cut with a reason, so that it cannot fill memory.
"""

import asyncio
import contextlib
import itertools
from typing import Final

import msgspec
from starlette.websockets import WebSocket, WebSocketDisconnect

from dipnet.node.effects import StreamName
from dipnet.primitives.errors import Invalid
from dipnet.rpc.backend import Backend
from dipnet.rpc.feed import Feed
from dipnet.rpc.jsonrpc import Rpc, Show

SUBSCRIPTIONS_MAX: Final = 64
SEND_S: Final = 30
REASON_CHARS_MAX: Final = 120  # RFC 6455 5.5: a close frame has 125 bytes
TOO_SLOW: Final = 1013  # RFC 6455 registry: try again later

_encode: Final = msgspec.json.Encoder().encode


class WebSocketSession:
    """A client connected by WebSocket; the ``jsonrpc.Session`` of its requests."""

    def __init__(self, rpc: Rpc, socket: WebSocket) -> None:
        self._rpc = rpc
        self._socket = socket
        self._names = (f"0x{number:x}" for number in itertools.count(1))
        self._feeds: dict[str, tuple[Feed, Show]] = {}
        self._unstarted: list[str] = []
        self._pumps: dict[str, asyncio.Task[None]] = {}
        self._sending = asyncio.Lock()
        self._over = False

    @property
    def backend(self) -> Backend:
        """The node."""
        return self._rpc.backend

    def open(self, stream: StreamName, show: Show) -> str:
        """Subscribe; notifications begin after the answer that carries the subscription's id.

        Raises ``Invalid("limit")`` beyond ``SUBSCRIPTIONS_MAX``.
        """
        if len(self._feeds) >= SUBSCRIPTIONS_MAX:
            raise Invalid("limit", f"more than {SUBSCRIPTIONS_MAX} subscriptions")
        name = next(self._names)
        self._feeds[name] = self._rpc.backend.subscribe(stream), show
        self._unstarted.append(name)
        return name

    def close(self, subscription: str) -> bool:
        """Unsubscribe. Raises ``Invalid("not_found")`` for an id that is not subscribed."""
        if subscription not in self._feeds:
            raise Invalid("not_found", "subscription not found")
        self._feeds.pop(subscription)[0].close()
        pump = self._pumps.pop(subscription, None)
        if pump is not None:
            pump.cancel()
        return True

    async def run(self) -> None:
        """Serve until the client leaves or is cut."""
        try:
            await self._socket.accept()
            while True:
                message = await self._socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                raw = message.get("bytes") or (message.get("text") or "").encode()
                answer = await self._rpc.answer(raw, self)
                if answer:
                    await self._send(answer)
                for name in self._unstarted:
                    if name in self._feeds:
                        self._pumps[name] = asyncio.create_task(self._pump(name))
                self._unstarted.clear()
        except (WebSocketDisconnect, TimeoutError):
            return
        finally:
            for name in list(self._feeds):
                self.close(name)

    async def _pump(self, name: str) -> None:
        feed, show = self._feeds[name]
        try:
            while True:
                for shown in show(await feed.next()):
                    params = {"subscription": name, "result": shown}
                    await self._send(
                        _encode({"jsonrpc": "2.0", "method": "eth_subscription", "params": params})
                    )
        except Invalid as error:
            await self._cut(str(error))
        except (WebSocketDisconnect, TimeoutError):
            return
        except Exception as error:
            self._rpc.backend.failed(error)

    async def _send(self, body: bytes) -> None:
        async with self._sending, asyncio.timeout(SEND_S):
            if self._over:  # another subscription has closed the socket meanwhile
                raise WebSocketDisconnect(TOO_SLOW)
            await self._socket.send_text(body.decode())

    async def _cut(self, reason: str) -> None:
        async with self._sending:
            if not self._over:
                self._over = True
                with contextlib.suppress(WebSocketDisconnect):
                    await self._socket.close(TOO_SLOW, reason[:REASON_CHARS_MAX])
