"""Datasets of trainings as a dataset would have them: readings, phases, steps, regions and layers that add up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energyprof import store
from energyprof.schema import CHANNELS, INTERVALS, LAYERS
from tests.rows import BOARD, row

PHASES = (("load", 0.1, 90.0), ("train", 0.75, 620.0), ("evaluate", 0.15, 410.0))  # share of time, watts
PARTS = (("forward", 0.3), ("backward", 0.5), ("optimizer", 0.15))
MODULES = (
    ("", "GPT2", 0, 1.0), ("embed", "Embedding", 1, 0.08), ("blocks.0", "Block", 1, 0.4),
    ("blocks.0.attention", "Attention", 2, 0.15), ("blocks.0.mlp", "MLP", 2, 0.22), ("blocks.1", "Block", 1, 0.4),
    ("head", "Linear", 1, 0.1),
)  # fmt: skip


def training(
    out: Path, number: int, name: str = "base", seconds: float = 60.0, factor: float = 1.0, hz: float = 10.0,
    steps: int = 200, layers: bool = True, epochs: int = 0, **told: Any,
) -> dict[str, Any]:  # fmt: skip
    """Write one run of a GPU's counter and a modelled memory; returns its row.

    Of its training each of the epochs has nine parts of ten, one after the other, and a validation the last tenth of
    its own.
    """
    t0 = 10**12 + number * 10**9
    t_s, watts = _power(seconds, hz, factor, number)
    gpu = float(np.sum(watts) / hz)
    dram = 6.0 * seconds
    joules = gpu + dram
    usual = {
        "name": name, "duration_s": seconds, "energy_j": joules, "u95_j": 0.05 * joules, "u_gain_j": 0.049 * joules,
        "u_random_j": 0.01 * joules, "u_tick_j": 0.008 * joules, "u_sampling_j": 0.0, "u_regression_j": 0.0,
        "u_model_j": 0.005 * joules, "method": "counter+modelled", "measured_j": gpu, "modelled_j": dram,
        "power_w": joules / seconds, "co2e_g": joules / 3.6e6 * 56, "co2e_lo_g": joules / 3.6e6 * 30,
        "co2e_hi_g": joules / 3.6e6 * 100, "intensity_g_per_kwh": 56.0, "intensity_lo_g_per_kwh": 30.0,
        "intensity_hi_g_per_kwh": 100.0, "intensity_place": "FRA", "intensity_place_name": "France",
        "intensity_year": 2025, "intensity_source": "Ember, yearly electricity data", "intensity_scope": "direct",
        "pue": 1.2, "pue_lo": 1.1, "pue_hi": 1.4, "pue_source": "given", "embodied_g": 3.1, "embodied_lo_g": 1.9,
        "embodied_hi_g": 5.0, "embodied_source": "A100, 150 kg over 5 years", "steps": steps,
        "energy_per_step_j": 0.75 * gpu / max(steps, 1), "samples": 32.0 * steps, "flops_model": 2.1e15,
        "metrics": json.dumps({"accuracy": round(0.9 + 0.002 * (number % 7), 4)}), "os": "Linux 6.8",
        "git_commit": "0123abcd", "t0_ns": t0, "t1_ns": t0 + round(seconds * 1e9), "boot_id": "b", "exit_code": 0,
        "cwd": "/home/someone", "tags": json.dumps({"model": "gpt2"}),
        "missing": json.dumps([{"source": "rapl", "reason": "no_permission", "detail": "energy_uj: permission denied",
                                "remedy": "sudo chmod o+r /sys/class/powercap/*/energy_uj"}]),
        "flags": "no_permission",
    }  # fmt: skip
    run = row(number, **{**usual, **told})
    channels = [
        _channel(run, "gpu:0", gpu, "counter", "GPU board with its memory", 0.05),
        _channel(run, "dram:0", dram, "modelled", "memory", 0.5),
    ]
    _write(out, run, "runs", [run])
    _write(out, run, "channels", channels)
    _write(out, run, "samples", _samples(run, t_s, watts))
    _write(out, run, "intervals", [*_intervals(run, joules, steps), *_epochs(run, epochs)], ".0")
    if layers:
        _write(out, run, "layers", _layers(run), ".0")
    return run


def _power(
    seconds: float, hz: float, factor: float, number: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    count = max(3, round(seconds * hz))
    t_s = np.arange(count) / hz
    ends = np.cumsum([share for _, share, _ in PHASES]) * seconds
    levels = np.array([watts for *_, watts in PHASES])
    chance = np.random.default_rng(number)
    watts = levels[np.minimum(np.searchsorted(ends, t_s, "right"), len(PHASES) - 1)] * factor
    noisy: NDArray[np.float64] = watts * (1 + 0.06 * chance.standard_normal(count)) + 25 * np.sin(t_s * 2.1)
    return t_s, np.maximum(noisy, 20.0)


def _samples(run: Mapping[str, Any], t_s: Any, watts: Any) -> dict[str, Any]:
    at = run["t0_ns"] + np.round(np.append(t_s, run["duration_s"]) * 1e9).astype(np.int64)
    value = np.concatenate(([0.0], np.cumsum(watts * np.diff(at) / 1e9))) * 1e6
    return {
        "run_id": run["run_id"], "node": run["node"], "t_ns": at, "took_ns": np.full(len(at), 20_000),
        "channel": "gpu:0", "quantity": "energy", "value": np.round(value).astype(np.int64),
    }  # fmt: skip


def _channel(
    run: Mapping[str, Any], name: str, joules: float, method: str, scope: str, gain: float
) -> dict[str, Any]:
    told = {
        "run_id": run["run_id"], "node": run["node"], "channel": name, "energy_j": joules, "u95_j": gain * joules,
        "u_gain_j": gain * joules, "u_random_j": 0.01 * joules, "method": method, "in_total": True, "scope": scope,
        "gain_u95": gain, "tick_ms": 100.0, "refresh_ms": 100.0, "device": json.dumps(BOARD), "flags": "",
    }  # fmt: skip
    return {**{column: None for column, _, _ in CHANNELS}, **told}


def _intervals(run: Mapping[str, Any], joules: float, steps: int) -> list[dict[str, Any]]:
    names = {column: None for column, _, _ in INTERVALS}
    base = {**names, "run_id": run["run_id"], "node": run["node"], "rank": 0, "channel": "total", "flags": ""}
    weights = [share * watts for _, share, watts in PHASES]
    found: list[dict[str, Any]] = []
    begin = 0.0
    for (phase, share, _), weight in zip(PHASES, weights):
        part, lasted = 0.97 * joules * weight / sum(weights), share * run["duration_s"]
        figure = {"duration_s": lasted, "energy_j": part, "u95_j": 0.05 * part, "method": "counter"}
        found.append({**base, "row_kind": "region", "region": phase, "depth": 0, "calls": 1, **figure})
        at = run["t0_ns"] + round(begin * 1e9)
        found.append(
            {**base, "row_kind": "call", "region": phase, "depth": 0, "begin_ns": at, "duration_s": lasted}
        )
        if phase == "train":
            for inner, of in PARTS:
                figure = {"duration_s": of * lasted, "energy_j": of * part, "u95_j": 0.06 * of * part}
                kind = {"row_kind": "region", "region": f"train/{inner}", "depth": 1, "calls": steps}
                found.append({**base, **kind, **figure, "method": "regressed"})
            each = lasted / max(steps, 1)
            for step in range(steps):
                at = run["t0_ns"] + round((begin + step * each) * 1e9)
                energy = part / steps * (1 + 0.03 * np.sin(step))
                found.append({**base, "row_kind": "step", "region": "step", "step": step, "begin_ns": at,
                              "duration_s": each, "energy_j": float(energy)})  # fmt: skip
        begin += lasted
    return found


def _epochs(run: Mapping[str, Any], epochs: int) -> list[dict[str, Any]]:
    names = {column: None for column, _, _ in INTERVALS}
    base = {**names, "run_id": run["run_id"], "node": run["node"], "rank": 0, "channel": "total", "flags": ""}
    (_, before, _), (_, share, _), _ = PHASES
    found = []
    for epoch in range(epochs):
        each = share * run["duration_s"] / epochs
        begin = before * run["duration_s"] + epoch * each
        for region, depth, at, lasted in (("epoch", 1, 0.0, 0.9), ("epoch/validate", 2, 0.81, 0.09)):
            when = {"begin_ns": run["t0_ns"] + round((begin + at * each) * 1e9), "duration_s": lasted * each}
            what = {"row_kind": "call", "region": f"train/{region}", "depth": depth, "calls": 1}
            found.append({**base, **what, **when})
    return found


def _layers(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = {column: None for column, _, _ in LAYERS}
    base = {
        **names,
        "run_id": run["run_id"],
        "node": run["node"],
        "rank": 0,
        "model": "GPT2",
        "channel": "total",
    }
    return [
        {**base, "name": name, "class": kind, "depth": depth, "source": "replayed", "phase": "step", "steps": 20,
         "calls": 1.0, "flops_forward": 1e12 * share, "flops_backward": 2e12 * share, "time_s": 0.2 * share,
         "energy_j": 120.0 * share, "u95_j": 4.0 * share, "method": "replayed", "share": share}
        for name, kind, depth, share in MODULES
    ]  # fmt: skip


def _write(out: Path, run: Mapping[str, Any], table: str, data: Any, rank: str = "") -> None:
    date, stem = run["started_utc"].date().isoformat(), f"{run['run_id']}.{run['node']}{rank}"
    store.write(store.file_path(str(out), table, date, stem), store.table_of(table, data))
