"""The public names, and what importing them and asking for help may load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import energyprof
from energyprof import cli
from tests.conftest import ROOT

HEAVY = (
    "numpy",
    "pandas",
    "torch",
    "pyarrow",
    "scipy",
    "matplotlib",
    "codecarbon",
    "fvcore",
    "psutil",
    "pynvml",
)


def loaded_by(code: str, folder: Path) -> set[str]:
    """The heavy modules that a fresh interpreter has loaded after `code`."""
    report = f"import sys\n{code}\nprint(*[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", report],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return set(done.stderr.split())


def test_the_public_names_are_these() -> None:
    assert energyprof.__all__ == [
        "Result", "Run", "Schedule", "__version__", "load", "profile", "region", "replay_layers",
    ]  # fmt: skip
    assert all(hasattr(energyprof, name) for name in energyprof.__all__)
    assert set(energyprof.__all__) <= set(dir(energyprof))


def test_a_name_that_does_not_exist_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="'energyprof' has no attribute 'measure'"):
        energyprof.measure  # noqa: B018


def test_public_callables_say_what_they_are_for() -> None:
    for name in ("Result", "Run", "load", "profile", "region", "replay_layers"):
        assert (getattr(energyprof, name).__doc__ or "").strip()


@pytest.mark.parametrize("arguments", [["--help"], *[[verb, "--help"] for verb in cli.VERBS]])
def test_asking_for_help_loads_nothing_numeric(arguments: list[str], tmp_path: Path) -> None:
    code = f"sys.argv = ['energyprof', *{arguments!r}]\nfrom energyprof.cli import main\nassert main() == 0"
    assert loaded_by(code, tmp_path) == set()


def test_importing_profiling_and_marking_load_nothing_numeric(tmp_path: Path) -> None:
    code = "import energyprof; energyprof.profile; energyprof.Run\nwith energyprof.region('x'): pass"
    assert loaded_by(code, tmp_path) == set()
