"""The offset of our clock from the clocks of our peers: measured and told, never corrected.

Rules that bind this file (docs/spec/consensus.md "Goals", goal 9):
* Every status carries the sender's clock. Its time minus ours at receipt is the difference of the
  clocks minus the delay of the message. So the highest of a peer's last samples is the best: it is
  too low by the shortest one-way delay of that peer, and never too high.
* The median over peers counts. While we have OWN_MIN peers that we dialled ourselves, only these
  count: an attacker fills inbound connections cheaply. Fewer than half of the peers that count
  cannot move the median beyond the offsets of the others. Of two middle values that nearer to
  zero is taken, so that only a majority can say that our clock is wrong.
* When our clock has leapt, earlier samples say nothing of it. A peer without a later sample counts
  as if it had told a clock far behind ours: nothing is known before half of the peers have told.
* Nothing here sets a clock. A majority of lying peers can at most keep a delegate from proposing
  and prevoting, and its operator is told so.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

SAMPLES_MAX: Final = 8  # of one peer: a small step forward is noticed after so many statuses
OWN_MIN: Final = 3
UNTOLD: Final = "the clock has leapt, and too few peers have told theirs since"
_NOT_TOLD: Final = -(1 << 70)  # ms, below every offset that a peer can have


class Clock:
    """The clocks of connected peers, compared with ours."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[int]] = {}

    def on_time(self, peer: str, theirs_ms: int, ours_ms: int) -> None:
        """``peer`` sent its time, which came when our clock showed ``ours_ms``. Both Unix time."""
        samples = self._samples.setdefault(peer, deque(maxlen=SAMPLES_MAX))
        samples.append(theirs_ms - ours_ms)

    def leapt(self) -> None:
        """Our clock was set, or this process stood still: forget all samples."""
        for samples in self._samples.values():
            samples.clear()

    def of(self, peer: str) -> int | None:
        """How far the clock of ``peer`` is ahead of ours; None without a sample since the leap."""
        samples = self._samples.get(peer)
        return max(samples) if samples else None

    def offset_ms(self, own: Iterable[str]) -> int | None:
        """How far the peers' clocks are ahead of ours; None before enough peers have told.

        ``own`` are the peers that we dialled. A single peer is believed.
        """
        chosen = [peer for peer in own if peer in self._samples]
        voices = chosen if len(chosen) >= OWN_MIN else list(self._samples)
        offsets = sorted(max(self._samples[peer], default=_NOT_TOLD) for peer in voices)
        if not offsets:
            return None
        low, high = offsets[(len(offsets) - 1) // 2], offsets[len(offsets) // 2]
        offset = max(low, min(high, 0))
        return offset if offset != _NOT_TOLD else None

    def fault(self, own: Iterable[str], bound_ms: int, needed: bool) -> str | None:
        """Why a delegate must not rely on our clock, as text for people; None if it may.

        The peers' clocks differ from ours by more than ``bound_ms`` (``offset_ms``), or the offset
        is unknown and ``needed``.
        """
        off_ms = self.offset_ms(own)
        if off_ms is None:
            return UNTOLD if needed else None
        if abs(off_ms) <= bound_ms:
            return None
        return f"the clock is {abs(off_ms)} ms {'behind' if off_ms > 0 else 'ahead of'} peers"

    def forget(self, peer: str) -> None:
        """The peer is gone: release all that it took."""
        self._samples.pop(peer, None)
