"""`energyprof flops` and `energyprof layers`: what they print, store and refuse."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import energyprof
from energyprof.cli import main
from tests.conftest import Runner

MODELS = """
import torch
from torch import nn

class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.out(nn.functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0])

def build():
    blocks = nn.Sequential(*(nn.Sequential(Attends(), nn.ReLU()) for _ in range(3)))
    return nn.Sequential(blocks, nn.Linear(16, 4)), torch.randn(2, 8, 16)

def named():
    return Attends(), {"x": torch.randn(2, 8, 16)}

def frozen():
    return nn.Linear(4, 4).requires_grad_(False), torch.ones(1, 4)

def distances():
    class Far(nn.Module):
        def forward(self, x):
            return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    return Far(), torch.ones(4, 4)

def branching():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)
        def forward(self, x):
            return self.inner(x) if float(x.sum()) > 0 else x
    return Branches(), torch.ones(2, 4)

def elsewhere():
    return nn.Linear(4, 4), torch.ones(2, 4, device="meta")

def misfit():
    return nn.Linear(4, 4), torch.ones(2, 3)

def number():
    return 3

def alone():
    return nn.Linear(4, 4)

def three():
    return nn.Linear(4, 4), torch.ones(1, 4), 3

def fails():
    raise KeyError("where")

def leaves():
    raise SystemExit(0)

text = "no function"

if __name__ == "__main__":
    raise SystemExit("the script itself was run")
"""


@dataclass
class Said:
    returncode: int
    stdout: str
    stderr: str


Verbs = Callable[..., Said]


@pytest.fixture
def verbs(models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Verbs:
    """The command line in this process, which has imported torch already."""
    monkeypatch.chdir(models)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("ENERGYPROF_OUT", str(models.parent / "runs"))

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["energyprof", *arguments])
        code = main()
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir(exist_ok=True)
    (folder / "my models.py").write_text(MODELS)
    (folder / "pack").mkdir()
    (folder / "pack" / "inner.py").write_text(MODELS)
    return folder


def test_flops_of_a_script_are_a_tree_with_like_layers_once(verbs: Verbs) -> None:
    done = verbs("flops", "my models.py")
    assert (done.returncode, done.stderr) == (0, "")
    qkv, out, attention, head = 2 * 16 * 16 * 48, 2 * 16 * 16 * 16, 2 * 2 * 2 * 8 * 8 * 16, 2 * 16 * 16 * 4
    forward = 3 * (qkv + out + attention) + head
    assert f"Sequential: {forward / 1e3:.0f} kFLOP forward" in done.stdout
    assert "fvcore's trace of the forward pass agrees (+0.000 %)" in done.stdout
    assert "1 … 2, each" in done.stdout  # the first needs no gradient of its input
    assert done.stdout.count("Attends") == 2


def test_flops_as_json_have_the_columns_of_layers(verbs: Verbs) -> None:
    done = verbs("flops", "my models.py:named", "--json")
    found = json.loads(done.stdout)
    assert found["flops_forward"] == 2 * 16 * 16 * 64 + 2 * 2 * 2 * 8 * 8 * 16
    assert found["agreement"] == 0
    rows = {row["name"]: row for row in found["layers"]}
    assert set(rows) == {"", "qkv", "out"}
    assert rows["qkv"]["class"] == "Linear"
    assert rows["out"]["flops_backward"] == 2 * rows["out"]["flops_forward"]
    assert {"calls", "params", "activations", "bytes", "share", "flops_recompute"} <= set(rows["out"])


def test_flops_can_be_sorted_and_cut(verbs: Verbs) -> None:
    done = verbs("flops", "pack.inner:build", "--sort", "flops", "--top", "2", "--forward-only")
    assert done.returncode == 0, done.stderr
    assert "backward (" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[-3].startswith("0.0.0.qkv")
    assert lines[-1] == "… 8 more layers"
    assert "0.0.0 itself" in verbs("flops", "pack.inner:build", "--sort", "flops").stdout


def test_what_two_ways_cannot_tell_is_said(verbs: Verbs) -> None:
    far = verbs("flops", "my models.py:distances", "--forward-only")
    assert "at least 0 FLOP forward" in far.stdout
    assert "a lower bound: aten._cdist_forward multiply matrices" in far.stdout
    branching = verbs("flops", "my models.py:branching")
    assert "counted   on a real step" in branching.stdout
    assert "on shapes alone it failed" in branching.stdout


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("none.py", "no such file; say script.py:build"),
        ("no.such:build", "no module 'no.such'"),
        ("my models.py:missing", "has no 'missing'"),
        ("my models.py:number", "gave 'int'; have a function `build`"),
        ("my models.py:alone", "is a model without inputs"),
        ("my models.py:three", "gave a tuple of Linear, Tensor, int"),
        ("my models.py:text", "gave 'str'"),
        ("my models.py:fails", "KeyError: 'where' (my models.py, line"),
        ("my models.py:leaves", "failed: SystemExit: 0"),
        ("my models.py:misfit", "(2x3 and 4x4)"),
        ("my models.py:elsewhere", "meta"),
    ],
)
def test_a_target_without_a_model_is_one_line(verbs: Verbs, target: str, said: str) -> None:
    verb = "layers" if said in ("(2x3 and 4x4)", "meta") or target == "none.py" else "flops"
    done = verbs(verb, target)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr


def test_what_cannot_be_differentiated_is_counted_forward(verbs: Verbs) -> None:
    done = verbs("flops", "my models.py:frozen")
    assert done.returncode == 2
    assert "count its forward pass alone" in done.stderr
    assert verbs("flops", "my models.py:frozen", "--forward-only").returncode == 0


def test_layers_are_replayed_stored_and_shown(
    energyprof_cli: Runner, cli_here: Runner, models: Path, tmp_path: Path
) -> None:
    done = energyprof_cli(
        "layers", "my models.py:named", "--seconds", "0.2", "--trials", "2", "--json", "--quiet"
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert {"run_id", "flops_forward", "flops_backward", "closure", "layers", "notes"} <= set(found)
    steps = {r["name"]: r for r in found["layers"] if r["phase"] == "step" and r["channel"] == "total"}
    assert set(steps) == {"", "qkv", "out"}
    assert steps["qkv"]["energy_j"] > 0
    assert len(energyprof.load(tmp_path / "runs")) == 1
    shown = cli_here("show").stdout
    assert "layers of Attends, a step (each kind repeated alone)" in shown
    assert "closure: the layers add up to" in shown
    assert "the blocks in which layers were repeated" in shown


@pytest.mark.parametrize(
    "options", [("--seconds", "0"), ("--trials", "1"), ("--sort", "colour"), ("--depth", "-1")]
)
def test_options_without_sense_are_one_line(verbs: Verbs, options: tuple[str, str]) -> None:
    done = verbs("layers", "my models.py", *options)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
