"""The rows of many runs in one file beside the dataset, since opening each run's own takes a few milliseconds.

    OUT/_index/runs.parquet     the rows, and with each the file that it is from, its size and its time of change

Only a cache: a row counts while its file is as it was, whatever else there is is read from the files, and a damaged or
unwritable index costs time alone. It is written anew when many files were read that it did not know.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from energyprof import tablefile
from energyprof.schema import VERSION_KEY, schema

WORTH = 32  # files that nobody would want to open one by one again; about 0.1 s
_FILE, _SIZE, _CHANGED = "index_file", "index_bytes", "index_changed_ns"
_OWN = pa.schema([(_FILE, pa.string()), (_SIZE, pa.int64()), (_CHANGED, pa.int64())])
State = tuple[int, int]  # bytes, time of change in ns


def path_of(out: str) -> str:
    """Where the index of a dataset is."""
    return os.path.join(out, "_index", "runs.parquet")


def state_of(path: str) -> State:
    """What changes with a file; FileNotFoundError where it is gone."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        found = os.lstat(path)  # a link that leads nowhere
    return found.st_size, found.st_mtime_ns


class Index:
    """What was known of a dataset when the index was written; empty where there is none, or not ours."""

    def __init__(self, out: str) -> None:
        self.out = out
        self._rows: dict[str, tuple[State, list[int]]] = {}
        self._file: pq.ParquetFile | None = None  # stays open: another process may write the index anew
        try:
            file = pq.ParquetFile(path_of(out), page_checksum_verification=True)
            kind = schema("runs")
            ours = (file.schema_arrow.metadata or {}).get(VERSION_KEY) == kind.metadata[VERSION_KEY]
            if not ours or file.schema_arrow.names != [*kind.names, *_OWN.names]:
                file.close()  # of another release
                return
            own = file.read(columns=_OWN.names)
        except tablefile.FAULTS:
            return
        self._file = file
        columns = (own[name].to_pylist() for name in _OWN.names)
        for number, (name, size, changed) in enumerate(zip(*columns)):
            self._rows.setdefault(name, ((size, changed), []))[1].append(number)

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()

    def known(self, states: Mapping[str, State]) -> dict[str, list[int]]:
        """Of these files, the rows of those that are as they were."""
        found = {path: self._rows.get(os.path.relpath(path, self.out)) for path in states}
        return {path: one[1] for path, one in found.items() if one is not None and one[0] == states[path]}

    def rows(self, numbers: Sequence[int], columns: Sequence[str]) -> pa.Table | None:
        """Some rows; None where the index has rotted."""
        if self._file is None:
            return None
        try:
            data = self._file.read(columns=list(columns)).select(list(columns))
            tablefile.check_values(data)
            if list(numbers) != list(range(len(data))):
                data = data.take(pa.array(numbers, pa.int64()))
            return data.replace_schema_metadata(None)
        except tablefile.FAULTS:
            return None

    def keep(self, counts: Sequence[tuple[str, int]], rows: pa.Table, states: Mapping[str, State]) -> None:
        """Write the index anew: what it had of files that are still there, and `rows` with all columns, so many of
        each of the files in `counts`."""
        kind = schema("runs")
        wide = pa.schema([*kind, *_OWN], metadata=kind.metadata)
        new = {os.path.relpath(path, self.out): (path, count) for path, count in counts}
        kept = [
            number
            for name, (_, numbers) in self._rows.items()
            if name not in new and os.path.exists(os.path.join(self.out, name))
            for number in numbers
        ]
        tables = [wide.empty_table()]
        old = self.rows(kept, wide.names) if kept else None
        if old is not None:
            tables.append(old.cast(wide))
        own = [(name, *states[path]) for name, (path, count) in new.items() for _ in range(count)]
        for field, values in zip(_OWN, zip(*own)):
            rows = rows.append_column(field, pa.array(values, field.type))
        tables.append(rows.cast(wide))
        try:
            tablefile.write(path_of(self.out), pa.concat_tables(tables).combine_chunks(), checksums=True)
        except OSError:
            pass  # a folder that we may only read, or a full disk
