"""The pictures of docs/accuracy.md, drawn from the latest results.

python benchmarks/plots.py [--accuracy FILE] [--coverage FILE]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
IMAGES = HERE.parent / "docs/images"
# Okabe and Ito's colours, told apart by colour-blind readers; and a shape for each, for print.
STYLES = {
    "energyprof": ("#0072B2", "o"),
    "zeus": ("#D55E00", "s"),
    "zeus approx": ("#CC79A7", "D"),
    "two reads": ("#999999", "v"),
    "codecarbon": ("#009E73", "^"),
    "carbontracker": ("#E69F00", "P"),
}
NAMES = {
    "energyprof": "energyprof", "zeus": "Zeus", "zeus approx": "Zeus, approx_instant_energy",
    "two reads": "two counter reads", "codecarbon": "CodeCarbon", "carbontracker": "carbontracker",
}  # fmt: skip
GREY = "#555555"


def latest(name: str) -> Path:
    """The newest result of a benchmark."""
    return sorted((HERE / "results").glob(f"*-{name}.json"))[-1]


def saved(figure: Figure, name: str) -> None:
    """The same bytes for the same numbers."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    FigureCanvasSVG(figure)
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})


def axes(figure: Figure, place: tuple[int, int, int], title: str) -> Axes:
    ax = figure.add_subplot(*place)
    ax.set_title(title, loc="left", fontsize=10, color="#222222")
    ax.grid(True, which="major", color="#e4e4e4", linewidth=0.8)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.tick_params(labelsize=8, colors=GREY)
    return ax


def lines(ax: Axes, points: dict[str, list[tuple[float, float, float]]], floor: float) -> None:
    """A line a tool: median of the trials, with its worst as a whisker; x, median, worst."""
    for number, (tool, found) in enumerate(points.items()):
        color, marker = STYLES[tool]
        # Side by side, so that whiskers do not hide each other.
        shift = 1.0 + 0.03 * (number - len(points) / 2)
        x = [p[0] * shift for p in sorted(found)]
        middle, worst = [max(p[1], floor) for p in sorted(found)], [max(p[2], floor) for p in sorted(found)]
        ax.vlines(x, middle, worst, color=color, linewidth=1.2, alpha=0.5)
        ax.plot(x, middle, color=color, marker=marker, markersize=5, linewidth=1.6, label=NAMES[tool])


def by_length(data: dict[str, Any]) -> Figure:
    """Error of the regions against their length: those of 620 W, and the longer ones of 140 W."""
    figure = Figure(figsize=(8.2, 4.0), layout="constrained")
    for place, (name, title, factor) in enumerate(
        (("gpu:0 a", "busy region, 620 W", 1.0), ("gpu:0 b", "idle region, 140 W", 1.5)), start=1
    ):
        ax = axes(figure, (1, 2, place), title)
        points: dict[str, list[tuple[float, float, float]]] = {}
        for case, tools in data.get("regions", {}).items():
            if not case.endswith("lag 20 ms"):
                continue
            length = float(case.split()[0]) * factor
            for tool, table in tools.items():
                row = table.get(name, {})
                if "median_abs_pct" in row:
                    points.setdefault(tool, []).append((length, row["median_abs_pct"], row["worst_abs_pct"]))
        lines(ax, points, 0.03)
        ax.set(xscale="log", yscale="log")
        ax.set_xticks([2 * factor, 5 * factor, 10 * factor, 30 * factor, 150 * factor])
        ax.set_xticklabels([f"{ms * factor:g}" for ms in (2, 5, 10, 30, 150)])
        ax.minorticks_off()
        ax.set_yticks([0.1, 1, 10, 100])
        ax.set_yticklabels(["0.1 %", "1 %", "10 %", "100 %"])
        ax.set_ylim(0.03, 400)
        ax.set_xlabel("length of the region, ms (power lags by 20 ms)", fontsize=9, color=GREY)
        if place == 1:
            ax.set_ylabel("error: median, and worst of the trials", fontsize=9, color=GREY)
            handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def by_window(data: dict[str, Any]) -> Figure:
    """Error of whole windows against their length."""
    figure = Figure(figsize=(8.2, 4.0), layout="constrained")
    titles = (("burst", "idle before and after"), ("busy", "begun and ended in mid-load"))
    for place, (mode, title) in enumerate(titles, start=1):
        ax = axes(figure, (1, 2, place), title)
        points: dict[str, list[tuple[float, float, float]]] = {}
        for case, tools in data.get("windows", {}).items():
            if not case.startswith(mode):
                continue
            for tool, table in tools.items():
                row = table.get("gpu:0", {})
                if "median_abs_pct" in row:
                    seconds = float(case.split()[1])
                    points.setdefault(tool, []).append((seconds, row["median_abs_pct"], row["worst_abs_pct"]))
        lines(ax, points, 0.001)
        ax.set(xscale="log", yscale="log")
        ax.set_xticks([0.3, 1, 3, 10, 30])
        ax.set_xticklabels(["0.3", "1", "3", "10", "30"])
        ax.minorticks_off()
        ax.set_yticks([0.001, 0.01, 0.1, 1, 10, 100])
        ax.set_yticklabels(["0.001 %", "0.01 %", "0.1 %", "1 %", "10 %", "100 %"])
        ax.set_ylim(0.001, 150)
        ax.set_xlabel("length of the window, s", fontsize=9, color=GREY)
        if place == 1:
            ax.set_ylabel("error: median, and worst of the trials", fontsize=9, color=GREY)
            handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return figure


def by_stratum(data: dict[str, Any]) -> Figure:
    """How many intervals hold the truth, and how wide they are."""
    figure = Figure(figsize=(8.2, 4.4), layout="constrained")
    left, right = (
        axes(figure, (1, 2, 1), "intervals that hold the truth"),
        axes(figure, (1, 2, 2), "half-width"),
    )
    for meter, name, row, place in rows(data):
        color, marker = {
            "counter": ("#0072B2", "o"), "counter and gauge": ("#D55E00", "s"), "gauge alone": ("#009E73", "^"),
        }[meter]  # fmt: skip
        label = meter if name == "all" else None
        left.plot([row["covered_pct"]], [place], marker=marker, color=color, markersize=6, label=label)
        right.plot([row["median_half_width_pct"]], [place], marker=marker, color=color, markersize=6)
    names = list(data["counter"])
    for ax in (left, right):
        ax.set_yticks(range(len(names)))
        ax.set_yticklabels(names if ax is left else [])
        ax.invert_yaxis()
    left.axvspan(93, 97, color="#0072B2", alpha=0.08)
    left.axvline(95, color=GREY, linewidth=0.8, linestyle=":")
    left.set_xlim(65, 100)
    left.set_xticks([70, 80, 90, 95, 100])
    left.set_xlabel("% of the regions (shaded: 93 to 97)", fontsize=9, color=GREY)
    right.set_xscale("log")
    right.set_xlim(0.8, 30)
    right.set_xticks([1, 2, 5, 10, 20])
    right.set_xticklabels(["1 %", "2 %", "5 %", "10 %", "20 %"])
    right.minorticks_off()
    right.set_xlabel("median half-width of the 95 % interval", fontsize=9, color=GREY)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def rows(data: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any], float]]:
    for offset, meter in enumerate(("counter", "counter and gauge", "gauge alone")):
        for place, (name, row) in enumerate(data.get(meter, {}).items()):
            yield meter, name, row, place + 0.2 * (offset - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--accuracy", type=Path, default=None)
    parser.add_argument("--coverage", type=Path, default=None)
    options = parser.parse_args()
    accuracy = json.loads((options.accuracy or latest("accuracy")).read_text())
    coverage = json.loads((options.coverage or latest("coverage")).read_text())
    saved(by_length(accuracy), "accuracy-regions")
    saved(by_window(accuracy), "accuracy-windows")
    saved(by_stratum(coverage), "coverage")


if __name__ == "__main__":
    main()
