"""A model of the zoo: how it and a batch are built, in full or small, and what it costs in closed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import util
from typing import Any, Literal

import torch

from benchmarks.zoo.closed import Closed

Size = Literal["full", "small"]


@dataclass(frozen=True)
class Entry:
    """A model with random weights; dropout is off, so that attention is one operator as it is on a GPU.

    `config` is of whether it is small; `make` of the configuration; `inputs` and `terms` of configuration and shape.
    """

    name: str
    title: str
    config: Callable[[bool], Any]
    make: Callable[[Any], torch.nn.Module]
    inputs: Callable[[Any, tuple[int, ...]], Mapping[str, torch.Tensor]]
    terms: Callable[[Any, tuple[int, ...]], Closed]
    full_shape: tuple[int, ...]
    small_shape: tuple[int, ...]
    library: str = "transformers"

    def build(self, size: Size = "full") -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
        """The model in training mode, and keyword inputs of one batch, with labels where the model takes them."""
        config = self.config(size == "small")
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            model = self.make(config).train()
            return model, dict(self.inputs(config, self._shape(size)))

    def closed(self, size: Size = "full") -> Closed:
        """FLOPs of each module of a forward and backward pass over that batch, all parameters trained."""
        return self.terms(self.config(size == "small"), self._shape(size))

    def _shape(self, size: Size) -> tuple[int, ...]:
        return self.small_shape if size == "small" else self.full_shape

    def available(self) -> bool:
        """Whether the library that holds the model is installed."""
        return util.find_spec(self.library) is not None


def integers(below: int, *shape: int) -> torch.Tensor:
    """Random tokens or classes."""
    return torch.randint(0, below, shape)
