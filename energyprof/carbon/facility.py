"""What a data centre adds to its machines: PUE and WUE, given by the user or as the cloud's owner publishes them.

    PUE = energy of the facility / energy of its IT equipment            (ISO/IEC 30134-2:2016), at least 1
    WUE = litres of water on the site / kWh of its IT equipment          (ISO/IEC 30134-9:2022)

Grams and price are those of the facility's energy, so they are multiplied by the PUE. Water is counted per kWh of
the IT equipment, so it is not. Standard library alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from energyprof.carbon.ranges import Range, exact

MAX_PUE = 5.0  # a room that spends four times its machines' energy on itself: above that it is a slip
MAX_WUE = 50.0  # L/kWh; evaporating all heat as water takes 1.6 L/kWh (latent heat 2.26 MJ/kg)
PROVIDER = "provider"


@dataclass(frozen=True)
class Overhead:
    """A PUE or a WUE with its interval, and where it is from."""

    range: Range
    source: str


# A fleet's mean stands for one site: the interval is the range of the sites or regions that the owner tells of.
_PUE = {
    "aws": Overhead(
        Range(1.15, 1.04, 1.44),
        "AWS, fleet 2024, sites from 1.04 (best in Europe) to 1.44 (Mumbai, 2023); aws.amazon.com/sustainability",
    ),
    "azure": Overhead(
        Range(1.17, 1.12, 1.405),
        "Microsoft, fleet of fiscal year 2025, from 1.12 (newest) to 1.405 (Asia Pacific, 2021); "
        "datacenters.microsoft.com",
    ),
    "gcp": Overhead(
        Range(1.09, 1.06, 1.15),
        "Google, fleet 2024, campuses from 1.06 to 1.15; google.com/about/datacenters/efficiency",
    ),
}
# Microsoft's regions in 2021 were from 0.10 (EMEA) to 1.65 (Asia Pacific) where its fleet was at 0.49 L/kWh:
# 0.2 to 3.4 times the mean, which is taken for AWS too.
_WUE = {
    "aws": Overhead(
        Range(0.15, 0.03, 0.51), "AWS, fleet 2024; regions taken to differ as Microsoft's; aws.amazon.com"
    ),
    "azure": Overhead(
        Range(0.27, 0.055, 0.91),
        "Microsoft, fleet of fiscal year 2025; regions as in 2021; datacenters.microsoft.com",
    ),
}
NAMES = {"aws": "AWS", "azure": "Microsoft", "gcp": "Google"}


def pue(said: Any, place: str = "") -> Overhead | None:
    """The PUE that was said: a number from 1, or "provider" for that of the cloud that `place` is in.

    Raises
    ------
    ValueError
        With one line: it is no PUE, or the place is in no cloud that publishes one.
    """
    if said is None:
        return None
    if said == PROVIDER:
        return _published("PUE", _PUE, place)
    return Overhead(
        exact(_number("pue", said, 1.0, MAX_PUE, "1.2, or 'provider' for the cloud's own")), "given"
    )


def wue(said: Any, place: str = "") -> Overhead | None:
    """The WUE that was said, L/kWh; as `pue`."""
    if said is None:
        return None
    if said == PROVIDER:
        return _published("WUE", _WUE, place)
    return Overhead(
        exact(_number("wue", said, 0.0, MAX_WUE, "litres a kWh such as 1.8, or 'provider'")), "given"
    )


def _published(what: str, table: dict[str, Overhead], place: str) -> Overhead:
    cloud = place.partition(":")[0] if ":" in place else ""
    if cloud in table:
        return table[cloud]
    known = ", ".join(NAMES[name] for name in table)
    if cloud in NAMES:
        raise ValueError(f"{NAMES[cloud]} publishes no {what}; give a number")
    raise ValueError(
        f"{what.lower()} is 'provider', but the place is no cloud region; say one of {known} "
        f"(aws:eu-west-3) or give a number"
    )


def _number(name: str, said: Any, least: float, most: float, example: str) -> float:
    try:
        value = float("nan") if isinstance(said, bool) else float(said)
    except (TypeError, ValueError):
        value = float("nan")
    if not least <= value <= most:
        raise ValueError(f"{name} is {str(said)[:40]!r}; give a number from {least:g} to {most:g}: {example}")
    return value
