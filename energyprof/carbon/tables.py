"""The tables of carbon intensity that CodeCarbon ships, found and read as data: nothing of CodeCarbon is imported.

Importing CodeCarbon's own reader costs a second and loads pandas; reading its JSON files costs milliseconds.
What is read here is the table of countries (Our World in Data, from Ember); `subdivisions` and `cloud` read the
others. Known bad rows are refused, each with its reason. Standard library alone.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

COUNTRIES = "global_energy_mix.json"
PER_SOURCE = "carbon_intensity_per_source.json"
ISO_3166 = "iso3166.json"  # ours: ISO 3166-1, the 249 countries of November 2026

# Ember, Global Electricity Review 2024, supporting material: full life cycle with upstream methane, all gases over
# 100 years; what is generated in the country, without imports.
COUNTRY_SCOPE = "life cycle of generation, production based"
COUNTRY_SOURCE = "Our World in Data (Ember)"

MAX_G_PER_KWH = 10_000.0  # lignite emits some 1,100: above this it is a slip of units
OLDEST_YEARS = 10  # behind the newest row of the table
# Generation is published to 0.01 TWh, and emissions to 0.01 Mt; intensity is their quotient.
_STEP = 0.01
_MOST_ROUNDING = 0.5  # a figure that rounding alone may change by half says nothing


@dataclass(frozen=True)
class Row:
    """One figure of one table, with all that must be said with it.

    Attributes
    ----------
    code, name
        Where it holds: the canonical code, and the name for people.
    g_per_kwh, year
        gCO2e/kWh, and the year that it is the mean of.
    source, scope
        Who published it, and which emissions it counts.
    rounding
        What the rounding of the published figures may change, as a part of it.
    uncounted_g_per_kwh
        What the table says that it left out, g/kWh at most.
    problem
        Why the figure cannot be used, as the end of a sentence that begins with the name; empty: it can.
    """

    code: str
    name: str
    g_per_kwh: float
    year: int | None
    source: str
    scope: str
    rounding: float = 0.0
    uncounted_g_per_kwh: float = 0.0
    problem: str = ""


def shipped() -> Path | None:
    """The folder of the installed CodeCarbon's JSON files, found without importing it; None where there is none."""
    from importlib.util import find_spec

    try:
        spec = find_spec("codecarbon")
    except (ImportError, ValueError):
        return None
    roots = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(roots[0]) / "data" / "private_infra" if roots else None


def publisher(source: str, folder: Path) -> str:
    """A source with the release of CodeCarbon that its figure was read from."""
    release = _release(folder.parent.parent.parent)  # site-packages/codecarbon/data/private_infra
    return f"{source}, in CodeCarbon {release}" if release else f"{source}, in CodeCarbon's table"


@lru_cache(maxsize=8)
def _release(packages: Path) -> str:
    """The release of CodeCarbon by its folder of metadata (importlib.metadata would cost 50 ms)."""
    found = (path.name for path in packages.glob("codecarbon-*.dist-info"))
    return next((name.removeprefix("codecarbon-").removesuffix(".dist-info") for name in found), "")


def read_json(folder: Path | None, name: str) -> dict[str, Any]:
    """The JSON object of a file, empty where there is none."""
    if folder is None:
        return {}
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def number(value: object) -> float:
    """A figure of a table as a float; NaN for what is none."""
    try:
        return math.nan if isinstance(value, (bool, str, bytes)) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return math.nan


def year_of(value: object) -> int | None:
    """A year of a table; None for what is none."""
    year = number(value)
    return int(year) if 1900 <= year <= 2200 else None


def countries(folder: Path | None) -> dict[str, dict[str, Any]]:
    """The rows of the table of countries as they are, by ISO 3166 alpha-3 code."""
    return {code: row for code, row in read_json(folder, COUNTRIES).items() if isinstance(row, dict)}


def newest_year(table: dict[str, dict[str, Any]]) -> int:
    """The year of the table's newest rows."""
    return max((year_of(row.get("year")) or 0 for row in table.values()), default=0)


def country(
    code: str, table: dict[str, dict[str, Any]], folder: Path, newest: int | None = None
) -> Row | None:
    """A country's figure; None where the table has no such country. `newest` spares looking for `newest_year`."""
    row = table.get(code)
    if row is None:
        return None
    value, year = number(row.get("carbon_intensity")), year_of(row.get("year"))
    rounding = _rounding(value, number(row.get("total_TWh")))
    return Row(
        code,
        str(row.get("country_name", code)),
        value,
        year,
        publisher(COUNTRY_SOURCE, folder),
        COUNTRY_SCOPE,
        rounding=rounding,
        problem=_problem(value, year, rounding, newest_year(table) if newest is None else newest),
    )


def gap(g_per_kwh: float) -> str:
    """Why a figure cannot be one of any grid; empty where it can.

    No grid is free of carbon over its life cycle, nor at the plants of a whole year: a zero is a gap.
    """
    if 0.0 < g_per_kwh < MAX_G_PER_KWH:
        return ""
    shown = "nothing" if math.isnan(g_per_kwh) else f"{g_per_kwh:g} g/kWh"
    return f"stands at {shown} in the table, which is a gap in the data"


def _problem(value: float, year: int | None, rounding: float, newest: int) -> str:
    if problem := gap(value):
        return problem
    if rounding > _MOST_ROUNDING:
        return (
            f"stands at {value:g} g/kWh in the table, a quotient of figures so small that their rounding alone "
            f"leaves it open by {rounding:.0%}"
        )
    if year is None:
        return "has a figure without a year in the table"
    if newest - year > OLDEST_YEARS:
        return f"has no figure after {year} in the table, whose newest are of {newest}"
    return ""


def _rounding(g_per_kwh: float, total_twh: float) -> float:
    """Half a step of both the emissions and the generation that a figure is the quotient of, as a part of it."""
    emissions_mt = g_per_kwh * total_twh / 1000.0  # 1 g/kWh is 1 t/GWh
    if not (emissions_mt > 0.0 and total_twh > 0.0):
        return 0.0
    return _STEP / 2.0 / total_twh + _STEP / 2.0 / emissions_mt
