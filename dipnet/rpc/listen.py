"""The listening socket: uvicorn in the daemon's event loop, with timeouts that uvicorn lacks.

A client that sends its headers or reads its answer too slowly loses its connection. Beyond
``CONNECTIONS_MAX`` a new connection is refused at once, so that sockets and memory stay bounded.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from dipnet.primitives.errors import Invalid
from dipnet.rpc.bounds import BODY_BYTES_MAX

CONNECTIONS_MAX: Final = 100
HEADERS_S: Final = 10
IDLE_S: Final = 60
DRAIN_S: Final = 30
STOP_S: Final = 1
HEAD_BYTES_MAX: Final = 64 << 10
PING_S: Final = 20
MESSAGES_WAITING_MAX: Final = 8
_TURNED_AWAY: Final = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\n"
_HEAD_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\n\r\n"
)


class _Deadline:
    """At most one deadline on a connection; when it passes, the transport is aborted."""

    _timer: asyncio.TimerHandle | None = None
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport

    def _expect(self, seconds: int) -> None:
        self._relax()
        self._timer = self.loop.call_later(seconds, self._cut)

    def _relax(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cut(self) -> None:
        self.transport.abort()


class BoundedHttp(_Deadline, HttpToolsProtocol):
    """uvicorn's HTTP connection, with bounds on headers and on unread answers."""

    _head_bytes = 0  # of incomplete headers; -1 from their end to the next message

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            transport.write(_TURNED_AWAY)
            transport.close()
            return
        self._expect(HEADERS_S)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head_bytes >= 0:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
                self.transport.write(_HEAD_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._expect(HEADERS_S)

    def on_headers_complete(self) -> None:
        self._head_bytes = -1
        self._relax()
        super().on_headers_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect(DRAIN_S)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._relax()

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        super().connection_lost(exc)


class BoundedWebSocket(_Deadline, WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, cut if the client does not read for ``DRAIN_S``."""

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect(DRAIN_S)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._relax()

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        super().connection_lost(exc)


class _Embedded(uvicorn.Server):
    """A uvicorn server that leaves signals to the daemon and tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Listener:
    """A server that listens on ``port``, which is the real port if 0 was asked for."""

    def __init__(self, server: uvicorn.Server, task: asyncio.Task[None], port: int) -> None:
        self.port = port
        self._server = server
        self._task = task

    async def stop(self) -> None:
        """Refuse new connections, give running requests ``STOP_S`` to end, cut the rest."""
        self._server.should_exit = True
        await self._task
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(CONNECTIONS_MAX)  # now, so that two programs cannot both take the port
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise Invalid(
                "config",
                f"port {port} is busy on {host}; stop the program that has it, or choose another "
                "with --rpc-port",
            ) from error
        raise Invalid("config", f"cannot listen on {host} port {port}: {error.strerror}") from error
    bound.setblocking(False)
    return bound


async def serve(app: ASGIApp, host: str, port: int) -> Listener:
    """Serve ``app`` on host and port in the running event loop; port 0 takes a free port.

    Raises ``Invalid("config")`` when the address is not available.
    """
    bound = _bind(host, port)
    server = _Embedded(
        uvicorn.Config(
            app,
            loop="none",
            http=BoundedHttp,
            ws=BoundedWebSocket,
            ws_max_size=BODY_BYTES_MAX,
            ws_max_queue=MESSAGES_WAITING_MAX,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            ws_per_message_deflate=False,  # the size limit holds for the bytes sent: no bombs
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=STOP_S,
        )
    )
    task = asyncio.create_task(server.serve([bound]))
    listening = asyncio.create_task(server.listening.wait())
    await asyncio.wait((task, listening), return_when=asyncio.FIRST_COMPLETED)
    listening.cancel()
    if task.done():  # it failed to listen: raise its error
        task.result()
    return Listener(server, task, bound.getsockname()[1])
