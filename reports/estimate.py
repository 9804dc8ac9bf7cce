"""An estimate as plain text: figures with their intervals, what they are like, other places, other times, and what
was assumed. Data in, text out."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

from energyprof.carbon.assumptions import Assumption
from energyprof.carbon.elsewhere import There
from energyprof.carbon.equivalents import equivalents
from energyprof.carbon.estimate import Estimate
from energyprof.carbon.intensity import Intensity
from energyprof.carbon.ranges import Range, exact
from energyprof.carbon.series import Series
from energyprof.carbon.signed import Signed
from energyprof.carbon.when import Choice, Window
from energyprof.carbon.workload import Ask
from energyprof.reasons import ASSUMED_LOCATION
from energyprof.reports.numbers import NO_FIGURE, clean, duration, money, plain, ranged, table

WIDTH = 80
_LABEL = 12
_PLACE = 30
_LEAST = 1e-6  # of a unit: the last prefix; below it there are only zeros
_TONNE_G = 1e6
_HOURS = ((1e5, 1 / 8766, "years"), (1.0, 1.0, "h"), (1 / 60, 60.0, "min"))
_NO_RATIO = 1e5  # times a figure that is as good as zero
_MANY = 1e7  # devices' hours with a prefix from there
_SUMS = ((1e13, 1e12, "trillion"), (1e10, 1e9, "billion"), (1e7, 1e6, "million"))


def grams(part: Range) -> str:
    """Grams of CO2e with their interval, in tonnes where they are that many: "230 (87 to 300) kg"."""
    return _scaled(part * (1 / _TONNE_G), "t") if part.value >= 0.9995 * _TONNE_G else _scaled(part, "g")


def cost(part: Signed, currency: str) -> str:
    """Money with its interval; large sums in millions."""
    most = max(abs(part.lo), abs(part.hi))
    scale, word = next(((scale, f"{word} ") for least, scale, word in _SUMS if most >= least), (1.0, ""))
    unit = word + currency if currency else f"{word}(no currency said)"
    return money(part.value / scale, part.lo / scale, part.hi / scale, unit)


def hours(part: Range) -> str:
    """Hours with their interval, as years, minutes or seconds where that is nearer."""
    for least, factor, unit in _HOURS:
        if part.hi >= least:
            told = part * factor
            return plain(told.value, told.lo, told.hi, unit)
    return _scaled(part * 3600, "s")


def estimate_text(
    asked: Ask,
    found: Estimate,
    places: Sequence[There] = (),
    choice: Choice | None = None,
    sources: bool = False,
) -> list[str]:
    """Everything about an estimate that fits a terminal; with `sources`, by whom each figure is."""
    lines = [*_wrapped("estimate", _title(asked, found), indent=0), *_figures(found)]
    if choice is not None:
        lines += ["", *_when(found, choice)]
    if places:
        lines += ["", *_elsewhere(places)]
    if not sources:
        return [*lines, "", *_assumed(found.assumptions)]
    return [*lines, "", *_boards(found), "", *_sources(found, places)]


def _title(asked: Ask, found: Estimate) -> str:
    own = f"{found.count:,} device{'' if found.count == 1 else 's'} of {found.device_w.value:g} W"
    what = f"{found.count:,} x {clean(found.device)}" if found.device else own
    if asked.hours is not None:
        return f"{what} for {_time(found.hours.value)}"
    work = f"{found.flop or 0.0:.3g} FLOP".replace("e+", "e")
    if asked.params is not None and asked.tokens is not None:
        kind = "inference" if asked.inference else "training"
        work += f" of {kind}, {_many(asked.params)} parameters and {_many(asked.tokens)} tokens"
    return f"{what} for {work}"


def _figures(found: Estimate) -> Iterable[str]:
    place = found.site.intensity
    total = "" if found.count == 1 else f"; {_device_hours(found.hours * found.count)}"
    yield from _wrapped("time", hours(found.hours) + total)
    yield from _wrapped("power", _power(found))
    pue = found.pue.range
    energy = _scaled(found.kwh * 1e3, "Wh")
    if pue != exact(1.0) and found.kwh.hi * 1e3 >= _LEAST:
        energy += f" = {_scaled(found.machines_kwh * 1e3, 'Wh')} of the machines x PUE {_plain(pue)}"
    yield from _wrapped("energy", energy)
    year = f" {place.year}" if place.year else ""
    assumed = " (no place was said)" if ASSUMED_LOCATION in place.flags else ""
    intensity = _plain(place.range, "g/kWh")
    yield from _wrapped(
        "CO2e", f"{grams(found.co2e_g)}; {clean(place.place_name)}{year}{assumed}, {intensity}"
    )
    alike = "; ".join(text for text, _ in equivalents(found.co2e_g.value))
    if alike:
        yield from _wrapped("as much as", alike)
    if found.cost is not None:
        yield from _wrapped("cost", cost(found.cost, found.currency))
    if found.water_l.hi > 0:
        yield from _wrapped("water", f"{_scaled(found.water_l, 'L')} at the site")
    if found.made is not None:
        making = f"{grams(found.made.devices_g)} of making the devices, {grams(found.made.servers_g)} their servers"
        yield from _wrapped("embodied", f"{making}; apart, in no figure above")
    else:
        yield from _wrapped("embodied", f"{NO_FIGURE} ({clean(found.missing['made'])})")
    for note in found.notes:
        yield from _wrapped("note", clean(note))


def _power(found: Estimate) -> str:
    """How the watts of a device and of its share of the server come together; each may hold several boards."""
    power = f"{_plain(found.device_w, 'W')} a device"
    if found.host_w.hi > 0:
        power += f" + {_plain(found.host_w, 'W')} of its server = {_plain(found.together_w, 'W')}"
    return f"{power}; the intervals hold {len(found.boards)} boards" if len(found.boards) > 1 else power


def _when(found: Estimate, choice: Choice) -> list[str]:
    """The greenest start, and what it saves."""
    length = choice.greenest.end_s - choice.greenest.begin_s
    series = found.site.series
    source = clean(series.source) if series is not None else "the series"
    rows = [["start", "UTC", "g/kWh", "CO2e"]]
    named = (("greenest", choice.greenest), ("earliest", choice.earliest), ("worst", choice.worst))
    rows += [
        [name, _moment(window), _intensity(window.g_per_kwh), grams(found.kwh * window.g_per_kwh)]
        for name, window in named
    ]
    mean = choice.mean_g_per_kwh
    rows.append(["mean of all", NO_FIGURE, _intensity(mean), grams(found.kwh * mean)])
    words = f"the greenest start saves {100 * choice.saved:.0f} % against the earliest"
    if choice.saved_g_per_kwh > 0:
        words += f": {grams(found.kwh * choice.saved_g_per_kwh)}"
    lines = [f"when, for {duration(length)}, by {source}"]
    lines += [f"  {line}" for line in table(rows, right=(2,))]
    lines.append(f"  {words}")
    if series is not None and (holes_s := _holes_s(series)) >= 1:
        lines.append(
            f"  no start whose run would touch one of the series' holes ({duration(holes_s)} in all)"
        )
    return lines


def _holes_s(series: Series) -> float:
    """How many seconds of a series have no figure."""
    begin = float(series.begin_s[0])
    return series.end_s - begin - float(series.covered_s(begin, series.end_s))


def _intensity(g_per_kwh: float) -> str:
    return f"{g_per_kwh:,.0f}" if g_per_kwh >= 10 or g_per_kwh == 0 else f"{g_per_kwh:.2g}"


def _moment(window: Window) -> str:
    return datetime.fromtimestamp(window.begin_s, timezone.utc).strftime("%Y-%m-%d %H:%M")


def _elsewhere(places: Sequence[There]) -> list[str]:
    rows = [["  the same run in", "year", "g/kWh", "CO2e", "ratio"]]
    for there, name in zip(places, _names(there.place for there in places)):
        ratio, place = there.ratio, there.place
        rows.append(
            [
                ("* " if there.own else "~ " if there.comparable is False else "  ") + name,
                str(place.year or NO_FIGURE),
                f"{place.g_per_kwh:,.0f}",
                grams(there.co2e_g),
                _ratio(ratio),
            ]
        )
    lines = table(rows, right=(2, 4))
    if any(there.comparable is False for there in places):
        lines.append("~ counts emissions otherwise (`--sources` has the scopes)")
    return lines


def _ratio(ratio: float | None) -> str:
    if ratio is None or ratio >= _NO_RATIO:
        return NO_FIGURE
    return f"{ratio:,.2f}" if ratio >= 0.01 else f"{ratio:.1g}" if ratio >= 1e-4 else "0"


def _names(places: Iterable[Intensity]) -> list[str]:
    """The places' names; the code beside a name that stands twice."""
    told = [(place, _short(place)) for place in places]
    often = Counter(name for _, name in told)
    return [f"{name} ({place.place})" if often[name] > 1 and place.place else name for place, name in told]


def _short(place: Intensity) -> str:
    """A place's name without what stands in brackets behind it; a cloud's region by its code and its city."""
    name = clean(place.place_name).partition(" (")[0]
    if ":" in place.place and place.place_name.count(", "):
        name = ", ".join([place.place, *name.split(", ")[1:2]])
    return name if len(name) <= _PLACE else f"{name[: _PLACE - 1]}…"


def _assumed(assumptions: Iterable[Assumption]) -> list[str]:
    """What nobody said, a line each; saying it narrows the estimate."""
    lines = ["figures that were not said (95 % intervals; `--sources` has by whom):"]
    for each in assumptions:
        if not each.said:
            text = f"  {each.name.ljust(_LABEL)}{_figure(each)} {clean(each.words)}".rstrip()
            text = text if each.range is not None else f"  {each.name.ljust(_LABEL)}{clean(each.words)}"
            lines.append(text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…")
    return lines


def _boards(found: Estimate) -> list[str]:
    """How the energy of the machines is made, for each board: the first's figure, the ends of all."""
    lines = ["energy of the machines: devices x time x (watts of one + of its server)"]
    for board in found.boards:
        watts = _plain(board.device_w, "W")
        watts = f"({watts} + {_plain(board.host_w, 'W')})" if board.host_w.hi > 0 else watts
        energy = _scaled(board.machines_kwh * 1e3, "Wh")
        named = f"{clean(board.name)}: " if board.name else ""
        lines += _wrapped("board", f"{named}{found.count:,} x {hours(board.hours)} x {watts} = {energy}")
    return lines


def _sources(found: Estimate, places: Sequence[There]) -> list[str]:
    """By whom each figure is, those that were said too."""
    lines = ["figures (95 % intervals) and whose they are:"]
    for each in found.assumptions:
        value = f"{_figure(each)}, " if each.range is not None else ""
        lines += _wrapped(each.name, f"{value}{clean(each.text)} [{clean(each.source)}]")
    if found.made is not None:
        row = found.made.row
        made = f"{_scaled(row.kg * 1e3, 'g')} a device: {row.scope} [{row.source}]"
        lines += _wrapped("embodied", clean(made))
    for text, source in equivalents(found.co2e_g.value):
        lines += _wrapped("as much as", f"{text} [{source}]")
    for there, name in zip(places, _names(there.place for there in places)):
        lines += _wrapped("place", clean(f"{name}: {there.place.scope} [{there.place.source}]"))
    return lines


def _figure(each: Assumption) -> str:
    part = each.range
    if part is None:
        return ""
    if each.unit == "share":
        return plain(100 * part.value, 100 * part.lo, 100 * part.hi, "%")
    return plain(part.value, part.lo, part.hi, each.unit)


def _scaled(part: Range, unit: str) -> str:
    if 0 < part.hi < _LEAST:
        return f"below 1 µ{unit}"
    return ranged(part.value, part.lo, part.hi, unit)


def _plain(part: Range, unit: str = "") -> str:
    return plain(part.value, part.lo, part.hi, unit)


def _device_hours(part: Range) -> str:
    """Hours of all devices; "8.4 M device hours" where they are many."""
    if part.hi < 1.0:
        return f"{_scaled(part * 3600, 's')} of all devices"
    if part.hi < _MANY:
        return _plain(part, "device hours")
    return " ".join(ranged(part.value, part.lo, part.hi, " device hours").split())


def _time(length_h: float) -> str:
    if length_h >= 1:
        return f"{length_h:,.0f} h" if length_h >= 1000 else f"{length_h:.4g} h"
    return duration(3600 * length_h) if 3600 * length_h >= _LEAST else "below 1 µs"


def _many(number: float) -> str:
    rows = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
    scale, unit = next((row for row in rows if number >= row[0]), (1.0, ""))
    return f"{number / scale:.4g}{unit}" if number < 1e16 else f"{number:.3g}".replace("e+", "e")


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
