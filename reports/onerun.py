"""The report of one run: what it drew, where that went, and how it is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from energyprof.reasons import MEANING
from energyprof.reports import drawn, figures, icicle_figure, sections
from energyprof.reports.emissions import NO_PLACE, derived, emissions
from energyprof.reports.icicle import layers_of, totals
from energyprof.reports.numbers import NO_FIGURE, duration, energy, quantity
from energyprof.reports.parts import Cell, Page, Row, Section, Table, Tile, cells, numbered, told
from energyprof.reports.stored import Steps, StoredRun

_MOST_REGIONS, _MOST_LAYERS = 60, 60


def one_run(stored: StoredRun, data: Mapping[str, Any]) -> Page:
    """The page of one run, whose names are tidied; `data` is for its JSON."""
    run = stored.run
    found = (
        _where(stored),
        sections.power([stored], [run["name"]]),
        _meters(stored),
        _steps(stored.steps),
        sections.carbon(run),
        _budget(stored),
        sections.reasons([stored]),
        sections.provenance([stored], [run["name"]]),
    )
    return Page(
        f"{run['name']}: energy report",
        verdict(run),
        _tiles(run),
        tuple(s for s in found if s is not None),
        data,
    )


def verdict(run: Row) -> str:
    """One sentence: joules with interval, time, how much of it was measured."""
    lasted = duration(run["duration_s"])
    if run["energy_j"] is None:
        reason = run["reason"] or "unknown"
        return f"{run['name']} ran {lasted}, and its energy is not known: {MEANING.get(reason, told(reason, 60))}."
    share = (run["measured_j"] or 0.0) / run["energy_j"] if run["energy_j"] else 0.0
    how = (
        "all of it measured"
        if share > 0.995
        else f"{100 * share:.0f} % of it measured, the rest from a model"
    )
    if share < 0.005:
        how = "all of it from a model, as no meter could be read"
    end = "" if run["status"] == "finished" else f" ({told(run['status'] or 'unknown end', 20)})"
    return f"{run['name']} drew {energy(run['energy_j'], run['u95_j'])} in {lasted}{end}, {how}."


def _tiles(run: Row) -> tuple[Tile, ...]:
    found = [Tile("Energy", energy(run["energy_j"], run["u95_j"], run["reason"]), _power(run))]
    if run["energy_per_step_j"] is not None:
        each = derived(run, run["energy_per_step_j"], "J")
        found.append(Tile("A step", each, f"over {run['steps']:,} steps"))
    for unit in ("samples", "tokens"):
        if run[unit] and run["energy_j"] is not None:
            each = derived(run, run["energy_j"] / run[unit], "J")
            found.append(Tile(f"Each of {run[unit]:,.0f} {unit}", each))
    grams, _, at = emissions(run, NO_PLACE).partition(" at ")
    found.append(Tile("CO2e", told(grams, 60), told(at, 100)))
    found.append(Tile("Time", duration(run["duration_s"]), sections.ended(run)))
    if run["flops_model"]:
        rate = f"{quantity(run['flops_model'] / run['energy_j'], 'FLOP/J')}" if run["energy_j"] else ""
        found.append(Tile("FLOPs", quantity(run["flops_model"], "FLOP"), rate))
    return tuple(found)


def _power(run: Row) -> str:
    return "" if run["power_w"] is None else f"{derived(run, run['power_w'], 'W')} on average"


def _where(stored: StoredRun) -> Section | None:
    tables = tuple(t for t in (_region_table(stored), _layer_table(stored)) if t is not None)
    title = "Where the energy went"
    if not tables:
        why = "This run has no regions and no layers; mark some with run.region(…), or measure with --layers."
        return Section("where", title, (why,))
    caption = "Energy of regions and layers: each block is as wide as its part of the whole"
    found = drawn.drawn("where-figure", caption, lambda: icicle_figure.icicle([stored]))
    return Section("where", title, figures=found, tables=tables)


def _region_table(stored: StoredRun) -> Table | None:
    run, rows = stored.run, totals(stored.run, stored.regions)
    if not rows:
        return None
    shown, more = numbered(rows, _MOST_REGIONS)
    body = []
    for row in shown:
        alone = row["energy_j"] is not None and run["energy_j"] and not row["flags"]
        share = row["energy_j"] / run["energy_j"] if alone else None
        body.append(
            cells(
                row["region"], Cell(f"{row['calls'] or 0:,}", row["calls"]), _time(row["duration_s"]),
                Cell(energy(row["energy_j"], row["u95_j"], row["reason"]), row["energy_j"]),
                Cell(NO_FIGURE if share is None else f"{100 * share:.1f} %", share), row["method"] or NO_FIGURE,
            )
        )  # fmt: skip
    head = ("region", "calls", "time", "energy", "share", "method")
    return Table("regions", "Energy by region", head, tuple(body), frozenset((1, 2, 3, 4)), True, more)


def _time(seconds: float | None) -> Cell:
    return Cell(duration(seconds), seconds)


def _layer_table(stored: StoredRun) -> Table | None:
    known = layers_of(stored.layers)
    if known is None:
        return None
    whole = next(row for row in known.rows if not row["name"])
    ranked = sorted(known.rows, key=lambda row: -float(row[known.column] or 0.0))
    shown, more = numbered(ranked, _MOST_LAYERS)
    body = []
    for row in shown:
        share = (row[known.column] or 0.0) / whole[known.column] if whole[known.column] else None
        body.append(
            cells(
                row["name"] or f"whole model ({row['model'] or row['class']})", row["class"] or NO_FIGURE,
                Cell(energy(row["energy_j"], row["u95_j"], row["reason"]), row["energy_j"]), _time(row["time_s"]),
                Cell(quantity(row["flops"], "FLOP") if row["flops"] else NO_FIGURE, row["flops"]),
                Cell(NO_FIGURE if share is None else f"{100 * share:.1f} %", share), row["method"] or NO_FIGURE,
            )
        )  # fmt: skip
    head = ("layer", "class", "energy", "time", "FLOPs", "share", "method")
    words = {"replayed": "each repeated alone", "in_place": "timed while the program ran"}
    how = words.get(known.source, "counted, not timed")
    caption = f"Layers of the model in one step, the costliest first ({how})"
    return Table("layers", caption, head, tuple(body), frozenset((2, 3, 4, 5)), True, more)


def _meters(stored: StoredRun) -> Section:
    rows = []
    for c in stored.channels:
        tick = None if c["method"] == "modelled" else c["tick_ms"]
        rows.append(
            cells(
                c["channel"], Cell(energy(c["energy_j"], c["u95_j"], c["reason"]), c["energy_j"]),
                c["method"] or NO_FIGURE, Cell(NO_FIGURE if tick is None else f"{tick:.3g} ms", tick),
                "yes" if c["in_total"] else "no", told(c["scope"], 80), told(c["flags"] or NO_FIGURE, 80),
            )
        )  # fmt: skip
    if not rows:
        return Section("meters", "Meters", (sections.WITHOUT_METERS,))
    head = ("meter", "energy", "method", "tick", "in total", "what it covers", "flags")
    table = Table("meters-table", "Energy by meter and method", head, tuple(rows), frozenset((1, 3)))
    found = drawn.drawn(
        "meters-figure", "Energy by meter; what a model gave is hatched", lambda: figures.breakdown([stored])
    )
    return Section("meters", "Meters and methods", figures=found, tables=(table,))


def _steps(found: Steps) -> Section | None:
    if not len(found.duration_s):
        return None
    rows = [_spread("time", found.duration_s, "s"), _spread("energy", found.energy_j, "J")]
    head = ("of a step", "known", "5 % are below", "median", "95 % are below", "mean")
    notes = [
        "" if np.isfinite(found.energy_j).any() else "A step is shorter than what the meters resolve.",
        f"{found.timed:,} steps whose layers were timed are left out." if found.timed else "",
    ]
    table = Table(
        "steps-table", f"{len(found.duration_s):,} steps", head, tuple(rows), frozenset(range(1, 6)),
        note=" ".join(filter(None, notes)),
    )  # fmt: skip
    return Section("steps", "Steps", figures=drawn.steps(found, ""), tables=(table,))


def _spread(name: str, values: Any, unit: str) -> tuple[Cell, ...]:
    known = values[np.isfinite(values)]
    if not len(known):
        return cells(name, "0", *[NO_FIGURE] * 4)
    ends = (*np.quantile(known, (0.05, 0.5, 0.95)), known.mean())
    return cells(name, f"{len(known):,}", *(quantity(float(end), unit) for end in ends))


def _budget(stored: StoredRun) -> Section | None:
    rows = [("total", stored.run), *((c["channel"], c) for c in stored.channels if c["in_total"])]
    rows = [(name, row) for name, row in rows if row["energy_j"]]
    if not rows:
        return None
    parts = [figures.error_parts(row) for _, row in rows]
    there = [label for _, label in figures.ERRORS if any(part[label] for part in parts)]
    body = []
    for (name, row), part in zip(rows, parts):
        values = [*(part[label] for label in there), row["u95_j"]]
        shares = [None if value is None else 100 * value / row["energy_j"] for value in values]
        body.append(cells(name, *(NO_FIGURE if share is None else _percent(share) for share in shares)))
    head = ("meter", *there, "all, in quadrature")
    table = Table(
        "budget-table", "Parts of the 95 % half-width, in per cent of the energy", head, tuple(body),
        frozenset(range(1, len(head))),
    )  # fmt: skip
    found = drawn.drawn("budget-figure", "What makes up the uncertainty", lambda: figures.budget([stored]))
    return Section("budget", "How sure the number is", figures=found, tables=(table,))


def _percent(share: float) -> str:
    """Two digits, none of them for nothing."""
    if share >= 99.5:
        return f"{share:,.0f} %"
    return f"{share:#.2g}".rstrip(".") + " %" if share >= 0.01 else f"{share:.1g} %"
