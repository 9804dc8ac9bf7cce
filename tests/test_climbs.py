"""Power that climbs inside calls, too little to be told: what it may do to the figures is in their intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from energyprof import regression
from energyprof.climbs import asking, untold
from energyprof.fitting import Point, fitted
from energyprof.regression import estimate
from energyprof.solver import Model, Task
from tests.simulate import world

LOOP: dict[str, Any] = {
    "durations_s": (0.012, 0.02, 0.03), "powers_w": (300.0, 500.0, 150.0), "lag_s": 0.01, "duration_cv": 0.1,
}  # fmt: skip
CLIMBS = (0.4, -0.3, 0.2)


def fit(seed: int, climbs: tuple[float, ...] | None) -> tuple[Task, Point, np.ndarray[Any, Any]]:
    """A fit with one power a state."""
    run = world(np.random.default_rng(seed), **LOOP, climbs=climbs)
    task = Task(run.line, run.states, run.ticks)
    return task, *fitted(task, Model())


def test_what_they_take_from_one_state_they_give_to_others() -> None:
    task, point, error_s = fit(4, CLIMBS)
    shift, covariance = untold(task, Model(), point, error_s)
    assert abs(shift).max() > 0.0
    assert abs(shift.sum()) < 0.05 * abs(shift).max()
    together = np.ones(len(shift)) @ covariance @ np.ones(len(shift))
    assert together < 0.01 * np.trace(covariance)
    assert np.linalg.eigvalsh(covariance).min() > -1e-6 * np.trace(covariance)


def test_steady_powers_widen_by_little() -> None:
    for seed in range(3):
        task, point, error_s = fit(seed, None)
        own, _ = regression._energies(task, point, Model())
        _, covariance = untold(task, Model(), point, error_s)
        assert np.sqrt(np.diag(covariance))[1:].max() < 0.1 * own[1:].min()


def test_intervals_hold_the_truth_where_climbs_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if there were none, 8 of 14 do."""
    loop: dict[str, Any] = {"durations_s": (0.02, 0.03), "powers_w": (500.0, 200.0)}

    def found() -> tuple[int, float]:
        held, off = 0, []
        for seed in range(7):
            run = world(np.random.default_rng(seed), **loop, lag_s=0.01, climbs=(0.4, -0.4))
            now = estimate(run.line, run.states, run.ticks)
            error = np.abs(now.energy_j - run.truth_j)[1:]
            held += int(np.count_nonzero(error < 2.0 * np.sqrt(np.diag(now.covariance))[1:]))
            off += (error / run.truth_j[1:]).tolist()
        return held, float(np.median(off))

    held, off = found()
    monkeypatch.setattr(regression, "untold", lambda *_: (np.zeros(3), np.zeros((3, 3))))
    plainly_held, plainly_off = found()
    assert held >= 12
    assert held > plainly_held + 2
    assert off < 1.1 * plainly_off


def test_a_lag_at_its_least_makes_up_for_nothing() -> None:
    run = world(np.random.default_rng(3), (0.03, 0.045), (620.0, 140.0))
    task = Task(run.line, run.states, run.ticks)
    point, error_s = fitted(task, Model())
    assert point.lag_s < 0.001
    plain, _ = regression._energies(task, point, Model())
    shift, _ = untold(task, Model(), point, error_s)
    assert np.abs(shift / plain)[1:].max() < 0.02


def test_only_what_cannot_be_chance_asks_and_what_was_refused_asks_no_more() -> None:
    task, point, error_s = fit(1, None)
    assert asking(task, Model(), point, error_s, ()) is None
    steep = world(np.random.default_rng(1), (0.06, 0.045), (410.0, 250.0), lag_s=0.02, climbs=(1.0, 0.0))
    task = Task(steep.line, steep.states, steep.ticks)
    point, error_s = fitted(task, Model())
    column = asking(task, Model(), point, error_s, ())
    assert column == 1
    assert asking(task, Model(), point, error_s, {column}) != column
