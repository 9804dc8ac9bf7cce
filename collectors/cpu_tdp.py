"""How much power this machine's processors may draw: the scale of the model that stands in for a meter.

Power at full load is the thermal design power (TDP) of the processor, looked up by its name, × sockets on
bare metal, × (virtual CPUs / the socket's hardware threads) in a virtual machine, whose own claims about
sockets are not trusted (a guest with "8 sockets" would get eight processors' power). Where the name tells
nothing, as in many virtual machines, a published figure a virtual CPU is used, and the words of
`Tdp.source` say so.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

# Share of TDP drawn at a utilisation: Davy (Teads Engineering), "Building an AWS EC2 Carbon Emissions
# Dataset", 2021, from turbostress runs on Xeons; the default curve of the Impact Framework too.
_CURVE_LOAD = (0.0, 0.1, 0.5, 1.0)
_CURVE_TDP_SHARE = (0.12, 0.32, 0.75, 1.02)
# CodeCarbon publishes RAPL energies of machines under graded load (data/hardware/cpu_load_profiling): over
# 64 of its points a curve of TDP is off by factors between 0.6 and 2, whatever its shape.
_GAIN_U95 = 0.75
_GAIN_SOURCE = "CodeCarbon's load profiles, 64 points: measured is 0.6 to 2 times any TDP model"
# Cloud Carbon Footprint, methodology, average over AWS's processors (MIN_WATTS_AVG and MAX_WATTS_AVG): W a
# virtual CPU, linear in utilisation. Its single processors range from 1.7 to 8.6 W at full load.
_VCPU_IDLE_W, _VCPU_FULL_W = 0.74, 3.5
_VCPU_GAIN_U95 = 1.0
_VCPU_GAIN_SOURCE = "assumed; the method's own processors range from 1.7 to 8.6 W a virtual CPU"

# Hardware threads a socket that a cloud rents out as virtual CPUs. Amazon: half the vCPUs of the two-socket
# .metal size of a family (docs.aws.amazon.com, "Amazon EC2 instance type specifications"); the others: the
# maker's core count × 2. Names that state their cores ("64-Core") need no entry.
_THREADS_A_SOCKET = {
    "intel xeon e5-2673 v3": 24,
    "intel xeon e5-2673 v4": 40,
    "intel xeon e5-2676 v3": 24,
    "intel xeon e5-2686 v4": 36,
    "intel xeon e5-2690 v3": 24,
    "intel xeon e5-2690 v4": 28,
    "intel xeon platinum 8124m": 36,
    "intel xeon platinum 8151": 24,
    "intel xeon platinum 8168": 48,
    "intel xeon platinum 8171m": 52,
    "intel xeon platinum 8175m": 48,
    "intel xeon platinum 8252c": 24,
    "intel xeon platinum 8259cl": 48,
    "intel xeon platinum 8272cl": 52,
    "intel xeon platinum 8275cl": 48,
    "intel xeon platinum 8370c": 64,
    "intel xeon platinum 8375c": 64,
    "intel xeon platinum 8488c": 96,
    "amd epyc 7452": 64,
    "amd epyc 7551": 64,
    "amd epyc 7571": 64,
    "amd epyc 7763": 128,
    "amd epyc 7b12": 128,
    "amd epyc 7r13": 96,
    "amd epyc 7r32": 96,
    "amd epyc 9r14": 96,  # 96 cores rented without SMT
}

_NOISE = re.compile(
    r"\((?:r|tm|c|oem only)\)|®|™"  # marks
    r"|@.*$"  # clock
    r"|\b(?:w/|with) .*$"  # "with Radeon Graphics"
    r"|\b\d+(?:st|nd|rd|th) gen\b"
    r"|\b(?:\d+|dual|triple|quad|six|eight|twelve|sixteen)-core\b"
    r"|\b(?:cpu|processor|genuine|apu|soc)\b"
)
_CORES_IN_NAME = re.compile(r"\b(\d+)-core\b", re.IGNORECASE)


@dataclass(frozen=True)
class Tdp:
    """The scale and shape of a processor's power.

    Attributes
    ----------
    watts
        What share 1 stands for, for all processors (or the virtual machine's part of them), W.
    source
        How it was found, in words.
    curve_load, curve_tdp_share
        Knots: utilisation 0 … 1, and power as a share of `watts`.
    gain_u95, gain_source
        Relative 95 % half-width of the model, and where that is from.
    """

    watts: float
    source: str
    curve_load: Sequence[float]
    curve_tdp_share: Sequence[float]
    gain_u95: float
    gain_source: str


def find_tdp(
    model: str, cpus: int, sockets: int, virtual: bool, rows: Iterable[Sequence[str]] | None = None
) -> Tdp:
    """The power scale of a machine.

    Parameters
    ----------
    model
        The processor's name as the kernel gives it.
    cpus
        Logical CPUs that are online.
    sockets
        Processor packages; used on bare metal alone.
    virtual
        True in a virtual machine.
    rows
        The table of (name, TDP in W); CodeCarbon's where not given.
    """
    tdp_w = lookup(model, codecarbon_table() if rows is None else rows)
    if tdp_w is None:
        return _a_virtual_cpu(cpus, f"'{model or 'no name'}' is in no TDP table")
    known = f"TDP {tdp_w:g} W of {model} (CodeCarbon's table)"
    if not virtual:
        return _of_tdp(tdp_w * sockets, f"{known} × {sockets} socket{'s' if sockets > 1 else ''}")
    threads = threads_a_socket(model)
    if threads is None:
        return _a_virtual_cpu(cpus, f"{known}, but this virtual machine's part of it is not known")
    source = f"{known} × {cpus} virtual CPUs of the socket's {threads} threads"
    return _of_tdp(tdp_w * cpus / threads, source)


def normalise(name: str) -> str:
    """A processor's name without marks, clock, core count and filler, in lower case."""
    return " ".join(_NOISE.sub(" ", name.lower()).replace(",", " ").split())


def lookup(model: str, rows: Iterable[Sequence[str]]) -> float | None:
    """The TDP (W) of the row whose name is the same after `normalise`; None where there is none."""
    wanted = normalise(model)
    words = [word for word in wanted.split() if any(c.isdigit() for c in word)]
    if not words:  # "Intel Xeon Processor": a make, not a model
        return None
    rarest = max(words, key=len)  # normalising 5,000 names costs 30 ms; looking for one word, 1 ms
    for row in rows:
        if len(row) >= 2 and rarest in row[0].lower() and normalise(row[0]) == wanted:
            watts = _number(row[1])
            if watts is not None:
                return watts
    return None


def threads_a_socket(model: str) -> int | None:
    """Hardware threads of one socket of this processor; None where not known."""
    name = normalise(model)
    if name in _THREADS_A_SOCKET:
        return _THREADS_A_SOCKET[name]
    cores = _CORES_IN_NAME.search(model)
    # Every EPYC has two threads a core; desktop names with a core count may not.
    return 2 * int(cores.group(1)) if cores and name.startswith("amd epyc") else None


def codecarbon_table() -> Iterator[list[str]]:
    """The rows (name, TDP in W) of CodeCarbon's table, read as data; none where it is not installed.

    The package is found but never imported: that would cost 250 ms and 12 MB.
    """
    spec = importlib.util.find_spec("codecarbon")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = os.path.join(folder, "data", "hardware", "cpu_power.csv")
        try:
            with open(path, encoding="utf-8", newline="") as table:
                yield from csv.reader(table)
        except (OSError, ValueError, csv.Error):
            return


def _number(text: str) -> float | None:
    """A plausible TDP; the table has cells like "27.29.5" and 0."""
    try:
        watts = float(text)
    except ValueError:
        return None
    return watts if 0 < watts < 2000 else None


def _of_tdp(watts: float, source: str) -> Tdp:
    return Tdp(watts, source, _CURVE_LOAD, _CURVE_TDP_SHARE, _GAIN_U95, _GAIN_SOURCE)


def _a_virtual_cpu(cpus: int, why: str) -> Tdp:
    source = (
        f"{why}: {_VCPU_IDLE_W} W idle to {_VCPU_FULL_W} W busy a CPU × {cpus}"
        " (Cloud Carbon Footprint's average of AWS's processors)"
    )
    shares = (_VCPU_IDLE_W / _VCPU_FULL_W, 1.0)
    return Tdp(_VCPU_FULL_W * cpus, source, (0.0, 1.0), shares, _VCPU_GAIN_U95, _VCPU_GAIN_SOURCE)
