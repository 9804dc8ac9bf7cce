"""Products and sums of figures keep intervals that cover what independent errors make of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyprof.carbon.ranges import Range, around, exact, together

figures = (
    st.lists(st.just(0.0) | st.floats(1e-6, 1e6), min_size=3, max_size=3)
    .map(sorted)
    .map(lambda s: Range(s[1], s[0], s[2]))
)


@given(figures, figures)
def test_a_product_lies_in_its_interval_and_does_not_depend_on_the_order(one: Range, other: Range) -> None:
    product = one * other
    assert product.lo <= product.value <= product.hi
    assert product == other * one
    assert product.value == one.value * other.value


def test_a_product_covers_independent_errors_of_both_factors() -> None:
    random = np.random.default_rng(7)
    true_x, true_y = 5.0, 300.0
    u_x, u_y = 0.5, 60.0
    x = random.normal(true_x, u_x / 1.96, 20_000)
    y = random.normal(true_y, u_y / 1.96, 20_000)
    inside = [(r := around(a, u_x) * around(b, u_y)).lo <= true_x * true_y <= r.hi for a, b in zip(x, y)]
    assert 0.94 <= np.mean(inside) <= 0.96


@pytest.mark.parametrize(
    ("part", "factor"), [(0.05, 1.2), (0.05, 2.3), (0.4, 2.3), (0.9, 2.3), (0.9, 1.2), (0.3, 1.5)]
)
def test_the_ends_of_a_product_are_its_quantiles_however_wide_the_factors(part: float, factor: float) -> None:
    random = np.random.default_rng(3)
    x = np.maximum(random.normal(1, part / 1.96, 400_000), 0)
    y = np.exp(random.normal(0, np.log(factor) / 1.96, 400_000))
    product = around(1.0, part) * Range(1.0, 1 / factor, factor)
    assert [product.lo, product.hi] == pytest.approx(np.quantile(x * y, [0.025, 0.975]).tolist(), rel=0.05)


def test_a_plain_number_is_exact() -> None:
    assert around(10.0, 2.0) * 3.6 == Range(36.0, 28.8, 43.2)
    assert around(10.0, 2.0) / 2 == Range(5.0, 4.0, 6.0)
    assert exact(4.0) * exact(0.0) == exact(0.0)


def test_a_half_width_above_the_figure_is_cut_at_zero() -> None:
    assert around(1.0, 3.0) == Range(1.0, 0.0, 4.0)
    assert (around(1.0, 3.0) * around(1.0, 0.1)).lo == 0.0


def test_independent_parts_add_in_quadrature() -> None:
    assert together(around(10.0, 3.0), around(20.0, 4.0)) == Range(30.0, 25.0, 35.0)


@pytest.mark.parametrize("three", [(1.0, 2.0, 3.0), (-1.0, -2.0, 0.0), (1.0, 0.5, float("inf"))])
def test_what_is_no_interval_is_refused(three: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="interval"):
        Range(*three)
