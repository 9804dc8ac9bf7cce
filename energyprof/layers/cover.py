"""Which modules to replay so that each piece of the model's compute is in one of them, once.

A *unit* is a call of a module that calls no other (a leaf), or of one whose own forward does counted FLOPs
beside the modules that it calls, such as attention written with functions: it is replayed as a whole, with
all inside it. Only the outermost units add up to the step. The model itself is no unit, unless it calls
nothing: what its own forward does, and every residual sum, loss and optimizer, is what closure shows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from energyprof.flops.counted import Layer
from energyprof.layers.capture import Call, Kind
from energyprof.layers.means import Combination, added

_MUCH = 1e-3  # of the model's FLOPs: own work below this is left to closure


def counted(model: torch.nn.Module, batch: Any, backward: bool) -> dict[str, Layer]:
    """The counted layers of one step, by name; none where it cannot be counted: the leaves are then the units."""
    from energyprof.flops.counting import count

    try:
        return {layer.name: layer for layer in count(model, batch, backward=backward).layers}
    except Exception:  # a model that cannot be counted may still be replayed, leaf by leaf
        return {}


def own_work(layers: Iterable[Layer]) -> set[str]:
    """The modules that call others and yet do FLOPs of their own that are not next to nothing."""
    found = list(layers)
    total = sum(layer.own_flops for layer in found)
    return {
        layer.name for layer in found if layer.name and not layer.leaf and layer.own_flops > _MUCH * total
    }


def wanted(calls: Sequence[Call], workers: Collection[str]) -> set[str]:
    """The modules to replay: leaves, and those with work of their own, wherever they stand."""
    return {call.name for call in calls if call.leaf or call.name in workers}


def units(calls: Sequence[Call], workers: Collection[str]) -> list[str]:
    """The modules whose calls are inside no other unit, in the order of the step: together they are its layers."""
    covered: list[bool] = []
    found: dict[str, None] = {}
    for call in calls:
        inside = call.inside is not None and covered[call.inside]
        unit = call.leaf or call.name in workers
        covered.append(inside or unit)
        if unit and not inside:
            found[call.name] = None
    return list(found)


@dataclass(frozen=True)
class Sums:
    """What calls are made of: actions of the replay, with how often each."""

    forward: Mapping[str, float]
    backward: Mapping[str, float]


def sums(
    calls: Sequence[Call], workers: Collection[str], parts_of: Callable[[Kind], Mapping[str, Combination]]
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
        if call.kind is not None and (call.leaf or call.name in workers):
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
    if call.stopped:
        forward = {}
    return Sums({}, added([(1.0, forward), (1.0, backward)])) if call.recomputed else Sums(forward, backward)


def _together(several: Sequence[Sums]) -> Sums:
    return Sums(
        added([(1.0, one.forward) for one in several]), added([(1.0, one.backward) for one in several])
    )
