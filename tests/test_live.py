"""`run --live`: a line on a terminal that tells watts, joules and steps, and nothing where there is none."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Callable

import pytest

from tests.lab import VirtualHardware
from tests.shell import RUN, Shell

STEPS = """
import time, energyprof
with energyprof.profile(quiet=True) as run:
    for _ in run.steps(range(300)):
        time.sleep(0.02)
print("done")
"""


def on_a_terminal(shell: Shell, *command: str) -> tuple[str, int]:
    """What a person would have seen of a command, and its exit status."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, cwd=shell.folder, env=shell.environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            got = os.read(ours, 65536)
        except OSError:
            break
        if not got:
            break
        seen += got
    os.close(ours)
    return seen.decode(), process.wait(60)


@pytest.fixture
def machine(shell: Shell, hardware: Callable[..., VirtualHardware]) -> VirtualHardware:
    machine = hardware(gpus=1, rapl=("package-0", "dram"), idle_w=70.0)
    shell.environment.update(machine.env)
    return machine


def test_watts_joules_and_steps_are_told_once_a_second_and_taken_away_at_the_end(
    shell: Shell, machine: VirtualHardware
) -> None:
    shell.file("steps.py", STEPS)
    seen, code = on_a_terminal(shell, *RUN, "--live", "steps.py")
    assert code == 0
    lines = re.findall(
        r"\r\x1b\[2Kenergyprof: ([\d.]+) s  ([\d.]+) W  ([\d.]+) (k?)J  ([\d.]+) steps/s", seen
    )
    assert lines, seen
    seconds, watts, joules, kilo, rate = lines[-1]
    assert float(watts) == pytest.approx(210, rel=0.05)
    assert float(joules) * (1000 if kilo else 1) == pytest.approx(210 * float(seconds), abs=500)
    assert 5 < float(rate) < 51  # a step sleeps for 20 ms, on a busy machine longer
    assert seen.rpartition("\x1b[2K")[2].strip().startswith("energyprof: steps.py: finished")
    assert "done" in seen


def test_without_a_terminal_nothing_is_shown(shell: Shell, machine: VirtualHardware) -> None:
    shell.file("steps.py", STEPS)
    done = shell(*RUN, "--live", "-q", "steps.py")
    assert (done.stdout, done.stderr, done.returncode) == (b"done\n", b"", 0)
