"""Trees of /sys and /proc as the kernel lays them out, for collectors that read files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from energyprof.collectors.base import Context

INTEL_RANGE_UJ = 262_143_328_850

CPUINFO = """processor\t: 0
vendor_id\t: {vendor}
model name\t: {model}
flags\t\t: fpu vme{hypervisor} sse2

processor\t: 1
vendor_id\t: other
"""


class Machine:
    """A machine made of files below one folder."""

    def __init__(self, root: Path) -> None:
        self.sys = root / "sys"
        self.proc = root / "proc"
        self.zones: dict[str, Path] = {}
        (self.sys / "class").mkdir(parents=True)
        self.proc.mkdir()

    def context(self, environ: Mapping[str, str] | None = None, pid: int | None = None) -> Context:
        return Context(environ=environ or {}, pid=pid, sys_root=str(self.sys), proc_root=str(self.proc))

    def processor(self, model: str, vendor: str = "GenuineIntel", virtual: bool = False) -> None:
        flag = " hypervisor" if virtual else ""
        (self.proc / "cpuinfo").write_text(CPUINFO.format(vendor=vendor, model=model, hypervisor=flag))

    def busy(self, *ticks: int, cpus: int = 2) -> None:
        """Ticks: user nice system idle iowait irq softirq steal guest guest_nice (proc(5))."""
        line = " ".join(str(tick) for tick in ticks)
        rest = "".join(f"cpu{i} 0 0 0 0 0 0 0 0 0 0\n" for i in range(cpus))
        (self.proc / "stat").write_text(f"cpu  {line}\n{rest}intr 0\nctxt 0\n")

    def sockets(self, *packages: int) -> None:
        for cpu, package in enumerate(packages):
            folder = self.sys / f"devices/system/cpu/cpu{cpu}/topology"
            folder.mkdir(parents=True)
            (folder / "physical_package_id").write_text(f"{package}\n")

    def zone(self, base: str, name: str, uj: int | str, range_uj: int | None = INTEL_RANGE_UJ) -> None:
        """A powercap zone, inside its parent by the kernel's numbering, with a flat link in the class."""
        control = base.split(":", maxsplit=1)[0]
        parts = base.split(":")
        nested = [":".join(parts[: i + 1]) for i in range(1, len(parts))]
        folder = self.sys / "devices/virtual/powercap" / control / "/".join(nested)
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text(f"{uj}\n")
        if range_uj is not None:
            (folder / "max_energy_range_uj").write_text(f"{range_uj}\n")
        in_class = self.sys / "class/powercap"
        in_class.mkdir(exist_ok=True)
        if not (in_class / control).is_symlink():
            (in_class / control).symlink_to(f"../../devices/virtual/powercap/{control}")
        (in_class / base).symlink_to(os.path.relpath(folder, in_class))
        (folder / "subsystem").symlink_to(in_class)  # the kernel's loop: a careless walk never ends
        self.zones[base] = folder

    def chip(self, name: str, attributes: Mapping[str, int | str], on_device: bool = False) -> Path:
        """A hwmon device; returns the folder of its attributes, which some drivers hang on the device beside."""
        number = len(list(self.sys.glob("class/hwmon/*")))
        folder = self.sys / f"devices/bus{number}/hwmon/hwmon{number}"
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "device").symlink_to("../..")
        in_class = self.sys / "class/hwmon"
        in_class.mkdir(exist_ok=True)
        (in_class / folder.name).symlink_to(os.path.relpath(folder, in_class))
        place = folder.parent.parent if on_device else folder
        for attribute, value in attributes.items():
            (place / attribute).write_text(f"{value}\n")
        return place

    def process(
        self,
        pid: int,
        ticks: tuple[int, int, int, int],
        children: str = "",
        start: int = 77,
        name: str = "python",
    ) -> None:
        folder = self.proc / str(pid)
        task = folder / "task" / str(pid)
        task.mkdir(parents=True, exist_ok=True)
        times = " ".join(str(tick) for tick in ticks)
        (folder / "stat").write_text(f"{pid} ({name}) S 1 1 1 0 -1 0 0 0 0 0 {times} 20 0 1 0 {start} 0 0\n")
        (task / "children").write_text(children)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def server(machine: Machine) -> Machine:
    """Two sockets with memory zones, a platform zone, and the second door to the first package."""
    machine.processor("Intel(R) Xeon(R) Platinum 8480+")
    machine.zone("intel-rapl:0", "psys", 900_000_000)
    machine.zone("intel-rapl:1", "package-1", 200_000_000)
    machine.zone("intel-rapl:1:0", "dram", 20_000_000, range_uj=65_712_999_613)
    machine.zone("intel-rapl:2", "package-0", 100_000_000)
    machine.zone("intel-rapl:2:0", "core", 60_000_000)
    machine.zone("intel-rapl:2:1", "uncore", 5_000_000)
    machine.zone("intel-rapl:2:2", "dram", 10_000_000, range_uj=65_712_999_613)
    machine.zone("intel-rapl-mmio:0", "package-0", 100_000_000)
    return machine


@pytest.fixture
def refuse() -> Callable[..., Callable[[str, int], int]]:
    """Makes an `os.open` that is refused where a path contains one of some words (root is never refused)."""

    def make(code: int, *words: str) -> Callable[[str, int], int]:
        def open_file(path: str, flags: int) -> int:
            if any(word in path for word in words):
                raise OSError(code, os.strerror(code), path)
            return os.open(path, flags)

        return open_file

    return make
