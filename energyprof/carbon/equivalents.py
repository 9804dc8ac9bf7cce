"""Grams of CO2e as something that a person can picture, in one place, each with its figure, year and source.

Only what comes out at a size that can be pictured is offered: metres for a fraction of a gram, years of a person's
emissions for tonnes, never 0.0000 km. Standard library alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

SHOWN = 3
_DAY_S, _HOUR_S, _MINUTE_S = 86_400.0, 3_600.0, 60.0


@dataclass(frozen=True)
class Equivalent:
    """Something that emits `grams` a unit; `words` says an amount of it, sensible from `least` to `most` units."""

    name: str
    grams: float
    words: Callable[[float], str]
    least: float
    most: float
    source: str


def equivalents(grams: float, shown: int = SHOWN) -> list[tuple[str, str]]:
    """What some grams of CO2e are as much as, and the source of each; empty for none.

    Parameters
    ----------
    grams : gCO2e; below a milligram nothing is like it.
    shown : how many at most.
    """
    if not (grams > 0 and math.isfinite(grams)):
        return []
    found = [(each, grams / each.grams) for each in TABLE]
    return [(each.words(units), each.source) for each, units in found if each.least <= units <= each.most][
        :shown
    ]


def _number(value: float) -> str:
    """Two digits, which is more than such comparisons are worth."""
    if value >= 1e6:
        return f"{float(f'{value / 1e6:.1e}'):,g} million"
    value = float(f"{value:.1e}")
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


def _way(km: float) -> str:
    if km < 0.0095:
        return f"{_number(1e3 * km)} m by car" if km >= 0.00095 else f"{_number(1e5 * km)} cm by car"
    return f"{_number(1e3 * km)} m by car" if km < 0.95 else f"{_number(km)} km by car"


def _cars(count: float) -> str:
    said = _number(count)
    return f"{said} car{'' if said == '1' else 's'} for a year"


def _charges(count: float) -> str:
    if count < 0.95:
        return f"{_number(100 * count)} % of a smartphone's charge"
    return f"{_number(count)} smartphone charge{'' if _number(count) == '1' else 's'}"


def _time(seconds: float) -> str:
    for unit, name in ((365.25 * _DAY_S, "year"), (_DAY_S, "day"), (_HOUR_S, "hour"), (_MINUTE_S, "minute")):
        if seconds >= 0.95 * unit:
            said = _number(seconds / unit)
            return f"{said} {name}{'' if said == '1' else 's'}"
    said = _number(seconds)
    return f"{said} second{'' if said == '1' else 's'}"


def _streaming(hours: float) -> str:
    return f"{_time(hours * _HOUR_S)} of streamed video"


def _person(years: float) -> str:
    return f"{_time(years * 365.25 * _DAY_S)} of one person's emissions (world average)"


# In the order in which they are offered.
TABLE = (
    Equivalent(
        "car",
        393 / 1.609344,  # g a mile, km a mile
        _way,
        1e-5,
        4e6,
        "US EPA, Greenhouse Gas Equivalencies 2024: 393 g a mile, average passenger vehicle",
    ),
    Equivalent(
        "person",
        4.7e6,
        _person,
        1 / 365.25 / 24 * 12,
        1e6,
        "Global Carbon Budget 2023: 4.7 t of fossil CO2 a person in 2022",
    ),
    Equivalent(
        "cars",
        4.29e6,
        _cars,
        20,
        1e9,
        "US EPA, Greenhouse Gas Equivalencies 2024: 4.29 t a year, average passenger vehicle",
    ),
    Equivalent(
        "phone",
        12.4,
        _charges,
        0.01,
        1e5,
        "US EPA, Greenhouse Gas Equivalencies 2024: 12.4 g a charge, US electricity",
    ),
    Equivalent(
        "streaming",
        36.0,
        _streaming,
        0.5 / _HOUR_S,
        5e5,
        "IEA 2020, The carbon footprint of streaming video: 36 g an hour",
    ),
)
