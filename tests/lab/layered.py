"""A model whose layers draw a known power, replayed: `layered.py CHANNEL SECONDS TRIALS SEED LAYERS`.

LAYERS is JSON, a list of [kind, [watts, milliseconds] forward, the same backward]; a kind that comes again is
the same kind of layer again. Prints, as JSON, the replay's figures and what the machine truly drew in the
blocks of each pass, a call.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

import energyprof
from energyprof.layers.replay import replay
from tests.lab.truth import Truth

REST_W = 20.0
Pass = tuple[float, float]  # watts, milliseconds


class Machine:
    """Draws power for layers, and notes what is drawn in regions and how many passes ran there."""

    def __init__(self, channel: str) -> None:
        self.channel, self.truth = channel, Truth.from_environment()
        self.drawn: dict[str, list[float]] = {}  # by region without its number: joules, passes
        self._passes = 0
        self._after_ns = 0

    def work(self, watts: float, ms: float) -> None:
        """Draw so much for so long, whenever this process gets to see the end of it, and then rest."""
        begin = max(time.monotonic_ns(), self._after_ns)
        self._after_ns = begin + round(ms * 1e6)
        self.truth.set_power(self.channel, watts, begin)
        self.truth.set_power(self.channel, REST_W, self._after_ns)
        self._passes += 1
        time.sleep(max(0.0, (self._after_ns - time.monotonic_ns()) / 1e9))

    @contextmanager
    def noted(self, name: str, region: Any) -> Iterator[None]:
        with region:
            begin, passes = time.monotonic_ns(), self._passes
            yield
            end = time.monotonic_ns()
        mine = self.drawn.setdefault(name.rpartition(" ")[0], [0.0, 0.0])
        mine[0] += self.truth.energy_j(self.channel, begin, end)
        mine[1] += self._passes - passes


machine: Machine


class _Worked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, layer: Layer) -> torch.Tensor:
        ctx.layer = layer
        machine.work(layer.forward_w, layer.forward_ms)
        return value * 2

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        machine.work(ctx.layer.backward_w, ctx.layer.backward_ms)
        return gradients[0] * 2, None


class Layer(torch.nn.Module):
    """Draws `forward_w` for `forward_ms` in its forward pass, and so in its backward pass."""

    def __init__(self, forward: Pass, backward: Pass) -> None:
        super().__init__()
        (self.forward_w, self.forward_ms), (self.backward_w, self.backward_ms) = forward, backward
        self.scale = torch.nn.Parameter(torch.ones(4))

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = _Worked.apply(value * self.scale, self)  # type: ignore[no-untyped-call]
        return out


class Profile:
    """`energyprof.profile` whose regions are noted."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._profile = energyprof.profile(*arguments, **options)

    def __enter__(self) -> Profile:
        self._run = self._profile.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._profile.__exit__(*exc)

    def region(self, name: str) -> Any:
        return machine.noted(name, self._run.region(name))

    @property
    def result(self) -> Any:
        return self._run.result


def build(layers: Sequence[tuple[str, Pass, Pass]]) -> tuple[torch.nn.Module, list[int]]:
    """The model, and the number that each of its layers' kinds gets."""
    kinds = list(dict.fromkeys(kind for kind, _, _ in layers))
    model = torch.nn.Sequential(*(Layer(forward, backward) for _, forward, backward in layers))
    return model, [kinds.index(kind) + 1 for kind, _, _ in layers]


def main() -> None:
    global machine
    machine = Machine(sys.argv[1])
    seconds, trials, seed, layers = (
        float(sys.argv[2]),
        int(sys.argv[3]),
        int(sys.argv[4]),
        json.loads(sys.argv[5]),
    )
    model, numbers = build(layers)
    found = replay(model, torch.ones(2, 4), Profile, trials=trials, seconds=seconds, seed=seed)
    keys = [
        "name",
        "phase",
        "channel",
        "calls",
        "energy_j",
        "u95_j",
        "u_random_j",
        "method",
        "closure",
        "u95_closure",
    ]
    truth = {name: joules / passes for name, (joules, passes) in machine.drawn.items() if passes}
    answer = {
        "run_id": found.result.run_id,
        "rows": [{key: row.get(key) for key in keys} for row in found.rows],
        "truth": {
            str(place): {phase: truth[f"Layer {number} {phase}"] for phase in ("forward", "backward")}
            for place, number in enumerate(numbers)
        },
        "idle_w": found.idle_w,
        "text": str(found),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
