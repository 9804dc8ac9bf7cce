"""Joules of blocks -> joules a call, with intervals: pure functions of numbers.

A block's energy over its calls is one observation; of n blocks the mean is taken, weighted by calls. Its
random half-width is the larger of two: Student's t times the spread between the blocks over sqrt(n), and what
the meters say of each block's own figure, put together as independent. The first holds all that differs from
block to block: the phase of the ticks, which is random, clocks, temperature, the work itself. Of the second what
the meters say of the ticks that a block's ends cut is left out where a counter's ticks are no longer than the
same work goes on around a block (`steady`): they say what such a tick could hide if anything had happened
before and after, and nothing but the same work did. The part from the meters' gain is common to all blocks and
stays apart: it cancels where figures of one board are set against each other, as in closure.

A figure of a phase is a sum of means with signs (`Combination`): what was measured, less what the loop costs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from energyprof.reasons import BELOW_RESOLUTION
from energyprof.tally import TOTAL

Combination = Mapping[str, float]
_LATE = 1.1  # a tick comes some milliseconds late, and its period is rarely a round number


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
    """The mean over blocks that have a figure, where that are two at least and half of all.

    Parameters
    ----------
    blocks
        The rows of the run's regions for one meter (see `steady`): energy_j, u_random_j, u_gain_j, method,
        reason; None where the run has no such region.
    calls
        Calls in each block.
    """
    known = [(row, n) for row, n in zip(blocks, calls) if row is not None and row["energy_j"] is not None]
    if len(known) < max(2, len(blocks) / 2):
        row = next((row for row in blocks if row is not None and row["energy_j"] is None), None)
        why = BELOW_RESOLUTION if row is None else row["reason"]
        return Mean(None, method="none" if row is None else row["method"], reason=why)
    rows, calls = [row for row, _ in known], [n for _, n in known]
    total = sum(calls)
    from scipy import special

    mean = sum(row["energy_j"] for row in rows) / total
    metered = math.sqrt(sum((row["u_random_j"] or 0.0) ** 2 for row in rows)) / total
    gain = sum(row["u_gain_j"] or 0.0 for row in rows) / total
    count = len(rows)
    # Weighted by calls: a block that is twice as long counts twice.
    squares = sum(n**2 * (row["energy_j"] / n - mean) ** 2 for row, n in zip(rows, calls))
    error = math.sqrt(squares * count / (count - 1)) / total
    spread = float(special.stdtrit(count - 1, 0.975)) * error
    reason = next((row["reason"] for row in blocks if row is not None and row["reason"]), None)
    return Mean(mean, max(metered, spread), gain, rows[0]["method"], reason)


def steady(
    regions: Sequence[Mapping[str, Any]], channels: Sequence[Mapping[str, Any]], around_s: float
) -> dict[tuple[str, str], dict[str, Any]]:
    """The regions' rows by name and meter, without what cut ticks could hide where the work around hides nothing.

    Parameters
    ----------
    regions, channels
        A run's rows; of a channel: channel, method, tick_ms, in_total.
    around_s
        How long at least the same work went on before and after each region.
    """
    sharp = {
        row["channel"]
        for row in channels
        if row["method"] == "counter" and row["tick_ms"] and row["tick_ms"] <= 1e3 * _LATE * around_s
    }
    counted = {row["channel"] for row in channels if row["in_total"]}
    found, squares = {}, dict[str, float]()
    for row in regions:
        name, channel = row["region"], row["channel"]
        half = (row["u_sampling_j"] if channel in sharp else row["u_random_j"]) or 0.0
        found[name, channel] = {**row, "u_random_j": half}
        if channel in counted:
            squares[name] = squares.get(name, 0.0) + half**2
    for name, square in squares.items():
        if (name, TOTAL) in found:
            found[name, TOTAL]["u_random_j"] = math.sqrt(square)
    return found


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
