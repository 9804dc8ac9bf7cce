"""A dataset of runs of which every figure can be drawn, without a program that runs for it: power of a known shape,
calls of regions, layers, a forecast, a quality."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from energyprof import store
from energyprof.reports.stored import StoredRun, one
from energyprof.schema import INTERVALS, LAYERS
from tests.rows import channel, row, written

_S = 1_000_000_000
NAMES = ("base", "base", "new", "new")


def run_of(number: int, name: str, **told: Any) -> dict[str, Any]:
    """A run of 10 s: 200 W, in its middle 8 s 300 W, of a GPU; a little from run to run."""
    joules = 2800.0 * (0.9 if name == "new" else 1.0) * (1 + 0.002 * number)
    return row(
        number,
        **{
            "name": name, "energy_j": joules, "u95_j": 0.05 * joules, "u_gain_j": 0.04 * joules,
            "u_tick_j": 0.03 * joules, "t0_ns": _S, "t1_ns": 11 * _S, "steps": 50, "steps_total": 100,
            "forecast_energy_j": 2 * joules, "forecast_lo_j": 1.8 * joules, "forecast_hi_j": 2.3 * joules,
            "metrics": json.dumps({"accuracy": 0.9 + 0.01 * number}), **told,
        },
    )  # fmt: skip


def dataset(out: Path) -> Path:
    """Four runs: two of `base`, two of `new`; the last has layers too."""
    runs = [run_of(number, name) for number, name in enumerate(NAMES)]
    written(out, runs)
    for run in runs:
        _write(out, "intervals", run, _regions(run))
        _write(out, "samples", run, _samples(run))
        _write(
            out,
            "channels",
            run,
            [channel(run, u95_j=run["u95_j"], u_tick_j=run["u_tick_j"], refresh_ms=100.0)],
        )
    _write(out, "layers", runs[-1], _layers(runs[-1]))
    return out


def _write(out: Path, table: str, run: Mapping[str, Any], rows: Any) -> None:
    date, stem = run["started_utc"].date().isoformat(), f"{run['run_id']}.{run['node']}"
    store.write(store.file_path(str(out), table, date, stem), store.table_of(table, rows))


def _regions(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    nothing = {name: None for name, _, _ in INTERVALS}
    keys = {"run_id": run["run_id"], "node": run["node"], "rank": 0, "channel": "total", "flags": ""}
    rows = []
    for path, begin, lasts, share in (("load", 1, 1, 0.1), ("train", 2, 8, 0.85), ("train/step", 2, 6, 0.7)):
        place = {
            **nothing,
            **keys,
            "region": path,
            "depth": path.count("/"),
            "calls": 1,
            "duration_s": float(lasts),
        }
        joules = share * run["energy_j"]
        rows.append({**place, "row_kind": "region", "energy_j": joules, "u95_j": 0.06 * joules})
        rows.append({**place, "row_kind": "call", "begin_ns": begin * _S})
    return rows


def _samples(run: Mapping[str, Any]) -> dict[str, Any]:
    seconds = np.arange(0.5, 11.6, 0.1)
    watts = np.where((seconds >= 2) & (seconds < 10), 300.0, 200.0) * run["energy_j"] / 2800.0
    joules = np.concatenate(([0.0], np.cumsum(0.1 * watts[:-1])))
    return {
        "run_id": run["run_id"], "node": run["node"], "channel": "gpu:0", "quantity": "energy", "unit": "uJ",
        "t_ns": (seconds * _S).astype(np.int64), "took_ns": np.full(len(seconds), 1000),
        "value": (1e6 * joules).astype(np.int64),
    }  # fmt: skip


def _layers(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    nothing = {name: None for name, _, _ in LAYERS}
    keys = {
        "run_id": run["run_id"], "node": run["node"], "rank": 0, "source": "replayed", "model": "Net", "phase": "step",
        "channel": "total",
    }  # fmt: skip
    parts = (("", "Net", 10.0), ("0", "Linear", 6.0), ("head", "Linear", 3.0))
    return [{**nothing, **keys, "name": n, "class": c, "energy_j": j, "u95_j": 0.1 * j} for n, c, j in parts]


def gathered(out: Path | str) -> list[StoredRun]:
    """All runs of a dataset, with what is drawn of them."""
    data = store.Dataset(str(out))
    return [one(data, run) for run in store.runs(str(out)).rows]
