"""A server on a private socket, for the signer's process and the node's admin socket.

Both listen for programs of the same user on this machine. A caller of another user, or beyond
``callers_max``, is disconnected at once. A caller that breaks off or sends garbage loses its own
connection only. ``stop`` waits until all callers are disconnected.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from dipnet.host.unixsocket import PrivateListener, is_same_user
from dipnet.primitives.errors import Invalid

log = logging.getLogger("dipnet")

AnswerAll: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Serves one caller. Ends with ``OSError``, ``EOFError`` or ``TimeoutError`` for a caller that is
gone, ``Invalid`` or ``LimitOverrunError`` for garbage and for a line that is too long."""


class PrivateServer:
    """Serves from ``start`` to ``stop``, in one event loop. ``name`` is for the log."""

    def __init__(
        self, listener: PrivateListener, name: str, answer_all: AnswerAll, callers_max: int
    ) -> None:
        self._listener = listener
        self._name = name
        self._answer_all = answer_all
        self._callers_max = callers_max
        self._callers: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, bytes_max: int) -> None:
        """Accepts callers from now on; a line or frame has at most ``bytes_max`` bytes."""
        self._server = await asyncio.start_unix_server(
            self._serve, sock=self._listener.socket, limit=bytes_max
        )

    async def stop(self) -> None:
        """Disconnects all callers and removes the socket."""
        if self._server is not None:
            self._server.close()
        for caller in self._callers:
            caller.cancel()
        await asyncio.gather(*self._callers, return_exceptions=True)
        self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._callers) >= self._callers_max:
                log.warning("%s: refused a caller, %d are there", self._name, self._callers_max)
            elif not is_same_user(writer.get_extra_info("socket")):
                log.warning("%s: refused a caller of another user", self._name)
            else:
                self._callers.add(task)
                await self._answer_all(reader, writer)
        except (OSError, EOFError, TimeoutError) as error:  # the caller is gone or stuck
            log.debug("%s: a caller is gone: %s", self._name, error)
        except (Invalid, asyncio.LimitOverrunError) as error:
            log.warning("%s: closed on a caller: %s", self._name, error)
        except asyncio.CancelledError:
            log.debug("%s: a caller is closed on", self._name)
        finally:
            self._callers.discard(task)
            with contextlib.suppress(OSError):
                writer.close()
