"""The carbon intensity of electricity at a place, and the grams that some joules cost there.

    grams = joules / 3.6e6 (J per kWh) x intensity (gCO2e per kWh)

Countries come from the table that CodeCarbon ships (Our World in Data: yearly averages, production based; the
year differs from country to country). The file is found without importing CodeCarbon, whose import costs a
second. Standard library alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from energyprof.carbon.places import describe_nearest
from energyprof.carbon.ranges import Range
from energyprof.reasons import ASSUMED_LOCATION

JOULES_PER_KWH = 3.6e6
MAX_G_PER_KWH = 10_000.0  # lignite emits some 1,100: above this it is a slip of units

# IEA, Global Energy & CO2 Status Report 2019: the mean of the world's generation. Used where CodeCarbon's own
# copy of the same number cannot be read.
WORLD_AVERAGE_G_PER_KWH = 475.0
WORLD_AVERAGE_YEAR = 2019
WORLD_AVERAGE_SOURCE = "IEA Global Energy & CO2 Status Report 2019"

_COUNTRIES = "global_energy_mix.json"
_PER_SOURCE = "carbon_intensity_per_source.json"


@dataclass(frozen=True)
class Intensity:
    """Grams of CO2e for a kilowatt-hour, with where the number holds and where it is from.

    `place` is an ISO 3166 alpha-3 code, "WORLD" for the world average, or "" for a number given by hand.
    `year` is that of the data (of the report, for the world average), None for a number given by hand.
    `flags` are codes of `energyprof.reasons`. `scope` says which emissions the number counts. `lo_g_per_kwh`
    and `hi_g_per_kwh` are the ends of its 95 % interval; None where the number is taken as it is.
    """

    g_per_kwh: float
    place: str
    place_name: str
    year: int | None
    source: str
    flags: tuple[str, ...] = ()
    scope: str = ""
    lo_g_per_kwh: float | None = None
    hi_g_per_kwh: float | None = None

    @property
    def range(self) -> Range:
        """The number with its interval, g/kWh."""
        lo, hi = self.lo_g_per_kwh, self.hi_g_per_kwh
        return Range(
            self.g_per_kwh, self.g_per_kwh if lo is None else lo, self.g_per_kwh if hi is None else hi
        )


class UnknownPlace(ValueError):
    """The place is not in the table, or the table has no usable number for it."""


class MissingTable(ValueError):
    """CodeCarbon's table of countries cannot be read."""


def resolve(
    country: str | None = None,
    intensity: float | None = None,
    *,
    data_dir: Path | None = None,
) -> Intensity:
    """Return the intensity of a country, a given intensity, or the world average when neither is said.

    Parameters
    ----------
    country : ISO 3166 alpha-3 code in upper or lower case, such as "FRA".
    intensity : gCO2e/kWh, at least 0 and below 10,000.
    data_dir : a folder with CodeCarbon's JSON files, in place of the installed one.

    Raises
    ------
    ValueError
        With one line for the user: both were given, or the intensity is out of range; its subclasses are
        `UnknownPlace` (country not in the table) and `MissingTable` (CodeCarbon is not there).
    """
    if country is not None and intensity is not None:
        raise ValueError("both country and intensity were given; choose one")
    if intensity is not None:
        return _given(intensity)
    folder = data_dir if data_dir is not None else _codecarbon_data()
    return _world(folder) if country is None else _country(country, folder)


def grams(energy_j: float, intensity: Intensity) -> float:
    """Return the gCO2e of `energy_j` joules at a constant intensity."""
    return energy_j / JOULES_PER_KWH * intensity.g_per_kwh


def _given(intensity: float) -> Intensity:
    try:
        value = math.nan if isinstance(intensity, (bool, str, bytes)) else float(intensity)
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not 0.0 <= value < MAX_G_PER_KWH:
        shown = repr(intensity)[:40]
        raise ValueError(
            f"intensity must be a number of g/kWh from 0 to below {MAX_G_PER_KWH:,.0f}, not {shown}"
        )
    return Intensity(value, "", "given intensity", None, "given by the user")


def _country(country: str, folder: Path | None) -> Intensity:
    table = {code: row for code, row in _read(folder, _COUNTRIES).items() if isinstance(row, dict)}
    if not table:
        raise MissingTable(
            "no table of countries: install 'codecarbon>=3.3,<4' for country=, or give intensity= in g/kWh"
        )
    code = country.strip().upper() if isinstance(country, str) else ""
    row = table.get(code)
    if row is None:
        raise UnknownPlace(describe_nearest(country, table))
    name, value = (
        str(row.get("country_name", code)),
        float(row.get("carbon_intensity") or 0.0),
    )
    if not 0.0 < value < MAX_G_PER_KWH:
        # No grid is free of carbon over its life cycle: a zero is a gap in the data.
        raise UnknownPlace(
            f"{name} ({code}) stands at {value:g} g/kWh in the table, which is a gap in the data; "
            "give intensity= in g/kWh"
        )
    year = row.get("year")
    return Intensity(
        value,
        code,
        name,
        int(year) if year else None,
        "Our World in Data, from CodeCarbon's table",
    )


def _world(folder: Path | None) -> Intensity:
    table = _read(folder, _PER_SOURCE)
    try:
        value = float(table["world_average"])
    except (KeyError, TypeError, ValueError):
        value = math.nan
    if not 0.0 < value < MAX_G_PER_KWH:
        value = WORLD_AVERAGE_G_PER_KWH
    built_in = value == WORLD_AVERAGE_G_PER_KWH
    year = WORLD_AVERAGE_YEAR if built_in else None
    source = WORLD_AVERAGE_SOURCE if built_in else "world average of CodeCarbon's table"
    return Intensity(value, "WORLD", "world average", year, source, (ASSUMED_LOCATION,))


def _codecarbon_data() -> Path | None:
    """Return the installed CodeCarbon's data folder, found without importing it."""
    from importlib.util import find_spec

    try:
        spec = find_spec("codecarbon")
    except (ImportError, ValueError):
        return None
    roots = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(roots[0]) / "data" / "private_infra" if roots else None


def _read(folder: Path | None, name: str) -> dict[str, Any]:
    """Return the JSON object of a file, empty where there is none."""
    import json

    if folder is None:
        return {}
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
