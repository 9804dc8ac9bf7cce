"""Joules of states from the ticks of a meter: the estimation problem of regions shorter than a tick.

    y_j = sum_k p_k X_jk + own noise + P(t_j+1) e_j+1 - P(t_j) e_j

y_j is what the counter gained in tick j, X_jk the lag-filtered time of state k in it (see `shares`), p_k
its mean power; own noise are the ups and downs of the states' calls, of relative variance s^2 a call; e_j
is the error of edge j's time, known from its bracket, which takes from one tick what it gives to the next.
V, the covariance of both, is banded.

* p is the non-negative generalised least-squares solution.
* Edges known to some milliseconds only would bias p towards the mean (errors in variables). So the edges
  are estimated too: their best prediction given p moves them inside their brackets, and p is fitted again
  (Gauss-Newton on the functional model: Fuller, Measurement Error Models, 1987, section 3.2).
* s^2 maximises the restricted likelihood (REML: Patterson and Thompson, Biometrika 58, 1971), and the lag
  is averaged over its posterior.
* The energy of a state is what p says of its time plus the best prediction of its own noise from the
  residuals (universal kriging), whose error variance is in closed form.
* Where a gauge shows the mean power over a known window shorter than a tick, its readings are rows beside
  the counter's, with a scale and a delay of its own; without a counter they are all there is.
* Slow drift of all powers and an energy a call beside the power are taken in where the Bayesian
  information criterion asks for them.
* Where power climbs or falls inside a state's calls, their halves have a power each. Residuals ask for
  that (Rao's score test: Proc. Cambridge Phil. Soc. 44, 1948, p. 50), the likelihood decides. Climbs that
  are not told so are random effects (`climbs`).

Pure functions of arrays: seconds, joules, watts, standard deviations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from energyprof.calls import clustering
from energyprof.climbs import asking, untold
from energyprof.edges import Ticks
from energyprof.fitting import (
    PROBE_TICKS,
    Point,
    at_lag,
    fitted,
    no_error,
    posterior,
    refined,
    settle,
    timing,
)
from energyprof.shares import Timeline
from energyprof.solver import Fit, Model, Task, inverse, own_noise, solve
from energyprof.windows import Windows

Floats = NDArray[np.float64]
States = NDArray[np.int64]

_NS = 1e9
_TICKS_A_BLOCK = 8  # of drift, at least
_REPLICATES = 16
_COMMON_S = 1.5e-4  # of all edges together: the shape of the jitter is not known
_APART = 4.0  # standard deviations; a handful of figures are looked at
_CONTRADICTION = (
    2.0  # mean square of a gauge's residuals over that of the counter's; chance makes it 1.2 at most
)
_VARYING = 0.05  # coefficient of variation of durations from which an energy a call can be told
_MOST_HALVED, _MOST_REFUSED = 4, 2  # states of a stretch


@dataclass(frozen=True)
class Estimate:
    """Energies of k states over a timeline: joules, their error covariance, and what was learned.

    `clustered` says of each state whether its calls keep to some phases of the ticks. `shared`, shape (2, k), are
    the parts of the errors that all stretches of a run have in common, one standard deviation of the lag and
    one of a shift of all edges; `covariance` includes them. `widening` is by how much the replay widens the
    variance, `per_call` are the states with an energy a call, `halved` those with a power for each half of a
    call, and `windows_used` says whether a gauge's windows took part, which were `delay_s` older than their
    refresh.
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
    windows_used: bool
    delay_s: float
    halved: tuple[int, ...] = ()


def _with_drift(task: Task, model: Model, fit: Fit, blocks: int) -> Model:
    """All powers follow the ratio of found to expected energy, block by block, linear between."""
    rows = task.seen_rows
    found, expected = task.rows.energy_j[rows], fit.x[rows][:, : len(fit.power_w)] @ fit.power_w
    when = task.windows.end_ns if task.windows is not None and not task.counted else task.ticks.at_ns[1:]
    cut = np.linspace(0, len(rows), blocks + 1).astype(int)
    at = [when[a:b].mean() for a, b in pairwise(cut)]
    ratio = [found[a:b].sum() / max(expected[a:b].sum(), 1e-12) for a, b in pairwise(cut)]
    # To the ends of the time as between the blocks beside them.
    ends = (2 * at[0] - at[1], 2 * at[-1] - at[-2])
    beyond = (max(2 * ratio[0] - ratio[1], 0.1), max(2 * ratio[-1] - ratio[-2], 0.1))
    middle = (task.line.t_ns[1:] + task.line.t_ns[:-1]) / 2
    drift = np.interp(middle, [ends[0], *at, ends[1]], [beyond[0], *ratio, beyond[1]]) * (
        1.0 if model.drift is None else model.drift
    )
    return replace(model, drift=drift, blocks=blocks)


def _choose(task: Task) -> tuple[Model, Point, Floats]:
    """The model that the data ask for: drift first, then an energy a call, then halves of calls."""
    count = len(task.seen_rows)
    point, error_s = fitted(task, Model())
    best = _evidence(task, Model(), point.fit)
    chosen = Model(), point, error_s
    blocks = 2
    while _drifts(task, point.fit) and blocks <= count // _TICKS_A_BLOCK:
        # Steady powers fitted to falling ones may have gone astray in lag and delay: from the beginning.
        tried = _with_drift(task, Model(), point.fit, blocks)
        now, error = fitted(task, tried)
        tried = _with_drift(task, tried, now.fit, blocks)
        now, error = refined(task, tried, now, error)
        score = _evidence(task, tried, now.fit)
        if score > best + 1.0:
            best, chosen = score, (tried, now, error)
        blocks *= 2
    for column in _varying(task):
        model, point, error_s = chosen
        tried = replace(model, per_call=(*model.per_call, column))
        now, error = refined(task, tried, point, error_s)
        score = _evidence(task, tried, now.fit)
        if score > best + 1.0:
            best, chosen = score, (tried, now, error)
    refused: set[int] = set()
    while len(chosen[0].halved) < _MOST_HALVED and len(refused) < _MOST_REFUSED:
        if (state := asking(task, *chosen, refused)) is None:
            break
        # A lag makes up for what it can of a power that climbs, and went astray: from the beginning.
        tried = replace(chosen[0], halved=(*chosen[0].halved, state))
        now, error = fitted(task, tried)
        score = _evidence(task, tried, now.fit)
        if score > best + 1.0:
            best, chosen, refused = score, (tried, now, error), set()
        else:
            refused.add(state)
    return chosen


def _evidence(task: Task, model: Model, fit: Fit) -> float:
    """The log likelihood of a model, less what its freedom is worth.

    Drift and energies a call by the Bayesian information criterion. The restricted likelihood has already
    integrated a half's power over a flat prior; one of the width of the mean power makes that proper.
    """
    more, seen = max(model.blocks - 1, 0) + len(model.per_call), task.seen_rows
    each_s = task.tick_s if task.counted or task.windows is None else task.windows.window_s
    wide = math.log(max(float(task.rows.energy_j[seen].mean()) / each_s, 1e-3))
    return fit.score - 0.5 * more * math.log(len(seen)) - len(model.halved) * wide


def _drifts(task: Task, fit: Fit) -> bool:
    """Whether residuals keep to one side for long: the range of their sums against a Brownian bridge's (5 %).

    The test with cumulated sums of Brown, Durbin and Evans, J. R. Stat. Soc. B 37, 1975.
    """
    kinds = [fit.white[rows] for rows in (task.rows.tick, task.rows.window) if len(rows)]
    for white in kinds if task.counted else kinds[1:]:
        sums = np.cumsum(white - white.mean())
        if np.abs(sums).max() > 1.36 * float(white.std()) * np.sqrt(len(white)):
            return True
    return False


def _varying(task: Task) -> list[int]:
    """Columns of the states whose calls vary enough in duration to tell an energy a call."""
    found = []
    for column, state in enumerate(task.states):
        seconds = task.seconds[task.line.state == state]
        if state >= 0 and len(seconds) >= 10 and seconds.std() > _VARYING * seconds.mean():
            found.append(column)
    return found


def _energies(task: Task, point: Point, model: Model) -> tuple[Floats, Floats]:
    """Energies of the states and the covariance of their errors, at one lag."""
    fit = point.fit
    table = task.charged(point.lag_s, model)
    own = own_noise(task, fit, task.products(point.lag_s))
    pulled = inverse(fit, own)
    wide = np.hstack((table, np.zeros((len(table), fit.x.shape[1] - table.shape[1]))))  # a gauge's unknowns
    loading = wide - pulled.T @ fit.x
    spread = np.linalg.pinv(fit.normal, hermitian=True)
    total = np.diag(own[task.rows.tick].sum(axis=0))
    covariance = total - own.T @ pulled + loading @ spread @ loading.T
    return table @ fit.power_w + pulled.T @ fit.residual_j, covariance


def estimate(
    line: Timeline, states: States, ticks: Ticks, windows: Windows | None = None, caused: bool = False
) -> Estimate:
    """The energy of each state over the timeline.

    Parameters
    ----------
    line
        The states in the order of time; it begins at or before the first edge and ends at or after the last.
    states
        All states of the line, ascending.
    ticks
        What the counter gained; more ticks than states.
    windows
        What a gauge of the same device saw, if its windows are known.
    caused
        The energy that a state causes, also where the device draws it later; else what is drawn while it runs.
    """
    task = Task(line, states, ticks, windows, caused)
    found, fit = _estimated(task)
    if not task.counted or task.windows is None:
        return found
    alone, _ = _estimated(task.without_windows())
    return alone if _contradicts(task, fit) or not _agree(found, alone) else found


def _estimated(task: Task) -> tuple[Estimate, Fit]:
    model, point, error_s = _choose(task)
    points = posterior(task, point, error_s, model)
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
    shift, unsure = untold(task, model, point, error_s)
    energy, covariance = energy + shift, covariance + unsure
    found = _estimate(
        task, point, energy, covariance + np.diag(beyond) + np.outer(shifted, shifted), lag, lag_sd,
        np.array([lag_sd * slope, shifted]), 1.0 + float(beyond.sum()) / max(plain, 1e-300),
        model,
    )  # fmt: skip
    return found, point.fit


def estimate_like(
    line: Timeline,
    states: States,
    ticks: Ticks,
    known: Estimate,
    windows: Windows | None = None,
    caused: bool = False,
) -> Estimate:
    """The same for a further stretch of a run whose lag and model an earlier one has told: ten times faster."""
    task = Task(line, states, ticks, windows if known.windows_used else None, caused)
    model = Model(
        per_call=tuple(np.flatnonzero(np.isin(states, known.per_call)).tolist()),
        halved=tuple(np.flatnonzero(np.isin(states, known.halved)).tolist()),
    )
    error_s = no_error(task, known.delay_s)
    start = at_lag(task, known.lag_s, error_s, model, near=known.call_noise**2)
    point, error_s = settle(task, start, error_s, model)
    if _drifts(task, point.fit):
        return estimate(line, states, ticks, windows, caused)
    energy, covariance = _energies(task, point, model)
    later = at_lag(task, known.lag_s + known.lag_sd_s, error_s, model, point.noise)
    shared = np.array([_energies(task, later, model)[0] - energy, _scaled(known, states, energy)])
    shift, unsure = untold(task, model, point, error_s)
    covariance = known.widening * covariance + shared.T @ shared + unsure
    return _estimate(
        task, point, energy + shift, covariance, known.lag_s, known.lag_sd_s, shared, known.widening, model
    )


def _contradicts(task: Task, fit: Fit) -> bool:
    """Whether a gauge's windows do not see what the counter does: their residuals are beyond all chance, or
    what makes them credible (calls that vary) leaves the counter's far below it."""
    of_windows, of_ticks = (
        float(np.mean(fit.white[rows] ** 2)) for rows in (task.rows.window, task.rows.tick)
    )
    return of_windows > _CONTRADICTION * min(1.0, of_ticks)


def _agree(both: Estimate, alone: Estimate) -> bool:
    """Whether the counter by itself says the same, of powers and lag, within its own uncertainty.

    A gauge whose windows are other than believed fits well, with wrong powers (Hausman's test: Econometrica
    46, 1978, of an estimate that is right either way against one that is more precise if all is as believed).
    """
    one, other = (np.append(e.energy_j, e.lag_s) for e in (both, alone))
    precise, wide = (np.append(np.diag(e.covariance), e.lag_sd_s**2) for e in (both, alone))
    variance = np.maximum(wide - precise, 0.05 * wide) + 1e-12
    return bool(np.all(np.abs(one - other) <= _APART * np.sqrt(variance)))


def _scaled(known: Estimate, states: States, energy_j: Floats) -> Floats:
    """What a shift of all edges does to these energies: as much, relatively, as it did to the known ones."""
    place = np.clip(np.searchsorted(known.states, states), 0, len(known.states) - 1)
    share = known.shared[1] / np.maximum(known.energy_j, 1e-12)
    return np.where(known.states[place] == states, np.clip(share[place], -1, 1), 0.0) * energy_j


def _estimate(
    task: Task,
    point: Point,
    energy_j: Floats,
    covariance: Floats,
    lag_s: float,
    lag_sd_s: float,
    shared: Floats,
    widening: float,
    model: Model,
) -> Estimate:
    white, line = point.fit.white[task.seen_rows], task.line
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
        per_call=tuple(task.states[list(model.per_call)].tolist()),
        windows_used=task.windows is not None,
        delay_s=point.delay_s,
        halved=tuple(task.states[list(model.halved)].tolist()),
    )


def _common(task: Task, point: Point, error_s: Floats, model: Model, energy: Floats) -> Floats:
    """How the energies change where all edges are off the same way, by a standard deviation of that.

    Such a shift looks like a lag, so that the lag is sought again.
    """
    known = task.sd_s[: len(task.ticks.at_ns)]
    shift = float(np.sqrt(np.mean(known**2) / len(known) + _COMMON_S**2))
    moved = task.shifted(np.full(len(task.sd_s), shift))
    now, _ = refined(moved, model, point, error_s, step_s=0.001)
    return _energies(moved, now, model)[0] - energy


def _beyond_theory(task: Task, point: Point, error_s: Floats, model: Model) -> Floats:
    """Variance of the states' energies from the edges' errors that the linear theory does not have.

    The fitted run is played again with other errors inside the brackets and estimated anew. Where power
    jumps inside a bracket, or the ticks hardly tell the states apart, that varies more than the theory says.
    """
    count = len(task.ticks.gain_j)
    if count > 1.5 * PROBE_TICKS and model.drift is None:  # a part stands for the whole
        part, own = task.part(PROBE_TICKS)
        model = model.of_part(task.states, part.states)
        now, error = settle(part, at_lag(part, point.lag_s, error_s[own], model), error_s[own], model)
        extra = np.zeros(len(task.states))
        extra[np.searchsorted(task.states, part.states)] = _beyond_theory(part, now, error, model)
        return extra * count / PROBE_TICKS
    fit = point.fit
    table = task.charged(point.lag_s, model)
    reach = table @ np.linalg.pinv(fit.normal, hermitian=True)[: table.shape[1]] @ inverse(fit, fit.x).T
    passed = -np.diff(reach[:, task.rows.tick], axis=1, prepend=0.0, append=0.0)
    theory = ((passed * fit.edge_w * task.ticks.sd_s) ** 2).sum(axis=1)
    theory += (reach[:, task.rows.window] ** 2) @ fit.window_j2
    exact = task.design(point.lag_s, error_s, model)
    products = task.products(point.lag_s)
    chance = np.random.default_rng(0)
    found = np.zeros(len(table))
    for _ in range(_REPLICATES):
        again = task.replayed(exact, fit.power_w, error_s, chance)
        now_fit, error = fit, no_error(task)  # replayed windows are where they are seen
        for round_ in range(4):
            if round_:
                error = error + 0.8 * (timing(again, now_fit, error) - error)
            design = again.design(point.lag_s, error, model)
            now_fit = solve(again, design, products, task.mean_of(model), point.noise, error, fit.power_w)
        found += (table @ (now_fit.power_w - fit.power_w)) ** 2 / _REPLICATES
    return np.asarray(np.maximum(found - theory, 0.0))
