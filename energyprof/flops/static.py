"""FLOPs of a model's forward pass from its trace, by module and by operator: fvcore's, with our handles.

fvcore traces the model once on a batch and gives every operator to a handle. What is left to do around it is
here: keyword inputs, caches and odd outputs (a wrapper of ours is traced), the model left as it was found
(`as_found`), formulas for what fvcore misses (`handles`), and the honest answer where an operator that may be
a matrix product has none: no total.

A trace holds what the output depends on: what was computed and not used is not in it, and the notes name the
layers concerned. Loops and branches in Python are as this batch ran them.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import sys
import types
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from energyprof.flops.as_found import left_as_found, uncompiled
from energyprof.flops.handles import FORMULAS, may_multiply
from energyprof.flops.inputs import arguments, tensors

_INNER = "inner"  # the model's name inside the wrapper that is traced
_NAMED = 5  # modules that a note names before it counts


class TraceFailed(RuntimeError):
    """There is no trace of this model on this batch; the message is one line."""


@dataclass(frozen=True)
class StaticReport:
    """FLOPs of one forward pass, two per multiply-accumulate.

    Attributes
    ----------
    total
        FLOPs of the model; None where an operator that may be a matrix product has no formula.
    by_module
        Qualified name ("" is the model) -> FLOPs, with those of its children. A module under two names has
        one row, under the first. Where `total` is None these are what could be counted.
    by_operator
        Operator -> FLOPs.
    uncounted
        Operators that may be matrix products and have no formula -> how often they ran.
    ignored
        Other operators without a formula: elementwise, norms, pooling, views -> how often they ran.
    source
        What made the trace.
    notes
        What a reader should know: layers that are not in the trace, hooks that did not run.
    """

    total: int | None
    by_module: Mapping[str, int]
    by_operator: Mapping[str, int]
    uncounted: Mapping[str, int]
    ignored: Mapping[str, int]
    source: str
    notes: tuple[str, ...]


def forward_report(model: torch.nn.Module, batch: Any) -> StaticReport:
    """Trace a model's forward pass on a batch, in eval mode, and count it.

    The model is left as it was found, also when the trace fails: training flags, buffers, attributes, hooks,
    random numbers. Its own forward hooks do not fire.

    Parameters
    ----------
    model
        Any module that torch.jit can trace; DDP, DataParallel and torch.compile are taken off.
    batch
        A tensor, a tuple of positional inputs, or a mapping of keyword inputs.

    Raises
    ------
    TraceFailed
        The model cannot be traced on this batch.
    """
    model = _bare(model)
    positional, named = arguments(batch)
    devices = {t.device for t in (*model.parameters(), *model.buffers())}
    _refuse(model, positional, named, devices)
    named = _without_cache(model, positional, named)
    with left_as_found(model, devices) as aside:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _traced(model, positional, named, aside)
        except TraceFailed:
            raise
        except Exception as fault:
            raise TraceFailed(_one_line(model, fault, aside)) from fault


def _bare(model: torch.nn.Module) -> torch.nn.Module:
    """The module inside torch.compile, DDP and DataParallel."""
    wrappers = (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)
    while True:
        inner = uncompiled(model.module if isinstance(model, wrappers) else model)
        if inner is model:
            return model
        model = inner


def _refuse(
    model: torch.nn.Module, positional: tuple[Any, ...], named: dict[str, Any], devices: set[torch.device]
) -> None:
    """Say at once what would fail darkly in the trace."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise TraceFailed(
                f"{name or 'the model'} is a scripted module: trace the model that it was made from"
            )
    if any(torch.nn.parameter.is_lazy(parameter) for parameter in model.parameters()):
        raise TraceFailed("the model has parameters without a shape yet: call it once on a batch first")
    inputs = [(f"input {index}", value) for index, value in enumerate(positional)]
    for name, value in (*inputs, *named.items()):
        for tensor in tensors(value):
            if devices and tensor.device not in devices and tensor.dim():
                where = ", ".join(sorted(map(str, devices)))
                raise TraceFailed(
                    f"{name} is on {tensor.device}, the model on {where}: move one to the other"
                )


def _without_cache(
    model: torch.nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
) -> dict[str, Any]:
    try:
        names = list(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):
        return named
    by_position = names[: len(positional)]
    if "use_cache" in names and "use_cache" not in by_position:
        return {**named, "use_cache": False}
    return named


class _Flat(torch.nn.Module):
    """A model from tensors to tensors: what a trace can take and give."""

    def __init__(self, model: torch.nn.Module, leaves: list[Any], spec: pytree.TreeSpec) -> None:
        super().__init__()
        self.inner = model
        self.leaves = leaves
        self.spec = spec

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = iter(inputs)
        leaves = [next(given) if isinstance(leaf, torch.Tensor) else leaf for leaf in self.leaves]
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

    def _within(self, nodes: Iterator[Any]) -> Counter[str]:
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


def _analysis(wrapper: _Flat, inputs: tuple[torch.Tensor, ...]) -> Any:
    analysis = _fvcore()(wrapper, inputs)
    analysis.clear_op_handles()
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")


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


def _traced(
    model: torch.nn.Module, positional: tuple[Any, ...], named: dict[str, Any], aside: int
) -> StaticReport:
    leaves, spec = pytree.tree_flatten((positional, named))
    inputs = tuple(leaf.detach().clone() for leaf in leaves if isinstance(leaf, torch.Tensor))
    rest = [leaf if isinstance(leaf, torch.Tensor) else copy.deepcopy(leaf) for leaf in leaves]
    wrapper = _Flat(model, rest, spec).eval()
    called = _record_calls(model)
    handles, analysis = _Handles(), _analysis(wrapper, inputs)
    analysis.set_op_handle(**{kind: handles[kind] for kind in (*FORMULAS, "prim::CallFunction")})
    analysis.total()
    python = [kind for kind in analysis.unsupported_ops("") if kind.startswith("prim::PythonOp")]
    if python:  # the names of the autograd.Functions are known only now: traced again with handles for them
        handles.uncounted.clear()
        analysis.set_op_handle(**{kind: handles[kind] for kind in python})
        analysis.total()
    unknown = analysis.unsupported_ops("")
    uncounted = handles.uncounted + Counter({k: n for k, n in unknown.items() if may_multiply(k)})
    rows = {_outer(name): int(flops) for name, flops in analysis.by_module().items() if name}
    operators = {name: int(flops) for name, flops in analysis.by_operator().items() if flops}
    return StaticReport(
        total=None if uncounted else rows[""],
        by_module=rows,
        by_operator=operators,
        uncounted=dict(uncounted),
        ignored={kind: n for kind, n in unknown.items() if not may_multiply(kind)},
        source="fvcore",
        notes=_notes(
            called, {_outer(name) for name in analysis.uncalled_modules() if name}, uncounted, aside
        ),
    )


def _outer(name: str) -> str:
    return name[len(_INNER) :].removeprefix(".")


def _record_calls(model: torch.nn.Module) -> dict[str, bool]:
    """The layers with weights, and (after a trace) whether they were called.

    The projection inside nn.MultiheadAttention is never called: its parent takes its weights.
    """
    called: dict[str, bool] = {}
    for name, module in model.named_modules():
        by_weights = isinstance(module, torch.nn.modules.linear.NonDynamicallyQuantizableLinear)
        if next(module.parameters(), None) is not None and not any(module.children()) and not by_weights:
            called[name] = False

            def note(_module: Any, _inputs: Any, name: str = name) -> None:
                called[name] = True

            module.register_forward_pre_hook(note)
    return called


def _notes(
    called: Mapping[str, bool], absent: set[str], uncounted: Mapping[str, int], aside: int
) -> tuple[str, ...]:
    unused = [name for name, was in called.items() if was and name in absent]
    notes = []
    if unused:
        notes.append(f"computed but not in what the model returns, and so not in the trace: {_some(unused)}")
    if idle := [name for name, was in called.items() if not was]:
        notes.append(f"layers that were not called on this batch: {_some(idle)}")
    if uncounted:
        notes.append(f"no total: no formula for {_some([f'{name} ({n}x)' for name, n in uncounted.items()])}")
    if aside:
        notes.append(f"{aside} forward hooks of the program did not run in the trace")
    return tuple(notes)


def _some(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _one_line(model: torch.nn.Module, fault: Exception, aside: int) -> str:
    said = next((line.strip() for line in str(fault).splitlines() if line.strip()), "")
    hooks = f" ({aside} forward hooks of the program were set aside)" if aside else ""
    return f"no trace of {type(model).__name__}: {type(fault).__name__}: {said[:300]}{hooks}"
