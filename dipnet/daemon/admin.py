"""The admin socket of a node: JSON-RPC, one request a line, for the operator on this machine only.

It is a Unix socket of mode 0600 in the data directory, and the kernel says that the caller is the
user as which the node runs: no web page, no peer and no client of JSON-RPC can pause a delegate.

    admin_pause    sign no more: the node follows the chain and serves, as an observer does
    admin_resume   sign again
    admin_status   the answer of all three: {"paused", "delegate", "votes", "signer"}
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from dipnet.host.unixserver import PrivateServer
from dipnet.host.unixsocket import PrivateListener
from dipnet.primitives.errors import Invalid
from dipnet.rpc import bounds
from dipnet.rpc.jsonrpc import error_body, result_body
from dipnet.sdk.admin_client import LINE_BYTES_MAX

CLIENTS_MAX: Final = 8
LINE_S: Final = 10.0
METHOD_CHARS_MAX: Final = 64

Methods = Mapping[str, Callable[[], Awaitable[dict[str, Any]]]]
"""Methods by name. They run in the thread of the event loop and end within ``LINE_S``."""


async def answer_to(line: bytes, methods: Methods) -> bytes:
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
        return result_body(await methods[name](), number)
    except Invalid as error:
        return error_body(error, number)


class AdminSocket:
    """Listens from ``start`` to ``stop``."""

    def __init__(self, path: Path, methods: Methods) -> None:
        """``Invalid`` when the path cannot be used or another process listens there."""
        self._methods = methods
        listener = PrivateListener(path)
        self._server = PrivateServer(listener, "admin", self._answer_all, CLIENTS_MAX)

    async def start(self) -> None:
        """Answers from now on, in this event loop."""
        await self._server.start(LINE_BYTES_MAX)

    async def stop(self) -> None:
        """Closes on all callers and removes the socket."""
        await self._server.stop()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(LINE_S):
                line = await reader.readuntil(b"\n")
                writer.write(await answer_to(line, self._methods) + b"\n")
                await writer.drain()
