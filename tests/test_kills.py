"""SIGKILL at random instants: of the program, of its meter, of everything. Each leaves a run.

A few of each by default; `pytest tests/test_kills.py --kills 100` for the whole claim.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

import energyprof
from energyprof import runfolder
from energyprof.recovery import recover
from tests.shell import RUN, Shell

# Regions and steps all the time, in two threads, and a child that outlives it.
BUSY = """
import threading, time, os, sys
import energyprof
def work(run):
    while True:
        with run.region("a"), run.region("b"):
            time.sleep(0.001)
with energyprof.profile("busy", quiet=True) as run:
    if "child" in sys.argv and os.fork() == 0:
        for fd in (0, 1, 2): os.close(fd)
        time.sleep(6)
        os._exit(0)
    threading.Thread(target=work, args=(run,), daemon=True).start()
    print("ready", flush=True)
    for _ in run.steps(iter(int, 1)):
        time.sleep(0.002)
"""


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--kills"))


def descendants(pid: int) -> list[int]:
    """All living processes below a process, in no order."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        if parent == pid:
            found += [int(path.parent.name), *descendants(int(path.parent.name))]
    return found


def meters_of(out: Path) -> list[int]:
    """The metering processes that have a journal open."""
    names = [name for folder in runfolder.open_runs(str(out)) for name in os.listdir(folder)]
    return [int(found[1]) for name in names if (found := re.fullmatch(r"meter\.(\d+)\.log", name))]


def started(shell: Shell, *command: str) -> tuple[subprocess.Popen[str], float]:
    process = shell.start(*command)
    begun = monotonic()
    sleep(random.uniform(0.0, 1.5))
    return process, begun


def wait_until_sealed(shell: Shell) -> None:
    deadline = monotonic() + 30
    while runfolder.open_runs(str(shell.out)) and monotonic() < deadline:
        sleep(0.05)
    assert runfolder.open_runs(str(shell.out)) == []


def test_a_program_that_is_killed_under_run_leaves_a_whole_run(shell: Shell, kills: int) -> None:
    shell.file("busy.py", BUSY)
    for count in range(1, kills + 1):
        process, begun = started(shell, *RUN, "-q", "busy.py", *(["child"] if count % 2 else []))
        (program,) = [pid for pid in descendants(process.pid) if "busy.py" in command_of(pid)[:2]][:1]
        os.kill(program, signal.SIGKILL)
        lived = monotonic() - begun
        assert process.wait(30) == -signal.SIGKILL
        assert runfolder.open_runs(str(shell.out)) == []
        run = shell.runs()[-1]
        assert len(shell.runs()) == count
        assert run["status"] == "killed"
        assert run["energy_j"] > 0
        assert run["duration_s"] > lived
        assert "recovered" not in run["flags"]


def command_of(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return []
    return [part.rsplit("/", 1)[-1] for part in text.split("\0")[1:]]


def test_a_profiled_program_that_is_killed_leaves_a_whole_run_also_with_a_child_alive(
    shell: Shell, kills: int
) -> None:
    shell.file("busy.py", BUSY)
    for count in range(1, kills + 1):
        process, begun = started(shell, sys.executable, "busy.py", *(["child"] if count % 2 else []))
        process.kill()
        lived = monotonic() - begun
        wait_until_sealed(shell)
        runs = shell.runs()
        assert len(runs) == count
        assert runs[-1]["status"] == "killed"
        assert runs[-1]["duration_s"] == pytest.approx(lived, abs=0.5)


def test_when_everything_is_killed_the_run_is_recovered_short_by_at_most_a_second(
    shell: Shell, kills: int
) -> None:
    shell.file("busy.py", BUSY)
    for count in range(1, kills + 1):
        supervised = count % 2 == 0
        command = [*RUN, "-q"] if supervised else [sys.executable]
        process, begun = started(shell, *command, "busy.py")
        victims = [process.pid, *descendants(process.pid), *meters_of(shell.out)]
        for pid in {*victims}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        lived = monotonic() - begun
        process.wait(30)
        deadline = monotonic() + 10
        while any(runfolder.alive(pid) for pid in victims) and monotonic() < deadline:
            sleep(0.02)
        sealed, failed = recover(str(shell.out))
        assert (len(sealed), failed) == (1, []), count
        run = energyprof.load(shell.out).set_index("run_id").loc[sealed[0]]
        assert run["status"] == "recovered"
        assert lived - 1.0 - 0.5 <= run["duration_s"] <= lived + 5.0
        assert runfolder.open_runs(str(shell.out)) == []


def test_a_meter_that_is_killed_costs_the_program_nothing_and_its_run_is_recovered(
    shell: Shell, kills: int
) -> None:
    shell.file("busy.py", BUSY.replace("iter(int, 1)", "range(900)"))
    for _ in range(max(1, kills // 3)):
        process, _ = started(shell, sys.executable, "busy.py")
        while not meters_of(shell.out):  # it may not have started yet
            sleep(0.01)
        for pid in meters_of(shell.out):
            os.kill(pid, signal.SIGKILL)
        out, said = process.communicate(timeout=60)
        assert (out, said, process.returncode) == ("", "", 0)
        sealed, failed = recover(str(shell.out))
        assert (len(sealed), failed) == (1, [])
        run = energyprof.load(shell.out).set_index("run_id").loc[sealed[0]]
        assert run["steps"] == 900
