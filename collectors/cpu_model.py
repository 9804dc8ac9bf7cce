"""A stand-in for the processors' meter where there is none, as in most cloud machines: a model.

Power = scale × curve(utilisation): the readings are busy CPU time, and the channel's `device` carries the
scale and the curve (see `cpu_tdp`), so that `curves` can turn one into the other. The whole machine is
modelled, also where a control group limits the program to a part of it: `cpu_time` has the program's own
busy time.
"""

from __future__ import annotations

import sys

from energyprof.collectors import cpu_facts
from energyprof.collectors.base import Channel, Context, Group, Opened
from energyprof.collectors.cpu_tdp import find_tdp
from energyprof.collectors.cpu_time import MachineTime

_INTERVAL_S = 0.1


class CpuModelCollector:
    """The processors as ``package:0``, modelled."""

    source = "cpu_model"
    prompt = True

    def __init__(self) -> None:
        self._time = MachineTime()

    def open(self, context: Context) -> Opened:
        """Find the processor's power scale; `Unavailable` where the machine's busy time cannot be read."""
        busy_us, cpus = self._time.open(context.proc_root)
        fields = cpu_facts.first_processor(context.proc_root)
        model = cpu_facts.model_name(fields) or _name_elsewhere()
        virtual = cpu_facts.is_virtual(fields, context.sys_root)
        tdp = find_tdp(model, cpus, cpu_facts.sockets(context.sys_root), virtual)
        what = (
            "this virtual machine's part of its processors" if virtual else "all processors of this machine"
        )
        package = Channel(
            name="package:0",
            quantity="utilisation",
            method="modelled",
            scope=f"{what} ({cpus} CPUs), whoever uses them",
            gain_u95=tdp.gain_u95,
            gain_source=tdp.gain_source,
            device={
                "model": model or "unknown processor",
                "cpus": cpus,
                "tdp_w": round(tdp.watts, 3),
                "tdp_source": tdp.source,
                "curve_load": list(tdp.curve_load),
                "curve_tdp_share": list(tdp.curve_tdp_share),
            },
        )
        return Opened([Group((package,), lambda: (busy_us(),), _INTERVAL_S)])

    def close(self) -> None:
        """Close /proc/stat."""
        self._time.close()


def _name_elsewhere() -> str:
    """The processor's name where there is no /proc/cpuinfo."""
    if sys.platform == "linux":
        return ""
    import platform

    return platform.processor()
