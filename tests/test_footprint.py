"""Grams follow power and intensity together: runs of known power against the closed form."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from energyprof.carbon.facility import Overhead
from energyprof.carbon.intensity import Intensity, resolve
from energyprof.carbon.price import parse
from energyprof.carbon.ranges import Range, exact
from energyprof.carbon.series import series
from energyprof.carbon.site import Site, at_start, facts_of, site_of
from energyprof.carbon.spread import interval
from energyprof.collectors.base import Channel
from energyprof.curves import from_counter
from energyprof.footprint import Clock, columns, footprint, making, mean_over, of_run
from energyprof.reasons import INTENSITY_FALLBACK
from energyprof.tally import Meter

KWH = 3.6e6
T0_NS = 5_000_000_000
T0_S = 1_795_132_800.0  # 2026-11-20T00:00Z
CLOCK = Clock(T0_NS, int(T0_S * 1e9))
GIVEN = Site(resolve(None, 100.0))


def meter(watts: list[float], each_s: float, gain_u95: float = 0.0) -> Meter:
    """A counter in microjoules, read every 10 ms, of a power that changes at known times."""
    at_s = np.arange(0.0, each_s * len(watts) + 2.0, 0.01)
    knots = each_s * np.arange(len(watts) + 1)
    energy_j = np.interp(
        at_s, [*knots, knots[-1] + 2], np.cumsum([0, *np.array(watts) * each_s, watts[-1] * 2])
    )
    t_ns = T0_NS + np.rint(at_s * 1e9).astype(np.int64)
    curve = from_counter(t_ns - 1000, t_ns, np.rint(energy_j * 1e6).astype(np.int64), gain_u95=gain_u95)
    return Meter(Channel("package:0", "energy", "counter", "package"), curve, True)


def spans(seconds: float) -> list[tuple[int, int]]:
    return [(T0_NS, T0_NS + int(seconds * 1e9))]


def test_a_step_in_intensity_gives_the_grams_of_the_closed_form() -> None:
    steps = series([T0_S - 100, T0_S + 12.5], np.array([50.0, 700.0]))
    found = footprint(replace(GIVEN, series=steps), [meter([300.0], 30)], spans(30), CLOCK)
    grams = 300 * (12.5 * 50 + 17.5 * 700) / KWH
    assert found.co2e_g is not None
    assert found.co2e_g.value == pytest.approx(grams, rel=1e-3)
    assert found.co2e_g.lo <= grams <= found.co2e_g.hi
    assert found.intensity.g_per_kwh == pytest.approx(grams * KWH / 9000, rel=1e-3)


def test_power_and_intensity_that_change_at_other_times_are_followed_together() -> None:
    steps = series(T0_S + 7.0 * np.arange(-1, 5), np.array([10.0, 400.0, 20.0, 800.0, 0.0, 5.0]))
    watts = [100.0, 620.0, 140.0]
    found = footprint(replace(GIVEN, series=steps), [meter(watts, 8)], spans(24), CLOCK)
    at = np.linspace(0, 24, 2_400_001)[:-1] + 5e-6
    truth = float(np.mean(np.array(watts)[(at // 8).astype(int)] * steps.at(T0_S + at)) * 24 / KWH)
    assert found.co2e_g is not None
    assert found.co2e_g.value == pytest.approx(truth, rel=1e-3)
    mean = float(np.mean(steps.at(T0_S + at))) * 24 * sum(watts) / 3 / KWH
    assert abs(mean / truth - 1) > 0.05  # what mean power times mean intensity would be off


@pytest.mark.filterwarnings("error")
def test_a_last_row_that_stands_for_always_leaves_the_others_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("time,g_per_kwh\n2026-01-01T00:00Z,60\n2026-11-20T00:00:05Z,50\n9999-12-31T00:00Z,50\n")
    site = site_of({"intensity": str(path)})
    found = footprint(site, [meter([300.0], 10)], spans(10), CLOCK)
    assert found.intensity.g_per_kwh == pytest.approx(55.0, rel=1e-3)
    assert (found.flags, found.intensity.source[-18:]) == ((), "9999-12-31T23:59Z)")


def test_a_series_that_never_changes_is_the_constant_intensity() -> None:
    meters = [meter([300.0, 100.0], 10, gain_u95=0.05)]
    constant = footprint(GIVEN, meters, spans(20), CLOCK)
    steps = series(T0_S + np.arange(-5.0, 30.0), np.full(35, 100.0))
    found = footprint(replace(GIVEN, series=steps), meters, spans(20), CLOCK)
    assert found.co2e_g is not None
    assert constant.co2e_g is not None
    for end in ("value", "lo", "hi"):
        assert getattr(found.co2e_g, end) == pytest.approx(getattr(constant.co2e_g, end), rel=1e-9)


def test_the_gain_of_a_meter_does_not_move_the_mean_intensity() -> None:
    steps = series([T0_S, T0_S + 10], np.array([50.0, 700.0]))
    begins, ends = np.array([T0_NS]), np.array([T0_NS + 20_000_000_000])
    found = mean_over(steps, [meter([300.0, 100.0], 10, gain_u95=0.5)], begins, ends, CLOCK)
    assert found.value == pytest.approx((300 * 50 + 100 * 700) / 400, rel=1e-3)
    assert found.u95 < 0.01 * found.value


@pytest.mark.parametrize(("covered_s", "share"), [(20, 2 / 3), (0, 0.0)])
def test_where_a_series_has_no_figure_the_place_stands_in_and_it_is_said(
    covered_s: float, share: float
) -> None:
    steps = series([T0_S - 100, T0_S - 50, T0_S + covered_s], np.array([50.0, 50.0, np.nan]))
    base = Site(resolve("FRA"), steps)
    found = footprint(base, [meter([300.0], 30)], spans(30), CLOCK)
    expected = share * 50 + (1 - share) * base.intensity.g_per_kwh
    assert found.intensity.g_per_kwh == pytest.approx(expected, rel=1e-3)
    assert INTENSITY_FALLBACK in found.flags
    assert found.intensity.place == "FRA"


def test_pue_multiplies_grams_and_money_but_not_water() -> None:
    meters = [meter([1000.0], 36)]  # 10 Wh
    plain = replace(GIVEN, price=parse("0.30 EUR"), wue=Overhead(exact(1.8), "given"))
    with_pue = replace(plain, pue=Overhead(exact(1.5), "given"))
    one, other = (footprint(site, meters, spans(36), CLOCK) for site in (plain, with_pue))
    assert one.co2e_g
    assert one.co2e_g.value == pytest.approx(1.0, rel=1e-4)
    assert one.cost
    assert one.cost[0] == pytest.approx(0.003, rel=1e-4)
    assert one.water_l
    assert one.water_l.value == pytest.approx(0.018, rel=1e-4)
    assert one.water_l == other.water_l
    assert other.co2e_g
    assert other.co2e_g.value == pytest.approx(1.5, rel=1e-4)
    assert other.cost
    assert other.cost[0] == pytest.approx(0.0045, rel=1e-4)


def test_a_tariff_by_hour_and_prices_below_zero_are_integrated_against_the_energy(tmp_path: Path) -> None:
    begin = T0_S + 3600 * 21 - 10  # ten seconds before 22 o'clock in UTC
    clock = Clock(T0_NS, int(begin * 1e9))
    site = replace(GIVEN, price=parse("0.30 EUR, 22-6 0.10, UTC"))
    found = footprint(site, [meter([1000.0], 30)], spans(30), Clock(T0_NS, int((begin + 3600) * 1e9)))
    assert found.cost
    assert found.cost[0] == pytest.approx((10 * 0.30 + 20 * 0.10) / 3600, rel=1e-4)
    path = tmp_path / "p.csv"
    path.write_text(f"time,price\n{begin - 60:.0f},-0.02\n{begin:.0f},-0.04\n{begin + 60:.0f},-0.02\n")
    found = footprint(replace(GIVEN, price=parse(f"{path} EUR")), [meter([1000.0], 30)], spans(30), clock)
    assert found.cost
    assert found.cost[0] == pytest.approx(-0.04 * 30 / 3600, rel=1e-4)
    assert found.cost[1] <= found.cost[0] <= found.cost[2]


def test_the_interval_of_grams_has_energys_and_intensitys() -> None:
    place = Intensity(100.0, "X", "", 2023, "", lo_g_per_kwh=80.0, hi_g_per_kwh=140.0)
    found = footprint(Site(place), [meter([1000.0], 36, gain_u95=0.05)], spans(36), CLOCK)
    assert found.co2e_g is not None
    above, below = np.hypot(np.log(1.05), np.log(1.4)), np.hypot(np.log(0.95), np.log(0.8))
    assert found.co2e_g.hi / found.co2e_g.value == pytest.approx(np.exp(above), rel=1e-3)
    assert found.co2e_g.lo / found.co2e_g.value == pytest.approx(np.exp(-below), rel=1e-3)


def test_a_run_without_energy_has_a_place_and_no_grams() -> None:
    lost = Meter(Channel("gpu:0", "energy", "counter", "board"), None, True, "device_lost")
    found = columns(footprint(Site(resolve("FRA")), [lost], spans(3), CLOCK), Site(resolve("FRA")))
    assert (found["co2e_g"], found["co2e_lo_g"], found["intensity_place"]) == (None, None, "FRA")


def test_a_file_that_has_gone_at_the_end_costs_its_own_figure_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("time,g_per_kwh\n2026-11-20T00:00Z,50\n2026-11-20T01:00Z,60\n")
    said = facts_of({"country": "FRA", "intensity": str(path), "pue": 1.2})
    site_of(said)
    path.unlink()
    facts = {"t_ns": T0_NS, "started_unix_ns": int(T0_S * 1e9), "site": said}
    row, flags = of_run(facts, [meter([300.0], 10)], spans(10))
    assert (row["intensity_place"], row["pue"]) == ("FRA", 1.2)
    assert INTENSITY_FALLBACK in flags


def test_a_price_that_has_gone_at_the_end_leaves_the_intensity_what_was_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {"country": "FRA", "price": f"{tmp_path}/p.csv EUR"}
    facts = {"t_ns": T0_NS, "started_unix_ns": int(T0_S * 1e9), "site": said}
    row, flags = of_run(facts, [meter([300.0], 10)], spans(10))
    assert (row["intensity_source"], row["cost"], flags) == (resolve("FRA").source, None, set())
    assert capsys.readouterr().err == (
        "energyprof: warning: cannot read p.csv: No such file or directory; price is left out\n"
    )
    assert row["price_source"] == "left out: cannot read p.csv: No such file or directory"


def test_each_of_several_things_that_have_gone_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {
        "country": "FRA",
        "intensity": f"{tmp_path}/s.csv",
        "pue": "provider",
        "price": f"{tmp_path}/p.csv EUR",
    }
    facts = {"t_ns": T0_NS, "started_unix_ns": int(T0_S * 1e9), "site": said}
    row, flags = of_run(facts, [meter([300.0], 10)], spans(10))
    assert (row["intensity_place"], flags) == ("FRA", {INTENSITY_FALLBACK})
    assert row["intensity_source"].endswith(
        "it stands in, since cannot read s.csv: No such file or directory"
    )
    assert row["price_source"].startswith("left out: cannot read p.csv")
    assert (row["pue"], row["pue_source"][:45]) == (None, "left out: pue is 'provider', but the place is")
    assert [line.rpartition("; ")[2] for line in capsys.readouterr().err.splitlines()] == [
        "pue is left out",
        "price is left out",
        "another intensity stands in",
    ]


def test_paths_are_kept_whole_and_currencies_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = facts_of({"intensity": "my series.csv", "price": "p.csv EUR", "pue": 1, "country": None})
    assert said == {"intensity": f"{tmp_path}/my series.csv", "price": f"{tmp_path}/p.csv EUR", "pue": 1.0}
    assert facts_of({"price": "EUR p.csv"}) == {"price": f"{tmp_path}/p.csv EUR"}
    assert facts_of({"price": "0.25 EUR", "intensity": "52"}) == {"price": "0.25 EUR", "intensity": "52"}


def test_a_folder_may_have_a_comma_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a, b").mkdir()
    monkeypatch.chdir(tmp_path / "a, b")
    Path("p.csv").write_text("time,price\n2026-11-20T00:00Z,0.2\n2026-11-20T01:00Z,0.3\n")
    price = site_of(facts_of({"intensity": 50, "price": "p.csv EUR"})).price
    assert price is not None
    assert (price.currency, price.constant) == ("EUR", False)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ({"pue": 0.9}, "number from 1 to 5"),
        ({"pue": "much"}, "pue is 'much'"),
        ({"pue": "provider"}, "no cloud region"),
        ({"wue": -1}, "wue"),
        ({"intensity": "fifty"}, ".csv or .parquet"),
        ({"intensity": 5, "country": "FRA"}, "choose one"),
        ({"price": "dear"}, "price"),
        ({"contry": "FRA"}, "contry says nothing of a site"),
    ],
)
def test_what_makes_no_sense_of_a_site_is_refused_in_one_line(said: dict[str, object], hint: str) -> None:
    with pytest.raises(ValueError, match=r"(?s).") as refused:
        site_of(said)
    assert hint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_range_of_a_published_pue_widens_the_grams() -> None:
    pue = Overhead(Range(1.15, 1.04, 1.44), "published")
    found = footprint(replace(GIVEN, pue=pue), [meter([1000.0], 36)], spans(36), CLOCK)
    assert found.co2e_g is not None
    assert found.co2e_g.hi / found.co2e_g.value == pytest.approx(1.44 / 1.15, rel=1e-3)


def test_making_the_devices_stands_apart_and_is_shared_over_their_life() -> None:
    board = replace(meter([300.0], 10).channel, name="gpu:0", device={"model": "NVIDIA H100 80GB HBM3"})
    boards = [Meter(replace(board, name=f"gpu:{i}"), None, True, "device_lost") for i in range(2)]
    row = making([*boards, meter([300.0], 10)], 365.25 * 86400 / 2)
    assert row["embodied_g"] == pytest.approx(2 * 164_000 / 5 / 2)
    assert row["embodied_lo_g"] < row["embodied_g"] < row["embodied_hi_g"]
    assert row["embodied_source"].startswith("2 x 164 kg for NVIDIA H100 80GB HBM3")
    facts = {"t_ns": T0_NS, "started_unix_ns": int(T0_S * 1e9), "site": {"intensity": 0.0}}
    row, _ = of_run(facts, [meter([300.0], 10), boards[0]], spans(10))
    assert row["embodied_g"] > 0
    row, _ = of_run(facts, [meter([300.0], 10)], spans(10))
    assert (row["co2e_g"], row["embodied_g"], row["embodied_source"]) == (0.0, None, None)


def test_a_publishers_hours_have_the_interval_in_which_publishers_differ() -> None:
    steps = replace(series([T0_S - 100, T0_S + 3500], np.array([50.0, 50.0])), published=True, source="Maps")
    found = footprint(replace(GIVEN, series=steps), [meter([300.0], 30)], spans(30), CLOCK).intensity
    assert found.g_per_kwh == pytest.approx(50)
    assert found.lo_g_per_kwh is not None
    assert found.hi_g_per_kwh is not None
    assert 50 < found.hi_g_per_kwh < interval(50.0)[1]  # a yearly figure's has the hours besides
    assert interval(50.0)[0] < found.lo_g_per_kwh < 50


def test_a_series_that_says_nothing_of_the_run_is_named_before_it_and_in_its_source(tmp_path: Path) -> None:
    past = tmp_path / "past.csv"
    past.write_text("time,g_per_kwh\n2020-01-01T00:00Z,100\n2020-01-01T01:00Z,200\n", encoding="utf-8")
    site = site_of({"intensity": str(past), "price": "0.2 EUR"})
    assert "past.csv (2020-01-01T00:00:00Z to 2020-01-01T02:00:00Z) has no intensity for now" in at_start(
        site, T0_S
    )
    assert at_start(site_of({"intensity": 5}), T0_S) == ""
    holed = replace(
        site, series=series([T0_S - 7200, T0_S - 3600, T0_S + 3600], np.array([1.0, np.nan, 2.0]))
    )
    assert "has a hole now" in at_start(holed, T0_S)
    found = footprint(site, [meter([300.0], 30)], spans(30), CLOCK)
    assert INTENSITY_FALLBACK in found.flags
    assert found.intensity.source.startswith("its mean; it stands in, since series past.csv")
    assert found.intensity.range == Range(150.0, 100.0, 200.0)


def test_a_partly_covered_run_says_for_which_share_which_figure_stands() -> None:
    steps = series([T0_S - 100, T0_S - 50, T0_S + 20], np.array([50.0, 50.0, np.nan]))
    base = Site(resolve("FRA"), replace(steps, source="series s.csv"))
    found = footprint(base, [meter([300.0], 30)], spans(30), CLOCK).intensity
    assert "33 % of the energy, for which it has none: Our World in Data" in found.source
    assert found.scope == f"as given by the user; 33 %: {base.intensity.scope}"


def test_prices_that_do_not_cover_the_run_give_no_money_and_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("time,price\n2020-01-01T00:00Z,0.1\n2020-01-01T01:00Z,0.2\n", encoding="utf-8")
    site = replace(GIVEN, price=parse(f"{path} EUR"))
    row = columns(footprint(site, [meter([300.0], 10)], spans(10), CLOCK), site)
    assert (row["cost"], row["price_source"]) == (None, "series p.csv, which has none for all of the run")


def test_the_region_that_the_machine_named_at_the_start_holds_wherever_the_run_is_sealed() -> None:
    facts = {"t_ns": T0_NS, "started_unix_ns": int(T0_S * 1e9)}
    told = {"here": ["aws:eu-west-3", "the cloud's metadata"], "pue": "provider"}
    row, _ = of_run({**facts, "site": told}, [meter([300.0], 10)], spans(10))
    assert (row["intensity_place"], row["pue"], row["pue_hi"]) == ("aws:eu-west-3", 1.15, 1.44)
    assert row["intensity_source"].endswith("place named by the cloud's metadata")
    row, _ = of_run({**facts, "site": {"here": None}}, [meter([300.0], 10)], spans(10))
    assert row["intensity_place"] == "WORLD"


@pytest.mark.parametrize(
    "said",
    [
        {"country": place}
        for place in ("FRA", "US-CA", "CA-QC", "CN-BJ", "SE3", "gcp:europe-west9", "aws:us-east-1")
    ]
    + [
        {"here": None},
        {"here": ["azure:westeurope", "the cloud's metadata"]},
        {"country": "FRA", "intensity": "{s}"},
    ],
)
def test_every_gram_is_stored_with_its_source_year_scope_and_interval_and_no_socket_is_opened(
    said: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", connect)
    (tmp_path / "s.csv").write_text(
        f"time,g_per_kwh\n{T0_S - 9:.0f},50\n{T0_S + 991:.0f},60\n", encoding="utf-8"
    )
    told = {name: str(tmp_path / "s.csv") if value == "{s}" else value for name, value in said.items()}
    facts = {"t_ns": T0_NS, "started_unix_ns": int(T0_S * 1e9), "site": told}
    row, _ = of_run(facts, [meter([300.0], 10)], spans(10))
    assert row["co2e_lo_g"] < row["co2e_g"] < row["co2e_hi_g"]
    assert row["intensity_lo_g_per_kwh"] <= row["intensity_g_per_kwh"] <= row["intensity_hi_g_per_kwh"]
    for name in ("place", "place_name", "year", "source", "scope"):
        assert row[f"intensity_{name}"], name
