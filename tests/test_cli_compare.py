"""`energyprof compare`: which runs it takes, what it prints, and when it fails."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from energyprof import selection, store, tablefile
from energyprof.cli import main
from energyprof.compare import compare_stored
from energyprof.limits import limit, share
from energyprof.reports import compare as report
from tests.conftest import ROOT
from tests.rows import BEGAN, channel, drawn, following, row, run_id, with_steps, written


@dataclass
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def verb(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, data: Path
) -> Callable[..., Said]:
    """`energyprof compare` in this process, on `data`."""
    monkeypatch.setenv("ENERGYPROF_OUT", str(data))
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.chdir(data.parent)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["energyprof", "compare", *arguments])
        code = main()
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten runs of `base` and of `new` with 10 % less power, in turn; then two with steps, a failed one, odd names."""
    chance = np.random.default_rng(1)
    base, new = drawn("base", chance, 10), drawn("new", chance, 10, 0.9, first=10)
    rows: list[dict[str, Any]] = []
    for i, (a, b) in enumerate(zip(base.runs, new.runs)):
        for k, one in enumerate((a, b)):
            number = 2 * i + k
            tags = json.dumps({"lr": "1e-3" if k else "1e-2", "depth": 4})
            rows.append(
                {**one, "run_id": run_id(number), "started_utc": row(number)["started_utc"], "tags": tags}
            )
    rows += [
        row(20, name="one", steps=1000, energy_per_step_j=10.0),
        row(21, name="two", steps=1000, energy_per_step_j=9.0),
    ]
    rows += [
        row(22, name="broken", status="failed"),
        row(23, name="a,b"),
        row(24, name="<img src=x>|\x1b[2J@all"),
    ]
    out = written(tmp_path_factory.mktemp("compared") / "runs", rows)
    for number, factor in ((20, 1.0), (21, 0.9)):
        with_steps(out, row(number), following(chance, 1000, 0.5, factor))
    return out


def test_the_verdict_is_the_first_line_and_lines_fit_a_terminal(verb: Callable[..., Said]) -> None:
    said = verb("base", "new")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert lines[0].startswith("new costs ")
    assert lines[0].endswith("n = 10 and 10).")
    assert "less (better)" in said.out
    assert "One board: its gain cancels." in said.out
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("columns", [80, 120])
def test_on_a_terminal_lines_are_no_longer_than_that_is_wide(data: Path, columns: int) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    program = "import sys; from energyprof.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "compare", "base", "new", "--out", str(data)]
    done = subprocess.run(command, stdout=theirs, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    os.close(theirs)
    seen = b""
    try:
        while got := os.read(ours, 65536):
            seen += got
    except OSError:
        pass  # nothing more comes
    os.close(ours)
    lines = seen.decode().splitlines()
    assert done.returncode == 0
    assert max(map(len, lines)) <= columns
    assert any(line.endswith("less (better)") for line in lines)
    assert any("p < 0.001" in line for line in lines) == (
        columns == 80
    )  # below its row, where it has no room beside


def test_what_could_have_been_seen_is_no_figure_above_a_hundred_per_cent(tmp_path: Path) -> None:
    joules = (1000.0, 300.0, 900.0, 350.0, 1000.0, 420.0)
    rows = [row(i, name="ab"[i % 2], energy_j=e * (1 + i % 3)) for i, e in enumerate(joules)]
    found = compare_stored(["a", "b"], str(written(tmp_path / "d", rows)), ["energy"])
    assert found.effects[0].detectable is not None
    assert found.effects[0].detectable > 1
    assert "so many runs show nothing below 100 % in 4 of 5 cases" in found.verdict
    assert any("energy above 100 %" in line for line in report.text(found))


def test_a_quality_is_named_with_or_without_what_says_that_it_is_one(data: Path) -> None:
    short, whole = (
        compare_stored(["base", "new"], str(data), [name]) for name in ("accuracy", "quality:accuracy")
    )
    assert short == whole
    assert [effect.metric for effect in short.effects] == ["quality:accuracy"]


def test_a_table_that_is_too_wide_tells_change_and_p_below_each_row(data: Path) -> None:
    found = compare_stored(["base", "new", "one"], str(data), ["energy", "power"])
    wide, narrow = report.text(found, 120), report.text(found, 60)
    head = next(i for i, line in enumerate(narrow) if line.split() == ["group", "mean", "verdict"])
    assert narrow[head + 1].strip() == "change (95 % interval), p"
    assert narrow[head + 2].split()[:2] == ["energy", "base"]
    new = next(e for e in found.effects if e.group == "new")
    assert narrow[head + 3].split()[0] == "new"
    assert narrow[head + 4].strip() == f"{report.effect_cells(new)[4]}, p < 0.001"
    assert max(map(len, narrow)) <= 60
    assert len(wide) < len(narrow)


def test_names_ids_patterns_tags_and_folders_name_groups(verb: Callable[..., Said], data: Path) -> None:
    def ids(*arguments: str) -> list[list[str]]:
        said = verb(*arguments, "--json")
        assert said.code == 0, said.err
        return [group["runs"] for group in json.loads(said.out)["groups"]]

    base, new = ([run_id(2 * i + k) for i in range(10)] for k in (0, 1))
    assert ids("base", "new") == [base, new]
    assert ids("b*e", "n?w") == [base, new]
    assert ids("lr=1e-2", "lr=1e-3") == [base, new]
    assert ids(run_id(3), "@last~4") == [[run_id(3)], [run_id(20)]]
    assert ids(f"{run_id(3)},{run_id(1)[:-3]}+{run_id(5)}", "base") == [
        [run_id(3), run_id(1), run_id(5)],
        base,
    ]
    assert ids("a,b", "base") == [[run_id(23)], base]  # a name, though it has a comma


def test_a_folder_is_another_dataset(verb: Callable[..., Said], tmp_path: Path) -> None:
    chance = np.random.default_rng(5)
    other = drawn("old", chance, 4, first=100)
    folder = written(tmp_path / "elsewhere", list(other.runs))
    said = verb(str(folder), "base", "--json")
    groups = json.loads(said.out)["groups"]
    assert [(group["label"], group["n"]) for group in groups] == [("old", 4), ("base", 10)]


def test_runs_that_share_a_file_are_told_apart(tmp_path: Path) -> None:
    runs = [row(i, name="ab"[i % 2]) for i in range(6)]
    for table, rows in (("runs", runs), ("channels", [channel(run) for run in runs])):
        store.write(
            store.file_path(str(tmp_path), table, "2026-11-20", "part-0"), store.table_of(table, rows)
        )
    found = compare_stored(["a", f"{run_id(1)[:-2]},@last"], str(tmp_path))
    assert [[run["run_id"] for run in group.runs] for group in found.groups] == [
        [run_id(0), run_id(2), run_id(4)],
        [run_id(1), run_id(5)],
    ]
    assert found.same_board


def test_runs_are_found_by_id_without_reading_the_others(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = tablefile.opened
    monkeypatch.setattr(tablefile, "opened", lambda path, *more: whole(read.append(path) or path, *more))
    chosen = selection.select([run_id(3), run_id(4)[:-2]], str(data))
    assert [group.runs[0]["run_id"] for group in chosen.groups] == [run_id(3), run_id(4)]
    assert {Path(path).name.split(".")[0] for path in read} == {run_id(3), run_id(4)}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "energyprof compare BASE OTHER"),
        (("base",), "two groups at least"),
        (("base", "new", "--metric", ""), "unknown metric ''"),
        (("base", "nwe"), "no run nwe; nearest: "),
        (("base", "@last~99"), "there are 25 runs, @last to @last~24"),
        (("base", "0193f2c1-77"), "no run 0193f2c1-77; nearest: 01"),
        (("base", "lr=1e-9"), "no run lr=1e-9; nearest: lr=1e-"),
        (("base", ""), "no run (empty)"),
        (("base", "new,"), "no run (empty)"),
        (("base", "broken"), "group broken has no finished run (1 failed); --all"),
        (("base", f"new,{run_id(0)}"), f"run {run_id(0)[:13]} is in base and in"),
        (("base", "base"), "is in base and in"),
        (("base", run_id(0)[:6]), "is ambiguous: 25 runs"),
        (("base", "./nowhere/runs"), "no run ./nowhere/runs"),
        (("base", "new", "--metric", "joules"), "unknown metric 'joules'; known: energy, energy_per_step"),
        (("base", "new", "--fail-if", "joules>5%"), "unknown metric 'joules'"),
        (("base", "new", "--fail-if", "energy=5%"), "'energy=5%' is no limit; write 'energy>+5%'"),
        (("base", "new", "--fail-if", "energy>-5%"), "'>' takes a bound of zero or more"),
        (("base", "new", "--threshold", "one"), "the threshold is 'one'; write a percentage: 1%"),
        (("base", "new", "--json", "--format", "csv"), "--json and --format csv ask for two forms"),
        (("base", "new", "--github-summary"), "GITHUB_STEP_SUMMARY is not set"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    verb: Callable[..., Said], arguments: tuple[str, ...], why: str
) -> None:
    said = verb(*arguments)
    assert (said.code, said.out) == (2, "")
    assert why in said.err
    assert said.err.count("\n") == 1


def test_an_empty_dataset_is_named(verb: Callable[..., Said], tmp_path: Path) -> None:
    said = verb("a", "b", "--out", str(tmp_path / "none"))
    assert said.code == 2
    assert f"no runs in {tmp_path / 'none'}" in said.err


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (["energy<-5%"], 1),
        (["energy<-30%"], 0),
        (["energy>+5%"], 0),
        (["duration>0%", "power<-2%"], 1),
        (["quality:accuracy<0%"], 0),  # no evidence exceeds nothing
    ],
)
def test_a_limit_fails_where_a_difference_is_shown_beyond_it(
    verb: Callable[..., Said], limits: list[str], code: int
) -> None:
    said = verb("base", "new", *(part for text in limits for part in ("--fail-if", text)))
    assert said.code == code
    assert (limits[-1] + ": new is at -" in said.err) == (code == 1)


def test_a_limit_that_cannot_be_judged_is_said_to_be_so(verb: Callable[..., Said]) -> None:
    said = verb(
        "one", "two", "--fail-if", "energy>+5%", "--fail-if", "energy_per_token>1%", "--metric", "duration"
    )
    assert said.code == 0
    assert "warning: energy>+5% could not be judged: two: too few runs" in said.err
    assert "warning: energy_per_token>1% could not be judged: two: not comparable" in said.err


def test_single_runs_are_compared_by_the_steps_in_the_dataset(verb: Callable[..., Said]) -> None:
    said = verb("one", "two")
    assert said.out.startswith("two costs ")
    assert "less energy per step than one" in said.out
    assert "what varies from run to run is not in it" in " ".join(said.out.split())


def test_all_takes_runs_that_failed(verb: Callable[..., Said]) -> None:
    assert verb("base", "broken", "--all").code == 0
    said = verb("base", "broken,new")
    assert "left out of broken,new: 1 failed" in said.out


def test_json_and_csv_hold_every_field_of_every_effect(verb: Callable[..., Said]) -> None:
    told = json.loads(verb("base", "new", "one", "--format", "json").out)
    rows = list(csv.DictReader(io.StringIO(verb("base", "new", "one", "--format", "csv").out)))
    assert [(row["metric"], row["group"], row["verdict"]) for row in rows] == [
        (effect["metric"], effect["group"], effect["verdict"]) for effect in told["effects"]
    ]
    assert set(rows[0]) == set(told["effects"][0])
    assert float(rows[0]["ratio"]) == told["effects"][0]["ratio"]
    assert told["groups"][0]["label"] == "base"


def test_the_summary_of_a_github_job_is_appended_as_markdown(
    verb: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    verb("base", "new", "--github-summary")
    text = file.read_text()
    assert text.startswith("before\n**new costs ")
    heads = [line for line in text.splitlines() if line.startswith("| metric")]
    assert len(heads) == 1
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_hostile_names_are_text_and_nothing_else(verb: Callable[..., Said]) -> None:
    plain = verb("base", "@last").out
    assert "\x1b" not in plain
    text = verb("base", "@last", "--format", "markdown").out
    assert "<img" not in text
    assert "@all" not in text
    assert all(line.count("|") == 8 for line in text.splitlines() if line.startswith("| energy"))


def test_several_groups_stand_below_one_another(verb: Callable[..., Said]) -> None:
    lines = verb("base", "new", "@last", "--metric", "energy,power").out.splitlines()
    head = next(i for i, line in enumerate(lines) if "group" in line and "mean" in line)
    assert lines[head + 1].split()[:2] == ["energy", "base"]
    assert lines[head + 2].split()[0] == "new"
    assert max(map(len, lines)) <= 100


def test_a_damaged_file_is_named_and_the_others_are_compared(
    verb: Callable[..., Said], tmp_path: Path
) -> None:
    chance = np.random.default_rng(7)
    out = written(tmp_path / "d", [*drawn("x", chance, 3).runs, *drawn("y", chance, 3, first=3).runs])
    bad = next((out / "runs").rglob(f"{run_id(5)}*"))
    bad.write_bytes(b"PAR1 no")
    said = verb("x", "y", "--out", str(out))
    assert said.code == 0
    assert f"skipped {bad}" in "".join(said.out.split("\n")).replace("    ", " ") or "skipped" in said.out


def test_the_nodes_of_a_run_are_summed() -> None:
    told = {"u95_j": 3.0, "co2e_g": 1.0, "co2e_lo_g": 0.5, "co2e_hi_g": 2.0, "steps": 10, "duration_s": 5.0}
    one = row(0, **{**told, "energy_j": 100.0})
    two = row(
        0, **{**told, "energy_j": 50.0, "u95_j": 4.0, "node": "m", "duration_s": 6.0, "status": "failed"}
    )
    (whole,) = selection.one_a_run([one, two])
    assert (whole["energy_j"], whole["u95_j"], whole["duration_s"], whole["steps"]) == (150.0, 5.0, 6.0, 10)
    assert (whole["co2e_g"], whole["co2e_hi_g"]) == (2.0, pytest.approx(2.0 + 2**0.5))
    assert (whole["node"], whole["status"]) == ("n,m", "failed")
    (lost,) = selection.one_a_run([one, {**two, "energy_j": None, "reason": "sensor_gap"}])
    assert (lost["energy_j"], lost["reason"]) == (None, "sensor_gap")


def test_the_last_run_is_the_last_that_began_though_another_id_sorts_behind_it(tmp_path: Path) -> None:
    late = row(1, name="late", run_id="00000000-0000-7000-8000-000000000001")
    old = row(0, name="old", run_id=run_id(9), started_utc=BEGAN.replace(day=1))
    out = written(tmp_path / "d", [late, row(0, name="early"), old])
    chosen = selection.select(["@last", "@last~1", "@last~2"], str(out))
    assert [group.label for group in chosen.groups] == ["late", "early", "old"]


def test_limits_are_parsed_as_they_are_written() -> None:
    found = limit(" quality:top-1 < -0.5 % ")
    assert (found.metric, found.above, found.change) == ("quality:top-1", False, -0.005)
    assert limit("energy>5%").change == 0.05
    assert share("2.5%") == 0.025
    for wrong in ("energy", "energy>5", ">5%", "energy>>5%", "energy>5%5%", "energy>nan%"):
        with pytest.raises(ValueError, match="is no limit"):
            limit(wrong)
    for text in ("-1%", "101%", "1", ""):
        with pytest.raises(ValueError, match="the threshold is"):
            share(text)
