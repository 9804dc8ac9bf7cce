"""The magic in a real shell: what a cell gives with `%%energy` is what it gives without."""

from __future__ import annotations

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import energyprof
from tests.conftest import Runner, execute
from tests.test_profiler import settled

pytestmark = pytest.mark.skipif(find_spec("IPython") is None, reason="needs energyprof[ipython]")

SHELL = """
import json, sys, warnings
warnings.simplefilter("ignore")
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()

def cell(*lines):
    return shell.run_cell("\\n".join(lines), store_history=True)

cell("%load_ext energyprof")
"""


@pytest.fixture
def quiet_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No profile of the person who runs the tests, and no history of theirs to write to."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))


pytestmark = [pytestmark, pytest.mark.usefixtures("quiet_home")]


def test_a_measured_cell_leaves_its_variables_and_its_value_and_shows_the_run(
    run_python: Runner, tmp_path: Path
) -> None:
    done = run_python(
        SHELL
        + """
got = cell("%%energy --name 'my cell' --country=FRA", "import time", "x = {'a': 4}", "time.sleep(0.3)", "x['a'] + 1")
assert got.success
line = cell("z = %energy --quiet {'b': x}['b']['a']", "z")
print(json.dumps([got.result, cell("x").result, cell("_2").result, line.result]))
"""
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [5, {"a": 4}, 5, 4]
    assert "my cell: finished in" in done.stdout
    assert "  energy  " in done.stdout
    assert "56.04 g/kWh (FRA 2023)" in done.stdout
    assert done.stdout.count("finished in") == 1  # --quiet shows nothing
    assert done.stderr == ""
    settled(tmp_path / "runs")
    assert energyprof.load(tmp_path / "runs")["name"].fillna("").tolist() == ["my cell", ""]


def test_a_semicolon_an_assignment_and_an_empty_last_line_give_no_value(run_python: Runner) -> None:
    done = run_python(
        SHELL
        + """
for lines in (["1;"], ["y = 1"], ["if True:", "    2"], ["# only a remark"]):
    print(cell("%%energy --quiet", *lines).result)
print(cell("%energy --quiet y = 7").result, cell("y").result)
print(cell("%%energy --quiet", "%time y").result)
"""
    )
    printed = [line for line in done.stdout.splitlines() if line[:4] in ("None", "7")]
    assert printed == ["None", "None", "None", "None", "None 7", "7"], done.stdout + done.stderr


def test_an_exception_is_the_cells_own_and_its_run_is_shown_as_failed(
    run_python: Runner, tmp_path: Path
) -> None:
    done = run_python(
        SHELL
        + """
got = cell("%%energy --name broken", "def f(n):", "    raise KeyError(n)", "before = 1", "f('mine')")
print(type(got.error_in_exec).__name__, cell("before").result)
got = cell("%%energy", "1 +")
print(type(got.error_in_exec or got.error_before_exec).__name__)
"""
    )
    assert done.returncode == 0, done.stderr
    text = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)  # without its colours
    assert "broken: failed in" in text
    assert "KeyError: 'mine'" in text
    assert "f('mine')" in text
    assert "integrations/ipython.py" not in text.split("SyntaxError")[0].split("Traceback")[1]
    lines = text.splitlines()
    assert "KeyError 1" in lines
    assert "SyntaxError" in lines
    settled(tmp_path / "runs")
    assert energyprof.load(tmp_path / "runs")["status"].tolist() == [
        "failed"
    ]  # what is no code is not measured


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["%energy --nam x y"], "--nam is not understood"),
        (["%energy --name"], "--name needs a value"),
        (["%energy --name --quiet 1"], "--name needs a value"),
        (["%energy --country FRANCX 1"], "did you mean FRA"),
        (["%energy"], "nothing to measure"),
        (["%%energy 1 + 1", "2"], "begins on the next line"),
    ],
)
def test_wrong_use_is_one_clear_line(run_python: Runner, lines: list[str], text: str) -> None:
    done = run_python(SHELL + f"got = cell(*{lines!r})\nprint(got.success)")
    assert done.stdout == "False\n"
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("UsageError: ")
    assert text in done.stderr


def test_what_cannot_be_measured_is_one_warning_and_the_cell_runs(run_python: Runner) -> None:
    done = run_python(
        SHELL + "print(cell('%%energy', '6 * 7').result)", env={"ENERGYPROF_OUT": "/proc/nowhere"}
    )
    assert done.stdout.splitlines()[-1] == "42"
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("energyprof: warning: not measuring: ")


def test_the_command_ipython_loads_measures_and_unloads(tmp_path: Path) -> None:
    script = tmp_path / "program.ipy"
    script.write_text("%load_ext energyprof\n%energy sum(range(10))\n%unload_ext energyprof\n%energy 1\n")
    done = execute(
        [sys.executable, "-m", "IPython", "--colors=NoColor", str(script)], tmp_path, tmp_path, None
    )
    assert "finished in" in done.stdout
    assert "`%energy` not found" in done.stderr


def test_energyprof_has_the_extension_without_importing_ipython(run_python: Runner) -> None:
    done = run_python(
        "import sys, energyprof\nprint(callable(energyprof.load_ipython_extension))\n"
        "print([m for m in ('IPython', 'numpy', 'torch') if m in sys.modules])"
    )
    assert done.stdout.splitlines() == ["True", "[]"], done.stderr
