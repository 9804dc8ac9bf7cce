"""A profiled program whose power is known: `workload.py SECONDS MODE HIGH_S LOW_S`, in a virtual machine's environment.

On a machine of several boards all draw the same.

MODE `burst`: idle before and after, a square wave of 620 W and 140 W inside the block. MODE `busy`: the
wave runs before, through and after. MODE `loop`: the two halves of the wave are the regions a and b, and
their true joules by board are printed, as JSON; else the run's id.
"""

from __future__ import annotations

import json
import random
import sys
import time

import energyprof
from tests.lab.truth import Truth


def boards_of(truth: Truth) -> list[str]:
    return [f"gpu:{number}" for number in range(truth.lab.gpus)]


def loop(
    truth: Truth, run: energyprof.Run, seconds: float, durations_s: tuple[float, float]
) -> dict[str, dict[str, float]]:
    """Regions a (620 W) and b (140 W) in turn; what each truly drew, by board."""
    boards = boards_of(truth)
    calls: list[tuple[str, int, int]] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for name, watts, lasts in zip("ab", (620.0, 140.0), durations_s):
            with run.region(name):
                begin = time.monotonic_ns()
                for board in boards:
                    truth.set_power(board, watts, begin)
                time.sleep(lasts)
            calls.append((name, begin, time.monotonic_ns()))
    joules = {board: {"a": 0.0, "b": 0.0} for board in boards}
    for name, begin, last in calls:
        for board in boards:
            joules[board][name] += truth.energy_j(board, begin, last)
    return joules


def main() -> None:
    seconds, mode, high_s, low_s = float(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    truth = Truth.from_environment()
    if mode == "busy":
        now = time.monotonic_ns()
        end = now + round((seconds + 6) * 1e9)
        for board in boards_of(truth):
            truth.square_wave(board, 620.0, 140.0, high_s, low_s, now, end)
        time.sleep(1 + random.uniform(0, high_s + low_s))
    time.sleep(random.uniform(0, 0.2))
    drawn = None
    with energyprof.profile("workload", quiet=True) as run:
        if mode == "loop":
            drawn = loop(truth, run, seconds, (high_s, low_s))
            seconds = 0.0
        if mode == "burst":
            now = time.monotonic_ns()
            for board in boards_of(truth):
                truth.square_wave(board, 620.0, 140.0, high_s, low_s, now, now + round(seconds * 1e9))
                truth.set_power(board, 70.0, now + round(seconds * 1e9))
        time.sleep(seconds)
    run_id = run.result.run_id  # waits until it is stored
    print(run_id if drawn is None else json.dumps(drawn))


if __name__ == "__main__":
    main()
