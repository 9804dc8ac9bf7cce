"""`energyprof report`: runs as they are named -> what the page shows -> one HTML file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from energyprof import __version__, compare, evidence, selection, store
from energyprof.comparison import Comparison
from energyprof.reports import html, onerun, several
from energyprof.reports.pagedata import page_data
from energyprof.reports.parts import Page, tidied
from energyprof.reports.series import encode
from energyprof.reports.stored import MOST_READINGS, StoredRun, one
from energyprof.selection import Group, Selection

MOST_BYTES = 1_000_000
MOST_DRAWN = 20  # runs whose power is drawn and embedded
_SAMPLE = 8  # where there are more than that: nobody looks at twenty panels of ten thousand runs
_ATTEMPTS = 3  # to fit the series into the bytes that there are for them
_FEWEST = 200  # readings of a run: a line with less says nothing


@dataclass(frozen=True)
class Report:
    """A page, how many runs it is of, and what could not be read of the dataset."""

    html: str
    runs: int
    damaged: tuple[tuple[str, str], ...]


def report(
    arguments: Sequence[str],
    out: str,
    everything: bool = False,
    most_bytes: int = MOST_BYTES,
    only: str | None = None,
) -> Report:
    """The report of runs, named as in `energyprof.selection`: one run, one group, or groups against the first.

    Parameters
    ----------
    everything
        Compare runs too that failed, were killed or recovered.
    most_bytes
        The series are made coarser until the page has no more; what else it holds stays.
    only
        A filter of runs (`energyprof.where`): others are as if they were not there.

    Raises
    ------
    ValueError
        A run that is not there, a group without a run that can be compared, or `only` is no filter.
    energyprof.store.NewerSchema
        The dataset is of a newer release.
    """
    chosen = selection.select(arguments, out, only)
    groups, comparison = chosen.groups, None
    if len(groups) > 1:
        groups, comparison = _compared(chosen, everything)
    shown = list(_spread(groups))
    datasets = {out: store.Dataset(out) for out in dict.fromkeys(chosen.folders.values())}

    def gathered(readings: int) -> list[StoredRun]:
        share = max(_FEWEST, readings // max(1, len(shown)))
        return [tidied(one(datasets[chosen.folders[run["run_id"]]], run, share)) for run in shown]

    def rendered(stored: Sequence[StoredRun]) -> str:
        return html.render(_page(groups, comparison, stored), __version__)

    stored = gathered(MOST_READINGS)
    text = rendered(stored)
    beyond = len(text.encode()) - most_bytes
    if beyond > 0 and any(run.series for run in stored):
        stored = _fitted(gathered, stored, beyond)
        text = rendered(stored)
    damaged = (*chosen.damaged, *(fault for run in stored for fault in run.damaged))
    return Report(text, sum(len(group.runs) for group in groups), tuple(dict.fromkeys(damaged)))


def _fitted(
    gathered: Callable[[int], list[StoredRun]], stored: list[StoredRun], beyond: int
) -> list[StoredRun]:
    """The runs with series that take so many bytes less, or as few as lines can be: drawing takes seconds, so it is
    the series that are tried, and not the page."""
    size, count = _held(stored)
    # What else says how fine they are may have a digit more.
    room = size - beyond - len(str(size)) * len(stored)
    for _ in range(_ATTEMPTS):
        before = count
        stored = gathered(int(count * max(0.05, min(0.95, 0.9 * room / size))))
        size, count = _held(stored)
        if size <= room or count == before:
            break
    return stored


def _held(stored: Sequence[StoredRun]) -> tuple[int, int]:
    """The bytes that the series take in a page, and their values."""
    series = [encode(one) for run in stored for one in run.series]
    return len(html.embedded(series)), sum(one["n"] for one in series)


def _compared(chosen: Selection, everything: bool) -> tuple[tuple[Group, ...], Comparison]:
    groups, notes = compare.usable(chosen.groups, everything, chosen.folders)
    read = evidence.read([group.runs for group in groups], chosen.folders)
    found = compare.compare(groups, read)
    return groups, replace(found, notes=(*notes, *found.notes))


def _spread(groups: Sequence[Group]) -> Iterator[Mapping[str, Any]]:
    """The runs that are drawn: all, or of each group the first ones."""
    all_of_them = sum(len(group.runs) for group in groups) <= MOST_DRAWN
    each = MOST_DRAWN if all_of_them else max(1, _SAMPLE // len(groups))
    for group in groups[:MOST_DRAWN]:
        yield from group.runs[:each]


def _page(groups: Sequence[Group], comparison: Comparison | None, stored: Sequence[StoredRun]) -> Page:
    data = page_data(groups, comparison, stored)
    if len(groups) == 1 and len(groups[0].runs) == 1:
        return onerun.one_run(stored[0], data)
    return several.several(groups, comparison, stored, data)


def allowed(path: str, force: bool = False) -> None:
    """Raise what `write` would, where that can be known beforehand: of many runs a report takes its time."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {folder}", path)
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", path)
    if not force and os.path.lexists(path) and not (os.path.isfile(path) and html.is_ours(path)):
        raise FileExistsError(path)


def write(text: str, path: str, force: bool = False) -> None:
    """Write a report whole or not at all.

    Raises
    ------
    FileExistsError
        The file is there and is no report of ours; `force` replaces it all the same.
    OSError
        It cannot be written.
    """
    allowed(path, force)
    folder, name = os.path.split(os.path.abspath(path))
    beside = os.path.join(folder, f".{name[:100]}.{os.getpid()}.tmp")
    try:
        with open(beside, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.replace(beside, path)
    except BaseException:
        if os.path.exists(beside):
            os.unlink(beside)
        raise
