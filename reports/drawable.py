"""Which runs a figure can be of, and what they are called in it."""

from __future__ import annotations

from collections.abc import Sequence

from energyprof.reports.numbers import clean
from energyprof.reports.stored import StoredRun

MOST_RUNS = 20  # of one figure: more are not read, and the file would be metres high


class NothingToDraw(ValueError):
    """The runs have no such data; the message says which, and what would make them."""


def names_of(runs: Sequence[StoredRun]) -> list[str]:
    """What each run is called: its name, with its id where another has that too, and its node where it has several."""
    names = [clean(stored.run["name"] or "run") for stored in runs]
    for column in ("run_id", "node"):
        names = [
            f"{name}, {clean(stored.run[column])[:13]}" if names.count(name) > 1 else name
            for name, stored in zip(names, runs)
        ]
    return names


def few(runs: Sequence[StoredRun], kind: str) -> Sequence[StoredRun]:
    if len(runs) > MOST_RUNS:
        raise NothingToDraw(f"{kind} shows {MOST_RUNS} runs at most, and {len(runs)} were named: name fewer")
    return runs


def only(runs: Sequence[StoredRun], kind: str) -> Sequence[StoredRun]:
    if len(runs) != 1:
        raise NothingToDraw(f"{kind} is of one run; {len(runs)} were named")
    return runs
