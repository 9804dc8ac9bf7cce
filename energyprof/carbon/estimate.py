"""What a run would cost before it runs: hours, kWh, gCO2e, water, money, each with its 95 % interval and why.

    together  = watts of one device + watts of the rest of its server       (half-widths in quadrature)
    machines  = devices x hours x together
    facility  = machines x PUE;   gCO2e = facility x intensity;   cost = facility x price;   litres = machines x WUE

The first two are worked out for each board that a name may mean (`Estimate.boards`); the estimate has the figure of
the likeliest with the lowest and the highest end of all. What nobody said is in `assumptions`, with its source.
Emissions of making the devices stand apart and are in no sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from energyprof.carbon import assumed, embodied, facility, workload
from energyprof.carbon.assumed import Assumed
from energyprof.carbon.assumptions import GIVEN, Assumption, Taken, assumptions
from energyprof.carbon.embodied import Embodied
from energyprof.carbon.facility import Overhead
from energyprof.carbon.power import Power, host_w, of_device
from energyprof.carbon.price import Price
from energyprof.carbon.ranges import Range, exact, together
from energyprof.carbon.signed import Signed, within
from energyprof.carbon.site import Site
from energyprof.carbon.workload import Ask
from energyprof.flops.peaks import Device

if TYPE_CHECKING:
    from energyprof.carbon.when import Choice

MAX_KWH = 1e14  # the world generated 3e13 in 2024 (Ember, Global Electricity Review 2025)
_SECONDS_PER_HOUR = 3600.0
_FAR_ABOVE = 1.2  # a device's cap: short peaks above it are common, means are not


@dataclass(frozen=True)
class Made:
    """The share of the devices' making that the run's time is, grams; of their servers too, where those are apart."""

    devices_g: Range
    servers_g: Range
    row: Embodied


@dataclass(frozen=True)
class Board:
    """What the estimate is for one of the boards that the name may mean; watts are those of one device."""

    name: str
    hours: Range
    device_w: Range
    host_w: Range
    together_w: Range
    machines_kwh: Range


@dataclass(frozen=True)
class Estimate:
    """The figures; `hours` of the wall clock, `machines_kwh` before and `kwh` after the PUE, `device_w`, `host_w` and
    `together_w` those of one device.

    `missing` has a reason for each of `cost` and `made` that is None; `notes` are doubts about what was said.
    """

    device: str
    boards: tuple[Board, ...]
    count: int
    hours: Range
    device_w: Range
    host_w: Range
    together_w: Range
    machines_kwh: Range
    pue: Overhead
    kwh: Range
    co2e_g: Range
    wue: Overhead
    water_l: Range
    price: Signed | None
    cost: Signed | None
    currency: str
    flop: float | None
    made: Made | None
    missing: Mapping[str, str]
    notes: tuple[str, ...]
    site: Site
    assumptions: tuple[Assumption, ...]


def estimate(asked: Ask, site: Site) -> Estimate:
    """Work out the figures.

    Parameters
    ----------
    asked : from `workload.ask`.
    site : where it would run; what is not in it of PUE and WUE is assumed.

    Raises
    ------
    ValueError
        With one line: the device or its peak is not known, or the energy is more than there is.
    """
    devices = workload.boards_of(asked)
    first = devices[0] if devices else None
    utilisation = _utilisation(asked)
    power = _power(asked, first, utilisation.range)
    boards = [_board(asked, device, utilisation.range) for device in devices or (None,)]
    machines, hours = (
        envelope(getattr(board, name) for board in boards) for name in ("machines_kwh", "hours")
    )
    pue, wue = _overheads(site, first)
    kwh = machines * pue.range
    if kwh.value > MAX_KWH:
        raise ValueError(
            f"{kwh.value:.2g} kWh are more than the world generates in three years; is that right?"
        )
    price = price_range(site.price) if site.price is not None else None
    device_w, host_w = (
        envelope(board.device_w for board in boards),
        envelope(board.host_w for board in boards),
    )
    made = _made(first, hours, asked.count) if first is not None else None
    taken = Taken(utilisation, replace(power, range=device_w), host_w, pue, wue, price)
    return Estimate(
        device=boards[0].name,
        boards=tuple(boards),
        count=asked.count,
        hours=hours,
        device_w=device_w,
        host_w=host_w,
        together_w=envelope(board.together_w for board in boards),
        machines_kwh=machines,
        pue=pue,
        kwh=kwh,
        co2e_g=kwh * site.intensity.range,
        wue=wue,
        water_l=machines * wue.range,
        price=price,
        cost=price * kwh if price is not None else None,
        currency=site.price.currency if site.price is not None else "",
        flop=workload.flop_of(asked),
        made=made,
        missing=_missing(price, made, boards[0].name),
        notes=tuple(_notes(asked, devices, site)),
        site=site,
        assumptions=tuple(assumptions(asked, devices, taken, site)),
    )


def timed(asked: Ask, site: Site, now_s: float) -> tuple[Site, Choice | None]:
    """The site with the intensity of runs of this length in its series, and the greenest start; None without series.

    Parameters
    ----------
    now_s : seconds since 1970; starts before it are no candidates, unless the whole series is past.

    Raises
    ------
    ValueError
        The series holds no run of this length.
    """
    if site.series is None:
        return site, None
    from energyprof.carbon.when import choose

    boards = workload.boards_of(asked)
    duration_s = workload.hours_of(asked, boards[0] if boards else None).value * _SECONDS_PER_HOUR
    past = now_s >= site.series.end_s
    choice = choose(site.series, duration_s, -math.inf if past else now_s)
    lo, hi = choice.greenest.g_per_kwh, choice.worst.g_per_kwh
    known = replace(  # the place stays, since its cloud's PUE holds whatever the file says
        site.intensity,
        place_name=site.series.source,
        g_per_kwh=within(choice.mean_g_per_kwh, (lo, hi)).value,
        lo_g_per_kwh=lo,
        hi_g_per_kwh=hi,
        year=None,
        source=f"{site.series.source}, {site.series.scope}: the mean of all starts, from the greenest to the worst",
        flags=(),
        scope=site.series.scope,
    )
    return replace(site, intensity=known), choice


def envelope(ranges: Iterable[Range]) -> Range:
    """The first figure, with the interval that holds those of all."""
    told = list(ranges)
    lo, hi = min(part.lo for part in told), max(part.hi for part in told)
    return Range(told[0].value, lo, hi)


def price_range(price: Price) -> Signed:
    """A price a kWh for a run of which nobody knows the hour: the mean of all hours, and their range.

    Below zero where a market pays for what is taken.
    """
    if price.series is not None:
        known = price.series.known
        mean = price.series.mean(float(price.series.begin_s[0]), price.series.end_s)
        return within(mean, (float(known.min()), float(known.max())))
    told = [price.at_hour(hour) for hour in range(24)]
    return within(math.fsum(told) / len(told), told)


def _board(asked: Ask, device: Device | None, utilisation: Range) -> Board:
    power = _power(asked, device, utilisation).range
    host, hours = _host(asked, device, power), workload.hours_of(asked, device)
    both = together(power, host)
    name = device.name if device is not None else asked.gpu or ""
    return Board(name, hours, power, host, both, both * hours * (asked.count / 1e3))


def _utilisation(asked: Ask) -> Assumed:
    if asked.utilisation is not None:
        return Assumed(exact(asked.utilisation), GIVEN)
    if asked.hours is None:
        return Assumed(exact(1.0), "while it computes; its pauses are in the MFU")
    return assumed.UTILISATION


def _power(asked: Ask, board: Device | None, utilisation: Range) -> Power:
    if asked.watts is not None or board is None:
        return Power(exact(asked.watts or 0.0), f"{asked.watts or 0:g} W a device", GIVEN)
    return of_device(board, utilisation, asked.inference)


def _host(asked: Ask, board: Device | None, power_w: Range) -> Range:
    if asked.host_watts is not None:
        return exact(asked.host_watts)
    return host_w(board, power_w)


def _overheads(site: Site, board: Device | None) -> tuple[Overhead, Overhead]:
    """PUE and WUE: what was said, else what the owner of the cloud publishes, else the means of all."""
    place = site.intensity.place
    cloud = place if ":" in place else f"{board.cloud}:" if board is not None and board.cloud else ""
    outside = board is not None and board.whole and not cloud
    pue = site.pue or _published(facility.pue, cloud)
    wue = site.wue or _published(facility.wue, cloud)
    pue = pue or _overhead(assumed.PUE_WHOLE if outside else assumed.PUE)
    wue = wue or _overhead(Assumed(exact(0.0), assumed.PUE_WHOLE.source) if outside else assumed.WUE)
    return pue, wue


def _published(figure: Callable[[str, str], Overhead | None], cloud: str) -> Overhead | None:
    if not cloud:
        return None
    try:
        return figure(facility.PROVIDER, cloud)
    except ValueError:  # this one publishes none
        return None


def _overhead(taken: Assumed) -> Overhead:
    return Overhead(taken.range, taken.source)


def _made(board: Device, hours: Range, count: int) -> Made | None:
    row = embodied.find_embodied(board.name)
    an_hour = embodied.share(board.name, _SECONDS_PER_HOUR, count)
    if row is None or an_hour is None:
        return None
    servers = embodied.server_share(_SECONDS_PER_HOUR, count) * hours
    return Made(an_hour * hours, servers, row)


def _missing(price: Signed | None, made: Made | None, device: str) -> dict[str, str]:
    found = {} if price is not None else {"cost": "no price of a kWh was said"}
    if made is None:
        found["made"] = f"nobody published what making {device} emits" if device else "no device was named"
    return found


def _notes(asked: Ask, devices: tuple[Device, ...], site: Site) -> Iterable[str]:
    """What contradicts what is known of the device, and may still be right."""
    caps = [device.tdp_w or device.max_w or 0.0 for device in devices]
    if asked.watts is not None and caps and all(0 < cap * _FAR_ABOVE < asked.watts for cap in caps):
        yield (
            f"{asked.watts:,g} W are far above the {max(caps):,g} W that {devices[0].name} takes at most; the rest of "
            "the server is --host-watts"
        )
    owner = devices[0].cloud if devices else ""
    cloud = site.intensity.place.partition(":")[0] if ":" in site.intensity.place else ""
    if owner and cloud and cloud != owner:
        theirs, named = (facility.NAMES.get(name, name) for name in (owner, cloud))
        yield f"{devices[0].name} is in {theirs}'s cloud alone, and the place is {named}'s"
