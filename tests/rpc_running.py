"""A node for the tests of the RPC that listens, in a loop and a thread of its own."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, Literal

from dipnet.errors import Invalid
from dipnet.rpc.listen import serve
from dipnet.rpc.server import Access, application
from tests.rpc_node import Node


class Mining(Node):
    """Makes a block of whatever is submitted, at once."""

    async def submit(
        self, kind: Literal["txs", "vertices"], items: Sequence[bytes]
    ) -> Sequence[tuple[bytes, str] | Invalid]:
        results = await super().submit(kind, items)
        if kind == "txs" and len(self.pool):
            self.produce()
        return results


class Running:
    """A node in a loop of its own; ``produce`` is asked for from the test's thread."""

    def __init__(self, *, mining: bool = False, **parameters: Any) -> None:
        self.node = Mining(**parameters) if mining else Node(**parameters)
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        app = application(self.node, Access())
        starting = asyncio.run_coroutine_threadsafe(serve(app, "127.0.0.1", 0), self.loop)
        self.listener = starting.result(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.port}"

    def produce(self, slots: int = 1) -> None:
        async def now() -> None:
            self.node.produce(slots)

        asyncio.run_coroutine_threadsafe(now(), self.loop).result(10)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.listener.stop(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()
