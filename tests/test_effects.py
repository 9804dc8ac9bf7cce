"""The statistics of a comparison against scipy, closed forms and simulation."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from energyprof import effects
from tests.rows import following, heavy, normal


def logs(seed: int, n: int, shift: float = 0.0, sd: float = 0.02) -> np.ndarray:
    return np.random.default_rng(seed).normal(7.0 + shift, sd, n)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 3), (8, 9), (10, 10), (40, 25)])
def test_without_a_common_gain_it_is_welchs_test_as_scipy_has_it(n: int, m: int) -> None:
    x, y = logs(1, n), logs(2, m, 0.01, 0.05)
    found = effects.difference(x, y, method=effects.WELCH)
    theirs = stats.ttest_ind(y, x, equal_var=False)
    low, high = theirs.confidence_interval(0.95)
    assert (found.p, found.df, found.lo, found.hi) == pytest.approx((theirs.pvalue, theirs.df, low, high))


@pytest.mark.parametrize(("n", "m"), [(3, 8), (4, 30), (30, 3), (7, 9)])
@pytest.mark.parametrize("sd", [0.004, 0.02, 0.1])
def test_a_few_runs_beside_more_get_the_wider_of_welchs_and_students(n: int, m: int, sd: float) -> None:
    for seed in range(20):
        x, y = logs(seed, n, sd=sd), logs(100 + seed, m)
        found = effects.difference(x, y, method=effects.WELCH)
        theirs = [stats.ttest_ind(y, x, equal_var=equal) for equal in (False, True)]
        low, high = max((one.confidence_interval(0.95) for one in theirs), key=lambda ends: ends[1] - ends[0])
        assert (found.lo, found.hi) == pytest.approx((low, high))
        assert any(found.p == pytest.approx(one.pvalue) for one in theirs)


def test_two_runs_beside_more_have_one_degree_of_freedom_at_most() -> None:
    # The two happen to be alike: Welch's p is 0.0004, and means nothing.
    found = effects.difference(np.array([7.03, 7.0301]), logs(1, 20))
    assert found.p > 0.05
    assert found.lo < 0 < found.hi


@pytest.mark.parametrize(("n", "m"), [(2, 5), (2, 20), (3, 10), (3, 30), (5, 20)])
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_equal_groups_of_a_few_and_of_many_runs_differ_as_seldom_as_p_says(
    n: int, m: int, level: float
) -> None:
    chance, trials = np.random.default_rng(n * m), 1500
    ps = [effects.difference(*(0.02 * chance.standard_normal(k) for k in (n, m))).p for _ in range(trials)]
    # Three standard errors above; Welch's alone has 4 to 12 % at 5 %, and 2 to 7 % at 1 %.
    assert np.mean(np.array(ps) < level) < level + 3 * math.sqrt(level * (1 - level) / trials)


def test_a_gain_adds_in_quadrature_and_is_known_exactly() -> None:
    x, y = logs(1, 5), logs(2, 5)
    plain, with_gain = (effects.difference(x, y, gain, effects.WELCH) for gain in (0.0, 0.03))
    assert with_gain.se == pytest.approx(math.hypot(plain.se, 0.03))
    assert with_gain.df > plain.df
    wide = effects.difference(x, y, 10.0, effects.WELCH)
    assert wide.hi - wide.d == pytest.approx(1.96 * 10.0, rel=1e-3)


def test_many_runs_get_the_bootstraps_ends_where_those_are_the_outer_ones_and_always_the_same() -> None:
    chance = np.random.default_rng(3)
    x, y = chance.exponential(0.02, 60), chance.exponential(0.02, 60) ** 2
    found, again = (effects.difference(x, y) for _ in range(2))
    welch = effects.difference(x, y, method=effects.WELCH)
    assert found == again
    assert found.method == effects.BOOTSTRAP
    assert found.lo <= welch.lo
    assert found.hi >= welch.hi
    assert found.p == welch.p
    assert effects.difference(x[:49], y).method == effects.WELCH


def test_numbers_that_do_not_vary_are_equal_or_apart_without_a_test() -> None:
    same, other = np.full(5, 2.0), np.full(5, 2.1)
    assert (effects.difference(same, same).p, effects.difference(same, other).p) == (1.0, 0.0)
    assert effects.difference(same, same + 1e-15).exact
    assert effects.difference(same, logs(1, 60)).method == effects.WELCH


def test_a_spread_needs_two_numbers() -> None:
    with pytest.raises(ValueError, match="two numbers"):
        effects.difference(logs(1, 1), logs(2, 9))


def test_holms_correction_is_the_books() -> None:
    # Holm (1979): multiply the k-th smallest of m by m - k + 1, and never let a later one be smaller.
    assert effects.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert effects.holm([None, 0.5, None, 0.9]) == [None, 1.0, None, 1.0]
    assert effects.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_corrected_ps_lie_between_the_ps_and_bonferronis(ps: list[float]) -> None:
    adjusted = effects.holm(ps)
    assert all(a is not None and p <= a <= min(1.0, len(ps) * p) + 1e-12 for p, a in zip(ps, adjusted))
    order = np.argsort(ps, kind="stable")
    assert np.all(np.diff([adjusted[i] or 0.0 for i in order]) >= 0)


@pytest.mark.parametrize("n", [3, 10])
def test_what_is_called_detectable_is_detected_in_four_of_five_cases(n: int) -> None:
    chance = np.random.default_rng(n)
    spread = 0.02
    truth = effects._noncentrality(2.0 * n - 2) * spread * math.sqrt(2 / n)
    x, y = chance.normal(0, spread, (2000, n)), chance.normal(truth, spread, (2000, n))
    found = np.mean(stats.ttest_ind(y, x, axis=1).pvalue < 0.05)
    assert found == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("df", [1.0, 1.7, 2.0, 7.3, 100.0, 1e3, 1e6, math.inf])
def test_the_smallest_effect_is_known_for_every_number_of_runs(df: float) -> None:
    shift = effects._noncentrality(df)
    assert 2.8 < shift < 20
    if math.isfinite(df) and df < 1e4:
        assert stats.nct.sf(stats.t.ppf(0.975, df), df, shift) == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("questions", [1, 6, 40])
@pytest.mark.parametrize("df", [1.0, 8.0, 100.0])
def test_as_one_of_many_questions_an_effect_must_be_larger(df: float, questions: int) -> None:
    limit = stats.t.ppf(1 - 0.025 / questions, df)
    assert stats.nct.sf(limit, df, effects._noncentrality(df, questions)) == pytest.approx(0.8, abs=1e-3)


def test_runs_for_an_effect_are_the_fewest_that_show_it() -> None:
    x, y = logs(1, 8, sd=0.03), logs(2, 8, sd=0.03)
    found = effects.difference(x, y)
    n = effects.runs_for(found, math.log(1.02))
    assert n is not None
    spread = math.hypot(found.low_sd, found.high_sd)
    scipys = [k for k in range(max(2, n - 2), n + 2) if _power(k, found.low_sd, found.high_sd, spread) >= 0.8]
    assert scipys[0] == n


def _power(n: int, a: float, b: float, spread: float) -> float:
    df = (a**2 + b**2) ** 2 / (a**4 + b**4) * (n - 1)
    return float(stats.nct.sf(stats.t.ppf(0.975, df), df, math.log(1.02) / (spread / math.sqrt(n))))


def test_no_number_of_runs_overcomes_the_gain_of_two_boards() -> None:
    found = effects.difference(logs(1, 8), logs(2, 8), 0.03)
    assert effects.runs_for(found, math.log(1.02)) is None
    assert effects.runs_for(found, math.log(1.2)) is not None


@pytest.mark.parametrize(("correlation", "truth"), [(0.0, 1.0), (0.5, 3.0), (0.9, 19.0)])
def test_the_correlation_time_of_an_ar1_series_is_the_closed_form(correlation: float, truth: float) -> None:
    # (1 + rho) / (1 - rho)
    series = following(np.random.default_rng(5), 100_000, correlation)
    assert effects.correlation_time(series) == pytest.approx(truth, rel=0.15)


def test_steps_that_take_turns_have_a_correlation_time_of_one() -> None:
    assert effects.correlation_time(np.tile([1.0, 2.0], 50)) == 1.0
    assert effects.correlation_time(np.ones(50)) == 1.0
    assert effects.correlation_time(np.array([1.0, 2.0])) == 1.0


@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize(("first", "factor"), [(1, 20.0), (20, 1.5), (60, 1.2)])
def test_the_first_steps_are_left_out_until_they_have_settled(
    correlation: float, first: int, factor: float
) -> None:
    for seed in range(10):
        series = following(np.random.default_rng(seed), 400, correlation)
        series[:first] *= factor
        assert first <= effects.settled(series) <= first + 25


def test_of_steps_that_are_alike_next_to_none_are_left_out_and_of_those_that_never_settle_none() -> None:
    cuts = [effects.settled(following(np.random.default_rng(seed), 400, 0.0)) for seed in range(50)]
    assert np.median(cuts) <= 4
    assert max(cuts) < 100
    assert effects.settled(np.linspace(20.0, 9.0, 500)) == 0
    assert effects.settled(np.ones(50)) == effects.settled(np.array([9.0, 1.0, 1.0])) == 0


def test_intervals_hold_the_truth_as_often_where_the_runs_warm_up() -> None:
    chance, held, trials = np.random.default_rng(77), 0, 300
    for _ in range(trials):
        series = [following(chance, 600, 0.5) * (1 + np.exp(-np.arange(600) / 8)) for _ in range(2)]
        x, y = (np.log(effects.batch_means(one[effects.settled(one) :])) for one in series)
        assert min(len(x), len(y)) >= effects.FEWEST_BATCHES
        found = effects.difference(x, y, method=effects.WELCH)
        held += found.lo <= 0 <= found.hi
    assert 0.91 <= held / trials <= 0.98


@given(st.integers(0, 400), st.floats(-0.5, 0.9))
@settings(max_examples=30)
def test_batches_are_at_most_the_root_of_the_steps_and_means_of_them(n: int, correlation: float) -> None:
    series = following(np.random.default_rng(n), n, correlation)
    means = effects.batch_means(series)
    assert len(means) <= max(1, math.isqrt(n))
    assert n == 0 or (series.min() <= means.min(initial=99) and means.max(initial=0) <= series.max())


def test_batches_leave_out_the_first_steps_that_fill_none() -> None:
    series = np.tile([9.0, 11.0], 205)[:-1]
    means = effects.batch_means(series)
    assert means == pytest.approx(series[-19 * 21 :].reshape(19, 21).mean(axis=1))


def test_a_series_that_drifts_has_too_few_batches_to_say_anything() -> None:
    drifting = np.linspace(9.0, 11.0, 500)
    assert len(effects.batch_means(drifting)) < effects.FEWEST_BATCHES


@pytest.mark.parametrize("draw", [normal, heavy], ids=["lognormal", "heavy tails"])
@pytest.mark.parametrize("n", [3, 10, 30])
def test_intervals_hold_the_truth_as_often_as_they_say(n: int, draw: object) -> None:
    chance = np.random.default_rng(100 + n)
    truth, trials = math.log(0.95), 600
    sample = partial(draw, chance)  # type: ignore[arg-type]
    found = [effects.difference(0.02 * sample(n), truth + 0.02 * sample(n)) for _ in range(trials)]
    held = np.mean([one.lo <= truth <= one.hi for one in found])
    # 95 % of 600 trials are 92.7 to 97.3 % at 99 % confidence; Welch's is somewhat wide for few and heavy-tailed runs.
    assert 0.927 <= held <= 0.985


@pytest.mark.parametrize("correlation", [-0.3, 0.0, 0.5, 0.9])
def test_intervals_through_steps_hold_the_truth_though_steps_follow_one_another(correlation: float) -> None:
    chance = np.random.default_rng(int(10 * correlation) + 50)
    held, trials = 0, 400
    for _ in range(trials):
        x, y = (np.log(effects.batch_means(following(chance, 1000, correlation))) for _ in range(2))
        found = effects.difference(x, y, method=effects.WELCH)
        held += found.lo <= 0 <= found.hi
    assert 0.91 <= held / trials <= 0.98
