"""RAPL by perf events: a PMU's folder as the kernel lays it out, and counters that are files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from energyprof.collectors.base import Unavailable
from energyprof.collectors.perf_event import open_event
from energyprof.collectors.rapl import RaplCollector
from energyprof.reasons import NO_PERMISSION, NOT_SUPPORTED

SCALE = "2.3283064365386962890625e-10"  # 2^-32 J
EVENTS = {"energy-cores": 1, "energy-pkg": 2, "energy-ram": 3, "energy-psys": 5}
PMU = 12


class Kernel:
    """The PMU `power`: its folder, and events that are opened by an injected call."""

    def __init__(self, machine, folder: Path) -> None:
        self.machine = machine
        self._folder = folder
        self.opened: list[tuple[int, int, int]] = []
        self.refuses = 0

    def pmu(self, cpumask: str, events=EVENTS, unit: str = "Joules") -> None:
        root = self.machine.sys / "bus/event_source/devices/power"
        (root / "events").mkdir(parents=True)
        (root / "type").write_text(f"{PMU}\n")
        (root / "cpumask").write_text(f"{cpumask}\n")
        for name, number in events.items():
            (root / "events" / name).write_text(f"event=0x{number:02x}\n")
            (root / "events" / f"{name}.scale").write_text(f"{SCALE}\n")
            (root / "events" / f"{name}.unit").write_text(f"{unit}\n")

    def cpu(self, cpu: int, package: int, die: int = 0) -> None:
        topology = self.machine.sys / f"devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "physical_package_id").write_text(f"{package}\n")
        (topology / "die_id").write_text(f"{die}\n")

    def count(self, cpu: int, config: int, joules: float) -> None:
        (self._folder / f"{cpu}.{config}").write_bytes(round(joules * 2**32).to_bytes(8, "little"))

    def open_event(self, pmu: int, config: int, cpu: int) -> int:
        if self.refuses:
            raise OSError(self.refuses, os.strerror(self.refuses))
        self.opened.append((pmu, config, cpu))
        path = self._folder / f"{cpu}.{config}"
        if not path.exists():
            self.count(cpu, config, 0.0)
        return os.open(path, os.O_RDONLY)

    def collector(self) -> RaplCollector:
        return RaplCollector(open_event=self.open_event)


@pytest.fixture
def kernel(machine, tmp_path: Path) -> Kernel:
    machine.processor("Intel(R) Xeon(R) Platinum 8480+")
    folder = tmp_path / "counters"
    folder.mkdir()
    return Kernel(machine, folder)


def once(group) -> dict[str, int | None]:
    """A file, unlike an event, is read from where the last read ended: so read once."""
    return dict(zip([channel.name for channel in group.channels], group.read()))


def test_every_domain_of_every_package_is_a_channel_by_powercaps_name_in_microjoules(kernel) -> None:
    kernel.pmu("0,28")
    kernel.cpu(0, 0)
    kernel.cpu(28, 1)
    for cpu in (0, 28):
        for config in (1, 2, 3, 5):
            kernel.count(cpu, config, 10.0 * config + cpu)
    events = {name: number for name, number in EVENTS.items() if number != 5}
    (kernel.machine.sys / "bus/event_source/devices/power/events/energy-psys").unlink()
    (group,) = kernel.collector().open(kernel.machine.context()).groups
    assert {opened[0] for opened in kernel.opened} == {PMU}
    assert len(kernel.opened) == 2 * len(events)
    assert once(group) == {
        "package:0": 20_000_000,
        "core:0": 10_000_000,
        "dram:0": 30_000_000,
        "package:1": 48_000_000,
        "core:1": 38_000_000,
        "dram:1": 58_000_000,
    }


def test_the_channels_are_those_of_powercap_but_for_the_range(kernel, server, tmp_path: Path) -> None:
    (by_powercap,) = RaplCollector().open(server.context()).groups
    kernel.pmu("0,28", {**EVENTS, "energy-gpu": 4})
    kernel.cpu(0, 0)
    kernel.cpu(28, 1)
    kernel.count(0, 5, 1.0)

    def closed(path: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, "no", path)

    collector = RaplCollector(closed, kernel.open_event)
    (by_perf,) = collector.open(server.context()).groups
    one = {c.name: c for c in by_powercap.channels}
    other = {c.name: c for c in by_perf.channels}
    assert set(other) - set(one) == {"core:1", "uncore:1"}  # that tree shows the parts of one package
    assert {c.wraps_at for c in other.values()} == {None}
    for name, channel in one.items():
        beside = other[name]
        assert (channel.parent, channel.gain_u95, channel.scope) == (
            beside.parent,
            beside.gain_u95,
            beside.scope,
        )
        assert (channel.refresh_ns, channel.flags, channel.method) == (
            beside.refresh_ns,
            beside.flags,
            beside.method,
        )
    collector.close()


def test_where_powercap_opens_perf_is_not_tried(kernel, server) -> None:
    kernel.pmu("0")
    (group,) = kernel.collector().open(server.context()).groups
    assert kernel.opened == []
    assert {c.name for c in group.channels} >= {"package:0", "package:1"}


def test_a_platform_counter_that_stands_still_is_left_out_and_no_parent(kernel) -> None:
    kernel.pmu("0,1")
    kernel.cpu(0, 0)
    kernel.cpu(1, 1)
    kernel.count(0, 5, 3.0)
    opened = kernel.collector().open(kernel.machine.context())
    parents = {c.name: c.parent for c in opened.groups[0].channels}
    assert parents["package:1"] == "psys:0"
    assert "psys:1" not in parents
    assert "psys:1 stands still" in str(opened.missing[0])


def test_dies_of_intel_have_numbers_and_those_of_amd_are_one_package(kernel) -> None:
    kernel.pmu("0-1", {"energy-pkg": 2})
    kernel.cpu(0, 0, die=0)
    kernel.cpu(1, 0, die=1)
    (group,) = kernel.collector().open(kernel.machine.context()).groups
    assert [c.name for c in group.channels] == ["package:0-die:0", "package:0-die:1"]
    kernel.machine.processor("AMD EPYC 7742 64-Core Processor", vendor="AuthenticAMD")
    (group,) = kernel.collector().open(kernel.machine.context()).groups
    assert [(c.name, c.gain_u95) for c in group.channels] == [("package:0", 0.10)]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
def test_a_refusal_by_both_doors_names_what_opens_each(kernel, server, refuse, code: int) -> None:
    kernel.pmu("0")
    kernel.refuses = code
    with pytest.raises(Unavailable) as refused:
        RaplCollector(refuse(errno.EACCES, "energy_uj"), kernel.open_event).open(server.context())
    assert refused.value.reason == NO_PERMISSION
    remedy = refused.value.remedy
    assert "chmod a+r /sys%p/energy_uj" in remedy
    assert "sudo sysctl kernel.perf_event_paranoid=0" in remedy
    assert "sudo setcap cap_perfmon=ep /" in remedy
    assert "\n" not in str(refused.value) + remedy


def test_without_powercap_a_refused_event_is_a_matter_of_permission(kernel) -> None:
    kernel.pmu("0")
    kernel.refuses = errno.EACCES
    with pytest.raises(Unavailable, match="may not count whole CPUs") as refused:
        kernel.collector().open(kernel.machine.context())
    assert refused.value.reason == NO_PERMISSION


@pytest.mark.parametrize("what", ["nothing", "another unit", "no cpu"])
def test_a_kernel_without_usable_events_says_what_powercap_says(kernel, what: str) -> None:
    if what == "another unit":
        kernel.pmu("0", unit="Ergs")
    elif what == "no cpu":
        kernel.pmu("")
    with pytest.raises(Unavailable, match="intel_rapl_common is not loaded") as absent:
        kernel.collector().open(kernel.machine.context())
    assert absent.value.reason == NOT_SUPPORTED
    assert "perf" not in absent.value.remedy


def test_a_closed_door_reads_nothing_and_closes_twice(kernel) -> None:
    kernel.pmu("0", {"energy-pkg": 2})
    collector = kernel.collector()
    (group,) = collector.open(kernel.machine.context()).groups
    collector.close()
    collector.close()
    with pytest.raises(OSError, match="no RAPL event"):
        group.read()


def test_the_system_call_opens_a_counter_that_counts_nanoseconds() -> None:
    try:
        descriptor = open_event(1, 0, 0)  # PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK, CPU 0
    except OSError as fault:
        pytest.skip(f"no perf events for whole CPUs here: {fault.strerror}")
    try:
        counts = [int.from_bytes(os.read(descriptor, 8), "little") for _ in range(2)]
    finally:
        os.close(descriptor)
    assert 0 < counts[0] < counts[1] < 60_000_000_000
