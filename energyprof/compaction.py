"""Merge the small files of past days, so that a folder of many runs is few files: `energyprof compact`.

Of each table and date the small files become one. It is written under a temporary name, fsynced, renamed, its folder
fsynced, and read again; only then are those taken away that it was made of. Readers of ours see each run once at every
instant (`mergedfile`), and a merge that was killed is finished by the next. Runs that are not over are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import accumulate

from energyprof import mergedfile, runfolder, store, tablefile
from energyprof.mergedfile import Part, Source, Unreadable, generation
from energyprof.schema import TABLES

SMALL_BYTES = 16 << 20  # what is larger is read at full speed as it is
MOST_BYTES = 256 << 20  # of the files that become one
_HELD_BYTES = 32 << 20  # of a folder's files, whose rows are held so that each is opened once
_State = tuple[int, int, int]


@dataclass
class Compacted:
    """What became of a dataset's files."""

    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    damaged: list[tuple[str, str]] = field(default_factory=list)


def compact(out: str, everything: bool = False, today: str | None = None) -> Compacted:
    """Merge the small files of the days before `today` (UTC, the present day), or of all days.

    Raises
    ------
    OSError
        The dataset cannot be written, or another process rewrites it now.
    energyprof.store.NewerSchema
        A file is of a newer release.
    """
    done = Compacted()
    day = today or datetime.now(timezone.utc).date().isoformat()
    if not os.path.isdir(out):
        return done
    with store.locked(out):
        for table in TABLES:
            for folder, paths in _folders(store.files(out, table)).items():
                # After the listing: a run that was over by now had its last files in it.
                open_runs = {name.split(".")[0] for name in _names(os.path.join(out, runfolder.JOURNALS))}
                _count(done, paths)
                if everything or os.path.basename(folder) < f"date={day}":
                    _sweep(folder)
                    free = [p for p in paths if os.path.basename(p).split(".")[0] not in open_runs]
                    _merge_folder(table, folder, free, done.damaged)
        for table in TABLES:
            for path in store.files(out, table):
                done.files_after += 1
                done.bytes_after += os.path.getsize(path)
    return done


def _count(done: Compacted, paths: Sequence[str]) -> None:
    done.files_before += len(paths)
    done.bytes_before += sum(_state(path)[1] for path in paths)


def _folders(paths: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(os.path.dirname(path), []).append(path)
    return found


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _sweep(folder: str) -> None:
    """Take away what killed merges left half written."""
    for name in _names(folder):
        if name.startswith(".merged.") and name.endswith(".part"):
            os.unlink(os.path.join(folder, name))


def _merge_folder(table: str, folder: str, paths: Sequence[str], damaged: list[tuple[str, str]]) -> None:
    states = {path: _state(path) for path in paths}
    sources = _sources(table, states, damaged)
    small = {path for path in sources if states[path][1] < SMALL_BYTES} | _overlapping(sources)
    waiting: list[str] = []
    held = 0
    for path in sorted(small):
        waiting.append(path)
        held += states[path][1]
        if held >= MOST_BYTES:
            _merge(table, folder, waiting, sources, states, damaged)
            waiting, held = [], 0
    _merge(table, folder, waiting, sources, states, damaged)


def _sources(table: str, states: Mapping[str, _State], damaged: list[tuple[str, str]]) -> dict[str, Source]:
    """The files by path, the rows of the first so many bytes held; those that are gone left out."""
    sizes = accumulate(state[1] for state in states.values())

    def read(path: str, total: int) -> Source | str | None:
        try:
            return mergedfile.source(path, table, held=total <= _HELD_BYTES)
        except tablefile.FAULTS as fault:
            return None if tablefile.is_gone(path, fault) else tablefile.words(fault)

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        found = dict(zip(states, pool.map(read, states, sizes)))
    damaged += [(path, one) for path, one in found.items() if isinstance(one, str)]
    return {path: one for path, one in found.items() if isinstance(one, Source)}


def _overlapping(sources: Mapping[str, Source]) -> set[str]:
    """Files whose rows others have too: a merge, or a removal, was killed there."""
    owners: dict[str, list[str]] = {}
    for path, source in sources.items():
        for part in source.parts:
            owners.setdefault(part.stem, []).append(path)
    return {path for found in owners.values() if len(found) > 1 for path in found}


def _merge(
    table: str,
    folder: str,
    chosen: Sequence[str],
    sources: Mapping[str, Source],
    states: Mapping[str, _State],
    damaged: list[tuple[str, str]],
) -> None:
    """Make one file of several; damaged ones stay as they are."""
    left = list(chosen)
    numbers = [number for name in _names(folder) if (number := generation(name)) is not None]
    path = os.path.join(folder, mergedfile.name_of(max(numbers, default=0) + 1))
    while len(left) > 1:
        try:
            parts = _latest([part for one in left for part in sources[one].parts])
            mergedfile.write(path, table, parts, sources)
            break
        except Unreadable as fault:
            damaged.append((fault.path, fault.why))
            left.remove(fault.path)
    else:
        return
    _flush_folder(folder)
    for one in left:
        if _state(one) == states[one]:  # else written anew meanwhile: it is the newer one, and stays
            os.unlink(one)
    _flush_folder(folder)


def _latest(parts: Sequence[Part]) -> list[Part]:
    """Of each stem the rows that count, as readers have it: the file of its own, else the last merged one."""
    single = [part for part in parts if generation(part.path) is None]
    merged = [part for part in parts if generation(part.path) is not None]
    merged.sort(key=lambda part: generation(part.path) or 0)
    latest = {part.stem: part for part in (*merged, *single)}
    return [latest[stem] for stem in sorted(latest)]


def _state(path: str) -> _State:
    """What is another where a file was written anew."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return (0, 0, 0)
    return found.st_ino, found.st_size, found.st_mtime_ns


def _flush_folder(folder: str) -> None:
    """What was renamed and taken away there is so on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
