"""The example for IPython in docs/integrations.md runs as it is; those for the trainers, with the tests of these."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

import energyprof
from tests.conftest import Runner
from tests.documented import examples
from tests.test_profiler import settled


def test_there_is_an_example_for_each_framework() -> None:
    assert set(examples()) == {"transformers", "lightning", "IPython"}


def test_the_example_of_the_documentation_runs_as_it_is(run_python: Runner, tmp_path: Path) -> None:
    if not find_spec("IPython"):
        pytest.skip("needs IPython")
    done = run_python(examples()["IPython"], env={"IPYTHONDIR": str(tmp_path / "ipython")})
    assert done.returncode == 0, done.stdout + done.stderr
    settled(tmp_path / "runs")
    runs = energyprof.load(tmp_path / "runs")
    assert runs["name"].fillna("").tolist() == ["", "fill"]
    assert set(runs["status"]) == {"finished"}
