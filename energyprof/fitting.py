"""Where the powers fit best: lag, delay, noise and timing errors of one stretch of ticks, and how sure they are.

The model is that of `regression`, its solution at one place that of `solver`. The lag and a gauge's delay are
sought by the likelihood, since they bend it; the noise of calls maximises it (REML: Patterson and Thompson,
Biometrika 58, 1971); the edges' errors follow from the residuals (Gauss-Newton on the functional model:
Fuller, Measurement Error Models, 1987, section 3.2).

Pure functions of arrays: seconds, joules, watts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energyprof.solver import Fit, Model, Task, inverse, solve, start_power

Floats = NDArray[np.float64]

# First-order lags of power sensors reach some 20 ms (docs/method.md); beyond 80 ms a window is meant.
_LAGS_S = np.array([0.0, 0.004, 0.008, 0.012, 0.016, 0.02, 0.025, 0.03, 0.04, 0.055, 0.08])
LAG_PRIOR_S = 0.04
# What a gauge shows may be older than its refresh; how much is not published.
_DELAYS_S = np.array([0.0, 0.002, 0.004, 0.006, 0.008, 0.011, 0.014, 0.018, 0.022])
DELAY_PRIOR_S, _LEAST_DELAY_S = 0.008, -0.003
_NOISE_LOG10 = (-8.0, 0.0)  # s^2, relative variance of a call's power
_SOME_NOISES = (3e-4, 3e-2)  # with which a coarse search finds its way
PROBE_TICKS = 100  # a part of a long run, where the whole would tell no more
_PLACES = np.linspace(-2.8, 2.8, 9)  # of the lag in its posterior, in standard deviations
_NEARLY = 6.0  # of a log posterior below the best: worth looking at
_COARSE_CELL_S2 = 0.005 * 0.0025
_DELAY_PLACES = np.linspace(-2.4, 2.4, 5)


@dataclass(frozen=True)
class Point:
    """The best fit at one lag and delay."""

    lag_s: float
    delay_s: float
    noise: float
    log_posterior: float
    fit: Fit


def _argmax(function: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    """Where a function of one variable is largest between two bounds."""
    from scipy import optimize  # see `solver`

    found: Any = optimize.minimize_scalar(
        lambda z: -function(float(z)), bounds=(low, high), method="bounded", options={"xatol": tolerance}
    )
    return float(found.x)


def no_error(task: Task, delay_s: float = 0.0) -> Floats:
    """No timing error, but readings of the gauge that are `delay_s` old."""
    return _delayed(task, np.zeros(len(task.sd_s)), delay_s)


def _delayed(task: Task, error_s: Floats, delay_s: float) -> Floats:
    """The timing errors with another delay: the windows ended so much earlier than they were seen."""
    return np.concatenate((error_s[: len(task.ticks.at_ns)], np.full(len(task.rows.window), -delay_s)))


def _delay(task: Task, error_s: Floats) -> float:
    return -float(error_s[-1]) if len(task.rows.window) else 0.0


def at_lag(
    task: Task,
    lag_s: float,
    error_s: Floats,
    model: Model,
    noise: float | None = None,
    near: float | None = None,
) -> Point:
    """The best powers, and the noise unless it is given, at a lag and timing errors; `near` a noise it is like."""
    design, products = task.design(lag_s, error_s, model), task.products(lag_s)
    start, mean_of = start_power(task, design.x), task.mean_of(model)

    def fit(log_noise: float) -> Fit:
        return solve(task, design, products, mean_of, 10.0**log_noise, error_s, start)

    if noise is not None:
        log_noise = float(np.log10(noise))
    elif near is not None:
        middle = float(np.clip(np.log10(max(near, 1e-12)), -7.0, -1.0))
        log_noise = _argmax(lambda z: fit(z).score, middle - 1.0, middle + 1.0, tolerance=0.3)
    else:
        log_noise = _argmax(lambda z: fit(z).score, *_NOISE_LOG10, tolerance=0.1)
    found, delay = fit(log_noise), _delay(task, error_s)
    prior = 0.5 * (lag_s / LAG_PRIOR_S) ** 2 + 0.5 * (delay / DELAY_PRIOR_S) ** 2
    return Point(lag_s, delay, 10.0**log_noise, found.score - prior, found)


def timing(task: Task, fit: Fit, error_s: Floats) -> Floats:
    """The best prediction of the edges' errors, inside their brackets; the windows' delay as it is."""
    pull = inverse(fit, fit.residual_j)[task.rows.tick]
    gradient = -np.diff(pull, prepend=0.0, append=0.0)
    ticks = task.ticks
    edges = np.clip(ticks.sd_s**2 * fit.edge_w * gradient, -ticks.low_s, ticks.high_s)
    return np.concatenate((edges, error_s[len(edges) :]))


def settle(task: Task, point: Point, error_s: Floats, model: Model, rounds: int = 3) -> tuple[Point, Floats]:
    """Move the edges and fit again, at one lag and noise, until they agree."""
    products = task.products(point.lag_s)
    for _ in range(rounds):
        error_s = error_s + 0.8 * (timing(task, point.fit, error_s) - error_s)
        design = task.design(point.lag_s, error_s, model)
        fit = solve(task, design, products, task.mean_of(model), point.noise, error_s, point.fit.power_w)
        point = replace(point, fit=fit)
    return point, error_s


def _best_lag(
    task: Task, lags_s: Floats, error_s: Floats, model: Model, noise: float, from_s: float | None = None
) -> tuple[Point, Floats]:
    """The best of these lags and what is between them, the noise there, and the timing errors.

    A gauge that looks late and a power that lags look alike: with `from_s`, the lag at which the delay was
    found, lag and delay change places, and their sum stays.
    """

    def errors(lag: float) -> Floats:
        if from_s is None or not len(task.rows.window):
            return error_s
        return _delayed(task, error_s, max(_delay(task, error_s) + from_s - lag, _LEAST_DELAY_S))

    points: dict[float, Point] = {}

    def posterior(lag: float) -> float:
        if lag not in points:
            points[lag] = at_lag(task, lag, errors(lag), model, noise)
        return points[lag].log_posterior

    middle = max(lags_s.tolist(), key=posterior)
    place = int(np.searchsorted(lags_s, middle))
    low, high = lags_s[max(place - 1, 0)], lags_s[min(place + 1, len(lags_s) - 1)]
    if high > low:
        _argmax(posterior, float(low), float(high), tolerance=5e-4)
    best = max(points, key=posterior)
    return at_lag(task, best, errors(best), model), errors(best)


def _best_delay(task: Task, delays_s: Floats, point: Point, error_s: Floats, model: Model) -> Floats:
    """The timing errors with the delay that fits best, near these, at the point's lag and noise."""
    if not len(task.rows.window):
        return error_s

    def posterior(delay: float) -> float:
        error = _delayed(task, error_s, delay)
        return at_lag(task, point.lag_s, error, model, point.noise).log_posterior

    scores = [posterior(delay) for delay in delays_s.tolist()]
    best = int(np.argmax(scores))
    low, high = delays_s[max(best - 1, 0)], delays_s[min(best + 1, len(delays_s) - 1)]
    low = max(low - (delays_s[1] - delays_s[0]) * (best == 0), _LEAST_DELAY_S)
    return _delayed(task, error_s, _argmax(posterior, float(low), float(high), tolerance=1e-4))


def _around(task: Task, error_s: Floats, step_s: float) -> Floats:
    return np.maximum(_delay(task, error_s) + step_s * np.array([-1.0, 0.0, 1.0]), _LEAST_DELAY_S)


def _near(lag_s: float, step_s: float) -> Floats:
    return np.unique(np.clip(lag_s + step_s * np.array([-1.0, 0.0, 1.0]), 0.0, _LAGS_S[-1]))


def fitted(task: Task, model: Model) -> tuple[Point, Floats]:
    """Lag, delay, noise and powers: of steady powers first on a part of the ticks, if there are many."""
    if model.drift is None and len(task.ticks.gain_j) > 1.5 * PROBE_TICKS:
        part, _ = task.part(PROBE_TICKS)
        point, _ = fitted(part, model.of_part(task.states, part.states))
    else:
        found = [_best_of(_everywhere(task, no_error(task), model, noise)) for noise in _SOME_NOISES]
        point = _best_of(
            at_lag(task, coarse.lag_s, no_error(task, coarse.delay_s), model) for coarse in found
        )
    lags_s = _near(point.lag_s, 0.004)
    point, error_s = _best_lag(task, lags_s, no_error(task, point.delay_s), model, point.noise)
    point, error_s = settle(task, point, error_s, model)
    return refined(task, model, point, error_s)


def _best_of(points: Iterable[Point]) -> Point:
    return max(points, key=lambda point: point.log_posterior)


def _everywhere(task: Task, error_s: Floats, model: Model, noise: float) -> Iterator[Point]:
    """Fits on a coarse grid over all lags and delays that there may be."""
    for lag in _LAGS_S.tolist():
        for delay in _DELAYS_S.tolist() if len(task.rows.window) else [0.0]:
            yield at_lag(task, lag, _delayed(task, error_s, delay), model, noise)


def refined(
    task: Task, model: Model, point: Point, error_s: Floats, step_s: float = 0.004
) -> tuple[Point, Floats]:
    """Delay and lag again, now that the edges are where they are."""
    error_s = _best_delay(task, _around(task, error_s, step_s / 4), point, error_s, model)
    point, error_s = _best_lag(task, _near(point.lag_s, step_s), error_s, model, point.noise, point.lag_s)
    return settle(task, point, error_s, model)


def posterior(task: Task, point: Point, error_s: Floats, model: Model) -> list[Point]:
    """Fits at lags and delays that cover their posterior, each with its share of the space in its weight."""
    lag_step = _half_fall(
        lambda step: [
            at_lag(task, lag, error_s, model, point.noise)
            for lag in (point.lag_s - step, point.lag_s + step)
            if lag >= 0
        ],
        point.log_posterior, 0.001, 0.03,
    )  # fmt: skip
    lags = np.unique(np.clip(point.lag_s + lag_step * _PLACES, 0.0, None))
    if not len(task.rows.window):
        return [at_lag(task, float(lag), error_s, model, point.noise) for lag in lags]
    return list(_over_both(task, point, error_s, model, lags, lag_step))


def _over_both(
    task: Task, point: Point, error_s: Floats, model: Model, lags: Floats, lag_step: float
) -> Iterator[Point]:
    """A grid over lag and delay, along the ridge where one makes up for the other."""
    middle = _delay(task, error_s)

    def at(lag: float, delay: float) -> Point:
        return at_lag(task, lag, _delayed(task, error_s, delay), model, point.noise)

    top = at(point.lag_s, middle).log_posterior
    step = _half_fall(lambda d: [at(point.lag_s, middle - d), at(point.lag_s, middle + d)], top, 1e-4, 0.01)
    aside = float(lags[-1])
    shifted = _best_delay(task, _around(task, error_s, 2 * step), replace(point, lag_s=aside), error_s, model)
    slope = (_delay(task, shifted) - middle) / max(aside - point.lag_s, 1e-9)
    for lag in lags.tolist():
        for delay in (middle + slope * (lag - point.lag_s) + step * _DELAY_PLACES).tolist():
            yield at(lag, delay)
    # Calls that vary much may fit elsewhere nearly as well.
    cell = float(np.diff(_PLACES)[0]) * lag_step * float(np.diff(_DELAY_PLACES)[0]) * step
    for far in _everywhere(task, error_s, model, point.noise):
        ridge = middle + slope * (far.lag_s - point.lag_s)
        near = abs(far.delay_s - ridge) < 3 * step and abs(far.lag_s - point.lag_s) < 3 * lag_step
        if not near and far.log_posterior > top - _NEARLY:
            larger = float(np.log(_COARSE_CELL_S2 / cell))
            yield replace(far, log_posterior=far.log_posterior + larger)


def _half_fall(around: Callable[[float], list[Point]], top: float, step: float, most: float) -> float:
    """A step over which the log posterior falls by a half: a standard deviation of it."""
    while step < most and max(p.log_posterior for p in around(step)) >= top - 0.5:
        step *= 1.7
    return step
