"""How everything here is measured (docs/design.md "Measuring"): repetitions, limits around each,
refusals, output.

The rules that bind every figure:
* The limit is measured directly before and after each repetition, in the same process.
* A repetition is refused when the two disagree by more than ``AGREEMENT``, or when two threads of
  the limit give less than ``SCALING`` of one: then somebody else had the machine, and the figure
  says nothing about us. It is kept, printed, counted, and repeated up to ``Scale.attempts``.
* A figure is the median over the repetitions that stand. With fewer than ``Scale.repetitions`` of
  them it is printed as INVALID, with the reason.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

AGREEMENT: Final = 0.05
SCALING: Final = 1.9
TURNS: Final = 4


@dataclass(frozen=True, slots=True)
class Scale:
    """How much to do. ``name`` is full, quick or tiny; each benchmark has sizes for it."""

    name: str
    repetitions: int
    attempts: int  # repetitions that are tried at most, refused ones among them


FULL: Final = Scale("full", 5, 15)
QUICK: Final = Scale("quick", 2, 4)
TINY: Final = Scale("tiny", 1, 1)  # the test suite: shows that it runs, nothing else


@dataclass(frozen=True, slots=True)
class Raw:
    """One measurement of a limit."""

    value: float  # in the unit of the row
    cpu_us: float  # of one operation, 0 where it is not known
    scaling: float | None = None  # two threads over one; None where the limit has one thread


@dataclass(frozen=True, slots=True)
class Run:
    """One repetition of what is measured."""

    value: float  # in the unit of the row
    cpu_us: float = 0  # of one operation, all threads, 0 where it is not known
    notes: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Repetition:
    """A run between two measurements of the limit; ``refused`` says why it does not stand."""

    run: Run
    before: Raw | None
    after: Raw | None
    ratio: float | None
    cpu_ratio: float | None  # by CPU time, which a busy neighbour disturbs less
    refused: str


@dataclass(frozen=True, slots=True)
class Row:
    """What one figure is: ``more`` tells whether more is better."""

    name: str
    unit: str
    run: Callable[[], Run]
    limit: Callable[[], Raw] | None = None
    limit_name: str = ""
    goal: str = ""
    more: bool = True


@dataclass(frozen=True, slots=True)
class Figure:
    """The outcome of a row: every repetition, and the medians of those that stand."""

    row: Row
    repetitions: tuple[Repetition, ...]
    wanted: int

    @property
    def standing(self) -> tuple[Repetition, ...]:
        return tuple(one for one in self.repetitions if not one.refused)

    @property
    def valid(self) -> bool:
        return len(self.standing) >= self.wanted

    @property
    def counted(self) -> tuple[Repetition, ...]:
        """Those that the medians are taken of: the standing ones, all when there is none."""
        return self.standing or self.repetitions

    def middle(self, read: Callable[[Repetition], float | None]) -> float | None:
        values = [value for one in self.counted if (value := read(one)) is not None]
        return median(values) if values else None

    @property
    def value(self) -> float:
        found = self.middle(lambda one: one.run.value)
        assert found is not None
        return found

    @property
    def ratio(self) -> float | None:
        return self.middle(lambda one: one.ratio)

    @property
    def cpu_ratio(self) -> float | None:
        return self.middle(lambda one: one.cpu_ratio)

    @property
    def limit(self) -> float | None:
        return self.middle(
            lambda one: (
                (one.before.value + one.after.value) / 2 if one.before and one.after else None
            )
        )

    @property
    def verdict(self) -> str:
        refused = len(self.repetitions) - len(self.standing)
        if not self.valid:
            return f"INVALID: {len(self.standing)} of {self.wanted} stand, {refused} refused"
        return f"{len(self.standing)} stand, {refused} refused"

    def record(self) -> dict[str, Any]:
        """The figure for JSON."""
        return {
            "name": self.row.name,
            "unit": self.row.unit,
            "goal": self.row.goal,
            "limit": self.row.limit_name,
            "valid": self.valid,
            "median": self.value,
            "median_limit": self.limit,
            "median_ratio": self.ratio,
            "median_cpu_ratio": self.cpu_ratio,
            "repetitions": [asdict(one) for one in self.repetitions],
        }


def measure(rows: list[Row], scale: Scale, say: Callable[[str], None]) -> list[Figure]:
    """Repetitions of the rows in turn, so that each row meets the same weather."""
    done: list[list[Repetition]] = [[] for _ in rows]
    for _ in range(scale.attempts):
        for row, repetitions in zip(rows, done, strict=True):
            if sum(not one.refused for one in repetitions) < scale.repetitions:
                repetitions.append(_repetition(row))
                say(f"  {row.name}: {_told(row, repetitions[-1])}")
    return [
        Figure(row, tuple(repetitions), scale.repetitions)
        for row, repetitions in zip(rows, done, strict=True)
    ]


def _repetition(row: Row) -> Repetition:
    gc.collect()
    before = row.limit() if row.limit else None
    run = row.run()
    after = row.limit() if row.limit else None
    if before is None or after is None:
        return Repetition(run, None, None, None, None, "")
    limit = (before.value + after.value) / 2
    ratio = run.value / limit if row.more else limit / run.value
    limit_cpu = (before.cpu_us + after.cpu_us) / 2
    cpu_ratio = limit_cpu / run.cpu_us if limit_cpu and run.cpu_us else None
    return Repetition(run, before, after, ratio, cpu_ratio, _refusal(before, after))


def _refusal(before: Raw, after: Raw) -> str:
    for raw, when in ((before, "before"), (after, "after")):
        if raw.scaling is not None and raw.scaling < SCALING:
            return f"two threads gave {raw.scaling:.2f} of one {when}"
    apart = abs(before.value - after.value) / min(before.value, after.value)
    return f"the limit moved by {apart:.0%}" if apart > AGREEMENT else ""


def _told(row: Row, one: Repetition) -> str:
    text = f"{amount(one.run.value)} {row.unit}"
    if one.ratio is not None:
        text += f", {one.ratio:.3f} of the limit"
    if one.cpu_ratio is not None:
        text += f", {one.cpu_ratio:.3f} by CPU"
    if one.before and one.after:
        text += f" ({amount(one.before.value)} .. {amount(one.after.value)})"
    return text + (f"  REFUSED: {one.refused}" if one.refused else "")


def amount(value: float) -> str:
    """A number short enough for a table."""
    if value >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


@dataclass(slots=True)
class Clock:
    """Wall and CPU seconds of a block of code, all threads of this process."""

    wall_s: float = 0
    cpu_s: float = 0


@contextmanager
def clocked() -> Iterator[Clock]:
    """Times what it encloses."""
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
