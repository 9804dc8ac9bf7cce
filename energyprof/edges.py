"""When a slowly ticking counter ticked, from reads that saw it before and after.

Pure functions of arrays. Times are monotonic nanoseconds; every uncertainty is a 95 % half-width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Times = NDArray[np.int64]

_NS = 1e9
_NARROW_NS = 15_000_000
_AMBIGUOUS_NS = 6_000_000  # ticks jitter by some milliseconds


def counter_edges(before_ns: Times, after_ns: Times, value: Times) -> tuple[Floats, Times, Times]:
    """Where a ticking counter changed: (low, high] brackets and the new values.

    The first value has no bracket below: its `low` is -inf. Reads by two processes may overlap in time;
    one that shows an older value than another which had already ended then is no change.

    Returns
    -------
    low, high, value
        Each of shape (edges,): the last read of the old value began at `low`, the first of the new one
        ended at `high`.
    """
    order = np.argsort(after_ns, kind="stable")
    before, after, value = before_ns[order], after_ns[order], value[order]
    if len(value) == 0:
        return np.zeros(0), after, value
    newest_end = np.maximum.accumulate(after)
    late = np.zeros(len(value), bool)
    late[1:] = (value[1:] < value[:-1]) & (before[1:] < newest_end[:-1])
    before, after, value = before[~late], after[~late], value[~late]
    changed = np.concatenate(([True], value[1:] != value[:-1]))
    low = np.concatenate(([-np.inf], before[:-1].astype(np.float64)))
    return low[changed], after[changed], value[changed]


def edge_times(low_ns: Floats, high_ns: Times, prior_ns: int) -> tuple[Times, Floats, float]:
    """When the counter ticked, from brackets of which some are wide.

    A narrow bracket is taken at its middle: ticks jitter, and the jitter is real. A wide one is placed
    by the period of the narrow ones around it, within its bracket.

    Returns
    -------
    t_ns, u_ns, period_ns
        Times and their 95 % half-widths, shape (edges,); the period.
    """
    high = high_ns.astype(np.float64)
    width = high - low_ns
    narrow = width < _NARROW_NS
    middle = np.where(narrow, (low_ns + high) / 2, 0.0)
    at, u_ns = np.empty(len(high)), np.empty(len(high))
    at[narrow], u_ns[narrow] = middle[narrow], width[narrow] / 2
    anchors = middle[narrow]
    period, jitter = _period(anchors)
    if period is None:
        period = float(prior_ns)
        low = np.maximum(low_ns, high - period)
        at[~narrow], u_ns[~narrow] = ((low + high) / 2)[~narrow], ((high - low) / 2)[~narrow]
    else:
        for i in np.flatnonzero(~narrow):
            following = np.searchsorted(anchors, high[i])
            guesses = []
            if following > 0:
                # At least one tick away: the anchor was another tick than this one.
                ticks = max(1.0, np.floor((high[i] - anchors[following - 1]) / period + 0.02))
                guesses.append((abs(ticks), anchors[following - 1] + ticks * period))
            if following < len(anchors):
                ticks = max(1.0, np.ceil((anchors[following] - high[i]) / period - 0.02))
                guesses.append((abs(ticks), anchors[following] - ticks * period))
            ticks, guess = min(guesses)
            at[i] = min(max(guess, low_ns[i]), high[i])
            u_ns[i] = min(2 * jitter * (1 + 0.1 * ticks), period / 2)
    return np.maximum.accumulate(at).astype(np.int64), u_ns, period


def first_edge(
    t_ns: Times, u_ns: Floats, seen_ns: int, value_uj: Times, period_ns: float, power_before_w: float | None
) -> tuple[int, float]:
    """When the tick happened that the first read shows, and how well that is known.

    Its place on the grid is certain unless a tick was due within the jitter of that very read: then it
    had either just happened or was just about to, a whole tick apart. The energy up to the next ticks
    tells: the two cases differ by a tick's energy at the power before.
    """
    due = int(t_ns[1]) - period_ns * round((int(t_ns[1]) - seen_ns) / period_ns)
    last = min(len(t_ns) - 1, 3)  # what is near resembles it: a short run may be over after this
    if abs(due - seen_ns) > _AMBIGUOUS_NS or last < 2 or t_ns[1] - seen_ns > 20 * period_ns:
        return int(t_ns[0]), float(u_ns[0])
    power_w = float(value_uj[last] - value_uj[1]) / 1e6 / max((t_ns[last] - t_ns[1]) / _NS, 1e-9)
    before_w = power_w if power_before_w is None else power_before_w
    since_w = power_w * (t_ns[1] - seen_ns) / _NS
    found = float(value_uj[1] - value_uj[0]) / 1e6
    between = before_w * period_ns / _NS
    just_happened, about_to = abs(found - since_w), abs(found - since_w - between)
    at = seen_ns if just_happened <= about_to else int(due - period_ns)
    # What a load does within a tick is of the order of half its power: only a tick's energy well above
    # that decides. Else the whole of it is uncertain (u_ns is a time at the power after).
    if between > 0.5 * power_w * period_ns / _NS and abs(just_happened - about_to) > 0.7 * between:
        return at, float(u_ns[0])
    return at, period_ns * min(1.0, before_w / max(power_w, 1e-9))


def _period(anchors: Floats) -> tuple[float | None, float]:
    """Period and jitter (95 % half-width) of times on a jittering grid with gaps; None where irregular."""
    gaps = np.diff(anchors)
    if len(gaps) < 3:
        return None, 0.0
    period = float(np.median(gaps[gaps < 1.5 * gaps.min()]))
    ticks = np.maximum(np.round(gaps / period), 1.0)
    for _ in range(3):
        period = float(gaps.sum() / ticks.sum())
        ticks = np.maximum(np.round(gaps / period), 1.0)
    errors = np.abs(gaps - ticks * period)
    if np.median(errors) > 0.1 * period:
        return None, 0.0
    return period, float(np.percentile(errors, 95))
