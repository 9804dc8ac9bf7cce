"""FLOPs of one step by two ways that know nothing of each other, and whether they agree.

Executed: a dispatch mode over the operators of a step on fake tensors (`counting`), or, where those will not
do, of a real step. Static: a forward trace of fvcore with our handles (`static`). Where both count every
operator their forward totals are equal; 0.1 % is what may be left to operators that one of them sees and
the other does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from energyprof.flops.counted import Counted, Layer
from energyprof.flops.counting import count
from energyprof.flops.static import StaticReport, TraceFailed, forward_report

APART = 1e-3


@dataclass(frozen=True)
class FlopReport:
    """What both ways say.

    Attributes
    ----------
    counted
        Executed FLOPs, by layer; what is shown.
    static
        The forward trace; None where there is none, and `notes` say why.
    agreement
        Static / executed forward total - 1; None without a trace or without its total.
    notes
        What a reader should know, a sentence each.
    """

    counted: Counted
    static: StaticReport | None
    agreement: float | None
    notes: tuple[str, ...] = field(default=())


def flop_report(model: Any, batch: Any, *, backward: bool = True) -> FlopReport:
    """Count one step of a model by both ways.

    Raises
    ------
    ValueError
        In one line: the model does not run on this batch, or nothing can be differentiated.
    """
    counted, notes = _executed(model, batch, backward)
    static: StaticReport | None = None
    try:
        static = forward_report(model, batch)
        notes += list(static.notes)
    except TraceFailed as fault:
        notes.append(f"no second way: {fault}")
    except Exception as fault:  # a model that fvcore was not made for: the first way stands
        notes.append(f"no second way: {_one_line(fault)}")
    agreement = None
    if static is not None and static.total is not None and counted.flops_forward:
        agreement = static.total / counted.flops_forward - 1
        if abs(agreement) > APART:
            notes.append(_apart(counted, static, agreement))
    elif static is not None and static.uncounted:
        notes.append(f"fvcore's trace has no total: {_named(static.uncounted)} have no formula")
    if counted.uncounted:
        notes.append(f"a lower bound: {_named(counted.uncounted)} multiply matrices and have no formula")
    return FlopReport(counted, static, agreement, tuple(dict.fromkeys(notes)))


def _executed(model: Any, batch: Any, backward: bool) -> tuple[Counted, list[str]]:
    try:
        return count(model, batch, backward=backward, fake=True), []
    except ValueError:
        raise
    except Exception as fake_fault:
        try:
            counted = count(model, batch, backward=backward)
        except ValueError:
            raise
        except Exception as fault:
            raise ValueError(f"the model does not run on this batch: {_one_line(fault)}") from fault
        return counted, [f"counted on a real step: on shapes alone it failed ({_one_line(fake_fault)})"]


def _one_line(fault: BaseException) -> str:
    lines = [line.strip() for line in f"{type(fault).__name__}: {fault}".splitlines() if line.strip()]
    return (lines[0] if len(lines) < 2 or len(lines[0]) > 60 else f"{lines[0]} {lines[1]}")[:200]


def _apart(counted: Counted, static: StaticReport, agreement: float) -> str:
    """Where the two ways differ most."""
    leaves = [layer for layer in counted.layers if layer.leaf and layer.name]
    worst = max(
        leaves, key=lambda row: abs(static.by_module.get(row.name, 0) - row.flops_forward), default=None
    )
    where = f", most in {worst.name}" if worst is not None else ""
    return f"warning: fvcore's trace has {100 * agreement:+.2f} % of what was executed{where}"


def _named(operators: Mapping[str, int]) -> str:
    names = sorted(operators, key=lambda name: -operators[name])
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def as_rows(report: FlopReport) -> list[dict[str, Any]]:
    """The report in the columns of the layers table; the share is of all FLOPs of the step."""
    whole = report.counted.hardware_flops or 1
    return [{**_columns(layer), "share": _all(layer) / whole} for layer in report.counted.layers]


def _all(layer: Layer) -> int:
    return layer.flops_forward + layer.flops_backward + layer.flops_recompute


def _columns(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name, "class": layer.kind, "depth": layer.depth, "leaf": layer.leaf, "calls": layer.calls,
        "params": layer.params, "activations": layer.activations, "flops_forward": layer.flops_forward,
        "flops_backward": layer.flops_backward, "flops_recompute": layer.flops_recompute, "bytes": layer.bytes,
    }  # fmt: skip
