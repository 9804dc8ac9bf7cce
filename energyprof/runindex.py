"""The rows of many runs in one file beside the dataset, since opening each run's own takes a millisecond or two.

    OUT/_index/runs.parquet     the rows, and with each the file that it is from, and how that file is known again

Only a cache: a row counts while its file is what it was, whatever else there is is read from the files, and a damaged
or unwritable index costs time alone. It is written anew when many files were read that it did not know.

A file is what it was if its size, inode and time of change are: files of the dataset are never written in place, but
beside and renamed, so that another content is another inode. Where inode or time are others but the size is the same (a
copied folder, another mount), its bytes decide, by a digest of those from which the row was read. Size and name alone
would not do: a run that is sealed again (`recover`, or once short regions are estimated) keeps its name, and often its
size, since numbers take the same space whatever they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from energyprof import arrow_values, tablefile
from energyprof.schema import VERSION_KEY, schema

WORTH = 32  # files that nobody would want to open one by one again; about 0.1 s
_OWN = pa.schema([
    ("index_file", pa.string()),
    ("index_bytes", pa.int64()),
    ("index_inode", pa.uint64()),
    ("index_changed_ns", pa.int64()),
    ("index_digest", pa.binary()),
])  # fmt: skip
State = tuple[int, int, int]  # bytes, inode, time of change in ns


def path_of(out: str) -> str:
    """Where the index of a dataset is."""
    return os.path.join(out, "_index", "runs.parquet")


def state_of(path: str) -> State:
    """What changes with a file; FileNotFoundError where it is gone."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        found = os.lstat(path)  # a link that leads nowhere
    return found.st_size, found.st_ino, found.st_mtime_ns


def digest_of(content: bytes) -> bytes:
    """By what a file's bytes are known again."""
    import hashlib

    return hashlib.blake2b(content, digest_size=16).digest()


@dataclass(frozen=True)
class Entry:
    """A file as it was when its rows were read."""

    state: State
    digest: bytes


class Index:
    """What was known of a dataset when the index was written; empty where there is none, or not ours."""

    def __init__(self, out: str) -> None:
        self.out = out
        self._entries: dict[str, tuple[Entry, list[int]]] = {}  # by name; and the numbers of its rows
        self._file: pq.ParquetFile | None = None  # stays open: another process may write the index anew
        try:
            file = pq.ParquetFile(path_of(out), page_checksum_verification=True)
            kind = schema("runs")
            found = file.schema_arrow
            ours = (found.metadata or {}).get(VERSION_KEY) == kind.metadata[VERSION_KEY]
            if not ours or found.names != [*kind.names, *_OWN.names]:
                file.close()  # of another release
                return
            own = file.read(columns=_OWN.names)
        except tablefile.FAULTS:
            return
        self._file = file
        columns = (own[name].to_pylist() for name in _OWN.names)
        for number, (name, size, inode, changed, digest) in enumerate(zip(*columns)):
            entry = Entry((size, inode, changed), digest)
            self._entries.setdefault(name, (entry, []))[1].append(number)

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()

    def _name(self, path: str) -> str:
        return path.removeprefix(os.path.join(self.out, ""))

    def known(self, states: Mapping[str, State]) -> tuple[dict[str, list[int]], dict[str, Entry]]:
        """Of these files, the rows of those that are what they were; and those that only their bytes told, as
        they are now."""
        known: dict[str, list[int]] = {}
        moved: dict[str, Entry] = {}
        for path, state in states.items():
            entry, numbers = self._entries.get(self._name(path), (None, []))
            if entry is None:
                continue
            if entry.state == state:
                known[path] = numbers
            elif entry.state[0] == state[0] and _has(path, entry.digest):
                known[path] = numbers
                moved[path] = Entry(state, entry.digest)
        return known, moved

    def rows(self, numbers: Sequence[int], columns: Sequence[str]) -> pa.Table | None:
        """Some rows; None where the index has rotted."""
        if self._file is None:
            return None
        try:
            data = self._file.read(columns=list(columns)).select(list(columns))
            tablefile.check_values(data)
            if list(numbers) != list(range(len(data))):
                data = data.take(arrow_values.integers(numbers))
            return data.replace_schema_metadata(None)
        except tablefile.FAULTS:
            return None

    def keep(
        self, fresh: Sequence[tuple[str, Entry, int]], rows: pa.Table | None, moved: Mapping[str, Entry]
    ) -> None:
        """Write the index anew: what it had of files that are still there, those in `moved` as they are now, and the
        `rows` (of all columns) of the files in `fresh`, so many of each."""
        try:
            tablefile.write(path_of(self.out), self._tables(fresh, rows, moved), checksums=True)
        except OSError:
            pass  # a folder that we may only read, or a full disk

    def _tables(
        self, fresh: Sequence[tuple[str, Entry, int]], rows: pa.Table | None, moved: Mapping[str, Entry]
    ) -> Iterator[pa.Table]:
        """Made as they are written, so that a folder that takes no file costs nothing."""
        kind = schema("runs")
        wide = pa.schema([*kind, *_OWN], metadata=kind.metadata)
        new = {self._name(path) for path, _, _ in fresh}
        now = {self._name(path): entry for path, entry in moved.items()}
        kept = {
            name: (now.get(name, entry), numbers)
            for name, (entry, numbers) in self._entries.items()
            if name not in new and os.path.exists(os.path.join(self.out, name))
        }
        old = self.rows([number for _, numbers in kept.values() for number in numbers], kind.names)
        yield wide.empty_table()
        if old is not None:
            files = ((name, entry, len(numbers)) for name, (entry, numbers) in kept.items())
            yield _with_files(old, files).cast(wide)
        if rows is not None:
            files = ((self._name(path), entry, count) for path, entry, count in fresh)
            yield _with_files(rows, files).cast(wide)


def _has(path: str, digest: bytes) -> bool:
    """Whether a file's bytes are those of that digest."""
    try:
        with open(path, "rb") as file:
            return digest_of(file.read()) == digest
    except OSError:
        return False


def _with_files(rows: pa.Table, files: Iterable[tuple[str, Entry, int]]) -> pa.Table:
    """The rows, and with each the file that it is from; so many rows a file, in order."""
    own = [(name, *entry.state, entry.digest) for name, entry, count in files for _ in range(count)]
    columns = zip(*own) if own else ([] for _ in _OWN)
    for field, values in zip(_OWN, columns):
        rows = rows.append_column(field, pa.array(values, field.type))
    return rows
