"""Damage anywhere in a run's folder: sealing never crashes, and no joule of the run is wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from energyprof import store
from energyprof.reports.statement import paragraph
from energyprof.reports.text import details
from energyprof.seal import seal
from tests.folders import written
from tests.simulate import World, world

BASE_NS = 10**12


@pytest.fixture(scope="module")
def run() -> World:
    return world(np.random.default_rng(11), [0.25, 0.4], [600.0, 150.0], seconds=6.0)


@pytest.fixture(scope="module")
def whole(run: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(written(run, tmp_path_factory.mktemp("damage") / "whole"))


def damaged(data: st.DataObject, content: bytes) -> bytes:
    """Cut, overwritten, doubled, with bits turned or pages of zeros: what disks and power cuts do."""
    if not content:
        return content
    at = data.draw(st.integers(0, len(content) - 1))
    to = data.draw(st.integers(at, min(len(content), at + 5000)))
    how = data.draw(st.sampled_from(["cut", "zeros", "noise", "doubled", "left out", "swapped"]))
    if how == "cut":
        return content[:at]
    if how == "zeros":
        return content[:at] + bytes(to - at) + content[to:]
    if how == "noise":
        return content[:at] + data.draw(st.binary(max_size=64)) + content[min(len(content), at + 64) :]
    if how == "doubled":
        return content[:to] + content[at:]
    if how == "left out":
        return content[:at] + content[to:]
    return content[to:] + content[:to]


@settings(
    max_examples=50,  # of one or two files each: six sorts of damage times four sorts of file, some three times
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_sealing_a_damaged_folder_never_crashes_and_never_invents_energy(
    run: World, whole: Path, tmp_path: Path, data: st.DataObject
) -> None:
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    for name in data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2)):
        path = folder / name
        if data.draw(st.integers(0, 9)) == 0:
            path.unlink(missing_ok=True)
        elif path.exists():
            path.write_bytes(damaged(data, path.read_bytes()))
    out = tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    try:
        seal(str(folder), str(out), recovered=True)
    except (OSError, ValueError, KeyError):
        return  # `recover` names it and keeps it
    (row,) = store.read(store.files(str(out), "runs"), "runs").rows
    if row["energy_j"] is None:
        assert row["reason"]
        return
    at = run.ticks.at_ns + BASE_NS
    drawn = np.concatenate(([0.0], np.cumsum(run.ticks.gain_j)))
    truth = float(np.diff(np.interp([row["t0_ns"], row["t1_ns"]], at, drawn))[0])
    # A tick's worth at either end: the truth here is known at the ticks alone.
    assert abs(row["energy_j"] - truth) < row["u95_j"] + 2 * float(run.ticks.gain_j.max())


def test_a_run_whose_emissions_cannot_be_worked_out_is_sealed_without_them(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "run", tmp_path / "out"
    shutil.copytree(whole, folder)
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**facts, "site": "of another release"}))
    seal(str(folder), str(out))
    (row,) = store.read(store.files(str(out), "runs"), "runs").rows
    assert row["energy_j"] > 0
    assert (row["co2e_g"], row["intensity_source"], row["flags"]) == (None, None, "intensity_fallback")
    assert capsys.readouterr().err.startswith("energyprof: warning: no emissions are stored: ")
    text = "\n".join(details(row, [], []))
    assert "CO2e" in text
    assert paragraph(row, [])
