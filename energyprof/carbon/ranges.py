"""A figure with its 95 % interval, which need not lie in its middle, and what products of such figures are.

Factors are taken as independent. What their half-widths make of the product adds in quadrature, below and
above apart:

    hi = x y + sqrt(((x_hi - x) y)^2 + ((y_hi - y) x)^2),    lo likewise, and never below x_lo y_lo

which for small half-widths is the law of propagation of uncertainty (JCGM 100:2008, 5.1.2), and for large ones
still contains what each factor's own interval makes of the product. Standard library alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """A figure that is not negative, and the ends of its 95 % interval, in one unit; lo <= value <= hi."""

    value: float
    lo: float
    hi: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.lo <= self.value <= self.hi < math.inf:
            raise ValueError(f"{self.lo:g} <= {self.value:g} <= {self.hi:g} is not an interval of a figure")

    def __mul__(self, other: Range | float) -> Range:
        """The product, of independent factors; a plain number is exact."""
        if not isinstance(other, Range):
            return Range(self.value * other, self.lo * other, self.hi * other)
        x, y = self.value, other.value
        below = math.hypot((x - self.lo) * y, (y - other.lo) * x)
        above = math.hypot((self.hi - x) * y, (other.hi - y) * x)
        # The two lower ends together are less likely than either; where quadrature goes below them it is too wide.
        return Range(x * y, min(x * y, max(self.lo * other.lo, x * y - below)), x * y + above)

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Range:
        """A part of it; the divisor is exact."""
        return self * (1.0 / divisor)


def exact(value: float) -> Range:
    """A figure that is taken as it is."""
    return Range(value, value, value)


def around(value: float, u95: float | None) -> Range:
    """A figure with a half-width that is the same on both sides; cut at zero."""
    half = u95 or 0.0
    return Range(value, max(0.0, value - half), value + half)


def together(*parts: Range) -> Range:
    """The sum of independent figures: half-widths add in quadrature, below and above apart."""
    value = sum(part.value for part in parts)
    below = math.hypot(*(part.value - part.lo for part in parts))
    above = math.hypot(*(part.hi - part.value for part in parts))
    return Range(value, max(0.0, value - below), value + above)
