"""The processors' own energy counters (RAPL), through the kernel's powercap files.

In energy, core and uncore are parts of the package; dram, though its folder is inside the package's, is
not; psys includes packages and memory. All zones are read in one go, through files that stay open: a
`pread` costs 1.5 µs, opening the file each time 18 µs.

Standard library alone: this also runs in the user's own process at a run's two ends.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from energyprof.collectors.base import Channel, Context, Group, Opened, Unavailable
from energyprof.collectors.cpu_facts import first_processor, is_virtual, model_name
from energyprof.collectors.rapl_access import hidden_by_container, no_permission, not_there
from energyprof.collectors.rapl_zones import Zone, find_zones, is_mirror, range_uj
from energyprof.reasons import NOT_SUPPORTED, VIRTUALISED_COUNTER

_INTERVAL_S = 0.05
# "about 1 ms", jittered: Intel SDM vol. 3B, 15.10 ("updated approximately every 1 ms").
_REFRESH_NS = 1_000_000
# Nobody publishes a bound for RAPL's gain, so these say that they are assumed. What is known: highly
# correlated with plug power (Khan et al., TOMPECS 2018); dram off by a constant, least on servers
# (Desrochers et al., MEMSYS 2016); AMD's is modelled (Schöne et al., arXiv 2108.00808); a hypervisor's is
# a share of the host's by CPU time (QEMU, docs/specs/rapl-msr).
_GAIN_PACKAGE = (0.05, "assumed; no published bound (Khan et al. 2018: highly correlated with plug power)")
_GAIN_OTHER = (0.10, "assumed; no published bound (Desrochers et al. 2016: dram is off by a constant)")
_GAIN_AMD = (0.10, "assumed; modelled by the processor (Schöne et al., arXiv 2108.00808)")
_GAIN_VIRTUAL = (0.50, "assumed; the hypervisor estimates it")

_AMD = ("AuthenticAMD", "HygonGenuine")

_SCOPES = {
    "package": "CPU package {}",
    "core": "cores of CPU package {}",
    "uncore": "uncore (integrated GPU) of CPU package {}",
    "dram": "memory of CPU package {}",
    "psys": "platform {}: packages, memory and more, as the vendor wired it",
}


class RaplCollector:
    """RAPL zones as one group of energy counters.

    Parameters
    ----------
    open_file
        Opens a counter for reading and returns its descriptor.
    """

    source = "rapl"
    prompt = True

    def __init__(self, open_file: Callable[[str, int], int] = os.open) -> None:
        self._open_file = open_file
        self._zones: list[Zone] = []

    def open(self, context: Context) -> Opened:
        """Find and open the zones; `Unavailable` where there are none or none may be read."""
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
        channels = self._channels(processor, is_virtual(processor, context.sys_root))
        return Opened([Group(channels, self._read, _INTERVAL_S)], missing + unknown)

    def close(self) -> None:
        """Close the files."""
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
        mirrors = vendor in _AMD  # Intel's multi-die packages have a counter a die
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

    def _channels(self, processor: dict[str, str], virtual: bool) -> tuple[Channel, ...]:
        platform = next((zone.channel for zone in self._zones if zone.kind == "psys"), None)
        device = {"model": model_name(processor)} if model_name(processor) else {}
        channels = []
        for zone in self._zones:
            gain, source = _gain(zone.kind, processor.get("vendor_id", ""), virtual)
            inside = f"package:{zone.number}" if zone.kind in ("core", "uncore") else platform
            channels.append(
                Channel(
                    name=zone.channel,
                    quantity="energy",
                    method="counter",
                    scope=_SCOPES[zone.kind].format(zone.number.replace("-die:", " die ")),
                    parent=None if zone.kind == "psys" else inside,
                    wraps_at=range_uj(zone.folder),
                    refresh_ns=_REFRESH_NS,
                    gain_u95=gain,
                    gain_source=source,
                    device=device,
                    flags=(VIRTUALISED_COUNTER,) if virtual else (),
                )
            )
        return tuple(channels)

    def _read(self) -> Sequence[int | None]:
        values = [zone.read() for zone in self._zones]
        if all(value is None for value in values):
            raise OSError(errno.EIO, "no RAPL zone could be read")
        return values


def _gain(kind: str, vendor: str, virtual: bool) -> tuple[float, str]:
    if virtual:
        return _GAIN_VIRTUAL
    if vendor in _AMD:
        return _GAIN_AMD
    return _GAIN_PACKAGE if kind == "package" else _GAIN_OTHER
