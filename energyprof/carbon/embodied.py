"""Emissions of making a device, and the share of them that a run's time is of the device's life.

    share = kg CO2e of making it x run's time / life

Operation is not in it, and it is never added to operation's grams. Time in which a device stood idle in its life is
charged to nobody, so a share is a lower bound where devices often wait. The published figures, their intervals and
what they cover are in `embodied.json`: a device that is not there has no share. Standard library alone.
"""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from energyprof.carbon.ranges import Range
from energyprof.flops.peaks import find, same_name

_TABLE = Path(__file__).with_name("embodied.json")
_YEAR_S = 365.25 * 86_400.0
_GRAMS_PER_KG = 1e3


@dataclass(frozen=True)
class Embodied:
    """What making one device emitted: kg CO2e with interval, year of the figure, what it covers, its source."""

    names: tuple[str, ...]
    kg: Range
    year: int | None
    scope: str
    source: str


def find_embodied(device_name: str) -> Embodied | None:
    """The row of a device, by the name that its driver reports; None where nothing is published of it."""
    device = find(device_name)
    name = device.name if device is not None else device_name
    rows = _table()[0]
    return next((row for row in rows if any(same_name(name, own) for own in row.names)), None)


def share(device_name: str, duration_s: float, count: int = 1) -> Range | None:
    """Grams of CO2e of making `count` devices that fall to `duration_s` seconds of their life.

    Parameters
    ----------
    device_name : as NVML, torch or AMD SMI reports it; words count, their order, case and brand do not.
    duration_s : how long each of them was taken, seconds.

    Returns
    -------
    Range or None
        None where the device is not in the table.

    Raises
    ------
    ValueError
        The time is negative or no number, or the count is below zero.
    """
    row = find_embodied(device_name)
    _check(duration_s, count)
    return None if row is None else _amortised(row.kg, duration_s) * count


def server_share(duration_s: float, count: int = 1) -> Range:
    """As `share`, of the rest of a server of eight devices, a device."""
    _check(duration_s, count)
    return _amortised(_table()[1].kg, duration_s) * count


def server() -> Embodied:
    """The rest of a server of eight devices, a device."""
    return _table()[1]


def life() -> tuple[Range, str]:
    """How long a device is in service, years, and the source."""
    return _table()[2], _table()[3]


def table() -> tuple[Embodied, ...]:
    """Every device of the table."""
    return _table()[0]


def _amortised(kg: Range, duration_s: float) -> Range:
    years = _table()[2]
    per_year = Range(1 / years.value, 1 / years.hi, 1 / years.lo)  # a longer life is a smaller share
    return kg * per_year * (_GRAMS_PER_KG * duration_s / _YEAR_S)


def _check(duration_s: float, count: int) -> None:
    if not 0 <= duration_s < math.inf or count < 0:
        raise ValueError(f"{count} devices for {duration_s:g} s are none; give a time and a number from 0")


@functools.lru_cache(maxsize=1)
def _table() -> tuple[tuple[Embodied, ...], Embodied, Range, str]:
    content = json.loads(_TABLE.read_text(encoding="utf-8"))
    years = content["life"]
    return (
        tuple(_row(row) for row in content["devices"]),
        _row(content["server"]),
        Range(years["years"], years["lo"], years["hi"]),
        years["source"],
    )


def _row(row: dict[str, Any]) -> Embodied:
    return Embodied(
        tuple(row.get("names", ())),
        Range(row["kg"], row["lo"], row["hi"]),
        row.get("year"),
        row["scope"],
        row["source"],
    )
