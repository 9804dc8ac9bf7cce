"""Figures: what they show of stored runs, that they are the same bytes each time, and that they leave no trace."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from energyprof.compare import compare_stored
from energyprof.reports import figures, style
from energyprof.reports.drawable import NothingToDraw
from energyprof.reports.icicle import Node, blocks, layers_of, of_layers, of_regions
from energyprof.reports.icicle_figure import icicle
from energyprof.reports.stored import StoredRun
from tests.conftest import ROOT
from tests.drawable import dataset, gathered


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(dataset(tmp_path_factory.mktemp("figures") / "runs"))


@pytest.fixture(scope="module")
def runs(out: str) -> list[StoredRun]:
    return gathered(out)


@pytest.fixture(scope="module")
def made(runs: list[StoredRun], out: str) -> dict[str, Figure]:
    """A figure of every kind."""
    found = {
        kind: draw(runs if kind in ("power", "breakdown", "forecast") else runs[-1:])
        for kind, draw in figures.OF_RUNS.items()
    }
    points = [("base", 2800.0, 0.90, 140.0), ("new", 2500.0, 0.91, 130.0)]
    forest = figures.forest(compare_stored(["base", "new"], out))
    return {**found, "forest": forest, "pareto": figures.pareto(points, "acc")}


@pytest.fixture(scope="module")
def drawn(made: dict[str, Figure]) -> dict[str, str]:
    return {kind: style.svg(figure) for kind, figure in made.items()}


def texts(svg: str) -> list[str]:
    return [text.strip() for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


def test_there_is_a_figure_of_every_kind(drawn: dict[str, str]) -> None:
    assert set(drawn) == set(figures.KINDS)


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("power", ["power, W", "time, s", "gpu:0", "load", "train"]),
        ("icicle", ["train  2.15 ± 0.13 kJ", "Net  10.0 ± 1.0 J", "0 Linear  6.0 ± 0.6 J"]),
        ("forest", ["change, %, with its 95 % interval", "new against base", "energy", "accuracy"]),
        ("pareto", ["acc (higher is better)", "energy, kJ, with 95 % intervals", "front"]),
        ("budget", ["ticks", "gain of the meter", "total", "gpu:0"]),
        ("breakdown", ["energy, kJ, with its 95 % interval", "gpu:0, counter", "2.80 ± 0.14 kJ"]),
        ("forecast", ["energy, kJ", "forecast of the whole, 90 % interval", "drawn by the steps that ran"]),
    ],
)
def test_a_figure_names_what_it_shows_with_units_and_intervals(
    drawn: dict[str, str], kind: str, shown: list[str]
) -> None:
    found = texts(drawn[kind])
    assert [text for text in shown if text not in found] == []


def test_the_same_data_give_the_same_bytes(drawn: dict[str, str], runs: list[StoredRun]) -> None:
    for kind in ("power", "budget", "breakdown"):  # lines and bands, hatches, legends
        again = figures.OF_RUNS[kind](runs if kind != "budget" else runs[-1:])
        assert style.svg(again) == drawn[kind]


def test_all_text_is_in_the_pages_colour_and_no_font_is_told(made: dict[str, Figure]) -> None:
    for kind, figure in made.items():
        page = style.inlined(figure, kind, "what it shows <b>")
        assert style.INK not in page
        assert "currentColor" in page
        assert not re.search(r"#000000|\bblack\b", page)
        assert " style=" not in page
        assert "<style" not in page
        assert "<b>" not in page
        assert page.count(f'id="{kind}-t"') == 1


def test_text_has_room_inside_the_picture(made: dict[str, Figure]) -> None:
    for figure in made.values():
        figure.draw_without_rendering()
        box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert min(box.x0, box.y0) >= -0.01
        assert box.x1 <= width + 0.01
        assert box.y1 <= height + 0.01


def test_power_over_time_is_what_was_drawn(runs: list[StoredRun]) -> None:
    (axes,) = figures.power(runs[:1]).axes
    (line,) = axes.get_lines()
    seconds, watts = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    assert np.median(watts[(seconds > 2) & (seconds < 8)]) == pytest.approx(300.0, rel=0.02)
    assert np.median(watts[seconds < 0.8]) == pytest.approx(200.0, rel=0.02)


def test_two_groups_are_a_column_each_and_many_runs_a_grid_with_one_legend(runs: list[StoredRun]) -> None:
    made = figures.power([runs[n] for n in (0, 1, 2, 3, 3)], [0, 0, 1, 1, 1])
    starts = [axes.get_subplotspec().num1 for axes in made.axes]  # type: ignore[union-attr]
    assert starts == [0, 2, 1, 3, 5]
    assert len(made.legends) == 1
    assert [text.get_text() for text in made.legends[0].get_texts()] == ["gpu:0"]
    many = figures.power(runs[:1] * 9)
    assert many.axes[0].get_gridspec().get_geometry() == (3, 3)  # type: ignore[union-attr]
    assert [bool(axes.get_xlabel()) for axes in many.axes] == [False] * 6 + [True] * 3


def test_the_parts_of_a_half_width_make_it_in_quadrature() -> None:
    ends = {"u_sampling_j": 0.0, "u_regression_j": 0.0, "energy_j": 100.0}
    modelled = {**ends, "u_tick_j": 3.0, "u_model_j": 4.0, "u_gain_j": 4.0}  # a model's error is its gain
    mixed = {**ends, "u_tick_j": 2.0, "u_model_j": 3.0, "u_gain_j": 5.0}
    for row, whole in ((modelled, 5.0), (mixed, 29.0**0.5)):
        parts = figures.error_parts(row)
        assert sum(part**2 for part in parts.values()) ** 0.5 == pytest.approx(whole)
        assert parts["model"] == row["u_model_j"]


def test_blocks_are_as_wide_as_their_joules_and_inside_their_parents(runs: list[StoredRun]) -> None:
    stored = runs[-1]
    found = {block.path: block for block in blocks(of_regions(stored.run, stored.regions))}
    assert found["train"].width == pytest.approx(0.85)
    assert found["train/step"].begin == found["train"].begin == pytest.approx(0.1)
    layers = layers_of(stored.layers)
    assert layers is not None
    assert [node.name for node in of_layers(layers)] == ["Net", "0 Linear", "head"]
    over = [Node("", None, "all", 10.0), Node("a", "", "a", 8.0), Node("b", "", "b", 8.0)]
    assert [block.width for block in blocks(over)] == [
        1.0,
        0.5,
        0.5,
    ]  # parts that add up to more are narrowed


def test_the_front_is_what_no_other_point_beats() -> None:
    points = [(1.0, 0.5), (2.0, 0.7), (3.0, 0.6), (3.0, 0.9), (1.0, 0.4)]
    assert sorted(figures.pareto_front(points)) == [0, 1, 3]
    assert sorted(figures.pareto_front(points, "less")) == [4]


def test_what_cannot_be_drawn_says_why(runs: list[StoredRun]) -> None:
    for draw, given, why in (
        (icicle, runs, "one run"),
        (figures.power, [], "no readings"),
        (figures.forecast, [], "no forecast"),
        (figures.breakdown, runs * 6, "20 runs at most"),
    ):
        with pytest.raises(NothingToDraw, match=why):
            draw(given)
    with pytest.raises(NothingToDraw, match="two runs"):
        figures.pareto([], "accuracy")


def test_hostile_names_are_text(runs: list[StoredRun], tmp_path: Path) -> None:
    from dataclasses import replace

    name = "$\\frac{</svg><script>$\u202e\x1b 日本語 " + 80 * "x"
    stored = replace(runs[0], run={**runs[0].run, "name": name})
    for kind in ("power", "breakdown", "forecast", "budget", "icicle"):
        figure = figures.OF_RUNS[kind]([stored])
        svg = style.svg(figure)
        assert not [part for part in ("<script>", "\x1b", "\u202e") if part in svg]
        style.save(figure, str(tmp_path / "x.png"))


def test_text_is_cut_to_its_room() -> None:
    assert style.fitting("forward", 8.5, 2.0) == "forward"
    cut = style.fitting("forward and backward", 8.5, 0.8)
    assert cut.endswith("…")
    assert style.width_of(cut, 8.5) <= 0.8
    assert style.fitting("forward", 8.5, 0.05) == ""


def test_drawing_changes_no_setting_and_needs_no_pyplot(out: str) -> None:
    program = (
        "import sys\n"
        "from energyprof import plotting, store\n"
        "assert 'matplotlib' not in sys.modules\n"
        "import matplotlib as mpl\n"
        "settings = lambda: {name: dict.__getitem__(mpl.rcParams, name) for name in mpl.rcParams}\n"
        "before = settings()\n"
        f"made, notes = plotting.draw('power', ['base'], {out!r})\n"
        "from energyprof.reports import style\n"
        "[style._rendered(made, ending) for ending in ('png', 'svg', 'pdf')]\n"
        "assert settings() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
