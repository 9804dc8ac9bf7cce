"""The figures, drawn by matplotlib: data in, `Figure` out. `plot` writes them, and pages hold some as SVG.

`Figure` without pyplot, no setting outlives a call, and the same data give the same bytes (`style`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from energyprof.reports import style
from energyprof.reports.icicle import Block, blocks, layers_of, of_layers, of_regions
from energyprof.reports.numbers import quantity
from energyprof.reports.series import extremes
from energyprof.reports.stored import StoredRun, bands

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

_POINTS = 900  # stretches of a line, two points each: more than a figure has pixels
ERRORS = (
    ("u_tick_j", "ticks"),
    ("u_sampling_j", "sampling"),
    ("u_regression_j", "regression"),
    ("u_model_j", "model"),
    ("u_gain_j", "gain of the meter"),
)


class NothingToDraw(ValueError):
    """The runs have no such data; the message says which, and what would make them."""


def power(runs: Sequence[StoredRun]) -> Figure:
    """Power over time, a panel a run: a line a channel that counts in the total, and the run's phases as bands."""
    shown = [stored for stored in runs if stored.series]
    if not shown:
        raise NothingToDraw("no readings of these runs are in the dataset, or none of a meter")
    made = style.figure(8.0, 1.0 + 2.1 * len(shown))
    top = max(float(np.nanmax(one.watts)) for stored in shown for one in stored.series)
    longest = max(one.end_s for stored in shown for one in stored.series)
    first: Axes | None = None
    for place, stored in enumerate(shown):
        drawn = style.axes(made, len(shown), 1, place + 1, sharex=first, sharey=first)
        first = first or drawn
        _bands(drawn, stored, longest)
        counted = [one for one in stored.series if one.in_total]
        for one, rank in zip(counted, style.ranks([one.channel for one in counted])):
            seconds, watts = extremes(one, _POINTS)
            drawn.plot(
                seconds,
                watts,
                color=style.CYCLE[rank],
                linestyle=style.DASHES[rank],
                linewidth=1.1,
                label=one.channel + (" (modelled)" if one.modelled else ""),
            )
        style.grid(drawn, "y")
        style.words(drawn, _title(stored.run), "time, s" if place == len(shown) - 1 else "", "power, W")
        drawn.set_xlim(0, longest)
        drawn.set_ylim(0, 1.15 * top)
        _legend(drawn)
    return made


def _bands(drawn: Axes, stored: StoredRun, longest: float) -> None:
    for number, band in enumerate(bands(stored)):
        drawn.axvspan(
            band.begin_s, band.end_s, color=style.GREY, alpha=0.22 if number % 2 else 0.10, linewidth=0
        )
        if band.end_s - band.begin_s > 0.04 * longest:
            middle = (band.begin_s + band.end_s) / 2
            drawn.annotate(
                style.plain(band.name, 14),
                (middle, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, -9),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=style.INK,
            )


def _legend(drawn: Axes) -> None:
    from matplotlib.legend import Legend

    made = drawn.legend(
        fontsize=8.5,
        frameon=False,
        labelcolor=style.INK,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=4,
    )
    assert isinstance(made, Legend)


def _title(run: Row) -> str:
    return str(run["name"] or "run")


def icicle(runs: Sequence[StoredRun]) -> Figure:
    """Where the energy of one run went: its regions, and the layers of its model."""
    (stored,) = _only(runs, "icicle")
    parts: list[tuple[str, list[Block]]] = []
    found = blocks(of_regions(stored.run, stored.regions))
    if found:
        parts.append((f"{_title(stored.run)}: energy by region", found))
    layers = layers_of(stored.layers)
    if layers is not None:
        found = blocks(of_layers(layers), layers.unit)
        what = {"J": "energy", "s": "time", "FLOP": "FLOPs"}[layers.unit]
        parts.append((f"{what} by layer, of one step", found))
    if not parts:
        raise NothingToDraw(
            "this run has neither regions nor layers with figures that add up; mark regions with run.region(...)"
        )
    heights = [0.7 + 0.42 * (1 + max((b.depth for b in found), default=0)) for _, found in parts]
    made = style.figure(8.0, sum(heights))
    rows = made.add_gridspec(len(parts), 1, height_ratios=heights)
    for place, (title, found) in enumerate(parts):
        drawn = style.axes(made, rows[place])
        _draw_blocks(drawn, found)
        style.words(drawn, title)
    return made


def _draw_blocks(drawn: Axes, found: Sequence[Block]) -> None:
    deepest = max((block.depth for block in found), default=0)
    for block in found:
        shade = 0.42 - 0.22 * block.depth / max(deepest, 1)
        drawn.barh(
            block.depth, block.width, 0.94, block.begin, color=(*_rgb(style.BLUE), shade), edgecolor=style.GREY,
            linewidth=0.5,
        )  # fmt: skip
        text = f"{block.name}  {quantity(block.value, block.unit)}"
        room = int(block.width * 105)
        if room >= 4:
            shown = text if len(text) <= room else style.plain(block.name, max(room, 2))
            drawn.text(
                block.begin + 0.006,
                block.depth,
                style.plain(shown),
                va="center",
                fontsize=8.5,
                color=style.INK,
            )
    drawn.set_ylim(deepest + 0.5, -0.5)
    drawn.set_xlim(0, 1)
    drawn.set_axis_off()


def _rgb(colour: str) -> tuple[float, float, float]:
    return (int(colour[1:3], 16) / 255, int(colour[3:5], 16) / 255, int(colour[5:7], 16) / 255)


def budget(runs: Sequence[StoredRun]) -> Figure:
    """What makes up the uncertainty of a run's joules: the parts of the 95 % half-width of each channel."""
    (stored,) = _only(runs, "budget")
    rows = [("total", stored.run), *((c["channel"], c) for c in stored.channels if c["in_total"])]
    rows = [(name, row) for name, row in rows if row["energy_j"]]
    if not rows:
        raise NothingToDraw("this run has no energy, and so no uncertainty of it")
    made = style.figure(8.0, 1.1 + 0.62 * len(rows))
    drawn = style.axes(made)
    high = 0.8 / len(ERRORS)
    for place, (column, label) in enumerate(ERRORS):
        shares = [100 * (row[column] or 0.0) / row["energy_j"] for _, row in rows]
        if not any(shares):
            continue
        at = np.arange(len(rows)) - 0.4 + high * (place + 0.5)
        drawn.barh(at, shares, 0.9 * high, color=style.CYCLE[place], label=label, hatch=_HATCHES[place],
                   edgecolor=style.INK, linewidth=0.3)  # fmt: skip
    for place, (_, row) in enumerate(rows):
        whole = 100 * (row["u95_j"] or 0.0) / row["energy_j"]
        drawn.plot([whole, whole], [place - 0.42, place + 0.42], color=style.INK, linewidth=1.4)
        drawn.annotate(f" ±{whole:.2g} %", (whole, place), va="center", fontsize=8.5, color=style.INK)
    drawn.set_yticks(range(len(rows)), [style.plain(name, 20) for name, _ in rows])
    drawn.set_ylim(len(rows) - 0.5, -0.5)
    drawn.margins(x=0.14)
    style.grid(drawn, "x")
    style.words(drawn, f"{_title(stored.run)}: error budget", "95 % half-width, % of the energy")
    drawn.legend(fontsize=8.5, frameon=False, labelcolor=style.INK, loc="best")
    return made


_HATCHES = ("", "///", "...", "xx", "\\\\\\")


def breakdown(runs: Sequence[StoredRun]) -> Figure:
    """The joules of each run by channel and method: what was modelled is hatched."""
    shown = [stored for stored in runs if any(c["in_total"] and c["energy_j"] for c in stored.channels)]
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
        drawn.barh(
            range(len(shown)), values, 0.6, left, color=style.CYCLE[rank], label=f"{name}, {'/'.join(methods)}",
            hatch="///" if "modelled" in methods else "", edgecolor=style.INK, linewidth=0.3, alpha=0.85,
        )  # fmt: skip
        left = left + values
    u95 = [(s.run["u95_j"] or 0.0) / scale for s in shown]
    drawn.errorbar(left, range(len(shown)), xerr=u95, fmt="none", ecolor=style.INK, elinewidth=1.0, capsize=3)
    drawn.set_yticks(range(len(shown)), [style.plain(_title(s.run), 28) for s in shown])
    drawn.set_ylim(len(shown) - 0.4, -0.6)
    style.grid(drawn, "x")
    style.words(drawn, "Energy by meter", f"energy, {prefix}J, with its 95 % interval")
    drawn.legend(
        fontsize=8.5,
        frameon=False,
        labelcolor=style.INK,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=3,
    )
    return made


def _prefix(value: float) -> tuple[float, str]:
    return next(((s, p) for s, p in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= s), (1.0, ""))


def forest(comparison: Any) -> Figure:
    """Ratios to the baseline with their 95 % intervals, a line a metric and group."""
    effects = [e for e in comparison.effects if e.ratio is not None]
    if not effects:
        raise NothingToDraw("no metric of these runs can be compared; each group needs runs that have it")
    made = style.figure(8.0, 1.1 + 0.36 * len(effects))
    drawn = style.axes(made)
    ends = [100 * (x - 1) for e in effects for x in (e.ratio, e.ratio_lo, e.ratio_hi) if x is not None]
    for place, effect in enumerate(effects):
        at = 100 * (effect.ratio - 1)
        lo = 100 * ((effect.ratio_lo or effect.ratio) - 1)
        hi = 100 * ((effect.ratio_hi or effect.ratio) - 1)
        sure = effect.verdict in ("less", "more")
        good = effect.verdict == effect.better
        colour = (style.LESS if good else style.MORE) if sure else style.GREY
        drawn.plot([lo, hi], [place, place], color=colour, linewidth=2.0)
        drawn.plot([at], [place], marker="s" if sure else "o", markersize=6, color=colour,
                   markerfacecolor=colour if sure else "none")  # fmt: skip
        drawn.annotate(
            f"{at:+.1f} % ({lo:+.1f} to {hi:+.1f}), {effect.verdict}",
            (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8.5, color=style.INK,
        )  # fmt: skip
    drawn.axvline(0.0, color=style.INK, linewidth=0.8)
    many = len({e.group for e in effects}) > 1
    drawn.set_yticks(
        range(len(effects)),
        [style.plain(f"{e.metric}, {e.group}" if many else str(e.metric), 40) for e in effects],
    )
    drawn.set_ylim(len(effects) - 0.5, -0.5)
    span = max(*map(abs, ends), 1.0) * 1.1
    drawn.set_xlim(min(-span * 0.2, 1.1 * min(ends)), max(span * 0.2, 1.1 * max(ends)))
    style.grid(drawn, "x")
    style.words(drawn, f"Against {comparison.groups[0].label}", "change, %, with its 95 % interval")
    return made


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
    made = style.figure(5.2, 3.6)
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
    better_is = "higher" if better == "more" else "lower"
    style.words(drawn, "", f"energy, {prefix}J", f"{style.plain(quality, 24)} ({better_is} is better)")
    drawn.legend(fontsize=8.5, frameon=False, labelcolor=style.INK)
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
            "these runs hold no forecast; energyprof stores one where the number of steps is known"
        )
    made = style.figure(8.0, 1.2 + 0.5 * len(known))
    drawn = style.axes(made)
    scale, prefix = _prefix(max(s.run["forecast_energy_j"] for s in known))
    for place, stored in enumerate(known):
        run = stored.run
        low, high = run.get("forecast_lo_j"), run.get("forecast_hi_j")
        if low is not None and high is not None:
            drawn.plot([low / scale, high / scale], [place, place], color=style.BLUE, linewidth=2.0)
        drawn.plot([run["forecast_energy_j"] / scale], [place], "o", color=style.BLUE, label="forecast")
        if run["energy_j"] is not None:
            drawn.plot([run["energy_j"] / scale], [place], "|", color=style.INK, markersize=16, label="drawn")
    drawn.set_yticks(range(len(known)), [style.plain(_title(s.run), 28) for s in known])
    drawn.set_ylim(len(known) - 0.5, -0.5)
    style.grid(drawn, "x")
    style.words(drawn, "Forecast and what was drawn", f"energy, {prefix}J")
    return made


def _only(runs: Sequence[StoredRun], kind: str) -> Sequence[StoredRun]:
    if len(runs) != 1:
        raise NothingToDraw(f"{kind} is of one run; {len(runs)} were named")
    return runs


OF_RUNS: Mapping[str, Callable[[Sequence[StoredRun]], Figure]] = {
    "power": power,
    "icicle": icicle,
    "budget": budget,
    "breakdown": breakdown,
    "forecast": forecast,
}
KINDS = {
    "power": "power over time by meter, with the run's phases; a panel a run",
    "icicle": "where the energy of one run went: regions, and layers",
    "forest": "ratios of two and more runs or groups with their intervals",
    "pareto": "quality (a logged metric) against energy, with the front",
    "budget": "the parts of the uncertainty of one run's joules",
    "breakdown": "joules by meter and method",
    "forecast": "what was forecast, and what was drawn",
}
