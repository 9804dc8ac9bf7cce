"""The static forward report: exact on what closed forms exist for, silent on nothing, and without a trace left."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import random
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from energyprof.flops.einsum import einsum_flops
from energyprof.flops.handles import FORMULAS, may_multiply
from energyprof.flops.static import StaticReport, TraceFailed, forward_report


class Of(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Any, **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(self, *inputs)


def total(function: Any, *inputs: torch.Tensor, **modules: nn.Module) -> int | None:
    return forward_report(Of(function, **modules), inputs).total


def of(module: nn.Module, *inputs: torch.Tensor) -> int | None:
    return forward_report(module, inputs).total


r = torch.rand
private: Any = torch


def test_products_of_every_shape_are_two_flops_a_multiply_accumulate() -> None:
    assert of(nn.Linear(5, 7), r(2, 3, 5)) == 2 * 6 * 5 * 7
    assert total(lambda _, a, b: a @ b, r(3, 4), r(4, 5)) == 2 * 3 * 4 * 5
    assert total(lambda _, a, b: a @ b, r(1, 4, 3, 5), r(2, 4, 5, 3)) == 2 * 8 * 3 * 5 * 3
    assert total(lambda _, a, b: a @ b, r(3, 5), r(8, 5, 3)) == 2 * 8 * 3 * 5 * 3
    assert total(lambda _, a, b: a @ b, r(3, 5), r(5)) == 2 * 3 * 5
    assert total(lambda _, a, b: a @ b, r(5), r(2, 5, 3)) == 2 * 2 * 5 * 3
    assert total(lambda _, a, b: torch.dot(a, b), r(9), r(9)) == 2 * 9
    assert total(lambda _, a, b: torch.mv(a, b), r(3, 5), r(5)) == 2 * 15
    assert total(lambda _, a, b: torch.mm(a, b), r(3, 5), r(5, 2)) == 2 * 30
    assert total(lambda _, a, b: torch.bmm(a, b), r(2, 3, 5), r(2, 5, 4)) == 2 * 2 * 3 * 5 * 4
    assert total(lambda _, a, b: torch.inner(a, b), r(3, 5), r(4, 5)) == 2 * 3 * 4 * 5
    assert total(lambda _, a, b: torch.tensordot(a, b, 2), r(3, 4, 5), r(4, 5, 2)) == 2 * 3 * 20 * 2
    assert total(lambda _, a, b: torch.linalg.vecdot(a, b), r(3, 5), r(5)) == 0  # elementwise, and a sum
    assert total(lambda _, a, b: torch.linalg.vecdot(a, b), r(5), r(5)) == 2 * 5


def test_products_with_a_sum_count_the_product() -> None:
    assert total(lambda _, c, a, b: torch.addmm(c, a, b), r(4), r(3, 5), r(5, 4)) == 2 * 3 * 5 * 4
    assert total(lambda _, c, a, b: torch.addmv(c, a, b), r(3), r(3, 5), r(5)) == 2 * 15
    assert total(lambda _, c, a, b: torch.baddbmm(c, a, b), r(2, 3, 4), r(2, 3, 5), r(2, 5, 4)) == 2 * 2 * 60
    assert total(lambda _, c, a, b: torch.addbmm(c, a, b), r(3, 4), r(2, 3, 5), r(2, 5, 4)) == 2 * 2 * 60
    assert of(nn.Bilinear(3, 4, 5), r(2, 3), r(2, 4)) == 2 * 2 * 5 * 4 * (3 + 1)


CONVOLUTIONS = [
    (nn.Conv1d(4, 6, 3), (2, 4, 9), 7),
    (nn.Conv2d(4, 6, 3, padding=1, stride=2), (2, 4, 8, 8), 16),
    (nn.Conv2d(4, 6, 3), (4, 8, 8), 36),  # without a batch
    (nn.Conv3d(2, 4, 2), (1, 2, 4, 4, 4), 27),
    (nn.Conv2d(4, 6, 3, groups=2), (2, 4, 8, 8), 36),
    (nn.Conv2d(4, 8, 3, groups=4), (2, 4, 8, 8), 36),
    (nn.Conv1d(4, 6, 3, padding="same"), (2, 4, 9), 9),
    (nn.Conv2d(4, 6, 3, padding="same", dilation=2), (2, 4, 8, 8), 64),
    (nn.Conv2d(4, 6, 3, padding="valid"), (2, 4, 8, 8), 36),
    (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (2, 4, 8, 8), 64),
]


@pytest.mark.parametrize(("layer", "shape", "places"), CONVOLUTIONS)
def test_convolutions_count_each_place_of_the_result(layer: Any, shape: tuple[int, ...], places: int) -> None:
    batch = shape[0] if len(shape) == layer.weight.dim() else 1
    assert of(layer, r(shape)) == 2 * batch * places * layer.weight.numel()


def test_transposed_convolutions_count_each_place_of_the_input() -> None:
    for groups in (1, 2):
        layer = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=groups)
        assert of(layer, r(2, 4, 5, 5)) == 2 * 2 * 25 * layer.weight.numel()


def test_attention_counts_scores_and_values_of_all_pairs_for_every_query_head() -> None:
    def attend(
        _: nn.Module, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any
    ) -> torch.Tensor:
        return functional.scaled_dot_product_attention(q, k, v, **options)

    q, k, v = r(2, 4, 3, 8), r(2, 4, 5, 8), r(2, 4, 5, 6)
    truth = 2 * 2 * 4 * 3 * 5 * (8 + 6)
    assert total(attend, q, k, v) == truth
    assert total(lambda s, *x: attend(s, *x, attn_mask=torch.ones(3, 5, dtype=torch.bool)), q, k, v) == truth
    assert total(lambda s, *x: attend(s, *x, is_causal=True), q, k, v) == truth
    assert total(lambda s, *x: attend(s, *x, enable_gqa=True), q, k[:, :2], v[:, :2]) == truth


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_meet_every_weight_once_a_token(kind: Any) -> None:
    for options in ({}, {"num_layers": 2, "bidirectional": True}, {"bias": False}):
        layer = kind(5, 7, batch_first=True, **options)
        weights = sum(p.numel() for p in layer.parameters() if p.dim() == 2)
        assert of(layer, r(2, 3, 5)) == 2 * 6 * weights
        assert of(layer, r(3, 5)) == 2 * 3 * weights


def test_recurrent_layers_with_packing_projections_and_cells_are_counted() -> None:
    layer = nn.LSTM(5, 7, proj_size=3)
    assert of(layer, r(4, 2, 5)) == 2 * 8 * sum(p.numel() for p in layer.parameters() if p.dim() == 2)

    def packed(self: Any, x: torch.Tensor) -> torch.Tensor:
        sequence = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([4, 2]), batch_first=True)
        return self.rnn(sequence)[0].data

    rnn = nn.GRU(5, 7, batch_first=True)
    assert total(packed, r(2, 4, 5), rnn=rnn) == 2 * (4 + 2) * 3 * 7 * (5 + 7)
    for cell, gates in ((nn.LSTMCell(5, 7), 4), (nn.GRUCell(5, 7), 3), (nn.RNNCell(5, 7), 1)):
        assert of(cell, r(2, 5)) == 2 * 2 * gates * 7 * (5 + 7)


@pytest.mark.parametrize("need_weights", [True, False])
def test_multi_head_attention_has_its_projections_and_products(need_weights: bool) -> None:
    layer = nn.MultiheadAttention(8, 2, batch_first=True)
    run = Of(lambda self, x: self.attention(x, x, x, need_weights=need_weights)[0], attention=layer)
    assert of(run, r(2, 5, 8)) == 2 * 10 * 4 * 64 + 4 * 2 * 25 * 8


def test_an_encoder_layer_has_rows_for_its_linear_layers_in_eval_mode_too() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    report = forward_report(layer, r(2, 5, 8))
    assert report.by_module["linear1"] == report.by_module["linear2"] == 2 * 10 * 8 * 16
    assert report.total == 2 * 10 * (4 * 64 + 2 * 8 * 16) + 4 * 2 * 25 * 8
    assert torch.backends.mha.get_fastpath_enabled()


def test_fused_kernels_of_eval_mode_that_are_called_by_name_count_the_same() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    mha = layer.self_attn
    truth = 2 * 10 * 4 * 64 + 4 * 2 * 25 * 8

    def fused(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        weights = (mha.in_proj_weight, mha.in_proj_bias, mha.out_proj.weight, mha.out_proj.bias)
        return private._native_multi_head_attention(x, x, x, 8, 2, *weights)[0]

    def whole(_: nn.Module, x: torch.Tensor) -> torch.Tensor:
        norms = (layer.norm1.weight, layer.norm1.bias, layer.norm2.weight, layer.norm2.bias)
        ffn = (layer.linear1.weight, layer.linear1.bias, layer.linear2.weight, layer.linear2.bias)
        attention = (mha.in_proj_weight, mha.in_proj_bias, mha.out_proj.weight, mha.out_proj.bias)
        return private._transformer_encoder_layer_fwd(x, 8, 2, *attention, False, False, 1e-5, *norms, *ffn)

    assert total(fused, r(2, 5, 8), attention=mha) == truth
    assert total(whole, r(2, 5, 8), layer=layer) == truth + 2 * 10 * 2 * 8 * 16


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this torch has no grouped product")
def test_grouped_products_count_each_row_once() -> None:
    a, b = r(16, 8).bfloat16(), r(2, 8, 24).bfloat16()
    ends = torch.tensor([5, 16], dtype=torch.int32)
    assert total(lambda _, a, b, ends: private._grouped_mm(a, b, offs=ends), a, b, ends) == 2 * 16 * 8 * 24
    batched = r(2, 16, 8).bfloat16()
    assert total(lambda _, a, b: private._grouped_mm(a, b), batched, b) == 2 * 2 * 16 * 8 * 24


EQUATIONS = [
    ("ij,jk->ik", [(3, 4), (4, 5)]),
    ("bhqd,bhkd->bhqk", [(2, 3, 4, 5), (2, 3, 6, 5)]),
    ("bij,jk", [(2, 3, 4), (4, 5)]),
    ("...ij,...jk->...ik", [(2, 3, 4), (7, 2, 4, 5)]),
    ("ij,kj,lk->il", [(3, 4), (5, 4), (6, 5)]),
    ("ab,bc,cd,de->ae", [(2, 3), (3, 4), (4, 5), (5, 6)]),
    ("ab,cd,bc->ad", [(2, 3), (4, 5), (3, 4)]),
    ("ij,ik->jk", [(3, 4), (3, 5)]),
    ("ij,jk->i", [(3, 4), (4, 5)]),
    ("i,i->", [(7,), (7,)]),
    ("i,j->ij", [(3,), (4,)]),
    ("ij,ij->ij", [(3, 4), (3, 4)]),
    ("ii->i", [(4, 4)]),
    ("ij->ji", [(3, 4)]),
    ("bi,ij,bj->b", [(2, 3), (3, 4), (2, 4)]),
    ("ij,jk->ik", [(3, 1), (4, 5)]),
]


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS)
def test_an_einsum_counts_the_products_that_torch_makes_of_it(equation: str, shapes: list[Any]) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    operands = [r(shape) for shape in shapes]
    with FlopCounterMode(display=False) as executed:
        torch.einsum(equation, *operands)
    assert total(lambda _, *x: torch.einsum(equation, *x), *operands) == executed.get_total_flops()


def test_an_einsum_follows_the_order_it_is_given() -> None:
    shapes = [(2, 3), (3, 4), (4, 5)]
    assert einsum_flops("ab,bc,cd->ad", shapes) == 2 * (2 * 3 * 4 + 2 * 4 * 5)
    assert einsum_flops("ab,bc,cd->ad", shapes, [1, 2, 0, 1]) == 2 * (3 * 4 * 5 + 2 * 3 * 5)


def test_norms_activations_embeddings_and_pooling_count_nothing() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.BatchNorm2d(8),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Upsample(scale_factor=2, mode="bilinear"),
    )
    assert of(model, r(1, 3, 4, 4)) == 2 * 16 * 24
    assert (
        total(
            lambda self, x: self.norm(self.table(x)),
            torch.arange(4),
            table=nn.Embedding(9, 4),
            norm=nn.LayerNorm(4),
        )
        == 0
    )


def test_autocast_checkpoints_and_inference_mode_count_the_same() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    truth = 2 * 3 * (32 + 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert of(model, r(3, 4)) == truth
    with torch.inference_mode():
        assert of(model, r(3, 4)) == truth

    def checkpointed(self: Any, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.net, x, use_reentrant=False)

    assert total(checkpointed, r(3, 4), net=model) == truth


def test_python_that_depends_on_data_is_counted_as_this_batch_ran_it() -> None:
    def loop(self: Any, x: torch.Tensor) -> torch.Tensor:
        for _ in range(int(x.sum())):
            x = self.net(x)
        return x

    assert total(loop, torch.ones(1, 3), net=nn.Linear(3, 3)) == 3 * 2 * 9


def test_a_shared_layer_has_one_row_with_all_its_calls() -> None:
    shared = nn.Linear(4, 4)
    report = forward_report(nn.Sequential(shared, nn.ReLU(), shared), r(1, 4))
    assert report.by_module == {"": 64, "0": 64, "1": 0}


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first: Any = nn.Linear(4, 8)
        self.second: Any = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


def pair() -> Any:
    return Pair()


def test_compiled_models_are_counted_as_written_and_stay_compiled() -> None:
    runs: list[int] = []

    def backend(graph: Any, _: Any) -> Any:
        def run(*inputs: Any) -> Any:
            runs.append(1)
            return graph(*inputs)

        return run

    plain, x = pair(), r(3, 4)
    truth = forward_report(plain, x)
    assert list(truth.by_module) == ["", "first", "second"]
    whole, in_place, inside = torch.compile(plain, backend=backend), pair(), pair()
    in_place.compile(backend=backend)
    inside.first = torch.compile(inside.first, backend=backend)
    models: list[Any] = [whole, in_place, inside]
    for model in models:
        before = model(x)
        assert runs == [1]
        runs.clear()
        assert forward_report(model, x) == truth
        assert not runs
        assert torch.equal(model(x), before)
        assert runs == [1]
        runs.clear()
    assert type(inside.first).__name__ == "OptimizedModule"


def test_wrapped_models_are_counted_under_their_own_names_and_train_on(tmp_path: Path) -> None:
    from torch import distributed

    plain, x = pair(), r(3, 4)
    truth = forward_report(plain, x)
    assert forward_report(nn.DataParallel(plain), x) == truth
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        spread = nn.parallel.DistributedDataParallel(copy.deepcopy(plain))
        assert forward_report(spread, x) == truth
        spread(x).sum().backward()
        fully_shard = getattr(importlib.import_module("torch.distributed.fsdp"), "fully_shard", None)
        if fully_shard is not None:
            sharded = copy.deepcopy(plain)
            mesh = importlib.import_module("torch.distributed.device_mesh").init_device_mesh("cpu", (1,))
            for part in (sharded.first, sharded):
                fully_shard(part, mesh=mesh)
            assert forward_report(sharded, x).total == truth.total
            loss = sharded(x).sum()
            loss.backward()
            assert torch.equal(loss, plain(x).sum())
            assert sharded.first.weight.grad is not None
    finally:
        distributed.destroy_process_group()


class Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return (x @ x).relu()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return grad


def test_products_inside_an_autograd_function_are_counted() -> None:
    report = forward_report(Of(lambda self, x: Squared.apply(self.net(x)), net=nn.Linear(4, 4)), r(4, 4))
    assert report.total == 2 * 2 * 64
    assert report.by_module == {"": 256, "net": 128}
    assert not report.uncounted


def test_an_operator_that_may_be_a_product_and_has_no_formula_leaves_no_total() -> None:
    report = forward_report(Of(lambda self, x: torch.cdist(self.net(x), x), net=nn.Linear(4, 4)), r(4, 4))
    assert report.total is None
    assert report.uncounted == {"aten::cdist": 1}
    assert "aten::cdist (1x)" in report.notes[0]
    assert report.by_operator == {"linear": 128}


def test_a_custom_operator_leaves_no_total() -> None:
    library = torch.library.Library("energyprof_test", "DEF")
    library.define("secret(Tensor x) -> Tensor")
    library.impl("secret", lambda x: x @ x, "CompositeExplicitAutograd")
    report = forward_report(Of(lambda _, x: torch.ops.energyprof_test.secret(x)), r(4, 4))
    assert report.total is None
    assert report.uncounted == {"energyprof_test::secret": 1}


def test_a_sparse_operand_leaves_no_total() -> None:
    model = Of(lambda self, x: self.weight @ x)
    with pytest.warns(UserWarning, match="beta state"):
        model.register_buffer("weight", torch.eye(4).to_sparse_csr())
    assert forward_report(model, r(4, 4)).uncounted == {"aten::matmul": 1}


def gate(x):  # type: ignore[no-untyped-def]
    return x * x.sigmoid()


def power(x):  # type: ignore[no-untyped-def]
    for _ in range(3):
        x = x @ x
    return x


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
def test_scripted_functions_without_products_count_nothing_and_others_leave_no_total() -> None:
    free, hidden = torch.jit.script(gate), torch.jit.script(power)
    assert total(lambda _, x: free(x) @ x, r(4, 4)) == 128
    assert forward_report(Of(lambda _, x: hidden(x)), r(4, 4)).uncounted == {"scripted power": 1}
    with pytest.raises(TraceFailed, match="net is a scripted module"):
        of(nn.Sequential(OrderedDict(net=torch.jit.script(nn.Linear(4, 4)))), r(4, 4))


def test_every_product_among_the_operators_of_torch_is_known_as_one() -> None:
    names = {schema.name for schema in torch._C._jit_get_all_schemas()}
    products = {n for n in names if n.startswith("aten::") and may_multiply(n)}
    for name in (
        "_sparse_mm",
        "hspmm",
        "chain_matmul",
        "linalg_multi_dot",
        "quantized_gru",
        "_cudnn_rnn",
        "cdist",
    ):
        assert f"aten::{name}" in products
    for name in (
        "cummax",
        "mvlgamma",
        "upsample_bilinear2d",
        "lgamma",
        "linalg_norm",
        "add",
        "softmax",
        "erf_",
    ):
        assert f"aten::{name}" not in products
    # A formula for what the rule does not see would be one that the rule should see.
    assert all(may_multiply(name) for name in FORMULAS if name.startswith("aten::"))


@dataclasses.dataclass
class Output:
    logits: torch.Tensor


def test_a_batch_is_a_tensor_a_tuple_or_keywords() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor, times: int = 1, extra: Any = None) -> dict[str, Any]:
            for _ in range(times):
                x = self.net(x)
            return {"count": times, "nested": [(Output(x),)]}

    model, one = Model(), 2 * 2 * 16
    assert forward_report(model, r(2, 4)).total == one
    assert forward_report(model, (r(2, 4), 3)).total == 3 * one
    assert forward_report(model, {"x": r(2, 4), "times": 2, "extra": {"a": [None, r(1)]}}).total == 2 * one


def test_what_is_computed_and_not_returned_is_named() -> None:
    def partly(self: Any, x: torch.Tensor) -> torch.Tensor:
        self.lost(x)
        return self.kept(x)

    model = Of(partly, lost=nn.Linear(4, 4), kept=nn.Linear(4, 4), idle=nn.Linear(4, 4))
    report = forward_report(model, r(1, 4))
    assert report.total == 32
    assert report.notes[0].endswith("not in the trace: lost")
    assert report.notes[1].endswith("(unused, or their weights are in another module's row): idle")


class Stateful(nn.Module):
    """A model that a careless trace would change in every way."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout())
        self.register_buffer("steps", torch.zeros(()))
        self.calls, self.history = 0, [0]
        self.fails = False

    def eval(self) -> Stateful:
        raise AssertionError("an eval of its own may merge weights")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.history.append(1)
        self.steps += 1
        self.cache = x = self.net(x + torch.rand(1)) + random.random()
        if self.fails:
            raise ValueError("as asked\nand more")
        return x


@pytest.mark.parametrize("fails", [False, True])
def test_a_model_is_left_as_it_was_found_also_when_the_trace_fails(fails: bool) -> None:
    fired: list[str] = []
    model = Stateful().train()
    model.fails = fails
    model.net[1].eval()
    model.register_forward_hook(lambda *_: fired.append("root"))
    model.net[0].register_forward_pre_hook(lambda *_: fired.append("layer"))
    everywhere = nn.modules.module.register_module_forward_hook(lambda *_: fired.append("all"))
    flags = {name: module.training for name, module in model.named_modules()}
    hooks = {n: (dict(m._forward_hooks), dict(m._forward_pre_hooks)) for n, m in model.named_modules()}
    buffers = {name: (buffer, buffer.clone(), buffer._version) for name, buffer in model.named_buffers()}
    attributes = set(vars(model))
    states = torch.get_rng_state(), random.getstate()
    try:
        if fails:
            with pytest.raises(TraceFailed, match="no trace of Stateful: ValueError: as asked") as told:
                forward_report(model, r(3, 4, generator=torch.Generator()))
            assert "\n" not in str(told.value)
        else:
            report = forward_report(model, r(3, 4, generator=torch.Generator()))
            assert report.total == 2 * 3 * 16
            assert report.notes == ("3 forward hooks of the program did not run in the trace",)
    finally:
        everywhere.remove()
    assert not fired
    assert flags == {name: module.training for name, module in model.named_modules()}
    assert hooks == {
        n: (dict(m._forward_hooks), dict(m._forward_pre_hooks)) for n, m in model.named_modules()
    }
    for name, buffer in model.named_buffers():
        was, values, version = buffers[name]
        assert buffer is was
        assert torch.equal(buffer, values)
        assert buffer._version == version
    assert (model.calls, model.history, set(vars(model))) == (0, [0], attributes)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert torch.is_grad_enabled()
    assert not nn.modules.module._global_forward_hooks


def test_the_hooks_by_which_torch_makes_weights_still_run() -> None:
    layer: Any = nn.utils.spectral_norm(nn.Linear(4, 4))
    before = layer.weight_u.clone()
    report = forward_report(layer, r(2, 4))
    assert report.total is not None
    assert report.total >= 2 * 2 * 16
    assert torch.equal(before, layer.weight_u)


def test_inputs_are_not_written_to() -> None:
    x = torch.ones(2, 4, requires_grad=True)
    assert total(lambda self, x: self.net(x.mul_(2)), x.detach(), net=nn.Linear(4, 4)) == 64
    assert torch.equal(x, torch.ones(2, 4))


def test_what_cannot_be_traced_is_told_in_one_line() -> None:
    with pytest.raises(TraceFailed, match="input 0 is on meta, the model on cpu"):
        forward_report(nn.Linear(4, 4), r(2, 4, device="meta"))
    with pytest.raises(TraceFailed, match="x is on meta"):
        forward_report(nn.Linear(4, 4), {"x": r(2, 4, device="meta")})
    with pytest.raises(TraceFailed, match="call it once"):
        forward_report(nn.LazyLinear(4), r(2, 4))
    with pytest.raises(TraceFailed, match="no tensor was found"):
        forward_report(Of(lambda _, x: "nothing"), r(2, 4))
    with pytest.raises(TraceFailed, match="no trace of Linear: RuntimeError: mat1 and mat2"):
        forward_report(nn.Linear(4, 4), r(2, 5))
    with pytest.raises(TraceFailed, match="no trace of Of: "):
        forward_report(Of(lambda _, x: torch.compile(lambda y: y * 2)(x)), r(2, 4))


def test_importing_and_tracing_warn_of_nothing_and_leave_fvcore_whole() -> None:
    program = (
        "import sys, torch; from energyprof.flops.static import forward_report\n"
        "assert 'fvcore' not in sys.modules\n"
        "assert forward_report(torch.nn.Linear(4, 4), torch.rand(1, 4)).total == 32\n"
        "assert 'fvcore.nn' not in sys.modules\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "import fvcore.nn; assert fvcore.nn.flop_count_table\n"
        "assert forward_report(torch.nn.Linear(4, 4), torch.rand(1, 4)).total == 32\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_the_report_is_a_value() -> None:
    report = forward_report(nn.Linear(2, 2), r(1, 2))
    assert isinstance(report, StaticReport)
    assert report.source == "fvcore"
    with pytest.raises(AttributeError):
        report.total = 1  # type: ignore[misc]
