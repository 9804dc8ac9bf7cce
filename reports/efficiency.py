"""The efficiency of a run in lines of text: data in, lines out.

Nothing is left out in silence: a figure that cannot be known stands as "n/a" with the sentence that says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from energyprof.flops.efficiency import Efficiency, Estimate, Work, assess
from energyprof.flops.peaks import find
from energyprof.reports.numbers import clean, duration, energy, quantity


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


def of_run(
    run: Mapping[str, Any], layers: Sequence[Mapping[str, Any]], peak_tflops: float | None
) -> list[str]:
    """For `show`: how well a run used its device, where its FLOPs were counted; and what could not be known."""
    notes = [f"layers: {clean(run['layer_notes'])}"] if run.get("layer_notes") else []
    root = next((r for r in layers if not r["name"] and r["phase"] == "step" and r["flops_forward"]), None)
    if root is None or not run.get("step_s"):
        return ["", *notes] if notes else []
    model = root["flops_forward"] + (root["flops_backward"] or 0.0)
    again = root["flops_recompute"] or 0.0
    whole, hardware = run["energy_j"], run.get("flops_hardware")
    # Of one call of the model, by its part of the run's FLOPs; a step of the program may be several calls.
    each = whole * (model + again) / hardware if whole is not None and hardware else root["energy_j"]
    u95 = each * run["u95_j"] / whole if each is not None and whole and run["u95_j"] is not None else None
    name = run.get("flops_device")
    work = Work(
        seconds=run["step_s"], flops_model=model, flops_hardware=model + again,
        bytes_moved=root["bytes"], energy_j=None if each is None else Estimate(each, u95),
    )  # fmt: skip
    device = find(name, run.get("flops_device_units")) if name else None
    found = assess(work, run.get("flops_dtype") or "float32", device, name or "this processor", peak_tflops)
    head = f"a step: {quantity(model, 'FLOP')} in {duration(run['step_s'])}"
    if run.get("flops_model"):
        head += f"; the run: {quantity(run['flops_model'], 'FLOP')}"
    return ["", head, *describe(found), *notes]


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
