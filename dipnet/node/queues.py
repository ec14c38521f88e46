"""The queues of items that peers sent and worker threads have not judged yet.

Rules that bind this file (docs/design.md "Peers"): each queue is bounded in frames and bytes of one
peer and in bytes of all peers. The account of a peer outlives its connection: otherwise
reconnecting would empty it. An item that finds no space is lost; repeats, tips and sync bring it
again.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """Limits of a queue. A peer with nothing in the queue may add one frame of any length."""

    frames_max: int
    """Of one peer."""
    bytes_max: int
    """Of one peer."""
    all_bytes_max: int
    """Of all peers."""


class Queue(Enum):
    """Where work of peers waits. Votes and blocks do not wait behind a flood of readings."""

    VOTES = "votes"
    BLOCKS = "blocks"
    OTHERS = "others"


LIMITS: Final = {
    Queue.VOTES: QueueLimits(frames_max=512, bytes_max=256 << 10, all_bytes_max=16 << 20),
    Queue.BLOCKS: QueueLimits(frames_max=64, bytes_max=16 << 20, all_bytes_max=128 << 20),
    Queue.OTHERS: QueueLimits(frames_max=64, bytes_max=16 << 20, all_bytes_max=128 << 20),
}


class Backlog:
    """The frames in one queue, counted by peer; the frames themselves are with the threads."""

    def __init__(self, limits: QueueLimits) -> None:
        self._limits = limits
        self._of: dict[str, tuple[int, int]] = {}  # peer -> frames, bytes
        self._bytes = 0

    def full(self, peer: str, size: int) -> bool:
        """Whether ``peer`` has used up its own part, so that ``size`` bytes more are too many."""
        frames, waiting = self._of.get(peer, (0, 0))
        too_long = frames > 0 and waiting + size > self._limits.bytes_max
        return frames >= self._limits.frames_max or too_long

    def add(self, peer: str, size: int) -> bool:
        """Count a frame of ``size`` bytes in; False when the queue has no space for any peer."""
        if self._bytes + size > self._limits.all_bytes_max:
            return False
        frames, waiting = self._of.get(peer, (0, 0))
        self._of[peer] = (frames + 1, waiting + size)
        self._bytes += size
        return True

    def remove(self, peer: str, size: int) -> None:
        """Count out a frame of ``size`` bytes that was counted in and is judged now."""
        frames, waiting = self._of.pop(peer)
        assert waiting >= size
        assert self._bytes >= size
        if frames > 1:
            self._of[peer] = (frames - 1, waiting - size)
        self._bytes -= size

    def __len__(self) -> int:
        """Bytes of all peers."""
        return self._bytes


class Queues:
    """One backlog for each ``Queue``."""

    def __init__(self) -> None:
        self._backlogs = {queue: Backlog(limits) for queue, limits in LIMITS.items()}

    def __getitem__(self, queue: Queue) -> Backlog:
        return self._backlogs[queue]

    def __len__(self) -> int:
        """Bytes in all queues."""
        return sum(map(len, self._backlogs.values()))
