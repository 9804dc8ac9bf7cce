"""What people do with a model while its layers are timed: each as if nobody looked."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.conftest import Runner
from tests.together import Said, together

pytestmark = pytest.mark.timeout(400)  # the first waits for all programs

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


LIKE_PLAIN = {
    "copies": COPIES,
    "state outside modules": OUTSIDE,
    "threads": THREADS,
    "traced": TRACED,
    "freed": FREED,
    "modes": MODES,
    "interrupted": INTERRUPTED,
}
COUNTED = {
    "two calls": """
def work():
    model = Net()
    for _ in range(10): (model(torch.ones(2, 8)) - model(torch.ones(2, 8))).sum().backward()
measured(work)
""",
    "two models": """
def work():
    small, large = nn.Linear(8, 8), Net()
    for _ in range(10): large(small(small(torch.ones(2, 8)))).sum().backward()
measured(work)
""",
    "beside the model": """
def work():
    model, far = Net(), torch.ones(64, 64)
    for _ in range(10):
        far @ far
        model(torch.ones(2, 8)).sum().backward()
measured(work)
""",
    "eval mode": """
def work():
    model = Net().eval()
    for _ in range(10): model(torch.ones(2, 8)).sum().backward()
measured(work)
""",
    "steps": """
def work():
    model = Net()
    for _ in run.steps(range(6)):
        for _ in range(4): model(torch.ones(2, 8)).sum().backward()
with energyprof.profile("x", layers="1,1,4", quiet=True) as run: work()
""",
    "data": """
class Exits(Net):
    def forward(self, x):
        hidden = self.act(self.a(x))
        return self.b(hidden) if float(x[0, 0]) > 0.5 else hidden
def work():
    model = Exits()
    for step in range(900):
        model(torch.full((2, 8), float(step // 25 % 2))).sum().backward()
measured(work, "1,1,2")
""",
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Said]:
    """The programs with a profile that looks at no layer."""
    programs = {name: HEAD + body for name, body in LIKE_PLAIN.items()}
    return together(tmp_path_factory.mktemp("layers") / "off", programs, "off")


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Said]:
    """All programs with their layers timed."""
    programs = {name: HEAD + body for name, body in {**LIKE_PLAIN, **COUNTED}.items()}
    return together(tmp_path_factory.mktemp("layers") / "on", programs, "on")


@pytest.mark.parametrize("name", LIKE_PLAIN)
def test_a_program_does_what_it_does(plain: Mapping[str, Said], timed: Mapping[str, Said], name: str) -> None:
    assert (timed[name].returncode, timed[name].stderr) == (0, "")
    assert (plain[name].returncode, plain[name].stderr) == (0, "")
    assert timed[name].stdout == plain[name].stdout != ""
    assert "layer_notes" in timed[name].result().row


def flops(timed: Mapping[str, Said], name: str) -> float:
    assert (timed[name].returncode, timed[name].stderr) == (0, "")
    found = timed[name].result().row["flops_model"]
    assert found is not None
    return float(found)


LINEAR = 2 * 2 * (64 + 32)  # a batch of two through Net, forward; backward, less the first input's gradient
STEP = LINEAR + 2 * LINEAR - 2 * 2 * 64


def test_two_calls_before_a_backward_pass_are_each_a_half(timed: Mapping[str, Said]) -> None:
    assert flops(timed, "two calls") == 20 * STEP


def test_the_larger_of_two_models_is_followed_and_the_other_named(timed: Mapping[str, Said]) -> None:
    assert flops(timed, "two models") == 10 * 3 * LINEAR  # the small one's output needs its gradient
    result = timed["two models"].result()
    assert set(result.layers["model"]) == {"Net"}
    assert "1 other modules were called beside Net" in result.row["layer_notes"]


def test_what_is_outside_the_model_is_not_the_models(timed: Mapping[str, Said]) -> None:
    assert flops(timed, "beside the model") == 10 * STEP


def test_a_model_in_eval_mode_that_is_differentiated_has_both_passes(timed: Mapping[str, Said]) -> None:
    assert flops(timed, "eval mode") == 10 * STEP


def test_joules_a_flop_are_of_the_models_calls(timed: Mapping[str, Said], cli_here: Runner) -> None:
    assert flops(timed, "steps") == 24 * STEP
    row = timed["steps"].result().row
    each = row["flops_hardware"] / row["energy_j"]
    shown = cli_here("show", env={"ENERGYPROF_OUT": str(timed["steps"].out)}).stdout
    line = next(line for line in shown.splitlines() if line.endswith("FLOP/J"))
    number, prefix = line.split()[0], line.split()[-1].removesuffix("FLOP/J")
    assert float(number) * {"": 1, "k": 1e3, "M": 1e6}[prefix] == pytest.approx(each, rel=0.5)


def test_steps_that_depend_on_their_data_are_counted_again(timed: Mapping[str, Said]) -> None:
    short = 2 * 2 * 2 * 64  # forward, and the weight's gradient
    assert flops(timed, "data") == pytest.approx(900 * (STEP + short) / 2, rel=0.15)
