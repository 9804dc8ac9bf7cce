"""Power that climbs or falls inside a state's calls: does it ask to be told, and what does it do where it is not?

A model gives each state one power. Where the power of the second halves of its calls is another, by d_k watts, the
rows get H d more, and the other powers, the lag and with them all energies go astray. H are the second halves'
columns; u and I the score and the information of d at zero, beside the powers, the lag and a gauge's delay (Rao, Proc.
Cambridge Phil. Soc. 44, 1948, p. 50): what those can make up for says nothing of d.

Seconds, joules, watts.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from energyprof.fitting import DELAY_PRIOR_S, LAG_PRIOR_S, Point
from energyprof.solver import Model, Task, inverse, own_noise

Floats = NDArray[np.float64]

_ASKED = 6.63  # of a chi-squared with one degree of freedom: p = 0.01, and the likelihood is asked after it
_HALVES_S = 0.01  # mean duration of calls from which halves can be told: edges are known to some milliseconds
_LAG_STEP_S = 0.001
# Standard deviations of the second halves' powers over the states' own. Beforehand each is as likely: a training's
# regions may be steady or anything but.
_SPREADS = np.array([0.0, 0.05, 0.1, 0.2, 0.4])


class Climbs:
    """What the residuals of one fit say of the second halves of some states' calls (columns of the task)."""

    def __init__(self, task: Task, model: Model, point: Point, error_s: Floats, columns: list[int]) -> None:
        self._columns = columns
        self._task, self._model, self._point = task, model, point
        fit = point.fit
        known = fit.x.shape[1]
        moved, precision, pull = _moving(task, model, point, error_s)
        self._x = np.hstack((fit.x, moved))
        self._halved = replace(model, halved=(*model.halved, *columns))
        self._second = task.design(point.lag_s, error_s, self._halved).x[:, -len(columns) :]
        weighed = inverse(fit, self._x)
        normal = self._x.T @ weighed
        normal[:known, :known] = fit.normal
        normal[known:, known:] += np.diag(precision)
        told = weighed.T @ self._second
        # What powers and lag make up for, a watt of the halves.
        self._made_up = np.linalg.pinv(normal, hermitian=True) @ told
        information = self._second.T @ inverse(fit, self._second) - told.T @ self._made_up
        self.information = (information + information.T) / 2
        # Powers are where they fit best; of a further stretch of a run lag and delay are those of an earlier one.
        left = inverse(fit, fit.residual_j)
        uphill = moved.T @ left - pull
        self.score = self._second.T @ left - self._made_up[known:].T @ uphill

    def effect(self) -> tuple[Floats, Floats]:
        """What these halves do to the energies of all states: the expectation and its covariance, J and J^2.

        Each d_k is normal about zero (random effects: Laird and Ware, Biometrics 38, 1982), with a spread that all
        share and that is averaged over by its likelihood.
        """
        power = np.maximum(self._task.mean_of(self._model) @ self._point.fit.power_w, 1e-9)[self._columns]
        score, information = self.score * power, self.information * np.outer(power, power)
        means, spreads, logs = [], [], []
        for sd in _SPREADS.tolist():
            shrunk = np.linalg.inv(np.eye(len(power)) + sd**2 * information)
            spread = sd**2 * shrunk
            means.append(spread @ score)
            spreads.append(spread)
            logs.append(0.5 * score @ means[-1] + 0.5 * np.linalg.slogdet(shrunk)[1])
        weight = np.exp(np.array(logs) - max(logs))
        weight /= weight.sum()
        mean = weight @ np.array(means)
        off = np.array(means) - mean
        spread = np.tensordot(weight, np.array(spreads), 1) + (weight[:, None] * off).T @ off
        by = self._energies() * power
        return by @ mean, by @ spread @ by.T

    def _energies(self) -> Floats:
        """How all energies change by a watt more in each state's second halves, powers and lag fitted again."""
        task, model, point = self._task, self._model, self._point
        fit, lag = point.fit, point.lag_s
        table = task.charged(lag, model)
        with_lag = (task.charged(lag + _LAG_STEP_S, model) - table) @ fit.power_w / _LAG_STEP_S
        by = np.zeros((len(table), self._x.shape[1]))  # a gauge's unknowns charge nobody
        by[:, : table.shape[1]] = table
        by[:, fit.x.shape[1]] = with_lag
        pulled = inverse(fit, own_noise(task, fit, task.products(lag)))
        second = task.charged(lag, self._halved)[:, -len(self._columns) :]
        return np.asarray(second - by @ self._made_up - pulled.T @ (self._second - self._x @ self._made_up))


def _moving(task: Task, model: Model, point: Point, error_s: Floats) -> tuple[Floats, Floats, Floats]:
    """How the rows move with the lag and with a gauge's delay (one column each, a second), the precision of both
    beforehand, and what that pulls at where they are. A lag at zero cannot go below, and makes up for nothing there.
    """
    x, power = point.fit.x, point.fit.power_w
    by_lag = task.design(point.lag_s + _LAG_STEP_S, error_s, model).x
    later = error_s.copy()
    later[len(task.ticks.at_ns) :] -= _LAG_STEP_S
    by_delay = x if task.windows is None else task.design(point.lag_s, later, model).x
    columns = [(one - x[:, : len(power)]) @ power / _LAG_STEP_S for one in (by_lag, by_delay)]
    if point.lag_s < _LAG_STEP_S:
        columns[0][:] = 0.0
    precision = np.array([LAG_PRIOR_S, DELAY_PRIOR_S]) ** -2.0
    pull = precision * (point.lag_s * bool(columns[0].any()), point.delay_s)
    return np.column_stack(columns), precision, pull


def asking(task: Task, model: Model, point: Point, error_s: Floats, refused: Collection[int]) -> int | None:
    """The column of the state whose residuals ask most for another power in the second halves of its calls."""
    columns = [column for column in _whole(task, model, _HALVES_S) if column not in refused]
    if not columns:
        return None
    found = Climbs(task, model, point, error_s, columns)
    asked = found.score**2 / np.maximum(np.diag(found.information), 1e-12)
    return columns[int(asked.argmax())] if asked.max() > _ASKED else None


def untold(task: Task, model: Model, point: Point, error_s: Floats) -> tuple[Floats, Floats]:
    """What climbs that the model does not have do to the energies of all states: expectation and covariance.

    To first order in them: where they are large, `asking` has the model take them in.
    """
    columns = _whole(task, model, 0.0)
    if not columns:
        return np.zeros(len(task.states)), np.zeros((len(task.states), len(task.states)))
    return Climbs(task, model, point, error_s, columns).effect()


def _whole(task: Task, model: Model, least_s: float) -> list[int]:
    """Columns of the states whose calls have one power, of so many seconds a call."""
    return [
        column
        for column, state in enumerate(task.states)
        if state >= 0
        and column not in model.halved
        and task.seconds[task.line.state == state].mean() >= least_s
    ]
