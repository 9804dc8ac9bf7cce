"""What readings of an idle machine tell of its meters: pure functions of readings, no clock and no hardware.

* *Cadence*: the instants at which a value changed stand on a grid with jitter. The period is the slope of
  the straight line through (number of the tick, middle of its bracket), the jitter what is left of the
  residuals' variance less that of the brackets (width^2 / 12). Where there is no grid but intervals of one
  length (RAPL), it is their median, and the jitter their spread (1.48 times the median deviation).
* *Fast reads*: on some boards reading the energy counter makes it lose energy (RTX 4090, 5060 Ti: Dauner
  et al., HotCarbon 2026). Over three times, read rarely, every 100 ms and every 10 ms,

      shortfall = 1 - (counter / power)_fast / (counter / power)_rare

  where counter and power are the mean watts by the counter and by the integrated power gauge.
* *Window*: a gauge that averages over W shows (E(t) - E(t - W)) / W. Where power varied, the W that fits the
  counter's own curve E best is the window, if it is longer than the counter can see.

Times are monotonic nanoseconds; uncertainties are 95 % half-widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energyprof.baseline import idle_power
from energyprof.curves import EnergyCurve, joules
from energyprof.edges import counter_edges

Floats = NDArray[np.float64]
Times = NDArray[np.int64]

_MS = 1e6
_LEAST_EDGES = 8
_WIDEST_BRACKET_NS = 15_000_000
_IRREGULAR = 0.15  # jitter of more than this share of the period: no clock ticks like that
# The fault is 13 % at 100 ms and 76 % at 10 ms; gauges follow counters to 1 %.
_SAFE, _BAD, _SURELY = 0.05, 0.05, 0.02
_MAD = 1.4826  # of a normal distribution: standard deviation over median absolute deviation
_PARTS = 20  # of the quiet time, some 0.2 s each
_VARIED = 0.1  # of the mean power, before a window shows
_WINDOWS_S = np.concatenate((np.arange(0.02, 0.3, 0.01), np.arange(0.3, 2.01, 0.02)))
_DELAYS_S = np.arange(0.0, 0.21, 0.02)
_LEAST_SHOWN = 15
_FITS = 0.25  # of the standard deviation may be left: a reading is up to 50 ms older than the look at it
STEADY_SHARE, STEADY_W = 0.15, 1.0
IDLE_GPU, IDLE_CPU = 0.05, 0.15  # busy shares of a machine at rest


@dataclass(frozen=True)
class Reads:
    """Readings of one channel: each began at `before_ns` and ended at `after_ns`; shapes (n,)."""

    before_ns: Times
    after_ns: Times
    value: Times

    def between(self, begin_ns: int, end_ns: int) -> Reads:
        """The readings that ended in a time."""
        inside = (self.after_ns >= begin_ns) & (self.after_ns <= end_ns)
        return Reads(self.before_ns[inside], self.after_ns[inside], self.value[inside])

    @property
    def cost_ms(self) -> float | None:
        """Median duration of a read."""
        return float(np.median(self.after_ns - self.before_ns)) / _MS if len(self.value) else None


@dataclass(frozen=True)
class Phase:
    """A time in which the counters were read every `every_ms`."""

    every_ms: float
    begin_ns: int
    end_ns: int


@dataclass(frozen=True)
class Cadence:
    """How often a value changes: period, standard deviation of its jitter (ms), and changes seen."""

    period_ms: float
    jitter_ms: float
    changes: int


def cadence(reads: Reads) -> Cadence | None:
    """The period at which a value is refreshed; None where it changed too seldom or without a rhythm.

    Readings should stand closer together than a fifth of the period; gaps do no harm.
    """
    low, high, _ = counter_edges(reads.before_ns, reads.after_ns, reads.value)
    low, high = low[1:], high[1:]  # the first value was there before
    if len(high) < _LEAST_EDGES:
        return None
    width = high - low
    narrow = width <= min(_WIDEST_BRACKET_NS, 3.0 * float(np.median(width)))
    at, width = ((low + high) / 2)[narrow], width[narrow]
    if len(at) < _LEAST_EDGES:
        return None
    gaps = np.diff(at)
    period = float(np.median(gaps[gaps < 1.5 * gaps.min()]))
    left, slope, start, number = at, period, 0.0, np.zeros(len(at))
    for _ in range(4):
        number = np.concatenate(([0.0], np.cumsum(np.maximum(np.round(gaps / period), 1.0))))
        slope, start = np.polyfit(number, at - at[0], 1)
        period, left = float(slope), at - at[0] - start - slope * number
    blur = float(np.mean(width**2)) / 12.0
    spread = float(left.var())
    if spread > (_IRREGULAR * period) ** 2:  # no grid: each interval begins where the last one ended
        period = float(np.median(gaps))
        spread = (_MAD * float(np.median(np.abs(gaps - period)))) ** 2
        blur *= 2.0
        if spread > (_IRREGULAR * period) ** 2:
            return None
    return Cadence(period / _MS, float(np.sqrt(max(spread - blur, 0.0))) / _MS, len(at))


@dataclass(frozen=True)
class Shortfall:
    """What a counter loses when it is read every `every_ms`, as a share, with its 95 % half-width."""

    every_ms: float
    share: float
    u95: float


def shortfalls(
    counter: EnergyCurve, gauge: EnergyCurve | None, rare: Phase, faster: Sequence[Phase]
) -> list[Shortfall]:
    """What the counter loses by being read faster than in `rare`.

    Without a gauge the mean power is taken to be the same in all phases; how steady it was is in the
    interval. Phases too short for a figure are left out.
    """
    base = _ratio(counter, gauge, rare)
    if base is None:
        return []
    found = []
    for phase in faster:
        now = _ratio(counter, gauge, phase)
        if now is not None:
            share = now[0] / base[0]
            found.append(Shortfall(phase.every_ms, 1.0 - share, share * float(np.hypot(now[1], base[1]))))
    return found


def _ratio(counter: EnergyCurve, gauge: EnergyCurve | None, phase: Phase) -> tuple[float, float] | None:
    """Watts by the counter over watts by the gauge in a phase, with the relative half-width."""
    counted = idle_power(counter, phase.begin_ns, phase.end_ns)
    shown = None if gauge is None else idle_power(gauge, phase.begin_ns, phase.end_ns)
    if counted is None or counted[0] <= 0:
        return None
    if shown is None or shown[0] <= 0:
        return counted[0], counted[1] / counted[0]
    return counted[0] / shown[0], float(np.hypot(counted[1] / counted[0], shown[1] / shown[0]))


def is_safe(found: Sequence[Shortfall]) -> bool | None:
    """Whether the counter may be read often; None where the readings do not tell."""
    if any(s.share > _BAD and s.share - s.u95 > _SURELY for s in found):
        return False
    told = len(found) > 0 and all(s.share + s.u95 < _SAFE for s in found)
    return True if told else None


def window_ms(shown: Reads, counter: EnergyCurve, from_ns: int = 0) -> float | None:
    """The averaging window of a power gauge, from its answers while power varied (mW against the counter).

    The counter's ticks are well known from `from_ns` on.

    None where power did not vary, where no window fits, and for windows that the counter's ticks are too
    coarse to show: those of less than one and a half ticks.
    """
    fresh = np.concatenate(([False], shown.value[1:] != shown.value[:-1]))
    at, watts = shown.after_ns[fresh], shown.value[fresh] / 1e3
    reach_s = float(_WINDOWS_S[-1] + _DELAYS_S[-1])
    usable = (at - reach_s * 1e9 > max(counter.t_ns[0], from_ns)) & (at < counter.t_ns[-1])
    at, watts = at[usable], watts[usable]
    if len(at) < _LEAST_SHOWN or counter.lost.any() or watts.std() < _VARIED * watts.mean():
        return None

    def energy(t_ns: Floats) -> Floats:
        return np.interp(t_ns, counter.t_ns.astype(np.float64), counter.e_j)

    best, found = np.inf, 0.0
    for delay in _DELAYS_S.tolist():
        end = at - delay * 1e9
        for window in _WINDOWS_S.tolist():
            mean = (energy(end) - energy(end - window * 1e9)) / window
            # The two sensors' gains may differ: only the shape decides.
            gain = float(mean @ watts) / max(float(mean @ mean), 1e-12)
            error = float(((watts - gain * mean) ** 2).mean())
            if error < best:
                best, found = error, window
    fits = best < (_FITS * float(watts.std())) ** 2 and found < _WINDOWS_S[-1]
    return 1e3 * found if fits and found * 1e9 > 1.5 * counter.tick_ns else None


@dataclass(frozen=True)
class Rest:
    """A channel in a quiet time: mean power and its half-width, by how much power varied (sd), all in watts,
    and why the machine was not idle (empty: it was)."""

    watts: float
    u95_w: float
    varying_w: float
    busy: str = ""


def rest(curve: EnergyCurve, gauge: Reads | None, phase: Phase, busy: str = "") -> Rest | None:
    """The power of a channel in a phase, and whether that is rest; None where the curve does not tell.

    Parameters
    ----------
    gauge
        Power readings (mW) of the device: how its power varied. Without one the curve's own parts tell.
    busy
        What else says that the device was at work.
    """
    found = idle_power(curve, phase.begin_ns, phase.end_ns)
    if found is None:
        return None
    watts, u95_w = found
    shown = np.zeros(0) if gauge is None else gauge.between(phase.begin_ns, phase.end_ns).value / 1e3
    if len(shown) < 2:
        cuts = np.linspace(phase.begin_ns, phase.end_ns, _PARTS + 1).astype(np.int64)
        shown = joules(curve, cuts[:-1], cuts[1:]).energy_j / (np.diff(cuts) / 1e9)
    varying = round(float(shown.std()), 6)
    if not busy and varying > max(STEADY_SHARE * watts, STEADY_W):
        busy = "its power is not steady"
    return Rest(watts, u95_w, varying, busy)
