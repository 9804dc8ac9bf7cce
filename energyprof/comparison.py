"""What a comparison says, as values: effects of metrics, what differs besides, and a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from energyprof import effects
from energyprof.comparability import Difference
from energyprof.selection import Group

Verdict = Literal["less", "more", "no evidence", "too few runs", "not comparable"]

THRESHOLD = 0.01


@dataclass(frozen=True)
class Effect:
    """One metric of one group against the baseline's.

    `ratio` with its 95 % interval (not corrected for the number of comparisons), or `difference` with its own
    for metrics that may be zero or negative; `p_adjusted` is corrected. `detectable`: the smallest relative effect
    that this many runs could have shown, p < 5 % in 80 % of cases.
    """

    metric: str
    unit: str
    better: Literal["less", "more"]
    group: str
    n_baseline: int
    n: int
    baseline: float
    value: float
    ratio: float | None = None
    ratio_lo: float | None = None
    ratio_hi: float | None = None
    p: float | None = None
    p_adjusted: float | None = None
    method: str = effects.WELCH
    verdict: Verdict = "too few runs"
    detectable: float | None = None
    runs_for_2_percent: int | None = None
    notes: tuple[str, ...] = ()
    difference: float | None = None
    difference_lo: float | None = None
    difference_hi: float | None = None

    @property
    def change(self) -> float | None:
        """The relative change: -0.12 where the group has 12 % less than the baseline."""
        if self.ratio is not None:
            return self.ratio - 1.0
        if self.difference is None or not self.baseline:
            return None
        return self.difference / abs(self.baseline)


@dataclass(frozen=True)
class Comparison:
    """Groups (the first is the baseline), effects, and what differs besides; `verdict` is one sentence."""

    groups: tuple[Group, ...]
    effects: tuple[Effect, ...]
    differences: tuple[Difference, ...]
    method: str
    verdict: str
    same_board: bool
    notes: tuple[str, ...] = ()
    threshold: float = THRESHOLD
