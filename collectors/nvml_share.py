"""How much of a GPU the program uses, beside others that hold it: an allocation rule, not a measurement.

Per process NVML tells the share of its sampling period in which a kernel of that process ran. The program's
part is its processes' share in the sum of all; where nobody was busy, the part of its processes in those
that hold the board. It is all where nobody else holds it. Processes are known by their number: in a
container that does not see the others', no part is told.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import Any

from energyprof.collectors.program_time import is_below

_WHOLE_PPM = 1_000_000


class ProgramShare:
    """The program's part of one board, in ppm.

    Parameters
    ----------
    nvml, handle
        The NVML binding and the board.
    pid, proc_root
        The program's first process, and where /proc is.
    """

    def __init__(self, nvml: Any, handle: Any, pid: int, proc_root: str) -> None:
        self._nvml = nvml
        self._handle = handle
        self._pid = pid
        self._root = proc_root
        self._since_us = 0

    def read(self) -> Sequence[int | None]:
        """One value; None where nobody holds the board, or nobody that is known here."""
        try:
            holders = {int(p.pid) for p in self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)}
        except (self._nvml.NVMLError, AttributeError):
            return (None,)
        if not any(os.path.isdir(f"{self._root}/{pid}") for pid in holders):
            return (None,)
        ours = {pid for pid in holders if is_below(pid, self._pid, self._root)}
        if not ours or ours == holders:
            return (_WHOLE_PPM if ours else 0,)
        return (round(_WHOLE_PPM * self._part(ours, holders)),)

    def _part(self, ours: Collection[int], holders: Collection[int]) -> float:
        busy: dict[int, int] = {}
        try:
            samples = self._nvml.nvmlDeviceGetProcessUtilization(self._handle, self._since_us)
        except (self._nvml.NVMLError, AttributeError):
            samples = []
        for sample in samples:
            self._since_us = max(self._since_us, int(sample.timeStamp))
            busy[int(sample.pid)] = busy.get(int(sample.pid), 0) + int(sample.smUtil)
        total = sum(busy.values())
        if total == 0:
            return len(ours) / len(holders)
        return sum(busy.get(pid, 0) for pid in ours) / total
