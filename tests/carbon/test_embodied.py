"""Shares of making a device: from the table, in proportion to time and number, and none where nothing is published."""

from __future__ import annotations

import math

import pytest

from energyprof.carbon import embodied
from energyprof.flops import peaks
from tests.conftest import ROOT

YEAR_S = 365.25 * 86_400


def test_a_whole_life_is_the_whole_making() -> None:
    life, source = embodied.life()
    found = embodied.share("NVIDIA H100 80GB HBM3", life.value * YEAR_S)
    assert found is not None
    assert found.value == pytest.approx(164e3)  # NVIDIA: 1,312 kg for eight
    assert found.lo < 164e3 * life.value / life.hi * 1.01
    assert found.hi > 273e3
    assert "Luccioni" in source


def test_a_share_grows_with_time_and_number() -> None:
    one = embodied.share("NVIDIA B200", 3600)
    eight = embodied.share("NVIDIA B200", 7200, 4)
    assert one is not None
    assert eight is not None
    assert eight.value == pytest.approx(8 * one.value)
    assert (eight.lo, eight.hi) == pytest.approx((8 * one.lo, 8 * one.hi))
    assert embodied.share("NVIDIA B200", 0.0, 4) is not None
    assert embodied.share("NVIDIA B200", 3600, 0) is not None


@pytest.mark.parametrize(
    "name", ["A100-SXM4-80GB", "NVIDIA A100-SXM4-80GB", "nvidia h200", "TPU v5e", "TPU v5p"]
)
def test_names_as_drivers_report_them_are_found(name: str) -> None:
    assert embodied.share(name, 1.0) is not None


@pytest.mark.parametrize(
    "name", ["Tesla T4", "A100", "NVIDIA A100-SXM4-80GB MIG 3g.40gb", "", "cpu", "Intel Xeon"]
)
def test_a_device_of_which_nothing_is_published_has_no_share(name: str) -> None:
    assert embodied.share(name, 3600) is None
    assert embodied.find_embodied(name) is None


@pytest.mark.parametrize(("time", "count"), [(-1.0, 1), (math.nan, 1), (math.inf, 1), (1.0, -1)])
def test_no_time_and_no_number_are_refused(time: float, count: int) -> None:
    with pytest.raises(ValueError, match="give a time"):
        embodied.share("NVIDIA H200", time, count)
    with pytest.raises(ValueError, match="give a time"):
        embodied.server_share(time, count)


def test_every_row_has_its_scope_and_source_and_is_a_device_of_the_table_or_has_no_published_power() -> None:
    for row in embodied.table():
        assert len(row.source) > 20
        assert len(row.scope) > 10
        assert row.year is not None
        assert 2020 <= row.year <= 2026
        assert 20 <= row.kg.lo < row.kg.value < row.kg.hi <= 1000
        assert peaks.find(row.names[0]) is not None or row.names[0] == "TPU v5p"
    names = [name for row in embodied.table() for name in row.names]
    assert len(set(names)) == len(names)


def test_the_page_has_every_row() -> None:
    page = (ROOT / "docs/estimate.md").read_text(encoding="utf-8")
    for row in embodied.table():
        assert f"| {row.names[0]} | {row.kg.value:g} | {row.kg.lo:g} to {row.kg.hi:g} |" in page
