"""When to start a run of a known length so that it emits the least, by a series of intensities.

The grams of a run that draws the same power all the time are its power times the integral of the intensity over
its window. As the start moves, that integral is piecewise linear with corners where the window's begin or end
crosses a mark of the series: its least value, its greatest and its mean over all starts are found exactly by looking
at those corners alone. Windows that touch a hole of the series are no candidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energyprof.carbon.series import Floats, Series

_SLACK_S = 1e-3  # seconds since 1970 are exact to some 1e-7 in a float64; shorter holes are none


@dataclass(frozen=True)
class Window:
    """A run's time, in seconds since 1970, and the mean intensity over it."""

    begin_s: float
    end_s: float
    g_per_kwh: float


@dataclass(frozen=True)
class Choice:
    """The greenest and the worst of all possible windows, the earliest one, and the mean over all starts.

    `saved` is the share of the earliest window's emissions that the greenest one saves; 0 where they are equal.
    """

    greenest: Window
    worst: Window
    earliest: Window
    mean_g_per_kwh: float

    @property
    def saved(self) -> float:
        first = self.earliest.g_per_kwh
        return 1.0 - self.greenest.g_per_kwh / first if first > 0 else 0.0

    @property
    def saved_g_per_kwh(self) -> float:
        return max(0.0, self.earliest.g_per_kwh - self.greenest.g_per_kwh)


def choose(series: Series, duration_s: float, not_before_s: float = -math.inf) -> Choice:
    """Find the greenest start of a run of `duration_s` seconds that lies wholly within the series.

    Parameters
    ----------
    not_before_s : starts before it (now, say) are no candidates, in seconds since 1970.

    Raises
    ------
    ValueError
        With one line: no window of that length is covered by the series.
    """
    if not 0 < duration_s < math.inf:
        raise ValueError(f"a run of {duration_s:g} s has no greenest start; its length is above zero")
    starts = _corners(series, duration_s, not_before_s)
    covered = series.covered_s(starts, starts + duration_s)
    fits = covered >= duration_s - _SLACK_S
    if not fits.any():
        raise ValueError(_why(series, duration_s, not_before_s))
    areas = series.cumulative(starts + duration_s) - series.cumulative(starts)
    mean = areas / duration_s
    good = np.where(fits, mean, math.inf)
    best, worst = int(np.argmin(good)), int(np.argmax(np.where(fits, mean, -math.inf)))
    first = int(np.argmax(fits))

    def window(at: int) -> Window:
        return Window(float(starts[at]), float(starts[at] + duration_s), float(mean[at]))

    return Choice(window(best), window(worst), window(first), _mean(series, starts, mean, fits, duration_s))


def _corners(series: Series, duration_s: float, not_before_s: float) -> Floats:
    """Every start at which the window's begin or end is on a mark of the series, ascending."""
    edges = series.edges_s
    earliest = max(float(edges[0]), not_before_s)
    latest = float(edges[-1]) - duration_s
    marks = np.concatenate((edges, edges - duration_s, [earliest]))
    return np.unique(marks[(marks >= earliest) & (marks <= latest)])


def _mean(series: Series, starts: Floats, mean: Floats, fits: NDArray[np.bool_], duration_s: float) -> float:
    """The mean over all starts that fit; between two neighbours that do, it is straight."""
    if len(starts) < 2:
        return float(mean[fits][0])
    middles = (starts[1:] + starts[:-1]) / 2
    between = fits[1:] & fits[:-1]
    between &= series.covered_s(middles, middles + duration_s) >= duration_s - _SLACK_S
    widths = np.where(between, np.diff(starts), 0.0)
    if not widths.sum() > 0:
        return float(mean[fits].mean())
    return float((widths * (mean[1:] + mean[:-1]) / 2).sum() / widths.sum())


def _why(series: Series, duration_s: float, not_before_s: float) -> str:
    hours, long = duration_s / 3600, (series.end_s - float(series.begin_s[0])) / 3600
    if not_before_s > series.end_s - duration_s and hours <= long:
        return f"the series ends before a run of {hours:.3g} h could; give one that reaches further"
    if hours > long:
        return f"the series covers {long:.3g} h, the run lasts {hours:.3g} h; give a longer series"
    return f"the series has holes, and none of its unbroken parts holds a run of {hours:.3g} h"
