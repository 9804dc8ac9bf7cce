"""Sections that every report has: power, the codes and what they mean, carbon, provenance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from energyprof.reasons import MEANING
from energyprof.reports import drawn
from energyprof.reports.emissions import NO_PLACE, ahead, beside, emissions, pictured
from energyprof.reports.numbers import NO_FIGURE, plain, quantity, ranged
from energyprof.reports.parts import Cell, Row, Section, Table, cells, told
from energyprof.reports.stored import StoredRun

_MOST_METERS = 12  # of one table of many runs
WITHOUT_METERS = (
    "No meter and no model gave a reading, or the part of the dataset with this run's meters is missing."
)


def power(runs: Sequence[StoredRun], labels: Sequence[str], groups: Sequence[int] = ()) -> Section:
    """Power over time, and the table of what is drawn; the page's script makes the figure one to look into.

    Parameters
    ----------
    groups
        Of each run the number of its group.
    """
    if not any(stored.series for stored in runs):
        why = "The dataset has no readings of a meter for these runs, so there is no power over time."
        return Section("power", "Power over time", (why,))
    bins = [one.bin_s for stored in runs for one in stored.series]
    ends = dict.fromkeys(quantity(end, "s", 2) for end in (min(bins), max(bins)))
    words = f"Each value is the mean over {' to '.join(ends)}; grey bands are the run's phases."
    table = _power_of_one(runs[0]) if len(runs) == 1 else _power_of_each(runs, labels)
    return Section(
        "power", "Power over time", (words, *_unplotted(runs)), figures=drawn.power(runs, groups), tables=(table,),
        kind="power",
    )  # fmt: skip


def _power_of_one(stored: StoredRun) -> Table:
    rows = []
    for one in stored.series:
        mean, peak = float(np.nanmean(one.watts)), float(np.nanmax(one.watts))
        name = one.channel + (" (modelled)" if one.modelled else "")
        rows.append(
            cells(
                name, Cell(quantity(mean, "W"), mean), Cell(quantity(peak, "W"), peak), quantity(one.bin_s, "s"),
                "yes" if one.in_total else "no",
            )
        )  # fmt: skip
    head = ("meter", "mean power", "peak", "one value a", "in total")
    return Table(
        "power-table", "Power of each meter over the whole run", head, tuple(rows), frozenset((1, 2, 3))
    )


def _power_of_each(runs: Sequence[StoredRun], labels: Sequence[str]) -> Table:
    """A row a run, a column a meter."""
    meters = list(dict.fromkeys(one.channel for stored in runs for one in stored.series))[:_MOST_METERS]
    rows = []
    for stored, label in zip(runs, labels):
        found = {one.channel: one.watts for one in stored.series}
        row = [label]
        for meter in meters:
            watts = found.get(meter)
            row.append(NO_FIGURE if watts is None else _mean_and_peak(watts))
        rows.append(cells(*row))
    head, right = ("run", *meters), frozenset(range(1, 1 + len(meters)))
    return Table(
        "power-table", "Mean power of each meter over the run, and its peak", head, tuple(rows), right
    )


def _mean_and_peak(watts: Any) -> str:
    return f"{quantity(float(np.nanmean(watts)), 'W')}, {quantity(float(np.nanmax(watts)), 'W')}"


def _unplotted(runs: Sequence[StoredRun]) -> tuple[str, ...]:
    """Meters that count and have no readings: what the sums of the plotted series lack."""
    lacking = {
        row["channel"]
        for stored in runs
        for row in stored.channels
        if row["in_total"]
        and row["energy_j"]
        and row["channel"] not in {one.channel for one in stored.series}
    }
    if not lacking:
        return ()
    return (f"No power over time is stored of {told(', '.join(sorted(lacking)), 120)}.",)


def reasons(runs: Sequence[StoredRun]) -> Section:
    """What each code in the page means, and which meters could not be read."""
    codes: set[str] = set()
    missing: dict[tuple[str, str], str] = {}
    for stored in runs:
        for row in (stored.run, *stored.channels, *stored.regions, *stored.layers):
            codes |= {part for key in ("flags", "reason") for part in str(row.get(key) or "").split(",")}
        codes.add(stored.run.get("forecast_reason") or "")
        for one in _listed(stored.run["missing"]):
            key = (told(one.get("source"), 30), told(one.get("detail"), 160))
            missing[key] = told(one.get("remedy"), 200)
    facts = tuple((code, MEANING[code]) for code in MEANING if code in codes)
    rows = tuple(cells(source, detail, remedy) for (source, detail), remedy in sorted(missing.items()))
    tables = (
        (Table("missing", "Meters that could not be read", ("meter", "why", "what to do"), rows),)
        if rows
        else ()
    )
    words = () if facts or rows else ("No flags, and no figure without a reason.",)
    return Section("reasons", "Methods and reasons", (METHODS, *words), facts, tables=tables)


METHODS = (
    "Methods: counter (the device's own energy counter), integrated (its power over time), regressed (estimated "
    "from all ticks at once, for regions shorter than one), modelled (from time and load, where no meter can be "
    "read). Intervals are 95 %: value ± half-width."
)


def carbon(run: Row) -> Section:
    """Grams with place, year, source and interval; what stands apart from them."""
    facts: list[tuple[str, str]] = [("Operational CO2e", emissions(run, NO_PLACE))]
    if run["intensity_g_per_kwh"] is not None:
        facts.append(("Intensity", _intensity(run)))
        if run["intensity_source"]:
            facts.append(("Source", told(run["intensity_source"], 200)))
        if run["intensity_scope"]:
            facts.append(("Counts", told(run["intensity_scope"], 120)))
    pue = "not said: the machine alone, without the data centre's overhead"
    if run.get("pue"):
        pue = f"{_with_ends(run, 'pue', '')} ({told(run['pue_source'], 120)})"
    facts.append(("PUE", pue))
    if run.get("embodied_g") is not None:
        made = _ranged(run, "embodied", "g")
        facts.append(
            ("Making the devices", f"{made}, apart from the above ({told(run['embodied_source'], 400)})")
        )
    also = beside({**run, "embodied_g": None})
    if also:
        facts.append(("Beside it", told(also, 200)))
    to_come = ahead(run)
    if to_come:
        facts.append(("Forecast", told(to_come, 300)))
    return Section("carbon", "CO2e", facts=tuple(facts), after=tuple(line for line in pictured(run) if line))


def _intensity(run: Row) -> str:
    place = told(run.get("intensity_place_name") or run["intensity_place"] or "given", 80)
    year = f", {run['intensity_year']}" if run["intensity_year"] else ""
    return f"{_with_ends(run, 'intensity', 'g/kWh', '_g_per_kwh')}, {place}{year}"


def _with_ends(run: Row, name: str, unit: str, ending: str = "") -> str:
    value, lo, hi = (run.get(f"{name}{end}{ending}") for end in ("", "_lo", "_hi"))
    assert value is not None
    return plain(value, value if lo is None else lo, value if hi is None else hi, unit)


def _ranged(run: Row, name: str, unit: str) -> str:
    value, lo, hi = (run.get(f"{name}{end}_{unit}") for end in ("", "_lo", "_hi"))
    assert value is not None
    return quantity(value, unit) if lo is None or hi is None else ranged(value, lo, hi, unit)


def provenance(runs: Sequence[StoredRun], labels: Sequence[str]) -> Section:
    """Where, when and with what each run was; what all have in common is said once."""
    rows = [_origin(stored.run) for stored in runs]
    shared = {name for name in rows[0] if len({row[name] for row in rows}) == 1}
    facts = tuple((name, value) for name, value in rows[0].items() if name in shared)
    if len(runs) == 1:
        return Section("provenance", "Provenance", facts=facts)
    apart = [name for name in rows[0] if name not in shared]
    body = tuple(cells(label, *(row[name] for name in apart)) for label, row in zip(labels, rows))
    caption = "What is not the same in all of the runs that are drawn above"
    table = Table("provenance-table", caption, ("drawn as", *apart), body)
    return Section("provenance", "Provenance", facts=facts, tables=(table,))


def _origin(run: Row) -> dict[str, str]:
    versions = [f"energyprof {run['energyprof']}", f"Python {run['python']}"]
    versions += [f"torch {run['torch']}"] if run["torch"] else []
    return {
        "run": str(run["run_id"]),
        "started (UTC)": f"{run['started_utc']:%Y-%m-%d %H:%M:%S}" if run["started_utc"] else NO_FIGURE,
        "machine": told(run["node"] or NO_FIGURE, 60),
        "hardware": told(run["hardware"] or NO_FIGURE, 160),
        "system": told(run["os"] or NO_FIGURE, 100),
        "versions": told(", ".join(versions), 120),
        "git commit": told(run["git_commit"] or NO_FIGURE, 40),
        "command": command(run),
        "tags": tags(run),
    }


def command(run: Row) -> str:
    """The program's arguments, cut where they are long."""
    text = str(run["command"] or "[]")
    if len(text) > 20_000:
        return told(text, 200)
    return told(" ".join(map(str, _listed(text))), 200) or NO_FIGURE


def tags(run: Row) -> str:
    """The user's tags."""
    text = str(run["tags"] or "{}")
    try:
        found = json.loads(text) if len(text) < 20_000 else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return told(text, 200)
    return told(", ".join(f"{key}={value}" for key, value in found.items()), 200) or NO_FIGURE


def _listed(text: str | None) -> list[Any]:
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return []
    return found if isinstance(found, list) else []


def ended(run: Row) -> str:
    """How a run ended."""
    code = run["exit_code"]
    return told(run["status"] or "unknown", 20) + (f", exit status {code}" if code else "")
