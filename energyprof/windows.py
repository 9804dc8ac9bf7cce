"""Which stretches of time the readings of a power gauge speak of.

A gauge is refreshed every T and shows the mean power over the last W; where W is shorter than a tick of the
counter, it looks inside the tick. What it showed and when follows from the reads around each change, as with
a counter (see `edges`).

Pure functions of arrays. Times are monotonic nanoseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energyprof.edges import BRACKETED, Ticks, edge_times, within_brackets

Floats = NDArray[np.float64]
Times = NDArray[np.int64]

_NS = 1e9
_PRIOR_REFRESH_NS = 100_000_000
_QUANTUM_W = 1e-3  # NVML tells milliwatts
_LONGEST_NS = 200_000_000  # longer means tell nothing of what is shorter than a tick
_ENOUGH = 12


@dataclass(frozen=True)
class Windows:
    """Means of power over n windows of `window_s`, as energies.

    Attributes
    ----------
    end_ns, sd_s
        When each window ended, ascending, and the standard deviation of the error of that.
    low_s, high_s
        How far each may lie before and after `end_ns`.
    energy_j
        Mean power times `window_s`.
    """

    end_ns: Floats
    sd_s: Floats
    low_s: Floats
    high_s: Floats
    energy_j: Floats
    window_s: float

    @property
    def begin_ns(self) -> Floats:
        return self.end_ns - self.window_s * _NS

    @property
    def quantum_j(self) -> float:
        return _QUANTUM_W * self.window_s

    def chosen(self, which: NDArray[np.bool_]) -> Windows:
        """Some of them."""
        return Windows(
            self.end_ns[which], self.sd_s[which], self.low_s[which], self.high_s[which],
            self.energy_j[which], self.window_s,
        )  # fmt: skip

    def within(self, begin_ns: float, end_ns: float) -> NDArray[np.bool_]:
        """Which lie between two instants as a whole."""
        return np.asarray((self.begin_ns >= begin_ns) & (self.end_ns <= end_ns))


def windows_of(
    before_ns: Times, after_ns: Times, power_mw: Times, window_ns: int | None, refresh_ns: int | None
) -> Windows | None:
    """The windows behind a gauge's readings; None where the window is unknown or too long, or where most of the
    refreshes were not caught between close reads."""
    if window_ns is None or window_ns > _LONGEST_NS or len(power_mw) < _ENOUGH:
        return None
    order = np.argsort(after_ns, kind="stable")
    before, after, power = before_ns[order], after_ns[order], power_mw[order]
    fresh = np.flatnonzero(power[1:] != power[:-1]) + 1
    if len(fresh) < _ENOUGH:
        return None
    low, high, value = before[fresh - 1].astype(np.float64), after[fresh], power[fresh]
    at, _, period, kind = edge_times(low, high, refresh_ns or _PRIOR_REFRESH_NS)
    if np.count_nonzero(kind == BRACKETED) < 0.5 * len(kind):
        return None
    end, sd_ns = within_brackets(low, high.astype(np.float64), at.astype(np.float64), period)
    window_s = window_ns / _NS
    energy = value.astype(np.float64) * (1e-3 * window_s)
    found = Windows(
        end, sd_ns / _NS, (end - low) / _NS, (high - end) / _NS, energy, window_s
    )  # fmt: skip
    # What was not caught closely may be a value of the refresh before or after.
    return found.chosen(kind == BRACKETED)


def blind_ticks(windows: Windows) -> Ticks:
    """The time cut at the windows' ends, where nothing counted the energy between them."""
    count = len(windows.end_ns) - 1
    return Ticks(
        windows.end_ns, windows.sd_s, windows.low_s, windows.high_s,
        np.zeros(count), np.zeros(count, bool), windows.quantum_j, counted=False,
    )  # fmt: skip
