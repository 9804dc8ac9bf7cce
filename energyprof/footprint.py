"""Joules -> grams, litres and money: what a run's energy cost where it was drawn.

    grams = PUE x sum over steps of the intensity of (joules drawn in the step / 3.6e6) x intensity

A constant intensity is one step. With a series the joules of each step are the energy curves' between its ends, so
that grams follow power and intensity together. Water is WUE x kWh, without the PUE (see `carbon.facility`); money
is price x PUE x kWh; embodied emissions stand apart. Each has an interval: the energy's, the intensity's, the
PUE's, as a product of independent factors (`carbon.ranges`).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energyprof.carbon.asking import Unanswered
from energyprof.carbon.embodied import find_embodied, life, share
from energyprof.carbon.facility import Overhead
from energyprof.carbon.intensity import JOULES_PER_KWH, Intensity
from energyprof.carbon.price import Price
from energyprof.carbon.ranges import Range, around, exact, together
from energyprof.carbon.series import Series
from energyprof.carbon.site import HERE, SAID, Site, site_of, with_hours
from energyprof.carbon.spread import interval
from energyprof.curves import joules
from energyprof.reasons import INTENSITY_FALLBACK
from energyprof.tally import TOTAL, Meter, figures_on

Floats = NDArray[np.float64]
Times = NDArray[np.int64]
_FAR_NS = 9e18  # of 9.22e18, so that there is room for a machine's age


@dataclass(frozen=True)
class Clock:
    """Wall time of monotonic times: at `t_ns` it was `unix_ns`."""

    t_ns: int
    unix_ns: int

    def unix_s(self, t_ns: Any) -> Any:
        return (np.asarray(t_ns, np.int64) - self.t_ns + self.unix_ns) / 1e9

    def monotonic_ns(self, unix_s: Floats) -> Times:
        """Times beyond the three centuries that int64 holds on either side stay at their end, in order."""
        beside_ns = np.clip((unix_s - self.unix_ns / 1e9) * 1e9, -_FAR_NS, _FAR_NS)
        found: Times = np.rint(beside_ns).astype(np.int64) + self.t_ns
        return found


@dataclass(frozen=True)
class Footprint:
    """What a run's energy cost; None where the energy is not known, or nothing was said of it.

    `intensity` is the mean over the energy where it changed with time. `cost` is (value, lo, hi): in hours in
    which the market pays for what is taken it is below zero, which no `Range` is.
    """

    intensity: Intensity
    flags: tuple[str, ...] = ()
    co2e_g: Range | None = None
    water_l: Range | None = None
    cost: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Mean:
    """The mean of a figure over energy, its 95 % half-width, and the share of the energy it was known for."""

    value: float
    u95: float
    share: float


def of_run(
    facts: Mapping[str, Any], meters: Sequence[Meter], spans: Sequence[tuple[int, int]]
) -> tuple[dict[str, Any], set[str]]:
    """The columns of a run (see `schema.RUNS`) and its flags, by what its facts say of the site."""
    clock = Clock(int(facts["t_ns"]), int(facts["started_unix_ns"]))
    site, fell_back, lost = _site_of(facts.get("site") or {name: facts.get(name) for name in SAID})
    if site.live:
        site, fell_back = _asked(site, clock, spans)
    found = footprint(site, meters, spans, clock)
    made = making(meters, sum(end - begin for begin, end in spans) / 1e9)
    why = {f"{name}_source": f"left out: {fault}" for name, fault in lost.items()}
    flags = {*found.flags, *([INTENSITY_FALLBACK] if fell_back else [])}
    return {**columns(found, site), **why, **made}, flags


def _site_of(said: Mapping[str, Any]) -> tuple[Site, bool, dict[str, ValueError]]:
    """The site that was told when the run began; whether its intensity has gone since, and what else of it has, and
    why."""
    try:
        return site_of(said), False, {}
    except ValueError:  # a file that was there, a token, a table of another release
        pass
    kept: dict[str, Any] = {HERE: said[HERE]} if HERE in said else {}
    lost: dict[str, ValueError] = {}
    for name in SAID:
        try:
            site_of({**kept, name: said.get(name)})
        except ValueError as fault:
            lost[name] = fault
        else:
            kept[name] = said.get(name)
    places = [lost.pop(name) for name in ("country", "intensity") if name in lost]
    for name, why in lost.items():
        print(f"energyprof: warning: {why}; {name} is left out", file=sys.stderr)
    site = site_of(kept)
    return (_instead(site, places[0]) if places else site), bool(places), lost


def _asked(site: Site, clock: Clock, spans: Sequence[tuple[int, int]]) -> tuple[Site, bool]:
    """The site with the intensities that a service told, and whether it did not."""
    try:
        return with_hours(site, float(clock.unix_s(spans[0][0])), float(clock.unix_s(spans[-1][1]))), False
    except Unanswered as fault:
        return _instead(site, fault), True


def _instead(site: Site, fault: Exception) -> Site:
    """The site, its source saying why it is not what was asked for."""
    print(f"energyprof: warning: {fault}; another intensity stands in", file=sys.stderr)
    source = f"{site.intensity.source}; it stands in, since {fault}"
    return replace(site, intensity=replace(site.intensity, source=source))


def footprint(
    site: Site, meters: Sequence[Meter], spans: Sequence[tuple[int, int]], clock: Clock
) -> Footprint:
    """The grams, litres and money of the energy that the meters drew in `spans` (monotonic ns)."""
    drawn = [meter for meter in meters if meter.in_total]
    begins, ends = (np.array(column, np.int64) for column in zip(*spans))
    total = figures_on(meters, begins, ends)[TOTAL]
    known = total.energy_j is not None
    intensity, flags = site.intensity, site.intensity.flags
    if site.series is not None and known:
        found = mean_over(site.series, drawn, begins, ends, clock)
        intensity = _mixed(site.series, found, site.intensity, _utc(clock, begins[0]))
        flags = (*intensity.flags, *([INTENSITY_FALLBACK] if found.share < 1.0 else []))
    if total.energy_j is None:
        return Footprint(intensity, flags)
    price = None if site.price is None else _mean_price(site.price, drawn, begins, ends, clock)
    return of_energy(around(total.energy_j, total.u95_j), site, intensity, flags, price)


def of_energy(
    energy_j: Range, site: Site, intensity: Intensity, flags: tuple[str, ...], price: Mean | None
) -> Footprint:
    """What an energy cost, at an intensity and a price that hold for all of it."""
    kwh = energy_j / JOULES_PER_KWH
    building = kwh * (site.pue.range if site.pue else exact(1.0))
    return Footprint(
        intensity,
        flags,
        co2e_g=building * intensity.range,
        water_l=kwh * site.wue.range if site.wue else None,
        cost=_cost(building, price),
    )


def mean_over(series: Series, meters: Sequence[Meter], begins: Times, ends: Times, clock: Clock) -> Mean:
    """The mean of a series over the energy of intervals that do not overlap; a share of 0 where it covers none.

    With E_i the joules in step i and f_i its figure, the mean is m = sum f_i E_i / sum E_i. An error of E_i moves it
    by (f_i - m) / sum E_i: the meters' gain not at all.
    """
    edges = clock.monotonic_ns(series.edges_s)
    first, last, step = [], [], []
    for begin, end in zip(begins.tolist(), ends.tolist()):
        cuts = np.concatenate(([begin], edges[(edges > begin) & (edges < end)], [end]))
        first.append(cuts[:-1])
        last.append(cuts[1:])
        step.append(np.searchsorted(edges, cuts[:-1], side="right") - 1)
    begin_ns, end_ns, steps = (np.concatenate(parts) for parts in (first, last, step))
    inside = (steps >= 0) & (steps < len(series.value))
    figure = np.where(inside, series.value[np.clip(steps, 0, len(series.value) - 1)], np.nan)
    energy, squares = np.zeros(len(figure)), np.zeros(len(figure))
    for meter in meters:
        if meter.curve is not None:
            part = joules(meter.curve, begin_ns, end_ns)
            energy += part.energy_j
            squares += part.u_random_j**2
    covered = ~np.isnan(figure)
    whole, have = float(energy.sum()), float(energy[covered].sum())
    if not have > 0:
        return Mean(0.0, 0.0, 0.0)
    mean = float((figure[covered] * energy[covered]).sum()) / have
    u95 = float(np.sqrt((((figure - mean) ** 2 * squares)[covered]).sum())) / have
    return Mean(mean, u95, 1.0 if covered.all() else have / whole)


def making(meters: Sequence[Meter], duration_s: float) -> dict[str, Any]:
    """The columns of what making the devices emitted, by the part of their life that the run took.

    Devices of one model are off together, models by themselves.
    """
    models = Counter(str(meter.channel.device.get("model") or "") for meter in meters if meter.in_total)
    known = {model: row for model in sorted(models) if model and (row := find_embodied(model)) is not None}
    shares = [share(model, duration_s, models[model]) for model in known]
    source = "; ".join(
        f"{models[model]} x {row.kg.value:g} kg for {row.names[0]}, {row.scope} ({row.source})"
        for model, row in known.items()
    )
    whole = together(*(part for part in shares if part is not None)) if shares else None
    return {
        **_three("embodied", "g", whole),
        "embodied_source": f"{source}; life: {life()[1]}" if source else None,
    }


def columns(found: Footprint, site: Site) -> dict[str, Any]:
    """The run's columns (see `schema.RUNS`)."""
    intensity, price = found.intensity, site.price
    return {
        **_three("co2e", "g", found.co2e_g),
        **_three("intensity", "g_per_kwh", intensity.range),
        "intensity_place": intensity.place,
        "intensity_place_name": intensity.place_name,
        "intensity_year": intensity.year,
        "intensity_source": intensity.source,
        "intensity_scope": intensity.scope or None,
        **_bare("pue", site.pue),
        "pue_source": site.pue.source if site.pue else None,
        **_three("water", "l", found.water_l),
        **_three("wue", "l_per_kwh", site.wue.range if site.wue else None),
        "wue_source": site.wue.source if site.wue else None,
        **dict(zip(("cost", "cost_lo", "cost_hi"), found.cost or (None, None, None))),
        "cost_currency": price.currency or None if price else None,
        "price_source": _of_price(price, found) if price else None,
    }


def _bare(name: str, overhead: Overhead | None) -> dict[str, float | None]:
    ends = (None, None, None) if overhead is None else _ends(overhead.range)
    return dict(zip((name, f"{name}_lo", f"{name}_hi"), ends))


def _of_price(price: Price, found: Footprint) -> str:
    missing = found.co2e_g is not None and found.cost is None
    return f"{price.describe()}{', which has none for all of the run' if missing else ''}"


def _three(name: str, unit: str, range_: Range | None) -> dict[str, float | None]:
    ends = (None, None, None) if range_ is None else (range_.value, range_.lo, range_.hi)
    return dict(zip((f"{name}_{unit}", f"{name}_lo_{unit}", f"{name}_hi_{unit}"), ends))


def _mixed(series: Series, found: Mean, base: Intensity, begun: datetime) -> Intensity:
    """The intensity of a run: the series' where it covers the energy, the base where it does not."""
    span = f"{len(series.known)} figures, {_iso(series.begin_s[0])} to {_iso(series.end_s)}"
    rest = 1.0 - found.share
    if not found.share:
        what = "its mean" if base.source == series.source else base.source
        return replace(
            base, source=f"{what}; it stands in, since {series.source} ({span}) has none for the run"
        )
    mixed = [
        found.share * own + rest * other for own, other in zip(_covered(series, found), _ends(base.range))
    ]
    instead = f"; {100 * rest:.0f} % of the energy, for which it has none: {base.source}" if rest else ""
    scopes = f"{series.scope}; {100 * rest:.0f} %: {base.scope}" if rest else series.scope
    return replace(
        base,
        g_per_kwh=mixed[0],
        lo_g_per_kwh=mixed[1],
        hi_g_per_kwh=mixed[2],
        year=begun.year,
        source=f"{series.source} ({span}){instead}",
        scope=scopes,
        flags=base.flags if rest else (),
    )


def _covered(series: Series, found: Mean) -> tuple[float, float, float]:
    """The mean of a series over the energy with its interval: the energy's, and where others publish the same grid,
    how far they differ."""
    mean = around(found.value, found.u95)
    if not series.published or not found.value:
        return _ends(mean)
    lo, hi = interval(found.value, hours_part=0.0)
    return _ends(Range(1.0, lo / found.value, hi / found.value) * mean)


def _ends(range_: Range) -> tuple[float, float, float]:
    return range_.value, range_.lo, range_.hi


def _mean_price(price: Price, meters: Sequence[Meter], begins: Times, ends: Times, clock: Clock) -> Mean:
    if price.constant:
        return Mean(price.per_kwh, 0.0, 1.0)
    # A little more than the run, since seconds since 1970 are good to a microsecond alone.
    steps = price.over(float(clock.unix_s(begins[0])) - 1.0, float(clock.unix_s(ends[-1])) + 1.0)
    return mean_over(steps, meters, begins, ends, clock)


def _cost(building: Range, price: Mean | None) -> tuple[float, float, float] | None:
    """Money for the energy of the building; None where no price was said, or it is not known for all of it."""
    if price is None or price.share < 1.0:
        return None
    money = building * around(abs(price.value), price.u95)
    return _ends(money) if price.value >= 0 else (-money.value, -money.hi, -money.lo)


def _utc(clock: Clock, t_ns: int) -> datetime:
    return datetime.fromtimestamp(float(clock.unix_s(t_ns)), timezone.utc)


def _iso(second: float) -> str:
    return datetime.fromtimestamp(second, timezone.utc).strftime("%Y-%m-%dT%H:%MZ")
