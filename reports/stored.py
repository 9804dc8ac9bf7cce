"""What figures and reports need of stored runs, gathered once: rows, steps, when the seldom regions ran, power."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energyprof import store
from energyprof.arrow_values import floats, having, having_none
from energyprof.reports.series import Series, series_of

Row = Mapping[str, Any]
Floats = NDArray[np.float64]

MOST_READINGS = 200_000  # of one report, over all its runs


@dataclass(frozen=True)
class Calls:
    """The calls of one region in order: begin after the start of the run and duration, in seconds, shape (n,)."""

    region: str
    depth: int
    begin_s: Floats
    duration_s: Floats


@dataclass(frozen=True)
class Steps:
    """The steps of the first rank: begin, duration, joules (nan where they are shorter than the meters resolve).

    Steps whose layers were timed took longer for it; they are left out, and `timed` counts them.
    """

    begin_s: Floats
    duration_s: Floats
    energy_j: Floats
    timed: int = 0


@dataclass(frozen=True)
class StoredRun:
    """One run on one node, as the dataset has it."""

    run: Row
    channels: tuple[Row, ...]
    regions: tuple[Row, ...]
    layers: tuple[Row, ...]
    steps: Steps
    calls: tuple[Calls, ...]
    series: tuple[Series, ...]
    damaged: tuple[tuple[str, str], ...] = ()


def one(data: store.Dataset, run: Row, readings: int = MOST_READINGS) -> StoredRun:
    """One run with its power over time; its channels share the number of readings.

    Raises
    ------
    energyprof.store.NewerSchema
        A file is of a newer release.
    """
    found = {name: data.of_run(name, run["run_id"]) for name in ("channels", "layers", "samples")}
    intervals = data.of_run("intervals", run["run_id"])
    found["intervals"] = intervals
    nodes = set(str(run["node"]).split(","))  # a run of several nodes is told as one
    channels = [row for row in found["channels"].rows if row["node"] in nodes]
    samples = _of_node(found["samples"].table, run)
    read = {row["channel"] for row in channels}
    if samples is not None:
        read &= set(samples.column("channel").unique().to_pylist())
    most = max(100, readings // max(1, len(read)))
    return StoredRun(
        run=run,
        channels=tuple(channels),
        regions=tuple(_where(intervals.table, run, "region")),
        layers=tuple(row for row in found["layers"].rows if row["node"] in nodes),
        steps=_steps(intervals.table, run),
        calls=tuple(_calls(intervals.table, run)),
        series=tuple(series_of(run, channels, samples, most)),
        damaged=tuple(fault for listing in found.values() for fault in listing.damaged),
    )


def _of_node(table: Any, run: Row) -> Any:
    """The rows of the run's first node: clocks of different nodes do not compare."""
    first = str(run["node"]).split(",")[0]
    return None if table is None else having(table, "node", first)


def _part(table: Any, run: Row, kind: str) -> Any:
    """The rows of one kind, of the node and of its first rank."""
    mine = _of_node(table, run)
    if mine is None:
        return None
    mine = having(mine, "row_kind", kind)
    if not len(mine):
        return None
    first = min(mine.column("rank").unique().to_pylist())
    return having(mine, "rank", first)


def _where(table: Any, run: Row, kind: str) -> list[dict[str, Any]]:
    mine = _part(table, run, kind)
    return [] if mine is None else mine.to_pylist()


def _seconds(column: Any, run: Row) -> Floats:
    return (floats(column) - float(run["t0_ns"] or 0)) / 1e9


def _steps(table: Any, run: Row) -> Steps:
    mine = _part(table, run, "step")
    if mine is None:
        nothing = np.zeros(0)
        return Steps(nothing, nothing, nothing)
    plain = having_none(mine, "flags")
    timed = len(mine) - len(plain) if len(plain) else 0
    mine = plain if timed else mine
    return Steps(
        _seconds(mine.column("begin_ns"), run),
        floats(mine.column("duration_s")),
        floats(mine.column("energy_j")),
        timed,
    )


def _calls(table: Any, run: Row) -> Iterable[Calls]:
    mine = _part(table, run, "call")
    if mine is None:
        return
    for path in mine.column("region").unique().to_pylist():
        part = having(mine, "region", path)
        begin = _seconds(part.column("begin_ns"), run)
        lasted = floats(part.column("duration_s"))
        order = np.argsort(begin, kind="stable")
        yield Calls(path, int(part.column("depth")[0].as_py()), begin[order], lasted[order])
