"""FLOPs of a model in closed form: what each module must cost, from its configuration alone.

A floating-point operation is the unit; a multiply-accumulate is two. Matrix products, convolutions and the two
products of attention count, in full where a mask leaves half of them unused; elementwise work does not.

    linear          2 rows x inputs x outputs
    convolution     2 positions x kernel x inputs / groups x outputs
    attention       2 queries x keys x width, for the scores, and as much for the values

Backward, each product has two: the gradient of its input and that of its weight (or of its other input), of its own
size each. A first layer whose input is data has the second alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Own:
    """What a module computes itself, without the modules inside it, in one forward and backward pass."""

    flops_forward: int
    flops_backward: int
    attention: bool = False


Closed = Mapping[str, Own]
"""By fully qualified module name; what is absent computes nothing itself."""


def linear(rows: int, inputs: int, outputs: int) -> Own:
    """Dense, of an input that needs a gradient."""
    forward = 2 * rows * inputs * outputs
    return Own(forward, 2 * forward)


def convolution(positions: int, kernel: int, inputs: int, outputs: int, of_data: bool = False) -> Own:
    """`positions` of the output, `kernel` elements a channel, `inputs` channels a group."""
    forward = 2 * positions * kernel * inputs * outputs
    return Own(forward, forward if of_data else 2 * forward)


def attention(batch: int, queries: int, keys: int, width: int) -> Own:
    """Scores and values; `width` is that of all query heads together, however many share a key."""
    forward = 2 * (2 * batch * queries * keys * width)
    return Own(forward, 2 * forward, attention=True)


def inclusive(closed: Closed, name: str) -> tuple[int, int]:
    """FLOPs forward and backward of a module with all inside it; of the model for the empty name."""
    inside = [own for key, own in closed.items() if not name or key == name or key.startswith(f"{name}.")]
    return sum(own.flops_forward for own in inside), sum(own.flops_backward for own in inside)
