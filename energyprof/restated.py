"""A stored run at another site: its grams, litres and money from its joules, where a place was forgotten or a price
is another. What is not said anew stays as the run has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from energyprof.carbon.facility import PROVIDER, Overhead
from energyprof.carbon.intensity import JOULES_PER_KWH, Intensity
from energyprof.carbon.ranges import Range, around
from energyprof.carbon.site import HERE, Site, site_of
from energyprof.footprint import Footprint, Mean, columns, of_energy
from energyprof.forecasting import grams_of_the_whole
from energyprof.reasons import ASSUMED_LOCATION, INTENSITY_FALLBACK

_COST = ("cost", "cost_lo", "cost_hi", "cost_currency", "price_source")


def restated(run: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a stored run that change with its site (see `schema.RUNS`).

    Parameters
    ----------
    run
        The run's row; rows of older releases may lack columns.
    said
        What is said anew, named as in `carbon.site.SAID`.

    Raises
    ------
    ValueError
        With one line: what was said makes no sense, or it changes with time, and when the run drew its energy is not
        in its row.
    """
    told = {name: value for name, value in said.items() if value is not None}
    moved = bool({"country", "intensity"} & {*told}) or run.get("intensity_g_per_kwh") is None
    site = site_of({HERE: None, **_cloud(told, run), **told})
    if site.series is not None or site.live or not (site.price is None or site.price.constant):
        raise ValueError(
            "figures by the hour need the run's readings; give a place, or one figure for all of it"
        )
    site = _with_the_rest(site, told, run, moved)
    stays = {*(run["flags"] or "").split(",")} - {""}
    flags = {*stays - {ASSUMED_LOCATION, INTENSITY_FALLBACK}, *site.intensity.flags} if moved else stays
    found = Footprint(site.intensity)
    if run["energy_j"] is not None:
        price = Mean(site.price.per_kwh, 0.0, 1.0) if site.price else _paid(run)
        found = of_energy(around(run["energy_j"], run["u95_j"]), site, site.intensity, (), price)
    changed = {**columns(found, site), "flags": ",".join(sorted(flags))}
    if "price" not in told:
        changed.update({name: run.get(name) for name in _COST})
        if "pue" in told and found.cost is not None:
            changed.update(zip(_COST[:3], found.cost))
    ahead = grams_of_the_whole({**run, **changed}) if run.get("forecast_energy_j") is not None else {}
    return {**changed, **ahead}


def _cloud(told: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    """The run's own region where a provider's figures are asked for and no other place is said."""
    place = run.get("intensity_place") or ""
    asked = PROVIDER in (told.get("pue"), told.get("wue")) and "intensity" not in told
    return {"country": place} if asked and ":" in place else {}


def _with_the_rest(site: Site, told: Mapping[str, Any], run: Mapping[str, Any], moved: bool) -> Site:
    """The site, with what was not said anew as the run has it."""
    if not moved:
        site = replace(site, intensity=_intensity(run))
    if "pue" not in told:
        site = replace(site, pue=_overhead(run, "pue", ""))
    return site if "wue" in told else replace(site, wue=_overhead(run, "wue", "_l_per_kwh"))


def _intensity(run: Mapping[str, Any]) -> Intensity:
    return Intensity(
        run["intensity_g_per_kwh"],
        run["intensity_place"] or "",
        run.get("intensity_place_name") or "",
        run["intensity_year"],
        run["intensity_source"] or "",
        (),
        run.get("intensity_scope") or "",
        run.get("intensity_lo_g_per_kwh"),
        run.get("intensity_hi_g_per_kwh"),
    )


def _overhead(run: Mapping[str, Any], name: str, unit: str) -> Overhead | None:
    value, lo, hi = (run.get(f"{name}{end}{unit}") for end in ("", "_lo", "_hi"))
    if value is None:
        return None
    ends = (value if lo is None else lo, value if hi is None else hi)
    return Overhead(Range(value, *ends), run.get(f"{name}_source") or "")


def _paid(run: Mapping[str, Any]) -> Mean | None:
    """What the run paid for a kilowatt-hour, on average; None where that is not known."""
    if run.get("cost") is None or not run["energy_j"]:
        return None
    kwh = run["energy_j"] / JOULES_PER_KWH * (run.get("pue") or 1.0)
    return Mean(run["cost"] / kwh, 0.0, 1.0)
