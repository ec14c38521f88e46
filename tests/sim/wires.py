"""The simulated network: a virtual clock, and links between hosts that delay, lose and break.

``Clock`` is one heap of (virtual ms, number, action). ``Wires`` carries frames between ``End``s;
the world decides what an end does with an event (``deliver``).
"""

import heapq
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from dipnet.node.effects import Connected, DialFailed, Disconnected, Event, Received

CLOSE_MS = (0, 50)  # until a side of a link learns that it is closed

Span = tuple[int, int]
"""From, to: virtual ms, both inclusive."""


@dataclass(frozen=True)
class Faults:
    """Of every link: chances in percent, times in virtual ms."""

    loss: int = 0
    duplicate: int = 0
    delay_ms: Span = (5, 60)
    slow: int = 0  # chance of a message that takes up to slow_ms and is overtaken
    slow_ms: int = 3000
    regions: tuple[tuple[Span, ...], ...] = ()
    """From one region to another, in place of ``delay_ms``."""


class Rewriter(Protocol):
    """Rewrites the frames between a hostile node and the network."""

    def frames(self, to: "End", protocol: str, data: bytes) -> Iterator[tuple[str, bytes]]:
        """The frames that ``to`` gets instead of a frame of the node."""


@dataclass
class End:
    """A machine as the network sees it."""

    index: int
    name: str
    region: int = 0
    life: int = 0  # counts starts; actions of an earlier life are void
    up: bool = False
    lag_ms: int = 0  # the additional delay of each of its messages, ms
    deaf: bool = False  # it throws away every frame that it gets
    rewriters: list[Rewriter] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"/ip4/127.0.0.1/tcp/{30000 + self.index}/p2p/{self.name}"


class Clock:
    """Virtual time: actions in the order of their time, then of their number."""

    def __init__(self, now_ms: int, seed: int) -> None:
        self.now_ms = now_ms
        self.rng = random.Random(seed)
        self.number = 0
        self._heap: list[tuple[int, int, Callable[[], None]]] = []

    def at(self, ms: int, action: Callable[[], None]) -> None:
        self.number += 1
        heapq.heappush(self._heap, (ms, self.number, action))

    def after(self, span: Span, action: Callable[[], None]) -> None:
        self.at(self.now_ms + self.draw(span), action)

    def draw(self, span: Span) -> int:
        """A whole number of the span; faster than ``randint``, as fair as the simulator needs."""
        low, high = span
        return low + int(self.rng.random() * (high - low + 1))

    def run(self, until_ms: int) -> None:
        heap = self._heap
        while heap and heap[0][0] <= until_ms:
            ms, _, action = heapq.heappop(heap)
            if ms > self.now_ms:
                self.now_ms = ms
            action()
        self.now_ms = until_ms

    def happens(self, percent: int) -> bool:
        return percent > 0 and self.rng.random() * 100 < percent


class Wires(Clock, ABC):
    """The links between ``ends`` and the frames on their way."""

    def __init__(self, now_ms: int, seed: int, faults: Faults, ends: Sequence[End]) -> None:
        super().__init__(now_ms, seed)
        self.faults = faults
        self.ends = ends
        self.links: dict[tuple[int, int], int] = {}  # connected pairs -> number of the connection
        self.cut: set[tuple[int, int]] = set()  # (from, to): nothing passes that way
        self.named = {end.name: end for end in ends}
        self._addresses = {end.address: end for end in ends}
        self._closing: set[tuple[int, int]] = set()  # pairs of which a side does not know yet

    @abstractmethod
    def deliver(self, index: int, event: Event) -> None:
        """A step of the node of an end, if it is up."""

    def in_life(self, end: End, action: Callable[[], None]) -> Callable[[], None]:
        """``action``, void once the end has been stopped or started again."""
        life = end.life

        def act() -> None:
            if end.life == life and end.up:
                action()

        return act

    # --- connections

    def dial(self, end: End, address: str) -> None:
        """Connect after a while, or tell why not."""
        self.after(self.faults.delay_ms, self.in_life(end, lambda: self._dial(end, address)))

    def _dial(self, end: End, address: str) -> None:
        other = self._addresses.get(address)
        if other is not None and pair_of(end, other) in self._closing:
            self.after(CLOSE_MS, self.in_life(end, lambda: self._dial(end, address)))
            return
        if other is None or not other.up or self._blocked(end, other):
            self.deliver(end.index, DialFailed(address, "refused"))
            return
        pair = pair_of(end, other)
        if pair in self.links:
            self.deliver(end.index, DialFailed(address, "already connected"))
            return
        self.number += 1
        self.links[pair] = self.number
        self.deliver(other.index, Connected(end.name, end.address, False))
        self.deliver(end.index, Connected(other.name, other.address, True))

    def _blocked(self, end: End, other: End) -> bool:
        there, back = (end.index, other.index), (other.index, end.index)
        return there in self.cut or back in self.cut

    def disconnect(self, pair: tuple[int, int], reason: str) -> None:
        """Close a link: nothing passes any more, and each side learns of it in its own time."""
        if self.links.pop(pair, None) is None:
            return
        self._closing.add(pair)
        unaware = list(pair)

        def learn(index: int, name: str, life: int) -> None:
            unaware.remove(index)
            if not unaware:
                self._closing.discard(pair)
            if self.ends[index].life == life:
                self.deliver(index, Disconnected(name, reason))

        for index, other in (pair, pair[::-1]):
            name, life = self.ends[other].name, self.ends[index].life
            self.after(CLOSE_MS, partial(learn, index, name, life))

    def partition(self, group: set[int], one_way: bool = False) -> None:
        """Cuts, silently, every link between ``group`` and the rest; ``one_way``: from it only."""
        for one in range(len(self.ends)):
            for other in range(len(self.ends)):
                if one in group and other not in group:
                    self.cut.add((one, other))
                    if not one_way:
                        self.cut.add((other, one))

    def heal(self) -> None:
        """No link is cut any more."""
        self.cut.clear()

    # --- frames

    def send(self, end: End, to: End, protocol: str, data: bytes) -> None:
        """Sends a frame of a node; rewriters may replace it."""
        frames: Iterable[tuple[str, bytes]] = ((protocol, data),)
        for rewriter in end.rewriters:
            frames = [new for one in frames for new in rewriter.frames(to, *one)]
        for frame in frames:
            self.transmit(end, to, *frame)

    def transmit(self, end: End, to: End, protocol: str, data: bytes) -> None:
        """Sends a frame on its way, if there is a link."""
        faults, way = self.faults, (end.index, to.index)
        pair = pair_of(end, to)
        link = self.links.get(pair)
        # A stream keeps its frames or breaks. Gossip and sync are spared nothing; the greeting is
        # what a connection begins with, so its loss is the loss of the connection (Drop, cut).
        spared = protocol == "hello"
        if link is None or way in self.cut or (not spared and self.happens(faults.loss)):
            return
        event = Received(end.name, protocol, data)

        def arrive() -> None:
            if self.links.get(pair) == link and way not in self.cut and not to.deaf:
                self.deliver(to.index, event)

        low, high = faults.delay_ms
        if faults.regions:
            low, high = faults.regions[end.region][to.region]
        lag = end.lag_ms + to.lag_ms
        for _ in range(2 if not spared and self.happens(faults.duplicate) else 1):
            slow = not spared and self.happens(faults.slow)
            span = (low + lag, (faults.slow_ms if slow else high) + lag)
            self.after(span, self.in_life(to, arrive))


def pair_of(a: End, b: End) -> tuple[int, int]:
    """The key of the link between the two."""
    return (a.index, b.index) if a.index < b.index else (b.index, a.index)
