"""How the own noise of calls correlates what a meter saw, and how calls stand to its ticks.

A call whose power is off by a fraction d adds d p x_i to row i of what was seen, x_i its lag-filtered time
there (see `shares`); over independent calls of one state the covariance of rows i and i' is
var(d) p^2 sum(x_i x_i').

Pure functions of arrays; times are monotonic ns, shares are seconds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from energyprof.shares import Timeline, columns_of

Floats = NDArray[np.float64]
_NS = 1e9
_NO_LAG_S = 1e-6
_TAIL_LAGS = 2.0  # of a call: 86 % of what comes after it
_WIDEST_BAND = 12
_ENOUGH_CALLS = 600


def band_products(
    line: Timeline,
    begin_ns: Floats,
    end_ns: Floats,
    states: NDArray[np.int64],
    lag_s: float,
    tick_s: float,
    long_s: float,
    least_band: int = 1,
) -> tuple[Floats, Floats]:
    """Sums over calls of products of their times in rows d apart, for the calls shorter than `long_s` and the longer.

    Rows are stretches of time, ordered by their begin; they may overlap. A call longer than a tick may change
    its power on the way: what its rows have in common falls off with their distance (Bartlett's weights,
    which keep the matrix positive semidefinite).

    Returns
    -------
    short, long
        Shape (b + 1, rows, k), seconds squared: [d, i] is of rows i and i + d.
    """
    rows, count = len(begin_ns), len(states)
    column = columns_of(line.state, states)
    call = np.flatnonzero((column >= 0) & (line.t_ns[1:] > line.t_ns[:-1]))
    origin = line.t_ns[0]
    begin, end = (line.t_ns[call] - origin) / _NS, (line.t_ns[call + 1] - origin) / _NS
    row_begin, row_end = (begin_ns - origin) / _NS, (end_ns - origin) / _NS
    # Ends of overlapping rows may be out of order: what has surely ended, what may have begun.
    first = np.searchsorted(np.maximum.accumulate(row_end), begin, side="right")
    last = np.searchsorted(row_begin, end + _TAIL_LAGS * lag_s, side="left") - 1
    met = np.maximum(last - first + 1, 0)
    which = np.repeat(np.arange(len(call)), met)
    row = np.repeat(first - np.cumsum(met) + met, met) + np.arange(int(met.sum()))
    seen = _drawn_by(row_end[row], begin[which], end[which], lag_s) - _drawn_by(
        row_begin[row], begin[which], end[which], lag_s
    )
    within = (end - begin) < tick_s
    short_reach = int((met - 1)[within].max(initial=1))
    band = max(min(max(least_band, min(short_reach, _WIDEST_BAND)), rows - 1), 0)
    lasting = (end - begin)[which] >= long_s
    fades = ~within[which] | (met[which] - 1 > band)
    tables = np.zeros((2, band + 1, rows * count))
    cell = row * count + column[call][which]
    for d in range(band + 1):
        # Rows of one call follow each other in the list, so that d places on is d rows on.
        a = np.arange(len(row) - d)
        a = a[which[a] == which[a + d]] if d else a
        value = seen[a] * seen[a + d] * np.where(fades[a], 1.0 - d / (band + 1.0), 1.0)
        for kind in (0, 1):
            chosen = lasting[a] == bool(kind)
            tables[kind, d] = np.bincount(cell[a[chosen]], value[chosen], minlength=rows * count)
    short, long = tables.reshape(2, band + 1, rows, count)
    return short, long


def _drawn_by(t_s: Floats, begin_s: Floats, end_s: Floats, lag_s: float) -> Floats:
    """The lag-filtered time of a call until t: the integral of f from before its begin."""
    since = np.maximum(t_s - begin_s, 0.0)
    plain = np.minimum(since, end_s - begin_s)
    if lag_s < _NO_LAG_S:
        return plain
    after = np.maximum(t_s - end_s, 0.0)
    level = np.where(t_s > end_s, np.exp(-after / lag_s), 1.0) - np.exp(-since / lag_s)
    return np.asarray(plain - lag_s * level)


def clustering(begin_ns: NDArray[np.int64], tick_ns: float) -> float:
    """How far the begins of a state's calls keep to some phases of the tick: 0 not at all, 1 always.

    The largest mean resultant length (Mardia and Jupp, Directional Statistics, 2000) of the phases'
    multiples: a loop of a whole number of turns in a tick clusters in that multiple.
    """
    if len(begin_ns) < 2:
        return 1.0
    gap = max(float(np.median(np.diff(begin_ns))), tick_ns / 50.0)
    if len(begin_ns) > _ENOUGH_CALLS:  # some of them, from all over the time, have the same phases
        begin_ns = np.random.default_rng(0).choice(begin_ns, _ENOUGH_CALLS, replace=False)
    turn = np.exp(2j * np.pi * (begin_ns % tick_ns) / tick_ns)
    powers, largest = np.ones(len(begin_ns), complex), 0.0
    for _ in range(int(np.ceil(1.5 * tick_ns / gap))):
        powers *= turn
        largest = max(largest, abs(complex(powers.mean())))
    return largest
