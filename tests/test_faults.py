"""Meters that fail while a program runs: the program ends as it would, the other meters are right.

Each on the virtual hardware, one board and a processor with memory at 70 W each, and a program that says
a word and ends with a status of its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import monotonic_ns, sleep
from typing import Any

import pandas as pd
import pytest

import energyprof
from energyprof import runfolder
from energyprof.result import stored
from tests.lab import VirtualHardware
from tests.plugin import install
from tests.shell import RUN, Shell

Machine = Callable[..., VirtualHardware]
WATTS = 70.0
PROGRAM = "import sys, time; print('begun', flush=True); time.sleep(1.7); print('done'); sys.exit(3)"
PARTS = ("gpu:0", "package:0", "dram:0")


def ran(
    shell: Shell, machine: VirtualHardware, fault: Callable[[], object] = lambda: None, *paths: str
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], str]:
    """The run, its channels by name and what was said, of a program in whose midst the fault happens."""
    shell.environment.update(machine.env)
    shell.environment["PYTHONPATH"] = ":".join([shell.environment["PYTHONPATH"], *paths])
    process = subprocess.Popen(
        [*RUN, "-c", PROGRAM], cwd=shell.folder, env=shell.environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        sleep(0.7)
        fault()
        out, said = process.communicate(timeout=60)
    assert (out, process.returncode) == ("done\n", 3)
    assert "Traceback" not in said
    row = energyprof.load(shell.out).iloc[-1]
    assert row["exit_code"] == 3
    channels = stored(str(shell.out), row["run_id"]).rows()[1]
    return dict(row), {channel["channel"]: channel for channel in channels}, said


def right(run: dict[str, Any], channels: dict[str, dict[str, Any]], *names: str) -> None:
    """These channels have the true energy."""
    for name in names:
        assert channels[name]["energy_j"] == pytest.approx(WATTS * run["duration_s"], rel=0.05), name
        assert channels[name]["reason"] is None


@pytest.fixture
def machine(hardware: Machine) -> VirtualHardware:
    return hardware(gpus=1, rapl=("package-0", "dram"), idle_w=WATTS)


@pytest.mark.parametrize(
    ("channel", "fault", "reason"),
    [
        ("gpu:0", "lost_at_ns", "device_lost"),
        ("gpu:0", "stuck_at_ns", "sensor_gap"),
        ("gpu:0", "reset_at_ns", "counter_reset"),
        ("package:0", "stuck_at_ns", "sensor_gap"),
        ("package:0", "reset_at_ns", "counter_reset"),
    ],
)
def test_a_meter_that_fails_in_mid_run_has_no_figure_and_a_reason_and_costs_no_other(
    shell: Shell, machine: VirtualHardware, channel: str, fault: str, reason: str
) -> None:
    device = machine.truth.device(channel)
    run, channels, said = ran(shell, machine, lambda: setattr(device, fault, monotonic_ns()))
    assert (channels[channel]["energy_j"], channels[channel]["reason"]) == (None, reason)
    assert f"{channel} — ({reason})" in said
    assert reason in run["flags"].split(",")
    assert pd.isna(run["energy_j"])  # a part is never passed off as the whole
    right(run, channels, *(name for name in PARTS if name != channel))


@pytest.mark.parametrize("texts", [("", "12 apples\n"), ("\x00\xff", "9" * 31)])
def test_zones_that_turn_to_garbage_are_gaps(
    shell: Shell, machine: VirtualHardware, texts: tuple[str, str]
) -> None:
    def fault() -> None:
        assert machine._feeder is not None
        machine._feeder.kill()
        machine._feeder.wait()
        for (path, _), text in zip(machine._zones, texts):
            (path / "energy_uj").write_text(text, encoding="latin-1")

    run, channels, _ = ran(shell, machine, fault)
    right(run, channels, "gpu:0")
    assert channels["package:0"]["energy_j"] is None
    assert channels["dram:0"]["reason"] in ("sensor_gap", "counter_reset")


def test_a_permission_that_is_taken_away_in_mid_run_costs_nothing(
    shell: Shell, machine: VirtualHardware
) -> None:
    run, channels, _ = ran(shell, machine, machine.forbid)  # the files are open
    right(run, channels, *PARTS)


def test_one_board_of_four_that_is_lost_costs_no_other(shell: Shell, hardware: Machine) -> None:
    machine = hardware(gpus=4, idle_w=WATTS)
    device = machine.truth.device("gpu:2")
    run, channels, _ = ran(shell, machine, lambda: setattr(device, "lost_at_ns", monotonic_ns()))
    assert channels["gpu:2"]["reason"] == "device_lost"
    right(run, channels, "gpu:0", "gpu:1", "gpu:3")


def test_a_driver_that_is_slow_is_measured_all_the_same(shell: Shell, machine: VirtualHardware) -> None:
    machine.truth.device("gpu:0").call_delay_us = 50_000
    run, channels, _ = ran(shell, machine)
    right(run, channels, *PARTS)


def test_a_driver_that_hangs_is_left_behind(shell: Shell, machine: VirtualHardware) -> None:
    device = machine.truth.device("gpu:0")
    begun = monotonic_ns()
    run, channels, _ = ran(shell, machine, lambda: setattr(device, "call_delay_us", 40_000_000))
    assert monotonic_ns() - begun < 25e9  # it would have answered later than that
    assert (channels["gpu:0"]["energy_j"], channels["gpu:0"]["reason"]) == (None, "sensor_gap")
    right(run, channels, "package:0", "dram:0")


def test_more_wraps_than_can_be_known_are_no_figure(shell: Shell, hardware: Machine) -> None:
    machine = hardware(gpus=0, rapl=("package-0",), idle_w=WATTS, range_uj=100_000_000)
    run, channels, _ = ran(shell, machine)
    right(run, channels, "package:0")  # it wraps every 1.4 s

    def stop_the_meter_for_a_while() -> None:
        (meter,) = (entry for entry in runfolder.open_runs(str(shell.out)))
        pid = int(runfolder.facts_of(meter)["pid"])
        os.kill(pid, signal.SIGSTOP)
        sleep(1.0)  # a socket can have drawn 1 kJ
        os.kill(pid, signal.SIGCONT)

    run, channels, _ = ran(shell, machine, stop_the_meter_for_a_while)
    assert (channels["package:0"]["energy_j"], channels["package:0"]["reason"]) == (None, "sensor_gap")
    assert pd.isna(run["energy_j"])


NONSENSE = {
    "opens_not": {"open": "raise RuntimeError('no such thing')"},
    "leaves": {"open": "raise SystemExit(9)"},
    "absent": {"open": "raise Unavailable('absent', 'not_supported', 'no plug')"},
    "nothing": {"open": "return None"},
    "dict": {"open": "return Opened([Group(({'name': 'x'},), self.read, 0.05)])"},
    "unit": {"open": "return Opened([Group((Channel('x:0', 'joules', 'counter', ''),), self.read, 0.05)])"},
    "fast": {"open": "return Opened([Group((Channel('x:0', 'power', 'counter', ''),), self.read, 0.0)])"},
    "never": {"open": "time.sleep(120)"},
    **{
        name: {"open": f"return Opened([Group((Channel({channel}),), self.read, 0.05)])"}
        for name, channel in {
            "number_as_name": "5, 'power', 'counter', ''",
            "no_method": "'x:0', 'power', 'guessed', ''",
            "no_device": "'x:0', 'power', 'counter', '', device=None",
            "no_flags": "'x:0', 'power', 'counter', '', flags=None",
            "gain_as_text": "'x:0', 'power', 'counter', '', gain_u95='5 %'",
            "no_model": "'x:0', 'utilisation', 'modelled', ''",
            "no_joules": "'x:0', 'temperature', 'integrated', ''",
        }.items()
    },
    "eio": {"read": "raise OSError(5, 'Input/output error')"},
    "interrupt": {"read": "raise KeyboardInterrupt"},
    "number": {"read": "return 5"},
    "few": {"read": "return []"},
    "text": {"read": "return ['100 W']"},
    "nan": {"read": "return [float('nan')]"},
    "huge": {"read": "return [1 << 80]"},
    "below": {"read": "return [-5]"},
    "star": {"read": "return [10**15]"},
    "stops": {"read": "time.sleep(30 if self.reads > 9 else 0); return [100_000]"},
    "stays": {"close": "time.sleep(30)"},
    "falls": {"close": "raise ValueError"},
}


def test_plug_ins_may_raise_hang_and_talk_nonsense(shell: Shell, hardware: Machine, tmp_path: Path) -> None:
    machine = hardware(gpus=0, rapl=("package-0", "dram"), idle_w=WATTS)
    for name, bodies in NONSENSE.items():
        install(tmp_path / "site", name, **bodies)
    run, channels, _ = ran(shell, machine, lambda: None, str(tmp_path / "site"))
    right(run, channels, *PARTS[1:])
    missing = {absence["source"]: absence["detail"] for absence in json.loads(run["missing"])}
    for name, bodies in NONSENSE.items():
        channel = channels.get(f"{name}:0")
        if "close" in bodies:
            assert channel is not None
            assert channel["energy_j"] == pytest.approx(100.0 * run["duration_s"], rel=0.05)
        elif "open" in bodies:
            assert channel is None
            assert missing[name]
        else:
            assert channel is not None, name
            assert (channel["energy_j"], bool(channel["reason"])) == (None, True), name
    assert missing["never"] == "failed to open: no answer within 15 s"
