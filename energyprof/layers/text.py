"""Layers' joules as plain text: data in, lines out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from energyprof.reports.layers import closing
from energyprof.reports.text import NO_FIGURE, energy, table
from energyprof.tally import TOTAL

_COSTLIEST = 10


def as_text(
    rows: Sequence[Mapping[str, Any]],
    units: Collection[str],
    closure: float | None,
    u95_closure: float | None,
    notes: Sequence[str] = (),
    limit: int = _COSTLIEST,
) -> str:
    """The costliest units of a replay, the measured step, and how far the layers' sum is from it."""
    mine = [row for row in rows if row["channel"] == TOTAL]
    step = next(row for row in mine if row["name"] == "" and row["phase"] == "step")
    layers = [row for row in mine if row["name"] in units and row["name"] and row["phase"] == "step"]
    layers.sort(key=lambda row: -(row["energy_j"] or 0.0))
    passes = {(row["name"], row["phase"]): row for row in mine}
    head = ("layer", "class", "calls", "forward", "backward", "share")
    lines = [head, *(_line(row, passes) for row in layers[:limit])]
    whole = energy(step["energy_j"], step["u95_j"], step["reason"])
    return "\n".join(
        [*table(lines, right=(2, 3, 4, 5)), f"measured step: {whole}", closing(closure, u95_closure), *notes]
    )


def _line(row: Mapping[str, Any], passes: Mapping[tuple[str, str], Mapping[str, Any]]) -> tuple[str, ...]:
    def joules(phase: str) -> str:
        one = passes.get((row["name"], phase))
        return "" if one is None else energy(one["energy_j"], one["u95_j"], one["reason"])

    share = NO_FIGURE if row["share"] is None else f"{100 * row['share']:.1f} %"
    return row["name"], row["class"], f"{row['calls']:g}", joules("forward"), joules("backward"), share
