"""The layer logs of a run's folder as arrays: units, steps, switches, counts. Reads what is whole."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energyprof import journal
from energyprof.device_times import DeviceClock, on_device, read_stays
from energyprof.reasons import DEVICE_TIMES
from energyprof.runlog import RunLog, gpu_of

Times = NDArray[np.int64]
_LOG = re.compile(r"layers\.(\d+(?:_\d+)?)\.log")


@dataclass(frozen=True)
class Step:
    """One call of the model until the next; `times_ns` and `layers` are its switches where it was active."""

    begin_ns: int
    end_ns: int
    mode: str
    active: bool
    hooked: bool
    times_ns: Times
    layers: NDArray[np.int64]


@dataclass
class LayerLog:
    """What one process noted of its model.

    `units` are [name, class, what it computes]; `counted` has the counts by signature, `occurred` how often
    each signature ran, `sizes` its mode and the shapes of its inputs, `counting` the spans in which FLOPs were counted.
    """

    stem: str
    rank: int = 0
    thread: int = 0
    units: list[list[str]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    counted: dict[int, dict[str, Any]] = field(default_factory=dict)
    occurred: dict[int, int] = field(default_factory=dict)
    sizes: dict[int, tuple[str, list[list[int]]]] = field(default_factory=dict)
    counting: list[tuple[int, int]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    device: dict[str, Times] = field(default_factory=dict)  # by channel: the times of all active switches
    flags: set[str] = field(default_factory=set)

    @property
    def active(self) -> list[Step]:
        """The timed steps of the mode that most of them had."""
        found = [step for step in self.steps if step.active and len(step.times_ns) > 1]
        if not found:
            return []
        mode, _ = Counter(step.mode for step in found).most_common(1)[0]
        return [step for step in found if step.mode == mode]

    @property
    def apart(self) -> list[tuple[int, int]]:
        """The time that no mean may hold: counting, and steps that were followed."""
        return self.counting + [(step.begin_ns, step.end_ns) for step in self.steps if step.hooked]


def load(folder: str, run: RunLog) -> list[LayerLog]:
    """The layer logs of every process of the program."""
    ranks = {process.stem: process.rank for process in run.processes}
    found = []
    for name in sorted(os.listdir(folder)):
        if match := _LOG.fullmatch(name):
            log = _one(os.path.join(folder, name), match[1], ranks.get(match[1], 0), folder, run)
            found.append(log)
    return found


def _one(path: str, stem: str, rank: int, folder: str, run: RunLog) -> LayerLog:
    log, cuda, counts = LayerLog(stem, rank), [], dict[int, int]()
    for event in journal.events(path):
        kind = event.get("event")
        if kind == "thread":
            log.thread = int(event["thread"])
        elif kind == "units":
            log.units = event["units"]
        elif kind == "step":
            log.steps.append(_step(event))
        elif kind == "counting":
            log.counting.append((int(event["begin"]), int(event["end"])))
        elif kind == "counted":
            number = int(event["signature"])
            counts[number] = counts.get(number, 0) + 1
            log.counted[number] = _mean(log.counted.get(number), event, counts[number])
        elif kind == "occurred":
            log.occurred = {int(row[0]): int(row[1]) for row in event["signatures"]}
            log.sizes = {int(row[0]): (str(row[2]), row[3]) for row in event["signatures"]}
        elif kind == "note":
            log.notes.append(str(event["text"]))
        elif kind == "flag":
            log.flags.add(str(event["flag"]))
        elif kind in ("cuda_device", "cuda_anchor"):
            cuda.append(event)
    log.device = _device_times(log, cuda, folder, run)
    return log


def _mean(before: dict[str, Any] | None, event: dict[str, Any], count: int) -> dict[str, Any]:
    """The mean of what was counted so far and of one more count: steps may depend on their data."""
    if before is None:
        return event
    columns, named = event["columns"], event["columns"].index("name")
    known = {row[named]: row for row in before["rows"]}
    rows = []
    for row in event["rows"]:
        old = known.pop(row[named], row)
        rows.append([a + (b - a) / count if name in _MEANS else b for name, a, b in zip(columns, old, row)])
    return {**event, "rows": rows + list(known.values())}


_MEANS = {"calls", "activations", "flops_forward", "flops_backward", "flops_recompute", "bytes", "own_flops"}


def _step(event: dict[str, Any]) -> Step:
    begin = int(event["begin"])
    times = np.array(event.get("times", ()), np.int64) + begin
    layers = np.array(event.get("layers", ()), np.int64)
    whole = bool(event["active"]) and len(times) == len(layers)
    return Step(
        begin, int(event["end"]), str(event["mode"]), whole, bool(event["hooked"]), times, layers
    )  # fmt: skip


def _device_times(log: LayerLog, cuda: list[dict[str, Any]], folder: str, run: RunLog) -> dict[str, Times]:
    """When each switch of the active steps happened on each GPU that recorded events."""
    active = log.active
    if not active:
        return {}
    times = np.concatenate([step.times_ns for step in active])
    thread = np.full(len(times), log.thread, np.int64)
    stays = read_stays(os.path.join(folder, f"device.layers.{log.stem}"))
    found: dict[str, Times] = {}
    for device in np.unique(stays["device"]).tolist():
        mine = [event for event in cuda if event.get("device") == device]
        clock = DeviceClock.of([event for event in mine if event["event"] == "cuda_anchor"])
        name = gpu_of(next((str(event.get("uuid", "")) for event in mine), ""), run.streams)
        if name is None:
            log.flags.add(DEVICE_TIMES)
            continue
        begin, _, whole = on_device(stays[stays["device"] == device], clock, thread, times, times)
        found[name] = np.maximum.accumulate(np.minimum(begin, run.last_ns))
        if not whole:
            log.flags.add(DEVICE_TIMES)
    return found
