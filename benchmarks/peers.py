"""The tools that measure, each as its authors mean it to be used. Imported in the tool's own environment.

Each takes what to run, a function of `region` (a context manager by name), and gives the window's own begin and end
(monotonic ns) with joules by channel, and joules of the regions by channel.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

Run = Callable[[Callable[[str], Any]], None]


def energyprof(run: Run) -> dict[str, Any]:
    import energyprof

    with energyprof.profile("w", quiet=True) as profile:
        begin = time.monotonic_ns()
        run(profile.region)
        end = time.monotonic_ns()
    _, channels, intervals = profile.result.rows()
    regions: dict[str, dict[str, Any]] = {}
    halves: dict[str, dict[str, Any]] = {}
    for row in intervals:
        if row["channel"].startswith("gpu:") and row["row_kind"] == "region":
            regions.setdefault(row["channel"], {})[row["region"]] = row["energy_j"]
            halves.setdefault(row["channel"], {})[row["region"]] = row["u_random_j"]
    return {
        "begin": begin,
        "end": end,
        "joules": {row["channel"]: row["energy_j"] for row in channels},
        "u95": {row["channel"]: row["u_random_j"] for row in channels},
        "regions": regions,
        "regions_u95": halves,
        "reasons": {row["region"]: row["reason"] for row in intervals if row["reason"]},
    }


def zeus(run: Run, approximate: bool = False) -> dict[str, Any]:
    """`begin_window` and `end_window` around each call, summed by name."""
    from zeus.monitor import ZeusMonitor

    monitor = ZeusMonitor(cpu_indices=[], approx_instant_energy=approximate, sync_execution_with="cpu")  # type: ignore[arg-type]
    sums: dict[str, dict[str, float]] = {}

    @contextlib.contextmanager
    def region(name: str) -> Iterator[None]:
        monitor.begin_window(name, sync_execution=False)
        yield
        for index, joules in monitor.end_window(name, sync_execution=False).gpu_energy.items():
            mine = sums.setdefault(f"gpu:{index}", {})
            mine[name] = mine.get(name, 0.0) + joules

    monitor.begin_window("window", sync_execution=False)
    begin = time.monotonic_ns()
    run(region)
    end = time.monotonic_ns()
    measured = monitor.end_window("window", sync_execution=False)
    joules = {f"gpu:{index}": value for index, value in measured.gpu_energy.items()}
    return {"begin": begin, "end": end, "joules": joules, "regions": sums}


def zeus_approximate(run: Run) -> dict[str, Any]:
    return zeus(run, approximate=True)


def two_reads(run: Run) -> dict[str, Any]:
    """The energy counter read at the two ends, as a script of ten lines does."""
    import pynvml

    pynvml.nvmlInit()
    board = pynvml.nvmlDeviceGetHandleByIndex(0)
    sums: dict[str, float] = {}

    @contextlib.contextmanager
    def region(name: str) -> Iterator[None]:
        before = pynvml.nvmlDeviceGetTotalEnergyConsumption(board)
        yield
        sums[name] = (
            sums.get(name, 0.0) + pynvml.nvmlDeviceGetTotalEnergyConsumption(board) / 1e3 - before / 1e3
        )

    first, begin = pynvml.nvmlDeviceGetTotalEnergyConsumption(board), time.monotonic_ns()
    run(region)
    last, end = pynvml.nvmlDeviceGetTotalEnergyConsumption(board), time.monotonic_ns()
    return {"begin": begin, "end": end, "joules": {"gpu:0": (last - first) / 1e3}, "regions": {"gpu:0": sums}}


def codecarbon(run: Run) -> dict[str, Any]:
    """`start` and `stop` for a window; `start_task` and `stop_task` for regions."""
    from codecarbon import OfflineEmissionsTracker

    sums: dict[str, float] = {}

    def tracker(folder: str) -> Any:
        return OfflineEmissionsTracker(
            country_iso_code="FRA", save_to_file=False, log_level="critical", output_dir=folder,
            measure_power_secs=1, allow_multiple_runs=True,
        )  # fmt: skip

    with tempfile.TemporaryDirectory() as folder:
        whole, tasks = tracker(folder), tracker(folder)

        @contextlib.contextmanager
        def region(name: str) -> Iterator[None]:
            tasks.start_task()
            yield
            sums[name] = sums.get(name, 0.0) + tasks.stop_task().gpu_energy * 3.6e6

        whole.start()
        begin = time.monotonic_ns()
        run(region)
        end = time.monotonic_ns()
        whole.stop()
        joules = whole._total_gpu_energy.kWh * 3.6e6
    return {"begin": begin, "end": end, "joules": {"gpu:0": joules}, "regions": {"gpu:0": sums}}


def carbontracker(run: Run) -> dict[str, Any]:
    """One epoch is the window; there is nothing smaller. Its PUE is taken out again."""
    from carbontracker import constants
    from carbontracker.tracker import CarbonTracker

    tracker = CarbonTracker(
        epochs=1, monitor_epochs=1, update_interval=1, components="gpu", verbose=0, ignore_errors=False
    )
    thread = tracker.tracker  # it is let go with the last epoch
    tracker.epoch_start()
    begin = time.monotonic_ns()
    run(lambda name: contextlib.nullcontext())
    end = time.monotonic_ns()
    tracker.epoch_end()
    kwh = float(thread.total_energy_per_epoch().sum()) / constants.PUE_2023
    return {"begin": begin, "end": end, "joules": {"gpu:0": kwh * 3.6e6}, "regions": {}}


TOOLS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "energyprof": energyprof,
    "zeus": zeus,
    "zeus approx": zeus_approximate,
    "two reads": two_reads,
    "codecarbon": codecarbon,
    "carbontracker": carbontracker,
}
