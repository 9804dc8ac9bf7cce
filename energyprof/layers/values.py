"""The arguments of a module's call: what they are like, and a copy that stands alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

# What tells where a module stands in its model and not what it computes.
_PLACES = {"layer_idx", "layer_id", "layer_number", "layer_index", "block_idx", "idx", "index", "training"}
_SIMPLE = (bool, int, float, str)


class NotAlone(ValueError):
    """An argument that a call outside its step cannot have."""


def copied(value: Any, known: dict[int, torch.Tensor] | None = None) -> Any:
    """The same structure with tensors of its own, cut off from the graph; what was one tensor stays one.

    Raises
    ------
    NotAlone
        A cache of keys and values with something in it: every call would add to it.
    """
    return _once_each(
        value, lambda t: t.detach().clone().requires_grad_(t.requires_grad), {} if known is None else known
    )


def cloned(value: Any) -> Any:
    """The same structure with clones in the graph, if there is one; what was one tensor stays one."""
    return _once_each(value, torch.clone, {})


def _once_each(
    value: Any, change: Callable[[torch.Tensor], torch.Tensor], known: dict[int, torch.Tensor]
) -> Any:
    def changed(tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in known:
            known[id(tensor)] = change(tensor)
        return known[id(tensor)]

    return mapped(value, changed)


def mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same structure with each tensor changed; an empty cache of keys and values becomes None.

    Raises
    ------
    NotAlone
        See `copied`.
    """
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, tuple):
        parts = [mapped(part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list):
        return [mapped(part, change) for part in value]
    if type(value) is dict:
        return {key: mapped(part, change) for key, part in value.items()}
    filled = getattr(value, "get_seq_length", None)  # the caches of transformers
    if callable(filled):
        if filled():
            raise NotAlone("a filled cache of keys and values is among its arguments")
        return None
    return value


def signature(value: Any) -> Any:
    """What two calls must share to cost the same: shapes, strides, dtypes, devices, and what is plain."""
    if isinstance(value, torch.Tensor):
        stride = value.stride() if value.layout == torch.strided and not value.is_nested else ()
        return (str(value.dtype), tuple(value.shape), stride, str(value.device), value.requires_grad)
    if isinstance(value, Mapping):
        return tuple((str(key), signature(part)) for key, part in value.items())
    if isinstance(value, (tuple, list)):
        return tuple(signature(part) for part in value)
    return value if isinstance(value, (*_SIMPLE, type(None))) else type(value).__qualname__


def nature(module: torch.nn.Module) -> Any:
    """What two modules must share to compute the same with the same arguments, whatever their weights.

    Classes and options of it and all inside it, plain attributes (but its place in the model), train flags,
    and the parameters' shapes, dtypes and whether they are trained.
    """
    parts = []
    for name, inner in module.named_modules():
        plain = tuple(
            sorted(
                (key, repr(value))
                for key, value in vars(inner).items()
                if isinstance(value, _SIMPLE) and not key.startswith("_") and key not in _PLACES
            )
        )
        parts.append((name, type(inner).__qualname__, inner.extra_repr(), plain, inner.training))
    parameters = tuple((name, signature(value)) for name, value in module.named_parameters())
    return tuple(parts), parameters
