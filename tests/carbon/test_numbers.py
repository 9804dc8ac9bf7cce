"""Numbers as people write them mean what they say, or are refused in one line."""

from __future__ import annotations

import pytest

from energyprof.carbon import numbers


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("7B", 7e9),
        ("2T", 2e12),
        ("1e21", 1e21),
        ("3 ZFLOP", 3e21),
        ("125m", 125e6),
        ("1,000,000", 1e6),
        ("1_000", 1e3),
        (" 2.5e3 ", 2500.0),
        ("70b params", 70e9),
        ("6.7B tokens", 6.7e9),
        (5, 5.0),
        (".5k", 500.0),
    ],
)
def test_amounts(said: object, value: float) -> None:
    assert numbers.amount(said, "n") == pytest.approx(value)


@pytest.mark.parametrize(
    ("said", "value"),
    [("120", 120), ("3.5h", 3.5), ("90 min", 1.5), ("2 days", 48), ("1w", 168), ("30s", 1 / 120), (4, 4)],
)
def test_hours(said: object, value: float) -> None:
    assert numbers.hours(said) == pytest.approx(value)


def test_shares_and_watts() -> None:
    assert numbers.share("40 %", "mfu") == pytest.approx(0.4)
    assert numbers.share("0", "utilisation", 0.0) == 0.0
    assert numbers.watts("0.35 kW", "watts") == pytest.approx(350)
    assert numbers.watts("0", "host-watts", 0.0) == 0


@pytest.mark.parametrize(
    "said", ["", "x", "nan", "inf", "-1", "0", "1e999", "3,5", "1,00", "5 apples", "7 7", None, True]
)
def test_what_is_no_number_is_refused_in_one_line(said: object) -> None:
    for read in (numbers.amount, numbers.share, numbers.watts, numbers.hours):
        with pytest.raises(ValueError, match=r"thing is .*; give") as refused:
            read(said, "thing")
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("said", ["1.2", "101%", "-0.1", "2"])
def test_a_share_is_at_most_one(said: str) -> None:
    with pytest.raises(ValueError, match="share"):
        numbers.share(said, "utilisation")
