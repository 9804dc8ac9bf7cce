"""Where a run has its electricity from, and what it costs there: all that the user can say of it, checked once.

What was said travels with the run as plain facts (`SAID`), is checked before anything is measured, and is made
into a `Site` when the run is sealed. Loads no more than what was said needs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from energyprof.carbon import facility
from energyprof.carbon.facility import Overhead
from energyprof.carbon.intensity import Intensity, resolve

if TYPE_CHECKING:
    from energyprof.carbon.price import Price
    from energyprof.carbon.series import Series

SAID = ("country", "intensity", "pue", "wue", "price")
HERE = "here"  # the cloud's region as the machine named it when the run began, and what named it
LIVE = "electricitymaps"
_FILES = (".csv", ".parquet", ".pq")


@dataclass(frozen=True)
class Site:
    """Where the electricity of a run is from.

    `intensity` is the yearly figure of the place, or what the user gave; where `series` is there it is what
    stands in for the times that the series does not cover. `live` names the zone whose intensities are asked
    for at the run's end, empty for none.
    """

    intensity: Intensity
    series: Series | None = None
    live: str = ""
    pue: Overhead | None = None
    wue: Overhead | None = None
    price: Price | None = None


def site_of(said: Mapping[str, Any]) -> Site:
    """The site that was told; see `SAID` for the names, of which any may be missing or None.

    Raises
    ------
    ValueError
        With one line for the user, naming what is wrong and what to say instead.
    """
    unknown = sorted(set(said) - {*SAID, HERE})
    if unknown:
        raise ValueError(f"{unknown[0]} says nothing of a site; {', '.join(SAID)} do")
    site = _with_intensity(said)
    place = site.intensity.place
    price = said.get("price")
    if price is not None:
        from energyprof.carbon.price import parse

        site = replace(site, price=parse(price))
    return replace(site, pue=facility.pue(said.get("pue"), place), wue=facility.wue(said.get("wue"), place))


def _with_intensity(said: Mapping[str, Any]) -> Site:
    country, told = said.get("country"), said.get("intensity")
    if isinstance(told, os.PathLike):
        told = os.fspath(told)
    if not isinstance(told, str):
        return Site(_here(said) if country is None and told is None else resolve(country, told))
    text = os.path.expanduser(told.strip())
    if text.lower().endswith(_FILES):
        from energyprof.carbon.series_file import read

        series = read(text)
        return Site(_of_series(series) if country is None else resolve(country), series)
    if text.casefold().partition(":")[0] == LIVE:
        return _live(said, text)
    try:
        number = float(text)
    except ValueError:
        raise ValueError(
            f"intensity is {text[:40]!r}; give g CO2e/kWh, a .csv or .parquet file of times and g/kWh, or {LIVE}"
        ) from None
    return Site(resolve(country, number))


def _live(said: Mapping[str, Any], asked: str) -> Site:
    """A site whose intensities a service is asked for, once the run is over."""
    from energyprof.carbon.asking import refusal
    from energyprof.carbon.electricity_maps import TOKEN_VARIABLE, zone_asked

    base = _here(said) if said.get("country") is None else resolve(said["country"])
    zone = zone_asked(asked, base.place)
    if not os.environ.get(TOKEN_VARIABLE):
        raise ValueError(
            f"intensity is {asked[:40]!r}, which needs a token of Electricity Maps in {TOKEN_VARIABLE}"
        )
    if why := refusal(_url(), os.environ[TOKEN_VARIABLE]):  # told now rather than when the run is over
        raise ValueError(f"intensity is {asked[:40]!r}, and it is not asked: {why}")
    return Site(base, live=zone or "")


def with_hours(site: Site, begin_s: float, end_s: float) -> Site:
    """The site with the intensities of a time that is over (s since 1970), asked for over the network.

    Raises
    ------
    energyprof.carbon.asking.Unanswered
        With the reason in one line: there is no answer that could be used.
    """
    import numpy as np

    from energyprof.carbon import electricity_maps as maps
    from energyprof.carbon.series import Series

    told = maps.hours(site.live, begin_s, end_s, os.environ.get(maps.TOKEN_VARIABLE, ""), url=_url())
    begin, value = np.array(told.points, np.float64).T
    return replace(
        site, series=Series(begin, value, float(begin[-1]) + 3600.0, told.source, maps.SCOPE, True)
    )


def _url() -> str:
    from energyprof.carbon.electricity_maps import URL

    return os.environ.get("ELECTRICITYMAPS_URL") or URL


def _here(said: Mapping[str, Any]) -> Intensity:
    """The intensity of the cloud's region that this machine names, or named, else the world average."""
    from energyprof.carbon import here

    if HERE not in said:
        return here.place() or resolve()
    place, by = said[HERE] or (None, "")
    return here.named_by(resolve(place), by) if place else resolve()


def _of_series(series: Series) -> Intensity:
    """The mean of a series with its range: what stands in where it does not cover the run."""
    known = series.known
    mean = series.mean(float(series.begin_s[0]), series.end_s)
    lo, hi = float(known.min()), float(known.max())
    return Intensity(
        min(max(mean, lo), hi),
        "",
        series.source,
        None,
        series.source,
        scope=series.scope,
        lo_g_per_kwh=lo,
        hi_g_per_kwh=hi,
    )


def facts_of(said: Mapping[str, Any]) -> dict[str, Any]:
    """What was said as it travels with the run: plain numbers and texts, and the paths of files absolute."""
    return {name: _plain(name, said[name]) for name in SAID if said.get(name) is not None}


def at_start(site: Site, now_s: float) -> str:
    """What the user should know of a site before a run begins at `now_s` (s since 1970); empty for nothing."""
    for series, what in ((site.series, "intensity"), (site.price.series if site.price else None, "price")):
        if series is not None and not series.covered_s(now_s, now_s + 1.0) > 0:
            from energyprof.carbon.series import iso

            span = f"{iso(float(series.begin_s[0]))} to {iso(series.end_s)}"
            if series.begin_s[0] <= now_s < series.end_s:
                return f"{series.source} ({span}) has a hole now, and no {what} for what runs within it"
            return f"{series.source} ({span}) has no {what} for now: it must grow meanwhile to say anything of the run"
    return ""


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str):
        return float(value)
    if name == "price":
        from energyprof.carbon.price import absolute

        return absolute(value)
    is_file = name == "intensity" and value.strip().lower().endswith(_FILES)
    return os.path.abspath(os.path.expanduser(value.strip())) if is_file else value
