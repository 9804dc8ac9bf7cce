"""Figures that may be below zero: their products agree with those of ranges, and with random draws across zero."""

from __future__ import annotations

import math

import numpy as np
import pytest

from energyprof.carbon.ranges import Range
from energyprof.carbon.signed import Signed, within


def test_where_the_sign_is_certain_the_product_is_that_of_ranges_or_its_mirror() -> None:
    energy = Range(10, 7, 15)
    found = Range(0.3, 0.2, 0.5) * energy
    assert Signed(0.3, 0.2, 0.5) * energy == Signed(found.value, found.lo, found.hi)
    assert Signed(-0.3, -0.5, -0.2) * energy == Signed(-found.value, -found.hi, -found.lo)


def test_across_zero_the_product_covers_what_random_draws_make() -> None:
    price, energy = Signed(0.05, -0.15, 0.25), Range(10, 6, 14)
    rng = np.random.default_rng(5)
    prices = price.value + rng.normal(size=100_000) * (price.hi - price.lo) / 2 / 1.96
    money = prices * (energy.value + rng.normal(size=100_000) * (energy.hi - energy.lo) / 2 / 1.96)
    found = price * energy
    assert found.lo < 0 < found.hi
    assert 0.93 <= np.mean((money >= found.lo) & (money <= found.hi)) <= 0.97


def test_a_mean_is_within_what_it_is_the_mean_of_whatever_rounding_does() -> None:
    assert within(sum([0.1] * 24) / 24, [0.1] * 24) == Signed(0.1, 0.1, 0.1)
    assert within(-0.0, [-1.0, 1.0]) == Signed(0, -1, 1)


@pytest.mark.parametrize(("value", "lo", "hi"), [(1, 2, 3), (4, 2, 3), (math.nan, 0, 1), (0, -math.inf, 1)])
def test_what_is_no_interval_is_refused(value: float, lo: float, hi: float) -> None:
    with pytest.raises(ValueError, match="is not an interval"):
        Signed(value, lo, hi)
