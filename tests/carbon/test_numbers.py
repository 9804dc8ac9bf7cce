"""Numbers as people write them, and refusals that name both ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from energyprof.carbon import numbers, workload


@pytest.mark.parametrize(
    ("said", "hours"),
    [
        ("120", 120),
        ("3.5h", 3.5),
        ("90 min", 1.5),
        ("2 days", 48),
        ("1h30", 1.5),
        ("1h30m", 1.5),
        ("1 h 30 min", 1.5),
        ("01:30", 1.5),
        ("1:30:36", 1.51),
        ("100:00", 100),
        ("1h5", 1 + 5 / 60),
    ],
)
def test_times_are_read_as_people_write_them(said: str, hours: float) -> None:
    assert numbers.hours(said) == pytest.approx(hours)


@pytest.mark.parametrize("said", ["0,125", "3,5", "0,350kW", "00,125"])
def test_a_comma_that_may_be_a_decimal_point_is_refused(said: str) -> None:
    for read in (numbers.hours, numbers.watts, numbers.amount):
        with pytest.raises(ValueError, match="give "):
            read(said, "it")


def test_a_comma_parts_thousands() -> None:
    assert (numbers.hours("1,200", "hours"), numbers.watts("10,000 W", "watts")) == (1200, 10_000)


@pytest.mark.parametrize("said", ["1:5", "1:60", "0:00", "1h90", "1:30h", "h30", "1h30d"])
def test_what_is_no_time_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="give a time above zero"):
        numbers.hours(said)


@pytest.mark.parametrize(
    ("refused", "said", "most"),
    [
        (numbers.hours, "1e9", "below 10,000,000 h"),
        (lambda said: numbers.watts(said, "watts"), "1e30", "below 1,000,000,"),
        (lambda said: numbers.amount(said, "flops"), "1e400", r"below 1e\+100"),
        (lambda said: numbers.share(said, "mfu"), "2", "a share of 1"),
        (lambda said: workload.ask(gpu="A100", hours=1, count=said), "1e12", "from 1 to 10,000,000"),
    ],
)
def test_a_refusal_names_the_upper_end(refused: Callable[[str], object], said: str, most: str) -> None:
    with pytest.raises(ValueError, match=most):
        refused(said)


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="not asked with 'cnt'; it takes gpu, count, hours"):
        workload.ask(gpu="A100", hours=3, cnt=2)
