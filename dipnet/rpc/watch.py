"""Measures finality for the operator: latencies of certificates, the lag, and the alarm (ADR 92).

No decision depends on it. The daemon reports blocks as they become final and asks for the complaint
once a second; the time is an argument.
"""

import logging
from collections import deque
from collections.abc import Iterable
from typing import Final

from dipnet.consensus.finality.header import Header
from dipnet.host.metrics import Histogram

log = logging.getLogger("dipnet")

LAG_SLOTS_MAX: Final = 3
"""A larger distance from the final block to the slot of now is an alarm (docs/spec/consensus.md
"Goals", goal 14)."""
LATENCIES_MAX: Final = 1_024
LATENCY_BOUNDS_S: Final = (
    0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 120.0,
)  # fmt: skip


class FinalityWatch:
    """The finality of one node's chain.

    Latency is the time from the start of a block's slot until this node knows the block final,
    milliseconds. No client waits longer for a transaction in the block.
    """

    __slots__ = ("_alarmed", "_recent", "_since_ms", "histogram")

    def __init__(self, since_ms: int = 0) -> None:
        """Blocks of slots before ``since_ms`` (the start of the node) are not measured."""
        self._since_ms = since_ms
        self.histogram = Histogram(LATENCY_BOUNDS_S)
        """Latencies in seconds."""
        self._recent: deque[int] = deque(maxlen=LATENCIES_MAX)
        self._alarmed = False

    def on_final(self, now_ms: int, headers: Iterable[Header]) -> None:
        """Record that ``headers`` became final now. Not called while the node catches up."""
        for header in headers:
            if header.timestamp_ms < self._since_ms:
                continue
            latency_ms = max(now_ms - header.timestamp_ms, 0)
            self._recent.append(latency_ms)
            self.histogram.observe(latency_ms / 1000)

    def latency_ms(self, percent: int) -> int | None:
        """The percentile of the last ``LATENCIES_MAX`` latencies; None before the first."""
        if not self._recent:
            return None
        ordered = sorted(self._recent)
        return ordered[(len(ordered) * percent + 99) // 100 - 1]

    @property
    def blocks(self) -> int:
        """The number of blocks that ``latency_ms`` counts."""
        return len(self._recent)

    def look(self, slot: int, final: Header) -> str | None:
        """The complaint in ``slot``, or None while finality keeps up.

        Logs a warning when the complaint begins and when it ends.
        """
        complaint = lagging(slot, final)
        if complaint is not None and not self._alarmed:
            log.warning("finality %s", complaint)
        elif complaint is None and self._alarmed:
            log.warning("finality is back: block %d of slot %d", final.height, final.slot)
        self._alarmed = complaint is not None
        return complaint


def lagging(slot: int, final: Header) -> str | None:
    """The complaint about the age of the final block in ``slot``; None if it is young enough."""
    lag = slot - final.slot
    if lag <= LAG_SLOTS_MAX:
        return None
    return f"lags {lag} slots: the last final block is {final.height} of slot {final.slot}"
