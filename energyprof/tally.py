"""What calls add up to on a meter: sums that themselves add up, and the figure that they make.

A long run is attributed stretch by stretch (see `fold`), so that what is kept of a stretch must be sums:
joules, their uncertainties as sums and as squares, seconds. Of those `figure_of` makes the figure, with a
method, an interval, or the reason why there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energyprof.calls import clustering
from energyprof.collectors.base import Channel
from energyprof.curves import EnergyCurve, joules
from energyprof.reasons import BELOW_RESOLUTION, PHASE_LOCKED, SENSOR_GAP

Times = NDArray[np.int64]

TOTAL = "total"
_RESOLVED_SHARE = 0.9
NO_WORK = 0.05  # of a region's time in the host: the device had other things to do, and none for it
IN_STEP = 0.5  # a loop in step with the ticks: its interval rests on few phases
REPEATED, SHORT_TICKS = 5, 5.0
_MANY = 20


@dataclass(frozen=True)
class Meter:
    """One channel that has joules: the channel, its curve (None: no curve, `reason` says why)."""

    channel: Channel
    curve: EnergyCurve | None
    in_total: bool
    reason: str | None = None


@dataclass(frozen=True)
class Figure:
    """One energy with all that is known of it; `energy_j` None means there is no figure, see `reason`.

    `u95_j` is the 95 % half-width: `u_random_j` and `u_gain_j` (the sensor's gain, which cancels between two
    runs on one board) in quadrature. The first is, in quadrature: `u_tick_j` (when the meter ticked, and how
    power was distributed in the ticks that the ends split), `u_sampling_j` (what a gauge did not see),
    `u_regression_j`, and `u_model_j`, how far the model may be off that no residual shows. Where a model stands
    in for a meter the last is `u_gain_j`.
    """

    energy_j: float | None
    method: str
    reason: str | None = None
    u_random_j: float = 0.0
    u_gain_j: float = 0.0
    u_tick_j: float = 0.0
    u_sampling_j: float = 0.0
    u_regression_j: float = 0.0
    u_model_j: float = 0.0

    @property
    def u95_j(self) -> float | None:
        return None if self.energy_j is None else float(np.hypot(self.u_random_j, self.u_gain_j))


@dataclass(frozen=True)
class Tally:
    """Calls on one meter, in sums.

    `resolved_s` is the time in calls that are longer than the meter's tick, `host_s` the time in the host,
    where the device ran them at other times; `clustered` how far their begins keep to some phases of the
    tick, 0 to 1; `u_sum_j` and `u_squares_j2` are the sums of their uncertainties and of the squares,
    `sampling_j2` of the squares of what a gauge did not see.
    """

    calls: int = 0
    seconds: float = 0.0
    resolved_s: float = 0.0
    host_s: float = 0.0
    clustered: float = 0.0
    energy_j: float = 0.0
    u_sum_j: float = 0.0
    u_squares_j2: float = 0.0
    sampling_j2: float = 0.0
    known: bool = True

    def __add__(self, other: Tally) -> Tally:
        mine, theirs = asdict(self), asdict(other)
        calls = max(self.calls + other.calls, 1)
        summed: dict[str, Any] = {name: mine[name] + theirs[name] for name in mine}
        summed["clustered"] = (self.calls * self.clustered + other.calls * other.clustered) / calls
        summed["known"] = self.known and other.known
        return Tally(**summed)


def tally_on(meter: Meter, begin_ns: Times, end_ns: Times, host_s: float | None = None) -> Tally:
    """The sums over intervals; `host_s` is their time in the host, where that is another."""
    seconds = (end_ns - begin_ns) / 1e9
    whole = float(seconds.sum())
    host_s = whole if host_s is None else host_s
    curve = meter.curve
    if curve is None:
        return Tally(len(seconds), whole, host_s=host_s, known=False)
    part = joules(curve, begin_ns, end_ns)
    return Tally(
        calls=len(seconds),
        seconds=whole,
        resolved_s=float(seconds[seconds * 1e9 >= curve.tick_ns].sum()),
        host_s=host_s,
        clustered=clustering(np.sort(begin_ns), curve.tick_ns) if len(begin_ns) >= REPEATED else 1.0,
        energy_j=float(part.energy_j.sum()),
        u_sum_j=float(part.u_random_j.sum()),
        u_squares_j2=float((part.u_random_j**2).sum()),
        sampling_j2=float((part.u_sampling_j**2).sum()),
        known=bool(part.known.all()),
    )


def figure_of(meter: Meter, tally: Tally) -> Figure:
    """The energy that the sums tell."""
    method, curve = meter.channel.method, meter.curve
    if curve is None:
        return Figure(None, method, meter.reason or SENSOR_GAP)
    # The device gave it next to no time: what it drew then is little, however little is known of it.
    idle = tally.seconds < NO_WORK * tally.host_s
    short = tally.resolved_s < _RESOLVED_SHARE * tally.seconds
    if not idle and ((short and method != "modelled") or not tally.seconds > 0):
        return Figure(None, method, BELOW_RESOLUTION)
    in_step = tally.calls >= _MANY and tally.clustered > IN_STEP and method != "modelled"
    if not idle and in_step and tally.seconds * 1e9 < SHORT_TICKS * curve.tick_ns * tally.calls:
        # Every call cuts the ticks alike: what is wrong with one is wrong with all.
        return Figure(None, method, PHASE_LOCKED)
    if not tally.known:
        return Figure(None, method, meter.reason or curve.lost_reason)
    # Calls are independent where they begin at all phases of the tick, and all alike where they are locked
    # to it. And a model says what the machine drew, not when within its tick: every call may be off alike.
    alike = 1.0 if short or idle else tally.clustered**2
    random = float(np.sqrt(alike * tally.u_sum_j**2 + (1.0 - alike) * tally.u_squares_j2))
    sampling = min(float(np.sqrt(tally.sampling_j2)), random)
    gain = curve.gain_u95 * tally.energy_j
    return Figure(
        tally.energy_j, method, meter.reason, random, gain,
        u_tick_j=float(np.sqrt(random**2 - sampling**2)),
        u_sampling_j=sampling,
        u_model_j=gain if method == "modelled" else 0.0,
    )  # fmt: skip


def figure_on(meter: Meter, begin_ns: Times, end_ns: Times) -> Figure:
    """The energy of one meter summed over intervals."""
    return figure_of(meter, tally_on(meter, begin_ns, end_ns))


def total_of(figures: Sequence[Figure]) -> Figure:
    """The sum of figures; null where one of them is (a part is never passed off as the whole)."""
    if not figures:
        return Figure(None, "none", "not_supported")
    method = "+".join(sorted({figure.method for figure in figures}))
    reasons = [figure.reason for figure in figures if figure.energy_j is None]
    if reasons:
        return Figure(None, method, reasons[0])
    return Figure(
        float(sum(figure.energy_j or 0.0 for figure in figures)),
        method,
        next((figure.reason for figure in figures if figure.reason), None),
        **{
            part: float(np.sqrt(sum(getattr(figure, part) ** 2 for figure in figures)))
            for part in ("u_random_j", "u_gain_j", "u_tick_j", "u_sampling_j", "u_regression_j", "u_model_j")
        },
    )


def figures_on(meters: Sequence[Meter], begin_ns: Times, end_ns: Times) -> dict[str, Figure]:
    """Every meter's figure on a set of intervals, and the total."""
    figures = {meter.channel.name: figure_on(meter, begin_ns, end_ns) for meter in meters}
    figures[TOTAL] = total_of([figures[meter.channel.name] for meter in meters if meter.in_total])
    return figures
