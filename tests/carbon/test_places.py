"""Places of every kind agree exactly with the data's own figures, worked out here apart; bad rows are refused."""

from __future__ import annotations

import csv
import json
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from energyprof.carbon import cloud, subdivisions
from energyprof.carbon.intensity import Intensity, MissingTable, UnknownPlace, resolve
from energyprof.carbon.spread import interval

SPEC = find_spec("codecarbon")
pytestmark = pytest.mark.skipif(SPEC is None, reason="codecarbon is not installed")
DATA = (
    Path(SPEC.submodule_search_locations[0]) / "data" if SPEC and SPEC.submodule_search_locations else Path()
)


def of(name: str) -> Any:
    return json.loads((DATA / "private_infra" / name).read_text(encoding="utf-8"))


def country(code: str) -> tuple[float, int]:
    row = of("global_energy_mix.json")[code]
    return row["carbon_intensity"], row["year"]


def state(name: str) -> tuple[float, int]:
    table = of("2023/usa_emissions.json")
    # lb/MWh -> g/kWh: 453.59237 g a pound, 1,000 kWh a MWh.
    exact = Fraction(str(table[name]["emissions"])) * Fraction("453.59237") / 1000
    return float(exact), table["_source"]["year"]


def province(name: str) -> tuple[float, int]:
    mix, each = of("2023/canada_energy_mix.json")[name], of("carbon_intensity_per_source.json")
    named = (
        ("coal", "coal"),
        ("naturalGas", "natural_gas"),
        ("petroleum", "petroleum"),
        ("biomass", "biomass"),
        ("nuclear", "nuclear"),
        ("hydro", "hydroelectricity"),
        ("wind", "wind"),
        ("solar", "solar"),
    )
    assert mix["tidal"] == mix["other"] == 0
    parts = [(Fraction(str(mix[ours])), Fraction(str(each[theirs]))) for ours, theirs in named]
    return float(sum(share * g for share, g in parts) / sum(share for share, _ in parts)), 2023


def chinese(code: str) -> tuple[float, int]:
    row = of("2023/china_provincial_emissions.json")["data"][code]
    return row["emission_factor"], row["year"]


def zone(code: str) -> tuple[float, int]:
    row = of("nordic_emissions.json")["data"][code]
    return row["emission_factor"], row["year"]


def google(region: str) -> tuple[float, int]:
    with (DATA / "cloud/impact.csv").open(encoding="utf-8-sig", newline="") as file:
        (row,) = (row for row in csv.DictReader(file) if row["region"] == region)
    return float(row["impact"]), 2023


TWENTY = {
    "FRA": ("FRA", lambda: country("FRA")),
    "jp": ("JPN", lambda: country("JPN")),
    "UK": ("GBR", lambda: country("GBR")),
    "FI": ("FIN", lambda: country("FIN")),
    "US-CA": ("US-CA", lambda: state("california")),
    "USA/west virginia": ("US-WV", lambda: state("west virginia")),
    "usa-vt": ("US-VT", lambda: state("vermont")),
    "CA-QC": ("CA-QC", lambda: province("quebec")),
    "CAN/Québec": ("CA-QC", lambda: province("quebec")),
    "CAN/alberta": ("CA-AB", lambda: province("alberta")),
    "CN-BJ": ("CN-BJ", lambda: chinese("CN-BJ")),
    "CHN/inner-mongolia": ("CN-NM", lambda: chinese("CN-NM")),
    "SE3": ("SE3", lambda: zone("SE3")),
    "no-no4": ("NO4", lambda: zone("NO4")),
    "gcp:europe-west9": ("gcp:europe-west9", lambda: google("europe-west9")),
    "us-central1-a": ("gcp:us-central1", lambda: google("us-central1")),
    "gcp:me-central1": ("gcp:me-central1", lambda: google("me-cenrtal1")),
    "aws:eu-west-3": ("aws:eu-west-3", lambda: country("FRA")),
    "us-east-1": ("aws:us-east-1", lambda: state("virginia")),
    "aws:ca-central-1": ("aws:ca-central-1", lambda: province("quebec")),
    "azure:westus2": ("azure:westus2", lambda: state("washington")),
    "swedencentral": ("azure:swedencentral", lambda: zone("SE3")),
    "amazon:eu-north-1b": ("aws:eu-north-1", lambda: zone("SE3")),
}


@pytest.mark.parametrize("typed", TWENTY)
def test_a_place_of_any_kind_agrees_exactly_with_the_datas_own_figure(typed: str) -> None:
    code, expected = TWENTY[typed]
    found = resolve(typed)
    assert found.place == code
    assert found.g_per_kwh == pytest.approx(expected()[0], rel=4e-16)
    assert found.year == expected()[1]
    assert_said(found)


def assert_said(found: Intensity) -> None:
    """Every figure has a name, a source, a scope and an interval about it."""
    assert found.place_name
    assert "in CodeCarbon" in found.source
    assert found.scope
    assert found.lo_g_per_kwh is not None
    assert found.hi_g_per_kwh is not None
    assert 0 < found.lo_g_per_kwh < found.g_per_kwh < found.hi_g_per_kwh
    assert found.flags == ()


def test_each_figure_of_each_table_is_found_by_its_code_or_refused_with_its_reason() -> None:
    folder = DATA / "private_infra"
    codes = [*of("global_energy_mix.json"), *cloud.google(folder).keys()]
    for rows in (subdivisions.states, subdivisions.provinces, subdivisions.chinese, subdivisions.zones):
        codes += rows(folder)
    codes += [f"{p}:{name}" for p, about in cloud.known().items() for name in about["regions"]]
    assert len(codes) > 450
    refused = {}
    for code in codes:
        try:
            assert_said(resolve(code))
        except UnknownPlace as fault:
            refused[code] = str(fault)
    assert all(
        "in the table" in why and why.endswith("give the intensity in g/kWh") for why in refused.values()
    )
    assert set(refused) == {"CAF", "COK", "ESH", "FLK", "LSO", "MSR", "SHN", "SLE"}


def test_every_region_of_a_cloud_lies_on_a_grid_of_the_tables_and_no_two_providers_share_a_name() -> None:
    names: list[str] = []
    for about in cloud.known().values():
        assert about["url"].startswith("https://")
        for name, (code, city) in about["regions"].items():
            row = subdivisions.grid(code, DATA / "private_infra")
            assert row is not None
            assert not row.problem
            assert city
            names.append(name)
    assert len(names) == len(set(names)) > 140
    assert set(cloud.google(DATA / "private_infra")) <= set(cloud.known()["gcp"]["regions"])


@pytest.mark.parametrize(
    ("typed", "one", "other"), [("CA", "CAN", "US-CA"), ("DE", "DEU", "US-DE"), ("nl", "NLD", "CA-NL")]
)
def test_two_letters_that_mean_two_places_are_refused_with_both_named(
    typed: str, one: str, other: str
) -> None:
    with pytest.raises(UnknownPlace, match=f"say {one} or {other}") as refused:
        resolve(typed)
    assert "\n" not in str(refused.value)


def test_a_region_of_google_has_googles_figure_and_a_newer_one_that_of_its_grid() -> None:
    assert resolve("gcp:europe-west9").source.startswith("Google Cloud region carbon data")
    assert resolve("gcp:europe-north2").g_per_kwh == resolve("SE3").g_per_kwh
    assert cloud.grid_of("gcp", "europe-west9") == "FRA"


def test_two_letters_that_mean_one_country_are_stored_as_three_and_the_source_says_so() -> None:
    assert resolve("fr").place == "FRA"
    assert resolve("fr").source.endswith("FR read as FRA")
    assert resolve("FRA").source in resolve("fr").source


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("CAF", "gap in the data"),
        ("ESH", "2009"),
        ("MSR", "rounding"),
        ("LIE", "no figure"),
        ("LI", "no figure"),
    ],
)
def test_a_country_without_a_usable_figure_is_refused_with_the_reason(code: str, why: str) -> None:
    with pytest.raises(UnknownPlace, match=why) as refused:
        resolve(code)
    assert "give the intensity" in str(refused.value)
    assert "did you mean" not in str(refused.value)


def test_a_lower_bound_says_what_it_leaves_out_and_reaches_further_up() -> None:
    low, plain = resolve("SE4"), interval(24.7)
    assert "14.95% of it is counted as nothing" in low.scope
    assert low.lo_g_per_kwh == plain[0]
    assert low.hi_g_per_kwh is not None
    assert low.hi_g_per_kwh > plain[1] + 5


@pytest.mark.parametrize(
    "typed", ["US-", "US-XX", "USA/", "-", "/", ":", "gcp:", "foo:bar", "CHN/tibet", "SE5", "aws:"]
)
def test_a_place_that_is_half_said_is_unknown_in_one_line(typed: str) -> None:
    with pytest.raises(UnknownPlace) as refused:
        resolve(typed)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 250


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"data": 3}', '{"data": {"SE3": 5}, "x": {"regionCode": 7}}']
)
def test_damaged_tables_of_parts_of_countries_are_as_good_as_none(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "data" / "private_infra"
    (folder / "2023").mkdir(parents=True)
    for name in (subdivisions.STATES, subdivisions.PROVINCES, subdivisions.CHINA, subdivisions.NORDIC):
        (folder / name).write_text(content, encoding="utf-8")
    for typed in ("US-CA", "CA-QC", "CN-BJ", "SE3", "aws:us-east-1", "gcp:europe-west9"):
        with pytest.raises(MissingTable):
            resolve(typed, data_dir=folder)


def test_a_figure_that_is_no_number_in_a_table_is_a_gap(tmp_path: Path) -> None:
    (tmp_path / "2023").mkdir()
    states = {"_source": {"name": "eGRID"}, "ohio": {"regionCode": "OH", "emissions": "much"}}
    (tmp_path / subdivisions.STATES).write_text(json.dumps(states))
    (tmp_path / "global_energy_mix.json").write_text('{"FRA": {"carbon_intensity": null, "year": 2023}}')
    for typed in ("US-OH", "aws:us-east-2", "FRA"):
        with pytest.raises(UnknownPlace, match="gap in the data"):
            resolve(typed, data_dir=tmp_path)


@pytest.mark.parametrize("g_per_kwh", [0.5, 25.0, 56.0, 400.0, 1300.0])
def test_an_interval_is_the_same_ratio_down_as_up_and_wider_with_rounding(g_per_kwh: float) -> None:
    lo, hi = interval(g_per_kwh)
    assert 0 < lo < g_per_kwh < hi
    assert g_per_kwh / lo == pytest.approx(hi / g_per_kwh)
    assert interval(g_per_kwh, rounding=0.4)[1] > hi
    assert interval(g_per_kwh, uncounted_g_per_kwh=30.0) == (
        lo,
        pytest.approx(((hi - g_per_kwh) ** 2 + 900) ** 0.5 + g_per_kwh),
    )
