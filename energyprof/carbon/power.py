"""The watts of a device at a utilisation, from its TDP or from what was measured of its kind.

    power = idle + utilisation x (busy - idle)

Utilisation is the share of the time in which the device computes (what nvidia-smi shows), not MFU: a device that
computes at a tenth of its peak is busy all the same. Busy and idle are shares of the TDP, which is a cap and no
mean (`assumed`), or the device's own published watts (`flops/devices.json`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from energyprof.carbon import assumed
from energyprof.carbon.assumed import Assumed
from energyprof.carbon.ranges import Range, exact
from energyprof.flops.peaks import Device


@dataclass(frozen=True)
class Power:
    """Watts of one device in use, how they were got in words, and by whose figures."""

    range: Range
    how: str
    source: str


def propagated(figure: Callable[..., float], *inputs: Range) -> Range:
    """A figure of independent inputs with its interval: what each end of each input makes of it, in quadrature
    (JCGM 100:2008, 5.1.3 note 2)."""
    values = [part.value for part in inputs]
    middle = figure(*values)
    below = above = 0.0
    for position, part in enumerate(inputs):
        ends = [figure(*values[:position], end, *values[position + 1 :]) for end in (part.lo, part.hi)]
        below = math.hypot(below, max(0.0, middle - min(ends)))
        above = math.hypot(above, max(0.0, max(ends) - middle))
    return Range(middle, max(0.0, middle - below), middle + above)


def of_device(device: Device, utilisation: Range, inference: bool = False) -> Power:
    """The watts of a device of the table.

    Parameters
    ----------
    utilisation : the share of the time in which it computes, 0 to 1.
    inference : the work is inference, whose draw is further below TDP than that of training.
    """
    share = assumed.BUSY_INFERENCE if inference else assumed.BUSY_TRAINING
    if device.max_w is None and device.mean_w is not None:
        how = f"a device, the fleet's mean of {device.mean_w:g} with its pauses"
        return Power(
            assumed.FLEET.range * device.mean_w, how, f"{device.power_source}; {assumed.FLEET.source}"
        )
    if device.max_w is not None and device.idle_w is not None:
        busy, source = _measured(device, share)
        idle = exact(device.idle_w)
        words = f"a device, measured: idle {device.idle_w:g} W, busy {busy.value:.3g} W, at most {device.max_w:g} W"
        return Power(_at(utilisation, idle, busy), words, source)
    tdp_w = device.tdp_w or 0.0
    idle, busy = assumed.IDLE.range * tdp_w, share.range * tdp_w
    words = f"a device: TDP {tdp_w:g} W is the cap; busy {_percent(share.range)}, idle {_percent(assumed.IDLE.range)}"
    return Power(_at(utilisation, idle, busy), words, f"{share.source}, {assumed.IDLE.source} (idle)")


def host_w(device: Device | None, device_w: Range) -> Range:
    """The watts of the rest of the server a device: none where the device's own cover the whole."""
    if device is not None and device.whole:
        return exact(0.0)
    cap_w = device_w.value if device is None else device.tdp_w or device.max_w or device_w.value
    return assumed.HOST.range * cap_w


def _measured(device: Device, share: Assumed) -> tuple[Range, str]:
    """Watts in use of a device of which idle and maximum were measured, and perhaps the mean."""
    idle_w, mean_w, max_w = device.idle_w or 0.0, device.mean_w, device.max_w or 0.0
    if mean_w is not None:
        return Range(mean_w, (idle_w + mean_w) / 2, max_w), device.power_source
    lo, value = (max(idle_w, part * max_w) for part in (share.range.lo, share.range.value))
    return Range(value, lo, max_w), f"{device.power_source}; share of it: {share.source}"


def _at(utilisation: Range, idle: Range, busy: Range) -> Range:
    return propagated(lambda u, low, high: low + u * (max(high, low) - low), utilisation, idle, busy)


def _percent(part: Range) -> str:
    return f"{100 * part.value:.3g} % ({100 * part.lo:.3g} to {100 * part.hi:.3g})"
