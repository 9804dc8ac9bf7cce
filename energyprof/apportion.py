"""Which regions of a run are estimated from the ticks of which meter, and what came of it.

A run is cut into stretches of ticks without holes, and those into chunks that the solver takes at once.
The states of the solver are the innermost regions of one thread; a region's energy is the sum over the
states inside it. What was drawn outside any region, and before and after the run, are states too, so
that everything adds up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from energyprof.curves import EnergyCurve
from energyprof.edges import Ticks
from energyprof.regression import Estimate, estimate, estimate_like
from energyprof.shares import OUTSIDE, Timeline, in_order, timeline
from energyprof.windows import Windows

Floats = NDArray[np.float64]
Times = NDArray[np.int64]

BEFORE, AFTER, REST = -2, -3, -4
_BEFORE_NS = 500_000_000
_SETTLING_NS = 100_000_000
_MARGIN_TICKS = 5  # of the time before and after the run that help at its ends
_CHUNK_TICKS = 600
_LEAST_TICKS = 12
_MOST_STATES = 48
_TICKS_A_STATE = 2
_HOLE_TICKS = 20.0
# No lag is quite of first order, no mean quite flat; and a mark is taken a few Python calls, some 15 us, off of
# where power turns. On the virtual hardware, where little else is wrong, up to 0.4 % is seen that nothing explains.
_MODEL_U95, _MARK_U95_S = 0.004, 15e-6
_MISPLACED = 1e-3  # share of ends that do not match the region that is running


@dataclass(frozen=True)
class Solved:
    """Energies of region kinds on one meter: kind index -> joules, standard deviation, how far in step.

    `inside_j` is the sum of all states inside the run, as they came out.
    """

    energy_j: dict[int, float] = field(default_factory=dict)
    sd_j: dict[int, float] = field(default_factory=dict)
    clustered: dict[int, float] = field(default_factory=dict)
    freedom: float = 0.0
    lag_s: float | None = None
    lag_sd_s: float | None = None
    call_noise: float | None = None
    autocorrelation: float = 0.0
    inside_j: float | None = None


@dataclass(frozen=True)
class Calls:
    """The region marks of one thread: kind, begin and end, and the parent of each kind (-1: none)."""

    kind: NDArray[np.int32]
    begin_ns: Times
    end_ns: Times
    parent: NDArray[np.int64]

    @property
    def nested(self) -> bool:
        """Whether regions lie within each other, as the blocks of one thread do."""
        at = np.concatenate((self.begin_ns, self.end_ns))
        ends = np.concatenate((np.zeros(len(self.kind), bool), np.ones(len(self.kind), bool)))
        kind = np.concatenate((self.kind, self.kind)).astype(np.int64)
        order = in_order(at)
        ends, kind = ends[order], kind[order]
        after = np.where(ends, self.parent[kind], kind)
        running = np.concatenate(([OUTSIDE], after[:-1]))
        wrong = np.count_nonzero(running[ends] != kind[ends])
        return bool(wrong <= _MISPLACED * max(len(self.kind), 1))


def solve(curve: EnergyCurve, calls: Calls, first_ns: int, last_ns: int) -> Solved | None:
    """Estimate what the regions of one thread drew; None where the ticks are too few."""
    parts = parts_of(curve, calls, first_ns, last_ns)
    return together(parts, np.unique(calls.kind).tolist(), calls.parent) if parts else None


def parts_of(
    curve: EnergyCurve,
    calls: Calls,
    first_ns: int,
    last_ns: int,
    known: Estimate | None = None,
    caused: bool = False,
) -> list[Part] | None:
    """The estimates of the chunks of a stretch; None where the ticks are too few.

    Parameters
    ----------
    first_ns, last_ns
        The stretch's begin and end: the run's, or where it was cut.
    known
        What an earlier stretch has learned.
    caused
        What regions cause, and not what is drawn while they run; see `regression.estimate`.
    """
    if curve.ticks is None:
        return None
    ticks = _around(curve.ticks, curve.tick_ns, first_ns, last_ns)
    chunks = _chunks(ticks, curve.tick_ns)
    if not chunks:
        return None
    line = _line(calls, ticks, first_ns, last_ns)
    parts: list[Part] = []
    for number, (a, b) in enumerate(chunks):
        begin = line.counted_from_ns if number == 0 else int(ticks.at_ns[a])
        end = int(line.t_ns[-1]) if number == len(chunks) - 1 else int(ticks.at_ns[b])
        part = _solve_chunk(line.between(begin, end), ticks.between(a, b), curve.windows, known, caused)
        known = known or part.result
        parts.append(part)
    return parts


def _around(ticks: Ticks, tick_ns: int, first_ns: int, last_ns: int) -> Ticks:
    """The ticks of the run and a few on either side; without those before, not the first ones."""
    near = (ticks.at_ns >= first_ns - _MARGIN_TICKS * tick_ns) & (
        ticks.at_ns <= last_ns + _MARGIN_TICKS * tick_ns
    )
    at = np.flatnonzero(near)
    if len(at) and ticks.at_ns[at[0]] >= first_ns:
        at = at[ticks.at_ns[at] >= first_ns + _SETTLING_NS]
    return ticks.between(int(at[0]), int(at[-1])) if len(at) > 1 else ticks.between(0, 0)


def _chunks(ticks: Ticks, tick_ns: int) -> list[tuple[int, int]]:
    """Ranges of edges without a hole, of a size that one fit takes."""
    hole = ticks.lost | (np.diff(ticks.at_ns) > _HOLE_TICKS * tick_ns) if len(ticks.at_ns) > 1 else ticks.lost
    bounds = [-1, *np.flatnonzero(hole).tolist(), len(ticks.gain_j)]
    chunks = []
    for low, high in pairwise(bounds):
        first, last = low + 1, high  # edges first..last
        count = last - first
        if count < _LEAST_TICKS:
            continue
        pieces = max(1, round(count / _CHUNK_TICKS))
        cuts = np.linspace(first, last, pieces + 1).astype(int).tolist()
        chunks += list(pairwise(cuts))
    return chunks


def _line(calls: Calls, ticks: Ticks, first_ns: int, last_ns: int) -> Timeline:
    """All states from the first edge (or the run's begin, whichever is earlier) to the last (or its end)."""
    inside = timeline(calls.kind, calls.begin_ns, calls.end_ns, calls.parent, first_ns, last_ns)
    t_ns, state = inside.t_ns, inside.state
    # What was drawn before has a tail. Where no tick tells how much that was, what it would be is unknown,
    # and the first ticks are left out instead (see `_around`).
    seen = len(ticks.at_ns) > 0 and ticks.at_ns[0] < first_ns
    counted_from = int(ticks.at_ns[0]) if seen else first_ns
    earlier = [counted_from - _BEFORE_NS, *([counted_from] if seen else [])]
    t_ns = np.concatenate((np.array(earlier), t_ns))
    state = np.concatenate((np.full(len(earlier), BEFORE if seen else int(state[0])), state))
    if len(ticks.at_ns) and ticks.at_ns[-1] > last_ns:
        t_ns, state = np.concatenate((t_ns, [int(ticks.at_ns[-1]) + 1])), np.concatenate((state, [AFTER]))
    return Timeline(t_ns, state, counted_from)


@dataclass(frozen=True)
class Part:
    """The estimate of one chunk of ticks, and how many edges it had."""

    result: Estimate
    edges: int

    @property
    def states(self) -> NDArray[np.int64]:
        return self.result.states


def _solve_chunk(
    line: Timeline, ticks: Ticks, windows: Windows | None, known: Estimate | None, caused: bool
) -> Part:
    seconds = np.diff(line.t_ns) / 1e9
    states, place = np.unique(line.state, return_inverse=True)
    room = min(_MOST_STATES, len(ticks.gain_j) // _TICKS_A_STATE)
    if len(states) > room:
        weight = np.bincount(place, seconds)
        kept = states[np.argsort(-weight)[: max(room - 1, 1)]]
        line = Timeline(line.t_ns, np.where(np.isin(line.state, kept), line.state, REST))
        states = np.unique(line.state)
    if known is None:
        found = estimate(line, states, ticks, windows, caused)
    else:
        found = estimate_like(line, states, ticks, known, windows, caused)
    return Part(found, len(ticks.at_ns))


def together(parts: Sequence[Part], kinds: Sequence[int], parent: NDArray[np.int64]) -> Solved:
    """Sum states into regions and chunks into the run."""
    family = _families(parent)
    solved = Solved(
        freedom=float(sum(p.edges - 1 - len(p.states) for p in parts)),
        lag_s=float(np.mean([p.result.lag_s for p in parts])),
        lag_sd_s=float(np.sqrt(np.mean([p.result.lag_sd_s**2 for p in parts]))),
        call_noise=float(np.median([p.result.call_noise for p in parts])),
        autocorrelation=float(np.mean([p.result.autocorrelation for p in parts])),
        inside_j=float(
            sum(p.result.energy_j[(p.states != BEFORE) & (p.states != AFTER)].sum() for p in parts)
        ),
    )
    merged = {int(s) for p in parts if REST in p.states for s in kinds} - {
        int(s) for s in set.intersection(*({*p.states.tolist()} for p in parts))
    }
    for kind in kinds:
        members = family[kind]
        if merged & members or not any(np.isin(p.states, list(members)).any() for p in parts):
            continue
        energy, variance, clustered = 0.0, 0.0, 0.0
        shared = []
        for part in parts:
            chosen = np.isin(part.states, list(members))
            energy += float(part.result.energy_j[chosen].sum())
            variance += float(part.result.covariance[np.ix_(chosen, chosen)].sum())
            shared.append(part.result.shared[:, chosen].sum(axis=1))
            if chosen.any():
                clustered = max(clustered, float(part.result.clustered[chosen].min()))
        # What the parts have in common adds up as it is; it was in each part's variance by itself.
        common = np.array(shared)
        variance += float((common.sum(axis=0) ** 2 - (common**2).sum(axis=0)).sum())
        solved.energy_j[kind] = max(energy, 0.0)
        solved.sd_j[kind] = float(np.sqrt(max(variance, 0.0)))
        solved.clustered[kind] = clustered
    return solved


def _families(parent: NDArray[np.int64]) -> dict[int, set[int]]:
    """Each kind with all kinds below it."""
    family = {kind: {kind} for kind in range(len(parent))}
    for kind in range(len(parent)):
        above = int(parent[kind])
        while above >= 0:
            family[above].add(kind)
            above = int(parent[above])
    return family


def half_widths(solved: Solved, kind: int, calls_per_s: float = 0.0) -> tuple[float, float]:
    """95 % half-widths of a region's energy: Student's t for the ticks left over; and what no residual shows.

    `calls_per_s` are the region's calls by the time in it: the shorter they are, the more a mark's offset is.
    """
    from scipy import special

    random = float(special.stdtrit(max(solved.freedom, 3.0), 0.975)) * solved.sd_j[kind]
    return random, float(np.hypot(_MODEL_U95, _MARK_U95_S * calls_per_s)) * solved.energy_j[kind]


def half_width(solved: Solved, kind: int) -> float:
    """Both together, in quadrature."""
    return float(np.hypot(*half_widths(solved, kind)))
