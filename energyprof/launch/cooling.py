"""Between two runs: wait until the machine draws what it drew before the first one.

Watts are those of the meters, by the collectors and curves that measure runs. What a run leaves behind, a processor's
clocks, fans, leakage of a warm chip, is in them. Where there are models alone there is nothing to see, and the wait is
short and fixed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Any

import numpy as np

from energyprof.collectors.base import Channel, Context
from energyprof.collectors.registry import discover
from energyprof.helper import roots
from energyprof.journal import Journal
from energyprof.meter import Meter
from energyprof.metering import meters_of
from energyprof.streams import Stream
from energyprof.tally import TOTAL, figures_on

_NS = 1_000_000_000
LONGEST_S = 60.0
BLIND_S = 1.0  # where no meter says anything
_WITHIN = 0.05
_DEVIATIONS = 3.0  # of the quiet seconds before the first run, where those differ by more than that
_LOOK_S, _GLANCE_S = 3, 1
_BEHIND_NS = 300_000_000  # the last ticks are not complete (as in `live`)


@dataclass(frozen=True)
class Quiet:
    """What the machine drew before the first run, in watts, and up to where it counts as that again."""

    watts: float
    limit_w: float


def quiet_of(watts: list[float]) -> Quiet:
    """From some seconds of the machine at rest."""
    mean = float(np.mean(watts))
    sd = float(np.std(watts, ddof=1)) if len(watts) > 1 else 0.0
    return Quiet(mean, mean + max(_WITHIN * mean, _DEVIATIONS * sd))


@dataclass
class _Seen:
    """Takes readings as a run's journal does, and keeps them in memory."""

    rows: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)

    def reading(self, index: int, before: int, after: int, value: int) -> None:
        self.rows.setdefault(index, []).append((before, after, value))

    def event(self, kind: str, **facts: Any) -> None:
        pass

    def flush(self) -> None:
        pass

    def sync(self) -> None:
        pass


class Watch:
    """The meters of this machine, read while somebody waits."""

    def __init__(self) -> None:
        self._meter = Meter(discover(), Context(environ=os.environ, pid=os.getpid(), **roots()))
        self._seen = _Seen()
        journal: Any = self._seen
        self._journal: Journal = journal
        self._meter.attach(self._journal)

    def close(self) -> None:
        self._meter.close()

    @property
    def measures(self) -> bool:
        """Whether any joule here is from a meter."""
        return any(_measured(channel) for channel in self._meter.channels)

    def watts(self, seconds: float, stop: Callable[[], bool]) -> float | None:
        """Mean power of what is measured, over the time from now on; None where it is not known."""
        begin = monotonic_ns()
        end = begin + int(seconds * _NS)
        self._meter.read_all()
        while (now := monotonic_ns()) < end + _BEHIND_NS and not stop():
            time.sleep(max(0, min(self._meter.next_due_ns(), end + _BEHIND_NS) - now) / _NS)
            self._meter.read_due()
        channels = [(i, c) for i, c in enumerate(self._meter.channels) if _measured(c)]
        streams = {c.name: _stream(c, self._seen.rows[i]) for i, c in channels if i in self._seen.rows}
        meters, _ = meters_of(streams, {}, [(begin, end)])
        found = figures_on(meters, np.array([begin]), np.array([end]))[TOTAL].energy_j
        return None if found is None or stop() else found / seconds


def _measured(channel: Channel) -> bool:
    return channel.quantity in ("energy", "power") and channel.method in ("counter", "integrated")


def _stream(channel: Channel, rows: list[tuple[int, int, int]]) -> Stream:
    before, after, value = np.array(rows, np.int64).T
    followed = channel.quantity == "energy" and (channel.refresh_ns or _NS) >= 12_000_000
    return Stream(channel, followed, before, after, value)


class Cooling:
    """The waits of a bench.

    Parameters
    ----------
    seconds
        A fixed time; None: until power has settled.
    tell
        Is given a line when there is something to know.
    stop
        Whether somebody wants the bench to end: no wait lasts longer.
    """

    def __init__(self, seconds: float | None, tell: Callable[[str], None], stop: Callable[[], bool]) -> None:
        self._seconds, self._tell, self._stop = seconds, tell, stop
        self._quiet: Quiet | None = None
        self._told = False

    def look(self) -> None:
        """Before the first run: what does the machine draw at rest?"""
        if self._seconds is not None:
            return
        watch = Watch()
        try:
            if watch.measures:
                seen = [watch.watts(_GLANCE_S, self._stop) for _ in range(_LOOK_S)]
                known = [one for one in seen if one is not None]
                self._quiet = quiet_of(known) if known else None
        finally:
            watch.close()
        if self._quiet is None:
            self._seconds = BLIND_S
            self._tell(
                f"no meter shows when the machine has settled: {BLIND_S:g} s between runs (--cool SECONDS)"
            )

    def wait(self) -> None:
        """Between two runs."""
        if self._seconds is not None or self._quiet is None:
            until = time.monotonic() + (self._seconds or 0.0)
            while time.monotonic() < until and not self._stop():
                time.sleep(min(0.1, max(0.0, until - time.monotonic())))
            return
        watch = Watch()
        try:
            self._settle(watch, self._quiet)
        finally:
            watch.close()

    def _settle(self, watch: Watch, quiet: Quiet) -> None:
        until = time.monotonic() + LONGEST_S
        while not self._stop():
            now_w = watch.watts(_GLANCE_S, self._stop)
            if now_w is None or now_w <= quiet.limit_w:
                return
            if time.monotonic() > until:
                break
        if not self._stop() and not self._told:
            self._told = True
            self._tell(
                f"after a minute the machine still draws more than before the first run ({quiet.watts:.3g} W); going on"
            )
