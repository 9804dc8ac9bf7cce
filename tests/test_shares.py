"""Lag-filtered time shares: they add up, and with the true powers they give the true energies."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energyprof.shares import OUTSIDE, Timeline, call_products, during, shares, timeline
from tests.simulate import world

POWERS = np.array([100.0, 620.0, 140.0])


@pytest.mark.parametrize("lag_s", [0.0, 0.003, 0.02, 0.3])
def test_true_powers_times_shares_are_the_true_gains_and_energies(lag_s: float) -> None:
    run = world(np.random.default_rng(3), lag_s=lag_s)
    seconds, level = shares(run.line, run.edges_s * 1e9, run.states, lag_s)
    assert np.abs(seconds @ POWERS - run.ticks.gain_j).max() < 2e-3
    assert level.sum(axis=1) == pytest.approx(1.0)
    assert during(run.line, run.states, lag_s) @ POWERS == pytest.approx(run.truth_j, rel=1e-6)


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
    seconds, _ = shares(line, edges, np.arange(OUTSIDE, 3), lag_s)
    assert seconds.sum(axis=1) == pytest.approx(np.diff(edges) / 1e9, abs=1e-9)
    assert seconds.min() > -1e-9


def test_a_run_that_begins_inside_a_region_knows_it() -> None:
    line = timeline(np.array([0], np.int32), np.array([10]), np.array([50]), np.array([-1]), 20, 80)
    assert line.t_ns.tolist() == [20, 50, 80]
    assert line.state.tolist() == [0, OUTSIDE]


def test_weights_scale_the_segments_that_they_belong_to() -> None:
    line = Timeline(np.array([0, 10, 20, 30]) * 10**6, np.array([0, 1, 0]))
    edges = np.array([0.0, 30e6])
    seconds, _ = shares(line, edges, np.array([0, 1]), 0.0, np.array([2.0, 1.0, 0.5]))
    assert seconds[0].tolist() == pytest.approx([0.025, 0.01])


@pytest.mark.parametrize("lag_s", [0.0, 0.02])
def test_the_noise_of_calls_is_a_covariance(lag_s: float) -> None:
    run = world(np.random.default_rng(5), (0.03, 0.045, 0.31), (620.0, 140.0, 300.0), lag_s=lag_s)
    same, next_, long_same, long_next = call_products(run.line, run.edges_s * 1e9, run.states, lag_s, 0.25)
    for diagonal, beside in ((same, next_), (long_same, long_next)):
        for column in range(same.shape[1]):
            matrix = (
                np.diag(diagonal[:, column]) + np.diag(beside[:, column], 1) + np.diag(beside[:, column], -1)
            )
            assert np.linalg.eigvalsh(matrix).min() > -1e-12
    assert long_same[:, run.states == 2].sum() > 0
    assert long_same[:, run.states == 0].sum() == 0
