"""Where settings come from: the call, then the environment, then pyproject.toml."""

from __future__ import annotations

from pathlib import Path

import pytest

from energyprof import settings


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.energyprof]\ncountry = "DEU"\npue = 1.4\nprice = "0.30 EUR"\n', encoding="utf-8"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_site_is_what_the_project_says_where_nobody_says_more(project: Path) -> None:
    assert settings.site({}) == {"country": "DEU", "pue": 1.4, "price": "0.30 EUR"}


def test_the_environment_goes_before_the_project_and_the_call_before_both(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENERGYPROF_PUE", "1.3")
    monkeypatch.setenv("ENERGYPROF_WUE", "0.5")
    assert settings.site({"pue": 1.1, "country": None}) == {
        "country": "DEU", "pue": 1.1, "wue": "0.5", "price": "0.30 EUR",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "place"),
    [
        ({"country": "FRA"}, {"country": "FRA"}),
        ({"intensity": 52}, {"intensity": 52}),
        ({"intensity": "52"}, {"intensity": "52"}),
        ({"intensity": "series.csv"}, {"intensity": "series.csv", "country": "DEU"}),
        ({"intensity": "electricitymaps"}, {"intensity": "electricitymaps", "country": "DEU"}),
        ({"intensity": "series.csv", "country": "FRA"}, {"intensity": "series.csv", "country": "FRA"}),
    ],
)
def test_a_place_and_an_intensity_belong_together(
    project: Path, said: dict[str, object], place: dict[str, object]
) -> None:
    found = settings.site(said)
    assert {name: found[name] for name in ("country", "intensity") if name in found} == place


def test_an_intensity_of_the_environment_is_not_mixed_with_the_projects_place(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENERGYPROF_INTENSITY", "20")
    assert settings.site({}).get("country") is None
    assert settings.site({"country": "FRA"}).get("intensity") is None


def test_the_files_of_a_project_are_beside_it_wherever_one_works(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "pyproject.toml").write_text(
        '[tool.energyprof]\nintensity = "grid.csv"\nprice = "p.csv EUR"\n', encoding="utf-8"
    )
    (project / "src").mkdir()
    monkeypatch.chdir(project / "src")
    assert settings.site({}) == {"intensity": f"{project}/grid.csv", "price": f"{project}/p.csv EUR"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[tool.energyprof]\ncontry = "FRA"\n', "contry means nothing; out, country"),
        ("[tool.energyprof]\ncountry =\n", "is no TOML"),
        ('[tool.energyprof]\ncountry = "FRA"\npue = 1.2\nout = "x"\n', None),
        ("[tool]\nenergyprof = 3\n", None),
        ("", None),
    ],
)
def test_what_nobody_will_follow_in_a_project_is_named(project: Path, text: str, said: str | None) -> None:
    (project / "pyproject.toml").write_text(text, encoding="utf-8")
    found = settings.complaints()
    assert (found == []) if said is None else (said in found[0])


def test_a_variable_that_is_nearly_ours_is_named_and_others_are_not(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("COUNTRY", "CUDA", "LAB", "SLURM_ACCOUNT"):
        monkeypatch.setenv(f"ENERGYPROF_{name}", "x")
    assert settings.complaints() == []
    monkeypatch.setenv("ENERGYPROF_CONTRY", "FRA")
    assert settings.complaints() == ["ENERGYPROF_CONTRY means nothing; ENERGYPROF_COUNTRY does"]
