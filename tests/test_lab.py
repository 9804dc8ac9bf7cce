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


def chance(seed: int, device: int, tick: int) -> float:
    """The stub's number in [0, 1) for a tick: splitmix64 (Steele, Lea, Flood, OOPSLA 2014)."""
    whole = 2**64 - 1
    z = (seed * 0x9E3779B97F4A7C15 + device * 0xBF58476D1CE4E5B9 + tick) & whole
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & whole
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & whole
    return ((z ^ (z >> 31)) >> 11) / 2**53


def ticks(machine: VirtualHardware, until_ns: int) -> list[int]:
    """When the counter of gpu:0 ticks: phase + number x period + jitter after the base, ns."""
    lab, device = machine.truth.lab, machine.truth.device("gpu:0")
    low, span = device.jitter_low_s, device.jitter_high_s - device.jitter_low_s
    numbers = range(int((until_ns - lab.base_ns) / 1e9 / device.tick_s) + 1)
    times = (device.phase_s + n * device.tick_s + (low + span * chance(lab.seed, 0, n)) for n in numbers)
    return [lab.base_ns + int(seconds * 1e9) for seconds in times]


def test_the_energy_counter_is_the_integral_up_to_its_last_tick_in_whole_mj(hardware: Hardware) -> None:
    machine = hardware()
    device, base = machine.truth.device("gpu:0"), machine.truth.lab.base_ns
    wave(machine)
    rows = reads(machine, "energy", 1.5)
    edges = ticks(machine, rows[-1][1])
    agreed = 0
    for before, after, value in rows:
        begun, ended = (max(tick for tick in edges if tick <= t) for t in (before, after))
        if begun == ended:  # one millijoule: a product that a compiler fuses may round to the other side
            counted = math.floor(machine.truth.energy_j("gpu:0", base, begun) * 1e3)
            assert abs(value - device.start_units - counted) <= 1
            agreed += 1
    assert agreed > 0.8 * len(rows)


def test_a_counter_that_sticks_stays_and_one_that_is_reset_starts_from_zero(hardware: Hardware) -> None:
    machine = hardware(idle_w=300.0)
    device = machine.truth.device("gpu:0")
    device.stuck_at_ns = time.monotonic_ns() - 1_000_000_000
    assert len({value for _, _, value in reads(machine, "energy", 0.3)}) == 1
    device.stuck_at_ns, device.reset_at_ns = 0, time.monotonic_ns() + 600_000_000
    rows = reads(machine, "energy", 1.4)
    assert rows[0][2] >= device.start_units
    before, after, value = rows[-1]
    least, most = ((t - device.reset_at_ns) / 1e9 * 300e3 for t in (before, after))
    assert least - 300e3 * 0.12 <= value <= most  # a tick and its jitter ago


def test_a_slow_call_takes_its_time_and_answers_as_of_its_end(hardware: Hardware) -> None:
    machine = hardware()
    device, base = machine.truth.device("gpu:0"), machine.truth.lab.base_ns
    device.call_delay_us = 60_000
    rows = reads(machine, "energy", 0.5)
    assert min(after - before for before, after, _ in rows) >= 60_000_000
    edges = ticks(machine, rows[-1][1])
    for before, after, value in rows:
        last = [max(t for t in edges if t <= end) for end in (before + 60_000_000, after)]
        least, most = (machine.truth.energy_j("gpu:0", base, t) * 1e3 for t in last)
        assert least - 2 <= value - device.start_units <= most + 1


def test_every_rapl_zone_and_its_twin_is_the_sum_of_its_sources_modulo_its_range(hardware: Hardware) -> None:
    rapl = ("package-0", "package-1", "dram", "psys", "mmio")
    machine = hardware(gpus=0, rapl=rapl, idle_w=50.0, range_uj=90_000_000)
    truth, base = machine.truth, machine.truth.lab.base_ns
    sources = ("package:0", "package:1", "dram:0", "dram:1", "platform:0")
    end = time.monotonic_ns()
    for place, channel in enumerate(sources):
        truth.set_power(channel, 100.0 + 50 * place, end)
        truth.set_power(channel, 0.0, end + 300_000_000)  # then nothing changes, and reads need no haste
    time.sleep(0.5)
    expected = {
        "intel-rapl:0": ("psys", sources),
        "intel-rapl:1": ("package-0", ["package:0"]),
        "intel-rapl:1:0": ("dram", ["dram:0"]),
        "intel-rapl:2": ("package-1", ["package:1"]),
        "intel-rapl:2:0": ("dram", ["dram:1"]),
        "intel-rapl-mmio:0": ("package-0", ["package:0"]),
    }
    for number, (name, parts) in expected.items():
        folder = machine.sys_root / "class/powercap" / number
        energy_j = sum(truth.energy_j(part, base, time.monotonic_ns()) for part in parts)
        counted = math.floor(energy_j * 1e6 / UNIT_UJ) * UNIT_UJ
        start = sum(truth.device(part).start_units for part in parts)
        assert (folder / "name").read_text() == f"{name}\n"
        off = (int((folder / "energy_uj").read_text()) - start - counted) % 90_000_000
        assert min(off, 90_000_000 - off) <= UNIT_UJ + 1


def test_a_zone_that_is_reset_starts_from_zero_and_one_that_sticks_stays(hardware: Hardware) -> None:
    machine = hardware(gpus=0, rapl=("package-0", "dram"), idle_w=100.0)
    now = time.monotonic_ns()
    machine.truth.device("package:0").reset_at_ns = machine.truth.device("dram:0").stuck_at_ns = now
    time.sleep(0.2)
    package, memory = (zone(machine, name) / "energy_uj" for name in ("package-0", "dram"))
    before, value, after = time.monotonic_ns(), int(package.read_text()), time.monotonic_ns()
    assert 100 * (before - now) / 1e3 - 100e3 * 50 <= value <= 100 * (after - now) / 1e3
    first = int(memory.read_text())
    time.sleep(0.05)
    assert int(memory.read_text()) == first
    expected = machine.truth.energy_j("dram:0", machine.truth.lab.base_ns, now) * 1e6
    assert abs(first - machine.truth.device("dram:0").start_units - expected) <= UNIT_UJ + 1


@pytest.mark.parametrize(("fault", "text"), [(1, "not a number 12345\n"), (2, "")])
def test_a_faulty_zone_holds_what_is_no_number(hardware: Hardware, fault: int, text: str) -> None:
    machine = hardware(gpus=0, rapl=("package-0",), fault=fault)
    time.sleep(0.1)
    assert (zone(machine, "package-0") / "energy_uj").read_text() == text


def test_a_forbidden_machine_lets_nobody_read_its_zones(hardware: Hardware) -> None:
    machine = hardware(gpus=0, rapl=("package-0", "dram", "mmio"))
    machine.forbid()
    found = list((machine.sys_root / "devices").rglob("energy_uj"))
    assert len(found) == 3
    assert {path.stat().st_mode & 0o777 for path in found} == {0}
