"""One trace by fvcore: a wrapper that it can take, and handles of ours for every operator.

fvcore takes tensors by position and gives each node of the trace to a handle by the node's kind. The wrapper
makes any inputs and outputs fit; the handles apply the formulas of `handles` and keep a record of the
operators that could not be counted.
"""

from __future__ import annotations

import copy
import importlib
import sys
import types
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from energyprof.flops.handles import FORMULAS, may_multiply
from energyprof.flops.inputs import tensors


class TraceFailed(RuntimeError):
    """There is no trace of this model on this batch; the message is one line."""


class Flat(torch.nn.Module):
    """A model from tensors to tensors: what a trace can take and give.

    The model is the child `inner`. What is no tensor in its inputs (numbers, caches) is copied for each trace.
    """

    def __init__(self, model: torch.nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        super().__init__()
        self.inner = model
        self.leaves, self.spec = pytree.tree_flatten((positional, named))
        self.training = False  # without `eval`, which the model may have made its own

    def inputs(self) -> tuple[torch.Tensor, ...]:
        """Copies of the input's tensors: a forward may write to them."""
        return tuple(leaf.detach().clone() for leaf in self.leaves if isinstance(leaf, torch.Tensor))

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = iter(inputs)
        leaves = [
            next(given) if isinstance(leaf, torch.Tensor) else copy.deepcopy(leaf) for leaf in self.leaves
        ]
        positional, named = pytree.tree_unflatten(leaves, self.spec)
        outputs = tuple(tensors(self.inner(*positional, **named)))
        if not outputs:
            raise TraceFailed("no tensor was found in the model's output: give a model that returns tensors")
        return outputs


class _Handles:
    """One handle for every operator: its formula, and a record of those that could not be counted."""

    def __init__(self) -> None:
        self.uncounted: Counter[str] = Counter()

    def __getitem__(self, kind: str) -> Any:
        def handle(inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
            return self._count(kind, outputs[0].node(), inputs, outputs)

        return handle

    def _count(self, kind: str, node: Any, inputs: Sequence[Any], outputs: Sequence[Any]) -> Counter[str]:
        if kind in FORMULAS:
            try:
                return Counter({kind.partition("::")[2].lstrip("_"): FORMULAS[kind](inputs, outputs)})
            except Exception:  # a shape or an argument that the trace does not know
                self.uncounted[kind] += 1
        elif kind.startswith("prim::PythonOp") and node.hasAttribute("Subgraph"):
            return self._within(node.g("Subgraph").nodes())
        elif kind == "prim::CallFunction":
            self._scripted(inputs[0])
        elif may_multiply(kind):
            self.uncounted[kind] += 1
        return Counter()

    def _within(self, nodes: Iterable[Any]) -> Counter[str]:
        """What an autograd.Function computes: its trace is inside its node."""
        counts: Counter[str] = Counter()
        for node in nodes:
            counts += self._count(_kind(node), node, list(node.inputs()), list(node.outputs()))
        return counts

    def _scripted(self, function: Any) -> None:
        """A scripted function has no shapes inside: it is free of products, or uncounted."""
        compilation: Any = importlib.import_module("torch.jit._state")._python_cu
        compiled = compilation.find_function(str(function.type()))
        if compiled is None or any(kind in FORMULAS or may_multiply(kind) for kind in _kinds(compiled.graph)):
            self.uncounted[f"scripted {function.node().s('name')}"] += 1


def _kind(node: Any) -> str:
    kind = str(node.kind())
    return f"{kind}.{node.pyname()}" if kind == "prim::PythonOp" else kind


def _kinds(block: Any) -> Iterator[str]:
    for node in block.nodes():
        yield _kind(node)
        for inner in node.blocks():
            yield from _kinds(inner)


def analysed(flat: Flat) -> tuple[Any, Counter[str]]:
    """fvcore's analysis of a model, traced; and the operators with a formula that could not be counted."""
    analysis, handles = _fvcore()(flat, flat.inputs()), _Handles()
    analysis.clear_op_handles()
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    analysis.set_op_handle(**{kind: handles[kind] for kind in (*FORMULAS, "prim::CallFunction")})
    analysis.total()
    functions = [kind for kind in analysis.unsupported_ops("") if kind.startswith("prim::PythonOp")]
    if functions:  # autograd.Functions: their names are known only now; traced again with handles for them
        handles.uncounted.clear()
        analysis.set_op_handle(**{kind: handles[kind] for kind in functions})
        analysis.total()
    return analysis, handles.uncounted


def _fvcore() -> Any:
    """fvcore's FlopCountAnalysis, without the rest of fvcore.nn: that compiles functions as it is imported,
    with a deprecation warning for each."""
    whole = sys.modules.get("fvcore.nn")
    if whole is None:
        stand_in = types.ModuleType("fvcore.nn")
        stand_in.__path__ = [f"{folder}/nn" for folder in importlib.import_module("fvcore").__path__]
        sys.modules["fvcore.nn"] = stand_in
    try:
        return importlib.import_module("fvcore.nn.flop_count").FlopCountAnalysis
    finally:
        if whole is None:
            del sys.modules["fvcore.nn"]
