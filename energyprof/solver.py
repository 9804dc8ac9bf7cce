"""Powers of states from the gains of ticks, at one lag: weighted least squares with all its parts.

The model and its sources are those of `regression`, which seeks the lag and judges the models. Here are the
design, the covariance (tridiagonal: an edge that is off, and a call that spans an edge, touch two ticks),
and the non-negative solution. Seconds, joules, watts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, optimize

from energyprof.edges import Ticks
from energyprof.shares import Timeline, call_products, during, shares, total_by

Floats = NDArray[np.float64]
States = NDArray[np.int64]

_NS = 1e9
_LONG_CALL_VARIANCE = 0.25  # of a call that spans ticks: its own power may be anything
_LONG_TICKS = 2.5


@dataclass(frozen=True, eq=False)
class Model:
    """What is assumed beside the states' mean powers."""

    drift: Floats | None = None  # a segment
    blocks: int = 0
    per_call: tuple[int, ...] = ()  # columns of states that also have an energy a call


@dataclass(frozen=True)
class Fit:
    """A solution: c powers (W) and the restricted log-likelihood; design (n, c); V's diagonal and off-diagonal
    (J^2); power at the edges; residuals as they are and whitened; X' V^-1 X; own noise by tick and state."""

    power_w: Floats
    score: float
    x: Floats
    diagonal: Floats
    beside: Floats
    edge_w: Floats
    residual_j: Floats
    white: Floats
    normal: Floats
    own_same: Floats
    own_next: Floats


class Task:
    """One stretch of ticks: design matrices at any lag, edge error and model."""

    def __init__(self, line: Timeline, states: States, ticks: Ticks) -> None:
        self.line, self.states, self.ticks = line, states, ticks
        self.seconds = np.diff(line.t_ns) / _NS
        tick_s = float(np.median(np.diff(ticks.at_ns))) / _NS
        self.long_s = _LONG_TICKS * tick_s
        self.sd_s = ticks.sd_s
        self._mean_of: dict[Model, Floats] = {}

    def design(self, lag_s: float, error_s: Floats, model: Model) -> tuple[Floats, Floats]:
        edges = self.ticks.at_ns + error_s * _NS
        x, level = shares(self.line, edges, self.states, lag_s, model.drift)
        if model.per_call:
            chosen = self.states[list(model.per_call)]
            more_x, more_level = shares(self.line, edges, chosen, lag_s, self._a_call(model))
            x, level = np.hstack((x, more_x)), np.hstack((level, more_level))
        return x, level

    def during(self, lag_s: float, model: Model) -> Floats:
        """Rows: the time of each state; columns: as in `design`."""
        table = during(self.line, self.states, lag_s, model.drift)
        if model.per_call:
            more = during(self.line, self.states, lag_s, self._a_call(model))
            table = np.hstack((table, more[:, list(model.per_call)]))
        return table

    def mean_of(self, model: Model) -> Floats:
        """What turns the columns' powers into the states' mean powers."""
        if model not in self._mean_of:
            place = np.searchsorted(self.states, self.line.state)
            seconds = total_by(place, self.seconds, len(self.states))
            self._mean_of[model] = self.during(0.0, model) / np.maximum(seconds, 1e-9)[:, None]
        return self._mean_of[model]

    def part(self, ticks: int) -> tuple[Task, slice]:
        """The same task over so many ticks in the middle, and which edges they have."""
        first = (len(self.ticks.gain_j) - ticks) // 2
        some = self.ticks.between(first, first + ticks)
        line = self.line.between(int(some.at_ns[0]), int(some.at_ns[-1]))
        return Task(line, np.unique(line.state), some), slice(first, first + ticks + 1)

    def _a_call(self, model: Model) -> Floats:
        drift = 1.0 if model.drift is None else model.drift
        return drift / np.maximum(self.seconds, 1e-7)

    def products(self, lag_s: float, error_s: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        edges = self.ticks.at_ns + error_s * _NS
        return call_products(self.line, edges, self.states, lag_s, self.long_s)


def solve(
    task: Task,
    design: tuple[Floats, Floats],
    products: tuple[Floats, Floats, Floats, Floats],
    mean_of: Floats,
    noise: float,
    error_s: Floats,
    power: Floats,
) -> Fit:
    """p by generalised least squares, V after p and p after V. `mean_of` maps columns to states' power."""
    (x, level), (same, next_, long_same, long_next) = design, products
    floor = task.ticks.quantum_j**2 / 6.0
    doubt = np.zeros(len(power))  # variance of the powers: a power that came out too low is as noisy as it is
    for last in (False, False, True):
        edge_w = level @ power
        edge = (edge_w * task.sd_s) ** 2
        squared = (mean_of @ power) ** 2 + mean_of**2 @ doubt
        own_same = squared * (noise * same + _LONG_CALL_VARIANCE * long_same)
        own_next = squared * (noise * next_ + _LONG_CALL_VARIANCE * long_next)
        diagonal = (edge[:-1] + edge[1:] + own_same.sum(axis=1) + floor) * (1 + 1e-9)
        beside = -edge[1:-1] + own_next.sum(axis=1)
        shifted = task.ticks.gain_j + np.diff(edge_w * error_s)
        banded = np.zeros((2, len(diagonal)))
        banded[0], banded[1, :-1] = diagonal, beside
        lower = linalg.cholesky_banded(banded, lower=True, check_finite=False)
        both = linalg.solve_banded((1, 0), lower, np.column_stack((x, shifted)), check_finite=False)
        xw, yw = both[:, :-1], both[:, -1]
        if last:
            break
        q, r = np.linalg.qr(xw)
        power = np.maximum(optimize.nnls(r, q.T @ yw)[0], 1e-9)
        doubt = np.minimum(np.diag(np.linalg.pinv(r.T @ r, hermitian=True)), power**2 + power.mean() ** 2)
    white = yw - xw @ power
    normal = xw.T @ xw
    information = np.linalg.slogdet(normal + 1e-12 * np.diag(np.diag(normal) + 1e-12))[1]
    score = -0.5 * (2.0 * float(np.log(lower[0]).sum()) + information + float(white @ white))
    residual = shifted - x @ power
    return Fit(power, score, x, diagonal, beside, edge_w, residual, white, normal, own_same, own_next)


def inverse(fit: Fit, right: Floats) -> Floats:
    """V^-1 times a vector or the columns of a matrix."""
    banded = np.zeros((2, len(fit.diagonal)))
    banded[0], banded[1, :-1] = fit.diagonal, fit.beside
    return linalg.solveh_banded(banded, right, lower=True, check_finite=False)  # type: ignore[no-any-return]


def start_power(x: Floats, gain_j: Floats) -> Floats:
    """Powers by plain least squares, none of them zero: V needs them to begin with."""
    mean = float(gain_j.sum()) / max(float(x.sum()), 1e-9)
    return np.maximum(optimize.nnls(x, gain_j)[0], 0.02 * max(mean, 1e-6))  # type: ignore[no-any-return]
