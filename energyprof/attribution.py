"""Curves and intervals -> joules of the run, its regions and its steps. Pure functions of arrays.

A *kind* is a region's call path in one rank; its energy is the sum over its calls. The curve gives a
figure where the meter resolves the calls: nine tenths of the kind's time must lie in calls that are at
least one tick long. Shorter kinds that repeat are estimated from all ticks at once (`apportion`,
`regression`). Anything else is null with a reason, never a share of a tick sold as a measurement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from energyprof.apportion import Calls, Part, Solved, half_widths, parts_of, together
from energyprof.curves import Joules, Times, joules
from energyprof.intervals import Kind, Marks, beside, beside_others, outermost, overlap, union
from energyprof.reasons import BELOW_RESOLUTION, COLLINEAR, OVERLAP, PHASE_LOCKED, SENSOR_GAP
from energyprof.regression import Estimate
from energyprof.tally import (
    IN_STEP,
    NO_WORK,
    REPEATED,
    SHORT_TICKS,
    TOTAL,
    Figure,
    Meter,
    Tally,
    figure_of,
    figures_on,
    tally_on,
    total_of,
)

_BETWEEN_STEPS_NS = 1_000_000
REGRESSED = "regressed"
_USELESS = 0.5  # a half-width of more than this share of the energy is no figure
_PRECISE = 0.01  # half-width that a loop in step with the ticks must have: its interval rests on few phases


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


@dataclass(frozen=True)
class KindSum:
    """What a stretch of a run knows of one region kind: its calls that ended there, and its tally a meter."""

    calls: int
    duration_s: float
    first_ns: int
    overlaps: bool
    tallies: Mapping[str, Tally]

    def __add__(self, other: KindSum) -> KindSum:
        names = {*self.tallies, *other.tallies}
        unknown = Tally(known=False)
        return KindSum(
            self.calls + other.calls,
            self.duration_s + other.duration_s,
            min(self.first_ns, other.first_ns),
            self.overlaps or other.overlaps,
            {n: self.tallies.get(n, unknown) + other.tallies.get(n, unknown) for n in names},
        )


def kind_sums(
    meters: Sequence[Meter], kinds: Sequence[Kind], marks: Marks, ended: NDArray[np.bool_] | None = None
) -> dict[int, KindSum]:
    """The sums of each region kind that ran, by its index; `ended` says which marks count as calls."""
    order = np.argsort(marks.kind, kind="stable")
    sorted_kinds = marks.kind[order]
    tops = outermost(kinds, marks)
    found: dict[int, KindSum] = {}
    for index, kind in enumerate(kinds):
        if kind.row_kind != "region":
            continue
        chosen = order[slice(*np.searchsorted(sorted_kinds, [index, index + 1]))]
        if len(chosen) == 0:
            continue
        begin, end = marks.begin_ns[chosen], marks.end_ns[chosen]
        on_host = float((end - begin).sum() / 1e9)
        tallies = {}
        for meter in meters:
            seen = marks.on(meter.channel.name)
            tallies[meter.channel.name] = tally_on(meter, seen.begin_ns[chosen], seen.end_ns[chosen], on_host)
        found[index] = KindSum(
            calls=len(chosen) if ended is None else int(np.count_nonzero(ended[chosen])),
            duration_s=on_host,
            first_ns=int(begin.min()),
            overlaps=overlap(begin, end) or beside_others(marks, tops, chosen),
            tallies=tallies,
        )
    return found


def kind_rows(
    meters: Sequence[Meter],
    kinds: Sequence[Kind],
    sums: Mapping[int, KindSum],
    solved: Mapping[str, Solved] | None = None,
) -> list[KindRow]:
    """What each region kind cost, in the order of first begin.

    `solved` has, by meter, what the ticks say of regions shorter than they are; of that and the curve's
    figure the one with the narrower interval is taken.
    """
    figures: dict[int, dict[str, Figure]] = {}
    for index, one in sums.items():
        mine = {
            meter.channel.name: _better(
                meter, index, one.tallies.get(meter.channel.name, Tally(known=False)), solved or {}
            )
            for meter in meters
        }
        mine[TOTAL] = total_of([mine[meter.channel.name] for meter in meters if meter.in_total])
        figures[index] = mine
    children: dict[int, list[int]] = {}
    for index in sums:
        children.setdefault(kinds[index].parent, []).append(index)
    rows = []
    for index in sorted(sums, key=lambda i: sums[i].first_ns):
        inside = [figures[i] for i in children.get(index, [])]
        rows.append(
            KindRow(
                kind=kinds[index],
                calls=sums[index].calls,
                duration_s=sums[index].duration_s,
                figures=figures[index],
                self_j={
                    name: exclusive(figure, [part[name] for part in inside])
                    for name, figure in figures[index].items()
                },
                flags=(OVERLAP,) if sums[index].overlaps else (),
            )
        )
    return rows


def _better(meter: Meter, kind: int, tally: Tally, solved: Mapping[str, Solved]) -> Figure:
    """The curve's figure, or the one from the ticks where that is known better."""
    figure, found = figure_of(meter, tally), solved.get(meter.channel.name)
    if found is None or meter.curve is None or kind not in found.energy_j:
        return figure
    # By the time on the device: a call that is queued returns at once.
    noise, model = half_widths(found, kind, tally.calls / max(tally.seconds, 1e-9))
    energy = found.energy_j[kind]
    half = float(np.hypot(noise, model))
    if figure.energy_j is not None and figure.u_random_j <= half:
        return figure
    in_step = found.clustered[kind] > IN_STEP
    if half > _USELESS * energy or (in_step and half > _PRECISE * energy):
        reason = PHASE_LOCKED if in_step else COLLINEAR
        return figure if figure.energy_j is not None else replace(figure, reason=reason)
    method = meter.channel.method if meter.channel.method == "modelled" else REGRESSED
    gain = meter.curve.gain_u95 * energy
    if method == "modelled":
        return Figure(energy, method, meter.reason, half, gain, u_regression_j=half, u_model_j=gain)
    return Figure(energy, method, meter.reason, half, gain, u_regression_j=noise, u_model_j=model)


def solve(
    meters: Sequence[Meter],
    kinds: Sequence[Kind],
    marks: Marks,
    spans: Sequence[tuple[int, int]],
    caused: bool = False,
) -> dict[str, Solved]:
    """Estimate the regions that the curves cannot resolve, on every meter that ticks; by meter name.

    With `caused`: what they cause, and not what is drawn while they run.
    """
    if not spans:
        return {}
    # Between the calls of a decorated function the run is out: that is time outside any region.
    parts = solve_parts(meters, kinds, marks, spans[0][0], spans[-1][1], only_short=True, caused=caused)
    return apportioned({name: found or [] for name, found in parts.items()}, kinds)


def apportioned(parts: Mapping[str, Sequence[Part]], kinds: Sequence[Kind]) -> dict[str, Solved]:
    """The parts of all stretches of a run, put together by meter."""
    parent = np.array([kind.parent for kind in kinds], np.int64)
    regions = [index for index, kind in enumerate(kinds) if kind.row_kind == "region"]
    return {name: together(found, regions, parent) for name, found in parts.items() if found}


def solve_parts(
    meters: Sequence[Meter],
    kinds: Sequence[Kind],
    marks: Marks,
    first_ns: int,
    last_ns: int,
    known: Mapping[str, Estimate] | None = None,
    only_short: bool = False,
    caused: bool = False,
) -> dict[str, list[Part] | None]:
    """The estimates of one stretch of a run by meter name; None where regions ran that nothing could tell.

    `known` is what an earlier stretch learned of each meter. With `only_short`, meters that resolve every
    kind are left out.
    """
    regions = np.array([kind.row_kind == "region" for kind in kinds], bool)
    chosen = regions[marks.kind] & (marks.end_ns > marks.begin_ns) if len(kinds) else np.zeros(0, bool)
    if not chosen.any():
        return {}
    alone = len(np.unique(marks.thread[chosen])) == 1
    found: dict[str, list[Part] | None] = {}
    on_host = _calls(kinds, marks, marks, chosen) if alone else None
    for meter in meters:
        name = meter.channel.name
        seen = marks.on(name)
        calls = on_host if seen is marks or not alone else _calls(kinds, marks, seen, chosen)
        found[name] = None
        if calls is None or meter.curve is None:
            continue
        if only_short and not _has_short(calls, meter.curve.tick_ns):
            continue
        try:
            found[name] = parts_of(meter.curve, calls, first_ns, last_ns, (known or {}).get(name), caused)
        except (ArithmeticError, ValueError, RuntimeError, np.linalg.LinAlgError):
            continue  # numbers that no model fits: those regions have no figure, and the run is stored
    return found


def _calls(kinds: Sequence[Kind], marks: Marks, seen: Marks, regions: NDArray[np.bool_]) -> Calls | None:
    """The regions' marks as a device saw them, without the kinds that it had no work for; None where they
    do not lie within each other."""
    on_host = np.bincount(marks.kind, marks.end_ns - marks.begin_ns, len(kinds))
    present = np.bincount(marks.kind, seen.end_ns - seen.begin_ns, len(kinds)) >= NO_WORK * on_host
    chosen = np.flatnonzero(regions & present[marks.kind])
    parent = np.array([kind.parent for kind in kinds], np.int64)
    calls = Calls(seen.kind[chosen], seen.begin_ns[chosen], seen.end_ns[chosen], parent)
    return calls if len(chosen) and calls.nested else None


def _has_short(calls: Calls, tick_ns: int) -> bool:
    """Whether any kind of region is too short for the curve to be the best that is known of it."""
    seconds = (calls.end_ns - calls.begin_ns).astype(np.float64)
    count = np.bincount(calls.kind)
    total = np.bincount(calls.kind, seconds)
    repeated = count >= REPEATED
    return bool(np.any(total[repeated] / count[repeated] < SHORT_TICKS * tick_ns))


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
        table = Joules(np.where(known, energy, 0.0), random, known, np.zeros(len(begin)))
        tables.append(Steps(kind, begin, end, table, np.hypot(random, gain), method, reason))
    return tables


def plain_steps(table: Steps, apart: Sequence[tuple[int, int]]) -> Steps:
    """The steps without those that something was done to (layers timed, FLOPs counted); all, where none is left."""
    kept = ~beside(table.begin_ns, table.end_ns, apart)
    if kept.all() or not kept.any():
        return table
    parts = table.joules
    joules = Joules(parts.energy_j[kept], parts.u_random_j[kept], parts.known[kept], parts.u_sampling_j[kept])
    return replace(
        table,
        begin_ns=table.begin_ns[kept],
        end_ns=table.end_ns[kept],
        joules=joules,
        u95_j=table.u95_j[kept],
    )


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
