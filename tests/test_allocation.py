"""What of a shared machine's energy is the program's: beside the machine's figure, never in its place."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import energyprof
from energyprof import curves
from energyprof.allocation import allocated_j, use_of, uses
from energyprof.collectors.base import Channel
from energyprof.collectors.cpu_time import BUSY, PROGRAM
from energyprof.result import stored
from energyprof.runlog import Stream
from energyprof.tally import Meter
from tests.lab import VirtualHardware
from tests.shell import Shell

pytestmark = pytest.mark.alone

S = 1_000_000_000


def stream(name: str, quantity: str, t_s: list[float], values: list[float], **device: int) -> Stream:
    t_ns = (np.array(t_s) * S).astype(np.int64)
    channel = Channel(name, quantity, "allocated", "", device=device)  # type: ignore[arg-type]
    return Stream(channel, False, t_ns, t_ns, np.array(values, np.int64))


def meter(name: str, watts: list[float]) -> Meter:
    """A counter of so many watts in each second."""
    t_ns = np.arange(len(watts) * 100 + 1, dtype=np.int64) * S // 100
    energy = np.concatenate(([0.0], np.cumsum(np.repeat(watts, 100) / 100)))
    curve = curves.from_counter(t_ns, t_ns, (energy * 1e6).astype(np.int64) + 5)
    return Meter(Channel(name, "energy", "counter", "a package"), curve, True)


def test_each_second_goes_to_who_used_it() -> None:
    # The program has all of the first second, a quarter of the second one, nothing of the third.
    busy = stream(BUSY, "utilisation", [0, 1, 2, 3], [0, 1e6, 3e6, 4e6], cpus=2)
    program = stream(PROGRAM, "utilisation", [0, 1, 2, 3], [0, 1e6, 1.5e6, 1.5e6])
    spans = [(0, 3 * S)]
    found = uses({BUSY: busy, PROGRAM: program}, spans)
    use = use_of("package:0", found)
    assert use is not None
    assert use.shared
    assert use_of("gpu:0", found) is None
    assert use_of("psys:0", found) is None  # it holds more than processors
    assert allocated_j(meter("package:0", [100, 200, 400]), use, spans) == pytest.approx(150, rel=0.02)


def test_a_machine_with_a_few_daemons_is_not_shared() -> None:
    busy = stream(BUSY, "utilisation", [0, 1, 2], [0, 1.03e6, 2.06e6], cpus=2)
    program = stream(PROGRAM, "utilisation", [0, 1, 2], [0, 1e6, 2e6])
    assert not uses({BUSY: busy, PROGRAM: program}, [(0, 2 * S)])["package"].shared
    # Nor is one where nobody does much: half of next to nothing is next to nothing.
    busy.value, program.value = busy.value // 100, program.value // 200
    assert not uses({BUSY: busy, PROGRAM: program}, [(0, 2 * S)])["package"].shared


def test_a_board_is_divided_by_the_time_of_its_processes() -> None:
    part = stream("gpu:0/program", "share", [1, 2, 3], [1_000_000, 500_000, 500_000])
    found = uses({"gpu:0/program": part}, [(0, 3 * S)])
    use = use_of("gpu:0", found)
    assert use is not None
    assert use.shared
    assert allocated_j(meter("gpu:0", [300, 300, 300]), use, [(0, 3 * S)]) == pytest.approx(600, rel=0.02)


def test_where_energy_is_unknown_so_is_its_part() -> None:
    part = stream("gpu:0/program", "share", [1], [500_000])
    use = uses({"gpu:0/program": part}, [(0, 9 * S)])["gpu:0"]
    assert allocated_j(meter("gpu:0", [300]), use, [(0, 9 * S)]) is None
    assert allocated_j(Meter(Channel("gpu:0", "energy", "counter", ""), None, True), use, [(0, S)]) is None


BURN = "import time\nt = time.monotonic()\nwhile time.monotonic() < t + {}: pass\n"
PROGRAM_TEXT = """
import os, sys, time
import energyprof
from tests.lab.truth import Truth
truth = Truth.from_environment()
board = truth.device("gpu:0")
board.user_pid[0], board.user_pid[1] = os.getpid(), int(sys.argv[1])
board.user_busy[0], board.user_busy[1] = 30, 60
for pid in board.user_pid:
    os.symlink(f"/proc/{pid}", f"{os.environ['ENERGYPROF_PROC_ROOT']}/{pid}")
with energyprof.profile("shared", quiet=True) as run:
    t = time.monotonic()
    while time.monotonic() < t + 4:
        pass
run.result
"""


@pytest.fixture
def neighbour() -> Iterator[int]:
    """Somebody else's process, busy all the time."""
    process = subprocess.Popen([sys.executable, "-c", BURN.format(30)])
    yield process.pid
    process.kill()
    process.wait()


def test_a_run_beside_a_busy_neighbour_is_flagged_and_knows_its_part(
    shell: Shell, hardware: Callable[..., VirtualHardware], neighbour: int
) -> None:
    machine = hardware(gpus=1, rapl=("package-0",), idle_w=70.0)
    shell.environment.update(machine.env)
    shell.file("shared.py", PROGRAM_TEXT)
    done = shell(sys.executable, "shared.py", str(neighbour))
    assert done.returncode == 0, done.stderr
    run = energyprof.load(shell.out).iloc[-1]
    assert "shared_device" in run["flags"].split(",")
    channels = {c["channel"]: c for c in stored(str(shell.out), run["run_id"]).rows()[1]}
    assert channels["gpu:0"]["allocated_share"] == pytest.approx(1 / 3, rel=0.01)
    assert channels["gpu:0"]["energy_j"] == pytest.approx(70 * run["duration_s"], rel=0.03)  # the board's
    # Two busy processes on the machine, and whatever else runs on it under a test.
    assert 0.02 < channels["package:0"]["allocated_share"] < 0.75
    assert run["allocated_j"] < 0.6 * run["energy_j"]
    assert os.path.isdir(machine.proc_root)
