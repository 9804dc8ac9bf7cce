"""Which modules to replay so that each piece of the model's compute is in one of them, once.

A *unit* is a call of a module that calls no other (a leaf), or of one whose own forward does counted FLOPs
beside the modules that it calls, such as attention written with functions: it is replayed as a whole, with
all inside it. Only the outermost units add up to the step. The model itself is no unit, unless it calls
nothing: what its own forward does, and every residual sum, loss and optimizer, is what closure shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from energyprof.layers.capture import Call, Kind
from energyprof.layers.means import Combination, added

_MUCH = 1e-3  # of the model's FLOPs: own work below this is left to closure


def heavy(
    names: Sequence[str], flops: Mapping[str, float], parents: Mapping[str, str | None], total: float
) -> set[str]:
    """The modules whose own work, their FLOPs without those of the modules inside, is not next to nothing.

    Parameters
    ----------
    flops
        By name, with what is inside.
    parents
        The nearest module around each that has FLOPs of its own count; None for the model.
    """
    own = {name: flops.get(name, 0.0) for name in names}
    for name in names:
        parent = parents.get(name)
        if parent is not None and parent in own:
            own[parent] -= flops.get(name, 0.0)
    # What is inside a unit needs no unit around it for its sake: only own work makes one.
    return {name for name, amount in own.items() if name and amount > _MUCH * total > 0}


def heavy_of(model: torch.nn.Module, batch: Any) -> tuple[set[str], dict[str, Any]]:
    """`heavy` of a model by a counted step on fake tensors, and the counted layers by name.

    Where it cannot be counted both are empty: the leaves alone are the units.
    """
    try:
        from energyprof.flops.counting import count
    except ImportError:
        return set(), {}
    try:
        counted = count(model, batch, backward=False)
    except Exception:  # a model that cannot be counted can still be replayed leaf by leaf
        return set(), {}
    layers = {layer.name: layer for layer in counted.layers}
    flops = {name: float(layer.flops_forward) for name, layer in layers.items()}
    parents = {name: _around(name, layers) for name in layers}
    return heavy(list(layers), flops, parents, flops.get("", 0.0)), layers


def _around(name: str, known: Mapping[str, Any]) -> str | None:
    while name:
        name = name.rpartition(".")[0]
        if name in known:
            return name
    return None


def wanted(calls: Sequence[Call], own_work: set[str]) -> set[str]:
    """The modules to replay: leaves, and those with work of their own, wherever they stand."""
    return {call.name for call in calls if call.leaf or call.name in own_work}


@dataclass(frozen=True)
class Sums:
    """What calls are made of: actions of the replay, with how often each."""

    forward: Mapping[str, float]
    backward: Mapping[str, float]


def sums(
    calls: Sequence[Call], own_work: set[str], parts_of: Callable[[Kind], Mapping[str, Combination]]
) -> dict[str, Sums]:
    """What each module that was called adds up to in a step, by name; the model itself is "".

    A unit is what was replayed of it; any other module is the sum of the calls that it made, so that below each
    name no work is in two places. Forward passes that the backward pass repeats count as backward.
    """
    made: list[list[Sums]] = [[] for _ in calls]
    found: dict[str, list[Sums]] = {}
    outermost: list[Sums] = []
    for number in reversed(range(len(calls))):
        call = calls[number]
        if call.kind is not None and (call.leaf or call.name in own_work):
            mine = _alone(call, parts_of(call.kind))
        else:
            mine = _together(made[number])
        found.setdefault(call.name, []).append(mine)
        (outermost if call.inside is None else made[call.inside]).append(mine)
    named = {name: _together(parts) for name, parts in found.items()}
    return {**named, "": _together(outermost)}


def _alone(call: Call, parts: Mapping[str, Combination]) -> Sums:
    forward = dict(parts["forward"])
    backward = dict(parts["backward"]) if call.differentiated and "backward" in parts else {}
    return Sums({}, added([(1.0, forward), (1.0, backward)])) if call.recomputed else Sums(forward, backward)


def _together(several: Sequence[Sums]) -> Sums:
    return Sums(
        added([(1.0, one.forward) for one in several]), added([(1.0, one.backward) for one in several])
    )
