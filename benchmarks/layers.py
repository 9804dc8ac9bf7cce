"""Joules of layers of known power, replayed and timed in place, against the truth, on virtual hardware (tests/lab).

    python benchmarks/layers.py [--trials 3] [--only replayed] [--out FILE]

Models whose layers draw a known power for a known time, forward and backward (tests/lab/layered.py), on a virtual
GPU (a counter that ticks every 100.3 ms, jittered, and a gauge that sees 25 ms of each 100 ms; with and without a
lag of power of 20 ms) and on a package's RAPL counter. Each trial is a fresh virtual machine with a random phase and a
fresh process. For each layer and pass: the error of its joules, and whether its interval (without the gain: the
virtual meters have none) holds the truth; for each trial: closure, the layers' sum against the measured step, whose
truth is 0 but for what the machine under the simulation adds. Results are kept as each trial ends.

A part is a function of a case and a seed that answers {"rows": [...], "closure": …, "u95_closure": …}; see `PARTS`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import facts
from tests.lab import VirtualHardware

ROOT = Path(__file__).resolve().parent.parent
Layers = list[tuple[str, tuple[float, float], tuple[float, float]]]  # kind, watts and ms forward, backward

# Milliseconds and watts as of blocks of a transformer on a large GPU; of a small network; and far apart.
SETS: dict[str, Layers] = {
    "alike": [("a", (520, 4), (560, 8)), ("b", (480, 6), (510, 11)), ("a", (520, 4), (560, 8))],
    "apart": [("a", (650, 3), (300, 6)), ("b", (120, 9), (150, 4)), ("c", (400, 1.5), (620, 2.5))],
    "long": [
        ("a", (500, 12), (600, 25)),
        ("b", (200, 20), (250, 30)),
        ("a", (500, 12), (600, 25)),
        ("c", (350, 8), (300, 15)),
    ],
    "short": [("a", (600, 0.8), (350, 1.2)), ("b", (200, 0.6), (500, 1.0)), ("a", (600, 0.8), (350, 1.2))],
}


@dataclass(frozen=True)
class Case:
    """One setting: a meter, a set of layers, and how long each pass is repeated in how many blocks."""

    channel: str
    layers: str
    lag_s: float = 0.0
    seconds: float = 5.0
    blocks: int = 6

    @property
    def name(self) -> str:
        lag = f", lag {1e3 * self.lag_s:.0f} ms" if self.channel.startswith("gpu") else ""
        return f"{self.channel}, {self.layers}{lag}"


# Passes of a millisecond are repeated for less long: the log of what is truly drawn holds 32,768 of them.
SHORT: dict[str, Any] = {"seconds": 2.0, "blocks": 4}
CASES = (
    *(Case("gpu:0", name, lag_s) for name in ("long", "alike", "apart") for lag_s in (0.0, 0.02)),
    *(Case("gpu:0", "short", lag_s, **SHORT) for lag_s in (0.0, 0.02)),
    *(Case("package:0", name, seconds=3.0) for name in ("long", "alike", "apart")),
    Case("package:0", "short", **SHORT),
)


def ran(case: Case, seed: int, *arguments: str) -> dict[str, Any]:
    """What a module of tests/lab says, in a fresh process on a fresh machine."""
    gpu = case.channel.startswith("gpu")
    with (
        tempfile.TemporaryDirectory() as name,
        VirtualHardware(
            Path(name), gpus=int(gpu), rapl=() if gpu else ("package-0",), idle_w=20.0, seed=seed
        ) as machine,
    ):
        machine.truth.device(case.channel).lag_s = case.lag_s
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            env={**os.environ, **machine.env, "ENERGYPROF_OUT": f"{name}/runs", "PYTHONPATH": str(ROOT)},
            cwd=name,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    if done.returncode != 0:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1][:200]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def replayed(case: Case, seed: int) -> dict[str, Any]:
    """One replay."""
    options = [case.channel, str(case.seconds), str(case.blocks), str(seed), json.dumps(SETS[case.layers])]
    found = ran(case, seed, "tests.lab.layered", *options)
    if "error" in found:
        return found
    mine = {(row["name"], row["phase"]): row for row in found["rows"] if row["channel"] == case.channel}
    step = mine["", "step"]
    return {
        "rows": [
            {
                "layer": name,
                "phase": phase,
                "truth_j": joules,
                "energy_j": mine[name, phase]["energy_j"],
                "half_j": mine[name, phase]["u_random_j"],
            }
            for name, phases in found["truth"].items()
            for phase, joules in phases.items()
        ],
        "closure": step["closure"],
        "u95_closure": step["u95_closure"],
    }


def in_place(case: Case, seed: int) -> dict[str, Any]:
    """Some hundred steps of a training, timed layer by layer."""
    found = ran(case, seed, "tests.lab.timed", case.channel, str(STEPS), json.dumps(SETS[case.layers]))
    if "error" in found:
        return found
    mine = {(row["name"], row["phase"]): row for row in found["rows"] if row["channel"] == case.channel}
    rows = []
    for label, joules in found["truth"].items():
        name, phase = label.split()
        row = mine[name, phase]
        rows.append(
            {
                "layer": name,
                "phase": phase,
                "truth_j": joules,
                "energy_j": row["energy_j"],
                "half_j": row["u_random_j"],
                "method": row["method"],
            }
        )
    return {"rows": rows, "closure": None, "u95_closure": None}


STEPS = 160
Part = Callable[[Case, int], dict[str, Any]]
PARTS: dict[str, Part] = {"replayed": replayed, "in_place": in_place}


def summary(trials: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Errors, coverage and closure over trials."""
    known = [trial for trial in trials if "rows" in trial]
    if not known:
        return {"failed": next((trial["error"] for trial in trials if "error" in trial), "no trial")}
    rows = [row for trial in known for row in trial["rows"]]
    measured = [row for row in rows if row["energy_j"] is not None and row["half_j"] is not None]
    shared = [row for row in rows if row["energy_j"] is not None and row["half_j"] is None]
    row: dict[str, Any] = {
        "trials": len(trials),
        "n": len(rows),
        "null": len(rows) - len(measured) - len(shared),
    }
    if shared:  # by a rule, without an interval
        off = sorted(abs(100 * (one["energy_j"] / one["truth_j"] - 1)) for one in shared)
        row["allocated"] = {
            "n": len(shared),
            "median_abs_pct": statistics.median(off),
            "worst_abs_pct": off[-1],
        }
    if measured:
        off = [100 * (one["energy_j"] / one["truth_j"] - 1) for one in measured]
        holds = [abs(one["energy_j"] - one["truth_j"]) <= one["half_j"] for one in measured]
        row |= {
            "median_abs_pct": round(statistics.median(map(abs, off)), 3),
            "worst_abs_pct": round(max(map(abs, off)), 3),
            "mean_pct": round(statistics.mean(off), 3),
            "covered": f"{sum(holds)}/{len(holds)}",
            "median_half_width_pct": round(
                statistics.median(100 * one["half_j"] / one["truth_j"] for one in measured), 3
            ),
        }
    closed = [trial for trial in known if trial["closure"] is not None]
    if closed:
        row |= {
            "closure_pct": [round(100 * trial["closure"], 3) for trial in closed],
            "u95_closure_pct": [round(100 * trial["u95_closure"], 3) for trial in closed],
            "closure_covered": f"{sum(abs(t['closure']) <= t['u95_closure'] for t in closed)}/{len(closed)}",
        }
    return row


def show(part: str, case: Case, row: dict[str, Any]) -> None:
    start = f"{part:<10}{case.name:<30}"
    if "median_abs_pct" not in row:
        print(f"{start}{row.get('failed') or row.get('allocated') or 'no figure'}", flush=True)
        return
    print(
        f"{start}median {row['median_abs_pct']:6.2f} %  worst {row['worst_abs_pct']:6.2f} %  "
        f"covered {row['covered']}, ± {row['median_half_width_pct']:.2f} %  "
        + (f"closure {row['closure_pct']} ± {row['u95_closure_pct']}" if "closure_pct" in row else "")
        + (f"allocated {row['allocated']}" if "allocated" in row else ""),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--only", help="parts, separated by commas")
    parser.add_argument("--case", help="cases whose name has this in it")
    parser.add_argument("--out")
    options = parser.parse_args()
    path = facts.result_path("layers", options.out)
    data: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for part, measure in PARTS.items():
        if options.only and part not in options.only.split(","):
            continue
        for case in CASES:
            if options.case and options.case not in case.name:
                continue
            kept = data.setdefault(part, {}).setdefault(case.name, {"all": []})["all"]
            while len(kept) < options.trials:
                kept.append(measure(case, len(kept) + 1))
                data[part][case.name] = {**summary(kept), "all": kept}
                facts.write("layers", data, str(path))
            show(part, case, data[part][case.name])
    print(f"written to {path.name}")


if __name__ == "__main__":
    main()
