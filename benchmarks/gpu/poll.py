"""The polling process: reads the meters at a given pace beside the load, and keeps every reading.

A process of its own, because a thread beside the load would wait for the interpreter's lock. Its clock is
`time.monotonic_ns()`, which all processes of a Linux machine share.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
from array import array
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

COLUMNS = (
    *("segment", "before_ns", "middle_ns", "after_ns", "counter_mj"),
    *("instant_mw", "instant_us", "average_mw", "average_us", "field_counter_mj", "usage_mw"),
)
_USAGE_EVERY = 20  # rounds; the old call is there only to see which of the two fields it equals
_SAMPLES_EVERY_NS = 1_000_000_000
Arrays = dict[str, npt.NDArray[np.int64]]


def poll(gpu: Any, schedule: list[tuple[float, float]], stop: threading.Event) -> Arrays:
    """Read all meters through a schedule of (seconds, milliseconds between reads); -1 is "not read".

    A round: the counter between `before` and `middle`, the three fields between `middle` and `after`.
    """
    rows, buffered = array("q"), array("q")
    offset_ns = time.time_ns() - time.monotonic_ns()
    next_samples_ns, last_us = time.monotonic_ns(), time.time_ns() // 1000
    samples_on, rounds = True, 0
    for segment, (seconds, period_ms) in enumerate(schedule):
        next_ns = time.monotonic_ns()
        end_ns = next_ns + int(seconds * 1e9)
        while next_ns < end_ns and not stop.is_set():
            before = time.monotonic_ns()
            counter = gpu.counter_mj()
            middle = time.monotonic_ns()
            (instant, instant_us), (average, average_us), (field_counter, _) = gpu.fields()
            after = time.monotonic_ns()
            usage = gpu.usage_mw() if rounds % _USAGE_EVERY == 0 else -1
            rows.extend((segment, before, middle, after, counter, instant, instant_us))
            rows.extend((average, average_us, field_counter, usage))
            rounds += 1
            if samples_on and after >= next_samples_ns:
                try:
                    for stamp_us, value in gpu.samples(last_us):
                        buffered.extend((after, stamp_us, value))
                        last_us = max(last_us, stamp_us)
                except Exception:  # not supported: the rest is still worth having
                    samples_on = False
                next_samples_ns = after + _SAMPLES_EVERY_NS
            next_ns = max(next_ns + int(period_ms * 1e6), time.monotonic_ns())
            # At least a short sleep, so that the load keeps its core; at most 50 ms, so that a stop is seen.
            while (left := min(next_ns, end_ns) - time.monotonic_ns()) > 0 and not stop.is_set():
                time.sleep(min(left / 1e9, 0.05))
    table = np.array(rows, dtype=np.int64).reshape(-1, len(COLUMNS))
    found: Arrays = {name: table[:, i] for i, name in enumerate(COLUMNS)}
    kept = np.array(buffered, dtype=np.int64).reshape(-1, 3)
    found |= {"sample_seen_ns": kept[:, 0], "sample_us": kept[:, 1], "sample_mw": kept[:, 2]}
    found["wall_minus_monotonic_ns"] = np.array([offset_ns, time.time_ns() - time.monotonic_ns()])
    return found


class Poller:
    """Runs `poll` in a process of its own while the block lasts; then `readings` holds what it read."""

    def __init__(self, uuid: str, folder: Path, schedule: list[tuple[float, float]]) -> None:
        self._file = folder / "_poll.npz"
        self._command = [sys.executable, __file__, uuid, str(self._file), json.dumps(schedule)]
        self.readings: Arrays = {}

    def __enter__(self) -> Poller:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            self._process.kill()
            raise RuntimeError("the polling process did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._process.communicate(timeout=30)  # closes its standard input, which ends it
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        if self._process.returncode == 0:
            with np.load(self._file) as loaded:
                self.readings = {name: loaded[name] for name in loaded.files}
        elif kind is None:
            raise RuntimeError(f"the polling process failed with exit code {self._process.returncode}")
        self._file.unlink(missing_ok=True)


def main(uuid: str, file: str, schedule: str) -> None:
    from nvml import Gpu

    gpu, stop = Gpu(uuid), threading.Event()
    gpu.counter_mj()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    gc.disable()
    print("ready", flush=True)
    np.savez(file, **poll(gpu, json.loads(schedule), stop))  # type: ignore[arg-type]


if __name__ == "__main__":
    main(*sys.argv[1:])
