"""Merge the small files of past days, so that a folder of many runs is few files: `energyprof compact`.

Of each table and date the small files become one. It is written under a temporary name, fsynced, renamed, its folder
fsynced, and read again; only then are those taken away that it was made of. Readers of ours see each run once at every
instant (`mergedfile`), and a merge that was killed is finished by the next. Runs that are not over are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from energyprof import mergedfile, runfolder, store, tablefile
from energyprof.mergedfile import Part, Unreadable, generation, parts_of
from energyprof.schema import TABLES

SMALL_BYTES = 16 << 20  # what is larger is read at full speed as it is
MOST_BYTES = 256 << 20  # of the files that become one
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
    states: dict[str, _State] = {}
    parts: dict[str, list[Part]] = {}
    for path in paths:
        try:
            states[path] = _state(path)
            with tablefile.opened(path) as file:
                parts[path] = parts_of(path, file)
        except tablefile.FAULTS as fault:
            if isinstance(fault, FileNotFoundError) and not os.path.islink(path):
                continue  # deleted meanwhile
            damaged.append((path, str(fault).splitlines()[0]))
    small = {path for path in parts if states[path][1] < SMALL_BYTES} | _overlapping(parts)
    waiting: list[str] = []
    for path in sorted(small):
        waiting.append(path)
        if sum(states[one][1] for one in waiting) >= MOST_BYTES:
            _merge(table, folder, waiting, parts, states, damaged)
            waiting = []
    _merge(table, folder, waiting, parts, states, damaged)


def _overlapping(parts: dict[str, list[Part]]) -> set[str]:
    """Files whose rows others have too: a merge, or a removal, was killed there."""
    owners: dict[str, list[str]] = {}
    for path, own in parts.items():
        for part in own:
            owners.setdefault(part.stem, []).append(path)
    return {path for found in owners.values() if len(found) > 1 for path in found}


def _merge(
    table: str,
    folder: str,
    sources: Sequence[str],
    parts: dict[str, list[Part]],
    states: dict[str, _State],
    damaged: list[tuple[str, str]],
) -> None:
    """Make one file of several; damaged ones stay as they are."""
    left = list(sources)
    numbers = [number for name in _names(folder) if (number := generation(name)) is not None]
    path = os.path.join(folder, mergedfile.name_of(max(numbers, default=0) + 1))
    while len(left) > 1:
        try:
            mergedfile.write(path, table, _latest([part for one in left for part in parts[one]]))
            break
        except Unreadable as fault:
            damaged.append((fault.path, fault.why))
            left.remove(fault.path)
    else:
        return
    _flush_folder(folder)
    for source in left:
        if _state(source) == states[source]:  # else written anew meanwhile: it is the newer one, and stays
            os.unlink(source)
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
