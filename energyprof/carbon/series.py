"""A figure that changes with time: grams of CO2e (or a price) a kilowatt-hour, in steps.

Each figure holds from its time to the next one's; the last holds for as long as most do. Where most steps are
alike, a longer one is a hole, as is a row without a figure: nothing is known there, and nobody guesses.
`series_file` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_REGULAR = 0.5  # of the steps being alike, and none shorter, make a longer one a hole
_LONGER = 1.5
_LAST_S = 253_402_300_799.0  # the end of the year 9999: the last second that `datetime` can tell


@dataclass(frozen=True)
class Series:
    """A figure by time, in steps.

    Attributes
    ----------
    begin_s : (n,) float64
        When each step begins, seconds since 1970 (UTC), ascending.
    value : (n,) float64
        The figure that holds in each step; NaN in a hole.
    end_s : float
        When the last step ends.
    source : str
        Where the figures are from.
    scope : str
        Which emissions they count.
    published : bool
        They are a publisher's, and others publish other figures of the same grid; else the user's, taken as they are.
    """

    begin_s: Floats
    value: Floats
    end_s: float
    source: str = ""
    scope: str = "as given by the user"
    published: bool = False

    @property
    def edges_s(self) -> Floats:
        """(n + 1,) the begins, and the end of the last step."""
        return np.append(self.begin_s, self.end_s)

    @property
    def known(self) -> Floats:
        """The figures of the steps that have one."""
        return self.value[~np.isnan(self.value)]

    def cumulative(self, at_s: Any) -> Floats:
        """The integral from the first begin to `at_s` (any shape), in figure x seconds; a hole adds nothing."""
        areas = np.nan_to_num(self.value) * np.diff(self.edges_s)
        return _interpolated(at_s, self.edges_s, areas)

    def covered_s(self, begin_s: Any, end_s: Any) -> Floats:
        """How many seconds from `begin_s` to `end_s` (any shape) have a figure."""
        have = np.where(np.isnan(self.value), 0.0, np.diff(self.edges_s))
        return _interpolated(end_s, self.edges_s, have) - _interpolated(begin_s, self.edges_s, have)

    def mean(self, begin_s: float, end_s: float) -> float:
        """The mean over the time from `begin_s` to `end_s` that has a figure; NaN where none has."""
        covered = float(self.covered_s(begin_s, end_s))
        area = float(self.cumulative(end_s) - self.cumulative(begin_s))
        return area / covered if covered > 0 else math.nan

    def at(self, times_s: Any) -> Floats:
        """The figure that holds at each time (any shape); NaN in holes, before the first and after the last."""
        times = np.asarray(times_s, np.float64)
        step = np.searchsorted(self.begin_s, times, side="right") - 1
        inside = (step >= 0) & (times < self.end_s)
        return np.where(inside, self.value[np.clip(step, 0, None)], math.nan)


def _interpolated(at_s: Any, edges_s: Floats, parts: Floats) -> Floats:
    """The running sum of the steps' parts at any time, straight within a step."""
    found: Floats = np.interp(at_s, edges_s, np.concatenate(([0.0], np.cumsum(parts))))
    return found


def series(begin_s: Sequence[float] | Floats, value: Floats, source: str = "") -> Series:
    """A series of figures, each from its time to the next; ValueError where times are no ascending sequence."""
    begin = np.asarray(begin_s, np.float64)
    if len(begin) < 2:
        raise ValueError("it needs at least two rows, to tell how long each figure holds")
    steps = np.diff(begin)
    if not (steps > 0).all():
        row = int(np.argmin(steps > 0))
        fault = (
            "has the time of the row before it" if steps[row] == 0 else "is earlier than the row before it"
        )
        raise ValueError(
            f"row {row + 2} ({iso(begin[row + 1])}) {fault}; give each time once, in ascending order, with its zone"
        )
    usual = float(np.median(steps))
    if np.isnan(value).all():
        raise ValueError("no row has a figure")
    alike = np.abs(steps - usual) <= 0.01 * usual
    regular = alike.mean() > _REGULAR and steps.min() >= 0.99 * usual
    if regular and (long := np.flatnonzero(steps > _LONGER * usual)).size:
        begin = np.insert(begin, long + 1, begin[long] + usual)
        value = np.insert(value, long + 1, math.nan)
    end_s = max(float(begin[-1]), min(float(begin[-1] + usual), _LAST_S))
    return Series(begin, value, end_s, source)


def iso(second: float) -> str:
    return datetime.fromtimestamp(second, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
