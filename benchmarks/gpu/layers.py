"""Layers of a GPT-2-sized model on a real GPU: FLOPs, joules in place, joules replayed, closure and MFU.

    python benchmarks/gpu/layers.py [--out DIR] [--quick] [--dry-run]

Needs torch, nvidia-ml-py, numpy, pandas and pyarrow (transformers is not used: the model is written here, with GPT-2's
sizes). About six minutes. Written: layers.json with the findings, and the rows of both ways as CSV.

What to look at: closure of the replay (the layers' sum over the measured step, which the same run measured alone);
the regressed joules in place beside the replayed ones, layer by layer; how much longer timed steps are; and MFU
beside what others report for such a model.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
GPT2 = {"width": 768, "heads": 12, "blocks": 12, "words": 50257, "batch": 16, "context": 512}
SMALL = {"width": 64, "heads": 4, "blocks": 2, "words": 500, "batch": 2, "context": 32}
CHANNEL = "gpu:0"


def train(model: Any, batch: Mapping[str, Any], steps: int, run: Any) -> None:
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    for _ in run.steps(range(steps)):
        optimizer.zero_grad(set_to_none=True)
        model(**batch)["loss"].backward()
        optimizer.step()


def in_place(model: Any, batch: Mapping[str, Any], active: int, out: str) -> Any:
    import energyprof

    with energyprof.profile(
        "in place", out=out, layers=energyprof.Schedule(10, 3, active), quiet=True
    ) as run:
        train(model, batch, active + 60, run)
    return run.result


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/gpu-<name>-<date>")
    parser.add_argument("--quick", action="store_true", help="a quarter of the time")
    parser.add_argument("--dry-run", action="store_true", help="a small model on the CPU, to try the program")
    args = parser.parse_args()
    sys.path.insert(0, str(REPOSITORY))  # a clone that is not installed
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(REPOSITORY)]))
    device, facts = _opened(args.dry_run)
    import torch
    from language import Language

    import energyprof

    name = re.sub(r"[^a-z0-9]+", "-", str(facts["gpu"]).lower()).strip("-")
    out: Path = args.out or (
        REPOSITORY / "benchmarks" / "results" / f"gpu-{name}-{datetime.now(timezone.utc).date().isoformat()}"
    )
    out.mkdir(parents=True, exist_ok=True)
    sizes = dict(SMALL if args.dry_run else GPT2)
    batch_size, context = sizes.pop("batch"), sizes["context"]
    torch.manual_seed(0)
    model = Language(**sizes).to(device)
    ids = torch.randint(sizes["words"], (batch_size, context), device=device)
    batch = {"ids": ids, "labels": ids.roll(-1, 1)}
    scale = 0.25 if args.quick or args.dry_run else 1.0
    findings: dict[str, Any] = {
        "machine": facts | {"torch": torch.__version__, "date_utc": datetime.now(timezone.utc).isoformat()},
        "model": {**sizes, "batch": batch_size, "parameters": sum(p.numel() for p in model.parameters())},
    }
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        timed = in_place(model, batch, max(20, round(300 * scale)), folder)
        findings["in_place"] = _of_run(timed)
        findings["in_place"]["took_s"] = round(time.monotonic() - begin, 1)
        timed.layers.to_csv(out / "layers_in_place.csv", index=False)
        begin = time.monotonic()
        replayed = energyprof.replay_layers(
            model, batch, out=folder, seconds=5.0 * scale, trials=6 if scale == 1.0 else 2, seed=1
        )
        replayed.layers.to_csv(out / "layers_replayed.csv", index=False)
        findings["replayed"] = {
            "closure": replayed.closure,
            "u95_closure": replayed.u95_closure,
            "step_j": replayed.step["energy_j"],
            "idle_w": replayed.idle_w,
            "notes": list(replayed.notes),
            "took_s": round(time.monotonic() - begin, 1),
        }
        findings["beside"] = _beside(timed.layers, replayed.layers)
    (out / "layers.json").write_text(json.dumps(findings, indent=1, default=str), encoding="utf-8")
    print(json.dumps(findings, indent=1, default=str))
    print(f"\nrows and layers.json: {out}")
    return 0


def _opened(dry_run: bool) -> tuple[Any, dict[str, Any]]:
    """The device and its facts; without a GPU the program ends with 2, but for a dry run."""
    import torch

    if dry_run:
        return torch.device("cpu"), {"gpu": "dry run"}
    from run_gpu import open_gpu

    device, _, gpu = open_gpu(False)
    return device, gpu.facts()


def _of_run(result: Any) -> dict[str, Any]:
    """FLOPs, how well the device was used, and what timing by layer cost."""
    from energyprof.reports.efficiency import of_run
    from energyprof.reports.layers import costliest

    rows = result.layer_rows()
    row = result.row
    step = next((r for r in rows if not r["name"] and r["phase"] == "step" and r["channel"] == "total"), {})
    return {
        "flops_model": row["flops_model"],
        "flops_hardware": row["flops_hardware"],
        "dtype": row["flops_dtype"],
        "device": row["flops_device"],
        "units": row["flops_device_units"],
        "step_s": row["step_s"],
        "timed_step_s": step.get("time_s"),
        "step_j": row["energy_per_step_j"],
        "timed_step_j": step.get("energy_j"),
        "notes": row["layer_notes"],
        "efficiency": of_run(row, rows, None),
        "costliest": costliest(rows, row["step_s"], 20),
    }


def _beside(timed: Any, replayed: Any) -> list[dict[str, Any]]:
    """Each layer's joules a step by both ways, and how the first were got."""

    def chosen(frame: Any) -> dict[str, Any]:
        mine = frame[(frame["phase"] == "step") & (frame["channel"].isin([CHANNEL, "total"]))]
        mine = mine[mine["channel"] == (CHANNEL if (mine["channel"] == CHANNEL).any() else "total")]
        return {row["name"]: row for row in mine.to_dict("records")}

    one, two = chosen(timed), chosen(replayed)
    return [
        {
            "name": name, "in_place_j": one[name]["energy_j"], "in_place_u95_j": one[name]["u95_j"],
            "method": one[name]["method"], "replayed_j": two[name]["energy_j"], "replayed_u95_j": two[name]["u95_j"],
        }
        for name in one
        if name in two
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
