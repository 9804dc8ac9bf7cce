"""The dataset: what is written is what pandas, DuckDB and Polars read, whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timezone
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import energyprof
from energyprof import store
from energyprof.schema import TABLES, VERSION, VERSION_KEY
from tests.conftest import ROOT

RUN = "01930000-0000-7000-8000-00000000000a"


def run_row(**values: Any) -> dict[str, Any]:
    return {
        "run_id": RUN,
        "node": "n",
        "name": "a",
        "duration_s": 1.5,
        "energy_j": 12.25,
        "steps": 3,
        **values,
    }


def write_run(out: Path, date: str = "2026-11-20", stem: str = f"{RUN}.n", **values: Any) -> str:
    path = store.file_path(str(out), "runs", date, stem)
    store.write(path, store.table_of("runs", [run_row(**values)]))
    return path


def test_pandas_duckdb_and_polars_read_the_same_rows_and_the_date(tmp_path: Path) -> None:
    write_run(tmp_path, energy_j=None, reason="below_resolution")
    write_run(tmp_path, "2026-11-21", "01930000-0000-7000-8000-00000000000b.n", run_id="b", energy_j=2.5)
    pattern = str(tmp_path / "runs/**/*.parquet")
    by_duckdb = duckdb.sql(
        "select run_id, energy_j, reason, steps, date "
        f"from read_parquet('{pattern}', hive_partitioning=true) order by date"
    ).fetchall()
    by_polars = polars.read_parquet(pattern, hive_partitioning=True).sort("date")
    by_pandas = pd.read_parquet(tmp_path / "runs").sort_values("date")
    assert [row[:4] for row in by_duckdb] == [(RUN, None, "below_resolution", 3), ("b", 2.5, None, 3)]
    assert [str(row[4]) for row in by_duckdb] == ["2026-11-20", "2026-11-21"]
    assert by_polars["energy_j"].to_list() == [None, 2.5]
    assert by_polars["run_id"].to_list() == [RUN, "b"]
    assert by_pandas["energy_j"].isna().tolist() == [True, False]
    assert by_pandas["steps"].tolist() == [3, 3]
    assert [str(date) for date in by_pandas["date"]] == ["2026-11-20", "2026-11-21"]


@pytest.mark.parametrize("table", list(TABLES))
def test_every_column_has_its_type_its_meaning_and_the_version(tmp_path: Path, table: str) -> None:
    path = store.file_path(str(tmp_path), table, "2026-11-20", "x")
    store.write(path, store.table_of(table, [{"run_id": RUN}]))
    found = pq.read_schema(path)
    assert (found.metadata or {})[VERSION_KEY] == str(VERSION).encode()
    assert [(f.name, f.type) for f in found] == [(name, kind) for name, kind, _ in TABLES[table]]
    assert all((f.metadata or {})[b"description"] for f in found)
    row = pq.read_table(path, partitioning=None).to_pylist()[0]
    assert {name for name, value in row.items() if value is not None} == {"run_id"}


def test_a_write_that_fails_leaves_nothing_and_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_run(tmp_path, name="first")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space") as refused:
        write_run(tmp_path, name="second")
    assert refused.value.filename == path
    assert [p.name for p in Path(path).parent.iterdir()] == [Path(path).name]
    assert store.runs(str(tmp_path)).rows[0]["name"] == "first"


def test_files_that_are_being_written_are_not_read(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    Path(f"{path}.123.part").write_bytes(b"half a file")
    listing = store.runs(str(tmp_path))
    assert (len(listing.rows), listing.damaged) == (1, [])


def test_runs_come_oldest_first_whatever_their_files_are_called(tmp_path: Path) -> None:
    for name, second in (("late", 3), ("early", 1), ("middle", 2)):
        started = pd.Timestamp(f"2026-11-20T00:00:0{second}Z").to_pydatetime()
        write_run(tmp_path, stem=f"{name}.n", run_id=name, started_utc=started)
    assert [row["run_id"] for row in store.runs(str(tmp_path)).rows] == ["early", "middle", "late"]
    assert energyprof.load(tmp_path)["run_id"].tolist() == ["early", "middle", "late"]


def test_loading_names_damaged_files_and_refuses_newer_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path)
    broken = tmp_path / "runs/date=2026-11-20/broken.parquet"
    broken.write_bytes(b"PAR1 and no more")
    assert len(energyprof.load(tmp_path)) == 1
    assert str(broken) in capsys.readouterr().err
    newer = pq.read_table(write_run(tmp_path), partitioning=None)
    pq.write_table(newer.replace_schema_metadata({VERSION_KEY: str(VERSION + 1)}), broken)
    with pytest.raises(store.NewerSchema, match="upgrade"):
        energyprof.load(tmp_path)


def test_an_empty_dataset_is_an_empty_frame_with_all_columns(tmp_path: Path) -> None:
    frame = energyprof.load(tmp_path / "nothing")
    assert len(frame) == 0
    assert list(frame.columns) == [name for name, _, _ in TABLES["runs"]]


VALUES = {
    pa.string(): st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))),
    pa.int64(): st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    pa.float64(): st.one_of(st.none(), st.floats(allow_nan=False)),
    pa.bool_(): st.one_of(st.none(), st.booleans()),
    pa.timestamp("us", tz="UTC"): st.one_of(st.none(), st.datetimes(timezones=st.just(timezone.utc))),
}


@pytest.mark.parametrize("table", list(TABLES))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_rows_come_back_as_they_were(tmp_path: Path, table: str, data: st.DataObject) -> None:
    row = st.fixed_dictionaries({name: VALUES[kind] for name, kind, _ in TABLES[table]})
    rows = data.draw(st.lists(row, min_size=1, max_size=4))
    for written in rows:
        written["run_id"] = RUN
    path = store.file_path(str(tmp_path), table, "2026-11-20", f"{RUN}.n")
    store.write(path, store.table_of(table, rows))
    assert store.of_run(str(tmp_path), table, RUN).rows == rows


def test_columns_as_arrays_are_the_same_table_as_rows() -> None:
    rows = [{"run_id": RUN, "t_ns": t, "value": t * 2, "channel": "gpu:0"} for t in range(5)]
    columns = {"run_id": RUN, "t_ns": list(range(5)), "value": [0, 2, 4, 6, 8], "channel": "gpu:0"}
    assert store.table_of("samples", columns).equals(store.table_of("samples", rows))


def test_bytes_that_are_no_text_become_question_marks() -> None:
    table = store.table_of("runs", [run_row(name=b"a\xff".decode("utf-8", "surrogateescape"))])
    assert table["name"].to_pylist() == ["a?"]


def test_null_stays_null_and_is_neither_zero_nor_nan_for_every_reader(tmp_path: Path) -> None:
    write_run(tmp_path, **{**dict.fromkeys(run_row()), "run_id": RUN})
    pattern = f"{tmp_path}/runs/**/*.parquet"
    unknown = [name for name, _, _ in TABLES["runs"] if name != "run_id"]
    counts = ", ".join(f'count("{name}")' for name in unknown)
    assert duckdb.sql(f"select {counts} from '{pattern}'").fetchall() == [(0,) * len(unknown)]
    assert set(polars.read_parquet(pattern).select(unknown).null_count().row(0)) == {1}
    frame = pd.read_parquet(tmp_path / "runs", dtype_backend="pyarrow")  # NumPy cannot tell null from NaN
    assert frame[unknown].isna().all(axis=None)
    assert store.runs(str(tmp_path)).rows == [{"run_id": RUN, **dict.fromkeys(unknown)}]


def test_an_older_file_opens_beside_a_newer_one_with_null_for_what_it_lacks(tmp_path: Path) -> None:
    older = write_run(tmp_path, "2026-11-19", "old.n", run_id="old", tags="{}")
    table = pq.read_table(older, partitioning=None).drop_columns(["tags", "boot_id"])
    pq.write_table(table.replace_schema_metadata({VERSION_KEY: b"0"}), older)
    write_run(tmp_path, run_id="new", tags="{}")
    rows = {row["run_id"]: row for row in store.runs(str(tmp_path)).rows}
    assert list(rows["old"]) == [name for name, _, _ in TABLES["runs"]]
    assert (rows["old"]["tags"], rows["old"]["energy_j"], rows["new"]["tags"]) == (None, 12.25, "{}")


def test_a_newer_schema_is_refused_in_one_line_that_names_file_versions_and_remedy(tmp_path: Path) -> None:
    path = write_run(tmp_path)
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.replace_schema_metadata({VERSION_KEY: str(VERSION + 1)}), path)
    with pytest.raises(store.NewerSchema) as refused:
        store.runs(str(tmp_path))
    assert "\n" not in str(refused.value)
    for part in (path, f"schema {VERSION + 1}", f"up to {VERSION}", "pip install -U energyprof"):
        assert part in str(refused.value)


@pytest.mark.parametrize("damage", ["other format", "no run_id", "wrong type", "odd version"])
def test_a_damaged_file_is_named_with_one_line_and_the_others_are_listed(tmp_path: Path, damage: str) -> None:
    write_run(tmp_path, name="kept")
    bad = Path(write_run(tmp_path, "2026-11-19", "bad.n", run_id="bad"))
    table = pq.read_table(bad, partitioning=None)
    tables = {
        "no run_id": table.drop_columns(["run_id"]),
        "wrong type": table.set_column(table.column_names.index("energy_j"), "energy_j", pa.array(["much"])),
        "odd version": table.replace_schema_metadata({VERSION_KEY: b"two"}),
    }
    if damage in tables:
        pq.write_table(tables[damage], bad)
    else:
        bad.write_bytes(b"a,b\n1,2\n")
    listing = store.runs(str(tmp_path))
    assert [row["name"] for row in listing.rows] == ["kept"]
    ((path, why),) = listing.damaged
    assert path == str(bad)
    assert len(why.splitlines()) == 1


def test_a_file_cut_at_any_byte_is_damaged_and_costs_no_other_run(tmp_path: Path) -> None:
    write_run(tmp_path, name="kept")
    bad = Path(write_run(tmp_path, "2026-11-19", "bad.n", run_id="bad"))
    whole = bad.read_bytes()
    for length in range(0, len(whole), 97):
        bad.write_bytes(whole[:length])
        listing = store.runs(str(tmp_path))
        assert [row["name"] for row in listing.rows] == ["kept"], length
        assert [path for path, _ in listing.damaged] == [str(bad)], length


@pytest.mark.parametrize("rot", ["text that is not UTF-8", "a time beyond the calendar"])
def test_a_file_with_rotten_values_costs_no_other_run(tmp_path: Path, rot: str) -> None:
    """A flipped bit is not always seen as the file is decoded: it may show only as a value is looked at."""
    write_run(tmp_path, name="kept")
    bad = write_run(tmp_path, "2026-11-19", "bad.n", run_id="bad")
    table = pq.read_table(bad, partitioning=None)
    if rot.startswith("text"):
        length = pa.py_buffer(b"\x00\x00\x00\x00\x02\x00\x00\x00")
        column, values = "name", pa.StringArray.from_buffers(1, length, pa.py_buffer(b"\xff\xfe"))
    else:
        column, values = "started_utc", pa.array([2**62]).cast(pa.timestamp("us", tz="UTC"))
    at = table.column_names.index(column)
    pq.write_table(table.set_column(at, table.schema.field(column), values), bad)
    listing = store.runs(str(tmp_path))
    assert "kept" in [row["name"] for row in listing.rows]


@pytest.mark.parametrize("fault", [OSError(5, "Input/output error"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", [(pq.ParquetWriter, "write_table"), (os, "replace")])
def test_a_write_that_breaks_off_anywhere_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[Any, str], fault: BaseException
) -> None:
    def break_off(source: Any, target: Any, **options: Any) -> None:
        raise fault

    monkeypatch.setattr(*step, break_off)
    with pytest.raises(type(fault)):
        write_run(tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_what_a_killed_writer_left_stands_in_no_readers_way(tmp_path: Path) -> None:
    """Neither here nor in the three lines of code that the documents give to users."""
    path = write_run(tmp_path)
    program = (
        "import os, sys; from energyprof import store\n"
        "os.replace = lambda source, target: os.kill(os.getpid(), 9)\n"
        "store.write(sys.argv[1], store.table_of('runs', [{'run_id': 'other'}]))"
    )
    command = [sys.executable, "-c", program, f"{Path(path).parent}/other.n.parquet"]
    killed = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == -9
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 2
    assert [row["run_id"] for row in store.runs(str(tmp_path)).rows] == [RUN]
    pattern = f"{tmp_path}/runs/**/*.parquet"
    assert duckdb.sql(f"select run_id from '{pattern}'").fetchall() == [(RUN,)]
    assert polars.read_parquet(pattern)["run_id"].to_list() == [RUN]
    assert pd.read_parquet(tmp_path / "runs")["run_id"].tolist() == [RUN]


def test_a_run_is_its_id_whole_on_all_nodes_and_ranks_and_a_column_of_the_file(tmp_path: Path) -> None:
    for run_id, node in (("a", "one"), ("a", "two"), ("ab", "one")):
        write_run(tmp_path, stem=f"{run_id}.{node}", run_id=run_id, node=node)
    assert [row["node"] for row in store.of_run(str(tmp_path), "runs", "a").rows] == ["one", "two"]
    for path in store.files(str(tmp_path), "runs"):
        (found,) = pq.ParquetFile(path).read()["run_id"].to_pylist()
        assert found == Path(path).name.split(".")[0]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.text())
@example(name="../../etc/passwd")
@example(name="/a\\b:c*?\n\r\t\x00 'q' \"d\" %s {x}")
@example(name="naïve 模型 🔥\u202e\ufeff")
@example(name="\udcff\ud800")
def test_any_text_is_a_name_and_no_name_touches_the_path(tmp_path: Path, name: str) -> None:
    path = write_run(tmp_path, name=name, command=name, cwd=name)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [Path(path)]
    kept = name.encode("utf-8", "replace").decode()  # lone surrogates alone cannot be kept
    (row,) = store.runs(str(tmp_path)).rows
    assert (row["name"], row["command"], row["cwd"]) == (kept, kept, kept)
    assert energyprof.load(tmp_path)["name"].tolist() == [kept]
