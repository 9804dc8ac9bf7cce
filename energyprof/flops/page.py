"""docs/devices.md from the table of devices: `python -m energyprof.flops.page > docs/devices.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence

from energyprof.flops.peaks import DTYPES, GIGA, TERA, Device, devices

_INTRODUCTION = """\
# Devices: peaks, memory, power

What MFU, HFU and the roofline are measured against, and what `energyprof estimate` takes power from. Written by
`python -m energyprof.flops.page` from `energyprof/flops/devices.json`; a test holds this page and the data equal.

- Peaks are **dense** TFLOP/s (int8: TOP/s) and accumulate in FP32, as torch's matrix products do. What is
  advertised is often twice that: structured sparsity, FP16 accumulation on GeForce, two cards or two dies.
- fp32 is full precision; where `allow_tf32` is set, matrix products run at the tf32 figure. fp64 and fp32 are the
  fastest path that keeps the precision (tensor or matrix cores where there are some).
- A row is one device of torch: one die of an MI250X, one card of an H100 NVL pair.
- A name must agree word by word with what the driver reports. MIG slices, vGPUs, laptop chips and processors are not in
  the table and get `n/a`; a device whose number of units differs from the row's is another device. Say a peak yourself
  with `ENERGYPROF_PEAK_TFLOPS` or `[tool.energyprof] peak_tflops`.
- Each peak whose make-up is published is checked: units × FLOP per clock and unit × clock is within 2 % of it.
- Where somebody measured and published the power in use, it stands below the peaks. AWS publishes no power of Trainium
  and Inferentia, Google none of TPU v5p and v7: no row rather than a guess (`estimate --watts` takes yours).
"""


def page() -> str:
    """The whole page."""
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield _INTRODUCTION
    yield "## Peaks\n"
    yield from _table(["device", *DTYPES, "GB/s", "GB", "W"], map(_peaks, devices()))
    yield "\n## Power that was measured\n"
    yield "Watts of one device, by others than us. Whole: the watts, here or above, cover the machine around the chip,"
    yield "or its share of it.\n"
    measured = [d for d in devices() if d.power_source or d.whole]
    yield from _table(["device", "idle", "mean", "max", "whole", "source"], map(_power, measured))
    yield "\n## How they are made up\n"
    yield "FLOP per clock and unit, in the order of the columns above; the second clock is that of the matrix units"
    yield "for tf32 and below, where it is another.\n"
    made_up = [d for d in devices() if d.units is not None]
    yield from _table(["device", "chip", "units", "MHz", "FLOP per clock and unit"], map(_making, made_up))
    yield "\n## Sources\n"
    yield "The vendor's document, and where its figures, or most of them, were read when not there. A row without the"
    yield "second has been checked by its make-up alone.\n"
    yield from _table(
        ["device", "peaks, memory, power", "read at", "rates", "note"], map(_sources, devices())
    )
    yield ""


def _peaks(device: Device) -> Sequence[str]:
    peaks = [_number(device.peak(kind), TERA) for kind in DTYPES]
    rest = (_number(device.bandwidth_b_s, GIGA), _number(device.memory_b, GIGA), _number(device.tdp_w, 1))
    return [device.name, *peaks, *rest]


def _power(device: Device) -> Sequence[str]:
    watts = (_number(w, 1) for w in (device.idle_w, device.mean_w, device.max_w))
    return [device.name, *watts, "yes" if device.whole else "no", device.power_source or device.source]


def _making(device: Device) -> Sequence[str]:
    clocks = [c for c in (device.clock_hz, device.matrix_clock_hz) if c is not None]
    rates = device.flop_per_clock or {}
    per_clock = ", ".join(f"{kind} {rates[kind]:g}" for kind in DTYPES if kind in rates)
    mhz = " / ".join(_number(clock, 1e6) for clock in clocks)
    return [device.name, device.architecture, f"{device.units} {device.unit}", mhz, per_clock]


def _sources(device: Device) -> Sequence[str]:
    seen = _linked(device.seen)
    return [device.name, device.source, seen, device.rates_source, device.note]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '/') for cell in row)} |"


def _linked(place: str) -> str:
    address, comma, rest = place.partition(",")
    return f"<{address}>{comma}{rest}" if address.startswith("http") else place


def _number(value: float | None, scale: float) -> str:
    return "–" if value is None else f"{value / scale:.10g}"


if __name__ == "__main__":
    sys.stdout.write(page())
