"""Files that hold what several runs left: `merged.<generation>.parquet` in a date's folder, made by `compact`.

Such a file's footer lists the files that it was made of, by name and number of rows, in the order of its rows. That
tells readers, at every instant of a merge and after one that was killed, which rows count: those of a file that still
lies beside it are that file's, and of two merged files the one of the higher generation has them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from energyprof import tablefile
from energyprof.schema import VERSION, VERSION_KEY, schema
from energyprof.tablefile import Span, widened

_KEY = b"energyprof.merged"
_NAME = re.compile(r"merged\.([0-9]{6,})\.parquet")


@dataclass(frozen=True)
class Part:
    """Rows of a file in the dataset that were, or are, a file of their own, named `stem`."""

    stem: str
    path: str
    rows: Span


def generation(path: str) -> int | None:
    """The number in a merged file's name; None for any other file."""
    name = path[path.rfind(os.sep) + 1 :]
    found = _NAME.fullmatch(name) if name.startswith("merged.") else None  # most are not: there are thousands
    return int(found[1]) if found else None


def stem_of(path: str) -> str:
    """A file's name without its ending."""
    return os.path.basename(path).removesuffix(".parquet")


def name_of(number: int) -> str:
    """The name of the merged file of that generation."""
    return f"merged.{number:06d}.parquet"


def parts_of(path: str, file: pq.ParquetFile) -> list[Part]:
    """What an open file was made of: itself, where it was not merged.

    Raises
    ------
    ValueError
        Its list does not fit its rows.
    """
    rows = file.metadata.num_rows
    text = (file.schema_arrow.metadata or {}).get(_KEY)
    if generation(path) is None or text is None:
        return [Part(stem_of(path), path, (0, rows))]
    parts, first = [], 0
    for stem, count in json.loads(text):
        parts.append(Part(str(stem), path, (first, first + int(count))))
        first += int(count)
    if first != rows:
        raise ValueError(f"its list of files has {first} rows and it has {rows}")
    return parts


def id_of(path: str) -> str | None:
    """The run whose file it is by its name (`<run_id>.<node>.parquet`); None where it may hold several."""
    stem = path[path.rfind(os.sep) + 1 :].partition(".")[0]
    return stem if len(stem) == 36 and stem.count("-") == 4 else None


def runs_in(path: str) -> frozenset[str] | None:
    """The runs whose rows a merged file has; None where it does not say.

    Raises
    ------
    energyprof.tablefile.NewerSchema
        It is from a newer release.
    """
    try:
        with tablefile.opened(path) as file:
            ids = [id_of(part.stem) for part in parts_of(path, file)]
    except tablefile.FAULTS:
        return None  # who reads it says what is wrong
    known = [run_id for run_id in ids if run_id is not None]
    return frozenset(known) if len(known) == len(ids) else None


def joined(spans: Sequence[Span]) -> list[Span]:
    """Spans in order, those that touch as one."""
    found: list[Span] = []
    for first, end in sorted(spans):
        if found and found[-1][1] == first:
            found[-1] = (found[-1][0], end)
        elif end > first:
            found.append((first, end))
    return found


@dataclass(frozen=True)
class Source:
    """A file that is to be merged, or whose rows are to be written again."""

    path: str
    parts: tuple[Part, ...]
    kind: pa.Schema
    rows: pa.Table | None  # those of a small file, so that it is opened once


def source(path: str, table: str, held: bool) -> Source:
    """Open a file and read what it is made of, and its rows where they are to be held.

    Raises
    ------
    What `tablefile.opened` raises.
    """
    with tablefile.opened(path) as file:
        kind = file.schema_arrow
        parts = tuple(parts_of(path, file))
        rows = None
        if held:
            wide = _wide(table, [kind])
            pieces = [widened(data, wide) for data in tablefile.pieces(file, wide)]
            rows = pa.concat_tables([wide.empty_table(), *pieces])
    return Source(path, parts, kind, rows)


def _wide(table: str, kinds: Iterable[pa.Schema]) -> pa.Schema:
    """The columns of this release, and those that a newer one added."""
    whole = schema(table)
    known = set(whole.names)
    for kind in kinds:
        for field in kind:
            if field.name not in known:
                known.add(field.name)
                whole = whole.append(field)
    return whole


def write(path: str, table: str, parts: Sequence[Part], sources: Mapping[str, Source]) -> None:
    """Write the parts, in this order, as one merged file; all or nothing.

    Raises
    ------
    Unreadable
        A part cannot be read.
    """
    listed = json.dumps([[part.stem, part.rows[1] - part.rows[0]] for part in parts])
    used = dict.fromkeys(part.path for part in parts)
    kind = _wide(table, [sources[one].kind for one in used])
    kind = kind.with_metadata({VERSION_KEY: str(VERSION), _KEY: listed})
    tablefile.write(path, _tables(kind, parts, sources))
    with tablefile.opened(path) as file:
        parts_of(path, file)  # what is about to be taken away is whole here


class Unreadable(Exception):
    """A file cannot be merged: it is damaged."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why


def _tables(kind: pa.Schema, parts: Sequence[Part], sources: Mapping[str, Source]) -> Iterator[pa.Table]:
    yield kind.empty_table()
    for part in parts:
        rows = sources[part.path].rows
        if rows is not None:
            yield widened(rows.slice(part.rows[0], part.rows[1] - part.rows[0]), kind)
            continue
        try:
            with tablefile.opened(part.path) as file:
                for data in tablefile.pieces(file, kind, [part.rows]):
                    yield widened(data, kind)
        except tablefile.FAULTS as fault:
            if isinstance(fault, FileNotFoundError):
                raise
            raise Unreadable(part.path, tablefile.words(fault)) from None
