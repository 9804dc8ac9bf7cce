"""The processors' own energy counters (RAPL), through the kernel's powercap files.

A zone is known by its `name` file, never by its number: ``package-0`` may be ``intel-rapl:1``. The zones are
``package-N`` (``package-N-die-D`` where a package has several dies), inside it ``core``, ``uncore`` and ``dram``,
and beside it ``psys``, the platform. In energy, core and uncore are parts of the package; dram, though its
folder is inside the package's, is not; psys includes packages and memory. ``intel-rapl-mmio:*`` is a second door to
the same package counter and is left out. AMD processors use the same tree, with packages and cores alone.

Standard library alone: this also runs in the user's own process at a run's two ends.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from energyprof.collectors.base import Channel, Context, Group, Opened, Unavailable
from energyprof.collectors.cpu_facts import first_processor, is_virtual, model_name, read_text
from energyprof.collectors.rapl_access import hidden_by_container, no_permission, not_there
from energyprof.reasons import NOT_SUPPORTED, VIRTUALISED_COUNTER

_INTERVAL_S = 0.05
# "about 1 ms", jittered: Intel SDM vol. 3B, 15.10 ("updated approximately every 1 ms").
_REFRESH_NS = 1_000_000
# Nobody publishes a bound for RAPL's gain, so these say that they are assumed. What is known: highly
# correlated with plug power (Khan et al., TOMPECS 2018); dram off by a constant, least on servers (Desrochers et al.,
# MEMSYS 2016); AMD's is modelled (Schöne et al., arXiv 2108.00808); a hypervisor's is a share of the host's by CPU time.
_GAIN_PACKAGE = (0.05, "assumed; no published bound (Khan et al. 2018: highly correlated with plug power)")
_GAIN_OTHER = (0.10, "assumed; no published bound (Desrochers et al. 2016: dram is off by a constant)")
_GAIN_AMD = (0.10, "assumed; modelled by the processor (Schöne et al., arXiv 2108.00808)")
_GAIN_VIRTUAL = (0.50, "assumed; the hypervisor estimates it")

_SCOPES = {
    "package": "CPU package {}",
    "core": "cores of CPU package {}",
    "uncore": "uncore (integrated GPU) of CPU package {}",
    "dram": "memory of CPU package {}",
    "psys": "platform {}: packages, memory and more, as the vendor wired it",
}


class _Zone:
    """One powercap zone that was found: its channel's kind and number, and where its counter is."""

    def __init__(self, kind: str, number: str, folder: str) -> None:
        self.kind = kind
        self.number = number
        self.folder = folder
        self.descriptor = -1

    @property
    def channel(self) -> str:
        return f"{self.kind}:{self.number}"

    def read(self) -> int | None:
        """µJ, or None where the file is missing, garbled or gives EIO this time."""
        try:
            return int(os.pread(self.descriptor, 32, 0))
        except (OSError, ValueError):
            return None


class RaplCollector:
    """RAPL zones as one group of energy counters.

    Parameters
    ----------
    open_file
        Opens a counter for reading and returns its descriptor.
    """

    source = "rapl"

    def __init__(self, open_file: Callable[[str, int], int] = os.open) -> None:
        self._open_file = open_file
        self._zones: list[_Zone] = []

    def open(self, context: Context) -> Opened:
        """Find and open the zones; `Unavailable` where there are none or none may be read."""
        root = f"{context.sys_root}/class/powercap"
        zones, missing, hidden = _find(root)
        if not zones and hidden:
            raise hidden_by_container(root)
        if not zones:
            raise not_there(root, context.proc_root, context.sys_root)
        missing += self._open_zones(zones)
        missing += self._leave_out_unusable()
        if not self._zones:
            raise missing[0]
        channels = self._channels(context)
        return Opened([Group(channels, self._read, _INTERVAL_S)], missing)

    def close(self) -> None:
        """Close the files."""
        zones, self._zones = self._zones, []
        for zone in zones:
            os.close(zone.descriptor)

    def _open_zones(self, zones: Sequence[_Zone]) -> list[Unavailable]:
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

    def _leave_out_unusable(self) -> list[Unavailable]:
        """Close what would be counted wrongly: a psys that does not count, and dies that share one counter."""
        missing: list[Unavailable] = []
        kept: list[_Zone] = []
        for zone in self._zones:
            twin = next((other for other in kept if _is_mirror(other, zone)), None)
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

    def _channels(self, context: Context) -> tuple[Channel, ...]:
        processor = first_processor(context.proc_root)
        virtual = is_virtual(processor, context.sys_root)
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
                    wraps_at=_range_uj(zone.folder),
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


def _find(root: str) -> tuple[list[_Zone], list[Unavailable], bool]:
    """All zones below `root`, once each; names that mean nothing to us; and whether zones are listed but hidden."""
    folders: dict[str, str] = {}
    listed = _collect(root, folders)
    names = {base: read_text(f"{folder}/name") for base, folder in folders.items()}
    zones: dict[str, _Zone] = {}
    missing: list[Unavailable] = []
    for base, folder in sorted(folders.items(), key=lambda item: _order(item[0])):
        name = names[base]
        if name is None:
            continue
        package = names.get(base.rpartition(":")[0])
        zone = _zone(name, package, folder)
        if zone is None:
            missing.append(Unavailable("rapl", NOT_SUPPORTED, f"{folder}: unknown zone '{name}'; left out"))
        else:
            zones.setdefault(zone.channel, zone)
    hidden = listed and not any(names.values())
    return list(zones.values()), missing, hidden


def _collect(folder: str, folders: dict[str, str]) -> bool:
    """Fill `folders` with the zones by their kernel name; True where any was listed.

    The class folder has a flat link to every zone, and zones lie inside each other as well: the kernel's
    name (``intel-rapl:0:1``) is what makes them one.
    """
    try:
        entries = os.listdir(folder)
    except OSError:
        return False
    listed = False
    for entry in entries:
        path = f"{folder}/{entry}"
        if entry == "intel-rapl":  # the control type: holds the zones, is none
            listed = _collect(path, folders) or listed
        elif entry.startswith("intel-rapl:"):
            listed = True
            if entry not in folders:
                folders[entry] = path
                _collect(path, folders)
    return listed


def _zone(name: str, package: str | None, folder: str) -> _Zone | None:
    kind, _, rest = name.partition("-")
    if kind == "package" and rest:
        return _Zone("package", rest.replace("-die-", "-die:"), folder)
    if kind == "psys":
        return _Zone("psys", rest or "0", folder)
    if name in ("core", "uncore", "dram") and package is not None and package.startswith("package-"):
        return _Zone(name, package[len("package-") :].replace("-die-", "-die:"), folder)
    return None


def _order(base: str) -> list[int]:
    return [int(part) if part.isdigit() else 0 for part in base.split(":")]


def _is_mirror(one: _Zone, other: _Zone) -> bool:
    """Two dies of one package with one counter, as on some AMD processors: read between two reads of the
    first, the second's value lies between the two. Counters of their own differ by kilojoules."""
    if "-die:" not in one.number or one.kind != other.kind:
        return False
    if one.number.split("-")[0] != other.number.split("-")[0]:
        return False
    before, between, after = one.read(), other.read(), one.read()
    return bool(before and between and after and before <= between <= after)


def _range_uj(folder: str) -> int | None:
    """The modulus of a zone's counter, µJ.

    The kernel publishes the largest value of the 32-bit counter, (2^32 - 1) units, so that the counter is modulo one
    unit more than this (intel_rapl_common.c, get_max_energy_counter). The unit is not published; taking
    the range for the modulus loses one unit (61 µJ or 15 µJ) a wrap.
    """
    text = read_text(f"{folder}/max_energy_range_uj")
    return int(text) if text and text.isdigit() and int(text) > 0 else None


def _gain(kind: str, vendor: str, virtual: bool) -> tuple[float, str]:
    if virtual:
        return _GAIN_VIRTUAL
    if vendor in ("AuthenticAMD", "HygonGenuine"):
        return _GAIN_AMD
    return _GAIN_PACKAGE if kind == "package" else _GAIN_OTHER
