"""What is read of the chosen runs beside their rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from energyprof import evidence, store
from energyprof.evidence import Evidence
from energyprof.selection import Group
from tests.rows import BEGAN, channel, row, run_id, with_steps, written

DATE = BEGAN.date().isoformat()


def put(out: Path, table: str, stem: str, data: Any) -> None:
    store.write(store.file_path(str(out), table, DATE, stem), store.table_of(table, data))


def read(out: Path, *groups: Sequence[dict[str, Any]]) -> Evidence:
    return evidence.read(groups, {run["run_id"]: str(out) for group in groups for run in group})


def steps(
    run: dict[str, Any], node: str, rank: int, joules: Sequence[float | None], flags: str = ""
) -> dict[str, Any]:
    return {
        "run_id": run["run_id"], "node": node, "rank": rank, "row_kind": "step", "step": np.arange(len(joules)),
        "energy_j": list(joules), "duration_s": 0.1 * (1 + rank), "flags": flags,
    }  # fmt: skip


def test_steps_are_means_over_ranks_and_sums_over_nodes_where_all_are_known(tmp_path: Path) -> None:
    a, b = row(0), row(1)
    put(tmp_path, "intervals", f"{a['run_id']}.n.0", steps(a, "n", 0, [2.0, 4.0, 6.0]))
    put(tmp_path, "intervals", f"{a['run_id']}.n.1", steps(a, "n", 1, [4.0, 4.0, 6.0]))
    put(tmp_path, "intervals", f"{a['run_id']}.m.2", steps(a, "m", 2, [10.0, None, 10.0]))
    found = read(tmp_path, [a], [b])
    assert set(found.steps) == {a["run_id"]}
    assert found.steps[a["run_id"]].energy_j == (13.0, 16.0)  # the second step is not known of both nodes
    assert found.steps[a["run_id"]].duration_s == pytest.approx((0.225, 0.225, 0.225))


def test_steps_whose_layers_were_timed_are_none(tmp_path: Path) -> None:
    a, b = row(0), row(1)
    put(tmp_path, "intervals", f"{a['run_id']}.n.0", steps(a, "n", 0, [2.0, 4.0], "layers_timed"))
    assert read(tmp_path, [a], [b]).steps == {}


def test_steps_are_read_of_single_runs_alone(tmp_path: Path) -> None:
    runs = [row(i) for i in range(3)]
    with_steps(tmp_path, runs[0], np.ones(5))
    assert read(tmp_path, runs[:1], runs[1:]).steps == {}
    assert set(read(tmp_path, runs[:1], runs[1:2]).steps) == {run_id(0)}


def test_power_limit_and_temperature_at_the_start_are_means_over_boards(tmp_path: Path) -> None:
    run = row(0, t0_ns=10**12)
    boards = [channel(run, channel=name, energy_j=500.0) for name in ("gpu:0", "gpu:1")]
    put(tmp_path, "channels", f"{run['run_id']}.n", boards)
    readings = [
        ("gpu:0/limit", "power", 300_000, 0.0), ("gpu:1/limit", "power", 250_000, 0.0),
        ("gpu:0/temperature", "temperature", 60_000, 5.0), ("gpu:0/temperature", "temperature", 40_000, 1.0),
        ("gpu:1/temperature", "temperature", 50_000, 1.0), ("gpu:2/temperature", "temperature", 90_000, 1.0),
        ("gpu:1/temperature", "temperature", 99_000, 30.0), ("gpu:0", "energy", 5, 1.0),
    ]  # fmt: skip
    rows = [
        {
            "run_id": run["run_id"],
            "node": "n",
            "t_ns": 10**12 + int(at * 1e9),
            "channel": c,
            "quantity": q,
            "value": v,
        }
        for c, q, v, at in readings
    ]
    put(tmp_path, "samples", f"{run['run_id']}.n", rows)
    state = read(tmp_path, [run], [row(1)]).states[run["run_id"]]
    assert state == {"power limit": 275.0, "temperature": 45.0}


def test_of_many_runs_some_are_looked_into_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "_MOST_CHANNELS", 6)
    runs = [row(i) for i in range(20)]
    out = written(tmp_path, runs)
    found = read(out, runs[:10], runs[10:])
    assert found.looked_at == {run_id(i) for i in (0, 4, 8, 10, 14, 18)}
    assert set(found.channels) == found.looked_at
    assert [run["run_id"] for run in found.seen(runs[:10])] == [run_id(i) for i in (0, 4, 8)]


def test_a_damaged_file_of_channels_is_named(tmp_path: Path) -> None:
    runs = [row(0), row(1)]
    out = written(tmp_path, runs)
    bad = next((out / "channels").rglob(f"{run_id(1)}*"))
    bad.write_bytes(b"no")
    found = read(out, runs[:1], runs[1:])
    assert set(found.channels) == {run_id(0)}
    assert [path for path, _ in found.damaged] == [str(bad)]


def test_without_evidence_all_runs_count_as_looked_at() -> None:
    group = Group("a", (row(0), row(1)))
    assert Evidence().seen(group.runs) == list(group.runs)
