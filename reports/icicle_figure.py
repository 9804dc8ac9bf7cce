"""Icicles as figures: where the energy of a run went, and where two groups differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from energyprof.reports import style
from energyprof.reports.drawable import NothingToDraw, names_of, only
from energyprof.reports.icicle import Block, blocks, layers_of, of_layers, of_regions, totals
from energyprof.reports.numbers import changed, clean, energy, quantity
from energyprof.reports.stored import StoredRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDE, _ROW, _TITLE = 8.0, 0.42, 0.7  # inches
_SIZE = 8.5  # points, of the texts in blocks
_FULL = 0.3  # the change that has the full colour
_SOURCES = {"replayed": "each repeated alone", "in_place": "timed in place", "counted": "counted"}
_MEASURED = {"J": "energy", "s": "time", "FLOP": "FLOPs"}


def icicle(runs: Sequence[StoredRun]) -> Figure:
    """Where the energy of one run went: its regions, and the layers of its model."""
    (stored,) = only(runs, "icicle")
    run = stored.run
    parts: list[tuple[str, list[Block], Mapping[str, float | None]]] = []
    regions = blocks(of_regions(run, stored.regions))
    if regions:
        known = {row["region"]: row["u95_j"] for row in totals(run, stored.regions)}
        method = " (modelled)" if run["method"] == "modelled" else ""
        title = f"{names_of(runs)[0]}: energy by region{method}, ± 95 %"
        parts.append((title, regions, {"": run["u95_j"], **known}))
    layers = layers_of(stored.layers)
    if layers is not None:
        known = {row["name"]: row.get("u95_j") if layers.unit == "J" else None for row in layers.rows}
        title = f"{_MEASURED[layers.unit]} by layer, of one step ({_SOURCES[layers.source]})"
        parts.append((title, blocks(of_layers(layers), layers.unit), known))
    if not parts:
        raise NothingToDraw(
            "this run has neither regions nor layers with figures that add up; mark regions with run.region(...)"
        )
    heights = [_TITLE + _ROW * (1 + _deepest(found)) for _, found, _ in parts]
    made = style.figure(_WIDE, sum(heights))
    rows = made.add_gridspec(len(parts), 1, height_ratios=heights)
    for place, (title, found, intervals) in enumerate(parts):
        drawn = style.axes(made, rows[place])
        _draw(drawn, found, [_texts(block, intervals.get(block.path)) for block in found], _by_depth)
        style.words(drawn, style.fitting(title, 10.5, _WIDE - 0.4))
    return made


def changes(found: Sequence[Block]) -> Figure:
    """The regions of a group, coloured by their change against the baseline."""
    if not found:
        raise NothingToDraw("no region of both groups has joules")
    made = style.figure(_WIDE, 0.4 + _ROW * (1 + _deepest(found)))
    texts = []
    for block in found:
        change = changed(block.change)
        texts.append((f"{clean(block.name)}  {change}", change, ""))
    _draw(style.axes(made), found, texts, _by_change)
    return made


def _draw(
    drawn: Axes,
    found: Sequence[Block],
    texts: Sequence[Sequence[str]],
    colour: Callable[[Block, int], tuple[str, float]],
) -> None:
    """Blocks in rows, each with the first of its texts that there is room for; the last of them is cut to fit."""
    deepest = _deepest(found)
    for block, (*longer, last) in zip(found, texts):
        shade, opacity = colour(block, deepest)
        drawn.barh(
            block.depth, block.width, 0.94, block.begin, color=(*_rgb(shade), opacity), edgecolor=style.GREY,
            linewidth=0.5,
        )  # fmt: skip
        room = (_WIDE - 0.25) * block.width - 0.1
        text = next((one for one in longer if style.width_of(one, _SIZE) <= room), None)
        text = style.fitting(last, _SIZE, room) if text is None else text
        if text:
            drawn.text(
                block.begin + 0.006, block.depth, style.plain(text, 200), va="center", fontsize=_SIZE, color=style.INK
            )  # fmt: skip
    drawn.set_ylim(deepest + 0.5, -0.5)
    drawn.set_xlim(-0.002, 1.002)
    drawn.set_axis_off()


def _deepest(found: Sequence[Block]) -> int:
    return max((block.depth for block in found), default=0)


def _texts(block: Block, u95: float | None) -> tuple[str, ...]:
    """The name with the figure and its interval, with the figure alone, by itself."""
    name = clean(block.name)
    value = energy(block.value, u95, unit=block.unit)
    return f"{name}  {value}", f"{name}  {quantity(block.value, block.unit, 2 if u95 else 3)}", name


def _by_depth(block: Block, deepest: int) -> tuple[str, float]:
    return style.BLUE, 0.42 - 0.22 * block.depth / max(deepest, 1)


def _by_change(block: Block, deepest: int) -> tuple[str, float]:
    change = block.change or 0.0
    strength = min(1.0, abs(change) / _FULL)
    return style.LESS if change < 0 else style.MORE, 0.04 + 0.4 * strength


def _rgb(colour: str) -> tuple[float, float, float]:
    return (int(colour[1:3], 16) / 255, int(colour[3:5], 16) / 255, int(colour[5:7], 16) / 255)
