"""Intensities agree with the table they come from, and every refusal is one line that helps."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from energyprof.carbon.intensity import (
    WORLD_RANGE_G_PER_KWH,
    MissingTable,
    UnknownPlace,
    resolve,
)
from energyprof.reasons import ASSUMED_LOCATION

TWENTY = (
    *("FRA", "DEU", "USA", "GBR", "IND", "CAN", "CHN", "JPN", "BRA", "AUS"),
    *("ZAF", "POL", "NOR", "SWE", "ESP", "ITA", "KOR", "MEX", "NGA", "TKM"),
)


@pytest.fixture(scope="module")
def shipped() -> Path:
    spec = find_spec("codecarbon")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("codecarbon is not installed")
    return Path(spec.submodule_search_locations[0]) / "data" / "private_infra"


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize("code", TWENTY)
def test_a_country_agrees_exactly_with_the_shipped_table(code: str, shipped: Path) -> None:
    row = json.loads((shipped / "global_energy_mix.json").read_text(encoding="utf-8"))[code]
    found = resolve(code)
    assert (found.g_per_kwh, found.year) == (row["carbon_intensity"], row["year"])
    assert (found.place, found.place_name, found.flags) == (
        code,
        row["country_name"],
        (),
    )


def test_lower_case_and_blanks_around_a_code_are_accepted() -> None:
    assert resolve(" fra\n") == resolve("FRA")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Frnace", "FRA"),
        ("korea", "KOR"),
        ("GER", "DEU"),
        ("oh", "US-OH"),
        ("californa", "US-CA"),
        ("quebek", "CA-QC"),
        ("SE9", "SE"),
        ("us-est-1", "aws:us-east-1"),
        ("gcp:europe-west99", "gcp:europe-west9"),
        ("azure:weseurope", "azure:westeurope"),
    ],
)
def test_an_unknown_place_names_the_nearest_ones_in_one_line(typed: str, meant: str) -> None:
    with pytest.raises(UnknownPlace, match=meant) as refused:
        resolve(typed)
    assert "\n" not in str(refused.value)
    assert "give the intensity" in str(refused.value)


@pytest.mark.parametrize(("typed", "meant"), [("FRANCE", "FRA"), ("germany", "DEU"), ("California", "US-CA")])
def test_a_name_in_full_is_that_place(typed: str, meant: str) -> None:
    assert resolve(typed) == resolve(meant)


def test_a_name_that_two_places_have_is_neither() -> None:
    with pytest.raises(UnknownPlace, match=r"did you mean GEO \(Georgia\), US-GA \(Georgia\)\?"):
        resolve("georgia")


@pytest.mark.parametrize("typed", ["", "   ", "\x00\n\n", "x" * 100_000, "数", 5, b"FRA", ("FRA",), True])
def test_nonsense_is_an_unknown_place_in_one_short_line(typed: object) -> None:
    with pytest.raises(UnknownPlace) as refused:
        resolve(typed)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 250


def test_a_country_at_zero_is_refused_as_a_gap_in_the_data() -> None:
    with pytest.raises(UnknownPlace, match=r"Central African Republic .* gap in the data"):
        resolve("CAF")


def test_neither_given_is_the_flagged_world_average() -> None:
    found = resolve()
    assert (found.g_per_kwh, found.place, found.year) == (475.0, "WORLD", 2019)
    assert found.flags == (ASSUMED_LOCATION,)
    assert "IEA" in found.source


def test_the_world_average_has_the_range_of_the_countries_that_can_be_used(shipped: Path) -> None:
    table = json.loads((shipped / "global_energy_mix.json").read_text(encoding="utf-8"))
    usable = []
    for code in table:
        with suppress(UnknownPlace):
            usable.append(resolve(code).g_per_kwh)
    found = resolve()
    assert (found.lo_g_per_kwh, found.hi_g_per_kwh) == (min(usable), max(usable)) == WORLD_RANGE_G_PER_KWH
    assert len(usable) == 213 - 8  # CAF, COK, ESH, FLK, LSO, MSR, SHN, SLE


@pytest.mark.parametrize("value", [0, 0.0, 56, 9_999.99])
def test_a_given_intensity_is_taken_as_it_is(value: float) -> None:
    found = resolve(intensity=value)
    assert (found.g_per_kwh, found.place, found.year, found.flags) == (
        float(value),
        "",
        None,
        (),
    )
    assert (found.scope, found.lo_g_per_kwh, found.hi_g_per_kwh) == ("as given by the user", None, None)


@pytest.mark.parametrize("value", [-1e-9, 10_000, math.nan, math.inf, -math.inf, "56", True, [1], 10**400])
def test_an_impossible_intensity_is_refused_in_one_line(value: object) -> None:
    with pytest.raises(ValueError, match="intensity must be a number of g/kWh") as refused:
        resolve(intensity=value)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 150


def test_a_country_and_an_intensity_together_are_refused() -> None:
    with pytest.raises(ValueError, match="choose one"):
        resolve("FRA", 56.0)


def test_a_moved_table_says_what_to_install_and_the_world_average_still_stands(
    tmp_path: Path,
) -> None:
    with pytest.raises(MissingTable, match="install 'codecarbon"):
        resolve("FRA", data_dir=tmp_path)
    assert resolve(data_dir=tmp_path) == resolve()


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"FRA": 1}', '{"world_average": null}', '{"world_average": "x"}']
)
def test_a_damaged_table_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    for name in ("carbon_intensity_per_source.json", "global_energy_mix.json"):
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert resolve(data_dir=tmp_path).g_per_kwh == 475.0
    with pytest.raises(MissingTable):
        resolve("FRA", data_dir=tmp_path)


def test_without_codecarbon_the_world_average_stands_and_a_country_is_refused() -> None:
    hidden = "import sys; sys.modules['codecarbon'] = None; from energyprof.carbon.intensity import resolve\n"
    assert run_python(hidden + "print(resolve().g_per_kwh)") == "475.0"
    refused = hidden + "try: resolve('FRA')\nexcept ValueError as error: print(type(error).__name__)"
    assert run_python(refused) == "MissingTable"


def test_a_lookup_loads_neither_numpy_nor_pandas_nor_torch_nor_codecarbon() -> None:
    heavy = "{'numpy', 'pandas', 'torch', 'codecarbon', 'pyarrow'}"
    code = "import sys; from energyprof.carbon.intensity import resolve; resolve('FRA'); resolve();"
    assert run_python(code + f"print(sorted({heavy} & set(sys.modules)))") == "[]"
