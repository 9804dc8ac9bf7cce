"""`energyprof plot`: files of the three formats, and one line for all that cannot be drawn."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import Runner
from tests.drawable import dataset, run_of
from tests.rows import written

BEGINS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("plotted") / "runs")


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to draw in, beside the dataset."""
    shutil.copytree(made, tmp_path / "runs")
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("arguments", "ending"),
    [
        (["power"], "svg"),
        (["power", "base", "new"], "png"),
        (["icicle", "@last"], "pdf"),
        (["forest", "base", "new", "--metric", "accuracy,energy"], "svg"),
        (["pareto", "base", "new", "--metric", "accuracy"], "svg"),
        (["pareto", "*"], "svg"),
        (["budget", "@last~1"], "svg"),
        (["breakdown", "base", "new"], "svg"),
        (["forecast", "*"], "svg"),
    ],
)
def test_a_figure_is_written(cli_here: Runner, here: Path, arguments: list[str], ending: str) -> None:
    done = cli_here("plot", *arguments, "-o", f"x.{ending}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", f"energyprof: wrote x.{ending}\n")
    assert (here / f"x.{ending}").read_bytes().startswith(BEGINS[ending])
    assert [path.name for path in here.iterdir()] == [f"x.{ending}"]


def test_a_file_is_overwritten_with_the_same_bytes(cli_here: Runner, here: Path) -> None:
    (here / "x.svg").write_text("old")
    assert cli_here("plot", "breakdown", "*", "-o", "x.svg").returncode == 0
    first = (here / "x.svg").read_bytes()
    assert cli_here("plot", "breakdown", "*", "-o", "x.svg").returncode == 0
    assert (here / "x.svg").read_bytes() == first
    assert b"#010203" not in first


def test_another_dataset_is_named_by_out_or_by_its_folder(cli_here: Runner, here: Path) -> None:
    elsewhere = {"ENERGYPROF_OUT": str(here / "none")}
    runs = str(here.parent / "runs")
    assert cli_here("plot", "power", "base", "--out", runs, "-o", "x.svg", env=elsewhere).returncode == 0
    assert cli_here("plot", "power", runs, "-o", "x.svg", env=elsewhere).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["powr", "-o", "x.png"], "no figure 'powr'; nearest: power; all: power, icicle"),
        (["power"], "say where to: -o power.png, power.svg or power.pdf"),
        (["power", "-o", "x.gif"], "x.gif: the name must end in .png, .svg or .pdf"),
        (["power", "-o", "nowhere/x.png"], "cannot write nowhere/x.png: there is no folder"),
        (["power", "-o", "folder.png"], "cannot write folder.png: it is a folder"),
        (["power", "-o", "/proc/x.png"], "cannot write /proc/x.png: "),
        (["power", "nobody", "-o", "x.png"], "no run nobody; nearest: "),
        (["power", "--metric", "a", "-o", "x.png"], "--metric is for forest and pareto"),
        (["icicle", "base", "-o", "x.png"], "icicle is of one run, and 2 were named"),
        (["icicle", "bare", "-o", "x.png"], "this run has neither regions nor layers"),
        (["power", "bare", "-o", "x.png"], "no readings of these runs"),
        (["forecast", "bare", "-o", "x.png"], "these runs hold no forecast"),
        (["budget", "bare", "-o", "x.png"], "no energy"),
        (["breakdown", "bare", "-o", "x.png"], "no channel of these runs"),
        (["pareto", "bare", "-o", "x.png"], "none of these runs logged a quality"),
        (["pareto", "base", "new", "-m", "loss", "-o", "x.png"], "no run logged 'loss'; logged: accuracy"),
        (["forest", "base", "-o", "x.png"], "two groups at least"),
        (["forest", "base", "new", "-m", "loss", "-o", "x.png"], "unknown metric 'loss'"),
        (["power", "--out", "none", "-o", "x.png"], "no runs in "),
    ],
)
def test_what_cannot_be_drawn_is_one_line_and_exit_2(
    cli_here: Runner, here: Path, arguments: list[str], why: str
) -> None:
    if "bare" in arguments:
        bare = dict.fromkeys(
            ("energy_j", "u95_j", "forecast_energy_j", "forecast_lo_j", "forecast_hi_j", "t1_ns")
        )
        bare_row = {**run_of(9, "bare"), **bare, "metrics": "{}"}
        written(here.parent / "runs", [bare_row])
    (here / "folder.png").mkdir()
    done = cli_here("plot", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert why in done.stderr
    assert not (here / "x.png").exists()


def test_a_run_on_two_nodes_has_a_bar_each(cli_here: Runner, here: Path) -> None:
    whole = run_of(8, "wide")
    written(here.parent / "runs", [whole, {**whole, "node": "m"}])
    assert cli_here("plot", "breakdown", "wide", "-o", "x.svg").returncode == 0
    text = (here / "x.svg").read_text()
    assert [f"{node}</text>" in text for node in (", n", ", m")] == [True, True]
    assert (
        "budget is of one node, and this run has 2"
        in cli_here("plot", "budget", "wide", "-o", "y.svg").stderr
    )


def test_help_tells_every_kind(cli_here: Runner) -> None:
    from energyprof.cli.plot import KINDS
    from energyprof.reports import figures

    text = cli_here("plot", "--help").stdout
    assert set(KINDS) == set(figures.KINDS)
    assert all(f"  {kind} " in text for kind in KINDS)
    assert "overwritten" in text
