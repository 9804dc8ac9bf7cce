"""FLOPs of one operator from the shapes of its arguments: matrix products, convolutions, attention, recurrence.

A formula takes (arguments, keywords, result) as the dispatcher hands them over and returns the FLOPs, or
(FLOPs, FLOPs repeated): the backward pass of fused attention computes the scores a second time, which is
work of the hardware and not of the model. Two FLOPs a multiply-accumulate; attention in full, causal or not;
additions of a bias left out. An operator that is in none of our formulas is looked up in PyTorch's registry
(`torch.utils.flop_counter`), which is right for the few that are left to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch

Formula = Callable[[Sequence[Any], dict[str, Any], Any], Any]

FORMULAS: dict[str, Formula] = {}


def _formula(*names: str) -> Callable[[Formula], Formula]:
    def note(function: Formula) -> Formula:
        for name in names:
            assert name not in FORMULAS, f"two formulas for {name}"
            FORMULAS[name] = function
        return function

    return note


def _rows(tensor: torch.Tensor) -> int:
    """Vectors along the last dimension."""
    return tensor.numel() // max(tensor.shape[-1], 1)


@_formula("aten.mm", "aten._int_mm", "aten._scaled_mm", "aten._sparse_mm")
def mm(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """(n, k) x (k, m): 2 n k m; of a sparse factor only what is stored."""
    return _product(args[0], args[1])


@_formula("aten.addmm", "aten._addmm_activation", "aten._sparse_addmm", "aten.sparse_sampled_addmm")
def addmm(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    return _product(args[1], args[2])


def _product(left: torch.Tensor, right: torch.Tensor) -> int:
    if left.layout in _SPARSE:
        return 2 * _stored(left) * right.shape[-1]
    if right.layout in _SPARSE:
        return 2 * _stored(right) * left.shape[0]
    return 2 * left.numel() * right.shape[-1]


_SPARSE = (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


def _stored(sparse: torch.Tensor) -> int:
    """Elements that are kept: of a matrix of blocks every element of a block."""
    return sparse._nnz() if sparse.layout is torch.sparse_coo else sparse.values().numel()


@_formula("aten.bmm", "aten.matmul")
def bmm(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """Any product of batches: each element of the result is a sum over the left factor's last dimension."""
    return 2 * int(out.numel()) * int(args[0].shape[-1])


@_formula("aten.baddbmm")
def baddbmm(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    return 2 * int(out.numel()) * int(args[1].shape[-1])


@_formula("aten.addbmm")
def addbmm(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    return 2 * args[1].numel() * args[2].shape[-1]


@_formula("aten.mv", "aten.dot", "aten.vdot")
def mv(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    return 2 * args[0].numel()


@_formula("aten.addmv")
def addmv(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    return 2 * args[1].numel()


@_formula("aten.linear", "mkldnn._linear_pointwise", "quantized.linear", "quantized.linear_dynamic")
def linear(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """Packed weights do not show their shape; the result does."""
    return 2 * int(out.numel()) * int(args[0].shape[-1])


@_formula(
    "aten._weight_int4pack_mm", "aten._weight_int8pack_mm", "aten._weight_int4pack_mm_for_cpu",
    "aten._weight_int4pack_mm_with_scales_and_zeros", "aten._dyn_quant_matmul_4bit",
)  # fmt: skip
def packed_mm(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    return 2 * args[0].numel() * int(out.shape[-1])


@_formula("aten._trilinear")
def trilinear(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """The sum over products of three broadcast factors, of which bilinear layers are made."""
    expanded = []
    for factor, places in zip(args[:3], args[3:6]):
        shape = list(factor.shape)
        for place in sorted(places):
            shape.insert(place, 1)
        expanded.append(shape)
    sizes = [max(one) for one in zip(*expanded)]
    first = prod(sizes)  # summed where the third factor is expanded, and what is left with that factor
    return 2 * (first + first // prod(sizes[place] for place in set(args[6]) & set(args[5])))


@_formula("aten._grouped_mm")
def grouped_mm(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """Experts' products: each row of the left factor meets one group's matrix, or the groups divide the sum."""
    left, right = args[0], args[1]
    if left.dim() == 3 and right.dim() == 3:
        return 2 * left.numel() * right.shape[-1]
    if left.dim() == 2:
        return 2 * left.numel() * right.shape[-1]
    return 2 * int(left.shape[-2]) * right.numel()


@_formula("aten._scaled_grouped_mm")
def scaled_grouped_mm(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    return grouped_mm(args, kwargs, out)


@_formula(
    "aten.convolution", "aten._convolution", "aten.convolution_overrideable", "aten.cudnn_convolution",
    "aten.cudnn_convolution_transpose", "aten.miopen_convolution", "aten.mkldnn_convolution",
    "aten._slow_conv2d_forward", "aten.thnn_conv2d", "aten.slow_conv3d", "aten.conv_depthwise3d",
    "aten._conv_depthwise2d", "aten._convolution_mode", "mkldnn._convolution_pointwise",
)  # fmt: skip
def convolution(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """2 FLOPs for each weight of a filter and each place where it is put down; padding is computed like any value."""
    transposed = len(args) > 6 and args[6] is True
    return _convolved(args[0], args[1], args[0] if transposed else out)


def _convolved(given: torch.Tensor, weight: torch.Tensor, places: torch.Tensor) -> int:
    """Each filter holds weight.numel() / weight.shape[0] weights, also in groups; a transposed one the same."""
    return 2 * places.numel() * (weight.numel() // weight.shape[0])


@_formula("aten.convolution_backward", "aten.convolution_backward_overrideable")
def convolution_backward(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """The gradient of the input and that of the weight cost a forward pass each, in groups or not."""
    transposed = next(a for a in args[4:] if isinstance(a, bool))
    mask = args[-1] if isinstance(args[-1], (list, tuple)) else kwargs["output_mask"]
    once = _convolved(args[1], args[2], args[1] if transposed else args[0])
    return once * (bool(mask[0]) + bool(mask[1]))


def _attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, factor_k: int, factor_v: int
) -> int:
    """Products of (queries, keys) with the keys' or the values' width, for each head of the queries."""
    scores = query.numel() // query.shape[-1] * key.shape[-2]
    return 2 * scores * (factor_k * query.shape[-1] + factor_v * value.shape[-1])


@_formula(
    "aten._scaled_dot_product_flash_attention", "aten._scaled_dot_product_efficient_attention",
    "aten._scaled_dot_product_cudnn_attention", "aten._scaled_dot_product_flash_attention_for_cpu",
    "aten._scaled_dot_product_fused_attention_overrideable", "aten.scaled_dot_product_attention",
    "flex_attention",
)  # fmt: skip
def attention(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """Scores, and their product with the values; queries may share keys in groups."""
    return _attention(args[0], args[1], args[2], 1, 1)


@_formula(
    "aten._scaled_dot_product_flash_attention_backward", "aten._scaled_dot_product_efficient_attention_backward",
    "aten._scaled_dot_product_cudnn_attention_backward",
    "aten._scaled_dot_product_flash_attention_for_cpu_backward",
    "aten._scaled_dot_product_fused_attention_overrideable_backward",
)  # fmt: skip
def attention_backward(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> tuple[int, int]:
    """Four products for the three gradients; and the scores once more (Dao et al. 2022, algorithm 4)."""
    query, key, value = args[1:4]
    return _attention(query, key, value, 2, 2), _attention(query, key, value, 1, 0)


@_formula("flex_attention_backward")
def flex_attention_backward(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> tuple[int, int]:
    query, key, value = args[:3]
    return _attention(query, key, value, 2, 2), _attention(query, key, value, 1, 0)


@_formula("aten.mkldnn_rnn_layer")
def mkldnn_rnn(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """At each time and for each sequence both weight matrices of one direction of one layer."""
    return 2 * _rows(args[0]) * (args[1].numel() + args[2].numel())


@_formula("aten.mkldnn_rnn_layer_backward")
def mkldnn_rnn_backward(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """Gradients of inputs and of weights: a forward pass each."""
    return 2 * mkldnn_rnn(args, kwargs, out)


@_formula("aten._cudnn_rnn", "aten.miopen_rnn")
def cudnn_rnn(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """All layers and directions at once; the weights come as a list in which biases are vectors."""
    return 2 * _rows(args[0]) * sum(weight.numel() for weight in args[1] if weight.dim() == 2)


@_formula("aten._cudnn_rnn_backward", "aten.miopen_rnn_backward")
def cudnn_rnn_backward(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    return 2 * cudnn_rnn(args, kwargs, out)


@_formula("aten._native_multi_head_attention")
def native_attention(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """The fast path of nn.MultiheadAttention: three projections, attention, one projection."""
    query, key = args[0], args[1]
    return _projected_attention(query, key, int(args[3]))


def _projected_attention(query: torch.Tensor, key: torch.Tensor, width: int) -> int:
    batch, length, _ = query.shape
    projections = 2 * (2 * query.numel() + 2 * key.numel()) * width
    return projections + 4 * batch * length * key.shape[1] * width


@_formula("aten._transformer_encoder_layer_fwd")
def encoder_layer(args: Sequence[Any], kwargs: dict[str, Any], out: Any) -> int:
    """The fast path of nn.TransformerEncoderLayer: attention and two linear layers."""
    source = args[0]
    feed_forward = 2 * _rows(source) * (args[14].numel() + args[16].numel())
    return _projected_attention(source, source, int(args[1])) + feed_forward


# Words in the names of operators that multiply matrices: one that has no formula is named, never left out in
# silence.
_PRODUCT = re.compile(
    r"(?:^|_)(?:\w*mm|\w*matmul|\w*gemm|mv|dot|einsum|cdist|trilinear|bilinear|grouped_mm)(?:_|$)"
    r"|conv(?!ert)|attention|(?:^|_)(?:q?linear|rnn|lstm|gru)(?:_|$)"
)
_NO_PRODUCT = re.compile(
    r"gamma|comm|lstm_cell|gru_cell|upsample|interp|choose|reorder|flatten|pack$|prepack|foreach"
)
_NOT_COMPUTING = ("c10d", "_c10d_functional", "prims", "inductor", "fsdp", "profiler", "_quantized")


def formula_of(packet: Any, name: str) -> Formula | None:
    """How to count an operator, by its overload packet and its name without overload; None: nothing to count."""
    ours = FORMULAS.get(name) or FORMULAS.get(name.removesuffix("_"))  # in place or not
    if ours is not None:
        return ours
    try:
        from torch.utils.flop_counter import flop_registry
    except ImportError:
        return None
    theirs = flop_registry.get(packet)
    if theirs is None:
        return None
    if name in ("aten._flash_attention_backward", "aten._efficient_attention_backward"):
        # Sequences of many lengths: five equal products there, and one of them repeats the scores.
        return lambda args, kwargs, out: _four_of_five(int(theirs(*args, **kwargs, out_val=out)))
    return lambda args, kwargs, out: int(theirs(*args, **kwargs, out_val=out))


def _four_of_five(whole: int) -> tuple[int, int]:
    return whole * 4 // 5, whole - whole * 4 // 5


def gemm_like(name: str) -> bool:
    """Whether an operator's name says that it multiplies matrices."""
    namespace, _, plain = name.rpartition(".")
    if namespace in _NOT_COMPUTING:
        return False
    return bool(_PRODUCT.search(plain)) and not _NO_PRODUCT.search(plain)
