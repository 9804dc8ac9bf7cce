"""Energy error against a known truth, beside the peers, on the virtual hardware of tests/lab.

    python benchmarks/accuracy.py [--trials 9] [--out FILE]

Each trial is a fresh virtual machine with a random phase (100.3 ms ticks, 1–5 ms of jitter each) and a
fresh process of one tool; see worker.py for the loads.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import facts
from tests.lab import VirtualHardware

ROOT = Path(__file__).resolve().parent.parent
TOOLS = (
    ("energyprof", "energyprof"),
    ("zeus", "zeus"),
    ("two reads", "nvidia-ml-py"),
    ("codecarbon", "codecarbon"),
)
WINDOWS_S = (0.3, 1.0, 10.0)
RAPL = ("package-0", "dram", "psys", "mmio")


def trial(
    tool: str, seconds: float, mode: str, lag_s: float = 0.0, rapl: Sequence[str] = ()
) -> dict[str, Any]:
    """One window; `error` where the tool failed."""
    with tempfile.TemporaryDirectory() as name, VirtualHardware(Path(name), gpus=1, rapl=rapl) as machine:
        machine.truth.device("gpu:0").lag_s = lag_s
        for channel, watts in (("package:0", 240.0), ("dram:0", 35.0), ("platform:0", 90.0)):
            machine.truth.set_power(channel, watts)
        # CodeCarbon looks whether this command is there before it asks NVML.
        command = Path(name) / "bin/nvidia-smi"
        command.parent.mkdir()
        command.write_text("#!/bin/sh\nexit 0\n")
        command.chmod(0o755)
        done = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks/worker.py"), tool, str(seconds), mode],
            env={
                **os.environ,
                **machine.env,
                "ENERGYPROF_OUT": f"{name}/runs",
                "PYTHONPATH": str(ROOT),
                "PATH": f"{command.parent}:{os.environ['PATH']}",
            },
            cwd=name,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )
    if done.returncode != 0 or not done.stdout.strip():
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def errors(found: Sequence[dict[str, Any]], figures: str, truths: str, name: str) -> list[float]:
    """Relative errors in per cent."""
    return [
        100 * (f[figures][name] / f[truths][name] - 1)
        for f in found
        if "error" not in f and f[figures].get(name) is not None
    ]


def covered(found: Sequence[dict[str, Any]], figures: str, half: str, truths: str, name: str) -> list[bool]:
    """Whether our intervals (without the gain, which the virtual sensors do not have) hold the truth."""
    return [
        abs(f[figures][name] - f[truths][name]) <= f[half][name]
        for f in found
        if f.get(half) and f[figures].get(name) is not None
    ]


def summary(
    found: Sequence[dict[str, Any]], figures: str, half: str, truths: str, name: str
) -> dict[str, Any]:
    failed = next((f["error"] for f in found if "error" in f), None)
    off = errors(found, figures, truths, name)
    if not off:
        return {"none": failed or "no figure"}
    hits = covered(found, figures, half, truths, name)
    return {
        "n": len(off),
        "median_abs_pct": round(statistics.median(map(abs, off)), 3),
        "worst_abs_pct": round(max(map(abs, off)), 3),
        "mean_pct": round(statistics.mean(off), 3),
        "covered": f"{sum(hits)}/{len(hits)}" if hits else None,
        "all_pct": [round(x, 3) for x in off],
    }


def windows(trials: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for mode in ("burst", "busy"):
        for seconds in WINDOWS_S:
            for tool, package in TOOLS:
                key = f"{mode} {seconds:g} s"
                if facts.installed(package) is None:
                    table.setdefault(key, {})[tool] = {"none": "not installed"}
                    continue
                found = [trial(tool, seconds, mode) for _ in range(trials)]
                row = summary(found, "joules", "u95", "truth", "gpu:0")
                table.setdefault(key, {})[tool] = row
                show(key, tool, row)
    return table


def regions(trials: int) -> dict[str, Any]:
    """10 s of 30 ms at 620 W and 45 ms at 140 W, with and without 20 ms of lag."""
    table: dict[str, Any] = {}
    for lag_s in (0.0, 0.02):
        for tool in ("energyprof", "zeus"):
            if facts.installed(tool.split()[0]) is None:
                continue
            found = [trial(tool, 10.0, "loop", lag_s) for _ in range(trials)]
            for name in ("a", "b"):
                key = f"region {name}, lag {1e3 * lag_s:.0f} ms"
                row = summary(found, "regions", "regions_u95", "regions_truth", name)
                table.setdefault(key, {})[tool] = row
                show(key, tool, row)
    return table


def processors(trials: int) -> dict[str, Any]:
    """Package and memory where psys and the mmio twin exist: nothing may be counted twice."""
    table: dict[str, Any] = {}
    found = [trial("energyprof", 1.0, "burst", rapl=RAPL) for _ in range(trials)]
    for name in ("package:0", "dram:0"):
        row = summary(found, "joules", "u95", "truth", name)
        table[f"{name}, 1 s"] = {"energyprof": row}
        show(f"{name}, 1 s", "energyprof", row)
    return table


def show(key: str, tool: str, row: dict[str, Any]) -> None:
    if "none" in row:
        print(f"{key:<24}{tool:<14}{row['none']}", flush=True)
        return
    cover = f"  covered {row['covered']}" if row["covered"] else ""
    print(
        f"{key:<24}{tool:<14}median {row['median_abs_pct']:7.2f} %  worst {row['worst_abs_pct']:7.2f} %"
        f"  mean {row['mean_pct']:+7.2f} %{cover}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=9)
    parser.add_argument("--out")
    options = parser.parse_args()
    data = {
        "trials": options.trials,
        "regions": regions(options.trials),
        "processors": processors(options.trials),
        "windows": windows(options.trials),
    }
    print(f"written to {facts.write('accuracy', data, options.out).name}")


if __name__ == "__main__":
    main()
