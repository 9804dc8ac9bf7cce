"""A load that is known: bf16 matrix products, on and off at times that are noted."""

from __future__ import annotations

import random
import time
from typing import Any

import torch

# (name, share of the time, on and off in seconds); None: both drawn anew from 20 to 300 ms. The first four
# alias with a 100 ms sensor in different ways; the steps and the random wave tell window and lag apart.
PATTERNS: list[tuple[str, float, tuple[float, float] | None]] = [
    ("30+45 ms", 0.17, (0.030, 0.045)),
    ("50+50 ms", 0.13, (0.050, 0.050)),
    ("75+75 ms", 0.13, (0.075, 0.075)),
    ("200+200 ms", 0.13, (0.200, 0.200)),
    ("1 s steps", 0.24, (1.0, 1.0)),
    ("random", 0.20, None),
]


class Burner:
    """Keeps the device busy with chunks of about a millisecond, never letting its queue run dry."""

    def __init__(self, device: torch.device, size: int) -> None:
        self.device = device
        # Random numbers: a product of zeros draws far less power.
        self._a = torch.randn(size, size, device=device).to(torch.bfloat16)
        self._b = torch.randn(size, size, device=device).to(torch.bfloat16)
        self._out = torch.empty_like(self._a)
        self._products = 1
        for _ in range(3):
            self._chunk()
        self.finish()
        begin = time.monotonic()
        for _ in range(10):
            self._chunk()
        self.finish()
        self._products = max(1, round(0.001 / ((time.monotonic() - begin) / 10)))

    def _chunk(self) -> None:
        for _ in range(self._products):
            torch.mm(self._a, self._b, out=self._out)

    def finish(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def burn(self, seconds: float) -> tuple[int, int]:
        """Work for that long; returns begin and end (all work done) in monotonic nanoseconds."""
        begin = time.monotonic_ns()
        end = begin + int(seconds * 1e9)
        previous: Any = None
        while time.monotonic_ns() < end - 1_000_000:  # the chunk in the queue runs on for a millisecond
            self._chunk()
            if self.device.type == "cuda":
                event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
                event.record()
                if previous is not None:
                    previous.synchronize()
                previous = event
        self.finish()
        return begin, time.monotonic_ns()


def sleep_until(when_ns: int) -> None:
    """Sleep, then spin the last millisecond."""
    while (left := when_ns - time.monotonic_ns()) > 0:
        time.sleep(max(0.0, left / 1e9 - 0.001))


def square_waves(burner: Burner, seconds: float, seed: int = 0) -> list[dict[str, Any]]:
    """Run all patterns one after the other; a row for each time that the load was on."""
    draw, rows = random.Random(seed), []
    for name, share, times in PATTERNS:
        time.sleep(0.5)
        stop = time.monotonic_ns() + int(share * seconds * 1e9)
        while time.monotonic_ns() < stop:
            on, off = times or (draw.uniform(0.02, 0.3), draw.uniform(0.02, 0.3))
            begin, end = burner.burn(on)
            rows.append({"pattern": name, "on_ns": begin, "off_ns": end})
            sleep_until(begin + int((on + off) * 1e9))
    return rows
