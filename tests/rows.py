"""Rows of runs as a comparison reads them, drawn from known distributions; and datasets of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energyprof import store
from energyprof.compare import Comparison, Effect
from energyprof.evidence import Evidence
from energyprof.schema import CHANNELS, RUNS
from energyprof.selection import Group

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
BEGAN = datetime(2026, 11, 20, 9, tzinfo=timezone.utc)
BOARD = {"model": "NVIDIA A100-SXM4-80GB", "uuid": "GPU-1", "driver": "550.54"}


def normal(chance: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Of standard deviation one."""
    return chance.standard_normal(n)


def heavy(chance: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Student's t with three degrees of freedom, scaled to a standard deviation of one: now and then a run far out."""
    return chance.standard_t(3, n) / 3**0.5


def run_id(number: int) -> str:
    """A UUIDv7 of the minute in which the run of that number began."""
    stamp = f"{int((BEGAN + timedelta(minutes=number)).timestamp() * 1e3):012x}"
    return f"{stamp[:8]}-{stamp[8:]}-7{number % 4096:03x}-8000-{number:012x}"


def row(number: int = 0, **told: Any) -> dict[str, Any]:
    """A finished run with all columns of the schema; what is not told is None or plain."""
    joules = told.get("energy_j", 1000.0)
    usual = {
        "run_id": run_id(number), "node": "n", "name": "run", "status": "finished", "duration_s": 10.0,
        "started_utc": BEGAN + timedelta(minutes=number), "energy_j": joules, "method": "counter",
        "u95_j": None if joules is None else 0.05 * joules, "u_gain_j": None if joules is None else 0.05 * joules,
        "flags": "", "hardware": BOARD["model"], "torch": "2.13.0", "python": "3.11", "energyprof": "0.1.0",
        "tags": "{}", "metrics": "{}", "missing": "[]", "command": '["train.py"]', "t0_ns": 0, "ranks": 1,
    }  # fmt: skip
    return {**{name: None for name, _, _ in RUNS}, **usual, **told}


def channel(run: Mapping[str, Any], board: Mapping[str, Any] = BOARD, **told: Any) -> dict[str, Any]:
    """The one channel of a run, with all its joules."""
    usual = {
        "run_id": run["run_id"], "node": run["node"], "channel": "gpu:0", "energy_j": run["energy_j"],
        "u_gain_j": run["u_gain_j"], "method": "counter", "in_total": True, "device": json.dumps(board), "flags": "",
    }  # fmt: skip
    return {**{name: None for name, _, _ in CHANNELS}, **usual, **told}


def on_one_board(groups: Sequence[Group], board: Mapping[str, Any] = BOARD) -> Evidence:
    """The evidence of runs that one GPU's counter measured."""
    return Evidence({run["run_id"]: [channel(run, board)] for group in groups for run in group.runs})


def drawn(
    label: str, chance: np.random.Generator, n: int, factor: float = 1.0, noise: float = 0.02, draw: Draw = normal,
    first: int = 0,
) -> Group:  # fmt: skip
    """`n` runs of a training: power by `factor`; noise of time and power makes `noise` of the joules."""
    seconds = 60.0 * np.exp(0.6 * noise * draw(chance, n))
    watts = 300.0 * factor * np.exp(0.8 * noise * draw(chance, n))
    accuracy = 0.9 + 0.01 * draw(chance, n)
    return Group(
        label,
        tuple(
            row(
                first + i, name=label, energy_j=t * w, duration_s=t, power_w=w, steps=100,
                energy_per_step_j=t * w / 100, samples=6400.0, flops_model=1e15,
                tokens=1e6 * float(np.exp(1e-3 * chance.standard_normal())), co2e_g=t * w / 3.6e6 * 56,
                co2e_lo_g=t * w / 3.6e6 * 30, co2e_hi_g=t * w / 3.6e6 * 100, intensity_g_per_kwh=56.0,
                intensity_place="FRA", metrics=json.dumps({"accuracy": a}),
            )
            for i, (t, w, a) in enumerate(zip(seconds.tolist(), watts.tolist(), accuracy.tolist()))
        ),
    )  # fmt: skip


def following(
    chance: np.random.Generator, n: int, correlation: float, factor: float = 1.0
) -> NDArray[np.float64]:
    """Joules of steps that follow one another: an AR(1) series about 10 J with a standard deviation of 5 %."""
    from scipy.signal import lfilter

    noise = chance.standard_normal(n + 500) * (1 - correlation**2) ** 0.5
    series: NDArray[np.float64] = lfilter([1.0], [1.0, -correlation], noise)[500:]
    return 10.0 * factor * (1 + 0.05 * series)


def written(out: Path, runs: Sequence[Mapping[str, Any]], board: Mapping[str, Any] = BOARD) -> Path:
    """A dataset of runs with a channel each; where a run has joules."""
    for run in runs:
        date, stem = run["started_utc"].date().isoformat(), f"{run['run_id']}.{run['node']}"
        store.write(store.file_path(str(out), "runs", date, stem), store.table_of("runs", [run]))
        if run["energy_j"] is not None:
            data = store.table_of("channels", [channel(run, board)])
            store.write(store.file_path(str(out), "channels", date, stem), data)
    return out


def with_steps(
    out: Path, run: Mapping[str, Any], energy_j: NDArray[np.float64], duration_s: float = 0.1
) -> None:
    """The steps of a run that is in the dataset."""
    columns = {
        "run_id": run["run_id"], "node": run["node"], "rank": 0, "row_kind": "step", "region": "step", "depth": 0,
        "channel": "total", "step": np.arange(len(energy_j)), "duration_s": np.full(len(energy_j), duration_s),
        "energy_j": energy_j, "flags": "",
    }  # fmt: skip
    path = store.file_path(
        str(out), "intervals", run["started_utc"].date().isoformat(), f"{run['run_id']}.n.0"
    )
    store.write(path, store.table_of("intervals", columns))


def of(found: Comparison, metric: str, group: str | None = None) -> Effect:
    """The effect of a metric, of a group where there are several."""
    return next(e for e in found.effects if e.metric == metric and group in (None, e.group))


def two(a: list[float], b: list[float], **told: Any) -> tuple[Group, Group]:
    """Runs with these joules."""
    joules = [*a, *b]
    rows = [row(i, energy_j=e, name="ab"[i >= len(a)], **told) for i, e in enumerate(joules)]
    return Group("a", tuple(rows[: len(a)])), Group("b", tuple(rows[len(a) :]))
