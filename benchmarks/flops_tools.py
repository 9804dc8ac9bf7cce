"""The tools that count FLOPs, each as its authors mean it to be used. Imported in the tool's own environment.

Each takes a model in training mode and a batch of keyword inputs, and gives FLOPs: of the forward pass, of the
backward pass where it counts that, and by module where it tells. What counts multiply-accumulates is doubled. A tool
that takes positional tensors only, or that stumbles over an output that is no tuple of tensors, gets the model in
`Plain`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.zoo import stubs
from energyprof.flops.inputs import call, loss_of, tensors

Batch = Mapping[str, torch.Tensor]
Rows = Mapping[str, float]


@dataclass(frozen=True)
class Answer:
    """What a tool says, in FLOPs; rows by module name, modules inside included; None: it does not say."""

    flops_forward: float | None
    flops_backward: float | None = None
    rows_forward: Rows | None = None
    rows_backward: Rows | None = None
    uncounted: Rows = field(default_factory=dict)


class Plain(torch.nn.Module):
    """Positional tensors in, a tuple of tensors out."""

    def __init__(self, model: torch.nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self._names = model, names

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.model(**dict(zip(self._names, values)))
        return tuple(tensor for tensor in tensors(output) if tensor.is_floating_point())


def plain(model: torch.nn.Module, batch: Batch) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    return Plain(model, tuple(batch)).eval(), tuple(batch.values())


def executed(model: torch.nn.Module, batch: Batch) -> Answer:
    """Ours, as the model runs."""
    from energyprof.flops.counting import count

    return _counted(count(model, dict(batch), backward=True))


def on_fake_tensors(model: torch.nn.Module, batch: Batch) -> Answer:
    """Ours, on tensors without values: nothing is computed."""
    from energyprof.flops.counting import count

    return _counted(count(model, dict(batch), backward=True, fake=True))


def _counted(counted: Any) -> Answer:
    return Answer(
        counted.flops_forward,
        counted.flops_backward,
        {layer.name: layer.flops_forward for layer in counted.layers},
        {layer.name: layer.flops_backward for layer in counted.layers},
        {str(name): float(calls) for name, calls in counted.uncounted.items()},
    )


def static(model: torch.nn.Module, batch: Batch) -> Answer:
    """Ours, from a trace of fvcore with operator handles of ours."""
    from energyprof.flops.static import forward_report

    report = forward_report(model.eval(), dict(batch))
    return Answer(report.total, None, dict(report.by_module))


def fvcore(model: torch.nn.Module, batch: Batch) -> Answer:
    """As it comes; its name for a multiply-accumulate is a flop."""
    from fvcore.nn import FlopCountAnalysis

    return Answer(2 * FlopCountAnalysis(*plain(model, batch)).total())


def torch_counter(model: torch.nn.Module, batch: Batch) -> Answer:
    """FlopCounterMode: a forward pass, then a whole step, whose difference is the backward pass."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as forward:
        call(model, batch)
    with FlopCounterMode(display=False) as both:
        loss_of(call(model, batch)).backward()
    ahead, all_rows = _torch_rows(forward, model), _torch_rows(both, model)
    behind = {name: flops - ahead.get(name, 0) for name, flops in all_rows.items()}
    total = forward.get_total_flops()
    return Answer(total, both.get_total_flops() - total, ahead, behind)


def _torch_rows(counter: Any, model: torch.nn.Module) -> dict[str, float]:
    """Its names begin with the class of the outermost module."""
    root = type(model).__name__
    rows = {}
    for name, by_operator in counter.get_flop_counts().items():
        if name == root or name.startswith(f"{root}."):
            rows[name[len(root) + 1 :]] = float(sum(by_operator.values()))
    return rows


def deepspeed(model: torch.nn.Module, batch: Batch) -> Answer:
    from deepspeed.profiling.flops_profiler import get_model_profile

    found = get_model_profile(model.eval(), kwargs=dict(batch), print_profile=False, as_string=False)
    return Answer(2 * found[1])


def calflops(model: torch.nn.Module, batch: Batch) -> Answer:
    with stubs.torchvision():  # it names a model of it in an example
        from calflops import calculate_flops

    found = calculate_flops(model.eval(), kwargs=dict(batch), output_as_string=False, print_results=False)
    return Answer(2 * found[1])


def ptflops(model: torch.nn.Module, batch: Batch, backend: str = "pytorch") -> Answer:
    from ptflops import get_model_complexity_info

    macs, _ = get_model_complexity_info(
        model.eval(),
        (1,),
        print_per_layer_stat=False,
        as_strings=False,
        input_constructor=lambda _: dict(batch),
        ost=io.StringIO(),
        backend=backend,
    )
    if macs is None:
        raise RuntimeError("no answer")
    return Answer(2 * float(macs))


def ptflops_aten(model: torch.nn.Module, batch: Batch) -> Answer:
    return ptflops(model, batch, "aten")


def thop(model: torch.nn.Module, batch: Batch) -> Answer:
    from thop import profile

    wrapped, values = plain(model, batch)
    return Answer(2 * profile(wrapped, inputs=values, verbose=False)[0])


def torchinfo(model: torch.nn.Module, batch: Batch) -> Answer:
    from torchinfo import summary

    return Answer(2 * summary(model, input_data=dict(batch), verbose=0, mode="eval").total_mult_adds)


TOOLS: dict[str, Callable[[torch.nn.Module, Batch], Answer]] = {
    "energyprof": executed,
    "energyprof fake": on_fake_tensors,
    "energyprof static": static,
    "fvcore": fvcore,
    "torch": torch_counter,
    "deepspeed": deepspeed,
    "calflops": calflops,
    "ptflops": ptflops,
    "ptflops aten": ptflops_aten,
    "thop": thop,
    "torchinfo": torchinfo,
}
OURS = ("energyprof", "energyprof fake", "energyprof static", "fvcore", "torch")
"""Those that run in our own environment."""
