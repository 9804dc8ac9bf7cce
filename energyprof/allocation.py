"""The program's part of what shared devices drew: an allocation by use, beside the machine's own figure.

Meters see the machine, whoever uses it. Where CPU time (or a GPU's busy time by process) says which part of
the use was the program's, its part of the energy is

    sum over intervals of  E(interval) * program's use / everybody's use

with the intervals between the readings of use. It is a rule, not a measurement: what an idle machine draws
goes to the users of that moment, and a busy second costs the same whoever was busy (Kepler divides so too).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energyprof.collectors.cpu_time import BUSY, PROGRAM
from energyprof.curves import joules
from energyprof.streams import Stream
from energyprof.tally import Meter

Floats = NDArray[np.float64]
Times = NDArray[np.int64]

_BY_CPU_TIME = ("package", "core", "dram")
# Others share the device where they have had more than this of all use, and of the processors' time at all:
# every machine runs a few daemons.
_OTHERS_OF_USE, _OTHERS_OF_CPUS = 0.10, 0.05


@dataclass(frozen=True)
class Use:
    """The program's part of the use of a device: at t_ns[i], over the time since t_ns[i - 1]."""

    t_ns: Times
    part: Floats
    shared: bool


def uses(streams: Mapping[str, Stream], spans: Sequence[tuple[int, int]]) -> dict[str, Use]:
    """By kind of channel (`package`) or channel (`gpu:0`), where it is known."""
    found: dict[str, Use] = {}
    cpu = _cpu_use(streams.get(BUSY), streams.get(PROGRAM), spans)
    if cpu is not None:
        found.update(dict.fromkeys(_BY_CPU_TIME, cpu))
    for name, stream in streams.items():
        channel, _, suffix = name.partition("/")
        if suffix == "program" and stream.channel.quantity == "share" and len(stream.value):
            part = np.clip(stream.value / 1e6, 0.0, 1.0)
            inside = _inside(stream.after_ns, spans)
            others = float(np.mean(1.0 - part[inside])) if inside.any() else 0.0
            found[channel] = Use(stream.after_ns, part, others > _OTHERS_OF_USE)
    return found


def use_of(channel: str, found: Mapping[str, Use]) -> Use | None:
    """What is known of the use of a channel's device."""
    return found.get(channel) or found.get(channel.split(":", maxsplit=1)[0])


def allocated_j(meter: Meter, use: Use, spans: Sequence[tuple[int, int]]) -> float | None:
    """The program's part of a meter's energy, J; None where the energy of a part of the run is unknown."""
    if meter.curve is None:
        return None
    total = 0.0
    for begin, end in spans:
        inner = use.t_ns[(use.t_ns > begin) & (use.t_ns < end)]
        edges = np.concatenate(([begin], inner, [end])).astype(np.int64)
        part = use.part[np.clip(np.searchsorted(use.t_ns, edges[1:]), 0, len(use.t_ns) - 1)]
        cells = joules(meter.curve, edges[:-1], edges[1:])
        if not cells.known.all():
            return None
        total += float((cells.energy_j * part).sum())
    return total


def _cpu_use(busy: Stream | None, program: Stream | None, spans: Sequence[tuple[int, int]]) -> Use | None:
    if busy is None or program is None or min(len(busy.value), len(program.value)) < 2:
        return None
    t_ns = program.after_ns
    everybody = np.diff(np.interp(t_ns, busy.after_ns, busy.value))
    own = np.diff(program.value).astype(np.float64)
    part = np.divide(own, everybody, out=np.zeros(len(own)), where=everybody > 0)
    part = np.clip(part, 0.0, 1.0)  # two files are not read at one instant
    inside = _inside(t_ns, spans)[1:]
    seconds = np.diff(t_ns)[inside].sum() / 1e9
    use = float(everybody[inside].sum())
    others = use - float(own[inside].sum())
    cpus = float(str(busy.channel.device.get("cpus", 1)))
    shared = others > _OTHERS_OF_USE * use and others > _OTHERS_OF_CPUS * cpus * 1e6 * max(seconds, 1e-9)
    return Use(t_ns, np.concatenate((part[:1], part)), bool(shared))


def _inside(t_ns: Times, spans: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    inside = np.zeros(len(t_ns), bool)
    for begin, end in spans:
        inside |= (t_ns > begin) & (t_ns <= end)
    return inside


def program_share(streams: Mapping[str, Stream], quiet: tuple[int, int] | None) -> float | None:
    """CPU time of the program's processes as a share of the machine's busy time, where both were seen."""
    machine, program = streams.get(BUSY), streams.get(PROGRAM)
    if not machine or not program or len(program.value) < 2:
        return None
    begin = int(np.searchsorted(program.after_ns, quiet[1])) if quiet else 0
    if begin > len(program.value) - 2:
        return None
    first, last = program.after_ns[begin], program.after_ns[-1]
    busy = np.interp([first, last], machine.after_ns, machine.value)
    used = float(program.value[-1] - program.value[begin])
    return min(1.0, used / float(busy[1] - busy[0])) if busy[1] > busy[0] else None
