"""The phases of a run: regions that were entered seldom, of which the dataset has each call with its times.

They are a tree in which no moment counts twice: a phase lies inside the one above it, and two that stand beside each
other never run at once. Regions of other threads that ran beside a phase are left out, and their time is that of the
phase beside which they ran.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from energyprof.reports.stored import Calls

Floats = NDArray[np.float64]

_MOST_CALLS = 40  # of one phase: more are no phase but a loop
_MOST_TOGETHER = 80  # of all phases of a run: what a page shows and holds
_SAME_S = 1e-6  # marks are nanoseconds, and what a page holds are microseconds
_MOST_OF = 0.5  # of a phase: where those inside it are as much, they are drawn in its place


@dataclass(frozen=True)
class Phase:
    """A region with its calls: `level` 0 is outermost; begin and end in seconds after the run's begin, shape (n,)."""

    region: str
    level: int
    begin_s: Floats
    end_s: Floats

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.region.rpartition("/")[2]


@dataclass(frozen=True)
class Band:
    """A stretch of time in which a region ran."""

    name: str
    begin_s: float
    end_s: float


def bands(found: Sequence[Phase]) -> list[Band]:
    """The phases of the level that tells most, one call after the other."""
    level = band_level(found)
    stretches = [
        Band(phase.name, float(begin), float(end))
        for phase in found
        if phase.level == level
        for begin, end in zip(phase.begin_s, phase.end_s)
    ]
    return sorted(stretches, key=lambda band: band.begin_s)


def band_level(found: Sequence[Phase]) -> int:
    """The outermost level of several calls: one around most of the others says nothing of when."""
    level = 0
    while True:
        outer, inner = ([p for p in found if p.level == n] for n in (level, level + 1))
        lasted, within = (sum(float((p.end_s - p.begin_s).sum()) for p in part) for part in (outer, inner))
        if sum(len(p.begin_s) for p in outer) != 1 or within < _MOST_OF * lasted:
            return level
        level += 1


def phases(calls: Sequence[Calls]) -> list[Phase]:
    """The phases among the calls of a run's regions, each followed by those inside it, in the order in which they
    began."""
    found: dict[str, Phase] = {}
    above: dict[str, str] = {}
    left, refused = _MOST_TOGETHER, set[str]()
    for one in sorted(calls, key=lambda one: (one.depth, -float(one.duration_s.sum()))):
        if len(one.begin_s) > min(_MOST_CALLS, left):
            continue
        parent = _nearest(one.region, found)
        beside = [phase for region, phase in found.items() if above[region] == parent]
        level = found[parent].level + 1 if parent else 0
        phase = Phase(one.region, level, one.begin_s, one.begin_s + one.duration_s)
        if _nearest(one.region, refused) or not _fits(phase, found.get(parent), beside):
            refused.add(one.region)
            continue
        found[one.region], above[one.region] = phase, parent
        left -= len(one.begin_s)
    return _in_order("", found, above)


def _nearest(region: str, known: Collection[str]) -> str:
    """The innermost of the known regions in which this one lies; empty where there is none."""
    above = region.rpartition("/")[0]
    while above and above not in known:
        above = above.rpartition("/")[0]
    return above


def _fits(phase: Phase, parent: Phase | None, beside: Sequence[Phase]) -> bool:
    """Whether every call lies inside one of the parent's, and beside no other call."""
    if parent is not None:
        place = np.searchsorted(parent.begin_s, phase.begin_s + _SAME_S, "right") - 1
        if (place < 0).any() or (phase.end_s > parent.end_s[np.maximum(place, 0)] + _SAME_S).any():
            return False
    begin = np.concatenate([phase.begin_s, *(one.begin_s for one in beside)])
    end = np.concatenate([phase.end_s, *(one.end_s for one in beside)])
    order = np.argsort(begin, kind="stable")
    return bool((begin[order][1:] >= end[order][:-1] - _SAME_S).all())


def _in_order(parent: str, found: dict[str, Phase], above: dict[str, str]) -> list[Phase]:
    inside = sorted(
        (p for p in found.values() if above[p.region] == parent), key=lambda p: float(p.begin_s[0])
    )
    return [one for phase in inside for one in (phase, *_in_order(phase.region, found, above))]
