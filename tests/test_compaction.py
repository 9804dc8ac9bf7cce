"""Merging small files: every run is there once, for every reader of ours, at every instant."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from energyprof import mergedfile, store, tablefile
from energyprof.compaction import compact
from energyprof.compare import compare_stored
from energyprof.mergedfile import generation
from energyprof.result import stored
from energyprof.schema import TABLES, VERSION, VERSION_KEY
from tests.conftest import ROOT, Runner
from tests.rows import row, run_id, written

DAYS = ("2026-11-18", "2026-11-19", "2026-11-20")
TODAY = "2026-11-21"


def dataset(out: Path, runs: int = 9) -> Path:
    """Runs over three days, with a channel, two steps and two readings each."""
    for number in range(runs):
        day = DAYS[number % 3]
        one = row(number, name="ab"[number % 2], energy_j=100.0 + number)
        one["started_utc"] = datetime.fromisoformat(f"{day}T{number:02d}:00:00+00:00")
        written(out, [one])
        keys = {"run_id": one["run_id"], "node": "n"}
        for rank in (0, 1):
            steps = [
                {**keys, "rank": rank, "row_kind": "step", "step": i, "energy_j": 1.0 + i, "duration_s": 0.5}
                for i in range(2)
            ]
            path = store.file_path(str(out), "intervals", day, f"{one['run_id']}.n.{rank}")
            store.write(path, store.table_of("intervals", steps))
        readings = {
            **keys,
            "t_ns": [1, 2],
            "took_ns": [0, 0],
            "channel": "gpu:0",
            "value": [number, number + 1],
        }
        path = store.file_path(str(out), "samples", day, f"{one['run_id']}.n")
        store.write(path, store.table_of("samples", readings))
    return out


def contents(out: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, in an order of their own."""
    return {
        table: sorted(
            tuple(map(str, r.values())) for r in store.read(store.files(str(out), table), table).rows
        )
        for table in TABLES
    }


def test_a_day_becomes_a_file_a_table_and_no_row_is_lost(tmp_path: Path) -> None:
    out = dataset(tmp_path)
    before = contents(out)
    runs = [store.of_run(str(out), table, run_id(4)).rows for table in TABLES]
    done = compact(str(out), today=TODAY)
    assert contents(out) == before
    assert [store.of_run(str(out), table, run_id(4)).rows for table in TABLES] == runs
    assert (done.files_before, done.files_after, done.damaged) == (45, 12, [])
    assert {Path(path).name for path in store.files(str(out), "runs")} == {"merged.000001.parquet"}
    assert [one["run_id"] for one in store.runs(str(out)).rows] == sorted(
        (run_id(n) for n in range(9)),
        key=lambda one: [DAYS[i % 3] for i in range(9) if run_id(i) == one] + [one],
    )
    assert stored(str(out), run_id(3)).energy_j == 103.0
    assert compact(str(out), today=TODAY).files_after == 12  # there is nothing left to do


def test_pandas_duckdb_and_polars_read_merged_files_as_they_are(tmp_path: Path) -> None:
    out = dataset(tmp_path)
    compact(str(out), today=TODAY)
    late = row(9, energy_j=None)
    written(out, [late])
    pattern = f"{out}/runs/**/*.parquet"
    expected = sorted([*(100.0 + n for n in range(9)), -1.0])
    by_duckdb = duckdb.sql(f"select coalesce(energy_j, -1) from '{pattern}'").fetchall()
    assert sorted(value for (value,) in by_duckdb) == expected
    assert sorted(polars.read_parquet(pattern)["energy_j"].fill_null(-1).to_list()) == expected
    frame = pd.read_parquet(out / "runs")
    assert sorted(frame["energy_j"].fillna(-1)) == expected
    assert {str(day) for day in frame["date"]} == set(DAYS)


def test_the_present_day_waits_unless_all_is_said(tmp_path: Path) -> None:
    out = dataset(tmp_path)
    assert compact(str(out), today=DAYS[1]).files_after == 4 + 15 + 15
    assert compact(str(out), everything=True, today=DAYS[1]).files_after == 12


KILLS = """
import os, shutil, sys
from pathlib import Path
from energyprof import store
from energyprof.compaction import compact
from tests.test_compaction import contents
whole, scrap = Path(sys.argv[1]), Path(sys.argv[2])
expected = contents(whole)
CALLS = ("replace", "unlink", "fsync", "open")

def die_at(step):
    left = [step]
    def patched(real):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                os._exit(9)
            return real(*arguments, **options)
        return call
    for name in CALLS:
        setattr(os, name, patched(getattr(os, name)))

step, code = 0, 9
while code == 9:
    step += 1
    out = scrap / str(step)
    shutil.copytree(whole, out)
    child = os.fork()
    if child == 0:
        die_at(step)
        compact(str(out), today="2026-11-21")
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert contents(out) == expected, f"after step {step}"
    compact(str(out), today="2026-11-21")
    assert contents(out) == expected, f"after step {step} and another one"
    assert len([p for p in out.rglob("*") if p.is_file() and p.name != "lock"]) == 2, step
    shutil.rmtree(out)
print(step, code)
"""


def test_killed_at_any_step_each_row_is_there_once_and_the_next_finishes(tmp_path: Path) -> None:
    whole = dataset(tmp_path / "whole", 4)
    for table in ("channels", "samples"):
        shutil.rmtree(whole / table)
    for day in DAYS[1:]:
        for table in ("runs", "intervals"):
            shutil.rmtree(whole / table / f"date={day}")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLS, str(whole), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps, code = map(int, done.stdout.split())
    assert (steps > 18, code) == (True, 0)


def test_who_reads_meanwhile_sees_each_run_once(tmp_path: Path) -> None:
    whole = dataset(tmp_path / "whole", 24)
    expected = [one["run_id"] for one in store.runs(str(whole)).rows]
    reads = 0
    for attempt in range(2):
        out = tmp_path / str(attempt)
        shutil.copytree(whole, out)
        worker = threading.Thread(target=compact, args=(str(out), False, TODAY))
        worker.start()
        while worker.is_alive():
            found = store.runs(str(out))
            assert [one["run_id"] for one in found.rows] == expected
            assert found.damaged == []
            assert len(store.of_run(str(out), "intervals", run_id(5)).rows) == 4
            reads += 1
        worker.join()
    assert reads >= 2


def opening(monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None]) -> list[str]:
    """The files that are opened from now on; `before` is told how many were."""
    opened: list[str] = []
    real = tablefile.opened

    def noted(path: str, content: bytes | None = None) -> pq.ParquetFile:
        opened.append(path)
        before(len(opened))
        return real(path, content)

    monkeypatch.setattr(tablefile, "opened", noted)
    return opened


def test_what_goes_while_thousands_are_read_is_no_reason_to_read_the_others_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = dataset(tmp_path / "deleted", 7)  # so few are opened one after the other
    paths = store.files(str(out), "runs")
    with monkeypatch.context() as patch:
        opened = opening(patch, lambda count: os.unlink(paths[4]) if count == 3 else None)
        rows = store.read(paths, "runs").rows
    assert opened == paths
    assert [store.id_of(path) for path in paths if path != paths[4]] == [one["run_id"] for one in rows]

    out = dataset(tmp_path / "merged", 7)
    paths = store.files(str(out), "runs")
    with monkeypatch.context() as patch:
        opening(patch, lambda count: merge(out, patch) if count == 3 else None)
        rows = store.read(paths, "runs").rows
    assert sorted(one["run_id"] for one in rows) == [run_id(n) for n in range(7)]


def merge(out: Path, patch: pytest.MonkeyPatch) -> None:
    patch.undo()  # what `compact` opens is its own affair
    compact(str(out), today=TODAY)


def test_merged_files_that_are_merged_again_meanwhile_are_read_as_they_are_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = dataset(tmp_path)
    compact(str(out), today=TODAY)
    paths = store.files(str(out), "runs")
    late = {**row(50), "started_utc": datetime(2026, 11, 18, tzinfo=timezone.utc)}
    written(out, [late])
    with monkeypatch.context() as patch:
        opening(patch, lambda count: merge(out, patch) if count == 1 else None)
        rows = store.read(paths, "runs").rows
    assert sorted(one["run_id"] for one in rows) == [run_id(n) for n in (*range(9), 50)]


def test_a_dataset_that_is_asked_about_many_runs_lists_and_looks_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = dataset(tmp_path)
    compact(str(out), today=DAYS[2])
    expected = {
        (table, n): store.of_run(str(out), table, run_id(n)).rows for table in TABLES for n in range(9)
    }
    listed: list[str] = []
    real = store.files
    with monkeypatch.context() as patch:
        patch.setattr(store, "files", lambda out, table: listed.append(table) or real(out, table))
        opened = opening(patch, lambda count: None)
        data = store.Dataset(str(out))
        for (table, n), rows in expected.items():
            assert data.of_run(table, run_id(n)).rows == rows
    assert sorted(listed) == sorted(TABLES)
    merged = [path for path in opened if "intervals" in path and generation(path)]
    assert len(merged) == 2 + 6  # two days are asked what they hold, once, and each for its three runs
    compact(str(out), everything=True)
    assert data.of_run("intervals", run_id(2)).rows == expected["intervals", 2]
    store.remove(str(out), [run_id(2)])
    assert data.of_run("intervals", run_id(2)).rows == []


def test_merged_files_of_other_days_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = 24 * 60  # a run a minute is numbered
    written(tmp_path, [row(number) for first in range(0, 9 * day, 3 * day) for number in (first, first + 1)])
    compact(str(tmp_path), everything=True)
    opened = opening(monkeypatch, lambda count: None)
    found = store.of_run(str(tmp_path), "channels", run_id(3 * day))
    assert [one["run_id"] for one in found.rows] == [run_id(3 * day)]
    assert {Path(path).parent.name for path in opened} == {"date=2026-11-23"}


def test_a_listing_that_grew_old_finds_the_rows_in_the_merged_file(tmp_path: Path) -> None:
    out = dataset(tmp_path)
    before = contents(out)["runs"]
    old = store.files(str(out), "runs")
    compact(str(out), today=TODAY)
    older = store.files(str(out), "runs")
    written(out, [{**row(50), "started_utc": datetime(2026, 11, 18, tzinfo=timezone.utc)}])
    compact(str(out), today=TODAY)
    for paths in (old, older):
        rows = store.read(paths, "runs").rows
        assert sorted(tuple(map(str, one.values())) for one in rows if one["run_id"] != run_id(50)) == before
    store.remove(str(out), [run_id(0)])
    assert run_id(0) not in {one["run_id"] for one in store.read(old, "runs").rows}


def test_a_run_that_is_not_over_keeps_its_files(tmp_path: Path) -> None:
    out = dataset(tmp_path)
    (out / "_journal" / f"{run_id(4)}.n").mkdir(parents=True)
    compact(str(out), today=TODAY)
    left = [Path(path).name for path in store.files(str(out), "runs") if generation(path) is None]
    assert left == [f"{run_id(4)}.n.parquet"]


def test_a_file_that_is_written_again_stands_before_its_merged_rows(tmp_path: Path) -> None:
    out = dataset(tmp_path)
    compact(str(out), today=TODAY)
    again = {**row(4, name="again"), "started_utc": datetime(2026, 11, 19, 4, tzinfo=timezone.utc)}
    written(out, [again])
    for _ in range(2):
        rows = {one["run_id"]: one for one in store.runs(str(out)).rows}
        assert (len(rows), len(store.runs(str(out)).rows), rows[run_id(4)]["name"]) == (9, 9, "again")
        compact(str(out), today=TODAY)
    assert [generation(path) for path in store.files(str(out), "runs")] == [1, 2, 1]


def test_damaged_files_stay_are_named_and_cost_no_other_run(tmp_path: Path) -> None:
    out = dataset(tmp_path)
    bad = Path(store.file_path(str(out), "runs", DAYS[1], f"{run_id(4)}.n"))
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    rotten = Path(store.file_path(str(out), "samples", DAYS[0], f"{run_id(0)}.n"))
    pq.write_table(pq.read_table(rotten, partitioning=None).drop_columns(["run_id"]), rotten)
    done = compact(str(out), today=TODAY)
    assert {path for path, _ in done.damaged} == {str(bad), str(rotten)}
    assert bad.exists()
    assert rotten.exists()
    assert len(store.runs(str(out)).rows) == 8
    bad.write_bytes(whole)
    assert len(store.runs(str(out)).rows) == 9


def test_a_damaged_merged_file_is_named_and_its_sources_would_still_count(tmp_path: Path) -> None:
    out = dataset(tmp_path)
    copy = tmp_path.parent / f"{tmp_path.name}-copy"
    shutil.copytree(out, copy)
    compact(str(out), today=TODAY)
    merged = Path(store.files(str(out), "runs")[0])
    merged.write_bytes(merged.read_bytes()[:-9])
    assert [path for path, _ in store.runs(str(out)).damaged] == [str(merged)]
    assert len(store.runs(str(out)).rows) == 6
    for path in (copy / "runs" / merged.parent.name).iterdir():
        shutil.copy(path, merged.parent)
    assert len(store.runs(str(out)).rows) == 9


def test_a_newer_schema_is_refused_and_what_a_newer_release_added_stays(tmp_path: Path) -> None:
    out = dataset(tmp_path)
    path = Path(store.file_path(str(out), "runs", DAYS[1], f"{run_id(4)}.n"))
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.append_column("novel_j", pa.array([7.5])), path)
    compact(str(out), today=TODAY)
    values = duckdb.sql(f"select novel_j from read_parquet('{out}/runs/date={DAYS[1]}/*.parquet')").fetchall()
    assert sorted(values, key=str) == [(7.5,), (None,), (None,)]
    pq.write_table(table.replace_schema_metadata({VERSION_KEY: str(VERSION + 1)}), path)
    with pytest.raises(store.NewerSchema, match="upgrade"):
        compact(str(out), today=TODAY)
    assert path.exists()


def test_rm_takes_a_run_out_of_merged_files_and_leaves_the_others(tmp_path: Path) -> None:
    out = dataset(tmp_path)
    compact(str(out), today=TODAY)
    assert store.remove(str(out), [run_id(4), run_id(0), run_id(3), run_id(6)]) > 0
    assert not (out / "runs" / f"date={DAYS[0]}").exists()  # all of that day
    for table in ("runs", "channels", "intervals", "samples"):
        left = {one["run_id"] for one in store.read(store.files(str(out), table), table).rows}
        assert left == {run_id(n) for n in (1, 2, 5, 7, 8)}


def test_two_do_not_rewrite_at_once(tmp_path: Path, cli_here: Runner) -> None:
    out = dataset(tmp_path / "runs")
    compact(str(out), today=TODAY)
    with store.locked(str(out)):
        for words in (("compact",), ("rm", run_id(4), "--yes")):
            said = cli_here(*words)
            assert (said.returncode, len(said.stderr.splitlines())) == (2, 1)
            assert "is at work" in said.stderr


def test_of_a_merged_file_no_more_is_read_than_the_runs_that_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("energyprof.tablefile.ROWS_AT_ONCE", 4)
    out = dataset(tmp_path)
    compact(str(out), today=TODAY)
    (path,) = [p for p in store.files(str(out), "intervals") if DAYS[1] in p]
    groups: list[int] = []
    real = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, number: int, **options: Any) -> pa.Table:
        groups.append(number)
        return real(self, number, **options)

    assert pq.ParquetFile(path).num_row_groups == 3
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    assert len(store.of_run(str(out), "intervals", run_id(4)).rows) == 4
    assert len(groups) == 1


def test_comparisons_are_the_same_before_and_after(tmp_path: Path) -> None:
    out = dataset(tmp_path)
    for groups in (["a", "b"], [run_id(2), run_id(3)], ["@last", "@last~1"]):
        before = compare_stored(groups, str(out))
        other = tmp_path.parent / f"{tmp_path.name}-{groups[0].strip('@')}"
        shutil.copytree(out, other)
        compact(str(other), today=TODAY)
        assert compare_stored(groups, str(other)) == before


def test_a_merged_file_lists_what_it_is_made_of_and_a_wrong_list_is_damage(tmp_path: Path) -> None:
    out = dataset(tmp_path)
    compact(str(out), today=TODAY)
    path = store.files(str(out), "intervals")[0]
    with pq.ParquetFile(path) as file:
        parts = mergedfile.parts_of(path, file)
    stems = [f"{run_id(n)}.n.{rank}" for n in (0, 3, 6) for rank in (0, 1)]
    assert [part.stem for part in parts] == stems
    assert [part.rows for part in parts] == [(2 * i, 2 * i + 2) for i in range(6)]
    table = pq.read_table(path, partitioning=None)
    wrong = {**(table.schema.metadata or {}), b"energyprof.merged": json.dumps([["x", 1]]).encode()}
    pq.write_table(table.replace_schema_metadata(wrong), path)
    assert store.read([path], "intervals").damaged[0][0] == path


def test_the_verb_says_what_it_did(tmp_path: Path, cli_here: Runner) -> None:
    dataset(tmp_path / "runs")
    said = cli_here("compact")
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("45 files are 12, ")
    assert "nothing to merge" in cli_here("compact", "--all").stdout
    assert json.loads(cli_here("compact", "--json").stdout)["files_after"] == 12
    assert len(json.loads(cli_here("ls", "--json").stdout)) == 9
    assert json.loads(cli_here("show", run_id(4), "--json").stdout)["run"]["energy_j"] == 104.0
    assert cli_here("compact", "--out", str(tmp_path / "none")).returncode == 0
    (tmp_path / "file").write_text("")
    assert cli_here("compact", "--out", str(tmp_path / "file")).returncode == 2
