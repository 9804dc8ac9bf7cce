"""The figure of a kind, of runs that are named as they are typed: what `energyprof plot` calls.

made, notes = draw("power", ["@last"], "energyprof-runs")
energyprof.reports.style.save(made, "power.svg")
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from energyprof import measures, selection, store
from energyprof.compare import compare_stored, usable
from energyprof.reports import figures, stored
from energyprof.reports.drawable import MOST_RUNS, NothingToDraw
from energyprof.reports.figures import KINDS
from energyprof.selection import Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]


def draw(
    kind: str,
    arguments: Sequence[str],
    out: str,
    metrics: Sequence[str] = (),
    everything: bool = False,
) -> tuple[Figure, tuple[str, ...]]:
    """A figure, and notes of what could not be read or was left out.

    Parameters
    ----------
    kind
        One of `energyprof.reports.figures.KINDS`.
    arguments
        Runs as in `energyprof.selection`. Each is a group where groups are compared (forest, pareto).
    out
        The dataset; a folder in an argument is another one.
    metrics
        For a forest those that are shown, all where there are none; for pareto the one quality that was logged.
    everything
        Compare runs that failed, were killed or recovered too.

    Raises
    ------
    ValueError
        No such kind, run or metric, or nothing to draw (`NothingToDraw`); one line says what to do.
    energyprof.store.NewerSchema
        A dataset is of a newer release.
    """
    known_kind(kind)
    if metrics and kind not in ("forest", "pareto"):
        raise ValueError(f"--metric is for forest and pareto; leave it out of {kind}")
    if kind == "forest":
        if len(arguments) < 2:
            raise ValueError(
                "a forest compares two groups at least: energyprof plot forest BASE OTHER -o x.png"
            )
        found = compare_stored(arguments, out, metrics or None, everything=everything)
        return figures.forest(found), found.notes
    chosen = selection.select(arguments, out)
    notes = tuple(f"skipped {path}: {why}" for path, why in chosen.damaged)
    if kind == "pareto":
        groups, left_out = usable(chosen.groups, everything, chosen.folders)
        return _pareto(groups, metrics), (*notes, *left_out)
    runs = [run for group in chosen.groups for run in group.runs]
    gathered = _gathered(runs, chosen.folders, kind)
    faults = dict.fromkeys(f"skipped {path}: {why}" for one in gathered for path, why in one.damaged)
    if kind == "power":
        number = {run["run_id"]: place for place, group in enumerate(chosen.groups) for run in group.runs}
        made = figures.power(gathered, [number[one.run["run_id"]] for one in gathered])
    else:
        made = figures.OF_RUNS[kind](gathered)
    return made, (*notes, *faults)


def known_kind(kind: str) -> None:
    """Raise ValueError where there is no such figure; it names the nearest."""
    if kind not in KINDS:
        near = difflib.get_close_matches(kind.lower(), KINDS, n=1, cutoff=0.0)
        raise ValueError(f"no figure {kind!r}; nearest: {near[0]}; all: {', '.join(KINDS)}")


def _gathered(runs: Sequence[Row], folders: Mapping[str, str], kind: str) -> list[stored.StoredRun]:
    """The runs with channels, regions and power, one for each node that they ran on."""
    most = 1 if kind in ("icicle", "budget") else MOST_RUNS
    if len(runs) > most:
        raise NothingToDraw(
            f"{kind} is of one run, and {len(runs)} were named: name one"
            if most == 1
            else f"{kind} shows {most} runs at most, and {len(runs)} were named: name fewer"
        )
    datasets = {out: store.Dataset(out) for out in dict.fromkeys(folders.values())}
    found: list[stored.StoredRun] = []
    for run in runs:
        data = datasets[folders[run["run_id"]]]
        nodes = data.of_run("runs", run["run_id"]).rows
        if most == 1 and len(nodes) > 1:
            raise NothingToDraw(
                f"{kind} is of one node, and this run has {len(nodes)}; breakdown shows them all"
            )
        share = stored.MOST_READINGS // max(1, len(runs) * len(nodes))
        found += [stored.one(data, row, share) for row in nodes]
    return found


def _pareto(groups: Sequence[Group], metrics: Sequence[str]) -> Figure:
    runs = [run for group in groups for run in group.runs]
    logged = sorted({name for run in runs for name in measures.logged(run)})
    if not logged:
        raise NothingToDraw("none of these runs logged a quality; run.log(accuracy=0.9) does")
    wanted = [name.removeprefix(measures.QUALITY) for name in metrics] or logged
    if len(wanted) > 1:
        raise ValueError(f"pareto shows one quality; say --metric {' or --metric '.join(wanted)}")
    (name,) = wanted
    if name not in logged:
        raise ValueError(f"no run logged {name!r}; logged: {', '.join(logged)}")
    metric = measures.quality(measures.QUALITY + name)
    points = []
    for group in groups:
        for run in group.runs:
            value = metric.value(run)
            if value is not None and run["energy_j"] is not None:
                label = group.label if len(groups) > 1 else str(run["name"] or "run")
                points.append((label, float(run["energy_j"]), value, run["u95_j"]))
    return figures.pareto(points, name, metric.better)
