"""`pytest --energyprof`: budgets and blocks where asked for, and nothing at all where not."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import numpy  # noqa: F401  # what the inner runs would load, and lose again with their modules
import pandas  # noqa: F401
import pyarrow.parquet  # noqa: F401
import pytest

import energyprof.profiler
import energyprof.result
import energyprof.session
import energyprof.siting
from energyprof.integrations import pytest_plugin
from energyprof.integrations.pytest_energy import Budget, judged, summary
from tests.conftest import ROOT

pytest_plugins = "pytester"

# Where energyprof is installed its entry point is there too, and a plugin cannot be registered twice.
PLUGIN = ("-p", "no:energyprof", "-p", "no:cacheprovider")
BURN = """
import pytest, time

def burn(seconds=0.5):
    end = time.process_time() + seconds  # a busy machine gives it more time, and the meters more ticks
    while time.process_time() < end:
        sum(range(1000))
"""


def row(**told: Any) -> dict[str, Any]:
    usual = {"energy_j": 100.0, "u95_j": 10.0, "measured_j": 100.0, "reason": None}
    return {**usual, "steps": None, "samples": None, "tokens": None, **told}


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """The filters of the outer run, by which a warning is an error, must not hold in the inner one."""
    return pytester.runpytest_inprocess(*PLUGIN, "-W", "default", *arguments, plugins=[pytest_plugin])


def test_over_is_what_the_whole_interval_is_and_straddling_is_neither() -> None:
    assert judged(Budget(200), row()).outcome == "within"
    assert judged(Budget(111), row()).outcome == "within"
    assert judged(Budget(105), row()).outcome == "straddles"
    assert judged(Budget(95), row()).outcome == "straddles"
    assert judged(Budget(89), row()).outcome == "over"
    assert "100 ± 10 J is over its budget of 89" in judged(Budget(89), row()).text


def test_a_tolerance_widens_the_budget_and_is_said() -> None:
    assert judged(Budget(89, rel=0.05), row()).outcome == "straddles"
    assert judged(Budget(89, rel=0.3), row()).outcome == "within"
    assert "+ 1 %" in judged(Budget(80, rel=0.01), row()).text


def test_a_budget_may_be_of_a_step_a_sample_or_a_token() -> None:
    found = judged(Budget(1.5, per="step"), row(steps=50))
    assert (found.outcome, found.joules, found.u95) == ("over", 2.0, 0.2)
    assert "a step" in found.text
    assert judged(Budget(1.5, per="sample"), row(samples=100.0)).outcome == "within"
    assert judged(Budget(1.5, per="token"), row()).outcome == "not judged"


def test_what_is_not_known_or_only_modelled_is_not_judged() -> None:
    unknown = judged(Budget(1), row(energy_j=None, u95_j=None, reason="below_resolution"))
    assert (unknown.outcome, "below_resolution" in unknown.text) == ("not judged", True)
    for nothing in (None, 0.0):
        assert judged(Budget(1), row(measured_j=nothing)).outcome == "not judged"
        assert judged(Budget(1, modelled=True), row(measured_j=nothing)).outcome == "over"


@pytest.mark.parametrize(
    "wrong", [{"joules": 0}, {"joules": "5"}, {"joules": 1, "rel": -1}, {"joules": 1, "per": "epoch"}]
)
def test_a_mark_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is no|is none of"):
        Budget(**wrong)


def test_the_summary_has_a_line_a_test_and_says_where_there_is_none() -> None:
    lines = summary(
        [{"name": "test_a", "joules": 2.0, "u95": 0.2, "outcome": "over", "limit": 1.5, "per": "step"}]
    )
    assert len(lines) == 2
    for part in ("test_a", "2.00 ± 0.20 J a step", "1.50 J a step", "over"):
        assert part in lines[1]
    unknown = {"name": "test_b", "joules": None, "u95": None, "reason": "sensor_gap"}
    assert summary([unknown])[1].split() == ["test_b", "—", "(sensor_gap)"]
    assert len(summary([])) == 1


def test_without_energy_the_mark_and_the_fixture_do_nothing_in_strict_projects_too(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        """
        import sys
        import pytest

        @pytest.mark.energy_budget(joules=1e-9, modelled=True)
        def test_marked(energy):
            with energy("block") as block:
                pass
            assert (block.joules, block.u95, block.method, block.reason) == (None, None, None, None)
        """
    )
    found = run(pytester, "--strict-markers", "--strict-config", "-W", "error", "-v")
    found.assert_outcomes(passed=1)
    found.stdout.no_fnmatch_line("*= energy =*")
    assert not (pytester.path / "energyprof-runs").exists()
    assert "energy_budget(joules" in run(pytester, "--markers").stdout.str()


def test_unasked_the_plugin_loads_three_small_files_and_nothing_else() -> None:
    program = (
        "import sys, pytest, time\n"
        "before, began = set(sys.modules), time.process_time()\n"
        "import energyprof.integrations.pytest_plugin\n"
        "print(time.process_time() - began, *sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    took, *loaded = done.stdout.split()
    assert loaded == ["energyprof", "energyprof.integrations", "energyprof.integrations.pytest_plugin"]
    assert float(took) < 0.05  # under a millisecond where the files are compiled


def test_a_test_over_its_budget_fails_and_all_are_listed(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a model, which is all that this machine need have."""
    monkeypatch.setenv("ENERGYPROF_OUT", str(pytester.path / "runs"))
    pytester.makeini("[pytest]\nenergyprof = true\n")
    pytester.makepyfile(
        BURN
        + """
@pytest.mark.energy_budget(joules=0.001, modelled=True)
def test_dear():
    burn()

@pytest.mark.energy_budget(joules=1e6)
def test_modelled(energy):
    with energy("inner"):
        burn()

@pytest.mark.energy_budget(joules=0.001, modelled=True)
def test_broken():
    assert False

def test_plain(energy):
    with energy("alone") as alone:
        burn()
    assert alone.joules > 0 and alone.u95 > 0
    assert "modelled" in alone.method

@pytest.fixture
def around(energy):
    with energy("around"):
        yield

def test_around(around):
    burn()
    assert False
"""
    )
    found = run(pytester)
    found.assert_outcomes(passed=2, failed=3, warnings=1)
    found.stdout.fnmatch_lines(
        [
            "energy: * J is over its budget of *",
            "*EnergyWarning: *test_modelled: nothing can be measured here*",
            "*= energy =*",
            "*::test_dear * over",
            "*::test_modelled * not judged",
            "*::test_modelled inner * J*",
            "*::test_plain alone * J*",
            "*::test_around around * J*",
        ]
    )
    names = energyprof.load(pytester.path / "runs")["name"].tolist()
    assert sorted(names) == ["alone", "around", "test_broken", "test_dear", "test_modelled"]


def test_the_example_of_the_documentation_is_one(pytester: pytest.Pytester) -> None:
    (text,) = re.findall(
        r"```python pytest\n(.*?)```", (ROOT / "docs/integrations.md").read_text("utf-8"), re.S
    )
    before = (
        "import energyprof\nloader = [1, 2]\nbatch = 1\ntrain = model = train_an_epoch = lambda *a: None\n"
    )
    pytester.makepyfile(
        test_it=before + text.replace("energyprof.profile()", "energyprof.profile(quiet=True)")
    )
    run(pytester, "--strict-markers").assert_outcomes(passed=3)
    assert run(pytester, "--energyprof", "--collect-only", "-q").ret == 0


def test_a_wrong_mark_is_one_line_before_any_test_runs(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import pytest\n@pytest.mark.energy_budget(watts=3)\ndef test_a(): raise SystemExit('was run')\n"
    )
    found = run(pytester, "--energyprof")
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines(["ERROR: *test_a: energy_budget: *watts*joules=, per=*"])


def test_the_block_that_nobody_measures_passes_exceptions_on() -> None:
    with pytest.raises(KeyError), pytest_plugin.NotAsked("x"):
        raise KeyError
