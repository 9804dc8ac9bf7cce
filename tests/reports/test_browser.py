"""The HTML report in a real browser: silent, without complaint, usable by keyboard, by eye and by ear."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from energyprof.reporting import report
from energyprof.reports.series import decode
from tests.reports.chromium import PROGRAM, Browser, Tab, chromium
from tests.reports.trained import training

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium: the report is not looked at in a browser"
)

HOSTILE = "</script><img src=x onerror=alert(1)>\u202eevil"
BOTH = ("one", "several")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages: of one run, of two groups, of hostile names."""
    where = tmp_path_factory.mktemp("pages")
    for number in range(3):
        training(where / "runs", 2 * number, "base", seconds=20 + number, epochs=2)
        training(where / "runs", 2 * number + 1, "other", seconds=16 + number, factor=0.95, epochs=2)
    for number, name in enumerate(("plain", HOSTILE)):
        told: dict[str, Any] = {
            "command": json.dumps([HOSTILE, "x" * 10**6]),
            "tags": json.dumps({HOSTILE: HOSTILE}),
        }
        training(where / "hostile", number, name, seconds=5.0, steps=5, git_commit=HOSTILE, **told)
    for page, names, runs in (
        ("one", ["@last"], "runs"),
        ("several", ["base", "other"], "runs"),
        ("hostile", ["plain", HOSTILE], "hostile"),
    ):
        (where / f"{page}.html").write_text(report(names, str(where / runs)).html, encoding="utf-8")
    return where


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def tab(browser: Browser) -> Tab:
    return browser.tab()


def drawn(tab: Tab) -> None:
    tab.wait("document.querySelector('#brush-table tbody tr')")


def themed(tab: Tab, theme: str) -> None:
    tab.do("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])


@pytest.mark.parametrize("page", [*BOTH, "hostile"])
def test_no_request_leaves_the_page_and_the_console_is_silent(tab: Tab, folder: Path, page: str) -> None:
    tab.open(folder / f"{page}.html")
    drawn(tab)
    assert tab.requests() == [(folder / f"{page}.html").as_uri()]
    assert tab.complaints() == []
    assert not [event for event in tab.events if event["method"] == "Page.javascriptDialogOpening"]
    assert tab.value("document.images.length") == 0
    assert tab.value("document.scripts.length") == 2


def test_the_policy_stops_a_request_that_is_tried(tab: Tab, folder: Path) -> None:
    tab.open(folder / "one.html")
    tried = "fetch('http://127.0.0.1:9/').then(() => 'left', () => 'stopped')"
    assert tab.value(tried) == "stopped"
    assert any("Content Security Policy" in text for text in tab.complaints())


def test_a_column_sorts_both_ways_and_the_baseline_stays_on_top(tab: Tab, folder: Path) -> None:
    tab.open(folder / "several.html")
    rows_now = "[...document.querySelectorAll('#runs tbody tr')]"
    column = f"{rows_now}.map(r => [r.cells[1].textContent, +r.cells[2].dataset.v])"
    button = "document.querySelector('#runs thead th:nth-child(3) button')"
    for direction in ("ascending", "descending"):
        tab.value(f"{button}.click()")
        assert tab.value(f"{button}.parentElement.ariaSort") == direction
        rows = tab.value(column)
        assert [name for name, _ in rows] == ["base"] * 3 + ["other"] * 3
        for part in (rows[:3], rows[3:]):
            joules = [value for _, value in part]
            assert joules == sorted(joules, reverse=direction == "descending")


def test_the_theme_follows_the_system_until_it_is_chosen_and_is_remembered(tab: Tab, folder: Path) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    themed(tab, "light")
    tab.open(folder / "one.html")
    light = tab.value(paper)
    themed(tab, "dark")
    dark = tab.value(paper)
    assert dark != light
    themed(tab, "light")
    tab.value("document.getElementById('theme').click()")
    assert tab.value("document.getElementById('theme').textContent") == "Theme: dark"
    assert tab.value(paper) == dark
    tab.open(folder / "one.html")
    assert tab.value(paper) == dark
    themed(tab, "dark")
    tab.value("document.getElementById('theme').click()")
    assert tab.value(paper) == light


def shown(tab: Tab) -> tuple[str, float]:
    """The caption of the breakdown and its first joules."""
    drawn(tab)
    words = tab.value("document.querySelector('#brush-table tbody td').textContent")
    number, unit = words.split()
    scale = {"J": 1.0, "kJ": 1e3, "MJ": 1e6}[unit]
    return tab.value("document.querySelector('#brush-table caption').textContent"), float(number) * scale


def in_the_page(folder: Path) -> Any:
    """What the page of one run holds of it."""
    text = (folder / "one.html").read_text(encoding="utf-8")
    data = re.search(r'id="energyprof-data">(.*?)</script>', text, re.S)
    assert data
    return json.loads(data[1])["drawn"][0]


def summed(packed: Any, begin_s: float, end_s: float) -> float:
    """The sum of an encoded series between two times."""
    watts = decode(packed)
    edges = np.arange(len(watts) + 1) * packed["bin_s"]
    upto = np.concatenate(([0.0], np.cumsum(watts * packed["bin_s"])))
    return float(np.diff(np.interp((begin_s, end_s), edges, upto))[0])


def between(folder: Path, begin_s: float, end_s: float) -> float:
    """Joules of the series in the page of one run."""
    (packed,) = in_the_page(folder)["series"]
    return summed(packed, begin_s, end_s)


def number(text: str) -> float:
    """A figure with its unit, in units without prefix; a time in seconds."""
    if text == "—":
        return 0.0
    value, unit = text.replace(",", "").split(" ")
    prefix = unit[:-1]
    return float(value) * {"": 1.0, "k": 1e3, "M": 1e6, "m": 1e-3}[prefix]


def by_phase(tab: Tab) -> list[tuple[str, float, float]]:
    """Name, seconds and joules of each row of the breakdown by phase."""
    rows = tab.value(
        "[...document.querySelectorAll('#brush-phases tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
    )
    return [(name, number(seconds), number(joules)) for name, seconds, joules, *_ in rows]


def typed(tab: Tab, begin_s: float, end_s: float) -> None:
    for place, value in enumerate((begin_s, end_s)):
        tab.value(
            f"(() => {{const i = document.querySelectorAll('.look input')[{place}]; i.value = {value};"
            "i.dispatchEvent(new Event('change'))})()"
        )


def test_marks_that_are_typed_limit_the_breakdown_to_their_joules(tab: Tab, folder: Path) -> None:
    tab.open(folder / "one.html")
    caption, whole = shown(tab)
    assert "whole run" in caption
    assert whole == pytest.approx(between(folder, 0, 1e9), rel=0.006)
    typed(tab, 4.25, 9.75)
    caption, joules = shown(tab)
    assert "4.25 to 9.75 s" in caption
    assert "plotted series" in caption
    assert joules == pytest.approx(between(folder, 4.25, 9.75), rel=0.006)


def test_the_breakdown_by_phase_is_of_the_marks_and_its_parts_add_up(tab: Tab, folder: Path) -> None:
    calls: dict[str, list[tuple[float, float]]] = {}
    for region, begin, end, _ in in_the_page(folder)["phases"]:
        calls.setdefault(region.rpartition("/")[2], []).append((begin, end))
    assert {name: len(found) for name, found in calls.items()} == {
        "load": 1, "train": 1, "epoch": 2, "validate": 2, "evaluate": 1,
    }  # fmt: skip
    tab.open(folder / "one.html")
    drawn(tab)
    for a, b in ((0.0, 18.0), (1.0, 12.3)):
        if a:
            typed(tab, a, b)
        assert "without interval" in tab.value("document.querySelector('#brush-phases caption').textContent")
        rows = by_phase(tab)
        names = [name.split(" ×")[0] for name, *_ in rows]
        assert names == ["load", "train", "epoch", "validate", "rest of epoch", "rest of train", "evaluate"]
        found = {name: (seconds, joules) for name, (_, seconds, joules) in zip(names, rows)}
        for name, stretches in calls.items():
            inside = [(max(x, a), min(y, b)) for x, y in stretches if min(y, b) > max(x, a)]
            assert found[name][0] == pytest.approx(sum(y - x for x, y in inside), rel=0.006)
            assert found[name][1] == pytest.approx(sum(between(folder, x, y) for x, y in inside), rel=0.006)
        for column in (0, 1):
            outer = sum(found[name][column] for name in ("load", "train", "evaluate"))
            assert outer == pytest.approx((b - a, between(folder, a, b))[column], rel=0.01)
            inner = sum(found[name][column] for name in ("epoch", "rest of train"))
            assert inner == pytest.approx(found["train"][column], rel=0.01)
            inmost = sum(found[name][column] for name in ("validate", "rest of epoch"))
            assert inmost == pytest.approx(found["epoch"][column], rel=0.01)


def test_the_breakdown_counts_the_steps_between_the_marks_and_their_joules(tab: Tab, folder: Path) -> None:
    told = "document.getElementById('brush-says').textContent"
    packed = in_the_page(folder)["steps"]
    tab.open(folder / "one.html")
    drawn(tab)
    assert re.fullmatch(
        r"Whole run: .* in 18\.0 s, .* on average; 200 steps, \d+\.\d J each\.", tab.value(told)
    )
    typed(tab, 1.0, 5.3)
    found = re.fullmatch(r"1 to 5\.3 s: .*; ([\d.]+) steps, ([\d.]+) J each\.", tab.value(told))
    assert found
    steps = summed(packed["count"], 1.0, 5.3)
    assert float(found[1]) == pytest.approx(steps, abs=0.051)
    assert float(found[2]) == pytest.approx(summed(packed["energy"], 1.0, 5.3) / steps, rel=0.006)
    typed(tab, 0.1, 1.2)
    assert tab.value(told).endswith("; no steps.")


def test_a_phase_is_marked_by_its_name_call_after_call(tab: Tab, folder: Path) -> None:
    stretches = [(a, b) for region, a, b, _ in in_the_page(folder)["phases"] if region == "train/epoch"]
    tab.open(folder / "one.html")
    drawn(tab)
    button = "document.querySelectorAll('#brush-phases button')[2]"
    tab.value(f"{button}.focus()")
    assert tab.value(f"{button}.getAttribute('aria-label')") == "Mark epoch, 2 calls"
    for place, (a, b) in enumerate(stretches):
        tab.press("Enter")
        caption, joules = shown(tab)
        ends = re.search(r"marks, ([\d.]+) to ([\d.]+) s", caption)
        assert ends
        assert (float(ends[1]), float(ends[2])) == pytest.approx((a, b), rel=1e-3)
        assert joules == pytest.approx(between(folder, a, b), rel=0.006)
        assert tab.value(f"document.activeElement === {button} && {button}.ariaPressed") == "true"
        assert tab.value(f"{button}.parentElement.textContent") == f"epoch {place + 1} of 2"
    tab.press("Enter")
    assert "whole run" in shown(tab)[0]
    assert tab.value(f"document.activeElement === {button} && {button}.ariaPressed") == "false"
    tab.value("document.querySelector('#brush-phases button').click()")
    assert "marks, 0 to 1.8 s" in shown(tab)[0]


def test_dragging_over_the_plot_marks_a_stretch_and_zooms_to_it(tab: Tab, folder: Path) -> None:
    tab.open(folder / "one.html")
    _, whole = shown(tab)
    tab.value("document.getElementById('power-plot').scrollIntoView({block: 'center', behavior: 'instant'})")
    box = "document.getElementById('power-plot').getBoundingClientRect()"
    x, y, width, height = tab.value(f"(({{x, y, width, height}}) => [x, y, width, height])({box})")
    tab.mouse("mousePressed", x + 0.4 * width, y + height / 2)
    for share in (0.45, 0.5, 0.6):
        tab.mouse("mouseMoved", x + share * width, y + height / 2)
    tab.mouse("mouseReleased", x + 0.6 * width, y + height / 2)
    caption, joules = shown(tab)
    ends = re.search(r"marks, ([\d.]+) to ([\d.]+) s", caption)
    assert ends
    assert joules == pytest.approx(between(folder, float(ends[1]), float(ends[2])), rel=0.01)
    assert 0.1 * whole < joules < 0.4 * whole
    before = tab.value("document.getElementById('power-plot').toDataURL()")
    tab.value(
        "[...document.querySelectorAll('.look button')].find(b => b.textContent === 'Zoom to the marks').click()"
    )
    assert tab.value("document.getElementById('power-plot').toDataURL()") != before


def test_the_keyboard_reaches_everything_and_marks_on_the_plot(tab: Tab, folder: Path) -> None:
    tab.open(folder / "one.html")
    drawn(tab)
    where = (
        "document.activeElement.id || document.activeElement.className || document.activeElement.textContent"
    )
    tab.press("Tab")
    assert tab.value(where) == "skip"
    assert tab.value("document.activeElement.getBoundingClientRect().left") >= 0
    tab.press("Enter")
    assert tab.value("location.hash") == "#main"
    seen: list[str] = []
    while "power-plot" not in seen:
        assert len(seen) < 60, seen
        tab.press("Tab")
        seen.append(tab.value(where))
        assert tab.value("getComputedStyle(document.activeElement).outlineStyle") == "solid", seen
    assert {"Zoom in", "Zoom out", "Whole run"} <= set(seen)
    tab.press("ArrowRight")
    assert re.match(r"[\d.]+ s: gpu:0 \d+ W", tab.value("document.getElementById('power-says').textContent"))
    for _ in range(10):
        tab.press("ArrowRight", shift=True)
    assert "Energy between the marks" in shown(tab)[0]
    tab.press("Escape")
    assert "whole run" in shown(tab)[0]


def test_another_run_can_be_looked_into(tab: Tab, folder: Path) -> None:
    tab.open(folder / "several.html")
    _, first = shown(tab)
    chooser = "document.querySelector('.look select')"
    tab.value(f"{chooser}.value = 5, {chooser}.dispatchEvent(new Event('change'))")
    tab.wait(f"document.querySelector('#brush-table tbody td').textContent !== '{first:.3g}'")
    assert tab.value("document.querySelectorAll('.look option').length") == 6
    tab.wait("document.querySelector('#brush-table tbody td').textContent.endsWith('J')")


@pytest.mark.parametrize("page", BOTH)
def test_without_javascript_the_page_is_whole(tab: Tab, folder: Path, page: str) -> None:
    tab.do("Emulation.setScriptExecutionDisabled", value=True)
    tab.open(folder / f"{page}.html")
    visible = "[...document.querySelectorAll('{}')].every(e => e.getBoundingClientRect().height > 20)"
    for what in ("figure svg", "table", "section", ".verdict"):
        assert tab.value(visible.format(what)), what
    assert tab.value("document.getElementById('theme').hidden")
    assert tab.value("document.querySelectorAll('canvas, #brush-table, thead button').length") == 0
    assert tab.complaints() == []


@pytest.mark.parametrize("page", [*BOTH, "hostile"])
def test_a_phone_shows_it_without_sideways_scrolling_of_the_page(tab: Tab, folder: Path, page: str) -> None:
    tab.do("Emulation.setDeviceMetricsOverride", width=375, height=812, deviceScaleFactor=2, mobile=True)
    tab.open(folder / f"{page}.html")
    drawn(tab)
    assert tab.value("document.documentElement.scrollWidth") <= 375
    tall = tab.value(
        "Math.max(...[...document.querySelectorAll('tbody tr')].map(r => r.getBoundingClientRect().height))"
    )
    assert tall < 250


def test_print_shows_figures_and_no_controls(tab: Tab, folder: Path) -> None:
    tab.open(folder / "one.html")
    drawn(tab)
    themed(tab, "dark")
    tab.do(
        "Emulation.setEmulatedMedia",
        media="print",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    height = "document.querySelector('{}').getBoundingClientRect().height"
    for what in ("canvas", ".look", "#theme", "nav"):
        assert tab.value(height.format(what)) == 0, what
    assert tab.value(
        "[...document.querySelectorAll('svg.drawn')].every(e => e.getBoundingClientRect().height > 20)"
    )
    assert tab.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def axe() -> Path | None:
    """The accessibility scanner: the file AXE_CORE (npm has newer ones), or that of the wheel `axe-core-python`."""
    said = os.environ.get("AXE_CORE")
    if said:
        return Path(said)
    found = find_spec("axe_core_python")
    return None if found is None or not found.origin else Path(found.origin).parent / "axe.min.js"


AXE = axe()


@pytest.mark.skipif(AXE is None, reason="axe-core-python is not installed: no accessibility scan")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", BOTH)
def test_the_accessibility_scan_finds_nothing(tab: Tab, folder: Path, page: str, theme: str) -> None:
    themed(tab, theme)
    tab.open(folder / f"{page}.html")
    drawn(tab)
    assert AXE is not None
    tab.do("Runtime.evaluate", expression=AXE.read_text(encoding="utf-8"))
    found: Any = tab.value(
        "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map(v => "
        "[v.impact, v.id, v.nodes.length, v.nodes[0].html.slice(0, 200), v.nodes[0].failureSummary]))"
    )
    assert found == []


def test_the_accessibility_tree_names_figures_tables_and_controls(tab: Tab, folder: Path) -> None:
    tab.open(folder / "several.html")
    drawn(tab)
    tab.do("Accessibility.enable")
    nodes = tab.do("Accessibility.getFullAXTree")["nodes"]
    named: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            named.setdefault(node["role"]["value"], []).append(str(node.get("name", {}).get("value", "")))
    for role in ("image", "table", "button", "heading", "combobox", "spinbutton", "application", "link"):
        assert named.get(role), (role, sorted(named))
        assert all(named[role]), (role, named[role])


@pytest.mark.parametrize("page", BOTH)
def test_the_first_paint_comes_soon(tab: Tab, folder: Path, page: str) -> None:
    """Printed, and bounded loosely: a shared machine's clock is no measure."""
    tab.open(folder / f"{page}.html")
    tab.wait("performance.getEntriesByName('first-contentful-paint').length")
    paint = tab.value("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    print(f"{page}: first paint after {paint:.0f} ms")
    assert paint < 3000
