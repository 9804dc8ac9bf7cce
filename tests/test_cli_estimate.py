"""`energyprof estimate`: plain text of 80 columns, JSON of everything, one line where something is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from energyprof.carbon.ranges import Range, exact
from energyprof.cli import main
from energyprof.reports import estimate as report


@dataclass
class Said:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in this process, in an empty folder, with nothing set."""
    monkeypatch.chdir(tmp_path)
    for name in ("COUNTRY", "INTENSITY", "PUE", "WUE", "PRICE"):
        monkeypatch.delenv(f"ENERGYPROF_{name}", raising=False)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["energyprof", "estimate", *arguments])
        code = main()
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
def series(tmp_path: Path) -> str:
    """A day of hourly figures to come, low from the sixth to the ninth hour."""
    start = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)
    lines = ["time,g_per_kwh"]
    lines += [f"{(start + timedelta(hours=h)).isoformat()},{100 if 6 <= h < 9 else 400}" for h in range(24)]
    path = tmp_path / "day.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


HOURS = ("--gpu", "A100", "--hours", "120", "--count", "8", "--utilisation", "0.7", "--country", "DEU")


def test_a_person_reads_it_in_80_columns(run: Run, series: str) -> None:
    for more in (
        HOURS,
        (*HOURS, "--price", "0.25 EUR"),
        (
            "--gpu",
            "H100",
            "--count",
            "64",
            "--params",
            "7e9",
            "--tokens",
            "2T",
            "--country",
            "gcp:europe-west9",
        ),
        ("--gpu", "L4", "--hours", "3h", "--series", series),
        ("--watts", "300", "--hours", "90min", "--intensity", "52", "--price", "0.25"),
        ("--gpu", "Raspberry Pi 4", "--hours", "1", "--country", "SWE"),
    ):
        done = run(*more)
        assert (done.returncode, done.stderr) == (0, "")
        lines = done.stdout.splitlines()
        assert max(map(len, lines)) <= 80, done.stdout
        assert not any(line != line.rstrip() for line in lines)
        assert "e+" not in done.stdout


def test_the_text_has_each_figure_with_its_interval(run: Run) -> None:
    out = run(*HOURS, "--price", "0.25 EUR").stdout
    assert out.startswith("estimate    8 x NVIDIA A100-SXM4-80GB for 120 h\n")
    assert "960 device hours" in out
    assert "590 kWh (240 to 800)" in out
    assert "Germany 2023" in out
    assert "km by car" in out
    assert "150 EUR (61 to 200)" in out
    assert "apart, in no figure above" in " ".join(out.split())
    assert "* Germany" in out
    assert "A100 taken as NVIDIA A100-SXM4-80GB" in " ".join(out.split())
    assert "utilisation " not in out  # it was said


def test_json_has_everything(run: Run) -> None:
    found = json.loads(run(*HOURS, "--price", "0.25 EUR", "--places", "FRA,SWE,US-CA", "--json").stdout)
    for name in (
        "hours",
        "device_hours",
        "device_w",
        "host_w",
        "machines_kwh",
        "energy_kwh",
        "co2e_g",
        "water_l",
        "cost",
    ):
        assert found[name]["lo"] <= found[name]["value"] <= found[name]["hi"]
    assert found["device_hours"]["value"] == 960
    assert found["cost"]["currency"] == "EUR"
    assert found["embodied"]["devices_g"]["value"] > 0
    assert [place["place"] for place in found["elsewhere"]] == ["SWE", "FRA", "US-CA", "DEU"]
    assert found["intensity"]["year"] == 2023
    assert all(each["source"] for each in found["assumptions"])
    assert len(found["equivalents"]) == 3
    assert "when" not in found


def test_the_greenest_start_is_named_with_what_it_saves(run: Run, series: str) -> None:
    done = run("--gpu", "L4", "--hours", "3", "--series", series)
    assert "the greenest start saves 75 % against the earliest" in done.stdout
    found = json.loads(run("--gpu", "L4", "--hours", "3", "--intensity", series, "--json").stdout)
    assert found["when"]["saved"] == pytest.approx(0.75)
    assert found["when"]["greenest"]["g_per_kwh"] == pytest.approx(100)
    assert found["when"]["greenest"]["begin"].endswith("+00:00")
    assert found["when"]["greenest"]["begin_s"] - found["when"]["earliest"]["begin_s"] == pytest.approx(
        6 * 3600
    )


def test_without_a_place_it_is_the_flagged_world_average(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("energyprof.carbon.here.found", lambda *_: None)
    done = run("--gpu", "T4", "--hours", "1")
    assert "world average 2019 (no place was said)" in " ".join(done.stdout.split())


def test_a_place_may_be_set_for_all_runs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENERGYPROF_COUNTRY", "SWE")
    assert "Sweden 2023" in run("--gpu", "T4", "--hours", "1").stdout
    monkeypatch.setenv(
        "ENERGYPROF_INTENSITY", "electricitymaps"
    )  # for measured runs; nothing is asked of it here
    assert "Sweden 2023" in run("--gpu", "T4", "--hours", "1").stdout


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--gpu", "A100", "--hours", "3", "--flops", "1e20"), "--hours and --flops"),
        (("--gpu", "A100", "--hours", "3", "--count", "0"), "count is '0'"),
        (("--gpu", "A100", "--hours", "3", "--utilisation", "1.2"), "utilisation is '1.2'"),
        (("--gpu", "A100", "--hours", "-3"), "hours is '-3'"),
        (("--gpu", "A100", "--hours", "nan"), "hours is 'nan'"),
        (("--gpu", "A100", "--params", "7B"), "--tokens is missing"),
        (("--gpu", "A1000", "--hours", "3"), "did you mean NVIDIA A100"),
        (("--gpu", "A100", "--hours", "3", "--country", "Atlantis"), "Atlantis"),
        (("--gpu", "A100", "--hours", "3", "--places", "FRA,Atlantis"), "Atlantis"),
        (("--gpu", "A100", "--hours", "3", "--country", "FRA", "--intensity", "52"), "choose one"),
        (("--gpu", "A100", "--hours", "3", "--series", "x.csv", "--intensity", "52"), "choose one"),
        (("--gpu", "A100", "--hours", "3", "--series", "none.csv"), "cannot read none.csv"),
        (("--gpu", "A100", "--hours", "3", "--series", "day.txt"), ".csv or .parquet"),
        (("--gpu", "A100", "--hours", "3", "--intensity", "electricitymaps:FR"), "no intensities to come"),
        (("--gpu", "A100", "--hours", "3", "--pue", "0.5"), "pue is '0.5'"),
        (("--gpu", "A100", "--hours", "3", "--price", "cheap"), "price is 'cheap'"),
        (("--gpu", "A100", "--hours", "3", "stray"), "stray"),
    ],
)
def test_wrong_use_is_one_line_and_exit_status_2(run: Run, more: tuple[str, ...], why: str) -> None:
    done = run(*more)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert why in done.stderr


def test_a_series_shorter_than_the_run_is_refused(run: Run, series: str) -> None:
    done = run("--gpu", "A100", "--hours", "30", "--series", series)
    assert (done.returncode, done.stdout) == (2, "")
    assert "covers 24 h, the run lasts 30 h" in done.stderr


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (Range(226_302, 86_947, 302_615), "230 kg (87 to 300)"),
        (Range(100.0, 98.6, 101.2), "100.0 g (98.6 to 101.2)"),
        (Range(0.02, 0.01, 0.04), "20 mg (10 to 40)"),
        (Range(2e6, 0.0, 5e6), "2.0 t (0 to 5.0)"),
        (exact(1234.5), "1.23 kg"),
        (exact(0.0), "0 g"),
        (Range(999_999, 999_998, 1_000_000), "1,000.0 kg (1,000.0 to 1,000.0)"),
    ],
)
def test_grams_have_the_digits_that_their_interval_allows(part: Range, text: str) -> None:
    assert report.grams(part) == text
