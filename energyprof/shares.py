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
_ENOUGH_CALLS = 2000
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
    # At one instant what ends comes before what begins.
    order = np.lexsort((np.concatenate((np.ones(len(kind), bool), np.zeros(len(kind), bool))), at))
    at, after = at[order], after[order]
    inside = (at > first_ns) & (at < last_ns)
    earlier = np.flatnonzero(at <= first_ns)
    before = int(after[earlier[-1]]) if len(earlier) else OUTSIDE
    t_ns = np.concatenate((np.array([first_ns]), at[inside], np.array([last_ns])))
    state = np.concatenate((np.array([before]), after[inside]))
    lasts = np.diff(t_ns) > 0
    return Timeline(np.concatenate((t_ns[:-1][lasts], t_ns[-1:])), state[lasts])


def shares(
    line: Timeline, edges_ns: Floats, states: NDArray[np.int64], lag_s: float, weight: Floats | None = None
) -> tuple[Floats, Floats]:
    """What each state contributes to each tick of a lagging meter, and how much of it is on at each edge.

    Parameters
    ----------
    edges_ns
        The n ticks' instants, non-decreasing.
    states
        The k states that are asked for.
    weight
        What the power of each of the line's segments is multiplied by, shape (n,): drift, or one over a
        call's duration for an energy a call.

    Returns
    -------
    seconds, level
        Integrals of f over the ticks, shape (n - 1, k); f at the edges, shape (n, k).
    """
    origin = line.t_ns[0]
    edges = (edges_ns - origin) / _NS
    at = (line.t_ns - origin) / _NS
    cuts = np.union1d(at, edges)
    segment = np.clip(
        np.searchsorted(at, (cuts[1:] + cuts[:-1]) / 2, side="right") - 1, 0, len(line.state) - 1
    )
    column = _columns(line.state[segment], states)
    tick = np.searchsorted(edges, (cuts[1:] + cuts[:-1]) / 2, side="right") - 1
    used = (column >= 0) & (tick >= 0) & (tick < len(edges) - 1)
    begin, end, column, tick = cuts[:-1][used], cuts[1:][used], column[used], tick[used]
    shape = (len(edges) - 1, len(states))
    cell = tick * shape[1] + column
    scale = np.ones(len(begin)) if weight is None else weight[segment][used]
    plain = total_by(cell, scale * (end - begin), shape[0] * shape[1]).reshape(shape)
    level = np.zeros((len(edges), len(states)))
    if lag_s < _NO_LAG_S:
        running = np.clip(np.searchsorted(at, edges, side="right") - 1, 0, len(line.state) - 1)
        now = _columns(line.state[running], states)
        factor = np.ones(len(edges)) if weight is None else weight[running]
        level[np.flatnonzero(now >= 0), now[now >= 0]] = factor[now >= 0]
        return plain, level
    close = edges[tick + 1]
    rise = np.exp((end - close) / lag_s) - np.exp((begin - close) / lag_s)
    gained = total_by(cell, scale * rise, shape[0] * shape[1]).reshape(shape)
    faded = np.exp(-np.diff(edges) / lag_s)
    level[0] = _level_at(line, float(edges[0]), states, lag_s, weight)
    for j in range(shape[0]):
        level[j + 1] = faded[j] * level[j] + gained[j]
    return plain - lag_s * np.diff(level, axis=0), level


def _level_at(
    line: Timeline, when_s: float, states: NDArray[np.int64], lag_s: float, weight: Floats | None
) -> Floats:
    """f of each state at an instant (seconds since the line's begin, where its first state had settled)."""
    at = (line.t_ns - line.t_ns[0]) / _NS
    past = int(np.searchsorted(at, when_s, side="left"))
    scale = np.ones(len(line.state)) if weight is None else weight
    column = _columns(line.state, states)
    begin, end = at[:past], np.minimum(at[1 : past + 1], when_s)
    rise = np.exp((end - when_s) / lag_s) - np.exp((begin - when_s) / lag_s)
    known = column[:past] >= 0
    level = total_by(column[:past][known], (scale[:past] * rise)[known], len(states))
    if column[0] >= 0:
        level[column[0]] += scale[0] * np.exp(-when_s / lag_s)
    return level


def during(line: Timeline, states: NDArray[np.int64], lag_s: float, weight: Floats | None = None) -> Floats:
    """The integral of f_c over the time in which state r runs, seconds: shape (k, k), rows r, columns c.

    What is drawn while r runs includes the tails of the states before it.
    """
    seconds = np.diff(line.t_ns) / _NS
    row = _columns(line.state, states)
    known = (row >= 0) & (line.t_ns[:-1] >= line.counted_from_ns)
    scale = np.ones(len(row)) if weight is None else weight
    table = np.diag(total_by(row[known], (scale * seconds)[known], len(states)))
    if lag_s < _NO_LAG_S:
        return table
    fade = np.exp(-seconds / lag_s)
    for c in range(len(states)):
        level = _recur(fade, np.where(row == c, scale * (1.0 - fade), 0.0), scale[0] if row[0] == c else 0.0)
        drop = -np.diff(level)
        table[:, c] += lag_s * total_by(row[known], drop[known], len(states))
    return table


def total_by(cell: NDArray[np.int64], values: Floats, cells: int) -> Floats:
    """The sum of the values in each cell."""
    return np.asarray(np.bincount(cell, values, minlength=cells), np.float64)


def _columns(state: NDArray[np.int64], states: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each state in `states`, -1 where it is not there."""
    order = np.argsort(states)
    place = order[np.clip(np.searchsorted(states, state, sorter=order), 0, len(states) - 1)]
    return np.where(states[place] == state, place, -1)


def _recur(factor: Floats, addend: Floats, first: float) -> Floats:
    """x[0] = first, x[i + 1] = factor[i] x[i] + addend[i]; in blocks, so that Python loops are short."""
    count = len(factor)
    blocks = -(-count // _BLOCK)
    padded = np.ones(blocks * _BLOCK), np.zeros(blocks * _BLOCK)
    padded[0][:count], padded[1][:count] = factor, addend
    a, b = (part.reshape(blocks, _BLOCK) for part in padded)
    own, scale = np.empty_like(b), np.empty_like(a)
    own[:, 0], scale[:, 0] = b[:, 0], a[:, 0]
    for i in range(1, _BLOCK):
        own[:, i] = a[:, i] * own[:, i - 1] + b[:, i]
        scale[:, i] = a[:, i] * scale[:, i - 1]
    entering = np.empty(blocks)
    value = first
    for i, (s, o) in enumerate(zip(scale[:, -1].tolist(), own[:, -1].tolist())):
        entering[i] = value
        value = s * value + o
    return np.concatenate(([first], (own + scale * entering[:, None]).ravel()[:count]))


def call_products(
    line: Timeline, edges_ns: Floats, states: NDArray[np.int64], lag_s: float, long_s: float
) -> tuple[Floats, Floats, Floats, Floats]:
    """How the own noise of calls correlates ticks: sums over calls of products of their times in them.

    A call whose power is off by a fraction d adds d p x_j to tick j, x_j its lag-filtered time there; over
    independent calls of one state the covariance of ticks j and j' is var(d) p^2 sum(x_j x_j'). A call
    shorter than a tick shows in the tick it begins in and the next; a longer one counts half between
    neighbours: its power may change on the way, and the matrix stays positive definite.

    Returns
    -------
    same, next, long_same, long_next
        Of each tick with itself, (n, k), and with the next one, (n - 1, k), seconds squared; apart for
        the calls shorter than `long_s` and for the longer ones.
    """
    origin = line.t_ns[0]
    edges = (edges_ns - origin) / _NS
    at = (line.t_ns - origin) / _NS
    seconds = np.diff(at)
    short = seconds < float(np.median(np.diff(edges)))
    tick, first, column = _in_two_ticks(at, edges, short, lag_s)
    column = _columns(line.state, states)[column]
    second = seconds[short] - first
    shape = (len(edges) - 1, len(states))

    def table(ticks: NDArray[np.int64], columns: NDArray[np.int64], values: Floats, rows: int) -> Floats:
        used = (ticks >= 0) & (ticks < rows) & (columns >= 0)
        cell = ticks[used] * shape[1] + columns[used]
        return total_by(cell, values[used], rows * shape[1]).reshape(rows, shape[1])

    same = table(tick, column, first**2, shape[0]) + table(tick + 1, column, second**2, shape[0])
    next_ = table(tick, column, first * second, shape[0] - 1)
    call, tick, piece = _pieces(at + lag_s, edges, np.flatnonzero(~short))
    column = _columns(line.state, states)[call]
    pair = np.flatnonzero((call[1:] == call[:-1]) & (tick[1:] == tick[:-1] + 1)) if len(call) else call
    beside = 0.5 * piece[pair] * piece[pair + 1]
    long = seconds[call] >= long_s
    same += table(tick[~long], column[~long], piece[~long] ** 2, shape[0])
    next_ += table(tick[pair], np.where(long[pair], -1, column[pair]), beside, shape[0] - 1)
    long_same = table(tick[long], column[long], piece[long] ** 2, shape[0])
    long_next = table(tick[pair], np.where(long[pair], column[pair], -1), beside, shape[0] - 1)
    return same, next_, long_same, long_next


def _in_two_ticks(
    at: Floats, edges: Floats, chosen: NDArray[np.bool_], lag_s: float
) -> tuple[NDArray[np.int64], Floats, NDArray[np.int64]]:
    """Short calls: the tick each begins in, and how much of it (lag-filtered) that tick sees; their places."""
    call = np.flatnonzero(chosen)
    begin, end = at[:-1][call], at[1:][call]
    tick = np.searchsorted(edges, begin, side="right") - 1
    close = edges[np.clip(tick + 1, 0, len(edges) - 1)]
    seen = np.clip(close - begin, 0.0, end - begin)
    if lag_s >= _NO_LAG_S:
        fade = np.exp(-np.maximum(close - begin, 0.0) / lag_s)
        after = np.where(close > end, np.exp(-np.maximum(close - end, 0.0) / lag_s), 1.0)
        seen = np.maximum(seen - lag_s * (after - fade), 0.0)
    return tick, seen, call


def _pieces(
    at: Floats, edges: Floats, calls: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Floats]:
    """Calls cut at the edges: of each piece the call, the tick and the seconds."""
    first = np.searchsorted(edges, at[calls], side="right") - 1
    last = np.searchsorted(edges, at[calls + 1], side="left") - 1
    count = last - first + 1
    call = np.repeat(calls, count)
    tick = np.repeat(first - np.cumsum(count) + count, count) + np.arange(int(count.sum()))
    bounded = np.pad(edges, 1, constant_values=(-np.inf, np.inf))
    piece = np.minimum(at[call + 1], bounded[tick + 2]) - np.maximum(at[call], bounded[tick + 1])
    return call, tick, piece


def clustering(begin_ns: NDArray[np.int64], tick_ns: float) -> float:
    """How far the begins of a state's calls keep to some phases of the tick: 0 not at all, 1 always.

    The largest mean resultant length (Mardia and Jupp, Directional Statistics, 2000) of the phases'
    multiples: a loop of a whole number of turns in a tick clusters in that multiple.
    """
    if len(begin_ns) < 2:
        return 1.0
    gap = max(float(np.median(np.diff(begin_ns))), tick_ns / 50.0)
    turns = np.arange(1, int(np.ceil(1.5 * tick_ns / gap)) + 1)
    if len(begin_ns) > _ENOUGH_CALLS:  # some of them, from all over the time, have the same phases
        begin_ns = np.random.default_rng(0).choice(begin_ns, _ENOUGH_CALLS, replace=False)
    phase = 2j * np.pi * (begin_ns % tick_ns) / tick_ns
    return float(max(np.abs(np.exp(turn * phase).mean()) for turn in turns))
