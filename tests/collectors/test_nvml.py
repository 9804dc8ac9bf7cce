"""The NVML collector, against an object that answers as the binding does.

The binding itself, over a C library, is tried with the virtual hardware; here are the many boards and faults.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from energyprof.collectors.base import Context, DeviceLost, Group, Opened, Unavailable
from energyprof.collectors.nvml import NvmlCollector
from energyprof.reasons import DEVICE_LOST, MIG_PARENT_POWER, NO_PERMISSION, NOT_SUPPORTED

LOST, NO_SUPPORT, UNKNOWN, TIMEOUT = 15, 3, 999, 10
HOPPER, AMPERE, ADA, VOLTA = 9, 7, 8, 5


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"error {value}")
        self.value = value


class Board:
    """One GPU. A figure is a value, or an `NVMLError` that is raised for it."""

    def __init__(
        self, name: str = "NVIDIA H100 80GB HBM3", architecture: int = HOPPER, brand: int = 14
    ) -> None:
        self.name = name
        self.architecture = architecture
        self.brand = brand
        self.energy_mj: object = 123
        self.fields: dict[tuple[int, int], object] = {(185, 0): 300_000, (186, 0): 310_000}
        self.usage_mw: object = 299_000
        self.temperature: object = 55
        self.mig = False


class Nvml:
    """The binding."""

    NVMLError = NVMLError

    def __init__(self, *boards: Board, init: int = 0) -> None:
        self.boards = list(boards)
        self.init = init
        self.users = 0

    def nvmlInit(self) -> None:
        if self.init:
            raise NVMLError(self.init)
        self.users += 1

    def nvmlShutdown(self) -> None:
        self.users -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Board:
        return _given(self.boards[index])

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> tuple[str, int]:
        if uuid != "MIG-known":
            raise NVMLError(6)
        return ("mig", 1)

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, mig: tuple[str, int]) -> Board:
        return self.boards[mig[1]]

    def nvmlDeviceGetIndex(self, board: Board) -> int:
        return self.boards.index(board)

    def nvmlDeviceGetUUID(self, board: Board) -> bytes:
        return f"GPU-{self.boards.index(board)}".encode()  # as old bindings did

    def nvmlDeviceGetName(self, board: Board) -> str:
        return board.name

    def nvmlDeviceGetArchitecture(self, board: Board) -> int:
        return board.architecture

    def nvmlDeviceGetBrand(self, board: Board) -> int:
        return board.brand

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.65.06"

    def nvmlDeviceGetMigMode(self, board: Board) -> list[int]:
        return [int(board.mig), 0]

    def nvmlDeviceGetTotalEnergyConsumption(self, board: Board) -> int:
        return _given(board.energy_mj)

    def nvmlDeviceGetPowerUsage(self, board: Board) -> int:
        return _given(board.usage_mw)

    def nvmlDeviceGetFieldValues(self, board: Board, asked: list) -> list[SimpleNamespace]:
        answers = []
        for field in asked:
            key = field if isinstance(field, tuple) else (field, 0)
            value = board.fields.get(key, NVMLError(NO_SUPPORT))
            failed = isinstance(value, NVMLError)
            answers.append(
                SimpleNamespace(
                    nvmlReturn=value.value if failed else 0,
                    valueType=1,
                    value=SimpleNamespace(uiVal=0 if failed else value),
                )
            )
        return answers

    def nvmlDeviceGetTemperature(self, board: Board, sensor: int) -> int:
        return _given(board.temperature)

    def nvmlDeviceGetClockInfo(self, board: Board, kind: int) -> int:
        return 1980

    def nvmlDeviceGetUtilizationRates(self, board: Board) -> SimpleNamespace:
        return SimpleNamespace(gpu=97, memory=40)

    def nvmlDeviceGetEnforcedPowerLimit(self, board: Board) -> int:
        return 700_000


def _given(value):
    if isinstance(value, Exception):
        raise value
    return value


def look(*boards: Board, **environ: str) -> Opened:
    return NvmlCollector(Nvml(*boards)).open(Context(environ=environ))


def by_name(opened: Opened) -> dict[str, tuple[Group, int]]:
    return {c.name: (group, i) for group in opened.groups for i, c in enumerate(group.channels)}


def channel(opened: Opened, name: str):
    group, i = by_name(opened)[name]
    return group.channels[i]


def value(opened: Opened, name: str) -> int | None:
    group, i = by_name(opened)[name]
    return group.read()[i]


def test_a_data_centre_board_has_a_followed_counter_two_powers_and_their_context() -> None:
    opened = look(Board())
    assert {name: value(opened, name) for name in by_name(opened)} == {
        "gpu:0": 123_000,
        "gpu:0/average": 300_000,
        "gpu:0/instant": 310_000,
        "gpu:0/temperature": 55_000,
        "gpu:0/clock": 1_980_000,
        "gpu:0/utilisation": 970_000,
        "gpu:0/limit": 700_000,
    }
    group, _ = by_name(opened)["gpu:0"]
    assert group.follow == 0
    assert len(group.channels) == 1
    assert channel(opened, "gpu:0").method == "counter"
    assert channel(opened, "gpu:0").gain_u95 == 0.05
    assert "2312.02741" in channel(opened, "gpu:0").gain_source
    assert channel(opened, "gpu:0").device["uuid"] == "GPU-0"
    assert channel(opened, "gpu:0").device["driver"] == "580.65.06"


def test_every_second_stream_is_inside_its_gpu() -> None:
    opened = look(Board())
    assert {channel(opened, n).parent for n in by_name(opened) if "/" in n} == {"gpu:0"}
    assert channel(opened, "gpu:0").parent is None


@pytest.mark.parametrize(
    ("name", "architecture", "instant_ms", "average_ms"),
    [
        ("NVIDIA H100 80GB HBM3", HOPPER, 25, 1000),
        ("NVIDIA A100-SXM4-40GB", AMPERE, 25, 1000),
        ("NVIDIA GH200 480GB", HOPPER, 20, 1000),
        ("NVIDIA H200", HOPPER, None, 1000),
        ("NVIDIA L4", ADA, None, 1000),
    ],
)
def test_windows_are_those_of_the_study_and_unknown_elsewhere(
    name, architecture, instant_ms, average_ms
) -> None:
    board = Board(name, architecture)
    board.fields |= {(185, 1): 300_000, (186, 1): 310_000}
    opened = look(board)
    expected = None if instant_ms is None else instant_ms * 1_000_000
    assert channel(opened, "gpu:0/instant").window_ns == expected
    assert channel(opened, "gpu:0/average").window_ns == average_ms * 1_000_000


@pytest.mark.parametrize(
    ("name", "brand", "followed"),
    [
        ("NVIDIA GeForce RTX 4090", 5, False),
        ("NVIDIA RTX A6000", 13, False),
        ("NVIDIA TITAN V", 6, False),
        ("NVIDIA GeForce RTX 5060 Ti", 14, False),
        ("NVIDIA A100-SXM4-40GB", 14, True),
        ("Tesla V100-SXM2-16GB", 2, True),
    ],
)
def test_a_board_whose_counter_may_under_count_is_read_once_a_second(name, brand, followed) -> None:
    group, _ = by_name(look(Board(name, brand=brand)))["gpu:0"]
    assert group.follow == (0 if followed else None)
    assert group.interval_s == (0.1 if followed else 1.0)


def test_a_v100_has_its_power_from_the_older_call() -> None:
    board = Board("Tesla V100-SXM2-16GB", VOLTA, 2)
    board.fields = {}
    opened = look(board)
    assert "gpu:0/instant" not in by_name(opened)
    assert value(opened, "gpu:0/average") == 299_000
    assert channel(opened, "gpu:0/average").window_ns == 10_000_000
    assert channel(opened, "gpu:0/average").refresh_ns == 20_000_000


def test_a_board_without_a_counter_is_integrated_under_the_gpus_own_name() -> None:
    board = Board("NVIDIA L4", ADA)
    board.energy_mj = NVMLError(NO_SUPPORT)
    opened = look(board)
    assert (channel(opened, "gpu:0").quantity, channel(opened, "gpu:0").method) == ("power", "integrated")
    assert value(opened, "gpu:0") == 300_000
    assert value(opened, "gpu:0/instant") == 310_000
    assert "gpu:0/average" not in by_name(opened)


def test_a_board_with_nothing_but_the_older_power_is_that() -> None:
    board = Board("Tesla P100", 4, 2)
    board.energy_mj, board.fields = NVMLError(NO_SUPPORT), {}
    opened = look(board)
    assert value(opened, "gpu:0") == 299_000
    assert channel(opened, "gpu:0").parent is None


def test_a_board_that_tells_nothing_is_unavailable() -> None:
    board = Board()
    board.energy_mj = board.usage_mw = NVMLError(NO_SUPPORT)
    board.fields = {}
    with pytest.raises(Unavailable, match="gpu:0: tells neither"):
        look(board)


def test_a_power_of_zero_is_a_missing_value() -> None:
    board = Board()
    opened = look(board)
    board.fields[(186, 0)] = 0
    assert value(opened, "gpu:0/instant") is None
    assert value(opened, "gpu:0/average") == 300_000


def test_on_grace_hopper_counter_and_powers_are_the_modules() -> None:
    board = Board("NVIDIA GH200 480GB")
    board.fields |= {(185, 1): 600_000, (186, 1): 610_000}
    opened = look(board)
    assert channel(opened, "gpu:0").scope == "Grace-Hopper module (GPU, CPU, memory)"
    assert channel(opened, "gpu:0").device["covers"] == "gpu,package,dram"
    assert value(opened, "gpu:0/instant") == 610_000


def test_only_visible_gpus_are_opened_under_the_numbers_of_nvidia_smi() -> None:
    opened = look(Board(), Board(), Board(), CUDA_VISIBLE_DEVICES="2,GPU-0")
    assert [n for n in by_name(opened) if "/" not in n] == ["gpu:2", "gpu:0"]


def test_numbers_that_cuda_may_give_to_other_boards_are_said_to_be_assumed() -> None:
    assert "index_order" in channel(look(Board(), Board(), CUDA_VISIBLE_DEVICES="1"), "gpu:1").device
    certain = look(Board(), Board(), CUDA_VISIBLE_DEVICES="1", CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert "index_order" not in channel(certain, "gpu:1").device
    assert "index_order" not in channel(look(Board()), "gpu:0").device


def test_a_program_that_sees_no_gpu_is_told_so_and_nvml_is_given_back() -> None:
    nvml = Nvml(Board())
    with pytest.raises(Unavailable, match="CUDA_VISIBLE_DEVICES is empty") as absent:
        NvmlCollector(nvml).open(Context(environ={"CUDA_VISIBLE_DEVICES": ""}))
    assert absent.value.reason == NOT_SUPPORTED
    assert nvml.users == 0


def test_a_mig_slice_has_its_parents_power_and_the_flag() -> None:
    opened = look(Board(), Board(), CUDA_VISIBLE_DEVICES="MIG-known")
    assert channel(opened, "gpu:1").flags == (MIG_PARENT_POWER,)
    assert "MIG slice" in channel(opened, "gpu:1").scope


def test_a_board_in_mig_mode_is_flagged_however_it_was_named() -> None:
    board = Board()
    board.mig = True
    assert channel(look(board), "gpu:0").flags == (MIG_PARENT_POWER,)


def test_a_gpu_that_falls_off_the_bus_ends_its_groups_alone() -> None:
    boards = Board(), Board()
    opened = look(*boards)
    boards[0].energy_mj = NVMLError(LOST)
    boards[0].fields[(185, 0)] = NVMLError(LOST)
    for name in ("gpu:0", "gpu:0/average"):
        with pytest.raises(DeviceLost) as lost:
            value(opened, name)
        assert lost.value.reason == DEVICE_LOST
    assert value(opened, "gpu:1") == 123_000


def test_a_gpu_that_is_lost_at_the_start_is_missing_and_the_others_are_read() -> None:
    lost = Board()
    lost.energy_mj = NVMLError(LOST)
    opened = look(lost, Board())
    assert [n for n in by_name(opened) if "/" not in n] == ["gpu:1"]
    assert opened.missing[0].reason == DEVICE_LOST
    assert "gpu:0" in opened.missing[0].detail


@pytest.mark.parametrize("code", [NO_SUPPORT, UNKNOWN])
def test_a_value_that_is_refused_now_and_then_is_missing(code: int) -> None:
    board = Board()
    opened = look(board)
    board.energy_mj = NVMLError(code)
    assert value(opened, "gpu:0") is None


def test_a_slow_driver_is_a_gap(monkeypatch) -> None:
    board = Board()
    opened = look(board)
    board.energy_mj = NVMLError(TIMEOUT)
    with pytest.raises(OSError, match="error 10"):
        value(opened, "gpu:0")


def test_what_a_board_does_not_have_is_not_a_channel() -> None:
    board = Board()
    board.temperature = NVMLError(NO_SUPPORT)
    assert "gpu:0/temperature" not in by_name(look(board))


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (12, NOT_SUPPORTED, "no NVIDIA driver"),
        (9, NOT_SUPPORTED, "not loaded"),
        (18, NOT_SUPPORTED, "differ in version"),
        (4, NO_PERMISSION, "may not use"),
        (UNKNOWN, NOT_SUPPORTED, "error 999"),
    ],
)
def test_a_driver_that_does_not_start_says_why(code: int, reason: str, words: str) -> None:
    with pytest.raises(Unavailable, match=words) as absent:
        NvmlCollector(Nvml(init=code)).open(Context(environ={}))
    assert absent.value.reason == reason


def test_a_machine_without_the_binding_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(Unavailable) as absent:
        NvmlCollector().open(Context(environ={}))
    assert absent.value.remedy == "`pip install nvidia-ml-py`"


def test_closing_twice_gives_nvml_back_once() -> None:
    nvml = Nvml(Board())
    collector = NvmlCollector(nvml)
    collector.open(Context(environ={}))
    collector.close()
    collector.close()
    assert nvml.users == 0
