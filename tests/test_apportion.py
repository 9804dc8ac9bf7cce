"""From marks and a curve's ticks to the energies of region kinds, with nesting, chunks, holes and reasons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from energyprof import attribution
from energyprof.apportion import Calls, half_width, solve
from energyprof.collectors.base import Channel
from energyprof.curves import EnergyCurve
from energyprof.intervals import Kind, Marks
from energyprof.reasons import BELOW_RESOLUTION, COLLINEAR, PHASE_LOCKED
from energyprof.tally import Figure, Meter
from tests.simulate import World, world


def curve_of(run: World) -> EnergyCurve:
    """The counter's curve, with the ticks as they were seen."""
    at, gain = run.ticks.at_ns.astype(np.int64), run.ticks.gain_j
    return EnergyCurve(
        t_ns=at,
        e_j=np.concatenate(([0.0], np.cumsum(gain))),
        u_j=np.full(len(at), 1.0),
        lost=np.zeros(len(gain), bool),
        tick_ns=100_300_000,
        low_w=0.0,
        high_w=700.0,
        reach_ns=3e8,
        gain_u95=0.05,
        ticks=run.ticks,
    )


def calls_of(run: World, around: bool = False) -> Calls:
    """The regions of the line as marks; kind 2, if asked for, is one region around each pair."""
    starts, ends, state = run.line.t_ns[:-1], run.line.t_ns[1:], run.line.state
    chosen = state >= 0
    kind, begin, end = state[chosen].astype(np.int32), starts[chosen], ends[chosen]
    parent = np.array([-1, -1])
    if around:
        outer = begin[kind == 0] - 1_000, end[kind == 1] + 1_000
        count = min(map(len, outer))
        kind = np.concatenate((kind, np.full(count, 2, np.int32)))
        begin, end = np.concatenate((begin, outer[0][:count])), np.concatenate((end, outer[1][:count]))
        parent = np.array([2, 2, -1])
    return Calls(kind, begin, end, parent)


def span(run: World) -> tuple[int, int]:
    return 300_000_000, int(run.line.t_ns[-1]) - 300_000_000


@pytest.mark.parametrize("lag_s", [0.0, 0.02])
def test_kinds_are_right_within_their_intervals(lag_s: float) -> None:
    run = world(np.random.default_rng(21), lag_s=lag_s)
    found = solve(curve_of(run), calls_of(run), *span(run))
    assert found is not None
    for kind in (0, 1):
        assert found.energy_j[kind] == pytest.approx(run.truth_j[kind + 1], abs=half_width(found, kind))
        assert half_width(found, kind) < 0.05 * run.truth_j[kind + 1]


def test_a_region_is_the_sum_of_what_is_inside_it_and_better_known() -> None:
    run = world(np.random.default_rng(22), lag_s=0.02)
    found = solve(curve_of(run), calls_of(run, around=True), *span(run))
    assert found is not None
    inner = found.energy_j[0] + found.energy_j[1]
    assert inner <= found.energy_j[2] <= 1.02 * inner
    assert half_width(found, 2) < half_width(found, 0)


def test_holes_and_long_runs_are_taken_in_parts() -> None:
    run = world(np.random.default_rng(23), seconds=90.0)
    hole = run.ticks.lost.copy()
    hole[300] = True
    curve = replace(curve_of(run), ticks=replace(run.ticks, lost=hole))
    found = solve(curve, calls_of(run), *span(run))
    assert found is not None
    # The hole is a tick of ten seconds' worth of a hundred: what ran in it is not in the sum.
    assert found.energy_j[0] == pytest.approx(run.truth_j[1], rel=0.03)


def test_a_long_run_is_known_better_but_not_beyond_its_lag() -> None:
    short = world(np.random.default_rng(31), seconds=10.0, lag_s=0.02)
    long = world(np.random.default_rng(32), seconds=200.0, lag_s=0.02)
    widths = []
    for run in (short, long):
        found = solve(curve_of(run), calls_of(run), *span(run))
        assert found is not None
        assert found.energy_j[0] == pytest.approx(run.truth_j[1], abs=half_width(found, 0))
        widths.append(half_width(found, 0) / run.truth_j[1])
    # All parts share one lag: four parts of 50 s do not make it four times as well known.
    assert widths[0] / 8 < widths[1] < widths[0]


def test_too_few_ticks_give_nothing() -> None:
    run = world(np.random.default_rng(24), seconds=0.4)
    assert solve(curve_of(run), calls_of(run), *span(run)) is None


def test_regions_that_interleave_are_not_nested() -> None:
    begin, end = np.array([0, 10, 40, 50]), np.array([20, 30, 60, 70])
    assert not Calls(np.array([0, 1, 0, 1], np.int32), begin, end, np.array([-1, -1])).nested
    assert Calls(np.array([0, 1], np.int32), np.array([0, 5]), np.array([20, 10]), np.array([-1, 0])).nested


def rows(run: World) -> dict[str, Figure]:
    """The figures of both kinds on one meter."""
    channel = Channel("gpu:0", "energy", "counter", "GPU board", gain_u95=0.05)
    meters = [Meter(channel, curve_of(run), True)]
    kinds = [Kind(0, ("a",), -1, "region"), Kind(0, ("b",), -1, "region")]
    calls = calls_of(run)
    marks = Marks(calls.kind, np.zeros(len(calls.kind), np.int64), calls.begin_ns, calls.end_ns)
    solved = attribution.solve(meters, kinds, marks, [span(run)])
    found = attribution.kind_rows(meters, kinds, attribution.kind_sums(meters, kinds, marks), solved)
    return {row.kind.path[0]: row.figures["gpu:0"] for row in found}


def test_short_regions_are_regressed_and_say_so() -> None:
    run = world(np.random.default_rng(25), lag_s=0.02)
    figures = rows(run)
    assert {figure.method for figure in figures.values()} == {"regressed"}
    for name, truth in zip("ab", run.truth_j[1:]):
        assert figures[name].energy_j == pytest.approx(truth, abs=figures[name].u_random_j)
        assert figures[name].u_gain_j == pytest.approx(0.05 * (figures[name].energy_j or 0))


def test_a_loop_in_step_with_the_tick_has_no_figure_but_a_reason() -> None:
    run = world(
        np.random.default_rng(26), (0.0503, 0.05), duration_cv=0.0002, outside_s=1e-7, seconds=10.0
    )  # fmt: skip
    figures = rows(run)
    for figure in figures.values():
        assert (figure.energy_j, figure.reason) == (None, PHASE_LOCKED)


def test_the_same_loop_with_jitter_has_figures() -> None:
    run = world(np.random.default_rng(27), (0.0503, 0.05), duration_cv=0.2, seconds=10.0)
    for figure, truth in zip(rows(run).values(), run.truth_j[1:]):
        assert figure.energy_j == pytest.approx(truth, rel=0.08)


def test_regions_that_hardly_any_tick_tells_apart_have_a_wide_interval_or_none() -> None:
    run = world(np.random.default_rng(28), (0.0006, 0.0006), (600.0, 100.0), seconds=4.0, lag_s=0.02)
    for figure, truth in zip(rows(run).values(), run.truth_j[1:]):
        if figure.energy_j is None:
            assert figure.reason in (COLLINEAR, PHASE_LOCKED, BELOW_RESOLUTION)
        else:
            assert abs(figure.energy_j - truth) <= figure.u_random_j
