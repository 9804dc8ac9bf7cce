"""A run's forecast: its steps and its energy curves into the columns that say what the whole training will cost.

One process's steps stand for the progress of all: those of the first rank that said a total, in its loops that did;
else, where only `--steps` did, all steps of the first rank that has some. Of steps inside steps the outer ones count.
The energy is that of all meters in the total, with what lies between steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energyprof.attribution import Steps
from energyprof.carbon.ranges import Range
from energyprof.curves import joules
from energyprof.forecast import Amount, Forecast, forecast
from energyprof.intervals import beside
from energyprof.runlog import RunLog
from energyprof.tally import Meter, Times

Floats = NDArray[np.float64]
Spans = Sequence[tuple[int, int]]
_TICKS = 3.0  # a block of fewer is the meter's noise more than the steps'


def run_columns(
    log: RunLog,
    meters: Sequence[Meter],
    spans: Spans,
    tables: Sequence[Steps],
    apart: Mapping[int, Spans],
    run: Mapping[str, Any],
) -> dict[str, Any]:
    """The columns of a run's row; none where nobody said a total.

    `apart` has, by rank, when layers were timed; `run` is the row so far.
    """
    total, chosen = _chosen(log, tables)
    if total is None:
        return {}
    begin_ns, end_ns = outer(
        np.concatenate([table.begin_ns for table in chosen] or [np.zeros(0, np.int64)]),
        np.concatenate([table.end_ns for table in chosen] or [np.zeros(0, np.int64)]),
    )
    timed = apart.get(chosen[0].kind.rank, ()) if chosen else ()
    found = forecast(
        seconds_inside(begin_ns, spans),
        total,
        float(run["duration_s"]),
        run["energy_j"],
        lambda which: joules_inside(meters, begin_ns[which], spans),
        shortest_s=_TICKS
        * max((m.curve.tick_ns / 1e9 for m in meters if m.in_total and m.curve), default=0.0),
        left_out=beside(begin_ns, end_ns, timed),
    )
    return columns(found, run)


def columns(found: Forecast, run: Mapping[str, Any]) -> dict[str, Any]:
    """A forecast as columns."""
    energy, lasts = found.energy_j, found.duration_s
    told = {
        "steps_total": found.total,
        "steps_done": found.done,
        **_ends("forecast_energy_j", "forecast_lo_j", "forecast_hi_j", energy),
        **_ends("forecast_duration_s", "forecast_duration_lo_s", "forecast_duration_hi_s", lasts),
        "forecast_reason": found.reason or (run["reason"] if energy is None else None),
    }
    return {**told, **grams_of_the_whole({**run, **told})}


def grams_of_the_whole(run: Mapping[str, Any]) -> dict[str, float | None]:
    """The columns of the whole training's grams: its joules at the run's own grams a joule.

    Their interval holds that of the run's grams too (meters' gain, intensity, PUE), as a product of independent
    factors: nobody knows the grams of the whole better than those of the part.
    """
    grams = None
    if run["forecast_energy_j"] is not None and run["energy_j"] and run.get("co2e_g") is not None:
        joules = Range(run["forecast_energy_j"], run["forecast_lo_j"], run["forecast_hi_j"])
        part = Range(run["co2e_g"], run["co2e_lo_g"], run["co2e_hi_g"])
        grams = joules * (part / run["energy_j"])
    return _ends("forecast_co2e_g", "forecast_co2e_lo_g", "forecast_co2e_hi_g", grams)


def _ends(value: str, lo: str, hi: str, amount: Amount | Range | None) -> dict[str, float | None]:
    return dict(zip((value, lo, hi), (amount.value, amount.lo, amount.hi) if amount else (None, None, None)))


def _chosen(log: RunLog, tables: Sequence[Steps]) -> tuple[int | None, list[Steps]]:
    """The steps of the whole training, and the tables of those that ran."""
    told = [process for process in log.processes if process.total]
    if told:
        rank = min(process.rank for process in told)
        total = [process.total for process in told if process.rank == rank][-1]
        return total, [t for t in tables if t.kind.rank == rank and t.kind.of_total]
    total = log.facts.get("steps_total")
    ranks = [table.kind.rank for table in tables if len(table.begin_ns)]
    return total, [t for t in tables if ranks and t.kind.rank == min(ranks)]


def outer(begin_ns: Times, end_ns: Times) -> tuple[Times, Times]:
    """The steps in order of time, without those that begin inside another."""
    order = np.lexsort((-end_ns, begin_ns))
    begin_ns, end_ns = begin_ns[order], end_ns[order]
    kept = np.ones(len(order), bool)
    kept[1:] = begin_ns[1:] >= np.maximum.accumulate(end_ns)[:-1]
    return begin_ns[kept], end_ns[kept]


def seconds_inside(t_ns: Times, spans: Spans) -> Floats:
    """Seconds of the run until each time: what lies between its spans does not count."""
    seconds = np.zeros(len(t_ns))
    for begin, end in spans:
        seconds += (np.clip(t_ns, begin, end) - begin) / 1e9
    return seconds


def joules_inside(meters: Sequence[Meter], t_ns: Times, spans: Spans) -> Floats:
    """Joules of the run until each time, over the meters in the total; NaN where one has no figure."""
    energy = np.zeros(len(t_ns))
    for meter in meters:
        if not meter.in_total:
            continue
        if meter.curve is None:
            return np.full(len(t_ns), np.nan)
        for begin, end in spans:
            until = np.clip(t_ns, begin, end)
            part = joules(meter.curve, np.full(len(until), begin, np.int64), until)
            energy += np.where(part.known, part.energy_j, np.nan)
    return energy
