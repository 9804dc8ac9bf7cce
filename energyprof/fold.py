"""Fold the marks of a long run: attribute what is some time ago, keep the sums, let the marks go.

A day of a thousand marks a second would be two gigabytes of marks and minutes of sealing. So, now and then,
a process of its own attributes the stretch since the last fold, as sealing would, writes what came of it
(see `folds`), and unlinks the segments of marks that are wholly in it. A region that still runs at the cut
counts in both stretches, each with its part of it; steps are kept one by one. A kill at any instant leaves
either the marks or the fold: marks that were over by the last cut are passed over where both are there.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from energyprof import device_times, folds, lean, runlog
from energyprof.attribution import kind_sums, solve_parts
from energyprof.folds import Fold
from energyprof.marks import read_marks
from energyprof.metering import meters_of
from energyprof.runlog import RunLog
from energyprof.seldom import seldom
from energyprof.streams import Stream

_NS = 1_000_000_000
_SHORTEST_NS = 20 * _NS
_BESIDE_NS = 3 * _NS  # readings before and after a stretch that its ends need
_SEGMENT = re.compile(r"marks\.(.+)\.(\d+)\.(\d+)")  # process, thread, number


def fold(folder: str, until_ns: int) -> bool:
    """Fold what was over by `until_ns`; False where that is too little, or not yet read by the meter."""
    log = runlog.load(folder)
    begin_ns = log.folded_ns
    if until_ns - begin_ns < _SHORTEST_NS or log.last_ns < until_ns + _BESIDE_NS:
        return False
    marks = log.marks.chosen(np.argsort(log.marks.begin_ns, kind="stable"))
    ended = marks.over_ns <= until_ns
    begun = marks.begin_ns < until_ns
    step_kinds = np.array([kind.row_kind == "step" for kind in log.kinds], bool)
    kept = step_kinds[marks.kind] | seldom(log.kinds, marks) if len(log.kinds) else ended
    steps = marks.chosen(ended & kept)
    stretch = marks.chosen(begun).within(begin_ns, until_ns)
    meters, _ = meters_of(
        _around(log.streams, begin_ns, until_ns), log.lost, [(int(log.facts["t_ns"]), log.last_ns)]
    )
    known = {
        name: parts[0].result for fold in reversed(log.folds) for name, parts in fold.parts.items() if parts
    }
    found = Fold(
        until_ns=until_ns,
        sums=kind_sums(meters, log.kinds, stretch, ended[begun]),
        parts=solve_parts(meters, log.kinds, stretch, begin_ns, until_ns, known),
        steps=steps,
    )
    folds.write(folder, found, log.keys)
    _let_go(folder, log, until_ns)
    return True


def _around(streams: Mapping[str, Stream], begin_ns: int, end_ns: int) -> dict[str, Stream]:
    """The readings of a stretch, and some beside it."""
    found = {}
    for name, stream in streams.items():
        a, b = np.searchsorted(stream.after_ns, [begin_ns - _BESIDE_NS, end_ns + _BESIDE_NS])
        found[name] = replace(
            stream,
            before_ns=stream.before_ns[a:b],
            after_ns=stream.after_ns[a:b],
            value=stream.value[a:b],
        )
    return found


def _let_go(folder: str, log: RunLog, until_ns: int) -> None:
    """Unlink the segments, but each thread's last, in which every mark has been folded, and their device times."""
    left = log.marks.chosen(log.marks.over_ns > until_ns)
    last: dict[tuple[str, str], int] = {}
    segments = [found for found in map(_SEGMENT.fullmatch, os.listdir(folder)) if found]
    for found in segments:
        last[found[1], found[2]] = max(last.get((found[1], found[2]), 0), int(found[3]))
    for found in segments:
        if int(found[3]) == last[found[1], found[2]]:
            continue
        path = os.path.join(folder, found[0])
        thread, words = read_marks(path)
        rows = np.frombuffer(words, np.int64).reshape(-1, 3)
        rows = rows[rows[:, 0] != 0]
        mine = left.begin_ns[left.thread == thread]
        running = len(rows) and np.any((mine >= rows[:, 1].min()) & (mine <= rows[:, 1].max()))
        if not running and np.all((rows[:, 2] > 0) & (rows[:, 2] <= until_ns)):
            os.unlink(path)
    for process in log.processes:
        for path in device_times.parts(os.path.join(folder, f"device.{process.stem}"))[:-1]:
            stays = device_times.read_part(path)
            waited_for = np.isin(stays["mark_ns"], left.begin_ns)
            if not waited_for.any() and np.all(stays["mark_ns"] <= until_ns):
                os.unlink(path)


def main(arguments: list[str]) -> int:
    """`fold FOLDER UNTIL_NS`: at low priority, since the program is running."""
    if hasattr(os, "nice"):
        os.nice(10)
    lean.without_pandas()
    fold(arguments[0], int(arguments[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
