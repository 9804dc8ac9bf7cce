"""What people do with a model while its layers are timed: each as if nobody looked."""

from __future__ import annotations

from pathlib import Path

import pytest

import energyprof
from energyprof.result import Result, stored
from tests.conftest import Runner

HEAD = """
import copy, functools, io, pickle, random, sys, threading, torch
from torch import nn
import energyprof
torch.manual_seed(0)
random.seed(0)
torch.set_num_threads(1)

class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.a, self.act, self.b = nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 4)
    def forward(self, x):
        return self.b(self.act(self.a(x)))

def measured(work, schedule="1,1,4"):
    layers = schedule if sys.argv[1] == "on" else None
    with energyprof.profile("x", layers=layers, quiet=True) as run:
        work()
    if layers: run.result
"""

COPIES = """
def work():
    model, kept = Net(), []
    for step in range(12):
        model(torch.ones(2, 8)).sum().backward()
        twin = copy.deepcopy(model)
        data = io.BytesIO()
        torch.save(model, data)
        average = torch.optim.swa_utils.AveragedModel(model)
        pickled = data.getvalue()
        again = torch.load(io.BytesIO(pickled), weights_only=False)
        kept.append([float(m(torch.ones(2, 8)).detach().sum()) for m in (model, twin, average, again)])
        assert b"energyprof.layers" not in pickled and b"energyprof.flops" not in pickled
    print(kept)
measured(work)
"""
OUTSIDE = """
@functools.lru_cache(maxsize=None)
def mask(length):
    return torch.full((length, length), -1e9).triu(1)

class Odd(Net):
    def __init__(self):
        super().__init__()
        self.chance, self.calls, self.generator = random.Random(0), [], torch.Generator().manual_seed(3)
    def forward(self, x):
        self.calls.append(len(self.calls))
        x = torch.softmax(mask(len(x)), -1) @ x
        noise = torch.randn(x.shape, generator=self.generator)
        return super().forward(x + noise) if self.chance.random() < 0.7 else self.a(x)

def work():
    model = Odd()
    for step in range(14):
        model(torch.randn(3 + step % 3, 8)).sum().backward()
    print(model.calls, [type(p.grad).__name__ for p in model.parameters()], {type(mask(n)).__name__ for n in (3, 4, 5)})
    print([float(p.grad.sum()) for p in model.parameters()], torch.randn(1), random.random())
measured(work)
"""
THREADS = """
def work():
    model, seen = Net().eval(), []
    def infer():
        for _ in range(300):
            with torch.no_grad(): seen.append(type(model(torch.ones(2, 8))).__name__)
    other = threading.Thread(target=infer)
    other.start()
    for _ in range(30): model(torch.ones(3, 8)).sum().backward()
    other.join()
    print(set(seen), len(seen))
measured(work)
"""
TRACED = """
def work():
    model = Net()
    for step in range(12):
        model(torch.ones(2, 8)).sum().backward()
        lines = str(torch.jit.trace(model, torch.ones(2, 8)).graph).count("aten::")
        print(lines, torch.func.vmap(model)(torch.ones(2, 8)).shape)
measured(work)
"""
FREED = """
import gc, weakref
def work():
    model = Net()
    for _ in range(12): model(torch.ones(2, 8)).sum().backward()
    gone = weakref.ref(model)
    del model
    gc.collect()
    print(gone())
measured(work)
"""
MODES = """
from torch.utils._python_dispatch import TorchDispatchMode
class Mine(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))
def work():
    model = Net()
    for step in range(12):
        if step % 2:
            with Mine(): model(torch.ones(2, 8)).sum().backward()
        else:
            out = model(torch.ones(2, 8))
            with Mine(): out.sum().backward()
    print(torch._C._len_torch_dispatch_stack())
measured(work)
"""
INTERRUPTED = """
class Breaks(Net):
    calls = 0
    def forward(self, x):
        Breaks.calls += 1
        if Breaks.calls in (1, 5): raise KeyboardInterrupt
        return super().forward(x)
def work():
    model = Breaks()
    for _ in range(20):
        try: model(torch.ones(2, 8)).sum().backward()
        except KeyboardInterrupt: print("^C", end=" ")
    from torch.nn.modules import module
    print(len(module._global_forward_hooks), len(module._global_forward_pre_hooks))
measured(work)
"""


@pytest.mark.parametrize(
    "body",
    [COPIES, OUTSIDE, THREADS, TRACED, FREED, MODES, INTERRUPTED],
    ids=["copies", "state outside modules", "threads", "traced", "freed", "modes", "interrupted"],
)
def test_a_program_does_what_it_does(run_python: Runner, body: str) -> None:
    plain, timed = run_python(HEAD + body, "off"), run_python(HEAD + body, "on")
    assert (timed.returncode, timed.stderr) == (plain.returncode, plain.stderr) == (0, "")
    assert timed.stdout == plain.stdout


def last(out: Path) -> Result:
    return stored(str(out), energyprof.load(out)["run_id"].iloc[-1])


def flops(run_python: Runner, tmp_path: Path, body: str) -> Result:
    done = run_python(HEAD + body, "on")
    assert (done.returncode, done.stderr) == (0, "")
    return last(tmp_path / "runs")


LINEAR = 2 * 2 * (64 + 32)  # a batch of two through Net, forward; backward, less the first input's gradient
STEP = LINEAR + 2 * LINEAR - 2 * 2 * 64


def test_two_calls_before_a_backward_pass_are_each_a_half(run_python: Runner, tmp_path: Path) -> None:
    body = (
        "def work():\n model = Net()\n"
        " for _ in range(10): (model(torch.ones(2, 8)) - model(torch.ones(2, 8))).sum().backward()\n"
        "measured(work)\n"
    )
    assert flops(run_python, tmp_path, body).row["flops_model"] == 20 * STEP


def test_the_larger_of_two_models_is_followed_and_the_other_named(run_python: Runner, tmp_path: Path) -> None:
    body = (
        "def work():\n small, large = nn.Linear(8, 8), Net()\n"
        " for _ in range(10): large(small(small(torch.ones(2, 8)))).sum().backward()\n"
        "measured(work)\n"
    )
    result = flops(run_python, tmp_path, body)
    assert set(result.layers["model"]) == {"Net"}
    assert "1 other modules were called beside Net" in result.row["layer_notes"]
    assert result.row["flops_model"] == 10 * 3 * LINEAR  # the small one's output needs its gradient


def test_what_is_outside_the_model_is_not_the_models(run_python: Runner, tmp_path: Path) -> None:
    body = (
        "def work():\n model, far = Net(), torch.ones(64, 64)\n"
        " for _ in range(10):\n  far @ far\n  model(torch.ones(2, 8)).sum().backward()\n"
        "measured(work)\n"
    )
    assert flops(run_python, tmp_path, body).row["flops_model"] == 10 * STEP


def test_a_model_in_eval_mode_that_is_differentiated_has_both_passes(
    run_python: Runner, tmp_path: Path
) -> None:
    body = (
        "def work():\n model = Net().eval()\n"
        " for _ in range(10): model(torch.ones(2, 8)).sum().backward()\n"
        "measured(work)\n"
    )
    assert flops(run_python, tmp_path, body).row["flops_model"] == 10 * STEP


def test_joules_a_flop_are_of_the_models_calls(
    run_python: Runner, energyprof_cli: Runner, tmp_path: Path
) -> None:
    body = (
        "def work():\n model = Net()\n"
        " for _ in run.steps(range(6)):\n  for _ in range(4): model(torch.ones(2, 8)).sum().backward()\n"
        "with energyprof.profile('x', layers='1,1,4', quiet=True) as run: work()\n"
        "run.result\n"
    )
    row = flops(run_python, tmp_path, body).row
    each = row["flops_hardware"] / row["energy_j"]
    line = next(line for line in energyprof_cli("show").stdout.splitlines() if line.endswith("FLOP/J"))
    number, prefix = line.split()[0], line.split()[-1].removesuffix("FLOP/J")
    assert float(number) * {"": 1, "k": 1e3, "M": 1e6}[prefix] == pytest.approx(each, rel=0.5)


def test_steps_that_depend_on_their_data_are_counted_again(run_python: Runner, tmp_path: Path) -> None:
    body = (
        "class Exits(Net):\n"
        " def forward(self, x):\n"
        "  hidden = self.act(self.a(x))\n"
        "  return self.b(hidden) if float(x[0, 0]) > 0.5 else hidden\n"
        "def work():\n model = Exits()\n"
        " for step in range(900):\n"
        "  model(torch.full((2, 8), float(step // 25 % 2))).sum().backward()\n"
        "measured(work, '1,1,2')\n"
    )
    row = flops(run_python, tmp_path, body).row
    short = 2 * 2 * 2 * 64  # forward, and the weight's gradient
    assert row["flops_model"] == pytest.approx(900 * (STEP + short) / 2, rel=0.15)
