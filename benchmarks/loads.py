"""What runs on the virtual machine while a tool measures: windows and loops of regions, of known power.

`burst`: idle, then a square wave of 620 W and 140 W inside the window, then idle. `busy`: the wave runs before,
through and after. Loops, all marked as regions:

    pair:MS     a of MS milliseconds at 620 W, b of one and a half times that at 140 W
    three       5, 12 and 20 ms at 620, 140 and 350 W
    locked      a and b of 50.15 ms: together the tick's period, 100.3 ms, kept to a tenth of a millisecond
    near:MS     the same with a period of MS milliseconds
    ramp        a of 60 ms, in which the power climbs from 200 to 620 W; b of 45 ms at 140 W
    throttle    30 and 45 ms; half way all powers fall by 30 %
    two         30 and 45 ms on two GPUs: 620 and 140 W, 200 and 500 W

Standard library alone: the peers' environments have nothing of ours.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

from tests.lab.truth import Truth

Marks = dict[str, list[tuple[int, int]]]
Step = tuple[str, float, tuple[tuple[str, float], ...]]  # name, seconds, watts by channel
_TICK_S = 0.1003  # of the virtual counter


def steps(mode: str) -> tuple[Step, ...]:
    """The regions of one turn of a loop."""

    def one(*parts: tuple[str, float, float]) -> tuple[Step, ...]:
        return tuple((name, seconds, (("gpu:0", watts),)) for name, seconds, watts in parts)

    kind, _, number = mode.partition(":")
    if kind == "pair":
        return one(("a", float(number) / 1e3, 620.0), ("b", 1.5 * float(number) / 1e3, 140.0))
    if kind == "three":
        return one(("a", 0.005, 620.0), ("b", 0.012, 140.0), ("c", 0.020, 350.0))
    if kind in ("locked", "near"):
        half = (_TICK_S if kind == "locked" else float(number) / 1e3) / 2
        return one(("a", half, 620.0), ("b", half, 140.0))
    if kind == "two":
        return (
            ("a", 0.030, (("gpu:0", 620.0), ("gpu:1", 200.0))),
            ("b", 0.045, (("gpu:0", 140.0), ("gpu:1", 500.0))),
        )
    if kind == "ramp":
        return one(("a", 0.060, 0.0), ("b", 0.045, 140.0))
    return one(("a", 0.030, 620.0), ("b", 0.045, 140.0))


def loop(truth: Truth, mode: str, seconds: float, region: Callable[[str], Any], marks: Marks) -> None:
    """The regions in turn; what a region draws begins with it."""
    begun = time.monotonic()
    metronome = _beat(mode)
    while time.monotonic() < begun + seconds:
        falls = 0.7 if mode == "throttle" and time.monotonic() > begun + seconds / 2 else 1.0
        for name, lasts, powers in steps(mode):
            with region(name):
                begin = time.monotonic_ns()
                if mode == "ramp" and name == "a":
                    _climb(truth, lasts)
                else:
                    for channel, watts in powers:
                        truth.set_power(channel, watts * falls, begin)
                    time.sleep(next(metronome) if metronome else lasts)
                end = time.monotonic_ns()
            marks.setdefault(name, []).append((begin, end))


def _climb(truth: Truth, seconds: float, parts: int = 12) -> None:
    for part in range(parts):
        truth.set_power("gpu:0", 200.0 + 420.0 * (part + 0.5) / parts, time.monotonic_ns())
        time.sleep(seconds / parts)


def _beat(mode: str) -> Iterator[float] | None:
    """How long to sleep to keep step with a clock; None for loops that need none."""
    if not mode.startswith(("locked", "near")):
        return None
    half = steps(mode)[0][1]

    def beats() -> Iterator[float]:
        due = time.monotonic()
        while True:
            due += half
            yield max(due - time.monotonic(), 0.0)

    return beats()


def inside(truth: Truth, mode: str, seconds: float, region: Callable[[str], Any], marks: Marks) -> None:
    """What runs inside the window that is measured."""
    if mode not in ("burst", "busy"):
        loop(truth, mode, seconds, region, marks)
        return
    if mode == "burst":
        now = time.monotonic_ns()
        truth.square_wave("gpu:0", 620.0, 140.0, 0.03, 0.045, now, now + round(seconds * 1e9))
        truth.set_power("gpu:0", 70.0, now + round(seconds * 1e9))
    time.sleep(seconds)


def before(truth: Truth, mode: str, seconds: float) -> None:
    """What runs before it, and the pause that makes the phase random."""
    if mode == "busy":
        now = time.monotonic_ns()
        truth.square_wave("gpu:0", 620.0, 140.0, 0.03, 0.045, now, now + round((seconds + 20) * 1e9))
        time.sleep(1 + random.uniform(0, 0.075))
    time.sleep(random.uniform(0, 0.2))
