"""How far two groups of numbers lie apart, and how sure that is. Pure functions of arrays; scipy does the statistics.

Groups of runs: d = mean(y) - mean(x), of logarithms where a ratio is asked for. With s_x, s_y the standard
deviations and g what the sensors' gain adds, which no number of runs takes away,

    se^2 = s_x^2 / n_x + s_y^2 / n_y + g^2
    df   = se^4 / ((s_x^2 / n_x)^2 / (n_x - 1) + (s_y^2 / n_y)^2 / (n_y - 1))

(Welch, Biometrika 34, 1947, doi:10.1093/biomet/34.1-2.28; Satterthwaite, 1946; g has infinitely many degrees of
freedom, JCGM 100:2008, G.4). Where a group has fewer than `FEW_BESIDE_MORE` runs and the other more, its spread may
look small by luck, and df, which is then the other group's, does not know: equal groups of 2 and 20 runs get p < 1 % in
7 % of cases. There the interval and p are Student's, with one spread for both, where those are wider; with two runs
they have one degree of freedom at most, which holds for any spreads (Mickey and Brown, Annals of Mathematical
Statistics 37, 1966). From `BOOTSTRAP_FROM` to `BOOTSTRAP_TO` runs in each group, where a lopsided spread can
be seen, an end of the interval is the bias-corrected and accelerated bootstrap's (Efron, JASA 82, 1987) if that is
the outer one; p stays Welch's. The bootstrap alone is too narrow where runs are few or tails heavy, and Welch's
interval is not (docs/compare.md).

Steps of single runs settle first (`settled`), and follow one another and are alike: means of long batches of them stand
in for runs (Law and Carson, Operations Research 27, 1979), see `batch_means`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WELCH, BOOTSTRAP = "Welch on logs", "bootstrap (BCa)"
STEPS, MEANS = "steps of single runs (batch means)", "difference of means"

LEVEL, POWER = 0.05, 0.8
FEW_BESIDE_MORE = 8  # with eight and more, of any spreads, p < 1 % in at most 1.2 % of equal pairs
BOOTSTRAP_FROM = 50  # runs a group: with fewer it knows the ends of a spread from a handful of runs
BOOTSTRAP_TO = 1000  # and with more, means are as good as normal, and resampling takes its time
_RESAMPLES, _SEED = 9999, 20261121  # the same runs give the same interval
_AT_ONCE = 1 << 20  # numbers that are resampled at once
FEWEST_BATCHES = 5
_FEWEST_TO_SETTLE = 10
_LONG = 5.0  # correlation times in a batch: then batches are correlated by a tenth at most
_MOST_RUNS = 100_000
_EQUAL = 1e-12  # relative spread below which numbers are the same number


@dataclass(frozen=True)
class Estimate:
    """A difference `d`, with its 95 % interval, p (two-sided), standard error and degrees of freedom.

    `low_sd`, `high_sd`: spread of the two groups; `systematic_sd`: what more runs do not take away.
    """

    d: float
    lo: float
    hi: float
    p: float
    se: float
    df: float
    low_sd: float
    high_sd: float
    systematic_sd: float
    method: str
    exact: bool = False  # no spread at all in either group


def difference(x: Floats, y: Floats, systematic_sd: float = 0.0, method: str | None = None) -> Estimate:
    """mean(y) - mean(x) of two groups of at least two numbers each.

    Parameters
    ----------
    x, y
        One number a run: logarithms for a ratio, shape (n,).
    systematic_sd
        Standard deviation of an error that all runs of a group share, in the units of x.
    method
        WELCH or BOOTSTRAP; chosen by the number of runs where None.

    Raises
    ------
    ValueError
        Fewer than two numbers in a group.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError("a spread needs two numbers at least")
    d = float(np.mean(y) - np.mean(x))
    sd_x, sd_y = _spread(x), _spread(y)
    if sd_x == sd_y == systematic_sd == 0.0:
        same = abs(d) <= _EQUAL * max(1.0, float(np.max(np.abs(x))))
        return Estimate(d, d, d, 1.0 if same else 0.0, 0.0, math.inf, 0.0, 0.0, 0.0, method or WELCH, True)
    half, se, df = max(_errors((sd_x, len(x)), (sd_y, len(y)), systematic_sd))
    p, lo, hi = _two_sided(d / se, df), d - half, d + half
    enough = min(len(x), len(y)) >= BOOTSTRAP_FROM and max(len(x), len(y)) <= BOOTSTRAP_TO
    chosen = method or (BOOTSTRAP if enough and sd_x and sd_y else WELCH)
    if chosen == BOOTSTRAP:
        extra = _quantile(1 - LEVEL / 2, math.inf) * systematic_sd
        below, above = _bca(x, y)
        lo, hi = min(lo, d - math.hypot(d - below, extra)), max(hi, d + math.hypot(above - d, extra))
    return Estimate(d, lo, hi, p, se, df, sd_x, sd_y, systematic_sd, chosen)


def _spread(values: Floats) -> float:
    """The standard deviation; 0 where the numbers differ by no more than rounding."""
    sd = float(np.std(values, ddof=1))
    return 0.0 if sd <= _EQUAL * max(1.0, float(np.max(np.abs(values)))) else sd


def _errors(
    x: tuple[float, int], y: tuple[float, int], systematic_sd: float
) -> list[tuple[float, float, float]]:
    """Half-width, standard error and degrees of freedom of a difference of means, by each test that applies.

    `x` and `y` are the standard deviation of a group and its number of runs.
    """
    (sd_x, n), (sd_y, m) = x, y
    own = [(sd_x**2 / n, n), (sd_y**2 / m, m)]
    tests = [own]
    if n != m and min(n, m) < FEW_BESIDE_MORE:
        pooled = ((n - 1) * sd_x**2 + (m - 1) * sd_y**2) / (n + m - 2)
        tests.append([(pooled * (1 / n + 1 / m), n + m - 1)])
        if min(n, m) == 2:
            tests.append([(own[0][0] + own[1][0], 2)])
    found = []
    for parts in tests:
        se = math.sqrt(sum(variance for variance, _ in parts) + systematic_sd**2)
        df = _freedom(parts, se)
        found.append((_quantile(1 - LEVEL / 2, df) * se, se, df))
    return found


def _freedom(parts: Sequence[tuple[float, int]], se: float) -> float:
    known = sum(var**2 / (n - 1) for var, n in parts)
    return se**4 / known if known > 0 else math.inf


def _two_sided(t: float, df: float) -> float:
    from scipy import special  # not scipy.stats, which takes a second to load

    return float(2 * (special.ndtr(-abs(t)) if math.isinf(df) else special.stdtr(df, -abs(t))))


def _quantile(share: float, df: float) -> float:
    from scipy import special

    return float(special.ndtri(share) if math.isinf(df) else special.stdtrit(df, share))


def _bca(x: Floats, y: Floats) -> tuple[float, float]:
    """The ends of the 95 % interval of mean(y) - mean(x)."""
    from scipy import stats

    found = stats.bootstrap(
        (y, x),
        lambda b, a, axis=-1: np.mean(b, axis=axis) - np.mean(a, axis=axis),
        n_resamples=_RESAMPLES,
        method="BCa",
        vectorized=True,
        batch=max(1, _AT_ONCE // max(len(x), len(y))),
        random_state=np.random.default_rng(_SEED),  # pyright: ignore[reportCallIssue]  # `rng` since scipy 1.15
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def correlation_time(values: Floats) -> float:
    """The integrated autocorrelation time of a series, in its steps: 1 + 2 sum of rho_k; at least 1.

    The sum ends where a pair of neighbouring autocorrelations is no longer positive (Geyer, Statistical
    Science 7, 1992, section 3.3).
    """
    n = len(values)
    centred = values - np.mean(values)
    power = np.abs(np.fft.rfft(centred, 2 * n)) ** 2
    covariance = np.fft.irfft(power)[:n]
    if n < 4 or _spread(values) == 0.0:
        return 1.0
    rho = covariance / covariance[0]
    pairs = rho[0 : 2 * (n // 2) : 2] + rho[1 : 2 * (n // 2) : 2]
    ends = np.flatnonzero(pairs <= 0)
    last = int(ends[0]) if len(ends) else len(pairs)
    return max(1.0, float(2 * np.sum(np.minimum.accumulate(pairs[:last])) - 1))


def settled(values: Floats) -> int:
    """After how many steps a series has settled: the first of a training compile, fill caches and warm up the chip.

    Without those the mean of the rest is most certain, by variance over number (MSER; White, Simulation 69, 1997); 0
    where that would take half of them, since it has not settled then.
    """
    n = len(values)
    if n < _FEWEST_TO_SETTLE or _spread(values) == 0.0:
        return 0
    centred = values - np.mean(values)
    left = np.arange(n, 0, -1)
    sums, squares = (np.cumsum(part[::-1])[::-1] for part in (centred, centred**2))
    uncertainty = (squares / left - (sums / left) ** 2) / left
    first = int(np.argmin(uncertainty[: n // 2 + 1]))
    return first if first < n // 2 else 0


def batch_means(values: Floats) -> Floats:
    """Means of consecutive batches: sqrt(n) steps long, or five correlation times where that is longer.

    The first steps that fill no batch are left out. Fewer than `FEWEST_BATCHES`: the series is too short.
    """
    if len(values) == 0:
        return values
    size = max(math.ceil(math.sqrt(len(values))), math.ceil(_LONG * correlation_time(values)))
    count = len(values) // size
    kept = values[len(values) - count * size :]
    return kept.reshape(count, size).mean(axis=1) if count else kept[:0]


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number by Holm's method (Scandinavian Journal of Statistics 6, 1979)."""
    known = sorted((p, i) for i, p in enumerate(ps) if p is not None)
    adjusted: list[float | None] = [None] * len(ps)
    worst = 0.0
    for rank, (p, i) in enumerate(known):
        worst = max(worst, min(1.0, p * (len(known) - rank)))
        adjusted[i] = worst
    return adjusted


def detectable(estimate: Estimate, questions: int = 1) -> float:
    """The true difference that such a comparison shows in 80 % of cases, as one of so many questions.

    p counts then at `LEVEL` over their number, which is what Holm's correction asks of the smallest.
    """
    return _noncentrality(estimate.df, questions) * estimate.se


def runs_for(estimate: Estimate, effect: float, questions: int = 1) -> int | None:
    """Runs a group with which a true difference of `effect` shows in 80 % of cases, with the spread that was
    seen; None where no number of runs would, since the gain of the sensors alone is as large."""
    squares, systematic = estimate.low_sd**2 + estimate.high_sd**2, estimate.systematic_sd
    room = (effect / _noncentrality(math.inf, questions)) ** 2 - systematic**2
    if room <= 0:
        return None
    if squares == 0:
        return 2
    n = max(2, math.ceil(squares / room))
    while n <= _MOST_RUNS:
        parts = ((estimate.low_sd**2 / n, n), (estimate.high_sd**2 / n, n))
        se = math.sqrt(squares / n + systematic**2)
        if _noncentrality(_freedom(parts, se), questions) * se <= effect:
            return n
        n += max(1, n // 100)
    return None


def _noncentrality(df: float, questions: int = 1) -> float:
    """How many standard errors a true difference must have, so that Welch's test finds it with `POWER`."""
    return _noncentrality_of(math.inf if df > 1e4 else float(f"{df:.3g}"), questions)


@lru_cache(maxsize=4096)
def _noncentrality_of(df: float, questions: int) -> float:
    from scipy import special

    limit = _quantile(1 - LEVEL / (2 * questions), df)
    if math.isinf(df):
        return limit + _quantile(POWER, df)
    # The other tail adds next to nothing at this power.
    return float(special.nctdtrinc(df, 1 - POWER, limit))
