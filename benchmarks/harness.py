"""How a figure is measured and judged (docs/design.md "Measuring").

The limit L and the subject S alternate in short slices, L S L S ... L, in one process and on the
same threads; in ``bench_payments`` S is a node in a process of its own. A pair is one S with the L
before it and the L after it; its ratio is S over the mean of the two. A figure is the median over
the pairs, shown with its quartiles.

* A pair is dropped when its two L differ by more than ``LIMITS_APART``: the machine changed while
  S ran. A dropped pair is kept, printed and replaced, up to ``Scale.attempts`` pairs.
* A figure is INVALID when fewer than ``Scale.pairs`` pairs stand, or when its quartiles are more
  than ``QUARTILES_APART`` of the median apart. It is shown all the same, with the reason.
* The scaling of two threads, the ratio by CPU time and the load are shown and refuse nothing.
* A row without a measured limit (a latency in ms) has ``Scale.repetitions`` slices and no pairs.
"""

import gc
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from statistics import median, quantiles
from typing import Any, Final

LIMITS_APART: Final = 0.10
QUARTILES_APART: Final = 0.15
TURNS: Final = 4


@dataclass(frozen=True, slots=True)
class Scale:
    """How much to measure. ``name`` is full, quick or tiny; each benchmark has sizes for each."""

    name: str
    pairs: int  # that must stand, of a row with a limit
    attempts: int  # pairs that are measured at most, dropped ones included
    repetitions: int  # of a row without a limit


FULL: Final = Scale("full", 10, 15, 5)
QUICK: Final = Scale("quick", 10, 12, 2)
TINY: Final = Scale("tiny", 1, 1, 1)  # the test suite: shows that a benchmark runs, nothing else


@dataclass(frozen=True, slots=True)
class Raw:
    """One slice of a limit."""

    value: float  # in the unit of the row
    cpu_us: float  # of one operation, 0 where it is not known
    scaling: float | None = None  # two threads over one; None where the limit has one thread


@dataclass(frozen=True, slots=True)
class Run:
    """One slice of the subject."""

    value: float  # in the unit of the row
    cpu_us: float = 0  # of one operation, all threads, 0 where it is not known
    notes: dict[str, float] = field(default_factory=dict)


Slices = Generator[Callable[[], Run], None, None]
"""A session of the subject yields slices that are ready to run. Opening it (a directory, a process)
is before the clock; a session that ends is opened again for the next slice."""


def again(run: Callable[[], Run]) -> Callable[[], Slices]:
    """Sessions of a subject that needs none: the same slice without end."""

    def slices() -> Slices:
        while True:
            yield run

    return slices


@dataclass(frozen=True, slots=True)
class Row:
    """The definition of one figure. ``more`` tells whether more is better.

    ``limit`` measures a slice of the limit; ``reference`` is a limit that is computed and needs no
    pairs. A row has at most one of the two.
    """

    name: str
    unit: str
    slices: Callable[[], Slices]
    limit: Callable[[], Raw] | None = None
    limit_name: str = ""
    goal: str = ""
    more: bool = True
    reference: float | None = None

    def ratio(self, value: float, limit: float) -> float:
        """More is better: 1 is the limit."""
        return value / limit if self.more else limit / value


@dataclass(frozen=True, slots=True)
class Sample:
    """One slice of the subject, and the slices of the limit beside it where the row has a limit."""

    run: Run
    limits: tuple[Raw, Raw] | None
    load: float  # of the machine after it, 1 minute

    @property
    def limit(self) -> float | None:
        """The mean of the two, in the unit of the row."""
        return sum(raw.value for raw in self.limits) / 2 if self.limits else None

    @property
    def apart(self) -> float:
        """By how much of the lower limit the two limits differ."""
        if self.limits is None:
            return 0.0
        low, high = sorted(raw.value for raw in self.limits)
        return (high - low) / low

    @property
    def dropped(self) -> bool:
        return self.apart > LIMITS_APART

    @property
    def cpu_ratio(self) -> float | None:
        """CPU time of the limit over that of the subject, an operation; it knows no waiting."""
        if self.limits is None or not self.run.cpu_us:
            return None
        return sum(raw.cpu_us for raw in self.limits) / 2 / self.run.cpu_us or None

    @property
    def scaling(self) -> float | None:
        """Two threads over one, the lower of the two limits."""
        known = [raw.scaling for raw in self.limits or () if raw.scaling is not None]
        return min(known, default=None)


@dataclass(frozen=True, slots=True)
class Figure:
    """The outcome of a row: every sample, and statistics of the samples that stand."""

    row: Row
    samples: tuple[Sample, ...]
    wanted: int

    @property
    def standing(self) -> tuple[Sample, ...]:
        return tuple(sample for sample in self.samples if not sample.dropped)

    @property
    def counted(self) -> tuple[Sample, ...]:
        """The samples of the medians: those that stand, or all where none does."""
        return self.standing or self.samples

    def middle(self, read: Callable[[Sample], float | None]) -> float | None:
        """The median of ``read`` over the counted samples; None where it gives no value."""
        values = [value for sample in self.counted if (value := read(sample)) is not None]
        return median(values) if values else None

    def ratio_of(self, sample: Sample) -> float | None:
        """The sample beside its limits, or beside the computed reference."""
        limit = self.row.reference if sample.limit is None else sample.limit
        return None if limit is None else self.row.ratio(sample.run.value, limit)

    @property
    def value(self) -> float:
        """The median, in the unit of the row."""
        return median(sample.run.value for sample in self.counted)

    @property
    def ratio(self) -> float | None:
        return self.middle(self.ratio_of)

    @property
    def cpu_ratio(self) -> float | None:
        return self.middle(lambda sample: sample.cpu_ratio)

    @property
    def limit(self) -> float | None:
        found = self.middle(lambda sample: sample.limit)
        return self.row.reference if found is None else found

    @property
    def scaling(self) -> float | None:
        return self.middle(lambda sample: sample.scaling)

    @property
    def load(self) -> float:
        return median(sample.load for sample in self.samples)

    @property
    def quartiles(self) -> tuple[float, float] | None:
        """The lower and upper quartile of the ratios; None without a measured limit."""
        ratios = [ratio for sample in self.counted if (ratio := self.ratio_of(sample)) is not None]
        if self.row.limit is None or not ratios:
            return None
        if len(ratios) == 1:
            return ratios[0], ratios[0]
        low, _, high = quantiles(ratios, n=4, method="inclusive")
        return low, high

    @property
    def spread(self) -> float:
        """How far the quartiles are apart, as a part of the median."""
        if self.quartiles is None or not self.ratio:
            return 0.0
        low, high = self.quartiles
        return (high - low) / self.ratio

    @property
    def faults(self) -> tuple[str, ...]:
        """Why the figure is INVALID, naming the pairs (counted from 1); empty where it is valid."""
        found = []
        if len(self.standing) < self.wanted:
            reason = f"{len(self.standing)} of {self.wanted} pairs stand"
            found.append(f"{reason}; {dropped}" if (dropped := self._dropped()) else reason)
        if self.spread > QUARTILES_APART:
            found.append(f"quartiles {percent(self.spread)} of the median apart; {self._outer()}")
        return tuple(found)

    @property
    def valid(self) -> bool:
        return not self.faults

    @property
    def verdict(self) -> str:
        """One line for the table."""
        if self.faults:
            return f"INVALID: {'; '.join(self.faults)}"
        counted = f"{len(self.standing)} {'pairs' if self.row.limit else 'repetitions'}"
        return f"{counted}; {dropped}" if (dropped := self._dropped()) else counted

    def _dropped(self) -> str:
        """The pairs that were dropped, each with the distance of its limits."""
        pairs = [
            f"{number} ({percent(sample.apart)})"
            for number, sample in enumerate(self.samples, 1)
            if sample.dropped
        ]
        return f"limits apart in pairs {', '.join(pairs)}" if pairs else ""

    def _outer(self) -> str:
        """The counted pairs that are farther from the median than quartiles may be."""
        ratio = self.ratio or 0.0
        pairs = []
        for number, sample in enumerate(self.samples, 1):
            found = self.ratio_of(sample)
            if found is None or sample not in self.counted:
                continue
            if abs(found - ratio) > QUARTILES_APART / 2 * ratio:
                pairs.append(f"{number} ({found:.3f})")
        return f"far from the median are pairs {', '.join(pairs)}"

    def record(self) -> dict[str, Any]:
        """The figure for JSON."""
        return {
            "name": self.row.name,
            "unit": self.row.unit,
            "goal": self.row.goal,
            "limit": self.row.limit_name,
            "valid": self.valid,
            "verdict": self.verdict,
            "median": self.value,
            "median_limit": self.limit,
            "median_ratio": self.ratio,
            "quartiles_ratio": self.quartiles,
            "median_cpu_ratio": self.cpu_ratio,
            "scaling": self.scaling,
            "load": self.load,
            "samples": [
                {**asdict(sample), "ratio": self.ratio_of(sample), "dropped": sample.dropped}
                for sample in self.samples
            ],
        }


def measure(rows: list[Row], scale: Scale, say: Callable[[str], None]) -> list[Figure]:
    """The figures of the rows, one row after another; ``say`` gets a line for each sample."""
    return [_figure(row, scale, say) for row in rows]


def _figure(row: Row, scale: Scale, say: Callable[[str], None]) -> Figure:
    wanted, most = (scale.pairs, scale.attempts) if row.limit else (scale.repetitions,) * 2
    figure = Figure(row, (), wanted)
    with closing(_samples(row)) as samples:
        for sample in islice(samples, most):
            figure = Figure(row, (*figure.samples, sample), wanted)
            say(f"  {row.name}: {_told(figure, sample)}")
            if len(figure.standing) == wanted:
                break
    return figure


def _samples(row: Row) -> Generator[Sample, None, None]:
    """Without end. Two samples of a session share the limit between them."""
    while True:
        before: Raw | None = None
        slices = 0
        with closing(row.slices()) as session:
            for run in session:
                slices += 1
                if row.limit is None:
                    gc.collect()
                    yield Sample(run(), None, os.getloadavg()[0])
                    continue
                before = before or row.limit()
                gc.collect()
                done = run()
                after = row.limit()
                yield Sample(done, (before, after), os.getloadavg()[0])
                before = after
        assert slices, f"{row.name}: a session without a slice"


def _told(figure: Figure, sample: Sample) -> str:
    text = f"{amount(sample.run.value)} {figure.row.unit}"
    if (ratio := figure.ratio_of(sample)) is not None:
        text += f", {ratio:.3f} of the limit"
    if sample.cpu_ratio is not None:
        text += f", {sample.cpu_ratio:.3f} by CPU"
    if sample.limits:
        text += " ({} .. {})".format(*(amount(raw.value) for raw in sample.limits))
    return text + (f"  DROPPED: limits {percent(sample.apart)} apart" if sample.dropped else "")


def amount(value: float) -> str:
    """A number short enough for a table."""
    if value >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def percent(part: float) -> str:
    """``12.5 %`` for 0.125, ``12 %`` for 0.12."""
    return f"{part * 100:.1f}".removesuffix(".0") + " %"


@dataclass(slots=True)
class Clock:
    """Wall and CPU seconds of a block of code, all threads of this process."""

    wall_s: float = 0
    cpu_s: float = 0


@contextmanager
def clocked() -> Iterator[Clock]:
    """Times the block that it encloses."""
    clock = Clock()
    wall, cpu = time.perf_counter(), time.process_time()
    yield clock
    clock.wall_s = time.perf_counter() - wall
    clock.cpu_s = time.process_time() - cpu


def two_threads(run: Callable[[int], int]) -> Raw:
    """A limit per second: ``run(threads)`` does a fixed number of operations and returns it.

    One thread and two take turns, so that both meet the same machine.
    """
    count, alone_s, both_s, cpu_s = 0, 0.0, 0.0, 0.0
    for _ in range(TURNS):
        with clocked() as alone:
            count += run(1)
        with clocked() as both:
            run(2)
            run(2)
        alone_s += alone.wall_s
        both_s += both.wall_s
        cpu_s += alone.cpu_s + both.cpu_s
    return Raw(2 * count / both_s, cpu_s / (3 * count) * 1e6, 2 * alone_s / both_s)
