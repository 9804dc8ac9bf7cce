"""The numbers of a report for machines: what stands in the page as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from energyprof.measures import logged
from energyprof.reports.compare import as_data
from energyprof.reports.icicle import layers_of, totals
from energyprof.reports.parts import Row, told
from energyprof.reports.phases import Phase, band_level, phases
from energyprof.reports.progress import progress
from energyprof.reports.series import encode
from energyprof.reports.stored import StoredRun
from energyprof.reports.style import ranks
from energyprof.selection import Group

if TYPE_CHECKING:
    from energyprof.comparison import Comparison

FORMAT = 1  # raised where a key changes its meaning
_MOST_REGIONS, _MOST_LAYERS, _MOST_RUNS, _MOST_METRICS = 200, 200, 300, 20
_VALUES_TO_ONE_OF_STEPS, _FEWEST_OF_STEPS = 20, 500  # bins: a tenth of what the series take at most
_INTERNAL = ("t0_ns", "t1_ns", "boot_id")
_LISTED = (
    *("run_id", "node", "name", "status", "started_utc", "duration_s", "energy_j", "u95_j", "measured_j"),
    *(
        "modelled_j",
        "power_w",
        "co2e_g",
        "co2e_lo_g",
        "co2e_hi_g",
        "steps",
        "energy_per_step_j",
        "flags",
        "metrics",
    ),
)
_REGION = (
    "region",
    "depth",
    "calls",
    "duration_s",
    "energy_j",
    "u95_j",
    "self_j",
    "method",
    "reason",
    "flags",
)
_LAYER = (
    "name",
    "class",
    "source",
    "calls",
    "time_s",
    "energy_j",
    "u95_j",
    "flops",
    "share",
    "method",
    "reason",
)
_CHANNEL = (
    *(
        "channel",
        "energy_j",
        "u95_j",
        "u_random_j",
        "u_gain_j",
        "method",
        "reason",
        "in_total",
        "scope",
        "parent",
    ),
    *("tick_ms", "gain_u95", "flags"),
)


def page_data(
    groups: Sequence[Group], comparison: Comparison | None, stored: Sequence[StoredRun]
) -> dict[str, Any]:
    """Units as in the names: joules, watts, seconds, grams. `drawn` are the runs with their power over time."""
    each = max(1, _MOST_RUNS // max(1, len(groups)))
    runs = [_listed(group.label, run) for group in groups for run in group.runs[:each]]
    return {
        "format": FORMAT,
        "comparison": None if comparison is None else _compared(comparison, each),
        "runs": runs[:_MOST_RUNS],
        "runs_in_all": sum(len(group.runs) for group in groups),
        "drawn": [_drawn(one) for one in stored],
    }


def _compared(comparison: Comparison, each: int) -> dict[str, Any]:
    """The comparison, with the ids of so many runs a group: those of thousands are half a page."""
    data = as_data(comparison)
    return {**data, "groups": [{**group, "runs": group["runs"][:each]} for group in data["groups"]]}


def _drawn(stored: StoredRun) -> dict[str, Any]:
    layers, found = layers_of(stored.layers), phases(stored.calls)
    return {
        "run": {key: value for key, value in stored.run.items() if key not in _INTERNAL},
        "channels": [_some(row, _CHANNEL) for row in stored.channels],
        "regions": [_some(row, _REGION) for row in totals(stored.run, stored.regions)[:_MOST_REGIONS]],
        "layers": [_some(row, _LAYER) for row in (layers.rows if layers else ())[:_MOST_LAYERS]],
        "phases": list(_calls(found)),
        "band_level": band_level(found),
        "steps": _progress(stored),
        "series": [{**encode(one), "look": look} for one, look in zip(stored.series, _looks(stored))],
    }


def _calls(found: Sequence[Phase]) -> Iterator[tuple[str, float, float, int]]:
    """A row a call: the region, begin and end in seconds, and how many phases are around it."""
    for phase in found:
        for begin, end in zip(phase.begin_s, phase.end_s):
            yield phase.region, round(float(begin), 6), round(float(end), 6), phase.level


def _progress(stored: StoredRun) -> dict[str, Any] | None:
    most = max(_FEWEST_OF_STEPS, sum(len(one.watts) for one in stored.series) // _VALUES_TO_ONE_OF_STEPS)
    found = progress(stored.steps, stored.series, most)
    if found is None:
        return None
    return {
        "count": encode(found.count),
        "energy": None if found.energy is None else encode(found.energy),
        "timed": stored.steps.timed,
    }


def _listed(label: str, run: Row) -> dict[str, Any]:
    row = _some(run, _LISTED)
    metrics = dict(list(logged(run).items())[:_MOST_METRICS])
    return {"group": told(label, 200), **row, "name": told(row["name"], 200), "metrics": metrics}


def _looks(stored: StoredRun) -> list[int]:
    """Which colour and dashes each series has, as the figures draw it."""
    counted = [one.channel for one in stored.series if one.in_total]
    return ranks([*counted, *(one.channel for one in stored.series if not one.in_total)])


def _some(row: Row, columns: Sequence[str]) -> dict[str, Any]:
    return {column: row.get(column) for column in columns}
