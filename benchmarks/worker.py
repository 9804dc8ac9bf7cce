"""One window on a virtual machine, measured by one tool: `worker.py TOOL SECONDS LOAD`; prints JSON.

LOAD `burst`: idle, then a square wave of 620 W and 140 W inside the window, then idle. `busy`: the wave
runs before, through and after. `loop`: 30 ms at 620 W and 45 ms at 140 W as regions a and b of the window.
The truth is of the time between the tool's own begin and end.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.lab.truth import Truth

REGIONS = (("a", 0.030, 620.0), ("b", 0.045, 140.0))
METERED = ("gpu:0", "package:0", "dram:0")
Marks = dict[str, list[tuple[int, int]]]


def loop(truth: Truth, seconds: float, region: Callable[[str], Any], marks: Marks) -> None:
    """The two regions in turn; what a region draws begins with it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, lasts, watts in REGIONS:
            with region(name):
                begin = time.monotonic_ns()
                truth.set_power("gpu:0", watts, begin)
                time.sleep(lasts)
            marks.setdefault(name, []).append((begin, time.monotonic_ns()))


def load(truth: Truth, mode: str, seconds: float, region: Callable[[str], Any], marks: Marks) -> None:
    """What runs inside the window."""
    if mode == "loop":
        loop(truth, seconds, region, marks)
        return
    if mode == "burst":
        now = time.monotonic_ns()
        truth.square_wave("gpu:0", 620.0, 140.0, 0.03, 0.045, now, now + round(seconds * 1e9))
        truth.set_power("gpu:0", 70.0, now + round(seconds * 1e9))
    time.sleep(seconds)


def energyprof_tool(run: Callable[[Callable[[str], Any]], None]) -> dict[str, Any]:
    import energyprof

    with energyprof.profile("w", quiet=True) as profile:
        begin = time.monotonic_ns()
        run(profile.region)
        end = time.monotonic_ns()
    result = profile.result
    rows = {row["channel"]: row for row in result.rows()[1]}
    regions = {row["region"]: row for row in result.rows()[2] if row["channel"] == "gpu:0"}
    return {
        "begin": begin,
        "end": end,
        "joules": {name: row["energy_j"] for name, row in rows.items()},
        "u95": {name: row["u_random_j"] for name, row in rows.items()},
        "regions": {name: row["energy_j"] for name, row in regions.items()},
        "regions_u95": {name: row["u_random_j"] for name, row in regions.items()},
    }


def zeus_tool(run: Callable[[Callable[[str], Any]], None], approximate: bool = False) -> dict[str, Any]:
    from zeus.monitor import ZeusMonitor

    monitor = ZeusMonitor(
        gpu_indices=[0], cpu_indices=[], approx_instant_energy=approximate, sync_execution_with="cpu"
    )  # type: ignore[arg-type]
    sums: dict[str, float] = {}

    @contextlib.contextmanager
    def region(name: str) -> Any:
        monitor.begin_window(name, sync_execution=False)
        yield
        sums[name] = sums.get(name, 0.0) + monitor.end_window(name, sync_execution=False).gpu_energy[0]

    monitor.begin_window("window", sync_execution=False)
    begin = time.monotonic_ns()
    run(region)
    end = time.monotonic_ns()
    joules = monitor.end_window("window", sync_execution=False).gpu_energy[0]
    return {"begin": begin, "end": end, "joules": {"gpu:0": joules}, "regions": sums}


def zeus_approximate_tool(run: Callable[[Callable[[str], Any]], None]) -> dict[str, Any]:
    return zeus_tool(run, approximate=True)


def two_reads_tool(run: Callable[[Callable[[str], Any]], None]) -> dict[str, Any]:
    """The energy counter read at the two ends, as a script of ten lines does."""
    import pynvml

    pynvml.nvmlInit()
    board = pynvml.nvmlDeviceGetHandleByIndex(0)
    first, begin = pynvml.nvmlDeviceGetTotalEnergyConsumption(board), time.monotonic_ns()
    run(lambda name: contextlib.nullcontext())
    last, end = pynvml.nvmlDeviceGetTotalEnergyConsumption(board), time.monotonic_ns()
    return {"begin": begin, "end": end, "joules": {"gpu:0": (last - first) / 1e3}}


def codecarbon_tool(run: Callable[[Callable[[str], Any]], None]) -> dict[str, Any]:
    from codecarbon import OfflineEmissionsTracker

    with tempfile.TemporaryDirectory() as folder:
        tracker = OfflineEmissionsTracker(
            country_iso_code="FRA", save_to_file=False, log_level="critical", output_dir=folder,
            measure_power_secs=1, allow_multiple_runs=True,
        )  # fmt: skip
        tracker.start()
        begin = time.monotonic_ns()
        run(lambda name: contextlib.nullcontext())
        end = time.monotonic_ns()
        tracker.stop()
        return {"begin": begin, "end": end, "joules": {"gpu:0": tracker._total_gpu_energy.kWh * 3.6e6}}


TOOLS: dict[str, Callable[..., dict[str, Any]]] = {
    "energyprof": energyprof_tool,
    "zeus": zeus_tool,
    "zeus approx": zeus_approximate_tool,
    "two reads": two_reads_tool,
    "codecarbon": codecarbon_tool,
}


def main() -> None:
    tool, seconds, mode = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    truth = Truth.from_environment()
    if mode == "busy":
        now = time.monotonic_ns()
        truth.square_wave("gpu:0", 620.0, 140.0, 0.03, 0.045, now, now + round((seconds + 12) * 1e9))
        time.sleep(1 + random.uniform(0, 0.075))
    time.sleep(random.uniform(0, 0.2))
    logging.disable(logging.CRITICAL)
    marks: Marks = {}
    with contextlib.redirect_stdout(io.StringIO()):
        found = TOOLS[tool](lambda region: load(truth, mode, seconds, region, marks))
    channels = found["joules"] = {n: j for n, j in found["joules"].items() if n in METERED}
    found["truth"] = {name: truth.energy_j(name, found["begin"], found["end"]) for name in channels}
    found["regions_truth"] = {
        name: sum(truth.energy_j("gpu:0", begin, end) for begin, end in calls)
        for name, calls in marks.items()
    }
    print(json.dumps(found), flush=True)
    os._exit(0)  # some tools leave processes that would hold us


if __name__ == "__main__":
    main()
