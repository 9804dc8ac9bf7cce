"""The table of devices: its figures are dense, consistent and sourced, and a name means one device or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from energyprof import settings
from energyprof.flops import page, peaks
from tests.conftest import ROOT

ROWS = [pytest.param(device, id=device.name) for device in peaks.devices()]

# As drivers report them, with the peak that the vendor prints for the most used dtype (dense, TFLOP/s).
REPORTED = {
    "Tesla V100-SXM2-16GB": ("fp16", 125),
    "Tesla V100-PCIE-32GB": ("fp16", 112),
    "Tesla T4": ("fp16", 65),
    "NVIDIA A10": ("bf16", 125),
    "NVIDIA A10G": ("bf16", 70),
    "NVIDIA A30": ("bf16", 165),
    "NVIDIA A40": ("bf16", 149.7),
    "NVIDIA A100-SXM4-40GB": ("bf16", 312),
    "A100-SXM4-80GB": ("bf16", 312),
    "NVIDIA A100-PCIE-40GB": ("bf16", 312),
    "NVIDIA A100 80GB PCIe": ("bf16", 312),
    "NVIDIA RTX A6000": ("bf16", 154.8),
    "NVIDIA GeForce RTX 3090": ("bf16", 71),
    "NVIDIA GeForce RTX 4090": ("bf16", 165.2),
    "GeForce RTX 5090": ("bf16", 209.5),
    "NVIDIA L4": ("bf16", 121),
    "NVIDIA L40": ("bf16", 181.05),
    "NVIDIA L40S": ("bf16", 362.05),
    "NVIDIA RTX 6000 Ada Generation": ("bf16", 364.2),
    "NVIDIA H100 80GB HBM3": ("bf16", 989.4),
    "NVIDIA H100 PCIe": ("bf16", 756),
    "NVIDIA H100 NVL": ("bf16", 835.5),
    "NVIDIA H200": ("bf16", 989.4),
    "NVIDIA GH200 480GB": ("bf16", 989.4),
    "NVIDIA B200": ("bf16", 2250),
    "AMD Instinct MI250X": ("bf16", 191.5),
    "AMD Instinct MI300X": ("bf16", 1307.4),
}


@pytest.mark.parametrize("device", ROWS)
def test_every_peak_is_units_times_rate_times_clock(device: peaks.Device) -> None:
    assert set(device.flop_s) <= set(peaks.DTYPES)
    if not device.flop_per_clock:  # only the power is published, or no clock
        assert device.rates_source == ""
        return
    assert set(device.flop_s) == set(device.flop_per_clock)
    for kind, published in device.flop_s.items():
        assert device.computed_peak(kind) == pytest.approx(published, rel=0.02), kind


@pytest.mark.parametrize("device", ROWS)
def test_every_row_has_sources_and_plausible_figures(device: peaks.Device) -> None:
    assert len(device.source) > 10
    assert (len(device.rates_source) > 10) == bool(device.flop_per_clock)
    # From an accelerator at a USB port to a module of 1,000 W.
    assert 2 <= (device.tdp_w or device.max_w or device.mean_w or 0) <= 1200
    assert device.tdp_w is not None or device.power_source
    told = [
        watts for watts in (device.idle_w, device.mean_w, device.max_w, device.tdp_w) if watts is not None
    ]
    assert told == sorted(told)
    # From LPDDR4 to HBM3e; the memory is swept in 10 ms to 400 ms.
    assert device.bandwidth_b_s is None or 25e9 <= device.bandwidth_b_s <= 10e12
    if device.bandwidth_b_s and device.memory_b:
        assert 0.01 <= device.memory_b / device.bandwidth_b_s <= 0.4


@pytest.mark.parametrize("device", ROWS)
def test_narrower_dtypes_are_never_slower(device: peaks.Device) -> None:
    for wide, narrow in (
        ("fp64", "fp32"),
        ("fp32", "tf32"),
        ("tf32", "bf16"),
        ("fp16", "fp8"),
        ("fp8", "int8"),
    ):
        slow, fast = device.peak(wide), device.peak(narrow)
        assert slow is None or fast is None or slow <= fast
    bf16 = device.peak("bf16")
    assert bf16 is None or device.peak("fp16") in (None, bf16)


@pytest.mark.parametrize("device", ROWS)
def test_every_name_of_a_row_finds_that_row(device: peaks.Device) -> None:
    for name in device.names:
        assert peaks.find(name) is device
        assert peaks.find(name, units=device.units) is device
    for name in device.shared_names:
        assert peaks.find(name) is None
        assert peaks.find(name, units=device.units) is device


@pytest.mark.parametrize(("name", "expected"), REPORTED.items(), ids=list(REPORTED))
def test_names_that_drivers_report_have_their_dense_peak(name: str, expected: tuple[str, float]) -> None:
    device = peaks.find(name)
    assert device is not None
    kind, tflops = expected
    assert device.peak(kind) == pytest.approx(tflops * 1e12)


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA A100-SXM4-80GB MIG 3g.40gb",  # a slice bears its parent's name
        "GRID A100-10C",
        "NVIDIA A40-48Q",
        "NVIDIA A100-SXM-64GB",  # Leonardo's own, with more units
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "Quadro RTX 6000",  # Turing; the Ada board has a word more
        "NVIDIA L20",
        "A100",  # which of four?
        "Orin",
        "AMD Radeon Graphics",
        "AMD EPYC 7763 64-Core Processor",
        "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
        "NVIDIA",
        "cpu",
        "",
    ],
)
def test_a_name_that_is_not_known_for_certain_has_no_peak(name: str) -> None:
    assert peaks.find(name) is None


def test_a_device_with_other_units_is_another_device() -> None:
    assert peaks.find("AMD Instinct MI300X OAM", units=304) is not None
    assert peaks.find("AMD Instinct MI300X OAM", units=80) is None  # how some MI308X call themselves
    assert peaks.find("AMD Instinct MI300X", units=38) is None  # one partition of eight
    assert peaks.find("NVIDIA H200", units=132) is peaks.find("NVIDIA H200")


@pytest.mark.parametrize(
    ("typed", "first", "how_many"),
    [
        ("A100", "NVIDIA A100-SXM4-80GB", 4),
        ("h100", "NVIDIA H100 80GB HBM3", 3),
        ("L4", "NVIDIA L4", 1),
        ("RTX 4090", "NVIDIA GeForce RTX 4090", 1),
        ("tpu v4", "TPU v4", 1),
        ("RTX4090", "NVIDIA GeForce RTX 4090", 1),
        ("TPUv4", "TPU v4", 1),
        ("TPUv5e", "TPU v5e", 1),
        ("H100SXM", "NVIDIA H100 80GB HBM3", 1),
        ("V100SXM2", "Tesla V100-SXM2-32GB", 2),
        ("A100-SXM480GB", "NVIDIA A100-SXM4-80GB", 1),
        ("RTX40", "", 0),
        ("v100", "Tesla V100-SXM2-32GB", 4),
        ("no such thing", "", 0),
        ("NVIDIA", "", 0),
        ("", "", 0),
    ],
)
def test_a_typed_name_means_the_boards_that_have_its_words(typed: str, first: str, how_many: int) -> None:
    found = peaks.likely(typed)
    assert len(found) == how_many
    assert not found or found[0].name == first


@pytest.mark.parametrize(
    ("typed", "near"),
    [("H1000 PCIe", "NVIDIA H100 PCIe"), ("RTX4091", "NVIDIA GeForce RTX 4090"), ("tpu 4", "TPU v4")],
)
def test_an_unknown_device_has_near_ones(typed: str, near: str) -> None:
    assert near in peaks.nearest(typed)


def test_lookalikes_are_told_apart() -> None:
    l4, l40, l40s = (peaks.find(name) for name in ("NVIDIA L4", "NVIDIA L40", "NVIDIA L40S"))
    assert l4 is not None
    assert l40 is not None
    assert l40s is not None
    assert l4.peak("bf16") != l40.peak("bf16") != l40s.peak("bf16")
    a10, a10g = peaks.find("NVIDIA A10"), peaks.find("NVIDIA A10G")
    assert a10 is not None
    assert a10g is not None
    assert a10.peak("bf16") != a10g.peak("bf16")


def test_no_two_rows_share_a_name() -> None:
    names = [name for device in peaks.devices() for name in device.names]
    assert len({peaks._words(name) for name in names}) == len(names)


def test_dtypes_of_torch_are_understood() -> None:
    torch = pytest.importorskip("torch")
    h100 = peaks.find("NVIDIA H100 80GB HBM3")
    assert h100 is not None
    assert h100.peak(torch.bfloat16) == h100.peak("bf16") == h100.peak("bfloat16")
    assert h100.peak(torch.float32) == h100.peak("fp32") == pytest.approx(66.9e12)
    assert h100.peak(torch.float8_e4m3fn) == h100.peak("fp8")
    assert h100.peak(torch.int64) is None
    assert h100.peak("no such dtype") is None


def test_a_dtype_that_a_device_lacks_has_no_peak() -> None:
    v100 = peaks.find("Tesla V100-SXM2-16GB")
    assert v100 is not None
    assert v100.peak("bf16") is None
    assert v100.peak("tf32") is None
    assert v100.computed_peak("bf16") is None


def test_the_page_of_devices_is_the_table() -> None:
    assert (ROOT / "docs/devices.md").read_text(encoding="utf-8") == page.page()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory whose pyproject.toml says peak_tflops = 100."""
    (tmp_path / "pyproject.toml").write_text("[tool.energyprof]\npeak_tflops = 100\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENERGYPROF_PEAK_TFLOPS", raising=False)
    return tmp_path


def test_a_peak_is_said_by_argument_then_environment_then_project(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.peak_tflops() == 100
    monkeypatch.setenv("ENERGYPROF_PEAK_TFLOPS", "1.5e3")
    assert settings.peak_tflops() == 1500
    assert settings.peak_tflops(312) == 312
    monkeypatch.setenv("ENERGYPROF_PEAK_TFLOPS", "")
    assert settings.peak_tflops() == 100
    (project / "pyproject.toml").write_text("[tool.energyprof]\n")
    assert settings.peak_tflops() is None


@pytest.mark.parametrize("told", ["much", "0", "-3", "nan", "inf", "1e999", "312 TFLOP/s"])
def test_a_peak_that_is_no_positive_number_is_refused_in_one_line(
    project: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.setenv("ENERGYPROF_PEAK_TFLOPS", told)
    with pytest.raises(ValueError, match=r"peak_tflops is .*; give") as caught:
        settings.peak_tflops()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("told", ["true", '"fast"', "[1]", "0"])
def test_a_project_that_says_no_positive_number_is_refused(project: Path, told: str) -> None:
    (project / "pyproject.toml").write_text(f"[tool.energyprof]\npeak_tflops = {told}\n")
    with pytest.raises(ValueError, match="peak_tflops is"):
        settings.peak_tflops()
