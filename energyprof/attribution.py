"""Curves and intervals -> joules of the run, its regions and its steps. Pure functions of arrays.

A *kind* is a region's call path in one rank; its energy is the sum over its calls. The curve gives a
figure where the meter resolves the calls: nine tenths of the kind's time must lie in calls that are at
least one tick long. Shorter kinds that repeat are estimated from all ticks at once (`apportion`,
`regression`). Anything else is null with a reason, never a share of a tick sold as a measurement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from energyprof.apportion import Calls, Solved, half_width
from energyprof.apportion import solve as solve_on
from energyprof.collectors.base import Channel
from energyprof.curves import EnergyCurve, Joules, Times, joules
from energyprof.reasons import BELOW_RESOLUTION, COLLINEAR, OVERLAP, PHASE_LOCKED, SENSOR_GAP
from energyprof.shares import clustering

TOTAL = "total"
_RESOLVED_SHARE = 0.9
_BETWEEN_STEPS_NS = 1_000_000
REGRESSED = "regressed"
_USELESS = 0.5  # a half-width of more than this share of the energy is no figure
_NO_WORK = 0.05  # of a region's time in the host: the device had other things to do, and none for it
_IN_STEP, _PRECISE = 0.5, 0.01  # a loop in step with the ticks: its interval rests on few phases
_REPEATED, _MANY, _SHORT_TICKS = 5, 20, 5.0


@dataclass(frozen=True)
class Meter:
    """One channel that has joules: the channel, its curve (None: no curve, `reason` says why)."""

    channel: Channel
    curve: EnergyCurve | None
    in_total: bool
    reason: str | None = None


@dataclass(frozen=True)
class Figure:
    """One energy with all that is known of it; `energy_j` None means there is no figure, see `reason`.

    `u95_j` is the 95 % half-width: `u_random_j` (knots, shape, sampling) and `u_gain_j` (the sensor's
    gain, which cancels between two runs on one board) in quadrature.
    """

    energy_j: float | None
    method: str
    reason: str | None = None
    u_random_j: float = 0.0
    u_gain_j: float = 0.0

    @property
    def u95_j(self) -> float | None:
        return None if self.energy_j is None else float(np.hypot(self.u_random_j, self.u_gain_j))


@dataclass(frozen=True)
class Kind:
    """A region's call path (or the steps) in one rank; `parent` indexes the kinds, -1 at the top."""

    rank: int
    path: tuple[str, ...]
    parent: int
    row_kind: str


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


@dataclass(frozen=True)
class KindRow:
    """What one kind cost on each channel, and in total."""

    kind: Kind
    calls: int
    duration_s: float
    figures: Mapping[str, Figure]
    self_j: Mapping[str, float | None]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Steps:
    """Each step's total energy; `known` False where the step is shorter than the meters resolve."""

    kind: Kind
    begin_ns: Times
    end_ns: Times
    joules: Joules
    u95_j: NDArray[np.float64]
    method: str
    reason: str = field(default=BELOW_RESOLUTION)


def in_totals(channels: Sequence[Channel]) -> set[str]:
    """The names of the channels that add up to the run: none that another of them already includes."""
    names = {channel.name for channel in channels}
    return {channel.name for channel in channels if channel.parent not in names}


def figure_on(meter: Meter, begin_ns: Times, end_ns: Times) -> Figure:
    """The energy of one meter summed over intervals."""
    method = meter.channel.method
    if meter.curve is None:
        return Figure(None, method, meter.reason or SENSOR_GAP)
    curve = meter.curve
    seconds = (end_ns - begin_ns) / 1e9
    resolved = float(seconds[seconds * 1e9 >= curve.tick_ns].sum())
    short = resolved < _RESOLVED_SHARE * float(seconds.sum())
    if (short and method != "modelled") or not seconds.sum() > 0:
        return Figure(None, method, BELOW_RESOLUTION)
    clustered = clustering(np.sort(begin_ns), curve.tick_ns) if len(begin_ns) >= _REPEATED else 1.0
    in_step = len(begin_ns) >= _MANY and clustered > _IN_STEP
    if in_step and method != "modelled" and seconds.mean() * 1e9 < _SHORT_TICKS * curve.tick_ns:
        # Every call cuts the ticks alike: what is wrong with one is wrong with all.
        return Figure(None, method, PHASE_LOCKED)
    result = joules(curve, begin_ns, end_ns)
    if not result.known.all():
        return Figure(None, method, meter.reason or curve.lost_reason)
    energy = float(result.energy_j.sum())
    random = _sum_of_calls(result.u_random_j, clustered**2)
    if short:  # a model says what the machine drew, not when within its tick: every call may be off alike
        random = float(result.u_random_j.sum())
    return Figure(energy, method, meter.reason, random, curve.gain_u95 * energy)


def _sum_of_calls(u_j: NDArray[np.float64], alike: float) -> float:
    """Uncertainty of a sum over calls: independent where they begin at all phases of the tick, and all
    alike where they are locked to it; `alike` says how far, from 0 to 1."""
    return float(np.sqrt(alike * u_j.sum() ** 2 + (1 - alike) * (u_j**2).sum()))


def total_of(figures: Sequence[Figure]) -> Figure:
    """The sum of figures; null where one of them is (a part is never passed off as the whole)."""
    if not figures:
        return Figure(None, "none", "not_supported")
    method = "+".join(sorted({figure.method for figure in figures}))
    reasons = [figure.reason for figure in figures if figure.energy_j is None]
    if reasons:
        return Figure(None, method, reasons[0])
    return Figure(
        float(sum(figure.energy_j or 0.0 for figure in figures)),
        method,
        next((figure.reason for figure in figures if figure.reason), None),
        float(np.sqrt(sum(figure.u_random_j**2 for figure in figures))),
        float(np.sqrt(sum(figure.u_gain_j**2 for figure in figures))),
    )


def figures_on(meters: Sequence[Meter], begin_ns: Times, end_ns: Times) -> dict[str, Figure]:
    """Every meter's figure on a set of intervals, and the total."""
    figures = {meter.channel.name: figure_on(meter, begin_ns, end_ns) for meter in meters}
    figures[TOTAL] = total_of([figures[meter.channel.name] for meter in meters if meter.in_total])
    return figures


def kind_rows(
    meters: Sequence[Meter],
    kinds: Sequence[Kind],
    marks: Marks,
    solved: Mapping[str, Solved] | None = None,
) -> list[KindRow]:
    """What each region kind cost, in the order of first begin.

    `solved` has, by meter, what the ticks say of regions shorter than they are; of that and the curve's
    figure the one with the narrower interval is taken.
    """
    order = np.argsort(marks.kind, kind="stable")
    sorted_kinds = marks.kind[order]
    tops = _outermost(kinds, marks)
    found: dict[int, tuple[Times, Times, dict[str, Figure], bool]] = {}
    for index, kind in enumerate(kinds):
        if kind.row_kind != "region":
            continue
        chosen = order[slice(*np.searchsorted(sorted_kinds, [index, index + 1]))]
        if len(chosen) == 0:
            continue
        begin, end = marks.begin_ns[chosen], marks.end_ns[chosen]
        overlaps = _overlap(begin, end) or _beside_others(marks, tops, chosen)
        figures = {
            meter.channel.name: _better(_figure_of(meter, marks, chosen), meter, index, solved or {})
            for meter in meters
        }
        figures[TOTAL] = total_of([figures[meter.channel.name] for meter in meters if meter.in_total])
        found[index] = (begin, end, figures, overlaps)
    children: dict[int, list[int]] = {}
    for index in found:
        children.setdefault(kinds[index].parent, []).append(index)
    rows = []
    for index in sorted(found, key=lambda i: int(found[i][0].min())):
        begin, end, figures, overlaps = found[index]
        inside = [found[i][2] for i in children.get(index, [])]
        rows.append(
            KindRow(
                kind=kinds[index],
                calls=len(begin),
                duration_s=float((end - begin).sum() / 1e9),
                figures=figures,
                self_j={
                    name: exclusive(figure, [part[name] for part in inside])
                    for name, figure in figures.items()
                },
                flags=(OVERLAP,) if overlaps else (),
            )
        )
    return rows


def _figure_of(meter: Meter, marks: Marks, chosen: NDArray[np.intp]) -> Figure:
    """The curve's figure of some marks, at the times when the meter's device ran them."""
    seen = marks.on(meter.channel.name)
    begin, end = seen.begin_ns[chosen], seen.end_ns[chosen]
    figure = figure_on(meter, begin, end)
    if figure.energy_j is not None or meter.curve is None or not _absent(marks, seen, chosen):
        return figure
    # The device gave it next to no time: what it drew then is little, however little is known of it.
    part = joules(meter.curve, begin, end)
    if not part.known.all():
        return figure
    energy, half = float(part.energy_j.sum()), float(part.u_random_j.sum())
    return Figure(energy, meter.channel.method, meter.reason, half, meter.curve.gain_u95 * energy)


def _absent(marks: Marks, seen: Marks, chosen: NDArray[np.intp]) -> bool:
    """Whether a device was at these marks for so little of their time in the host that they had no work."""
    on_host = int((marks.end_ns[chosen] - marks.begin_ns[chosen]).sum())
    return seen is not marks and int((seen.end_ns[chosen] - seen.begin_ns[chosen]).sum()) < _NO_WORK * on_host


def _better(figure: Figure, meter: Meter, kind: int, solved: Mapping[str, Solved]) -> Figure:
    """The curve's figure, or the one from the ticks where that is known better."""
    found = solved.get(meter.channel.name)
    if found is None or meter.curve is None or kind not in found.energy_j:
        return figure
    energy, half = found.energy_j[kind], half_width(found, kind)
    if figure.energy_j is not None and figure.u_random_j <= half:
        return figure
    in_step = found.clustered[kind] > _IN_STEP
    if half > _USELESS * energy or (in_step and half > _PRECISE * energy):
        reason = PHASE_LOCKED if in_step else COLLINEAR
        return figure if figure.energy_j is not None else replace(figure, reason=reason)
    method = meter.channel.method if meter.channel.method == "modelled" else REGRESSED
    return Figure(energy, method, meter.reason, half, meter.curve.gain_u95 * energy)


def solve(
    meters: Sequence[Meter], kinds: Sequence[Kind], marks: Marks, spans: Sequence[tuple[int, int]]
) -> dict[str, Solved]:
    """Estimate the regions that the curves cannot resolve, on every meter that ticks; by meter name."""
    regions = np.array([kind.row_kind == "region" for kind in kinds], bool)
    chosen = regions[marks.kind] if len(kinds) else np.zeros(0, bool)
    if not chosen.any() or len(np.unique(marks.thread[chosen])) > 1 or not spans:
        return {}
    found = {}
    on_host = _calls(kinds, marks, marks, chosen)
    for meter in meters:
        seen = marks.on(meter.channel.name)
        calls = on_host if seen is marks else _calls(kinds, marks, seen, chosen)
        if calls is None or meter.curve is None or not _has_short(calls, meter.curve.tick_ns):
            continue
        # Between the calls of a decorated function the run is out: that is time outside any region.
        try:
            result = solve_on(meter.curve, calls, spans[0][0], spans[-1][1])
        except (ArithmeticError, ValueError, RuntimeError, np.linalg.LinAlgError):
            continue  # numbers that no model fits: those regions have no figure, and the run is stored
        if result is not None:
            found[meter.channel.name] = result
    return found


def _calls(kinds: Sequence[Kind], marks: Marks, seen: Marks, regions: NDArray[np.bool_]) -> Calls | None:
    """The regions' marks as a device saw them, without the kinds that it had no work for; None where they
    do not lie within each other."""
    on_host = np.bincount(marks.kind, marks.end_ns - marks.begin_ns, len(kinds))
    present = np.bincount(marks.kind, seen.end_ns - seen.begin_ns, len(kinds)) >= _NO_WORK * on_host
    chosen = np.flatnonzero(regions & present[marks.kind])
    parent = np.array([kind.parent for kind in kinds], np.int64)
    calls = Calls(seen.kind[chosen], seen.begin_ns[chosen], seen.end_ns[chosen], parent)
    return calls if len(chosen) and calls.nested else None


def _has_short(calls: Calls, tick_ns: int) -> bool:
    """Whether any kind of region is too short for the curve to be the best that is known of it."""
    seconds = (calls.end_ns - calls.begin_ns).astype(np.float64)
    count = np.bincount(calls.kind)
    total = np.bincount(calls.kind, seconds)
    repeated = count >= _REPEATED
    return bool(np.any(total[repeated] / count[repeated] < _SHORT_TICKS * tick_ns))


def exclusive(whole: Figure, parts: Sequence[Figure]) -> float | None:
    """The energy of a region outside the regions inside it; None where one of them has no figure."""
    if whole.energy_j is None or any(part.energy_j is None for part in parts):
        return None
    left = whole.energy_j - sum(part.energy_j or 0.0 for part in parts)
    if left < -1e-9 * whole.energy_j:
        return None  # the parts ran at once, or are known less well than the whole
    return max(0.0, left)


def step_rows(meters: Sequence[Meter], kinds: Sequence[Kind], marks: Marks) -> list[Steps]:
    """The total energy of each step, one table a step kind."""
    counted = [meter for meter in meters if meter.in_total]
    tables = []
    for index, kind in enumerate(kinds):
        if kind.row_kind != "step":
            continue
        chosen = np.flatnonzero(marks.kind == index)
        chosen = chosen[np.argsort(marks.begin_ns[chosen], kind="stable")]
        begin, end = marks.begin_ns[chosen], marks.end_ns[chosen]
        energy, random, gain = np.zeros(len(begin)), np.zeros(len(begin)), np.zeros(len(begin))
        known = np.full(len(begin), bool(counted))
        reason = BELOW_RESOLUTION
        for meter in counted:
            if meter.curve is None:
                known[:] = False
                reason = meter.reason or SENSOR_GAP
                continue
            seen = marks.on(meter.channel.name)
            ran = seen.begin_ns[chosen], seen.end_ns[chosen]
            part = joules(meter.curve, *ran)
            if not part.known.all():
                reason = meter.reason or meter.curve.lost_reason
            known &= part.known & (ran[1] - ran[0] >= meter.curve.tick_ns)
            energy += part.energy_j
            random = np.hypot(random, part.u_random_j)
            gain = np.hypot(gain, meter.curve.gain_u95 * part.energy_j)
        method = "+".join(sorted({meter.channel.method for meter in counted})) or "none"
        table = Joules(np.where(known, energy, 0.0), random, known)
        tables.append(Steps(kind, begin, end, table, np.hypot(random, gain), method, reason))
    return tables


def union(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of time, sorted and merged where they touch or overlap."""
    merged: list[tuple[int, int]] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((begin, end))
    return merged


def energy_per_step(meters: Sequence[Meter], tables: Sequence[Steps]) -> float | None:
    """Mean joules a step, over the time in which steps ran; None where that has no figure."""
    count = sum(len(table.begin_ns) for table in tables)
    # Steps follow each other: between one's end and the next one's begin are microseconds.
    spans = union((int(b), int(e) + _BETWEEN_STEPS_NS) for t in tables for b, e in zip(t.begin_ns, t.end_ns))
    if not spans:
        return None
    begin, end = (np.array(side, np.int64) for side in zip(*spans))
    energy = figures_on(meters, begin, end - _BETWEEN_STEPS_NS)[TOTAL].energy_j
    return None if energy is None else energy / count


def _overlap(begin_ns: Times, end_ns: Times) -> bool:
    """Whether any two calls of a kind ran at once (in different threads or tasks)."""
    order = np.argsort(begin_ns, kind="stable")
    return bool(np.any(begin_ns[order][1:] < np.maximum.accumulate(end_ns[order])[:-1]))


def _outermost(kinds: Sequence[Kind], marks: Marks) -> dict[int, tuple[Times, Times]]:
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


def _beside_others(marks: Marks, tops: Mapping[int, tuple[Times, Times]], chosen: NDArray[np.intp]) -> bool:
    """Whether another thread (or rank) was in a region of its own while any of these calls ran."""
    for thread, (begins, ends) in tops.items():
        calls = chosen[marks.thread[chosen] != thread]
        after = np.searchsorted(ends, marks.begin_ns[calls], side="right")
        before = np.searchsorted(begins, marks.end_ns[calls], side="left")
        if np.any(before > after):
            return True
    return False
