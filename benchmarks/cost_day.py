"""The metering process through a day that takes a minute: real collectors' channels, the real meter and journal.

    python benchmarks/cost_day.py HOURS FOLDER

The clock is ours: it jumps to when the meter is next due. Each channel goes on from what it shows on the virtual
machine, the GPU's counter in ticks of 100.3 ms. Prints memory after ten seconds and at the end, and bytes, as JSON.
Region marks are not in it: see scale.py, which folds a day of a thousand marks a second.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.processes import pss_mb, rss_mb
from energyprof import helper, meter, runfolder
from energyprof.collectors.base import Channel, Context, Group, Opened
from energyprof.collectors.registry import discover
from energyprof.journal import Journal

TICK_NS, READ_NS, WATTS = 100_300_000, 30_000, 150.0


class Clock:
    """Monotonic nanoseconds that pass only as we say; a look at it costs what a read does."""

    def __init__(self) -> None:
        self.begun_ns = self.now_ns = time.monotonic_ns()

    def __call__(self) -> int:
        self.now_ns += READ_NS
        return self.now_ns


class Played:
    """A collector whose groups are those of the real one, with values that follow our clock."""

    prompt = True  # a day has millions of reads; what it costs to hand them over is in the row of the meter

    def __init__(self, real: object, clock: Clock) -> None:
        self.source, self._real, self._clock = real.source, real, clock  # type: ignore[attr-defined]

    def open(self, context: Context) -> Opened:
        opened = self._real.open(context)  # type: ignore[attr-defined]
        return Opened([self._played(group) for group in opened.groups], opened.missing)

    def close(self) -> None:
        self._real.close()  # type: ignore[attr-defined]

    def _played(self, group: Group) -> Group:
        first, clock = group.read(), self._clock
        shows = [_shown(channel, value or 0) for channel, value in zip(group.channels, first, strict=True)]

        def read() -> Sequence[int | None]:
            passed_ns = clock() - clock.begun_ns
            return [show(passed_ns) for show in shows]

        return dataclasses.replace(group, read=read)


def _shown(channel: Channel, first: int) -> Callable[[int], int]:
    if channel.quantity != "energy":
        return lambda passed_ns: (
            first + passed_ns // TICK_NS % 2 * 1000
        )  # a gauge refreshes as the counter ticks
    tick_ns = TICK_NS if channel.wraps_at is None else 1_000_000
    wraps_at = channel.wraps_at or 1 << 62
    return lambda passed_ns: (first + int(passed_ns // tick_ns * tick_ns * WATTS / 1e3)) % wraps_at


def main() -> None:
    hours, out = float(sys.argv[1]), sys.argv[2]
    clock = Clock()
    meter.monotonic_ns = clock  # type: ignore[attr-defined]  # the meter has no other way in
    facts = {"name": "day", "command": [], "pid": os.getpid()}
    folder = runfolder.create(out, facts)
    context = Context(os.environ, os.getpid(), **helper.roots())
    played = meter.Meter([Played(collector, clock) for collector in discover()], context)
    journal = Journal(os.path.join(folder, f"meter.{os.getpid()}.log"))
    played.attach(journal)
    program = Journal(os.path.join(folder, f"program.{os.getpid()}.log"))
    program.event("enter", t=clock.now_ns, pid=os.getpid(), rank=0)
    marks_ns = [clock.begun_ns + 10_000_000_000, clock.begun_ns + int(hours * 3.6e12)]
    memory: list[float] = []
    begun = time.process_time()
    for until_ns in marks_ns:
        while clock.now_ns < until_ns:
            clock.now_ns = max(clock.now_ns, played.next_due_ns())
            played.read_due()
        memory += [rss_mb(), pss_mb()]
    program.event("leave", t=clock.now_ns)
    played.detach(journal)
    names = ("rss_10s_mb", "pss_10s_mb", "rss_end_mb", "pss_end_mb")
    found = dict(zip(names, memory, strict=True)) | {
        "hours": hours,
        "took_s": time.process_time() - begun,
        "journal_mb": os.path.getsize(journal.path) / 1e6,
        "folder": folder,
    }
    print("RESULT", json.dumps(found))


if __name__ == "__main__":
    main()
