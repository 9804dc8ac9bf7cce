"""RAPL on trees that are laid out as the kernel's."""

from __future__ import annotations

import errno
import shutil

import pytest

from energyprof.collectors.base import Channel, Unavailable
from energyprof.collectors.rapl import RaplCollector
from energyprof.reasons import NO_PERMISSION, NOT_SUPPORTED, VIRTUALISED_COUNTER


def channels(machine, collector=None) -> dict[str, Channel]:
    opened = (collector or RaplCollector()).open(machine.context())
    assert len(opened.groups) == 1
    return {channel.name: channel for channel in opened.groups[0].channels}


def values(collector, machine) -> dict[str, int | None]:
    (group,) = collector.open(machine.context()).groups
    return dict(zip([c.name for c in group.channels], group.read()))


def test_every_zone_is_found_once_by_its_name_and_read_in_microjoules(server) -> None:
    assert values(RaplCollector(), server) == {
        "psys:0": 900_000_000,
        "package:1": 200_000_000,
        "dram:1": 20_000_000,
        "package:0": 100_000_000,
        "core:0": 60_000_000,
        "uncore:0": 5_000_000,
        "dram:0": 10_000_000,
    }


def test_core_is_inside_its_package_and_memory_beside_it_and_psys_holds_both(server) -> None:
    parents = {name: channel.parent for name, channel in channels(server).items()}
    assert parents == {
        "psys:0": None,
        "package:0": "psys:0",
        "package:1": "psys:0",
        "dram:0": "psys:0",
        "dram:1": "psys:0",
        "core:0": "package:0",
        "uncore:0": "package:0",
    }


def test_without_psys_packages_and_memory_stand_on_their_own(machine) -> None:
    machine.processor("x")
    machine.zone("intel-rapl:0", "package-0", 1)
    machine.zone("intel-rapl:0:0", "dram", 2)
    assert {c.parent for c in channels(machine).values()} == {None}


def test_a_platform_zone_of_another_package_holds_all_packages(machine) -> None:
    machine.processor("x")
    machine.zone("intel-rapl:0", "package-0", 1)
    machine.zone("intel-rapl:1", "package-1", 1)
    machine.zone("intel-rapl:2", "psys-1", 5)
    found = channels(machine)
    assert found["package:0"].parent == found["package:1"].parent == "psys:1"


def test_a_platform_zone_that_counts_nothing_is_left_out_and_said_so(machine) -> None:
    machine.processor("x")
    machine.zone("intel-rapl:0", "package-0", 1)
    machine.zone("intel-rapl:1", "psys", 0)
    opened = RaplCollector().open(machine.context())
    assert [c.name for c in opened.groups[0].channels] == ["package:0"]
    assert opened.groups[0].channels[0].parent is None
    assert "psys:0 reads 0" in str(opened.missing[0])


def test_dies_have_channels_of_their_own(machine) -> None:
    machine.processor("x")
    machine.zone("intel-rapl:0", "package-0-die-0", 11)
    machine.zone("intel-rapl:1", "package-0-die-1", 11)
    machine.zone("intel-rapl:1:0", "core", 7)
    found = channels(machine)
    assert set(found) == {"package:0-die:0", "package:0-die:1", "core:0-die:1"}
    assert found["core:0-die:1"].parent == "package:0-die:1"
    assert found["package:0-die:1"].scope == "CPU package 0 die 1"


def test_amd_dies_that_show_one_counter_are_counted_once(machine) -> None:
    machine.processor("AMD Ryzen Threadripper 1950X", vendor="AuthenticAMD")
    machine.zone("intel-rapl:0", "package-0-die-0", 123_456_789)
    machine.zone("intel-rapl:1", "package-0-die-1", 123_456_789)
    opened = RaplCollector().open(machine.context())
    assert [c.name for c in opened.groups[0].channels] == ["package:0-die:0"]
    assert "package:0-die:1 shows the same counter" in str(opened.missing[0])


def test_each_zone_wraps_at_its_own_range(server) -> None:
    found = channels(server)
    assert found["package:0"].wraps_at == 262_143_328_850
    assert found["dram:0"].wraps_at == 65_712_999_613


def test_a_zone_without_a_range_is_a_counter_that_does_not_wrap(machine) -> None:
    machine.processor("x")
    machine.zone("intel-rapl:0", "package-0", 1, range_uj=None)
    assert channels(machine)["package:0"].wraps_at is None


def test_a_counter_is_read_anew_each_time(server) -> None:
    collector = RaplCollector()
    (group,) = collector.open(server.context()).groups
    group.read()
    (server.zones["intel-rapl:2"] / "energy_uj").write_text("100000042\n")
    assert 100_000_042 in group.read()


@pytest.mark.parametrize("garbage", ["", "nonsense\n"])
def test_a_garbled_zone_is_missing_and_the_others_are_read(server, garbage: str) -> None:
    (server.zones["intel-rapl:1"] / "energy_uj").write_text(garbage)
    read = values(RaplCollector(), server)
    assert read["package:1"] is None
    assert read["package:0"] == 100_000_000


def test_when_no_zone_can_be_read_the_meter_is_told(server) -> None:
    collector = RaplCollector()
    (group,) = collector.open(server.context()).groups
    for folder in server.zones.values():
        (folder / "energy_uj").write_text("")
    with pytest.raises(OSError, match="no RAPL zone"):
        group.read()


def test_a_closed_collector_reads_nothing_and_closes_twice(server) -> None:
    collector = RaplCollector()
    (group,) = collector.open(server.context()).groups
    collector.close()
    collector.close()
    with pytest.raises(OSError, match="no RAPL zone"):
        group.read()


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM])
def test_a_refusal_names_the_exact_remedies(server, refuse, code: int) -> None:
    with pytest.raises(Unavailable) as refused:
        RaplCollector(refuse(code, "energy_uj")).open(server.context())
    assert refused.value.reason == NO_PERMISSION
    assert (
        'SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj"' in refused.value.remedy
    )
    assert "z /sys/class/powercap/intel-rapl:*/energy_uj 0444 - - -" in refused.value.remedy
    assert "-v /sys/class/powercap:/host/sys/class/powercap:ro" in refused.value.remedy
    assert "\n" not in str(refused.value) + refused.value.remedy


def test_what_is_refused_in_part_is_listed_as_missing(server, refuse) -> None:
    opened = RaplCollector(refuse(errno.EACCES, "intel-rapl:1")).open(server.context())
    assert "package:0" in [c.name for c in opened.groups[0].channels]
    assert {absence.reason for absence in opened.missing} == {NO_PERMISSION}
    assert len(opened.missing) == 2


def test_a_container_that_masks_the_folders_is_told_how_to_show_them(server) -> None:
    shutil.rmtree(server.sys / "devices/virtual/powercap")
    with pytest.raises(Unavailable, match="this container hides") as hidden:
        RaplCollector().open(server.context())
    assert hidden.value.reason == NO_PERMISSION
    assert "ENERGYPROF_SYS_ROOT=/host/sys" in hidden.value.remedy


@pytest.mark.parametrize(
    ("vendor", "virtual", "words"),
    [
        ("GenuineIntel", True, "virtual machine"),
        ("GenuineIntel", False, "intel_rapl_common is not loaded"),
        ("AuthenticAMD", False, "intel_rapl_common is not loaded"),
        ("", False, "Intel and AMD"),
    ],
)
def test_a_machine_without_zones_says_why(machine, vendor: str, virtual: bool, words: str) -> None:
    machine.processor("x", vendor=vendor, virtual=virtual)
    with pytest.raises(Unavailable, match=words) as absent:
        RaplCollector().open(machine.context())
    assert absent.value.reason == NOT_SUPPORTED


def test_a_counter_from_a_hypervisor_is_flagged_and_trusted_less(machine) -> None:
    machine.processor("x", virtual=True)
    machine.zone("intel-rapl:0", "package-0", 1)
    package = channels(machine)["package:0"]
    assert package.flags == (VIRTUALISED_COUNTER,)
    assert package.gain_u95 == 0.5


def test_an_unknown_zone_is_left_out_and_named(server) -> None:
    server.zone("intel-rapl:9", "mystery", 1)
    opened = RaplCollector().open(server.context())
    assert any("unknown zone 'mystery'" in str(absence) for absence in opened.missing)
    assert len(opened.groups[0].channels) == 7


def test_zones_that_are_only_nested_or_only_flat_are_found_too(machine) -> None:
    machine.processor("x")
    machine.zone("intel-rapl:0", "package-0", 1)
    machine.zone("intel-rapl:0:0", "dram", 2)
    in_class = machine.sys / "class/powercap"
    (in_class / "intel-rapl:0:0").unlink()
    (in_class / "intel-rapl").unlink()
    assert set(channels(machine)) == {"package:0", "dram:0"}


def test_a_refusal_is_told_before_anything_less_important(server, refuse) -> None:
    server.zone("intel-rapl:9", "mystery", 1)
    with pytest.raises(Unavailable) as refused:
        RaplCollector(refuse(errno.EACCES, "energy_uj")).open(server.context())
    assert refused.value.reason == NO_PERMISSION
