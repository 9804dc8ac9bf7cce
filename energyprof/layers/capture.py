"""One real training step, watched: which modules are called, in which, with what, and what gradient comes back.

Modules that cost the same (their nature, the signature of their arguments, the grad mode and autocast of the
call) are one *kind*, of which one set of arguments and one set of output gradients is kept: real values,
since what a multiplier draws depends on the bits that it is fed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from energyprof.flops.as_found import restored
from energyprof.flops.counted import plain_name
from energyprof.flops.counting import eagerly
from energyprof.flops.inputs import call, loss_of, tensors
from energyprof.layers.values import NotAlone, copied, nature, signature

_IN_TURN = 16  # modules of a kind that are repeated in turn: each keeps the activations of a backward pass


@dataclass(frozen=True)
class Mode:
    """How a call was made: gradients recorded or not, and autocast with its dtype or None."""

    grad: bool
    inference: bool
    autocast: torch.dtype | None
    device: str

    @contextmanager
    def entered(self) -> Iterator[None]:
        """In this mode. Without autocast's cache: a step casts a weight once, and so does each call here."""
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(self.inference))
            if not self.inference:
                stack.enter_context(torch.set_grad_enabled(self.grad))
            if self.autocast is not None:
                stack.enter_context(torch.autocast(self.device, self.autocast, cache_enabled=False))
            yield


@dataclass
class Kind:
    """Calls that cost the same: what the first was given, and what came back; and the modules that make them."""

    name: str
    module: torch.nn.Module
    mode: Mode
    modules: list[torch.nn.Module] = field(default_factory=list)
    positional: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict)
    gradients: dict[int, torch.Tensor] = field(default_factory=dict)  # by the number of the output tensor
    gradients_of: int | None = None
    activations: int = 0
    fault: str | None = None  # why it cannot be called alone

    @property
    def trained(self) -> bool:
        """Whether a gradient went back through it."""
        return bool(self.gradients)


@dataclass
class Call:
    """One call of a module in the step."""

    name: str
    inside: int | None  # the call that made it
    recomputed: bool  # in the backward pass, of what was not kept
    kind: Kind | None = None
    stopped: bool = False  # what was recomputed was enough before its end
    differentiated: bool = False
    leaf: bool = True


@dataclass(frozen=True)
class Captured:
    """The calls of one step in order, and the kinds of those that were asked for."""

    calls: list[Call]
    kinds: list[Kind]


class Watcher:
    """Hooks on the modules of a model that write down its calls.

    Parameters
    ----------
    model
        Whose calls are written down; its own call is the first.
    wanted
        Names of modules whose arguments and gradients are kept; the others' calls are only noted.
    """

    def __init__(self, model: torch.nn.Module, wanted: Collection[str]) -> None:
        self.calls: list[Call] = []
        self.kinds: dict[Any, Kind] = {}
        self._stack: list[int] = []
        self._wanted = set(wanted)
        self._modules = {plain_name(name): module for name, module in model.named_modules()}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While the hooks are there; they are gone afterwards, whatever happened."""
        with ExitStack() as stack:
            for name, module in self._modules.items():
                if isinstance(module, torch.jit.ScriptModule):
                    continue  # takes no hooks that see keyword arguments: part of its caller
                before = module.register_forward_pre_hook(self._before(name), prepend=True, with_kwargs=True)
                stack.callback(before.remove)
                after = module.register_forward_hook(self._after, always_call=True)
                stack.callback(after.remove)
            yield

    def _before(self, name: str) -> Any:
        def hook(module: torch.nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
            recomputed = torch._C._current_graph_task_id() != -1
            inside = self._stack[-1] if self._stack else self._first_caller(name) if recomputed else None
            if inside is not None:
                self.calls[inside].leaf = False
            kind = self._kind(name, module, positional, named) if name in self._wanted else None
            self._stack.append(len(self.calls))
            self.calls.append(Call(name, inside, recomputed, kind))

        return hook

    def _first_caller(self, name: str) -> int | None:
        """What called a module in the forward pass, for the call that repeats it in the backward pass."""
        return next((one.inside for one in self.calls if one.name == name), None)

    def _after(self, module: torch.nn.Module, positional: Any, output: Any) -> None:
        if not self._stack:
            return
        number = self._stack.pop()
        one = self.calls[number]
        one.stopped = output is None and one.recomputed
        if one.kind is None:
            return
        found = list(tensors(output))
        one.kind.activations = sum(tensor.numel() for tensor in found)
        for place, tensor in enumerate(found):
            if tensor.requires_grad:
                tensor.register_hook(self._arrival(one, number, place))

    def _arrival(self, one: Call, number: int, place: int) -> Any:
        kind = one.kind
        assert kind is not None

        def hook(gradient: torch.Tensor) -> None:
            one.differentiated = True
            if kind.gradients_of in (None, number):
                kind.gradients_of = number
                kind.gradients[place] = gradient.detach().clone()

        return hook

    def _kind(self, name: str, module: torch.nn.Module, positional: Any, named: Any) -> Kind:
        mode = mode_of(module, (positional, named))
        key = (nature(module), signature(positional), signature(named), mode)
        if key not in self.kinds:
            kind = self.kinds[key] = Kind(name, module, mode)
            known: dict[int, torch.Tensor] = {}
            try:
                kind.positional, kind.named = copied(positional, known), copied(named, known)
            except NotAlone as fault:
                kind.fault = str(fault)
        found = self.kinds[key]
        if len(found.modules) < _IN_TURN and not any(module is one for one in found.modules):
            found.modules.append(module)
        return found


def mode_of(module: torch.nn.Module, arguments: Any) -> Mode:
    """The mode that is on where a module is called."""
    first = next(tensors(arguments), None)
    if first is None:
        first = next(module.parameters(), None)
    device = "cpu" if first is None else first.device.type
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    return Mode(torch.is_grad_enabled(), torch.is_inference_mode_enabled(), autocast, device)


def capture(
    model: torch.nn.Module, batch: Any, wanted: Collection[str] = (), backward: bool = True
) -> Captured:
    """Run one step of the model, forward and (if asked) backward, and leave the model as it was.

    Parameters
    ----------
    wanted
        Names of modules whose arguments and output gradients are kept, once a kind.

    Raises
    ------
    Whatever the model raises on this batch; no hook is left, and nothing is changed.
    """
    watcher = Watcher(model, wanted)
    with restored(model), without_cache(model), eagerly(), watcher.watching():
        step(model, batch, backward)
    return Captured(watcher.calls, list(watcher.kinds.values()))


def step(model: torch.nn.Module, batch: Any, backward: bool) -> None:
    """One step without its optimizer: forward, and backward where asked. Gradients land in `.grad`."""
    if backward:
        loss_of(call(model, batch)).backward()
    else:
        with torch.no_grad():
            call(model, batch)


@contextmanager
def without_cache(model: torch.nn.Module) -> Iterator[None]:
    """Models of transformers gather keys and values even in training, unless told not to: told so meanwhile.

    A layer that is repeated alone would add to what has been gathered in each call.
    """
    configs = {id(config): config for m in model.modules() if (config := getattr(m, "config", None))}
    told = [config for config in configs.values() if getattr(config, "use_cache", None) is True]
    for config in told:
        config.use_cache = False
    try:
        yield
    finally:
        for config in told:
            config.use_cache = True
