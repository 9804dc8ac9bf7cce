"""FLOPs of a model's forward pass from its trace, by module and by operator: fvcore's, with our handles.

fvcore traces the model on a batch (`trace`) and gives every operator to a formula of ours (`handles`); the
model is left as it was found (`as_found`). Here: which module is meant, caches off, and the report, with the
honest answer where an operator that may be a matrix product has no formula: no total.

A trace holds what the output depends on: what was computed and not used is not in it, and the notes name the
layers concerned. Loops and branches in Python are as this batch ran them.
"""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from energyprof.flops.as_found import left_as_found, uncompiled
from energyprof.flops.handles import may_multiply
from energyprof.flops.inputs import arguments, tensors
from energyprof.flops.trace import Flat, TraceFailed, analysed

__all__ = ["StaticReport", "TraceFailed", "forward_report"]

_NAMED = 5  # modules that a note names before it counts


@dataclass(frozen=True)
class StaticReport:
    """FLOPs of one forward pass, two per multiply-accumulate.

    Attributes
    ----------
    total
        FLOPs of the model; None where an operator that may be a matrix product has no formula.
    by_module
        Qualified name ("" is the model) -> FLOPs, with those of its children. A module under two names has
        one row, under the first; what torch.compile wrapped has the name it had before. Where `total` is
        None these are what could be counted.
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
    _refuse(model)
    named = _without_cache(model, positional, named)
    with left_as_found(model, devices) as aside:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _traced(model, positional, named, aside)
        except TraceFailed:
            raise
        except Exception as fault:
            elsewhere = _elsewhere(positional, named, devices)
            raise TraceFailed(elsewhere or _one_line(model, fault, aside)) from fault


def _bare(model: torch.nn.Module) -> torch.nn.Module:
    """The module inside torch.compile, DDP and DataParallel."""
    wrappers = (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)
    while True:
        inner = uncompiled(model.module if isinstance(model, wrappers) else model)
        if inner is model:
            return model
        model = inner


def _refuse(model: torch.nn.Module) -> None:
    """Say at once what would fail darkly in the trace."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise TraceFailed(
                f"{name or 'the model'} is a scripted module: trace the model that it was made from"
            )
    if any(torch.nn.parameter.is_lazy(parameter) for parameter in model.parameters()):
        raise TraceFailed("the model has parameters without a shape yet: call it once on a batch first")


def _elsewhere(positional: tuple[Any, ...], named: dict[str, Any], devices: set[torch.device]) -> str:
    """The input that is not where the model is: asked after a fault, since offloaded models move their inputs."""
    inputs = [(f"input {index}", value) for index, value in enumerate(positional)]
    for name, value in (*inputs, *named.items()):
        for tensor in tensors(value):
            if devices and tensor.device not in devices and tensor.dim():
                where = ", ".join(sorted(map(str, devices)))
                return f"{name} is on {tensor.device}, the model on {where}: move one to the other"
    return ""


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


def _traced(
    model: torch.nn.Module, positional: tuple[Any, ...], named: dict[str, Any], aside: int
) -> StaticReport:
    layers = _record_calls(model)
    analysis, failed = analysed(Flat(model, positional, named))
    unknown = analysis.unsupported_ops("")
    uncounted = failed + Counter({k: n for k, n in unknown.items() if may_multiply(k)})
    rows = {_outer(name): int(flops) for name, flops in analysis.by_module().items() if name}
    absent = {_outer(name) for name in analysis.uncalled_modules() if name}
    operators = {name: int(flops) for name, flops in analysis.by_operator().items() if flops}
    return StaticReport(
        total=None if uncounted else rows[""],
        by_module=rows,
        by_operator=operators,
        uncounted=dict(uncounted),
        ignored={kind: n for kind, n in unknown.items() if not may_multiply(kind)},
        source="fvcore",
        notes=_notes(layers, absent, uncounted, aside),
    )


def _outer(name: str) -> str:
    """A module's name in the model: there the wrapper's child `inner` is the root."""
    return name.removeprefix("inner").removeprefix(".")


@dataclass
class _Layer:
    """A module with weights of its own."""

    weights: frozenset[int]
    called: bool = False


def _record_calls(model: torch.nn.Module) -> dict[str, _Layer]:
    """The layers with weights, which note their being called.

    The projection inside nn.MultiheadAttention is never called: its parent takes its weights.
    """
    layers: dict[str, _Layer] = {}
    for name, module in model.named_modules():
        weights = frozenset(map(id, module.parameters()))
        by_parent = isinstance(module, torch.nn.modules.linear.NonDynamicallyQuantizableLinear)
        if weights and not any(module.children()) and not by_parent:
            layers[name] = layer = _Layer(weights)

            def note(_module: Any, _inputs: Any, layer: _Layer = layer) -> None:
                layer.called = True

            module.register_forward_pre_hook(note)
    return layers


def _notes(
    layers: Mapping[str, _Layer], absent: set[str], uncounted: Mapping[str, int], aside: int
) -> tuple[str, ...]:
    used: set[int] = set().union(*(layer.weights for layer in layers.values() if layer.called))
    notes = []
    if unused := [name for name, layer in layers.items() if layer.called and name in absent]:
        notes.append(f"computed but not in what the model returns, and so not in the trace: {_some(unused)}")
    # A tied weight may be used by another layer: then nothing is missing.
    if idle := [name for name, layer in layers.items() if not layer.called and not layer.weights <= used]:
        where = "unused, or their weights are in another module's row"
        notes.append(f"layers that were not called on this batch ({where}): {_some(idle)}")
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
