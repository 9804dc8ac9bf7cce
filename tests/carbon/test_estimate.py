"""Estimates: closed forms, what others published lies within, and every refusal is one line that helps."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from energyprof.carbon import assumed, elsewhere, power, workload
from energyprof.carbon.estimate import Estimate, envelope, estimate, price_range, timed
from energyprof.carbon.intensity import resolve
from energyprof.carbon.price import Price, parse
from energyprof.carbon.ranges import Range, exact
from energyprof.carbon.series import Series
from energyprof.carbon.signed import Signed
from energyprof.carbon.site import Site, site_of
from energyprof.flops import peaks
from tests.conftest import ROOT

ROWS = [pytest.param(device, id=device.name) for device in peaks.devices()]
PLAIN = site_of({"intensity": 100.0, "pue": 1.0, "wue": 0.0})


def worked(site: Site = PLAIN, **said: Any) -> Estimate:
    return estimate(workload.ask(**said), site)


def test_what_is_all_said_is_exact_and_a_closed_form() -> None:
    site = site_of({"intensity": 380, "pue": 1.2, "wue": 1.8, "price": "0.25 EUR"})
    found = worked(site, watts=300, host_watts=100, hours=10, count=8)
    assert found.machines_kwh == exact(32.0)
    assert found.kwh.value == pytest.approx(38.4)
    assert found.co2e_g.value == pytest.approx(38.4 * 380)
    assert found.water_l.value == pytest.approx(32 * 1.8)  # a kWh of the machines, not of the site
    assert found.cost is not None
    assert found.cost.value == pytest.approx(38.4 * 0.25)
    assert found.currency == "EUR"
    for part in (found.kwh, found.co2e_g, found.water_l, found.cost, found.hours):
        assert part.lo == part.value == part.hi
    assert found.made is None
    assert all(each.said for each in found.assumptions)


def test_power_is_idle_and_a_share_of_what_is_above_it() -> None:
    device = peaks.find("NVIDIA A100-SXM4-80GB")
    assert device is not None
    busy, idle = assumed.BUSY_TRAINING.range * 400, assumed.IDLE.range * 400
    for part in (0.0, 0.3, 1.0):
        found = power.of_device(device, exact(part)).range
        assert found.value == pytest.approx(idle.value + part * (busy.value - idle.value))
    assert power.of_device(device, exact(0.0)).range.hi == pytest.approx(idle.hi)
    assert power.of_device(device, exact(1.0)).range.hi == pytest.approx(400)


@pytest.mark.parametrize("device", ROWS)
def test_the_power_of_each_device_is_below_its_cap_and_grows_with_utilisation(device: peaks.Device) -> None:
    cap = device.tdp_w or device.max_w or math.inf
    for inference in (False, True):
        watts = [power.of_device(device, exact(u), inference).range for u in (0.0, 0.5, 1.0)]
        assert all(0 < each.lo <= each.value <= each.hi <= cap * 1.0001 for each in watts)
        assert watts[0].value <= watts[1].value <= watts[2].value
    assert (power.host_w(device, exact(1.0)).hi == 0) == device.whole


def test_an_interval_of_power_covers_what_random_machines_draw() -> None:
    device = peaks.find("NVIDIA H100 80GB HBM3")
    assert device is not None
    rng = np.random.default_rng(3)

    def drawn(part: Range) -> Any:
        """Figures of which 95 % lie within the interval, the same number below as above the middle."""
        z = rng.normal(size=100_000) / 1.96
        return np.where(
            z < 0, part.value + z * (part.value - part.lo), part.value + z * (part.hi - part.value)
        )

    busy, idle = drawn(assumed.BUSY_TRAINING.range * 700), drawn(assumed.IDLE.range * 700)
    used = drawn(assumed.UTILISATION.range)
    watts = idle + used * (busy - idle)
    found = power.of_device(device, assumed.UTILISATION.range).range
    assert 0.93 <= np.mean((watts >= found.lo) & (watts <= found.hi)) <= 0.97


def test_hours_of_flops_are_flops_over_peak_mfu_and_devices() -> None:
    found = worked(gpu="H100 SXM", flops="3e21", mfu=0.4, count=64)
    assert found.hours.value == pytest.approx(3e21 / (989.4e12 * 0.4 * 64) / 3600)
    assert found.hours.lo == found.hours.hi
    assumed_mfu = worked(gpu="H100 SXM", flops="3e21", count=64)
    share = assumed.MFU_TRAINING.range
    assert assumed_mfu.hours.lo == pytest.approx(found.hours.value * 0.4 / share.hi)
    assert assumed_mfu.hours.hi == pytest.approx(found.hours.value * 0.4 / share.lo)


def test_energy_for_work_does_not_depend_on_the_number_of_devices() -> None:
    one, many = (worked(gpu="H100 SXM", flops="3e21", mfu=0.4, count=n) for n in (1, 64))
    assert one.kwh.value == pytest.approx(many.kwh.value)
    assert one.hours.value == pytest.approx(64 * many.hours.value)


def test_parameters_and_tokens_are_six_or_two_flop_each() -> None:
    said = {"gpu": "A100-SXM4-80GB", "params": "7B", "tokens": "2T"}
    assert worked(**said).flop == pytest.approx(6 * 7e9 * 2e12)
    assert worked(**said, inference=True).flop == pytest.approx(2 * 7e9 * 2e12)


@pytest.mark.parametrize(
    ("said", "published_hours"),
    [
        # Touvron et al. 2023 (arXiv 2307.09288), table 2; Meta's model cards of Llama 3; Luccioni et al. 2023;
        # Chowdhery et al. 2022 (arXiv 2204.02311): 6144 chips for 1200 h and 3072 for 336 h.
        ({"gpu": "A100-SXM4-80GB", "params": "6.74B", "tokens": "2T"}, 184_320),
        ({"gpu": "A100-SXM4-80GB", "params": "69B", "tokens": "2T"}, 1_720_320),
        ({"gpu": "H100 SXM", "params": "8.03B", "tokens": "15T"}, 1_300_000),
        ({"gpu": "H100 SXM", "params": "70.6B", "tokens": "15T"}, 6_400_000),
        ({"gpu": "A100-SXM4-80GB", "params": "176B", "tokens": "366B"}, 1_082_990),
        ({"gpu": "TPU v4", "params": "540B", "tokens": "780B"}, 8_404_992),
    ],
)
def test_device_hours_that_others_published_lie_in_the_interval(
    said: dict[str, str], published_hours: float
) -> None:
    found = worked(**said)
    assert found.hours.lo <= published_hours <= found.hours.hi


def test_the_energy_of_bloom_lies_in_the_interval() -> None:
    # Luccioni et al. 2023 (JMLR 24:253): 433,196 kWh of the GPUs and 256,646 kWh of idle draw, no PUE.
    found = worked(gpu="A100-SXM4-80GB", hours=1_082_990 / 384, count=384, utilisation=1)
    assert found.machines_kwh.lo <= 433_196 + 256_646 <= found.machines_kwh.hi


def test_a_name_of_several_boards_holds_them_all() -> None:
    whole = worked(gpu="A100", hours=10, count=8)
    assert whole.device == "NVIDIA A100-SXM4-80GB"
    assert len(whole.boards) == 4
    for board in whole.boards:
        each = worked(gpu=board.name, hours=10, count=8)
        assert whole.kwh.lo <= each.kwh.lo
        assert each.kwh.hi <= whole.kwh.hi
        assert each.machines_kwh == board.machines_kwh
    assert whole.kwh.value == worked(gpu="NVIDIA A100-SXM4-80GB", hours=10, count=8).kwh.value
    assert whole.assumptions[0].name == "device"


def test_saying_a_figure_narrows_the_estimate() -> None:
    loose = worked(site_of({"country": "DEU"}), gpu="A100-SXM4-80GB", hours=10)
    for more in ({"utilisation": 0.8}, {"host_watts": 200}):
        tight = worked(site_of({"country": "DEU"}), gpu="A100-SXM4-80GB", hours=10, **more)
        assert tight.kwh.hi - tight.kwh.lo < loose.kwh.hi - loose.kwh.lo
    sited = worked(site_of({"country": "DEU", "pue": 1.4}), gpu="A100-SXM4-80GB", hours=10)
    assert sited.kwh.hi - sited.kwh.lo < loose.kwh.hi - loose.kwh.lo


def test_a_board_has_no_server_and_no_data_centre_around_it() -> None:
    found = worked(site_of({"country": "DEU"}), gpu="Jetson Orin NX 16GB", hours=24)
    assert found.host_w == exact(0.0)
    assert found.kwh == found.machines_kwh
    assert found.water_l == exact(0.0)


def test_a_clouds_own_overheads_are_taken_where_the_place_or_the_device_is_the_clouds() -> None:
    by_place = worked(site_of({"country": "aws:eu-west-3"}), gpu="H100 SXM", hours=1)
    assert by_place.kwh.value == pytest.approx(1.15 * by_place.machines_kwh.value)
    by_device = worked(site_of({"country": "USA"}), gpu="TPU v5e", hours=1)
    assert by_device.kwh.value == pytest.approx(1.09 * by_device.machines_kwh.value)
    assert by_device.water_l.hi > 0
    told = worked(site_of({"country": "aws:eu-west-3", "pue": 1.5}), gpu="H100 SXM", hours=1)
    assert told.kwh.value == pytest.approx(1.5 * told.machines_kwh.value)


@pytest.mark.parametrize("gpu", ["A100", "H100", "TPU v4", "L4", "Jetson Orin NX"])
def test_a_reader_can_make_the_energy_of_the_machines_again(gpu: str) -> None:
    found = worked(site_of({"country": "DEU"}), gpu=gpu, hours=120, count=8)
    for board in found.boards:
        below = math.hypot(board.device_w.value - board.device_w.lo, board.host_w.value - board.host_w.lo)
        above = math.hypot(board.device_w.hi - board.device_w.value, board.host_w.hi - board.host_w.value)
        watts = board.device_w.value + board.host_w.value
        for end, made in zip(("value", "lo", "hi"), (watts, watts - below, watts + above)):
            assert getattr(board.together_w, end) == pytest.approx(made)
            assert getattr(board.machines_kwh, end) == pytest.approx(8 * 120 * made / 1e3)
    assert found.machines_kwh == envelope(board.machines_kwh for board in found.boards)
    assert found.machines_kwh.value == pytest.approx(8 * 120 * found.together_w.value / 1e3)
    assert found.kwh == found.machines_kwh * found.pue.range
    told = {each.name: each.range for each in found.assumptions}
    assert (told["power"], told["host"]) == (found.device_w, found.host_w)  # one interval for one figure


def test_money_is_below_zero_where_the_market_pays() -> None:
    hours = 1.7e9 + 3600.0 * np.arange(4)
    prices = Series(hours, np.array([-0.2, -0.1, math.nan, -0.3]), float(hours[-1]) + 3600)
    site = replace(PLAIN, price=Price("EUR", series=prices))
    paid = worked(site, watts=1000, host_watts=0, hours=10)
    for figure, each in ((paid.price, 1), (paid.cost, 10)):
        assert figure is not None
        told = (figure.value / each, figure.lo / each, figure.hi / each)
        assert told == pytest.approx((-0.2, -0.3, -0.1))
    mixed = replace(site, price=Price("EUR", series=replace(prices, value=np.array([-0.2, -0.1, 0.4, 0.3]))))
    found = worked(mixed, gpu="A100", hours=10).cost
    assert found is not None
    assert found.lo < 0 < found.value < found.hi


def test_what_is_not_there_has_a_reason() -> None:
    assert worked(gpu="L4", hours=1).missing == {
        "cost": "no price of a kWh was said",
        "made": "nobody published what making NVIDIA L4 emits",
    }
    assert worked(watts=300, hours=1).missing["made"] == "no device was named"
    assert worked(site_of({"intensity": 1, "price": 0.2}), gpu="H100 SXM", hours=1).missing == {}


def test_what_contradicts_the_device_is_noted_and_not_refused() -> None:
    assert "2,000 W are far above the 700 W" in worked(gpu="H100", watts=2000, hours=1).notes[0]
    assert worked(gpu="H100", watts=750, hours=1).notes == ()
    aws, google = (site_of({"country": place}) for place in ("aws:eu-west-3", "gcp:europe-west9"))
    assert worked(aws, gpu="TPU v4", hours=1).notes == (
        "TPU v4 is in Google's cloud alone, and the place is AWS's",
    )
    assert worked(google, gpu="TPU v4", hours=1).notes == worked(aws, gpu="H100", hours=1).notes == ()


def test_making_stands_apart_and_grows_with_the_time() -> None:
    found = worked(gpu="H100 SXM", hours=10, count=8)
    assert found.made is not None
    assert found.made.devices_g.value == pytest.approx(164e3 * 80 / 5 / 8766, rel=1e-6)
    assert found.co2e_g.value == pytest.approx(found.kwh.value * 100)
    assert worked(gpu="L4", hours=10).made is None


def test_every_assumption_has_a_source() -> None:
    site = site_of({"country": "DEU", "price": "0.25 EUR"})
    for said in ({"hours": 3}, {"flops": "1e21"}, {"params": "7B", "tokens": "1T", "inference": True}):
        found = worked(site, gpu="H100", **said)
        assert len(found.assumptions) >= 7
        for each in found.assumptions:
            assert each.source
            assert each.text
            assert len(each.words) < 60
        assert {"power", "host", "PUE", "WUE", "intensity", "price"} <= {
            each.name for each in found.assumptions
        }


def test_what_was_taken_for_a_name_is_said() -> None:
    found = {
        typed: worked(gpu=typed, hours=1).assumptions[0] for typed in ("RTX 6000", "MI250X", "NVIDIA H200")
    }
    assert found["RTX 6000"].text.startswith("RTX 6000 taken as NVIDIA RTX 6000 Ada Generation")
    assert "one of the card's two dies" in found["MI250X"].text
    assert found["NVIDIA H200"].name != "device"


@pytest.mark.parametrize(
    "taken",
    [
        assumed.BUSY_TRAINING,
        assumed.BUSY_INFERENCE,
        assumed.IDLE,
        assumed.UTILISATION,
        assumed.HOST,
        assumed.MFU_TRAINING,
        assumed.MFU_INFERENCE,
        assumed.PUE,
    ],
)
def test_the_page_has_what_is_taken(taken: assumed.Assumed) -> None:
    page = (ROOT / "docs/estimate.md").read_text(encoding="utf-8")
    part = taken.range
    assert f"| {part.value:.2f} ({part.lo:.2f} to {part.hi:.2f})" in page


def test_a_tariff_is_the_mean_of_its_hours_with_their_range() -> None:
    assert price_range(parse("0.25 EUR")) == Signed(0.25, 0.25, 0.25)
    assert price_range(parse("0.30 EUR, 0-24 0.1")) == Signed(0.1, 0.1, 0.1)
    found = price_range(parse("0.30 EUR, 22-6 0.18"))
    assert (found.lo, found.hi) == (0.18, 0.30)
    assert found.value == pytest.approx((16 * 0.30 + 8 * 0.18) / 24)


def test_an_envelope_has_the_first_figure_and_holds_all() -> None:
    assert envelope([Range(2, 1, 3), Range(5, 4, 9), Range(1, 0, 2)]) == Range(2, 0, 9)


def test_other_places_have_the_same_energy() -> None:
    own = resolve("DEU")
    found = elsewhere.elsewhere(exact(10.0), own, elsewhere.places(own, ["FRA", "world", "US-CA"]))
    assert [there.place.place for there in found] == ["FRA", "US-CA", "DEU", "WORLD"]
    for there in found:
        assert there.co2e_g.value == pytest.approx(10 * there.place.g_per_kwh)
        assert there.ratio == pytest.approx(there.place.g_per_kwh / own.g_per_kwh)
        assert there.own == (there.place == own)
        assert there.comparable == (there.place.scope == own.scope)
    values = [there.co2e_g.value for there in found]
    assert values == sorted(values)
    assert own in elsewhere.places(own)
    assert len(elsewhere.places(own)) == len(elsewhere.PLACES)  # Germany is one of them


def test_places_of_one_name_are_all_there() -> None:
    own = resolve("SWE")
    found = elsewhere.places(own, ["GEO", "US-GA"])
    assert [place.place for place in found] == ["GEO", "US-GA", "SWE"]
    assert found[0].place_name == found[1].place_name == "Georgia"


def test_nothing_is_compared_with_a_figure_of_which_nobody_knows_what_it_counts() -> None:
    own = resolve(None, 52.0)
    for there in elsewhere.elsewhere(exact(1.0), own, elsewhere.places(own)):
        assert there.comparable is (True if there.own else None)
    nothing = resolve(None, 0.0)
    assert {each.ratio for each in elsewhere.elsewhere(exact(1.0), nothing, elsewhere.places(nothing))} == {
        None
    }


@pytest.mark.parametrize("code", ["aws:eu-central-1", "azure:westeurope", "gcp:us-central1"])
def test_a_run_in_a_cloud_is_compared_with_that_clouds_regions(code: str) -> None:
    own = resolve(code)
    found = elsewhere.places(own)
    provider = code.partition(":")[0]
    assert own in found
    assert 5 <= len(found) <= 10
    assert {place.place.partition(":")[0] for place in found} == {provider, "WORLD"}
    assert min(place.g_per_kwh for place in found) < 60


def test_a_series_gives_the_intensity_of_runs_of_that_length_and_the_greenest_start() -> None:
    begin = 1.7e9 + 3600.0 * np.arange(24)
    series = Series(
        begin, 300 + 200 * np.cos(np.arange(24) / 24 * 2 * np.pi), float(begin[-1] + 3600), "series x"
    )
    site = replace(PLAIN, series=series)
    asked = workload.ask(watts=1000, host_watts=0, hours=6)
    within, choice = timed(asked, site, begin[0] + 600)
    assert choice is not None
    assert choice.earliest.begin_s == begin[0] + 600
    assert within.intensity.g_per_kwh == choice.mean_g_per_kwh
    assert (within.intensity.lo_g_per_kwh, within.intensity.hi_g_per_kwh) == (
        choice.greenest.g_per_kwh,
        choice.worst.g_per_kwh,
    )
    assert estimate(asked, within).co2e_g.value == pytest.approx(6 * choice.mean_g_per_kwh)
    placed = timed(asked, replace(site, intensity=resolve("FRA")), begin[0] + 600)[0].intensity
    assert (placed.place_name, placed.scope) == (
        "series x",
        "as given by the user",
    )  # and not France's figure
    assert (placed.place, placed.year) == ("FRA", None)
    assert "series x, as given by the user" in placed.source
    past = timed(asked, site, 1.8e9)[1]
    assert past is not None
    assert past.earliest.begin_s == begin[0]
    with pytest.raises(ValueError, match="the series ends before a run of 6 h could"):
        timed(asked, site, site.series.end_s - 3600)  # not past, and too short for what is to come
    assert timed(asked, PLAIN, 0.0) == (PLAIN, None)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"hours": 3}, "which device"),
        ({"gpu": "A100"}, "how much"),
        ({"gpu": "A100", "hours": 3, "flops": "1e21"}, "--hours and --flops both"),
        ({"gpu": "A100", "hours": 3, "params": "7B", "tokens": "1T"}, "--hours and --params both"),
        ({"gpu": "A100", "flops": 1e21, "params": "7B", "tokens": "1T"}, "--flops and --params both"),
        ({"gpu": "A100", "params": "7B"}, "--tokens is missing"),
        ({"gpu": "A100", "tokens": "7B"}, "--params is missing"),
        ({"gpu": "A100", "hours": 3, "mfu": 0.4}, "--mfu"),
        ({"gpu": "A100", "hours": 3, "dtype": "bf16"}, "--dtype"),
        ({"gpu": "A100", "hours": 0}, "hours is '0'"),
        ({"gpu": "A100", "hours": -2}, "hours is '-2'"),
        ({"gpu": "A100", "hours": math.nan}, "hours is 'nan'"),
        ({"gpu": "A100", "hours": 3, "count": 0}, "count is '0'"),
        ({"gpu": "A100", "hours": 3, "count": 1.5}, "count is '1.5'"),
        ({"gpu": "A100", "hours": 3, "count": "many"}, "count is 'many'"),
        ({"gpu": "A100", "hours": 3, "count": math.inf}, "count is 'inf'"),
        ({"gpu": "A100", "hours": 3, "utilisation": 1.2}, "utilisation is '1.2'"),
        ({"gpu": "A100", "hours": 3, "watts": 300, "utilisation": 0.5}, "--watts"),
        ({"gpu": "A100", "hours": 3, "watts": 0}, "watts is '0'"),
        ({"gpu": "A100", "flops": "1e21", "mfu": 0}, "mfu is '0'"),
        ({"gpu": "A100", "flops": "1e21", "dtype": "fp9"}, "dtype is 'fp9'"),
        ({"gpu": "V100", "flops": "1e21", "dtype": "bf16"}, "V100 has no bf16; it has"),
        ({"gpu": "Jetson Nano", "flops": "1e15"}, "say --peak"),
        ({"watts": 300, "flops": "1e21"}, "say --peak"),
        ({"gpu": "A100", "flops": "1e60"}, "is that number right"),
        ({"gpu": "A1000", "hours": 3}, "did you mean NVIDIA A100"),
        ({"gpu": "Trainium2", "hours": 3}, "no device 'Trainium2'"),
        ({"gpu": "TPU v5e", "hours": 3, "utilisation": 0.5}, "leave --utilisation out"),
        ({"gpu": "A100", "hours": 9e6, "count": 1e7, "watts": 9e5}, "more than the world generates"),
        ({"gpu": "A100", "flops": "1e25", "mfu": 1e-9}, "is that number right"),
        ({"gpu": " ", "hours": 3}, "gpu is empty"),
        ({"gpu": "x" * 10_000, "hours": 3}, "no device 'xxx"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        worked(**said)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 250


def test_a_peak_of_ones_own_stands_in_for_a_device_that_the_table_lacks() -> None:
    found = worked(gpu="some board", watts=250, peak_tflops=100, flops="1e21", mfu=0.5)
    assert found.hours.value == pytest.approx(1e21 / (100e12 * 0.5) / 3600)


def test_all_devices_and_ways_work_out() -> None:
    ways = ({"hours": "3.5h"}, {"flops": "1e20"}, {"params": "1B", "tokens": "1B", "inference": True})
    for device, way in itertools.product(peaks.devices(), ways):
        if "hours" in way or any(kind in device.flop_s for kind in ("bf16", "fp16", "fp32", "int8")):
            found = worked(gpu=device.name, **way)
            assert 0 < found.kwh.lo <= found.kwh.value <= found.kwh.hi < math.inf
