"""Energy error against a known truth, beside the peers, on the virtual hardware of tests/lab.

    python benchmarks/accuracy.py [--trials 3] [--only windows,regions,...] [--out FILE]

Each trial is a fresh virtual machine with a random phase (100.3 ms ticks, 1–5 ms of jitter each) and a fresh process
of one tool, in a virtual environment of its own; see loads.py for the loads, peers.py for the tools. Results are kept
as each trial ends: started again with the same --out, it goes on. plots.py draws them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import facts, venvs
from tests.lab import VirtualHardware

ROOT = Path(__file__).resolve().parent.parent
WINDOW_TOOLS = ("energyprof", "zeus", "two reads", "codecarbon", "carbontracker")
REGION_TOOLS = ("energyprof", "zeus", "zeus approx", "codecarbon")
RAPL = ("package-0", "dram", "psys", "mmio")
LOOP_S = 10.0


@dataclass(frozen=True)
class Case:
    """One setting: its name in the results, what runs for how long, on what hardware, and who measures."""

    group: str
    name: str
    mode: str
    seconds: float = LOOP_S
    lag_s: float = 0.0
    gauge: bool = True
    gpus: int = 1
    rapl: tuple[str, ...] = ()
    tools: tuple[str, ...] = ("energyprof",)


def cases() -> Iterator[Case]:
    for mode in ("burst", "busy"):
        for seconds in (0.3, 1.0, 3.0, 10.0, 30.0):
            tools = WINDOW_TOOLS if seconds < 30 else WINDOW_TOOLS[:2]  # a long window is hard for nobody
            yield Case("windows", f"{mode} {seconds:g} s", mode, seconds, tools=tools)
    for ms in (2, 5, 10, 30, 150):
        for lag_s in (0.0, 0.02):
            tools = REGION_TOOLS if lag_s else ("energyprof",)
            yield Case(
                "regions", f"{ms} ms, lag {1e3 * lag_s:.0f} ms", f"pair:{ms}", lag_s=lag_s, tools=tools
            )
    for lag_s in (0.0, 0.02):
        yield Case(
            "counter alone", f"30 ms, lag {1e3 * lag_s:.0f} ms", "pair:30", lag_s=lag_s, gauge=False,
            tools=("energyprof", "zeus"),
        )  # fmt: skip
        for seconds in (10.0, 60.0):
            name = f"5, 12, 20 ms, {seconds:g} s, lag {1e3 * lag_s:.0f} ms"
            yield Case("counter alone", name, "three", seconds, lag_s, gauge=False)
    yield Case("loops", "5, 12, 20 ms", "three", lag_s=0.02, tools=("energyprof", "zeus"))
    yield Case("loops", "period = tick", "locked", lag_s=0.02, tools=("energyprof", "zeus"))
    yield Case("loops", "period 99 ms", "near:99", lag_s=0.02, tools=("energyprof", "zeus"))
    yield Case("loops", "period 105 ms", "near:105", lag_s=0.02, tools=("energyprof", "zeus"))
    yield Case("loops", "ramp", "ramp", lag_s=0.02, tools=("energyprof", "zeus"))
    yield Case("loops", "throttling", "throttle", lag_s=0.02, tools=("energyprof", "zeus"))
    yield Case("loops", "two GPUs", "two", lag_s=0.02, gpus=2, tools=("energyprof", "zeus"))
    yield Case("processors", "1 s", "burst", 1.0, rapl=RAPL)


def trial(case: Case, tool: str, python: str) -> dict[str, Any]:
    """One window; `error` where the tool failed."""
    with (
        tempfile.TemporaryDirectory() as name,
        VirtualHardware(Path(name), gpus=case.gpus, rapl=case.rapl) as machine,
    ):
        for index in range(case.gpus):
            board = machine.truth.device(f"gpu:{index}")
            board.lag_s = case.lag_s
            if not case.gauge:
                board.fields_supported = 0
        for channel, watts in (("package:0", 240.0), ("dram:0", 35.0), ("platform:0", 90.0)):
            machine.truth.set_power(channel, watts)
        # CodeCarbon looks whether this command is there before it asks NVML.
        command = Path(name) / "bin/nvidia-smi"
        command.parent.mkdir()
        command.write_text("#!/bin/sh\nexit 0\n")
        command.chmod(0o755)
        try:
            done = subprocess.run(
                [python, str(ROOT / "benchmarks/worker.py"), tool, str(case.seconds), case.mode],
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
                timeout=case.seconds + 120,
            )
        except subprocess.TimeoutExpired:
            return {"error": f"no answer in {case.seconds + 120:g} s"}
    if done.returncode != 0 or not done.stdout.strip():
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def rows(trials: Sequence[dict[str, Any]], metered: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """A row a figure of the meters: `gpu:0` for a window, `gpu:0 a` for a region."""
    values: dict[str, list[tuple[float | None, float, float | None]]] = {}
    for found in trials:
        for channel, truth in found.get("truth", {}).items():
            if not channel.startswith(metered):
                continue
            mine = values.setdefault(channel, [])
            mine.append((found["joules"][channel], truth, found.get("u95", {}).get(channel)))
        for channel, regions in found.get("regions", {}).items():
            for name, joules in regions.items():
                truth = found["regions_truth"].get(channel, {}).get(name)
                if truth:
                    half = found.get("regions_u95", {}).get(channel, {}).get(name)
                    values.setdefault(f"{channel} {name}", []).append((joules, truth, half))
    return {name: _row(mine) for name, mine in values.items()}


def _row(values: Sequence[tuple[float | None, float, float | None]]) -> dict[str, Any]:
    known = [(joules, truth, half) for joules, truth, half in values if joules is not None]
    off = [100 * (joules / truth - 1) for joules, truth, _ in known]
    row: dict[str, Any] = {"n": len(values), "null": len(values) - len(known)}
    if off:
        halves = [(abs(joules - truth) <= half, 100 * half / truth) for joules, truth, half in known if half]
        row |= {
            "median_abs_pct": round(statistics.median(map(abs, off)), 3),
            "worst_abs_pct": round(max(map(abs, off)), 3),
            "mean_pct": round(statistics.mean(off), 3),
            "all_pct": [round(x, 3) for x in off],
        }
        if halves:
            row["covered"] = f"{sum(hit for hit, _ in halves)}/{len(halves)}"
            row["median_half_width_pct"] = round(statistics.median(width for _, width in halves), 3)
    return row


def show(case: Case, tool: str, table: dict[str, dict[str, Any]]) -> None:
    for name, row in table.items():
        start = f"{case.group:<14}{case.name:<26}{tool:<14}{name:<12}"
        if "median_abs_pct" not in row:
            print(f"{start}no figure in {row['n']}", flush=True)
            continue
        cover = (
            f"  covered {row['covered']}, ± {row['median_half_width_pct']:.2f} %" if "covered" in row else ""
        )
        null = f"  ({row['null']} null)" if row["null"] else ""
        print(
            f"{start}median {row['median_abs_pct']:8.2f} %  worst {row['worst_abs_pct']:8.2f} %{cover}{null}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--only", help="groups of cases, separated by commas")
    parser.add_argument("--venvs", type=Path, default=venvs.default_folder())
    parser.add_argument("--out")
    options = parser.parse_args()
    path = facts.result_path("accuracy", options.out)
    data: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    data["trials"] = options.trials
    chosen = [case for case in cases() if not options.only or case.group in options.only.split(",")]
    for case in chosen:
        for tool in case.tools:
            place = data.setdefault(case.group, {}).setdefault(case.name, {})
            if tool in place and "failed" not in place[tool]:
                continue
            try:
                python = venvs.python_of(tool, options.venvs)
            except OSError as fault:
                place[tool] = {"failed": str(fault)}
                continue
            found = [trial(case, tool, python) for _ in range(options.trials)]
            table = rows(found, ("gpu", "package", "dram") if case.rapl else ("gpu",))
            place[tool] = table or {"failed": next((f["error"] for f in found if "error" in f), "no figure")}
            if table:
                show(case, tool, table)
            else:
                print(f"{case.group:<14}{case.name:<26}{tool:<14}{place[tool]['failed']}", flush=True)
            facts.write("accuracy", data, str(path))
    print(f"written to {path.name}")


if __name__ == "__main__":
    main()
