"""What the readings say of the sensors: refresh, jitter, averaging window, lag. Arrays in, numbers out.

A sensor's value that became visible at time t is taken as

    off + (on - off) x mean over [t - lag - W, t - lag] of s,   s = the load (0 or 1) behind a first-order lag

W, lag and time constant by a search over a grid, off and on by least squares at each point of it. A counter
is the same with W = its own tick and value = increment / tick.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating[Any]]

_GRID_NS = 1_000_000
TAUS_MS = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0)
LAGS_MS = np.arange(-40.0, 201.0, 4.0)


class Edges(NamedTuple):
    """Where a polled value changed: middle and width of the bracket, the value before and after."""

    t_ns: Floats
    width_ns: Floats
    old: Ints
    new: Ints


def edges(before_ns: Ints, after_ns: Ints, value: Ints) -> Edges:
    """A change between two reads happened after the first began and before the second ended."""
    at = np.flatnonzero((value[1:] != value[:-1]) & (value[1:] >= 0) & (value[:-1] >= 0))
    low, high = before_ns[at].astype(np.float64), after_ns[at + 1].astype(np.float64)
    return Edges((low + high) / 2, high - low, value[at], value[at + 1])


def refresh(found: Edges) -> dict[str, Any]:
    """Period and jitter of the changes; where the value stayed as it was, a tick is missed."""
    if len(found.t_ns) < 5:
        return {"ticks": len(found.t_ns)}
    gaps = np.diff(found.t_ns)
    period = float(np.median(gaps))
    period = float(np.median(gaps / np.maximum(1, np.round(gaps / period))))
    steps = np.maximum(1, np.round(gaps / period))
    number = np.concatenate([[0.0], np.cumsum(steps)])
    slope, start = np.polyfit(number, found.t_ns - found.t_ns[0], 1)
    residual = found.t_ns - found.t_ns[0] - (slope * number + start)
    return {
        "ticks": len(found.t_ns),
        "period_ms": round(float(slope) / 1e6, 3),
        "gap_median_ms": round(float(np.median(gaps)) / 1e6, 3),
        "gap_p01_ms": round(float(np.percentile(gaps, 1)) / 1e6, 3),
        "gap_p99_ms": round(float(np.percentile(gaps, 99)) / 1e6, 3),
        "gap_sd_ms": round(float(np.std(gaps - steps * slope)) / 1e6, 3),
        "phase_wander_sd_ms": round(float(np.std(residual)) / 1e6, 3),
        "unchanged_ticks": int(np.sum(steps - 1)),
        "bracket_median_ms": round(float(np.median(found.width_ns)) / 1e6, 3),
    }


class Load:
    """The integral of the load (0 or 1) behind a first-order lag of `tau_ms`, at any time."""

    def __init__(self, on_ns: Ints, off_ns: Ints, tau_ms: float) -> None:
        self._t = np.arange(on_ns[0] - 3_000_000_000, off_ns[-1] + 2_000_000_000, _GRID_NS).astype(np.float64)
        corners = np.column_stack([on_ns, off_ns]).ravel().astype(np.float64)
        so_far = np.cumsum(np.column_stack([np.zeros(len(on_ns)), off_ns - on_ns]).ravel())
        integral = np.interp(self._t, corners, so_far)
        if tau_ms > 0:
            keep, level, total = float(np.exp(-_GRID_NS / 1e6 / tau_ms)), 0.0, 0.0
            smooth = [0.0]
            for share in np.diff(integral).tolist():
                level = keep * level + (1 - keep) * share
                total += level
                smooth.append(total)
            integral = np.array(smooth)
        self._integral = integral

    def mean(self, start_ns: Floats, end_ns: Floats) -> Floats:
        wide = np.interp(end_ns, self._t, self._integral) - np.interp(start_ns, self._t, self._integral)
        share: Floats = wide / (end_ns - start_ns)
        return share


class Fit(NamedTuple):
    rms: float
    window_ms: float
    lag_ms: float
    tau_ms: float
    off: float
    on: float


def _line(share: Floats, value: Floats) -> tuple[float, float, float]:
    """Least squares of value on share: (rms, at share 0, at share 1)."""
    spread = float(np.var(share))
    slope = (
        float(np.mean((share - share.mean()) * (value - value.mean()))) / spread if spread > 1e-12 else 0.0
    )
    start = float(value.mean() - slope * share.mean())
    return float(np.sqrt(np.mean((value - start - slope * share) ** 2))), start, start + slope


def fit_sensor(
    t_ns: Floats, value: Floats, on_ns: Ints, off_ns: Ints, windows_ms: Floats | None
) -> dict[str, Any]:
    """Find window, lag and time constant of a sensor; `windows_ms` None: a counter, `value` its total.

    Returns the best point and the range of windows within 5 % of its residual.
    """
    if windows_ms is None:
        ends, starts, level = t_ns[1:], t_ns[:-1], np.diff(value) / (np.diff(t_ns) / 1e9)
    else:
        ends, starts, level = t_ns, t_ns, value
    inside = (starts > on_ns[0] - 500_000_000) & (ends < off_ns[-1] + 1_000_000_000)
    ends, starts, level = ends[inside], starts[inside], level[inside]
    if len(level) < 20:
        return {"points": len(level)}
    tried: list[Fit] = []
    for tau in TAUS_MS:
        load = Load(on_ns, off_ns, tau)
        for window in [0.0] if windows_ms is None else windows_ms.tolist():
            for lag in LAGS_MS.tolist():
                end, start = ends - lag * 1e6, starts - (lag + window) * 1e6
                tried.append(Fit(*_reorder(_line(load.mean(start, end), level), window, lag, tau)))
    best = min(tried)
    near = [one.window_ms for one in tried if one.rms <= 1.05 * best.rms]
    tick = float(np.median(ends - starts)) / 1e6
    return {
        "points": len(level),
        "window_ms": round(tick, 1) if windows_ms is None else best.window_ms,
        "window_range_ms": None if windows_ms is None else [min(near), max(near)],
        "lag_ms": best.lag_ms,
        "tau_ms": best.tau_ms,
        "rms_w": round(best.rms / 1e3, 2),
        "off_w": round(best.off / 1e3, 1),
        "on_w": round(best.on / 1e3, 1),
    }


def _reorder(
    line: tuple[float, float, float], window: float, lag: float, tau: float
) -> tuple[float, float, float, float, float, float]:
    rms, off, on = line
    return rms, window, lag, tau, off, on


def integral_j(t_ns: Floats, power_mw: Floats, start_ns: float, end_ns: float) -> float:
    """Trapezoids of a power curve between two times, in joules."""
    inside = (t_ns > start_ns) & (t_ns < end_ns)
    t = np.concatenate([[start_ns], t_ns[inside], [end_ns]])
    power = np.interp(t, t_ns, power_mw)
    return float(np.sum((power[1:] + power[:-1]) / 2 * np.diff(t))) / 1e12
