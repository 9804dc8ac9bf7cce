"""When a slowly ticking counter ticked, from reads that saw it before and after.

Pure functions of arrays. Times are monotonic nanoseconds; every uncertainty is a 95 % half-width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
Flags = NDArray[np.bool_]

_NS = 1e9
_NARROW_NS = 15_000_000
BRACKETED, PLACED, UNSURE = 0, 1, 2
_LEAST_DOUBT_NS = 1_000_000
_LEAST_JITTER_NS = 50_000.0
_STUCK_READS, _STUCK_NS = 20, 500_000_000  # a counter of idle memory still moves within a millisecond or so
_ENOUGH_EDGES, _ENOUGH_FOR_CURVATURE = 8, 100
_ROOT_2PI = float(np.sqrt(2 * np.pi))
_AMBIGUOUS_NS = 6_000_000  # ticks jitter by some milliseconds
_STRAY = 0.3  # of a load's mean power over a tick from its mean over a few: what a period of some 75 ms does


@dataclass(frozen=True)
class Ticks:
    """What a counter gained between instants: n edges, n - 1 gains.

    Attributes
    ----------
    at_ns, sd_s
        The edges, ascending, and the standard deviation of the error of each.
    low_s, high_s
        How far each may lie before and after `at_ns`.
    gain_j, lost
        Joules from edge to edge, and which are unknown.
    quantum_j
        The counter's resolution.
    counted
        False: nothing counted; the edges only cut the time (see `windows`).
    """

    at_ns: Floats
    sd_s: Floats
    low_s: Floats
    high_s: Floats
    gain_j: Floats
    lost: Flags
    quantum_j: float = 0.0
    counted: bool = True

    def between(self, a: int, b: int) -> Ticks:
        """Edges a to b and the gains between them."""
        here = slice(a, b + 1)
        return Ticks(
            self.at_ns[here], self.sd_s[here], self.low_s[here], self.high_s[here],
            self.gain_j[a:b], self.lost[a:b], self.quantum_j, self.counted,
        )  # fmt: skip


def counter_edges(before_ns: Times, after_ns: Times, value: Times) -> tuple[Floats, Times, Times]:
    """Where a ticking counter changed: (low, high] brackets and the new values.

    The first value has no bracket below: its `low` is -inf.

    Returns
    -------
    low, high, value
        Each of shape (edges,): the last read of the old value began at `low`, the first of the new one
        ended at `high`.
    """
    before, after, value = in_order(before_ns, after_ns, value)
    if len(value) == 0:
        return np.zeros(0), after, value
    changed = np.concatenate(([True], value[1:] != value[:-1]))
    low = np.concatenate(([-np.inf], before[:-1].astype(np.float64)))
    return low[changed], after[changed], value[changed]


def in_order(
    before_ns: Times, after_ns: Times, value: Times, wraps_at: int | None = None
) -> tuple[Times, Times, Times]:
    """Reads in the order of time, without those that came late.

    Reads by two processes may overlap: one that was held up shows an older value than another which had
    ended before it.
    """
    order = np.argsort(after_ns, kind="stable")
    before, after, value = before_ns[order], after_ns[order], value[order]
    if len(value) < 2:
        return before, after, value
    fallen = value[1:] < value[:-1]
    if wraps_at:  # a wrap is a fall by nearly the whole range
        fallen &= value[:-1] - value[1:] < wraps_at // 2
    late = np.concatenate(([False], fallen & (before[1:] < np.maximum.accumulate(after)[:-1])))
    return before[~late], after[~late], value[~late]


def edge_times(
    low_ns: Floats, high_ns: Times, prior_ns: int
) -> tuple[Times, Floats, float, NDArray[np.int64]]:
    """When the counter ticked, from brackets of which some are wide.

    A narrow bracket is taken at its middle: ticks jitter, and the jitter is real. A wide one is placed
    by the period of the narrow ones around it, within its bracket. Where two ticks fit
    and its first read of the new value came just when the second was due, nobody knows whether it shows
    that one or the one before: it is unsure.

    Returns
    -------
    t_ns, u_ns, period_ns, kind
        Times and their 95 % half-widths, shape (edges,); the period; and of each edge whether it is
        BRACKETED, PLACED or UNSURE.
    """
    high = high_ns.astype(np.float64)
    width = high - low_ns
    narrow = width < _NARROW_NS
    middle = np.where(narrow, (low_ns + high) / 2, 0.0)
    at, u_ns = np.empty(len(high)), np.empty(len(high))
    kind = np.where(narrow, BRACKETED, PLACED)
    at[narrow], u_ns[narrow] = middle[narrow], width[narrow] / 2
    anchors = middle[narrow]
    period, jitter = _period(anchors)
    if period is None:
        period = float(prior_ns)
        low = np.maximum(low_ns, high - period)
        at[~narrow], u_ns[~narrow] = ((low + high) / 2)[~narrow], ((high - low) / 2)[~narrow]
    else:
        doubt = 1.5 * jitter + _LEAST_DOUBT_NS
        known = np.flatnonzero(narrow)
        for i in np.flatnonzero(~narrow):
            above = int(np.searchsorted(known, i))
            # Ticks are counted from the bracketed edge before (or after); each edge between is one at least.
            anchor = known[above - 1] if above else known[0]
            first = i - anchor if above else -50
            last = int(np.floor((high[i] + doubt - middle[anchor]) / period))
            if not above:
                last = min(last, i - anchor)
            first = max(first, int(np.ceil((low_ns[i] - doubt - middle[anchor]) / period))) if i else last
            guess = middle[anchor] + max(last, first) * period
            at[i] = min(max(guess, low_ns[i]), high[i])
            u_ns[i] = min(2 * jitter * (1 + 0.1 * abs(last)), period / 2)
            if last > first and guess > high[i] - doubt:
                kind[i] = UNSURE
                at[i] = min(max(guess - period, low_ns[i]), high[i])
                u_ns[i] = period / 2
    return np.maximum.accumulate(at).astype(np.int64), u_ns, period, kind


def within_brackets(
    low_ns: Floats, high_ns: Floats, t_ns: Floats, period_ns: float, rounds: int = 40
) -> tuple[Floats, Floats]:
    """Each edge's expected time and standard deviation, from the brackets of all of them together.

    Ticks stand on a grid with jitter. The reads around them come when they come, so that a bracket's
    middle may be off, and all middles the same way: half a millisecond of that is per cents of a short
    region. Where the grid is and how large the jitter follows from all brackets, the wide ones included,
    since what comes early is what is missed (normal data of which intervals are known:
    expectation-maximisation, Dempster, Laird and Rubin, J. R. Stat. Soc. B 39, 1977, section 4.2).

    Parameters
    ----------
    t_ns, period_ns
        A first placing of the edges, good to half a period.

    Returns
    -------
    t_ns, sd_ns
        Shape (edges,).
    """
    middle, half = (low_ns + high_ns) / 2, (high_ns - low_ns) / 2
    if len(t_ns) < _ENOUGH_EDGES:
        return middle, half / np.sqrt(3.0)
    from scipy import special  # half of what sealing a run of a few ticks would load

    number = np.concatenate(([0.0], np.cumsum(np.maximum(np.round(np.diff(t_ns) / period_ns), 1.0))))
    powers = 3 if len(t_ns) > _ENOUGH_FOR_CURVATURE else 2
    design = np.vander(number / number[-1], powers)
    mean = np.clip(t_ns, low_ns, high_ns)
    variance = np.minimum(half**2 / 3.0, (0.02 * period_ns) ** 2)
    for _ in range(rounds):
        grid = design @ np.linalg.lstsq(design, mean - t_ns[0], rcond=None)[0] + t_ns[0]
        spread = max(float(np.sqrt(np.mean((mean - grid) ** 2 + variance))), _LEAST_JITTER_NS)
        # A bracket far off the grid: its near end, and nearly uniform there.
        a, b = np.minimum((low_ns - grid) / spread, 4.0), np.maximum((high_ns - grid) / spread, -4.0)
        mass = np.maximum(special.ndtr(b) - special.ndtr(a), 1e-12)
        at_a, at_b = np.exp(-(a**2) / 2) / _ROOT_2PI, np.exp(-(b**2) / 2) / _ROOT_2PI
        shift = (at_a - at_b) / mass
        mean = np.clip(grid + spread * shift, low_ns, high_ns)
        # A bracket is long against the jitter where a or b are far out: no term from that end.
        ends = np.where(at_a > 0, a * at_a, 0.0) - np.where(at_b > 0, b * at_b, 0.0)
        variance = np.clip(spread**2 * (1 + ends / mass - shift**2), (0.05 * half) ** 2, half**2 / 3.0)
        variance = np.minimum(variance, spread**2)
    return mean, np.sqrt(variance)


def first_edge(
    t_ns: Times,
    u_ns: Floats,
    bracketed: Flags,
    seen_ns: int,
    value_uj: Times,
    period_ns: float,
    power_before_w: float | None,
) -> tuple[int, float]:
    """When the tick happened that the first read shows, and how well that is known.

    Its place on the grid is certain unless a tick was due within the jitter of that very read: then it
    had either just happened or was just about to, a whole tick apart. Two things tell: on which side of
    the read the grid of the later ticks has it, and the energy up to the next ticks, which differs by a
    tick's energy at the power before.
    """
    due, jitter_ns = _due(t_ns[1:][bracketed[1:]], int(t_ns[1]), seen_ns, period_ns)
    last = min(len(t_ns) - 1, 3)  # what is near resembles it: a short run may be over after this
    if abs(due - seen_ns) > _AMBIGUOUS_NS or last < 2 or t_ns[1] - seen_ns > 20 * period_ns:
        return int(t_ns[0]), float(u_ns[0])
    from scipy import special

    power_w = float(value_uj[last] - value_uj[1]) / 1e6 / max((t_ns[last] - t_ns[1]) / _NS, 1e-9)
    before_w = power_w if power_before_w is None else power_before_w
    since_w = power_w * (t_ns[1] - seen_ns) / _NS
    found = float(value_uj[1] - value_uj[0]) / 1e6
    between = before_w * period_ns / _NS
    just_happened, about_to = abs(found - since_w), abs(found - since_w - between)
    late = (seen_ns - due) / jitter_ns
    by_phase = float(special.log_ndtr(late) - special.log_ndtr(-late))
    by_energy = (about_to**2 - just_happened**2) / (2 * (_STRAY * power_w * period_ns / _NS) ** 2 + 1e-12)
    at = seen_ns if by_phase + by_energy >= 0 else int(due - period_ns)
    # What a load does within a tick is of the order of half its power: only a tick's energy well above
    # that decides. Else the whole of it is uncertain (u_ns is a time at the power after).
    if between > 0.5 * power_w * period_ns / _NS and abs(just_happened - about_to) > 0.7 * between:
        return at, float(u_ns[0])
    return at, period_ns * min(1.0, before_w / max(power_w, 1e-9))


def _due(bracketed_ns: Times, first_ns: int, seen_ns: int, period_ns: float) -> tuple[float, float]:
    """The tick nearest to a time by the grid of the ticks after it, and the jitter (a standard deviation)."""
    near = bracketed_ns[:_ENOUGH_EDGES]
    offset, jitter_ns = float(first_ns), float(_LEAST_DOUBT_NS)
    if len(near) > 2:
        off = near - period_ns * np.round((near - near[0]) / period_ns)
        offset, jitter_ns = float(np.median(off)), max(float(np.std(off)), _LEAST_DOUBT_NS)
    return offset - period_ns * round((offset - seen_ns) / period_ns), jitter_ns


def stuck(increment_j: Floats, t_ns: Times) -> Flags:
    """Stretches in which a counter that should refresh all the time did not move."""
    still = np.concatenate(([False], increment_j == 0, [False]))
    turns = np.flatnonzero(np.diff(still.astype(np.int8)))
    lost = np.zeros(len(increment_j), bool)
    for first, last in zip(turns[::2], turns[1::2]):
        if last - first >= _STUCK_READS and t_ns[last] - t_ns[first] >= _STUCK_NS:
            lost[first:last] = True
    return lost


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


def jitter_s(ticks: Ticks) -> float | None:
    """Standard deviation of the edges about a regular grid; None where there are too few.

    Of neighbouring gaps, so that a period that drifts is no jitter: the variance of a second difference of
    independent errors is six times theirs.
    """
    gaps = np.diff(ticks.at_ns)
    if len(gaps) < _ENOUGH_EDGES:
        return None
    period = float(np.median(gaps))
    whole = np.abs(gaps - period) < 0.5 * period
    second = np.diff(gaps)[whole[1:] & whole[:-1]]
    return float(np.sqrt(np.mean(second**2) / 6.0)) / _NS if len(second) >= _ENOUGH_EDGES else None


def ticks_of(
    low_ns: Floats,
    high_ns: Times,
    value_uj: Times,
    at_ns: Times,
    period_ns: float,
    gain_j: Floats,
    lost: Flags,
    kind: NDArray[np.int64],
) -> Ticks | None:
    """What the counter gained between edges that are well known; None where most are not.

    The first value was there when reading began, and its edge is anywhere before; so the ticks begin with
    the second.
    """
    if np.count_nonzero(kind == BRACKETED) < 0.5 * len(kind):
        return None
    low, high, at = low_ns[1:], high_ns[1:].astype(np.float64), at_ns[1:].astype(np.float64)
    t_ns, sd_ns = within_brackets(low, high, at, period_ns)
    return Ticks(
        t_ns, sd_ns / _NS, (t_ns - low) / _NS, (high - t_ns) / _NS, gain_j[1:], lost[1:], quantum(value_uj)
    )


def quantum(value_uj: Times) -> float:
    """The resolution of a counter, in joules: its smallest step that is not zero (at most a joule)."""
    steps = np.diff(value_uj)
    steps = steps[steps > 0]
    return min(float(np.gcd.reduce(steps)) / 1e6, 1.0) if len(steps) else 0.0
