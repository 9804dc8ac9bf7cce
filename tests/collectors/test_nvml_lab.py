"""The NVML collector on the virtual boards, through the real pynvml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.lab import VirtualHardware

Hardware = Callable[..., VirtualHardware]

# Opens the collector, reads every group some times, and prints channels, readings and absences.
PROGRAM = """
import json, os, sys, time
from energyprof.collectors.base import Context, DeviceLost, Unavailable
from energyprof.collectors.nvml import NvmlCollector
try:
    opened = NvmlCollector().open(Context(environ=os.environ, pid=None))
except Unavailable as absence:
    print(json.dumps({"absent": absence.facts()}))
    sys.exit()
rows, lost, groups = [], [], list(opened.groups)
for _ in range(int(sys.argv[1])):
    for group in list(groups):
        names = [channel.name for channel in group.channels]
        before = time.monotonic_ns()
        try:
            rows += [(name, before, time.monotonic_ns(), value) for name, value in zip(names, group.read())]
        except DeviceLost as fault:
            lost += names
            groups.remove(group)
    time.sleep(0.02)
channels = [
    {"name": c.name, "method": c.method, "quantity": c.quantity, "device": dict(c.device), "flags": c.flags,
     "followed": g.follow is not None and g.channels[g.follow] is c, "interval_s": g.interval_s,
     "parent": c.parent, "scope": c.scope, "refresh_ns": c.refresh_ns, "window_ns": c.window_ns}
    for g in opened.groups for c in g.channels
]
print(json.dumps({"channels": channels, "rows": rows, "lost": lost, "missing": [m.facts() for m in opened.missing]}))
"""


def run(machine: VirtualHardware, program: str, *arguments: str, **environment: str) -> dict[str, Any]:
    """What a program prints, as JSON, on a virtual machine."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, **machine.env, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def collect(machine: VirtualHardware, rounds: int = 3, **environment: str) -> dict[str, Any]:
    return run(machine, PROGRAM, str(rounds), **environment)


def values(found: dict[str, Any], channel: str) -> set[int]:
    """What was read of a channel, to 10 units: the boards cut off what is below one."""
    return {round(value, -1) for name, _, _, value in found["rows"] if name == channel}


def main_channels(found: dict[str, Any]) -> list[str]:
    return [channel["name"] for channel in found.get("channels", ()) if "/" not in channel["name"]]


def test_every_board_has_a_followed_counter_and_its_facts(hardware: Hardware) -> None:
    found = collect(hardware(gpus=2))
    assert main_channels(found) == ["gpu:0", "gpu:1"]
    channels = {channel["name"]: channel for channel in found["channels"]}
    counter = channels["gpu:0"]
    assert (counter["method"], counter["quantity"], counter["followed"]) == ("counter", "energy", True)
    assert counter["device"]["model"] == "NVIDIA H100 80GB HBM3"
    assert counter["device"]["uuid"].startswith("GPU-0000abc0")
    assert {"gpu:0/instant", "gpu:0/average"} <= set(channels)


def test_the_counter_is_read_in_microjoules_and_gains_what_was_drawn(hardware: Hardware) -> None:
    machine = hardware(idle_w=400.0)
    rows = [row for row in collect(machine, rounds=40)["rows"] if row[0] == "gpu:0"]
    (_, begin, _, first), (_, _, end, last) = rows[0], rows[-1]
    drawn = machine.truth.energy_j("gpu:0", begin, end)
    assert abs((last - first) / 1e6 - drawn) <= 400.0 * 0.11


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        ("1", ["GPU-0000abc1"]),
        ("1,0", ["GPU-0000abc1", "GPU-0000abc0"]),
        ("GPU-0000abc1", ["GPU-0000abc1"]),
        ("", []),
    ],
)
def test_only_the_boards_that_cuda_shows_are_read(hardware: Hardware, visible: str, uuids: list[str]) -> None:
    found = collect(hardware(gpus=2), CUDA_VISIBLE_DEVICES=visible)
    devices = [c["device"]["uuid"][:12] for c in found.get("channels", ()) if "/" not in c["name"]]
    assert sorted(devices) == sorted(uuids)


def test_a_board_that_is_lost_ends_its_channels_and_no_others(hardware: Hardware) -> None:
    machine = hardware(gpus=2)
    machine.truth.device("gpu:1").lost_at_ns = time.monotonic_ns() + 1_500_000_000
    found = collect(machine, rounds=120)
    assert "gpu:1" in found["lost"]
    assert not any(name.startswith("gpu:0") for name in found["lost"])
    last = {name: after for name, _, after, _ in found["rows"]}
    assert last["gpu:0"] > last["gpu:1"]


def test_a_board_without_a_counter_is_read_by_its_power(hardware: Hardware) -> None:
    machine = hardware(idle_w=250.0)
    machine.truth.device("gpu:0").energy_supported = 0
    found = collect(machine)
    channel = next(c for c in found["channels"] if c["name"] == "gpu:0")
    assert (channel["method"], channel["quantity"]) == ("integrated", "power")
    assert values(found, "gpu:0") == {250_000}


def test_an_old_driver_without_field_values_is_read_by_the_old_call(hardware: Hardware) -> None:
    machine = hardware(idle_w=250.0)
    device = machine.truth.device("gpu:0")
    device.energy_supported = device.fields_supported = 0
    found = collect(machine)
    assert main_channels(found) == ["gpu:0"]
    assert values(found, "gpu:0") == {250_000}


def test_without_permission_the_absence_says_so(hardware: Hardware) -> None:
    machine = hardware()
    machine.truth.device("gpu:0").no_permission = 1
    found = collect(machine)
    absences = [found["absent"]] if "absent" in found else found["missing"]
    assert main_channels(found) == []
    assert {absence["reason"] for absence in absences} == {"no_permission"}


def test_every_value_is_what_the_board_draws_in_the_unit_of_its_quantity(hardware: Hardware) -> None:
    machine = hardware(idle_w=300.0)
    found = collect(machine)
    assert {(name, round(value, -1)) for name, _, _, value in found["rows"] if name != "gpu:0"} == {
        ("gpu:0/average", 300_000),  # mW
        ("gpu:0/instant", 300_000),
        ("gpu:0/temperature", 50_000),  # m°C
        ("gpu:0/clock", 1_980_000),  # kHz
        ("gpu:0/utilisation", 1_000_000),  # ppm
        ("gpu:0/limit", 700_000),  # mW
    }
    started_mj, base = machine.truth.device("gpu:0").start_units, machine.truth.lab.base_ns
    for _, before, after, value in (row for row in found["rows"] if row[0] == "gpu:0"):
        least, most = (300 * (t - base) / 1e6 + started_mj for t in (before, after))
        assert value % 1000 == 0
        assert least - 300e3 * 0.11 <= value / 1000 <= most


def test_streams_of_a_board_hang_on_its_counter_with_the_windows_of_its_sensor(hardware: Hardware) -> None:
    channels = {c["name"]: c for c in collect(hardware())["channels"]}
    assert {c["parent"] for name, c in channels.items() if "/" in name} == {"gpu:0"}
    assert channels["gpu:0"]["parent"] is None
    assert channels["gpu:0"]["device"]["driver"] == "580.00.lab"
    sensors = {name: (c["refresh_ns"], c["window_ns"]) for name, c in channels.items()}
    assert sensors["gpu:0/instant"] == (100_000_000, 25_000_000)
    assert sensors["gpu:0/average"] == (100_000_000, 1_000_000_000)


@pytest.mark.parametrize(
    ("visible", "reason", "words"),
    [
        ("", "not_supported", "CUDA_VISIBLE_DEVICES is empty"),
        ("NoDevFiles", "not_supported", "CUDA_VISIBLE_DEVICES is NoDevFiles"),
        ("7", "not_supported", "ends at '7'"),
        ("GPU-ffff", "not_supported", "ends at 'GPU-ffff'"),
        ("0,0", "not_supported", "names '0' twice"),
    ],
)
def test_a_program_that_sees_no_board_is_told_why(
    hardware: Hardware, visible: str, reason: str, words: str
) -> None:
    absent = collect(hardware(gpus=2), CUDA_VISIBLE_DEVICES=visible)["absent"]
    assert absent["reason"] == reason
    assert words in absent["detail"]


@pytest.mark.parametrize(
    ("visible", "names"),
    [("1,5,0", ["gpu:1"]), ("GPU-0000abc2-1111-2222-3333-000000000002,0", ["gpu:2", "gpu:0"])],
)
def test_a_board_keeps_its_number_whatever_the_order_of_the_list(
    hardware: Hardware, visible: str, names: list[str]
) -> None:
    found = collect(hardware(gpus=3), CUDA_VISIBLE_DEVICES=visible)
    assert main_channels(found) == names
    for channel in found["channels"]:
        number = int(channel["name"].partition("/")[0][4:])
        assert channel["device"]["uuid"] == f"GPU-{0xABC0 + number:08x}-1111-2222-3333-{number:012x}"


def test_numbers_are_said_to_be_uncertain_unless_cuda_counts_as_nvml_does(hardware: Hardware) -> None:
    machine = hardware(gpus=2)

    def order(**environment: str) -> set[bool]:
        found = collect(machine, rounds=1, **environment)
        return {"index_order" in channel["device"] for channel in found["channels"]}

    assert order(CUDA_VISIBLE_DEVICES="1") == {True}
    assert order(CUDA_VISIBLE_DEVICES="1", CUDA_DEVICE_ORDER="PCI_BUS_ID") == {False}
    assert order(CUDA_VISIBLE_DEVICES="GPU-0000abc1") == {False}
    assert order() == {False}


def test_a_mig_slice_is_read_by_its_board_and_flagged(hardware: Hardware) -> None:
    machine = hardware(gpus=2, idle_w=250.0)
    machine.truth.device("gpu:1").mig = 1
    found = collect(machine, CUDA_VISIBLE_DEVICES="MIG-0000abc1-1111-2222-3333-000000000001-2")
    assert main_channels(found) == ["gpu:1"]
    assert {tuple(channel["flags"]) for channel in found["channels"]} == {("mig_parent_power",)}
    assert values(found, "gpu:1/instant") == {250_000}


def test_a_consumer_board_is_read_once_a_second_for_its_counter_under_counts(hardware: Hardware) -> None:
    machine = hardware()
    device = machine.truth.device("gpu:0")
    device.geforce, device.name = 1, b"NVIDIA GeForce RTX 4090"
    counter = next(c for c in collect(machine)["channels"] if c["name"] == "gpu:0")
    assert (counter["followed"], counter["interval_s"], counter["quantity"]) == (False, 1.0, "energy")


def test_on_grace_hopper_the_power_of_the_whole_module_is_asked_for(hardware: Hardware) -> None:
    machine = hardware(idle_w=400.0)
    machine.truth.device("gpu:0").name = b"NVIDIA GH200 480GB"
    machine.truth.device("gpu:0").grace = 1
    found = collect(machine)
    assert found["channels"][0]["device"]["covers"] == "gpu,package,dram"
    assert values(found, "gpu:0/instant") == {400_000}
    machine.truth.device("gpu:0").grace = 0  # a driver that refuses that scope
    assert "gpu:0/instant" not in {channel["name"] for channel in collect(machine)["channels"]}


@pytest.mark.parametrize(("lost", "left"), [((1,), ["gpu:0"]), ((0, 1), [])])
def test_a_board_that_was_lost_before_is_missing_and_the_others_are_read(
    hardware: Hardware, lost: tuple[int, ...], left: list[str]
) -> None:
    machine = hardware(gpus=2)
    for number in lost:
        machine.truth.device(f"gpu:{number}").lost_at_ns = time.monotonic_ns() - 1
    found = collect(machine)
    absences = [found["absent"]] if "absent" in found else found["missing"]
    assert main_channels(found) == left
    assert {absence["reason"] for absence in absences} == {"device_lost"}
    assert "dmesg" in absences[0]["remedy"]


def test_a_machine_without_boards_says_that_nvml_lists_none(hardware: Hardware) -> None:
    machine = hardware(gpus=1)
    machine.truth.lab.gpus = 0
    assert "lists no GPU" in collect(machine)["absent"]["detail"]


def test_a_lost_board_ends_its_channels_of_a_running_meter_at_once_with_their_reason(
    hardware: Hardware,
) -> None:
    machine = hardware(gpus=2)
    machine.truth.device("gpu:1").lost_at_ns = time.monotonic_ns() + 1_000_000_000
    program = (
        "import json, os, time\n"
        "from energyprof.collectors.base import Context\n"
        "from energyprof.collectors.nvml import NvmlCollector\n"
        "from energyprof.meter import Meter\n"
        "meter = Meter([NvmlCollector()], Context(environ=os.environ))\n"
        "class Journal:\n"
        "    events, last = [], {}\n"
        "    def event(self, kind, **facts): self.events.append({'kind': kind, **facts})\n"
        "    def reading(self, index, before, after, value): self.last[meter.channels[index].name] = after\n"
        "    def flush(self): pass\n"
        "meter.attach(Journal())\n"
        "end = time.monotonic() + 2.5\n"
        "while time.monotonic() < end:\n"
        "    meter.read_due(); time.sleep(0.005)\n"
        "print(json.dumps({'events': Journal.events, 'last': Journal.last}))"
    )
    done = run(machine, program)
    lost = [event for event in done["events"] if event["kind"] == "lost"]
    assert {name for event in lost for name in event["channels"]} >= {"gpu:1", "gpu:1/instant"}
    assert not [name for event in lost for name in event["channels"] if name.startswith("gpu:0")]
    assert {event["reason"] for event in lost} == {"device_lost"}
    assert not [event for event in done["events"] if event["kind"] == "gap"]
    lost_at = machine.truth.device("gpu:1").lost_at_ns
    assert done["last"]["gpu:1"] < lost_at + 50_000_000 < done["last"]["gpu:0"]
