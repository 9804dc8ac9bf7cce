"""A model whose layers draw a known power, timed in place: `timed.py CHANNEL STEPS LAYERS [run]`.

LAYERS as in `layered`. Prints, as JSON, the rows of the layers table and what each layer truly cost a step in
its passes; with `run` the program has no profile of its own.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
import time
from typing import Any

import torch

import energyprof
from energyprof.layers.schedule import Schedule
from tests.lab import layered


class Machine(layered.Machine):
    """Notes what each pass of each layer makes the machine draw, at once or later."""

    def __init__(self, channel: str) -> None:
        super().__init__(channel)
        self.passes: list[tuple[str, float]] = []
        self.running = ""

    def work(self, watts: float, ms: float) -> None:
        begin = time.monotonic_ns()
        super().work(watts, ms)
        longer_s = (time.monotonic_ns() - begin) / 1e9 - ms / 1e3
        self.passes.append((self.running, watts * ms / 1e3 + layered.REST_W * max(0.0, longer_s)))


class Layer(layered.Layer):
    """Says which pass of which layer it is."""

    label = ""

    def extra_repr(self) -> str:
        return f"{self.forward_w}, {self.forward_ms}, {self.backward_w}, {self.backward_ms}"

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        machine.running = f"{self.label} forward"
        out = super().forward(value)
        out.grad_fn.register_prehook(self._backward)  # type: ignore[union-attr]
        return out

    def _backward(self, gradients: Any) -> None:
        machine.running = f"{self.label} backward"


machine: Machine


def main() -> None:
    global machine
    channel, steps, layers = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    machine = layered.machine = Machine(channel)
    model = torch.nn.Sequential(*(Layer(forward, backward) for _, forward, backward in layers))
    for place, layer in enumerate(model):
        assert isinstance(layer, Layer)
        layer.label = str(place)
    chance = random.Random(7)
    schedule = Schedule(1, 1, steps)
    own = energyprof.profile("timed", layers=schedule, quiet=True)
    with contextlib.nullcontext() if "run" in sys.argv else own as run:
        for _ in range(steps + 12):
            model(torch.ones(2, 4)).sum().backward()
            time.sleep(chance.uniform(0.005, 0.02))  # data, say
    if run is None:
        return
    rows = run.result.layer_rows()
    first = 4  # calls that find the model, wait and warm up
    passes = len(machine.passes) // (steps + 12)
    caused: dict[str, float] = {}
    for label, joules in machine.passes[first * passes : (first + steps) * passes]:
        caused[label] = caused.get(label, 0.0) + joules / steps
    answer = {"run_id": run.run_id, "truth": caused, "rows": rows}
    print(json.dumps(answer, default=str))


if __name__ == "__main__":
    main()
