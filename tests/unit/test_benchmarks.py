"""Every benchmark runs, with tiny input; the rules of the harness hold for made-up figures."""

import itertools
import json
from collections.abc import Callable, Iterable

import pytest

from benchmarks.__main__ import BENCHMARKS
from benchmarks.harness import (
    FULL,
    TINY,
    Figure,
    Raw,
    Row,
    Run,
    Sample,
    Scale,
    Slices,
    again,
    measure,
)
from benchmarks.report import INTRODUCTION, bars, circumstances, markdown, results, table


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs(name: str) -> None:
    said: list[str] = []
    figures = BENCHMARKS[name].run(TINY, said.append)
    assert figures
    assert all(figure.value > 0 for figure in figures)
    assert any(figure.row.goal for figure in figures)
    for figure in figures:
        assert figure.row.name in table(figures)
        assert figure.row.name in markdown(figures)
        assert any(figure.row.name in line for line in said)
    json.dumps([figure.record() for figure in figures])


def limits(*values: Raw) -> Callable[[], Raw]:
    """A limit that measures these values in sequence."""
    return iter(values).__next__


def quiet(value: float, scaling: float | None = 2.0) -> Raw:
    return Raw(value, 3.0, scaling)


def measured(*values: Raw, attempts: int = 1, pairs: int = 1) -> Figure:
    """The figure of a subject that always measures 50, with these slices of the limit."""
    row = Row("r", "per s", again(lambda: Run(50.0, 4.0)), limits(*values), "the limit")
    (figure,) = measure([row], Scale("test", pairs, attempts, 1), lambda _: None)
    return figure


def made(values: Iterable[float], wanted: int = 10, limit: float = 100.0) -> Figure:
    """A figure of pairs with these values beside a limit that does not move."""
    row = Row("r", "per s", again(lambda: Run(0.0)), lambda: quiet(limit), "the limit")
    beside = (quiet(limit), quiet(limit))
    return Figure(row, tuple(Sample(Run(value), beside, 0.0) for value in values), wanted)


def test_a_ratio_is_to_the_limits_around_it() -> None:
    figure = measured(quiet(99.0), quiet(101.0))
    assert figure.valid
    assert (figure.ratio, figure.cpu_ratio, figure.limit) == (0.5, 0.75, 100.0)


def test_less_can_be_better() -> None:
    row = Row("r", "ns", again(lambda: Run(50.0)), limits(quiet(10.0), quiet(10.0)), more=False)
    (figure,) = measure([row], TINY, lambda _: None)
    assert figure.ratio == 0.2


class Diary:
    """The order in which limit, subject and session are used."""

    def __init__(self) -> None:
        self.text = ""

    def limit(self) -> Raw:
        self.text += "L"
        return quiet(100.0)

    def subject(self) -> Run:
        self.text += "S"
        return Run(50.0)

    def slices(self) -> Slices:
        """A session of two slices."""
        self.text += "("
        try:
            yield self.subject
            yield self.subject
        finally:
            self.text += ")"


def test_limit_and_subject_alternate_and_neighbours_share_the_limit() -> None:
    diary = Diary()
    row = Row("r", "per s", again(diary.subject), diary.limit)
    (figure,) = measure([row], Scale("test", 3, 5, 1), lambda _: None)
    assert diary.text == "LSLSLSL"
    first, second, _ = (sample.limits for sample in figure.samples)
    assert first
    assert second
    assert first[1] is second[0]


def test_a_session_that_ends_is_opened_again_before_its_limit() -> None:
    diary = Diary()
    row = Row("r", "per s", diary.slices, diary.limit)
    measure([row], Scale("test", 3, 5, 1), lambda _: None)
    assert diary.text == "(LSLSL)(LSL)"


def test_a_session_without_a_slice_is_a_fault_of_the_benchmark() -> None:
    def slices() -> Slices:
        yield from ()

    with pytest.raises(AssertionError, match="r: a session without a slice"):
        measure([Row("r", "per s", slices)], TINY, lambda _: None)


@pytest.mark.parametrize(("before", "after"), [(100.0, 111.0), (111.0, 100.0)])
def test_a_pair_is_dropped_when_its_limits_differ(before: float, after: float) -> None:
    figure = measured(quiet(before), quiet(after))
    assert [sample.dropped for sample in figure.samples] == [True]
    assert figure.verdict == "INVALID: 0 of 1 pairs stand; limits apart in pairs 1 (11 %)"
    assert figure.verdict in markdown([figure])
    assert "~~0.4" in markdown([figure])


def test_limits_that_differ_by_a_tenth_stand() -> None:
    assert measured(quiet(100.0), quiet(110.0)).valid


def test_scaling_and_load_are_shown_and_refuse_nothing() -> None:
    figure = measured(quiet(100.0, 1.02), quiet(100.0, 1.4))
    assert figure.valid
    assert figure.scaling == 1.02
    assert "1.02" in table([figure])
    assert "1.02" in markdown([figure])
    busy = Figure(figure.row, (Sample(Run(50.0), (quiet(100.0), quiet(100.0)), 77.0),), 1)
    assert busy.valid
    assert "77.0" in table([busy])
    assert measured(quiet(100.0, None), quiet(100.0, None)).scaling is None


def test_a_dropped_pair_is_kept_and_measured_again_up_to_a_bound() -> None:
    low, calm = quiet(50.0), quiet(100.0)
    figure = measured(low, calm, calm, calm, attempts=5, pairs=2)
    assert [sample.dropped for sample in figure.samples] == [True, False, False]
    assert figure.valid
    assert figure.verdict == "2 pairs; limits apart in pairs 1 (100 %)"
    figure = measured(low, calm, low, calm, attempts=3, pairs=2)
    assert len(figure.samples) == 3
    assert figure.verdict == (
        "INVALID: 0 of 2 pairs stand; limits apart in pairs 1 (100 %), 2 (100 %), 3 (100 %)"
    )


def test_fewer_than_ten_pairs_are_invalid_at_full_size() -> None:
    assert FULL.pairs == 10
    assert made([50.0] * 10).valid
    assert made([50.0] * 9).faults == ("9 of 10 pairs stand",)


def test_quartiles_say_how_much_the_pairs_differ() -> None:
    figure = made([41.0, 42.0, 43.0, 44.0, 45.0, 46.0, 47.0, 48.0, 49.0])
    assert figure.ratio == 0.45
    assert figure.quartiles == pytest.approx((0.43, 0.47))
    assert figure.spread == pytest.approx(0.04 / 0.45)
    assert "0.430 .. 0.470" in table([figure])
    assert "0.430 .. 0.470" in markdown([figure])


def test_quartiles_far_apart_are_invalid_and_the_pairs_are_named() -> None:
    wide = [50.0, 30.0, 50.0, 70.0, 50.0, 30.0, 50.0, 70.0, 30.0, 70.0]
    figure = made(wide)
    assert figure.quartiles == pytest.approx((0.35, 0.65))
    assert figure.faults == (
        "quartiles 60 % of the median apart; far from the median are pairs "
        "2 (0.300), 4 (0.700), 6 (0.300), 8 (0.700), 9 (0.300), 10 (0.700)",
    )
    assert figure.ratio == 0.5, "shown, and INVALID"
    assert made([50.0] * 8 + [5.0, 95.0]).valid, "two pairs of ten do not move the quartiles"


def test_one_pair_has_quartiles_that_are_not_apart() -> None:
    assert made([50.0], wanted=1).spread == 0


def test_medians_are_of_the_pairs_that_stand() -> None:
    calm, moved = (quiet(100.0), quiet(100.0)), (quiet(100.0), quiet(200.0))
    samples = tuple(
        Sample(Run(value), beside, 0.0)
        for value, beside in ((10.0, calm), (90.0, moved), (20.0, calm))
    )
    row = made([]).row
    assert Figure(row, samples, 2).value == 15.0
    assert Figure(row, samples, 2).record()["median_ratio"] == pytest.approx(0.15)
    assert Figure(row, samples[1:2], 2).value == 90.0, "shown, and INVALID"


def test_a_row_without_a_limit_is_repeated() -> None:
    values = map(float, itertools.count(1))
    row = Row("r", "ms", again(lambda: Run(next(values))), more=False)
    (figure,) = measure([row], Scale("test", 10, 20, 3), lambda _: None)
    assert [sample.run.value for sample in figure.samples] == [1.0, 2.0, 3.0]
    assert (figure.value, figure.ratio, figure.quartiles) == (2.0, None, None)
    assert figure.verdict == "3 repetitions"


def test_a_computed_limit_needs_no_pairs() -> None:
    row = Row("r", "ms", again(lambda: Run(50.0)), more=False, limit_name="x", reference=20.0)
    (figure,) = measure([row], Scale("test", 10, 20, 2), lambda _: None)
    assert (figure.ratio, figure.limit, figure.quartiles) == (0.4, 20.0, None)
    assert figure.verdict == "2 repetitions"


def test_circumstances_say_where_and_what() -> None:
    assert {"machine", "cores", "commit", "command", "python", "date"} <= set(circumstances())


def test_bars_end_at_the_limit() -> None:
    row = Row("r", "ns", again(lambda: Run(1.0)), lambda: quiet(30.0), "reads", more=False)
    assert bars(measure([row], TINY, lambda _: None)).startswith("█" * 40 + " ")


def test_the_page_has_the_circumstances_and_each_benchmark_with_its_words() -> None:
    page = results({"machine": "M"}, {"a": [made([50.0])]}, {"a": "Measures ``x``.\n"})
    assert page.startswith(INTRODUCTION)
    assert "| machine | M |" in page
    assert "## a\n\nMeasures `x`.\n\n| figure |" in page
    assert "r: INVALID: 1 of 10 pairs stand." in page


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_says_what_it_measures(name: str) -> None:
    assert len((BENCHMARKS[name].__doc__ or "").split()) > 20
