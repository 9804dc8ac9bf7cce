"""Counter reads in the program's own process, at the two ends of a run.

The helper needs a tenth of a second to start, and a run may be shorter. So the program itself reads the
counters that can be read in microseconds: RAPL's files and the GPUs' energy counters. Never raises, and
loads neither pynvml nor anything numeric.
"""

from __future__ import annotations

import os
from time import monotonic_ns
from typing import Any

from energyprof.collectors.base import Context, Group
from energyprof.collectors.nvml_ends import GpuCounters
from energyprof.collectors.rapl import RaplCollector

EndRead = tuple[str, int, int, int]  # channel, monotonic ns before and after the read, value


class EndReader:
    """Opened at the first end, kept for the others."""

    def __init__(self) -> None:
        self._rapl: RaplCollector | None = RaplCollector()
        self._groups: list[Group] = []
        root = os.environ.get("ENERGYPROF_SYS_ROOT", "/sys")
        try:
            self._groups = list(self._rapl.open(Context(environ=os.environ, sys_root=root)).groups)
        except Exception:  # no RAPL here, or it may not be read: the helper says so
            self._rapl = None
        self._gpus: Any = GpuCounters.open(os.environ)

    def read(self) -> list[EndRead]:
        """One value of each counter; those that fail are left out."""
        reads: list[EndRead] = []
        for group in self._groups:
            before = monotonic_ns()
            try:
                values = group.read()
            except Exception:
                continue
            after = monotonic_ns()
            reads += [
                (channel.name, before, after, value)
                for channel, value in zip(group.channels, values)
                if value is not None
            ]
        if self._gpus is not None:
            reads += [(f"gpu:{index}", before, after, uj) for index, before, after, uj in self._gpus.read()]
        return reads

    def close(self) -> None:
        for holder in (self._rapl, self._gpus):
            if holder is not None:
                holder.close()
