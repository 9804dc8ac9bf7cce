"""What the whole of a training will cost, from the part that ran: energy and time as 90 % prediction intervals.

    whole = what ran + steps to come x mean cost of a step + events to come x what an event costs more

*What ran* is all of it, with what was before the first step: that happens once. A *cycle* goes from the begin of a
step to the begin of the next, so that what lies between steps counts. The first cycles (compiling, caches) happen
once and tell nothing of the rest. Cycles of more than 3 times the median are *events* (an evaluation, a checkpoint, a
new epoch): they are taken out of the others, put into kinds by their length, and come again at the spacing at which
they came, or, where that is irregular, at random at their rate. The mean cost of the other cycles to come, with drift
and noise that lasts, is what `drift` predicts from blocks of them.

The interval is one for what the same meters will read at the end of this training: their gain, which is in both, is not
part of it. What has not happened yet (a first evaluation, a stop of the job, a power cap set tomorrow) it cannot know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from energyprof.drift import FEWEST_BLOCKS, Floats, mean_of_the_rest
from energyprof.reasons import FEW_STEPS

COVERAGE = 0.9
FEWEST_CYCLES = 13  # six blocks of two, and the first, which tells nothing
_MOST_BLOCKS = 32
_EVENT = 3.0  # times the median cycle
_MOST_EVENTS = 0.1  # of the cycles; more of them are no events but what the steps are like
_WARM = 1.5  # times the median cycle, at the beginning
_MOST_WARM = 0.25
_SAME_KIND = np.log(1.6)
_SAME_SPACING = 0.1
_PERIODIC = 0.7  # belief that an event seen once comes again after as many steps
_AGAIN = 0.5  # belief that one that did not comes again at all
_COST_SPREAD = 0.15  # relative sd of the cost of events seen once or twice
_DRAWS = 8192


@dataclass(frozen=True)
class Amount:
    """A prediction with its 90 % interval."""

    value: float
    lo: float
    hi: float


@dataclass(frozen=True)
class Forecast:
    """The whole training of `total` steps after `done` of them; None where there is no forecast: see `reason`."""

    total: int
    done: int
    energy_j: Amount | None = None
    duration_s: Amount | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Event:
    """Cycles from `first` to `last` (not included) that took much longer than others, of one kind."""

    first: int
    last: int
    kind: int


@dataclass(frozen=True)
class Plan:
    """Which cycles tell of the others: block edges (m + 1 indices of step begins) and the events among them."""

    edges: NDArray[np.int64]
    events: tuple[Event, ...]


def forecast(
    begin_s: Floats,
    total: int,
    so_far_s: float,
    so_far_j: float | None,
    joules_at: Callable[[NDArray[np.int64]], Floats],
    *,
    done: int | None = None,
    shortest_s: float = 0.0,
    left_out: NDArray[np.bool_] | None = None,
) -> Forecast:
    """Predict the whole of a training.

    Parameters
    ----------
    begin_s
        When each step began, in seconds inside the run, ascending; shape (n,).
    total
        Steps of the whole training.
    so_far_s, so_far_j
        Seconds and joules of the run until now; joules None where they are not known.
    joules_at
        Joules of the run until the steps of these indices began, NaN where that is not known.
    done
        Steps that are over; all that began, where None.
    shortest_s
        The meters resolve no less: blocks are as long.
    left_out
        Steps that tell nothing of others, such as those in which layers were timed; shape (n,).
    """
    done = len(begin_s) if done is None else done
    if done >= total:  # nothing is left to predict
        ran = None if so_far_j is None else Amount(so_far_j, so_far_j, so_far_j)
        return Forecast(total, done, ran, Amount(so_far_s, so_far_s, so_far_s))
    plan = plan_of(begin_s, shortest_s, left_out)
    none = Forecast(total, done, reason=FEW_STEPS)
    if plan is None:
        return none
    seconds = _whole(begin_s, plan, total, done, so_far_s, begin_s)
    joules = None
    if so_far_j is not None:
        places = np.unique(np.concatenate((plan.edges, *([e.first, e.last] for e in plan.events)))).astype(
            int
        )
        at = np.full(len(begin_s), np.nan)
        at[places] = joules_at(places)
        joules = _whole(at, plan, total, done, so_far_j, begin_s)
    if seconds is None:
        return none
    reason = FEW_STEPS if so_far_j is not None and joules is None else None
    return Forecast(total, done, joules, seconds, reason)


def plan_of(
    begin_s: Floats, shortest_s: float = 0.0, left_out: NDArray[np.bool_] | None = None
) -> Plan | None:
    """Choose blocks and events; None where the steps are too few."""
    cycle = np.diff(begin_s)
    n = len(cycle)
    if n < FEWEST_CYCLES:
        return None
    out = np.zeros(n, bool) if left_out is None else left_out[:n]
    if n - np.count_nonzero(out) < FEWEST_CYCLES:
        return None
    usual = float(np.median(cycle[~out]))
    first = 1
    while first < _MOST_WARM * n and (cycle[first] > _WARM * usual or out[first]):
        first += 1
    long = (cycle > _EVENT * usual) & ~out
    if np.count_nonzero(long[first:]) > _MOST_EVENTS * (n - first):
        long[:] = False
    long[:first] = False
    events = _events(cycle, long | (out & (np.arange(n) >= first)), usual)
    events = tuple(replace(e, kind=-1) if out[e.first : e.last].any() else e for e in events)
    plain = np.ones(n, bool)
    plain[:first] = False
    for event in events:
        plain[event.first : event.last] = False
    chosen = np.flatnonzero(plain)
    most = int(min(_MOST_BLOCKS, len(chosen) // 2, cycle[chosen].sum() / max(shortest_s, 1e-9)))
    if most < FEWEST_BLOCKS:
        return None
    per = len(chosen) // most
    edges = np.append(chosen[len(chosen) % per :: per], chosen[-1] + 1)
    return Plan(edges, events)


def _events(cycle: Floats, long: NDArray[np.bool_], usual: float) -> tuple[Event, ...]:
    """Stretches of long cycles, in kinds: those whose lengths lie close to each other on a log scale."""
    ends = np.flatnonzero(np.diff(np.concatenate(([0], long.astype(np.int8), [0]))))
    stretches = ends.reshape(-1, 2)
    if not len(stretches):
        return ()
    until = np.concatenate(([0.0], np.cumsum(cycle)))
    length = np.log(np.maximum(until[stretches[:, 1]] - until[stretches[:, 0]], usual))
    order = np.argsort(length)
    kind = np.zeros(len(order), np.int64)
    kind[order[1:]] = np.cumsum(np.diff(length[order]) > _SAME_KIND)
    return tuple(Event(int(a), int(b), int(k)) for (a, b), k in zip(stretches, kind))


def _whole(at: Floats, plan: Plan, total: int, done: int, so_far: float, begin_s: Floats) -> Amount | None:
    """The whole, of a cost that had reached `at[i]` when step i began."""
    first, last = plan.edges[:-1], plan.edges[1:]
    cost, steps = at[last] - at[first], (last - first).astype(float)
    middle_s = (begin_s[last] + begin_s[first]) / 2.0 - begin_s[0]
    for event in plan.events:
        inside = (first <= event.first) & (event.first < last)
        cost = cost - np.where(inside, at[event.last] - at[event.first], 0.0)
        steps = steps - np.where(inside, event.last - event.first, 0)
    whole = np.isfinite(cost) & (steps > 0)
    if np.count_nonzero(whole) < FEWEST_BLOCKS:
        return None
    each = cost[whole] / steps[whole]
    try:
        rest = mean_of_the_rest(
            each,
            ((first + last) / 2.0)[whole],
            middle_s[whole],
            float(np.mean(steps[whole])),
            float(done),
            float(total),
            float(begin_s[-1] - begin_s[0]),
        )
    except (ValueError, np.linalg.LinAlgError):
        return None
    draws = rest.draws(_DRAWS) * (total - done)
    usual = float(np.mean(each))
    random = np.random.default_rng(1)
    for kind in sorted({event.kind for event in plan.events} - {-1}):
        draws = draws + _to_come([e for e in plan.events if e.kind == kind], at, usual, done, total, random)
    lo, value, hi = np.quantile(draws, [(1 - COVERAGE) / 2, 0.5, (1 + COVERAGE) / 2]).tolist()
    return Amount(so_far + max(value, 0.0), so_far + max(lo, 0.0), so_far + max(hi, 0.0))


def _to_come(
    events: list[Event], at: Floats, usual: float, done: int, total: int, random: np.random.Generator
) -> Floats:
    """Draws of what events of one kind will cost above the steps in which they lie."""
    extra = np.array([at[e.last] - at[e.first] - (e.last - e.first) * usual for e in events])
    extra = extra[np.isfinite(extra)]
    if not len(extra):
        return np.zeros(_DRAWS)
    mean, count = float(np.mean(extra)), len(events)
    spread = float(np.std(extra, ddof=1)) if len(extra) > 2 else _COST_SPREAD * abs(mean)
    mean_draws = mean + spread / np.sqrt(len(extra)) * random.standard_normal(_DRAWS)
    places = np.array([0, *(e.first for e in events)], float)
    regular, period = _spacing(places, done)
    # At random at a rate that count + 1/2 events in `done` steps tell of (Jeffreys' prior).
    numbers = random.poisson(random.gamma(count + 0.5, 1.0 / done, _DRAWS) * (total - done)).astype(float)
    if count == 1:
        numbers = np.where(random.random(_DRAWS) < _AGAIN, numbers, 0.0)
    if regular:
        due = np.floor((total - places[-1]) / period + random.uniform(-0.1, 0.1, _DRAWS))
        numbers = np.where(random.random(_DRAWS) < regular, np.maximum(due, 0.0), numbers)
    own = spread * np.sqrt(numbers) * random.standard_normal(_DRAWS)
    return np.asarray(numbers * mean_draws + own, np.float64)


def _spacing(places: Floats, done: int) -> tuple[float, float]:
    """How sure it is that events come again at equal spacings, and the spacing; `places` begins with 0."""
    spacing = np.diff(places)
    for known, sure in ((spacing, 1.0 if len(spacing) > 1 else _PERIODIC), (spacing[1:], 1.0)):
        if len(known) < (1 if known is spacing else 2):
            continue
        period = float(np.mean(known))
        alike = np.ptp(known) <= max(2.0, _SAME_SPACING * period)
        # Seen once, and not again when it was due: it is not periodic.
        if alike and period > 0 and done - places[-1] < (1.0 + _SAME_SPACING) * period + 2.0:
            return sure, period
    return 0.0, 0.0
