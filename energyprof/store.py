"""The dataset of runs: parquet files that pandas, DuckDB, Polars and Spark read as they are.

    OUT/<table>/date=<UTC date of the start>/<run_id>.<node>[.<rank>].parquet
    OUT/<table>/date=<UTC date of the start>/merged.<generation>.parquet       what `compact` made of many of them

One process writes a file: under a temporary name beside it, fsynced, then renamed. Reading goes file by
file, so that one damaged file is named and skipped and the others are still listed. Rows of runs are read from an index
where there is one (`runindex`), and each row once, whatever `compact` is doing meanwhile (`mergedfile`). Who asks about
many runs, one after the other, asks a `Dataset`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date

from energyprof import mergedfile
from energyprof.mergedfile import generation, id_of
from energyprof.reading import Listing, Reading, Where
from energyprof.schema import TABLES
from energyprof.tablefile import FAULTS, ROWS_AT_ONCE, NewerSchema, Row, table_of, write

__all__ = [
    "ROWS_AT_ONCE",
    "Dataset",
    "Listing",
    "NewerSchema",
    "Row",
    "file_path",
    "files",
    "id_of",
    "locked",
    "of_run",
    "read",
    "remove",
    "runs",
    "table_of",
    "write",
]

_DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()
_RETRIES = 10  # how often files may be merged under a reader's hands


def file_path(out: str, table: str, date: str, stem: str) -> str:
    """Where a run's part of a table is."""
    return os.path.join(out, table, f"date={date}", f"{stem}.parquet")


def files(out: str, table: str) -> list[str]:
    """The parquet files of a table, oldest date first.

    A folder is not listed in one instant: files may be taken away meanwhile, and the merged one not be seen yet. Two
    listings between which nothing went and no merged file came are whole.
    """
    found = _listed(out, table)
    for _ in range(_RETRIES):
        again = _listed(out, table)
        before, now = set(found), set(again)
        found = again
        if before <= now and not any(generation(path) for path in now - before):
            break
    return found


def _listed(out: str, table: str) -> list[str]:
    found = []
    for folder, folders, names in os.walk(os.path.join(out, table)):
        folders.sort()
        within = os.path.join(folder, "")
        found += [within + name for name in sorted(names) if name.endswith(".parquet")]
    return found


def read(
    paths: Iterable[str],
    table: str,
    where: Where | None = None,
    columns: Sequence[str] | None = None,
    ids: Collection[str] | None = None,
) -> Listing:
    """All rows of the given files with this release's columns, or with some of them, which takes a fraction of the
    time: those that `where` takes (`arrow_values.having` is one); of the runs `ids` alone where those are given: files
    that are named by another run are not opened, and of merged files no more is read than is needed.

    Raises
    ------
    NewerSchema
        A file is from a newer release, whose columns may mean other things.
    """
    return Reading(table, where, columns, None if ids is None else frozenset(ids)).of(list(paths))


def runs(out: str, columns: Sequence[str] | None = None) -> Listing:
    """A row a run and node, oldest first; of all columns, or some (the start and the id among them)."""
    listing = read(files(out, "runs"), "runs", columns=columns)
    if listing.table is not None:
        listing.table = listing.table.sort_by([("started_utc", "ascending"), ("run_id", "ascending")])
    return listing


def of_run(out: str, table: str, run_id: str, where: Where | None = None) -> Listing:
    """A table's rows of one run, on all nodes and ranks."""
    return Dataset(out).of_run(table, run_id, where)


class Dataset:
    """A dataset that is asked about some of its runs: files are listed once a table, and merged ones say once whose
    rows they have. Files that came later are not seen; what was merged or deleted is seen as by `read`."""

    def __init__(self, out: str) -> None:
        self.out = out
        self._own: dict[str, dict[str, list[str]]] = {}  # by table and run, the files of that run alone
        self._shared: dict[str, list[str]] = {}  # by table, the others
        self._runs_in: dict[str, frozenset[str] | None] = {}  # of which runs those may be that were opened

    def of_run(
        self, table: str, run_id: str, where: Where | None = None, columns: Sequence[str] | None = None
    ) -> Listing:
        """A table's rows of one run, on all nodes and ranks.

        Raises
        ------
        NewerSchema
            A file is from a newer release.
        """
        if table not in self._own:
            self._list(table)
        mine = self._own[table].get(run_id, [])
        shared = self._holding([path for path in self._shared[table] if _near(path, run_id)], run_id)
        if not mine and not shared:  # where somebody put them elsewhere
            shared = self._holding(self._shared[table], run_id)
        return read(sorted([*mine, *shared]), table, where, columns, (run_id,))

    def _list(self, table: str) -> None:
        own: dict[str, list[str]] = {}
        shared: list[str] = []
        for path in files(self.out, table):
            run_id = id_of(path)
            if run_id is None:
                shared.append(path)
            else:
                own.setdefault(run_id, []).append(path)
        self._own[table], self._shared[table] = own, shared

    def _holding(self, paths: Sequence[str], run_id: str) -> list[str]:
        """Of some files of several runs those that may have rows of this one."""
        for path in paths:
            if path not in self._runs_in:
                self._runs_in[path] = mergedfile.runs_in(path)
        return [path for path in paths if (ids := self._runs_in[path]) is None or run_id in ids]


def _near(path: str, run_id: str) -> bool:
    """Whether a file is of the days around the one on which the run began: its ranks may have begun at midnight."""
    day, began = _day_of(path), _day_begun(run_id)
    return day is None or began is None or abs(day - began) <= 1


def _day_of(path: str) -> int | None:
    """The number of the day in whose folder a file is; None where it is in no day's."""
    try:
        return date.fromisoformat(os.path.basename(os.path.dirname(path)).removeprefix("date=")).toordinal()
    except ValueError:
        return None


def _day_begun(run_id: str) -> int | None:
    """The number of the UTC day at which a run's id was made: a UUIDv7 begins with milliseconds since 1970 (RFC 9562,
    section 5.7). None for another id."""
    try:
        return _EPOCH + int(run_id[:8] + run_id[9:13], 16) // _DAY_MS if run_id[14:15] == "7" else None
    except ValueError:
        return None


@contextmanager
def locked(out: str) -> Iterator[None]:
    """Alone among those who rewrite files of several runs.

    Raises
    ------
    OSError
        Another one does so now, or nothing can be written here.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows: there nobody compacts and deletes at once but by hand
        yield
        return
    path = os.path.join(out, "_index", "lock")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(errno.EBUSY, "another `energyprof compact` or `rm` is at work", out) from None
        yield


def remove(out: str, run_ids: Sequence[str]) -> int:
    """Delete the files of runs, and their rows in merged files, each run's own row last, so that a removal that was
    broken off can be repeated; returns the bytes.

    Raises
    ------
    OSError
        A file cannot be deleted, or `compact` is at work.
    """
    with locked(out):  # also where nothing is merged yet: `compact` may be about to
        return _remove(out, frozenset(run_ids))


def _remove(out: str, run_ids: Collection[str]) -> int:
    freed = 0
    for table in sorted(TABLES, key=lambda name: name == "runs"):
        folders = set()
        for path in files(out, table):
            if generation(path) is not None:
                less = _remove_rows(path, table, run_ids)
            elif os.path.basename(path).partition(".")[0] in run_ids:
                less = os.path.getsize(path)
                os.unlink(path)
            else:
                continue
            freed += less
            folders.add(os.path.dirname(path))
        for folder in folders:
            _remove_if_empty(folder)
    return freed


def _remove_rows(path: str, table: str, run_ids: Collection[str]) -> int:
    """Write a merged file anew, without these runs; readers have the one or the other."""
    try:
        source = mergedfile.source(path, table, held=False)
    except FAULTS:
        return 0  # damaged: whose rows it has nobody can tell
    left = [part for part in source.parts if part.stem.split(".")[0] not in run_ids]
    size = os.path.getsize(path)
    if len(left) == len(source.parts):
        return 0
    if not left:
        os.unlink(path)
        return size
    try:
        mergedfile.write(path, table, left, {path: source})
    except mergedfile.Unreadable as fault:
        raise OSError(errno.EIO, fault.why, path) from None
    return size - os.path.getsize(path)


def _remove_if_empty(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        pass  # other runs of that day
