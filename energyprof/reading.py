"""Reading the files of a table: each row once, damaged files named, no more opened than is needed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from energyprof import runindex, tablefile
from energyprof.mergedfile import generation, joined, parts_of
from energyprof.runindex import Index
from energyprof.schema import schema
from energyprof.tablefile import FAULTS

_THREADS = 4
_BATCH = 512  # files


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
        columns = [self.table[name].to_pylist() if name in present else empty for name in self.names]
        return [dict(zip(self.names, values)) for values in zip(*columns)]


def id_of(path: str) -> str | None:
    """The run whose file it is by its name (`<run_id>.<node>.parquet`); None where it may hold several."""
    stem = os.path.basename(path).split(".")[0]
    return stem if len(stem) == 36 and stem.count("-") == 4 else None


class Reading:
    """One reading of files of a table; FileNotFoundError where one is gone."""

    def __init__(
        self, table: str, where: Any, columns: Sequence[str] | None, ids: frozenset[str] | None
    ) -> None:
        self.table, self.where, self.ids = table, where, ids
        kind = schema(table)
        self.wanted = kind if columns is None else pa.schema([kind.field(name) for name in columns])
        self.listing = Listing(self.wanted.names)
        if ids is not None:
            mine = pc.field("run_id").isin(list(ids))
            self.where = mine if where is None else mine & where
            if "run_id" not in self.wanted.names:
                self.wanted = self.wanted.append(kind.field("run_id"))

    def of(self, paths: Sequence[str]) -> Listing:
        merged = [path for path in paths if generation(path) is not None]
        small = [path for path in paths if generation(path) is None and self._asked(id_of(path))]
        found = self._small(small)
        taken = {path for path in paths if generation(path) is None} - {p for p, _ in self.listing.damaged}
        for path in sorted(merged, key=lambda path: (os.path.dirname(path), -(generation(path) or 0))):
            found[path] = self._merged(path, taken)
        order = {path: number for number, path in enumerate(paths)}
        self.listing.damaged.sort(key=lambda one: order[one[0]])
        tables = [data for path in ("", *paths) for data in found.get(path, ())]
        if tables:
            self.listing.table = pa.concat_tables(tables, promote_options="default").combine_chunks()
        return self.listing

    def _asked(self, run_id: str | None) -> bool:
        return self.ids is None or run_id is None or run_id in self.ids

    def _merged(self, path: str, taken: set[str]) -> list[pa.Table]:
        """The rows of a merged file that no other file has, whose names it adds to `taken`."""
        try:
            with tablefile.opened(path) as file:
                parts = parts_of(path, file)
                folder = os.path.dirname(path)
                own = [part for part in parts if f"{folder}/{part.stem}.parquet" not in taken]
                spans = joined([part.rows for part in own if self._asked(id_of(part.stem))])
                tables = list(self._chosen(tablefile.pieces(file, self.wanted, spans)))
        except FileNotFoundError:
            raise
        except FAULTS as fault:
            self.listing.damaged.append((path, str(fault).splitlines()[0]))
            return []
        taken.update(f"{folder}/{part.stem}.parquet" for part in parts)
        return tables

    def _chosen(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        for data in tables:
            chosen = data if self.where is None else _filtered(data, self.where, self.wanted)
            if len(chosen) or not len(data):
                yield chosen.select([name for name in self.listing.names if name in chosen.column_names])

    def _small(self, paths: Sequence[str]) -> dict[str, list[pa.Table]]:
        """By path, the rows of files of single runs; those that the index has, together, under the empty name."""
        if self.table != "runs" or len(paths) < runindex.WORTH:
            return self._opened(paths)
        out = os.path.dirname(os.path.dirname(os.path.dirname(paths[0])))
        states = {path: runindex.state_of(path) for path in paths}
        with Index(out) as index:
            known = index.known(states)
            rows = index.rows([n for numbers in known.values() for n in numbers], self.wanted.names)
            fresh = [path for path in paths if rows is None or path not in known]
            many = len(fresh) >= runindex.WORTH
            found = self._opened_and_kept(fresh, index, states) if many else self._opened(fresh)
        if rows is not None:
            found[""] = list(self._chosen([rows]))
        return found

    def _opened_and_kept(
        self, paths: Sequence[str], index: Index, states: Mapping[str, runindex.State]
    ) -> dict[str, list[pa.Table]]:
        """By the first path of many, their rows; the index has all their columns then, for the next one who asks.
        Tables of one row take much memory: they are joined as they come."""
        counts: list[tuple[str, int]] = []
        batches: dict[str, pa.Table] = {}
        for first in range(0, len(paths), _BATCH):
            whole = self._opened(paths[first : first + _BATCH], whole=True)
            counts += [(path, sum(map(len, tables))) for path, tables in whole.items()]
            tables = [data for own in whole.values() for data in own]
            if tables:
                data = pa.concat_tables(tables, promote_options="default").combine_chunks()
                batches[paths[first]] = tablefile.widened(data, schema(self.table))
        if batches:
            index.keep(counts, pa.concat_tables(batches.values()), states)
        return {path: list(self._chosen([data])) for path, data in batches.items()}

    def _opened(self, paths: Sequence[str], whole: bool = False) -> dict[str, list[pa.Table]]:
        """By path, the rows that are asked for, or all with all columns; damaged files are named in the listing."""
        read = partial(self._one, whole=whole)
        if len(paths) < 8:
            results = [read(path) for path in paths]
        else:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
                results = list(pool.map(read, paths))
        for path, found in zip(paths, results):
            if isinstance(found, str):
                self.listing.damaged.append((path, found))
        return {path: found for path, found in zip(paths, results) if not isinstance(found, str)}

    def _one(self, path: str, whole: bool) -> list[pa.Table] | str:
        """A file's rows, or what is wrong with it."""
        try:
            with tablefile.opened(path) as file:
                if whole:
                    return list(tablefile.pieces(file, schema(self.table)))
                return list(self._chosen(tablefile.pieces(file, self.wanted)))
        except FAULTS as fault:
            if isinstance(fault, FileNotFoundError) and not os.path.islink(path):
                raise  # merged or deleted meanwhile; a link that leads nowhere is as good as damaged
            return str(fault).splitlines()[0]


def _filtered(data: pa.Table, where: Any, wanted: pa.Schema) -> pa.Table:
    """Where the expression holds; a column that an older file lacks is null in it."""
    for kind in wanted:
        if kind.name not in data.column_names:
            data = data.append_column(kind, pa.nulls(len(data), kind.type))
    return data.filter(where)
