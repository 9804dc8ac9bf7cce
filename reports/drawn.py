"""Figures for a page: drawn where the runs have what they show, as SVG that the page holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from energyprof.reports import figures, style
from energyprof.reports.drawable import NothingToDraw
from energyprof.reports.parts import Figure
from energyprof.reports.series import extremes_grid
from energyprof.reports.stored import Steps, StoredRun

if TYPE_CHECKING:
    import matplotlib.figure

_STRETCHES = 3600  # of all lines of a page together, two points each: 250 kB of SVG
_FEWEST, _MOST = 60, 900


def drawn(name: str, caption: str, draw: Callable[[], matplotlib.figure.Figure]) -> tuple[Figure, ...]:
    """The figure, or none where the runs do not have its data."""
    import warnings

    try:
        with warnings.catch_warnings():
            # A letter that the font lacks: the page writes the text, and in the reader's font.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            return (Figure(name, style.inlined(draw(), name, caption), caption),)
    except NothingToDraw:
        return ()


def power(runs: Sequence[StoredRun], groups: Sequence[int]) -> tuple[Figure, ...]:
    """Power over time, a panel a run, with no more points than a page of this size can show."""
    lines = sum(len(stored.series) for stored in runs)
    if not lines:
        return ()
    most = int(np.clip(_STRETCHES // lines, _FEWEST, _MOST))
    light = [
        replace(stored, series=tuple(extremes_grid(one, most) for one in stored.series)) for stored in runs
    ]
    what = "Power over time by meter" + (", a panel a run" if len(runs) > 1 else ", and the run's phases")
    return drawn("power-figure", what, lambda: figures.power(light, groups))


def steps(found: Steps, name: str) -> tuple[Figure, ...]:
    """Joules of each step, or its seconds where no step has joules; a band from least to greatest."""
    known = np.isfinite(found.energy_j)
    enough = known.sum() >= max(2, 0.5 * len(known))
    values, unit = (found.energy_j[known], "J") if enough else (found.duration_s, "s")
    if len(values) < 2:
        return ()

    def draw() -> Any:
        made = style.figure(8.0, 2.2)
        axes = style.axes(made)
        parts = np.array_split(values, min(len(values), 400))
        at = np.cumsum([0, *(len(part) for part in parts[:-1])])
        low, middle, high = ([f(part) for part in parts] for f in (np.min, np.median, np.max))
        if len(values) > 400:
            axes.fill_between(at, low, high, color=style.BLUE, alpha=0.2, linewidth=0)
        axes.plot(at, middle, color=style.BLUE, linewidth=1.0)
        axes.set_ylim(0, 1.1 * float(np.max(values)) or 1.0)
        axes.set_xlim(-0.01 * len(values), 1.01 * (len(values) - 1))
        style.grid(axes, "y")
        style.words(axes, name, "step", "energy, J" if unit == "J" else "time, s")
        return made

    return drawn("steps-figure", "Energy of each step" if unit == "J" else "Time of each step", draw)
