"""Every benchmark runs, with input of a size that says nothing; and what the harness refuses."""

import json
from collections.abc import Callable

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.harness import TINY, Figure, Raw, Repetition, Row, Run, Scale, measure
from benchmarks.report import bars, circumstances, markdown, table


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs(name: str) -> None:
    said: list[str] = []
    figures = BENCHMARKS[name](TINY, said.append)
    assert figures
    assert all(figure.value > 0 for figure in figures)
    assert any(figure.row.goal for figure in figures)
    for figure in figures:
        assert figure.row.name in table(figures)
        assert figure.row.name in markdown(figures)
        assert any(figure.row.name in line for line in said)
    json.dumps([figure.record() for figure in figures])


def limits(*values: Raw) -> Callable[[], Raw]:
    """Gives them one after another."""
    return iter(values).__next__


def one(*values: Raw, attempts: int = 1, repetitions: int = 1) -> Figure:
    row = Row("r", "per s", lambda: Run(50.0, 4.0), limits(*values), "the limit")
    (figure,) = measure([row], Scale("test", repetitions, attempts), lambda _: None)
    return figure


def quiet(value: float, scaling: float | None = 2.0) -> Raw:
    return Raw(value, 3.0, scaling)


def test_a_ratio_is_to_the_limit_around_it() -> None:
    figure = one(quiet(99.0), quiet(101.0))
    assert figure.valid
    assert (figure.ratio, figure.cpu_ratio, figure.limit) == (0.5, 0.75, 100.0)


def test_less_can_be_better() -> None:
    row = Row("r", "ns", lambda: Run(50.0), limits(quiet(10.0), quiet(10.0)), more=False)
    (figure,) = measure([row], TINY, lambda _: None)
    assert figure.ratio == 0.2


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (quiet(100.0), quiet(106.0), "the limit moved by 6%"),
        (quiet(106.0), quiet(100.0), "the limit moved by 6%"),
        (quiet(100.0, 1.89), quiet(100.0), "two threads gave 1.89 of one before"),
        (quiet(100.0), quiet(100.0, 1.2), "two threads gave 1.20 of one after"),
    ],
)
def test_a_disturbed_repetition_is_refused(before: Raw, after: Raw, reason: str) -> None:
    figure = one(before, after)
    assert [repetition.refused for repetition in figure.repetitions] == [reason]
    assert not figure.valid
    assert figure.verdict == "INVALID: 0 of 1 stand, 1 refused"
    assert "INVALID" in markdown([figure])
    assert "~~0." in markdown([figure])


def test_a_limit_of_one_thread_need_not_scale() -> None:
    assert one(quiet(100.0, None), quiet(100.0, None)).valid


def test_refused_repetitions_are_kept_and_made_again_up_to_a_bound() -> None:
    noisy, calm = quiet(100.0, 1.0), quiet(100.0)
    figure = one(noisy, calm, calm, calm, calm, calm, attempts=5, repetitions=2)
    assert [bool(repetition.refused) for repetition in figure.repetitions] == [True, False, False]
    assert figure.valid
    assert figure.verdict == "2 stand, 1 refused"
    figure = one(*[noisy] * 6, attempts=3, repetitions=2)
    assert len(figure.repetitions) == 3
    assert not figure.valid


def test_medians_are_of_those_that_stand() -> None:
    def repetition(value: float, refused: str) -> Repetition:
        return Repetition(Run(value), None, None, value / 100, None, refused)

    row = Row("r", "per s", lambda: Run(0.0))
    three = (repetition(10.0, ""), repetition(90.0, "noise"), repetition(20.0, ""))
    assert Figure(row, three, 2).value == 15.0
    assert Figure(row, three, 2).record()["median_ratio"] == pytest.approx(0.15)
    assert Figure(row, three[1:2], 2).value == 90.0, "shown, and INVALID"


def test_circumstances_say_where_and_what() -> None:
    assert {"machine", "cores", "commit", "command", "python", "date"} <= set(circumstances())


def test_bars_end_at_the_limit() -> None:
    row = Row("r", "ns", lambda: Run(1.0), limits(quiet(30.0), quiet(30.0)), "reads", more=False)
    assert bars(measure([row], TINY, lambda _: None)).startswith("█" * 40 + " ")
