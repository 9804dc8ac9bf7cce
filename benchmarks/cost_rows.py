"""The rows of the cost benchmark: each times its tools in turn, round by round, and gives values by figure and tool."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cost_place import ROOT, Place, ProgramFault
from benchmarks.processes import cpu_s, pss_mb, rss_mb, wakes
from benchmarks.scale import SEAL
from energyprof.journal import READING, blocks

# figure -> tool -> one value a round (or a slice of time)
Values = dict[str, dict[str, list[float]]]
TOOLS = ("energyprof", "zeus", "codecarbon")
IMPORTS = {
    "energyprof": "from energyprof import profile",
    "zeus": "from zeus.monitor import ZeusMonitor",
    "codecarbon": "from codecarbon import OfflineEmissionsTracker",
}


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    imports: int = 15
    starts: int = 6
    block_s: float = 1.5
    regions: int = 4
    calls: int = 100_000
    tasks: int = 40
    hold_s: float = 20.0
    memory: int = 1
    memory_s: float = 10.0
    hours: float = 24.0
    pairs: int = 9
    loop_s: float = 2.5


QUICK = Effort(3, 2, 1.0, 2, 5_000, 5, 4.0, 1, 4.0, 1.0, 2, 1.0)


class Table:
    """Collects values; a tool that failed is left out from then on and named."""

    def __init__(self) -> None:
        self.values: Values = {}
        self.failed: dict[str, str] = {}

    def add(self, tool: str, figures: dict[str, float]) -> None:
        for figure, value in figures.items():
            self.values.setdefault(figure, {}).setdefault(tool, []).append(value)

    def attempt(self, tool: str, call: Callable[[], dict[str, float]]) -> None:
        if tool in self.failed:
            return
        try:
            self.add(tool, call())
        except (ProgramFault, OSError) as fault:
            self.failed[tool] = str(fault)


def turns(rounds: int, tools: tuple[str, ...]) -> Iterator[str]:
    """Every tool once a round, each round begun by another: none is always first."""
    for number in range(rounds):
        first = number % len(tools)
        yield from tools[first:] + tools[:first]


def imports(place: Place, effort: Effort) -> Table:
    """Milliseconds over the same interpreter without the import, the two one after the other."""
    table = Table()
    for tool in turns(effort.imports, TOOLS):
        table.attempt(tool, lambda tool=tool: {"import_ms": _import_ms(place, tool)})  # type: ignore[misc]
    return table


def _import_ms(place: Place, tool: str) -> float:
    taken = []
    for code in ("pass", IMPORTS[tool]):
        begin = time.perf_counter()
        process = place.start([place.python(tool), "-c", code])
        _, fault = process.communicate()
        taken.append(1e3 * (time.perf_counter() - begin))
        if process.returncode != 0:
            raise ProgramFault((fault.strip().splitlines() or ["it failed"])[-1][:200])
    return taken[1] - taken[0]


def starts(place: Place, effort: Effort) -> Table:
    """Start, leave, stored, read; cold (the first of a process) and second; what memory that adds."""
    table = Table()
    for tool in turns(effort.starts, TOOLS):
        table.attempt(tool, lambda tool=tool: place.program("start", tool, block_s=effort.block_s))  # type: ignore[misc]
    return table


def regions(place: Place, effort: Effort) -> Table:
    """One enter and exit inside a run, median and 99th percentile of calls; an iteration of steps."""
    table = Table()
    counts = {"zeus": effort.calls // 10, "zeus gpu": effort.calls // 5, "codecarbon": effort.tasks}
    for tool in turns(effort.regions, ("energyprof", "zeus gpu", "zeus", "codecarbon")):
        count = counts.get(tool, effort.calls)
        table.attempt(tool, lambda tool=tool, count=count: place.program("regions", tool, count=count))  # type: ignore[misc]
    return table


def meter(place: Place, effort: Effort) -> Table:
    """Processor time of whoever meters, in ms a second, slice by slice; all tools over the same seconds."""
    table = Table()
    for rate, period, steady in (("10 Hz", 0.1, False), ("50 Hz", 0.02, False), ("10 Hz steady", 0.1, True)):
        with place.beside(period, steady) as other:
            _meter(other, rate, period, effort, table)
    return table


def _meter(where: Place, rate: str, period: float, effort: Effort, table: Table) -> None:
    """One pace: of the GPU's counter, of the sleeping loop, and what CodeCarbon is asked for."""
    held: dict[str, tuple[subprocess.Popen[str], list[int]]] = {}
    for tool in ("sleeping loop", *TOOLS):
        options = {"period": period} if tool in ("sleeping loop", "codecarbon") else {}
        try:
            held[tool] = where.held(tool, **options)
        except (ProgramFault, OSError) as fault:
            table.failed[f"{tool}, {rate}"] = str(fault)
    time.sleep(2)
    begun_ns = time.monotonic_ns()
    for figures in _slices({tool: pids for tool, (_, pids) in held.items()}, effort.hold_s):
        for tool, (cpu, woken) in figures.items():
            table.add(tool, {f"cpu_ms_per_s, {rate}": cpu, f"wakes_per_s, {rate}": woken})
    if "energyprof" in held:
        folder = next(where.folder.glob("work*/runs/_journal/*"), None)
        if folder:
            reads, took = _reading(folder, begun_ns, int(effort.hold_s * 1e9))
            table.add("energyprof", {f"reads_per_s, {rate}": reads, f"reading_ms_per_s, {rate}": took})
    for tool, (process, _) in held.items():
        if tool == "sleeping loop":
            process.kill()
        process.communicate()


def _slices(metering: dict[str, list[int]], seconds: float) -> Iterator[dict[str, tuple[float, float]]]:
    def now(pids: list[int]) -> tuple[float, float, float]:
        return time.monotonic(), sum(map(cpu_s, pids)), float(sum(map(wakes, pids)))

    last = {tool: now(pids) for tool, pids in metering.items()}
    for _ in range(10):
        time.sleep(seconds / 10)
        figures = {}
        for tool, pids in metering.items():
            at, cpu, woken = now(pids)
            took = at - last[tool][0]
            figures[tool] = (1e3 * (cpu - last[tool][1]) / took, (woken - last[tool][2]) / took)
            last[tool] = at, cpu, woken
        yield figures


def _reading(folder: Path, begun_ns: int, lasts_ns: int) -> tuple[float, float]:
    """Reads a second, and the milliseconds a second spent inside them: driver, binding and file reads."""
    taken: set[tuple[int, int]] = set()  # channels of one group share the time of their read
    for path in folder.glob("meter.*.log"):
        for block in blocks(str(path)):
            if isinstance(block, bytes):
                for _, _, took_ns, after_ns, _ in READING.iter_unpack(block):
                    if 0 <= after_ns - begun_ns < lasts_ns:
                        taken.add((after_ns, took_ns))
    return len(taken) / (lasts_ns / 1e9), sum(took for _, took in taken) / 1e6 / (lasts_ns / 1e9)


def memory(place: Place, effort: Effort) -> Table:
    """MB after some seconds of a run, torch not imported; and of the metering process over a simulated day."""
    table = Table()
    for tool in turns(effort.memory, ("nothing", *TOOLS)):
        table.attempt(tool, lambda tool=tool: _held_memory(place, tool, effort.memory_s))  # type: ignore[misc]
    return table


def _held_memory(place: Place, tool: str, seconds: float) -> dict[str, float]:
    process, pids = place.held(tool)
    time.sleep(max(seconds - 2, 0))
    others = [pid for pid in pids if pid != process.pid]
    found = {"program_rss_mb": rss_mb(process.pid), "program_pss_mb": pss_mb(process.pid)}
    if others:
        found |= {"meter_rss_mb": sum(map(rss_mb, others)), "meter_pss_mb": sum(map(pss_mb, others))}
    process.communicate()
    return found


def disk(place: Place, effort: Effort) -> Table:
    """A minute and a day of the real meter on a clock of ours, sealed in a fresh process; what peers write."""
    table = Table()
    for tool in ("zeus", "codecarbon"):
        table.attempt(tool, lambda tool=tool: _kilobytes(place, tool))  # type: ignore[misc]
    for name, hours in (("minute", 1 / 60), ("day", effort.hours)):
        table.attempt("energyprof", lambda name=name, hours=hours: _simulated(place, name, hours))  # type: ignore[misc]
    return table


def _kilobytes(place: Place, tool: str) -> dict[str, float]:
    size = place.program("disk", tool, block_s=2.0)["run_bytes"] / 1e3
    return {"minute_kb": size, "day_kb": size}  # a line a run


def _simulated(place: Place, name: str, hours: float) -> dict[str, float]:
    out = place.folder / f"day-{name}"
    script = str(ROOT / "benchmarks/cost_day.py")
    found = _json(place.start([sys.executable, script, str(hours), str(out)]), "RESULT ")
    sealed = _json(place.start([sys.executable, "-c", SEAL, str(ROOT), found["folder"]]), "")
    stored = sum(path.stat().st_size for path in out.rglob("*.parquet")) / 1e3
    figures = {
        f"{name}_hours": hours,
        f"{name}_journal_kb": 1e3 * found["journal_mb"],
        f"{name}_kb": stored,
        f"{name}_seal_s": sealed["seal_s"],
        f"{name}_seal_rss_mb": sealed["peak_mb"] * 1.048576,
    }
    if name == "day":
        figures |= {f"{name}_meter_{key}": found[key] for key in ("rss_10s_mb", "rss_end_mb", "pss_end_mb")}
    return figures


def _json(process: subprocess.Popen[str], after: str) -> dict[str, Any]:
    out, fault = process.communicate()
    if process.returncode != 0:
        raise ProgramFault((fault.strip().splitlines() or ["it failed"])[-1][:200])
    found: dict[str, Any] = json.loads(out.strip().splitlines()[-1].removeprefix(after))
    return found


def training(place: Place, effort: Effort) -> Table:
    """Per cent that a training step takes longer, measured over plain, pair by pair; `nothing` is plain over plain."""
    table = Table()
    parts = 3 if effort.pairs % 3 == 0 else 1
    for tool in turns(parts, ("nothing", *TOOLS)):
        try:
            pairs = place.program("train", tool, pairs=effort.pairs // parts, seconds=effort.loop_s)
        except ProgramFault as fault:
            table.failed[tool] = str(fault)
            continue
        for pair in pairs:
            of = {kind: pair[f"measured_{kind}_ms"] / pair[f"plain_{kind}_ms"] for kind in ("median", "mean")}
            table.add(tool, {f"{kind}_pct": 100 * (ratio - 1) for kind, ratio in of.items()})
            table.add(tool, {"plain_step_ms": pair["plain_median_ms"]})
    under = (sys.executable, "-c", "from energyprof.cli import main; main()", "run", "-q")
    for number in range(effort.pairs):
        sides = [("plain", ()), ("run", under)]
        table.attempt(
            "energyprof run", lambda sides=sides[:: 1 - 2 * (number % 2)]: _outside(place, dict(sides), effort)  # type: ignore[misc]
        )  # fmt: skip
    return table


def _outside(place: Place, sides: dict[str, tuple[str, ...]], effort: Effort) -> dict[str, float]:
    took = {
        side: place.program("train_plain", "energyprof", before, seconds=effort.loop_s)
        for side, before in sides.items()
    }
    return {
        "median_pct": 100 * (took["run"]["median_ms"] / took["plain"]["median_ms"] - 1),
        "mean_pct": 100 * (took["run"]["mean_ms"] / took["plain"]["mean_ms"] - 1),
        "plain_step_ms": took["plain"]["median_ms"],
    }
