"""What a comparison reads of the chosen runs beside their rows: channels, steps, and the boards' state at the start.

Steps are read of single runs alone, and states of a part of many runs: a run's readings may be millions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from energyprof import store
from energyprof.arrow_values import having, having_any, having_none, texts

Row = Mapping[str, Any]
_MOST_STATES = 60  # runs whose readings are looked into, at most, over all groups
_MOST_CHANNELS = 200  # runs whose channels are, where each has a file of its own
_AT_START_S = 10.0
_OF_CHANNELS = (
    *("run_id", "node", "channel", "energy_j", "u_gain_j", "method", "in_total", "device", "flags"),
    "scope",
)
_OF_STEPS = ("run_id", "node", "row_kind", "step", "energy_j", "duration_s", "flags")


@dataclass(frozen=True)
class Steps:
    """Energy (J) and duration (s) of the steps of one run, in order: means over its ranks, joules summed over nodes.

    Steps that are shorter than what the meter resolves have a duration and no joules, so that one may be longer.
    """

    energy_j: tuple[float, ...]
    duration_s: tuple[float, ...]


@dataclass(frozen=True)
class Evidence:
    """By run_id: rows of `channels`; steps; and state, text by what it is of ("power limit", "temperature")."""

    channels: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    steps: Mapping[str, Steps] = field(default_factory=dict)
    states: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    damaged: tuple[tuple[str, str], ...] = ()
    looked_at: frozenset[str] | None = None  # the runs whose channels were looked for; all where None

    def seen(self, runs: Sequence[Row]) -> list[Row]:
        """Those of some runs whose channels were looked for."""
        return [run for run in runs if self.looked_at is None or run["run_id"] in self.looked_at]


def read(groups: Sequence[Sequence[Row]], folders: Mapping[str, str]) -> Evidence:
    """The evidence for groups of runs.

    Parameters
    ----------
    groups
        Rows of runs.
    folders
        The dataset in which each run is, by run_id.
    """
    channels: dict[str, list[Row]] = {}
    damaged: list[tuple[str, str]] = []
    ids = [run["run_id"] for run in _spread(groups, _MOST_CHANNELS)]
    for out in dict.fromkeys(folders[run_id] for run_id in ids):
        mine = {run_id for run_id in ids if folders[run_id] == out}
        listing = store.read(store.files(out, "channels"), "channels", None, _OF_CHANNELS, mine)
        damaged += listing.damaged
        for row in listing.rows:
            channels.setdefault(row["run_id"], []).append(row)
    datasets = {out: store.Dataset(out) for out in dict.fromkeys(folders.values())}

    def of(run_id: str) -> store.Dataset:
        return datasets[folders[run_id]]

    single = [group[0]["run_id"] for group in groups] if all(len(group) == 1 for group in groups) else []
    return Evidence(
        channels,
        {run_id: found for run_id in single if (found := _steps(of(run_id), run_id)) is not None},
        {run["run_id"]: _state(of(run["run_id"]), run, channels) for run in _spread(groups, _MOST_STATES)},
        tuple(damaged),
        frozenset(ids),
    )


def _spread(groups: Sequence[Sequence[Row]], most: int) -> Iterable[Row]:
    """Runs of each group, evenly over it where they are too many."""
    each = max(1, most // max(1, len(groups)))
    for group in groups:
        yield from group[:: max(1, -(-len(group) // each))]


def _steps(data: store.Dataset, run_id: str) -> Steps | None:
    """A run's steps that have joules and were not timed layer by layer."""
    listing = data.of_run("intervals", run_id, partial(having, column="row_kind", value="step"), _OF_STEPS)
    if listing.table is None:
        return None
    table = having_none(listing.table, "flags")  # of the others the layers were timed
    series = Steps(_series(table, "energy_j", "sum"), _series(table, "duration_s", "mean"))
    return series if series.duration_s else None


def _series(table: Any, column: str, over_nodes: str) -> tuple[float, ...]:
    """A figure of each step that all nodes have it of."""
    import pyarrow.compute as pc

    known = table.select(["node", "step", column]).drop_null()
    each = known.group_by(["node", "step"]).aggregate([(column, "mean")])
    whole = each.group_by("step").aggregate([(f"{column}_mean", over_nodes), ("node", "count")])
    whole = whole.filter(pc.field("node_count") == len(table["node"].unique())).sort_by("step")
    return tuple(whole[f"{column}_mean_{over_nodes}"].to_pylist())


def _state(data: store.Dataset, run: Row, channels: Mapping[str, Sequence[Row]]) -> dict[str, float]:
    """The boards' enforced power limit (W) and temperature (°C) at the start, means over boards."""
    names = [c["channel"] for c in channels.get(run["run_id"], ()) if c["in_total"]]
    wanted = [f"{name}/{what}" for name in names for what in ("limit", "temperature")]
    if not wanted or not any(name.startswith("gpu") for name in names):
        return {}
    limits: dict[str, float] = {}
    first: dict[str, tuple[int, float]] = {}
    before = (run.get("t0_ns") or 0) + int(_AT_START_S * 1e9)
    for row in _samples(data, run["run_id"], wanted):
        if row["quantity"] == "temperature" and run.get("t0_ns") and row["t_ns"] > before:
            continue
        if row["quantity"] == "power":
            limits[row["channel"]] = row["value"] / 1e3  # mW
        elif row["quantity"] == "temperature":
            first[row["channel"]] = min(
                first.get(row["channel"], (row["t_ns"], row["value"])), (row["t_ns"], row["value"])
            )
    state = {"power limit": sum(limits.values()) / len(limits)} if limits else {}
    if first:
        state["temperature"] = sum(value for _, value in first.values()) / len(first) / 1e3  # m°C
    return state


def _samples(data: store.Dataset, run_id: str, channels: Sequence[str]) -> list[dict[str, Any]]:
    """The readings of some channels of a run; what stands in their way costs a remark, no comparison."""
    where = partial(having_any, column="channel", values=texts(channels))
    columns = ("t_ns", "channel", "quantity", "value")
    try:
        return data.of_run("samples", run_id, where, columns).rows
    except (OSError, store.NewerSchema):
        return []
