"""The kernel's hwmon tree: which chips there are, and their values through files that stay open.

/sys/class/hwmon/hwmonN has a chip's `name` and its attributes; some drivers (ACPI power meters) hang the
attributes on the `device` beside it. Units: power µW, energy µJ, voltage mV, current mA, intervals ms
(Documentation/hwmon/sysfs-interface.rst).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from energyprof.collectors.base import Unavailable
from energyprof.collectors.cpu_facts import read_text
from energyprof.reasons import NO_PERMISSION, NOT_SUPPORTED

OpenFile = Callable[[str, int], int]

_REMEDY = (
    'the line `SUBSYSTEM=="hwmon", ACTION=="add", ATTR{{name}}=="{name}",'
    " RUN+=\"/bin/sh -c 'chmod a+r /sys%p/{glob}'\"` in /etc/udev/rules.d/70-hwmon.rules, then `sudo udevadm"
    " control --reload && sudo udevadm trigger --action=add --subsystem-match=hwmon`, lets every local user"
    " read the meter"
)


@dataclass(frozen=True)
class Chip:
    """One hwmon device."""

    name: str
    folder: str

    def text(self, attribute: str) -> str | None:
        """An attribute's text; None where there is none."""
        return read_text(self.path(attribute))

    def number(self, attribute: str) -> int | None:
        """An attribute that is a whole number and positive; None otherwise."""
        text = self.text(attribute)
        return int(text) if text and text.isdigit() and int(text) > 0 else None

    def path(self, attribute: str) -> str:
        """Where an attribute is: with the chip or with its device."""
        own = f"{self.folder}/{attribute}"
        beside = f"{self.folder}/device/{attribute}"
        return beside if not os.path.exists(own) and os.path.exists(beside) else own

    def labels(self, kind: str) -> dict[int, str]:
        """The labels of a kind of attribute by number: ``in`` -> {1: "VDD_IN"}."""
        found = {}
        for entry in sorted(_entries(self.folder)):
            if entry.startswith(kind) and entry.endswith("_label"):
                number = entry[len(kind) : -len("_label")]
                if number.isdigit():
                    found[int(number)] = self.text(entry) or ""
        return found


def chips(sys_root: str) -> Iterator[Chip]:
    """All hwmon devices, in the kernel's order."""
    root = f"{sys_root}/class/hwmon"
    entries = [e for e in _entries(root) if e[:5] == "hwmon" and e[5:].isdigit()]
    for entry in sorted(entries, key=lambda e: int(e[5:])):
        chip = Chip("", f"{root}/{entry}")
        name = chip.text("name")
        if name:
            yield Chip(name, chip.folder)


class Files:
    """Files that are opened once and closed together."""

    def __init__(self, open_file: OpenFile) -> None:
        self._open_file = open_file
        self._descriptors: set[int] = set()

    def open(self, chip: Chip, attribute: str, channel: str = "") -> Callable[[], int]:
        """A reader of one attribute, for a channel; `Unavailable` where it cannot be opened.

        The reader raises OSError, or ValueError for what is no number.
        """
        path = chip.path(attribute)
        try:
            descriptor = self._open_file(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except PermissionError:
            remedy = _REMEDY.format(name=chip.name, glob=_pattern(chip, path))
            detail = f"{path}: this user may not read it"
            raise Unavailable("hwmon", NO_PERMISSION, detail, remedy, channel) from None
        except OSError as fault:
            detail = f"{path}: {fault.strerror}"
            raise Unavailable("hwmon", NOT_SUPPORTED, detail, channel=channel) from None
        self._descriptors.add(descriptor)
        return lambda: int(os.pread(descriptor, 32, 0))

    def close(self) -> None:
        """Close them all; safe to call twice."""
        descriptors, self._descriptors = self._descriptors, set()
        for descriptor in descriptors:
            os.close(descriptor)


def maybe(read: Callable[[], int]) -> int | None:
    """A reading, or None where the file is missing, garbled or gives EIO this time."""
    try:
        return read()
    except (OSError, ValueError):
        return None


def _pattern(chip: Chip, path: str) -> str:
    """All attributes like this one, by their place below the chip: ``energy12_input`` -> ``energy*_input``."""
    folder, _, attribute = path[len(chip.folder) + 1 :].rpartition("/")
    kind, _, what = attribute.partition("_")
    pattern = f"{kind.rstrip('0123456789')}*_{what}"
    return f"{folder}/{pattern}" if folder else pattern


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
