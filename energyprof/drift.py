"""The mean cost of the steps to come, from the mean costs of blocks of steps that ran. Pure functions of arrays.

A training's cost a step (joules, or seconds) has a level; noise from block to block; noise that lasts (power and
lengths that follow each other); a transient that dies away (caches, clocks, a heat sink that warms up); and a level
that wanders (other programs, the room, the data). None of these is known beforehand, and what twentieth of a training
shows does not tell them apart. So each combination of a grid of them is a Gaussian process, and its marginal
likelihood given the blocks, times its prior weight, is its say in the mixture that is the prediction:

    y(s) = m + a exp(-t/tau) + w(s) + v(s) + e(s)

with m flat, a ~ N(0, A^2), w a random walk of sd D at the training's end, v of correlation exp(-|ds|/l) and e white.
m and a are integrated out in closed form: Rasmussen and Williams, Gaussian Processes for Machine Learning, MIT Press
2006, eq. 2.41 to 2.45; averaging over models by their posterior weights: Hoeting, Madigan, Raftery, Volinsky,
Statistical Science 14(4), 1999.

The grid and its weights are a judgement of what trainings do. They were set on the `TUNING` families of
`tests/trainings.py`; `benchmarks/forecast.py` checks them on its `FAMILIES`, which have other shapes, ranges and draws.
(One look at those showed that sudden changes to come need a term of their own, which was then set on `TUNING` too.)
A twentieth of a training that was steady does not show that the rest will be: most of the interval then is prior. A
training may still do what none here does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST_BLOCKS = 6
_FLOOR = 1e-5  # relative noise of a block below which nothing is believed

# White noise of a block, as multiples of what successive blocks differ by.
_NOISE = np.array([0.4, 0.6, 0.8, 1.0, 1.3, 1.8])
# Lasting noise: (variance over that of the white noise, correlation length in blocks), and prior weights.
_LASTING = ((0.0, 1.0), (1.0, 1.5), (4.0, 1.5), (1.0, 5.0), (4.0, 5.0), (1.0, 12.0), (4.0, 12.0))
_LASTING_WEIGHTS = np.array([0.4, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
# How far the level has wandered at the end of the training: its sd over the level, and prior weights.
_WANDER = np.array([0.0, 0.003, 0.01, 0.03, 0.1, 0.3])
_WANDER_WEIGHTS = np.array([0.55, 0.15, 0.15, 0.1, 0.045, 0.005])
# Transients: (time constant in s, or in shares of the time seen where negative; sd of its size over the level).
# Heat sinks and liquid loops take half a minute to most of an hour.
_TRANSIENTS = ((40.0, 0.04), (150.0, 0.04), (600.0, 0.04), (2400.0, 0.04), (-0.05, 0.4), (-0.2, 0.4))
_NO_TRANSIENT = 0.66
_TRANSIENT_WEIGHTS = np.array([0.07, 0.07, 0.07, 0.07, 0.03, 0.03])
# Sudden changes (a power cap, a neighbour, another mixture of data) that the blocks cannot have shown: belief, before
# anything ran, that a training has some, how many it has then, and the sd of its level at the end because of them.
_CHANGES, _CHANGES_EACH, _CHANGE = 0.5, 3.0, 0.06


@dataclass(frozen=True)
class Mixture:
    """A mixture of normal distributions: weights that add up to 1, means and standard deviations, shape (k,)."""

    weight: Floats
    mean: Floats
    sd: Floats

    def draws(self, count: int, seed: int = 0) -> Floats:
        """`count` values of it, the same for the same seed; systematic over the components."""
        random = np.random.default_rng(seed)
        places = (np.arange(count) + random.random()) / count
        chosen = np.minimum(np.searchsorted(np.cumsum(self.weight), places), len(self.weight) - 1)
        return self.mean[chosen] + self.sd[chosen] * random.standard_normal(count)


def mean_of_the_rest(cost: Floats, step: Floats, at_s: Floats, block: float, done: float, total: float,
                     seen_s: float) -> Mixture:  # fmt: skip
    """The mean cost of a step over the steps from `done` to `total`.

    Parameters
    ----------
    cost
        Mean cost of a step in each of m blocks of consecutive steps, shape (m,), any unit.
    step, at_s
        The middle of each block: in steps, and in seconds since the first step.
    block
        Steps in a block.
    done, total
        Steps that ran, and that the training will have.
    seen_s
        Seconds that those steps took.

    Raises
    ------
    ValueError
        Fewer than FEWEST_BLOCKS blocks, or costs that are not positive on average.
    """
    if len(cost) < FEWEST_BLOCKS:
        raise ValueError(f"{len(cost)} blocks tell nothing; at least {FEWEST_BLOCKS}")
    level = float(np.median(cost))
    if not level > 0:
        level = float(np.mean(cost))
    if not level > 0:
        raise ValueError("the steps cost nothing")
    y = cost / level - 1.0
    base = _Base.of(y, step, block, done, total)
    columns, future = _transients(at_s, seen_s, total / done)
    weights, means, spreads = [], [], []
    for column, ahead, prior in zip(columns, future, (_NO_TRANSIENT, *_TRANSIENT_WEIGHTS)):
        evidence, mean, variance = base.predict(y, column, ahead)
        weights.append(evidence + np.log(prior))
        means.append(mean)
        spreads.append(np.sqrt(variance))
    logs = np.concatenate(weights)
    weight = np.exp(logs - logs.max())
    mean = 1.0 + np.concatenate(means)
    spread = np.concatenate(spreads)
    changed = np.sqrt(spread**2 + _CHANGE**2 * (total - done) / total / 3.0)
    unseen = _CHANGES * np.exp(-_CHANGES_EACH * done / total)  # what had some would have shown one by now
    belief = unseen / (1.0 - _CHANGES + unseen)
    return Mixture(
        np.concatenate(((1.0 - belief) * weight, belief * weight)) / weight.sum(),
        level * np.concatenate((mean, mean)),
        level * np.concatenate((spread, changed)),
    )


@dataclass(frozen=True)
class _Base:
    """All combinations of noise, lasting noise and wandering: covariances of blocks and of the future mean."""

    log_prior: Floats  # (k,)
    log_det: Floats  # (k,)
    inverse: Floats  # (k, m, m)
    ahead: Floats  # (k, m): covariance of each block with the mean of the rest
    own: Floats  # (k,): variance of the mean of the rest

    @classmethod
    def of(cls, y: Floats, step: Floats, block: float, done: float, total: float) -> _Base:
        m, rest = len(y), total - done
        successive = np.diff(y)
        noise = max(float(np.sqrt(np.mean(successive**2) / 2.0)), _FLOOR) * _NOISE
        apart = np.abs(step[:, None] - step[None, :])
        lasting, lasting_ahead, lasting_own = [], [], []
        for ratio, length in _LASTING:
            scale = length * block
            lasting.append(np.eye(m) + ratio * np.exp(-apart / scale))
            near = np.exp(-(done - step) / scale) - np.exp(-(total - step) / scale)
            lasting_ahead.append(ratio * scale / rest * near)
            share = scale / rest
            lasting_own.append(
                block / rest + ratio * 2.0 * share * (1.0 - share * (1.0 - np.exp(-rest / scale)))
            )
        walk = np.minimum(step[:, None], step[None, :]) / total
        variance, wander = noise**2, _WANDER**2
        full = (len(noise), len(_LASTING), len(wander))
        covariance = (
            variance[:, None, None, None, None] * np.array(lasting)[None, :, None]
            + wander[None, None, :, None, None] * walk
        )
        ahead = (
            variance[:, None, None, None] * np.array(lasting_ahead)[None, :, None]
            + wander[None, None, :, None] * step / total
        )
        own = variance[:, None, None] * np.array(lasting_own)[None, :, None] + wander * (
            (done + rest / 3.0) / total
        )
        prior = np.broadcast_to(np.log(_LASTING_WEIGHTS)[:, None] + np.log(_WANDER_WEIGHTS), full)
        covariance = covariance.reshape(-1, m, m)
        lower = np.linalg.inv(np.linalg.cholesky(covariance))
        diagonal = np.log(np.diagonal(lower, axis1=1, axis2=2))
        return cls(
            prior.reshape(-1),
            -2.0 * diagonal.sum(axis=1),
            lower.transpose(0, 2, 1) @ lower,
            ahead.reshape(-1, m),
            own.reshape(-1),
        )

    def predict(self, y: Floats, column: Floats | None, ahead: float) -> tuple[Floats, Floats, Floats]:
        """Log evidence, mean and variance of the mean of the rest, with this transient (scaled by its prior sd)."""
        ones = np.ones(len(y))
        design = ones[:, None] if column is None else np.column_stack((ones, column))
        target = np.array([1.0] if column is None else [1.0, ahead])
        precision = np.diag([0.0] if column is None else [0.0, 1.0])
        weighted = self.inverse @ design  # (k, m, p)
        normal = design.T @ weighted + precision  # (k, p, p)
        moment = y @ weighted  # (k, p)
        found = np.linalg.solve(normal, moment[..., None])[..., 0]
        quadratic = (self.inverse @ y) @ y - (moment * found).sum(axis=1)
        evidence = self.log_prior - 0.5 * (self.log_det + np.linalg.slogdet(normal)[1] + quadratic)
        pull = (self.inverse @ self.ahead[..., None])[..., 0]  # (k, m)
        mean = found @ target + (pull * (y - found @ design.T)).sum(axis=1)
        left = target - (self.ahead[:, None, :] @ weighted)[:, 0]  # (k, p)
        variance = self.own - (self.ahead * pull).sum(axis=1)
        variance = variance + (left * np.linalg.solve(normal, left[..., None])[..., 0]).sum(axis=1)
        return evidence, mean, np.maximum(variance, 0.0)


def _transients(at_s: Floats, seen_s: float, ratio: float) -> tuple[list[Floats | None], list[float]]:
    """Each transient at the blocks and its mean over the rest, in its prior sd; the first is none at all."""
    columns: list[Floats | None] = [None]
    future = [0.0]
    rest_s = max(seen_s * (ratio - 1.0), 1e-9)
    for scale, size in _TRANSIENTS:
        tau = scale if scale > 0 else -scale * seen_s
        columns.append(size * np.exp(-at_s / tau))
        future.append(size * float(np.exp(-seen_s / tau) - np.exp(-(seen_s + rest_s) / tau)) * tau / rest_s)
    return columns, future
