"""The programs that cost.py times, each run in a fresh process of a tool's own environment.

`main` takes PROGRAM TOOL JSON and prints one line `RESULT {...}`. Nothing but the standard library is imported before a
program asks for it, and torch comes last on the path: a tool's own libraries are found first.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.cost_tools import TOOLS
from benchmarks.processes import pss_mb, rss_mb

TORCH = "BENCHMARK_TORCH"


def start(name: str, block_s: float) -> dict[str, float]:
    """Two runs in one process, torch imported: milliseconds to start, to leave, until stored, until read; memory."""
    import torch  # noqa: F401

    before = rss_mb()
    tool = TOOLS[name]()
    found: dict[str, float] = {}
    for which in ("cold", "second"):
        times = [time.perf_counter()]
        tool.start()
        times.append(time.perf_counter())
        time.sleep(block_s)
        if which == "cold":
            found["own_mb"] = rss_mb() - before
            others = [pid for pid in tool.meters() if pid != os.getpid()]
            found["others_pss_mb"] = sum(map(pss_mb, others))
            found["others_rss_mb"] = sum(map(rss_mb, others))
        for step in (lambda: None, tool.stop, tool.sealed, tool.result):
            step()
            times.append(time.perf_counter())
        begin, started, left_from, left, sealed, read = times
        found[f"{which}_start_ms"] = 1e3 * (started - begin)
        found[f"{which}_leave_ms"] = 1e3 * (left - left_from)
        found[f"{which}_sealed_ms"] = 1e3 * (sealed - left)
        found[f"{which}_read_ms"] = 1e3 * (read - sealed)
    return found


def regions(name: str, count: int) -> dict[str, float]:
    """Microseconds of a region's enter and exit, and of an iteration of steps; less those of an empty call or loop."""
    tool = TOOLS[name]()
    if name != "codecarbon":  # its tasks have a tracker of their own
        tool.start()
    empty = _timed(lambda: None, max(count, 10_000))
    tool.once()
    taken = sorted(_timed(tool.once, count))
    base = statistics.median(empty)
    found = {
        "region_us": (statistics.median(taken) - base) / 1e3,
        "region_p99_us": (taken[int(0.99 * len(taken))] - base) / 1e3,
    }
    if name == "codecarbon":
        return found

    def loop(items: Any) -> float:
        begin = time.perf_counter()
        for _ in items:
            pass
        return 1e6 * (time.perf_counter() - begin) / count

    found["step_us"] = statistics.median(loop(tool.steps(range(count))) for _ in range(3)) - loop(
        range(count)
    )
    tool.stop()
    return found


def _timed(call: Callable[[], Any], count: int) -> list[int]:
    now, taken = time.perf_counter_ns, [0] * count
    for i in range(count):
        begin = now()
        call()
        taken[i] = now() - begin
    return taken


def hold(name: str, period: float | None = None) -> dict[str, Any]:
    """Start, say which processes meter, and sleep until whoever asked closes our input."""
    if name == "sleeping loop":
        print(f"READY {json.dumps([os.getpid()])}", flush=True)
        while True:
            time.sleep(period or 0.1)
    tool = TOOLS[name](**({} if period is None else {"period": period}))
    tool.start()
    time.sleep(2)  # what is started late is there now
    print(f"READY {json.dumps(tool.meters())}", flush=True)
    sys.stdin.read()
    tool.stop()
    return {}


def train(name: str, pairs: int, seconds: float) -> list[dict[str, float]]:
    """Plain and measured in turn, in one process: median and mean of the steps' times, in milliseconds."""
    tool = TOOLS[name]()
    step = _training()
    _run(step, seconds / 2)
    found = []
    for number in range(pairs):
        pair: dict[str, float] = {}
        for measured in (False, True) if number % 2 else (True, False):
            side = "measured" if measured else "plain"
            if measured:
                tool.start()
            times = _run(step, seconds, tool if measured else None)
            if measured:
                tool.end()  # sealing is not during the loop: it has a row of its own
            pair[f"{side}_median_ms"], pair[f"{side}_mean_ms"] = _summary(times)
        found.append(pair)
    return found


def train_plain(name: str, seconds: float) -> dict[str, float]:
    """The loop alone, for who measures it from outside."""
    step = _training()
    _run(step, seconds / 4)
    median, mean = _summary(_run(step, seconds))
    return {"median_ms": median, "mean_ms": mean}


def _training() -> Callable[[Any], None]:
    """A step of a small Transformer, some ten milliseconds, in one thread: more would wait for one another."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(96, 4, 384, dropout=0.0, batch_first=True, norm_first=True)
    model = nn.TransformerEncoder(block, 2, enable_nested_tensor=False)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    data = torch.randn(8, 32, 96)

    def step(tool: Any) -> None:
        if tool is None:
            loss = model(data).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return
        with tool.region("forward"):
            loss = model(data).square().mean()
        with tool.region("backward"):
            optimizer.zero_grad()
            loss.backward()
        with tool.region("optimizer"):
            optimizer.step()

    return step


def _run(step: Callable[[Any], None], seconds: float, tool: Any = None) -> list[float]:
    """The times of steps, without those of the first fifth: a process that starts beside us is then there."""
    times, now = [], time.perf_counter()
    begin, end = now + seconds / 5, now + seconds
    endless = iter(lambda: now < end, False)
    for _ in tool.steps(endless) if tool else endless:
        step(tool)
        last, now = now, time.perf_counter()
        if last >= begin or now >= end:  # at least one
            times.append(now - last)
    return times


def _summary(times: list[float]) -> tuple[float, float]:
    return 1e3 * statistics.median(times), 1e3 * statistics.mean(times)


def disk(name: str, block_s: float) -> dict[str, float]:
    """Bytes that a short run leaves in the working folder."""
    tool = TOOLS[name]()
    tool.start()
    time.sleep(block_s)
    tool.stop()
    tool.sealed()
    return {
        "run_bytes": sum(
            f.stat().st_size for f in Path().rglob("*") if f.is_file() and "_journal" not in f.parts
        )
    }


PROGRAMS = {
    "start": start,
    "regions": regions,
    "hold": hold,
    "train": train,
    "train_plain": train_plain,
    "disk": disk,
}


def main() -> None:
    program, tool, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    if TORCH in os.environ:
        sys.path.append(os.environ[TORCH])
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    found = PROGRAMS[program](tool, **options)
    print("RESULT", json.dumps(found), flush=True)
