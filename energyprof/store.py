"""The dataset of runs: parquet files that pandas, DuckDB, Polars and Spark read as they are.

    OUT/<table>/date=<UTC date of the start>/<run_id>.<node>[.<rank>].parquet

One process writes a file: under a temporary name beside it, fsynced, then renamed. Reading goes file by
file, so that one damaged file is named and skipped and the others are still listed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from energyprof.schema import TABLES, VERSION, VERSION_KEY, schema

Row = Mapping[str, Any]


class NewerSchema(Exception):
    """The folder holds runs of a newer energyprof."""


@dataclass
class Listing:
    """Rows of a table, and the files that could not be read, each with the reason in words."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    damaged: list[tuple[str, str]] = field(default_factory=list)


def file_path(out: str, table: str, date: str, stem: str) -> str:
    """Where a run's part of a table is."""
    return os.path.join(out, table, f"date={date}", f"{stem}.parquet")


def write(path: str, table: str, columns: Mapping[str, Sequence[Any]] | Sequence[Row]) -> None:
    """Write rows (or columns) of `table` to `path`, all or nothing. Missing columns are null."""
    kind = schema(table)
    if isinstance(columns, Mapping):
        length = len(next(iter(columns.values()), ()))
        arrays = [
            pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(length, f.type) for f in kind
        ]
        data = pa.Table.from_arrays(arrays, schema=kind)
    else:
        data = pa.Table.from_pylist([dict(row) for row in columns], schema=kind)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    part = f"{path}.{os.getpid()}.part"
    integers = [f.name for f in kind if pa.types.is_integer(f.type)]
    floats = [f.name for f in kind if pa.types.is_floating(f.type)]
    texts = [f.name for f in kind if pa.types.is_string(f.type)]
    try:
        with open(part, "wb") as file:
            pq.write_table(
                data,
                file,
                compression="zstd",
                use_dictionary=texts,  # pyright: ignore[reportArgumentType]  # its stub knows only the bool form
                column_encoding={
                    **dict.fromkeys(integers, "DELTA_BINARY_PACKED"),
                    **dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
                },
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise


def files(out: str, table: str) -> list[str]:
    """The parquet files of a table, oldest date first."""
    found = []
    for folder, folders, names in os.walk(os.path.join(out, table)):
        folders.sort()
        found += [os.path.join(folder, name) for name in sorted(names) if name.endswith(".parquet")]
    return found


def read(paths: Iterable[str], table: str, where: Any = None) -> Listing:
    """All rows of the given files with the columns of this release.

    Raises
    ------
    NewerSchema
        A file is from a newer release, whose columns may mean other things.
    """
    listing = Listing()
    names = [name for name, _, _ in TABLES[table]]
    for path in paths:
        try:
            with pq.ParquetFile(path) as file:
                version = int((file.schema_arrow.metadata or {}).get(VERSION_KEY, b"0"))
                present = [name for name in names if name in file.schema_arrow.names]
                data = file.read(columns=present) if version <= VERSION else None
        except (OSError, ValueError, pa.ArrowException) as fault:
            listing.damaged.append((path, str(fault).splitlines()[0]))
            continue
        if data is None:
            raise NewerSchema(
                f"{path} has schema {version}, this energyprof reads up to {VERSION}: "
                "upgrade with `pip install -U energyprof`"
            )
        if where is not None:
            data = data.filter(where)
        for row in data.to_pylist():
            listing.rows.append({name: row.get(name) for name in names})
    return listing


def runs(out: str) -> Listing:
    """A row a run and node, oldest first."""
    listing = read(files(out, "runs"), "runs")
    listing.rows.sort(
        key=lambda row: (row["started_utc"] is not None, row["started_utc"], row["run_id"] or "")
    )
    return listing


def of_run(out: str, table: str, run_id: str) -> Listing:
    """A table's rows of one run, on all nodes and ranks."""
    return read([p for p in files(out, table) if os.path.basename(p).startswith(f"{run_id}.")], table)
