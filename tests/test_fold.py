"""A long run, folded stretch by stretch, says what it would have said as a whole, and its marks are gone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from energyprof import fold as folding
from energyprof import runlog, store
from energyprof.seal import seal
from tests.folders import marks_on_disk, written
from tests.simulate import World, world

BASE_NS, S = 10**12, 10**9


def regions(folder: str) -> dict[str, dict[str, Any]]:
    seal(folder)
    out = str(Path(folder) / "out")
    rows = store.read(store.files(out, "intervals"), "intervals").rows
    return {row["region"]: row for row in rows if row["channel"] == "gpu:0"}


@pytest.fixture(scope="module")
def long_run() -> World:
    return world(np.random.default_rng(5), seconds=150.0, lag_s=0.02)


def test_a_folded_run_says_the_same_as_the_whole(tmp_path: Path, long_run: World) -> None:
    whole, folded = written(long_run, tmp_path / "whole"), written(long_run, tmp_path / "folded", segment=256)
    before = marks_on_disk(folded)
    for cut_s in (45, 90, 120):
        assert folding.fold(folded, BASE_NS + cut_s * S)
    assert marks_on_disk(folded) < 0.35 * before
    expected, found = regions(whole), regions(folded)
    assert set(found) == set(expected) == {"all", "all/a", "all/b"}
    for name, row in found.items():
        assert row["calls"] == expected[name]["calls"]
        assert row["duration_s"] == pytest.approx(expected[name]["duration_s"], rel=1e-9)
        assert row["method"] == expected[name]["method"]
        assert row["energy_j"] == pytest.approx(expected[name]["energy_j"], rel=0.01)
        assert row["u_random_j"] < 3 * expected[name]["u_random_j"] + 1e-4 * row["energy_j"]
    for name, truth in zip("ab", long_run.truth_j[1:]):
        assert found[f"all/{name}"]["energy_j"] == pytest.approx(
            truth, abs=found[f"all/{name}"]["u_random_j"]
        )


def test_a_kill_after_the_fold_and_before_the_marks_are_gone_counts_nothing_twice(
    tmp_path: Path, long_run: World
) -> None:
    folder = written(long_run, tmp_path / "run", segment=256)
    copy = written(long_run, tmp_path / "copy", segment=256)
    assert folding.fold(folder, BASE_NS + 60 * S)
    for path in (tmp_path / "copy").glob("marks.*"):
        shutil.copy(path, folder)
    log = runlog.load(folder)
    assert log.marks.over_ns.min() > log.folded_ns
    found, expected = regions(folder), regions(copy)
    assert {n: row["calls"] for n, row in found.items()} == {n: row["calls"] for n, row in expected.items()}


def test_what_the_meter_has_not_read_yet_is_not_folded(tmp_path: Path, long_run: World) -> None:
    folder = written(long_run, tmp_path / "run")
    assert not folding.fold(folder, BASE_NS + 200 * S)
    assert not folding.fold(folder, BASE_NS + 5 * S)  # too little
    assert runlog.load(folder).folds == []


def test_a_damaged_fold_is_no_figure_rather_than_a_wrong_one(tmp_path: Path, long_run: World) -> None:
    folder = written(long_run, tmp_path / "run")
    assert folding.fold(folder, BASE_NS + 60 * S)
    path = tmp_path / "run" / "fold.0.npz"
    path.write_bytes(path.read_bytes()[:-200])
    found = regions(folder)
    assert {row["energy_j"] for row in found.values()} == {None}
    assert {row["reason"] for row in found.values()} <= {"sensor_gap", "below_resolution"}
