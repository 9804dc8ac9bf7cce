"""The maths of curves: exact where it can be, bounded where it cannot, null where nothing is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyprof import curves, edges
from energyprof.reasons import COUNTER_RESET, SENSOR_GAP

S = 1_000_000_000
MS = 1_000_000


def times(*seconds: float) -> np.ndarray:
    return np.array([round(s * S) for s in seconds], np.int64)


def counter(seconds: list[float], joules: list[float], **options) -> curves.EnergyCurve:
    at = times(*seconds)
    made = curves.from_counter(at, at, np.array([round(j * 1e6) for j in joules], np.int64), **options)
    assert made is not None
    return made


def on(curve: curves.EnergyCurve, begin: float, end: float) -> curves.Joules:
    return curves.joules(curve, times(begin), times(end))


def test_a_constant_power_gives_power_times_time_on_any_interval() -> None:
    curve = counter([0, 1, 2, 3], [0, 50, 100, 150])
    result = on(curve, 0.25, 2.75)
    assert result.energy_j[0] == pytest.approx(125.0)
    assert result.known[0]


def test_a_counter_that_wraps_goes_on_modulo_its_range() -> None:
    curve = counter([0, 1, 2], [262_000, 262_100, 57.0], wraps_at_uj=262_143_000_000)
    assert on(curve, 0, 2).energy_j[0] == pytest.approx(100 + 57 + 43)


def test_a_counter_that_may_have_wrapped_twice_gives_no_figure() -> None:
    curve = counter([0, 1, 2, 500], [1, 2, 3, 4], wraps_at_uj=262_143_000_000)
    result = on(curve, 0.5, 499)
    assert not result.known[0]
    assert curve.lost_reason == SENSOR_GAP
    assert on(curve, 0.5, 1.5).known[0]


def test_a_counter_that_was_reset_gives_no_figure_across_the_reset_and_figures_beside_it() -> None:
    curve = counter([0, 1, 2, 3], [1000, 1050, 20, 70])
    assert not on(curve, 0.5, 2.5).known[0]
    assert curve.lost_reason == COUNTER_RESET
    assert on(curve, 0.0, 1.0).energy_j[0] == pytest.approx(50)
    assert on(curve, 2.0, 3.0).energy_j[0] == pytest.approx(50)


def test_a_counter_that_claims_absurd_power_was_reset() -> None:
    curve = counter([0, 1, 2], [0, 100_000, 100_050])
    assert not on(curve, 0, 2).known[0]


def test_beyond_its_reach_a_curve_knows_nothing() -> None:
    curve = counter([1, 1.1, 1.2], [0, 5, 10])
    assert not on(curve, 0.0, 1.15).known[0]
    assert on(curve, 0.9, 1.2).known[0]


def test_an_interval_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="ends before it begins"):
        on(counter([0, 1], [0, 1]), 1, 0)


def test_one_reading_makes_no_curve() -> None:
    nothing = np.zeros(0, np.int64)
    assert curves.from_counter(nothing, nothing, nothing) is None
    assert curves.from_counter(times(1), times(1), times(1)) is None
    assert curves.from_ticking_counter(times(1), times(1), times(1)) is None
    assert curves.from_power(times(1), times(1)) is None


def test_edges_lie_between_the_last_old_and_the_first_new_value() -> None:
    before, after = times(0.0, 0.1, 0.2, 0.3), times(0.01, 0.11, 0.21, 0.31)
    low, high, value = edges.counter_edges(before, after, np.array([5, 5, 6, 6], np.int64))
    assert low.tolist() == [-np.inf, 0.1 * S]
    assert high.tolist() == [0.01 * S, 0.21 * S]
    assert value.tolist() == [5, 6]


def test_a_slow_read_of_an_older_value_is_no_reset() -> None:
    before, after = times(0.0, 0.10, 0.09, 0.2), times(0.01, 0.11, 0.12, 0.21)
    _, _, value = edges.counter_edges(before, after, np.array([5, 6, 5, 7], np.int64))
    assert value.tolist() == [5, 6, 7]


def test_a_missed_edge_is_placed_by_the_period_of_the_others() -> None:
    truth = np.arange(20) * 0.1003 + 0.02
    high = truth + 0.002
    low = truth - 0.002
    low[10] = truth[9] + 0.004  # nobody read between: the bracket is a tick wide
    high[10] = truth[10] + 0.060
    at, u_ns, period, _ = edges.edge_times(low * S, (high * S).astype(np.int64), 100 * MS)
    assert period == pytest.approx(0.1003 * S, rel=1e-3)
    assert at[10] == pytest.approx(truth[10] * S, abs=1.5 * MS)
    assert u_ns[10] < 10 * MS


def test_an_early_edge_belongs_to_its_own_tick_not_to_the_one_before() -> None:
    truth = np.arange(20) * 0.1003 + 0.02
    truth[10] -= 0.003
    low, high = truth - 0.002, truth + 0.002
    low[10], high[10] = truth[9] + 0.004, truth[10] + 0.0005
    at, _, _, _ = edges.edge_times(low * S, (high * S).astype(np.int64), 100 * MS)
    assert at[10] == pytest.approx(truth[10] * S, abs=2 * MS)


def test_a_power_gauge_at_constant_power_gives_power_times_time() -> None:
    at = times(*np.arange(0, 3.01, 0.1))
    curve = curves.from_power(at, np.full(len(at), 300_000))
    assert curve is not None
    assert on(curve, 0.5, 2.5).energy_j[0] == pytest.approx(600.0)


def test_a_power_gauge_stands_for_the_middle_of_its_window() -> None:
    """A 1 s mean of a step at t = 2 s ramps from 2 to 3 s; shifted by half the window it is unbiased."""
    at = np.arange(0, 6, 0.01)
    mean = np.clip(at - 2.0, 0, 1) * 500 + 100
    curve = curves.from_power(times(*at), (mean * 1e3).astype(np.int64), window_ns=S, refresh_ns=10 * MS)
    assert curve is not None
    assert on(curve, 0.5, 4.0).energy_j[0] == pytest.approx(100 * 3.5 + 500 * 2.0, rel=0.01)


def test_a_gauge_that_sees_a_quarter_of_the_time_says_so_in_its_uncertainty() -> None:
    at = times(*np.arange(0, 10, 0.1))
    power = np.where(np.arange(100) % 2 == 0, 140_000, 620_000)
    quarter = curves.from_power(at, power, window_ns=25 * MS, refresh_ns=100 * MS)
    whole = curves.from_power(at, power, window_ns=100 * MS, refresh_ns=100 * MS)
    assert quarter is not None
    assert whole is not None
    assert on(quarter, 1, 9).u_random_j[0] > on(whole, 1, 9).u_random_j[0]


def test_a_model_follows_its_published_curve() -> None:
    at = times(0, 1, 2)
    curve = curves.from_utilisation(
        at, np.array([0, 1_000_000, 3_000_000]), cpus=2, tdp_w=100, load=[0, 0.5, 1], share_of_tdp=[0.1, 0.75, 1.0],
        gain_u95=0.75, reach_ns=S,
    )  # fmt: skip
    assert curve is not None
    assert on(curve, 0, 1).energy_j[0] == pytest.approx(75.0)
    assert on(curve, 1, 2).energy_j[0] == pytest.approx(100.0)


def test_a_change_point_gives_each_side_the_power_of_its_neighbours() -> None:
    """100 W until t = 2.05 s, 500 W after it: the tick that holds the change is split rightly."""
    knots = np.arange(0, 4.01, 0.1)
    energy = np.where(knots < 2.05, 100 * knots, 100 * 2.05 + 500 * (knots - 2.05))
    curve = counter(knots.tolist(), energy.tolist(), refresh_ns=1)
    before = on(curve, 0, 2.05).energy_j[0]
    after = on(curves.with_change_points(curve, [round(2.05 * S)]), 0, 2.05).energy_j[0]
    assert abs(before - 205) > 9
    assert after == pytest.approx(205, abs=0.5)


def test_where_only_the_power_before_a_change_point_is_known_the_rest_of_the_tick_is_after_it() -> None:
    """70 W until t = 0.09 s, 300 W to 0.3 s, where the first tick that anyone saw is, and the run is over."""
    drawn = 70 * 0.09 + 300 * 0.21
    made = counter([0, 0.3, 0.4], [0, drawn, drawn + 7], refresh_ns=1)
    made = curves.with_power_range(made, np.array([70_000, 600_000]))
    split = curves.with_change_points(made, times(0.09, 0.3).tolist(), 70.0)
    assert on(split, 0.09, 0.3).energy_j[0] == pytest.approx(63, abs=1)


@pytest.mark.parametrize(("phase_ms", "expected_ms"), [(-4.0, 0.0), (4.0, -96.0)])
def test_the_grid_of_later_ticks_tells_whether_one_was_just_before_the_first_read(
    phase_ms: float, expected_ms: float
) -> None:
    """Nothing in the energies tells: 40 J a tick before and after, and 20 W more or less."""
    at = np.round((phase_ms + 100.0 * np.arange(1, 12)) * 1e6).astype(np.int64)
    at = np.concatenate(([0], at))
    value = np.concatenate(([0], 37_000_000 + 40_000_000 * np.arange(11)))
    first, _ = edges.first_edge(at, np.full(12, 1e6), np.arange(12) > 0, 0, value, 1e8, 70.0)
    assert first / 1e6 == pytest.approx(expected_ms, abs=0.1)


def test_the_shape_of_a_gauge_fills_a_counter_that_is_read_once_a_second() -> None:
    counted = counter([0, 1, 2], [0, 300, 600])
    at = times(*np.arange(0.05, 2, 0.1))
    power = np.where(np.arange(20) % 10 < 5, 100_000, 500_000)
    gauge = curves.from_power(at, power, window_ns=1, refresh_ns=1)
    assert gauge is not None
    filled = curves.with_shape(counted, gauge)
    assert on(filled, 0, 2).energy_j[0] == pytest.approx(600)
    assert on(filled, 0.0, 0.4).energy_j[0] == pytest.approx(40, abs=10)


@st.composite
def any_counter(draw: st.DrawFn) -> tuple[curves.EnergyCurve, int]:
    """A curve of any readings: gaps, resets, wraps, equal values, and its last time."""
    gaps = draw(st.lists(st.integers(1, 3 * S), min_size=1, max_size=40))
    values = draw(st.lists(st.integers(0, 300_000_000_000), min_size=len(gaps) + 1, max_size=len(gaps) + 1))
    if draw(st.booleans()):
        values.sort()
    at = np.concatenate(([0], np.cumsum(gaps))).astype(np.int64)
    value = np.array(values, np.int64)
    if draw(st.booleans()):
        made = curves.from_ticking_counter(at, at + 1, value)
    else:
        wrap = draw(st.sampled_from([None, 262_143_328_850]))
        made = curves.from_counter(at, at + 1, value, wraps_at_uj=wrap)
    if made is None:
        made = counter([0, 1], [0, 1])
    points = draw(st.lists(st.integers(0, int(at[-1])), max_size=4))
    return curves.with_change_points(made, points) if points else made, int(at[-1])


@given(any_counter(), st.data())
def test_parts_add_up_to_the_whole_and_no_joule_is_negative_or_nan(
    made: tuple[curves.EnergyCurve, int], data: st.DataObject
) -> None:
    curve, last = made
    cuts = sorted(data.draw(st.lists(st.integers(0, last), min_size=2, max_size=20)))
    begin, end = np.array(cuts[:-1], np.int64), np.array(cuts[1:], np.int64)
    parts = curves.joules(curve, begin, end)
    whole = curves.joules(curve, begin[:1], end[-1:])
    for result in (parts, whole):
        assert np.all(np.isfinite(result.energy_j))
        assert np.all(result.energy_j >= 0)
        assert np.all(np.isfinite(result.u_random_j))
        assert np.all(result.u_random_j >= 0)
    if whole.known[0]:
        assert parts.known.all()
        assert parts.energy_j.sum() == pytest.approx(whole.energy_j[0], rel=1e-9, abs=1e-6)
