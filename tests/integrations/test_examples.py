"""The examples of docs/integrations.md run as they are."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import energyprof
from tests.conftest import ROOT, Runner
from tests.test_profiler import settled

BLOCKS = re.findall(
    r"```(python|python continued|ipython)\n(.*?)```",
    (ROOT / "docs/integrations.md").read_text("utf-8"),
    re.S,
)


def programs() -> dict[str, str]:
    """Each example by the framework that it needs."""
    found: dict[str, str] = {}
    for kind, text in BLOCKS:
        if kind == "python":
            found["transformers" if "transformers" in text else "lightning"] = text
        elif kind == "python continued":
            found["transformers"] += text
        else:
            cell = f"assert shell.run_cell({text!r}).success\n"
            shell = "from IPython.core.interactiveshell import InteractiveShell\nshell = InteractiveShell()\n"
            found["IPython"] = found.get("IPython", shell) + cell
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("framework", "names"),
    [("transformers", ["finetune", "finetune"]), ("lightning", ["fit"]), ("IPython", ["", "fill"])],
)
def test_an_example_of_the_documentation_runs_as_it_is(
    run_python: Runner, tmp_path: Path, framework: str, names: list[str]
) -> None:
    if not find_spec(framework):
        pytest.skip(f"needs {framework}")
    env = {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "IPYTHONDIR": str(tmp_path / "ipython")}
    done = run_python(programs()[framework], env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    settled(tmp_path / "runs")
    runs = energyprof.load(tmp_path / "runs")
    assert runs["name"].fillna("").tolist() == names
    assert set(runs["status"]) == {"finished"}
