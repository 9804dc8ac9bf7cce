"""Reading the files of a table: each row once, damaged files named, no more opened than is needed.

Files come and go meanwhile. What is gone was merged or deleted: the merged files of its folder are looked for then, and
have its rows, or nothing has.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

import pyarrow as pa

from energyprof import arrow_values, runindex, tablefile
from energyprof.mergedfile import generation, id_of, joined, parts_of
from energyprof.runindex import Index
from energyprof.schema import schema
from energyprof.tablefile import FAULTS

_T = TypeVar("_T")
Where = Callable[[pa.Table], pa.Table]  # of the rows of a file those that are asked for
_THREADS = 4
_FEW = 8  # files that are opened sooner than threads are started
_BATCH = 64  # files: a table of one row takes many times the room of a row
_FIRST = ("",)  # under which the rows from the index stand
_RETRIES = 10  # how often merged files may be merged anew under a reader's hands


@dataclass
class Listing:
    """What a table's files hold, and the files that could not be read, each with the reason in words."""

    names: list[str]
    table: pa.Table | None = None
    damaged: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """A dict a row with all columns of this release; what an older file lacks is None."""
        if self.table is None:
            return []
        present = set(self.table.column_names)
        empty = [None] * len(self.table)
        columns = [
            arrow_values.values_of(self.table[name]) if name in present else empty for name in self.names
        ]
        return [dict(zip(self.names, values)) for values in zip(*columns)]


class Reading:
    """One reading of files of a table."""

    def __init__(
        self, table: str, where: Where | None, columns: Sequence[str] | None, ids: frozenset[str] | None
    ) -> None:
        self.table, self.where, self.ids = table, where, ids
        kind = schema(table)
        self.wanted = kind if columns is None else pa.schema([kind.field(name) for name in columns])
        self.listing = Listing(self.wanted.names)
        self._gone: set[str] = set()  # files that were not there any more when they were to be read
        self._ids = None if ids is None else arrow_values.texts(ids)
        if ids is not None and "run_id" not in self.wanted.names:
            self.wanted = self.wanted.append(kind.field("run_id"))

    def of(self, paths: Sequence[str]) -> Listing:
        single = [path for path in paths if generation(path) is None]
        found = self._single([path for path in single if self._asked(id_of(path))])
        grown = {os.path.dirname(path) for path in self._gone}
        merged: dict[str, list[str]] = {folder: [] for folder in grown}
        for path in paths:
            if generation(path) is not None:
                merged.setdefault(os.path.dirname(path), []).append(path)
        have_their_rows = set(single) - self._gone - {path for path, _ in self.listing.damaged}
        for folder in sorted(merged):
            found.update(self._folder(folder, merged[folder], have_their_rows, folder in grown))
        damaged = [path for path, _ in self.listing.damaged]
        listed = dict.fromkeys((*_FIRST, *paths, *found, *damaged))
        order = {path: number for number, path in enumerate(listed)}
        self.listing.damaged.sort(key=lambda one: order[one[0]])
        tables = [data for path in sorted(found, key=lambda path: order[path]) for data in found[path]]
        if tables:
            self.listing.table = pa.concat_tables(tables, promote_options="default").combine_chunks()
        return self.listing

    def _asked(self, run_id: str | None) -> bool:
        return self.ids is None or run_id is None or run_id in self.ids

    def _folder(
        self, folder: str, paths: Sequence[str], taken: Collection[str], grown: bool
    ) -> dict[str, list[pa.Table]]:
        """The rows of a folder's merged files that no other file has. Where one of them is gone, or single files are
        (`grown`), the folder is looked into anew."""
        for _ in range(_RETRIES):
            if grown:
                names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
                paths = [os.path.join(folder, name) for name in names if generation(name) is not None]
            try:
                return self._merged(paths, taken)
            except FileNotFoundError:
                grown = True
        raise OSError(errno.EAGAIN, "its files change faster than they can be read; try again", folder)

    def _merged(self, paths: Sequence[str], taken: Collection[str]) -> dict[str, list[pa.Table]]:
        """The rows of one folder's merged files that neither the files in `taken` have nor a merged one of a higher
        generation; FileNotFoundError where one is gone."""
        found: dict[str, list[pa.Table]] = {}
        damaged: list[tuple[str, str]] = []
        later: set[str] = set()
        for path in sorted(paths, key=lambda path: -(generation(path) or 0)):
            try:
                with tablefile.opened(path) as file:
                    parts = parts_of(path, file)
                    files = [os.path.join(os.path.dirname(path), f"{part.stem}.parquet") for part in parts]
                    own = [part for part, one in zip(parts, files) if one not in taken and one not in later]
                    spans = joined([part.rows for part in own if self._asked(id_of(part.stem))])
                    found[path] = list(self._chosen(tablefile.pieces(file, self.wanted, spans)))
                later.update(files)
            except FAULTS as fault:
                if tablefile.is_gone(path, fault):
                    raise
                damaged.append((path, tablefile.words(fault)))
        self.listing.damaged += damaged
        return found

    def _chosen(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        for data in tables:
            chosen = data
            if self._ids is not None:
                chosen = arrow_values.having_any(chosen, "run_id", self._ids)
            if self.where is not None:
                chosen = _filtered(chosen, self.where, self.wanted)
            if len(chosen) or not len(data):
                present = set(chosen.column_names)
                yield chosen.select([name for name in self.listing.names if name in present])

    def _single(self, paths: Sequence[str]) -> dict[str, list[pa.Table]]:
        """By path, the rows of files of single runs; those that the index has, together, under the empty name."""
        if self.table != "runs" or len(paths) < runindex.WORTH:
            return self._opened(paths)
        whole = os.path.dirname(os.path.dirname(paths[0]))
        if os.path.basename(whole) != self.table:
            return self._opened(paths)  # not laid out as a dataset: where its index would be nobody knows
        states = self._states(paths)
        with Index(os.path.dirname(whole)) as index:
            known, moved = index.known(states)
            rows = index.rows([n for numbers in known.values() for n in numbers], self.wanted.names)
            fresh = [path for path in states if rows is None or path not in known]
            many = len(fresh) >= runindex.WORTH
            found = self._opened_and_kept(fresh, index, states, moved) if many else self._opened(fresh)
            if not many and len(moved) >= runindex.WORTH:
                index.keep((), None, moved)
        if rows is not None:
            found[""] = list(self._chosen([rows]))
        return found

    def _states(self, paths: Sequence[str]) -> dict[str, runindex.State]:
        states = {}
        for path in paths:
            try:
                states[path] = runindex.state_of(path)
            except FileNotFoundError:
                self._gone.add(path)
        return states

    def _opened_and_kept(
        self,
        paths: Sequence[str],
        index: Index,
        states: Mapping[str, runindex.State],
        moved: Mapping[str, runindex.Entry],
    ) -> dict[str, list[pa.Table]]:
        """By the first path of many, their rows; the index has all their columns then, for the next one who asks.
        Tables of one row take much memory: they are joined as they come."""
        fresh: list[tuple[str, runindex.Entry, int]] = []
        batches: dict[str, pa.Table] = {}
        for first in range(0, len(paths), _BATCH):
            whole = self._each(self._whole, paths[first : first + _BATCH])
            data = self._joined_up(whole)
            for path, (digest, tables) in whole.items():
                fresh.append((path, runindex.Entry(states[path], digest), sum(map(len, tables))))
            if data is not None:
                batches[paths[first]] = data
        if batches:
            index.keep(fresh, pa.concat_tables(batches.values()), moved)
        return {path: list(self._chosen([data])) for path, data in batches.items()}

    def _joined_up(self, whole: dict[str, tuple[bytes, list[pa.Table]]]) -> pa.Table | None:
        """All rows of some files, with all columns; files with values that cannot be shown are taken out of `whole`."""
        tables = [data for _, own in whole.values() for data in own]
        if not tables:
            return None
        data = pa.concat_tables(tables, promote_options="default").combine_chunks()
        try:
            tablefile.check_values(data)
        except FAULTS:
            showable = self._each(lambda path: _checked(whole[path][1]), [*whole])
            for path in set(whole) - set(showable):
                del whole[path]
            return self._joined_up(whole)
        return tablefile.widened(data, schema(self.table))

    def _opened(self, paths: Sequence[str]) -> dict[str, list[pa.Table]]:
        """By path, the rows that are asked for."""
        return self._each(self._part, paths)

    def _part(self, path: str) -> list[pa.Table]:
        with tablefile.opened(path) as file:
            return list(self._chosen(tablefile.pieces(file, self.wanted)))

    def _whole(self, path: str) -> tuple[bytes, list[pa.Table]]:
        """A file's digest and all its rows, of the same bytes; its values are not checked yet."""
        with open(path, "rb") as source:
            content = source.read()
        with tablefile.opened(path, content) as file:
            return runindex.digest_of(content), list(
                tablefile.pieces(file, schema(self.table), checked=False)
            )

    def _each(self, read: Callable[[str], _T], paths: Sequence[str]) -> dict[str, _T]:
        """What `read` makes of each file; damaged ones are named in the listing, and those that are gone noted."""
        tried = partial(_tried, read)
        if len(paths) < _FEW:
            results = [tried(path) for path in paths]
        else:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
                results = list(pool.map(tried, paths))
        found: dict[str, _T] = {}
        for path, (result, why) in zip(paths, results):
            if result is not None:
                found[path] = result
            elif why is None:
                self._gone.add(path)
            else:
                self.listing.damaged.append((path, why))
        return found


def _tried(read: Callable[[str], _T], path: str) -> tuple[_T | None, str | None]:
    """What `read` makes of a file, and what is wrong with it; neither where it is gone."""
    try:
        return read(path), None
    except FAULTS as fault:
        return None, None if tablefile.is_gone(path, fault) else tablefile.words(fault)


def _checked(tables: Iterable[pa.Table]) -> bool:
    """True; ValueError where a value cannot be shown."""
    for data in tables:
        tablefile.check_values(data)
    return True


def _filtered(data: pa.Table, where: Where, wanted: pa.Schema) -> pa.Table:
    """What `where` takes; a column that an older file lacks is null for it."""
    for kind in wanted:
        if kind.name not in data.column_names:
            data = data.append_column(kind, pa.nulls(len(data), kind.type))
    return where(data)
