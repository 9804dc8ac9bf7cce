"""Regions of clouds: Google's own figure for each of its regions, and the grid where a region of AWS or Azure lies.

AWS and Microsoft publish no figure for a region, but where it stands: `cloud_regions.json` holds the country, state,
province or bidding zone of each, from the providers' own pages, and the figure is that grid's. Google publishes
the grid's intensity for its regions, of which CodeCarbon ships a year; a region that is newer than that year
has its grid's figure too.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

from energyprof.carbon.subdivisions import grid
from energyprof.carbon.tables import Row, gap, number, publisher, read_json

REGIONS = "cloud_regions.json"
GOOGLE = "cloud/impact.csv"
# The figures of the shipped file are those of data/yearly/2023.csv in GoogleCloudPlatform/region-carbon-info.
GOOGLE_YEAR = 2023
# Its README: "average operational gross emissions per unit of energy from the grid"; hours of Electricity Maps.
GOOGLE_SCOPE = "operational emissions of the electricity on the grid there, imports included"
GOOGLE_SOURCE = "Google Cloud region carbon data"
_MISSPELT = {"me-cenrtal1": "me-central1"}  # so in the shipped file; its row is Doha's

_PROVIDER_OF = {
    **dict.fromkeys(("aws", "amazon", "ec2"), "aws"),
    **dict.fromkeys(("azure", "microsoft"), "azure"),
    **dict.fromkeys(("gcp", "gce", "google"), "gcp"),
}


def find(text: str, folder: Path) -> Row | None:
    """The figure of a region with its provider (aws:eu-west-3), or of a name that one provider alone has.

    A zone within a region counts as the region (us-east-1a, europe-west9-b).
    """
    wanted = text.casefold()
    prefix, mark, name = wanted.partition(":")
    if mark:
        provider = _PROVIDER_OF.get(prefix.strip(), "")
        return region(provider, name.strip(), folder) if provider else None
    found = [row for provider in ("aws", "azure", "gcp") if (row := region(provider, wanted, folder))]
    return found[0] if len(found) == 1 else None


def region(provider: str, name: str, folder: Path) -> Row | None:
    """The figure of one region of one provider; None where the tables do not have it."""
    name = region_of(provider, name)
    if provider == "gcp" and (row := google(folder).get(name)) is not None:
        return row
    about = known().get(provider, {})
    if name not in about.get("regions", {}):
        return None
    zone, city = about["regions"][name]
    row = grid(zone, folder)
    if row is None:
        return None
    return Row(
        f"{provider}:{name}",
        f"{about['name']} {name}, {city} (grid of {row.name}, {zone})",
        row.g_per_kwh,
        row.year,
        f"{row.source}; region by {about['source']}",
        row.scope,
        rounding=row.rounding,
        uncounted_g_per_kwh=row.uncounted_g_per_kwh,
        problem=row.problem,
    )


def region_of(provider: str, name: str) -> str:
    """A region's name, from that of a zone within it."""
    if provider == "aws":
        return re.sub(r"(?<=-\d)[a-z]$", "", name)
    return re.sub(r"(?<=\d)-[a-z]$", "", name) if provider == "gcp" else name.replace(" ", "")


def grid_of(provider: str, name: str) -> str:
    """The canonical code of the grid where a region of AWS or Azure lies; empty where the table does not say."""
    return str(known().get(provider, {}).get("regions", {}).get(name, ("",))[0])


def known() -> dict[str, dict[str, Any]]:
    """By provider: its name, where the table is from, and the grid and the city of each region."""
    return read_json(Path(__file__).parent, REGIONS)


def google(folder: Path) -> dict[str, Row]:
    """Google's own figures, by region."""
    rows = {}
    for line in _lines(folder.parent / GOOGLE):
        if line.get("provider") != "gcp" or not line.get("region"):
            continue
        name = _MISSPELT.get(line["region"], line["region"])
        try:
            value = float(line.get("impact") or "nan")
        except ValueError:
            value = number(None)
        place = ", ".join(dict.fromkeys(filter(None, (line.get("city"), line.get("country_name")))))
        rows[name] = Row(
            f"gcp:{name}",
            f"Google Cloud {name}, {place}",
            value,
            GOOGLE_YEAR,
            publisher(GOOGLE_SOURCE, folder),
            GOOGLE_SCOPE,
            problem=gap(value),
        )
    return rows


def _lines(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error):
        return []
