"""The powercap tree of RAPL: which zones there are, and what each measures.

A zone is known by its `name` file, never by its number: ``package-0`` may be ``intel-rapl:1``. The zones
are ``package-N`` (``package-N-die-D`` where a package has several dies), inside it ``core``, ``uncore``
and ``dram``, and beside it ``psys``, the platform (``psys-N`` where package N is the one that has it).
``intel-rapl-mmio:*`` is a second door to the same package counter and is left out. AMD processors use the
same tree, with packages and cores alone.
"""

from __future__ import annotations

import os

from energyprof.collectors.absence import Unavailable
from energyprof.collectors.cpu_facts import read_text
from energyprof.reasons import NOT_SUPPORTED


class Zone:
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


def find_zones(root: str) -> tuple[list[Zone], list[Unavailable], bool]:
    """All zones below `root`, once each; names unknown to us; and whether zones are listed but hidden."""
    folders: dict[str, str] = {}
    listed = _collect(root, folders)
    names = {base: read_text(f"{folder}/name") for base, folder in folders.items()}
    zones: dict[str, Zone] = {}
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


def _zone(name: str, package: str | None, folder: str) -> Zone | None:
    kind, _, rest = name.partition("-")
    if kind == "package" and rest:
        return Zone("package", rest.replace("-die-", "-die:"), folder)
    if kind == "psys":
        return Zone("psys", rest or "0", folder)
    if name in ("core", "uncore", "dram") and package is not None and package.startswith("package-"):
        return Zone(name, package[len("package-") :].replace("-die-", "-die:"), folder)
    return None


def _order(base: str) -> list[int]:
    return [int(part) if part.isdigit() else 0 for part in base.split(":")]


def is_mirror(one: Zone, other: Zone) -> bool:
    """Whether two dies of one package show one counter (Zen 1 and 2: CodeCarbon's issue 1274).

    Then a read of the second between two reads of the first lies between them; counters of their own
    differ by kilojoules.
    """
    if "-die:" not in one.number or one.kind != other.kind:
        return False
    if one.number.split("-")[0] != other.number.split("-")[0]:
        return False
    before, between, after = one.read(), other.read(), one.read()
    return bool(before and between and after and before <= between <= after)


def range_uj(folder: str) -> int | None:
    """The modulus of a zone's counter, µJ.

    The kernel publishes the largest value of the 32-bit counter, (2^32 - 1) units, so that the counter is
    modulo one unit more than this (intel_rapl_common.c, get_max_energy_counter). The unit is not
    published; taking the range for the modulus loses one unit (61 µJ or 15 µJ) a wrap.
    """
    text = read_text(f"{folder}/max_energy_range_uj")
    return int(text) if text and text.isdigit() and int(text) > 0 else None
