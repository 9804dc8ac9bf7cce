"""The HTML report: one file that is whole, silent and inert, whatever the runs are called."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from energyprof import store
from energyprof.compare import compare
from energyprof.reporting import MOST_BYTES, report, write
from energyprof.reports import html, parts
from energyprof.reports.pagedata import page_data
from energyprof.reports.parts import told
from energyprof.reports.series import decode
from tests.conftest import Runner
from tests.drawable import gathered
from tests.reports.trained import training
from tests.rows import drawn, row, written

HOSTILE = "</script><img src=x onerror=alert(1)>\u202eevil\x1b[31m$x^{$"
VOID = {"meta", "img", "br", "link", "input", "hr", "path", "use", "rect", "wbr"}


class Read(HTMLParser):
    """Elements with their attributes in order, the text of the page, and what is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self.open[-1] if self.open else "", []).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    for number in range(3):
        training(out, 2 * number, "base", seconds=30 + number)
        training(out, 2 * number + 1, "other", seconds=25 + number, factor=0.95)
    return out


@pytest.fixture(scope="module")
def pages(dataset: Path) -> dict[str, str]:
    return {
        "one": report(["@last"], str(dataset)).html,
        "several": report(["base", "other"], str(dataset)).html,
        "group": report(["base"], str(dataset)).html,
    }


def embedded(text: str) -> Any:
    found = re.search(r'<script type="application/json" id="energyprof-data">(.*?)</script>', text, re.S)
    assert found
    return json.loads(found[1])


@pytest.mark.parametrize("kind", ["one", "several", "group"])
def test_a_page_is_well_formed_and_says_what_it_is(pages: dict[str, str], kind: str) -> None:
    text = pages[kind]
    page = Read(text)
    assert text.startswith('<!doctype html>\n<html lang="en">')
    assert not page.wrong
    assert not page.open
    assert page.texts["title"][0].strip()
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {str(link["href"]).removeprefix("#") for link in page.all("a")}
    assert targets <= set(ids)
    assert page.all("a")[0]["class"] == "skip"
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("kind", ["one", "several", "group"])
def test_tables_have_captions_and_scopes_and_figures_have_words_and_a_table(
    pages: dict[str, str], kind: str
) -> None:
    page = Read(pages[kind])
    assert len(page.all("table")) == len(page.all("caption")) > 0
    assert {str(head.get("scope")) for head in page.all("th")} == {"row", "col"}
    drawn = page.all("svg")
    assert drawn
    assert all(svg["role"] == "img" and svg["aria-labelledby"] for svg in drawn)
    for section in re.findall(r"<section.*?</section>", pages[kind], re.S):
        assert "<figure" not in section or "<table" in section or "table of runs" in section


@pytest.mark.parametrize("kind", ["one", "several"])
def test_the_policy_allows_the_one_script_and_no_request(pages: dict[str, str], kind: str) -> None:
    page = Read(pages[kind])
    (policy,) = (
        str(m["content"]) for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    scripts = re.findall(r"<script>(.*?)</script>", pages[kind], re.S)
    (script,) = scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert "unsafe" not in rules["script-src"]
    for _, attributes in page.elements:
        assert not {"src", "style"} & set(attributes) - {"srcset"}
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "xlink:href"):
            assert str(attributes.get(name) or "#").startswith("#")
    assert not re.search(r"url\((?!#)", pages[kind])


def test_the_verdict_stands_first_and_the_numbers_are_in_the_page(
    pages: dict[str, str], dataset: Path
) -> None:
    page = Read(pages["several"])
    assert "other costs" in page.texts["p"][1]
    data = embedded(pages["several"])
    assert data["comparison"]["verdict"].startswith("other costs")
    assert [run["group"] for run in data["runs"]] == ["base"] * 3 + ["other"] * 3
    effect = next(e for e in data["comparison"]["effects"] if e["metric"] == "energy")
    joules = {
        g: np.mean([np.log(r["energy_j"]) for r in data["runs"] if r["group"] == g])
        for g in ("base", "other")
    }
    assert effect["ratio"] == pytest.approx(np.exp(joules["other"] - joules["base"]))


def test_where_the_difference_is_stands_in_joules_and_per_cent(pages: dict[str, str]) -> None:
    rows = cells(pages["several"], "changes")
    assert rows[0] == ["region", "base", "other", "difference", "change"]
    found = {name: [number(text) for text in figures[:3]] for name, *figures in rows[1:]}
    assert set(found) >= {"whole run", "train", "train/forward"}
    for base, other, difference in found.values():
        assert difference == pytest.approx(other - base, abs=0.01 * base)
    means = [
        np.mean([run["energy_j"] for run in embedded(pages["several"])["runs"] if run["group"] == group])
        for group in ("base", "other")
    ]
    assert found["whole run"] == pytest.approx([*means, means[1] - means[0]], rel=0.006)


def cells(text: str, table: str) -> list[list[str]]:
    """The texts of a table's cells, row by row."""
    found = re.search(rf'<table id="{table}".*?</table>', text, re.S)
    assert found
    rows = re.findall(r"<tr.*?</tr>", found[0], re.S)
    return [[re.sub("<.*?>", "", c) for c in re.findall(r"<t[hd].*?</t[hd]>", row, re.S)] for row in rows]


def number(text: str) -> float:
    value, unit = text.replace("−", "-").split(" ")
    return float(value) * {"J": 1.0, "kJ": 1e3, "mJ": 1e-3}[unit]


def test_one_group_has_its_mean_figures_and_no_column_that_says_nothing(pages: dict[str, str]) -> None:
    text = pages["group"]
    runs = [run["energy_j"] for run in embedded(text)["runs"]]
    (tile,) = re.findall(r"Energy, mean</dt><dd><strong>(.*?)</strong><span>(.*?)</span>", text)
    mean, least, most = (
        number(one) for one in (tile[0], *tile[1].split(" to ")) for one in [one.replace("\u00a0", " ")]
    )
    assert (mean, least, most) == pytest.approx((np.mean(runs), min(runs), max(runs)), rel=0.006)
    assert cells(text, "runs")[0][:3] == ["run", "energy", "a step"]


def test_power_of_many_runs_is_told_a_run_a_row(pages: dict[str, str]) -> None:
    head, *rows = cells(pages["several"], "power-table")
    assert head == ["run", "gpu:0"]
    assert len(rows) == 6
    assert all(re.fullmatch(r"\d+ W, \d+ W", watts) for _, watts in rows)
    assert "No power over time is stored of dram:0." in pages["several"]


def test_a_number_and_its_unit_stay_on_a_line_and_an_options_name_too() -> None:
    shown = str(html._kept("<b> drew 1.2 ± 0.1 kJ in 54 s at 56 g/kWh, 5 of 6 runs; say --country"))
    assert shown == (
        "&lt;b&gt; drew 1.2\u00a0±\u00a00.1\u00a0kJ in 54\u00a0s at 56\u00a0g/kWh, 5 of 6 runs; "
        'say <span class="s">--country</span>'
    )
    assert str(html._breakable("a/b.0.<c>")) == "a/<wbr>b.0.<wbr>&lt;c&gt;"


def test_series_are_made_coarser_until_a_page_fits(pages: dict[str, str], dataset: Path) -> None:
    whole = len(pages["several"].encode())
    smaller = report(["base", "other"], str(dataset), most_bytes=whole - 1000).html
    assert len(smaller.encode()) <= whole - 1000
    counts = [
        sum(one["n"] for run in embedded(text)["drawn"] for one in run["series"])
        for text in (pages["several"], smaller)
    ]
    assert 600 <= counts[1] < counts[0]


def test_a_page_that_is_too_large_is_drawn_twice_at_most(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures take the time."""
    pages: list[Any] = []
    real = html.render
    monkeypatch.setattr(html, "render", lambda *told: pages.append(told) or real(*told))
    assert len(report(["base", "other"], str(dataset), most_bytes=1000).html) > 1000
    assert len(pages) == 2


def test_of_thousands_of_runs_a_page_holds_the_first_of_each_group() -> None:
    chance = np.random.default_rng(0)
    groups = (drawn("base", chance, 5000), drawn("other", chance, 5000, first=5000))
    data = page_data(groups, compare(groups), [])
    assert [(group["n"], len(group["runs"])) for group in data["comparison"]["groups"]] == [(5000, 150)] * 2
    assert [run["group"] for run in data["runs"]] == ["base"] * 150 + ["other"] * 150
    assert data["runs_in_all"] == 10_000
    assert len(html.embedded(data)) < 250_000


def test_of_many_runs_a_few_are_drawn_and_the_difference_is_that_of_all(tmp_path: Path) -> None:
    for n in range(24):
        training(tmp_path, n, "ab"[n % 2], factor=1.0 + 0.02 * (n // 2) + 0.1 * (n % 2))
    page = report(["a", "b"], str(tmp_path)).html
    assert len(embedded(page)["drawn"]) == 8
    joules = [[run["energy_j"] for run in embedded(page)["runs"] if run["group"] == group] for group in "ab"]
    base, other = (np.mean(own) for own in joules)
    assert base > 1.05 * np.mean(joules[0][:4])  # those that are drawn are not like all
    (whole,) = [row for row in cells(page, "changes") if row[0] == "whole run"]
    assert [number(text) for text in whole[1:4]] == pytest.approx([base, other, other - base], rel=0.006)
    assert "of the mean of all" in page


def test_a_report_takes_only_runs_that_fit_a_filter(tmp_path: Path) -> None:
    written(tmp_path, [row(n, name="ab"[n % 2], duration_s=float(n)) for n in range(8)])
    page = report(["a", "b"], str(tmp_path), only="duration_s>=4")
    assert page.runs == 4
    with pytest.raises(ValueError, match="nearest: duration_s"):
        report(["a", "b"], str(tmp_path), only="duration>=4")


def test_what_may_be_the_cause_is_marked_in_front_of_the_figures(dataset: Path, tmp_path: Path) -> None:
    for number in range(4):
        name = "base" if number % 2 else "moved"
        hardware = "H100" if name == "moved" else "A100"
        told = {"hardware": hardware, "ranks": 2 if name == "moved" else 1}
        training(tmp_path, number, name, seconds=5.0, steps=0, layers=False, **told)
    text = report(["base", "moved"], str(tmp_path)).html
    besides = text.index("⚠ hardware")
    assert text.index('class="verdict"') < besides < text.index('id="effects"')
    assert "mind: hardware" in text
    assert not Read(text).wrong


def test_the_verdict_and_its_conditions_are_two_paragraphs() -> None:
    page = parts.Page("t", "B costs less than A; but mind: torch.", (), (), {})
    assert page.said == ("B costs less than A.", "But mind: torch.")
    assert parts.Page("t", "B costs less.", (), (), {}).said == ("B costs less.", "")


def test_the_embedded_series_give_the_stored_joules(pages: dict[str, str]) -> None:
    (drawn,) = embedded(pages["one"])["drawn"]
    (series,) = drawn["series"]
    stored = next(c["energy_j"] for c in drawn["channels"] if c["channel"] == "gpu:0")
    assert float(np.nansum(decode(series)) * series["bin_s"]) == pytest.approx(stored, rel=0.01)
    assert [name for name, *_ in drawn["phases"]] == ["load", "train", "evaluate"]
    assert drawn["phases"][1] == ["train", 2.7, 22.95, 0]


def test_the_embedded_steps_are_all_steps_and_the_joules_while_they_ran(pages: dict[str, str]) -> None:
    (drawn,) = embedded(pages["one"])["drawn"]
    (series,) = drawn["series"]
    count, energy = drawn["steps"]["count"], drawn["steps"]["energy"]
    assert float(np.sum(decode(count)) * count["bin_s"]) == pytest.approx(200, rel=1e-3)
    _, begin, end, _ = drawn["phases"][1]  # they fill the training
    grid = np.arange(len(decode(series)) + 1) * series["bin_s"]
    upto = np.concatenate(([0.0], np.cumsum(decode(series) * series["bin_s"])))
    joules = float(np.diff(np.interp((begin, end), grid, upto))[0])
    assert float(np.sum(decode(energy)) * energy["bin_s"]) == pytest.approx(joules, rel=2e-3)


def test_the_same_runs_give_the_same_bytes(pages: dict[str, str], dataset: Path) -> None:
    assert report(["base", "other"], str(dataset)).html == pages["several"]


def test_hostile_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    words = {HOSTILE: 1.0, "</title>": 2.0}
    for number in range(4):
        training(
            tmp_path, number, HOSTILE if number % 2 else "plain\u2028</style>", seconds=5.0, steps=5,
            command=json.dumps(["python", HOSTILE, "x" * 1_000_000]), tags=json.dumps({HOSTILE: HOSTILE}),
            metrics=json.dumps(words), hardware=HOSTILE, git_commit=HOSTILE, intensity_place_name=HOSTILE,
            missing=json.dumps([{"source": HOSTILE, "reason": "x", "detail": HOSTILE, "remedy": HOSTILE}]),
        )  # fmt: skip
    for names in (["@last"], [HOSTILE, "plain\u2028</style>"]):
        text = report(names, str(tmp_path)).html
        page = Read(text)
        assert not page.wrong
        assert not page.all("img")
        assert len(page.all("script")) == 2
        assert len(text) < 500_000
        assert not set("\u202e\x1b\u2028") & set(re.sub("<script.*?</script>", "", text, flags=re.S))
        data = re.search(r'id="energyprof-data">(.*?)</script>', text, re.S)
        assert data
        assert not set("<>&\u2028\u2029") & set(data[1])
        assert embedded(text)["drawn"][0]["run"]["command"].endswith("…")


def test_letters_that_the_figures_font_lacks_are_text_of_the_page(tmp_path: Path) -> None:
    name = "训练 🔥 תדריך"
    training(tmp_path, 0, name, seconds=5.0, steps=5)
    text = report(["@last"], str(tmp_path)).html
    assert f"<title>{name}: energy report</title>" in text


def test_json_in_a_page_cannot_end_its_element_and_is_json() -> None:
    value = {
        "a": "</script><!--",
        "b": [float("nan"), float("inf"), 1.5, None, True],
        "\u2028": "&\u2029\ud800",
    }
    text = html.embedded(value)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {
        "a": "</script><!--",
        "b": [None, None, 1.5, None, True],
        "\u2028": "&\u2029?",
    }


def test_names_that_are_cut_stay_on_a_line() -> None:
    assert told("a\nb\u202ec", 80) == "a\\nb\\u202ec"
    assert len(told("x" * 10**6, 40)) == 40
    assert told(None) == ""


def test_a_run_without_anything_but_its_row_has_a_page(tmp_path: Path) -> None:
    written(tmp_path, [row(0, energy_j=None, reason="not_supported", duration_s=None)])
    text = report(["@last"], str(tmp_path)).html
    assert "its energy is not known" in text
    assert not Read(text).wrong


def test_twenty_runs_of_two_hundred_thousand_readings_are_below_a_megabyte(tmp_path: Path) -> None:
    for number in range(20):
        name = "base" if number < 10 else "other"
        training(tmp_path, number, name, seconds=1000.0, hz=10.0, steps=20)
    text = report(["base", "other"], str(tmp_path)).html
    size = len(text.encode())
    series = [one for run in embedded(text)["drawn"] for one in run["series"]]
    print(f"20 runs, {sum(one['n'] for one in series):,} values: {size / 1e3:.0f} kB")
    assert sum(one["n"] for one in series) >= 190_000
    assert size <= MOST_BYTES


def test_a_model_of_constant_power_is_as_fine_as_what_is_read_beside_it(
    energyprof_cli: Runner, tmp_path: Path
) -> None:
    done = energyprof_cli(
        *("run", "-q", "-c", "import time; time.sleep(0.7)"), env={"ENERGYPROF_SYS_ROOT": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr
    out = str(tmp_path / "runs")
    (found,) = gathered(out)
    readings = store.of_run(out, "samples", found.run["run_id"]).rows
    most = max(sum(row["channel"] == one.channel for row in readings) for one in found.series)
    assert {one.channel for one in found.series} >= {"package:0", "dram:0"}
    assert all(1 <= len(one.watts) <= most for one in found.series)


def test_a_file_that_is_no_report_is_not_replaced_unless_forced(
    tmp_path: Path, pages: dict[str, str]
) -> None:
    path = tmp_path / "report.html"
    path.write_text("<html>mine</html>")
    with pytest.raises(FileExistsError):
        write(pages["one"], str(path))
    assert path.read_text() == "<html>mine</html>"
    write(pages["one"], str(path), force=True)
    write(pages["several"], str(path))
    assert path.read_text(encoding="utf-8") == pages["several"]
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


def test_the_verb_writes_a_report_and_refuses_what_is_not_one(cli_here: Runner, tmp_path: Path) -> None:
    written(tmp_path / "runs", [row(0)])
    path = tmp_path / "here.html"
    done = cli_here("report", "-o", str(path))
    assert (done.returncode, done.stdout) == (0, "")
    assert "1 run," in done.stderr
    assert html.is_ours(str(path))
    path.write_text("mine")
    done = cli_here("report", "-o", str(path))
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert path.read_text() == "mine"
    told_json = json.loads(cli_here("report", "@last", "--force", "--json", "-o", str(path)).stdout)
    assert told_json["bytes"] == path.stat().st_size
    done = cli_here("report", "--where", "name='nobody'", "-o", str(path))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "fits name='nobody'" in done.stderr
    done = cli_here("report", "nobody", "-o", str(path))
    assert done.returncode == 2
    assert "no run nobody" in done.stderr


def test_where_a_report_cannot_go_is_said_before_anything_is_read(cli_here: Runner, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name, why in (("not/there.html", "there is no folder"), ("folder", "it is a folder")):
        for more in ((), ("--force",)):
            done = cli_here("report", "nobody", *more, "-o", str(tmp_path / name))
            assert (done.returncode, done.stdout) == (2, "")
            assert why in done.stderr
            assert done.stderr.count("\n") == 1
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]
