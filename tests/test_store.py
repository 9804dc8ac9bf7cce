"""The dataset: what is written is what pandas, DuckDB and Polars read, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import energyprof
from energyprof import store
from energyprof.schema import TABLES, VERSION, VERSION_KEY

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
    with pytest.raises(OSError, match="No space"):
        write_run(tmp_path, name="second")
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
}


@pytest.mark.parametrize("table", ["channels", "intervals", "samples"])
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
