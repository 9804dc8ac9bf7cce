"""Energy above idle: gross less idle watts times time, with an interval of its own, and never instead of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import energyprof
from energyprof import curves, metercache, store
from energyprof.baseline import BEFORE_THE_RUN, Idle, idle_of, idle_power, net_of, total_idle, total_net
from energyprof.collectors.base import Channel
from energyprof.metercache import Cache, Known, device_key
from energyprof.reports.text import details, summary
from energyprof.tally import Figure, Meter
from tests.conftest import Runner
from tests.lab import VirtualHardware
from tests.test_text import a_channel, a_run

MS = 1_000_000


def a_curve(watts: np.ndarray[Any, Any], step_ms: float = 100.0) -> curves.EnergyCurve:
    """A counter read every 100 ms, with these watts between two reads."""
    at = (np.arange(len(watts) + 1) * step_ms * MS).astype(np.int64)
    value = np.concatenate(([0.0], np.cumsum(watts * step_ms / 1e3))) * 1e6
    found = curves.from_counter(at, at, value.astype(np.int64), refresh_ns=MS, gain_u95=0.02)
    assert found is not None
    return found


def a_meter(name: str = "gpu:0", curve: curves.EnergyCurve | None = None, **device: str) -> Meter:
    return Meter(Channel(name, "energy", "counter", "GPU board", device=device), curve, in_total=True)


def test_idle_power_is_the_mean_and_its_interval_holds_how_much_it_varies() -> None:
    chance = np.random.default_rng(1)
    found = [idle_power(a_curve(chance.normal(70.0, 4.0, 60)), 0, 6_000 * MS) for _ in range(60)]
    inside = [part is not None and abs(part[0] - 70.0) < part[1] for part in found]
    assert sum(inside) >= 54
    widths = [part[1] for part in found if part]
    assert 0.5 < np.median(widths) < 3.0  # 4 W over 60 readings is 0.5 W, known from five parts


def test_a_time_too_short_or_with_a_hole_has_no_idle_power() -> None:
    curve = a_curve(np.full(60, 70.0))
    assert idle_power(curve, 0, 500 * MS) is None
    assert idle_power(curve, 9_000 * MS, 12_000 * MS) is None
    hole = np.zeros(60, bool)
    hole[20] = True
    assert idle_power(dataclasses.replace(curve, lost=hole), 0, 6_000 * MS) is None


def test_what_comes_after_the_quiet_time_is_not_in_it() -> None:
    curve = a_curve(np.concatenate((np.full(50, 70.0), np.full(50, 600.0))))
    found = idle_power(curve, 0, 5_000 * MS)
    assert found is not None
    assert found[0] == pytest.approx(70.0)


def test_net_is_gross_less_idle_and_the_gain_acts_on_the_difference() -> None:
    gross = Figure(1000.0, "counter", None, u_random_j=6.0, u_gain_j=50.0)
    net = net_of(gross, Idle(70.0, 0.8, "here"), 10.0)
    assert net.energy_j == pytest.approx(300.0)
    assert net.u_random_j == pytest.approx(10.0)  # 6 and 0.8 W x 10 s
    assert net.u_gain_j == pytest.approx(0.05 * 300.0)
    below = net_of(gross, Idle(110.0, 0.0, "here"), 10.0)
    assert below.energy_j == pytest.approx(-100.0)
    assert below.u_gain_j == pytest.approx(5.0)
    assert net_of(gross, None, 10.0).energy_j is None
    assert net_of(Figure(None, "counter", "sensor_gap"), Idle(1.0, 0.0, ""), 1.0).energy_j is None


def test_a_total_needs_the_idle_power_of_every_meter_in_it() -> None:
    meters = [a_meter("gpu:0"), a_meter("package:0")]
    figures = {"gpu:0": Figure(500.0, "counter"), "package:0": Figure(100.0, "counter")}
    one = {"gpu:0": Idle(30.0, 1.0, "measured before the run")}
    both = {**one, "package:0": Idle(5.0, 1.0, "cached 2026-11-21")}
    assert total_net(meters, figures, one, 10.0).energy_j is None
    assert total_idle(meters, one) == (None, None)
    assert total_net(meters, figures, both, 10.0).energy_j == pytest.approx(250.0)
    assert total_idle(meters, both) == (35.0, "cached 2026-11-21; measured before the run")


def test_a_cached_idle_power_is_of_the_same_board_and_driver_or_of_the_same_machine() -> None:
    board = a_meter(uuid="GPU-1", driver="580")
    processor = a_meter("package:0", model="Xeon")
    keys = [device_key(meter.channel, "here") for meter in (board, processor)]
    cache = Cache("", {str(key): Known(idle_w=42.0, u95_idle_w=1.0, idle_date="2026-11-21") for key in keys})
    for meter in (board, processor):
        assert idle_of(meter, None, cache, "here") == Idle(42.0, 1.0, "cached 2026-11-21")
    assert idle_of(board, None, cache, "elsewhere") is not None  # a UUID is one board's
    for other, node in (
        (a_meter(uuid="GPU-1", driver="590"), "here"),
        (a_meter(uuid="GPU-2", driver="580"), "here"),
        (a_meter("package:1", model="Xeon"), "here"),
        (a_meter("package:0", model="Xeon"), "there"),
        (a_meter("package:0", model="EPYC"), "here"),
        (Meter(dataclasses.replace(processor.channel, method="modelled"), None, True), "here"),
    ):
        assert idle_of(other, None, cache, node) is None


def test_a_measured_baseline_goes_before_a_cached_one() -> None:
    meter = a_meter(curve=a_curve(np.full(60, 70.0)), uuid="GPU-1", driver="580")
    cache = Cache("", {"GPU-1 driver 580": Known(idle_w=42.0, idle_date="2026-11-21")})
    found = idle_of(meter, (0, 5_000 * MS), cache, "here")
    assert found is not None
    assert (round(found.watts), found.source) == (70, BEFORE_THE_RUN)


# --- end to end ------------------------------------------------------------------------------------------

WORK = """
import time
from tests.lab.truth import Truth
truth, now = Truth.from_environment(), time.monotonic_ns()
truth.set_power("gpu:0", 400.0, now)
truth.set_power("gpu:0", 90.0, now + 3_000_000_000)
time.sleep(3.0)
"""


def rows(out: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    run = store.runs(str(out)).rows[-1]
    channels = store.of_run(str(out), "channels", run["run_id"]).rows
    return run, {channel["channel"]: channel for channel in channels}


def test_energyprof_run_with_a_baseline_knows_the_energy_above_idle(
    hardware: Callable[..., VirtualHardware], energyprof_cli: Runner, tmp_path: Path
) -> None:
    machine = hardware(rapl=("package-0", "dram"), idle_w=90.0)
    code = f"import sys; sys.path[:0] = {[str(Path(__file__).parent.parent)]!r}\n{WORK}"
    done = energyprof_cli("run", "--baseline", "3", "-c", code, env=machine.env)
    assert done.returncode == 0, done.stderr
    assert "energyprof: measuring the idle machine for 3 s before the program starts\n" in done.stderr
    assert " above idle (" in done.stderr
    run, channels = rows(tmp_path / "runs")
    gpu = channels["gpu:0"]
    drawn = machine.truth.energy_j("gpu:0", run["t0_ns"], run["t1_ns"])
    assert gpu["idle_w"] == pytest.approx(90.0, rel=0.02)
    assert gpu["idle_source"] == BEFORE_THE_RUN
    assert abs(gpu["net_energy_j"] - (drawn - 90.0 * run["duration_s"])) < gpu["u95_net_j"]
    assert gpu["u95_net_j"] < 0.06 * gpu["net_energy_j"]
    assert gpu["energy_j"] == pytest.approx(drawn, rel=0.02)  # gross stays what it was
    assert run["net_energy_j"] == pytest.approx(sum(c["net_energy_j"] for c in channels.values()))
    assert run["idle_w"] == pytest.approx(270.0, rel=0.02)
    assert run["duration_s"] < 6.0  # the wait is no part of the run


def test_a_profile_with_a_baseline_waits_says_so_and_knows_the_energy_above_idle(
    hardware: Callable[..., VirtualHardware], run_python: Runner
) -> None:
    machine = hardware(idle_w=90.0)
    program = (
        "import json, energyprof\n"
        "with energyprof.profile('x', baseline_s=2) as run:\n"
        + "".join(f"    {line}\n" for line in WORK.strip().splitlines())
        + "    with energyprof.profile('inner', baseline_s=60): pass\n"
        "r = run.result\n"
        "gpu = r.channels[r.channels.channel == 'gpu:0'].iloc[0]\n"
        "print(json.dumps([gpu.idle_w, gpu.net_energy_j, gpu.u95_net_j, r.duration_s, r.t0_ns, r.t1_ns]))\n"
    )
    done = run_python(program, env=machine.env)
    assert done.returncode == 0, done.stderr
    assert "energyprof: measuring the idle machine for 2 s before the block\n" in done.stderr
    assert "60 s" not in done.stderr
    idle_w, net, u95, seconds, t0, t1 = json.loads(done.stdout)
    assert idle_w == pytest.approx(90.0, rel=0.02)
    assert abs(net - (machine.truth.energy_j("gpu:0", t0, t1) - 90.0 * seconds)) < u95


def test_a_run_takes_the_cached_idle_power_of_its_board(
    hardware: Callable[..., VirtualHardware], energyprof_cli: Runner, tmp_path: Path
) -> None:
    machine = hardware(idle_w=90.0)
    environ = {**machine.env, "ENERGYPROF_CACHE": str(tmp_path / "cache")}
    board = "GPU-0000abc0-1111-2222-3333-000000000000 driver 580.00.lab"
    metercache.store(environ, {board: Known(idle_w=50.0, u95_idle_w=0.5, idle_date="2026-11-20")})
    code = "import time; time.sleep(1.5)"
    done = energyprof_cli("run", "-c", code, env=environ)
    assert done.returncode == 0, done.stderr
    _, channels = rows(tmp_path / "runs")
    gpu = channels["gpu:0"]
    assert (gpu["idle_w"], gpu["idle_source"]) == (50.0, "cached 2026-11-20")
    run, _ = rows(tmp_path / "runs")
    assert gpu["net_energy_j"] == pytest.approx(gpu["energy_j"] - 50.0 * run["duration_s"])


@pytest.mark.parametrize("seconds", ["0", "0.5", "-3", "nan", "601", "inf", "1e9"])
def test_an_absurd_baseline_is_one_line_before_anything_starts(cli_here: Runner, seconds: str) -> None:
    done = cli_here("run", "--baseline", seconds, "-c", "print('started')")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "1 to 600 seconds" in done.stderr
    with pytest.raises(ValueError, match="1 to 600 seconds"):
        energyprof.profile(baseline_s=float(seconds))


def test_without_a_baseline_nothing_is_said_of_idle(energyprof_cli: Runner, cli_here: Runner) -> None:
    done = energyprof_cli("run", "-c", "pass")
    assert done.returncode == 0
    assert "idle" not in done.stderr
    assert "above idle" not in cli_here("show").stdout


# --- in words --------------------------------------------------------------------------------------------


def test_net_stands_on_a_line_of_its_own_below_the_energy() -> None:
    net = {"net_energy_j": 60.0, "u95_net_j": 4.0, "idle_w": 13.0, "idle_source": BEFORE_THE_RUN}
    idle = {"net_energy_j": 60.0, "u95_net_j": 4.0, "idle_w": 13.0, "u95_idle_w": 0.2}
    missing = json.dumps([{"source": "s", "reason": "r", "detail": "d", "remedy": ""}] * 9)
    run = a_run(**net, missing=missing, power_w=3.0, samples=5.0)
    lines = summary(run, [{**a_channel("gpu:0"), **idle}], [])
    assert lines[1].startswith("  energy    100 ± 5 J")
    assert lines[2] == "  net       60 ± 4 J above idle (13.0 W, measured before the run)"
    assert len(lines) <= 12
    page = "\n".join(details(run, [{**a_channel("gpu:0"), **idle}, a_channel("dram:0")], []))
    assert "above idle" in page
    assert "13.00 ± 0.20 W" in page


def test_meters_without_an_idle_power_are_named() -> None:
    with_idle = {**a_channel("gpu:0"), "idle_w": 13.0, "u95_idle_w": 0.2, "net_energy_j": 5.0}
    lines = summary(a_run(), [with_idle, a_channel("dram:0")], [])
    assert lines[2] == "  net       — (no idle power is known of dram:0; --baseline 5 measures it)"
    assert not any("net" in line.split()[:1] for line in summary(a_run(), [a_channel("gpu:0")], []))


# --- a wait that is broken off ---------------------------------------------------------------------------


def test_a_wait_that_is_interrupted_leaves_no_run_and_starts_no_program(
    run_python: Runner, tmp_path: Path
) -> None:
    program = (
        "import energyprof, os, signal, threading\n"
        "threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        "    with energyprof.profile('first', baseline_s=60): print('inside')\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
        "with energyprof.profile('second') as run: pass\n"
        "print(run.result.name)\n"
    )
    done = run_python(program)
    assert (done.returncode, done.stdout) == (0, "interrupted\nsecond\n"), done.stderr
    assert [row["name"] for row in store.runs(str(tmp_path / "runs")).rows] == ["second"]


def test_energyprof_run_can_be_interrupted_before_the_program_starts(
    cli_here: Runner, run_python: Runner, tmp_path: Path
) -> None:
    code = "import sys; from energyprof.cli import main; sys.exit(main())"
    program = (
        "import signal, subprocess, sys, time\n"
        f"command = [sys.executable, '-c', {code!r}, 'run', '--baseline', '60', '-c', 'print(1)']\n"
        "child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)\n"
        "print(child.stderr.readline().strip())\n"
        "time.sleep(0.7)\n"
        "child.send_signal(signal.SIGINT)\n"
        "print(child.wait(20), child.stderr.read().split())\n"
    )
    done = run_python(program)
    assert done.stdout == (
        "energyprof: measuring the idle machine for 60 s before the program starts\n130 []\n"
    ), done.stderr
    assert cli_here("ls", "--json").stdout == "[]\n"
    assert not (tmp_path / "runs" / "_journal").exists()
