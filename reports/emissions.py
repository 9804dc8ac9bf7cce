"""What a run's energy cost, as lines of text: grams with place and interval, money, water, what is apart or ahead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from energyprof.carbon.equivalents import equivalents
from energyprof.carbon.intensity import GIVEN_SCOPE
from energyprof.reasons import ASSUMED_LOCATION, INTENSITY_FALLBACK
from energyprof.reports.numbers import NO_FIGURE, clean, duration, energy, money, ranged

_UNITS = {"l": "L"}  # as in column names -> as read

NO_PLACE = "nobody said the place"


def emissions(run: Mapping[str, Any], unsaid: str = "say --country") -> str:
    """Grams, and at whose intensity of when; `unsaid` where nobody said the place."""
    grams = _ranged(run, "co2e", "g")
    if run["intensity_g_per_kwh"] is None:
        return grams
    name = (run.get("intensity_place_name") or "given").removesuffix(" intensity")
    place = {"": clean(name), "WORLD": "world average"}.get(run["intensity_place"], run["intensity_place"])
    source = (run["intensity_source"] or "").split(" (")[0].split(",")[0]
    if run["intensity_place"] and source.startswith(("series ", "Electricity Maps")):
        place = f"{clean(source)}, {place}"
    year = f" {run['intensity_year']}" if run["intensity_year"] else ""
    flags = (run["flags"] or "").split(",")
    hint = f"; {unsaid}" if ASSUMED_LOCATION in flags else ""
    hint += "; not what was asked for" if INTENSITY_FALLBACK in flags else ""
    pue = f", PUE {run['pue']:g}" if run.get("pue") else ""
    return f"{grams} at {run['intensity_g_per_kwh']:.4g} g/kWh ({place}{year}{hint}){pue}"


def _ranged(run: Mapping[str, Any], name: str, unit: str) -> str:
    """A figure of a run with the ends of its interval; runs of older releases have none."""
    value, lo, hi = (run.get(f"{name}{end}_{unit}") for end in ("", "_lo", "_hi"))
    if value is None:
        return NO_FIGURE
    return (
        derived(run, value, unit)
        if lo is None or hi is None
        else ranged(value, lo, hi, _UNITS.get(unit, unit))
    )


def beside(run: Mapping[str, Any]) -> str:
    """What else the energy cost, and what stands apart from it; empty where nothing was said or is known."""
    parts = []
    if run.get("cost") is not None:
        parts.append(money(run["cost"], run["cost_lo"], run["cost_hi"], run["cost_currency"]))
    elif run.get("price_source") and run["energy_j"] is not None:
        parts.append(f"{NO_FIGURE} money ({clean(run['price_source'])})")
    if run.get("water_l") is not None:
        parts.append(f"{_ranged(run, 'water', 'l')} of water")
    if run.get("embodied_g") is not None:
        parts.append(f"{_ranged(run, 'embodied', 'g')} CO2e of making the devices, not in the above")
    return "; ".join(parts)


def sources(run: Mapping[str, Any]) -> list[str]:
    """Whose the figures are that made grams and litres of the joules, each with its interval, a line each."""
    scope = run.get("intensity_scope")
    named = (run.get("intensity_place_name"), run["intensity_year"]) if run["intensity_place"] else ()
    place = clean(" ".join(str(part) for part in named if part))
    rows = (
        (
            "intensity",
            "_g_per_kwh",
            f" g/kWh, {place}" if place else " g/kWh",
            "" if scope == GIVEN_SCOPE else scope,
        ),
        ("pue", "", "", ""),
        ("wue", "_l_per_kwh", " L/kWh", ""),
    )
    lines = []
    for name, unit, words, counted in rows:
        value, lo, hi = (run.get(f"{name}{end}{unit}") for end in ("", "_lo", "_hi"))
        label = name if name == "intensity" else name.upper()
        if value is None:
            left_out = run.get(f"{name}_source")
            lines += [f"{label}: {NO_FIGURE} ({clean(left_out)})"] if left_out else []
        else:
            ends = f" ({lo:.4g} to {hi:.4g})" if lo is not None and hi is not None and lo < hi else ""
            told = "; ".join(clean(part) for part in (run.get(f"{name}_source"), counted) if part)
            lines.append(f"{label}: {value:.4g}{ends}{words}: {told}")
    if run.get("embodied_g") is not None:
        lines.append(f"embodied: {clean(run['embodied_source'])}")
    return lines


def pictured(run: Mapping[str, Any]) -> list[str]:
    """The grams of a run as something that a person can picture."""
    found = equivalents(run["co2e_g"] or 0.0)
    return ["", f"as much CO2e as {', or '.join(text for text, _ in found)}"] if found else []


def ahead(run: Mapping[str, Any]) -> str:
    """What the whole training will cost; empty where nobody said how long it is, or all of it ran."""
    total, done = run.get("steps_total"), run.get("steps_done") or 0
    if not total or done == total:
        return ""
    if done > total:
        return f"{done:,} steps ran of the {total:,} that were said: the whole training is what was measured"
    parts = []
    if run["forecast_energy_j"] is not None:
        lo, hi = run["forecast_lo_j"], run["forecast_hi_j"]
        # The meters' own error is in no forecast of joules (docs/method.md).
        parts.append(ranged(run["forecast_energy_j"], lo, hi, "J") + " by these meters (90 %)")
    else:
        parts.append(f"{NO_FIGURE} ({run['forecast_reason'] or 'unknown'}{_unmarked(done)})")
    if run["forecast_co2e_g"] is not None:
        value, lo, hi = run["forecast_co2e_g"], run["forecast_co2e_lo_g"], run["forecast_co2e_hi_g"]
        parts.append(f"{ranged(value, lo, hi, 'g')} CO2e")
    if run["forecast_duration_s"] is not None:
        soon, late = duration(run["forecast_duration_lo_s"]), duration(run["forecast_duration_hi_s"])
        between = f" ({soon} to {late})" if soon != late else ""
        parts.append(duration(run["forecast_duration_s"]) + between)
    return f"{', '.join(parts)} for all {total:,} steps; {100 * done / total:.3g} % done"


def _unmarked(done: int) -> str:
    """What to do where a total was said and nothing in the program says what a step is."""
    if done:
        return ""
    return ": the program marks no steps; loop over run.steps(...), or use a Trainer's callback"


def derived(run: Mapping[str, Any], value: float, unit: str) -> str:
    """What is the run's energy over something known: its interval is that of the energy, relatively."""
    u95 = value * run["u95_j"] / run["energy_j"] if run["energy_j"] and run["u95_j"] else None
    return energy(value, u95, unit=unit)
