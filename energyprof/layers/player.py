"""A kind of call that can be repeated: its forward pass, its backward pass, each as a function of nothing.

The backward pass is repeated over one graph that is kept. Where that cannot be (the graph frees what it
needs), forward and backward are repeated together and the forward pass is taken off. A module that works on
its input in place gets a fresh copy for each call, and the copies are taken off likewise. What is taken off is
in `parts`: each figure is a sum of what was measured, with a sign.

Caches and memory are as near to the step's as can be had: the modules of a kind take turns, so that no weight
is always in the cache, and as many outputs as there are modules stay alive, as they do until the backward pass,
so that memory is not reused at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch

from energyprof.flops.inputs import tensors
from energyprof.layers.capture import Kind
from energyprof.layers.values import cloned

Action = Callable[[], object]
NOTHING, EMPTY_GRAPH = "nothing forward", "nothing backward"
OVERHEAD = {"forward": NOTHING, "backward": EMPTY_GRAPH, "both": EMPTY_GRAPH, "copy": NOTHING}


@dataclass(frozen=True)
class Player:
    """What to repeat for a kind (`actions`, by name) and how its figures follow (`parts`, by phase)."""

    actions: Mapping[str, Action]
    parts: Mapping[str, Mapping[str, float]]


def nothing(place: torch.device, backward: bool) -> dict[str, Action]:
    """What repeating costs where there is nothing to do: a call, and the start of a backward pass if there are any."""
    actions: dict[str, Action] = {NOTHING: lambda: None}
    if backward:
        leaf, ones = torch.zeros(1, device=place, requires_grad=True), torch.ones(1, device=place)
        graph = leaf.view(1)
        actions[EMPTY_GRAPH] = lambda: torch.autograd.grad(graph, leaf, ones, retain_graph=True)
    return actions


def player(kind: Kind) -> Player:
    """How to repeat a kind, found out by calling it. The model must be within `restored` meanwhile.

    Raises
    ------
    Whatever the module raises when it is called alone.
    """
    in_place = _works_in_place(kind)
    actions: dict[str, Action] = {"forward": _forward(kind, fresh=in_place)}
    parts: dict[str, dict[str, float]] = {"forward": {"forward": 1.0}}
    if in_place:
        actions["copy"] = lambda: cloned((kind.positional, kind.named))
        parts["forward"]["copy"] = -1.0
    if kind.trained:
        kept = _backward(kind)
        if kept is not None:
            actions["backward"], parts["backward"] = kept, {"backward": 1.0}
        else:
            actions["both"], parts["backward"] = _both(kind, in_place), {"both": 1.0, "forward": -1.0}
    return Player(actions, parts)


def _works_in_place(kind: Kind) -> bool:
    """Whether a call changes what it is given; the call is made on copies."""
    with kind.mode.entered():
        positional, named = cloned((kind.positional, kind.named))
        fresh = [tensor for tensor in tensors((positional, named)) if not tensor.is_inference()]
        before = [tensor._version for tensor in fresh]
        kind.module(*positional, **named)
    return any(tensor._version > old for tensor, old in zip(fresh, before))


def _forward(kind: Kind, fresh: bool) -> Action:
    modules, positional, named = cycle(kind.modules), kind.positional, kind.named

    alive: deque[Any] = deque(maxlen=len(kind.modules) if kind.mode.grad else 0)

    def plain() -> None:
        alive.append(next(modules)(*positional, **named))

    def on_copies() -> None:
        copies, named_copies = cloned((positional, named))
        alive.append(next(modules)(*copies, **named_copies))

    return on_copies if fresh else plain


@dataclass(frozen=True)
class _Graph:
    """What is differentiated, by what, with what gradients from above."""

    outputs: list[torch.Tensor]
    inputs: list[torch.Tensor]
    gradients: list[torch.Tensor]

    def back(self, keep: bool) -> object:
        return torch.autograd.grad(
            self.outputs, self.inputs, self.gradients, retain_graph=keep, allow_unused=True
        )


def _graph(kind: Kind, module: torch.nn.Module, fresh: bool) -> _Graph:
    """A forward pass that can be differentiated: by the inputs that need it and the trained parameters."""
    positional, named = kind.positional, kind.named
    leaves = {id(t): t for t in tensors((positional, named)) if t.requires_grad}
    if fresh:
        positional, named = cloned((positional, named))
    output = list(tensors(module(*positional, **named)))
    chosen = [
        place for place in sorted(kind.gradients) if place < len(output) and output[place].requires_grad
    ]
    parameters = [p for p in module.parameters() if p.requires_grad]
    return _Graph(
        [output[place] for place in chosen],
        [*leaves.values(), *parameters],
        [kind.gradients[place] for place in chosen],
    )


def _backward(kind: Kind) -> Action | None:
    """The backward pass alone, over graphs made now; None where a graph serves once only."""
    with kind.mode.entered():
        graphs = [_graph(kind, module, fresh=True) for module in kind.modules]
    try:
        graphs[0].back(keep=True)
        graphs[0].back(keep=True)
    except RuntimeError:
        return None
    turn = cycle(graphs)
    return lambda: next(turn).back(keep=True)


def _both(kind: Kind, fresh: bool) -> Action:
    modules = cycle(kind.modules)
    return lambda: _graph(kind, next(modules), fresh).back(keep=False)
