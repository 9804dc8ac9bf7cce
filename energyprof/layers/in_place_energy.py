"""Joules of layers that were timed in place: regressed where the readings carry it, allocated where not.

Layers that compute the same (one class, one size, one phase) are one *kind*, and kinds are estimated as
regions are: from all ticks of the active steps at once. But a region has what is drawn while it runs, and a layer
what it causes: it is shorter than the lag of power behind work, so that what is drawn meanwhile is mostly its
neighbours'. A layer has its kind's joules by its part of the
kind's time. Where the readings cannot tell a kind from the others, its layers get the part of the measured
energy of the active steps that their time is of those steps': `allocated`, a rule and no measurement, and so
without an interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from energyprof.attribution import kind_rows, kind_sums, solve
from energyprof.intervals import Kind, Marks, union
from energyprof.layers.reading import LayerLog, Step
from energyprof.layers.switches import NONE
from energyprof.reasons import COLLINEAR
from energyprof.tally import TOTAL, Figure, Meter, figures_on, total_of

ALLOCATED, MODELLED = "allocated", "modelled"
_PRECISE, _MOST = 0.15, 0.8  # half-width of a figure over it; share of the layers' time that has such figures
_BETWEEN_NS = 1_000_000
_PHASES = ("forward", "backward")
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Share:
    """What one unit has of one meter in all active steps, or the time between units (`unit` -1).

    `kind` names the estimate that it is a part of, since the parts of one estimate err alike.
    """

    unit: int
    phase: str
    kind: int
    seconds: float
    energy_j: float | None
    u_random_j: float | None
    u_gain_j: float
    method: str
    reason: str | None


@dataclass(frozen=True)
class InPlace:
    """Shares by channel (and `total`), what the steps drew themselves, and how many they were."""

    shares: Mapping[str, Sequence[Share]]
    steps: int
    whole: Mapping[str, Figure]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class _Stretches:
    """Active steps on one clock: stretches between switches, and the steps themselves; ns."""

    layer: NDArray[np.int64]
    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    step_begin: NDArray[np.int64]
    step_end: NDArray[np.int64]


def in_place(meters: Sequence[Meter], log: LayerLog) -> InPlace | None:
    """Joules of the units of one process; None where no step was timed."""
    active = log.active
    if not active or not log.units:
        return None
    host = _stretches(active, np.concatenate([step.times_ns for step in active]))
    clocks = {name: _stretches(active, times) for name, times in log.device.items()}
    kinds, kind_of = _kinds(log)
    chosen = np.flatnonzero((host.layer != NONE) & (host.layer < 2 * len(log.units)))
    if len(chosen) == 0:  # they ran where no hook is: in compiled code
        return None
    marks = Marks(
        kind_of[host.layer[chosen]].astype(np.int32),
        np.zeros(len(chosen), np.int64),
        host.begin[chosen],
        host.end[chosen],
        {name: (clock.begin[chosen], clock.end[chosen]) for name, clock in clocks.items()},
    )
    first, last = int(host.step_begin.min()), int(max(c.step_end.max() for c in (host, *clocks.values())))
    solved = solve(meters, kinds, marks, [(first, last)], caused=True)
    rows = {row.kind: row for row in kind_rows(meters, kinds, kind_sums(meters, kinds, marks), solved)}
    lasts: Floats = (marks.end_ns - marks.begin_ns).astype(np.float64)
    spent: Floats = np.bincount(marks.kind, lasts, len(kinds)).astype(np.float64)
    shares: dict[str, list[Share]] = {}
    whole: dict[str, Figure] = {}
    seconds: dict[str, float] = {}
    for meter in meters:
        name = meter.channel.name
        clock = clocks.get(name, host)
        whole[name] = _whole(meter, clock)
        seconds[name] = float((clock.step_end - clock.step_begin).sum() / 1e9)
        found = {i: rows[kind].figures[name] for i, kind in enumerate(kinds) if kind in rows}
        figures = _told(found, spent)
        shares[name] = _shares(clock, kind_of, figures, whole[name], seconds[name], len(log.units))
    counted = [meter.channel.name for meter in meters if meter.in_total]
    whole[TOTAL] = total_of([whole[name] for name in counted])
    main = next((name for name in counted if name in clocks), counted[0] if counted else "")
    seconds[TOTAL] = seconds.get(main, 0.0)
    if counted:
        shares[TOTAL] = [
            _summed(parts, main_at=counted.index(main)) for parts in zip(*(shares[n] for n in counted))
        ]
    return InPlace(shares, len(active), whole, seconds)


def _whole(meter: Meter, clock: _Stretches) -> Figure:
    """What the steps drew: they follow each other, and what is shorter than a tick is told together."""
    spans = union((int(b), int(e) + _BETWEEN_NS) for b, e in zip(clock.step_begin, clock.step_end))
    begin, end = (np.array(side, np.int64) for side in zip(*spans))
    return figures_on([meter], begin, end - _BETWEEN_NS)[meter.channel.name]


def _told(found: Mapping[int, Figure], spent: Floats) -> dict[int, Figure]:
    """The figures that the readings do tell: precise ones, where they are those of most of the layers' time.

    Where most kinds cannot be told apart, what comes out of the others has borne the brunt of it.
    """
    precise = {
        kind: figure
        for kind, figure in found.items()
        if figure.energy_j is not None
        and (figure.method == MODELLED or figure.u_random_j <= _PRECISE * figure.energy_j)
    }
    share = sum(spent[kind] for kind in precise) / max(float(spent.sum()), 1e-9)
    if share >= _MOST:
        return {**{k: replace(f, energy_j=None) for k, f in found.items() if k not in precise}, **precise}
    return {kind: replace(f, energy_j=None, reason=f.reason or COLLINEAR) for kind, f in found.items()}


def _stretches(active: Sequence[Step], times: NDArray[np.int64]) -> _Stretches:
    """Between a step's switches, of which the first and the last are its own begin and end."""
    layer, begin, end, first, last, at = [], [], [], [], [], 0
    for step in active:
        mine = times[at : at + len(step.times_ns)]
        at += len(step.times_ns)
        layer.append(step.layers[:-1])
        begin.append(mine[:-1])
        end.append(mine[1:])
        first.append(mine[0])
        last.append(mine[-1])
    joined = [np.concatenate(column) for column in (layer, begin, end)]
    return _Stretches(joined[0], joined[1], joined[2], np.array(first, np.int64), np.array(last, np.int64))


def _kinds(log: LayerLog) -> tuple[list[Kind], NDArray[np.int64]]:
    """The kinds, and the kind of each (unit, phase)."""
    index: dict[tuple[str, ...], int] = {}
    kind_of = [
        index.setdefault((kind, text, phase), len(index)) for _, kind, text in log.units for phase in _PHASES
    ]
    return [Kind(log.rank, path, -1, "region") for path in index], np.array(kind_of, np.int64)


def _shares(
    clock: _Stretches,
    kind_of: NDArray[np.int64],
    figures: Mapping[int, Figure],
    whole: Figure,
    seconds: float,
    units: int,
) -> list[Share]:
    """Each unit and phase, in order, and last what lies between them."""
    lasts = (clock.end - clock.begin) / 1e9
    inside = (clock.layer != NONE) & (clock.layer < 2 * units)
    spent = np.bincount(clock.layer[inside], lasts[inside], 2 * units)
    of_kind = np.bincount(kind_of, spent, int(kind_of.max(initial=0)) + 1)
    found = []
    for layer in range(2 * units):
        kind = int(kind_of[layer])
        unit, phase = layer // 2, _PHASES[layer % 2]
        figure = figures.get(kind)
        if spent[layer] == 0:
            found.append(Share(unit, phase, kind, 0.0, 0.0, 0.0, 0.0, ALLOCATED, None))
        elif figure is not None and figure.energy_j is not None and of_kind[kind] > 0:
            part = float(spent[layer] / of_kind[kind])
            found.append(
                Share(
                    unit,
                    phase,
                    kind,
                    float(spent[layer]),
                    figure.energy_j * part,
                    figure.u_random_j * part,
                    figure.u_gain_j * part,
                    figure.method,
                    figure.reason,
                )
            )
        else:
            found.append(_allocated(unit, phase, kind, float(spent[layer]), whole, seconds, figure))
    found.append(_allocated(NONE, "step", NONE, max(0.0, seconds - float(spent.sum())), whole, seconds, None))
    return found


def _allocated(
    unit: int, phase: str, kind: int, spent: float, whole: Figure, seconds: float, figure: Figure | None
) -> Share:
    if whole.energy_j is None or seconds <= 0:
        return Share(unit, phase, kind, spent, None, None, 0.0, ALLOCATED, whole.reason)
    part = spent / seconds
    reason = figure.reason if figure is not None else None
    return Share(
        unit, phase, kind, spent, whole.energy_j * part, None, whole.u_gain_j * part, ALLOCATED, reason
    )


def _summed(parts: Sequence[Share], main_at: int) -> Share:
    """One unit's shares of all meters that count."""
    main = parts[main_at]
    known = all(part.energy_j is not None for part in parts)
    random = [part.u_random_j for part in parts]
    return Share(
        main.unit, main.phase, main.kind, main.seconds,
        sum(part.energy_j or 0.0 for part in parts) if known else None,
        None if None in random else float(np.sqrt(sum((u or 0.0) ** 2 for u in random))),
        float(np.sqrt(sum(part.u_gain_j**2 for part in parts))),
        "+".join(sorted({part.method for part in parts})),
        next((part.reason for part in parts if part.reason), None),
    )  # fmt: skip
