"""AMD GPUs behind a stand-in for AMD SMI's binding, with the faults that boards have."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

import pyarrow.dataset as ds
import pytest

from energyprof.collectors.amd import AmdCollector
from energyprof.collectors.base import Channel, Opened, Unavailable
from energyprof.reasons import NO_PERMISSION, NOT_SUPPORTED
from tests.lab.amdsmi_stub import AmdSmiException, Board, FakeAmdSmi
from tests.shell import RUN

pytestmark = pytest.mark.alone  # its boards draw in real time, and are read twice within milliseconds


@pytest.fixture(autouse=True)
def driver(machine) -> None:
    (machine.sys / "module/amdgpu").mkdir(parents=True)


def opened(machine, *boards: Board, environ: Mapping[str, str] | None = None) -> Opened:
    return AmdCollector(FakeAmdSmi(boards)).open(machine.context(environ))


def channels(found: Opened) -> dict[str, Channel]:
    return {channel.name: channel for group in found.groups for channel in group.channels}


def test_a_machine_without_amds_driver_has_nothing_and_no_complaint(machine) -> None:
    (machine.sys / "module/amdgpu").rmdir()
    found = opened(machine, Board())
    assert (list(found.groups), list(found.missing)) == ([], [])


def test_a_trusted_counter_is_read_in_microjoules_and_has_the_scope_of_its_package(machine) -> None:
    found = opened(machine, Board(counts_w=290.0))
    (group,) = found.groups
    (channel,) = group.channels
    assert (channel.name, channel.quantity, channel.method) == ("gpu:0", "energy", "counter")
    assert channel.scope == "GPU package with its memory (OAM)"
    assert 1_000_000 <= (channel.refresh_ns or 0) < 7_000_000
    assert channel.device == {
        "model": "AMD Instinct MI300X",
        "uuid": "GPU-0123456789abcdef",
        "driver": "6.12.12",
        "covers": "gpu",
    }
    assert list(found.missing) == []
    begin, end = group.read()[0], group.read()[0]
    assert begin is not None
    assert end is not None
    assert 1_000_000_000 < begin <= end < 1_100_000_000


def test_a_slow_counter_has_the_power_beside_it(machine) -> None:
    slow = Board("AMD Radeon PRO W7900", 120, 120.0, power_field="average_socket_power", tick_ns=100_000_000)
    found = opened(machine, slow)
    assert {n: (c.quantity, c.refresh_ns) for n, c in channels(found).items()} == {
        "gpu:0": ("energy", None),
        "gpu:0/average": ("power", None),
    }
    assert found.groups[1].read() == (120_000,)


@pytest.mark.parametrize(
    ("board", "words"),
    [
        (Board("AMD Instinct MI100", 90, 0.0), "the energy counter stands still"),
        # Not to the watt: a busy machine looks at clock and counter at two times.
        (Board("AMD Instinct MI210", 90, 900.0), r"says [89]\d\d W where the board shows 90 W"),
        (Board("AMD Radeon", 90, 9.0), r"says [89] W where the board shows 90 W"),
        (Board("AMD Radeon", 90, lost=True), "there is no energy counter"),
    ],
)
def test_a_counter_that_cannot_be_true_is_replaced_by_the_power(machine, board: Board, words: str) -> None:
    found = opened(machine, board)
    (group,) = found.groups
    assert (group.channels[0].name, group.channels[0].method) == ("gpu:0", "integrated")
    assert group.read() == (90_000,)
    assert re.search(words, found.missing[0].detail)


def test_a_card_of_two_dies_is_measured_once_as_a_whole(machine) -> None:
    first = Board("AMD Instinct MI250X", 180, 180.0, power_field="average_socket_power")
    second = Board("AMD Instinct MI250X", 0, 0.0, power_field="average_socket_power")
    found = opened(machine, first, second)
    assert {n: c.scope for n, c in channels(found).items()} == {"gpu:0": "GPU card, both of its dies"}


def test_each_card_of_two_dies_has_a_channel_of_its_own(machine) -> None:
    def card(start_j: float) -> list[Board]:
        return [Board("AMD Instinct MI250X", 180, 180.0, start_j), Board("AMD Instinct MI250X", 0, 0.0, 0.0)]

    found = opened(machine, *card(1e6), *card(2e6))
    assert set(channels(found)) == {"gpu:0", "gpu:2"}
    assert [m.detail.split(" shows ")[0] for m in found.missing] == ["gpu:1", "gpu:3"]
    with pytest.raises(Unavailable, match="no power of its own") as alone:
        opened(machine, *card(1e6), environ={"ROCR_VISIBLE_DEVICES": "1"})
    assert "first die" in alone.value.remedy


def test_a_partition_that_shows_its_packages_counter_is_not_counted_again(machine) -> None:
    found = opened(machine, Board(), Board(shown_w=None), Board(start_j=5e6))
    assert set(channels(found)) == {"gpu:0", "gpu:2"}
    assert str(found.missing[0]) == "amd: gpu:1 shows the same counter as gpu:0; left out"


def test_an_apu_covers_its_processors_and_memory(machine) -> None:
    apu = channels(opened(machine, Board("AMD Instinct MI300A", 400, 400.0)))["gpu:0"]
    assert (apu.scope, apu.device["covers"]) == ("APU package (GPU, CPU, memory)", "gpu,package,dram")


@pytest.mark.parametrize(
    ("environ", "seen"),
    [
        ({}, {"gpu:0", "gpu:1", "gpu:2", "gpu:3"}),
        ({"HIP_VISIBLE_DEVICES": "2,0"}, {"gpu:2", "gpu:0"}),
        ({"CUDA_VISIBLE_DEVICES": "3"}, {"gpu:3"}),
        ({"CUDA_VISIBLE_DEVICES": "3", "HIP_VISIBLE_DEVICES": "1"}, {"gpu:1"}),
        ({"ROCR_VISIBLE_DEVICES": "1,3", "HIP_VISIBLE_DEVICES": "1"}, {"gpu:3"}),
        ({"ROCR_VISIBLE_DEVICES": "GPU-000000000000000c"}, {"gpu:2"}),
    ],
)
def test_only_the_gpus_that_the_program_sees_are_read_by_hips_numbers(
    machine, environ: Mapping[str, str], seen: set[str]
) -> None:
    boards = [Board(start_j=1e6 * (i + 1), hip_id=i, serial=f"0x{10 + i:016X}") for i in range(4)]
    assert set(channels(opened(machine, *reversed(boards), environ=environ))) == seen


def test_a_program_that_sees_no_gpu_is_told_by_which_variable(machine) -> None:
    with pytest.raises(Unavailable, match="HIP_VISIBLE_DEVICES=7 ends at '7'"):
        opened(machine, Board(), environ={"HIP_VISIBLE_DEVICES": "7"})


def test_a_gpu_that_stops_answering_is_a_gap(machine) -> None:
    board = Board()
    group = opened(machine, board).groups[0]
    board.lost = True
    with pytest.raises(OSError, match="no value"):
        group.read()


def test_amd_smi_is_given_back_once_also_where_nothing_can_be_read(machine) -> None:
    smi = FakeAmdSmi([Board()])
    collector = AmdCollector(smi)
    collector.open(machine.context())
    assert smi.opened == 1
    collector.close()
    collector.close()
    assert smi.opened == 0
    with pytest.raises(Unavailable):
        AmdCollector(smi).open(machine.context({"HIP_VISIBLE_DEVICES": "7"}))
    assert smi.opened == 0


def test_a_user_outside_the_render_group_is_told_which_group(machine) -> None:
    smi = FakeAmdSmi([], init=AmdSmiException(10, "AMDSMI_STATUS_NO_PERM"))
    with pytest.raises(Unavailable) as refused:
        AmdCollector(smi).open(machine.context())
    assert refused.value.reason == NO_PERMISSION
    assert "usermod -a -G render,video" in refused.value.remedy


def test_a_missing_binding_has_a_remedy_unless_the_gpu_is_beside_an_nvidia_one(machine, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", None)  # as if it were not installed
    with pytest.raises(Unavailable, match="its Python binding cannot be loaded") as absent:
        AmdCollector().open(machine.context())
    assert absent.value.reason == NOT_SUPPORTED
    assert "pip install amdsmi" in absent.value.remedy
    (machine.sys / "module/nvidia").mkdir()
    assert list(AmdCollector().open(machine.context()).groups) == []


def test_a_run_beside_an_amd_gpu_is_measured_by_its_counter(machine, shell) -> None:
    shell.file(
        "lib/amdsmi.py",
        "import sys\n"
        "from tests.lab.amdsmi_stub import Board, FakeAmdSmi\n"
        "sys.modules[__name__] = FakeAmdSmi([Board(counts_w=310.0), Board(shown_w=0, counts_w=0.0)])\n",
    )
    shell.environment |= {
        "ENERGYPROF_SYS_ROOT": str(machine.sys),
        "PYTHONPATH": f"{shell.environment['PYTHONPATH']}:{shell.folder / 'lib'}",
    }
    done = shell(*RUN, "--", sys.executable, "-c", "import time; time.sleep(2)")
    assert done.returncode == 0, done.stderr
    (run,) = shell.runs()
    rows = ds.dataset(shell.out / "channels", partitioning=None).to_table().to_pylist()
    gpu = next(row for row in rows if row["channel"] == "gpu:0")
    assert abs(gpu["energy_j"] / (310 * run["duration_s"]) - 1) < 0.01
    assert gpu["method"] == "counter"
    assert "gpu:1" not in {row["channel"] for row in rows}
