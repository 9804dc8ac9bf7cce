"""`energyprof flops` as plain text. Data in, lines out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from energyprof.flops.report import APART, FlopReport
from energyprof.reports.layers import layer_table
from energyprof.reports.numbers import clean, quantity


def flops_text(
    report: FlopReport, rows: Sequence[Mapping[str, Any]], *, depth: int, sort: str, top: int
) -> list[str]:
    """The totals, how they were got, a table of layers, and what to know."""
    counted = report.counted
    parts = [f"{quantity(counted.flops_forward, 'FLOP')} forward"]
    if counted.flops_backward:
        ratio = counted.flops_backward / max(counted.flops_forward, 1)
        parts.append(f"{quantity(counted.flops_backward, 'FLOP')} backward ({ratio:.2f} ×)")
    if counted.flops_recompute:
        parts.append(f"{quantity(counted.flops_recompute, 'FLOP')} recomputed")
    bound = "at least " if counted.uncounted else ""
    params = quantity(counted.layers[0].params, "").strip()
    lines = [f"{clean(counted.model)}: {bound}{', '.join(parts)}; {params} parameters"]
    lines.append(
        f"  counted   on {'shapes alone' if counted.way == 'fake tensors' else 'a real step'}{_second(report)}"
    )
    lines.append("  unit      2 FLOP a multiply-accumulate; norms, activations and elementwise work left out")
    lines += [f"  note      {clean(note)}" for note in report.notes]
    return [*lines, "", *layer_table(rows, depth=depth, sort=sort, top=top)]


def _second(report: FlopReport) -> str:
    if report.agreement is None:
        return ""
    if abs(report.agreement) <= APART:
        return f"; fvcore's trace of the forward pass agrees ({100 * report.agreement:+.3f} %)"
    return f"; fvcore's trace of the forward pass has {100 * report.agreement:+.2f} %"
