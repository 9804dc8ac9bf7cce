"""A real bf16 Transformer training, with and without energyprof, beside two-point reads of the counter."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

WAITING = "energyprof, waiting"


class Nothing:
    """Stands where the run would, so that both arms are the same program."""

    def steps(self, them: Iterable[int]) -> Iterator[int]:
        yield from them

    def region(self, _name: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


class Trainer:
    def __init__(self, device: torch.device, dim: int, layers: int, batch: int, context: int) -> None:
        torch.manual_seed(0)
        self._device, self._shape = device, (batch, context)
        block = nn.TransformerEncoderLayer(
            dim, dim // 64, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        body = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self._model = nn.Sequential(nn.Embedding(4096, dim), body, nn.Linear(dim, 4096)).to(device)
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-4)

    def finish(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def train(self, run: Any, steps: int, wait: bool = False) -> None:
        """Train; with `wait` each region ends when its work does, not when it is launched."""
        settle = self.finish if wait else lambda: None
        for _ in run.steps(range(steps)):
            with run.region("data"):
                text = torch.randint(4096, self._shape, device=self._device)
            with run.region("forward"), torch.autocast(self._device.type, dtype=torch.bfloat16):
                loss = F.cross_entropy(self._model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
                settle()
            with run.region("backward"):
                self._optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss)
                settle()
            with run.region("optimizer"):
                self._optimizer.step()
                settle()

    def steps_in(self, seconds: float) -> int:
        """Warm up, and return how many steps take about that long."""
        self.train(Nothing(), 3)
        self.finish()
        begin = time.monotonic()
        self.train(Nothing(), 5)
        self.finish()
        return max(5, round(seconds / ((time.monotonic() - begin) / 5)))


def _timed(trainer: Trainer, gpu: Any, run: Any, steps: int, wait: bool = False) -> dict[str, Any]:
    """Train between two waits and two reads of the counter, as one does by hand."""
    trainer.finish()
    begin_mj, begin = gpu.counter_mj(), time.monotonic()
    with run.region("all steps"):
        trainer.train(run, steps, wait)
        trainer.finish()
    end_mj, seconds = gpu.counter_mj(), time.monotonic() - begin
    return {"seconds": seconds, "step_ms": seconds / steps * 1e3, "two_point_j": (end_mj - begin_mj) / 1e3}


def _plain(value: Any) -> Any:
    """A number or text as JSON knows it; what is missing is null."""
    import pandas as pd

    if isinstance(value, (list, tuple, dict)):
        return value
    if pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value


def _table(frame: Any) -> list[dict[str, Any]]:
    return [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def trial(trainer: Trainer, gpu: Any, steps: int, folder: Path | None, wait: bool = False) -> dict[str, Any]:
    """One trial: plain where `folder` is None, else under energyprof, whose dataset goes to the folder."""
    if folder is None:
        return {"arm": "plain"} | _timed(trainer, gpu, Nothing(), steps)
    import energyprof

    entered = time.monotonic()
    with energyprof.profile("bf16 training", out=str(folder), quiet=True) as run:
        started = time.monotonic()
        row = {"arm": WAITING if wait else "energyprof"} | _timed(trainer, gpu, run, steps, wait)
        leaving = time.monotonic()
    left = time.monotonic()
    result = run.result
    row |= {"enter_ms": (started - entered) * 1e3, "leave_ms": (left - leaving) * 1e3}
    row |= {
        "sealed_s": time.monotonic() - left,
        "energy_j": _plain(result.energy_j),
        "u95_j": _plain(result.u95_j),
    }
    row |= {"channels": _table(result.channels), "regions": _table(result.regions)}
    gpu_rows = [one for one in row["regions"] if str(one.get("channel")).startswith("gpu:")]
    for one in gpu_rows:
        if one["region"] == "all steps":
            row |= {"region_j": one["energy_j"], "region_u95_j": one["u95_j"]}
    return row


def trials(
    trainer: Trainer, gpu: Any, seconds: float, pairs: int, out: Path, stop: float
) -> list[dict[str, Any]]:
    """Pairs of trials, each arm first in turn; the last run's readings are kept in `out`."""
    steps = trainer.steps_in(seconds)
    rows: list[dict[str, Any]] = []
    broken = ""
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(pairs):
            arms = [None, Path(scratch)] if number % 2 == 0 else [Path(scratch), None]
            for folder in arms:
                if time.monotonic() + 1.5 * seconds > stop or (folder is not None and broken):
                    continue
                try:
                    rows.append({"pair": number, "steps": steps} | trial(trainer, gpu, steps, folder))
                except Exception as error:
                    if folder is None:
                        raise
                    broken = f"{type(error).__name__}: {error}"
                    rows.append({"pair": number, "steps": steps, "arm": "energyprof", "error": broken})
        if not broken and time.monotonic() + 2 * seconds < stop:
            try:
                last = trial(trainer, gpu, steps, Path(scratch), wait=True)
            except Exception as error:
                last = {"arm": WAITING, "error": f"{type(error).__name__}: {error}"}
            rows.append({"pair": pairs, "steps": steps} | last)
        kept = sorted(Path(scratch).glob("samples/**/*.parquet"), key=lambda file: file.stat().st_mtime)
        if kept:
            shutil.copy(kept[-1], out / "energyprof_samples.parquet")
    return rows


def _chosen(row: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    return {key: round(row[key], 3) if row.get(key) is not None else None for key in keys}


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Slow-down of a step, pair by pair, and energyprof's joules beside the two-point reads."""
    good = [row for row in rows if "error" not in row]
    step = {(row["pair"], row["arm"]): row["step_ms"] for row in good}
    ratios = sorted(
        step[pair, "energyprof"] / step[pair, "plain"]
        for pair, arm in step
        if arm == "plain" and (pair, "energyprof") in step
    )
    found: dict[str, Any] = {"errors": sorted({row["error"] for row in rows if "error" in row})}
    plain = [row for row in good if row["arm"] == "plain"]
    if plain:
        found["step_ms_plain"] = round(median(row["step_ms"] for row in plain), 3)
        found["watts_plain"] = round(
            sum(r["two_point_j"] for r in plain) / sum(r["seconds"] for r in plain), 1
        )
    if ratios:
        found["step_time_ratio_median"] = round(median(ratios), 5)
        found["step_time_ratio_range"] = [round(ratios[0], 5), round(ratios[-1], 5)]
    keys = ["two_point_j", "energy_j", "u95_j", "region_j", "region_u95_j"]
    keys += ["enter_ms", "leave_ms", "sealed_s"]
    profiled = [row for row in good if row["arm"] == "energyprof"]
    found["profiled"] = [_chosen(row, keys) for row in profiled]
    over = [
        row["region_j"] / row["two_point_j"] for row in profiled if row.get("region_j") and row["two_point_j"]
    ]
    if over:
        found["region_over_two_point"] = [round(one, 5) for one in over]
    for row in good:
        if row["arm"] == WAITING:
            found["waiting"] = _chosen(row, ["step_ms", *keys]) | {"regions": row["regions"]}
    if profiled:
        found["last_regions"], found["last_channels"] = profiled[-1]["regions"], profiled[-1]["channels"]
    return found
