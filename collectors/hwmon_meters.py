"""What the chips that we know measure: ACPI power meters (Grace's sockets, a server's node) and Jetson's rails.

A chip or a label that is not known here is no meter of ours: batteries, network cards, drives and other
GPUs show power through hwmon too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from energyprof.collectors.hwmon_files import Chip

_MS = 1_000_000  # ns
_FAST_S, _SLOW_S = 0.1, 1.0

ASSUMED = (0.05, "assumed; no published bound")

# The labels of Grace's firmware (`power1_oem_info`): NVIDIA, Grace Performance Tuning Guide, "Power
# Telemetry". The module has the GPU beside the Grace socket; the socket, its memory. CPU and SysIO are
# parts of the socket, which do not add up to it.
_GRACE_LABEL = re.compile(r"(Module|Grace|CPU|SysIO) Power Socket (\d+)")
# On Grace the meter refreshes every 100 ms and shows the last 10 ms of it, whatever the shorter intervals
# that the firmware states: Yang, Adámek, Armour, SC24, arXiv 2312.02741 (GH200).
_GRACE_REFRESH_MS, _GRACE_WINDOW_MS = 100, 10

# Jetson's rails by label. The boards with a rail at the module's input (NVIDIA, Jetson Linux Developer
# Guide, "Power Monitors"; jetson_stats, issue 51): all others are inside it.
_INPUTS = ("VDD_IN", "POM_5V_IN")
# The boards without: their rails add up (jetson_stats, jtop/core/power.py), but for the memory's of AGX
# Orin, which is in the 5 V rail (Developer Guide r36.4.3, "Software-Based Power Consumption Modeling").
_SUMS: Sequence[Mapping[str, tuple[str, str, str | None]]] = (
    {  # AGX Orin: what it feeds, the kinds that it includes, and the rail that feeds it
        "VDD_GPU_SOC": ("GPU and SoC", "gpu", None),
        "VDD_CPU_CV": ("CPU and vision engines", "package", None),
        "VIN_SYS_5V0": ("I/O and memory (the 5 V rail)", "dram", None),
        "VDDQ_VDD2_1V8AO": ("memory", "", "VIN_SYS_5V0"),
    },
    {  # AGX Xavier
        "GPU": ("GPU", "gpu", None),
        "CPU": ("CPU", "package", None),
        "SOC": ("SoC", "", None),
        "CV": ("vision engines", "", None),
        "VDDRQ": ("memory", "dram", None),
        "SYS5V": ("I/O (the 5 V rail)", "", None),
    },
)
_PARTS = {
    "VDD_CPU_GPU_CV": "CPU, GPU and vision engines",
    "VDD_SOC": "SoC",
    "POM_5V_GPU": "GPU",
    "POM_5V_CPU": "CPU",
}


@dataclass(frozen=True)
class Gauge:
    """A power that can be read.

    Attributes
    ----------
    attributes
        One of µW, or two whose product is µW (mV and mA).
    covers
        The kinds of channel that it includes, beyond the one that its name says.
    never_zero
        It shows what always draws power: at 0 it is not wired.
    """

    name: str
    scope: str
    chip: Chip
    attributes: tuple[str, ...]
    interval_s: float
    window_ns: int | None
    refresh_ns: int | None
    parent: str | None = None
    covers: str = ""
    never_zero: bool = False
    gain: tuple[float, str] = ASSUMED


def acpi_gauges(chips: Iterable[Chip]) -> tuple[list[Gauge], list[str]]:
    """The ACPI power meters, and what is to be said of those that are left out.

    Documentation/hwmon/acpi_power_meter.rst. One without Grace's label is the whole node's, if it is the
    only one: what each of several measures is for the firmware's author to know.
    """
    grace, others = [], []
    for chip in chips:
        if chip.name != "power_meter" or chip.text("power1_is_battery") == "1":
            continue
        label = chip.text("power1_oem_info") or chip.text("power1_label") or ""
        found = _GRACE_LABEL.fullmatch(label)
        if found:
            grace.append(_grace(chip, found[1], found[2]))
        elif chip.text("power1_average") is not None:
            others.append(chip)
    names = {gauge.name for gauge in grace}
    grace = [g if g.parent in names or g.parent is None else _beyond(g) for g in grace]
    if len(others) > 1:
        return grace, [f"{len(others)} ACPI power meters, which do not say what each measures; left out"]
    return grace + [_node(chip) for chip in others if not grace], []


def _grace(chip: Chip, kind: str, socket: str) -> Gauge:
    stated = chip.number("power1_average_interval") or _GRACE_REFRESH_MS
    window = _GRACE_WINDOW_MS if stated <= _GRACE_REFRESH_MS else stated
    name, parent, covers, scope = {
        "Module": ("module", None, "", "module {} (Grace socket and GPU)"),
        "Grace": ("package", "module", "package,dram", "Grace socket {} (CPU, memory, I/O)"),
        "CPU": ("core", "package", "", "CPU rail of Grace socket {}"),
        "SysIO": ("uncore", "package", "", "SoC and I/O rail of Grace socket {}"),
    }[kind]
    return Gauge(
        name=f"{name}:{socket}",
        scope=scope.format(socket),
        chip=chip,
        attributes=("power1_average",),
        interval_s=_FAST_S,
        window_ns=window * _MS,
        refresh_ns=max(stated, _GRACE_REFRESH_MS) * _MS,
        parent=f"{parent}:{socket}" if parent else None,
        covers=covers,
        never_zero=True,
    )


def _beyond(gauge: Gauge) -> Gauge:
    """What would be inside a socket that has no meter is inside the module."""
    return replace(gauge, parent=f"module:{gauge.name.partition(':')[2]}")


def _node(chip: Chip) -> Gauge:
    stated = chip.number("power1_average_interval")
    interval_s = _SLOW_S if stated is None else min(max(stated / 1e3, _FAST_S), _SLOW_S)
    return Gauge(
        name="node:0",
        scope="the whole machine, as its firmware measures it",
        chip=chip,
        attributes=("power1_average",),
        interval_s=interval_s,
        window_ns=None if stated is None else stated * _MS,
        refresh_ns=None if stated is None else max(stated * _MS, int(interval_s * 1e9)),
        covers="gpu,package,dram",
        never_zero=True,
    )


def jetson_gauges(chips: Iterable[Chip]) -> list[Gauge]:
    """The rails of a Jetson board that is known by its labels; none of any other board's INA3221.

    Documentation/hwmon/ina3221.rst: three rails a chip, voltage and current of each.
    """
    rails = {
        label: (chip, number)
        for chip in chips
        if chip.name in ("ina3221", "ina3221x")
        for number, label in chip.labels("in").items()
        if number <= 3
    }
    whole = next((label for label in _INPUTS if label in rails), None)
    if whole is not None:
        gauges = [_rail("module:0", "the whole Jetson module", *rails[whole], covers="gpu,package,dram")]
        parts = [label for label in rails if label in _PARTS]
        return gauges + [_rail(f"rail:{p}", _PARTS[p], *rails[p], parent="module:0") for p in parts]
    board = next((b for b in _SUMS if all(label in rails for label in b)), {})
    return [
        _rail(f"rail:{label}", words, *rails[label], f"rail:{feeder}" if feeder else None, covers)
        for label, (words, covers, feeder) in board.items()
    ]


def _rail(
    name: str, scope: str, chip: Chip, number: int, parent: str | None = None, covers: str = ""
) -> Gauge:
    stated = chip.number("update_interval")
    return Gauge(
        name=name,
        scope=scope,
        chip=chip,
        attributes=(f"in{number}_input", f"curr{number}_input"),
        interval_s=_FAST_S,
        window_ns=None if stated is None else stated * _MS,
        refresh_ns=None if stated is None else max(stated * _MS, int(_FAST_S * 1e9)),
        parent=parent,
        covers=covers,
    )
