"""What is behind an estimate: each figure that was taken or said, in a few words and at length, with its source."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from energyprof.carbon import assumed, embodied, workload
from energyprof.carbon.assumed import Assumed
from energyprof.carbon.facility import Overhead
from energyprof.carbon.intensity import GIVEN_SCOPE
from energyprof.carbon.power import Power
from energyprof.carbon.ranges import Range
from energyprof.carbon.signed import Signed
from energyprof.carbon.site import Site
from energyprof.carbon.workload import Ask
from energyprof.flops.peaks import Device, find

GIVEN = "given"


@dataclass(frozen=True)
class Assumption:
    """One figure behind the estimate: its name, two or three words, all of it, its range (None for words alone) with
    unit ("" for a ratio, "share" for a part of 1), and its source.

    `said` where it is the user's own.
    """

    name: str
    words: str
    text: str
    range: Range | Signed | None
    unit: str
    source: str
    said: bool = False


@dataclass(frozen=True)
class Taken:
    """The figures that an estimate goes by; those of the device and its server hold all boards of its name."""

    utilisation: Assumed
    power: Power
    host_w: Range
    pue: Overhead
    wue: Overhead
    price: Signed | None


def assumptions(asked: Ask, boards: tuple[Device, ...], taken: Taken, site: Site) -> Iterable[Assumption]:
    """Every figure behind an estimate, in the order in which it goes in."""
    board = boards[0] if boards else None
    if board is not None and asked.gpu is not None:
        yield from _of_device(asked.gpu, boards)
    if asked.hours is None:
        yield from _of_time(asked, board)
    elif asked.watts is None and (board is None or board.max_w is not None or board.mean_w is None):
        source = taken.utilisation.source
        words = "of the time computing"
        text = "share of the time in which a device computes"
        yield Assumption(
            "utilisation", words, text, taken.utilisation.range, "share", source, source == GIVEN
        )
    yield from _of_power(asked, boards, taken)
    for name, part, unit, text in (
        ("PUE", taken.pue, "", "energy of the site / of its machines"),
        ("WUE", taken.wue, "L/kWh", "litres at the site a kWh of the machines"),
    ):
        yield Assumption(name, "", text, part.range, unit, part.source, part.source == GIVEN)
    yield from _of_site(site, taken.price)
    if board is not None and embodied.find_embodied(board.name) is not None:
        years, source = embodied.life()
        yield Assumption("life", "of a device", "over which making is spread", years, "years", source)


def _of_device(typed: str, boards: tuple[Device, ...]) -> Iterable[Assumption]:
    """Which board was taken for a name that is no board's own, and what to know about it."""
    board, others = boards[0], ", ".join(other.name for other in boards[1:])
    text = [f"{typed} taken as {board.name}"] if find(typed) is None else []
    text += [f"intervals hold {others} too"] if others else []
    text += [board.note] if board.note else []
    if text:
        words = f"{board.name}; intervals hold {len(boards)} boards" if others else board.name
        yield Assumption("device", words, "; ".join(text), None, "", board.source)


def _of_time(asked: Ask, board: Device | None) -> Iterable[Assumption]:
    if asked.params is not None:
        factor = "2" if asked.inference else "6"
        words = f"{factor} x parameters x tokens"
        yield Assumption(
            "FLOP", words, f"{words}, without attention over the context", None, "", assumed.COUNT_SOURCE
        )
    taken = assumed.MFU_INFERENCE if asked.inference else assumed.MFU_TRAINING
    source = GIVEN if asked.mfu is not None else taken.source
    text = "share of the peak that is reached"
    yield Assumption("MFU", "of the peak", text, workload.mfu_of(asked), "share", source, source == GIVEN)
    kind, peak = workload.peak_of(asked, board)
    told = asked.peak_tflops is not None or board is None
    words = f"{peak / 1e12:g} TFLOP/s {kind}".rstrip().replace("e+", "e")
    yield Assumption("peak", words, words, None, "", GIVEN if board is None or told else board.source, told)


def _of_power(asked: Ask, boards: tuple[Device, ...], taken: Taken) -> Iterable[Assumption]:
    board, power = boards[0] if boards else None, taken.power
    yield Assumption("power", "a device", power.how, power.range, "W", power.source, power.source == GIVEN)
    text, words, said = "a device, the rest of its server", "a device", asked.host_watts is not None
    source = GIVEN if said else assumed.HOST.source
    if not said and board is not None and board.whole:
        text = "the device's watts cover the machine around it"
        source, words = board.power_source or board.source, "in the device's"
    yield Assumption("host", words, text, taken.host_w, "W", source, said)


def _of_site(site: Site, price: Signed | None) -> Iterable[Assumption]:
    place = site.intensity
    year = f", {place.year}" if place.year else ""
    scope = f"; {place.scope}" if place.scope else ""
    text = f"{place.place_name}{year}{scope}"
    said = place.scope == GIVEN_SCOPE
    words = place.place_name.partition(" (")[0]
    yield Assumption("intensity", words, text, place.range, "g/kWh", place.source, said)
    if site.price is not None:
        told = site.price.describe()
        yield Assumption("price", told, told, price, f"{site.price.currency}/kWh", GIVEN, True)
