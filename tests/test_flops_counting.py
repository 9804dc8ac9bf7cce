"""Executed FLOPs: right by layer, forward and backward, and the program goes on as if nobody had counted."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules import module as module_hooks
from torch.utils.checkpoint import checkpoint

from energyprof.flops.counted import Counted, Layer
from energyprof.flops.counting import FlopMode, count


class Block(nn.Module):
    def __init__(self, width: int = 16, recompute: str = "") -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.drop = nn.Dropout(0.1)
        self.recompute = recompute

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm(x)).view(*x.shape[:2], 3, 2, -1).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        if self.recompute:
            return x + checkpoint(self.feed, x, use_reentrant=self.recompute == "reentrant")
        return x + self.feed(x)

    def feed(self, x: torch.Tensor) -> torch.Tensor:
        return self.drop(self.down(F.gelu(self.up(x))))


class Net(nn.Module):
    def __init__(self, recompute: str = "") -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.blocks = nn.ModuleList(Block(recompute=recompute) for _ in range(2))
        self.head = nn.Linear(16, 50)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


IDS = torch.arange(24).view(2, 12) % 50
TOKENS = 24
ATTENTION = 2 * 2 * 2 * 2 * 12 * 12 * 8  # sequences, heads, two products, queries, keys, width of a head


def rows(counted: Counted) -> dict[str, Layer]:
    return {layer.name: layer for layer in counted.layers}


def linear(inputs: int, outputs: int, tokens: int = TOKENS) -> int:
    return 2 * tokens * inputs * outputs


def pairs(counted: Counted) -> dict[str, tuple[int, int]]:
    return {layer.name: (layer.flops_forward, layer.flops_backward) for layer in counted.layers if layer.leaf}


TRUTH = {
    name: (flops, 2 * flops)
    for name, flops in {
        **{f"blocks.{i}.{part}": size for i in range(2) for part, size in (
            ("qkv", linear(16, 48)), ("out", linear(16, 16)), ("up", linear(16, 64)), ("down", linear(64, 16)),
            ("norm", 0), ("drop", 0),
        )},
        "embed": 0, "head": linear(16, 50),
    }.items()
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_hook_is_left() -> Iterator[None]:
    before = (
        len(module_hooks._global_forward_hooks),
        len(module_hooks._global_forward_pre_hooks),
    )
    yield
    assert before == (len(module_hooks._global_forward_hooks), len(module_hooks._global_forward_pre_hooks))


@pytest.mark.parametrize("fake", [False, True])
def test_every_leaf_is_right_forward_and_backward(fake: bool) -> None:
    counted = count(Net(), IDS, fake=fake)
    assert pairs(counted) == TRUTH
    block = rows(counted)["blocks.0"]
    assert (
        block.flops_forward
        == sum(TRUTH[f"blocks.0.{n}"][0] for n in ("qkv", "out", "up", "down")) + ATTENTION
    )
    assert block.own_flops == ATTENTION * 3 + ATTENTION // 2  # and the scores once more in the backward pass
    assert block.flops_recompute == ATTENTION // 2
    assert counted.flops_backward == 2 * counted.flops_forward
    assert not counted.uncounted


def test_rows_say_how_often_and_how_much() -> None:
    counted = count(Net(), IDS)
    found = rows(counted)
    assert list(found)[:3] == ["", "embed", "blocks"]
    up = found["blocks.1.up"]
    assert (up.kind, up.depth, up.leaf, up.calls, up.params, up.activations) == (
        "Linear", 3, True, 1, 16 * 64 + 64, TOKENS * 64,
    )  # fmt: skip
    forward = 4 * (64 + 16 * 64 + TOKENS * 16 + TOKENS * 64)  # bias, weight, input, output
    backward = 4 * (2 * TOKENS * 64 + 2 * 16 * 64 + 2 * TOKENS * 16 + 64)
    assert forward + backward <= up.bytes <= 1.5 * (forward + backward)


@pytest.mark.parametrize("kind", ["reentrant", "other"])
def test_what_is_recomputed_is_apart(kind: str) -> None:
    counted = count(Net(kind), IDS)
    assert pairs(counted) == TRUTH
    found = rows(counted)
    assert found["blocks.0.up"].flops_recompute == linear(16, 64)
    assert found["blocks.0.down"].flops_recompute == linear(64, 16)
    assert counted.hardware_flops - counted.model_flops == 4 * linear(16, 64) + ATTENTION
    assert found["blocks.0.up"].calls == 1


@pytest.mark.parametrize(
    ("layer", "shape", "forward"),
    [
        (nn.Conv2d(8, 8, 3, padding=1, groups=4), (2, 8, 6, 6), 2 * 2 * 8 * 36 * 18),
        (nn.Conv2d(8, 16, 3, padding="same", groups=8), (2, 8, 6, 6), 2 * 2 * 16 * 36 * 9),
        (nn.ConvTranspose2d(8, 4, 2, stride=2, groups=2), (2, 8, 6, 6), 2 * 2 * 8 * 36 * 2 * 4),
        (nn.Conv1d(8, 8, 5, stride=2), (2, 8, 21), 2 * 2 * 8 * 9 * 40),
        (nn.LSTM(5, 7, 2, bidirectional=True), (3, 4, 5), 2 * 12 * 56 * (5 + 7 + 14 + 7)),
        (nn.GRU(5, 7), (3, 4, 5), 2 * 12 * 21 * 12),
        (nn.RNN(5, 7), (3, 4, 5), 2 * 12 * 7 * 12),
    ],
)
def test_convolutions_and_recurrence(layer: nn.Module, shape: tuple[int, ...], forward: int) -> None:
    given = torch.randn(shape, requires_grad=True)
    counted = count(layer, given)
    assert (counted.flops_forward, counted.uncounted) == (forward, {})
    # PyTorch's own cells need no gradient of their first state, which spares one small product at most.
    assert 0.85 * 2 * forward <= counted.flops_backward <= 2 * forward
    if not isinstance(layer, (nn.GRU, nn.RNN)):
        assert counted.flops_backward == 2 * forward
    assert given.grad is not None


def test_a_first_layer_needs_no_gradient_of_its_input() -> None:
    counted = count(nn.Linear(8, 4), torch.randn(3, 8))
    assert (counted.flops_forward, counted.flops_backward) == (2 * 3 * 32, 2 * 3 * 32)


@pytest.mark.parametrize("grad", ["no_grad", "inference_mode"])
def test_fast_paths_of_attention_count(grad: str) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(2, 4, 8)
    with getattr(torch, grad)():
        counted = count(layer, x, backward=False)
    assert counted.flops_forward == linear(8, 32, 8) + 2 * linear(8, 16, 8) + 4 * 2 * 16 * 8
    assert not counted.uncounted


@pytest.mark.parametrize(
    ("compute", "flops"),
    [
        (lambda a: a @ a[0, 0], 2 * 2 * 3 * 3),
        (lambda a: torch.einsum("bij,bkj->bik", a, a), 2 * 2 * 27),
        (lambda a: torch.baddbmm(a, a, a), 2 * 2 * 27),
        (lambda a: torch.addbmm(a[0], a, a), 2 * 2 * 27),
        (lambda a: torch.mv(a[0], a[0, 0]), 2 * 9),
        (lambda a: torch.dot(a[0, 0], a[0, 0]), 2 * 3),
        (lambda a: F.bilinear(a[0], a[1], a.new_ones(4, 3, 3)), 2 * 3 * 4 * 3 * (3 + 1)),
        (lambda a: a.new_ones(1, 2, 3, 3) @ a.new_ones(4, 2, 3, 3), 2 * 8 * 27),
        (lambda a: a[0].to_sparse() @ a[1], 2 * 9 * 3),
    ],
)
def test_products_count(compute: Callable[[torch.Tensor], torch.Tensor], flops: int) -> None:
    class Product(nn.Module):
        def forward(self, a: torch.Tensor) -> torch.Tensor:
            return compute(a)

    counted = count(Product(), torch.ones(2, 3, 3), backward=False)
    assert (counted.flops_forward, counted.uncounted) == (flops, {})


def test_grouped_products_of_experts_count() -> None:
    if not hasattr(torch, "_grouped_mm"):
        pytest.skip("this version of PyTorch has no grouped products")

    class Experts(nn.Module):
        def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
            offsets = torch.tensor([4, 4, 16], dtype=torch.int32)
            return torch._grouped_mm(x, w, offs=offsets)

    x = torch.randn(16, 8, dtype=torch.bfloat16, requires_grad=True)
    w = torch.randn(3, 8, 24, dtype=torch.bfloat16, requires_grad=True)
    counted = count(Experts(), (x, w))
    assert (counted.flops_forward, counted.flops_backward) == (2 * 16 * 8 * 24, 2 * 2 * 16 * 8 * 24)


def test_an_operator_without_a_formula_is_named() -> None:
    class Distances(nn.Module):
        def forward(self, a: torch.Tensor) -> torch.Tensor:
            return torch.cdist(a, a, compute_mode="donot_use_mm_for_euclid_dist")

    assert count(Distances(), torch.ones(4, 3), backward=False).uncounted == {"aten._cdist_forward": 1}


def trained(steps: int, counting: bool) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = Net()
    optimiser = torch.optim.AdamW(model.parameters())
    for step in range(steps):
        context: Any = FlopMode() if counting and step == 1 else torch.enable_grad()
        with context:
            loss = F.cross_entropy(model(IDS).flatten(0, 1), IDS.flatten())
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
    return {**model.state_dict(), "chance": torch.randn(3)}


def test_training_is_bitwise_the_same_with_one_step_counted() -> None:
    plain, counted = trained(3, False), trained(3, True)
    assert all(torch.equal(plain[name], counted[name]) for name in plain)


@pytest.mark.parametrize("fake", [False, True])
def test_a_model_is_left_as_it_was_found(fake: bool) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(72, 2))
    model[2].eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradients = [parameter.grad for parameter in model.parameters()]
    chance = torch.get_rng_state()
    count(model, torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)), fake=fake)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(now.grad is then for now, then in zip(model.parameters(), gradients))
    assert all(bool((g == 1).all()) for g in gradients if g is not None)
    assert [m.training for m in model] == [True, True, False, True, True]
    assert torch.equal(chance, torch.get_rng_state())


def test_a_failing_forward_leaves_nothing_behind() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ArithmeticError(str(self.inner(x).shape))

    with pytest.raises(ArithmeticError):
        count(Fails(), torch.ones(2, 4))
    caught = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    with FlopMode() as mode:
        with pytest.raises(ArithmeticError):
            Fails()(torch.ones(2, 4))
        caught(torch.ones(2, 4))
    assert pairs(mode.counted(caught)) == {"0": (64, 0), "1": (64, 0)}


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_model_stays_compiled() -> None:
    runs: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        def run(*args: Any) -> Any:
            runs.append(1)
            return graph.forward(*args)

        return run

    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    compiled: Any = torch.compile(model, backend=backend)
    x = torch.randn(3, 8)
    compiled(x).sum().backward()
    assert len(runs) == 1
    counted = count(compiled, x)
    assert pairs(counted)["2"] == (2 * 3 * 32, 2 * 2 * 3 * 32)
    assert len(runs) == 1
    for _ in range(3):
        compiled(x).sum().backward()
    assert len(runs) == 4
    torch._dynamo.reset()


def test_gradients_of_gradients_belong_to_their_layer() -> None:
    class Field(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.requires_grad_()
            energy = self.last(torch.tanh(self.first(x))).sum()
            (force,) = torch.autograd.grad(energy, x, create_graph=True)
            return force

    counted = count(Field(), torch.randn(5, 3))
    found = pairs(counted)
    assert found["first"][0] == linear(3, 8, 5)
    assert found["first"][1] >= 2 * linear(3, 8, 5)
    assert found["last"][1] >= linear(8, 1, 5)
    assert counted.flops_backward == found["first"][1] + found["last"][1]


def test_accumulation_and_any_order_of_backward_passes() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    with FlopMode() as mode:
        first, second = model(torch.randn(3, 4)).sum(), model(torch.randn(3, 4)).sum()
        first.backward()
        second.backward()
    counted = mode.counted()
    assert pairs(counted) == {"0": (2 * 192, 2 * 192), "1": (2 * 96, 4 * 96)}
    assert rows(counted)["0"].calls == 2


def test_tied_and_twice_called_modules_count_each_call() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(9, 4)
            self.mix = nn.Linear(4, 4)
            self.head = nn.Linear(4, 9, bias=False)
            self.head.weight = self.embed.weight
            self.again = self.mix

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.again(self.mix(self.embed(ids))))

    for fake in (False, True):
        found = rows(count(Tied(), torch.tensor([1, 2, 3]), fake=fake))
        assert (found["mix"].calls, found["mix"].flops_forward) == (2, 2 * linear(4, 4, 3))
        assert "again" not in found
        assert found[""].params == 9 * 4 + 20


def test_hooks_that_edit_in_place_and_generators_go_on() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4))
    seen: list[int] = []

    def double(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        output.mul_(2)
        seen.append(1)

    model[0].register_forward_hook(double)

    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: torch.Tensor) -> Iterator[torch.Tensor]:
            return (self.inner(x) for _ in range(2))

    with FlopMode() as mode:
        total = sum(part.sum() for part in Parts()(torch.randn(3, 4)))
        assert isinstance(total, torch.Tensor)
        total.backward()
    assert len(seen) == 2
    assert pairs(mode.counted(model))["0"] == (2 * 96, 2 * 96)


@pytest.fixture
def alone_in_the_world(tmp_path: Path) -> Iterator[None]:
    if not torch.distributed.is_available():
        pytest.skip("this PyTorch has no torch.distributed")
    meeting = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=meeting, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("way", ["DDP", "FSDP1", "FSDP2"])
def test_distributed_models_count_under_their_own_names(alone_in_the_world: None, way: str) -> None:
    model: nn.Module = Net()
    if way == "DDP":
        model = nn.parallel.DistributedDataParallel(model)
    elif way == "FSDP1":
        from torch.distributed.fsdp import FullyShardedDataParallel

        model = FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)
    else:
        from torch.distributed.fsdp import fully_shard

        fully_shard(model, mesh=torch.distributed.init_device_mesh("cpu", (1,)))
    assert pairs(count(model, IDS)) == TRUTH
    if way == "DDP":
        assert pairs(count(model, IDS, fake=True)) == TRUTH


def test_autocast_counts_as_full_precision_does() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        counted = count(Net(), IDS)
    assert pairs(counted) == TRUTH


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_flex_attention_runs_and_counts() -> None:
    flex = pytest.importorskip("torch.nn.attention.flex_attention")

    class Flex(nn.Module):
        def forward(self, q: torch.Tensor) -> torch.Tensor:
            return flex.flex_attention(q, q, q)

    q = torch.randn(1, 2, 128, 16)
    with FlopMode() as mode, torch.no_grad():
        out = Flex()(q)
    assert mode.counted().flops_forward == 2 * 2 * 2 * 128 * 128 * 16
    assert torch.allclose(out, F.scaled_dot_product_attention(q, q, q), atol=1e-5)


def test_counting_on_fake_tensors_computes_nothing() -> None:
    with torch.device("meta"):
        huge = nn.Sequential(nn.Linear(1 << 16, 1 << 16), nn.Linear(1 << 16, 1 << 16))
    counted = count(huge, torch.empty(8, 1 << 16, device="meta"), fake=True)  # 32 GiB of weights
    assert counted.flops_forward == 2 * 2 * 8 * 2**32
    assert counted.way == "fake tensors"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["reentrant", "other", ""])
def test_nothing_fake_is_left_in_a_model(kind: str) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net(kind)
            self.twice = self.net.blocks[0]  # a module of two names
            self.net.head.weight.requires_grad_(False)
            self.rnn = nn.LSTM(50, 4)
            self.seen: list[torch.Tensor] = []
            self.cache: torch.Tensor | None = None
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            self.calls = self.calls + 1
            self.cache = self.twice(self.net.embed(ids))
            self.seen.append(self.cache)
            return self.rnn(self.net(ids))[0].sum() + self.cache.sum()

    model = Odd()
    fired: list[int] = []
    model.net.register_forward_hook(lambda *_: fired.append(1))
    counted = count(model, IDS, fake=True)
    values = [*model.state_dict().values(), *model.rnn._flat_weights, *(p.grad for p in model.parameters())]
    assert {type(value) for value in values} <= {torch.Tensor, nn.Parameter, type(None)}
    assert all(p.grad is None for p in model.parameters())
    assert (model.seen, model.cache, float(model.calls), fired) == ([], None, 0.0, [])
    real = count(model, IDS)
    assert (model.seen, model.cache, float(model.calls), fired) == ([], None, 0.0, [])
    assert pairs(real) == pairs(counted)
    model(IDS).sum().backward()
    assert fired == [1]


def test_no_tensor_is_kept_alive() -> None:
    model, x = nn.Linear(8, 8), torch.randn(4, 8, requires_grad=True)
    counted = count(model, x)
    kept = weakref.ref(model), weakref.ref(x)
    del model, x
    gc.collect()
    assert [ref() for ref in kept] == [None, None]
    assert counted.flops_forward == 512


def test_what_cannot_be_differentiated_is_said_in_one_line() -> None:
    with pytest.raises(ValueError, match="needs a gradient; count its forward pass alone"):
        count(nn.Embedding(4, 4).requires_grad_(False), torch.tensor([1]))
