"""A profiled program whose power is known: `workload.py SECONDS MODE HIGH_S LOW_S`, in a virtual machine's environment.

MODE `burst`: idle before and after, a square wave of 620 W and 140 W inside the block. MODE `busy`: the
wave runs before, through and after. Prints the run's id.
"""

from __future__ import annotations

import random
import sys
import time

import energyprof
from tests.lab.truth import Truth


def main() -> None:
    seconds, mode, high_s, low_s = float(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    truth = Truth.from_environment()
    if mode == "busy":
        now = time.monotonic_ns()
        end = now + round((seconds + 6) * 1e9)
        truth.square_wave("gpu:0", 620.0, 140.0, high_s, low_s, now, end)
        time.sleep(1 + random.uniform(0, high_s + low_s))
    time.sleep(random.uniform(0, 0.2))
    with energyprof.profile("workload", quiet=True) as run:
        if mode == "burst":
            now = time.monotonic_ns()
            truth.square_wave("gpu:0", 620.0, 140.0, high_s, low_s, now, now + round(seconds * 1e9))
            truth.set_power("gpu:0", 70.0, now + round(seconds * 1e9))
        time.sleep(seconds)
    print(run.result.run_id)


if __name__ == "__main__":
    main()
