"""Where two groups differ: their regions as one icicle, coloured by the change, and the table of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from energyprof.reports import drawn, style
from energyprof.reports.figures import NothingToDraw
from energyprof.reports.icicle import ROOT, Block, Node, blocks, difference, of_regions
from energyprof.reports.numbers import NO_FIGURE, quantity
from energyprof.reports.parts import Cell, Section, Table, cells, told
from energyprof.reports.stored import StoredRun
from energyprof.selection import Group

_FULL = 0.3  # the change that has the full colour
_MOST = 60


def section(stored: Sequence[StoredRun], groups: Sequence[Group]) -> Section | None:
    """Regions of the second group against the baseline's, over the runs that are drawn; None without regions."""
    before, after = (_trees(stored, group) for group in groups[:2])
    if not before or not after:
        return None
    found, gone = difference(before, after), _gone(before, after)
    base, other = (told(group.label, 32) for group in groups[:2])
    rows = []
    for node in (*found[:_MOST], *gone[:_MOST]):
        change = node.change
        rows.append(
            cells(
                node.path or "whole run", Cell(quantity(node.value, "J"), node.value),
                Cell(_percent(change), change if change is not None and math.isfinite(change) else None),
            )
        )  # fmt: skip
    caption = (
        f"Joules of the regions of {other}, and their change against {base}; means of the runs that are drawn"
    )
    table = Table(
        "changes", caption, ("region", other, "change"), tuple(rows), frozenset((1, 2)), sortable=True
    )
    what = f"Regions of {other}: width is energy, colour and sign are the change against {base}"
    figure = drawn.drawn("changes-figure", what, lambda: _icicle(blocks(found)))
    words = ("Without intervals: the verdicts above are of the whole runs.",)
    return Section("changes-section", "Where the difference is", words, figures=figure, tables=(table,))


def _trees(stored: Sequence[StoredRun], group: Group) -> list[list[Node]]:
    ids = {run["run_id"] for run in group.runs}
    return [tree for one in stored if one.run["run_id"] in ids and (tree := of_regions(one.run, one.regions))]


def _gone(before: Sequence[Sequence[Node]], after: Sequence[Sequence[Node]]) -> list[Node]:
    """What only the baseline has."""
    left = {node.path for tree in after for node in tree}
    lost = dict.fromkeys(node.path for tree in before for node in tree if node.path not in left)
    return [Node(path, ROOT, path, 0.0, -1.0) for path in lost]


def _percent(change: float | None) -> str:
    if change is None:
        return NO_FIGURE
    if not math.isfinite(change):
        return "new"
    return "gone" if change == -1.0 else f"{100 * change:+.1f} %".replace("-", "−")


def _icicle(found: Sequence[Block]) -> Any:
    if not found:
        raise NothingToDraw("no regions")
    deepest = max(block.depth for block in found)
    made = style.figure(8.0, 0.4 + 0.42 * (1 + deepest))
    axes = style.axes(made)
    for block in found:
        change = block.change or 0.0
        strength = min(1.0, abs(change) / _FULL) if math.isfinite(change) else 1.0
        axes.barh(
            block.depth, block.width, 0.94, block.begin, color=style.LESS if change < 0 else style.MORE,
            alpha=0.04 + 0.4 * strength, linewidth=0,
        )  # fmt: skip
        axes.barh(
            block.depth, block.width, 0.94, block.begin, fill=False, edgecolor=style.GREY, linewidth=0.5,
        )  # fmt: skip
        room = int(block.width * 105)
        texts = (f"{block.name}  {_percent(block.change)}", _percent(block.change))
        text = next((text for text in texts if len(text) <= room), "")
        if text:
            axes.text(
                block.begin + 0.006,
                block.depth,
                style.plain(text),
                va="center",
                fontsize=8.5,
                color=style.INK,
            )
    axes.set_ylim(deepest + 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.set_axis_off()
    return made
