"""Long runs: a million region marks sealed, and a day of a thousand marks a second, folded as it goes.

    python benchmarks/scale.py [--hours 24] [--out FILE]

A simulated program (no clock, no hardware) runs two short regions in turn, 0.8 ms at 620 W and 1.2 ms at 140 W, on a
device with 20 ms of lag; its counter ticks every 100.3 ms and is read around each tick, as the meter does. What is
measured: processor time and memory of sealing in a fresh process, the bytes that lie on disk, and the error.
The day takes about a quarter of an hour, most of it to simulate and to fold, which a real run does as it goes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks import facts
from energyprof import store
from energyprof.collectors.base import Channel
from energyprof.fold import fold
from energyprof.journal import Journal
from energyprof.marks import _HEADER, _MAGIC
from energyprof.shares import OUTSIDE, Shares, Timeline

SECONDS_A, SECONDS_B = 0.0008, 0.0012
WATTS = np.array([70.0, 620.0, 140.0])  # outside, a, b
LAG_S, TICK_S = 0.02, 0.1003
STRETCH_S = 300
SEGMENT = 65536
PID, THREAD = 4242, 77
COUNTER = Channel("gpu:0", "energy", "counter", "GPU board", gain_u95=0.05)
SEAL = """
import resource, sys, time
sys.path.insert(0, sys.argv[1])
from energyprof import runlog, seal
from energyprof.attribution import kind_rows
from energyprof.metering import meters_of
begun = time.process_time()
seal.seal(sys.argv[2])
whole = time.process_time() - begun
peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
log = runlog.load(sys.argv[2])
meters, _ = meters_of(log.streams, log.lost, seal._spans(log))
begun = time.process_time()
sums = seal._sums(log, meters)
solved = seal._solved(log, meters, seal._spans(log))
kind_rows(meters, log.kinds, sums, solved)
attributed = time.process_time() - begun
print(f'{{"seal_s": {whole:.2f}, "attribution_s": {attributed:.2f}, "peak_mb": {peak_mb:.0f}}}')
"""


class Program:
    """A run's folder that grows, stretch by stretch, on one clock and one counter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.chance = np.random.default_rng(0)
        self.now_s, self.value_j, self.ticks, self.segments = 1000.0, 0.0, 0, 0
        self.truth_j = np.zeros(3)
        run = {
            "run_id": "01930000-0000-7000-8000-00000000000f", "node": "n", "out": str(folder / "out"),
            "t_ns": int(self.now_s * 1e9), "started_unix_ns": time.time_ns(), "boot_id": "b", "command": [],
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps(run))
        self.program = Journal(str(folder / f"program.{PID}.log"))
        self.program.event("enter", t=run["t_ns"], pid=PID, rank=0)
        for ident, name in ((1, "a"), (2, "b")):
            self.program.event("path", id=ident, parent=0, name=name, kind="region")
        self.meter = Journal(str(folder / f"meter.{PID}.log"))
        self.meter.event("meter", pid=PID, channels=[dataclasses.asdict(COUNTER)], followed=[0], missing=[])

    def run(self, seconds: float) -> None:
        """Go on for so long."""
        pairs = int(seconds / (SECONDS_A + SECONDS_B))
        lasts = np.array([SECONDS_A, SECONDS_B, 2e-5]) * (1 + 0.05 * self.chance.standard_normal((pairs, 3)))
        ends = self.now_s + np.cumsum(lasts.ravel())
        t_ns = np.concatenate(([self.now_s], ends)) * 1e9
        line = Timeline(t_ns.astype(np.int64), np.tile([0, 1, OUTSIDE], pairs))
        self._mark(line)
        self._count(line)
        self.now_s = float(ends[-1])

    def _mark(self, line: Timeline) -> None:
        inside = line.state >= 0
        rows = np.column_stack((line.state[inside] + 1, line.t_ns[:-1][inside], line.t_ns[1:][inside]))
        for first in range(0, len(rows), SEGMENT):
            data = (
                _HEADER.pack(_MAGIC, 0, THREAD, 0) + rows[first : first + SEGMENT].astype(np.int64).tobytes()
            )
            (self.folder / f"marks.{PID}.{THREAD}.{self.segments}").write_bytes(data)
            self.segments += 1

    def _count(self, line: Timeline) -> None:
        shares = Shares(line, np.array([OUTSIDE, 0, 1]))
        begin, end = float(line.t_ns[0]) / 1e9, float(line.t_ns[-1]) / 1e9
        number = np.arange(int(np.ceil(begin / TICK_S)), int(end / TICK_S))
        ticked = number * TICK_S + self.chance.uniform(0.001, 0.005, len(number))
        passed = shares.until(np.append(ticked, end) * 1e9, LAG_S)[0] @ WATTS
        for at, energy in zip(ticked.tolist(), passed[:-1].tolist()):
            after_mj = int((self.value_j + energy) * 1e3)
            early, late = self.chance.uniform(0.001, 0.004, 2)
            self._read(at - early, self.ticks)
            self._read(at + late, after_mj)
            self.ticks = after_mj
        self.value_j += float(passed[-1])
        self.truth_j += shares.during(LAG_S) @ WATTS

    def _read(self, at_s: float, value_mj: int) -> None:
        after = int(at_s * 1e9)
        self.meter.reading(0, after - 30_000, after, value_mj * 1000)

    def end(self) -> None:
        self.program.event("leave", t=int(self.now_s * 1e9))
        self.program.close()
        self.meter.close()

    def bytes_on_disk(self, prefix: str = "") -> int:
        return sum(
            f.stat().st_size for f in self.folder.iterdir() if f.is_file() and f.name.startswith(prefix)
        )


def sealed(program: Program) -> dict[str, Any]:
    """Seal in a fresh process; its time and memory, and how far the regions are off."""
    root = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", SEAL, root, str(program.folder)], capture_output=True, text=True, check=True
    )
    row: dict[str, Any] = json.loads(done.stdout)
    rows = store.read(store.files(str(program.folder / "out"), "intervals"), "intervals").rows
    for number, name in enumerate("ab", start=1):
        (found,) = (r for r in rows if r["region"] == name and r["channel"] == "gpu:0")
        if found["energy_j"] is None:
            row[f"error_{name}_pct"] = found["reason"]
            continue
        row[f"error_{name}_pct"] = round(100 * (found["energy_j"] / float(program.truth_j[number]) - 1), 3)
        row[f"u95_{name}_pct"] = round(100 * found["u_random_j"] / float(program.truth_j[number]), 3)
    return row


def million(folder: Path) -> dict[str, Any]:
    program = Program(folder)
    program.run(1000.0)
    program.end()
    return {"marks": 1_000_000, **sealed(program)}


def day(folder: Path, hours: float) -> dict[str, Any]:
    """Fold every five minutes what is half a minute old, as the meter does."""
    program = Program(folder)
    stretches, folding_s, most = int(hours * 3600 / STRETCH_S), 0.0, 0
    for number in range(stretches):
        program.run(STRETCH_S)
        program.meter.flush()
        most = max(most, program.bytes_on_disk())
        begun = time.process_time()
        if number:  # the first stretch waits for the second, so that what is young is never folded
            fold(str(folder), int((program.now_s - 30) * 1e9))
        folding_s += time.process_time() - begun
        print(
            f"{(number + 1) * STRETCH_S / 3600:6.2f} h  {program.bytes_on_disk() / 1e6:7.1f} MB", flush=True
        )
    program.end()
    return {
        "hours": hours,
        "marks": int(stretches * STRETCH_S * 1000),
        "disk_mb": round(program.bytes_on_disk() / 1e6, 1),
        "disk_most_mb": round(most / 1e6, 1),
        "marks_mb": round(program.bytes_on_disk("marks.") / 1e6, 1),
        "folds_mb": round(program.bytes_on_disk("fold.") / 1e6, 1),
        "readings_mb": round(program.bytes_on_disk("meter.") / 1e6, 1),
        "folding_cpu_pct": round(100 * folding_s / (hours * 3600), 3),
        **sealed(program),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        data = {"million": million(Path(name) / "million")}
        print(data["million"], flush=True)
        data["day"] = day(Path(name) / "day", options.hours)
    print(data["day"])
    print(f"written to {facts.write('scale', data, options.out).name}")


if __name__ == "__main__":
    main()
