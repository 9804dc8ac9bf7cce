"""A model used and then left as it was found: buffers, gradients, hooks of parameters, flags, random states.

What a forward and a backward pass change in a model is put back, the same tensors with the same values: the
statistics of batch norms, what a module keeps in plain attributes, `.grad`, and the generators that dropout
draws from. Hooks that run when a gradient has been added (optimizers that step in the backward pass) rest
meanwhile: they would change the parameters.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_PLAIN = (bool, int, float, str, type(None), torch.Tensor)


@contextmanager
def kept(model: torch.nn.Module) -> Iterator[None]:
    """Whatever happens inside, the model and the random states are afterwards as they were before."""
    modules = list(model.modules())
    parameters = list(model.parameters())
    buffers = [
        (module, name, buffer, None if buffer is None else buffer.detach().clone())
        for module in modules
        for name, buffer in module._buffers.items()
    ]
    plain = [(m, {k: v for k, v in vars(m).items() if isinstance(v, _PLAIN)}) for m in modules]
    gradients = [parameter.grad for parameter in parameters]
    resting = [(hooks, dict(hooks)) for p in parameters if (hooks := _hooks_after(p))]
    devices = {p.device.index for p in parameters if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=sorted(d for d in devices if d is not None)):
        state = random.getstate()
        try:
            for hooks, _ in resting:
                hooks.clear()
            for parameter in parameters:
                parameter.grad = None
            yield
        finally:
            random.setstate(state)
            for hooks, mine in resting:
                hooks.update(mine)
            for parameter, gradient in zip(parameters, gradients):
                parameter.grad = gradient
            for module, attributes in plain:
                vars(module).update(attributes)
            with torch.no_grad():
                for module, name, buffer, value in buffers:
                    module._buffers[name] = buffer
                    if buffer is not None and value is not None and not _same(buffer, value):
                        buffer.copy_(value)


def _hooks_after(parameter: torch.Tensor) -> dict[int, Any] | None:
    """The hooks that run once a gradient has been added to `.grad`."""
    found: dict[int, Any] | None = getattr(parameter, "_post_accumulate_grad_hooks", None)
    return found


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether there is nothing to put back. What cannot be compared (no data, NaN) is put back."""
    return not one.is_meta and one.shape == other.shape and bool(torch.equal(one, other))
