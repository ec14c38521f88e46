"""Prometheus metrics: gauges read when scraped, counters kept where the counting happens.

Nothing below floor 5 knows that it is measured: the owner of the numbers passes a function that
reads them. The set of labels is fixed by code and never depends on the input of a caller.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

PREFIX: Final = "dipnet_"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Counts of observed values by bucket; ``bounds`` are the buckets' upper ends, ascending."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)  # the last counts values above all bounds
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Adds ``value`` to its bucket."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def family(self, name: str, text: str) -> Metric:
        """The metric that a scrape shows, under ``dipnet_`` and ``name``; ``text`` describes it."""
        total, buckets = 0, []
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((str(bound), float(total)))
        return HistogramMetricFamily(PREFIX + name, text, buckets=buckets, sum_value=self._sum)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram at scrape time."""

    name: str
    text: str
    histogram: Histogram


@dataclass(frozen=True, slots=True)
class Sample:
    """A number at scrape time; ``labels`` are (name, value) pairs, the same names each time."""

    name: str
    text: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()
    sort: Literal["gauge", "counter"] = "gauge"


SampleSource = Callable[[], Iterable[Sample | Distribution]]


class _Readings(Collector):
    def __init__(self, read: SampleSource) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is read before the first scrape

    def collect(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for reading in self._read():
            if isinstance(reading, Distribution):
                yield reading.histogram.family(reading.name, reading.text)
                continue
            family = families.get(reading.name)
            if family is None:
                sort = GaugeMetricFamily if reading.sort == "gauge" else CounterMetricFamily
                names = [name for name, _ in reading.labels]
                family = sort(PREFIX + reading.name, reading.text, labels=names)
                families[reading.name] = family
            family.add_metric([value for _, value in reading.labels], reading.value)
        yield from families.values()


def render(*sources: SampleSource) -> bytes:
    """The text of ``/metrics``: every reading of every source, once."""
    registry = CollectorRegistry()
    for source in sources:
        registry.register(_Readings(source))
    return generate_latest(registry)
