"""A figure that may be below zero, with its 95 % interval: money, in hours in which a market pays for what is taken.

`ranges.Range` holds figures that are not negative, and multiplies ratios; a sign has no logarithm. Standard library
alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from energyprof.carbon.ranges import Range


@dataclass(frozen=True)
class Signed:
    """A figure of either sign and the ends of its 95 % interval, in one unit; lo <= value <= hi."""

    value: float
    lo: float
    hi: float

    def __post_init__(self) -> None:
        if not -math.inf < self.lo <= self.value <= self.hi < math.inf:
            raise ValueError(f"{self.lo:g} <= {self.value:g} <= {self.hi:g} is not an interval of a figure")

    def __mul__(self, other: Range) -> Signed:
        """The product with an independent factor that is not negative.

        As `Range` does it where the sign is certain. Where it is not, what each end of either factor alone makes
        of the product adds in quadrature (JCGM 100:2008, 5.1.3 note 2).
        """
        if self.lo >= 0:
            found = Range(self.value, self.lo, self.hi) * other
            return Signed(found.value, found.lo, found.hi)
        if self.hi <= 0:
            found = Range(-self.value, -self.hi, -self.lo) * other
            return Signed(-found.value, -found.hi, -found.lo)
        value = self.value * other.value
        mine = [self.lo * other.value, self.hi * other.value]
        others = [self.value * other.lo, self.value * other.hi]
        below = math.hypot(*(value - min(ends) for ends in (mine, others)))
        above = math.hypot(*(max(ends) - value for ends in (mine, others)))
        return Signed(value, value - below, value + above)

    __rmul__ = __mul__


def within(value: float, told: Iterable[float]) -> Signed:
    """A mean with the least and the greatest of what it is the mean of; rounding takes it beyond neither."""
    every = list(told)
    lo, hi = min(every), max(every)
    return Signed(min(max(value, lo), hi), lo, hi)
