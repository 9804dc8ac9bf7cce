"""A stand-in for the processors' meter where there is none, as in most cloud machines: a model.

Power = scale × curve(utilisation): the readings are busy CPU time, and the channel's `device` carries the
scale and the curve (see `cpu_tdp`), so that `curves` can turn one into the other. The whole machine is
modelled, also where a control group limits the program to a part of it: a second stream has the program's
own busy time.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from energyprof.collectors import cpu_facts
from energyprof.collectors.base import Channel, Context, Group, Opened, Unavailable
from energyprof.collectors.cpu_tdp import find_tdp
from energyprof.collectors.program_time import ProgramTime
from energyprof.reasons import NOT_SUPPORTED

_INTERVAL_S = 0.1
# The program's tree costs a file a thread: a tenth of the machine's pace is enough for a share of a run.
_PROGRAM_INTERVAL_S = 1.0


class CpuModelCollector:
    """The processors as ``package:0``, modelled, and the program's busy time as ``package:0/program``."""

    source = "cpu_model"
    prompt = True

    def __init__(self) -> None:
        self._stat = -1

    def open(self, context: Context) -> Opened:
        """Find the processor's power scale; `Unavailable` where the machine's busy time cannot be read."""
        busy_us, cpus = self._machine(context)
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
        groups = [Group((package,), lambda: (busy_us(),), _INTERVAL_S)]
        program_us = _program(context)
        if program_us is not None:
            program = Channel(
                name="package:0/program",
                quantity="utilisation",
                method="modelled",
                scope="CPU time of the program and its descendants",
                parent="package:0",
            )
            groups.append(Group((program,), lambda: (program_us(),), _PROGRAM_INTERVAL_S))
        return Opened(groups)

    def close(self) -> None:
        """Close /proc/stat."""
        descriptor, self._stat = self._stat, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _machine(self, context: Context) -> tuple[Callable[[], int], int]:
        """A reader of the machine's cumulative busy time (µs), and over how many CPUs it runs."""
        path = f"{context.proc_root}/stat"
        text = cpu_facts.read_text(path, 1 << 20)
        if text is None:
            return _psutil_machine()
        lines = text.splitlines()
        cpus = sum(1 for line in lines if line.startswith("cpu") and line[3:4].isdigit())
        if not cpus:
            raise Unavailable(self.source, NOT_SUPPORTED, f"{path} lists no CPU")
        self._stat = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        us_a_tick = 1_000_000 // os.sysconf("SC_CLK_TCK")
        return (lambda: _busy_ticks(self._stat) * us_a_tick), cpus


def _busy_ticks(descriptor: int) -> int:
    """Clock ticks that all CPUs together were busy: user, nice, system, irq and softirq.

    Not idle and iowait; not steal, when another machine had the processor; guest time is in user already
    (proc(5)).
    """
    fields = os.pread(descriptor, 512, 0).split(b"\n", 1)[0].split()
    if len(fields) < 8 or fields[0] != b"cpu":
        raise OSError(errno.EIO, "the first line of /proc/stat is not understood")
    user, nice, system, _idle, _iowait, irq, softirq = (int(field) for field in fields[1:8])
    return user + nice + system + irq + softirq


def _program(context: Context) -> Callable[[], int | None] | None:
    if context.pid is None:
        return None
    if not os.path.isdir(f"{context.proc_root}/{context.pid}"):
        return _psutil_program(context.pid)
    # Where the program started the meter, the meter's own time is no part of the program's.
    return ProgramTime(context.pid, context.proc_root, without=os.getpid()).read_us


def _name_elsewhere() -> str:
    """The processor's name where there is no /proc/cpuinfo."""
    if sys.platform == "linux":
        return ""
    import platform

    return platform.processor()


def _psutil() -> Any:
    try:
        import psutil
    except ImportError:
        detail = "no /proc/stat here, and psutil is not installed"
        raise Unavailable("cpu_model", NOT_SUPPORTED, detail, "`pip install psutil`") from None
    return psutil


def _psutil_machine() -> tuple[Callable[[], int], int]:
    psutil = _psutil()

    def busy_us() -> int:
        times = psutil.cpu_times()._asdict()
        idle: Sequence[str] = ("idle", "iowait", "steal", "guest", "guest_nice")
        return int(sum(seconds for state, seconds in times.items() if state not in idle) * 1e6)

    return busy_us, psutil.cpu_count() or 1


def _psutil_program(pid: int) -> Callable[[], int | None] | None:
    try:
        psutil = _psutil()
        process = psutil.Process(pid)
    except Exception:  # not installed, or no such process: the machine's own time is enough
        return None
    highest = 0

    def busy_us() -> int | None:
        nonlocal highest
        try:
            tree = [process, *process.children(recursive=True)]
            seconds = sum(sum(member.cpu_times()[:2]) for member in tree)
        except psutil.Error:
            return None
        highest = max(highest, int(seconds * 1e6))
        return highest

    return busy_us
