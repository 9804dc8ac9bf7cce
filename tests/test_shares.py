"""Lag-filtered time shares: they add up, and with the true powers they give the true energies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energyprof.calls import band_products
from energyprof.shares import OUTSIDE, Shares, Timeline, timeline
from tests.simulate import world

POWERS = np.array([100.0, 620.0, 140.0])


@pytest.mark.parametrize("lag_s", [0.0, 0.003, 0.02, 0.3])
def test_true_powers_times_shares_are_the_true_gains_and_energies(lag_s: float) -> None:
    run = world(np.random.default_rng(3), lag_s=lag_s)
    of = Shares(run.line, run.states)
    seconds, level = of.until(run.edges_s * 1e9, lag_s)
    assert np.abs(np.diff(seconds, axis=0) @ POWERS - run.ticks.gain_j).max() < 2e-3
    assert level.sum(axis=1) == pytest.approx(1.0)
    assert of.during(lag_s) @ POWERS == pytest.approx(run.truth_j, rel=1e-6)


def test_a_lag_may_be_asked_for_again_after_others() -> None:
    run = world(np.random.default_rng(4), seconds=1.0)
    of = Shares(run.line, run.states)
    first = [of.until(run.edges_s * 1e9, lag_s)[0] for lag_s in (0.001, 0.002, 0.003, 0.004, 0.005)]
    again = [of.until(run.edges_s * 1e9, lag_s)[0] for lag_s in (0.001, 0.002, 0.003, 0.004, 0.005)]
    assert np.array_equal(first, again)


@st.composite
def nested_marks(draw: st.DrawFn) -> tuple[list[int], list[int], list[int]]:
    """Blocks inside blocks, as a thread leaves them: kinds 0 > 1 > 2 by depth."""
    kinds, begins, ends = [], [], []
    t = 0
    for _ in range(draw(st.integers(1, 6))):
        depth = draw(st.integers(1, 3))
        opened = []
        for kind in range(depth):
            t += draw(st.integers(1, 50_000_000))
            opened.append((kind, t))
        for kind, begin in reversed(opened):
            t += draw(st.integers(1, 50_000_000))
            kinds.append(kind)
            begins.append(begin)
            ends.append(t)
        t += draw(st.integers(1, 50_000_000))
    return kinds, begins, ends


@given(nested_marks(), st.floats(0.0, 0.1), st.lists(st.floats(0, 1), min_size=2, max_size=20))
@settings(max_examples=60, deadline=None)
def test_the_states_partition_time_whatever_the_nesting(
    marks: tuple[list[int], list[int], list[int]], lag_s: float, cuts: list[float]
) -> None:
    kinds, begins, ends = marks
    parent = np.array([-1, 0, 1])
    last = max(ends) + 1_000
    line = timeline(np.array(kinds, np.int32), np.array(begins), np.array(ends), parent, 0, last)
    assert (line.t_ns[0], line.t_ns[-1]) == (0, last)
    assert np.all(np.diff(line.t_ns) > 0)
    for kind in range(3):
        own = sum(e - b for k, b, e in zip(kinds, begins, ends) if k == kind)
        inside = sum(e - b for k, b, e in zip(kinds, begins, ends) if k == kind + 1)
        assert np.diff(line.t_ns)[line.state == kind].sum() == own - inside
    edges = np.sort(np.array(cuts)) * last
    seconds = np.diff(Shares(line, np.arange(OUTSIDE, 3)).until(edges, lag_s)[0], axis=0)
    assert seconds.sum(axis=1) == pytest.approx(np.diff(edges) / 1e9, abs=1e-9)
    assert seconds.min() > -1e-9


def test_a_run_that_begins_inside_a_region_knows_it() -> None:
    line = timeline(np.array([0], np.int32), np.array([10]), np.array([50]), np.array([-1]), 20, 80)
    assert line.t_ns.tolist() == [20, 50, 80]
    assert line.state.tolist() == [0, OUTSIDE]


def test_weights_scale_the_segments_that_they_belong_to() -> None:
    line = Timeline(np.array([0, 10, 20, 30]) * 10**6, np.array([0, 1, 0]))
    edges = np.array([0.0, 30e6])
    total, _ = Shares(line, np.array([0, 1]), np.array([2.0, 1.0, 0.5])).until(edges, 0.0)
    assert (total[1] - total[0]).tolist() == pytest.approx([0.025, 0.01])


@pytest.mark.parametrize("lag_s", [0.0, 0.02])
@pytest.mark.parametrize("with_windows", [False, True])
def test_the_noise_of_calls_is_a_covariance(lag_s: float, with_windows: bool) -> None:
    run = world(np.random.default_rng(5), (0.03, 0.045, 0.31), (620.0, 140.0, 300.0), lag_s=lag_s)
    begin, end = run.edges_s[:-1] * 1e9, run.edges_s[1:] * 1e9
    if with_windows:
        begin, end = np.append(begin, run.windows.begin_ns), np.append(end, run.windows.end_ns)
        order = np.argsort(begin)
        begin, end = begin[order], end[order]
    short, long = band_products(run.line, begin, end, run.states, lag_s, 0.1003, 0.25)
    for bands in (short, long):
        for column in range(bands.shape[2]):
            matrix = np.diag(bands[0, :, column])
            for d in range(1, len(bands)):
                beside = bands[d, : len(begin) - d, column]
                matrix += np.diag(beside, d) + np.diag(beside, -d)
            assert np.linalg.eigvalsh(matrix).min() > -1e-12
    assert long[0, :, run.states == 2].sum() > 0
    assert long[0, :, run.states == 0].sum() == 0


def test_calls_of_one_row_add_their_squares() -> None:
    line = Timeline(np.array([0, 10, 20, 30, 40]) * 10**6, np.array([0, 1, 0, 1]))
    short, _ = band_products(
        line, np.array([0.0, 20e6]), np.array([20e6, 40e6]), np.array([0, 1]), 0.0, 0.02, 0.05
    )
    assert short[0].ravel().tolist() == pytest.approx([1e-4] * 4)
    assert short[1].ravel().tolist() == pytest.approx([0.0] * 4)
