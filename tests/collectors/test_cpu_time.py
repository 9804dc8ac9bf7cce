"""CPU time of the machine and of the program, from trees of /proc."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from energyprof.collectors.cpu_time import BUSY, PROGRAM, CpuTimeCollector
from energyprof.collectors.program_time import is_below

TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")


def test_machine_and_program_are_read_side_by_side(machine) -> None:
    machine.processor("x")
    machine.busy(1000, 0, 0, 0, 0, 0, 0)
    machine.process(50, (10, 5, 0, 0), children="60 ")
    machine.process(60, (100, 0, 7, 0))
    (group,) = CpuTimeCollector().open(machine.context(pid=50)).groups
    assert [channel.name for channel in group.channels] == [BUSY, PROGRAM]
    assert group.channels[0].device["cpus"] == 2
    assert list(group.read()) == [1000 * TICK_US, 122 * TICK_US]


def test_without_a_program_there_is_nothing_to_compare(machine) -> None:
    machine.processor("x")
    machine.busy(1, 0, 0, 0, 0, 0, 0)
    assert CpuTimeCollector().open(machine.context()).groups == ()


def test_a_descendant_is_known_by_its_parents() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(5)"])
    try:
        time.sleep(0.05)
        assert is_below(child.pid, os.getpid(), "/proc")
        assert is_below(os.getpid(), os.getpid(), "/proc")
        assert not is_below(os.getpid(), child.pid, "/proc")
        assert not is_below(1 << 22, os.getpid(), "/proc")
    finally:
        child.kill()
        child.wait()
