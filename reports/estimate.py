"""An estimate as plain text: figures with their intervals, what they are like, other places, other times, and what
was assumed. Data in, text out."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

from energyprof.carbon.equivalents import equivalents
from energyprof.carbon.estimate import Assumption, Estimate
from energyprof.carbon.intensity import Intensity
from energyprof.carbon.ranges import Range, exact
from energyprof.carbon.when import Choice, Window
from energyprof.carbon.workload import Ask
from energyprof.reasons import ASSUMED_LOCATION
from energyprof.reports.numbers import NO_FIGURE, clean, duration, table

WIDTH = 80
_LABEL = 12
_PLACE = 34
_MOST_DIGITS = 4
_GRAMS = ((1e9, "kt"), (1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-3, "mg"))
_KWH = ((1e6, "GWh"), (1e3, "MWh"), (1.0, "kWh"), (1e-3, "Wh"))
_LITRES = ((1e3, "m³"), (1.0, "L"), (1e-3, "mL"))
_WATTS = ((1.0, "W"),)
_HOURS = ((1.0, "h"), (1 / 60, "min"), (1 / 3600, "s"))
_PER_KWH = ((1.0, "g/kWh"),)
_PLAIN = ((1.0, ""),)


def grams(part: Range) -> str:
    """Grams of CO2e with their interval: "226 kg (90 to 300)"."""
    return span(part, _GRAMS)


def span(part: Range, units: Sequence[tuple[float, str]]) -> str:
    """A figure with its interval in the largest unit that leaves it above one: "1.2 MWh (0.7 to 1.9)".

    No more digits than the interval allows, and no fewer than two, so that a wide one still tells places apart.
    """
    plain = next(row for row in units if row[0] == 1.0)
    scale, unit = next((row for row in units if part.value >= row[0]), units[-1] if part.value > 0 else plain)
    value, lo, hi = part.value / scale, part.lo / scale, part.hi / scale
    half = (hi - lo) / 2
    if half <= 1e-9 * hi:
        return f"{_digits(value, _least_digit(value, 3))} {unit}".rstrip()
    step = max(_step(half), _least_digit(value, _MOST_DIGITS))
    said, low, high = (_digits(x, min(step, _least_digit(x, 2))) if x > 0 else "0" for x in (value, lo, hi))
    return f"{said} {unit} ({low} to {high})".replace("  ", " ")


def money(part: Range, currency: str) -> str:
    """A cost with its interval; of an exact one, cents."""
    unit = currency or "in the price's currency"
    return span(part, ((1.0, unit),)) if part.hi > part.lo else f"{part.value:,.2f} {unit}"


def estimate_text(
    asked: Ask,
    found: Estimate,
    places: Sequence[tuple[Intensity, Range]] = (),
    choice: Choice | None = None,
) -> list[str]:
    """Everything about an estimate that fits a terminal."""
    lines = [*_wrapped("estimate", _title(asked, found), indent=0), *_figures(found)]
    if choice is not None:
        lines += ["", *_when(found, choice)]
    if places:
        lines += ["", *_elsewhere(found, places)]
    return [*lines, "", *_assumed(found.assumptions)]


def _title(asked: Ask, found: Estimate) -> str:
    own = f"a device of {found.device_w.value:g} W"
    what = f"{found.count:,} x {clean(found.device) or own}"
    if asked.hours is not None:
        return f"{what} for {_time(found.hours.value)}"
    work = f"{found.flop or 0.0:.3g} FLOP".replace("e+", "e")
    if asked.params is not None and asked.tokens is not None:
        kind = "inference" if asked.inference else "training"
        work += f" of {kind}, {_many(asked.params)} parameters and {_many(asked.tokens)} tokens"
    return f"{what} for {work}"


def _figures(found: Estimate) -> Iterable[str]:
    hours, place = found.hours, found.site.intensity
    total = "" if found.count == 1 else f"; {span(exact(hours.value * found.count), _PLAIN)} device hours"
    yield from _wrapped("time", span(hours, _HOURS) + total)
    power = f"{span(found.device_w, _WATTS)} a device"
    if found.host_w.hi > 0:
        power += f", {span(found.host_w, _WATTS)} the rest of its server"
    yield from _wrapped("power", power)
    yield from _wrapped("energy", span(found.kwh, _KWH))
    year = f" {place.year}" if place.year else ""
    assumed = " (no place was said)" if ASSUMED_LOCATION in place.flags else ""
    intensity = span(place.range, _PER_KWH)
    yield from _wrapped(
        "CO2e", f"{grams(found.co2e_g)}; {clean(place.place_name)}{year}{assumed}, {intensity}"
    )
    alike = "; ".join(text for text, _ in equivalents(found.co2e_g.value))
    if alike:
        yield from _wrapped("as much as", alike)
    if found.cost is not None:
        yield from _wrapped("cost", money(found.cost, found.currency))
    if found.water_l.hi > 0:
        yield from _wrapped("water", f"{span(found.water_l, _LITRES)} at the site")
    if found.made is not None:
        making = f"{grams(found.made.devices_g)} of making the devices, {grams(found.made.servers_g)} their servers"
        yield from _wrapped("embodied", f"{making}; apart, in no figure above")


def _when(found: Estimate, choice: Choice) -> list[str]:
    """The greenest start, and what it saves."""
    length = choice.greenest.end_s - choice.greenest.begin_s
    series = found.site.series
    source = clean(series.source) if series is not None else "the series"
    rows = [["start", "UTC", "g/kWh", "CO2e"]]
    named = (("greenest", choice.greenest), ("earliest", choice.earliest), ("worst", choice.worst))
    rows += [
        [name, _moment(window), f"{window.g_per_kwh:,.0f}", _of(found, window)] for name, window in named
    ]
    mean = choice.mean_g_per_kwh
    rows.append(["mean of all", NO_FIGURE, f"{mean:,.0f}", grams(found.kwh * mean)])
    saved = choice.earliest.g_per_kwh - choice.greenest.g_per_kwh
    words = f"the greenest start saves {100 * choice.saved:.0f} % against the earliest"
    if saved > 0:
        words += f": {grams(found.kwh * saved)}"
    lines = [f"when, for {duration(length)}, by {source}"]
    lines += [f"  {line}" for line in table(rows, right=(2,))]
    return [*lines, f"  {words}"]


def _of(found: Estimate, window: Window) -> str:
    return grams(found.kwh * window.g_per_kwh)


def _moment(window: Window) -> str:
    return datetime.fromtimestamp(window.begin_s, timezone.utc).strftime("%Y-%m-%d %H:%M")


def _elsewhere(found: Estimate, places: Sequence[tuple[Intensity, Range]]) -> list[str]:
    own = found.site.intensity
    rows = [["  the same run in", "year", "g/kWh", "CO2e", "ratio"]]
    other_scopes = False
    for place, co2e in places:
        another = bool(own.place) and place.scope != own.scope
        other_scopes |= another
        ratio = co2e.value / found.co2e_g.value if found.co2e_g.value > 0 else math.nan
        rows.append(
            [
                ("* " if place == own else "~ " if another else "  ") + _short(place),
                str(place.year or NO_FIGURE),
                f"{place.g_per_kwh:,.0f}",
                grams(co2e),
                NO_FIGURE if math.isnan(ratio) else f"{ratio:.2f}" if ratio >= 0.01 else f"{ratio:.1g}",
            ]
        )
    lines = table(rows, right=(2, 4))
    return [*lines, "~ counts emissions otherwise (`--json` has the scopes)"] if other_scopes else lines


def _short(place: Intensity) -> str:
    """A place's name without what stands in brackets behind it; a cloud's region by its code and its city."""
    name = clean(place.place_name).partition(" (")[0]
    if ":" in place.place:
        name = ", ".join([place.place, *name.split(", ")[1:2]])
    return name if len(name) <= _PLACE else f"{name[: _PLACE - 1]}…"


def _assumed(assumptions: Iterable[Assumption]) -> list[str]:
    """What nobody said, with its source; saying it narrows the estimate."""
    lines = ["taken where nothing was said (figures are 95 % intervals; `--json` has all):"]
    for each in assumptions:
        if each.said:
            continue
        value = f"{span(each.range, _PLAIN)}, " if each.range is not None else ""
        lines += _wrapped(each.name, f"{value}{clean(each.text)} [{clean(each.source)}]")
    return lines


def _time(hours: float) -> str:
    return f"{hours:,.4g} h" if hours >= 1 else duration(3600 * hours)


def _many(number: float) -> str:
    scale, unit = next((row for row in ((1e12, "T"), (1e9, "B"), (1e6, "M")) if number >= row[0]), (1.0, ""))
    return f"{number / scale:.4g}{unit}"


def _wrapped(label: str, text: str, indent: int = 2) -> list[str]:
    head = " " * indent + label.ljust(_LABEL - 1) + " "
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * (indent + _LABEL),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _step(half: float) -> float:
    """The last digit that an interval of this half-width allows: two digits of it where it begins with 1 or 2,
    else one (the GUM's habit)."""
    mantissa, _, exponent = f"{half:.1e}".partition("e")
    return 10.0 ** (int(exponent) - (1 if float(mantissa) < 3 else 0))


def _least_digit(value: float, digits: int) -> float:
    return 10.0 ** (math.floor(math.log10(value)) - digits + 1) if value > 0 else 1.0


def _digits(value: float, step: float) -> str:
    """A number rounded to a power of ten."""
    places = max(0, -math.floor(math.log10(step) + 0.5))
    return f"{round(value / step) * step:,.{places}f}"
