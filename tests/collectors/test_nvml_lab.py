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
     "followed": g.follow_edges} for g in opened.groups for c in g.channels
]
print(json.dumps({"channels": channels, "rows": rows, "lost": lost, "missing": [m.facts() for m in opened.missing]}))
"""


def collect(machine: VirtualHardware, rounds: int = 3, **environment: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(rounds)],
        env={**os.environ, **machine.env, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


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
    assert {row[3] for row in found["rows"] if row[0] == "gpu:0"} == {250_000}


def test_an_old_driver_without_field_values_is_read_by_the_old_call(hardware: Hardware) -> None:
    machine = hardware(idle_w=250.0)
    device = machine.truth.device("gpu:0")
    device.energy_supported = device.fields_supported = 0
    found = collect(machine)
    assert main_channels(found) == ["gpu:0"]
    assert {row[3] for row in found["rows"] if row[0] == "gpu:0"} == {250_000}


def test_without_permission_the_absence_says_so(hardware: Hardware) -> None:
    machine = hardware()
    machine.truth.device("gpu:0").no_permission = 1
    found = collect(machine)
    absences = [found["absent"]] if "absent" in found else found["missing"]
    assert main_channels(found) == []
    assert {absence["reason"] for absence in absences} == {"no_permission"}
