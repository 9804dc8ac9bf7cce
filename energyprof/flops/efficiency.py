"""How well a device was used: MFU, HFU, roofline, FLOP a joule, joules a sample and a token.

Two counts of one run are kept apart: *model* FLOPs, what forward and backward need without recomputation, and
*hardware* FLOPs, what was executed with it. MFU is about the model, HFU and FLOP/J about the machine. What
cannot be known is None with a sentence that says why; nothing is set to a default. Pure functions, no torch.

Sources: MFU and its distinction from HFU: Chowdhery et al., "PaLM: Scaling Language Modeling with Pathways",
2022, section 4.1 and appendix B; Korthikanti et al., "Reducing Activation Recomputation in Large Transformer
Models", 2022, section 6. Roofline: Williams, Waterman, Patterson, "Roofline: An Insightful Visual Performance
Model for Multicore Architectures", CACM 52(4), 2009.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from energyprof.flops.peaks import TERA, Device, canonical

OVERRIDE = "say it with ENERGYPROF_PEAK_TFLOPS or [tool.energyprof] peak_tflops"


@dataclass(frozen=True)
class Estimate:
    """A value and the half-width of its 95 % interval; None where the interval is not known."""

    value: float
    u95: float | None = None


@dataclass(frozen=True)
class Roofline:
    """Where a program stands under a device's roof.

    Attributes
    ----------
    intensity, ridge : float
        FLOP/byte of the program, and where the device's roof bends.
    attainable_flop_s : float
        The roof above the program, FLOP/s.
    side : str
        "memory" left of the ridge, "compute" at it or right of it. Bytes counted operator by operator are an
        upper bound (fused kernels move less), so "compute" is certain and "memory" holds for unfused kernels.
    """

    intensity: float
    ridge: float
    attainable_flop_s: float
    side: str


@dataclass(frozen=True)
class Work:
    """What a run did and what it took; None where that was not counted or measured.

    Attributes
    ----------
    seconds : float
        Time on the clock, of the same steps as everything else here.
    flops_model, flops_hardware : float
        FLOPs without and with recomputation, over all devices.
    bytes_moved : float
        Bytes read and written by the operators as if none were fused.
    energy_j : Estimate
        Joules, with their interval.
    samples, tokens : float
        How many were processed.
    n_devices : int
        Devices that shared the work.
    """

    seconds: float
    flops_model: float | None = None
    flops_hardware: float | None = None
    bytes_moved: float | None = None
    energy_j: Estimate | None = None
    samples: float | None = None
    tokens: float | None = None
    n_devices: int = 1


@dataclass(frozen=True)
class Efficiency:
    """The figures of one run; each is None where `reasons` says, under its name, why it cannot be known.

    Attributes
    ----------
    device, dtype : str
        What the peak is of.
    n_devices : int
        How many of them.
    peak_flop_s : float
        Peak of one device at `dtype`; `peak_given` where the user said it.
    mfu, hfu : float
        Model and hardware FLOPs utilisation: 1 is the peak.
    intensity : float
        FLOP/byte, at least this.
    flop_per_j, j_per_sample, j_per_token : Estimate
        With 95 % intervals.
    """

    device: str
    dtype: str
    n_devices: int = 1
    peak_flop_s: float | None = None
    peak_given: bool = False
    mfu: float | None = None
    hfu: float | None = None
    intensity: float | None = None
    roofline: Roofline | None = None
    flop_per_j: Estimate | None = None
    j_per_sample: Estimate | None = None
    j_per_token: Estimate | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)


def mfu(flops_model: float, seconds: float, peak_flop_s: float) -> float:
    """Model FLOPs utilisation: model FLOPs / (seconds × peak), without recomputation (PaLM, appendix B).

    Raises
    ------
    ValueError
        A time or a peak that is not positive and finite, or a negative count.
    """
    return _ratio(flops_model, _positive(seconds, "seconds") * _positive(peak_flop_s, "peak_flop_s"))


def hfu(flops_hardware: float, seconds: float, peak_flop_s: float) -> float:
    """Hardware FLOPs utilisation: executed FLOPs / (seconds × peak), recomputation included (PaLM, 4.1).

    Raises ValueError as `mfu` does.
    """
    return mfu(flops_hardware, seconds, peak_flop_s)


def arithmetic_intensity(flops: float, bytes_moved: float) -> float:
    """FLOP/byte. With bytes counted operator by operator a lower bound: fused kernels move fewer.

    Raises ValueError where the bytes are not positive or the count is negative.
    """
    return _ratio(flops, _positive(bytes_moved, "bytes_moved"))


def roofline(intensity: float, peak_flop_s: float, bandwidth_b_s: float) -> Roofline:
    """The roof at an intensity: attainable = min(peak, intensity × bandwidth); ridge = peak / bandwidth.

    Williams, Waterman, Patterson 2009. Raises ValueError where peak or bandwidth are not positive.
    """
    ridge = _positive(peak_flop_s, "peak_flop_s") / _positive(bandwidth_b_s, "bandwidth_b_s")
    attainable = min(peak_flop_s, intensity * bandwidth_b_s)
    return Roofline(intensity, ridge, attainable, "compute" if intensity >= ridge else "memory")


def flop_per_j(flops: float, energy: Estimate) -> Estimate | None:
    """FLOP a joule: F / E, and to first order u(F/E) = F u(E) / E². None where E's interval reaches 0."""
    if not energy.value > (energy.u95 or 0.0):
        return None
    value = _ratio(flops, energy.value)
    return Estimate(value, None if energy.u95 is None else value * energy.u95 / energy.value)


def j_each(energy: Estimate, count: float) -> Estimate:
    """Joules a sample, token or step: E / n, with u(E) / n. Raises ValueError where n is not positive."""
    count = _positive(count, "count")
    return Estimate(energy.value / count, None if energy.u95 is None else energy.u95 / count)


def assess(
    work: Work,
    dtype: object,
    device: Device | None,
    device_name: str = "",
    peak_tflops: float | None = None,
) -> Efficiency:
    """Every figure that a run allows.

    Parameters
    ----------
    work : Work
        What was done.
    dtype : str or torch.dtype
        What the matrix products ran in; "tf32" for float32 where that was allowed.
    device : Device, optional
        From `peaks.find`; None where it is not known.
    device_name : str
        What to call it then.
    peak_tflops : float, optional
        The user's own peak of one device; it replaces the table's.
    """
    name = device_name or (device.name if device else "unknown device")
    kind = canonical(dtype) or str(dtype)
    reasons: dict[str, str] = {}
    peak = _peak(device, dtype, peak_tflops)
    if peak is None:
        missing = f"no {kind} peak of {name} is known" if device else f"no peak of {name} is known"
        reasons.update(dict.fromkeys(("peak_flop_s", "mfu", "hfu", "roofline"), f"{missing}; {OVERRIDE}"))
    seconds = work.seconds if math.isfinite(work.seconds) and work.seconds > 0 else None
    intensity = _intensity(work, reasons)
    return Efficiency(
        device=name,
        dtype=kind,
        n_devices=work.n_devices,
        peak_flop_s=peak,
        peak_given=peak_tflops is not None,
        mfu=_utilisation("mfu", work.flops_model, seconds, peak, work.n_devices, reasons),
        hfu=_utilisation("hfu", work.flops_hardware, seconds, peak, work.n_devices, reasons),
        intensity=intensity,
        roofline=_roof(intensity, peak, device, name, reasons),
        flop_per_j=_flop_per_j(work, reasons),
        j_per_sample=_each("j_per_sample", work.samples, "samples", work.energy_j, reasons),
        j_per_token=_each("j_per_token", work.tokens, "tokens", work.energy_j, reasons),
        reasons=reasons,
    )


def _peak(device: Device | None, dtype: object, peak_tflops: float | None) -> float | None:
    if peak_tflops is not None:
        return _positive(peak_tflops, "peak_tflops") * TERA
    return device.peak(dtype) if device else None


def _utilisation(
    name: str, flops: float | None, seconds: float | None, peak: float | None, n: int, reasons: dict[str, str]
) -> float | None:
    if flops is None:
        reasons[name] = "its FLOPs were not counted"
    elif seconds is None:
        reasons[name] = "the time was not measured"
    elif peak is not None:
        return mfu(flops, seconds, peak * n)
    return None


def _intensity(work: Work, reasons: dict[str, str]) -> float | None:
    if work.flops_hardware is not None and work.bytes_moved:
        return arithmetic_intensity(work.flops_hardware, work.bytes_moved)
    what = "FLOPs" if work.flops_hardware is None else "bytes"
    reasons["intensity"] = f"its {what} were not counted"
    return None


def _roof(
    intensity: float | None, peak: float | None, device: Device | None, name: str, reasons: dict[str, str]
) -> Roofline | None:
    bandwidth = device.bandwidth_b_s if device else None
    if intensity is None:
        reasons["roofline"] = reasons["intensity"]
    elif bandwidth is None:
        reasons.setdefault("roofline", f"the memory bandwidth of {name} is not known")
    elif peak is not None:
        return roofline(intensity, peak, bandwidth)
    return None


def _flop_per_j(work: Work, reasons: dict[str, str]) -> Estimate | None:
    if work.flops_hardware is None or work.energy_j is None:
        what = "its FLOPs were not counted" if work.flops_hardware is None else "no energy was measured"
        reasons["flop_per_j"] = what
        return None
    value = flop_per_j(work.flops_hardware, work.energy_j)
    if value is None:
        reasons["flop_per_j"] = "the energy's interval reaches zero; measure for longer"
    return value


def _each(
    name: str, count: float | None, what: str, energy: Estimate | None, reasons: dict[str, str]
) -> Estimate | None:
    if energy is None:
        reasons[name] = "no energy was measured"
    elif not count:
        reasons[name] = f"no {what} were counted"
    else:
        return j_each(energy, count)
    return None


def _ratio(flops: float, divisor: float) -> float:
    if not (math.isfinite(flops) and flops >= 0):
        raise ValueError(f"FLOPs are {flops}; a count is finite and not negative")
    return flops / divisor


def _positive(value: float, name: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}; give a positive, finite number")
    return float(value)
