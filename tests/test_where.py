"""Filters of runs: what they take, and that nothing but their grammar is understood."""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyprof.cli import main
from energyprof.compare import compare_stored
from energyprof.schema import RUNS, kinds
from energyprof.where import WrongFilter, where
from tests.conftest import Runner
from tests.rows import drawn, row, run_id, written

KINDS = kinds("runs")
ROW = row(
    name="it's", energy_j=250.0, duration_s=61.5, steps=10, status="finished", samples=None,
    tags=json.dumps({
        "model": "gpt2", "lr": "1e-3", "odd name": "x", "deep": {"a": 1}, "größe": "5", "vast": 10**400,
    }),
    metrics=json.dumps({"accuracy": 0.91, "loss": 0.123456789}),
    started_utc=datetime(2026, 11, 20, 14, 30, 5, tzinfo=timezone.utc),
)  # fmt: skip


def takes(text: str, one: dict[str, Any] = ROW) -> bool:
    return where(text, KINDS).takes(one)


@pytest.mark.parametrize(
    "text",
    [
        "tag.model='gpt2' and duration_s>60",
        "energy_j = 250",
        "energy_j == 2.5e2",
        "energy_j <> 3 AND NOT energy_j != 250",
        "name = 'it''s'",
        "name like 'it*' or name like '%zzz'",
        "tag.lr < 0.01",
        "tag.lr = '1e-3'",
        "tag.\"odd name\" = 'x'",
        "tag.deep like '*a*'",
        "metric.accuracy>=.91",
        "samples is null and energy_j is not null",
        "samples = null",
        "samples != 5",
        "tag.none is null",
        "started_utc = 2026-11-20",
        "started_utc >= 2026-11-20 and started_utc < 2026-11-21",
        "started_utc <= '2026-11-20 14:30'",
        "started_utc > 2026-11-20T14:30:04Z",
        "not (steps > 100 or status = 'failed')",
        "steps=1 or steps=2 and steps=3 or steps=10",
        "((((steps=10))))",
        "steps>-1",
        "name not like 'x*' and samples not like '*'",
        "tag.größe=5",
        "tag.vast>1e300 and not tag.vast<0",
        "metric.loss='0.123456789'",
        "energy_j like '250'",
        "started_utc = '2026-11-20T14:30:05.000000+00:00'",
        "started_utc = 2026-11-20T15:30:05+01:00",
        "started_utc < '2026-11-20 14:30:05.5'",
    ],
)
def test_a_filter_takes_what_it_says(text: str) -> None:
    assert takes(text)


@pytest.mark.parametrize(
    "text",
    [
        "duration_s>61.5",
        "samples>0",
        "samples<0",
        "samples=0",
        "tag.none='x'",
        "name like 'IT*'",
        "steps=10 and steps=11",
        "(steps=10 or steps=11) and steps=11",
        "started_utc > 2026-11-20",
        "started_utc != 2026-11-20",
        "tag.model > 3",
        "energy_j is null",
        "name like '[i]t*'",
        "name not like 'it*'",
        "started_utc = '2026-11-20T14:30:05.000001Z'",
    ],
)
def test_and_leaves_out_the_rest(text: str) -> None:
    assert not takes(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("duration>60", "nearest: duration_s"),
        ("tags.model='x'", "tags.model"),
        ("name=gpt2", "name='gpt2'"),
        ('name="gpt2"', "single quotes"),
        ("name='gpt2", "no end"),
        ("name=5", "single quotes: name='5'"),
        ("energy_j='much'", "is a number"),
        ("energy_j=", "nothing"),
        ("energy_j", "nothing"),
        ("energy_j>null", "is null"),
        ("energy_j is 5", "not null"),
        ("name like 5", "like 'gpt*'"),
        ("started_utc>5", "2026-11-20"),
        ("started_utc>2026-13-45", "is none"),
        ("started_utc>='9999-12-31'", "is none"),
        ("steps=1 steps=2", "and, or"),
        ("steps=1 and", "the end"),
        ("(steps=1", "not closed"),
        ("steps=1)", "and, or"),
        ("steps=1; drop table runs", "not understood"),
        ("__import__('os').system('x')", "not understood"),
        ("__import__('os')", "no column __import__"),
        ("steps = (select 1)", "no value"),
        ("(" * 100000 + "steps=1", "brackets"),
        ("not " * 100000 + "steps=1", "brackets"),
        ("steps\x1b[2J=1", "?[2J"),
        ("name in ('a', 'b')", "after it comes in"),
        ("name not 'a'", "after it comes 'a'"),
        ("STEPS>1", "nearest: steps"),
        ("steps=٣", "not understood"),
        ("started_utc>true", "is a time"),
        ("started_utc>'2026-11-20 25:00'", "is none"),
        ("started_utc>'2026-11-20 10:00+99:00'", "is none"),
        ("started_utc<'0001-01-01 00:00+12:00'", "is none"),
        ("name='" + "a" * 130_000, "no end"),
        ("a" * 130_000 + "=1", "no column"),
        ("\udcff='x'", "not understood"),
    ],
)
def test_what_is_no_filter_is_said_in_one_line(text: str, words: str) -> None:
    with pytest.raises(WrongFilter) as refused:
        where(text, KINDS)
    said = str(refused.value)
    assert words in said
    assert said.isprintable()
    assert len(said) < 200


def test_a_filter_says_which_columns_it_looks_at() -> None:
    assert where("tag.a=1 and (steps>2 or tag.b=2) and metric.c<1", KINDS).columns == (
        "tags",
        "steps",
        "metrics",
    )
    assert set(KINDS) == {name for name, _, _ in RUNS}


@given(text=st.text(max_size=60) | st.lists(st.sampled_from(
    ["steps", "tag.a", "and", "or", "not", "(", ")", "=", "<", "like", "is", "null", "'x'", "5", "2026-11-20"]
), max_size=12).map(" ".join))  # fmt: skip
def test_any_text_is_a_filter_or_refused_and_a_filter_judges_any_row(text: str) -> None:
    try:
        found = where(text, KINDS)
    except WrongFilter:
        return
    for one in (ROW, dict.fromkeys(ROW), {**ROW, "tags": "no json", "metrics": "[1]"}):
        assert found.takes(one) in (True, False)


@pytest.mark.parametrize(
    "text",
    ["name='" + "a" * 130_000 + "'", " or ".join(["steps=1"] * 20_000), "name like '" + "*a" * 2_000 + "b'"],
)
def test_enormous_filters_are_judged_all_the_same(text: str) -> None:
    assert not takes(text, {**ROW, "name": "a" * 5_000})


@pytest.mark.parametrize(
    "tags", ["[" * 100_000, '{"a":' * 3_000, '{"vast": ' + "9" * 5_000 + "}", "5", "null"]
)
def test_what_is_no_json_has_no_tags(tags: str) -> None:
    assert not takes(
        "tag.vast>0 or tag.vast like '*' or metric.accuracy>0", {**ROW, "tags": tags, "metrics": tags}
    )


@given(value=st.text(max_size=30))
def test_any_text_finds_itself_once_its_quotes_are_doubled(value: str) -> None:
    assert takes("name = '" + value.replace("'", "''") + "'", {**ROW, "name": value})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [
        row(i, name="ab"[i % 2], duration_s=float(10 * i), tags=json.dumps({"model": f"m{i % 3}"}))
        for i in range(6)
    ]
    return written(tmp_path / "runs", rows)


def test_ls_lists_what_fits(cli_here: Runner, data: Path) -> None:
    said = cli_here("ls", "--where", "duration_s>=30 and tag.model!='m1'", "--json")
    assert [one["run_id"] for one in json.loads(said.stdout)] == [run_id(3), run_id(5)]
    assert len(cli_here("ls", "--where", "name='a'", "-n", "2").stdout.splitlines()) == 3
    nothing = cli_here("ls", "--where", "name='zzz'")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "no run in" in nothing.stderr
    odd = cli_here("ls", "--where", "name='a\n\x1b[2J" + "b" * 100_000 + "'")
    assert (odd.returncode, odd.stdout, len(odd.stderr.splitlines())) == (0, "", 1)
    assert len(odd.stderr) < 500
    assert odd.stderr.strip().isprintable()
    wrong = cli_here("ls", "--where", "nam='a'")
    assert wrong.returncode == 2
    assert "nearest: name" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1


def test_rm_deletes_what_fits_and_asks_for_yes(cli_here: Runner, data: Path) -> None:
    asked = cli_here("rm", "--where", "tag.model='m0'")
    assert (asked.returncode, "--yes" in asked.stderr) == (2, True)
    done = cli_here("rm", "--where", "tag.model='m0'", "--yes", "--json")
    assert json.loads(done.stdout)["removed"] == [run_id(0), run_id(3)]
    assert len(json.loads(cli_here("ls", "--json").stdout)) == 4
    for wrong in (("rm", "--yes"), ("rm", "--yes", "--where", "name='zzz'"), ("rm", "--yes", "--where", "x")):
        assert cli_here(*wrong).returncode == 2


def test_compare_takes_only_runs_that_fit_and_last_is_the_last_of_them(tmp_path: Path) -> None:
    import numpy as np

    chance = np.random.default_rng(0)
    runs = [
        {**one, "tags": json.dumps({"lr": str(i % 2)})}
        for first, name in ((0, "base"), (20, "new"))
        for i, one in enumerate(drawn(name, chance, 8, first=first).runs)
    ]
    out = str(written(tmp_path / "runs", runs))
    found = compare_stored(["base", "new"], out, only="tag.lr='1'")
    assert [len(group.runs) for group in found.groups] == [4, 4]
    last = compare_stored(["base", "@last"], out, only="tag.lr='0'")
    assert last.groups[1].runs[0]["run_id"] == run_id(26)
    with pytest.raises(ValueError, match="among those that fit"):
        compare_stored(["base", "new"], out, only="name='base'")
    with pytest.raises(ValueError, match="no run in"):
        compare_stored(["base", "new"], out, only="name='zzz'")


def test_compare_says_what_is_wrong_with_a_filter(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["energyprof", "compare", "a", "b", "--out", str(data), "--where", "stepz>1"]
    )
    assert main() == 2
    assert "nearest: steps" in capsys.readouterr().err
