"""The virtual hardware against closed forms, through the real pynvml: what it says must be what it draws."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.lab import VirtualHardware
from tests.lab.hardware import RANGE_UJ, UNIT_UJ

Hardware = Callable[..., VirtualHardware]

# Reads through the real binding: (ns before, ns after, value) for some seconds.
READER = """
import json, pynvml, sys, time
pynvml.nvmlInit()
board = pynvml.nvmlDeviceGetHandleByIndex(0)
def field(number):
    value = pynvml.nvmlDeviceGetFieldValues(board, [number])[0]
    assert value.nvmlReturn == 0, value.nvmlReturn
    return value.value.uiVal
read = {
    "energy": lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(board),
    "usage": lambda: pynvml.nvmlDeviceGetPowerUsage(board),
    "instant": lambda: field(pynvml.NVML_FI_DEV_POWER_INSTANT),
    "average": lambda: field(pynvml.NVML_FI_DEV_POWER_AVERAGE),
}[sys.argv[1]]
end, rows = time.monotonic() + float(sys.argv[2]), []
while time.monotonic() < end:
    before = time.monotonic_ns()
    try:
        value = read()
    except pynvml.NVMLError as fault:
        value = type(fault).__name__
    rows.append((before, time.monotonic_ns(), value))
    time.sleep(0.0005)
print(json.dumps(rows))
"""


def reads(machine: VirtualHardware, what: str, seconds: float) -> list[tuple[int, int, Any]]:
    done = subprocess.run(
        [sys.executable, "-c", READER, what, str(seconds)],
        env={**os.environ, **machine.env, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [(before, after, value) for before, after, value in json.loads(done.stdout)]


def wave(machine: VirtualHardware, lag_s: float = 0.0) -> None:
    """620 W and 140 W in turn, for four seconds from now."""
    machine.truth.device("gpu:0").lag_s = lag_s
    now = time.monotonic_ns()
    machine.truth.square_wave("gpu:0", 620.0, 140.0, 0.03, 0.045, now, now + 4_000_000_000)


def test_the_energy_of_a_step_with_a_lag_is_the_closed_form(hardware: Hardware) -> None:
    truth = hardware(idle_w=100.0).truth
    truth.device("gpu:0").lag_s = 0.02
    at = time.monotonic_ns()
    truth.set_power("gpu:0", 500.0, at)
    for seconds in (0.001, 0.02, 0.3):
        expected = 500 * seconds - 400 * 0.02 * (1 - math.exp(-seconds / 0.02))
        assert truth.energy_j("gpu:0", at, at + round(seconds * 1e9)) == pytest.approx(expected, abs=1e-6)
    assert truth.energy_j("gpu:0", at - 10**9, at) == pytest.approx(100.0)


@pytest.mark.parametrize("lag_s", [0.0, 0.02])
def test_the_energy_counter_ticks_with_its_period_and_jitter_and_tells_the_truth_there(
    hardware: Hardware, lag_s: float
) -> None:
    machine = hardware()
    wave(machine, lag_s)
    rows = reads(machine, "energy", 2.5)
    edges = [(a[0], b[1], b[2]) for a, b in pairwise(rows) if a[2] != b[2]]
    assert len(edges) >= 20
    begin, end, first = edges[0][0], edges[0][1], edges[0][2]
    for low, high, value in edges[1:]:
        # The energy between two instants that are known to lie between two reads each.
        least = machine.truth.energy_j("gpu:0", end, low) - 0.002
        most = machine.truth.energy_j("gpu:0", begin, high) + 0.002
        assert least <= (value - first) / 1e3 <= most
    narrow = [(low + high) / 2e9 for low, high, _ in edges if high - low < 3_000_000]
    gaps = np.diff(narrow)
    single = gaps[gaps < 0.15]
    assert np.median(single) == pytest.approx(0.1003, abs=0.002)
    assert 0.094 < single.min() < single.max() < 0.107


@pytest.mark.parametrize(("what", "window_s"), [("instant", 0.025), ("average", 1.0), ("usage", 1.0)])
def test_a_power_field_is_the_mean_over_its_window_at_its_last_refresh(
    hardware: Hardware, what: str, window_s: float
) -> None:
    machine = hardware()
    wave(machine)
    time.sleep(1.2)
    device, base = machine.truth.device("gpu:0"), machine.truth.lab.base_ns

    def last_refresh(t_ns: int) -> int:
        whole = math.floor(((t_ns - base) / 1e9 - device.refresh_phase_s) / 0.1)
        return int(base + int((whole * 0.1 + device.refresh_phase_s) * 1e9))

    agreed = 0
    for before, after, value in reads(machine, what, 1.0):
        refreshes = [last_refresh(t) for t in (before, after)]
        if refreshes[0] != refreshes[1]:
            continue
        begin = refreshes[0] - round(window_s * 1e9)
        expected = machine.truth.energy_j("gpu:0", begin, refreshes[0]) / window_s * 1e3
        assert value == pytest.approx(expected, abs=1.5)
        agreed += 1
    assert agreed > 100


def test_the_faults_of_a_board_are_those_of_the_real_library(hardware: Hardware) -> None:
    machine = hardware()
    machine.truth.device("gpu:0").energy_supported = 0
    assert {row[2] for row in reads(machine, "energy", 0.05)} == {"NVMLError_NotSupported"}
    machine.truth.device("gpu:0").energy_supported = 1
    machine.truth.device("gpu:0").no_permission = 1
    assert {row[2] for row in reads(machine, "energy", 0.05)} == {"NVMLError_NoPermission"}
    machine.truth.device("gpu:0").no_permission = 0
    machine.truth.device("gpu:0").lost_at_ns = time.monotonic_ns() + 700_000_000
    values = [row[2] for row in reads(machine, "energy", 1.2)]
    assert isinstance(values[0], int)
    assert values[-1] == "NVMLError_GpuIsLost"


def zone(machine: VirtualHardware, name: str) -> Path:
    return next(
        path.parent
        for path in sorted((machine.sys_root / "devices").rglob("name"))
        if path.read_text() == f"{name}\n" and "mmio" not in str(path)
    )


def test_rapl_zones_count_the_truth_in_the_hardwares_units(hardware: Hardware) -> None:
    machine = hardware(gpus=0, rapl=("package-0", "dram", "psys", "mmio"), idle_w=50.0)
    for channel, watts in (("package:0", 300.0), ("dram:0", 40.0), ("platform:0", 60.0)):
        machine.truth.set_power(channel, watts)

    def look(name: str) -> tuple[int, int]:
        return int((zone(machine, name) / "energy_uj").read_text()), time.monotonic_ns()

    time.sleep(0.05)
    for name, channels in (
        ("package-0", ["package:0"]),
        ("dram", ["dram:0"]),
        ("psys", ["package:0", "dram:0", "platform:0"]),
    ):
        first, begin = look(name)
        time.sleep(0.4)
        last, end = look(name)
        expected = sum(machine.truth.energy_j(channel, begin, end) for channel in channels)
        assert (last - first) % RANGE_UJ / 1e6 == pytest.approx(expected, rel=0.02)
        units = (last - first) / UNIT_UJ
        assert abs(units - round(units)) < 0.05


def test_rapl_zones_wrap_at_their_range(hardware: Hardware) -> None:
    machine = hardware(gpus=0, rapl=("package-0",), idle_w=300.0, range_uj=30_000_000)
    time.sleep(0.05)
    seen = []
    for _ in range(60):
        seen.append(int((zone(machine, "package-0") / "energy_uj").read_text()))
        time.sleep(0.005)
    assert max(seen) < 30_000_000
    assert sum(b < a for a, b in pairwise(seen)) >= 2
