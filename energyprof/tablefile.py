"""One parquet file of the dataset: written whole or not at all, and read with its values checked."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from energyprof.schema import VERSION, VERSION_KEY, schema

Row = Mapping[str, Any]
Span = tuple[int, int]  # first row, and the one behind the last
ROWS_AT_ONCE = 1 << 18  # rows that are held of a table that is written piece by piece
# Rows; a run's own hundred columns of one value are no smaller by zstd or a dictionary, and slower twice; and the least
# and greatest of one value are that value twice more, in a footer that is parsed before anything is read.
_WORTH_PACKING = 32
FAULTS = (OSError, ValueError, pa.ArrowException)  # what a damaged file raises
_CALENDAR_US = (-62_135_596_800_000_000, 253_402_300_800_000_000)  # the years 1 to 9999, as datetime has them


class NewerSchema(Exception):
    """The folder holds runs of a newer energyprof."""


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


def write(path: str, data: pa.Table | Iterable[pa.Table], checksums: bool = False) -> None:
    """Write a table, or tables of one schema one after the other, to `path`, all or nothing.

    Raises
    ------
    OSError
        It cannot be written; the fault names the file.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    folder, name = os.path.split(path)
    # Readers of whole folders pass over dot files; and two threads may bring the index up to date at once.
    part = os.path.join(folder, f".{name}.{os.getpid()}-{threading.get_native_id()}.part")
    try:
        with open(part, "wb") as file:
            _write_all(file, iter([data] if isinstance(data, pa.Table) else data), checksums)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as fault:
        if os.path.exists(part):
            os.unlink(part)
        if isinstance(fault, OSError) and fault.filename is None:
            fault.filename = path  # a full disk does not say where it is
        raise


def _write_all(file: Any, tables: Iterator[pa.Table], checksums: bool) -> None:
    """At least one table; small ones share a row group."""
    groups = _groups(tables)
    first = next(groups)
    kind = first.schema
    integers = [f.name for f in kind if pa.types.is_integer(f.type)]
    floats = [f.name for f in kind if pa.types.is_floating(f.type)]
    many = len(first) >= _WORTH_PACKING
    texts = [f.name for f in kind if pa.types.is_string(f.type)] if many else False
    writer = pq.ParquetWriter(
        file,
        kind,
        compression="zstd" if many else "none",
        use_dictionary=texts,  # pyright: ignore[reportArgumentType]  # its stub knows only the bool form
        write_statistics=many,
        column_encoding={
            **dict.fromkeys(integers, "DELTA_BINARY_PACKED"),
            **dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
        },
        write_page_checksum=checksums,
    )
    with writer:
        writer.write_table(first)
        for group in groups:
            writer.write_table(group)


def _groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The tables as few of some size."""
    waiting = [next(tables)]
    rows = len(waiting[0])
    for table in tables:
        if rows >= ROWS_AT_ONCE:
            yield pa.concat_tables(waiting)
            waiting, rows = [], 0
        waiting.append(table)
        rows += len(table)
    yield pa.concat_tables(waiting)


def opened(path: str, content: bytes | None = None) -> pq.ParquetFile:
    """A file of the dataset, its footer read and found to be one of ours; of its bytes, where those are given.

    Raises
    ------
    NewerSchema
        It is from a newer release, whose columns may mean other things.
    FileNotFoundError
        It is gone.
    OSError, ValueError, pyarrow.ArrowException
        It is damaged, or another program's.
    """
    file = pq.ParquetFile(path if content is None else pa.BufferReader(content))
    try:
        kind = file.schema_arrow
        version = int((kind.metadata or {}).get(VERSION_KEY, b"0"))
        if version > VERSION:
            raise NewerSchema(
                f"{path} has schema {version}, this energyprof reads up to {VERSION}: "
                "upgrade with `pip install -U energyprof`"
            )
        if "run_id" not in kind.names:
            raise ValueError("it is not a file of energyprof: it has no run_id")
    except BaseException:
        file.close()
        raise
    return file


def is_gone(path: str, fault: BaseException) -> bool:
    """Whether a file could not be read because it was merged or deleted meanwhile; a link that leads nowhere is as good
    as damaged."""
    return isinstance(fault, FileNotFoundError) and not os.path.islink(path)


def words(fault: BaseException) -> str:
    """What is wrong, on one line."""
    return next(iter(str(fault).splitlines()), type(fault).__name__)


def pieces(
    file: pq.ParquetFile, wanted: pa.Schema, spans: Sequence[Span] | None = None, checked: bool = True
) -> Iterator[pa.Table]:
    """The rows of an open file, or of its spans, in those columns of `wanted` that it has: a table a row group and
    span, each value one that can be shown (unless `checked` is false: `check_values` is another's then)."""
    present = set(file.schema_arrow.names)
    names = [name for name in wanted.names if name in present]
    kind = pa.schema([wanted.field(name) for name in names])
    begin = 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        mine = [
            (max(first - begin, 0), min(end - begin, count))
            for first, end in ([(begin, begin + count)] if spans is None else spans)
            if first < begin + count and end > begin
        ]
        begin += count
        if mine:
            # Threads for the columns of one small file cost more than they win.
            data = file.read_row_group(group, columns=names, use_threads=count > 10_000).select(names)
            if not data.schema.equals(kind):
                data = data.cast(kind)
            if checked:
                check_values(data)
            for first, end in mine:
                yield data if (first, end) == (0, count) else data.slice(first, end - first)


def check_values(data: pa.Table) -> None:
    """Raise ValueError for values that a flipped bit made and no program can show."""
    data.validate(full=True)
    for column in data.columns:
        if pa.types.is_timestamp(column.type):
            ends = pc.call_function("min_max", [column.cast(pa.int64())]).as_py()
            if (
                ends["min"] is not None
                and not _CALENDAR_US[0] <= ends["min"] <= ends["max"] < _CALENDAR_US[1]
            ):
                raise ValueError("it has a time beyond the calendar")


def widened(data: pa.Table, kind: pa.Schema) -> pa.Table:
    """The table in that schema; the columns that it lacks are null."""
    present = set(data.column_names)
    columns = [data[f.name] if f.name in present else pa.nulls(len(data), f.type) for f in kind]
    return pa.Table.from_arrays(columns, schema=kind)
