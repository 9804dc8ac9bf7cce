"""The efficiency of a run in lines of text: data in, lines out.

Nothing is left out in silence: a figure that cannot be known stands as "n/a" with the sentence that says why.
"""

from __future__ import annotations

from energyprof.flops.efficiency import Efficiency, Estimate
from energyprof.reports.text import clean, energy, quantity


def describe(efficiency: Efficiency) -> list[str]:
    """A line for each figure: "MFU 38 % of 312 TFLOP/s (bf16, NVIDIA A100-SXM4-80GB)"."""
    lines = [_utilisation("MFU", efficiency.mfu, efficiency, "mfu")]
    reasons = efficiency.reasons
    if (efficiency.hfu, reasons.get("hfu")) != (
        efficiency.mfu,
        reasons.get("mfu"),
    ):  # something was recomputed
        lines.append(_utilisation("HFU", efficiency.hfu, efficiency, "hfu"))
    lines.append(_intensity(efficiency))
    lines.append(_estimate(efficiency, efficiency.flop_per_j, "flop_per_j", "FLOP/J"))
    for value, name, unit in (
        (efficiency.j_per_sample, "j_per_sample", "J/sample"),
        (efficiency.j_per_token, "j_per_token", "J/token"),
    ):
        if value is not None:  # a run that counts neither needs no two lines to say so
            lines.append(_estimate(efficiency, value, name, unit))
    return lines


def _utilisation(label: str, share: float | None, efficiency: Efficiency, name: str) -> str:
    if share is None or efficiency.peak_flop_s is None:
        return f"{label} n/a: {clean(efficiency.reasons.get(name, 'unknown'))}"
    count = f"{efficiency.n_devices} × " if efficiency.n_devices > 1 else ""
    peak = f"{count}{quantity(efficiency.peak_flop_s, 'FLOP/s')}"
    given = ", your peak" if efficiency.peak_given else ""
    line = (
        f"{label} {_percent(share)} of {peak} ({clean(efficiency.dtype)}, {clean(efficiency.device)}{given})"
    )
    return f"{line}: above the peak; another dtype, or a clock above the table's" if share > 1 else line


def _intensity(efficiency: Efficiency) -> str:
    if efficiency.intensity is None:
        return f"arithmetic intensity n/a: {clean(efficiency.reasons.get('intensity', 'unknown'))}"
    start = f"arithmetic intensity {efficiency.intensity:.3g} FLOP/byte unfused"
    roof = efficiency.roofline
    if roof is None:
        return f"{start}; roofline n/a: {clean(efficiency.reasons.get('roofline', 'unknown'))}"
    if roof.side == "compute":
        return f"{start}, right of the ridge at {roof.ridge:.3g}: bound by compute"
    attainable = quantity(roof.attainable_flop_s, "FLOP/s")
    return f"{start}, left of the ridge at {roof.ridge:.3g}: bound by memory at {attainable} a device unless fused"


def _estimate(efficiency: Efficiency, value: Estimate | None, name: str, unit: str) -> str:
    if value is None:
        return f"{unit} n/a: {clean(efficiency.reasons.get(name, 'unknown'))}"
    return energy(value.value, value.u95, unit=unit)


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"
