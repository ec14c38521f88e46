"""Prometheus metrics: gauges read when scraped, counters kept where the counting happens.

Nothing below floor 5 knows that it is measured: who owns the numbers hands a function that reads
them. The set of labels is fixed by code, never by what a caller sends.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PREFIX: Final = "dipnet_"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Reading:
    """One number at scrape time; ``labels`` are (name, value) pairs, the same names each time."""

    name: str
    text: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()
    sort: Literal["gauge", "counter"] = "gauge"


class _Readings(Collector):
    def __init__(self, read: Callable[[], Iterable[Reading]]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        return ()  # nothing is read before the first scrape

    def collect(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for reading in self._read():
            family = families.get(reading.name)
            if family is None:
                sort = GaugeMetricFamily if reading.sort == "gauge" else CounterMetricFamily
                names = [name for name, _ in reading.labels]
                family = sort(PREFIX + reading.name, reading.text, labels=names)
                families[reading.name] = family
            family.add_metric([value for _, value in reading.labels], reading.value)
        yield from families.values()


def render(*sources: Callable[[], Iterable[Reading]]) -> bytes:
    """The text of ``/metrics``: every reading of every source, once."""
    registry = CollectorRegistry()
    for source in sources:
        registry.register(_Readings(source))
    return generate_latest(registry)
