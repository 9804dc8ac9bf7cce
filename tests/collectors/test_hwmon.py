"""hwmon on trees that are laid out as the kernel's: Grace, Jetson, servers, and what is none of ours."""

from __future__ import annotations

import errno

import pytest

from energyprof.collectors.base import Channel, Unavailable
from energyprof.collectors.hwmon import HwmonCollector
from energyprof.collectors.rapl import RaplCollector
from energyprof.inclusion import in_totals
from energyprof.reasons import NO_PERMISSION, NOT_SUPPORTED

MS = 1_000_000


def opened(machine, collector=None):
    return (collector or HwmonCollector()).open(machine.context())


def channels(machine) -> dict[str, Channel]:
    return {channel.name: channel for group in opened(machine).groups for channel in group.channels}


def power_mw(machine) -> dict[str, int | None]:
    return {group.channels[0].name: group.read()[0] for group in opened(machine).groups}


def grace(machine, sockets: int = 1, interval_ms: int = 50, left_out: str = "none") -> None:
    for socket in range(sockets):
        for label, watts in (("Module", 600), ("Grace", 250), ("CPU", 150), ("SysIO", 60)):
            attributes = {
                "power1_average": (watts + socket) * 1_000_000,
                "power1_average_interval": interval_ms,
                "power1_oem_info": f"{label} Power Socket {socket}",
                "power1_is_battery": 0,
            }
            if label != left_out:
                machine.chip("power_meter", attributes, on_device=True)


def jetson(machine, **rails: tuple[int, int]) -> None:
    """Three rails a chip: label -> mV, mA."""
    for first in range(0, len(rails), 3):
        attributes: dict[str, int | str] = {"update_interval": 7, "in7_label": "sum of shunt voltages"}
        for i, (label, (mv, ma)) in enumerate(list(rails.items())[first : first + 3], start=1):
            attributes |= {f"in{i}_label": label, f"in{i}_input": mv, f"curr{i}_input": ma}
        machine.chip("ina3221", attributes)


def test_a_machine_without_known_meters_has_nothing_and_no_complaint(machine) -> None:
    assert opened(machine) == opened(machine)
    machine.chip("nvme", {"temp1_input": 40_000})
    machine.chip("BAT0", {"power1_input": 9_000_000})
    machine.chip("amdgpu", {"power1_average": 30_000_000})
    machine.chip("ina3221", {"in1_label": "12V_CARRIER", "in1_input": 12_000, "curr1_input": 100})
    found = opened(machine)
    assert (list(found.groups), list(found.missing)) == ([], [])


def test_graces_meters_are_read_in_milliwatts_and_know_what_they_are_inside(machine) -> None:
    grace(machine, sockets=2)
    assert power_mw(machine) == {
        "module:0": 600_000,
        "package:0": 250_000,
        "core:0": 150_000,
        "uncore:0": 60_000,
        "module:1": 601_000,
        "package:1": 251_000,
        "core:1": 151_000,
        "uncore:1": 61_000,
    }
    found = channels(machine)
    assert {n: c.parent for n, c in found.items() if n.endswith(":1")} == {
        "module:1": None,
        "package:1": "module:1",
        "core:1": "package:1",
        "uncore:1": "package:1",
    }
    assert in_totals(list(found.values())) == {"module:0", "module:1"}
    assert {(c.quantity, c.method, c.gain_u95) for c in found.values()} == {("power", "integrated", 0.05)}


@pytest.mark.parametrize(
    ("interval_ms", "window_ms", "refresh_ms"), [(50, 10, 100), (100, 10, 100), (1000, 1000, 1000)]
)
def test_graces_window_is_what_was_measured_unless_a_longer_mean_is_stated(
    machine, interval_ms: int, window_ms: int, refresh_ms: int
) -> None:
    grace(machine, interval_ms=interval_ms)
    package = channels(machine)["package:0"]
    assert (package.window_ns, package.refresh_ns) == (window_ms * MS, refresh_ms * MS)


def test_parts_of_a_socket_without_a_meter_are_inside_the_module(machine) -> None:
    grace(machine, left_out="Grace")
    assert in_totals(list(channels(machine).values())) == {"module:0"}


def test_a_server_has_one_meter_of_the_whole_node_with_the_stated_mean(machine) -> None:
    machine.chip(
        "power_meter", {"power1_average": 412_000_000, "power1_average_interval": 2000}, on_device=True
    )
    machine.chip("power_meter", {"power1_average": 9_000_000, "power1_is_battery": 1})
    assert power_mw(machine) == {"node:0": 412_000}
    node = channels(machine)["node:0"]
    assert (node.window_ns, node.refresh_ns) == (2000 * MS, 2000 * MS)
    assert opened(machine).groups[0].interval_s == 1.0


def test_several_meters_that_do_not_say_what_they_measure_are_left_out(machine) -> None:
    machine.chip("power_meter", {"power1_average": 412_000_000})
    machine.chip("power_meter", {"power1_average": 200_000_000})
    found = opened(machine)
    assert list(found.groups) == []
    assert "2 ACPI power meters, which do not say" in str(found.missing[0])


def test_a_jetson_with_an_input_rail_has_all_others_inside_it(machine) -> None:
    jetson(machine, VDD_IN=(5000, 3000), VDD_CPU_GPU_CV=(5000, 1000), VDD_SOC=(4960, 500))
    assert power_mw(machine) == {"module:0": 15_000, "rail:VDD_CPU_GPU_CV": 5_000, "rail:VDD_SOC": 2_480}
    found = channels(machine)
    assert in_totals(list(found.values())) == {"module:0"}
    assert found["module:0"].device["covers"] == "gpu,package,dram"
    assert (found["module:0"].window_ns, found["module:0"].refresh_ns) == (7 * MS, 100 * MS)


def test_the_rails_of_agx_orin_add_up_but_for_the_memory_that_the_5_v_rail_feeds(machine) -> None:
    jetson(
        machine,
        VDD_GPU_SOC=(12_000, 500),
        VDD_CPU_CV=(12_000, 250),
        VIN_SYS_5V0=(5000, 900),
        VDDQ_VDD2_1V8AO=(5000, 200),
    )
    mw = power_mw(machine)
    assert mw["rail:VDDQ_VDD2_1V8AO"] == 1000
    counted = in_totals(list(channels(machine).values()))
    assert sum(mw[name] or 0 for name in counted) == 6000 + 3000 + 4500


def test_an_idle_rail_reads_0_and_a_meter_that_reads_0_is_not_wired(machine) -> None:
    jetson(machine, VDD_IN=(5000, 3000), VDD_SOC=(4960, 0))
    assert power_mw(machine)["rail:VDD_SOC"] == 0
    machine.chip("power_meter", {"power1_average": 0})
    assert "node:0 reads 0 W" in str(opened(machine).missing[0])


def test_a_value_is_read_anew_each_time_and_a_closed_meter_reads_nothing(machine) -> None:
    folder = machine.chip("power_meter", {"power1_average": 412_000_000})
    collector = HwmonCollector()
    (group,) = opened(machine, collector).groups
    (folder / "power1_average").write_text("413000000\n")
    assert group.read() == (413_000,)
    collector.close()
    collector.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        group.read()


def test_a_refusal_names_the_line_that_opens_the_meter(machine, refuse) -> None:
    grace(machine)
    with pytest.raises(Unavailable) as refused:
        opened(machine, HwmonCollector(refuse(errno.EACCES, "power1_average")))
    assert refused.value.reason == NO_PERMISSION
    assert 'ATTR{name}=="power_meter"' in refused.value.remedy
    assert "chmod a+r /sys%p/device/power*_average" in refused.value.remedy
    assert "\n" not in str(refused.value) + refused.value.remedy


def test_a_meter_that_gives_no_reading_is_missing_and_the_others_are_read(machine) -> None:
    grace(machine, left_out="CPU")
    machine.chip("power_meter", {"power1_average": "", "power1_oem_info": "CPU Power Socket 0"})
    found = opened(machine)
    assert [g.channels[0].name for g in found.groups] == ["module:0", "package:0", "uncore:0"]
    assert "core:0 gives no reading" in str(found.missing[0])
    assert found.missing[0].reason == NOT_SUPPORTED


# --- amd_energy: RAPL's third door -------------------------------------------------------------------


def epyc(machine) -> None:
    machine.processor("AMD EPYC 7742 64-Core Processor", vendor="AuthenticAMD")
    cores = {f"energy{i}_label": f"Ecore{i - 1:03d}" for i in range(1, 3)}
    machine.chip(
        "amd_energy",
        {
            **cores,
            "energy1_input": 5_000_000,
            "energy2_input": 6_000_000,
            "energy3_label": "Esocket0",
            "energy3_input": 90_000_000,
            "energy4_label": "Esocket1",
            "energy4_input": 80_000_000,
        },
    )


def test_amds_sockets_are_raplss_packages_where_no_other_door_opens(machine) -> None:
    epyc(machine)
    (group,) = RaplCollector().open(machine.context()).groups
    assert dict(zip([c.name for c in group.channels], group.read())) == {
        "package:0": 90_000_000,
        "package:1": 80_000_000,
    }
    assert {(c.method, c.wraps_at, c.gain_u95) for c in group.channels} == {("counter", None, 0.10)}
    assert list(opened(machine).groups) == []


def test_amds_sockets_are_not_read_where_powercap_shows_the_packages(machine) -> None:
    epyc(machine)
    machine.zone("intel-rapl:0", "package-0", 7_000_000)
    (group,) = RaplCollector().open(machine.context()).groups
    assert [(c.name, v) for c, v in zip(group.channels, group.read())] == [("package:0", 7_000_000)]


def test_amds_sockets_that_only_root_may_read_have_a_remedy(machine, refuse) -> None:
    epyc(machine)
    with pytest.raises(Unavailable) as refused:
        RaplCollector(refuse(errno.EACCES, "energy3_input")).open(machine.context())
    assert (refused.value.source, refused.value.reason) == ("rapl", NO_PERMISSION)
    assert 'ATTR{name}=="amd_energy"' in refused.value.remedy
    assert "chmod a+r /sys%p/energy*_input" in refused.value.remedy
