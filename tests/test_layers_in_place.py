"""Layers timed while a program trains: right against a known power, labelled, and no trouble to the program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import energyprof
from energyprof.layers.schedule import Schedule, schedule_of
from energyprof.result import Result, stored
from tests.conftest import ROOT, Runner
from tests.test_accuracy import Machine
from tests.together import Said, together

pytestmark = pytest.mark.timeout(400)  # the first waits for all programs

LAYERS = [
    ["a", [500, 12], [600, 25]],
    ["b", [200, 20], [250, 30]],
    ["a", [500, 12], [600, 25]],
    ["c", [350, 8], [300, 15]],
]


def last(out: Path) -> Result:
    return stored(str(out), energyprof.load(out)["run_id"].iloc[-1])


def steps_of(rows: list[dict[str, Any]], phase: str = "step") -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in rows if row["channel"] == "total" and row["phase"] == phase}


def timed(machine: Any, out: Path, channel: str, steps: int) -> dict[str, Any]:
    """What the program of tests/lab/timed.py says on a machine; its rows by layer and phase, of that channel."""
    environment = {**os.environ, **machine.env, "PYTHONPATH": str(ROOT), "ENERGYPROF_OUT": str(out)}
    command = [sys.executable, "-m", "tests.lab.timed", channel, str(steps), json.dumps(LAYERS)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    answer["rows"] = {(r["name"], r["phase"]): r for r in answer["rows"] if r["channel"] == channel}
    return answer


@pytest.mark.alone
def test_joules_of_layers_are_right_by_a_fine_counter(hardware: Machine, tmp_path: Path) -> None:
    machine = hardware(gpus=0, rapl=("package-0",), idle_w=20.0)
    answer = timed(machine, tmp_path, "package:0", 30)
    rows, truth = answer["rows"], answer["truth"]
    for label, joules in truth.items():
        row = rows[tuple(label.split())]
        assert row["method"] in ("counter", "regressed"), label
        assert row["energy_j"] == pytest.approx(joules, rel=0.15), label
    # Layers, what lies between them, and the step: the step is measured, and the sum is not made to fit it.
    step, inside = rows["", "step"], sum(truth.values())
    assert step["method"] == "counter"
    assert 0.95 * inside < step["energy_j"] < 1.1 * (inside + 20.0 * 0.05)
    assert rows["0", "step"]["energy_j"] == pytest.approx(rows["2", "step"]["energy_j"], rel=0.1)  # one kind


@pytest.mark.alone
def test_joules_of_layers_below_the_tick_are_right_or_allocated(hardware: Machine, tmp_path: Path) -> None:
    """How many are told, and how well, depends on how busy this machine is: `benchmarks/layers.py` says that, and
    tests/test_regression.py what the estimate is worth where nothing else is wrong."""
    machine = hardware(gpus=1, idle_w=20.0)
    machine.truth.device("gpu:0").lag_s = 0.02
    answer = timed(machine, tmp_path, "gpu:0", 80)
    step = answer["rows"]["", "step"]
    assert step["energy_j"] == pytest.approx(sum(answer["truth"].values()), rel=0.1)
    for label in answer["truth"]:
        row = answer["rows"][tuple(label.split())]
        assert row["method"] in ("regressed", "allocated")
        assert (row["u95_j"] is None) == (row["method"] == "allocated")
        assert 0 < row["energy_j"] < step["energy_j"]


@pytest.mark.alone
def test_where_readings_cannot_tell_layers_apart_their_joules_are_allocated(
    hardware: Machine, tmp_path: Path
) -> None:
    rows = timed(hardware(gpus=1, idle_w=20.0), tmp_path, "gpu:0", 4)["rows"]
    found = [row for (name, phase), row in rows.items() if name and phase != "step"]
    allocated = [row for row in found if row["method"] == "allocated"]
    assert allocated
    step = rows["", "step"]
    for row in allocated:
        assert row["u95_j"] is None  # a rule, no measurement
        share = row["time_s"] / step["time_s"]
        assert row["energy_j"] == pytest.approx(share * step["energy_j"], rel=1e-6)


TRAINING = """
import sys, torch
from torch import nn
from torch.utils.checkpoint import checkpoint
import energyprof

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.act, self.down = nn.Linear(8, 16), nn.ReLU(inplace=True), nn.Linear(16, 8)
        self.drop = nn.Dropout(0.1)
    def inner(self, x):
        return self.drop(self.down(self.act(self.up(x))))
    def forward(self, x):
        return x + checkpoint(self.inner, x, use_reentrant=False)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.blocks, self.norm = nn.Embedding(20, 8), nn.ModuleList([Block(), Block()]), nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 20)
        self.twice = self.blocks[0]
    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(self.twice(x).mean(1)))

def train(steps):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Net()
    model.blocks[1].down.register_forward_hook(lambda module, args, output: output.mul_(1.5))
    optimiser = torch.optim.AdamW(model.parameters())
    for step in range(steps):
        ids = torch.randint(0, 20, (4, 6 if step % 3 else 5))
        loss = nn.functional.cross_entropy(model(ids), ids[:, 0]) / 2
        loss.backward()
        if step % 2:
            optimiser.step()
            optimiser.zero_grad()
        if step % 4 == 3:
            with torch.no_grad():
                model.eval()(ids)
                model.train()
    return model

def digest(model):
    return [float(p.double().sum()) for p in model.state_dict().values()] + torch.randn(2).tolist()

def hooks(model):
    from torch.nn.modules import module
    own = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    return own + len(module._global_forward_hooks) + len(module._global_forward_pre_hooks)
"""


def test_training_is_bitwise_the_same_and_no_hook_is_left(run_python: Runner, tmp_path: Path) -> None:
    code = TRAINING + (
        "layers = energyprof.Schedule(2, 1, 6) if sys.argv[1] == 'on' else None\n"
        "with energyprof.profile('x', layers=layers, quiet=True) as run:\n"
        "    model = train(24)\n"
        "print(digest(model), model.training, hooks(model))\n"
        "if layers: run.result\n"
    )
    plain, timed = run_python(code, "off"), run_python(code, "on")
    assert (timed.returncode, timed.stderr) == (0, "")
    assert plain.stdout == timed.stdout
    assert plain.stdout.endswith(" 1\n")  # the user's own hook
    result = last(tmp_path / "runs")
    assert result.row["layer_notes"] is None
    rows = steps_of(result.layer_rows())
    assert rows["blocks.0.up"]["flops_recompute"] > 0
    assert rows["blocks.0.up"]["calls"] == 2
    assert rows["head"]["flops_backward"] == 2 * rows["head"]["flops_forward"]
    backward = steps_of(result.layer_rows(), "backward")
    assert all(backward[name]["time_s"] > 0 for name in ("head", "blocks.0.up", "blocks.1.down", "embed"))
    inside = sum(row["time_s"] for row in rows.values() if row["leaf"])
    assert 0.0 < inside < rows[""]["time_s"]


PROGRAMS = {
    # First, since the first step that is counted takes seconds of imports, which count as what the counting costs.
    "inference": """
import torch, energyprof
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU()).eval()
with energyprof.profile('x', layers='1,1,5', quiet=True) as run, torch.inference_mode():
    for _ in range(20): model(torch.ones(8, 64))
""",
    "all calls": """
import torch, energyprof
from torch import nn
model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
with energyprof.profile('x', layers='1,1,2', quiet=True) as run:
    for step in range(20):
        model(torch.ones(3 + step % 2, 4)).sum().backward()
""",
    "lengths": """
import random, torch, energyprof
from energyprof.flops.counting import count
model = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
lengths = list(range(4, 44))
random.Random(0).shuffle(lengths)
lengths = lengths[:1] * 3 + lengths
with energyprof.profile('x', layers='1,1,2', quiet=True) as run:
    for length in lengths: model(torch.randn(2, length, 16)).sum().backward()
print(sum(count(model, torch.randn(2, n, 16), fake=True).model_flops for n in lengths))
""",
    "followed": """
import time, torch, energyprof
class Slow(torch.nn.Module):
    calls = 0
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(2, 2)
    def forward(self, x):
        Slow.calls += 1
        time.sleep(0.3 if 4 < Slow.calls < 10 else 0.1)
        return self.inner(x)
model = Slow()
with energyprof.profile('x', layers='1,1,4', quiet=True) as run:
    for _ in run.steps(range(16)):
        model(torch.ones(1, 2)).sum().backward()
print(list(run.result.steps.columns))
""",
    **{
        name: f"""
import torch, energyprof
model, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
with energyprof.profile('x', layers=True, quiet=True) as run:
    {body}
"""
        for name, body in (("four", "for _ in range(4): model(x)"), ("one", "model(x)"), ("none", "pass"))
    },
    "failing": """
import time, torch, energyprof
class Fails(torch.nn.Module):
    calls = 0
    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    def forward(self, x):
        Fails.calls += 1
        y = self.a(x)
        if Fails.calls % 3 == 0: raise ArithmeticError
        time.sleep(0.02)
        return self.b(y)
model = Fails()
with energyprof.profile('x', layers='2,1,6', quiet=True) as run:
    for _ in range(20):
        try:
            model(torch.ones(2, 4)).sum().backward()
        except ArithmeticError: pass
from torch.nn.modules import module
print(len(module._global_forward_hooks), len(model.a._forward_hooks))
""",
    "forked": """
import os, torch, energyprof
model, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
with energyprof.profile('x', layers='1,1,3', quiet=True) as run:
    for step in range(14):
        model(x).sum().backward()
        if step == 6 and os.fork() == 0:
            for _ in range(50): model(x)
            os._exit(0)
    os.wait()
""",
    "compiled": """
import torch, energyprof
runs = []
def backend(graph, inputs):
    def run(*args):
        runs.append(1)
        return graph.forward(*args)
    return run
model = torch.compile(torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU()), backend=backend)
with energyprof.profile('x', layers='1,1,3', quiet=True) as run:
    for _ in range(15): model(torch.ones(2, 4)).sum().backward()
print(len(runs), torch._dynamo.utils.counters['stats']['unique_graphs'])
""",
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Said]:
    return together(tmp_path_factory.mktemp("layers") / "programs", PROGRAMS)


def row_of(said: Said) -> Mapping[str, Any]:
    """The last run's row, of a program that ended well."""
    assert (said.returncode, said.stderr) == (0, "")
    return said.result().row


def test_flops_of_a_run_are_those_of_all_its_calls(ran: Mapping[str, Said]) -> None:
    row = row_of(ran["all calls"])
    # The first layer's input needs no gradient. Which shape the calls had before the model was known, 3 or 4
    # rows, is not seen: both of them had that of the third.
    assert row["flops_model"] == pytest.approx(20 * 3.5 * 2 * (32 * 2 + 16 * 3), rel=0.02)
    assert row["flops_hardware"] == row["flops_model"]
    assert row["flops_dtype"] == "float32"


def test_lengths_that_were_not_counted_are_told_by_those_that_were(ran: Mapping[str, Said]) -> None:
    said = ran["lengths"]
    assert row_of(said)["flops_model"] == pytest.approx(float(said.stdout), rel=1e-6)


def test_followed_steps_are_in_no_mean_and_are_flagged(ran: Mapping[str, Said]) -> None:
    row_of(ran["followed"])
    result = ran["followed"].result()
    rows = [
        row
        for row in energyprof.store.of_run(result.out, "intervals", result.run_id).rows
        if row["row_kind"] == "step"
    ]
    flagged = [row["step"] for row in rows if row["flags"]]
    assert 5 <= len(flagged) <= 7
    assert len(rows) == result.row["steps"] == 16
    assert result.energy_per_step_j is not None
    mean_w = result.energy_j / result.duration_s
    assert result.energy_per_step_j < 0.16 * mean_w  # of 0.1 s each, not of the slow ones
    assert result.step_s == pytest.approx(0.1, abs=0.04)


@pytest.mark.parametrize(
    ("calls", "note"),
    [
        ("four", "the model was called 4 times: the schedule waits for 9"),
        ("one", "no module with parameters was called twice"),
        ("none", "no module with parameters was called twice"),
    ],
)
def test_a_schedule_longer_than_the_program_is_noted(ran: Mapping[str, Said], calls: str, note: str) -> None:
    assert note in row_of(ran[calls])["layer_notes"]


def test_inference_without_gradients_has_forward_rows_alone(ran: Mapping[str, Said]) -> None:
    row_of(ran["inference"])
    rows = ran["inference"].result().layer_rows()
    assert steps_of(rows)["0"]["flops_forward"] == 2 * 8 * 64 * 64
    assert steps_of(rows)["0"]["flops_backward"] == 0
    assert steps_of(rows, "backward")["0"]["time_s"] == 0


def test_a_compiled_model_stays_compiled_and_says_why_it_has_no_times(ran: Mapping[str, Said]) -> None:
    notes = row_of(ran["compiled"])["layer_notes"]
    assert ran["compiled"].stdout == "15 1\n"
    assert notes.startswith("compiled: its layers cannot be counted or timed in place")


def test_a_failing_step_leaves_the_next_ones_right(ran: Mapping[str, Said]) -> None:
    row_of(ran["failing"])
    assert ran["failing"].stdout == "0 0\n"
    rows = steps_of(ran["failing"].result().layer_rows())
    assert rows["b"]["time_s"] > 0
    assert rows["a"]["time_s"] < 0.01  # what lies between the layers is neither's


def test_a_forked_child_writes_nothing(ran: Mapping[str, Said]) -> None:
    assert row_of(ran["forked"])["flops_model"] == 14 * 2 * 2 * 4


def test_under_run_a_program_needs_no_change(
    energyprof_cli: Runner, cli_here: Runner, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "own").mkdir()
    (work / "own" / "sitecustomize.py").write_text("import builtins\nbuiltins.mine = 'mine'\n")
    text = (
        "import importlib.util, sys\nimportlib.util.find_spec('torch')\nimport torch\n"
        "model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Tanh())\n"
        "for _ in range(12): model(torch.ones(4, 16)).sum().backward()\n"
        "print(mine, [p for p in sys.path if 'startup' in p], 'exec_module' in vars(torch.__spec__.loader))\n"
        "print([type(f).__name__ for f in sys.meta_path if 'energyprof' in type(f).__module__])\n"
    )
    (work / "program.py").write_text(text)
    env = {"PYTHONPATH": f"{ROOT}{os.pathsep}{work / 'own'}"}
    done = energyprof_cli("run", "--layers", "--layer-steps", "1,1,4", "program.py", env=env)
    assert done.stdout == "mine [] False\n[]\n", done.stderr
    result = last(tmp_path / "runs")
    assert steps_of(result.layer_rows())["0"]["flops_forward"] == 2 * 4 * 256
    assert result.row["flops_model"] == 12 * 2 * 2 * 4 * 256
    shown = cli_here("show")
    assert (
        "layers of Sequential, a step (timed while the program ran, mean of 4 steps; these took"
        in shown.stdout
    )
    assert "MFU n/a" in shown.stdout
    found = json.loads(cli_here("show", "--json").stdout)
    assert {"flops_forward", "flops_backward", "energy_j", "method"} <= set(found["layers"][0])


def test_under_run_a_program_without_torch_is_what_it_was(energyprof_cli: Runner, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "program.py").write_text(
        "import sys\nprint('torch' in sys.modules, 'numpy' in sys.modules)\n"
    )
    done = energyprof_cli("run", "--layers", "program.py")
    assert done.stdout == "False False\n"
    assert last(tmp_path / "runs").layers.empty


@pytest.mark.parametrize("said", [3, "5,2", "a,b,c", "5,2,0", "-1,2,3", [1, 2, 3]])
def test_a_schedule_that_makes_no_sense_is_refused(said: Any) -> None:
    with pytest.raises(ValueError, match=r"layers=|active=0"):
        schedule_of(said)


def test_a_schedule_is_what_was_said(cli_here: Runner) -> None:
    assert str(schedule_of(True)) == "5,2,20"
    assert str(schedule_of("1, 2, 3")) == "1,2,3"
    assert schedule_of(None) is None
    with pytest.raises(ValueError, match="wait=-1: say a whole number"):
        Schedule(wait=-1)
    done = cli_here("run", "--layer-steps", "x", "true")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
