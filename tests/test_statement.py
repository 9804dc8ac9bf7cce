"""What is published of a run is true, whole, and inert wherever it is pasted."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from energyprof.reports.statement import latex, model_card, paragraph, statement
from energyprof.schema import RUNS

RUN: dict[str, Any] = {
    **{name: None for name, _, _ in RUNS},
    "run_id": "0198f000-0000-7000-8000-000000000000",
    "name": "fine_tune & 100 %",
    "status": "finished",
    "started_utc": datetime(2026, 11, 20, tzinfo=timezone.utc),
    "duration_s": 7200.0,
    "energy_j": 3.6e6,
    "u95_j": 1.8e5,
    "co2e_g": 67.2,
    "co2e_lo_g": 40.0,
    "co2e_hi_g": 110.0,
    "intensity_g_per_kwh": 56.0,
    "intensity_lo_g_per_kwh": 17.7,
    "intensity_hi_g_per_kwh": 177.0,
    "intensity_place": "FRA",
    "intensity_place_name": "France",
    "intensity_year": 2023,
    "intensity_source": "Our World in Data",
    "intensity_scope": "life cycle, production based",
    "pue": 1.2,
    "pue_source": "given",
    "steps": 10_000,
    "hardware": "NVIDIA H100 80GB HBM3",
    "missing": json.dumps([{"source": "rapl", "reason": "no_permission", "detail": "", "remedy": ""}]),
    "flags": "",
    "tags": json.dumps({"training_type": "fine-tuning"}),
    "energyprof": "0.1.0",
}
CHANNELS = [
    {"channel": "gpu:0", "in_total": True, "energy_j": 3.24e6, "method": "counter", "scope": "GPU board"},
    {"channel": "dram:0", "in_total": True, "energy_j": 0.36e6, "method": "modelled", "scope": "memory"},
]


def test_the_paragraph_has_figures_with_intervals_methods_place_year_and_what_is_missing() -> None:
    text = paragraph(RUN, CHANNELS)
    for part in (
        "10,000 steps", "3.60 ± 0.18 MJ", "1.00 ± 0.05 kWh", "Measured: 90 % of it (gpu:0 by its energy counter)",
        "Modelled, not measured: 10 % of it (dram:0 by a model)", "56 (17.7 to 177) g CO2e/kWh (France; 2023;",
        "PUE of 1.2", "67 (40 to 110) g CO2e, location-based", "Not read: rapl", RUN["run_id"],
    ):  # fmt: skip
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"energy_j": None, "u95_j": None, "co2e_g": None, "reason": "device_lost"}, "is not known"),
        ({"intensity_place": "WORLD", "flags": "assumed_location"}, "as the place was not given"),
        ({"pue": None}, "PUE is not included"),
        ({"status": "killed"}, "which was killed"),
        ({"flags": "shared_device"}, "Note: other programs used the device at the same time."),
        (
            {"embodied_g": 5.0, "embodied_lo_g": 3.0, "embodied_hi_g": 9.0, "embodied_source": "x"},
            "Apart from that",
        ),
    ],
)
def test_what_limits_a_figure_is_said_with_it(change: dict[str, object], said: str) -> None:
    assert said in paragraph({**RUN, **change}, CHANNELS)


def test_latex_escapes_what_is_special_and_compiles_where_latex_is(tmp_path: Path) -> None:
    hostile = {**RUN, "name": r"a_b & 50% $x$ #1 {\input{/etc/passwd}} ~^\ Å"}
    (line,) = latex(paragraph(hostile, CHANNELS))
    assert r"a\_b \& 50\% \$x\$ \#1 \{\textbackslash{}input\{/etc/passwd\}\}" in line
    assert r"3.60 $\pm$ 0.18\,MJ" in line
    assert r"CO$_2$e" in line
    if shutil.which("pdflatex"):
        (tmp_path / "a.tex").write_text(
            f"\\documentclass{{article}}\\begin{{document}}{line}\\end{{document}}", encoding="utf-8"
        )
        subprocess.run(["pdflatex", "-halt-on-error", "a.tex"], cwd=tmp_path, check=True, capture_output=True)


def test_the_model_card_is_yaml_with_grams_and_hostile_text_stays_text() -> None:
    yaml = pytest.importorskip("yaml")
    hostile = {**RUN, "name": 'x"\n  emissions: 0 # \\ {a: b} \u2028'}
    card = yaml.safe_load("\n".join(model_card(hostile, CHANNELS)))["co2_eq_emissions"]
    assert card["emissions"] == 67.2
    assert card["training_type"] == "fine-tuning"
    assert (card["geographical_location"], card["hardware_used"]) == ("France", "NVIDIA H100 80GB HBM3")
    assert "95 % interval" in card["source"]


@pytest.mark.parametrize("grams", [2e6, 1e-5, 3.11994e-05, 1.5e9, 0.0, 1e-300])
def test_grams_of_any_size_are_a_number_in_the_model_card(grams: float) -> None:
    yaml = pytest.importorskip("yaml")
    card = yaml.safe_load("\n".join(model_card({**RUN, "co2e_g": grams}, CHANNELS)))["co2_eq_emissions"]
    assert card["emissions"] == pytest.approx(grams, rel=1e-5)


def test_an_intensity_of_the_users_own_is_said_once_and_by_no_accounting() -> None:
    own = {"intensity_place": "", "intensity_place_name": "given intensity", "intensity_year": None}
    said = {"intensity_scope": "as given by the user", "intensity_source": "given by the user"}
    text = paragraph({**RUN, **own, **said}, CHANNELS)
    assert "g CO2e/kWh (given by the user)" in text
    assert "as given" not in text
    assert "location-based" not in text


def test_what_a_provider_publishes_stands_with_its_interval() -> None:
    ends = {"pue": 1.15, "pue_lo": 1.04, "pue_hi": 1.44, "pue_source": "AWS, fleet 2024"}
    water = {"water_l": 0.15, "water_lo_l": 0.03, "water_hi_l": 0.51, "wue_source": "AWS"}
    wue = {"wue_l_per_kwh": 0.15, "wue_lo_l_per_kwh": 0.03, "wue_hi_l_per_kwh": 0.51}
    text = paragraph({**RUN, **ends, **water, **wue}, CHANNELS)
    assert "a PUE of 1.15 (1.04 to 1.44; AWS, fleet 2024)" in text
    assert "(WUE 0.15 L/kWh, 0.03 to 0.51; AWS)" in text


def test_a_run_without_energy_has_a_model_card_that_says_so() -> None:
    lost = {**RUN, "energy_j": None, "co2e_g": None, "reason": "device_lost"}
    assert model_card(lost, CHANNELS) == ["# no emissions: the run has no energy (device_lost)"]


def test_all_forms_stand_under_their_titles() -> None:
    lines = statement(RUN, CHANNELS, "all")
    assert [line for line in lines if line.startswith("# ")] == [
        "# For a text", "# For LaTeX", "# For a model card (YAML, Hugging Face)",
    ]  # fmt: skip
