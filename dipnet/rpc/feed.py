"""Published items for WebSocket subscribers: one bounded queue each; a full queue is cut.

Publishing never waits, so that a subscriber that stops reading costs the node only its queue.
"""

import asyncio
from typing import Final, Literal

from dipnet.primitives.errors import Invalid

Topic = Literal["newHeads", "finalizedHeads", "newPendingTransactions", "dagVertices"]
TOPICS: Final[tuple[Topic, ...]] = (
    "newHeads", "finalizedHeads", "newPendingTransactions", "dagVertices",
)  # fmt: skip
WAITING_ITEMS_MAX: Final = 4096


class Feed:
    """The queue of one subscriber. Items are as published: Block, Header, Tx or Vertex."""

    __slots__ = ("_feeds", "_items", "cut", "topic")

    def __init__(self, feeds: "Feeds", topic: Topic) -> None:
        self.topic = topic
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
    """The feeds by topic. The daemon calls ``publish`` on the thread of the event loop."""

    __slots__ = ("_listeners",)

    def __init__(self) -> None:
        # A dict as an ordered set: subscribers are served in the order they came.
        self._listeners: dict[Topic, dict[Feed, None]] = {topic: {} for topic in TOPICS}

    def subscribe(self, topic: Topic) -> Feed:
        feed = Feed(self, topic)
        self._listeners[topic][feed] = None
        return feed

    def publish(self, topic: Topic, item: object) -> None:
        for feed in list(self._listeners[topic]):
            feed.put(item)

    def forget(self, feed: Feed) -> None:
        self._listeners[feed.topic].pop(feed, None)

    def listeners(self, topic: Topic) -> int:
        return len(self._listeners[topic])
