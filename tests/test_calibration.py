"""What readings of an idle machine tell of its meters, and that later runs use it."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from energyprof import curves, metercache
from energyprof.calibration import Phase, Reads, Shortfall, cadence, is_safe, rest, shortfalls, window_ms
from energyprof.metercache import Gauge, Known, board_key
from energyprof.reports.meters import calibrated
from tests.conftest import Runner
from tests.lab import VirtualHardware

pytestmark = pytest.mark.alone

MS = 1_000_000


def read_of(
    ticks_ms: np.ndarray[Any, Any], values: np.ndarray[Any, Any], pace_ms: tuple[float, float], seconds: float
) -> Reads:
    """Reads at a dithered pace of something that takes `values[i]` at `ticks_ms[i]`."""
    chance = np.random.default_rng(5)
    at = np.cumsum(chance.uniform(*pace_ms, int(1e3 * seconds / np.mean(pace_ms))))
    shown = values[np.clip(np.searchsorted(ticks_ms, at, side="right") - 1, 0, len(values) - 1)]
    times = (at * MS).astype(np.int64)
    return Reads(times, times + 2000, shown.astype(np.int64))


# --- the cadence -----------------------------------------------------------------------------------------


def ticks(period_ms: float, jitter_ms: float, seconds: float = 4.0) -> np.ndarray[Any, Any]:
    chance = np.random.default_rng(3)
    grid = 37.0 + period_ms * np.arange(int(1e3 * seconds / period_ms))
    return np.concatenate(([0.0], grid + chance.uniform(0, jitter_ms, len(grid))))


@pytest.mark.parametrize("period_ms", [20.0, 50.0, 100.3])
@pytest.mark.parametrize("jitter_ms", [0.0, 4.0])
def test_the_period_of_a_counter_is_found_to_one_per_cent(period_ms: float, jitter_ms: float) -> None:
    at = ticks(period_ms, jitter_ms)
    found = cadence(read_of(at, 1000 + 7000 * np.arange(len(at)), (1.5, 3.0), 2.5))
    assert found is not None
    assert found.period_ms == pytest.approx(period_ms, rel=0.01)
    assert found.jitter_ms == pytest.approx(jitter_ms / 12**0.5, abs=0.7)


def test_refreshes_that_show_the_same_value_again_are_gaps_and_no_longer_periods() -> None:
    at = ticks(100.0, 0.0, seconds=8.0)
    values = np.random.default_rng(2).integers(0, 3, len(at))
    found = cadence(read_of(at, values, (4.0, 6.0), 7.5))
    assert found is not None
    assert found.period_ms == pytest.approx(100.0, rel=0.01)


def test_a_counter_without_a_grid_has_the_median_of_its_intervals() -> None:
    at = np.cumsum(np.random.default_rng(1).uniform(0.9, 1.1, 300))
    found = cadence(read_of(at, np.arange(300), (0.004, 0.006), 0.2))
    assert found is not None
    assert found.period_ms == pytest.approx(1.0, rel=0.02)


def test_what_changes_seldom_or_at_random_has_no_cadence() -> None:
    at = np.cumsum(np.random.default_rng(1).exponential(60.0, 60))
    assert cadence(read_of(at, np.arange(60), (3.0, 6.0), 3.0)) is None
    assert cadence(read_of(ticks(100.0, 0.0), np.zeros(60), (3.0, 6.0), 2.5)) is None
    assert cadence(Reads(*np.zeros((3, 0), np.int64))) is None


# --- reading often ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([(0.13, 0.02), (0.76, 0.01)], False),
        ([(0.00, 0.10), (0.76, 0.01)], False),
        ([(0.00, 0.01), (0.01, 0.02)], True),
        ([(-0.01, 0.01), (0.02, 0.02)], True),
        ([(0.00, 0.01), (0.01, 0.10)], None),
        ([(0.06, 0.05), (0.00, 0.01)], None),
        ([], None),
    ],
)
def test_a_counter_is_safe_where_it_surely_loses_little(
    found: list[tuple[float, float]], verdict: bool | None
) -> None:
    assert is_safe([Shortfall(ms, *part) for ms, part in zip((100.0, 10.0), found)]) is verdict


def steady(watts: list[float]) -> curves.EnergyCurve:
    """A curve of so many seconds at each power, with a knot every 0.1 s."""
    power = np.repeat(watts, 10)
    at = (np.arange(len(power) + 1) * 100 * MS).astype(np.int64)
    value = np.concatenate(([0.0], np.cumsum(power) / 10)) * 1e6
    found = curves.from_counter(at, at, value.astype(np.int64), refresh_ns=MS)
    assert found is not None
    return found


def test_a_loss_is_told_from_a_power_that_fell() -> None:
    phases = [Phase(1000.0, 0, 4000 * MS), Phase(10.0, 4000 * MS, 8000 * MS)]
    gauge = steady([100.0] * 4 + [80.0] * 4)
    for counted, lost in (([100.0] * 4 + [80.0] * 4, 0.0), ([100.0] * 4 + [20.0] * 4, 0.75)):
        (found,) = shortfalls(steady(counted), gauge, phases[0], phases[1:])
        assert found.share == pytest.approx(lost, abs=0.01)
    assert shortfalls(gauge, None, Phase(1000.0, 0, 1), phases[1:]) == []


# --- windows and rest ------------------------------------------------------------------------------------


def test_the_window_of_a_gauge_is_found_where_power_varies_and_not_where_it_does_not() -> None:
    chance = np.random.default_rng(4)
    for level, wanted in ((300.0, 1000.0), (0.0, None)):
        watts = 100.0 + level * np.repeat(chance.uniform(size=20) > 0.5, 5)
        counter = steady_at(watts)
        at = np.arange(3000, 9900, 100) * MS + 50_000
        energy = np.interp([at, at - 1000 * MS], counter.t_ns, counter.e_j)
        shown = ((energy[0] - energy[1]) * 1e3 * 1.03).astype(
            np.int64
        )  # mean over 1 s, and a gain of its own
        found = window_ms(Reads(at, at, shown), counter)
        assert found == (None if wanted is None else pytest.approx(wanted, rel=0.1))


def steady_at(watts: np.ndarray[Any, Any]) -> curves.EnergyCurve:
    at = (np.arange(len(watts) + 1) * 100 * MS).astype(np.int64)
    value = np.concatenate(([0.0], np.cumsum(watts) / 10)) * 1e6
    found = curves.from_counter(at, at, value.astype(np.int64), refresh_ns=MS)
    assert found is not None
    return found


def test_a_machine_at_work_is_not_at_rest_however_steady() -> None:
    phase = Phase(1000.0, 0, 6000 * MS)
    quiet = rest(steady([70.0] * 7), None, phase)
    assert quiet is not None
    assert (round(quiet.watts), quiet.busy) == (70, "")
    swinging = rest(steady([70.0, 200.0] * 4), None, phase)
    assert swinging is not None
    assert swinging.busy == "its power is not steady"
    busy = rest(steady([700.0] * 7), None, phase, "it was 98 % busy")
    assert busy is not None
    assert busy.busy == "it was 98 % busy"
    seen = Reads(*np.tile(np.arange(0, 6000, 50) * MS, (2, 1)), np.tile([70_000, 300_000], 60))
    gauged = rest(steady([185.0] * 7), seen, phase)  # the counter is too coarse to see it
    assert gauged is not None
    assert gauged.busy


# --- the cache -------------------------------------------------------------------------------------------


def test_the_cache_keeps_what_a_later_calibration_could_not_tell(tmp_path: Path) -> None:
    environ = {"ENERGYPROF_CACHE": str(tmp_path / "deep" / "er")}
    first = Known(
        "2026-11-20", 100.3, 1.0, 0.1, True, {"/instant": Gauge(100.0, 25.0)}, 70.0, 0.3, "2026-11-20"
    )
    later = Known("2026-11-21", 100.4, gauges={"/instant": Gauge(99.0), "/average": Gauge(100.0, 1000.0)})
    metercache.store(environ, {"a": first, "b": Known("2026-11-19")})
    metercache.store(environ, {"a": later})
    kept = metercache.load(environ).meters
    assert kept["a"] == Known(
        "2026-11-21", 100.4, 1.0, 0.1, True,
        {"/instant": Gauge(99.0, 25.0), "/average": Gauge(100.0, 1000.0)}, 70.0, 0.3, "2026-11-20",
    )  # fmt: skip
    assert kept["b"] == Known("2026-11-19")
    metercache.store(environ, {"a": Known(counter_safe=False)})
    assert metercache.load(environ).meters["a"].counter_safe is False


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"version": 1}', '{"version": "x", "meters": {}}', '{"version": 1, "meters": [1]}',
     '{"version": 1, "meters": {"a": 3}}', '{"version": 1, "meters": {"a": {"idle_w": "much"}}}',
     '{"version": 1, "meters": {"a": {"tick_ms": -3}}}', '{"version": 1, "meters": {"a": {"idle_w": NaN}}}',
     '{"version": 1, "meters": {"a": {"counter_safe": "yes"}}}', '{"version": 9, "meters": {}}', "\x00\xff"],
)  # fmt: skip
def test_a_damaged_cache_counts_as_empty_and_says_so_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / metercache.FILE).write_text(text, encoding="latin-1")
    found = metercache.load({"ENERGYPROF_CACHE": str(tmp_path)})
    assert found.meters == {}
    assert str(tmp_path) in found.problem
    assert "\n" not in found.problem
    path = metercache.store({"ENERGYPROF_CACHE": str(tmp_path)}, {"a": Known("2026-11-21")})
    assert json.loads(Path(path).read_text())["meters"]["a"]["date"] == "2026-11-21"


def test_the_cache_is_where_the_user_keeps_caches() -> None:
    def path(**environ: str) -> str:
        return metercache.path_of({"HOME": "/home/u", **environ})

    assert path() == "/home/u/.cache/energyprof/meters.json"
    assert path(XDG_CACHE_HOME="/var/c") == "/var/c/energyprof/meters.json"
    assert path(XDG_CACHE_HOME="relative") == path()  # invalid by the XDG specification
    assert path(XDG_CACHE_HOME="/var/c", ENERGYPROF_CACHE="/mine") == "/mine/meters.json"


# --- end to end ------------------------------------------------------------------------------------------


def board(number: int, driver: str = "580.00.lab") -> str:
    return board_key(f"GPU-{0xABC0 + number:08x}-1111-2222-3333-{number:012x}", driver)


def still_processors(machine: VirtualHardware) -> None:
    """Whatever the machine under the tests does."""
    stat = machine.proc_root / "stat"
    stat.unlink()
    stat.write_text("cpu  10 0 10 100000 0 0 0 0 0 0\ncpu0 10 0 10 100000 0 0 0 0 0 0\n")


def geforce(machine: VirtualHardware, *numbers: int) -> None:
    for number in numbers:
        device = machine.truth.device(f"gpu:{number}")
        device.geforce, device.name = 1, b"NVIDIA GeForce RTX 4090"


@pytest.fixture
def three_boards(hardware: Callable[..., VirtualHardware]) -> VirtualHardware:
    """A GeForce that loses energy by being read, one that does not, and an unknown board at work."""
    machine = hardware(gpus=3, rapl=("package-0",), idle_w=70.0)
    still_processors(machine)
    geforce(machine, 0, 1)
    machine.truth.device("gpu:0").undercounts = 1
    machine.truth.device("gpu:2").name = b"NVIDIA H200"
    chance, now = random.Random(1), time.monotonic_ns()
    for step in range(6000):
        for number in (0, 1):  # as much as a board at rest does
            machine.truth.set_power(f"gpu:{number}", 70.0 + chance.gauss(0, 0.5), now + step * 5 * MS)
        if step % 60 == 0:
            machine.truth.set_power("gpu:2", chance.choice((650.0, 120.0)), now + step * 5 * MS)
    return machine


def test_doctor_calibrate_learns_ticks_refreshes_idle_power_and_which_counters_are_safe(
    three_boards: VirtualHardware, energyprof_cli: Runner, tmp_path: Path
) -> None:
    environ = {**three_boards.env, "ENERGYPROF_CACHE": str(tmp_path / "cache")}
    begun = time.monotonic()
    done = energyprof_cli("doctor", "--calibrate", "--json", env=environ)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begun < 20.0 + 5.0  # the command starts on a machine under test
    assert done.stderr == "energyprof: reading the meters for 13 s: leave the machine idle meanwhile\n"
    report = json.loads(done.stdout)
    rows = {row["channel"]: row for row in report["meters"]}
    assert set(rows) == {"gpu:0", "gpu:1", "gpu:2", "package:0", "dram:0"}
    for number in range(3):
        assert rows[f"gpu:{number}"]["tick_ms"] == pytest.approx(100.3, rel=0.01)
        assert 0.3 < rows[f"gpu:{number}"]["jitter_ms"] < 4.0
    for number in (0, 1):
        assert rows[f"gpu:{number}"]["gauges"]["/instant"]["refresh_ms"] == pytest.approx(100.0, rel=0.01)
    assert [rows[f"gpu:{n}"]["counter_safe"] for n in (0, 1)] == [False, True]
    assert rows["gpu:0"]["shortfalls"][1]["share"] == pytest.approx(0.76, abs=0.05)
    assert rows["gpu:1"]["power_w"] == pytest.approx(70.0, rel=0.02)
    assert rows["package:0"]["power_w"] == pytest.approx(70.0, rel=0.02)
    assert rows["gpu:2"]["idle"] is False
    page = "\n".join(calibrated(report))
    assert "gpu:2: the machine is not idle: " in page
    assert "no, it loses energy" in page

    known = metercache.load(environ).meters
    assert {board(0), board(1), board(2)} < set(known)
    assert known[board(1)].idle_w == pytest.approx(70.0, rel=0.02)
    assert known[board(2)].idle_w is None


def channels_of(energyprof_cli: Runner, environ: dict[str, str]) -> dict[str, Any]:
    code = (
        "import os, json\n"
        "from energyprof.collectors.base import Context\n"
        "from energyprof.collectors.nvml import NvmlCollector\n"
        "opened = NvmlCollector().open(Context(environ=os.environ))\n"
        "print(json.dumps({c.name: [g.follow is not None, c.refresh_ns, c.window_ns, c.device.get('calibrated')]"
        " for g in opened.groups for c in g.channels}))\n"
    )
    done = energyprof_cli("run", "-q", "-c", code, env=environ)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_collector_follows_what_was_learned_of_this_board_under_this_driver(
    hardware: Callable[..., VirtualHardware], energyprof_cli: Runner, tmp_path: Path
) -> None:
    machine = hardware(gpus=3)
    geforce(machine, 0, 1)
    machine.truth.device("gpu:2").name = b"NVIDIA H200"
    environ = {**machine.env, "ENERGYPROF_CACHE": str(tmp_path / "cache")}
    learned = {
        board(0): Known("2026-11-21", tick_ms=99.0, counter_safe=True),
        board(1, "570.00"): Known("2026-11-21", counter_safe=True),  # another driver's
        board(2): Known("2026-11-21", gauges={"/instant": Gauge(50.0, 40.0), "/average": Gauge(50.0, 7.0)}),
    }
    metercache.store(environ, learned)
    found = channels_of(energyprof_cli, environ)
    assert found["gpu:0"] == [True, 99 * MS, None, "2026-11-21"]
    assert found["gpu:1"] == [False, None, None, None]
    assert found["gpu:2/instant"][1:3] == [50 * MS, 40 * MS]
    assert found["gpu:2/average"][1:3] == [50 * MS, 1000 * MS]  # what is known from the study stays
    metercache.store(environ, {board(2): Known("2026-11-21", counter_safe=False)})
    assert channels_of(energyprof_cli, environ)["gpu:2"][0] is False
    assert "calibrated 2026-11-21" in energyprof_cli("doctor", env=environ).stdout


def test_a_damaged_cache_costs_a_line_and_nothing_else(
    hardware: Callable[..., VirtualHardware], energyprof_cli: Runner, tmp_path: Path
) -> None:
    environ = {**hardware().env, "ENERGYPROF_CACHE": str(tmp_path)}
    (tmp_path / metercache.FILE).write_text("{")
    done = energyprof_cli("run", "-c", "import time; time.sleep(0.3)", env=environ)
    assert done.returncode == 0
    line = f"  not read  calibration: {tmp_path}/meters.json is ignored: it is damaged"
    assert [text for text in done.stderr.splitlines() if "meters.json" in text] == [line]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_may_not_be_written_is_said_before_the_wait(
    energyprof_cli: Runner, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    done = energyprof_cli("doctor", "--calibrate", env={"ENERGYPROF_CACHE": str(closed)})
    assert done.returncode == 2
    assert "ENERGYPROF_CACHE" in done.stderr


def test_a_cache_folder_that_is_a_file_is_one_line(energyprof_cli: Runner, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = energyprof_cli("doctor", "--calibrate", env={"ENERGYPROF_CACHE": str(tmp_path / "file" / "x")})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "ENERGYPROF_CACHE" in done.stderr
