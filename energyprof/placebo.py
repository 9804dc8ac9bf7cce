"""Placebos: names that cannot matter must make no difference.

The calls of one kind of region are given two names at random; or the marks of a run are put in another
order, so that they say nothing of what ran. Either way the two names must cost the same joules a second,
within the interval of their difference:

    d = E_a / t_a - E_b / t_b,    var d = g' (C + N) g,    g = (1 / t_a, -1 / t_b)

C is the covariance of the errors of the two energies: they come from the same ticks, and what one is given
too much the other lacks. N, diagonal, is what the calls themselves differ by: each name has some calls of
the many, and with a relative standard deviation s a call its energy is off the kind's mean power by
p^2 s^2 (sum of squared durations). Names are dealt within pairs of successive calls, so that a slow drift
of power is the same for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from energyprof.edges import Ticks
from energyprof.regression import Estimate, estimate, estimate_like
from energyprof.shares import Timeline

_LEAST_TICKS = 20
_LEAST_CALLS = 20


@dataclass(frozen=True)
class Difference:
    """Watts of one name less watts of the other, its 95 % half-width, and the mean power of both."""

    watts: float
    u95_w: float
    mean_w: float

    @property
    def agrees(self) -> bool:
        """Whether no difference lies within the interval."""
        return abs(self.watts) <= self.u95_w


def difference(
    line: Timeline, ticks: Ticks, one: int, other: int, known: Estimate | None = None
) -> tuple[Difference, Estimate]:
    """How much more power state `one` drew than state `other`, by the ticks of a meter.

    `known` is what an earlier look at the same ticks has learned of the meter's lag; it saves time.
    """
    states = np.unique(line.state)
    found = estimate(line, states, ticks) if known is None else estimate_like(line, states, ticks, known)
    spans = np.diff(line.t_ns) / 1e9
    counted = line.t_ns[:-1] >= line.counted_from_ns
    calls = [spans[counted & (line.state == state)] for state in (one, other)]
    seconds = np.array([part.sum() for part in calls])
    place = np.searchsorted(states, [one, other])
    energy = found.energy_j[place]
    own = np.array([(part**2).sum() for part in calls]) * (found.call_noise * energy / seconds) ** 2
    weight = np.array([1.0, -1.0]) / seconds
    variance = weight @ (found.covariance[np.ix_(place, place)] + np.diag(own)) @ weight
    half = float(special.stdtrit(max(len(ticks.gain_j) - len(states), 3), 0.975)) * float(variance) ** 0.5
    return Difference(float(weight @ energy), half, float(energy.sum() / seconds.sum())), found


def renamed(line: Timeline, state: int, chance: np.random.Generator) -> tuple[Timeline, int]:
    """The line with one call of every two of a state, at random, under another number; and that number."""
    other = int(line.state.max()) + 1
    calls = np.flatnonzero(line.state == state)
    pairs = calls[: len(calls) // 2 * 2].reshape(-1, 2)
    states = line.state.copy()
    states[pairs[np.arange(len(pairs)), chance.integers(0, 2, len(pairs))]] = other
    return Timeline(line.t_ns, states, line.counted_from_ns), other


def shuffled(line: Timeline, chance: np.random.Generator) -> Timeline:
    """The line with its segments in another order: as many of each length and state, at other times."""
    order = np.arange(len(line.state))
    counted = np.flatnonzero(line.t_ns[:-1] >= line.counted_from_ns)
    order[counted] = chance.permutation(counted)  # what is there for the lag's sake stays before
    spans = np.diff(line.t_ns)[order]
    t_ns = np.concatenate((line.t_ns[:1], line.t_ns[0] + np.cumsum(spans)))
    return Timeline(t_ns, line.state[order], line.counted_from_ns)


@dataclass(frozen=True)
class Verdict:
    """Of one meter: the differences between two names of the same work, and between shuffled marks."""

    names: Sequence[Difference]
    shuffles: Sequence[Difference]

    @property
    def passed(self) -> bool:
        """Whether no more differences lie outside their 95 % intervals than chance explains (to 1 in 1,000)."""
        from scipy import stats  # a quarter of a second, and the self-test alone asks for it

        return all(
            sum(not d.agrees for d in part) <= stats.binom.ppf(0.999, len(part), 0.05)
            for part in (self.names, self.shuffles)
        )


def placebos(line: Timeline, ticks: Ticks, work: int, rest: int, rounds: int, seed: int) -> Verdict | None:
    """Both placebos on one meter, so many times; None where there are too few ticks or calls."""
    if len(ticks.gain_j) < _LEAST_TICKS or ticks.lost.any():
        return None
    if any(int(np.count_nonzero(line.state == state)) < _LEAST_CALLS for state in (work, rest)):
        return None
    chance = np.random.default_rng(seed)
    names, shuffles = [], []
    known: Estimate | None = None
    for _ in range(rounds):
        other_line, other = renamed(line, work, chance)
        found, known = difference(other_line, ticks, work, other, known)
        names.append(found)
    known = None
    for _ in range(rounds):
        found, known = difference(shuffled(line, chance), ticks, work, rest, known)
        shuffles.append(found)
    return Verdict(names, shuffles)
