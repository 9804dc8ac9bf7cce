"""A stand-in for the memory's meter: constant power in proportion to the memory that is installed.

0.3725 W/GB: Lannelongue, Grealey, Inouye, "Green Algorithms", Advanced Science 8(12), 2021 (after Karyakin
and Salem, DaMoN 2017, who found that power hardly depends on use). It depends on capacity, not on what the
program uses.
"""

from __future__ import annotations

from energyprof.collectors.base import Channel, Context, Group, Opened, Unavailable
from energyprof.collectors.cpu_facts import read_text
from energyprof.reasons import NOT_SUPPORTED

_W_A_GB = 0.3725
_INTERVAL_S = 1.0


class DramModelCollector:
    """The machine's memory as ``dram:0``, modelled."""

    source = "dram_model"
    prompt = True

    def open(self, context: Context) -> Opened:
        """Find how much memory there is; `Unavailable` where nothing says."""
        mem_gb = _installed_gb(context.proc_root)
        if mem_gb is None:
            detail = f"neither {context.proc_root}/meminfo nor psutil says how much memory there is"
            raise Unavailable(self.source, NOT_SUPPORTED, detail, "`pip install psutil`")
        power_mw = round(mem_gb * _W_A_GB * 1e3)
        channel = Channel(
            name="dram:0",
            quantity="power",
            method="modelled",
            scope=f"all memory of this machine ({mem_gb:.1f} GB), whoever uses it",
            gain_u95=0.7,
            gain_source="assumed; modules of one capacity differ by kind, voltage and age",
            device={"mem_gb": round(mem_gb, 3), "w_a_gb": _W_A_GB},
        )
        return Opened([Group((channel,), lambda: (power_mw,), _INTERVAL_S)])

    def close(self) -> None:
        """Nothing is held."""


def _installed_gb(proc_root: str) -> float | None:
    """GB (2^30 bytes, as modules are sold), less what the firmware and the kernel keep for themselves."""
    for line in (read_text(f"{proc_root}/meminfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal" and value.split()[:1] and value.split()[0].isdigit():
            return int(value.split()[0]) * 1024 / 2**30
    try:
        import psutil
    except ImportError:
        return None
    return float(psutil.virtual_memory().total) / 2**30
