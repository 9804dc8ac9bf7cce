"""Joules against a known truth, end to end: a real program, the real pynvml, a virtual machine's meters."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

import energyprof
from energyprof.reasons import COUNTER_RESET, DEVICE_LOST, NO_PERMISSION
from energyprof.result import Result, stored
from tests.conftest import ROOT
from tests.lab import VirtualHardware, compiler

pytestmark = pytest.mark.alone

Machine = Callable[..., VirtualHardware]
RAPL = ("package-0", "dram", "psys", "mmio")
_SLEEP = """
import energyprof, sys, time
with energyprof.profile("x", quiet=True) as run:
    time.sleep(float(sys.argv[1]))
run.result
"""


def measured(machine: VirtualHardware, out: Path, *arguments: str, **options: Any) -> Result:
    """The stored result of `python arguments...` on a virtual machine."""
    environment = {**os.environ, **machine.env, "PYTHONPATH": str(ROOT), "ENERGYPROF_OUT": str(out)}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return stored(str(out), energyprof.load(out)["run_id"].iloc[-1])


def row(result: Result, channel: str) -> dict[str, Any]:
    return next(row for row in result.rows()[1] if row["channel"] == channel)


def error(machine: VirtualHardware, result: Result, channel: str) -> float:
    """Relative error of a channel's energy; infinite where it has none."""
    energy = row(result, channel)["energy_j"]
    truth = machine.truth.energy_j(channel, result.t0_ns, result.t1_ns)
    return float("inf") if energy is None else abs(energy - truth) / truth


@pytest.mark.parametrize(("seconds", "trials", "limit"), [(0.3, 9, 0.03), (1.0, 5, 0.01), (10.0, 1, 0.003)])
def test_the_gpu_is_right_under_a_load_that_changes_every_30_to_45_ms(
    hardware: Machine, tmp_path: Path, seconds: float, trials: int, limit: float
) -> None:
    errors, covered = [], 0
    for seed in range(3 * trials):
        machine = hardware(gpus=1, seed=seed)
        out = tmp_path / f"runs{seed}"
        result = measured(machine, out, "-m", "tests.lab.workload", str(seconds), "burst", "0.030", "0.045")
        errors.append(error(machine, result, "gpu:0"))
        gpu = row(result, "gpu:0")
        covered += abs(errors[-1]) * gpu["energy_j"] <= gpu["u_random_j"] + 0.005 * gpu["energy_j"]
        # Where others had the processors the meter saw its ticks late: then all have more trials to show it.
        if (seed + 1) % trials == 0 and median(errors) < limit:
            break
    assert median(errors) < limit, errors
    assert covered >= 0.75 * len(errors)


# What a board draws with, and the meters that it has; the boards of one machine, in one run of 10 s.
BOARDS = [
    (0.0, "counter and gauge"),
    (0.02, "counter and gauge"),
    (0.0, "counter"),
    (0.02, "counter"),
    (0.02, "gauge"),
]


Looped = tuple[dict[str, dict[str, float]], Result]


@pytest.fixture(scope="module")
def measurements() -> dict[int, Looped]:
    """Of the loop, by how often it had to be measured."""
    return {}


@pytest.fixture
def looped(
    request: pytest.FixtureRequest,
    measurements: dict[int, Looped],
    tmp_path_factory: pytest.TempPathFactory,
) -> Looped:
    """True joules of the regions a and b by board, and the result; measured once, and anew for a test that is run
    again since it failed."""
    if compiler() is None:
        pytest.skip("the virtual hardware needs a C compiler (cc, gcc, clang)")
    attempt = getattr(request.node, "execution_count", 1)
    if attempt not in measurements:
        measurements[attempt] = _looped(tmp_path_factory)
    return measurements[attempt]


def _looped(tmp_path_factory: pytest.TempPathFactory) -> Looped:
    folder = tmp_path_factory.mktemp("loop")
    with VirtualHardware(folder, gpus=len(BOARDS)) as machine:
        for number, (lag_s, meters) in enumerate(BOARDS):
            device = machine.truth.device(f"gpu:{number}")
            device.lag_s = lag_s
            device.energy_supported, device.fields_supported = (
                int("counter" in meters),
                int("gauge" in meters),
            )
        environment = {
            **os.environ, **machine.env, "PYTHONPATH": str(ROOT), "ENERGYPROF_OUT": str(folder / "runs"),
        }  # fmt: skip
        command = [sys.executable, "-m", "tests.lab.workload", "10", "loop", "0.030", "0.045"]
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    out = str(folder / "runs")
    return json.loads(done.stdout), stored(out, energyprof.load(out)["run_id"].iloc[-1])


@pytest.mark.parametrize(("number", "lag_s", "meters"), [(n, *board) for n, board in enumerate(BOARDS)])
def test_regions_of_30_and_45_ms_are_right_below_ticks_of_100_ms(
    looped: Looped, number: int, lag_s: float, meters: str
) -> None:
    board = f"gpu:{number}"
    truth, result = looped[0][board], looped[1]
    figures = {r["region"]: r for r in result.rows()[2] if r["channel"] == board}
    for name in "ab":
        assert figures[name]["method"] == "regressed"
        # Twenty runs in twenty-one are within 5 %; a busy machine of two cores brackets ticks less well.
        assert figures[name]["energy_j"] == pytest.approx(truth[name], rel=0.1)
        off = abs(figures[name]["energy_j"] - truth[name])
        assert off < 2 * figures[name]["u_random_j"] + 0.005 * truth[name]
    gpu = row(result, board)
    if "counter" in meters:  # a uniform jitter of 1 to 5 ms, and brackets of some milliseconds
        assert 0.2 < gpu["tick_jitter_ms"] < 4.0
    assert gpu["window_ms"] == (25.0 if "gauge" in meters else None)
    # A gauge alone sees a quarter of the time, and the whole run is known by its slower mean over a second.
    assert abs(gpu["closure"]) < (0.01 if "counter" in meters else 0.05)
    assert abs(gpu["lag_ms"] - 1e3 * lag_s) < 2 * gpu["u95_lag_ms"] + 1


def queued(machine: VirtualHardware, out: Path, mode: str) -> tuple[dict[str, float], Result]:
    """True joules of the work of each region, and the result, of a program whose host runs ahead."""
    environment = {**os.environ, **machine.env, "PYTHONPATH": str(ROOT), "ENERGYPROF_OUT": str(out)}
    command = [sys.executable, "-m", "tests.lab.queued", "10", mode]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), stored(str(out), energyprof.load(out)["run_id"].iloc[-1])


def test_queued_work_has_its_joules_where_it_ran_and_not_where_it_was_launched(
    hardware: Machine, tmp_path: Path
) -> None:
    machine = hardware(gpus=1)
    truth, result = queued(machine, tmp_path / "events", "events")
    figures = {r["region"]: r for r in result.rows()[2] if r["channel"] == "gpu:0"}
    for name in "ab":
        assert figures[name]["energy_j"] == pytest.approx(truth[name], rel=0.1)
        assert abs(figures[name]["energy_j"] - truth[name]) < 2 * figures[name]["u_random_j"]
    assert figures["data"]["energy_j"] < 0.01 * truth["a"]
    assert figures["data"]["u_random_j"] < 0.02 * truth["a"]
    assert not {"device_times", "device_clock"} & set(result.flags)
    assert abs(row(result, "gpu:0")["closure"]) < 0.01
    # All that was queued is in the run, which waited for it.
    assert row(result, "gpu:0")["energy_j"] == pytest.approx(sum(truth.values()), rel=0.01)


def test_host_times_of_queued_work_give_its_joules_to_the_wrong_region(
    hardware: Machine, tmp_path: Path
) -> None:
    truth, result = queued(hardware(gpus=1), tmp_path / "off", "off")
    figures = {r["region"]: r["energy_j"] for r in result.rows()[2] if r["channel"] == "gpu:0"}
    # Where the host waited; the device did nothing for it. On a busy machine the readings may not tell even that.
    assert figures["data"] is None or figures["data"] > 0.5 * sum(truth.values())
    for name in "ab":
        assert figures[name] is None or figures[name] < 0.6 * truth[name]


def test_packages_and_memory_are_right_beside_psys_and_the_mmio_twin(
    hardware: Machine, tmp_path: Path
) -> None:
    machine = hardware(gpus=0, rapl=RAPL)
    machine.truth.set_power("package:0", 180.0)
    machine.truth.set_power("dram:0", 25.0)
    result = measured(machine, tmp_path / "runs", "-c", _SLEEP, "1.2")
    assert error(machine, result, "package:0") < 0.005
    assert error(machine, result, "dram:0") < 0.005
    assert sorted(c["channel"] for c in result.rows()[1]) == ["dram:0", "package:0", "psys:0"]
    assert [c["channel"] for c in result.rows()[1] if c["in_total"]] == ["psys:0"]
    assert result.energy_j == pytest.approx(row(result, "psys:0")["energy_j"])
    assert result.modelled_j == 0


def test_a_counter_that_wraps_in_mid_run_is_right(hardware: Machine, tmp_path: Path) -> None:
    machine = hardware(gpus=0, rapl=("package-0", "dram"), range_uj=1_000_000_000)  # 1 kJ
    machine.truth.device("package:0").start_units = 950_000_000
    machine.truth.set_power("package:0", 400.0)
    result = measured(machine, tmp_path / "runs", "-c", _SLEEP, "2.0")
    assert error(machine, result, "package:0") < 0.005


def test_a_counter_that_may_have_wrapped_twice_is_null_with_a_reason(
    hardware: Machine, tmp_path: Path
) -> None:
    machine = hardware(gpus=0, rapl=("package-0", "dram"), range_uj=10_000_000)  # 10 J: nothing is that small
    machine.truth.set_power("package:0", 400.0)
    result = measured(machine, tmp_path / "runs", "-c", _SLEEP, "1.0")
    assert row(result, "package:0")["energy_j"] is None
    assert row(result, "package:0")["reason"]
    assert result.energy_j is None


def test_a_gpu_counter_that_is_reset_is_null_with_a_reason(hardware: Machine, tmp_path: Path) -> None:
    machine = hardware(gpus=1)
    machine.truth.device("gpu:0").reset_at_ns = time.monotonic_ns() + 1_200_000_000
    result = measured(machine, tmp_path / "runs", "-c", _SLEEP, "2.5")
    assert row(result, "gpu:0")["energy_j"] is None
    assert row(result, "gpu:0")["reason"] == COUNTER_RESET
    assert COUNTER_RESET in result.flags


def test_a_lost_gpu_ends_its_channel_and_not_the_run(hardware: Machine, tmp_path: Path) -> None:
    machine = hardware(gpus=2)
    machine.truth.device("gpu:1").lost_at_ns = time.monotonic_ns() + 1_200_000_000
    result = measured(machine, tmp_path / "runs", "-c", _SLEEP, "2.5")
    assert error(machine, result, "gpu:0") < 0.02
    assert row(result, "gpu:1")["energy_j"] is None
    assert row(result, "gpu:1")["reason"] == DEVICE_LOST
    assert DEVICE_LOST in result.flags


def give_up_reading_everything() -> None:
    """In a child before its exec: root without these capabilities is refused like anybody else."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; without effect, and need, for other users


def test_a_refused_meter_is_named_with_its_remedy(hardware: Machine, tmp_path: Path) -> None:
    machine = hardware(gpus=0, rapl=RAPL)
    machine.forbid()
    result = measured(machine, tmp_path / "runs", "-c", _SLEEP, "0.5", preexec_fn=give_up_reading_everything)
    (absence,) = (a for a in json.loads(result.missing) if a["source"] == "rapl")
    assert absence["reason"] == NO_PERMISSION
    assert "udev" in absence["remedy"]
    assert NO_PERMISSION in result.flags
    assert row(result, "package:0")["method"] == "modelled"


def test_a_board_without_a_counter_is_integrated_from_its_power(hardware: Machine, tmp_path: Path) -> None:
    machine = hardware(gpus=1, idle_w=210.0)
    machine.truth.device("gpu:0").energy_supported = 0
    result = measured(machine, tmp_path / "runs", "-c", _SLEEP, "2.0")
    assert row(result, "gpu:0")["method"] == "integrated"
    assert error(machine, result, "gpu:0") < 0.03


_STEP_IN_INTENSITY = """
import energyprof, pathlib, sys, time
from tests.lab.truth import Truth
truth = Truth.from_environment()
truth.square_wave("package:0", 220.0, 60.0, 0.4, 0.3, time.monotonic_ns(), time.monotonic_ns() + 9_000_000_000)
wall, mono = time.time(), time.monotonic_ns()
pathlib.Path(sys.argv[1]).write_text(f"time,g_per_kwh\\n{wall - 60},50\\n{wall + 1.7},700\\n")
with energyprof.profile("x", quiet=True, intensity=sys.argv[1]) as run:
    time.sleep(3.0)
run.result
print(mono + int(1.7e9))
"""


def test_a_run_with_a_step_in_intensity_has_the_grams_of_the_closed_form(
    hardware: Machine, tmp_path: Path
) -> None:
    machine = hardware(gpus=0, rapl=RAPL[:2])
    environment = {**os.environ, **machine.env, "PYTHONPATH": str(ROOT), "ENERGYPROF_OUT": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _STEP_IN_INTENSITY, str(tmp_path / "s.csv")],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    result, step_ns = stored(str(tmp_path), energyprof.load(tmp_path)["run_id"].iloc[-1]), int(done.stdout)
    grams = sum(
        intensity * machine.truth.energy_j(channel, begin, end) / 3.6e6
        for channel in ("package:0", "dram:0")
        for intensity, begin, end in ((50, result.t0_ns, step_ns), (700, step_ns, result.t1_ns))
    )
    assert result.co2e_g == pytest.approx(grams, rel=1e-3)
    assert result.co2e_lo_g <= grams <= result.co2e_hi_g
