"""A stored run at another site has the figures that it would have had there, and keeps what nobody says anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from energyprof.carbon.site import facts_of
from energyprof.footprint import of_run
from energyprof.restated import restated
from energyprof.tally import figures_on
from tests.test_footprint import T0_NS, T0_S, meter, spans

METERS = [meter([1000.0], 36, gain_u95=0.05)]
MONEY = ("cost", "cost_lo", "cost_hi", "cost_currency", "price_source")


def near(value: Any) -> Any:
    return pytest.approx(value, rel=1e-12) if isinstance(value, float) else value


def stored(said: dict[str, Any], *more: str) -> dict[str, Any]:
    """The row of a run at a site."""
    facts = {"t_ns": T0_NS, "started_unix_ns": int(T0_S * 1e9), "site": facts_of(said) or {"here": None}}
    row, flags = of_run(facts, METERS, spans(36))
    energy = figures_on(METERS, *(np.array([t], np.int64) for t in spans(36)[0]))["total"]
    known = {"energy_j": energy.energy_j, "u95_j": energy.u95_j, "flags": ",".join(sorted([*flags, *more]))}
    return {**row, **known}


def test_a_stored_run_has_at_another_site_what_it_would_have_had_there() -> None:
    there = {"country": "aws:eu-west-3", "pue": "provider", "wue": 1.8, "price": "0.25 EUR"}
    found = restated(stored({}, "overlap"), there)
    second = stored(there)
    assert found.pop("flags") == "overlap"
    assert found == {name: second[name] for name in found}
    with pytest.raises(ValueError, match="figures by the hour"):
        restated(stored({}), {"price": "0.3 EUR, 22-6 0.1"})


@pytest.mark.parametrize(
    "said",
    [
        {"country": "DEU"},
        {"intensity": 52.0},
        {"pue": 1.1},
        {"wue": 3.0},
        {"price": "0.40 USD"},
        {"pue": "provider", "wue": "provider"},
    ],
)
def test_what_is_not_said_anew_is_as_the_run_had_it(said: dict[str, Any]) -> None:
    own = {"country": "aws:eu-west-3", "pue": 1.5, "wue": 1.8, "price": "0.25 EUR"}
    kept = {**own, "country": None} if "intensity" in said else own
    found, wanted = restated(stored(own), said), stored({**kept, **said})
    assert found == {name: near(wanted[name]) for name in found}


def test_a_price_by_the_hour_that_the_run_paid_goes_with_its_pue() -> None:
    own = {"country": "FRA", "pue": 1.5, "price": "0.30 EUR, 0-1 0.10, UTC"}
    found, wanted = restated(stored(own), {"pue": 1.2}), stored({**own, "pue": 1.2})
    assert [found[name] for name in MONEY] == [near(wanted[name]) for name in MONEY]
    assert found["cost"] == pytest.approx(0.01 * 1.2 * 0.10, rel=1e-4)


def test_a_series_that_a_run_was_integrated_with_stays_unless_another_place_is_said(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("time,g_per_kwh\n2026-11-19T23:00Z,50\n2026-11-20T00:00:10Z,700\n")
    run = stored({"country": "FRA", "intensity": str(path)})
    assert restated(run, {"price": "0.3 EUR"})["co2e_g"] == pytest.approx(run["co2e_g"], rel=1e-9)
    assert restated(run, {"pue": 1.2})["co2e_g"] == pytest.approx(1.2 * run["co2e_g"], rel=1e-9)
    assert restated(run, {"country": "DEU"})["intensity_place"] == "DEU"


def test_a_world_average_stays_flagged_and_a_place_takes_the_flag_away() -> None:
    run = stored({})
    assert restated(run, {"pue": 1.2})["flags"] == "assumed_location"
    assert restated(run, {"pue": 1.2, "country": "FRA"})["flags"] == ""
    without = {**run, "intensity_g_per_kwh": None, "intensity_place": None, "co2e_g": None, "flags": ""}
    assert restated(without, {"pue": 1.2})["flags"] == "assumed_location"


def test_the_grams_of_the_whole_training_move_with_the_place() -> None:
    run = {
        **stored({"country": "FRA"}),
        **{"forecast_energy_j": 72e3, "forecast_lo_j": 70e3, "forecast_hi_j": 75e3},
    }
    found = restated(run, {"intensity": 100.0})
    lo, value, hi = (found[f"forecast_co2e{end}_g"] for end in ("_lo", "", "_hi"))
    assert value == pytest.approx(2.0, rel=1e-4)
    assert np.log(value / lo) == pytest.approx(np.hypot(np.log(72 / 70), np.log(1 / 0.95)), rel=1e-3)
    assert np.log(hi / value) == pytest.approx(np.hypot(np.log(75 / 72), np.log(1.05)), rel=1e-3)
    assert "forecast_co2e_g" not in restated(stored({"country": "FRA"}), {"intensity": 100.0})


def test_a_provider_of_no_cloud_is_refused() -> None:
    with pytest.raises(ValueError, match="the place is no cloud region"):
        restated(stored({"country": "FRA"}), {"pue": "provider"})
