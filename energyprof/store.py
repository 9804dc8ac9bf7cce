"""The dataset of runs: parquet files that pandas, DuckDB, Polars and Spark read as they are.

    OUT/<table>/date=<UTC date of the start>/<run_id>.<node>[.<rank>].parquet

One process writes a file: under a temporary name beside it, fsynced, then renamed. Reading goes file by
file, so that one damaged file is named and skipped and the others are still listed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from energyprof.schema import TABLES, VERSION, VERSION_KEY, schema

Row = Mapping[str, Any]
_CALENDAR_US = (-62_135_596_800_000_000, 253_402_300_800_000_000)  # the years 1 to 9999, as datetime has them


ROWS_AT_ONCE = 1 << 18  # what is held of a table that is written piece by piece


class NewerSchema(Exception):
    """The folder holds runs of a newer energyprof."""


@dataclass
class Listing:
    """What a table's files hold, and the files that could not be read, each with the reason in words."""

    names: list[str]
    table: pa.Table | None = None
    damaged: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """A dict a row with all columns of this release; what an older file lacks is None."""
        rows = [] if self.table is None else self.table.to_pylist()
        return [{name: row.get(name) for name in self.names} for row in rows]


def file_path(out: str, table: str, date: str, stem: str) -> str:
    """Where a run's part of a table is."""
    return os.path.join(out, table, f"date={date}", f"{stem}.parquet")


def table_of(table: str, columns: Mapping[str, Any] | Sequence[Row]) -> pa.Table:
    """Rows, or columns (arrays of one length; a single text or number stands for all rows), in `table`'s
    schema. Missing columns are null."""
    kind = schema(table)
    if not isinstance(columns, Mapping):
        rows = [{key: _storable(value) for key, value in row.items()} for row in columns]
        return pa.Table.from_pylist(rows, schema=kind)
    length = max(
        (len(c) for c in columns.values() if hasattr(c, "__len__") and not isinstance(c, str)), default=0
    )

    def column(field: pa.Field) -> pa.Array:
        value = columns.get(field.name)
        if value is None or isinstance(value, (str, int, float)):
            return pa.repeat(pa.scalar(_storable(value), field.type), length)
        return value.cast(field.type) if isinstance(value, pa.Array) else pa.array(value, field.type)

    return pa.Table.from_arrays([column(field) for field in kind], schema=kind)


def _storable(value: Any) -> Any:
    """Text as UTF-8 can hold it: undecodable bytes of a path or an argument become question marks."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def write(path: str, data: pa.Table | Iterable[pa.Table]) -> None:
    """Write a table, or tables of one schema one after the other, to `path`, all or nothing."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    folder, name = os.path.split(path)
    part = os.path.join(folder, f".{name}.{os.getpid()}.part")  # readers of whole folders pass over dot files
    try:
        with open(part, "wb") as file:
            _write_all(file, iter([data] if isinstance(data, pa.Table) else data))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise


def _write_all(file: Any, tables: Iterator[pa.Table]) -> None:
    """At least one table; small ones share a row group."""
    waiting = [next(tables)]
    kind = waiting[0].schema
    integers = [f.name for f in kind if pa.types.is_integer(f.type)]
    floats = [f.name for f in kind if pa.types.is_floating(f.type)]
    texts = [f.name for f in kind if pa.types.is_string(f.type)]
    writer = pq.ParquetWriter(
        file,
        kind,
        compression="zstd",
        use_dictionary=texts,  # pyright: ignore[reportArgumentType]  # its stub knows only the bool form
        column_encoding={
            **dict.fromkeys(integers, "DELTA_BINARY_PACKED"),
            **dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
        },
    )
    with writer:
        for table in tables:
            if sum(len(one) for one in waiting) >= ROWS_AT_ONCE:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
            waiting.append(table)
        writer.write_table(pa.concat_tables(waiting))


def files(out: str, table: str) -> list[str]:
    """The parquet files of a table, oldest date first."""
    found = []
    for folder, folders, names in os.walk(os.path.join(out, table)):
        folders.sort()
        found += [os.path.join(folder, name) for name in sorted(names) if name.endswith(".parquet")]
    return found


def read(
    paths: Iterable[str], table: str, where: Any = None, columns: Sequence[str] | None = None
) -> Listing:
    """All rows of the given files (where `where`, a pyarrow expression, holds) with this release's columns,
    or with some of them, which takes a fraction of the time.

    Raises
    ------
    NewerSchema
        A file is from a newer release, whose columns may mean other things.
    """
    wanted = schema(table)
    if columns is not None:
        wanted = pa.schema([wanted.field(name) for name in columns])
    tables, listing = [], Listing(wanted.names)
    for path in paths:
        try:
            data = _read_file(path, wanted)
        except (OSError, ValueError, pa.ArrowException) as fault:
            listing.damaged.append((path, str(fault).splitlines()[0]))
            continue
        tables.append(data if where is None else data.filter(where))
    if tables:
        listing.table = pa.concat_tables(tables, promote_options="default")
    return listing


def _read_file(path: str, wanted: pa.Schema) -> pa.Table:
    with pq.ParquetFile(path) as file:
        version = int((file.schema_arrow.metadata or {}).get(VERSION_KEY, b"0"))
        if version > VERSION:
            raise NewerSchema(
                f"{path} has schema {version}, this energyprof reads up to {VERSION}: "
                "upgrade with `pip install -U energyprof`"
            )
        present = file.schema_arrow.names
        if "run_id" not in present:
            raise ValueError("it is not a file of energyprof: it has no run_id")
        data = file.read(columns=[field.name for field in wanted if field.name in present])
    data = data.cast(pa.schema([wanted.field(name) for name in data.column_names]))
    _check_values(data)
    return data


def _check_values(data: pa.Table) -> None:
    """Raise ValueError for values that a flipped bit made and no program can show."""
    data.validate(full=True)
    for column in data.columns:
        if pa.types.is_timestamp(column.type):
            # Not by `to_numpy`, which imports pandas: a quarter of a second of every command.
            ends = pc.call_function("min_max", [column.cast(pa.int64())]).as_py()
            if (
                ends["min"] is not None
                and not _CALENDAR_US[0] <= ends["min"] <= ends["max"] < _CALENDAR_US[1]
            ):
                raise ValueError("it has a time beyond the calendar")


def runs(out: str) -> Listing:
    """A row a run and node, oldest first."""
    listing = read(files(out, "runs"), "runs")
    if listing.table is not None:
        listing.table = listing.table.sort_by([("started_utc", "ascending"), ("run_id", "ascending")])
    return listing


def of_run(out: str, table: str, run_id: str, where: Any = None) -> Listing:
    """A table's rows of one run, on all nodes and ranks."""
    mine = [path for path in files(out, table) if os.path.basename(path).startswith(f"{run_id}.")]
    return read(mine, table, where)


def remove(out: str, run_ids: Sequence[str]) -> int:
    """Delete the files of runs, each run's own row last, so that a removal that was broken off can be
    repeated; returns the bytes.

    Raises
    ------
    OSError
        A file cannot be deleted.
    """
    freed = 0
    for table in sorted(TABLES, key=lambda name: name == "runs"):
        for path in files(out, table):
            if os.path.basename(path).split(".")[0] in run_ids:
                size = os.path.getsize(path)
                os.unlink(path)
                freed += size
                _remove_if_empty(os.path.dirname(path))
    return freed


def _remove_if_empty(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        pass  # other runs of that day
