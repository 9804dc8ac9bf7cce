"""What it costs to time regions on a real GPU, and what each way of it says: events, waiting, host time.

    python benchmarks/gpu/regions.py [--out DIR] [--quick] [--dry-run]

Needs what run_gpu.py needs; about four minutes. Three parts, each in regions.json:

* marks: microseconds of the host for a region's begin and end, on an idle stream and behind queued work;
* clock: events whose host time is known to some microseconds, mapped as those of regions are;
* training: the same bf16 Transformer plain and in the three ways, in turn; step time, and the joules of each
  region and of their sum beside the counter's, read by hand at both ends. regions.csv has a row a region.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from statistics import median, quantiles
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
MODES = ("off", "events", "sync")


def cost_of_marks(device: Any, folder: str, calls: int) -> dict[str, Any]:
    """Microseconds of an empty region, by mode; `behind`: with milliseconds of kernels queued before."""
    import torch

    import energyprof

    size = 2048 if device.type == "cuda" else 32
    square = torch.rand(size, size, device=device)
    found: dict[str, Any] = {}
    for mode in MODES:
        with energyprof.profile("marks", out=folder, quiet=True, cuda=mode) as run:
            for name, queued in (("idle", 0), ("behind", 20)):
                if device.type == "cuda":
                    torch.cuda.synchronize()
                took = []
                for call in range(calls):
                    if queued and call % 50 == 0:
                        for _ in range(queued):
                            square @ square  # the work is what counts
                    begin = time.perf_counter_ns()
                    with run.region("empty"):
                        pass
                    took.append((time.perf_counter_ns() - begin) / 1e3)
                if mode == "sync" and queued:
                    continue  # it waits for the work: that is no cost of a mark
                cuts = quantiles(took, n=100)
                found[f"{mode}, {name}"] = {
                    "median_us": round(median(took), 2),
                    "mean_us": round(sum(took) / calls, 2),
                    "p99_us": round(cuts[98], 2),
                    "most_us": round(max(took), 1),
                }
            leaving = time.perf_counter_ns()
        found[f"{mode}, leave_ms"] = round((time.perf_counter_ns() - leaving) / 1e6, 2)
        _ = run.result
    return found


def clock(seconds: float) -> dict[str, Any]:
    """Errors of mapped times: the event of an idle stream, seen by the host between two looks."""
    import numpy as np
    import torch

    from energyprof.cuda_calls import TorchCuda
    from energyprof.cuda_marks import DeviceMarks
    from energyprof.device_times import DeviceClock, read_stays
    from energyprof.journal import Journal, events

    with tempfile.TemporaryDirectory() as folder:
        log = Journal(f"{folder}/program.log")
        device = DeviceMarks(folder, "1", log, TorchCuda(torch))
        seen: list[tuple[int, int]] = []
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            torch.cuda.synchronize()
            mark = bytearray(24)
            asked_ns = time.monotonic_ns()
            mark[8:16] = asked_ns.to_bytes(8, "little")
            stay = device.begin(mark, 16)
            while stay is not None and not stay.begun.query():
                pass
            seen.append((asked_ns, time.monotonic_ns()))
            if stay is not None:
                device.end(stay)
            time.sleep(0.05)
        device.finish(5.0)
        anchors = [event for event in events(f"{folder}/program.log") if event["event"] == "cuda_anchor"]
        log.close()
        stays = read_stays(f"{folder}/device.1")
        host = DeviceClock.of(anchors)
        at, known = host.host_time(stays["begun_since"], stays["begun_ms"])
    place = np.searchsorted([asked for asked, _ in seen], stays["mark_ns"])
    low, high = (np.array([seen[k][side] for k in place]) for side in (0, 1))
    tight = known & (high - low < 100_000)
    outside = np.maximum(np.maximum(low - at, at - high), 0)[tight] / 1e3
    rates = np.diff(host.host_ns) / np.diff(host.device_ns) - 1 if len(anchors) > 1 else np.zeros(0)
    return {
        "thread": threading.get_native_id(),
        "events": len(stays),
        "anchors": len(anchors),
        "anchor_bracket_us": [round(event["took"] / 1e3, 1) for event in anchors],
        "drift_ppm": [round(1e6 * float(rate), 2) for rate in rates],
        "event_bracket_median_us": round(float(np.median(high - low)) / 1e3, 1),
        "outside_bracket_us_p50_p99_max": [round(float(np.quantile(outside, q)), 2) for q in (0.5, 0.99, 1)]
        if len(outside)
        else None,
    }


def timed(trainer: Any, gpu: Any, run: Any, steps: int) -> dict[str, Any]:
    """Train between two waits and two reads of the counter."""
    trainer.finish()
    before_mj, begin = gpu.counter_mj(), time.monotonic()
    trainer.train(run, steps)
    trainer.finish()
    step_ms = (time.monotonic() - begin) / steps * 1e3
    return {"step_ms": step_ms, "counter_j": (gpu.counter_mj() - before_mj) / 1e3}


def training(device: Any, gpu: Any, seconds: float, rounds: int, small: bool) -> list[dict[str, Any]]:
    """Rounds of trials, plain and in each mode, the order turned each time."""
    from training import Nothing, Trainer

    import energyprof

    trainer = Trainer(device, *((64, 2, 4, 32) if small else (1024, 12, 32, 512)))
    steps = trainer.steps_in(seconds)
    rows: list[dict[str, Any]] = []
    arms = ["plain", *MODES]
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for arm in arms[number % 4 :] + arms[: number % 4]:
                row: dict[str, Any] = {"round": number, "arm": arm, "steps": steps}
                if arm == "plain":
                    run = None
                    row |= timed(trainer, gpu, Nothing(), steps)
                else:
                    with energyprof.profile("regions", out=folder, quiet=True, cuda=arm) as run:
                        row |= timed(trainer, gpu, run, steps)
                if run is not None:
                    regions = run.result.regions
                    row["flags"] = ",".join(run.result.flags)
                    row["regions"] = regions[regions["channel"].str.startswith("gpu:")].to_dict("records")
                    channels = run.result.channels
                    row["run_j"] = float(channels[channels["channel"].str.startswith("gpu:")].energy_j.sum())
                rows.append(row)
    return rows


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Step time over plain, round by round; joules of each region and their sum over the counter's."""
    import pandas as pd

    plain = {row["round"]: row for row in rows if row["arm"] == "plain"}
    found: dict[str, Any] = {
        "step_ms plain": round(median(row["step_ms"] for row in plain.values()), 3),
        "counter_j plain": round(median(row["counter_j"] for row in plain.values()), 1),
    }
    for mode in MODES:
        mine = [row for row in rows if row["arm"] == mode]
        ratio = sorted(row["step_ms"] / plain[row["round"]]["step_ms"] for row in mine)
        said: dict[str, Any] = {
            "step_time_ratio": [round(ratio[0], 5), round(median(ratio), 5), round(ratio[-1], 5)]
        }
        said["flags"] = sorted({flag for row in mine for flag in row["flags"].split(",") if flag})
        said["sum_over_counter"] = []
        for row in mine:
            parts = [one["energy_j"] for one in row["regions"]]
            known = [
                part for part in parts if pd.notna(part)
            ]  # those without a figure have their reason below
            said["sum_over_counter"].append(round(sum(known) / row["counter_j"], 4))
        said["run_over_counter"] = [round(row["run_j"] / row["counter_j"], 4) for row in mine]
        for name in ("data", "forward", "backward", "optimizer"):
            ones = [one for row in mine for one in row["regions"] if one["region"] == name]
            known = [
                one for one in ones if one["energy_j"] is not None and one["energy_j"] == one["energy_j"]
            ]
            said[name] = {
                "energy_j": [round(one["energy_j"], 2) for one in known],
                "u95_j": [round(one["u95_j"], 2) for one in known],
                "host_s": [round(one["duration_s"], 3) for one in ones],
                "reasons": sorted({str(one["reason"]) for one in ones if one not in known}),
            }
        found[mode] = said
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/gpu-<name>-<date>")
    parser.add_argument("--quick", action="store_true", help="a quarter of the time, and of the certainty")
    parser.add_argument("--dry-run", action="store_true", help="load the CPU, to try the program")
    args = parser.parse_args()
    if str(REPOSITORY) not in sys.path:  # a clone that is not installed, for this process and its helpers
        sys.path.append(str(REPOSITORY))
        paths = [os.environ.get("PYTHONPATH", ""), str(REPOSITORY)]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    import pandas as pd
    import torch
    from run_gpu import open_gpu

    device, _, gpu = open_gpu(args.dry_run)
    name = re.sub(r"[^a-z0-9]+", "-", str(gpu.facts()["gpu"]).lower()).strip("-")
    now = datetime.now(timezone.utc)
    out: Path = args.out or REPOSITORY / "benchmarks" / "results" / f"gpu-{name}-{now.date().isoformat()}"
    out.mkdir(parents=True, exist_ok=True)
    torch.zeros(1, device=device)  # from here on CUDA is initialised
    scale = 0.25 if args.quick or args.dry_run else 1.0
    rows: list[dict[str, Any]] = []

    def trained() -> dict[str, Any]:
        rows.extend(training(device, gpu, 12.0 * scale, 3 if scale == 1 else 1, args.dry_run))
        return summarise(rows)

    parts: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        ("machine", lambda: gpu.facts() | {"torch": torch.__version__, "date_utc": now.isoformat()}),
        ("clock", lambda: clock(40 * scale)),
        ("training", trained),
    ]
    if args.dry_run:
        del parts[1]
    summary: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        parts.insert(1, ("marks", lambda: cost_of_marks(device, folder, round(20_000 * scale))))
        for part, measure in parts:
            print(f"{part} …", file=sys.stderr, flush=True)
            try:
                summary[part] = measure()
            except Exception as error:
                traceback.print_exc()
                summary[part] = {"error": f"{type(error).__name__}: {error}"}
            (out / "regions.json").write_text(json.dumps(summary, indent=1, default=str), encoding="utf-8")
    flat = [row | one for row in rows for one in row.get("regions", [{}])]
    frame = pd.DataFrame([{k: v for k, v in row.items() if k != "regions"} for row in flat])
    frame.to_csv(out / "regions.csv", index=False)
    print(json.dumps(summary, indent=1, default=str))
    return 1 if any("error" in part for part in summary.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
