"""How long the processors were busy, and how much of that was the program's.

Two streams of cumulative CPU time, ``machine/busy`` and ``machine/program``, once a second. They measure no
energy: on a machine that others use too they say which share of it the program may be given (`allocation`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any

from energyprof.collectors.base import Channel, Context, Group, Opened, Unavailable
from energyprof.collectors.cpu_facts import read_text
from energyprof.collectors.program_time import ProgramTime
from energyprof.reasons import NOT_SUPPORTED

BUSY, PROGRAM = "machine/busy", "machine/program"
_INTERVAL_S = 1.0


class CpuTimeCollector:
    """CPU time of the machine and of the program, side by side."""

    source = "cpu_time"
    prompt = True

    def __init__(self) -> None:
        self._time = MachineTime()

    def open(self, context: Context) -> Opened:
        """Nothing to read where no program is known, or no CPU time is told."""
        program_us = _program(context)
        if program_us is None:
            return Opened()
        try:
            busy_us, cpus = self._time.open(context.proc_root)
        except Unavailable:
            return Opened()  # the model of the processors says why, where it is wanted
        channels = (
            Channel(
                name=BUSY,
                quantity="utilisation",
                method="allocated",
                scope="CPU time of the whole machine",
                device={"cpus": cpus},
            ),
            Channel(
                name=PROGRAM,
                quantity="utilisation",
                method="allocated",
                scope="CPU time of the program and its descendants",
            ),
        )
        return Opened([Group(channels, lambda: (busy_us(), program_us()), _INTERVAL_S)])

    def close(self) -> None:
        """Close /proc/stat."""
        self._time.close()


class MachineTime:
    """The cumulative busy time of all processors."""

    def __init__(self) -> None:
        self._stat = -1

    def open(self, proc_root: str) -> tuple[Callable[[], int], int]:
        """A reader of it (µs), and over how many CPUs it runs; `Unavailable` where it is not told."""
        path = f"{proc_root}/stat"
        text = read_text(path, 1 << 20)
        if text is None:
            return _psutil_machine()
        lines = text.splitlines()
        cpus = sum(1 for line in lines if line.startswith("cpu") and line[3:4].isdigit())
        if not cpus:
            raise Unavailable("cpu_model", NOT_SUPPORTED, f"{path} lists no CPU")
        self._stat = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        us_a_tick = 1_000_000 // os.sysconf("SC_CLK_TCK")
        return (lambda: _busy_ticks(self._stat) * us_a_tick), cpus

    def close(self) -> None:
        """Close the file; safe to call twice."""
        descriptor, self._stat = self._stat, -1
        if descriptor >= 0:
            os.close(descriptor)


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
