"""US states, Canadian and Chinese provinces and Nordic bidding zones: figures of grids within a country.

Each table has a convention of its own, and the row's `scope` says it:

- US states: EPA eGRID, CO2e emitted at the plants, lb/MWh; 1 lb is 0.45359237 kg by definition (international
  yard and pound agreement, 1959).
- Canadian provinces: shares of generation by source. CodeCarbon counts what coal, oil and gas emit, and takes
  every other source as free of carbon, which makes Quebec 3.9 g/kWh. Here each share is multiplied by the figure
  that the same release ships for that source: combustion for coal, oil and gas, the life cycle for the rest.
- Chinese provinces: the official factors of 2023, CO2 alone, with what provinces exchange.
- Nordic zones: generation by source (ENTSO-E) times the same figures by source. What they have no figure for
  is counted there as nothing; it widens the interval upward by its share at the figure of biomass.

The Nordic table's row for Finland is an older figure that was left in place and labelled 2025 (its own metadata
say so); Finland is one zone, so `FI` is the country FIN.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from energyprof.carbon import tables
from energyprof.carbon.tables import Row, gap, number, publisher, read_json, year_of

STATES = "2023/usa_emissions.json"
PROVINCES = "2023/canada_energy_mix.json"
CHINA = "2023/china_provincial_emissions.json"
NORDIC = "nordic_emissions.json"

G_PER_KWH_OF_LB_PER_MWH = 453.59237 / 1000.0

# Canada Post; ISO 3166-2:CA.
_CANADIAN = {
    "alberta": "AB",
    "british columbia": "BC",
    "manitoba": "MB",
    "new brunswick": "NB",
    "newfoundland and labrador": "NL",
    "northwest territories": "NT",
    "nova scotia": "NS",
    "nunavut": "NU",
    "ontario": "ON",
    "prince edward island": "PE",
    "quebec": "QC",
    "saskatchewan": "SK",
    "yukon": "YT",
}
# Names in the table of mixes, where they differ from those in the table of sources.
_SOURCE_NAMES = {"naturalGas": "natural_gas", "hydro": "hydroelectricity"}
_COUNTRY_OF = {"US": "US", "USA": "US", "CA": "CA", "CAN": "CA", "CN": "CN", "CHN": "CN"}
_CHINESE_SUFFIX = re.compile(r"\s+(autonomous region|municipality|province)$")
_ZONE = re.compile(r"(SE[1-4]|NO[1-5])")


def grid(code: str, folder: Path) -> Row | None:
    """The figure of a country, state, province or zone by its canonical code; None where there is none."""
    if len(code) == 3 and code.isalpha():
        return tables.country(code, tables.countries(folder), folder)
    if _ZONE.fullmatch(code):
        return zones(folder).get(code)
    return _OF[code[:2]](folder).get(code) if code[:2] in _OF and code[2:3] == "-" else None


def find(text: str, folder: Path) -> Row | None:
    """What a user means by a zone (SE3, SE-SE3), or by a country and a part of it (US-CA, USA/california)."""
    upper = text.upper()
    zone = upper[3:] if upper[:3] in ("SE-", "NO-") and upper[3:5] == upper[:2] else upper
    if _ZONE.fullmatch(zone):
        return zones(folder).get(zone)
    country, mark, part = upper.replace("/", "-", 1).partition("-")
    if not mark or country not in _COUNTRY_OF:
        return None
    country = _COUNTRY_OF[country]
    rows = _OF[country](folder)
    if (row := rows.get(f"{country}-{part.strip()}")) is not None:
        return row
    wanted = _plain(part)
    names = _chinese_names(folder) if country == "CN" else {_plain(r.name): c for c, r in rows.items()}
    return rows.get(names.get(_CHINESE_SUFFIX.sub("", wanted) if country == "CN" else wanted, ""))


def two_letters(folder: Path) -> dict[str, Row]:
    """States and provinces by the two letters that people there use, which are codes of countries elsewhere."""
    return {row.code[3:]: row for rows in (states(folder), provinces(folder)) for row in rows.values()}


def states(folder: Path) -> dict[str, Row]:
    """The states of the USA and Washington, D.C., by code (US-CA)."""
    table = read_json(folder, STATES)
    about = table.get("_source")
    said = about if isinstance(about, dict) else {}
    source = publisher(str(said.get("name") or "EPA eGRID").split(",")[0], folder)
    year = year_of(said.get("year"))
    scope = "CO2e emitted at the state's power plants, per kWh generated"
    rows = {}
    for name, row in table.items():
        if not isinstance(row, dict) or not re.fullmatch("[A-Z]{2}", str(row.get("regionCode", ""))):
            continue
        value = number(row.get("emissions")) * G_PER_KWH_OF_LB_PER_MWH
        code = f"US-{row['regionCode']}"
        rows[code] = Row(code, _titled(name), value, year, source, scope, problem=gap(value))
    return rows


def provinces(folder: Path) -> dict[str, Row]:
    """The provinces and territories of Canada, by code (CA-QC)."""
    per_source = read_json(folder, tables.PER_SOURCE)
    source = publisher("Canada's generation by source (Canada Energy Regulator)", folder)
    scope = "generation by source: combustion of coal, oil and gas, life cycle of the rest; production based"
    rows = {}
    for name, mix in read_json(folder, PROVINCES).items():
        if not isinstance(mix, dict) or name not in _CANADIAN:
            continue
        value = _of_mix(mix, per_source)
        code = f"CA-{_CANADIAN[name]}"
        year = int(PROVINCES.split("/", 1)[0])
        rows[code] = Row(code, _titled(name), value, year, source, scope, problem=gap(value))
    return rows


def chinese(folder: Path) -> dict[str, Row]:
    """The provinces of China, by code (CN-BJ)."""
    source = publisher("Ministry of Ecology and Environment of China, Announcement 2025 No. 47", folder)
    scope = "CO2 alone, emitted at the power plants, with what provinces exchange"
    return _factors(read_json(folder, CHINA), source, scope)


def zones(folder: Path) -> dict[str, Row]:
    """The bidding zones of Sweden and Norway, by code (SE3)."""
    biomass = number(read_json(folder, tables.PER_SOURCE).get("biomass"))
    source = publisher("ENTSO-E generation by source (Khepri 1.3, doi:10.5281/zenodo.22285397)", folder)
    scope = "generation by source: combustion of coal, oil and gas, life cycle of the rest; production based"
    rows = _factors(read_json(folder, NORDIC), source, scope, 0.0 if math.isnan(biomass) else biomass)
    return {code: row for code, row in rows.items() if _ZONE.fullmatch(code)}


def _factors(table: Mapping[str, Any], source: str, scope: str, uncounted: float = 0.0) -> dict[str, Row]:
    """Rows of a table that gives a factor a code, with the share of the generation that it covers."""
    data = table.get("data")
    rows = {}
    for code, row in (data if isinstance(data, dict) else {}).items():
        if not isinstance(row, dict):
            continue
        value, said = number(row.get("emission_factor")), str(row.get("coverage", "100%"))
        percent = re.match(r"\d+(\.\d+)?(?=%)", said)
        left_out = max(0.0, 1.0 - float(percent[0]) / 100.0) if percent else 0.0
        rows[code] = Row(
            code,
            str(row.get("description") or code).partition(" (")[0],
            value,
            year_of(row.get("year")),
            source,
            f"{scope}; {left_out:.2%} of it is counted as nothing" if left_out else scope,
            uncounted_g_per_kwh=left_out * uncounted,
            problem=gap(value),
        )
    return rows


def _of_mix(mix: Mapping[str, Any], per_source: Mapping[str, Any]) -> float:
    """The mean of the sources' figures, weighted by their shares; NaN where a share has no figure.

    The shares are divided by their own sum: the table's `total` is rounded apart from them.
    """
    shares = {name: number(share) for name, share in mix.items() if name != "total"}
    whole = math.fsum(shares.values())
    used = {name: share for name, share in shares.items() if share != 0.0}
    figures = {name: number(per_source.get(_SOURCE_NAMES.get(name, name))) for name in used}
    return math.fsum(used[name] * figures[name] for name in used) / whole if whole > 0.0 else math.nan


def _chinese_names(folder: Path) -> dict[str, str]:
    data = read_json(folder, CHINA).get("data")
    rows = data.items() if isinstance(data, dict) else ()
    return {str(name): code for code, row in rows if isinstance(row, dict) for name in row.get("names") or ()}


def _plain(name: str) -> str:
    """A name in lower case, without accents, and with blanks for dashes and underscores."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return " ".join(re.sub("[-_]", " ", "".join(c for c in letters if not unicodedata.combining(c))).split())


def _titled(name: str) -> str:
    return " ".join(word if word in ("of", "and") else word.capitalize() for word in name.split())


_OF = {"US": states, "CA": provinces, "CN": chinese}
