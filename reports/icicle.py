"""Where the energy went, as an icicle: a row of blocks a level, each as wide as its joules, inside its parent.

Rows of regions or of layers in, blocks out; what draws them (matplotlib, a page) only scales them. Where the parts
of something add up to more than it (each has its uncertainty), they are narrowed to fit; the tables have the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

Row = Mapping[str, Any]

ROOT = ""


@dataclass(frozen=True)
class Block:
    """One block: `begin` and `width` are shares of the figure's width, `value` is in `unit`.

    `change` is new / old - 1 where two groups are compared, None elsewhere; infinite where there was none before.
    """

    path: str
    name: str
    depth: int
    begin: float
    width: float
    value: float
    unit: str = "J"
    change: float | None = None


@dataclass(frozen=True)
class Node:
    """A thing with a value, before its place is known."""

    path: str
    parent: str | None
    name: str
    value: float
    change: float | None = None


def blocks(nodes: Sequence[Node], unit: str = "J", narrowest: float = 0.0005) -> list[Block]:
    """Blocks of a tree. The first node is the whole; the others name their parents, in any order.

    Blocks narrower than `narrowest` are left out, and what is inside them.
    """
    if not nodes or nodes[0].value <= 0:
        return []
    inside: dict[str, list[Node]] = {}
    for node in nodes[1:]:
        if node.value > 0 and node.parent is not None:
            inside.setdefault(node.parent, []).append(node)
    found: list[Block] = []

    def place(node: Node, depth: int, begin: float, width: float) -> None:
        if width < narrowest or depth > 12:
            return
        found.append(Block(node.path, node.name, depth, begin, width, node.value, unit, node.change))
        parts = inside.get(node.path, ())
        whole = max(node.value, sum(part.value for part in parts))
        at = begin
        for part in parts:
            share = width * part.value / whole
            place(part, depth + 1, at, share)
            at += share

    place(nodes[0], 0, 0.0, 1.0)
    return found


def of_regions(run: Row, regions: Sequence[Row]) -> list[Node]:
    """The tree of a run's regions by their joules; [] where they do not add up to it (several at once, or no
    figures). Regions without a figure of their own stand for the sum of those inside."""
    mine = totals(run, regions)
    if not run["energy_j"] or any("overlap" in (row["flags"] or "") for row in mine):
        return []
    values = {row["region"]: row["energy_j"] for row in mine}
    for path in sorted(values, key=lambda path: -path.count("/")):
        if values[path] is None:
            values[path] = sum(value or 0.0 for other, value in values.items() if _above(other) == path)
    nodes = [Node(ROOT, None, "whole run", float(run["energy_j"]))]
    for row in mine:
        path = row["region"]
        above = _above(path)
        while above and above not in values:
            above = _above(above)
        nodes.append(Node(path, above or ROOT, path.rpartition("/")[2], float(values[path] or 0.0)))
    return nodes if len(nodes) > 1 else []


def totals(run: Row, regions: Sequence[Row]) -> list[Row]:
    """The regions' rows over all meters, of the first rank: the ranks of one node run at the same time."""
    mine = [row for row in regions if row["channel"] == "total"]
    first = min((row["rank"] or 0 for row in mine), default=0)
    return [row for row in mine if (row["rank"] or 0) == first]


def _above(path: str) -> str:
    return path.rpartition("/")[0]


@dataclass(frozen=True)
class Layers:
    """The layers of a run by the best that is known: their rows of whole steps, and what their blocks measure."""

    rows: tuple[Row, ...]
    phases: Mapping[tuple[str, str], Row]
    source: str
    column: str
    unit: str


_MEASURES = (("energy_j", "J"), ("time_s", "s"), ("flops", "FLOP"))


def layers_of(rows: Sequence[Row]) -> Layers | None:
    """What is known of a model's layers: replayed before timed in place before counted; joules before seconds."""
    for source in ("replayed", "in_place", "counted"):
        mine = [row for row in rows if row["source"] == source and row["channel"] == "total"]
        first = min((row["rank"] or 0 for row in mine), default=0)
        mine = [_with_flops(row) for row in mine if (row["rank"] or 0) == first]
        steps = [row for row in mine if row["phase"] == "step"]
        root = next((row for row in steps if not row["name"]), None)
        if root is None:
            continue
        column, unit = next(((c, u) for c, u in _MEASURES if root.get(c)), _MEASURES[0])
        phases = {(row["name"], row["phase"]): row for row in mine if row["phase"] != "step"}
        return Layers(tuple(steps), phases, source, column, unit)
    return None


def _with_flops(row: Row) -> Row:
    names = ("flops_forward", "flops_backward", "flops_recompute")
    known = [value for name in names if (value := row.get(name)) is not None]
    return {**row, "flops": sum(known) if known else None}


def of_layers(layers: Layers) -> list[Node]:
    """The tree of a model's modules; the path is the module's name, the whole is the model's step."""
    rows = {row["name"]: row for row in layers.rows}
    root = rows[ROOT]
    nodes = [Node(ROOT, None, root["model"] or root["class"] or "model", float(root[layers.column] or 0.0))]
    for name, row in rows.items():
        if not name:
            continue
        above = name.rpartition(".")[0]
        while above and above not in rows:  # a list of modules is called by nobody
            above = above.rpartition(".")[0]
        short = name[len(above) :].lstrip(".")
        if short.isdecimal() and row["class"]:  # the place in a Sequential says little
            short = f"{short} {row['class']}"
        nodes.append(Node(name, above, short, float(row[layers.column] or 0.0)))
    return nodes


def difference(before: Sequence[Sequence[Node]], after: Sequence[Sequence[Node]]) -> list[Node]:
    """The mean tree of the runs in `after`, each node with its change against the mean of those in `before`.

    A node that is in no run of `after` is not shown; its absence is in the table of regions.
    """
    old, new = mean(before), mean(after)
    return [
        replace(node, change=(node.value / old[path].value - 1 if old[path].value else float("inf")))
        if path in old
        else replace(node, change=float("inf"))
        for path, node in new.items()
    ]


def mean(trees: Sequence[Sequence[Node]]) -> dict[str, Node]:
    """The mean of trees by path; what one of them lacks is zero there."""
    found: dict[str, Node] = {}
    sums: dict[str, float] = {}
    for tree in trees:
        for node in tree:
            found.setdefault(node.path, node)
            sums[node.path] = sums.get(node.path, 0.0) + node.value
    return {path: replace(node, value=sums[path] / len(trees)) for path, node in found.items()}
