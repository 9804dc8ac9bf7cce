"""Powers of states from what meters saw, at one lag: weighted least squares with all its parts.

The model and its sources are those of `regression`, which seeks the lag and judges the models. Here are the
rows (ticks of a counter, windows of a gauge, in the order of their begins), the design, the covariance
(banded: an edge that is off, and a call that spans an edge, touch rows that are close), and the non-negative
solution. Seconds, joules, watts.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from energyprof.calls import band_products
from energyprof.edges import Ticks
from energyprof.shares import Shares, Timeline, total_by
from energyprof.windows import Windows

Floats = NDArray[np.float64]
States = NDArray[np.int64]

_NS = 1e9
_LONG_CALL_VARIANCE = 0.25  # of a call that spans ticks: its own power may be anything
_LONG_TICKS = 2.5
_UNSEEN = 1e10  # variance of a row that nobody saw, in squares of a row's energy
_LAG_STEP_S = 0.008  # to which a lag matters to a variance
# Of a gauge against the counter of the same board: two sensors of ±5 % each (SC24, arXiv 2312.02741).
_SCALE_SD = 0.035
# How well the study knows the length of a window: its table has whole milliseconds.
_WINDOW_SD_S, _WINDOW_UNIT_S = 0.001, 0.02
# Places of a window, in standard deviations of its time, and their weights: a binomial one resembles the normal.
_PLACES = np.arange(-3.0, 4.0) / np.sqrt(1.5)
_WEIGHTS = np.array([1.0, 6.0, 15.0, 20.0, 15.0, 6.0, 1.0]) / 64.0


@dataclass(frozen=True, eq=False)
class Model:
    """What is assumed beside the states' mean powers."""

    drift: Floats | None = None  # a segment
    blocks: int = 0
    per_call: tuple[int, ...] = ()  # columns of states that also have an energy a call
    halved: tuple[int, ...] = ()  # columns of states with another power in the second half of each call

    def of_part(self, whole: States, part: States) -> Model:
        """The same where only some of the states occur: what is assumed of those remains."""

        def still(columns: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(np.flatnonzero(np.isin(part, whole[list(columns)])).tolist())

        return replace(self, per_call=still(self.per_call), halved=still(self.halved))


class _Cut(NamedTuple):
    """A timeline with some calls cut in their middle: of each piece the segment that it was of, and whether it is
    a second half."""

    line: Timeline
    segment: NDArray[np.int64]
    second: NDArray[np.bool_]


_STATES, _CALLS, _SECOND_HALVES = "states", "calls", "second halves"  # kinds of columns


@dataclass(frozen=True)
class Design:
    """What r rows should have, by c columns.

    `x`: energies a watt; `level`: what is on at each of n + 1 edges; `off` (q, m, c): how the energy of each
    of m windows departs from that where it lies otherwise in its bracket; `longer` (m, c): how it grows with
    the window's length, were it given for the length that is assumed.
    """

    x: Floats
    level: Floats
    off: Floats
    longer: Floats


@dataclass(frozen=True)
class Fit:
    """A solution: c powers (W) and the restricted log-likelihood; design (r, c and a gauge's unknowns); V in
    lower bands (J^2); power at the edges; residuals as they are and whitened; X' V^-1 X; the states' powers
    squared and their noise; the variance of a gauge's windows from where
    they lie."""

    power_w: Floats
    score: float
    x: Floats
    banded: Floats
    edge_w: Floats
    residual_j: Floats
    white: Floats
    normal: Floats
    squared: Floats
    noise: float
    window_j2: Floats


@dataclass(frozen=True)
class Rows:
    """Where the n ticks and the m windows stand among the rows, and what was seen of each."""

    tick: NDArray[np.int64]
    window: NDArray[np.int64]
    energy_j: Floats
    floor_j2: Floats

    @property
    def count(self) -> int:
        return len(self.energy_j)


class Task:
    """One stretch of time: rows, and their design at any lag, timing error and model.

    Timing errors are one list: those of the n + 1 edges, then those of the m windows. With `caused` a state is
    charged with what it causes, and not with what is drawn while it runs.
    """

    def __init__(
        self,
        line: Timeline,
        states: States,
        ticks: Ticks,
        windows: Windows | None = None,
        caused: bool = False,
    ) -> None:
        self.line, self.states, self.ticks, self.caused = line, states, ticks, caused
        if windows is not None:
            windows = windows.chosen(windows.within(ticks.at_ns[0], ticks.at_ns[-1]))
        self.windows = windows if windows is not None and len(windows.end_ns) else None
        self.seconds = np.diff(line.t_ns) / _NS
        self.tick_s = float(np.median(np.diff(ticks.at_ns))) / _NS
        self.rows = _rows(ticks, self.windows)
        w = self.windows
        self.sd_s = ticks.sd_s if w is None else np.concatenate((ticks.sd_s, w.sd_s))
        self._shares: dict[tuple[Model | None, tuple[int, ...], str], Shares] = {}
        self._cuts: dict[tuple[int, ...], _Cut] = {}
        self._products: dict[int, tuple[Floats, Floats]] = {}
        self._mean_of: dict[Model, Floats] = {}

    @property
    def counted(self) -> bool:
        return self.ticks.counted

    @property
    def seen_rows(self) -> NDArray[np.int64]:
        """The rows that tell something: ticks, or where nothing counted, windows."""
        return self.rows.tick if self.counted else self.rows.window

    def without_windows(self) -> Task:
        return Task(self.line, self.states, self.ticks, caused=self.caused)

    def shifted(self, by_s: Floats) -> Task:
        """The same with edges and windows seen so much later."""
        edges = len(self.ticks.at_ns)
        ticks = replace(self.ticks, at_ns=self.ticks.at_ns + by_s[:edges] * _NS)
        windows = self.windows
        if windows is not None:
            windows = replace(windows, end_ns=windows.end_ns + by_s[edges:] * _NS)
        return self._seeing(ticks, windows)

    def replayed(self, design: Design, power: Floats, error_s: Floats, chance: np.random.Generator) -> Task:
        """What would have been seen, had the powers been these and the timing errors others of their kind."""
        edges, found = len(self.ticks.at_ns), design.x @ power
        shift = error_s[:edges] + chance.normal(0.0, 1.0, edges) * self.ticks.sd_s
        ticks = replace(self.ticks, at_ns=self.ticks.at_ns + shift * _NS, gain_j=found[self.rows.tick])
        windows = self.windows
        if windows is not None:
            count = len(windows.end_ns)
            place = chance.choice(len(_PLACES), count, p=_WEIGHTS)
            off_j = (design.off @ power)[place, np.arange(count)]
            end_ns = windows.end_ns + error_s[edges:] * _NS
            windows = replace(windows, end_ns=end_ns, energy_j=found[self.rows.window] + off_j)
        return self._seeing(ticks, windows)

    def _seeing(self, ticks: Ticks, windows: Windows | None) -> Task:
        """With other rows in the same order, of the same states: what is known of those serves again."""
        other = copy(self)
        other.ticks, other.windows = ticks, windows
        energy = np.empty(self.rows.count)
        energy[self.rows.tick] = ticks.gain_j
        if windows is not None:
            energy[self.rows.window] = windows.energy_j
        other.rows = replace(self.rows, energy_j=energy)
        return other

    def design(self, lag_s: float, error_s: Floats, model: Model) -> Design:
        edges, w = len(self.ticks.at_ns), self.windows
        total, level = self._until(self.ticks.at_ns + error_s[:edges] * _NS, lag_s, model)
        x = np.empty((self.rows.count, total.shape[1]))
        x[self.rows.tick] = np.diff(total, axis=0)
        if w is None:
            return Design(x, level, np.zeros((len(_PLACES), 0, x.shape[1])), np.zeros((0, x.shape[1])))
        # Power jumps, and a window that ends before a jump or after it sees another energy. What is expected
        # of it is the mean over its bracket: an error of Berkson's kind, which biases nothing.
        off_s = _PLACES[:, None] * w.sd_s
        end = w.end_ns + (error_s[edges:] + off_s) * _NS
        both = np.concatenate((end - w.window_s * _NS, end))
        until, beside = (part.reshape(*both.shape, -1) for part in self._until(both.ravel(), lag_s, model))
        seen = until[len(off_s) :] - until[: len(off_s)]
        x[self.rows.window] = np.tensordot(_WEIGHTS, seen, 1)
        at_begin = np.tensordot(_WEIGHTS, beside[: len(off_s)], 1)
        longer = at_begin - x[self.rows.window] / w.window_s
        return Design(x, level, seen - x[self.rows.window], longer)

    def during(self, lag_s: float, model: Model) -> Floats:
        """Rows: the time of each state; columns: as in `design`."""
        return np.hstack([shares.during(lag_s)[:, chosen] for shares, chosen in self._columns(model)])

    def charged(self, lag_s: float, model: Model) -> Floats:
        """As `during`, of the time whose energy is the state's: what is caused bears no lag."""
        return self.during(0.0 if self.caused else lag_s, model)

    def mean_of(self, model: Model) -> Floats:
        """What turns the columns' powers into the states' mean powers."""
        if model not in self._mean_of:
            place = np.searchsorted(self.states, self.line.state)
            seconds = total_by(place, self.seconds, len(self.states))
            self._mean_of[model] = self.during(0.0, model) / np.maximum(seconds, 1e-9)[:, None]
        return self._mean_of[model]

    def part(self, ticks: int) -> tuple[Task, NDArray[np.bool_]]:
        """The same task over so many ticks in the middle, and which timing errors are its own."""
        first = (len(self.ticks.gain_j) - ticks) // 2
        some = self.ticks.between(first, first + ticks)
        begin, end = some.at_ns[0], some.at_ns[-1]
        own = (self.ticks.at_ns >= begin) & (self.ticks.at_ns <= end)
        if self.windows is not None:
            own = np.concatenate((own, self.windows.within(begin, end)))
        line = self.line.between(int(begin), int(end))
        return Task(line, np.unique(line.state), some, self.windows, self.caused), own

    def products(self, lag_s: float) -> tuple[Floats, Floats]:
        """How the calls' own noise correlates the rows; the edges as first placed are good enough for that."""
        step = round(lag_s / _LAG_STEP_S)
        if step not in self._products:
            begin, end = np.empty(self.rows.count), np.empty(self.rows.count)
            begin[self.rows.tick], end[self.rows.tick] = self.ticks.at_ns[:-1], self.ticks.at_ns[1:]
            if self.windows is not None:
                begin[self.rows.window], end[self.rows.window] = self.windows.begin_ns, self.windows.end_ns
            long_s = _LONG_TICKS * self.tick_s
            self._products[step] = band_products(
                self.line, begin, end, self.states, step * _LAG_STEP_S, self.tick_s, long_s,
                least_band=int(np.diff(self.rows.tick).max(initial=1)),
            )  # fmt: skip
        return self._products[step]

    def _until(self, t_ns: Floats, lag_s: float, model: Model) -> tuple[Floats, Floats]:
        found = [(shares.until(t_ns, lag_s), chosen) for shares, chosen in self._columns(model)]
        total = np.hstack([total[:, chosen] for (total, _), chosen in found])
        return total, np.hstack([level[:, chosen] for (_, level), chosen in found])

    def _columns(self, model: Model) -> list[tuple[Shares, slice | list[int]]]:
        """What a design's columns are taken from: of all states, then of those that have more than a power."""
        found: list[tuple[Shares, slice | list[int]]] = [(self._shares_of(model, _STATES), slice(None))]
        if model.per_call:
            found.append((self._shares_of(model, _CALLS), list(model.per_call)))
        if model.halved:
            found.append((self._shares_of(model, _SECOND_HALVES), list(model.halved)))
        return found

    def _shares_of(self, model: Model, kind: str) -> Shares:
        key = (model if model.drift is not None else None, model.halved, kind)
        if key not in self._shares:
            cut = self._cut(model.halved)
            weight = np.ones(len(self.seconds)) if model.drift is None else model.drift
            if kind == _CALLS:
                weight = weight / np.maximum(self.seconds, 1e-7)
            weight = weight[cut.segment]
            if kind == _SECOND_HALVES:
                weight = weight * cut.second
            elif kind == _STATES:
                weight = weight * ~cut.second
            self._shares[key] = Shares(cut.line, self.states, weight)
        return self._shares[key]

    def _cut(self, halved: tuple[int, ...]) -> _Cut:
        """The timeline with each call of these states (columns) in two halves."""
        if halved not in self._cuts:
            line = self.line
            calls = np.flatnonzero(np.isin(line.state, self.states[list(halved)]))
            middle = (line.t_ns[calls] + line.t_ns[calls + 1]) // 2
            segment = np.insert(np.arange(len(line.state)), calls + 1, calls)
            second = np.insert(np.zeros(len(line.state), bool), calls + 1, True)
            t_ns = np.insert(line.t_ns, calls + 1, middle)
            self._cuts[halved] = _Cut(
                Timeline(t_ns, line.state[segment], line.counted_from_ns), segment, second
            )
        return self._cuts[halved]


def _rows(ticks: Ticks, windows: Windows | None) -> Rows:
    n = len(ticks.gain_j)
    begin = ticks.at_ns[:-1] if windows is None else np.concatenate((ticks.at_ns[:-1], windows.begin_ns))
    place = np.empty(len(begin), np.int64)
    place[np.argsort(begin, kind="stable")] = np.arange(len(begin))
    energy, floor = np.zeros(len(begin)), np.zeros(len(begin))
    energy[place[:n]], floor[place[:n]] = ticks.gain_j, ticks.quantum_j**2 / 6.0
    if windows is not None:
        energy[place[n:]], floor[place[n:]] = windows.energy_j, windows.quantum_j**2 / 12.0
    return Rows(place[:n], place[n:], energy, floor)


def solve(
    task: Task,
    design: Design,
    products: tuple[Floats, Floats],
    mean_of: Floats,
    noise: float,
    error_s: Floats,
    power: Floats,
) -> Fit:
    """p by generalised least squares, V after p and p after V. `mean_of` maps columns to states' power."""
    from scipy import linalg

    rows, columns, edges = task.rows, len(power), len(task.ticks.at_ns)
    extra = _gauge_unknowns(task)
    prior = np.zeros((len(extra), columns + len(extra)))
    np.fill_diagonal(prior[:, columns:], [1.0 / sd for sd in extra.values()])
    found = np.ones(columns + len(extra))
    doubt = np.zeros(columns)  # variance of the powers: a power that came out too low is as noisy as it is
    for last in (False, False, True):
        edge_w, off_j = design.level @ power, design.off @ power
        squared = (mean_of @ power) ** 2 + mean_of**2 @ doubt
        x, shifted = design.x, rows.energy_j.copy()
        shifted[rows.tick] += np.diff(edge_w * error_s[:edges])
        # What a gauge has beside the powers are columns that depend on them, with factors about 1.
        more = np.zeros((len(x), len(extra)))
        if "window" in extra:
            more[rows.window, 0] = _WINDOW_UNIT_S * (design.longer @ power)
        if "scale" in extra:
            more[rows.window, 1] = x[rows.window] @ power
        shifted += more.sum(axis=1)
        x = np.hstack((x, more))
        moved = (edge_w * task.ticks.sd_s) ** 2, _WEIGHTS @ off_j**2
        banded = _covariance(task, moved, products, squared, noise)
        lower = linalg.cholesky_banded(banded, lower=True, check_finite=False)
        both = linalg.solve_banded(
            (len(lower) - 1, 0), lower, np.column_stack((x, shifted)), check_finite=False
        )
        xw, yw = both[:, :-1], both[:, -1]
        if last:
            break
        q, r = np.linalg.qr(np.vstack((xw, prior)))
        found = _nnls(r, q.T @ np.concatenate((yw, prior.sum(axis=1))))
        power = np.maximum(found[:columns], 1e-9)
        spread = np.diag(np.linalg.pinv(r.T @ r, hermitian=True))[:columns]
        doubt = np.minimum(spread, power**2 + power.mean() ** 2)
    found[:columns] = power
    white = yw - xw @ found
    off = prior @ found - prior.sum(axis=1)
    normal = xw.T @ xw + prior.T @ prior
    information = np.linalg.slogdet(normal + 1e-12 * np.diag(np.diag(normal) + 1e-12))[1]
    score = -0.5 * (2.0 * float(np.log(lower[0]).sum()) + information + float(white @ white + off @ off))
    return Fit(
        power_w=power, score=score, x=x, banded=banded, edge_w=edge_w, residual_j=shifted - x @ found,
        white=white, normal=normal, squared=squared, noise=noise,
        window_j2=moved[1],
    )  # fmt: skip


def _gauge_unknowns(task: Task) -> dict[str, float]:
    """Factors that a gauge has beside the powers, and how far each may be from 1 (standard deviation)."""
    if task.windows is None:
        return {}
    window = {"window": _WINDOW_SD_S / _WINDOW_UNIT_S}
    # Alone, the gauge is what tells the powers; beside a counter, it tells their ratios.
    return {**window, "scale": _SCALE_SD} if task.counted else window


def _covariance(
    task: Task, moved: tuple[Floats, Floats], products: tuple[Floats, Floats], squared: Floats, noise: float
) -> Floats:
    """V of the rows in lower bands, from the variances of timing (of edges, of windows), the calls' own noise
    and the resolution."""
    rows, (edge, window), (short, long) = task.rows, moved, products
    banded = noise * (short @ squared) + _LONG_CALL_VARIANCE * (long @ squared)
    banded[0, rows.tick] += edge[:-1] + edge[1:]
    banded[np.diff(rows.tick), rows.tick[:-1]] -= edge[1:-1]
    banded[0, rows.window] += window
    banded[0] += rows.floor_j2
    banded[0] *= 1 + 1e-9
    if not task.counted:
        banded[0, rows.tick] += _UNSEEN * float(np.mean(rows.energy_j[rows.window])) ** 2
    return np.asarray(banded)


def own_noise(task: Task, fit: Fit, products: tuple[Floats, Floats]) -> Floats:
    """The covariance of each state's own noise over all ticks with each row, shape (r, k)."""
    table = (fit.noise * products[0] + _LONG_CALL_VARIANCE * products[1]) * fit.squared
    is_tick = np.zeros(table.shape[1])
    is_tick[task.rows.tick] = 1.0
    own = table[0] * is_tick[:, None]
    for d in range(1, len(table)):
        beside = table[d, :-d]
        own[d:] += beside * is_tick[:-d, None]
        own[:-d] += beside * is_tick[d:, None]
    return np.asarray(own)


def inverse(fit: Fit, right: Floats) -> Floats:
    """V^-1 times a vector or the columns of a matrix."""
    from scipy import linalg

    return linalg.solveh_banded(fit.banded, right, lower=True, check_finite=False)  # type: ignore[no-any-return]


def _nnls(a: Floats, b: Floats) -> Floats:
    """The x of least |a x - b| with no part below zero."""
    # A fifth of a second, which whoever only lists or draws runs has not to wait for.
    from scipy import optimize

    return np.asarray(optimize.nnls(a, b)[0])


def start_power(task: Task, x: Floats) -> Floats:
    """Powers by plain least squares, none of them zero: V needs them to begin with."""
    rows = task.seen_rows
    x, energy = x[rows], task.rows.energy_j[rows]
    mean = float(energy.sum()) / max(float(x.sum()), 1e-9)
    return np.maximum(_nnls(x, energy), 0.02 * max(mean, 1e-6))
