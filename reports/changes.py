"""Where two groups differ: their regions as one icicle, coloured by the change, and the table of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from energyprof.reports import drawn, icicle_figure
from energyprof.reports.icicle import Node, blocks, difference, mean, of_regions
from energyprof.reports.numbers import NO_FIGURE, changed, quantity
from energyprof.reports.parts import Cell, Section, Table, cells, told
from energyprof.reports.stored import StoredRun
from energyprof.selection import Group

_MOST = 60


def section(stored: Sequence[StoredRun], groups: Sequence[Group]) -> Section | None:
    """Regions of the second group against the baseline's; None without regions.

    The regions of the runs that are drawn, and where those are not all: their parts of the mean of all runs (the ratio
    estimator: Cochran, Sampling Techniques, 1977, chapter 6), so that the whole is what the verdict is about.
    """
    before, after = (_trees(stored, group) for group in groups[:2])
    if not before or not after:
        return None
    old, found = mean(before), difference(before, after)
    left = {node.path for node in found}
    gone = [replace(node, value=0.0, change=-1.0) for path, node in old.items() if path not in left]
    base, other = (told(group.label, 32) for group in groups[:2])
    rows = []
    for node in (*found[:_MOST], *gone[:_MOST]):
        was = old[node.path].value if node.path in old else None
        more = node.value - (was or 0.0)
        rows.append(
            cells(
                node.path or "whole run",
                Cell(NO_FIGURE if was is None else quantity(was, "J"), was),
                Cell(quantity(node.value, "J") if node.value else NO_FIGURE, node.value),
                Cell(f"{'−' if more < 0 else '+'}{quantity(abs(more), 'J')}", more),
                Cell("gone" if node.change == -1.0 else changed(node.change), _finite(node.change)),
            )
        )  # fmt: skip
    of_all = len(before) == len(groups[0].runs) and len(after) == len(groups[1].runs)
    means = "means" if of_all else "by their parts in the runs that are drawn, of the mean of all"
    caption = f"Joules of the regions of {base} and {other}, {means}"
    head = ("region", base, other, "difference", "change")
    table = Table("changes", caption, head, tuple(rows), frozenset((1, 2, 3, 4)), sortable=True)
    what = f"Regions of {other}: width is energy, colour and sign are the change against {base}"
    figure = drawn.drawn("changes-figure", what, lambda: icicle_figure.changes(blocks(found)))
    words = ("Without intervals: the verdicts above are of the whole runs.",)
    return Section("changes-section", "Where the difference is", words, figures=figure, tables=(table,))


def _trees(stored: Sequence[StoredRun], group: Group) -> list[list[Node]]:
    ids = {run["run_id"] for run in group.runs}
    trees = [
        tree for one in stored if one.run["run_id"] in ids and (tree := of_regions(one.run, one.regions))
    ]
    whole = sum(tree[0].value for tree in trees)
    known = [run["energy_j"] for run in group.runs if run["energy_j"]]
    if len(trees) == len(group.runs) or not whole or not known:
        return trees
    scale = sum(known) / len(known) * len(trees) / whole
    return [[replace(node, value=scale * node.value) for node in tree] for tree in trees]


def _finite(change: float | None) -> float | None:
    return change if change is not None and math.isfinite(change) else None
