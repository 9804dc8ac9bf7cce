"""What grams are as much as: right by the sources' figures, and at every size something that can be pictured."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyprof.carbon.equivalents import TABLE, equivalents


@pytest.mark.parametrize(
    ("grams", "text"),
    [
        (393.0, "1.6 km by car"),  # a mile
        (39.3, "160 m by car"),
        (0.02, "8.2 cm by car"),
        (12.4, "1 smartphone charge"),
        (1.24, "10 % of a smartphone's charge"),
        (124.0, "10 smartphone charges"),
        (36.0, "1 hour of streamed video"),
        (0.6, "1 minute of streamed video"),
        (0.02, "2 seconds of streamed video"),
        (4.7e6, "1 year of one person's emissions (world average)"),
        (4.7e9, "1,000 years of one person's emissions (world average)"),
        (4.29e9, "1,000 cars for a year"),
        (30e6, "120,000 km by car"),
    ],
)
def test_known_amounts_are_said_in_their_units(grams: float, text: str) -> None:
    assert text in [said for said, _ in equivalents(grams, shown=9)]


@given(st.floats(0.01, 1e12))
def test_every_size_has_some_that_can_be_pictured(grams: float) -> None:
    found = equivalents(grams)
    assert 2 <= len(found) <= 3
    for text, source in found:
        number = float(re.match(r"[\d,.]+", text)[0].replace(",", ""))  # type: ignore[index]
        assert 0.9 <= number <= 999_999
        assert len(source) > 20
        assert "\n" not in text


@pytest.mark.parametrize("grams", [0.0, -1.0, math.nan, math.inf, 1e-9])
def test_nothing_is_like_nothing(grams: float) -> None:
    assert equivalents(grams) == []


def test_each_has_a_figure_with_a_year_and_a_source() -> None:
    for each in TABLE:
        assert each.grams > 0
        assert re.search(r"20\d\d", each.source)
        assert each.least < each.most
    assert len({each.name for each in TABLE}) == len(TABLE)
