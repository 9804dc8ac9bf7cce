"""What the machine draws before the work begins, and what a run costs above that.

    net = gross - idle_w x duration

Idle watts are the energy of a channel's own curve over a quiet time, divided by that time; the curve does
the integrating. Their uncertainty is statistical: the curve's interval, or, where that is wider, how much
the fifths of the quiet time differ (Student's t for five means). Scaled by the run's duration it joins
the gross figure's random part in quadrature. The sensor's gain is one factor on both, and so acts on the
difference. Net stands beside gross, never in its place: a machine that idles for a run still draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from energyprof.curves import EnergyCurve, joules
from energyprof.metercache import Cache, device_key
from energyprof.tally import Figure, Meter, total_of

BEFORE_THE_RUN = "measured before the run"
_PARTS = 5
_LEAST_NS = 500_000_000
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Idle:
    """Mean power of a channel at rest, the 95 % half-width of its random error (W), and where it is from."""

    watts: float
    u95_w: float
    source: str


def idle_power(curve: EnergyCurve, begin_ns: int, end_ns: int) -> tuple[float, float] | None:
    """Mean power of a quiet time and its random 95 % half-width, in watts; None where it is too short.

    Only whole ticks count, and not the last one: a gauge's window may reach into what follows.
    """
    inside = np.flatnonzero((curve.t_ns >= begin_ns) & (curve.t_ns <= end_ns - curve.tick_ns))
    if len(inside) < 2:
        return None
    first, last = int(inside[0]), int(inside[-1])
    begin, end = int(curve.t_ns[first]), int(curve.t_ns[last])
    if end - begin < _LEAST_NS or curve.lost[first:last].any():
        return None
    from scipy import special

    seconds = (end - begin) / 1e9
    whole = joules(curve, np.array([begin]), np.array([end]))
    cuts = np.linspace(begin, end, _PARTS + 1).astype(np.int64)
    parts = joules(curve, cuts[:-1], cuts[1:]).energy_j / (np.diff(cuts) / 1e9)
    spread = float(special.stdtrit(_PARTS - 1, 0.975)) * float(parts.std(ddof=1)) / _PARTS**0.5
    watts, u95_w = float(whole.energy_j[0]) / seconds, max(float(whole.u_random_j[0]) / seconds, spread)
    return watts, u95_w if u95_w > _ROUNDING * watts else 0.0


def idle_of(meter: Meter, quiet: tuple[int, int] | None, cache: Cache, node: str) -> Idle | None:
    """The idle power of a channel: from the run's own quiet time, else as `doctor --calibrate` left it.

    A cached figure is one of this very device under this driver (see `metercache.device_key`).
    """
    if quiet is not None and meter.curve is not None:
        found = idle_power(meter.curve, *quiet)
        if found is not None:
            return Idle(*found, BEFORE_THE_RUN)
    known = cache.get(device_key(meter.channel, node))
    if known is None or known.idle_w is None:
        return None
    return Idle(known.idle_w, known.u95_idle_w or 0.0, f"cached {known.idle_date or 'earlier'}")


def net_of(gross: Figure, idle: Idle | None, duration_s: float) -> Figure:
    """A channel's energy above idle. It may come out below zero: then the run drew no more than rest does."""
    if gross.energy_j is None:
        return gross
    if idle is None:
        return Figure(None, gross.method)
    energy = gross.energy_j - idle.watts * duration_s
    if abs(energy) < _ROUNDING * abs(gross.energy_j):  # a model of constant power
        energy = 0.0
    gain = gross.u_gain_j / gross.energy_j if gross.energy_j else 0.0
    random = float(np.hypot(gross.u_random_j, idle.u95_w * duration_s))
    return replace(gross, energy_j=energy, u_random_j=random, u_gain_j=gain * abs(energy))


def total_net(
    meters: Sequence[Meter], figures: Mapping[str, Figure], idles: Mapping[str, Idle], duration_s: float
) -> Figure:
    """The run's energy above idle: no figure where a meter that counts has no idle power."""
    counted = [meter.channel.name for meter in meters if meter.in_total]
    return total_of([net_of(figures[name], idles.get(name), duration_s) for name in counted])


def total_idle(meters: Sequence[Meter], idles: Mapping[str, Idle]) -> tuple[float | None, str | None]:
    """Idle watts of all that counts together, and where they are from; None where one is not known."""
    counted = [idles.get(meter.channel.name) for meter in meters if meter.in_total]
    known = [idle for idle in counted if idle is not None]
    if not known or len(known) < len(counted):
        return None, None
    return sum(idle.watts for idle in known), "; ".join(sorted({idle.source for idle in known}))
