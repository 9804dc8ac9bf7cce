"""Groups of runs, as they are typed: each argument is a group.

    @last, @last~1           the last run, the one before
    0193f2c1-77              an id, or the beginning of one
    baseline                 all runs of that name
    'lr-*'                   all runs whose name, or id, fits the pattern
    model=gpt2               all runs with that tag; the value may be a pattern
    ../other/energyprof-runs all runs of another dataset

A comma or a `+` joins several into one group: `@last,@last~1`. What is a name as a whole is taken as that.
"""

from __future__ import annotations

import difflib
import fnmatch
import json
import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa

from energyprof import arrow_values, jsontext, store
from energyprof.schema import kinds, schema
from energyprof.store import Listing, id_of
from energyprof.where import Where, shown, where

Row = Mapping[str, Any]
_PATTERN = re.compile(r"[*?\[]")
_ID = re.compile(r"[0-9a-fA-F][0-9a-fA-F-]*")
_LAST = re.compile(r"@last(?:~([0-9]{1,9}))?")
_CHOOSING = ("run_id", "node", "name", "tags", "started_utc")
_SUMS = (
    *("energy_j", "measured_j", "modelled_j", "power_w", "net_energy_j", "idle_w", "allocated_j"),
    *("energy_per_step_j", "samples", "tokens", "flops_model", "flops_hardware"),
)
_SQUARES = (
    *("u95_j", "u_random_j", "u_tick_j", "u_sampling_j", "u_regression_j", "u_model_j", "u_gain_j"),
    "u95_net_j",
)
_RANGES = ("co2e", "embodied", "water", "cost")


class NotFound(ValueError):
    """An argument names no runs; the text says what is nearest."""


@dataclass(frozen=True)
class Group:
    """Runs that are compared as one: rows of `schema.RUNS`, one a run (its nodes summed)."""

    label: str
    runs: tuple[Row, ...]


@dataclass(frozen=True)
class Selection:
    """Groups in the order in which they were asked for, and in which dataset each run is."""

    groups: tuple[Group, ...]
    folders: Mapping[str, str]
    damaged: tuple[tuple[str, str], ...] = ()


def select(arguments: Sequence[str], out: str, only: str | None = None) -> Selection:
    """The groups that the arguments name.

    Parameters
    ----------
    arguments
        One a group, see above.
    out
        The dataset; a folder in an argument is another one.
    only
        A filter (`energyprof.where`): other runs are as if they were not there, for `@last` too.

    Raises
    ------
    NotFound
        An argument names no run, or one run is in two groups.
    energyprof.where.WrongFilter
        `only` is no filter.
    energyprof.store.NewerSchema
        A dataset is of a newer release.
    """
    reader = _Reader(out, None if only is None else where(only, kinds("runs")))
    chosen = [(argument, _runs_of(argument, reader)) for argument in arguments]
    labels = _labels(chosen)
    seen: dict[str, int] = {}
    for number, (_, runs) in enumerate(chosen):
        for run in runs:
            other = seen.setdefault(run["run_id"], number)
            if other != number:
                both = f"{labels[other]} and in {labels[number]}"
                raise NotFound(f"run {run['run_id'][:13]} is in {both}: leave it in one group")
    groups = tuple(Group(label, tuple(reader.whole(runs))) for label, (_, runs) in zip(labels, chosen))
    return Selection(groups, reader.folders, tuple(reader.damaged.items()))


class _Reader:
    """Datasets, each read once; rows are made of all runs in a few columns, and in all of those that are chosen."""

    def __init__(self, out: str, only: Where | None = None) -> None:
        self.out, self.only = out, only
        self.folders: dict[str, str] = {}
        self.damaged: dict[str, str] = {}
        self._listed: dict[tuple[str, ...], list[Row]] = {}
        self._tables: dict[str, pa.Table] = {}  # all columns, where all runs of a dataset were looked at
        self._files: dict[str, list[str]] = {}

    def _paths(self, out: str) -> list[str]:
        if out not in self._files:
            self._files[out] = store.files(out, "runs")
        return self._files[out]

    def listed(self, out: str | None = None) -> list[Row]:
        """All runs of a dataset, oldest first, in the columns by which runs are chosen."""
        out = out or self.out
        return self._some(out, self._paths(out))

    def last(self, back: int) -> list[Row]:
        """At least the last `back` + 1 runs, oldest first: those of the last days, where there are so many."""
        paths = self._paths(self.out)
        days = sorted({os.path.dirname(path) for path in paths}, reverse=True)
        recent: set[str] = set()
        for day in days:
            recent.add(day)
            found = self._some(self.out, [path for path in paths if os.path.dirname(path) in recent])
            if len(found) > back:
                return found
        return self.listed()

    def by_id(self, beginning: str) -> list[Row]:
        """The runs whose id begins so; where files are named by their run, the others are not opened."""
        paths = [(path, id_of(path)) for path in self._paths(self.out)]
        mine = [path for path, run_id in paths if run_id is None or run_id.startswith(beginning)]
        return [run for run in self._some(self.out, mine) if run["run_id"].startswith(beginning)]

    def _some(self, out: str, paths: Sequence[str]) -> list[Row]:
        key = (out, *paths)
        if key not in self._listed:
            looked_at = self.only.columns if self.only else ()
            columns = list(dict.fromkeys((*_CHOOSING, *looked_at)))
            of_all = len(paths) == len(self._paths(out))
            table = self._read(paths, None if of_all else columns)
            if of_all and table is not None:
                self._tables[out] = table
            rows = self._noted(out, Listing(columns, table))
            if self.only:
                rows = [row for row in rows if self.only.takes(row)]
            self._listed[key] = list({row["run_id"]: row for row in reversed(rows)}.values())[::-1]
        return self._listed[key]

    def whole(self, chosen: Sequence[Row]) -> list[Row]:
        """All columns of these runs, the nodes of one summed, in their order."""
        order = {run["run_id"]: number for number, run in enumerate(chosen)}
        rows: list[Row] = []
        for out in dict.fromkeys(self.folders[run_id] for run_id in order):
            if out in self._tables:
                table = arrow_values.having_any(self._tables[out], "run_id", arrow_values.texts(order))
            else:
                table = self._read(self._paths(out), ids=order)
            rows += self._noted(out, Listing(schema("runs").names, table))
        return sorted(one_a_run(rows), key=lambda run: order[run["run_id"]])

    def _read(
        self, paths: Sequence[str], columns: Sequence[str] | None = None, ids: Collection[str] | None = None
    ) -> pa.Table | None:
        listing = store.read(paths, "runs", None, columns, ids)
        self.damaged.update(listing.damaged)
        if listing.table is None:
            return None
        return listing.table.sort_by([("started_utc", "ascending"), ("run_id", "ascending")])

    def _noted(self, out: str, listing: Listing) -> list[Row]:
        for row in listing.rows:
            self.folders.setdefault(row["run_id"], out)
        return list(listing.rows)


def _runs_of(argument: str, reader: _Reader) -> list[Row]:
    whole = _found(argument, reader)
    if whole:
        return whole
    parts = [part.strip() for part in re.split(r"[,+]", argument)]
    if len(parts) == 1:
        raise NotFound(_nothing(argument, reader))
    runs: dict[str, Row] = {}
    for part in parts:
        found = _found(part, reader)
        if not found:
            raise NotFound(_nothing(part, reader))
        runs.update({run["run_id"]: run for run in found})
    return list(runs.values())


def _found(part: str, reader: _Reader) -> list[Row]:
    """The runs that one part of an argument means; none where it means nothing."""
    if not part:
        return []
    last = _LAST.fullmatch(part)
    if last:
        return _last(part, int(last[1] or 0), reader)
    if re.fullmatch(r"[0-9a-fA-F]{8}[0-9a-fA-F-]*", part):
        found = _one_of(part, reader)
        if found:
            return found
    if os.path.isdir(part) and (os.path.isdir(os.path.join(part, "runs")) or os.sep in part):
        runs = reader.listed(os.path.abspath(part))
        if not runs:
            raise NotFound(f"no runs in {part}")
        return runs
    named = [run for run in reader.listed() if run["name"] == part]
    if named:
        return named
    if _ID.fullmatch(part):
        found = _one_of(part, reader)
        if found:
            return found
    return _fitting(part, reader.listed())


def _one_of(beginning: str, reader: _Reader) -> list[Row]:
    """The run whose id begins so; none where there is none, and refused where there are several."""
    found = reader.by_id(beginning.lower())
    if len(found) > 1:
        few = ", ".join(run["run_id"][:13] for run in found[-3:])
        raise NotFound(
            f"{beginning} is ambiguous: {len(found)} runs, the last {few}; '{beginning}*' takes them all"
        )
    return found


def _fitting(part: str, runs: Sequence[Row]) -> list[Row]:
    """Runs by a pattern of their name or id, or by a tag."""
    if _PATTERN.search(part):
        found = [run for run in runs if _fits(run["name"] or "", part) or _fits(run["run_id"], part)]
        if found:
            return found
    key, equals, value = part.partition("=")
    if not equals or not key:
        return []
    tags = ((run, tags_of(run)) for run in runs)
    return [run for run, own in tags if key in own and _fits(own[key], value)]


def _fits(text: str, pattern: str) -> bool:
    return text == pattern or fnmatch.fnmatchcase(text, pattern)


def tags_of(run: Row) -> Mapping[str, str]:
    """The tags of a run, as texts; empty where they cannot be read."""
    return _texts(run["tags"])


@lru_cache(maxsize=1 << 14)  # most runs have the tags of others, and each part of an argument asks them all
def _texts(tags: object) -> Mapping[str, str]:
    found = jsontext.mapping(tags)
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in found.items()}


def _last(part: str, back: int, reader: _Reader) -> list[Row]:
    runs = reader.last(back)
    if not runs:
        return []
    if back >= len(runs):
        raise NotFound(f"{part}: there are {len(runs)} runs, @last to @last~{len(runs) - 1}")
    return [runs[-1 - back]]


def _nothing(part: str, reader: _Reader) -> str:
    """Why an argument means nothing, with what is nearest to it."""
    runs = reader.listed()
    if not runs and reader.only:
        return f"no run in {reader.out} fits {reader.only}; `energyprof ls --where` tries a filter"
    if not runs:
        return f"no runs in {reader.out}; measure some with `energyprof run script.py`, or say --out"
    names = list(dict.fromkeys(run["name"] for run in runs if run["name"]))
    tags = list(dict.fromkeys(f"{k}={v}" for run in runs for k, v in tags_of(run).items()))
    ids = [run["run_id"] for run in runs] if _ID.fullmatch(part) or not names else []
    words = [*names, *(tags if "=" in part else ()), *ids]
    near = difflib.get_close_matches(part, words, n=3, cutoff=0.0)
    among = f" among those that fit {reader.only}" if reader.only else ""
    return f"no run {shown(part) or '(empty)'}{among}; nearest: {', '.join(near)}"


def _labels(chosen: Sequence[tuple[str, Sequence[Row]]]) -> list[str]:
    """What each group is called: the name that all its runs have, where no other group has it; else what
    was typed."""
    names = [{run["name"] for run in runs} for _, runs in chosen]
    labels = []
    for i, (argument, runs) in enumerate(chosen):
        shared = next(iter(names[i])) if len(names[i]) == 1 else None
        alone = shared and sum(shared in other for other in names) == 1
        typed = os.path.basename(os.path.abspath(argument)) if os.path.isdir(argument) else argument
        short = len(runs) == 1 and (_LAST.fullmatch(argument) or argument in runs[0]["run_id"])
        labels.append(str(shared) if alone else runs[0]["run_id"][:13] if short else typed)
    if len(set(labels)) < len(labels):
        labels = [argument for argument, _ in chosen]
    return labels


def one_a_run(rows: Iterable[Row]) -> list[Row]:
    """Rows of a run and node as rows of runs, in the order of their first: joules and grams are summed, half-widths
    added in quadrature, times are the longest; a figure that one node lacks is None."""
    runs: dict[str, list[Row]] = {}
    for row in rows:
        runs.setdefault(row["run_id"], []).append(row)
    return [nodes[0] if len(nodes) == 1 else _summed(nodes) for nodes in runs.values()]


def _summed(nodes: Sequence[Row]) -> Row:
    whole = dict(nodes[0])

    def values(column: str) -> list[Any] | None:
        found = [node.get(column) for node in nodes]
        return None if None in found else found

    for column in _SUMS:
        found = values(column)
        whole[column] = None if found is None else sum(found)
    for column in _SQUARES:
        found = values(column)
        whole[column] = None if found is None else sum(value**2 for value in found) ** 0.5
    for name in _RANGES:
        _sum_range(whole, nodes, name)
    for column in ("duration_s", "steps", "calls", "ranks"):
        found = [node[column] for node in nodes if node.get(column) is not None]
        whole[column] = max(found) if found else None
    for column, joint in (("node", ","), ("hardware", ", "), ("flags", ",")):
        whole[column] = joint.join(dict.fromkeys(str(n[column]) for n in nodes if n.get(column)))
    whole["reason"] = next((n["reason"] for n in nodes if n.get("reason")), None)
    worst = ("killed", "failed", "recovered")
    whole["status"] = next((s for s in worst if any(n["status"] == s for n in nodes)), whole["status"])
    return whole


def _sum_range(whole: dict[str, Any], nodes: Sequence[Row], name: str) -> None:
    """The sum of a figure whose interval need not be symmetric: half-widths add in quadrature, each side apart."""
    unit = {"water": "_l", "cost": ""}.get(name, "_g")
    middle, low, high = (f"{name}{end}{unit}" for end in ("", "_lo", "_hi"))
    if any(node.get(column) is None for node in nodes for column in (middle, low, high)):
        whole.update({middle: None, low: None, high: None})
        return
    value = sum(node[middle] for node in nodes)
    below = sum((node[middle] - node[low]) ** 2 for node in nodes) ** 0.5
    above = sum((node[high] - node[middle]) ** 2 for node in nodes) ** 0.5
    whole.update({middle: value, low: value - below, high: value + above})
