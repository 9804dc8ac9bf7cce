"""Energy counters through ctypes, against a library object that answers as NVML does."""

from __future__ import annotations

import pytest

from energyprof.collectors.nvml_ends import GpuCounters, load_nvml


class Library:
    """The few functions of NVML that are called; a board's counter (mJ) is None where it has none."""

    def __init__(self, *counters_mj: int | None, init: int = 0) -> None:
        self.counters_mj = list(counters_mj)
        self.users = 0
        self.init = init
        self.power_status = 0

    def nvmlInit_v2(self) -> int:
        self.users += self.init == 0
        return self.init

    def nvmlShutdown(self) -> int:
        self.users -= 1
        return 0

    def nvmlDeviceGetCount_v2(self, out) -> int:
        out._obj.value = len(self.counters_mj)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index, out) -> int:
        out._obj.value = 100 + index.value
        return 0

    def nvmlDeviceGetUUID(self, handle, text, size) -> int:
        text.value = f"GPU-{handle.value}-uuid".encode()
        return 0

    def nvmlDeviceGetHandleByUUID(self, uuid, out) -> int:
        out._obj.value = 900
        return 0 if uuid.value == b"MIG-known" else 6

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, mig, out) -> int:
        out._obj.value = 101
        return 0

    def nvmlDeviceGetIndex(self, handle, out) -> int:
        out._obj.value = handle.value - 100
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, handle, out) -> int:
        counter = self.counters_mj[handle.value - 100]
        if counter is None:
            return 3
        out._obj.value = counter
        return 0

    def nvmlDeviceGetPowerUsage(self, handle, out) -> int:
        out._obj.value = 70_000
        return self.power_status


def opened(library: Library, wish: str | None = None) -> GpuCounters | None:
    environ = {} if wish is None else {"CUDA_VISIBLE_DEVICES": wish}
    return GpuCounters.open(environ, lambda: library)


def names(counters: GpuCounters) -> list[str]:
    return [name for name, _, _, _ in counters.read() if "/" not in name]


def test_a_board_that_tells_no_power_has_its_counter_alone() -> None:
    library = Library(5)
    library.power_status = 3
    counters = opened(library)
    assert counters is not None
    assert [name for name, _, _, _ in counters.read()] == ["gpu:0"]


def test_each_counter_is_read_in_microjoules_between_two_times() -> None:
    counters = opened(Library(5, 2**53))
    assert counters is not None
    reads = counters.read()
    assert [(name, value) for name, _, _, value in reads] == [
        ("gpu:0", 5000),
        ("gpu:0/average", 70_000),
        ("gpu:1", 2**53 * 1000),
        ("gpu:1/average", 70_000),
    ]
    assert all(0 < before <= after for _, before, after, _ in reads)


@pytest.mark.parametrize(
    ("wish", "indices"), [(None, [0, 1]), ("1", [1]), ("GPU-101", [1]), ("MIG-known", [1]), ("1,0", [1, 0])]
)
def test_only_visible_gpus_are_read(wish: str | None, indices: list[int]) -> None:
    counters = opened(Library(1, 2), wish)
    assert counters is not None
    assert names(counters) == [f"gpu:{index}" for index in indices]


def test_a_board_without_a_counter_is_skipped() -> None:
    counters = opened(Library(None, 2))
    assert counters is not None
    assert names(counters) == ["gpu:1"]


@pytest.mark.parametrize("wish", ["", "-1", "7", "MIG-unknown"])
def test_a_program_that_sees_no_gpu_holds_no_nvml(wish: str) -> None:
    library = Library(1, 2)
    assert opened(library, wish) is None
    assert library.users == 0


def test_no_counter_at_all_holds_no_nvml() -> None:
    library = Library(None)
    assert opened(library) is None
    assert library.users == 0


def test_a_driver_that_does_not_start_is_no_gpu() -> None:
    assert opened(Library(1, init=9)) is None


def test_no_library_and_a_broken_one_are_no_gpu() -> None:
    assert GpuCounters.open({}, lambda: None) is None
    assert GpuCounters.open({}, object) is None


def test_a_lost_gpu_is_left_out_of_a_read() -> None:
    library = Library(1, 2)
    counters = opened(library)
    assert counters is not None
    library.counters_mj[0] = None
    assert names(counters) == ["gpu:1"]


def test_it_can_be_closed_twice_and_then_reads_nothing() -> None:
    library = Library(1)
    counters = opened(library)
    assert counters is not None
    counters.close()
    counters.close()
    assert library.users == 0
    assert counters.read() == []


def test_looking_for_the_library_never_raises() -> None:
    load_nvml()
