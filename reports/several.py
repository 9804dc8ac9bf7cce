"""The report of several runs: the verdict, what differs besides, effects, runs, power."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from energyprof.measures import known, logged
from energyprof.reports import changes, drawn, figures, sections
from energyprof.reports import compare as words
from energyprof.reports.numbers import NO_FIGURE, changed, duration, energy, quantity, short_id
from energyprof.reports.parts import Cell, Page, Row, Section, Table, Tile, cells, numbered, told
from energyprof.reports.stored import StoredRun
from energyprof.selection import Group

if TYPE_CHECKING:
    from energyprof.comparison import Comparison, Effect

MOST_ROWS = 120
_MOST_EFFECTS, _MOST_FOREST = 200, 40
_MOST_QUALITIES = 4
_HEADLINES = ("energy", "energy_per_step", "co2e", "duration")


def several(
    groups: Sequence[Group],
    comparison: Comparison | None,
    stored: Sequence[StoredRun],
    data: Mapping[str, Any],
) -> Page:
    """The page of groups of runs, the first of which is the baseline; of one group where there is no comparison."""
    numbers = _numbers(groups, stored)
    labels = [
        f"{told(groups[number].label, 24)} {short_id(one.run['run_id'])}"
        for number, one in zip(numbers, stored)
    ]
    titled = [_titled(one, label) for one, label in zip(stored, labels)]
    runs = sum(len(group.runs) for group in groups)
    beyond: tuple[str, ...] = ()
    if len(stored) < runs:
        beyond = (
            f"Power and provenance are of {len(stored)} of the {runs:,} runs, the first ones of each group.",
        )
    found = [
        *(_of_comparison(comparison, stored, groups) if comparison else ()),
        _runs(groups),
        *_pareto(groups),
        sections.power(titled, labels, numbers),
        _method(comparison, stored),
        sections.reasons(stored),
        sections.provenance(stored, labels),
    ]
    names = [told(group.label, 32) for group in groups]
    others = ", ".join(names[1:4]) + (" …" if len(names) > 4 else "")
    title = f"{others} against {names[0]}: energy compared"
    if comparison is None:
        title = f"{names[0]}: energy of {runs:,} runs"
    verdict = words.headline(comparison) if comparison else _spread(groups[0])
    tiles = _tiles(comparison) if comparison else _tiles_of_one(groups[0])
    return Page(title, verdict, tiles, tuple(s for s in found if s is not None), data, beyond)


def _titled(stored: StoredRun, label: str) -> StoredRun:
    return replace(stored, run={**stored.run, "name": label})


def _numbers(groups: Sequence[Group], stored: Sequence[StoredRun]) -> list[int]:
    """Which group each run is of."""
    known = {run["run_id"]: number for number, group in enumerate(groups) for run in group.runs}
    return [known[one.run["run_id"]] for one in stored]


def _spread(group: Group) -> str:
    """What a group is where it is compared with nothing."""
    joules = [run["energy_j"] for run in group.runs if run["energy_j"] is not None]
    who = f"{len(group.runs):,} runs of {told(group.label, 40)}"
    if len(joules) < 2:
        return f"{who}; name a second group to compare it with."
    mean, sd = float(np.mean(joules)), float(np.std(joules, ddof=1))
    varies = f", {100 * sd / mean:.2g} % standard deviation from run to run" if mean else ""
    return f"{who} drew {quantity(mean, 'J')} on average{varies}; name a second group to compare them with."


def _tiles_of_one(group: Group) -> tuple[Tile, ...]:
    """What a run of the group costs on average, and from which to which."""
    found = []
    for label, column, unit in _OF_A_RUN:
        values = [run[column] for run in group.runs if run[column] is not None]
        if not values:
            continue
        mean, ends = float(np.mean(values)), (min(values), max(values))
        span = f"{_figure(ends[0], unit)} to {_figure(ends[1], unit)}" if len(values) > 1 else ""
        found.append(Tile(label, _figure(mean, unit), span))
    return tuple(found)


_OF_A_RUN = (
    ("Energy, mean", "energy_j", "J"),
    ("Energy per step, mean", "energy_per_step_j", "J"),
    ("CO2e, mean", "co2e_g", "g"),
    ("Time, mean", "duration_s", "s"),
)


def _figure(value: float, unit: str) -> str:
    return duration(value) if unit == "s" else quantity(value, unit)


def _tiles(comparison: Comparison) -> tuple[Tile, ...]:
    first = [
        e for e in comparison.effects if e.group == comparison.groups[1].label and e.metric in _HEADLINES
    ]
    qualities = [e for e in comparison.effects if e.group == comparison.groups[1].label and _is_quality(e)]
    found = []
    for effect in (*first[:4], *qualities[:1]):
        *_, change, _, verdict = words.effect_cells(effect)
        noun = told(words.noun_of(effect.metric), 30)
        mean, _, interval = change.partition(" (")
        detail = f"{interval.rstrip(')')}, {verdict}" if interval else verdict
        whose = f", {told(effect.group, 24)}" if len(comparison.groups) > 2 else ""
        found.append(Tile(noun[:1].upper() + noun[1:] + whose, mean, detail))
    return tuple(found)


def _is_quality(effect: Effect) -> bool:
    return effect.metric.startswith("quality:")


def _of_comparison(
    comparison: Comparison, stored: Sequence[StoredRun], groups: Sequence[Group]
) -> tuple[Section | None, ...]:
    return _besides(comparison), _effects(comparison), changes.section(stored, groups)


def _besides(comparison: Comparison) -> Section:
    title = "What differs besides"
    if not comparison.differences:
        same = "Nothing that the runs tell: hardware, driver, versions, power limit, place, meters and work agree."
        return Section("besides", title, (same,))
    rows = []
    for one in comparison.differences:
        warns = one.severity == "warning"
        name = Cell(("⚠ " if warns else "") + told(one.field, 40), mark="warn" if warns else "")
        rows.append(cells(name, *(told(value, 60) for value in one.values), told(one.why, 160)))
    labels = [told(group.label, 24) for group in comparison.groups]
    caption = "Differences between the groups; ⚠ marks those that may be the cause, or make figures mean other things"
    table = Table("differences", caption, ("what", *labels, "why it matters"), tuple(rows))
    return Section("besides", title, tables=(table,))


def _effects(comparison: Comparison) -> Section:
    rows = []
    effects, _ = numbered(comparison.effects, _MOST_EFFECTS)
    more = "More are in the JSON of this page." if len(effects) < len(comparison.effects) else ""
    for effect in effects:
        texts = words.effect_cells(effect)
        sure = effect.verdict in ("less", "more")
        mark = ("good" if effect.verdict == effect.better else "bad") if sure else ""
        values = (
            None,
            None,
            _number(effect.baseline),
            _number(effect.value),
            effect.change,
            effect.p_adjusted,
            None,
        )
        marks = ("", "", "", "", mark, "", mark)
        rows.append(tuple(Cell(*one) for one in zip(texts, values, marks)))
    base = told(comparison.groups[0].label, 40)
    head, right = words.EFFECT_HEAD, (2, 3, 5)
    if len(comparison.groups) == 2:  # the title has the one other group
        head, right, rows = _without(head), (1, 2, 4), [_without(row) for row in rows]
    caption = f"Change of each metric against {base}, the baseline"
    table = Table("effects", caption, head, tuple(rows), frozenset(right), True, more)
    found = drawn.drawn(
        "forest", f"Changes against {base} with their intervals", lambda: figures.forest(_tidied(comparison))
    )
    return Section("effects-section", "How much, and how sure", figures=found, tables=(table,))


def _tidied(comparison: Comparison) -> Comparison:
    """The same with names that are fit for a figure."""
    return replace(
        comparison,
        groups=tuple(replace(group, label=told(group.label, 40)) for group in comparison.groups),
        effects=tuple(
            replace(effect, metric=told(effect.metric, 40), group=told(effect.group, 40))
            for effect in comparison.effects[:_MOST_FOREST]
        ),
    )


def _without(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row without its second cell."""
    return (row[0], *row[2:])


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _runs(groups: Sequence[Group]) -> Section:
    rows = [(group, run) for group in groups for run in group.runs]
    qualities = sorted({name for _, run in rows for name in logged(run)})[:_MOST_QUALITIES]
    base = [run["energy_j"] for run in groups[0].runs if run["energy_j"]]
    mean = float(np.exp(np.mean(np.log(base)))) if base else None
    each = MOST_ROWS // min(len(groups), MOST_ROWS)
    shown = [(group, run) for group in groups[:MOST_ROWS] for run in group.runs[:each]]
    more = f"{len(rows) - len(shown):,} more are in the dataset." if len(shown) < len(rows) else ""
    columns = ("run", "group", "energy", "change", "a step", "CO2e", "power", "time")
    alone = ("group", "change") if len(groups) == 1 else ()
    body = []
    for group, run in shown:
        found = dict(zip(columns, _run_cells(group, run, mean)))
        values = logged(run)
        body.append(
            (
                *(cell for name, cell in found.items() if name not in alone),
                *(Cell(_quality(values.get(name)), values.get(name)) for name in qualities),
                Cell(told(run["status"] or "unknown", 20)),
            )
        )
    head = (*(name for name in columns if name not in alone), *(told(name, 24) for name in qualities), "end")
    text = ("run", "group", "end")
    caption = "Every run"
    if len(groups) > 1:
        caption += ", and its change of energy against the baseline's mean; the baseline's runs stay on top"
    table = Table(
        "runs", caption, head, tuple(body), frozenset(i for i, name in enumerate(head) if name not in text),
        sortable=True, note=more, fixed=sum(group is groups[0] for group, _ in shown) if len(groups) > 1 else 0,
    )  # fmt: skip
    return Section("runs-section", "Runs", tables=(table,))


def _run_cells(group: Group, run: Row, mean: float | None) -> tuple[Cell, ...]:
    joules = run["energy_j"]
    change = None if joules is None or not mean else joules / mean - 1
    return (
        Cell(short_id(run["run_id"]), run["started_utc"].timestamp() if run["started_utc"] else None),
        Cell(told(group.label, 32)),
        Cell(energy(joules, run["u95_j"], run["reason"]), joules),
        Cell(changed(change), change),
        *(
            Cell(NO_FIGURE if run[column] is None else quantity(run[column], unit), run[column])
            for column, unit in (("energy_per_step_j", "J"), ("co2e_g", "g"), ("power_w", "W"))
        ),
        Cell(duration(run["duration_s"]), run["duration_s"]),
    )


def _quality(value: float | None) -> str:
    if value is None:
        return NO_FIGURE
    return f"{value:.4g}" if value == round(value) else f"{value:#.4g}"


def _pareto(groups: Sequence[Group]) -> tuple[Section, ...]:
    runs = [run for group in groups for run in group.runs]
    qualities = sorted({name for run in runs for name in logged(run)})
    if not qualities:
        return ()
    quality = qualities[0]
    better = next(m.better for m in known(runs) if m.name == f"quality:{quality}")
    points = [
        (told(group.label, 28), float(run["energy_j"]), logged(run)[quality], run["u95_j"])
        for group in groups
        for run in group.runs[:100]
        if run["energy_j"] is not None and quality in logged(run)
    ]
    caption = f"{told(quality, 40)} against energy: the front is of the runs that no other beats in both"
    found = drawn.drawn("pareto", caption, lambda: figures.pareto(points, told(quality, 24), better))
    words = ("The same figures are in the table of runs.",)
    return (Section("quality", "Quality against energy", words, figures=found),) if found else ()


def _method(comparison: Comparison | None, stored: Sequence[StoredRun]) -> Section | None:
    if comparison is None:
        return None
    notes = tuple(told(note, 400) for note in words.remarks(comparison)[:60])
    return Section("method", "How it was compared", (comparison.method,), after=notes)
