"""What was counted of a model: a row a module, each with what is inside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from energyprof.flops.scopes import Scopes


@dataclass(frozen=True)
class Layer:
    """One module in what was counted; FLOPs, bytes and parameters with those of the modules inside it.

    `flops_backward` is without what is repeated; `flops_recompute` is that: forward passes of activation
    checkpointing, and the scores that fused attention computes again. `bytes` is what its operators read and
    write if none were fused; `activations` the elements of its outputs; `own_flops` the part of the first
    three that is computed in no module inside it.
    """

    name: str
    kind: str
    depth: int
    leaf: bool
    calls: int
    params: int
    activations: int
    flops_forward: int
    flops_backward: int
    flops_recompute: int
    bytes: int
    own_flops: int


@dataclass(frozen=True)
class Counted:
    """The FLOPs of one step of one model; the first layer is the model itself, named "".

    `uncounted` names operators that multiply matrices and have no formula, with how often they ran: the
    figures are then a lower bound. `way` says on what it was counted: "step", or "fake tensors"; `dtype` in
    which type most was computed.
    """

    model: str
    layers: tuple[Layer, ...]
    uncounted: Mapping[str, int] = field(default_factory=dict)
    way: str = "step"
    dtype: str = ""

    @property
    def flops_forward(self) -> int:
        return self.layers[0].flops_forward

    @property
    def flops_backward(self) -> int:
        return self.layers[0].flops_backward

    @property
    def flops_recompute(self) -> int:
        return self.layers[0].flops_recompute

    @property
    def model_flops(self) -> int:
        """Forward and backward, nothing twice: what MFU is made of (Chowdhery et al. 2022, appendix B)."""
        return self.flops_forward + self.flops_backward

    @property
    def hardware_flops(self) -> int:
        """All that is executed."""
        return self.model_flops + self.flops_recompute


_FSDP = "FullyShardedDataParallel"
_WRAPPERS = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def plain_name(name: str) -> str:
    """A module's name as its author wrote it, without what wrappers put between."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The model that its author wrote, inside compilation and data parallelism."""
    while type(model).__name__ in ("OptimizedModule", "DistributedDataParallel", "DataParallel", _FSDP):
        inner = model._modules.get("_orig_mod") or model._modules.get("module")
        inner = inner or model._modules.get("_fsdp_wrapped_module")
        if inner is None:
            break
        model = inner
    return model


def gathered(
    root: torch.nn.Module,
    scopes: Scopes,
    flops: Mapping[tuple[torch.nn.Module | None, int], int],
    moved: Mapping[torch.nn.Module | None, int],
    uncounted: Mapping[str, int],
    way: str,
    dtype: str = "",
) -> Counted:
    """Own figures -> each module with what is inside it; what is computed in none of them is not the model's."""
    root = unwrapped(root)
    modules = {module: plain_name(name) for name, module in root.named_modules()}
    owns: dict[str, list[int]] = {}
    for module, name in modules.items():
        own = [flops.get((module, phase), 0) for phase in range(3)] + [moved.get(module, 0)]
        owns[name] = [a + b for a, b in zip(owns.get(name, [0] * 4), own)]
    sums = {name: list(own) for name, own in owns.items()}
    for name in sorted(owns, key=lambda name: -name.count(".") if name else 1):
        if name:
            above = name.rpartition(".")[0]
            above = above if above in sums else ""
            sums[above] = [a + b for a, b in zip(sums[above], sums[name])]
    called = {modules[module] for module in scopes.calls if module in modules}
    around = {name[:place] for name in called for place, sign in enumerate(name) if sign == "."}
    if called - {""}:
        around.add("")
    layers: dict[str, Layer] = {}
    for module, name in modules.items():
        forward, backward, again, traffic = sums[name]
        layers[name] = Layer(
            name=name, kind=type(module).__name__, depth=name.count(".") + 1 if name else 0, leaf=name not in around,
            calls=scopes.calls.get(module, 0), activations=scopes.outputs.get(module, 0),
            params=sum(p.numel() for p in module.parameters()),
            flops_forward=forward, flops_backward=backward, flops_recompute=again, bytes=traffic,
            own_flops=sum(owns[name][:3]),
        )  # fmt: skip
    kind = layers[""].kind
    return Counted(kind, tuple(layers.values()), dict(uncounted), way, dtype)
