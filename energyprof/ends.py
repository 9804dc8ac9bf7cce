"""Counter reads in the program's own process, at the two ends of a run.

The helper needs a tenth of a second to start, and a run may be shorter. So the program itself reads the
counters that can be read in microseconds: RAPL's files and the GPUs' energy counters. Never raises, and
loads neither pynvml nor anything numeric. Which of these channels count is the meter's to say.
"""

from __future__ import annotations

import os
from time import monotonic_ns
from typing import Any

EndRead = tuple[str, int, int, int]  # channel, monotonic ns before and after the read, value


class EndReader:
    """Opened at the first end, kept for the others."""

    def __init__(self) -> None:
        self._zones: list[Any] = []
        root = f"{os.environ.get('ENERGYPROF_SYS_ROOT', '/sys')}/class/powercap"
        if os.path.isdir(root):
            from energyprof.collectors.rapl_zones import find_zones

            for zone in find_zones(root)[0]:
                try:
                    zone.descriptor = os.open(f"{zone.folder}/energy_uj", os.O_RDONLY | os.O_CLOEXEC)
                except OSError:
                    continue  # the helper says why
                self._zones.append(zone)
        from energyprof.collectors.nvml_ends import GpuCounters

        self._gpus = GpuCounters.open(os.environ)

    def read(self) -> list[EndRead]:
        """One value of each counter; those that fail are left out."""
        reads: list[EndRead] = []
        for zone in self._zones:
            before = monotonic_ns()
            value = zone.read()
            after = monotonic_ns()
            if value is not None:
                reads.append((zone.channel, before, after, value))
        if self._gpus is not None:
            reads += self._gpus.read()
        return reads

    def close(self) -> None:
        zones, self._zones = self._zones, []
        for zone in zones:
            os.close(zone.descriptor)
        if self._gpus is not None:
            self._gpus.close()
