"""Read this machine's meters in several ways for some 15 s, and keep what that tells: `doctor --calibrate`.

First as fast as they can be read (ticks, refresh periods), then rarely (idle power), then every 100 ms and
every 10 ms (does that make a counter lose energy?). What the readings say is `calibration`'s to find, and
`metercache` keeps it.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from time import monotonic_ns
from typing import Any

import numpy as np

import energyprof
from energyprof import calibration, curves, metercache
from energyprof.calibration import Phase, Reads
from energyprof.collectors.base import Channel, Context, DeviceLost, Group
from energyprof.collectors.registry import discover
from energyprof.helper import roots
from energyprof.meter import Meter
from energyprof.metercache import Gauge, Known
from energyprof.metering import meters_of
from energyprof.runfolder import node_name
from energyprof.streams import Stream
from energyprof.tally import Meter as MeterCurve

_NS = 1_000_000_000
_FAST_REFRESH_NS = 12_000_000  # counters below are read back to back for a moment instead (RAPL: 1 ms)
_SPIN_S = 0.15
_IN_PROCESSORS = ("package", "dram", "psys", "core", "uncore", "module", "rail", "node")


@dataclass(frozen=True)
class _Plan:
    """How long, and how often ticking counters and power gauges are read meanwhile (s)."""

    seconds: float
    counter_s: float
    power_s: float


_LEARN = _Plan(2.5, 0.003, 0.005)
_BRIEF = _Plan(0.5, 1.0, 0.005)  # where nothing ticks
_RARE = _Plan(4.5, 1.0, 0.05)
_CODA = _Plan(0.25, 0.004, 0.05)  # two ticks, so that the edge at the end of what was read rarely is known
_FASTER = (_Plan(3.0, 0.1, 0.05), _Plan(3.0, 0.01, 0.05))
SECONDS = _SPIN_S + sum(plan.seconds for plan in (_LEARN, _RARE, _CODA, *_FASTER))
# From the last edge that dense reads caught before a phase to the first one after it.
_BEFORE_NS, _AFTER_NS = 120_000_000, 240_000_000


def calibrate(tell: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Learn the meters of this machine, keep it, and say what was found.

    Parameters
    ----------
    tell
        Is given one line when the waiting begins.

    Returns
    -------
    A report for machines; `reports.text.calibrated` puts it into words.

    Raises
    ------
    OSError
        The cache's folder cannot be written; nothing has been measured then.
    """
    _must_be_writable(metercache.path_of(os.environ))
    context = Context(environ=os.environ, pid=os.getpid(), **roots())
    meter = Meter(discover(), context)
    try:
        recorder = _Recorder(meter.groups)
        ticking = any(_ticks(group) for group in meter.groups)
        tell(
            f"reading the meters for {SECONDS if ticking else _RARE.seconds:.0f} s: leave the machine idle meanwhile"
        )
        watched = _watch(recorder, ticking, context.proc_root)
    finally:
        meter.close()
    channels = {channel.name: channel for group in meter.groups for channel in group.channels}
    found = _found(channels, watched)
    learned = {row["key"]: known for row, known in found if row["key"]}
    path = metercache.store(os.environ, learned)
    return {
        "energyprof": energyprof.__version__,
        "cache": path,
        "measures": any(row["method"] in ("counter", "integrated") for row, _ in found),
        "meters": [row for row, _ in found],
        "missing": [absence.facts() for absence in meter.missing if absence.source != "calibration"],
    }


@dataclass(frozen=True)
class _Watched:
    """All readings by channel, those of fast counters, when what was read how often, and how busy the
    processors were while it was quiet (0 to 1)."""

    reads: Mapping[str, Reads]
    spun: Mapping[str, Reads]
    learn: Phase
    rare: Phase
    faster: Sequence[Phase]
    processors: float | None


def _watch(recorder: _Recorder, ticking: bool, proc_root: str) -> _Watched:
    spun = recorder.spin()
    learn = recorder.run(_LEARN if ticking else _BRIEF)
    before = _processor_time(proc_root)
    rare = recorder.run(_RARE)
    after = _processor_time(proc_root)
    faster = []
    if ticking:
        recorder.run(_CODA)
        faster = [recorder.run(plan) for plan in _FASTER]
        faster[0] = _between_edges(faster[0])
    busy = None
    if before and after and after[1] > before[1]:
        busy = (after[0] - before[0]) / (after[1] - before[1])
    return _Watched(recorder.reads(), spun, learn, rare, faster, busy)


def _between_edges(phase: Phase) -> Phase:
    """A phase of few reads, reaching to the nearest edges that dense reads around it have caught."""
    return Phase(phase.every_ms, phase.begin_ns - _BEFORE_NS, phase.end_ns + _AFTER_NS)


def _must_be_writable(path: str) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(13, "permission denied", folder)


def _ticks(group: Group) -> bool:
    """A counter that ticks slowly enough to be followed, as those of GPUs do."""
    first = group.channels[0]
    return first.quantity == "energy" and (first.refresh_ns or _NS) >= _FAST_REFRESH_NS


class _Recorder:
    """Reads groups at a plan's pace and keeps everything."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = list(groups)
        self._rows: dict[str, list[tuple[int, int, int]]] = {}
        self._random = random.Random(0)

    def spin(self) -> dict[str, Reads]:
        """Counters that refresh within milliseconds, read back to back for a moment."""
        keep, self._rows = self._rows, {}
        for group in [g for g in self._groups if g.channels[0].quantity == "energy" and not _ticks(g)]:
            until_ns = monotonic_ns() + int(_SPIN_S * _NS)
            while monotonic_ns() < until_ns and group in self._groups:
                self._read(group)
        found, self._rows = self.reads(), keep
        return found

    def run(self, plan: _Plan) -> Phase:
        """Read as planned; everything is read at both ends."""
        begin_ns = monotonic_ns()
        end_ns = begin_ns + int(plan.seconds * _NS)
        due = dict.fromkeys(range(len(self._groups)), begin_ns)
        groups = list(self._groups)
        while (now_ns := monotonic_ns()) < end_ns:
            for index, group in enumerate(groups):
                if group not in self._groups:  # it was lost
                    due[index] = end_ns
                elif due[index] <= now_ns:
                    self._read(group)
                    # Never at one phase of anybody's clock.
                    pace_ns = self._pace_s(group, plan) * self._random.uniform(0.85, 1.15) * _NS
                    due[index] = max(due[index] + int(pace_ns), monotonic_ns())
            time.sleep(max(0.0, min(min(due.values(), default=end_ns), end_ns) - monotonic_ns()) / _NS)
        for group in list(self._groups):
            self._read(group)
        return Phase(1e3 * plan.counter_s, begin_ns, monotonic_ns())

    def reads(self) -> dict[str, Reads]:
        """All readings by channel."""
        columns = {name: np.array(rows, np.int64).reshape(-1, 3).T for name, rows in self._rows.items()}
        return {name: Reads(*column) for name, column in columns.items()}

    def _pace_s(self, group: Group, plan: _Plan) -> float:
        if _ticks(group):
            return plan.counter_s
        first = group.channels[0]
        gauge = first.quantity == "power" and first.method == "integrated" and group.interval_s < 1.0
        return plan.power_s if gauge else group.interval_s

    def _read(self, group: Group) -> None:
        before = monotonic_ns()
        try:
            values = group.read()
        except DeviceLost:
            self._groups.remove(group)
            return
        except Exception:  # a gap, or a plug-in's bug: the readings that there are must do
            return
        after = monotonic_ns()
        for channel, value in zip(group.channels, values):
            if value is not None:
                self._rows.setdefault(channel.name, []).append((before, after, value))


def _found(channels: Mapping[str, Channel], watched: _Watched) -> list[tuple[dict[str, Any], Known]]:
    """A row for the report and an entry for the cache, of every main channel that gave readings."""
    streams = {
        name: Stream(channel, _is_ticking(channel), r.before_ns, r.after_ns, r.value)
        for name, channel in channels.items()
        if (r := watched.reads.get(name)) is not None
    }
    if not streams:
        return []
    last = watched.faster[-1] if watched.faster else watched.rare
    meters, _ = meters_of(streams, {}, [(watched.learn.begin_ns, last.end_ns)])
    return [_device(meter, streams, watched) for meter in meters]


def _is_ticking(channel: Channel) -> bool:
    return channel.quantity == "energy" and (channel.refresh_ns or _NS) >= _FAST_REFRESH_NS


def _device(
    meter: MeterCurve, streams: Mapping[str, Stream], watched: _Watched
) -> tuple[dict[str, Any], Known]:
    channel, curve, learn = meter.channel, meter.curve, watched.learn
    name, ticking = channel.name, _is_ticking(channel)
    own = watched.reads[name]
    gauges = {n[len(name) :]: watched.reads[n] for n in streams if _is_gauge(streams[n].channel, name)}
    shown = next((gauges[suffix] for suffix in ("/instant", "/average", "") if suffix in gauges), None)
    tick, losses, resting = None, [], None
    if channel.quantity == "energy":
        fast = own.between(learn.begin_ns, learn.end_ns)
        tick = calibration.cadence(fast if ticking else watched.spun.get(name, own))
    if curve is not None:
        rare = _between_edges(watched.rare)
        if ticking:
            losses = calibration.shortfalls(curve, _gauge_curve(shown), rare, watched.faster)
        # What dense reads at its ends did to a counter that loses by them must not count as rest.
        quiet = rare if ticking and calibration.is_safe(losses) else watched.rare
        resting = calibration.rest(curve, shown, quiet, _busy(channel, watched))
    safe = calibration.is_safe(losses)
    fields = {suffix: _field(r, watched, meter, safe) for suffix, r in gauges.items()}
    cost = own.cost_ms
    today = datetime.now(timezone.utc).date().isoformat()
    idle = resting if resting is not None and not resting.busy else None
    known = Known(
        date=today,
        tick_ms=tick.period_ms if tick and ticking else None,
        jitter_ms=tick.jitter_ms if tick and ticking else None,
        read_ms=cost,
        counter_safe=safe,
        gauges=fields,
        idle_w=idle.watts if idle else None,
        u95_idle_w=idle.u95_w if idle else None,
        idle_date=today if idle else "",
    )
    row = {
        "channel": name,
        "key": metercache.device_key(channel, node_name()),
        "device": channel.device.get("model"),
        "method": channel.method,
        "read_ms": cost,
        "tick_ms": tick.period_ms if tick else None,
        "jitter_ms": tick.jitter_ms if tick else None,
        "counter_safe": safe,
        "shortfalls": [asdict(loss) for loss in losses],
        "gauges": {suffix: asdict(gauge) for suffix, gauge in fields.items()},
        "power_w": resting.watts if resting else None,
        "u95_power_w": resting.u95_w if resting else None,
        "varying_w": resting.varying_w if resting else None,
        "idle": idle is not None,
        "busy": resting.busy if resting else "no figure for its power",
    }
    return row, known


def _is_gauge(channel: Channel, name: str) -> bool:
    """A power field of this device, or the device's main channel where that is one; not a limit."""
    mine = channel.name == name or channel.name.startswith(name + "/")
    return mine and channel.quantity == "power" and channel.method == "integrated" and channel.gain_u95 > 0


def _gauge_curve(shown: Reads | None) -> curves.EnergyCurve | None:
    return None if shown is None else curves.from_power(shown.after_ns, shown.value)


def _field(shown: Reads, watched: _Watched, meter: MeterCurve, safe: bool | None) -> Gauge:
    seen = calibration.cadence(shown.between(watched.learn.begin_ns, watched.learn.end_ns))
    window = None
    if safe is not False and meter.curve is not None and watched.faster:
        window = calibration.window_ms(shown, meter.curve, watched.faster[0].begin_ns)
    return Gauge(seen.period_ms if seen else None, window)


def _busy(channel: Channel, watched: _Watched) -> str:
    """What says that a device was at work in the quiet phase; empty where nothing does."""
    name = channel.name
    if channel.method == "modelled" and channel.quantity == "power":
        return ""  # a constant
    if name.split(":", maxsplit=1)[0] in _IN_PROCESSORS:
        share = watched.processors or 0.0
        return f"the processors were {100 * share:.0f} % busy" if share > calibration.IDLE_CPU else ""
    used = watched.reads.get(f"{name}/utilisation")
    shares = used.between(watched.rare.begin_ns, watched.rare.end_ns).value if used else np.zeros(0)
    if len(shares) and shares.mean() / 1e6 > calibration.IDLE_GPU:
        return f"it was {shares.mean() / 1e4:.0f} % busy"
    return ""


def _processor_time(proc_root: str) -> tuple[int, int] | None:
    """Busy and total clock ticks of all processors since boot; None where /proc/stat does not say."""
    try:
        with open(f"{proc_root}/stat", encoding="ascii") as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    if len(fields) < 5:
        return None
    return sum(fields) - fields[3] - fields[4], sum(fields)  # all but idle and iowait
