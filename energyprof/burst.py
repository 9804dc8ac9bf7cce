"""A program with known marks: bouts of work of one kind with rests between, for `doctor --self-test`.

`burst SECONDS [gpu]`: matrix products where a GPU was asked for and torch finds one, else hashing on one
processor. Lengths are random, so that no sensor's period is met.
"""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections.abc import Callable

import energyprof

GPU, CPU, REST = "matrix products on the GPU", "hashing on one processor", "rest"
_WORK_S, _REST_S = (0.03, 0.07), (0.02, 0.05)


def _gpu_work() -> Callable[[], None] | None:
    """Some milliseconds of matrix products, done when it returns; None without torch or CUDA."""
    try:
        import torch

        if not torch.cuda.is_available():
            return None
        a = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
        b = torch.randn(4096, 4096, device="cuda", dtype=torch.float16)
    except Exception:  # a driver that does not fit torch's: the processor will do
        return None

    def work() -> None:
        for _ in range(4):
            torch.mm(a, b)
        torch.cuda.synchronize()

    return work


def _cpu_work() -> None:
    hashlib.sha256(bytes(1 << 18)).digest()


def main(arguments: list[str]) -> int:
    """Work and rest in turn for so many seconds, under the run that this process is in."""
    found = _gpu_work() if "gpu" in arguments[1:] else None
    name, work = (GPU, found) if found else (CPU, _cpu_work)
    chance = random.Random()
    work()  # what happens once only is no part of it
    end = time.monotonic() + float(arguments[0])
    while time.monotonic() < end:
        with energyprof.region(name):
            until = time.monotonic() + chance.uniform(*_WORK_S)
            while time.monotonic() < until:
                work()
        with energyprof.region(REST):
            time.sleep(chance.uniform(*_REST_S))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
