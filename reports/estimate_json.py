"""An estimate for machines: every figure with its interval and source, every assumption, place and start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from energyprof.carbon import embodied
from energyprof.carbon.assumptions import GIVEN
from energyprof.carbon.elsewhere import There
from energyprof.carbon.equivalents import equivalents
from energyprof.carbon.estimate import Estimate
from energyprof.carbon.ranges import Range
from energyprof.carbon.signed import Signed
from energyprof.carbon.when import Choice
from energyprof.carbon.workload import Ask

# What each figure is made of, by the names of the assumptions.
_TIME = ("FLOP", "MFU", "peak")
_MACHINES = (*_TIME, "utilisation", "power", "host")
_BEHIND = {
    "hours": _TIME,
    "device_hours": _TIME,
    "device_w": ("utilisation", "power"),
    "host_w": ("host",),
    "together_w": ("utilisation", "power", "host"),
    "machines_kwh": _MACHINES,
    "energy_kwh": (*_MACHINES, "PUE"),
    "co2e_g": (*_MACHINES, "PUE", "intensity"),
    "water_l": (*_MACHINES, "WUE"),
    "cost": (*_MACHINES, "PUE", "price"),
}


def estimate_json(
    asked: Ask, found: Estimate, places: Sequence[There] = (), choice: Choice | None = None
) -> dict[str, Any]:
    """Everything about an estimate; what is null has its reason in `missing`."""
    figures: dict[str, Range | Signed | None] = {
        "hours": found.hours,
        "device_hours": found.hours * found.count,
        "device_w": found.device_w,
        "host_w": found.host_w,
        "together_w": found.together_w,
        "machines_kwh": found.machines_kwh,
        "energy_kwh": found.kwh,
        "co2e_g": found.co2e_g,
        "water_l": found.water_l,
        "cost": found.cost,
    }
    place = found.site.intensity
    data: dict[str, Any] = {
        "asked": {name: value for name, value in asdict(asked).items() if value is not None},
        "device": found.device,
        "boards": [asdict(board) for board in found.boards],
        "count": found.count,
        "flop": found.flop,
        **{name: _figure(part, _source(found, _BEHIND[name])) for name, part in figures.items()},
        "pue": _figure(found.pue.range, found.pue.source),
        "wue_l_per_kwh": _figure(found.wue.range, found.wue.source),
        "intensity": {**asdict(place), "range": asdict(place.range)},
        "price": _price(found),
        "embodied": _made(found),
        "missing": {{"made": "embodied"}.get(name, name): why for name, why in found.missing.items()},
        "notes": list(found.notes),
        "equivalents": [{"text": text, "source": source} for text, source in equivalents(found.co2e_g.value)],
        "elsewhere": [_there(there) for there in places],
        "assumptions": [asdict(each) for each in found.assumptions],
    }
    if found.cost is not None:
        data["cost"]["currency"] = found.currency
    if choice is not None:
        data["when"] = _when(found, choice)
    return data


def _figure(part: Range | Signed | None, source: str) -> dict[str, Any] | None:
    return None if part is None else {**asdict(part), "source": source}


def _source(found: Estimate, names: Sequence[str]) -> str:
    """Whose figures are behind one, each once."""
    told = {each.source: None for each in found.assumptions if each.name in names}
    return "; ".join(told) or GIVEN


def _price(found: Estimate) -> dict[str, Any] | None:
    if found.price is None or found.site.price is None:
        return None
    return {
        **asdict(found.price),
        "text": found.site.price.describe(),
        "currency": found.currency,
        "source": GIVEN,
    }


def _made(found: Estimate) -> dict[str, Any] | None:
    if found.made is None:
        return None
    years, source = embodied.life()
    return {
        **asdict(found.made),
        "server": asdict(embodied.server()),
        "life_years": _figure(years, source),
        "source": f"{found.made.row.source}; {embodied.server().source}; {source}",
    }


def _there(there: There) -> dict[str, Any]:
    place = there.place
    return {
        "place": place.place,
        "place_name": place.place_name,
        "own": there.own,
        "year": place.year,
        "g_per_kwh": asdict(place.range),
        "co2e_g": asdict(there.co2e_g),
        "ratio": there.ratio,
        "scope": place.scope,
        "comparable": there.comparable,
        "source": place.source,
    }


def _when(found: Estimate, choice: Choice) -> dict[str, Any]:
    windows = {"greenest": choice.greenest, "earliest": choice.earliest, "worst": choice.worst}
    series, mean = found.site.series, choice.mean_g_per_kwh
    return {
        **{
            name: {
                **asdict(window),
                "begin": datetime.fromtimestamp(window.begin_s, timezone.utc),
                "co2e_g": asdict(found.kwh * window.g_per_kwh),
            }
            for name, window in windows.items()
        },
        "mean": {"g_per_kwh": mean, "co2e_g": asdict(found.kwh * mean)},
        "saved": {"share": choice.saved, "co2e_g": asdict(found.kwh * choice.saved_g_per_kwh)},
        "source": "" if series is None else series.source,
        "scope": "" if series is None else series.scope,
    }
