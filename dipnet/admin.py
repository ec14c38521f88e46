"""The admin socket of a node: JSON-RPC, one request a line, for the operator on this machine only.

It is a Unix socket of mode 0600 in the data directory, and the kernel says that the caller is the
user whom the node runs as; so nothing that a web page, a peer or the port of JSON-RPC reaches can
pause a delegate.

    admin_pause    sign no more: the node follows the chain and serves, as an observer does
    admin_resume   sign again
    admin_status   both answer with this: {"paused", "delegate", "votes", "signer"}
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from dipnet.admin_client import LINE_BYTES_MAX
from dipnet.errors import Invalid
from dipnet.rpc import bounds
from dipnet.rpc.jsonrpc import error_body, result_body
from dipnet.unixsocket import PrivateListener, is_same_user

log = logging.getLogger("dipnet")

CLIENTS_MAX: Final = 8
LINE_S: Final = 10.0
METHOD_CHARS_MAX: Final = 64

Methods = Mapping[str, Callable[[], dict[str, Any]]]
"""What each method does; all of them run in the event loop's thread and answer at once."""


def answer_to(line: bytes, methods: Methods) -> bytes:
    """The answer to one line."""
    number = b"null"
    try:
        request = bounds.load(line)
        if not isinstance(request, dict) or type(request.get("id")) is not int:
            raise Invalid("request", "want an object with an integer id")
        number = b"%d" % request["id"]
        name = request.get("method")
        if request.get("params", []) != []:
            raise Invalid("params", "these methods have none")
        if not isinstance(name, str) or name not in methods:
            raise Invalid("method", str(name)[:METHOD_CHARS_MAX])
        return result_body(methods[name](), number)
    except Invalid as error:
        return error_body(error, number)


class AdminSocket:
    """Listens from ``start`` to ``stop``."""

    def __init__(self, path: Path, methods: Methods) -> None:
        """``Invalid`` when the path is not usable or another process listens there."""
        self._methods = methods
        self._listener = PrivateListener(path)
        self._clients: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Answers from now on, in this event loop."""
        self._server = await asyncio.start_unix_server(
            self._serve, sock=self._listener.socket, limit=LINE_BYTES_MAX
        )

    async def stop(self) -> None:
        """Closes on all callers and removes the socket."""
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._clients) >= CLIENTS_MAX:
                log.warning("refused an admin call: %d are there", CLIENTS_MAX)
            elif not is_same_user(writer.get_extra_info("socket")):
                log.warning("refused an admin call of another user")
            else:
                self._clients.add(task)
                await self._answer_all(reader, writer)
        except (
            OSError,
            EOFError,
            ValueError,
            TimeoutError,
        ) as error:  # ValueError: a line too long
            log.debug("an admin caller is gone: %s", error)
        except asyncio.CancelledError:
            log.debug("an admin caller is closed on")
        finally:
            self._clients.discard(task)
            with contextlib.suppress(OSError):
                writer.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(LINE_S):
                line = await reader.readuntil(b"\n")
                writer.write(answer_to(line, self._methods) + b"\n")
                await writer.drain()
