"""The folder of a run as a meter and a program would have left it, from a simulated world."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from energyprof.collectors.base import Channel
from energyprof.journal import Journal
from energyprof.marks import _HEADER, _MAGIC
from tests.simulate import World

PID, THREAD = 4242, 77
COUNTER = Channel("gpu:0", "energy", "counter", "GPU board", gain_u95=0.05)
_BASE_NS = 10**12


def written(run: World, folder: Path, names: tuple[str, ...] = ("a", "b"), segment: int = 4096) -> str:
    """A run with the world's regions inside one region `all`, in segments of so many marks; the counter is
    read just before and just after each tick."""
    folder.mkdir(parents=True)
    begin, end = run.line.t_ns[:-1] + _BASE_NS, run.line.t_ns[1:] + _BASE_NS
    first, last = int(begin[0]), int(end[-1])
    facts = {
        "run_id": "01930000-0000-7000-8000-00000000000f", "node": "n", "out": str(folder / "out"), "t_ns": first,
        "started_unix_ns": 1_790_000_000_000_000_000, "boot_id": "b", "command": [], "name": "simulated",
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts))
    program = Journal(str(folder / f"program.{PID}.log"))
    program.event("enter", t=first, pid=PID, rank=0)
    program.event("path", id=1, parent=0, name="all", kind="region")
    for number, name in enumerate(names):
        program.event("path", id=number + 2, parent=1, name=name, kind="region")
    program.event("leave", t=last)
    program.close()
    inside = run.line.state >= 0
    rows = np.column_stack((run.line.state[inside] + 2, begin[inside], end[inside]))
    rows = np.concatenate(([[1, rows[0, 1] - 1000, rows[-1, 2] + 1000]], rows))
    for number in range(0, len(rows), segment):
        data = _HEADER.pack(_MAGIC, 0, THREAD, 0) + rows[number : number + segment].astype(np.int64).tobytes()
        name = f"marks.{PID}.{THREAD}.{number // segment}"
        (folder / name).write_bytes(data)
    meter = Journal(str(folder / f"meter.{PID}.log"))
    channels = [dataclasses.asdict(COUNTER)]
    meter.event("meter", pid=PID, channels=channels, followed=[0], missing=[])
    ticks = run.ticks
    value = 1_000_000 + np.round(np.concatenate(([0.0], np.cumsum(ticks.gain_j))) * 1e6).astype(np.int64)
    for at, low, high, before, after in zip(
        ticks.at_ns + _BASE_NS, ticks.low_s, ticks.high_s, np.concatenate(([0], value[:-1])), value
    ):
        meter.reading(0, int(at - low * 1e9) - 1000, int(at - low * 1e9), int(before))
        meter.reading(0, int(at + high * 1e9) - 1000, int(at + high * 1e9), int(after))
    meter.close()
    return str(folder)


def marks_on_disk(folder: str) -> int:
    """Bytes of marks that are left."""
    return sum(os.path.getsize(os.path.join(folder, n)) for n in os.listdir(folder) if n.startswith("marks."))
