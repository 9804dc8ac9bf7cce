"""A series says what held when, has holes where nothing is known, and is refused in one line where it lies."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyprof.carbon import price, series
from energyprof.carbon.series_file import read

HOURLY = "time,g_per_kwh\n" + "".join(f"2026-11-20T{hour:02d}:00Z,{100 + hour}\n" for hour in range(6))
FIRST = datetime(2026, 11, 20, tzinfo=timezone.utc).timestamp()


def written(folder: Path, text: str, name: str = "series.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_each_figure_holds_from_its_time_to_the_next_and_the_last_as_long_as_the_others(
    tmp_path: Path,
) -> None:
    found = read(written(tmp_path, HOURLY))
    assert (found.begin_s[0], found.end_s) == (FIRST, FIRST + 6 * 3600)
    assert found.at([FIRST - 1, FIRST, FIRST + 3599, FIRST + 3600, FIRST + 6 * 3600]).tolist()[1:4] == [
        100,
        100,
        101,
    ]
    assert found.mean(FIRST + 1800, FIRST + 5400) == 100.5
    assert found.cumulative(FIRST + 7200) == 3600 * 201


@pytest.mark.parametrize(
    "text",
    [
        HOURLY.replace("Z", "+00:00"),
        HOURLY.replace("T", " ").replace("Z", "").replace("time", "Datetime (UTC)"),
        HOURLY.replace(",", ";").replace("g_per_kwh", "gCO2/kWh"),
        HOURLY.replace("time,g", "zone,time,g").replace("2026", "FR,2026"),
        "\ufeff" + HOURLY.replace("\n", "\r\n"),
        "time,kg_per_kwh\n" + "".join(f"{FIRST + 3600 * h:.0f},{(100 + h) / 1000}\n" for h in range(6)),
        "time,g_per_kwh\n" + "".join(f"2026-11-20T{h + 5:02d}:30:00+05:30,{100 + h}\n" for h in range(6)),
    ],
)
def test_the_forms_in_which_people_have_such_files_are_read_alike(tmp_path: Path, text: str) -> None:
    found, plain = read(written(tmp_path, text)), read(written(tmp_path, HOURLY, "plain.csv"))
    assert found.begin_s.tolist() == plain.begin_s.tolist()
    assert found.value == pytest.approx(plain.value)


def test_a_column_may_be_named_after_a_place_with_the_letters_of_pounds(tmp_path: Path) -> None:
    found = read(written(tmp_path, HOURLY.replace("g_per_kwh", "Alberta gCO2/kWh")))
    assert found.value[0] == 100


def test_kilograms_are_told_by_a_word_and_not_by_two_letters(tmp_path: Path) -> None:
    assert read(written(tmp_path, HOURLY.replace("g_per_kwh", "background gCO2/kWh"))).value[0] == 100
    for head in ("kg_per_kwh", "kgCO2e/kWh", "intensity (kg/kWh)", "co2_kg_per_kwh"):
        assert (
            read(written(tmp_path, HOURLY.replace(",10", ",0.10").replace("g_per_kwh", head))).value[0] == 100
        )


def test_a_parquet_file_is_read_as_the_csv_is(tmp_path: Path) -> None:
    plain = read(written(tmp_path, HOURLY))
    times = pa.array((plain.begin_s * 1e6).astype(np.int64), pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({"time": times, "g_per_kwh": plain.value}), tmp_path / "s.parquet")
    found = read(tmp_path / "s.parquet")
    assert (found.begin_s.tolist(), found.value.tolist()) == (plain.begin_s.tolist(), plain.value.tolist())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("time,g_per_kwh\n2026-11-20T00:00Z,50\n", "at least two rows"),
        (HOURLY.replace("T03", "T01"), "row 4 (2026-11-20T01:00:00Z) is earlier than the row before it"),
        (HOURLY.replace("T03", "T02"), "row 4 (2026-11-20T02:00:00Z) has the time of the row before it"),
        (HOURLY.replace("Z", ""), "has no zone; write 2026-11-20T00:00Z for UTC"),
        ("time,g_per_kwh\n2026-11-20,5\n2026-11-21,6\n", "has no zone; write 2026-11-20T00:00Z for UTC"),
        ("time,g_per_kwh\n2026-02-30T00:00Z,5\n2026-03-01T00:00Z,6\n", "'2026-02-30T00:00Z' is no time"),
        (HOURLY.replace("g_per_kwh", "renewable_percentage"), "name it g_per_kwh if that is what it has"),
        (HOURLY.replace("g_per_kwh", "kg_per_kwh"), "100 kg/kWh in row 1 is none"),
        (HOURLY.replace("103", "-3"), "-3 g/kWh in row 4 is none"),
        (HOURLY.replace("103", "1030000"), "g/kWh in row 4 is none"),
        (HOURLY.replace("103", "inf"), "infinite"),
        (HOURLY.replace("103", "many"), "'many' in row 4 is no number"),
        (HOURLY.replace("2026-11-20T03:00Z", "yesterday"), "'yesterday' is no time"),
        (HOURLY.replace(",10", ",0.10").replace("g_per_kwh", "intensity"), "looks like kg"),
        (HOURLY.replace("g_per_kwh", "lbs/MWh"), "pounds"),
        (HOURLY.replace("g_per_kwh", "lb_per_mwh"), "pounds"),
        (HOURLY.replace("g_per_kwh", "kgCO2/MWh"), "is a MWh's; give grams"),
        (HOURLY.partition("\n")[2], "has no head; name its columns"),
        (HOURLY.replace(",103", ",103,7"), "line 5 has 3 columns"),
        ("a,b,c\n1,2,3\n", "name them time and g_per_kwh"),
        ("time\n1\n2\n", "one column"),
        ("time,g_per_kwh\n1700000000000,5\n1700003600000,5\n", "milliseconds"),
        ("time,g_per_kwh\n1700000000,\n1700003600,\n", "no row has a figure"),
    ],
)
def test_a_series_without_sense_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^series\.csv") as refused:
        read(written(tmp_path, text))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["nowhere.csv", "nowhere.parquet"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"cannot read {name}: No such file"):
        read(tmp_path / name)


def test_a_file_that_is_no_text_and_one_that_is_no_parquet_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00PAR1")
    (tmp_path / "a.parquet").write_text(HOURLY)
    with pytest.raises(ValueError, match="no text"):
        read(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="no parquet file"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ([[50.0], [51.0]], r"'\[50.0\]' is no number"),
        ([{"a": 50.0}, {"a": 51.0}], "is no number"),
        ([True, False], "'True' is no number"),
        (None, "no column"),
    ],
)
def test_a_parquet_column_of_no_figures_is_refused_in_one_line(
    tmp_path: Path, figures: list[object] | None, said: str
) -> None:
    times = pa.array([0, 3600_000_000], pa.timestamp("us", tz="UTC"))
    columns = {} if figures is None else {"time": times, "g_per_kwh": figures}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=rf"^a\.parquet: .*{said}"):
        read(tmp_path / "a.parquet")


def test_a_longer_step_among_equal_ones_is_a_hole_and_so_is_an_empty_figure(tmp_path: Path) -> None:
    rows = HOURLY.splitlines(keepends=True)
    found = read(written(tmp_path, "".join([*rows[:3], *rows[5:]])))
    assert np.isnan(found.at([FIRST + 2.5 * 3600, FIRST + 3.5 * 3600])).all()
    assert found.covered_s(FIRST, found.end_s) == 4 * 3600
    assert found.mean(FIRST + 3600, FIRST + 5 * 3600) == (101 + 104) / 2
    empty = read(written(tmp_path, HOURLY.replace("103", "")))
    assert np.isnan(empty.at(FIRST + 3.5 * 3600))


def test_a_series_that_is_written_where_it_changes_has_no_holes(tmp_path: Path) -> None:
    text = "time,g_per_kwh\n" + "".join(
        f"2026-11-{day}T{hour}:00Z,{g}\n"
        for day in (20, 21)
        for hour, g in (("00", 50), ("07", 300), ("22", 60))
    )
    found = read(written(tmp_path, text))
    assert not np.isnan(found.value).any()
    assert found.mean(FIRST, FIRST + 86400) == (7 * 50 + 15 * 300 + 2 * 60) / 24


@given(
    st.lists(st.floats(0, 5000), min_size=2, max_size=20), st.lists(st.floats(-5, 25), min_size=3, max_size=3)
)
def test_the_integral_of_two_parts_is_that_of_the_whole(values: list[float], times: list[float]) -> None:
    found = series.series(3600.0 * np.arange(len(values)), np.array(values))
    a, b, c = found.cumulative(3600.0 * np.sort(times))
    assert a <= b <= c
    step = 3600.0 * np.arange(len(values) + 1)
    assert found.cumulative(step[-1]) == pytest.approx(3600.0 * sum(values), abs=1e-6)


@pytest.mark.parametrize(
    ("said", "currency", "at_3", "at_12"),
    [
        (0.25, "", 0.25, 0.25),
        ("0.25", "", 0.25, 0.25),
        ("0.25 EUR", "EUR", 0.25, 0.25),
        ("€0.25", "EUR", 0.25, 0.25),
        ("USD 0.25/kWh", "USD", 0.25, 0.25),
        ("0.25eur", "EUR", 0.25, 0.25),
        ("0.30 EUR, 22-6 0.18 EUR", "EUR", 0.18, 0.30),
        ("0.30 EUR, 22-6 0.18", "EUR", 0.18, 0.30),
        ("0.30 EUR, 22-6 0.18, 11-13 0.4, Europe/Paris", "EUR", 0.18, 0.4),
    ],
)
def test_a_price_is_read_as_people_write_it(said: object, currency: str, at_3: float, at_12: float) -> None:
    found = price.parse(said)
    assert (found.currency, found.at_hour(3), found.at_hour(12)) == (currency, at_3, at_12)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "cheap",
        "-1 EUR",
        "nan",
        True,
        "0.3 EUR, 25-3 0.1",
        "0.3, 6-6 0.1",
        "0.3 EUR, 22-6 0.1 USD",
        "0.3, Moon/Base",
        [1],
    ],
)
def test_a_price_without_sense_is_refused_in_one_line(said: object) -> None:
    with pytest.raises(ValueError, match=r"price|time zone") as refused:
        price.parse(said)
    assert "\n" not in str(refused.value)


def test_a_tariff_changes_on_the_hours_of_its_zone() -> None:
    found = price.parse("0.30 EUR, 22-6 0.18, Europe/Paris")
    begin = datetime(2026, 11, 20, 20, 40, tzinfo=timezone.utc).timestamp()  # 21:40 in Paris
    steps = found.over(begin, begin + 3600)
    assert steps.edges_s.tolist() == [begin, begin + 1200, begin + 3600]
    assert steps.value.tolist() == [0.30, 0.18]


def test_one_file_may_have_intensities_and_prices_and_neither_is_taken_for_the_other(tmp_path: Path) -> None:
    both = written(tmp_path, HOURLY.replace("g_per_kwh", "price,g_per_kwh").replace("Z,", "Z,0.25,"))
    tariff = price.parse(f"{both} EUR").series
    assert tariff is not None
    assert (read(both).value[1], tariff.value[1]) == (101, 0.25)
    with pytest.raises(ValueError, match="its column is 'g_per_kwh'; name it price if"):
        price.parse(f"{written(tmp_path, HOURLY)} EUR")


def test_prices_of_a_megawatt_hour_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, HOURLY.replace("g_per_kwh", "EUR/MWh"))
    with pytest.raises(ValueError, match="'EUR/MWh' is a MWh's; give the price of a kWh"):
        price.parse(f"{path} EUR")


@pytest.mark.parametrize(
    "head", ["price (ct/kWh)", "price_ct_per_kwh", "cost c/kWh", "Cents per kWh tariff", "p/kWh price"]
)
def test_prices_in_hundredths_are_refused(tmp_path: Path, head: str) -> None:
    path = written(tmp_path, HOURLY.replace("g_per_kwh", head))
    with pytest.raises(ValueError, match="is in hundredths; give the price in the currency itself"):
        price.parse(f"{path} EUR")
    for fine in ("price", "price_eur_per_kwh", "spot price EUR", "cost_per_kwh"):
        written(tmp_path, HOURLY.replace("g_per_kwh", fine))
        assert price.parse(f"{path} EUR").series is not None


def test_prices_of_a_file_may_be_below_zero(tmp_path: Path) -> None:
    path = written(tmp_path, HOURLY.replace("g_per_kwh", "price").replace("103", "-0.02"))
    found = price.parse(f"{path} EUR")
    assert found.currency == "EUR"
    assert found.over(0, 1).value.tolist()[3] == -0.02


def test_text_that_the_csv_reader_gives_up_on_is_refused_in_one_line(tmp_path: Path) -> None:
    path = written(tmp_path, 'time,g_per_kwh\n2026-11-20T00:00Z,"52\n' + "2026-11-20T01:00Z,53\n" * 10_000)
    with pytest.raises(ValueError, match=r"^series\.csv is no table: field larger"):
        read(path)


def test_what_is_no_file_is_refused_and_not_read_for_ever(tmp_path: Path) -> None:
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"zero\.csv is no file"):
        read(tmp_path / "zero.csv")


def test_a_folder_named_like_a_currency_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EUR").mkdir()
    written(tmp_path / "EUR", HOURLY.replace("g_per_kwh", "price"), "p.csv")
    found = price.parse("EUR/p.csv GBP")
    assert (found.currency, found.series is not None) == ("GBP", True)
