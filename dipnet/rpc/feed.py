"""Published items for WebSocket subscribers: one bounded queue each; a full queue is cut.

Publishing never waits, so that a subscriber that stops reading costs the node only its queue.
"""

import asyncio
from typing import Final

from dipnet.node.effects import STREAM_NAMES, StreamName
from dipnet.primitives.errors import Invalid

WAITING_ITEMS_MAX: Final = 4096


class Feed:
    """The queue of one subscriber. Items are as published: Block, Header, Tx or Vertex."""

    __slots__ = ("_feeds", "_items", "cut", "stream")

    def __init__(self, feeds: "Feeds", stream: StreamName) -> None:
        self.stream = stream
        self.cut = False
        self._feeds = feeds
        self._items: asyncio.Queue[object] = asyncio.Queue(WAITING_ITEMS_MAX)

    def put(self, item: object) -> None:
        """Queue ``item``; cut the subscriber if ``WAITING_ITEMS_MAX`` items are unread."""
        try:
            self._items.put_nowait(item)
        except asyncio.QueueFull:
            self.cut = True
            self.close()

    async def next(self) -> object:
        """The next item; raises ``Invalid("limit")`` at the end of a queue that was cut."""
        if self.cut and self._items.empty():
            raise Invalid("limit", f"subscriber left {WAITING_ITEMS_MAX} items unread")
        return await self._items.get()

    def close(self) -> None:
        self._feeds.forget(self)


class Feeds:
    """The feeds by stream. The daemon calls ``publish`` on the thread of the event loop."""

    __slots__ = ("_listeners",)

    def __init__(self) -> None:
        # A dict as an ordered set: subscribers are served in the order they came.
        self._listeners: dict[StreamName, dict[Feed, None]] = {
            stream: {} for stream in STREAM_NAMES
        }

    def subscribe(self, stream: StreamName) -> Feed:
        feed = Feed(self, stream)
        self._listeners[stream][feed] = None
        return feed

    def publish(self, stream: StreamName, item: object) -> None:
        for feed in list(self._listeners[stream]):
            feed.put(item)

    def forget(self, feed: Feed) -> None:
        self._listeners[feed.stream].pop(feed, None)

    def listeners(self, stream: StreamName) -> int:
        return len(self._listeners[stream])
