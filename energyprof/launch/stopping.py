"""When a bench has seen enough: the interval of the energy ratio is narrow, in two rounds after each other.

Looking after every round and stopping when the interval happens to be narrow favours spreads that came out too small,
so the last interval holds a little less often than it says: simulated (docs/bench.md), 94 % instead of 95 where both
commands vary alike, 92.7 at worst where one varies ten times as much as the other. What is looked at is the width
alone, never which command is ahead nor p, so that the ratio itself stays unbiased.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from energyprof import effects

FIRST = 5  # rounds before the first look: a spread from fewer is worth little
IN_A_ROW = 2
NOTE = (
    "stopped early by its width: a 95 % interval found so holds in some 93 to 95 % of cases (docs/bench.md)"
)


def mean_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and the half-width of its 95 % interval (Student's t); None with fewer than two numbers."""
    from scipy import special

    numbers = np.asarray(values, np.float64)
    if len(numbers) < 2:
        return float(numbers.mean()), None
    t = float(special.stdtrit(len(numbers) - 1, 1 - effects.LEVEL / 2))
    return float(numbers.mean()), t * float(numbers.std(ddof=1)) / len(numbers) ** 0.5


def half_width(base: Sequence[float], other: Sequence[float]) -> float | None:
    """Half the width of the 95 % interval of a ratio of energies; None where there is none."""
    if min(len(base), len(other)) < 2 or min(*base, *other) <= 0:
        return None
    found = effects.difference(np.log(base), np.log(other), method=effects.WELCH)
    return (math.exp(found.hi) - math.exp(found.lo)) / 2


def widest(joules: Sequence[Sequence[float]]) -> float | None:
    """The widest of the intervals of all commands against the first; of a single one, its mean's, relative to that."""
    if len(joules) == 1:
        if len(joules[0]) < 2:
            return None
        mean, half = mean_interval(joules[0])
        return half / mean if half is not None and mean > 0 else None
    found = [half_width(joules[0], other) for other in joules[1:]]
    known = [one for one in found if one is not None]
    return max(known) if len(known) == len(found) else None


def enough(rounds: Sequence[Sequence[float]], until: float) -> bool:
    """Whether the joules of whole rounds, one number a command in each, are narrow enough to stop."""
    if len(rounds) < FIRST + IN_A_ROW - 1:
        return False
    looks = (widest(list(zip(*rounds[: len(rounds) - back]))) for back in range(IN_A_ROW))
    return all(width is not None and width <= until for width in looks)
