"""What ran when: kinds of intervals and their marks, of all threads and ranks. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]


@dataclass(frozen=True)
class Kind:
    """A region's call path (or the steps) in one rank; `parent` indexes the kinds, -1 at the top."""

    rank: int
    path: tuple[str, ...]
    parent: int
    row_kind: str
    of_total: bool = False  # steps of a loop that said how many the whole training has


@dataclass(frozen=True)
class Marks:
    """All intervals of all processes, shape (m,): kind index, thread, begin and end in monotonic ns.

    `device` has, by channel, begin and end of the same intervals as the work ran on that device, which may
    be behind the host.
    """

    kind: NDArray[np.int32]
    thread: Times
    begin_ns: Times
    end_ns: Times
    device: Mapping[str, tuple[Times, Times]] = field(default_factory=dict)

    def on(self, channel: str) -> Marks:
        """The same marks as that channel's device saw them."""
        if channel not in self.device:
            return self
        begin_ns, end_ns = self.device[channel]
        return replace(self, begin_ns=begin_ns, end_ns=end_ns, device={})

    @property
    def over_ns(self) -> Times:
        """When each was over, in the host and on every device."""
        latest = self.end_ns
        for _, end_ns in self.device.values():
            latest = np.maximum(latest, end_ns)
        return latest

    def chosen(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Marks:
        """Some of them."""
        device = {name: (begin[which], end[which]) for name, (begin, end) in self.device.items()}
        return Marks(
            self.kind[which], self.thread[which], self.begin_ns[which], self.end_ns[which], device
        )  # fmt: skip

    def within(self, first_ns: int, last_ns: int) -> Marks:
        """All of them, cut to a stretch of time; those outside it have no length."""
        device = {
            name: (np.clip(begin, first_ns, last_ns), np.clip(end, first_ns, last_ns))
            for name, (begin, end) in self.device.items()
        }
        begin_ns = np.clip(self.begin_ns, first_ns, last_ns)
        return Marks(self.kind, self.thread, begin_ns, np.clip(self.end_ns, first_ns, last_ns), device)


def no_marks() -> Marks:
    """Nothing ran."""
    nothing = np.zeros(0, np.int64)
    return Marks(np.zeros(0, np.int32), nothing, nothing, nothing)


def joined(parts: Sequence[Marks]) -> Marks:
    """The marks of several stretches. Where a device's times are not known, the host's stand for them."""
    names = sorted({name for part in parts for name in part.device})
    device = {}
    for name in names:
        times = [part.device.get(name, (part.begin_ns, part.end_ns)) for part in parts]
        device[name] = np.concatenate([t[0] for t in times]), np.concatenate([t[1] for t in times])
    return Marks(
        np.concatenate([part.kind for part in parts]),
        np.concatenate([part.thread for part in parts]),
        np.concatenate([part.begin_ns for part in parts]),
        np.concatenate([part.end_ns for part in parts]),
        device,
    )


def union(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of time, sorted and merged where they touch or overlap."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def overlap(begin_ns: Times, end_ns: Times) -> bool:
    """Whether any two calls of a kind ran at once (in different threads or tasks)."""
    order = np.argsort(begin_ns, kind="stable")
    return bool(np.any(begin_ns[order][1:] < np.maximum.accumulate(end_ns[order])[:-1]))


def outermost(kinds: Sequence[Kind], marks: Marks) -> dict[int, tuple[Times, Times]]:
    """When each thread was inside any region: begins and ends of merged spans, by thread."""
    top = np.array([kind.row_kind == "region" and kind.parent < 0 for kind in kinds], bool)
    chosen = top[marks.kind] if len(kinds) else np.zeros(0, bool)
    found = {}
    for thread in np.unique(marks.thread[chosen]).tolist():
        mine = np.flatnonzero(chosen & (marks.thread == thread))
        mine = mine[np.argsort(marks.begin_ns[mine], kind="stable")]
        begin, reached = marks.begin_ns[mine], np.maximum.accumulate(marks.end_ns[mine])
        first = np.concatenate(([True], begin[1:] > reached[:-1]))
        last = np.concatenate((first[1:], [True]))
        found[thread] = (begin[first], reached[last])
    return found


def beside_others(marks: Marks, tops: Mapping[int, tuple[Times, Times]], chosen: NDArray[np.intp]) -> bool:
    """Whether another thread (or rank) was in a region of its own while any of these calls ran."""
    for thread, (begins, ends) in tops.items():
        calls = chosen[marks.thread[chosen] != thread]
        after = np.searchsorted(ends, marks.begin_ns[calls], side="right")
        before = np.searchsorted(begins, marks.end_ns[calls], side="left")
        if np.any(before > after):
            return True
    return False


def beside(begin_ns: Times, end_ns: Times, spans: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Which intervals have time in common with any of some spans."""
    found = np.zeros(len(begin_ns), bool)
    for first, last in union(spans):
        found |= (begin_ns < last) & (end_ns > first)
    return found
