"""The processors' model: busy time from trees of /proc, and a program's part of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from energyprof.collectors.base import Context, Unavailable
from energyprof.collectors.cpu_model import CpuModelCollector
from energyprof.collectors.program_time import ProgramTime

TICK_US = 1_000_000 // os.sysconf("SC_CLK_TCK")


def test_busy_time_is_what_the_processors_worked_and_not_what_they_waited_or_were_robbed_of(machine) -> None:
    machine.processor("AMD EPYC 7763 64-Core Processor", vendor="AuthenticAMD")
    #            user nice system idle iowait irq softirq steal guest guest_nice
    machine.busy(100, 10, 20, 5000, 300, 1, 2, 400, 50, 5)
    (group,) = CpuModelCollector().open(machine.context()).groups
    assert group.read() == (133 * TICK_US,)
    machine.busy(110, 10, 20, 6000, 300, 1, 2, 400, 50, 5)
    assert group.read() == (143 * TICK_US,)


def test_the_channel_carries_the_whole_model(machine) -> None:
    machine.processor("AMD EPYC 7763 64-Core Processor", vendor="AuthenticAMD")
    machine.sockets(0, 0, 1, 1)
    machine.busy(1, 0, 0, 0, 0, 0, 0, 0, 0, 0, cpus=4)
    (group,) = CpuModelCollector().open(machine.context()).groups
    (channel,) = group.channels
    assert (channel.name, channel.quantity, channel.method) == ("package:0", "utilisation", "modelled")
    assert channel.device["cpus"] == 4
    assert channel.device["tdp_w"] == 560
    assert channel.device["model"] == "AMD EPYC 7763 64-Core Processor"
    assert channel.device["curve_load"] == [0.0, 0.1, 0.5, 1.0]
    assert channel.device["curve_tdp_share"] == [0.12, 0.32, 0.75, 1.02]
    assert "2 sockets" in str(channel.device["tdp_source"])
    assert "all processors of this machine (4 CPUs)" in channel.scope


def test_a_virtual_machine_is_called_one(machine) -> None:
    machine.processor("Intel(R) Xeon(R) Processor", virtual=True)
    machine.busy(1, 0, 0, 0, 0, 0, 0)
    (group,) = CpuModelCollector().open(machine.context()).groups
    assert "virtual machine" in group.channels[0].scope
    assert group.channels[0].device["tdp_w"] == 7.0


def test_an_arm_server_is_known_by_its_part_number_and_its_firmware(machine) -> None:
    (machine.proc / "cpuinfo").write_text("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\n")
    dmi = machine.sys / "class/dmi/id"
    dmi.mkdir(parents=True)
    (dmi / "sys_vendor").write_text("Amazon EC2\n")
    (dmi / "product_name").write_text("c7g.large\n")
    machine.busy(1, 0, 0, 0, 0, 0, 0)
    (group,) = CpuModelCollector().open(machine.context()).groups
    assert group.channels[0].device["model"] == "Neoverse-V1"
    assert "virtual machine" in group.channels[0].scope


def test_a_garbled_stat_file_is_an_error_of_this_read_alone(machine) -> None:
    machine.processor("x")
    machine.busy(1, 0, 0, 0, 0, 0, 0)
    (group,) = CpuModelCollector().open(machine.context()).groups
    (machine.proc / "stat").write_text("cpu\n")
    with pytest.raises(OSError, match="not understood"):
        group.read()


def test_a_stat_file_without_processors_is_not_a_meter(machine) -> None:
    (machine.proc / "stat").write_text("cpu 1 2 3\n")
    with pytest.raises(Unavailable, match="lists no CPU"):
        CpuModelCollector().open(machine.context())


def test_without_proc_psutil_stands_in(machine) -> None:
    pytest.importorskip("psutil")
    groups = CpuModelCollector().open(machine.context(pid=os.getpid())).groups
    assert [group.channels[0].name for group in groups] == ["package:0"]
    assert all((group.read()[0] or 0) > 0 for group in groups)


def test_the_meter_itself_is_no_part_of_the_program(machine) -> None:
    machine.process(50, (10, 0, 0, 0), children="60 70 ")
    machine.process(60, (100, 0, 0, 0), children="61 ")
    machine.process(61, (1000, 0, 0, 0))
    machine.process(70, (5, 0, 0, 0))
    assert ProgramTime(50, str(machine.proc), without=60).read_us() == 15 * TICK_US


def test_a_child_that_ended_and_was_waited_for_keeps_its_time_in_its_parent(machine) -> None:
    machine.process(50, (10, 0, 0, 0), children="60 ")
    machine.process(60, (30, 0, 0, 0))
    time = ProgramTime(50, str(machine.proc))
    assert time.read_us() == 40 * TICK_US
    machine.process(50, (11, 0, 32, 0))
    assert time.read_us() == 43 * TICK_US


def test_time_never_runs_backwards_when_a_process_leaves_the_tree(machine) -> None:
    machine.process(50, (10, 0, 0, 0), children="60 ")
    machine.process(60, (30, 0, 0, 0))
    time = ProgramTime(50, str(machine.proc))
    time.read_us()
    machine.process(50, (12, 0, 0, 0))
    assert time.read_us() == 40 * TICK_US
    machine.process(50, (20, 0, 0, 0))
    assert time.read_us() == 48 * TICK_US


def test_a_program_that_ended_or_whose_number_was_given_away_is_not_read(machine) -> None:
    machine.process(50, (10, 0, 0, 0), start=77)
    time = ProgramTime(50, str(machine.proc))
    machine.process(50, (99, 0, 0, 0), start=78)
    assert time.read_us() is None
    assert ProgramTime(51, str(machine.proc)).read_us() is None


def test_a_name_with_blanks_and_brackets_does_not_shift_the_fields(machine) -> None:
    machine.process(50, (10, 0, 0, 0), name="my (odd) name 1 2 3")
    assert ProgramTime(50, str(machine.proc)).read_us() == 10 * TICK_US


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_real_childs_work_is_seen_while_it_lives_and_after(tmp_path) -> None:
    time = ProgramTime(os.getpid(), "/proc")
    before = time.read_us()
    code = "import time\nwhile time.process_time() < 0.3: pass\n"
    subprocess.run([sys.executable, "-c", code], check=True)
    after = time.read_us()
    assert before is not None
    assert after is not None
    assert after - before >= 250_000


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_this_machine_opens_and_closes() -> None:
    collector = CpuModelCollector()
    opened = collector.open(Context(environ=os.environ, pid=os.getpid()))
    assert [group.channels[0].name for group in opened.groups] == ["package:0"]
    assert all(group.read()[0] is not None for group in opened.groups)
    collector.close()
    collector.close()
