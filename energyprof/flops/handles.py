"""FLOPs of one operator of a traced graph, from the shapes of its values: two per multiply-accumulate.

fvcore asks a handle for each node of its trace. Its own handles count multiply-accumulates and miss attention,
recurrent layers, grouped products, broadcasting and more; these take the place of all of them. Norms and
elementwise operators have none, so that a total is the closed form of the model's matrix products,
convolutions, attention and recurrent cells.

Two formulas carry most: a product is 2 x elements of its result x length of the contracted dimension, a
convolution 2 x elements of its result x weights that one of them sees.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from energyprof.flops.einsum import einsum_flops

Formula = Callable[[Sequence[Any], Sequence[Any]], int]  # torch._C.Value in, torch._C.Value out -> FLOPs


def shape(value: Any) -> list[int]:
    """The shape of a traced value.

    Raises
    ------
    ValueError
        The trace does not know it: a sparse or nested tensor, or no tensor.
    """
    if not value.isCompleteTensor():
        raise ValueError(f"no shape in the trace: {value.type()}")
    return list(value.type().sizes())


def elements(value: Any) -> int:
    return math.prod(shape(value))


def _listed(value: Any) -> list[Any]:
    """The members of a traced list."""
    return list(value.node().inputs()) if value.node().kind() == "prim::ListConstruct" else []


def _product(first: int = 0) -> Formula:
    """A matrix product whose contracted dimension is the last of input `first`; batched and broadcast alike."""

    def formula(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
        shape(inputs[first + 1])  # a sparse operand has none: its work is in its non-zeros
        return 2 * elements(outputs[0]) * shape(inputs[first])[-1]

    return formula


def _packed(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """A linear layer whose weight lies packed in an order of the kernel's own."""
    return 2 * elements(outputs[0]) * shape(inputs[0])[-1]


def _addbmm(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    return 2 * elements(inputs[1]) * shape(inputs[2])[-1]


def _scalar_product(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    return 2 * elements(inputs[0])


def _scalar_products(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """torch makes one of two vectors; of more, an elementwise product and a sum, which count nothing."""
    alone = len(shape(inputs[0])) == len(shape(inputs[1])) == 1
    return _scalar_product(inputs, outputs) if alone else 0


def _tensordot(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    # numel(a) = kept_a x k, numel(b) = k x kept_b, numel(out) = kept_a x kept_b: the root is exact.
    operands = elements(inputs[0]) * elements(inputs[1])
    return 2 * math.isqrt(operands * elements(outputs[0]))


def _bilinear(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """x W y for each output: x W, and that times y (as at::_trilinear does it)."""
    one, two = shape(inputs[0])[-1], shape(inputs[1])[-1]
    return 2 * elements(outputs[0]) * two * (one + 1)


def _grouped_product(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Products of ragged groups: each row (or column, or part of the inner dimension) is in one group."""
    a, b = shape(inputs[0]), shape(inputs[1])
    groups = a[0] if len(a) == len(b) == 3 else 1
    return 2 * groups * a[-2] * a[-1] * b[-1]


def _fallback_grouped_product(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    return 2 * elements(outputs[0]) * shape(inputs[0])[-1]


def _convolution(inputs: Sequence[Any], outputs: Sequence[Any], transposed: bool = False) -> int:
    # The weight is (out, in / groups, ...); transposed, (in, out / groups, ...): its first entry is what one
    # element of the result, or of the input, is multiplied with.
    one = math.prod(shape(inputs[1])[1:])
    return 2 * one * elements(inputs[0] if transposed else outputs[0])


def _transposed_convolution(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    return _convolution(inputs, outputs, transposed=True)


def _either_convolution(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    return _convolution(inputs, outputs, transposed=bool(inputs[6].toIValue()))


def _convolution_tbc(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    width, channels, _ = shape(inputs[1])  # time x batch x channel
    return 2 * elements(outputs[0]) * width * channels


def _attention(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """Scores and their product with the values, of all pairs: masks and causality skip nothing here.

    Query heads govern, so that grouped queries need no case of their own.
    """
    query, key, value = (shape(each) for each in inputs[:3])
    rows = math.prod(shape(outputs[0])[:-1])
    return 2 * rows * key[-2] * (query[-1] + value[-1])


def _whole_attention(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """The fused multi-head attention of eval mode: projections in and out, scores, and values."""
    query, key, value = (shape(each) for each in inputs[:3])
    width = shape(inputs[7])[0]
    batch_rows, keys = math.prod(query[:-1]), key[-2]
    projections = (2 * batch_rows + math.prod(key[:-1]) + math.prod(value[:-1])) * width * width
    return 2 * projections + 4 * batch_rows * keys * width


def _whole_encoder_layer(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """The fused encoder layer of eval mode: four weight matrices for each token, and attention."""
    source = shape(inputs[0])
    tokens = math.prod(source[:-1])
    weights = sum(elements(inputs[index]) for index in (3, 5, 14, 16))
    return 2 * tokens * weights + 4 * tokens * source[-2] * source[-1]


def _recurrent(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    """A recurrent layer, padded or packed: each token meets every weight matrix once."""
    for value in inputs:
        weights = [elements(each) for each in _listed(value) if len(shape(each)) == 2]
        if weights:
            return 2 * math.prod(shape(inputs[0])[:-1]) * sum(weights)
    raise ValueError("no weights in the trace of a recurrent layer")


def _recurrent_cell(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    weights = elements(inputs[2]) + elements(inputs[3])
    return 2 * math.prod(shape(inputs[0])[:-1]) * weights


def _einsum(inputs: Sequence[Any], outputs: Sequence[Any]) -> int:
    order = [step.toIValue() for step in _listed(inputs[2])] if len(inputs) > 2 else []
    return einsum_flops(inputs[0].toIValue(), [shape(each) for each in _listed(inputs[1])], order)


_NAMES: list[tuple[Formula, str]] = [
    (
        _product(),
        "aten::matmul aten::linalg_matmul aten::mm aten::bmm aten::mv aten::linear aten::inner aten::mkldnn_linear "
        "aten::_int_mm aten::_scaled_mm aten::_addmm_activation",
    ),
    (_product(1), "aten::addmm aten::addmv aten::baddbmm"),
    (
        _packed,
        "aten::_weight_int4pack_mm aten::_weight_int4pack_mm_for_cpu aten::_weight_int8pack_mm "
        "quantized::linear quantized::linear_relu quantized::linear_dynamic quantized::linear_relu_dynamic",
    ),
    (_addbmm, "aten::addbmm"),
    (_scalar_product, "aten::dot aten::vdot"),
    (_scalar_products, "aten::linalg_vecdot"),
    (_tensordot, "aten::tensordot"),
    (_bilinear, "aten::bilinear"),
    (_einsum, "aten::einsum"),
    # transformers has a fallback of its own where torch has no grouped product for a device or a type.
    (_grouped_product, "aten::_grouped_mm aten::_scaled_grouped_mm"),
    (_fallback_grouped_product, "transformers::grouped_mm_fallback"),
    (
        _convolution,
        "aten::conv1d aten::conv2d aten::conv3d aten::_convolution_mode aten::conv_depthwise3d "
        "aten::_conv_depthwise2d aten::cudnn_convolution aten::mkldnn_convolution torchvision::deform_conv2d",
    ),
    (_transposed_convolution, "aten::conv_transpose1d aten::conv_transpose2d aten::conv_transpose3d"),
    (_either_convolution, "aten::_convolution aten::convolution"),
    (_convolution_tbc, "aten::conv_tbc"),
    (
        _attention,
        "aten::scaled_dot_product_attention aten::_scaled_dot_product_flash_attention "
        "aten::_scaled_dot_product_flash_attention_for_cpu aten::_scaled_dot_product_efficient_attention "
        "aten::_scaled_dot_product_cudnn_attention aten::_scaled_dot_product_attention_math "
        "aten::_scaled_dot_product_fused_attention_overrideable",
    ),
    (_whole_attention, "aten::_native_multi_head_attention"),
    (_whole_encoder_layer, "aten::_transformer_encoder_layer_fwd"),
    (_recurrent, "aten::lstm aten::gru aten::rnn_tanh aten::rnn_relu"),
    (_recurrent_cell, "aten::lstm_cell aten::gru_cell aten::rnn_tanh_cell aten::rnn_relu_cell"),
]

FORMULAS: dict[str, Formula] = {name: formula for formula, names in _NAMES for name in names.split()}
"""Operator -> its FLOPs."""

# The names by which torch calls products, convolutions, attention and recurrent layers; read through all of
# its operators that take two tensors (torch 2.13). A name's parts stand between underscores.
_PRODUCT = re.compile(
    r"mm(_|$|\d)|matmul|matrix_power|matrix_exp|conv(?!ert)|(^|_)attention|multi_head|transformer_encoder"
    r"|rnn|lstm|gru(_|$)|(^|_)linear(_|$)|bilinear|trilinear|dot(_|$)|mv(_|$)|einsum|cdist|euclidean_dist"
    r"|(^|_)inner$|(^|_)cov$|corrcoef|pack_mm"
)
# Interpolation and packing bear such names and multiply no matrices.
_NOT_A_PRODUCT = re.compile(r"^_?upsample|prepack$|reorder_conv")
# Name spaces and operators of other libraries that are known to multiply no matrices; of any other, nothing is known.
_ZERO_SPACES = {"profiler", "c10d", "_c10d_functional", "fsdp"}
_ZERO_ELSEWHERE = {
    "torchvision::nms",
    "torchvision::roi_align",
    "torchvision::roi_pool",
    "torchvision::ps_roi_align",
    "torchvision::ps_roi_pool",
    "quantized::batch_norm2d",
    "quantized::add",
    "quantized::mul",
    "quantized::cat",
}


def may_multiply(kind: str) -> bool:
    """Whether an operator without a formula may be a matrix product in disguise.

    Those of torch are known by their names; those of other libraries, and Python functions in the graph, may
    hide anything, and all of them count as such.
    """
    space, _, name = kind.partition("::")
    if space == "prim":
        return name.startswith(("PythonOp", "CallFunction", "CallMethod"))
    if space != "aten":
        return space not in _ZERO_SPACES and kind not in _ZERO_ELSEWHERE
    return bool(_PRODUCT.search(name)) and not _NOT_A_PRODUCT.search(name)
