"""Read the hardware at the sensors' own pace, into the journals of the runs that are open.

The `Meter` is the same in all settings: in the parent of `energyprof run`, in the helper process of a
`profile()`, and (where nothing can be spawned) in a thread of the program. Whoever holds it waits until
`next_due_ns` by its own means and calls `read_due`; waiting is where the settings differ.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import monotonic_ns
from typing import Any

from energyprof import metercache
from energyprof.collectors.base import Channel, Collector, Context, DeviceLost, Group, Unavailable
from energyprof.inclusion import Offer, fault_of, missed, settled
from energyprof.journal import Journal
from energyprof.patience import Patience, Unanswered
from energyprof.reasons import CLOCK_SUSPENDED, DEVICE_LOST, NOT_SUPPORTED, SENSOR_GAP
from energyprof.ticks import EdgeFollower

_NS = 1_000_000_000
# What a new run is told of the time before it: enough for the tick before its start and its period.
_REMEMBERED_READINGS = 1024
_REMEMBERED_NS = 3 * _NS
_FLUSH_NS = _NS
# After a failure a group is tried again soon, then once a second; for good it is given up after this many.
_SOON, _FAILURES_ALLOWED = 20, 320
# A driver that wakes eight boards takes some seconds; a read takes a millisecond, and 50 where it is ill.
_OPEN_S, _READ_S, _CLOSE_S = 15.0, 0.5, 1.0
_INT64 = 1 << 63
_NOTICED_SLEEP_NS = 100_000_000

Call = Callable[[Callable[[], Any], float], Any]


def suspended_ns() -> int:
    """For how long this machine was suspended: what the clock that counts this is ahead of the monotonic one."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)


class _Source:
    """One group of channels on its schedule."""

    def __init__(self, group: Group, first_index: int, now_ns: int) -> None:
        self.group = group
        self.first_index = first_index
        self.follower = None if group.follow is None else EdgeFollower(now_ns)
        self.interval_ns = int(group.interval_s * _NS)
        self.due_ns = now_ns
        self.failures = 0
        self.ticks_seen = 0

    def read(self) -> tuple[int, int, Sequence[int | None]]:
        read = self.group.read
        assert isinstance(read, _Read)
        before, values, after = read.timed()
        values = _sound(values, len(self.group.channels))
        followed = None if self.group.follow is None else values[self.group.follow]
        if self.follower and followed is not None:
            self.ticks_seen += self.follower.observe(before, after, followed)
            self.due_ns = self.follower.next_read_ns
        else:
            # From now, not from the last due time: after a stall one read is owed, not a volley.
            self.due_ns = max(self.due_ns + self.interval_ns, after + self.interval_ns // 2)
        return before, after, values


class _Read:
    """A group's read within a time limit, with the times of the call itself."""

    def __init__(self, read: Callable[[], Sequence[int | None]], call: Call) -> None:
        self._read = read
        self._call = call

    def __call__(self) -> Sequence[int | None]:
        return self.timed()[1]

    def timed(self) -> tuple[int, Sequence[int | None], int]:
        """The values, and the monotonic ns before and after them."""
        before, values, after = self._call(self._timed, _READ_S)
        return before, values, after

    def _timed(self) -> tuple[int, Any, int]:
        before = monotonic_ns()
        values = self._read()
        return before, values, monotonic_ns()


class Meter:
    """All the hardware sources of this machine, and the journals that want their readings.

    Parameters
    ----------
    collectors
        Sources to open; those that cannot be read are kept in `missing`, with reason and remedy.
    context
        The environment and the program that the collectors may look at.
    asleep_ns
        Tells for how many ns this machine has been suspended since it was started.
    """

    def __init__(
        self,
        collectors: Iterable[Collector],
        context: Context,
        asleep_ns: Callable[[], int] = suspended_ns,
    ) -> None:
        self.missing: list[Unavailable] = []
        self._collectors: list[tuple[Collector, Call]] = []
        self._threads: list[Patience] = []
        offers: list[Offer] = []
        for collector in collectors:
            source = str(getattr(collector, "source", type(collector).__name__))
            call: Call = _at_once
            if not getattr(collector, "prompt", False):
                self._threads.append(Patience(source))
                call = self._threads[-1].call
            self._collectors.append((collector, call))  # also one that does not open may hold something
            try:
                opened = call(partial(collector.open, context), _OPEN_S)
                offered = [_checked(group, call) for group in opened.groups]
                self.missing += opened.missing
            except Unavailable as absence:
                self.missing.append(absence)
                continue
            except Exception as fault:  # a plug-in's bug must not cost the run its other channels
                why = str(fault) if isinstance(fault, Unanswered) else repr(fault)
                self.missing.append(Unavailable(source, NOT_SUPPORTED, f"failed to open: {why}"))
                continue
            offers.append((source, offered))
        groups, left_out = settled(offers)
        self.missing = missed(self.missing + left_out, groups)
        problem = metercache.load(context.environ).problem
        if problem:
            remedy = "`energyprof doctor --calibrate` writes it anew"
            self.missing.append(Unavailable("calibration", NOT_SUPPORTED, problem, remedy))
        now_ns = monotonic_ns()
        self._sources: list[_Source] = []
        self.channels: list[Channel] = []
        for group in groups:
            self._sources.append(_Source(group, len(self.channels), now_ns))
            self.channels += group.channels
        self._journals: list[Journal] = []
        self._recent: deque[tuple[int, int, int, int]] = deque(maxlen=_REMEMBERED_READINGS)
        self._flush_due_ns = now_ns + _FLUSH_NS
        self._asleep_ns = asleep_ns
        self._slept_ns = asleep_ns()

    def attach(self, journal: Journal) -> None:
        """Let a run's journal have the channels, the readings of the last seconds and all to come."""
        journal.event(
            "meter",
            pid=os.getpid(),
            channels=[dataclasses.asdict(channel) for channel in self.channels],
            followed=[s.first_index + s.group.follow for s in self._sources if s.group.follow is not None],
            missing=[absence.facts() for absence in self.missing],
        )
        horizon = monotonic_ns() - _REMEMBERED_NS
        for index, before, after, value in self._recent:
            if after >= horizon:
                journal.reading(index, before, after, value)
        self._journals.append(journal)

    def detach(self, journal: Journal) -> None:
        """End a run's readings; what was read is flushed."""
        self._guard(journal, journal.flush)
        if journal in self._journals:
            self._journals.remove(journal)

    @property
    def groups(self) -> list[Group]:
        """What is read, as the collectors offered it: for who reads at a pace of his own."""
        return [source.group for source in self._sources]

    def next_due_ns(self) -> int:
        """The monotonic time of the next read or flush."""
        return min([self._flush_due_ns, *(source.due_ns for source in self._sources)])

    def read_due(self) -> None:
        """Read every group whose time has come; the counters whose edge is near come first."""
        now_ns = monotonic_ns()
        for source in sorted(self._sources, key=lambda s: (s.follower is None, s.due_ns)):
            if source.due_ns <= now_ns:
                self._read(source)
        if self._flush_due_ns <= now_ns:
            self._flush_due_ns = now_ns + _FLUSH_NS
            self._look_for_sleep()
            for journal in list(self._journals):
                self._guard(journal, journal.flush)

    def read_all(self) -> None:
        """Read every group now: at a run's begin and end."""
        for source in list(self._sources):
            self._read(source)

    def ticks_seen(self) -> int | None:
        """Edges caught so far on the counter that has caught fewest; None where none is followed."""
        counters = [s for s in self._sources if s.follower and s.group.channels[0].quantity == "energy"]
        return min((s.ticks_seen for s in counters), default=None)

    def sync(self) -> None:
        """Bring what was flushed to the disk. May take long: call it from a thread of its own."""
        for journal in list(self._journals):
            self._guard(journal, journal.sync)

    def close(self) -> None:
        """Release the hardware."""
        for collector, call in self._collectors:
            try:
                call(collector.close, _CLOSE_S)
            except Exception:  # nothing depends on a clean close
                continue
        for thread in self._threads:
            thread.end()

    def _look_for_sleep(self) -> None:
        """The monotonic clock stands while the machine is suspended; what was drawn then is in no run."""
        slept_ns = self._asleep_ns()
        if slept_ns - self._slept_ns > _NOTICED_SLEEP_NS:
            for journal in list(self._journals):
                self._guard(journal, partial(journal.event, "flag", flag=CLOCK_SUSPENDED))
        self._slept_ns = slept_ns

    def _read(self, source: _Source) -> None:
        try:
            before, after, values = source.read()
        except DeviceLost as lost:
            self._end(source, lost.reason, str(lost))
            return
        except Exception as fault:  # EIO, or a plug-in's bug: a gap in this group, nothing more
            self._note_failure(source, fault)
            return
        source.failures = 0
        for offset, value in enumerate(values):
            if value is not None:
                index = source.first_index + offset
                self._recent.append((index, before, after, value))
                for journal in list(self._journals):
                    self._guard(journal, journal.reading, index, before, after, value)

    def _note_failure(self, source: _Source, fault: Exception) -> None:
        source.failures += 1
        pause_ns = _NS // 10 if source.failures < _SOON else _NS
        source.due_ns = monotonic_ns() + max(source.interval_ns, pause_ns)
        if source.failures == 1:
            self._event("gap", source, SENSOR_GAP, repr(fault))
        elif source.failures > _FAILURES_ALLOWED:
            self._end(source, DEVICE_LOST, repr(fault))

    def _end(self, source: _Source, reason: str, detail: str) -> None:
        self._event("lost", source, reason, detail)
        self._sources.remove(source)

    def _event(self, kind: str, source: _Source, reason: str, detail: str) -> None:
        names = [channel.name for channel in source.group.channels]
        for journal in list(self._journals):
            self._guard(
                journal,
                lambda to=journal: to.event(
                    kind, t=monotonic_ns(), channels=names, reason=reason, detail=detail
                ),
            )

    def _guard(self, journal: Journal, write: Callable[..., None], *values: int) -> None:
        """A full disk ends this journal's readings, never the meter."""
        try:
            write(*values)
        except (OSError, ValueError):
            if journal in self._journals:
                self._journals.remove(journal)


class Syncer(threading.Thread):
    """Once a second, what the meter flushed reaches the disk: a power cut costs a second at most."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(name="energyprof-sync", daemon=True)
        self._meter = meter
        self._stop_now = threading.Event()

    def run(self) -> None:
        while not self._stop_now.wait(1.0):
            self._meter.sync()

    def stop(self) -> None:
        self._stop_now.set()


def _at_once(function: Callable[[], Any], timeout_s: float) -> Any:
    """For collectors that read the kernel's files, which answer."""
    return function()


def _checked(group: Group, call: Call) -> Group:
    """The group, read through `call`; TypeError or ValueError where what a plug-in offers is none."""
    fault = next(filter(None, map(fault_of, group.channels)), "" if group.channels else "a group of nothing")
    if fault:
        raise TypeError(fault)
    json.dumps([dataclasses.asdict(channel) for channel in group.channels])
    if not 0 < group.interval_s < float("inf"):
        raise ValueError(f"an interval of {group.interval_s!r} s")
    return dataclasses.replace(group, read=_Read(group.read, call))


def _sound(values: Any, count: int) -> Sequence[int | None]:
    """What a read gave, where it is an integer or None for each channel; ValueError else."""
    if len(values) != count:
        raise ValueError(f"{len(values)} values for {count} channels")
    for value in values:
        if value is not None and not (isinstance(value, int) and -_INT64 <= value < _INT64):
            raise ValueError(f"{value!r} is no 64-bit integer")
    return values  # type: ignore[no-any-return]
