"""Simulated sensors with known faults through the same analysis: what was put in must come out."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from analyse import Load, edges, refresh
from findings import counter_and_power, fast_against_slow, square_wave
from load import PATTERNS
from poll import COLUMNS, Arrays, poll

OFF_W, ON_W, TAU_MS, WINDOW_MS, PERIOD_MS = 120.0, 640.0, 20.0, 25.0, 100.3


def _marks(seconds: float) -> list[dict[str, Any]]:
    draw, now, rows = np.random.default_rng(1), 5e9, []
    for name, share, times in PATTERNS:
        stop = now + share * seconds * 1e9
        while now < stop:
            on, off = times or draw.uniform(0.02, 0.3, 2)
            rows.append({"pattern": name, "on_ns": int(now), "off_ns": int(now + on * 1e9)})
            now += (on + off) * 1e9
        now += 0.5e9
    return rows


class _Board:
    """Ticks with jitter; at each, a counter of the true energy, a short mean, and a mean over a second."""

    def __init__(self, load: Load, end_ns: float) -> None:
        draw = np.random.default_rng(2)
        ticks = np.arange(2.5e9, end_ns, PERIOD_MS * 1e6)
        self._tick_ns = ticks + 37e6 + draw.normal(0, 1.5e6, len(ticks))
        span = np.maximum(self._tick_ns - 2.4e9, 1.0)
        watts = OFF_W + (ON_W - OFF_W) * load.mean(self._tick_ns - span, self._tick_ns)
        self._mj = (watts * span / 1e6).astype(np.int64)
        self._mw = {
            window: ((OFF_W + (ON_W - OFF_W) * load.mean(t, self._tick_ns)) * 1e3).astype(np.int64)
            for window in (WINDOW_MS, 1000.0)
            for t in [self._tick_ns - window * 1e6]
        }

    def polled(self, begin_ns: float, end_ns: float) -> Arrays:
        draw = np.random.default_rng(3)
        before = np.cumsum(draw.uniform(0.9e6, 1.6e6, int((end_ns - begin_ns) / 1.25e6))) + begin_ns
        table = dict.fromkeys(COLUMNS, np.zeros(len(before), np.int64))
        for name, delay in (("before_ns", 0), ("middle_ns", 30_000), ("after_ns", 90_000)):
            table[name] = (before + delay).astype(np.int64)
        at_counter = np.searchsorted(self._tick_ns, before + 15_000) - 1
        at_field = np.searchsorted(self._tick_ns, before + 60_000) - 1
        table["counter_mj"] = table["field_counter_mj"] = self._mj[at_counter]
        table["instant_mw"], table["average_mw"] = (self._mw[w][at_field] for w in (WINDOW_MS, 1000.0))
        table["usage_mw"] = table["average_mw"]
        stamps = (self._tick_ns / 1e3).astype(np.int64)
        table["instant_us"] = table["average_us"] = stamps[at_field]
        kept = (self._tick_ns > begin_ns) & (self._tick_ns < end_ns)
        table |= {"sample_us": stamps[kept], "sample_mw": self._mw[WINDOW_MS][kept]}
        table |= {"sample_seen_ns": stamps[kept] * 1000, "wall_minus_monotonic_ns": np.zeros(2, np.int64)}
        return table


class _FakeGpu:
    """Answers `poll` from a constant 300 W, with a tick of 50 ms."""

    def counter_mj(self) -> int:
        return int(time.monotonic_ns() // 50_000_000 * 50) * 300

    def usage_mw(self) -> int:
        return 300_000

    def fields(self) -> list[tuple[int, int]]:
        return [(300_000, time.time_ns() // 1000), (300_000, time.time_ns() // 1000), (self.counter_mj(), 1)]

    def samples(self, since_us: int) -> list[tuple[int, int]]:
        return [(since_us + 20_000, 300_000)]


def selftest() -> int:
    """Print what was put in beside what came out; 0 where all agree."""
    failed = 0

    def check(label: str, got: float, wanted: float, within: float) -> None:
        nonlocal failed
        good = abs(got - wanted) <= within
        failed += not good
        print(f"{'ok  ' if good else 'FAIL'}  {label:<44} {got:10.3f}   wanted {wanted} ± {within}")

    marks = _marks(64)
    on, off = (np.array([row[name] for row in marks]) for name in ("on_ns", "off_ns"))
    got = _Board(Load(on, off, TAU_MS), off[-1] + 1.5e9).polled(4e9, off[-1] + 1e9)
    found = square_wave(got, marks)
    for meter in ("counter", "instant", "average"):
        check(f"{meter}: period, ms", found[meter]["period_ms"], PERIOD_MS, 0.1)
        check(f"{meter}: jitter of a gap, ms", found[meter]["gap_sd_ms"], 2.12, 0.5)
    check("driver's stamps: spacing, ms", found["instant"]["driver"]["spacing_median_ms"], PERIOD_MS, 0.5)
    for which in ("all", "1 s steps", "random"):
        fits = found[f"fit over {which}"]
        check(f"instant: window over {which}, ms", fits["instant"]["window_ms"], WINDOW_MS, 15.0)
        check(f"instant: on over {which}, W", fits["instant"]["on_w"], ON_W, 12.0)
        check(f"counter: on over {which}, W", fits["counter"]["on_w"], ON_W, 6.0)
        check(f"counter: lag and lag of first order, {which}", _delay(fits["counter"]), TAU_MS, 6.0)
    check("average: window over all, ms", found["fit over all"]["average"]["window_ms"], 1000.0, 100.0)
    check("usage is the average", found["usage_equals"]["average"], 1.0, 0.0)

    polled = poll(
        _FakeGpu(), [(0.4, 1.0), (2.0, 1000.0), (0.4, 1.0), (2.0, 1.0), (0.4, 1.0)], threading.Event()
    )
    rows = counter_and_power(polled, 1000.0)
    check("stretches between brackets", len(rows), 2, 0)
    for row in rows:
        check(f"counter read every {row['read_every_ms']:.0f} ms, W", row["counter_w"], 300.0, 1.5)
    check("read fast over read slowly", fast_against_slow(rows).get("fast_over_slow", 0.0), 1.0, 0.01)
    ticks = edges(polled["before_ns"], polled["middle_ns"], polled["counter_mj"])
    check("polled ticks, ms", refresh(ticks).get("gap_median_ms", 0.0), 50.0, 1.0)
    print("all agree" if not failed else f"{failed} disagree")
    return 1 if failed else 0


def _delay(fit: dict[str, Any]) -> float:
    return float(fit["lag_ms"]) + float(fit["tau_ms"])
