"""The second door to RAPL: the kernel's perf events (the PMU ``power``), where powercap is closed.

``energy-pkg`` and its kin are counted for a whole package (on Intel: a die), by one CPU of each, named in
the PMU's `cpumask`. The kernel folds the counter's wraps, so that what is read never wraps; it begins at 0
when it is opened. arch/x86/events/rapl.c; perf_event_open(2).
"""

from __future__ import annotations

import errno
import os
import sys
from time import monotonic_ns

from energyprof.collectors.base import Context, Group, Opened, Unavailable
from energyprof.collectors.cpu_facts import first_processor, is_virtual, read_text
from energyprof.collectors.perf_event import OpenEvent, open_event
from energyprof.collectors.rapl_channels import AMD, INTERVAL_S, Domain, channels_of
from energyprof.reasons import NO_PERMISSION, NOT_SUPPORTED

_KINDS = {
    "energy-pkg": "package",
    "energy-cores": "core",
    "energy-gpu": "uncore",
    "energy-ram": "dram",
    "energy-psys": "psys",
}
_PSYS_PATIENCE_NS = 50_000_000

# kernel/events/core.c, perf_allow_cpu: whole CPUs are for paranoid < 1 or CAP_PERFMON (Linux 5.8).
_REMEDY = (
    "perf events (the second door): `sudo sysctl kernel.perf_event_paranoid=0` (for good: the line"
    " `kernel.perf_event_paranoid = 0` in /etc/sysctl.d/70-perf.conf) lets every user count them;"
    " `sudo setcap cap_perfmon=ep {python}` lets this Python alone; in a container, `--cap-add PERFMON`."
)


class Event:
    """One open counter."""

    def __init__(self, domain: Domain, descriptor: int, scale_uj: float) -> None:
        self.domain = domain
        self.descriptor = descriptor
        self._scale_uj = scale_uj

    def read(self) -> int | None:
        """µJ since it was opened; None where it cannot be read this time."""
        try:
            count = os.read(self.descriptor, 8)
        except OSError:
            return None
        return int(int.from_bytes(count, sys.byteorder) * self._scale_uj) if len(count) == 8 else None


class PerfDoor:
    """RAPL through perf events.

    Parameters
    ----------
    open_event
        Opens an event of a PMU for one CPU and returns its descriptor.
    """

    def __init__(self, open_event: OpenEvent = open_event) -> None:
        self._open_event = open_event
        self._events: list[Event] = []

    def open(self, context: Context) -> Opened | None:
        """The counters as one group; None where the kernel offers none; `Unavailable` where it refuses."""
        root = f"{context.sys_root}/bus/event_source/devices/power"
        pmu, offered = read_text(f"{root}/type"), _offered(f"{root}/events")
        processor = first_processor(context.proc_root)
        packages = _packages(read_text(f"{root}/cpumask") or "", context.sys_root, processor)
        if pmu is None or not pmu.isdigit() or not offered or not packages:
            return None
        for cpu, number in packages.items():
            for name, (config, scale_uj) in offered.items():
                try:
                    descriptor = self._open_event(int(pmu), config, cpu)
                except OSError as fault:
                    self.close()
                    raise _refusal(fault, root) from None
                self._events.append(Event(Domain(_KINDS[name], number, None), descriptor, scale_uj))
        missing = self._leave_out_dead_platforms()
        domains = [event.domain for event in self._events]
        channels = channels_of(domains, processor, is_virtual(processor, context.sys_root))
        return Opened([Group(channels, self._read, INTERVAL_S)], missing)

    def close(self) -> None:
        """Close the events; safe to call twice."""
        events, self._events = self._events, []
        for event in events:
            os.close(event.descriptor)

    def _leave_out_dead_platforms(self) -> list[Unavailable]:
        """Close each psys that does not move: only the master package's is wired (see `rapl`)."""
        missing: list[Unavailable] = []
        deadline = monotonic_ns() + _PSYS_PATIENCE_NS
        waiting = [event for event in self._events if event.domain.kind == "psys"]
        while waiting and monotonic_ns() < deadline:
            waiting = [event for event in waiting if not event.read()]
        for event in waiting:
            os.close(event.descriptor)
            self._events.remove(event)
            detail = (
                f"psys:{event.domain.number} stands still: this platform's counter is not wired; left out"
            )
            missing.append(Unavailable("rapl", NOT_SUPPORTED, detail))
        return missing

    def _read(self) -> list[int | None]:
        values = [event.read() for event in self._events]
        if all(value is None for value in values):
            raise OSError(errno.EIO, "no RAPL event could be read")
        return values


def _offered(folder: str) -> dict[str, tuple[int, float]]:
    """Event name -> config, and µJ a count."""
    offered = {}
    for name in _KINDS:
        event, _, config = (read_text(f"{folder}/{name}") or "").partition("=")
        unit = read_text(f"{folder}/{name}.unit")
        if event == "event" and unit == "Joules":
            try:
                offered[name] = (int(config, 0), float(read_text(f"{folder}/{name}.scale") or "") * 1e6)
            except ValueError:
                continue
    return offered


def _packages(cpumask: str, sys_root: str, processor: dict[str, str]) -> dict[int, str]:
    """The CPU that counts for each package -> the package's number as powercap names it."""
    found: dict[int, tuple[str, str]] = {}
    for cpu in _cpus(cpumask):
        topology = f"{sys_root}/devices/system/cpu/cpu{cpu}/topology"
        package = read_text(f"{topology}/physical_package_id") or "0"
        found[cpu] = package, read_text(f"{topology}/die_id") or "0"
    packages = [package for package, _ in found.values()]
    numbers: dict[int, str] = {}
    for cpu, (package, die) in found.items():
        if packages.count(package) == 1:
            numbers[cpu] = package
        elif processor.get("vendor_id", "") not in AMD:
            numbers[cpu] = f"{package}-die:{die}"
        elif package not in numbers.values():  # all dies show the package's one counter
            numbers[cpu] = package
    return numbers


def _cpus(mask: str) -> list[int]:
    """The numbers in a list like ``0,28-29``."""
    cpus: list[int] = []
    for part in mask.split(","):
        first, _, last = part.partition("-")
        if first.strip().isdigit() and (last or first).strip().isdigit():
            cpus += range(int(first), int(last or first) + 1)
    return cpus


def _refusal(fault: OSError, root: str) -> Unavailable:
    if fault.errno in (errno.EACCES, errno.EPERM):
        remedy = _REMEDY.format(python=os.path.realpath(sys.executable or "python3"))
        return Unavailable("rapl", NO_PERMISSION, f"{root}: this user may not count whole CPUs", remedy)
    return Unavailable("rapl", NOT_SUPPORTED, f"{root}: perf_event_open: {fault.strerror}")
