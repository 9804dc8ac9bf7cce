"""Calls of regions that were entered seldom: what places a run's phases on its time axis.

A region kind that was entered a million times is a sum. One that was entered a few times is a phase (load, train,
evaluate): its calls are stored one by one, so that reports can draw them and cut them at any two times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energyprof.intervals import Kind, Marks

MOST_CALLS = 4096  # of a run and rank: some 40 kB of parquet
_IN_A_STRETCH = 256  # of one kind, in a stretch that is folded


def seldom(kinds: Sequence[Kind], marks: Marks, most: int = _IN_A_STRETCH) -> NDArray[np.bool_]:
    """Which marks are of region kinds that have at most so many of them."""
    calls = np.bincount(marks.kind, minlength=len(kinds)) if len(kinds) else np.zeros(0, np.int64)
    regions = np.array([kind.row_kind == "region" for kind in kinds], bool)
    mask: NDArray[np.bool_] = (regions & (calls <= most))[marks.kind] if len(kinds) else np.zeros(0, bool)
    return mask


def call_columns(
    keys: Mapping[str, str], kinds: Sequence[Kind], marks: Marks, rank: int
) -> list[dict[str, Any]]:
    """Rows of the intervals table, a table a kind: when each call began and how long it took, in the host.

    The kinds with the fewest calls come first, until `MOST_CALLS` are reached.
    """
    counted = np.bincount(marks.kind, minlength=len(kinds)) if len(kinds) else np.zeros(0, np.int64)
    mine = [index for index, kind in enumerate(kinds) if kind.row_kind == "region" and kind.rank == rank]
    tables: list[dict[str, Any]] = []
    left = MOST_CALLS
    for index in sorted(mine, key=lambda index: int(counted[index])):
        left -= int(counted[index])
        if left < 0:
            break
        chosen = np.flatnonzero(marks.kind == index)
        chosen = chosen[np.argsort(marks.begin_ns[chosen], kind="stable")]
        begin, end = marks.begin_ns[chosen], marks.end_ns[chosen]
        tables.append(
            {
                **keys,
                "rank": rank,
                "row_kind": "call",
                "region": "/".join(kinds[index].path),
                "depth": len(kinds[index].path) - 1,
                "channel": "total",
                "begin_ns": begin,
                "calls": 1,
                "duration_s": (end - begin) / 1e9,
            }
        )
    return [table for table in tables if len(table["begin_ns"])]
