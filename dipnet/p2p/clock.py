"""How far our clock is from those of our peers: measured and told, never followed.

Rules that bind this file (docs/spec/consensus.md "Goals", goal 9):
* Every status carries the sender's clock. Their time minus ours at receipt is the difference of the
  clocks less the message's way, so the highest of a peer's last few is the best: too low by that
  peer's shortest one-way delay, and never too high.
* The median over peers counts, one voice each. While we have OWN_MIN peers that we chose ourselves,
  only these have one: places for callers are cheap to fill. Fewer than half of those asked cannot
  move the median beyond what the others say; between two middle values what is nearest to zero is
  taken, so that a majority must say that our clock is wrong.
* When our clock has leapt, no sample from before says anything of it. Until a peer speaks again he
  counts as if he said that we are far ahead: nothing is known before half of those asked have.
* Nothing here sets a clock. The most that liars who are the majority can do is to keep a delegate
  from proposing and prevoting, which his operator is told.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

SAMPLES_MAX: Final = 8  # of one peer: what a small step forward takes to be noticed, in statuses
OWN_MIN: Final = 3
UNTOLD: Final = "the clock has leapt, and too few peers have told theirs since"
_NOT_TOLD: Final = -(1 << 70)  # ms, below what any peer can say


class Clock:
    """What the clocks of connected peers say of ours."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[int]] = {}

    def on_time(self, peer: str, theirs_ms: int, ours_ms: int) -> None:
        """``peer`` sent its clock's time; ours said ``ours_ms`` when it came. Both Unix time."""
        samples = self._samples.setdefault(peer, deque(maxlen=SAMPLES_MAX))
        samples.append(theirs_ms - ours_ms)

    def leapt(self) -> None:
        """Our clock was set, or we stood still and cannot tell: forget what was said before."""
        for samples in self._samples.values():
            samples.clear()

    def of(self, peer: str) -> int | None:
        """How far the clock of ``peer`` is ahead of ours, None before its first word since."""
        samples = self._samples.get(peer)
        return max(samples) if samples else None

    def offset_ms(self, own: Iterable[str]) -> int | None:
        """How far the peers' clocks are ahead of ours; None before enough have told.

        ``own`` are the peers that we chose to call. One peer alone is believed.
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
        """Why a delegate must not rely on our clock, for people: it differs from ``offset_ms`` by
        more than the bound, or that is not known although it is ``needed``."""
        off_ms = self.offset_ms(own)
        if off_ms is None:
            return UNTOLD if needed else None
        if abs(off_ms) <= bound_ms:
            return None
        return f"the clock is {abs(off_ms)} ms {'behind' if off_ms > 0 else 'ahead of'} peers"

    def forget(self, peer: str) -> None:
        """The peer is gone: release all that it took."""
        self._samples.pop(peer, None)
