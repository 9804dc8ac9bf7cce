"""Joules of blocks -> joules a call, with intervals: pure functions of numbers.

A block's energy over its calls is one observation; of n blocks the mean is taken, weighted by calls. Its
random half-width is the larger of two: what the meters say of each block's own figure (ticks, sampling; put
together as independent), and Student's t times the spread between the blocks over sqrt(n). The first knows
what a few blocks that happen to agree hide, the second knows what a meter cannot: that the work itself, the
clocks or the temperature varied. The part from the meters' gain is common to all blocks and stays apart: it
cancels where figures of one board are set against each other, as in closure.

A figure of a phase is a sum of means with signs (`Combination`): what was measured, less what the loop costs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from energyprof.reasons import BELOW_RESOLUTION

Combination = Mapping[str, float]


@dataclass(frozen=True)
class Mean:
    """Joules a call; None where there is no figure, and why. Half-widths are 95 %."""

    energy_j: float | None
    u_random_j: float = 0.0
    u_gain_j: float = 0.0
    method: str = "none"
    reason: str | None = None

    @property
    def u95_j(self) -> float | None:
        return None if self.energy_j is None else math.hypot(self.u_random_j, self.u_gain_j)


def mean_of(blocks: Sequence[Mapping[str, Any] | None], calls: Sequence[int]) -> Mean:
    """The mean over blocks.

    Parameters
    ----------
    blocks
        The rows of the run's regions for one meter: energy_j, u_random_j, u_gain_j, method, reason; None
        where the run has no such region.
    calls
        Calls in each block.
    """
    missing = [row for row in blocks if row is None or row["energy_j"] is None]
    if missing or not blocks:
        first = missing[0] if missing else None
        why = BELOW_RESOLUTION if first is None else first["reason"]
        return Mean(None, method="none" if first is None else first["method"], reason=why)
    rows = [row for row in blocks if row is not None]
    total = sum(calls)
    mean = sum(row["energy_j"] for row in rows) / total
    metered = math.sqrt(sum((row["u_random_j"] or 0.0) ** 2 for row in rows)) / total
    gain = sum(row["u_gain_j"] or 0.0 for row in rows) / total
    count, spread = len(rows), 0.0
    if count > 1:
        # Weighted by calls: a block that is twice as long counts twice.
        squares = sum(n**2 * (row["energy_j"] / n - mean) ** 2 for row, n in zip(rows, calls))
        error = math.sqrt(squares * count / (count - 1)) / total
        spread = float(stats.t.ppf(0.975, count - 1)) * error
    reason = next((row["reason"] for row in rows if row["reason"]), None)
    return Mean(mean, max(metered, spread), gain, rows[0]["method"], reason)


def combined(means: Mapping[str, Mean], parts: Combination) -> Mean:
    """The sum of factor times mean; null with the reason where one that counts is null."""
    used = [(factor, means[name]) for name, factor in parts.items() if factor]
    for _, mean in used:
        if mean.energy_j is None:
            return mean
    if not used:
        return Mean(0.0)
    return Mean(
        sum(factor * (mean.energy_j or 0.0) for factor, mean in used),
        math.sqrt(sum((factor * mean.u_random_j) ** 2 for factor, mean in used)),
        abs(sum(factor * mean.u_gain_j for factor, mean in used)),
        "+".join(sorted({part for _, mean in used for part in mean.method.split("+")})),
        next((mean.reason for _, mean in used if mean.reason), None),
    )


def added(combinations: Sequence[tuple[float, Combination]]) -> dict[str, float]:
    """The combination that is the sum of factor times combination."""
    total: dict[str, float] = {}
    for factor, parts in combinations:
        for name, share in parts.items():
            total[name] = total.get(name, 0.0) + factor * share
    return total


def closure(layers: Mean, step: Mean) -> tuple[float | None, float | None]:
    """Sum over the layers / the measured step - 1, and its 95 % half-width. The meters' gain cancels."""
    if layers.energy_j is None or not step.energy_j:
        return None, None
    ratio = layers.energy_j / step.energy_j
    return ratio - 1, math.hypot(layers.u_random_j, ratio * step.u_random_j) / abs(step.energy_j)
