"""What a replay repeats: an action a pass of each kind of layer, the whole step, and nothing.

And how each layer's figures follow from that: sums of the actions' means, less what the loop costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from energyprof.layers.blocks import Played, Work
from energyprof.layers.capture import Captured, step
from energyprof.layers.means import Combination, added
from energyprof.layers.player import OVERHEAD, nothing, player

STEP = "step"


@dataclass
class Plan:
    """What is to be repeated, and how the layers' figures follow from it."""

    works: list[Work]
    parts: dict[int, dict[str, Combination]] = field(default_factory=dict)  # by the kind's identity
    faults: dict[str, str] = field(default_factory=dict)  # by the kind's label: what it raised


def whole_step(model: torch.nn.Module, batch: Any, backward: bool) -> None:
    """A step as a program has it, gradients set to None before."""
    for parameter in model.parameters():
        parameter.grad = None
    step(model, batch, backward)


def plan_of(captured: Captured, place: torch.device) -> Plan:
    """An action a pass of each kind; a kind that cannot be called alone has none, and the reason is kept."""
    trained = any(kind.trained for kind in captured.kinds)
    plan = Plan([Work(name, action) for name, action in nothing(place, trained).items()])
    numbers: dict[str, int] = {}
    for kind in captured.kinds:
        name = type(kind.module).__name__
        numbers[name] = numbers.get(name, 0) + 1
        label = f"{name} {numbers[name]}"
        try:
            if kind.fault:
                raise ValueError(kind.fault)
            mine = player(kind)
        except Exception as fault:  # whatever a module raises without its model: the others go on
            plan.faults[label] = f"{kind.name}: {' '.join(f'{type(fault).__name__}: {fault}'.split())[:200]}"
            plan.parts[id(kind)] = {phase: {label: 1.0} for phase in ("forward", "backward")}
            continue
        for action, function in mine.actions.items():
            plan.works.append(Work(f"{label} {action}", function, kind.mode))
        plan.parts[id(kind)] = {
            phase: {f"{label} {action}": sign for action, sign in parts.items()}
            for phase, parts in mine.parts.items()
        }
    return plan


def without_overhead(parts: Combination, played: Mapping[str, Played]) -> Combination:
    """Less what the loop costs, for each action that is in the sum and does not hide it."""
    costs = {
        name: OVERHEAD[name.rpartition(" ")[2]]
        for name in parts
        if name in played and not played[name].hidden
    }
    return added([(1.0, parts), *((-parts[name], {cost: 1.0}) for name, cost in costs.items())])
