"""Whether a model and a batch can be replayed, said in one line before anything is done."""

from __future__ import annotations

import math
from typing import Any

import torch

from energyprof.flops.inputs import tensors


def check(model: Any, batch: Any, trials: int, seconds: float) -> None:
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"model is a {type(model).__name__}; give a torch.nn.Module")
    if trials < 2:
        raise ValueError(f"trials is {trials}; give two at least: one trial has no spread")
    if not 0 < seconds < math.inf:
        raise ValueError(f"seconds is {seconds!r}; give a positive number")
    places = {t.device for t in (*model.parameters(), *model.buffers())}
    if len(places) != 1:
        return
    (place,) = places
    if place.type == "meta":
        raise ValueError("the model has shapes and no data (device meta): load it first")
    for tensor in tensors(batch):
        if tensor.device != place and not (tensor.device.type == "cpu" and tensor.ndim == 0):
            raise ValueError(
                f"the batch is on {tensor.device} and the model on {place}: move one of them, "
                f"such as batch.to('{place}')"
            )


def trains(model: torch.nn.Module, batch: Any) -> bool:
    return any(t.requires_grad for t in (*model.parameters(), *tensors(batch)))


def device_of(model: torch.nn.Module, batch: Any) -> torch.device:
    first = next(iter((*model.parameters(), *model.buffers(), *tensors(batch))), None)
    return torch.device("cpu") if first is None else first.device
