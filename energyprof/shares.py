"""Marks -> how long each state of the program lasted, in each tick of a meter, as that meter sees it.

A *state* is the innermost region that is running (-1: none). States partition a thread's time, so that
their shares of any interval add up to it.

Power lags work: regulators and filters are, to first order, a low pass of some 20 ms, so that what is
drawn at t is  P(t) = sum_k p_k f_k(t),  tau f_k' = 1_k - f_k, where 1_k(t) says whether state k runs. The
regressors of a tick are therefore not the times in it but the integrals of f_k over it; with
integral(f_k) = integral(1_k) - tau (f_k(end) - f_k(begin)) both need f_k at a few instants only.

Pure functions of arrays; times are monotonic ns, shares are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
OUTSIDE = -1
_NS = 1e9
_BLOCK = 64
_NO_LAG_S = 1e-6
_REMEMBERED_LAGS = 3
_MEMORY_NS = 500_000_000  # a lag of 80 ms has forgotten 99.8 % by then


@dataclass(frozen=True)
class Timeline:
    """States in the order of time: state[i] runs from t_ns[i] to t_ns[i + 1]; shapes (n,) and (n + 1,).

    What is before `counted_from_ns` is there for the sake of the lag: its tail is drawn later.
    """

    t_ns: Times
    state: NDArray[np.int64]
    counted_from_ns: int = 0

    def between(self, begin_ns: int, end_ns: int) -> Timeline:
        """The part between two instants, with what was just before it."""
        first_ns = max(begin_ns - _MEMORY_NS, int(self.t_ns[0]))
        a = max(int(np.searchsorted(self.t_ns, first_ns, side="right")) - 1, 0)
        b = int(np.searchsorted(self.t_ns, end_ns, side="left"))
        t_ns, state = self.t_ns[a : b + 1].copy(), self.state[a:b]
        t_ns[0], t_ns[-1] = first_ns, min(t_ns[-1], end_ns)
        cut = int(np.searchsorted(t_ns, begin_ns, side="right"))
        if 0 < cut < len(t_ns) and t_ns[cut - 1] != begin_ns:
            t_ns, state = np.insert(t_ns, cut, begin_ns), np.insert(state, cut - 1, state[cut - 1])
        return Timeline(t_ns, state, max(begin_ns, self.counted_from_ns))


def timeline(
    kind: NDArray[np.int32],
    begin_ns: Times,
    end_ns: Times,
    parent: NDArray[np.int64],
    first_ns: int,
    last_ns: int,
) -> Timeline:
    """The states of one thread between two instants, from its marks.

    `parent[k]` is the kind in which kind k is nested, or -1. A region that is left gives way to the one
    around it.
    """
    at = np.concatenate((begin_ns, end_ns))
    after = np.concatenate((kind.astype(np.int64), parent[kind]))
    order = in_order(at)
    at, after = at[order], after[order]
    inside = (at > first_ns) & (at < last_ns)
    earlier = np.flatnonzero(at <= first_ns)
    before = int(after[earlier[-1]]) if len(earlier) else OUTSIDE
    t_ns = np.concatenate((np.array([first_ns]), at[inside], np.array([last_ns])))
    state = np.concatenate((np.array([before]), after[inside]))
    lasts = np.diff(t_ns) > 0
    return Timeline(np.concatenate((t_ns[:-1][lasts], t_ns[-1:])), state[lasts])


def in_order(at_ns: Times) -> NDArray[np.intp]:
    """The order of begins and, after them, ends of m marks in the order of their begins, shape (2 m,).

    At one instant, such as a stretch's cut, what ends comes before what begins, and what began first ends last.
    """
    count = len(at_ns) // 2
    begins = np.repeat([True, False], count)
    within = np.concatenate((np.arange(count), -np.arange(count)))
    return np.lexsort((within, begins, at_ns))


class Shares:
    """The lag-filtered time of states: f_k and its integrals, at any instants, for any lag.

    Parameters
    ----------
    line
        The states in the order of time; the first of them had settled when it begins.
    states
        The k states that are asked for, ascending.
    weight
        What the power of each of the line's segments is multiplied by, shape (n,): drift, or one over a
        call's duration for an energy a call.
    """

    def __init__(self, line: Timeline, states: NDArray[np.int64], weight: Floats | None = None) -> None:
        self._line = line
        self._at = (line.t_ns - line.t_ns[0]) / _NS
        self._seconds = np.diff(self._at)
        column = columns_of(line.state, states)
        scale = np.ones(len(column)) if weight is None else weight
        self._runs = (column[:, None] == np.arange(len(states))).astype(np.float64)
        self._on = self._runs if weight is None else self._runs * scale[:, None]
        passed = np.cumsum(self._on * self._seconds[:, None], axis=0)
        self._passed = np.concatenate((np.zeros((1, len(states))), passed))
        self._levels: dict[float, Floats] = {}
        self._tables: dict[float, Floats] = {}

    def until(self, t_ns: Floats, lag_s: float) -> tuple[Floats, Floats]:
        """The integral of each f_k from the line's begin to these instants, and f_k there; shapes (m, k)."""
        at = (t_ns - self._line.t_ns[0]) / _NS
        segment = np.clip(np.searchsorted(self._at, at, side="right") - 1, 0, len(self._seconds) - 1)
        since = (at - self._at[segment])[:, None]
        on = self._on[segment]
        plain = self._passed[segment] + since * on
        if lag_s < _NO_LAG_S:
            return plain, on
        levels = self._level(lag_s)
        fade = np.exp(-since / lag_s)
        level = fade * levels[segment] + (1.0 - fade) * on
        return plain - lag_s * (level - levels[0]), level

    def during(self, lag_s: float) -> Floats:
        """The integral of f_c over the time in which state r runs, seconds: shape (k, k), rows r, columns c.

        What is drawn while r runs includes the tails of the states before it.
        """
        if lag_s in self._tables:
            return self._tables[lag_s]
        first = int(np.searchsorted(self._line.t_ns[:-1], self._line.counted_from_ns))
        drawn = self._on[first:] * self._seconds[first:, None]
        if lag_s >= _NO_LAG_S:
            level = self._level(lag_s)[first:]
            drawn -= lag_s * (level[1:] - level[:-1])
        table = np.asarray(self._runs[first:].T @ drawn)
        self._tables[lag_s] = table
        return table

    def _level(self, lag_s: float) -> Floats:
        """Every f_k at the line's instants, shape (n + 1, k)."""
        if lag_s not in self._levels:
            while len(self._levels) >= _REMEMBERED_LAGS:
                del self._levels[next(iter(self._levels))]
            fade = np.exp(-self._seconds / lag_s)
            self._levels[lag_s] = _recur(fade, (1.0 - fade)[:, None] * self._on, self._on[0])
        return self._levels[lag_s]


def total_by(cell: NDArray[np.int64], values: Floats, cells: int) -> Floats:
    """The sum of the values in each cell."""
    return np.asarray(np.bincount(cell, values, minlength=cells), np.float64)


def columns_of(state: NDArray[np.int64], states: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each state in `states`, -1 where it is not there."""
    order = np.argsort(states)
    place = order[np.clip(np.searchsorted(states, state, sorter=order), 0, len(states) - 1)]
    return np.where(states[place] == state, place, -1)


def _recur(factor: Floats, addend: Floats, first: Floats) -> Floats:
    """x[0] = first, x[i + 1] = factor[i] x[i] + addend[i], shapes (n,), (n, k), (k,).

    In blocks, side by side, so that Python's loops are short.
    """
    count, width = addend.shape
    blocks = -(-count // _BLOCK)
    a, b = np.ones(blocks * _BLOCK), np.zeros((blocks * _BLOCK, width))
    a[:count], b[:count] = factor, addend
    # Place in the block first: neighbours in memory are worked on at once.
    a = np.ascontiguousarray(a.reshape(blocks, _BLOCK).T)
    b = np.ascontiguousarray(b.reshape(blocks, _BLOCK, width).transpose(1, 0, 2))
    for i in range(1, _BLOCK):
        b[i] += a[i, :, None] * b[i - 1]
    a = np.cumprod(a, axis=0)  # what is left, at each place, of what entered the block
    entering = np.empty((blocks, width))
    value = first
    for i in range(blocks):
        entering[i] = value
        value = a[-1, i] * value + b[-1, i]
    b += a[:, :, None] * entering
    return np.concatenate((first[None], b.transpose(1, 0, 2).reshape(-1, width)[:count]))
