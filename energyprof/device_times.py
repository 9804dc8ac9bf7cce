"""CUDA events as they were measured -> when regions ran on the device, in the host's monotonic time.

Each event is known as milliseconds since an *anchor*, an event of which the host knows when it happened.
Two anchors give the device's clock against the host's between them: an event at d after anchor k was at

    h_k + d (h_{k+1} - h_k) / (d_{k+1} - d_k)

and after the last anchor at the rate of the last two. Where the clocks of two anchors went apart by more
than crystals do, something else has happened (a suspend, a device that was reset), and what lies between
them is unknown. Pure functions of arrays; `cuda_marks` writes what is read here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energyprof.cuda_marks import RECORD

Times = NDArray[np.int64]
Stays = NDArray[Any]

_STAY = np.dtype(
    [
        ("device", "<u2"),
        ("stream", "<u2"),
        ("thread", "<u4"),
        ("mark_ns", "<i8"),
        ("begun_since", "<u4"),
        ("ended_since", "<u4"),
        ("begun_ms", "<f4"),
        ("ended_ms", "<f4"),
    ]
)
assert _STAY.itemsize == RECORD.size

# Oscillators of boards and hosts keep to 100 ppm and are steered by as much (NTP slews up to 500 ppm).
_APART_NS, _APART_SHARE = 1_000_000, 600e-6
_SAME_NS = 5_000  # what rounding and the change from one anchor to the next may do to an event's time


def parts(stem: str) -> list[str]:
    """The files of a process's records, `<stem>.<number>`, in the order in which they were written."""
    folder, name = os.path.split(stem)
    numbers = [n[len(name) + 1 :] for n in os.listdir(folder) if n.startswith(f"{name}.")]
    return [f"{stem}.{number}" for number in sorted(map(int, filter(str.isdecimal, numbers)))]


def read_stays(stem: str) -> Stays:
    """The whole records of a process; none where it had no events."""
    return np.concatenate([np.zeros(0, _STAY), *map(read_part, parts(stem))])


def read_part(path: str) -> Stays:
    """The whole records of one file."""
    with open(path, "rb") as file:
        data = file.read()
    return np.frombuffer(data[: len(data) // _STAY.itemsize * _STAY.itemsize], _STAY)


@dataclass(frozen=True)
class DeviceClock:
    """Anchors of one device: its own time (ns since the first), the host's; whether each stretch holds."""

    device_ns: NDArray[np.float64]
    host_ns: Times
    holds: NDArray[np.bool_]

    @classmethod
    def of(cls, anchors: Sequence[Mapping[str, Any]]) -> DeviceClock:
        """From the `cuda_anchor` events of one device; those after a missing one are of no use."""
        known = {int(anchor["number"]): anchor for anchor in anchors}
        rows: list[Mapping[str, Any]] = []
        while len(rows) in known:
            rows.append(known[len(rows)])
        device = np.cumsum([1e6 * float(row["since_ms"]) for row in rows])
        host = np.array([int(row["t"]) for row in rows], np.int64)
        spans = np.diff(device)
        apart = np.abs(np.diff(host) - spans)
        return cls(device, host, (apart <= _APART_NS + _APART_SHARE * spans) & (spans > 0))

    def host_time(self, anchor: NDArray[np.uint32], since_ms: NDArray[np.float32]) -> tuple[Times, Any]:
        """Host time of events, and whether it is known; both of the shape of `anchor`."""
        count = len(self.host_ns)
        if count == 0:
            return np.zeros(len(anchor), np.int64), np.zeros(len(anchor), bool)
        known = anchor < count
        at = self.device_ns[np.minimum(anchor, count - 1)] + 1e6 * since_ms.astype(np.float64)
        place = np.clip(np.searchsorted(self.device_ns, at, side="right") - 1, 0, count - 1)
        rate = np.ones(count)
        rate[:-1][self.holds] = np.diff(self.host_ns)[self.holds] / np.diff(self.device_ns)[self.holds]
        holds = np.append(self.holds, True)
        if count > 1:
            rate[-1] = rate[-2]
        since = (at - self.device_ns[place]) * rate[place]
        return self.host_ns[place] + np.round(since).astype(np.int64), known & holds[place]


def on_device(
    stays: Stays, clock: DeviceClock, thread: Times, begin_ns: Times, end_ns: Times
) -> tuple[Times, Times, bool]:
    """Marks with the times of one device where those are known, and the host's where not.

    Parameters
    ----------
    stays
        The records of that device.
    thread, begin_ns, end_ns
        All marks, in host time. A stay belongs to the mark of its thread that began when it says.

    Returns
    -------
    begin_ns, end_ns, whole
        `whole` is False where a record could not be used: its clock is unknown, or it would have run
        before it was asked for.
    """
    begin, end, whole = begin_ns.copy(), end_ns.copy(), True
    begun, begun_known = clock.host_time(stays["begun_since"], stays["begun_ms"])
    ended, ended_known = clock.host_time(stays["ended_since"], stays["ended_ms"])
    for one in np.unique(stays["thread"]).tolist():
        mine, marks = np.flatnonzero(stays["thread"] == one), np.flatnonzero(thread == one)
        if len(marks) == 0:
            continue
        marks = marks[np.argsort(begin_ns[marks], kind="stable")]
        wanted = stays["mark_ns"][mine]
        row = marks[np.clip(np.searchsorted(begin_ns[marks], wanted), 0, len(marks) - 1)]
        found = begin_ns[row] == wanted
        good = found & begun_known[mine] & ended_known[mine] & (ended[mine] >= begun[mine] - _SAME_NS)
        # An event cannot happen before it is recorded, which was after the host's mark.
        good &= (begun[mine] >= begin_ns[row] - _APART_NS) & (ended[mine] >= end_ns[row] - _APART_NS)
        whole &= bool(good[found].all())
        row, mine = row[good], mine[good]
        for stream in np.unique(stays["stream"][mine]):
            at, its = row[stays["stream"][mine] == stream], mine[stays["stream"][mine] == stream]
            begin[at], end[at] = _in_order(begun[its], ended[its], begin_ns[at], end_ns[at])
    return begin, end, whole


def _in_order(begun: Times, ended: Times, begin_ns: Times, end_ns: Times) -> tuple[Times, Times]:
    """Events of one stream: they happen in the order, and not before the time, of the host's marks.

    Back to back their times may be equal, or a rounding apart in the wrong order: a nanosecond then keeps
    the regions nested as they were.
    """
    host = np.concatenate((begin_ns, end_ns))
    order = np.argsort(host, kind="stable")
    step = np.arange(len(host))
    times = np.maximum(np.concatenate((begun, ended)), host)[order]
    kept = np.empty_like(times)
    kept[order] = np.maximum.accumulate(times - step) + step
    return kept[: len(begun)], kept[len(begun) :]
