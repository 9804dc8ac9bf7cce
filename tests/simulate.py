"""Runs of which everything is known, without a clock: a loop of regions, a lagging device, a ticking counter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from energyprof.edges import Ticks
from energyprof.shares import OUTSIDE, Timeline
from energyprof.windows import Windows

Floats = NDArray[np.float64]
_PIECES = 12  # of a call whose power climbs


@dataclass(frozen=True)
class World:
    """A simulated run: its states, the counter's ticks as they were seen, and the joules of each state."""

    line: Timeline
    states: NDArray[np.int64]
    ticks: Ticks
    edges_s: Floats  # when the counter really ticked
    truth_j: Floats
    windows: (
        Windows  # what a gauge saw that is refreshed as often as the counter ticks, at a phase of its own
    )


def world(
    chance: np.random.Generator,
    durations_s: Sequence[float] = (0.03, 0.045),
    powers_w: Sequence[float] = (620.0, 140.0),
    *,
    seconds: float = 10.0,
    lag_s: float = 0.0,
    tick_s: float = 0.1003,
    bracket_s: float = 0.006,
    duration_cv: float = 0.02,
    power_cv: float = 0.0,
    outside_s: float = 0.0005,
    outside_w: float = 100.0,
    drift: Callable[[float], float] = lambda share: 1.0,
    window_s: float = 0.025,
    gauge_scale: float = 1.0,
    gauge_delay_s: float = 0.0,
    climbs: Sequence[float] | None = None,
) -> World:
    """A loop over the regions for `seconds`, 0.3 s of idling on both sides; brackets of about `bracket_s`.

    `climbs` says of each region by what part of its mean power that grows from a call's begin to its end.
    """
    times, states, watts = [0.0], [OUTSIDE], [outside_w]
    t = 0.3
    while t < seconds + 0.3:
        for number, (lasts, power) in enumerate(zip(durations_s, powers_w)):
            factor = max(0.05, 1 + power_cv * chance.standard_normal()) * drift((t - 0.3) / seconds)
            length = lasts * max(0.2, 1 + duration_cv * chance.standard_normal())
            climb = climbs[number] if climbs else 0.0
            pieces = _PIECES if climb else 1
            for piece in range(pieces):
                times.append(t + length * piece / pieces)
                states.append(number)
                watts.append(power * factor * (1 + climb * ((piece + 0.5) / pieces - 0.5)))
            t += length
            times.append(t)
            states.append(OUTSIDE)
            watts.append(outside_w)
            t += outside_s * chance.exponential()
    end = t + 0.3
    begin, state, fed = np.array(times), np.array(states, np.int64), np.array(watts)
    bounds = np.append(begin, end)
    spans = np.diff(bounds)
    drawn = _drawn(fed, spans, lag_s)
    gained = fed * spans - lag_s * np.diff(drawn) if lag_s else fed * spans
    cumulative = np.concatenate(([0.0], np.cumsum(gained)))

    def energy(at: Floats) -> Floats:
        place = np.clip(np.searchsorted(bounds, at, side="right") - 1, 0, len(fed) - 1)
        since = at - bounds[place]
        tail = (drawn[place] - fed[place]) * lag_s * (1 - np.exp(-since / lag_s)) if lag_s else 0.0
        return np.asarray(cumulative[place] + fed[place] * since + tail)

    edges = chance.uniform(0, tick_s) + np.arange(int(end / tick_s) - 1) * tick_s
    edges = edges + chance.uniform(0.001, 0.005, len(edges))
    width = bracket_s * chance.uniform(0.6, 1.4, len(edges))
    middle = edges + width * chance.uniform(-0.5, 0.5, len(edges))
    value = np.floor((energy(edges) + chance.uniform()) * 1e3) / 1e3
    gain = np.diff(value)
    half = width / 2
    ticks = Ticks(middle * 1e9, half / np.sqrt(3), half, half, gain, np.zeros(len(gain), bool), 1e-3)
    refreshed = chance.uniform(0, tick_s) + np.arange(1, int(end / tick_s) - 1) * 1.002 * tick_s
    refreshed = refreshed + chance.normal(0, 0.0005, len(refreshed))
    refreshed = refreshed[refreshed < end]
    width = bracket_s * chance.uniform(0.6, 1.4, len(refreshed))
    seen_at = refreshed + width * chance.uniform(-0.5, 0.5, len(refreshed))
    until = refreshed - gauge_delay_s
    shown = np.floor((energy(until) - energy(until - window_s)) * gauge_scale / window_s * 1e3) / 1e3
    half = width / 2
    windows = Windows(seen_at * 1e9, half / np.sqrt(3), half, half, shown * window_s, window_s)
    kinds = np.arange(OUTSIDE, len(powers_w))
    truth = np.array([gained[state == kind].sum() for kind in kinds])
    begins = np.append(True, np.diff(state) != 0)  # pieces of a call are one call
    line = Timeline((np.append(begin[begins], end) * 1e9).astype(np.int64), state[begins])
    return World(line, kinds, ticks, edges, truth, windows)


def _drawn(fed: Floats, spans: Floats, lag_s: float) -> Floats:
    """The power at each boundary, following the fed power with a first-order lag."""
    level = [float(fed[0])]
    for power, span in zip(fed.tolist(), spans.tolist()):
        fade = float(np.exp(-span / lag_s)) if lag_s else 0.0
        level.append(power + (level[-1] - power) * fade)
    return np.array(level)
