"""The processors' own energy counters (RAPL), by whichever of the kernel's doors opens.

Powercap is the first. Its zones are read in one go, through files that stay open: a `pread` costs 1.5 µs,
opening the file each time 18 µs. Where it opens nothing, perf events (`rapl_perf`) are tried, then the
driver amd_energy (`rapl_hwmon`): one door at a time, so that no counter is read twice.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from energyprof.collectors.base import Context, Group, Opened, Unavailable
from energyprof.collectors.cpu_facts import first_processor, is_virtual
from energyprof.collectors.perf_event import OpenEvent, open_event
from energyprof.collectors.rapl_access import all_closed, hidden_by_container, no_permission, not_there
from energyprof.collectors.rapl_channels import AMD, INTERVAL_S, Domain, channels_of
from energyprof.collectors.rapl_hwmon import HwmonDoor
from energyprof.collectors.rapl_perf import PerfDoor
from energyprof.collectors.rapl_zones import Zone, find_zones, is_mirror, range_uj
from energyprof.reasons import NOT_SUPPORTED


class RaplCollector:
    """RAPL zones as one group of energy counters.

    Parameters
    ----------
    open_file
        Opens a counter's file for reading and returns its descriptor.
    open_event
        Opens a perf event.
    """

    source = "rapl"
    prompt = True

    def __init__(
        self, open_file: Callable[[str, int], int] = os.open, open_event: OpenEvent = open_event
    ) -> None:
        self._open_file = open_file
        self._zones: list[Zone] = []
        self._perf = PerfDoor(open_event)
        self._hwmon = HwmonDoor(open_file)

    def open(self, context: Context) -> Opened:
        """Open the counters; `Unavailable` where there are none or none may be read, by any door."""
        closed: list[Unavailable] = []
        for door in (self._powercap, self._perf.open, self._hwmon.open):
            try:
                opened = door(context)
            except Unavailable as why:
                closed.append(why)
            else:
                if opened is not None:
                    return opened
        raise all_closed(closed)

    def _powercap(self, context: Context) -> Opened | None:
        root = f"{context.sys_root}/class/powercap"
        zones, unknown, hidden = find_zones(root)
        if not zones and hidden:
            raise hidden_by_container(root)
        if not zones:
            raise not_there(root, context.proc_root, context.sys_root)
        missing = self._open_zones(zones)
        processor = first_processor(context.proc_root)
        missing += self._leave_out_unusable(processor.get("vendor_id", ""))
        if not self._zones:
            raise missing[0]
        domains = [Domain(zone.kind, zone.number, range_uj(zone.folder)) for zone in self._zones]
        channels = channels_of(domains, processor, is_virtual(processor, context.sys_root))
        return Opened([Group(channels, self._read, INTERVAL_S)], missing + unknown)

    def close(self) -> None:
        """Close files and events."""
        self._perf.close()
        self._hwmon.close()
        zones, self._zones = self._zones, []
        for zone in zones:
            os.close(zone.descriptor)

    def _open_zones(self, zones: Sequence[Zone]) -> list[Unavailable]:
        refused: list[str] = []
        missing: list[Unavailable] = []
        for zone in zones:
            path = f"{zone.folder}/energy_uj"
            try:
                zone.descriptor = self._open_file(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
            except PermissionError:  # EACCES and EPERM
                refused.append(path)
            except OSError as fault:
                detail = f"{zone.channel}: {path}: {fault.strerror}"
                missing.append(Unavailable(self.source, NOT_SUPPORTED, detail))
            else:
                self._zones.append(zone)
        if refused and not self._zones:
            return [no_permission(refused), *missing]
        return [no_permission([path]) for path in refused] + missing

    def _leave_out_unusable(self, vendor: str) -> list[Unavailable]:
        """Close what would be counted wrongly: a dead psys, and dies that share one counter."""
        mirrors = vendor in AMD  # Intel's multi-die packages have a counter a die
        missing: list[Unavailable] = []
        kept: list[Zone] = []
        for zone in self._zones:
            twin = next((other for other in kept if mirrors and is_mirror(other, zone)), None)
            if zone.kind == "psys" and zone.read() == 0:
                # Only the master package's platform counter is wired; the others' read 0 (kernel
                # commit "enumerate psys RAPL domain together with package RAPL domain").
                why = "reads 0: this platform's counter is not wired"
            elif twin is not None:
                why = f"shows the same counter as {twin.channel}"
            else:
                kept.append(zone)
                continue
            os.close(zone.descriptor)
            missing.append(Unavailable(self.source, NOT_SUPPORTED, f"{zone.channel} {why}; left out"))
        self._zones = kept
        return missing

    def _read(self) -> Sequence[int | None]:
        values = [zone.read() for zone in self._zones]
        if all(value is None for value in values):
            raise OSError(errno.EIO, "no RAPL zone could be read")
        return values
