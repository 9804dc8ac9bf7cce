"""Joules of states from the ticks of a meter: the estimation problem of regions shorter than a tick.

    y_j = sum_k p_k X_jk + own noise + P(t_j+1) e_j+1 - P(t_j) e_j

y_j is what the counter gained in tick j, X_jk the lag-filtered time of state k in it (see `shares`), p_k
its mean power; own noise are the ups and downs of the states' calls, of relative variance s^2 a call; e_j
is the error of edge j's time, known from its bracket, which takes from one tick what it gives to the next.
V, the covariance of both, is tridiagonal.

* p is the non-negative generalised least-squares solution.
* Edges known to some milliseconds only would bias p towards the mean (errors in variables). So the edges
  are estimated too: their best prediction given p moves them inside their brackets, and p is fitted again
  (Gauss-Newton on the functional model: Fuller, Measurement Error Models, 1987, section 3.2).
* s^2 maximises the restricted likelihood (REML: Patterson and Thompson, Biometrika 58, 1971), and the lag
  is averaged over its posterior.
* The energy of a state is what p says of its time plus the best prediction of its own noise from the
  residuals (universal kriging), whose error variance is in closed form.
* Slow drift of all powers and an energy a call beside the power are taken in where the Bayesian
  information criterion asks for them.

Pure functions of arrays: seconds, joules, watts, standard deviations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from energyprof.edges import Ticks
from energyprof.shares import Timeline, clustering
from energyprof.solver import Fit, Model, Task, inverse, solve, start_power

Floats = NDArray[np.float64]
States = NDArray[np.int64]

_NS = 1e9
# First-order lags of power sensors reach some 20 ms (DESIGN section 1); beyond 80 ms a window is meant.
_LAGS_S = np.array([0.0, 0.004, 0.008, 0.012, 0.016, 0.02, 0.025, 0.03, 0.04, 0.055, 0.08])
_LAG_PRIOR_S = 0.04
_NOISE_LOG10 = (-8.0, 0.0)  # s^2, relative variance of a call's power
_TICKS_A_BLOCK = 8  # of drift, at least
_REPLICATES = 16
_PROBE_TICKS = 100  # a part of a long run, where the whole would tell no more
_COMMON_S = 1.5e-4  # of all edges together: the shape of the jitter is not known
_VARYING = 0.05  # coefficient of variation of durations from which an energy a call can be told


@dataclass(frozen=True)
class Estimate:
    """Energies of k states over a timeline: joules, their error covariance, and what was learned.

    `clustered` says of each state whether its calls keep to some phases of the ticks. `shared`, shape (2, k), are
    the parts of the errors that all stretches of a run have in common, one standard deviation of the lag and
    one of a shift of all edges; `covariance` includes them. `widening` is by how much the replay widens the
    variance, and `per_call` are the states with an energy a call.
    """

    states: States

    energy_j: Floats
    covariance: Floats
    lag_s: float
    lag_sd_s: float
    call_noise: float
    clustered: Floats
    autocorrelation: float
    shared: Floats
    widening: float
    per_call: tuple[int, ...]


def _argmax(function: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    """Where a function of one variable is largest between two bounds."""
    found: Any = optimize.minimize_scalar(
        lambda z: -function(float(z)), bounds=(low, high), method="bounded", options={"xatol": tolerance}
    )
    return float(found.x)


@dataclass(frozen=True)
class _Point:
    """The best fit at one lag."""

    lag_s: float
    noise: float
    log_posterior: float
    fit: Fit


def _at_lag(task: Task, lag_s: float, error_s: Floats, model: Model) -> _Point:
    design, products = task.design(lag_s, error_s, model), task.products(lag_s, error_s)
    start = start_power(design[0], task.ticks.gain_j)
    mean_of = task.mean_of(model)

    def fit(log_noise: float) -> Fit:
        return solve(task, design, products, mean_of, 10.0**log_noise, error_s, start)

    log_noise = _argmax(lambda z: fit(z).score, *_NOISE_LOG10, tolerance=0.1)
    found = fit(log_noise)
    return _Point(lag_s, 10.0**log_noise, found.score - 0.5 * (lag_s / _LAG_PRIOR_S) ** 2, found)


def _edges(task: Task, fit: Fit) -> Floats:
    """The best prediction of the edges' errors, inside their brackets."""
    pull = inverse(fit, fit.residual_j)
    gradient = np.concatenate(([0.0], pull)) - np.concatenate((pull, [0.0]))
    return np.asarray(np.clip(task.sd_s**2 * fit.edge_w * gradient, -task.ticks.low_s, task.ticks.high_s))


def _settle(
    task: Task, point: _Point, error_s: Floats, model: Model, rounds: int = 3
) -> tuple[_Point, Floats]:
    """Move the edges and fit again, at one lag and noise, until they agree."""
    products = task.products(point.lag_s, error_s)  # milliseconds more or less are nothing to a variance
    for _ in range(rounds):
        error_s = error_s + 0.8 * (_edges(task, point.fit) - error_s)
        design = task.design(point.lag_s, error_s, model)
        fit = solve(task, design, products, task.mean_of(model), point.noise, error_s, point.fit.power_w)
        point = replace(point, fit=fit)
    return point, error_s


def _best_lag(task: Task, lags_s: Floats, error_s: Floats, model: Model) -> _Point:
    points = {lag: _at_lag(task, lag, error_s, model) for lag in lags_s.tolist()}

    def posterior(lag: float) -> float:
        points.setdefault(lag, _at_lag(task, lag, error_s, model))
        return points[lag].log_posterior

    middle = max(points, key=lambda lag: points[lag].log_posterior)
    place = int(np.searchsorted(lags_s, middle))
    low, high = lags_s[max(place - 1, 0)], lags_s[min(place + 1, len(lags_s) - 1)]
    if high > low:
        _argmax(posterior, float(low), float(high), tolerance=5e-4)
    return max(points.values(), key=lambda point: point.log_posterior)


def _fitted(task: Task) -> tuple[_Point, Floats]:
    """Lag, noise and powers of constant power: first on a part of the ticks, if there are many."""
    model, lags_s = Model(), _LAGS_S
    if len(task.ticks.gain_j) > 1.5 * _PROBE_TICKS:
        part, _ = task.part(_PROBE_TICKS)
        point, _ = _refined(
            part,
            model,
            *_settle(part, _best_lag(part, lags_s, _no_error(part), model), _no_error(part), model),
        )
        lags_s = _near(point.lag_s, 0.004)
    point, error_s = _settle(task, _best_lag(task, lags_s, _no_error(task), model), _no_error(task), model)
    return _refined(task, model, point, error_s)


def _no_error(task: Task) -> Floats:
    return np.zeros(len(task.ticks.at_ns))


def _near(lag_s: float, step_s: float) -> Floats:
    return np.unique(np.clip(lag_s + step_s * np.array([-1.0, 0.0, 1.0]), 0.0, _LAGS_S[-1]))


def _refined(
    task: Task, model: Model, point: _Point, error_s: Floats, step_s: float = 0.004
) -> tuple[_Point, Floats]:
    """The lag again, now that the edges are where they are."""
    return _settle(task, _best_lag(task, _near(point.lag_s, step_s), error_s, model), error_s, model)


def _with_drift(task: Task, model: Model, fit: Fit, blocks: int) -> Model:
    """All powers follow the ratio of found to expected energy, block by block, linear between."""
    cut = np.linspace(0, len(fit.x), blocks + 1).astype(int)
    expected = fit.x @ fit.power_w
    at = [(task.ticks.at_ns[a] + task.ticks.at_ns[b]) / 2 for a, b in pairwise(cut)]
    ratio = [task.ticks.gain_j[a:b].sum() / max(expected[a:b].sum(), 1e-12) for a, b in pairwise(cut)]
    middle = (task.line.t_ns[1:] + task.line.t_ns[:-1]) / 2
    drift = np.interp(middle, at, ratio) * (1.0 if model.drift is None else model.drift)
    return replace(model, drift=drift, blocks=blocks)


def _choose(task: Task) -> tuple[Model, _Point, Floats]:
    """The model that the data ask for: drift first, then an energy a call."""
    count = len(task.ticks.gain_j)
    point, error_s = _fitted(task)
    best = point.fit.score
    chosen = Model(), point, error_s
    blocks = 2
    while _drifts(point.fit.white) and blocks <= count // _TICKS_A_BLOCK:
        tried, now, error = Model(), point, error_s
        for _ in range(2):
            tried = _with_drift(task, tried, now.fit, blocks)
            now, error = _refined(task, tried, now, error)
        score = now.fit.score - 0.5 * (blocks - 1) * np.log(count)
        if score > best + 1.0:
            best, chosen = score, (tried, now, error)
        blocks *= 2
    for column in _varying(task):
        model, point, error_s = chosen
        tried = replace(model, per_call=(*model.per_call, column))
        now, error = _refined(task, tried, point, error_s)
        score = now.fit.score - 0.5 * (max(tried.blocks - 1, 0) + len(tried.per_call)) * np.log(count)
        if score > best + 1.0:
            best, chosen = score, (tried, now, error)
    return chosen


def _drifts(white: Floats) -> bool:
    """Whether residuals keep to one side for long: the range of their sums against a Brownian bridge's (5 %).

    The test with cumulated sums of Brown, Durbin and Evans, J. R. Stat. Soc. B 37, 1975.
    """
    sums = np.cumsum(white - white.mean())
    return bool(np.abs(sums).max() > 1.36 * float(white.std()) * np.sqrt(len(white)))


def _varying(task: Task) -> list[int]:
    """Columns of the states whose calls vary enough in duration to tell an energy a call."""
    found = []
    for column, state in enumerate(task.states):
        seconds = task.seconds[task.line.state == state]
        if state >= 0 and len(seconds) >= 10 and seconds.std() > _VARYING * seconds.mean():
            found.append(column)
    return found


def _energies(task: Task, point: _Point, model: Model) -> tuple[Floats, Floats]:
    """Energies of the states and the covariance of their errors, at one lag."""
    fit = point.fit
    table = task.during(point.lag_s, model)
    own = fit.own_same.copy()
    own[:-1] += fit.own_next
    own[1:] += fit.own_next
    pulled = inverse(fit, own)
    loading = table - pulled.T @ fit.x
    spread = np.linalg.pinv(fit.normal, hermitian=True)
    total = np.zeros((len(table), len(table)))
    np.fill_diagonal(total, fit.own_same.sum(axis=0) + 2.0 * fit.own_next.sum(axis=0))
    covariance = total - own.T @ pulled + loading @ spread @ loading.T
    return table @ fit.power_w + pulled.T @ fit.residual_j, covariance


def estimate(line: Timeline, states: States, ticks: Ticks) -> Estimate:
    """The energy of each state over the timeline.

    Parameters
    ----------
    line
        The states in the order of time; it begins at or before the first edge and ends at or after the last.
    states
        All states of the line, ascending.
    ticks
        What the counter gained; more ticks than states.
    """
    task = Task(line, states, ticks)
    model, point, error_s = _choose(task)
    points = _posterior(task, point, error_s, model)
    score = np.array([p.log_posterior for p in points])
    weight = np.exp(score - score.max())
    weight /= weight.sum()
    energies, covariances = (np.array(part) for part in zip(*(_energies(task, p, model) for p in points)))
    energy = weight @ energies
    off = energies - energy
    covariance = np.tensordot(weight, covariances, 1) + (weight[:, None] * off).T @ off
    lags = np.array([p.lag_s for p in points])
    lag = float(weight @ lags)
    lag_sd = float(np.sqrt(weight @ (lags - lag) ** 2))
    # How the energies go with the lag: over its posterior, by regression.
    slope = (weight * (lags - lag)) @ off / max(lag_sd**2, 1e-18)
    shifted = _common(task, point, error_s, model, energy)
    plain = float(np.trace(covariance))
    beyond = _beyond_theory(task, point, error_s, model)
    return _estimate(
        task, point, energy, covariance + np.diag(beyond) + np.outer(shifted, shifted), lag, lag_sd,
        np.array([lag_sd * slope, shifted]), 1.0 + float(beyond.sum()) / max(plain, 1e-300),
        tuple(int(states[c]) for c in model.per_call),
    )  # fmt: skip


def estimate_like(line: Timeline, states: States, ticks: Ticks, known: Estimate) -> Estimate:
    """The same for a further stretch of a run whose lag and model an earlier one has told: ten times faster."""
    task = Task(line, states, ticks)
    model = Model(per_call=tuple(np.flatnonzero(np.isin(states, known.per_call)).tolist()))
    start = _at_lag(task, known.lag_s, _no_error(task), model)
    point, error_s = _settle(task, start, _no_error(task), model)
    if _drifts(point.fit.white):
        return estimate(line, states, ticks)
    energy, covariance = _energies(task, point, model)
    later = _at_lag(task, known.lag_s + known.lag_sd_s, error_s, model)
    shared = np.array([_energies(task, later, model)[0] - energy, _scaled(known, states, energy)])
    covariance = known.widening * covariance + shared.T @ shared
    return _estimate(
        task, point, energy, covariance, known.lag_s, known.lag_sd_s, shared, known.widening, known.per_call
    )


def _scaled(known: Estimate, states: States, energy_j: Floats) -> Floats:
    """What a shift of all edges does to these energies: as much, relatively, as it did to the known ones."""
    place = np.clip(np.searchsorted(known.states, states), 0, len(known.states) - 1)
    share = known.shared[1] / np.maximum(known.energy_j, 1e-12)
    return np.where(known.states[place] == states, np.clip(share[place], -1, 1), 0.0) * energy_j


def _estimate(
    task: Task,
    point: _Point,
    energy_j: Floats,
    covariance: Floats,
    lag_s: float,
    lag_sd_s: float,
    shared: Floats,
    widening: float,
    per_call: tuple[int, ...],
) -> Estimate:
    white, line = point.fit.white, task.line
    tick_ns = float(np.median(np.diff(task.ticks.at_ns)))
    return Estimate(
        states=task.states,
        energy_j=energy_j,
        covariance=covariance,
        lag_s=lag_s,
        lag_sd_s=lag_sd_s,
        call_noise=float(np.sqrt(point.noise)),
        clustered=np.array([clustering(line.t_ns[:-1][line.state == k], tick_ns) for k in task.states]),
        autocorrelation=float(white[1:] @ white[:-1]) / max(float(white @ white), 1e-12),
        shared=shared,
        widening=widening,
        per_call=per_call,
    )


def _common(task: Task, point: _Point, error_s: Floats, model: Model, energy: Floats) -> Floats:
    """How the energies change where all edges are off the same way, by a standard deviation of that.

    Such a shift looks like a lag, so that the lag is sought again.
    """
    shift = float(np.sqrt(np.mean(task.sd_s**2) / len(task.sd_s) + _COMMON_S**2))
    moved = Task(task.line, task.states, replace(task.ticks, at_ns=task.ticks.at_ns + shift * _NS))
    now, _ = _refined(moved, model, point, error_s, step_s=0.001)
    return _energies(moved, now, model)[0] - energy


def _posterior(task: Task, point: _Point, error_s: Floats, model: Model) -> list[_Point]:
    """Fits at lags that cover the lag's posterior."""
    step = 0.001
    while step < 0.03:
        around = [
            _at_lag(task, lag, error_s, model) for lag in (point.lag_s - step, point.lag_s + step) if lag >= 0
        ]
        if max(p.log_posterior for p in around) < point.log_posterior - 0.5:
            break
        step *= 1.7
    grid = point.lag_s + step * np.linspace(-2.8, 2.8, 9)
    return [_at_lag(task, float(lag), error_s, model) for lag in np.unique(np.clip(grid, 0.0, None))]


def _beyond_theory(task: Task, point: _Point, error_s: Floats, model: Model) -> Floats:
    """Variance of the states' energies from the edges' errors that the linear theory does not have.

    The fitted run is played again with other errors inside the brackets and estimated anew. Where power
    jumps inside a bracket, or the ticks hardly tell the states apart, that varies more than the theory says.
    """
    count = len(task.ticks.gain_j)
    if count > 1.5 * _PROBE_TICKS and model.drift is None:  # a part stands for the whole
        part, edges = task.part(_PROBE_TICKS)
        now, error = _settle(part, _at_lag(part, point.lag_s, error_s[edges], model), error_s[edges], model)
        extra = np.zeros(len(task.states))
        extra[np.searchsorted(task.states, part.states)] = _beyond_theory(part, now, error, model)
        return extra * count / _PROBE_TICKS
    fit = point.fit
    table = task.during(point.lag_s, model)
    gain = table @ np.linalg.pinv(fit.normal, hermitian=True) @ inverse(fit, fit.x).T
    passed: Floats = np.diff(np.pad(gain, ((0, 0), (1, 1))), axis=1)
    theory = ((passed * fit.edge_w * task.sd_s) ** 2).sum(axis=1)
    true_ns = task.ticks.at_ns + error_s * _NS
    exact = replace(task.ticks, gain_j=task.design(point.lag_s, error_s, model)[0] @ fit.power_w)
    products = task.products(point.lag_s, error_s)
    chance = np.random.default_rng(0)
    found = np.zeros(len(table))
    for _ in range(_REPLICATES):
        shift = chance.normal(0.0, 1.0, len(true_ns)) * task.sd_s
        again = Task(task.line, task.states, replace(exact, at_ns=true_ns + shift * _NS))
        now_fit, error = fit, _no_error(task)
        for round_ in range(4):
            if round_:
                error = error + 0.8 * (_edges(again, now_fit) - error)
            design = again.design(point.lag_s, error, model)
            now_fit = solve(again, design, products, task.mean_of(model), point.noise, error, fit.power_w)
        found += (table @ (now_fit.power_w - fit.power_w)) ** 2 / _REPLICATES
    return np.asarray(np.maximum(found - theory, 0.0))
