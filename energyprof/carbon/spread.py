"""How far a yearly figure may be from the hours in which a run ran: the 95 % interval.

    hi = g + 1.96 sqrt(a^2 + (b^2 + c^2) g^2)        lo = g^2 / hi

a, b: how publishers' figures of one grid disagree; c: how the hours of a year do. The lower end is
the mirror image on a scale of ratios, so that it stays above zero. A run of many days averages over its hours, and for
it the interval is wider than need be. Standard library alone.
"""

from __future__ import annotations

import math

# The narrowest half-widths 1.96 sqrt(a^2 + (b g)^2) about the figures in CodeCarbon 3.3.2 that hold 95 % of 84 figures
# of the same grids by others: Google's of 2023 and 2025 (operational, with imports) and Electricity Maps' of 2022 (life
# cycle, with imports), so that publisher, convention and year are in them. a in g/kWh, b as a part of the figure;
# `python -m benchmarks.intensity`, benchmarks/results/2026-11-21-intensity.json.
SOURCES_G_PER_KWH = 50.0
SOURCES_PART = 0.56
# Half-hours of 2020 in Germany, California, Great Britain and France: standard deviations of 0.35, 0.26, 0.31 and
# 0.34 of the mean; this is their root mean square. Wiesner et al., "Let's wait awhile", Middleware 2021,
# doi:10.1145/3464298.3493399, and its data (github.com/dos-group/lets-wait-awhile). Grids that burn one fuel vary less.
HOURS_PART = 0.316
_Z95 = 1.96


def interval(
    g_per_kwh: float, rounding: float = 0.0, uncounted_g_per_kwh: float = 0.0, hours_part: float = HOURS_PART
) -> tuple[float, float]:
    """The ends of the 95 % interval of a yearly figure, g/kWh.

    Parameters
    ----------
    g_per_kwh
        The figure, above zero.
    rounding
        Half-width of what its own rounding may change, as a part of it.
    uncounted_g_per_kwh
        What its table left out, at most: it is added to the upper end alone, in quadrature.
    hours_part
        c; 0 for a figure of the very hours.
    """
    sd = math.hypot(SOURCES_G_PER_KWH, SOURCES_PART * g_per_kwh, hours_part * g_per_kwh)
    half = math.hypot(_Z95 * sd, rounding * g_per_kwh)
    lo = g_per_kwh * g_per_kwh / (g_per_kwh + half)
    return lo, g_per_kwh + math.hypot(half, uncounted_g_per_kwh)
