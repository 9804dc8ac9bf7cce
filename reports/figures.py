"""The figures, drawn by matplotlib: data in, `Figure` out. `plot` writes them, and pages hold some as SVG.

`Figure` without pyplot, no setting outlives a call, and the same data give the same bytes (`style`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from energyprof.reports import style
from energyprof.reports.compare import noun_of, span_of
from energyprof.reports.drawable import MOST_RUNS, NothingToDraw, few, names_of, only
from energyprof.reports.icicle_figure import icicle
from energyprof.reports.numbers import clean, energy, quantity, ranged
from energyprof.reports.phases import bands, phases
from energyprof.reports.series import extremes
from energyprof.reports.stored import StoredRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from energyprof.comparison import Comparison, Effect

Row = Mapping[str, Any]

_MOST_EFFECTS = 60
_ACROSS = 7.3  # inches from the least to the greatest time in a figure of 8
_COLUMNS = {1: 3, 2: 8, 3: MOST_RUNS}  # of panels: the most runs that each number of columns has
_PANEL = {1: 2.1, 2: 1.75, 3: 1.5}  # inches of a panel's height
_MANY_ROWS, _LOW_PANEL = 5, 1.4
_LEGEND = 5  # columns of the legend above many panels
_POINTS = 900  # stretches of a line, two points each: more than a figure has pixels
ERRORS = (
    ("u_tick_j", "ticks"),
    ("u_sampling_j", "sampling"),
    ("u_regression_j", "regression"),
    ("u_model_j", "model"),
    ("u_gain_j", "gain of the meter"),
)


def power(runs: Sequence[StoredRun], groups: Sequence[int] = ()) -> Figure:
    """Power over time, a panel a run: a line a channel that counts in the total, and the run's phases as bands.

    Parameters
    ----------
    groups
        Of each run the number of its group: two or three groups are a column each.
    """
    kept = [(stored, group) for stored, group in zip_longest(runs, groups) if stored.series]
    shown = few([stored for stored, _ in kept], "power")
    if not shown:
        raise NothingToDraw("no readings of these runs are in the dataset, or none of a meter")
    names = names_of(shown)
    places, rows, columns = _places([group for _, group in kept])
    high = 1.0 + (_PANEL[columns] if rows <= _MANY_ROWS else _LOW_PANEL) * rows
    made = style.figure(8.0, high, laid_out=len(shown) == 1)
    top = max(float(np.nanmax(one.watts)) for stored in shown for one in stored.series)
    longest = max(one.end_s for stored in shown for one in stored.series)
    for place, stored in enumerate(shown):
        drawn = style.axes(made, rows, columns, places[place] + 1)
        _bands(drawn, stored, longest, _ACROSS / columns)
        counted = [one for one in stored.series if one.in_total]
        for one, rank in zip(counted, style.ranks([one.channel for one in counted])):
            seconds, watts = extremes(one, _POINTS)
            drawn.plot(
                seconds,
                watts,
                color=style.CYCLE[rank],
                linestyle=style.DASHES[rank],
                linewidth=1.1,
                label=style.plain(clean(one.channel), 24) + (" (modelled)" if one.modelled else ""),
            )
        style.grid(drawn, "y")
        below, left = places[place] + columns in places, places[place] % columns
        style.words(
            drawn,
            _titled(names[place], 0.95 * _ACROSS / columns),
            "" if below else "time, s",
            "" if left else "power, W",
        )
        drawn.tick_params(labelleft=not left)
        if below:
            drawn.set_xticks([])  # the lowest panel of the column has them
        drawn.set_xlim(0, longest)
        drawn.set_ylim(0, 1.2 * top or 1.0)
    if len(shown) == 1:
        _legend(made.axes[0])
    else:
        above = _legend_of_all(made)
        edge = 0.42 + max(style.width_of(text, 9) for text in ("0.00", f"{1.2 * top:.0f}"))
        style.placed(made, rows, columns, (edge, 0.12, 0.5, 0.32 + above), (0.28, 0.42))
    return made


def _titled(name: str, room: float) -> str:
    """A run's name as there is room for, in inches; what tells it from others stands at its end and is not cut."""
    head, comma, end = name.rpartition(", ")
    cut = style.fitting(head, 10.5, room - style.width_of(comma + end, 10.5)) if comma else ""
    return cut + comma + end if cut else style.fitting(name, 10.5, room)


def _places(groups: Sequence[int | None]) -> tuple[list[int], int, int]:
    """Where each panel stands in the grid, counted by rows; its rows and columns."""
    apart = list(dict.fromkeys(groups))
    if len(apart) in (2, 3) and len(groups) > len(apart):
        places = [groups[:i].count(group) * len(apart) + apart.index(group) for i, group in enumerate(groups)]
        return places, max(places) // len(apart) + 1, len(apart)
    columns = next(n for n, most in _COLUMNS.items() if len(groups) <= most)
    return list(range(len(groups))), -(-len(groups) // columns), columns


def _legend_of_all(made: Figure) -> float:
    """Above all panels, each line once; how many inches it takes."""
    found: dict[str, Any] = {}
    for drawn in made.axes:
        for handle, label in zip(*drawn.get_legend_handles_labels()):
            found.setdefault(label, handle)
    made.legend(
        handles=list(found.values()), labels=list(found), fontsize=8.5, frameon=False, labelcolor=style.INK,
        loc="upper right", ncols=_LEGEND, borderaxespad=0.3,
    )  # fmt: skip
    return 0.1 + 0.19 * -(-len(found) // _LEGEND)


def _bands(drawn: Axes, stored: StoredRun, longest: float, across: float) -> None:
    found = bands(phases(stored.calls))
    _shade(drawn, [(band.begin_s, band.end_s) for band in found])
    for band in found:
        room = across * (band.end_s - band.begin_s) / longest
        name = style.fitting(clean(band.name), 8, 0.92 * room)
        if name:
            drawn.annotate(
                style.plain(name),
                ((band.begin_s + band.end_s) / 2, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, -10),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=style.INK,
            )


def _shade(drawn: Axes, spans: Sequence[tuple[float, float]]) -> None:
    """Stretches of time in two greys in turn, each grey as one artist: with hundreds, a page takes seconds longer."""
    over_all = drawn.get_xaxis_transform()
    for first, alpha in enumerate((0.10, 0.22)):
        bars = [(begin, end - begin) for begin, end in spans[first::2]]
        if bars:
            drawn.broken_barh(bars, (0, 1), transform=over_all, color=style.GREY, alpha=alpha, linewidth=0)


def _legend(drawn: Axes, columns: int = 4) -> None:
    """Above the axes at the right, where no data can be."""
    if drawn.get_legend_handles_labels()[0]:
        drawn.legend(
            fontsize=8.5,
            frameon=False,
            labelcolor=style.INK,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=columns,
        )


def budget(runs: Sequence[StoredRun]) -> Figure:
    """What makes up the uncertainty of a run's joules: the parts of the 95 % half-width of each channel."""
    (stored,) = only(runs, "budget")
    rows = [("total", stored.run), *((c["channel"], c) for c in stored.channels if c["in_total"])]
    rows = [(name, row) for name, row in rows if row["energy_j"]]
    if not rows:
        raise NothingToDraw("this run has no energy, and so no uncertainty of it")
    parts = [error_parts(row) for _, row in rows]
    there = [label for _, label in ERRORS if any(part[label] for part in parts)]
    made = style.figure(8.0, 1.2 + (0.25 + 0.15 * max(2, len(there))) * len(rows))
    drawn = style.axes(made)
    high = 0.8 / max(1, len(there))
    labels = [label for _, label in ERRORS]
    for place, label in enumerate(there):
        shares = [100 * part[label] / row["energy_j"] for part, (_, row) in zip(parts, rows)]
        at = np.arange(len(rows)) - 0.4 + high * (place + 0.5)
        kind = labels.index(label)
        drawn.barh(at, shares, 0.9 * high, color=style.CYCLE[kind], label=label, hatch=_HATCHES[kind],
                   edgecolor=style.INK, linewidth=0.3, alpha=0.85)  # fmt: skip
    for place, (_, row) in enumerate(rows):
        whole = 100 * (row["u95_j"] or 0.0) / row["energy_j"]
        drawn.plot([whole, whole], [place - 0.42, place + 0.42], color=style.INK, linewidth=1.4)
        text = f"±{float(f'{whole:.2g}'):g} %, ±{quantity(row['u95_j'] or 0.0, 'J', 2)}"
        _beside(drawn, text, whole, place)
    drawn.set_yticks(range(len(rows)), [style.plain(clean(name), 20) for name, _ in rows])
    drawn.set_ylim(len(rows) - 0.5, -0.5)
    most = max(100 * (row["u95_j"] or 0.0) / row["energy_j"] for _, row in rows)
    drawn.set_xlim(0, 1.25 * most or 1.0)
    style.grid(drawn, "x")
    title = f"{names_of(runs)[0]}: what its ± is made of"
    style.words(
        drawn, style.fitting(title, 10.5, 3.4), "95 % half-width, % of the energy; parts add in quadrature"
    )
    _legend(drawn, 5)
    return made


def _beside(drawn: Axes, text: str, x: float, y: float) -> None:
    """A figure at the right of what ends at x; the gap is no space, which a page would drop."""
    drawn.annotate(
        text, (x, y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8.5, color=style.INK
    )


def error_parts(row: Row) -> dict[str, float]:
    """The parts of a half-width, such that they make it in quadrature: where a model stands in for a meter, its
    error is in `u_gain_j` too, and is counted as the model's."""
    parts = {label: float(row[column] or 0.0) for column, label in ERRORS}
    both = parts[_GAIN]
    parts[_GAIN] = math.sqrt(max(0.0, both**2 - parts["model"] ** 2))
    if parts[_GAIN] < 1e-6 * both:
        parts[_GAIN] = 0.0
    return parts


_GAIN = ERRORS[-1][1]
_HATCHES = ("", "///", "...", "xx", "\\\\\\")


def breakdown(runs: Sequence[StoredRun]) -> Figure:
    """The joules of each run by channel and method: what was modelled is hatched."""
    shown = [stored for stored in runs if any(c["in_total"] and c["energy_j"] for c in stored.channels)]
    shown = list(few(shown, "breakdown"))
    if not shown:
        raise NothingToDraw("no channel of these runs has an energy")
    names = list(
        dict.fromkeys(c["channel"] for s in shown for c in s.channels if c["in_total"] and c["energy_j"])
    )
    made = style.figure(8.0, 1.2 + 0.4 * len(shown))
    drawn = style.axes(made)
    scale, prefix = _prefix(max(s.run["energy_j"] or 0.0 for s in shown) or 1.0)
    left = np.zeros(len(shown))
    for name, rank in zip(names, style.ranks(names)):
        rows = [next((c for c in s.channels if c["channel"] == name and c["in_total"]), None) for s in shown]
        values = np.array([(row["energy_j"] or 0.0) / scale if row else 0.0 for row in rows])
        methods = sorted({str(row["method"]) for row in rows if row})
        label = f"{style.plain(clean(name), 24)}, {'/'.join(methods)}"
        drawn.barh(
            range(len(shown)), values, 0.6, left, color=style.CYCLE[rank], label=label, alpha=0.85,
            hatch="///" if "modelled" in methods else "", edgecolor=style.INK, linewidth=0.3,
        )  # fmt: skip
        left = left + values
    u95 = np.array([(s.run["u95_j"] or 0.0) / scale for s in shown])
    drawn.errorbar(left, range(len(shown)), xerr=u95, fmt="none", ecolor=style.INK, elinewidth=1.0, capsize=3)
    for place, stored in enumerate(shown):
        text = energy(stored.run["energy_j"], stored.run["u95_j"], stored.run["reason"])
        _beside(drawn, text, left[place] + u95[place], place)
    drawn.set_yticks(range(len(shown)), [style.plain(name, 28) for name in names_of(shown)])
    drawn.set_ylim(len(shown) - 0.4, -0.6)
    drawn.set_xlim(0, 1.28 * float((left + u95).max()))
    style.grid(drawn, "x")
    style.words(drawn, "Energy by meter", f"energy, {prefix}J, with its 95 % interval")
    _legend(drawn, 3)
    return made


def _prefix(value: float) -> tuple[float, str]:
    return next(((s, p) for s, p in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= s), (1.0, ""))


def forest(comparison: Comparison) -> Figure:
    """Ratios to the baseline with their 95 % intervals, a line a metric and group."""
    effects = [(e, *_percent(e)) for e in comparison.effects if e.change is not None]
    if not effects:
        raise NothingToDraw("no metric of these runs can be compared; each group needs runs that have it")
    if len(effects) > _MOST_EFFECTS:
        raise NothingToDraw(
            f"a forest of {len(effects)} lines is too high to read: name fewer groups, or metrics with --metric"
        )
    made = style.figure(8.0, 1.1 + 0.36 * len(effects))
    drawn = style.axes(made)
    for place, (effect, at, lo, hi) in enumerate(effects):
        sure = effect.verdict in ("less", "more")
        good = effect.verdict == effect.better
        colour = (style.LESS if good else style.MORE) if sure else style.GREY
        if lo is not None and hi is not None:
            drawn.plot([lo, hi], [place, place], color=colour, linewidth=2.2)
        drawn.plot([at], [place], marker="s" if sure else "o", markersize=6, color=colour,
                   markerfacecolor=colour if sure else "none", linestyle="none")  # fmt: skip
        ends = f" ({'better' if good else 'worse'})" if sure else ""
        drawn.annotate(
            f"{span_of(effect)}, {effect.verdict}{ends}",
            (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, color=style.INK,
        )  # fmt: skip
    ends_at = [x for _, *three in effects for x in three if x is not None]
    drawn.axvline(0.0, color=style.INK, linewidth=0.8)
    many = len({effect.group for effect, *_ in effects}) > 1
    names = [noun_of(e.metric) for e, *_ in effects]
    groups = [f", {clean(e.group)}" if many else "" for e, *_ in effects]
    drawn.set_yticks(range(len(effects)), [style.plain(n + g, 32) for n, g in zip(names, groups)])
    drawn.set_ylim(len(effects) - 0.5, -0.5)
    low, high = min(ends_at), max(ends_at)
    room = 0.08 * max(high - low, abs(high), abs(low), 1.0)
    drawn.set_xlim(min(low, 0.0) - room, max(high, 0.0) + room)
    style.grid(drawn, "x")
    others = list(dict.fromkeys(clean(effect.group) for effect, *_ in effects))
    title = f"{', '.join(others)} against {clean(comparison.groups[0].label)}"
    style.words(drawn, style.fitting(title, 10.5, 5.0), "change, %, with its 95 % interval")
    return made


def _percent(effect: Effect) -> tuple[float, float | None, float | None]:
    """The change and the ends of its interval in per cent of the baseline; None where there is no interval."""
    if effect.ratio is not None:
        ends = (effect.ratio_lo, effect.ratio_hi)
        low, high = (None if end is None else 100 * (end - 1) for end in ends)
    else:
        ends, size = (effect.difference_lo, effect.difference_hi), abs(effect.baseline) or 1.0
        low, high = (None if end is None else 100 * end / size for end in ends)
    return 100 * (effect.change or 0.0), low, high


def pareto(
    points: Sequence[tuple[str, float, float, float | None]], quality: str, better: str = "more"
) -> Figure:
    """Quality against energy: a point a run with its interval, and the front that none of the others beats.

    Parameters
    ----------
    points
        Label of the group, joules, quality, and the 95 % half-width of the joules.
    quality
        The name of the metric.
    better
        Whether `more` or `less` of it is better.
    """
    if len(points) < 2:
        raise NothingToDraw("a front needs two runs that logged the same metric with run.log(...)")
    made = style.figure(6.4, 3.9)
    drawn = style.axes(made)
    scale, prefix = _prefix(max(energy for _, energy, _, _ in points))
    labels = list(dict.fromkeys(label for label, _, _, _ in points))
    for place, label in enumerate(labels):
        mine = [p for p in points if p[0] == label]
        drawn.errorbar(
            [p[1] / scale for p in mine], [p[2] for p in mine], xerr=[(p[3] or 0.0) / scale for p in mine],
            fmt=_MARKS[place % len(_MARKS)], color=style.CYCLE[place % len(style.CYCLE)], markersize=7,
            elinewidth=0.7, alpha=0.85, label=style.plain(label, 28),
        )  # fmt: skip
    front = pareto_front([(p[1], p[2]) for p in points], better)
    chosen = sorted(points[index][1:3] for index in front)
    drawn.plot(
        [p[0] / scale for p in chosen], [p[1] for p in chosen], color=style.INK, linewidth=1.0,
        linestyle=(0, (4, 2)), drawstyle="steps-post", label="front",
    )  # fmt: skip
    style.grid(drawn, "both")
    named = f"{style.plain(clean(quality), 24)} ({'higher' if better == 'more' else 'lower'} is better)"
    style.words(
        drawn,
        "",
        f"energy, {prefix}J, with 95 % intervals",
        named,
    )
    _legend(drawn, 4)
    return made


_MARKS = ("o", "s", "^", "D", "v", "P")


def pareto_front(points: Sequence[tuple[float, float]], better: str = "more") -> list[int]:
    """Which of the points (energy, quality) no other point equals or beats in both; one of equals."""
    sign = 1.0 if better == "more" else -1.0
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -sign * points[i][1]))
    front, best = [], -math.inf
    for index in order:
        value = sign * points[index][1]
        if value > best:
            front.append(index)
            best = value
    return front


def forecast(runs: Sequence[StoredRun]) -> Figure:
    """What a run was forecast to draw, with its interval, beside what it drew."""
    known = [s for s in runs if s.run.get("forecast_energy_j") is not None]
    if not known:
        raise NothingToDraw(
            "these runs hold no forecast; one is stored where the steps' total was said and enough of them ran"
        )
    known = list(few(known, "forecast"))
    made = style.figure(8.0, 1.2 + 0.5 * len(known))
    drawn = style.axes(made)
    tops = [s.run["forecast_hi_j"] or s.run["forecast_energy_j"] for s in known]
    scale, prefix = _prefix(max(tops))
    for place, stored in enumerate(known):
        run = stored.run
        value, low, high = (run[f"forecast_{name}_j"] for name in ("energy", "lo", "hi"))
        if low is not None and high is not None:
            drawn.plot([low / scale, high / scale], [place, place], color=style.BLUE, linewidth=2.4)
        drawn.plot([value / scale], [place], "o", color=style.BLUE, markersize=7,
                   label="" if place else "forecast of the whole, 90 % interval")  # fmt: skip
        if run["energy_j"] is not None:
            drawn.plot([run["energy_j"] / scale], [place], "|", color=style.INK, markersize=17,
                       markeredgewidth=1.6, label="" if place else "drawn by the steps that ran")  # fmt: skip
        text = _foretold(run, value, low, high)
        _beside(drawn, text, tops[place] / scale, place)
    drawn.set_yticks(range(len(known)), [style.plain(name, 28) for name in names_of(known)])
    drawn.set_ylim(len(known) - 0.5, -0.5)
    drawn.set_xlim(0, 1.75 * max(tops) / scale)
    style.grid(drawn, "x")
    style.words(drawn, "Forecast", f"energy, {prefix}J")
    _legend(drawn, 2)
    return made


def _foretold(run: Row, value: float, low: float | None, high: float | None) -> str:
    figure = quantity(value, "J") if low is None or high is None else ranged(value, low, high, "J")
    total, ran = run.get("steps_total"), run.get("steps")
    return figure if not total else f"{figure}; {ran or 0:,} of {total:,} steps ran"


OF_RUNS: Mapping[str, Callable[[Sequence[StoredRun]], Figure]] = {
    "power": power,
    "icicle": icicle,
    "budget": budget,
    "breakdown": breakdown,
    "forecast": forecast,
}
KINDS = ("power", "icicle", "forest", "pareto", "budget", "breakdown", "forecast")
