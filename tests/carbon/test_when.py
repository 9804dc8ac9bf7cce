"""The greenest start is the best of all starts, not only of those on the series' marks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyprof.carbon.series import Series
from energyprof.carbon.when import choose

HOUR_S = 3600.0


def of_hours(*g_per_kwh: float, begin_s: float = 0.0) -> Series:
    begin = begin_s + HOUR_S * np.arange(len(g_per_kwh))
    return Series(begin, np.array(g_per_kwh, float), float(begin[-1] + HOUR_S), "test")


@st.composite
def cases(draw: st.DrawFn) -> tuple[Series, float]:
    steps = draw(st.lists(st.floats(60, 7200), min_size=2, max_size=12))
    values = draw(st.lists(st.floats(0, 1000), min_size=len(steps), max_size=len(steps)))
    edges = 1.7e9 + np.concatenate(([0.0], np.cumsum(steps)))
    duration = draw(st.floats(0.05, 1.0)) * sum(steps)
    return Series(edges[:-1], np.array(values), float(edges[-1])), duration


@given(cases())
def test_no_start_is_greener_than_the_greenest_nor_worse_than_the_worst(case: tuple[Series, float]) -> None:
    series, duration = case
    choice = choose(series, duration)
    starts = np.linspace(series.begin_s[0], series.end_s - duration, 2001)
    means = (series.cumulative(starts + duration) - series.cumulative(starts)) / duration
    assert choice.greenest.g_per_kwh <= means.min() + 1e-6
    assert choice.worst.g_per_kwh >= means.max() - 1e-6
    assert choice.earliest.g_per_kwh == pytest.approx(means[0], abs=1e-6)
    assert choice.greenest.g_per_kwh - 1e-6 <= choice.mean_g_per_kwh <= choice.worst.g_per_kwh + 1e-6
    for window in (choice.greenest, choice.worst):
        assert series.begin_s[0] - 1e-3 <= window.begin_s <= window.end_s <= series.end_s + 1e-3
        assert series.mean(window.begin_s, window.end_s) == pytest.approx(window.g_per_kwh, abs=1e-3)


@given(cases())
def test_the_mean_of_all_starts_is_that_of_very_many(case: tuple[Series, float]) -> None:
    series, duration = case
    starts = np.linspace(series.begin_s[0], series.end_s - duration, 20_001)
    means = (series.cumulative(starts + duration) - series.cumulative(starts)) / duration
    assert choose(series, duration).mean_g_per_kwh == pytest.approx(float(means.mean()), abs=0.5)


def test_the_best_window_may_end_on_a_mark_and_begin_between_two() -> None:
    choice = choose(of_hours(300, 100, 100, 500), 2.5 * HOUR_S)
    assert choice.greenest.begin_s == 0.5 * HOUR_S
    assert choice.greenest.g_per_kwh == pytest.approx((0.5 * 300 + 2 * 100) / 2.5)
    assert choice.saved == pytest.approx(1 - 140 / ((300 + 100 + 0.5 * 100) / 2.5))


def test_equal_starts_mean_the_earliest_of_them_and_nothing_saved() -> None:
    choice = choose(of_hours(200, 200, 200, 200), HOUR_S, 0.25 * HOUR_S)
    assert choice.greenest.begin_s == choice.earliest.begin_s == 0.25 * HOUR_S
    assert choice.saved == 0.0


def test_a_run_as_long_as_the_series_has_one_start() -> None:
    choice = choose(of_hours(100, 300), 2 * HOUR_S)
    assert choice.greenest == choice.worst == choice.earliest
    assert choice.mean_g_per_kwh == 200


def test_starts_that_are_past_are_no_candidates() -> None:
    series = of_hours(50, 400, 300, 400)
    assert choose(series, HOUR_S).greenest.begin_s == 0
    later = choose(series, HOUR_S, 1.5 * HOUR_S)
    assert later.earliest.begin_s == 1.5 * HOUR_S
    assert later.greenest.begin_s == 2 * HOUR_S


def test_windows_that_touch_a_hole_are_no_candidates() -> None:
    series = of_hours(100, math.nan, 300, 250, 350)
    choice = choose(series, 2 * HOUR_S)
    assert choice.earliest.begin_s == 2 * HOUR_S
    assert choice.greenest.g_per_kwh == pytest.approx(275)
    assert choose(series, HOUR_S).greenest.begin_s == 0
    # One hour before the hole, and two of starts behind it: (100 alone has no width) the mean is of the latter.
    assert choose(series, HOUR_S).mean_g_per_kwh == pytest.approx((275 + 300) / 2)


@pytest.mark.parametrize("duration", [0.0, -1.0, math.nan, math.inf])
def test_a_run_of_no_length_is_refused(duration: float) -> None:
    with pytest.raises(ValueError, match="length is above zero"):
        choose(of_hours(1, 2), duration)


@pytest.mark.parametrize(
    ("series", "hours", "not_before", "why"),
    [
        (of_hours(1, 2), 3.0, -math.inf, "covers 2 h, the run lasts 3 h"),
        (of_hours(1, math.nan, 2), 1.5, -math.inf, "holes"),
        (of_hours(1, 2), 1.5, 1.8 * HOUR_S, "ends before"),
    ],
)
def test_a_series_that_holds_no_such_run_says_why_in_one_line(
    series: Series, hours: float, not_before: float, why: str
) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        choose(series, hours * HOUR_S, not_before)
    assert "\n" not in str(refused.value)


def test_a_year_of_five_minutes_is_searched_exactly() -> None:
    rng = np.random.default_rng(4)
    begin = 300.0 * np.arange(105_120)
    series = Series(begin, rng.uniform(20, 500, len(begin)), float(begin[-1] + 300))
    choice = choose(series, 6.1 * HOUR_S)
    starts = rng.uniform(0, series.end_s - 6.1 * HOUR_S, 100_000)
    means = (series.cumulative(starts + 6.1 * HOUR_S) - series.cumulative(starts)) / (6.1 * HOUR_S)
    assert choice.greenest.g_per_kwh <= means.min()
    assert choice.worst.g_per_kwh >= means.max()
