"""Numbers as people write them: 7B, 2T, 1e21, 3.5 h, 2 days. Standard library alone."""

from __future__ import annotations

import math
import re

# A comma parts thousands and nothing else: 3,5 could be either, and is refused; 0,125 has no thousands.
MAX_AMOUNT = 1e100
MAX_HOURS = 1e7  # a millennium
MIN_WATTS, MAX_WATTS = 1e-6, 1e6
_AMOUNT = re.compile(
    r"([+-]?(?:(?:[1-9]\d{0,2}(?:,\d{3})+|\d[\d_]*)(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)\s*([a-z% ]*)",
    re.IGNORECASE,
)
_SCALES = {
    "": 1.0,
    "k": 1e3,
    "m": 1e6,
    "mn": 1e6,
    "b": 1e9,
    "bn": 1e9,
    "g": 1e9,
    "t": 1e12,
    "tn": 1e12,
    "p": 1e15,
    "e": 1e18,
    "z": 1e21,
    "y": 1e24,
}
# "1h30", "1 h 30 min" and "1:30", "01:30:00": hours and minutes (and seconds).
_CLOCK = re.compile(
    r"(\d{1,7})(?:\s*h(?:ours?|rs?)?\s*([0-5]?\d)\s*(?:m|mins?|minutes?)?|:([0-5]\d)(?::([0-5]\d))?)",
    re.IGNORECASE,
)
_WORDS = ("flops", "flop", "params", "param", "tokens", "token")
_HOURS = {
    **dict.fromkeys(("", "h", "hr", "hrs", "hour", "hours"), 1.0),
    **dict.fromkeys(("d", "day", "days"), 24.0),
    **dict.fromkeys(("w", "week", "weeks"), 168.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 1 / 60),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1 / 3600),
}


def amount(said: object, name: str) -> float:
    """A number above zero, perhaps with a scale: "7B" is 7e9, "2T" 2e12, "3 ZFLOP" 3e21.

    Raises
    ------
    ValueError
        With one line that says `name`.
    """
    number, unit = _parts(said)
    for word in _WORDS:
        unit = unit.removesuffix(word)
    value = number * _SCALES.get(unit, math.nan)
    if not 0 < value < MAX_AMOUNT:
        raise ValueError(
            f"{name} is {str(said)[:40]!r}; give a number above zero and below {MAX_AMOUNT:g}, such as 7B, 2T or 1e21"
        )
    return value


def hours(said: object, name: str = "hours") -> float:
    """Hours, from "120", "3.5h", "90 min", "2 days", "1h30", "1:30" (hours and minutes).

    Raises
    ------
    ValueError
        With one line that says `name`.
    """
    number, unit = _parts(said)
    clock = _CLOCK.fullmatch(str(said).strip())
    if clock is not None:
        whole, minutes, seconds = (float(part or 0) for part in (clock[1], clock[2] or clock[3], clock[4]))
        value = whole + minutes / 60 + seconds / 3600
    else:
        value = number * _HOURS.get(unit, math.nan)
    if not 0 < value < MAX_HOURS:
        raise ValueError(
            f"{name} is {str(said)[:40]!r}; give a time above zero and below {MAX_HOURS:,.0f} h, such as 120, 3.5h, "
            "1h30 or 90min"
        )
    return value


def share(said: object, name: str, least: float = math.nextafter(0, 1)) -> float:
    """A share up to 1, from above 0 or from `least`: "0.4", "40 %"; ValueError with one line that says `name`."""
    number, unit = _parts(said)
    value = number * {"": 1.0, "%": 0.01}.get(unit, math.nan)
    if not least <= value <= 1:
        raise ValueError(f"{name} is {str(said)[:40]!r}; give a share of 1, such as 0.4 or 40%")
    return value


def watts(said: object, name: str, least: float = MIN_WATTS) -> float:
    """Watts from a microwatt, or from `least`: "350", "0.35 kW"; ValueError with one line that says `name`."""
    number, unit = _parts(said)
    value = number * {"": 1.0, "w": 1.0, "kw": 1e3}.get(unit, math.nan)
    if not least <= value < MAX_WATTS:
        raise ValueError(
            f"{name} is {str(said)[:40]!r}; give watts of one device, from {least:g} to below {MAX_WATTS:,.0f}, "
            "such as 350"
        )
    return value


def _parts(said: object) -> tuple[float, str]:
    """The number and the unit in small letters; NaN where there is none."""
    match = _AMOUNT.fullmatch(str(said).strip()) if not isinstance(said, bool) else None
    if match is None:
        return math.nan, ""
    digits = match[1].replace("_", "").replace(",", "")
    return float(digits), match[2].lower().replace(" ", "")
