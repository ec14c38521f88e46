"""One way to serve on a private socket: who may speak, how many at once, and how it all ends.

The signer's process and the node's admin socket listen for programs of the same user on this
machine. They differ in what they say, not in this: a stranger and one too many are closed on at
once, a caller that breaks off or sends what is no request costs its own connection, and ``stop``
waits for all of them.
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
"""Serves one caller until it ends with ``OSError``, ``EOFError``, ``TimeoutError``, ``Invalid``,
or with what the reader raises of a line that is too long."""


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
        """Accepts callers from now on, whose lines or frames have at most so many bytes."""
        self._server = await asyncio.start_unix_server(
            self._serve, sock=self._listener.socket, limit=bytes_max
        )

    async def stop(self) -> None:
        """Closes on all callers and removes the socket."""
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
        except (OSError, EOFError, TimeoutError) as error:  # it is gone, or stuck
            log.debug("%s: a caller is gone: %s", self._name, error)
        except (Invalid, asyncio.LimitOverrunError) as error:
            log.warning("%s: closed on a caller: %s", self._name, error)
        except asyncio.CancelledError:
            log.debug("%s: a caller is closed on", self._name)
        finally:
            self._callers.discard(task)
            with contextlib.suppress(OSError):
                writer.close()
