"""How finality goes, as an operator sees it: latencies of certificates, the lag, and the alarm.

Nothing here decides anything. The daemon tells what became final and asks once a second; the clock
is an argument.
"""

import logging
from collections import deque
from collections.abc import Iterable
from typing import Final

from dipnet.consensus.finality.header import Header
from dipnet.host.metrics import Histogram

log = logging.getLogger("dipnet")

LAG_SLOTS_MAX: Final = 3
"""More slots than these between now and the final block are an alarm (docs/design.md
"Consensus")."""
LATENCIES_MAX: Final = 1_024
LATENCY_BOUNDS_S: Final = (
    0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 120.0,
)  # fmt: skip


class FinalityWatch:
    """The finality of one node's chain. Latency is from the start of a block's slot to its being
    known as final, milliseconds: what a client waits at the most."""

    __slots__ = ("_alarmed", "_recent", "_since_ms", "histogram")

    def __init__(self, since_ms: int = 0) -> None:
        """Blocks of slots before ``since_ms`` are not measured: nobody waited for them here."""
        self._since_ms = since_ms
        self.histogram = Histogram(LATENCY_BOUNDS_S)
        """Of the latencies, seconds."""
        self._recent: deque[int] = deque(maxlen=LATENCIES_MAX)
        self._alarmed = False

    def on_final(self, now_ms: int, headers: Iterable[Header]) -> None:
        """These became final now. Not to be told of what a node catches up with."""
        for header in headers:
            if header.timestamp_ms < self._since_ms:
                continue
            latency_ms = max(now_ms - header.timestamp_ms, 0)
            self._recent.append(latency_ms)
            self.histogram.observe(latency_ms / 1000)

    def latency_ms(self, percent: int) -> int | None:
        """The latency that so many percent of the last ``LATENCIES_MAX`` blocks did not exceed."""
        if not self._recent:
            return None
        ordered = sorted(self._recent)
        return ordered[(len(ordered) * percent + 99) // 100 - 1]

    @property
    def blocks(self) -> int:
        """How many blocks ``latency_ms`` looks at."""
        return len(self._recent)

    def look(self, slot: int, final: Header) -> str | None:
        """The complaint in ``slot``, None where finality keeps up.

        Says it in the log once when it begins and once when it is over.
        """
        complaint = lagging(slot, final)
        if complaint is not None and not self._alarmed:
            log.warning("finality %s", complaint)
        elif complaint is None and self._alarmed:
            log.warning("finality is back: block %d of slot %d", final.height, final.slot)
        self._alarmed = complaint is not None
        return complaint


def lagging(slot: int, final: Header) -> str | None:
    """What is wrong with a final block in ``slot``, None where it is young enough."""
    lag = slot - final.slot
    if lag <= LAG_SLOTS_MAX:
        return None
    return f"lags {lag} slots: the last final block is {final.height} of slot {final.slot}"
