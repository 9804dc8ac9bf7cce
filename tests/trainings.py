"""Simulated trainings whose whole cost is known: what a forecast is set on, and what it is checked on.

A training is the seconds and the joules of each of its cycles (begin of a step to begin of the next), and what was
before the first. Two sets of families that have no draw in common: `TUNING` is what the prior of `energyprof.drift`
was set on, `FAMILIES` is what tests and `benchmarks/forecast.py` check it on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from energyprof.forecast import Forecast, forecast

Floats = NDArray[np.float64]
Random = np.random.Generator


@dataclass(frozen=True)
class Training:
    """Seconds and joules of each cycle, shape (n,), and of what was before them."""

    cycle_s: Floats
    cycle_j: Floats
    before_s: float = 0.0
    before_j: float = 0.0

    @property
    def total_j(self) -> float:
        return float(self.before_j + self.cycle_j.sum())

    @property
    def total_s(self) -> float:
        return float(self.before_s + self.cycle_s.sum())

    def after(self, share: float) -> Forecast:
        """What is forecast after this share of the steps."""
        done = max(round(share * len(self.cycle_s)), 1)
        # The last step's cycle is not over when the step is.
        begin_s = self.before_s + np.concatenate(([0.0], np.cumsum(self.cycle_s[: done - 1])))
        reached_j = self.before_j + np.concatenate(([0.0], np.cumsum(self.cycle_j[: done - 1])))
        return forecast(
            begin_s,
            len(self.cycle_s),
            float(begin_s[-1] + self.cycle_s[done - 1]),
            float(reached_j[-1] + self.cycle_j[done - 1]),
            lambda which: reached_j[which],
            shortest_s=0.3,
        )

    def by_the_mean(self, share: float) -> float:
        """carbontracker's way: the mean of what ran, times how many there will be; no interval."""
        done = max(round(share * len(self.cycle_s)), 1)
        return float(self.cycle_j[:done].mean() * len(self.cycle_j))


def _loguniform(random: Random, low: float, high: float) -> float:
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _lasting(random: Random, n: int, sd: float, length: float) -> Floats:
    """Noise of standard deviation `sd` whose correlation dies away over `length` steps."""
    phi = np.exp(-1.0 / length)
    white = random.standard_normal(n) * sd * np.sqrt(1 - phi**2)
    white[0] = sd * random.standard_normal()
    return np.asarray(signal.lfilter([1.0], [1.0, -phi], white))


@dataclass
class _Draft:
    """A training in the making: seconds and watts of each cycle."""

    random: Random
    seconds: Floats
    watts: Floats

    @classmethod
    def of(cls, random: Random, steps: tuple[int, int], noise: tuple[float, float]) -> _Draft:
        n = int(_loguniform(random, *steps))
        seconds = _loguniform(random, 0.05, 1.5) * _positive(
            1.0 + _loguniform(random, *noise) * random.standard_normal(n)
        )
        watts = random.uniform(100.0, 700.0) * _positive(
            1.0 + _loguniform(random, *noise) / 2.0 * random.standard_normal(n)
        )
        return cls(random, seconds, watts)

    @property
    def n(self) -> int:
        return len(self.seconds)

    @property
    def now_s(self) -> Floats:
        return np.cumsum(self.seconds)

    def done(self) -> Training:
        before = self.random.uniform(0.0, 20.0)
        return Training(self.seconds, self.seconds * self.watts, before, before * 90.0)


def _positive(factor: Floats) -> Floats:
    return np.maximum(factor, 0.2)


def _add_lasting(d: _Draft, sd: tuple[float, float], length: tuple[float, float]) -> None:
    length_steps = _loguniform(d.random, length[0], max(length[1] * d.n, length[0] * 1.01))
    d.watts *= _positive(1.0 + _lasting(d.random, d.n, _loguniform(d.random, *sd), length_steps))
    d.seconds *= _positive(1.0 + _lasting(d.random, d.n, _loguniform(d.random, *sd), length_steps))


def _add_walk(d: _Draft, sd: tuple[float, float]) -> None:
    walk = np.cumsum(d.random.standard_normal(d.n)) / np.sqrt(d.n)
    d.watts *= np.exp(_loguniform(d.random, *sd) * walk)


def _add_thermal(d: _Draft, size: tuple[float, float], tau_s: tuple[float, float]) -> None:
    rise = d.random.uniform(*size)
    d.watts *= 1.0 + rise * (1.0 - np.exp(-d.now_s / _loguniform(d.random, *tau_s)))


def _add_jumps(d: _Draft, mean_number: float, sd: float) -> None:
    for place in d.random.integers(0, d.n, d.random.poisson(mean_number)):
        d.watts[place:] *= np.exp(sd * d.random.standard_normal())


def _add_events(d: _Draft, every: tuple[float, float], cycles: tuple[float, float], first: int = 1) -> None:
    """An evaluation each so many steps (shares of the training), as long as so many cycles."""
    period = max(int(d.random.uniform(*every) * d.n), 4)
    long, power = _loguniform(d.random, *cycles), d.random.uniform(0.4, 0.95)
    for place in range(period - first, d.n, period):
        own = d.seconds[place]
        spent = own * long * (1.0 + 0.05 * d.random.standard_normal())
        d.watts[place] *= (own + spent * power) / (own + spent)
        d.seconds[place] += spent


def _add_warm_up(d: _Draft) -> None:
    slow = int(d.random.integers(1, 20))
    d.seconds[0] *= _loguniform(d.random, 5.0, 200.0)
    d.seconds[:slow] *= d.random.uniform(1.2, 6.0)
    d.watts[:slow] *= d.random.uniform(0.3, 0.9)
    n = d.n
    d.seconds *= 1.0 + d.random.uniform(0.0, 0.5) * np.exp(-np.arange(n) / d.random.uniform(3.0, 60.0))


STEPS, NOISE = (1000, 20_000), (0.01, 0.15)


def steady(random: Random) -> Training:
    """White noise alone."""
    return _Draft.of(random, STEPS, NOISE).done()


def lasting_noise(random: Random) -> Training:
    """Noise that follows itself, over three steps to two hundredths of the training."""
    d = _Draft.of(random, STEPS, NOISE)
    _add_lasting(d, (0.01, 0.08), (3.0, 0.02))
    return d.done()


def warm_up(random: Random) -> Training:
    """First steps of up to 200 times the time, and a tail."""
    d = _Draft.of(random, STEPS, NOISE)
    _add_warm_up(d)
    return d.done()


def thermal(random: Random) -> Training:
    """Power that goes to its end, up or down, with a time constant of half a minute to half an hour."""
    d = _Draft.of(random, STEPS, NOISE)
    _add_thermal(d, (-0.06, 0.12), (30.0, 1800.0))
    return d.done()


def jumps(random: Random) -> Training:
    """Power that changes by some 4 % at once, four times in a training, anywhere."""
    d = _Draft.of(random, STEPS, NOISE)
    _add_jumps(d, 4.0, 0.04)
    return d.done()


def evaluations(random: Random) -> Training:
    """An evaluation of 5 to 60 cycles, two to twenty times in the first twentieth."""
    d = _Draft.of(random, STEPS, NOISE)
    _add_events(d, (0.0025, 0.024), (5.0, 60.0))
    return d.done()


def random_walk(random: Random) -> Training:
    """Power that wanders, by 1 to 12 % at the end."""
    d = _Draft.of(random, STEPS, NOISE)
    _add_walk(d, (0.01, 0.12))
    return d.done()


def lengths(random: Random) -> Training:
    """Steps of very different lengths, as of texts: log-normal."""
    d = _Draft.of(random, STEPS, NOISE)
    spread = random.uniform(0.2, 0.7)
    d.seconds *= np.exp(spread * random.standard_normal(d.n))
    return d.done()


def trend(random: Random) -> Training:
    """A cost that grows or falls evenly, by up to 8 % in all: longer texts, more augmentation."""
    d = _Draft.of(random, STEPS, NOISE)
    d.seconds *= 1.0 + random.uniform(-0.08, 0.08) * np.arange(d.n) / d.n
    return d.done()


def all_of_it(random: Random) -> Training:
    """Warm-up, thermal drift, lasting noise, evaluations, checkpoints and a walk in one."""
    d = _Draft.of(random, STEPS, NOISE)
    _add_lasting(d, (0.01, 0.04), (3.0, 0.01))
    _add_thermal(d, (-0.03, 0.08), (30.0, 900.0))
    _add_walk(d, (0.005, 0.04))
    _add_events(d, (0.004, 0.024), (8.0, 40.0))
    _add_events(d, (0.003, 0.009), (3.5, 5.0))
    _add_warm_up(d)
    return d.done()


FAMILIES: tuple[Callable[[Random], Training], ...] = (
    steady,
    lasting_noise,
    warm_up,
    thermal,
    jumps,
    evaluations,
    random_walk,
    lengths,
    trend,
    all_of_it,
)


def _tuning_quiet(random: Random) -> Training:
    return _Draft.of(random, (800, 8000), (0.02, 0.3)).done()


def _tuning_memory(random: Random) -> Training:
    d = _Draft.of(random, (800, 8000), (0.02, 0.1))
    for _ in range(2):
        _add_lasting(d, (0.005, 0.05), (2.0, 0.05))
    return d.done()


def _tuning_heat(random: Random) -> Training:
    """Two time constants at once."""
    d = _Draft.of(random, (800, 8000), (0.005, 0.05))
    _add_thermal(d, (0.0, 0.06), (20.0, 100.0))
    _add_thermal(d, (-0.05, 0.05), (300.0, 3600.0))
    return d.done()


def _tuning_neighbours(random: Random) -> Training:
    """Another program comes and goes."""
    d = _Draft.of(random, (800, 8000), (0.02, 0.1))
    busy = np.zeros(d.n, bool)
    for place in random.integers(0, d.n, random.poisson(12.0)):
        busy[place : place + int(random.exponential(0.05 * d.n)) + 1] = True
    d.watts[busy] *= random.uniform(1.01, 1.1)
    return d.done()


def _tuning_pauses(random: Random) -> Training:
    """Pauses at random times, and a checkpoint."""
    d = _Draft.of(random, (800, 8000), (0.02, 0.1))
    for place in random.integers(0, d.n, random.poisson(random.uniform(0.0, 200.0))):
        d.seconds[place] *= _loguniform(random, 4.0, 12.0)
    _add_events(d, (0.01, 0.04), (10.0, 30.0), first=0)
    return d.done()


def _tuning_seasons(random: Random) -> Training:
    """Slow waves, as of a room by day and night."""
    d = _Draft.of(random, (800, 8000), (0.02, 0.1))
    waves = random.uniform(0.3, 6.0)
    d.watts *= 1.0 + random.uniform(0.0, 0.08) * np.sin(
        2 * np.pi * (waves * np.arange(d.n) / d.n + random.random())
    )
    return d.done()


def _tuning_phases(random: Random) -> Training:
    """Up to three phases of other lengths, such as of a curriculum."""
    d = _Draft.of(random, (800, 8000), (0.02, 0.1))
    for place in random.integers(0, d.n, random.integers(0, 4)):
        d.seconds[place:] *= random.uniform(0.92, 1.1)
    return d.done()


TUNING = (
    _tuning_quiet,
    _tuning_memory,
    _tuning_heat,
    _tuning_neighbours,
    _tuning_pauses,
    _tuning_seasons,
    _tuning_phases,
)
