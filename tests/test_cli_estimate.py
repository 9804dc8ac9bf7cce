"""`energyprof estimate`: plain text of 80 columns, JSON of everything, one line where something is wrong."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from energyprof.carbon.ranges import Range, exact
from energyprof.cli import main
from energyprof.reports import estimate as report
from tests.conftest import ROOT


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
        ("--gpu", "V100SXM2", "--hours", "3", "--watts", "5000", "--country", "gcp:us-central1"),
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
    assert "590 (240 to 930) kWh" in out
    assert "= 440 (190 to 580) W; the intervals hold 4 boards" in " ".join(out.split())
    assert "Germany 2023" in out
    assert "km by car" in out
    assert "149 (60 to 233) EUR" in out
    assert "apart, in no figure above" in " ".join(out.split())
    assert "* Germany" in out
    assert "NVIDIA A100-SXM4-80GB; intervals hold 4 boards" in out
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
    assert found["when"]["saved"]["share"] == pytest.approx(0.75)
    for each in (
        *(found["when"][name] for name in ("greenest", "earliest", "worst", "mean")),
        found["when"]["saved"],
    ):
        assert 0 < each["co2e_g"]["lo"] < each["co2e_g"]["value"] < each["co2e_g"]["hi"]
    saved = found["when"]["earliest"]["co2e_g"]["value"] - found["when"]["greenest"]["co2e_g"]["value"]
    assert found["when"]["saved"]["co2e_g"]["value"] == pytest.approx(saved)
    assert (found["when"]["source"], found["when"]["scope"]) == ("series day.csv", "as given by the user")
    assert found["when"]["greenest"]["g_per_kwh"] == pytest.approx(100)
    assert found["when"]["greenest"]["begin"].endswith("+00:00")
    assert found["when"]["greenest"]["begin_s"] - found["when"]["earliest"]["begin_s"] == pytest.approx(
        6 * 3600
    )


def test_holes_of_a_series_and_a_place_beside_it_are_told(run: Run, tmp_path: Path) -> None:
    start = datetime.now(timezone.utc).replace(minute=0, second=0, microsecond=0) + timedelta(hours=2)
    figures = ("0.5", "", "70", "70")
    rows = [f"{(start + timedelta(hours=h)).isoformat()},{value}" for h, value in enumerate(figures)]
    (tmp_path / "holes.csv").write_text("\n".join(["time,g_per_kwh", *rows]) + "\n")
    done = run("--gpu", "L4", "--hours", "1", "--series", "holes.csv", "--country", "FRA")
    assert "no start whose run would touch one of the series' holes (1 h 00 min in all)" in done.stdout
    assert "the intensity is the series'; of FRA only what its operator" in " ".join(done.stdout.split())
    assert next(line for line in done.stdout.splitlines() if "greenest" in line).split()[3] == "0.5"


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
        (("--gpu", "A100", "--flops", "1e-12", "--mfu", "5e-324", "--peak", "1e-99"), "is that number right"),
        (("--gpu", "A100", "--hours", "1e9"), "below 10,000,000 h"),
        (("--gpu", "A100", "--hours", "3", "--count", "1e12"), "from 1 to 10,000,000"),
        (("--gpu", "A100", "--hours", "3", "--watts", "1e30"), "below 1,000,000"),
        (
            ("--gpu", "A100", "--hours", "3", "--country", "qqqqqq"),
            "a place is FRA, US-CA, SE3 or aws:eu-west-3",
        ),
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


def test_all_that_the_page_promises_of_json_is_there(run: Run) -> None:
    found = json.loads(
        run(*HOURS, "--price", "0.30 EUR, 22-6 0.18", "--places", "GEO,US-GA,SE3", "--json").stdout
    )
    figures = (
        "hours",
        "device_hours",
        "device_w",
        "host_w",
        "together_w",
        "machines_kwh",
        "energy_kwh",
        "co2e_g",
    )
    for name in (*figures, "water_l", "cost", "pue", "wue_l_per_kwh", "price"):
        assert found[name]["lo"] <= found[name]["value"] <= found[name]["hi"]
        assert found[name]["source"]
    assert "Shehabi" in found["water_l"]["source"]
    assert "given" in found["cost"]["source"]
    assert found["embodied"]["life_years"]["source"]
    assert found["embodied"]["row"]["source"]
    assert found["embodied"]["server"]["source"]
    assert found["missing"] == {}
    assert {place["place"] for place in found["elsewhere"]} == {"GEO", "US-GA", "SE3", "DEU"}
    for place in found["elsewhere"]:
        assert place["scope"]
        assert place["source"]
        assert place["comparable"] is (place["scope"] == found["intensity"]["scope"])
        assert place["ratio"] == pytest.approx(place["g_per_kwh"]["value"] / found["intensity"]["g_per_kwh"])
        assert place["co2e_g"]["lo"] < place["co2e_g"]["value"] < place["co2e_g"]["hi"]
    assert all(each["text"] and each["source"] for each in (*found["equivalents"], *found["assumptions"]))
    assert len(found["boards"]) == 4


def test_what_json_lacks_has_a_reason(run: Run) -> None:
    found = json.loads(run("--gpu", "L4", "--hours", "1", "--intensity", "52", "--json").stdout)
    assert found["cost"] is found["embodied"] is found["price"] is None
    assert found["missing"] == {
        "cost": "no price of a kWh was said",
        "embodied": "nobody published what making NVIDIA L4 emits",
    }
    assert "embodied    — (nobody published" in run("--gpu", "L4", "--hours", "1", "--intensity", "52").stdout


def test_places_of_one_name_are_told_apart(run: Run) -> None:
    out = run("--watts", "300", "--hours", "2", "--places", "GEO,US-GA", "--country", "SWE").stdout
    assert "Georgia (GEO)" in out
    assert "Georgia (US-GA)" in out
    assert "Sweden (" not in out


def test_an_assumption_is_a_line_and_its_source_is_asked_for(run: Run) -> None:
    brief, long = run(*HOURS).stdout, run(*HOURS, "--sources").stdout
    assert "Latif" not in brief
    assert "Our World in Data" not in brief
    assert len(brief.splitlines()) < 36
    taken = brief.partition("taken where")[2].splitlines()
    assert all(line[2:3].strip() for line in taken[1:])  # none goes on in a second line
    words = " ".join(long.split())
    for part in ("Latif et al. 2025", "Our World in Data", "A100 taken as NVIDIA A100-SXM4-80GB", "US EPA"):
        assert part in words
    assert "8 x 120 h x (240 (170 to 300) W + 200 (80 to 330) W) = 420" in words
    assert max(len(line) for line in long.splitlines() if "http" not in line) <= 80


def test_the_pages_commands_give_what_the_page_says(run: Run) -> None:
    page = (ROOT / "docs/estimate.md").read_text(encoding="utf-8")
    rows = re.findall(r"\| ([^|]+) \| `(--gpu [^`]+)` \|", page)
    assert len(rows) == 5
    for figure, command in rows:
        assert figure in " ".join(run(*shlex.split(command)).stdout.split())


def test_a_file_is_named_and_not_taken_for_its_place(run: Run, series: str) -> None:
    said = ("--gpu", "L4", "--hours", "3", "--series", series, "--country", "FRA")
    assert "; series day.csv, " in " ".join(run(*said).stdout.split())
    found = json.loads(run(*said, "--json").stdout)
    assert found["intensity"]["scope"] == "as given by the user"
    assert found["intensity"]["place_name"] == "series day.csv"
    assert "France" in {place["place_name"] for place in found["elsewhere"]}  # its table's figure beside


def test_negative_prices_are_shown_as_they_are(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "paid.csv"
    path.write_text("time,price\n2026-01-01T00:00Z,-0.20\n2026-01-01T01:00Z,-0.10\n2026-01-01T02:00Z,-0.30\n")
    said = ("--watts", "1000", "--host-watts", "0", "--hours", "10", "--pue", "1", "--intensity", "52")
    assert "-2.0 (-3.0 to -1.0) EUR" in run(*said, "--price", f"{path} EUR").stdout
    found = json.loads(run(*said, "--price", f"{path} EUR", "--json").stdout)
    assert (found["cost"]["lo"], found["cost"]["hi"]) == (pytest.approx(-3), pytest.approx(-1))
    assert "cost        1 EUR" in run(*said, "--price", "0.30 EUR, 0-24 0.1").stdout


@pytest.mark.parametrize(
    "said",
    [
        ("--watts", "300", "--hours", "1e-15"),
        ("--gpu", "H100", "--flops", "1"),
        ("--gpu", "H100", "--flops", "1", "--mfu", "1e-9", "--peak", "1e99", "--sources"),
        ("--watts", "1e-6", "--host-watts", "1e-6", "--hours", "3", "--sources"),
        ("--gpu", "H100", "--hours", "9e6", "--count", "1e6", "--price", "0.3"),
        ("--gpu", "H100", "--params", "1e20", "--tokens", "1e9", "--count", "1e6"),
    ],
)
def test_absurd_figures_have_no_row_of_zeros(run: Run, said: tuple[str, ...]) -> None:
    done = run(*said, "--country", "FRA")
    assert done.returncode == 0, done.stderr
    assert "0000" not in done.stdout.replace("9,000,000 h", "").replace("1,000,000 x", "")
    assert "000,000,000" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if "http" not in line) <= 80


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (Range(226_302, 86_947, 302_615), "230 (87 to 300) kg"),
        (Range(100.0, 98.6, 101.2), "100.0 (98.6 to 101.2) g"),
        (Range(0.02, 0.01, 0.04), "20 (10 to 40) mg"),
        (Range(2e6, 0.0, 5e6), "2.0 (0.0 to 5.0) t"),
        (Range(2e12, 1e12, 5e12), "2.0 (1.0 to 5.0) Mt"),
        (exact(1234.5), "1.23 kg"),
        (exact(1.2345e9), "1.23 kt"),
        (exact(0.0), "0 g"),
        (exact(2.7e-15), "below 1 µg"),
        (Range(999_999, 999_998, 1_000_000), "1.00 t"),
    ],
)
def test_grams_have_the_digits_that_their_interval_allows(part: Range, text: str) -> None:
    assert report.grams(part) == text
