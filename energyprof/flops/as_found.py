"""A trace leaves a model as it found it: training flags, buffers, attributes, hooks, caches, random numbers.

The program's own forward hooks do not fire meanwhile: they may log, collect or write, and a trace is no
forward pass of the program. Those of torch itself stay, since they make the weights (weight norm, spectral
norm, pruning, FSDP). Parameters are not copied: a forward that writes to its own parameters in eval mode
keeps what it wrote.
"""

from __future__ import annotations

import functools
import random
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

# Exactly these: the outputs of model libraries are dicts too, and refuse to be cleared.
_CONTAINERS = (dict, OrderedDict, defaultdict, list, set)


@contextmanager
def left_as_found(model: torch.nn.Module, devices: set[torch.device]) -> Iterator[int]:
    """Within: eval mode, no gradients, no caches, nothing compiled, buffers that are copies.

    Yields the number of the program's forward hooks that were set aside.
    """
    modules = list(model.modules())
    kept = [*(_Kept(module.__dict__) for module in modules), _Kept(_global_hooks())]
    configs: dict[int, Any] = {id(c): c for c in (getattr(m, "config", None) for m in modules) if _caching(c)}
    with ExitStack() as restoring:
        for one in kept:
            restoring.callback(one.restore)
        for config in configs.values():
            restoring.callback(setattr, config, "use_cache", True)
            config.use_cache = False
        restoring.enter_context(_random_numbers(devices))
        restoring.enter_context(_slow_attention())
        restoring.enter_context(torch.no_grad())
        aside = sum(_set_hooks_aside(hooks) for hooks in _forward_hooks(modules))
        _copy_buffers(modules)
        _lay_bare(modules)
        yield aside


@contextmanager
def restored(model: torch.nn.Module, *, values: bool = True) -> Iterator[None]:
    """Within: a step forward and backward, after which the model is what it was, in the mode that it is in.

    The modules' attributes and containers, buffers with their values, `.grad` of the parameters and the random
    states are put back; forward hooks of the program's own, and what it does when a gradient has been added,
    rest. With `values` False the step changes no value (fake tensors), and no buffer is copied.
    """
    modules, parameters = list(model.modules()), list(model.parameters())
    buffers = list(model.buffers())
    kept = [*(_Kept(module.__dict__) for module in modules), _Kept(_global_hooks())]
    added = [hooks for p in parameters if (hooks := getattr(p, "_post_accumulate_grad_hooks", None))]
    kept_added = [(hooks, dict(hooks)) for hooks in added]
    gradients = [parameter.grad for parameter in parameters]
    copies = [buffer.detach().clone() for buffer in buffers] if values else []
    with _random_numbers({tensor.device for tensor in (*parameters, *buffers)}):
        try:
            for hooks in _forward_hooks(modules):
                _set_hooks_aside(hooks)
            for hooks in added:  # also those of torch: an optimizer that steps in the backward pass
                hooks.clear()
            for parameter in parameters:
                parameter.grad = None
            yield
        finally:
            for hooks, held in kept_added:
                hooks.update(held)
            for parameter, gradient in zip(parameters, gradients):
                parameter.grad = gradient
            for one in kept:
                one.restore()
            with torch.no_grad():
                for buffer, copy in zip(buffers, copies):
                    if not buffer.is_meta and not torch.equal(buffer, copy):
                        buffer.copy_(copy)


@contextmanager
def as_fakes(model: torch.nn.Module, fake: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Within: every parameter and buffer is what `fake` made of it; a tensor that modules share stays shared.

    `torch.func.functional_call` does the same, but leaves a module that has two names in the fakes' hands.
    """
    made: dict[int, torch.Tensor] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        made[id(tensor)] = fake(tensor)
    stores: list[Any] = [s for m in model.modules() for s in (m._parameters, m._buffers)]
    flat = [m._flat_weights for m in model.modules() if isinstance(m, torch.nn.RNNBase)]
    held = [(store, store.copy()) for store in (*stores, *flat)]
    try:
        for store in stores:
            store.update({name: made[id(one)] for name, one in store.items() if one is not None})
        for weights in flat:
            weights[:] = [made.get(id(one), one) for one in weights]
        yield
    finally:
        for store, were in held:
            store.clear()
            (store.extend if isinstance(store, list) else store.update)(were)


class _Kept:
    """The attributes of a module, and what its containers hold.

    But which tensors are its parameters: FSDP swaps them around a forward and keeps its own record of it.
    """

    def __init__(self, attributes: dict[str, Any]) -> None:
        self._attributes = attributes
        self._were = dict(attributes)
        containers = [v for name, v in attributes.items() if name != "_parameters" and type(v) in _CONTAINERS]
        self._held = [(container, container.copy()) for container in containers]

    def restore(self) -> None:
        self._attributes.clear()
        self._attributes.update(self._were)
        for container, held in self._held:
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(held)


def _caching(config: Any) -> bool:
    return getattr(config, "use_cache", None) is True


@contextmanager
def _random_numbers(devices: set[torch.device]) -> Iterator[None]:
    cuda = sorted({d.index or 0 for d in devices if d.type == "cuda"})
    numpy = sys.modules.get("numpy")
    python_state, numpy_state = random.getstate(), numpy.random.get_state() if numpy else None
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        random.setstate(python_state)
        if numpy:
            numpy.random.set_state(numpy_state)


@contextmanager
def _slow_attention() -> Iterator[None]:
    """torch's fused encoder layer hides its linear layers from the trace: their rows would be empty."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _global_hooks() -> dict[str, Any]:
    """The hooks that fire for every module."""
    names = ("_global_forward_pre_hooks", "_global_forward_hooks")
    return {name: getattr(torch.nn.modules.module, name) for name in names}


def _forward_hooks(modules: list[torch.nn.Module]) -> Iterator[dict[int, Any]]:
    for module in modules:
        yield module._forward_pre_hooks
        yield module._forward_hooks
    yield from _global_hooks().values()


def _set_hooks_aside(hooks: dict[int, Any]) -> int:
    foreign = [key for key, hook in hooks.items() if not _of_torch(hook)]
    for key in foreign:
        del hooks[key]
    return len(foreign)


def _of_torch(hook: Any) -> bool:
    while isinstance(hook, functools.partial):
        hook = hook.func
    return (getattr(hook, "__module__", None) or "").partition(".")[0] == "torch"


def _copy_buffers(modules: list[torch.nn.Module]) -> None:
    """Put copies in the buffers' place; one copy for one tensor, however many modules share it."""
    copies: dict[int, torch.Tensor] = {}
    for module in modules:
        for name, buffer in module._buffers.items():
            if buffer is not None:
                copy = copies.setdefault(id(buffer), buffer.detach().clone())
                module._buffers[name] = copy


def _lay_bare(modules: list[torch.nn.Module]) -> None:
    """Eval mode without the modules' own `eval`, which may do more; and what was compiled, as written."""
    for module in modules:
        module.training = False
        if getattr(module, "_compiled_call_impl", None) is not None:
            module._compiled_call_impl = None
        for name, child in module._modules.items():
            if child is not None:
                module._modules[name] = uncompiled(child)


def uncompiled(module: torch.nn.Module) -> torch.nn.Module:
    """The module as it was before torch.compile wrapped it."""
    while isinstance(module.__dict__.get("_modules", {}).get("_orig_mod"), torch.nn.Module):
        module = module._modules["_orig_mod"]  # type: ignore[assignment]
    return module
