"""Numbers and names as text: no more digits than the interval allows, and one line whatever the name."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyprof.reports.numbers import clean, duration, energy, quantity, ranged, table
from energyprof.reports.text import details, listing, summary
from energyprof.schema import CHANNELS, INTERVALS, RUNS

PREFIX = {"P": 1e15, "T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3, "": 1.0, "m": 1e-3, "µ": 1e-6}


@pytest.mark.parametrize(
    ("value", "u95", "text"),
    [
        (1234.5, 61.0, "1.23 ± 0.06 kJ"),
        (1234.5, 161.0, "1.23 ± 0.16 kJ"),
        (1234.5, 2.4, "1.2345 ± 0.0024 kJ"),
        (1.0, 5.0, "1 ± 5 J"),
        (0.0, 0.012, "0 ± 12 mJ"),
        (5.4e6, 0.3e6, "5.4 ± 0.3 MJ"),
        (5.4e9, 1.3e9, "5.4 ± 1.3 GJ"),
        (0.19, 0.13, "190 ± 130 mJ"),
        (12.0, None, "12.0 J"),
        (12.0, 0.0, "12.0 J"),
        (0.0, 0.0, "0 J"),
    ],
)
def test_an_energy_has_the_digits_that_its_interval_allows(
    value: float, u95: float | None, text: str
) -> None:
    assert energy(value, u95) == text


def test_an_energy_without_a_figure_says_why() -> None:
    assert energy(None, None, "below_resolution") == "— (below_resolution)"
    assert energy(None, 3.0) == "— (unknown)"


@given(st.floats(0, 1e12), st.floats(1e-9, 1e12))
def test_an_energy_reads_back_within_its_own_digits(value: float, u95: float) -> None:
    text = energy(value, u95)
    found = re.fullmatch(r"(-?[\d.]+) ± ([\d.]+) ([PTGMkmµ]?)J", text)
    assert found, text
    unit = PREFIX[found[3]]
    assert math.isclose(float(found[2]) * unit, u95, rel_tol=0.2)
    assert abs(float(found[1]) * unit - value) <= 0.2 * u95 + 1e-9 * value
    assert len(found[2].strip("0.").replace(".", "")) <= 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5, "1.23 kJ"),
        (12.345, "12.3 J"),
        (0.0123, "12.3 mJ"),
        (1.5e-6, "1.50 µJ"),
        (0.0, "0 J"),
        (3.2e10, "32.0 GJ"),
        (-5.0, "-5.00 J"),
        (999.6, "1.00 kJ"),
    ],
)
def test_quantities_have_three_digits_and_a_prefix(value: float, text: str) -> None:
    assert quantity(value, "J") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.0451, "45.1 ms"),
        (0.3, "0.300 s"),
        (24.33, "24.3 s"),
        (59.97, "1 min 00 s"),
        (60.0, "1 min 00 s"),
        (3599.7, "1 h 00 min"),
        (7500.0, "2 h 05 min"),
        (90000.0, "25 h 00 min"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.text(st.characters()))
def test_any_text_becomes_one_printable_line(text: str) -> None:
    assert clean(text).isprintable()
    assert len(clean(text).splitlines()) <= 1
    clean(text).encode("utf-8")


def test_printable_text_of_any_script_stays_as_it_is() -> None:
    assert clean("模型/α ± é") == "模型/α ± é"
    assert clean("a\nb\x1b[0m") == "a\\nb\\x1b[0m"


def test_a_table_is_as_wide_as_its_cells_and_has_no_blanks_at_the_ends() -> None:
    assert table([["a", "b"], ["long", "1"], ["x", "10"]], right=[1]) == ["a      b", "long   1", "x     10"]


def a_run(**values: object) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(name for name, _, _ in RUNS)
    return row | {
        "run_id": "01a1fb85-f6c6-754a-bd7c-2be0d0a44119",
        "node": "n",
        "name": "x",
        "status": "finished",
        "duration_s": 3.0,
        "energy_j": 100.0,
        "u95_j": 5.0,
        "co2e_g": 0.01,
        "intensity_g_per_kwh": 475.0,
        "intensity_place": "WORLD",
        "intensity_year": 2019,
        "flags": "assumed_location",
        **values,
    }


def a_channel(name: str, method: str = "counter") -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(column for column, _, _ in CHANNELS)
    return row | {"channel": name, "method": method, "energy_j": 10.0, "u95_j": 1.0, "in_total": True}


def a_region(name: str, joules: float = 10.0) -> dict[str, object]:
    row: dict[str, object] = dict.fromkeys(column for column, _, _ in INTERVALS)
    return row | {
        "region": name, "channel": "total", "depth": 0, "calls": 1, "duration_s": 1.0, "energy_j": joules,
    }  # fmt: skip


def test_a_run_with_everything_is_told_in_twelve_lines() -> None:
    missing = [
        {"source": f"s{i}", "reason": "not_supported", "detail": "why\nnot", "remedy": "r"} for i in range(9)
    ]
    run = a_run(
        name="a\nb",
        power_w=33.0,
        steps=5,
        energy_per_step_j=20.0,
        samples=10.0,
        tokens=1e6,
        missing=json.dumps(missing),
    )
    channels = [a_channel(f"gpu:{i}") for i in range(8)] + [a_channel("package:0", "modelled")]
    lines = summary(run, channels, [a_region(f"r\n{i}") for i in range(20)])
    assert len(lines) <= 12
    assert all(line.isprintable() for line in lines)
    assert lines[0] == "a\\nb: finished in 3.00 s"
    assert lines[1] == "  energy    100 ± 5 J  (33.0 ± 1.6 W on average, 20.0 ± 1.0 J a step over 5 steps)"
    assert "4 more" in lines[2]
    assert lines[-1] == "  next      energyprof show 01a1fb85-f6c6"
    assert any("world average 2019; say --country" in line for line in lines)


def test_a_run_that_measured_nothing_says_so() -> None:
    lines = summary(a_run(), [a_channel("package:0", "modelled")], [])
    assert "  measured  nothing: no meter can be read here (`energyprof doctor`)" in lines


def test_where_the_energy_went_is_left_out_where_regions_overlap() -> None:
    overlapping = {**a_region("a"), "flags": "overlap"}
    assert not any("where" in line for line in summary(a_run(), [], [overlapping]))
    assert any("where     a 10 %" in line for line in summary(a_run(), [], [a_region("a")]))


def test_details_and_listings_take_rows_of_which_all_but_the_id_is_null() -> None:
    empty = {**dict.fromkeys(name for name, _, _ in RUNS), "run_id": "01a1fb85-f6c6-754a-bd7c-2be0d0a44119"}
    assert len(listing([empty])) == 2
    assert details(empty, [], [])


def test_the_details_of_a_run_say_whose_the_figures_of_its_grams_are() -> None:
    aws = {"pue": 1.15, "pue_lo": 1.04, "pue_hi": 1.44, "pue_source": "AWS, fleet 2024"}
    france = {
        "intensity_g_per_kwh": 56.0,
        "intensity_lo_g_per_kwh": 17.8,
        "intensity_hi_g_per_kwh": 176.8,
        "intensity_place": "FRA",
        "intensity_place_name": "France",
        "intensity_year": 2023,
        "intensity_source": "Our World in Data; it stands in, since 127.0.0.1 did not answer\nin time",
        "intensity_scope": "life cycle",
    }
    lines = details(a_run(**aws, **france, embodied_g=0.1, embodied_source="1 x 164 kg"), [], [])
    assert (
        "intensity: 56 (17.8 to 176.8) g/kWh, France 2023: Our World in Data; it stands in, since 127.0.0.1 did not "
        "answer\\nin time; life cycle"
    ) in lines
    lost = details(a_run(pue_source="left out: no cloud\n", pue=None), [], [])
    assert "PUE: — (left out: no cloud\\n)" in lost
    assert {"PUE: 1.15 (1.04 to 1.44): AWS, fleet 2024", "embodied: 1 x 164 kg"} < {*lines}


def test_an_end_of_an_interval_that_is_not_zero_is_not_told_as_zero() -> None:
    assert ranged(193e-6, 25.3e-6, 703e-6, "g") == "190 (25 to 700) µg"
    assert ranged(56.0, 0.0, 177.0, "g") == "56 (0 to 180) g"
    assert ranged(1.234, 1.051, 1.6, "g") == "1.23 (1.05 to 1.60) g"
