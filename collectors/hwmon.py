"""Power meters that the kernel shows through hwmon: Grace's sockets, Jetson's rails, a server's own meter.

Power alone: hwmon's energy counters of AMD processors are RAPL's and are read there (`rapl_hwmon`). Each
meter has a group of its own, so that one that fails ends alone. Where none is known there is nothing to say.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence

from energyprof.collectors import hwmon_files, hwmon_meters
from energyprof.collectors.base import Channel, Context, Group, Opened, Unavailable
from energyprof.collectors.hwmon_files import Files, OpenFile
from energyprof.collectors.hwmon_meters import Gauge
from energyprof.reasons import NOT_SUPPORTED

_NODE = "node:0"


class HwmonCollector:
    """hwmon's power meters, a group each.

    Parameters
    ----------
    open_file
        Opens a file for reading and returns its descriptor.
    """

    source = "hwmon"

    def __init__(self, open_file: OpenFile = os.open) -> None:
        self._files = Files(open_file)

    def open(self, context: Context) -> Opened:
        """Open the meters that are known; nothing at all on a machine without; `Unavailable` if all are closed."""
        chips = list(hwmon_files.chips(context.sys_root))
        gauges, notes = hwmon_meters.acpi_gauges(chips)
        gauges += hwmon_meters.jetson_gauges(chips)
        groups: list[Group] = []
        missing = [Unavailable(self.source, NOT_SUPPORTED, note, channel=_NODE) for note in notes]
        for gauge in gauges:
            try:
                read = self._reader(gauge)
            except Unavailable as absence:
                missing.append(absence)
            else:
                groups.append(Group((_channel(gauge),), read, gauge.interval_s))
        if gauges and not groups:
            self.close()
            raise missing[-1]
        return Opened(groups, missing)

    def close(self) -> None:
        """Close the files; safe to call twice."""
        self._files.close()

    def _reader(self, gauge: Gauge) -> Callable[[], Sequence[int]]:
        """Reads mW; `Unavailable` where the meter says nothing now, or nothing that can be."""
        reads = [self._files.open(gauge.chip, attribute, gauge.name) for attribute in gauge.attributes]

        def read() -> Sequence[int]:
            return (math.prod(one() for one in reads) // 1000,)

        try:
            (first,) = read()
        except (OSError, ValueError) as fault:
            raise self._silent(gauge, f"gives no reading: {fault}") from None
        if gauge.never_zero and first <= 0:
            raise self._silent(gauge, "reads 0 W: it is not wired; left out")
        return read

    def _silent(self, gauge: Gauge, why: str) -> Unavailable:
        return Unavailable(self.source, NOT_SUPPORTED, f"{gauge.name} {why}", channel=gauge.name)


def _channel(gauge: Gauge) -> Channel:
    gain, source = gauge.gain
    return Channel(
        name=gauge.name,
        quantity="power",
        method="integrated",
        scope=gauge.scope,
        parent=gauge.parent,
        refresh_ns=gauge.refresh_ns,
        window_ns=gauge.window_ns,
        gain_u95=gain,
        gain_source=source,
        device={"chip": gauge.chip.name, **({"covers": gauge.covers} if gauge.covers else {})},
    )
