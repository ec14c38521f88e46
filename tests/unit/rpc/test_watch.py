"""The watch of finality: latencies, the alarm that is logged once, and the message of its end."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dipnet.rpc.watch import LATENCIES_MAX, FinalityWatch


def header(slot: int) -> Any:
    return SimpleNamespace(height=slot // 2, slot=slot, timestamp_ms=1000 * slot)


def test_an_alarm_is_said_once_and_so_is_its_end(caplog: pytest.LogCaptureFixture) -> None:
    watch = FinalityWatch()
    with caplog.at_level(logging.INFO, "dipnet"):
        for slot in range(10, 14):
            assert watch.look(slot, header(10)) is None
        assert not caplog.messages
        assert "lags 4 slots" in (watch.look(14, header(10)) or "")
        assert "the last final block is 5 of slot 10" in caplog.text
        watch.look(15, header(10))
        assert len(caplog.messages) == 1
        assert watch.look(16, header(14)) is None
        assert caplog.messages[1:] == ["finality is back: block 7 of slot 14"]
        watch.look(17, header(15))
        assert len(caplog.messages) == 2


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=200), st.integers(1, 100))
def test_a_percentile_is_not_exceeded_by_so_many(latencies: list[int], percent: int) -> None:
    watch = FinalityWatch()
    for latency in latencies:
        watch.on_final(latency, [header(0)])
    limit = watch.latency_ms(percent)
    assert limit in latencies
    assert 100 * sum(latency <= limit for latency in latencies) >= percent * len(latencies)
    assert 100 * sum(latency < limit for latency in latencies) < percent * len(latencies)


def test_blocks_from_before_the_start_are_not_measured() -> None:
    watch = FinalityWatch(since_ms=5_000)
    watch.on_final(9_000, [header(4), header(5), header(6)])
    assert (watch.blocks, watch.latency_ms(100)) == (2, 4_000)


def test_only_the_last_are_kept_and_the_clock_may_be_behind() -> None:
    watch = FinalityWatch()
    assert watch.latency_ms(50) is None
    watch.on_final(0, [header(5)])
    assert watch.latency_ms(99) == 0
    watch.on_final(10_000, [header(1)] * LATENCIES_MAX)
    assert (watch.blocks, watch.latency_ms(1)) == (LATENCIES_MAX, 9_000)
