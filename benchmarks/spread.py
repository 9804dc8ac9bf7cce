"""A median with its interval, and a ratio of two medians with its own: percentile bootstrap (Efron 1979), 95 %."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from typing import Any

_DRAWS = 2000


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Median, interval, number, and the values themselves."""
    low, high = _interval(len(values), lambda chosen: statistics.median(values[i] for i in chosen))
    return {
        "median": _short(statistics.median(values)),
        "low": _short(low),
        "high": _short(high),
        "n": len(values),
        "all": [_short(value) for value in values],
    }


def ratio(peer: Sequence[float], ours: Sequence[float]) -> dict[str, float] | None:
    """Median of the peer over median of ours. Rounds of the same number are drawn together: they were neighbours."""
    paired = min(len(peer), len(ours))
    if not paired or statistics.median(ours[:paired]) <= 0:
        return None

    def of(chosen: Sequence[int]) -> float:
        below = statistics.median(ours[i] for i in chosen)
        return statistics.median(peer[i] for i in chosen) / below if below > 0 else float("inf")

    low, high = _interval(paired, of)
    return {"median": _short(of(range(paired))), "low": _short(low), "high": _short(high)}


def _interval(number: int, statistic: Callable[[Sequence[int]], float]) -> tuple[float, float]:
    chance = random.Random(0)
    drawn = sorted(statistic(chance.choices(range(number), k=number)) for _ in range(_DRAWS))
    return drawn[int(0.025 * _DRAWS)], drawn[int(0.975 * _DRAWS) - 1]


def _short(value: float) -> float:
    return float(f"{value:.5g}")
