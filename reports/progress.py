"""How a run's steps went on over time, and the joules while they ran: what a page needs to count both in any stretch.

Two series on one grid of at most some thousand bins, however many steps there are. Between the edges of the grid both
are linear; the number of steps in a stretch is therefore not whole where a mark falls inside one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energyprof.reports.series import Series, cumulative
from energyprof.reports.stored import Steps

Floats = NDArray[np.float64]

_BETWEEN_S = 1e-3  # less than this between two steps is no gap, as in `energyprof.attribution`
_SHORT = 0.05  # of the time of all steps: so much may lie in stretches of steps that are shorter than a bin


@dataclass(frozen=True)
class Progress:
    """Steps a second, and watts that count only while a step ran; None where the plotted bins cannot tell that.

    Sums of bins times their width are steps and joules.
    """

    count: Series
    energy: Series | None


def progress(steps: Steps, series: Sequence[Series], most: int) -> Progress | None:
    """The progress of a run in at most so many bins; None without steps or without power over time.

    Parameters
    ----------
    steps
        Those of one rank. Where several loops ran at once, each moment counts for the step that began first.
    series
        The power of the run's channels, of which those in the total count.
    """
    counted = [one for one in series if one.in_total]
    if not len(steps.begin_s) or not counted:
        return None
    begin, end = _one_after_the_other(steps)
    until = max(one.end_s for one in counted)
    edges = np.linspace(0.0, until, min(most, max(len(one.watts) for one in counted)) + 1)
    width = until / (len(edges) - 1)
    ends = np.column_stack((begin, end)).ravel()
    done = np.interp(edges, ends, np.repeat(np.arange(len(begin) + 1.0), 2)[1:-1])
    count = Series("steps", 0.0, width, np.diff(done) / width)
    if not _resolved(begin, end, max(one.bin_s for one in counted)):
        return Progress(count, None)
    inside = sum((_inside(one, begin, end, ends, edges) for one in counted), np.zeros(len(edges)))
    return Progress(count, Series("steps", 0.0, width, np.diff(inside) / width))


def _one_after_the_other(steps: Steps) -> tuple[Floats, Floats]:
    """Begin and end of each step in order, no moment in two of them."""
    order = np.argsort(steps.begin_s, kind="stable")
    begin, end = steps.begin_s[order], (steps.begin_s + steps.duration_s)[order]
    end = np.maximum.accumulate(end)
    begin = np.maximum(begin, np.concatenate((begin[:1], end[:-1])))
    return begin, end


def _resolved(begin: Floats, end: Floats, bin_s: float) -> bool:
    """Whether the stretches in which steps followed each other are as long as a bin; all but a few of them."""
    first = np.concatenate(([True], begin[1:] - end[:-1] > _BETWEEN_S))
    number = np.cumsum(first) - 1
    lasted = np.bincount(number, weights=end - begin)
    return float(lasted[lasted < bin_s].sum()) <= _SHORT * float(lasted.sum())


def _inside(one: Series, begin: Floats, end: Floats, ends: Floats, edges: Floats) -> Floats:
    """Joules of the channel from the begin of the run to each edge, those between steps left out."""
    each = cumulative(one, end) - cumulative(one, begin)
    before = np.concatenate(([0.0], np.cumsum(each)))
    place = np.searchsorted(ends, edges, "right")
    step, running = place // 2, place % 2 == 1
    joules: Floats = before[step]
    joules[running] += cumulative(one, edges[running]) - cumulative(one, begin[step[running]])
    return joules
