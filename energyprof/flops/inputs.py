"""A model and its batch, in whatever form people hold them: how to call it, and what to differentiate.

A batch is a tensor (the one positional input), a tuple or list (positional inputs), or a mapping (keyword
inputs).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch


def arguments(batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and the keyword inputs that a batch means."""
    if isinstance(batch, Mapping):
        return (), {str(name): value for name, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return tuple(batch), {}
    return (batch,), {}


def call(model: torch.nn.Module, batch: Any) -> Any:
    """The model's output on a batch."""
    positional, named = arguments(batch)
    return model(*positional, **named)


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Every tensor inside an output: in tuples, mappings and the dataclasses of model libraries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):  # also the outputs of transformers
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from tensors(part)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from tensors(getattr(value, field.name))


def loss_of(output: Any) -> torch.Tensor:
    """What to differentiate: the output's own `loss`, else the mean of all that can be differentiated.

    Raises
    ------
    ValueError
        Nothing in the output needs a gradient.
    """
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if isinstance(loss, torch.Tensor) and loss.requires_grad:
        return loss.mean()
    parts = [t.float().mean() for t in tensors(output) if t.requires_grad and t.is_floating_point()]
    if not parts:
        raise ValueError(
            "nothing in the output needs a gradient; count its forward pass alone (--forward-only, backward=False)"
        )
    return torch.stack(parts).sum()
