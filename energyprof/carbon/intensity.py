"""The carbon intensity of electricity at a place; what joules cost there is `energyprof.footprint`'s.

Figures are yearly averages from the tables that CodeCarbon ships, read as data (`tables`, `subdivisions`, `cloud`).
Each comes with its year, its source, which emissions it counts, and an interval for the hour in which a run
ran (`spread`). Standard library alone; nothing here touches a network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from energyprof.carbon import cloud, subdivisions, tables
from energyprof.carbon.ranges import Range
from energyprof.carbon.spread import interval
from energyprof.carbon.tables import MAX_G_PER_KWH, PER_SOURCE, Row
from energyprof.reasons import ASSUMED_LOCATION

JOULES_PER_KWH = 3.6e6

# IEA, Global Energy & CO2 Status Report 2019: the mean of the world's generation. Used where CodeCarbon's own
# copy of the same number cannot be read.
WORLD_AVERAGE_G_PER_KWH = 475.0
WORLD_AVERAGE_YEAR = 2019
WORLD_AVERAGE_SOURCE = "IEA Global Energy & CO2 Status Report 2019"
WORLD_SCOPE = "the world's generation; the interval is the range of the countries"
# The range of the countries in CodeCarbon 3.3.2 (Bhutan, Turkmenistan), where the table cannot be read.
WORLD_RANGE_G_PER_KWH = (23.333, 1306.025)

GIVEN_SCOPE = "as given by the user"
_ALIASES = {"UK": "GBR"}  # reserved for it by ISO 3166


@dataclass(frozen=True)
class Intensity:
    """Grams of CO2e for a kilowatt-hour, with where the number holds and where it is from.

    `place` is the canonical code: ISO 3166 alpha-3 for a country ("FRA"), ISO 3166-2 for a part of the USA, Canada
    or China ("US-CA"), a bidding zone ("SE3"), a region of a cloud ("aws:eu-west-3"), "WORLD" for the world
    average, or "" for a number given by hand. `year` is that of the data (of the report, for the world average),
    None for a number given by hand.
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
    """No table has the place, or none has a usable number for it."""


class MissingTable(ValueError):
    """CodeCarbon's tables cannot be read."""


def resolve(
    country: str | None = None,
    intensity: float | None = None,
    *,
    data_dir: Path | None = None,
) -> Intensity:
    """Return the intensity of a place, a given intensity, or the world average when neither is said.

    Parameters
    ----------
    country : a place, in upper or lower case: a country by its ISO 3166 code ("FRA", or "FR" where the two letters are
        no state or province too), a US state, Canadian or Chinese province ("US-CA", "CAN/quebec"), a bidding
        zone ("SE3"), or a region of a cloud ("gcp:europe-west9", or "us-east-1").
    intensity : gCO2e/kWh, at least 0 and below 10,000.
    data_dir : a folder with CodeCarbon's JSON files, in place of the installed one.

    Raises
    ------
    ValueError
        With one line for the user: both were given, or the intensity is out of range; its subclasses are
        `UnknownPlace` (no table has the place) and `MissingTable` (CodeCarbon is not there).
    """
    if country is not None and intensity is not None:
        raise ValueError("both country and intensity were given; choose one")
    if intensity is not None:
        return _given(intensity)
    folder = data_dir if data_dir is not None else tables.shipped()
    return _world(folder) if country is None else _of(_find(country, folder))


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
    return Intensity(value, "", "given intensity", None, "given by the user", scope=GIVEN_SCOPE)


def _find(country: object, folder: Path | None) -> Row:
    """The row of a place; UnknownPlace or MissingTable with one line for the user."""
    text = " ".join(country.split()) if isinstance(country, str) else ""
    row = None
    if folder is not None and 2 <= len(text) <= 80:
        row = _country(text.upper(), folder) or subdivisions.find(text, folder) or cloud.find(text, folder)
    if row is None:
        if folder is None or not tables.countries(folder):
            raise MissingTable(
                "no table of countries: install 'codecarbon>=3.3,<4' for places, or give the intensity in g/kWh"
            )
        if (code := text.upper()) in (*(codes := _iso_3166()), *codes.values()):
            raise UnknownPlace(f"{code} has no figure in the table of countries; give the intensity in g/kWh")
        from energyprof.carbon.places import all_places, describe_nearest, named

        places = all_places(folder)
        meant = named(text, places)
        if meant is None:
            raise UnknownPlace(describe_nearest(country, places))
        return _find(meant, folder)
    if row.problem:
        raise UnknownPlace(f"{row.name} ({row.code}) {row.problem}; give the intensity in g/kWh")
    return row


def _country(code: str, folder: Path) -> Row | None:
    """A country by its three letters, or by its two where they mean nothing else."""
    if len(code) == 3:
        return tables.country(code, tables.countries(folder), folder)
    if len(code) != 2:
        return None
    alpha_3 = _ALIASES.get(code) or _iso_3166().get(code)
    row = tables.country(str(alpha_3), tables.countries(folder), folder)
    part = subdivisions.two_letters(folder).get(code)
    if row is not None and part is not None:
        raise UnknownPlace(
            f"{code} is {row.name} and {part.name} ({part.code[:2]}); say {row.code} or {part.code}"
        )
    return replace(row, source=f"{row.source}; {code} read as {row.code}") if row is not None else None


def _iso_3166() -> dict[str, str]:
    """The three letters of every country, by its two."""
    return tables.read_json(Path(__file__).parent, tables.ISO_3166)


def _of(row: Row) -> Intensity:
    lo, hi = interval(row.g_per_kwh, row.rounding, row.uncounted_g_per_kwh)
    return Intensity(row.g_per_kwh, row.code, row.name, row.year, row.source, (), row.scope, lo, hi)


def _world(folder: Path | None) -> Intensity:
    value = tables.number(tables.read_json(folder, PER_SOURCE).get("world_average"))
    built_in = not 0.0 < value < MAX_G_PER_KWH or value == WORLD_AVERAGE_G_PER_KWH
    value = WORLD_AVERAGE_G_PER_KWH if built_in else value
    year = WORLD_AVERAGE_YEAR if built_in else None
    source = WORLD_AVERAGE_SOURCE if built_in else "world average of CodeCarbon's table"
    lo, hi = _range_of_countries(folder)
    return Intensity(
        value,
        "WORLD",
        "world average",
        year,
        source,
        (ASSUMED_LOCATION,),
        WORLD_SCOPE,
        min(lo, value),
        max(hi, value),
    )


def _range_of_countries(folder: Path | None) -> tuple[float, float]:
    """The least and the greatest usable figure of any country, g/kWh."""
    table = tables.countries(folder)
    newest = tables.newest_year(table)
    rows = (tables.country(code, table, folder, newest) for code in table) if folder is not None else ()
    usable = [row.g_per_kwh for row in rows if row is not None and not row.problem]
    return (min(usable), max(usable)) if usable else WORLD_RANGE_G_PER_KWH
