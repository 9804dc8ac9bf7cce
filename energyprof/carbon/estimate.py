"""What a run would cost before it runs: hours, kWh, gCO2e, water, money, each with its 95 % interval and why.

    machines  = devices x hours x (watts of one + watts of its share of the server)
    facility  = machines x PUE;   gCO2e = facility x intensity;   cost = facility x price;   litres = machines x WUE

Where a name means several boards, the interval holds all of them. What nobody said is in `assumptions`, with its
source. Emissions of making the devices stand apart and are in no sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from energyprof.carbon import assumed, embodied, facility, workload
from energyprof.carbon.assumed import Assumed
from energyprof.carbon.embodied import Embodied
from energyprof.carbon.facility import Overhead
from energyprof.carbon.power import Power, host_w, of_device
from energyprof.carbon.price import Price
from energyprof.carbon.ranges import Range, exact, together
from energyprof.carbon.site import Site
from energyprof.carbon.workload import Ask
from energyprof.flops.peaks import Device, find

if TYPE_CHECKING:
    from energyprof.carbon.when import Choice

GIVEN = "given"
_SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Assumption:
    """One figure behind the estimate: what it is, its range (None for words alone), and its source.

    `said` where it is the user's own.
    """

    name: str
    text: str
    range: Range | None
    source: str
    said: bool = False


@dataclass(frozen=True)
class Made:
    """The share of the devices' making that the run's time is, grams; of their servers too, where those are apart."""

    devices_g: Range
    servers_g: Range
    row: Embodied


@dataclass(frozen=True)
class Estimate:
    """The figures; `hours` of the wall clock, `machines_kwh` before and `kwh` after the PUE, `device_w` and `host_w`
    those of one device."""

    device: str
    boards: tuple[str, ...]
    count: int
    hours: Range
    device_w: Range
    host_w: Range
    machines_kwh: Range
    kwh: Range
    co2e_g: Range
    water_l: Range
    cost: Range | None
    currency: str
    flop: float | None
    made: Made | None
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
        With one line: the device or its peak is not known.
    """
    boards = workload.boards_of(asked)
    choices: Sequence[Device | None] = boards or (None,)
    utilisation = _utilisation(asked)
    powers = [_power(asked, board, utilisation.range) for board in choices]
    hosts = [_host(asked, board, power) for board, power in zip(choices, powers)]
    hours = [workload.hours_of(asked, board) for board in choices]
    each = [
        together(power.range, host) * time * (asked.count / 1e3)
        for power, host, time in zip(powers, hosts, hours)
    ]
    machines = envelope(each)
    pue, wue = _overheads(site, boards[0] if boards else None)
    kwh = machines * pue.range
    price = price_range(site.price) if site.price is not None else None
    taken = envelope(hours)
    return Estimate(
        device=boards[0].name if boards else asked.gpu or "",
        boards=tuple(board.name for board in boards),
        count=asked.count,
        hours=taken,
        device_w=envelope(power.range for power in powers),
        host_w=envelope(hosts),
        machines_kwh=machines,
        kwh=kwh,
        co2e_g=kwh * site.intensity.range,
        water_l=machines * wue.range,
        cost=kwh * price if price is not None else None,
        currency=site.price.currency if site.price is not None else "",
        flop=workload.flop_of(asked),
        made=_made(boards[0], taken, asked.count) if boards else None,
        site=site,
        assumptions=tuple(_assumptions(asked, boards, powers[0], hosts[0], utilisation, pue, wue, site)),
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
    known = replace(
        site.intensity,
        place_name=site.series.source if not site.intensity.place else site.intensity.place_name,
        g_per_kwh=choice.mean_g_per_kwh,
        lo_g_per_kwh=choice.greenest.g_per_kwh,
        hi_g_per_kwh=choice.worst.g_per_kwh,
        year=None,
        source=f"{site.series.source}: the mean of all starts, from the greenest to the worst",
    )
    return replace(site, intensity=known), choice


def envelope(ranges: Iterable[Range]) -> Range:
    """The first figure, with the interval that holds those of all."""
    told = list(ranges)
    lo, hi = min(part.lo for part in told), max(part.hi for part in told)
    return Range(told[0].value, lo, hi)


def price_range(price: Price) -> Range:
    """A price a kWh for a run of which nobody knows the hour: the mean of all hours, and their range."""
    if price.constant:
        return exact(price.per_kwh)
    told = (
        [price.at_hour(hour) for hour in range(24)]
        if price.series is None
        else [max(0.0, float(value)) for value in price.series.known]
    )
    return Range(sum(told) / len(told), min(told), max(told))


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


def _host(asked: Ask, board: Device | None, power: Power) -> Range:
    if asked.host_watts is not None:
        return exact(asked.host_watts)
    return host_w(board, power.range)


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


def _assumptions(
    asked: Ask,
    boards: tuple[Device, ...],
    power: Power,
    host: Range,
    utilisation: Assumed,
    pue: Overhead,
    wue: Overhead,
    site: Site,
) -> Iterable[Assumption]:
    board = boards[0] if boards else None
    if board is not None and asked.gpu is not None:
        yield from _device_assumptions(asked.gpu, boards)
    if asked.hours is None:
        yield from _time_assumptions(asked, board)
    elif asked.watts is None and (board is None or board.max_w is not None or board.mean_w is None):
        yield _assumption("utilisation", utilisation)
    yield Assumption("power", power.how, power.range, power.source, power.source == GIVEN)
    if asked.host_watts is not None:
        yield Assumption("host", "W a device, the rest of its server", host, GIVEN, True)
    elif board is not None and board.whole:
        yield Assumption(
            "host", "the device's watts cover the machine around it", host, board.power_source or board.source
        )
    else:
        yield Assumption("host", "W a device, the rest of its server", host, assumed.HOST.source)
    yield Assumption(
        "PUE", "energy of the site / of its machines", pue.range, pue.source, pue.source == GIVEN
    )
    yield Assumption("WUE", "litres a kWh of the machines", wue.range, wue.source, wue.source == GIVEN)
    place = site.intensity
    year = f", {place.year}" if place.year else ""
    scope = f"; {place.scope}" if place.scope else ""
    yield Assumption(
        "intensity", f"g/kWh, {place.place_name}{year}{scope}", place.range, place.source, not place.place
    )
    if site.price is not None:
        yield Assumption("price", site.price.describe(), price_range(site.price), GIVEN, True)
    if board is not None and embodied.find_embodied(board.name) is not None:
        yield Assumption("life", "years that making is spread over", *embodied.life())


def _device_assumptions(typed: str, boards: tuple[Device, ...]) -> Iterable[Assumption]:
    """Which board was taken for a name that is no board's own, and what to know about it."""
    board, others = boards[0], ", ".join(other.name for other in boards[1:])
    words = [f"{typed} taken as {board.name}"] if find(typed) is None else []
    words += [f"intervals hold {others} too"] if others else []
    words += [board.note] if board.note else []
    if words:
        yield Assumption("device", "; ".join(words), None, board.source)


def _time_assumptions(asked: Ask, board: Device | None) -> Iterable[Assumption]:
    if asked.params is not None:
        factor = "2" if asked.inference else "6"
        words = f"{factor} x parameters x tokens, without attention over the context"
        yield Assumption("FLOP", words, None, assumed.COUNT_SOURCE)
    taken = assumed.MFU_INFERENCE if asked.inference else assumed.MFU_TRAINING
    source = GIVEN if asked.mfu is not None else taken.source
    yield Assumption(
        "MFU", "share of the peak that is reached", workload.mfu_of(asked), source, source == GIVEN
    )
    kind, peak = workload.peak_of(asked, board)
    told = asked.peak_tflops is not None or board is None
    words = f"{peak / 1e12:g} TFLOP/s {kind}".rstrip()
    yield Assumption("peak", words, None, GIVEN if board is None or told else board.source, told)


def _assumption(name: str, taken: Assumed) -> Assumption:
    said = taken.source == GIVEN
    return Assumption(name, "share of the time in which a device computes", taken.range, taken.source, said)
