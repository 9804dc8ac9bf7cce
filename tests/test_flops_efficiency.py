"""MFU, HFU, roofline, FLOP/J and joules a token: closed forms, intervals, and a reason where there is none."""

from __future__ import annotations

import dataclasses
import math
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyprof.flops import efficiency, peaks
from energyprof.flops.efficiency import Efficiency, Estimate, Work, assess
from energyprof.reports.efficiency import describe
from tests.conftest import ROOT

positive = st.floats(1e-3, 1e18)


def a100() -> peaks.Device:
    device = peaks.find("NVIDIA A100-SXM4-80GB")
    assert device is not None
    return device


def whole() -> Work:
    """A second of an A100 at 118.56 TFLOP/s of the model, a third recomputed on top, 400 J, 10,000 tokens."""
    return Work(
        seconds=1.0,
        flops_model=118.56e12,
        flops_hardware=158.08e12,
        bytes_moved=2e12,
        energy_j=Estimate(400.0, 20.0),
        samples=10,
        tokens=10_000,
    )


def test_palm_540b_has_the_mfu_that_its_paper_prints() -> None:
    # Chowdhery et al. 2022: 238.3 thousand tokens/s on 6,144 TPU v4 of 275 TFLOP/s; 46.2 %. Appendix B: 6N + 12LHQT
    # FLOPs a token with 118 layers, 48 heads of 256, 2,048 tokens.
    flops_a_token = 6 * 540.35e9 + 12 * 118 * 48 * 256 * 2048
    assert efficiency.mfu(238.3e3 * flops_a_token, 1.0, 6144 * 275e12) == pytest.approx(0.462, abs=0.002)


def test_recomputation_raises_hfu_and_leaves_mfu() -> None:
    found = assess(whole(), "bf16", a100())
    assert found.mfu == pytest.approx(0.38)
    assert found.hfu == pytest.approx(0.38 * 4 / 3)


def test_devices_share_the_peak() -> None:
    eight = assess(dataclasses.replace(whole(), n_devices=8), "bf16", a100())
    assert eight.mfu == pytest.approx(0.38 / 8)


def test_the_roof_bends_at_peak_over_bandwidth() -> None:
    left, right = (efficiency.roofline(i, 312e12, 2.039e12) for i in (10.0, 1000.0))
    assert left.ridge == right.ridge == pytest.approx(153.0, abs=0.1)
    assert (left.side, left.attainable_flop_s) == ("memory", pytest.approx(20.39e12))
    assert (right.side, right.attainable_flop_s) == ("compute", 312e12)
    at_the_ridge = efficiency.roofline(left.ridge, 312e12, 2.039e12)
    assert at_the_ridge.side == "compute"
    assert at_the_ridge.attainable_flop_s == pytest.approx(312e12)


@given(intensity=positive, peak=positive, bandwidth=positive)
def test_the_roof_is_never_above_peak_or_memory(intensity: float, peak: float, bandwidth: float) -> None:
    roof = efficiency.roofline(intensity, peak, bandwidth)
    assert roof.attainable_flop_s <= peak
    assert roof.attainable_flop_s <= intensity * bandwidth
    assert (roof.side == "memory") == (intensity < peak / bandwidth)


def test_intervals_of_ratios_cover_as_often_as_those_of_the_energy() -> None:
    rng = random.Random(5)
    truth, sd, covered = 400.0, 8.0, 0
    for _ in range(4000):
        measured = Estimate(rng.gauss(truth, sd), 1.96 * sd)
        ratio = efficiency.flop_per_j(1e15, measured)
        assert ratio is not None
        assert ratio.u95 is not None
        covered += abs(ratio.value - 1e15 / truth) <= ratio.u95
    assert covered / 4000 == pytest.approx(0.95, abs=0.012)


def test_joules_each_carry_their_interval() -> None:
    assert efficiency.j_each(Estimate(400.0, 20.0), 100) == Estimate(4.0, 0.2)
    assert efficiency.j_each(Estimate(400.0), 100) == Estimate(4.0, None)


def test_an_energy_whose_interval_reaches_zero_gives_no_flop_a_joule() -> None:
    for value in (Estimate(1.0, 1.0), Estimate(-1.0, 0.1), Estimate(0.0), Estimate(math.nan)):
        assert efficiency.flop_per_j(1e12, value) is None
    found = assess(dataclasses.replace(whole(), energy_j=Estimate(1.0, 2.0)), "bf16", a100())
    assert found.flop_per_j is None
    assert "longer" in found.reasons["flop_per_j"]


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_times_and_peaks_that_cannot_be_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="seconds is"):
        efficiency.mfu(1e12, bad, 1e12)
    with pytest.raises(ValueError, match="peak_flop_s is"):
        efficiency.hfu(1e12, 1.0, bad)
    with pytest.raises(ValueError, match="bytes_moved is"):
        efficiency.arithmetic_intensity(1e12, bad)
    with pytest.raises(ValueError, match="peak_tflops is"):
        assess(whole(), "bf16", None, "a device", peak_tflops=bad)


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="FLOPs are"):
        efficiency.mfu(-1.0, 1.0, 1e12)


@pytest.mark.parametrize(
    ("work", "device", "dtype"),
    [
        (whole(), a100(), "bf16"),
        (whole(), None, "bf16"),
        (whole(), a100(), "fp8"),
        (Work(seconds=1.0), a100(), "bf16"),
        (Work(seconds=0.0, flops_model=1.0, flops_hardware=1.0), a100(), "bf16"),
        (Work(seconds=math.nan, flops_model=1.0), None, "int64"),
        (dataclasses.replace(whole(), bytes_moved=None, energy_j=None), a100(), "bf16"),
        (dataclasses.replace(whole(), samples=None, tokens=0), a100(), "bf16"),
    ],
)
def test_what_is_none_has_a_reason_and_nothing_else_has(
    work: Work, device: peaks.Device | None, dtype: str
) -> None:
    found = assess(work, dtype, device, "some device")
    names = [f.name for f in dataclasses.fields(Efficiency) if f.name != "reasons"]
    assert {name for name in names if getattr(found, name) is None} == set(found.reasons)
    assert all(found.reasons.values())
    assert not any("None" in line or "nan" in line for line in describe(found))


def test_an_unknown_device_takes_the_users_peak() -> None:
    without = assess(whole(), "bf16", None, "NVIDIA X1")
    assert without.mfu is None
    assert "NVIDIA X1" in without.reasons["mfu"]
    assert "ENERGYPROF_PEAK_TFLOPS" in without.reasons["mfu"]
    told = assess(whole(), "bf16", None, "NVIDIA X1", peak_tflops=1000)
    assert told.mfu == pytest.approx(0.11856)
    assert told.roofline is None
    assert "bandwidth" in told.reasons["roofline"]


def test_the_users_peak_replaces_the_tables() -> None:
    told = assess(whole(), "bf16", a100(), peak_tflops=118.56)
    assert told.mfu == pytest.approx(1.0)
    assert told.roofline is not None
    assert told.roofline.ridge == pytest.approx(118.56e12 / 2039e9)


def test_a_run_is_described_in_a_line_a_figure() -> None:
    assert describe(assess(whole(), "bf16", a100())) == [
        "MFU 38 % of 312 TFLOP/s (bf16, NVIDIA A100-SXM4-80GB)",
        "HFU 51 % of 312 TFLOP/s (bf16, NVIDIA A100-SXM4-80GB)",
        "arithmetic intensity 79 FLOP/byte unfused, left of the ridge at 153: "
        "bound by memory at 161 TFLOP/s a device unless fused",
        "395 ± 20 GFLOP/J",
        "40.0 ± 2.0 J/sample",
        "40.0 ± 2.0 mJ/token",
    ]


def test_what_is_not_known_is_said() -> None:
    lines = describe(assess(Work(seconds=1.0, flops_model=1e12), "bf16", None, "AMD EPYC 7763"))
    assert lines[0].startswith("MFU n/a: no peak of AMD EPYC 7763 is known; say it with")
    assert "HFU n/a: its FLOPs were not counted" in lines
    assert "FLOP/J n/a: its FLOPs were not counted" in lines


def test_without_recomputation_one_utilisation_is_said() -> None:
    plain = dataclasses.replace(whole(), flops_hardware=whole().flops_model)
    for device in (a100(), None):
        assert sum("FU " in line for line in describe(assess(plain, "bf16", device, "X"))) == 1


def test_more_than_the_peak_is_said_to_be_so() -> None:
    (line, *_) = describe(assess(dataclasses.replace(whole(), seconds=0.1), "bf16", a100()))
    assert "380 %" in line
    assert "above the peak" in line


def test_a_name_with_control_characters_stays_on_its_line() -> None:
    lines = describe(assess(whole(), "bf16", None, "evil\n\x1b[31m"))
    assert not any("\n" in line or "\x1b" in line for line in lines)


def test_table_and_figures_import_no_torch() -> None:
    code = (
        "import sys, energyprof.flops.peaks as p, energyprof.flops.efficiency\n"
        "assert p.find('NVIDIA L4') and not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=60)
