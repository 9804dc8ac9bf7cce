"""Readings -> energy curves -> joules on intervals. The one place that turns readings into joules.

Pure functions of arrays: no clock, no file, no hardware. Times are monotonic nanoseconds (int64),
energies joules, powers watts; every uncertainty is a 95 % half-width in joules.

A curve is the cumulative energy of one channel at knots, linear between them. Where the knots come from:

* a counter that refreshes within about a millisecond (RAPL): each read is a knot;
* a counter that ticks every 20–100 ms (NVML): the edges are knots, each found between the last read of
  the old value and the first read of the new one; edges that no two close reads bracket are placed by
  the period of the others;
* a power gauge: its own window (mean over the last W, refreshed every T) shifted to the window's
  middle, then the trapezoid rule;
* a model: utilisation -> power by a published curve, over each interval between two reads.

Uncertainty of an interval: *knots* (when did the counter tick), *shape* (how was the power distributed
within a tick: bounded by the range of the power), *sampling* (what a gauge with coverage W/T did not
see), in quadrature, and apart from them the sensor's *gain*, which is common to all intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from energyprof import edges
from energyprof.edges import Ticks
from energyprof.reasons import COUNTER_RESET, SENSOR_GAP
from energyprof.windows import Windows

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
Flags = NDArray[np.bool_]

_NS = 1e9
# No device draws more: a GB200 module is rated 2.7 kW, an eight-socket platform some 5 kW. A counter that
# claims more was reset, or went on while the machine's clock stood still. One wrap between two reads can
# be undone; that it was one is known where this power cannot have made two.
MAX_DEVICE_W = 10_000.0
MAX_PACKAGE_W = 1_000.0  # Intel's and AMD's largest sockets are rated 500 W, their memory less
_MAX_GAUGE_W = 200_000.0  # no gauge of ours is of more than a rack: those of the densest are rated 130 kW
_PRIOR_TICK_NS = 100_000_000  # NVML energy counters (docs/meters.md); only until the readings tell
_CLOCK_TICK_S = 0.01  # of /proc/stat: USER_HZ is 100 on all of Linux's common platforms
_ENOUGH_READINGS = 4  # of a gauge, before its range is trusted to shrink


@dataclass(frozen=True)
class EnergyCurve:
    """Cumulative energy of one channel.

    Attributes
    ----------
    t_ns, e_j
        Knots (n >= 2), both non-decreasing.
    u_j
        Uncertainty of the energy at each knot, shape (n,).
    lost
        Shape (n - 1,): the increment is unknown (counter reset, gap); `lost_reason` says why.
    tick_ns
        What the meter resolves: intervals shorter than this have no figure.
    low_w, high_w
        The power stayed in this range between the knots.
    reach_ns
        How far beyond its first and last knot the curve may be extended at constant power.
    sampling_w_rt_s
        Unseen power of a gauge: the uncertainty of an interval of d seconds is this times sqrt(d).
    gain_u95
        Systematic relative uncertainty.
    ticks
        The counter's gains as they were found, for the regions that are shorter than a tick.
    windows
        What a gauge of the same device saw of parts of ticks.
    """

    t_ns: Times
    e_j: Floats
    u_j: Floats
    lost: Flags
    tick_ns: int
    low_w: float
    high_w: float
    reach_ns: float
    lost_reason: str = SENSOR_GAP
    sampling_w_rt_s: float = 0.0
    gain_u95: float = 0.0
    ticks: Ticks | None = None
    windows: Windows | None = None


@dataclass(frozen=True)
class Joules:
    """Energies of m intervals: joules, random uncertainty (knots, shape, sampling), which are known, and the
    part of the uncertainty that is sampling's.

    All are 0 where not known.
    """

    energy_j: Floats
    u_random_j: Floats
    known: Flags
    u_sampling_j: Floats


def joules(curve: EnergyCurve, begin_ns: Times, end_ns: Times) -> Joules:
    """The energy drawn in each interval [begin_ns[i], end_ns[i]].

    Raises
    ------
    ValueError
        An interval ends before it begins.
    """
    begin_ns, end_ns = np.asarray(begin_ns, np.int64), np.asarray(end_ns, np.int64)
    if np.any(end_ns < begin_ns):
        raise ValueError("an interval ends before it begins")
    # A time on a knot belongs to the segment that lies inside the interval.
    first, first_u, first_segment, first_in = _at(curve, begin_ns, "right")
    last, last_u, last_segment, last_in = _at(curve, end_ns, "left")
    last_segment = np.maximum(last_segment, first_segment)
    lost_before = np.concatenate(([0], np.cumsum(curve.lost)))
    whole = lost_before[last_segment + 1] == lost_before[first_segment]
    known = first_in & last_in & (whole | (begin_ns == end_ns))  # nothing is lost of no time
    seconds = (end_ns - begin_ns) / _NS
    u_random = np.sqrt(first_u**2 + last_u**2 + curve.sampling_w_rt_s**2 * seconds)
    energy = np.where(known, np.maximum(last - first, 0.0), 0.0)
    # Both ends in one tick: what is not known is at most the interval at the power's whole range.
    u_random = np.minimum(u_random, np.maximum(curve.high_w * seconds, energy))
    u_random = np.where(known, u_random, 0.0)
    return Joules(energy, u_random, known, np.minimum(curve.sampling_w_rt_s * np.sqrt(seconds), u_random))


def _at(
    curve: EnergyCurve, t_ns: Times, side: Literal["left", "right"]
) -> tuple[Floats, Floats, NDArray[np.intp], Flags]:
    """Energy, its uncertainty, the segment, and whether the curve reaches there, at each time."""
    knots = curve.t_ns
    segment = np.clip(np.searchsorted(knots, t_ns, side=side) - 1, 0, len(knots) - 2)
    width = np.maximum((knots[segment + 1] - knots[segment]) / _NS, 1e-9)
    power = (curve.e_j[segment + 1] - curve.e_j[segment]) / width
    fraction = (t_ns - knots[segment]) / _NS / width
    energy = curve.e_j[segment] + power * fraction * width
    inside = np.clip(fraction, 0.0, 1.0)
    # With the tick's energy known, the cumulative energy at a fraction f of it cannot be further from
    # the straight line than this, as long as the power stays within [low_w, high_w].
    shape = np.minimum(
        inside * np.maximum(curve.high_w - power, 0.0), (1 - inside) * np.maximum(power - curve.low_w, 0.0)
    )
    beyond = np.maximum(np.maximum(-fraction, fraction - 1.0), 0.0) * width
    # Beyond the knots nobody looked: what is assumed there may be all wrong.
    u_shape = shape * width + beyond * np.maximum(curve.high_w - curve.low_w, np.abs(power))
    u_knots = np.where(inside < 0.5, curve.u_j[segment], curve.u_j[segment + 1])
    return energy, np.hypot(u_shape, u_knots), segment, beyond * _NS <= curve.reach_ns


def from_counter(
    before_ns: Times,
    after_ns: Times,
    value_uj: Times,
    *,
    wraps_at_uj: int | None = None,
    refresh_ns: int = 1_000_000,
    gain_u95: float = 0.0,
    most_w: float = MAX_DEVICE_W,
) -> EnergyCurve | None:
    """The curve of a counter that refreshes faster than it is read and never counts more than `most_w`.

    None with fewer than two reads, or where it never moved.
    """
    before, after, value = edges.in_order(before_ns, after_ns, value_uj, wraps_at_uj)
    middle = (before + after) // 2
    kept = np.concatenate((np.diff(middle) > 0, [True])) if len(middle) else np.zeros(0, bool)
    middle, value = middle[kept], value[kept]
    if len(middle) < 2 or np.all(value == value[0]):
        return None  # a counter that never moves is broken: a machine that runs draws power
    increment, lost, reason = _increments(value, middle, wraps_at_uj, most_w, slack_s=3 * refresh_ns / _NS)
    lost |= edges.stuck(increment, middle)
    pace = int(np.median(np.diff(middle)))
    power = increment / (np.diff(middle) / _NS)
    u_time_s = np.broadcast_to(refresh_ns / _NS, len(middle))  # no memory: a day has millions of reads
    # What a read shows is as old as the last refresh: half a refresh on average, half more or less.
    half = np.broadcast_to(refresh_ns / _NS / 2, len(middle))
    shown = middle.astype(np.float64) - refresh_ns / 2.0
    deviation = np.broadcast_to(refresh_ns / _NS / 2 / np.sqrt(3.0), len(middle))
    ticks = Ticks(shown, deviation, half, half, increment, lost, edges.quantum(value))
    curve = _counter_curve(
        middle, increment, lost, reason, power, u_time_s, max(pace, refresh_ns), 3.0 * pace, gain_u95
    )
    return replace(curve, ticks=ticks)


def from_ticking_counter(
    before_ns: Times,
    after_ns: Times,
    value_uj: Times,
    *,
    gain_u95: float = 0.0,
    tick_ns: int | None = None,
    power_before_w: float | None = None,
) -> EnergyCurve | None:
    """The curve of a counter that refreshes more slowly than it is read; None where it never ticked.

    `power_before_w` is the mean power before the first read, where something else knows it.
    """
    low, high, value = edges.counter_edges(before_ns, after_ns, value_uj)
    if len(value) < 2:
        return None
    at, u_ns, period, kind = edges.edge_times(low, high, tick_ns or _PRIOR_TICK_NS)
    sure = kind != edges.UNSURE
    sure[[0, -1]] = True  # the curve's ends stay; between, the two ticks become one
    low, u_ns = low[sure], u_ns[sure]
    high, value, at, kind = high[sure], value[sure], at[sure], kind[sure]
    at[0], u_ns[0] = edges.first_edge(
        at, u_ns, kind == edges.BRACKETED, int(high[0]), value, period, power_before_w
    )
    increment, lost, reason = _increments(value, at, None, MAX_DEVICE_W, slack_s=2 * period / _NS)
    seconds = np.maximum(np.diff(at) / _NS, 1e-9)
    # An edge placed badly makes one tick look hot and the next cold: judge the power over pairs.
    paired = increment / seconds
    if len(increment) > 1:
        paired = (increment[1:] + increment[:-1]) / (seconds[1:] + seconds[:-1])
    pace = max(period, float(np.median(np.diff(at))))
    curve = _counter_curve(at, increment, lost, reason, paired, u_ns / _NS, int(pace), 2.5 * pace, gain_u95)
    return replace(curve, ticks=edges.ticks_of(low, high, value, at, period, increment, lost, kind))


def _counter_curve(
    t_ns: Times,
    increment_j: Floats,
    lost: Flags,
    reason: str,
    power_w: Floats,
    u_time_s: Floats,
    tick_ns: int,
    reach_ns: float,
    gain_u95: float,
) -> EnergyCurve:
    usable = power_w[np.isfinite(power_w)]
    low, high = (float(usable.min()), float(usable.max())) if len(usable) else (0.0, 0.0)
    known_j = np.concatenate(([0.0], np.where(lost, 0.0, increment_j)))
    seconds = np.maximum(np.diff(t_ns) / _NS, 1e-9)
    mean_w = np.concatenate((known_j[1:] / seconds, [0.0]))
    mean_w = np.minimum(np.maximum(mean_w, np.concatenate(([0.0], mean_w[:-1]))), high)
    return EnergyCurve(
        t_ns=t_ns,
        e_j=np.cumsum(known_j),
        u_j=mean_w * u_time_s,
        lost=lost,
        tick_ns=tick_ns,
        low_w=low,
        high_w=high,
        reach_ns=reach_ns,
        lost_reason=reason,
        gain_u95=gain_u95,
    )


def _increments(
    value_uj: Times, t_ns: Times, wraps_at_uj: int | None, most_w: float, slack_s: float
) -> tuple[Floats, Flags, str]:
    """Joules between successive values, which of them are unknown, and why."""
    step = np.diff(value_uj)
    seconds = np.diff(t_ns) / _NS
    unread = np.zeros(len(step), bool)
    if wraps_at_uj:
        step = np.mod(step, wraps_at_uj)
        unread = seconds * most_w * 1e6 > wraps_at_uj
    energy = step.astype(np.float64) / 1e6
    reset = (energy < 0) | (energy > most_w * (seconds + slack_s))
    lost = reset | unread
    return np.where(lost, 0.0, energy), lost, COUNTER_RESET if reset.any() else SENSOR_GAP


def from_power(
    t_ns: Times,
    power_mw: Times,
    *,
    window_ns: int | None = None,
    refresh_ns: int | None = None,
    gain_u95: float = 0.0,
    reach_ns: float | None = None,
) -> EnergyCurve | None:
    """The curve of a power gauge; None with fewer than two readings of different times that make sense.

    A reading stands for the middle of the sensor's window, half a refresh before it was seen on average.
    """
    order = np.argsort(t_ns, kind="stable")
    t_ns, power = t_ns[order], power_mw[order].astype(np.float64) / 1e3
    kept = np.concatenate((np.diff(t_ns) > 0, [True])) if len(t_ns) else np.zeros(0, bool)
    kept &= (power >= 0) & (power <= _MAX_GAUGE_W)
    t_ns, power = t_ns[kept], power[kept]
    if len(t_ns) < 2:
        return None
    pace = float(np.median(np.diff(t_ns)))
    refresh = float(refresh_ns or max(pace, _PRIOR_TICK_NS))
    window = float(window_ns or refresh)
    at = t_ns - np.int64((window + refresh) / 2)
    seconds = np.diff(at) / _NS
    energy = np.concatenate(([0.0], np.cumsum((power[1:] + power[:-1]) / 2 * seconds)))
    unseen = max(0.0, 1.0 - window / refresh)
    return EnergyCurve(
        t_ns=at,
        e_j=energy,
        u_j=np.zeros(len(at)),
        lost=seconds * _NS > 20 * max(pace, refresh),
        tick_ns=int(max(refresh, window, pace)),
        low_w=float(power.min()),
        high_w=float(power.max()),
        reach_ns=4.0 * max(refresh, pace, window) if reach_ns is None else reach_ns,
        sampling_w_rt_s=1.96 * float(power.std()) * float(np.sqrt(refresh / _NS * unseen)),
        gain_u95=gain_u95,
    )


def from_utilisation(
    t_ns: Times,
    busy_us: Times,
    *,
    cpus: int,
    tdp_w: float,
    load: Sequence[float],
    share_of_tdp: Sequence[float],
    gain_u95: float,
    reach_ns: float,
) -> EnergyCurve | None:
    """The curve of a modelled processor: power = tdp_w × interp(utilisation; load, share_of_tdp)."""
    order = np.argsort(t_ns, kind="stable")
    t_ns, busy = t_ns[order], np.maximum.accumulate(busy_us[order])
    # Busy time comes in clock ticks of 10 ms: over less than that a utilisation means nothing.
    kept = [0] if len(t_ns) else []
    for i in range(1, len(t_ns)):
        if t_ns[i] - t_ns[kept[-1]] >= 20_000_000:
            kept.append(i)
    t_ns, busy = t_ns[kept], busy[kept]
    if len(t_ns) < 2:
        return None
    seconds = np.diff(t_ns) / _NS
    utilisation = np.clip(np.diff(busy) / 1e6 / (seconds * cpus), 0.0, 1.0)
    power = tdp_w * np.interp(utilisation, load, share_of_tdp)
    off = np.full(len(t_ns), _CLOCK_TICK_S / 2)
    steps = tdp_w * max(share_of_tdp) * _CLOCK_TICK_S / cpus
    return EnergyCurve(
        ticks=Ticks(
            t_ns.astype(np.float64),
            off / np.sqrt(3.0),
            off,
            off,
            power * seconds,
            np.zeros(len(seconds), bool),
            steps,
        ),
        t_ns=t_ns,
        e_j=np.concatenate(([0.0], np.cumsum(power * seconds))),
        u_j=np.zeros(len(t_ns)),
        lost=np.zeros(len(seconds), bool),
        tick_ns=int(np.median(np.diff(t_ns))),
        low_w=tdp_w * min(share_of_tdp),
        high_w=tdp_w * max(share_of_tdp),
        reach_ns=reach_ns,
        gain_u95=gain_u95,
    )


def with_power_range(curve: EnergyCurve, power_mw: Times) -> EnergyCurve:
    """The curve of a counter, its range of power widened by what a faster gauge of the device saw.

    Means over a tick hide how far the power itself went, and few readings of a gauge may have missed its
    peaks: then as much again is allowed above (and, where no gauge helps, below).
    """
    seen = len(np.unique(power_mw))
    watts = np.concatenate((power_mw / 1e3, [curve.low_w, curve.high_w]))
    low, high = float(watts.min()), float(watts.max())
    beyond = (high - low) * min(1.0, _ENOUGH_READINGS / max(seen, 1))
    if seen < 2:
        return replace(curve, low_w=max(0.0, low - beyond), high_w=high + beyond)
    return replace(curve, low_w=low, high_w=high + (beyond if seen < 10 * _ENOUGH_READINGS else 0.0))


def with_shape(curve: EnergyCurve, shape: EnergyCurve) -> EnergyCurve:
    """Fill a counter that was read rarely with the shape of a power gauge, rescaled to its increments."""
    sparse = np.diff(curve.t_ns) > 2 * np.median(np.diff(shape.t_ns))
    fill = shape.t_ns[(shape.t_ns > curve.t_ns[0]) & (shape.t_ns < curve.t_ns[-1])]
    segment = np.searchsorted(curve.t_ns, fill, side="right") - 1
    fill = fill[sparse[segment] & ~curve.lost[segment]]
    segment = np.searchsorted(curve.t_ns, fill, side="right") - 1
    at_knots = np.interp(curve.t_ns, shape.t_ns, shape.e_j)
    gauge = at_knots[segment + 1] - at_knots[segment]
    share = np.divide(
        np.interp(fill, shape.t_ns, shape.e_j) - at_knots[segment],
        gauge,
        out=np.zeros(len(fill)),
        where=gauge > 0,
    )
    usable = gauge > 0
    fill, segment, share = fill[usable], segment[usable], share[usable]
    energy = curve.e_j[segment] + share * (curve.e_j[segment + 1] - curve.e_j[segment])
    return replace(
        _with_knots(curve, fill, energy, curve.u_j[segment]), tick_ns=min(curve.tick_ns, shape.tick_ns)
    )


def with_change_points(
    curve: EnergyCurve, t_ns: Sequence[int], power_before_w: float | None = None, ticks: int = 5
) -> EnergyCurve:
    """Add a knot where the power may have changed: a run's begin and end.

    The power before such a point resembles the ticks before it, and after it the ticks after it. The
    energy of the tick that the point splits is known; what the two mean powers leave of it goes to each
    side by how far its power may stray within a tick: a load that switches between the range's ends has
    the variance (mean - low)(high - mean), and an idle device has next to none. Where both sides are
    alike this is the straight line.

    Parameters
    ----------
    t_ns
        The points.
    power_before_w
        The mean power before the first point, where the curve does not reach back.
    ticks
        How many ticks on each side make the mean.
    """
    points = sorted(t_ns)
    for number, point in enumerate(points):
        at = int(np.searchsorted(curve.t_ns, point, side="right")) - 1
        if at < 0 or at >= len(curve.t_ns) - 1 or curve.t_ns[at] == point or curve.lost[at]:
            continue
        width = float(curve.t_ns[at + 1] - curve.t_ns[at]) / _NS
        if width * _NS < 0.2 * curve.tick_ns:
            continue
        fraction = (point - int(curve.t_ns[at])) / _NS / width
        # Not beyond the neighbouring points: there the power is another.
        floor = int(np.searchsorted(curve.t_ns, points[number - 1])) if number else 0
        ceiling = len(curve.t_ns) - 1
        if number + 1 < len(points):
            ceiling = int(np.searchsorted(curve.t_ns, points[number + 1], side="right")) - 1
        before = _mean_power(curve, max(at - ticks, floor), at)
        after = _mean_power(curve, at + 1, min(at + 1 + ticks, ceiling))
        if before is None and number == 0:
            before = power_before_w
        whole = float(curve.e_j[at + 1] - curve.e_j[at])
        # Where one side's power is not known, it is what the other side's leaves.
        if before is None and after is not None:
            before = _left(curve, whole - (1 - fraction) * width * after, fraction * width)
        if after is None and before is not None:
            after = _left(curve, whole - fraction * width * before, (1 - fraction) * width)
        before, after = (whole / width if side is None else side for side in (before, after))
        early, late = fraction * width * before, (1 - fraction) * width * after
        stray = fraction * _variance(curve, before), (1 - fraction) * _variance(curve, after)
        share = stray[0] / sum(stray) if sum(stray) > 0 else fraction
        inside = min(max(early + share * (whole - early - late), 0.0), whole)
        mean = whole / width
        bound = width * min(
            fraction * max(curve.high_w - mean, 0.0), (1 - fraction) * max(mean - curve.low_w, 0.0)
        )
        u = float(np.hypot(bound, max(curve.u_j[at], curve.u_j[at + 1])))
        curve = _with_knots(
            curve, np.array([point]), np.array([float(curve.e_j[at]) + inside]), np.array([u])
        )
    return curve


def _left(curve: EnergyCurve, energy_j: float, seconds: float) -> float:
    """The mean power of what is left of a tick, within the curve's range."""
    return min(max(energy_j / max(seconds, 1e-9), curve.low_w), curve.high_w)


def _variance(curve: EnergyCurve, mean_w: float) -> float:
    """Of a power that switches between the ends of the curve's range and has this mean; never quite 0."""
    spread = curve.high_w - curve.low_w
    return max((mean_w - curve.low_w) * (curve.high_w - mean_w), 0.0) + 1e-3 * spread**2


def _mean_power(curve: EnergyCurve, first: int, last: int) -> float | None:
    """Mean power over the segments first..last-1 that exist and are known."""
    first, last = max(first, 0), min(last, len(curve.t_ns) - 1)
    if last <= first or curve.lost[first:last].any():
        return None
    seconds = (curve.t_ns[last] - curve.t_ns[first]) / _NS
    return float((curve.e_j[last] - curve.e_j[first]) / seconds) if seconds > 0 else None


def _with_knots(curve: EnergyCurve, t_ns: Times, e_j: Floats, u_j: Floats) -> EnergyCurve:
    """The curve with further knots inside known segments."""
    at = np.searchsorted(curve.t_ns, t_ns, side="right")
    return replace(
        curve,
        t_ns=np.insert(curve.t_ns, at, t_ns),
        e_j=np.insert(curve.e_j, at, e_j),
        u_j=np.insert(curve.u_j, at, u_j),
        lost=np.insert(curve.lost, at - 1, False),
    )
