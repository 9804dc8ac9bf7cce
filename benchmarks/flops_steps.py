"""Training steps, plain and counted in turn: what a counted step costs. Imported in the tool's own environment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from energyprof.flops.inputs import call, loss_of

# Widths and layers of a small GPT-2 that take some 13 and 300 ms a step in one thread.
STEPS: dict[str, dict[str, int]] = {
    "short": {"n_embd": 64, "n_layer": 4, "n_head": 4, "batch": 4, "length": 32},
    "long": {"n_embd": 256, "n_layer": 4, "n_head": 8, "batch": 8, "length": 128},
}
_WARM = 3


class Step:
    """Forward, backward and optimizer; counted by one tool or not at all."""

    def __init__(self, sizes: dict[str, int]) -> None:
        from transformers import GPT2Config, GPT2LMHeadModel

        sizes = dict(sizes)
        batch, length = sizes.pop("batch"), sizes.pop("length")
        tokens: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
        config = GPT2Config(**sizes, **tokens, vocab_size=1000, use_cache=False)
        torch.manual_seed(0)
        self.model = GPT2LMHeadModel(config).train()
        ids = torch.randint(0, config.vocab_size, (batch, length))
        self.batch = {"input_ids": ids, "labels": ids}
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4)

    def plain(self) -> None:
        self._optimizer.zero_grad()
        loss_of(call(self.model, self.batch)).backward()
        self._optimizer.step()

    def energyprof(self) -> None:
        from energyprof.flops.counting import FlopMode

        self._optimizer.zero_grad()
        with FlopMode() as mode:
            loss_of(call(self.model, self.batch)).backward()
        mode.counted(self.model)
        self._optimizer.step()

    def torch(self) -> None:
        from torch.utils.flop_counter import FlopCounterMode

        self._optimizer.zero_grad()
        with FlopCounterMode(display=False) as mode:
            loss_of(call(self.model, self.batch)).backward()
        mode.get_flop_counts()
        self._optimizer.step()

    def deepspeed(self) -> None:
        """Its profiler counts the forward pass alone."""
        from deepspeed.profiling.flops_profiler import FlopsProfiler

        self._optimizer.zero_grad()
        profiler = FlopsProfiler(self.model)
        profiler.start_profile()
        output = call(self.model, self.batch)
        profiler.get_total_flops()
        profiler.end_profile()
        loss_of(output).backward()
        self._optimizer.step()


TOOLS = ("energyprof", "torch", "deepspeed")


def pairs(tool: str, name: str, seconds: float) -> dict[str, Any]:
    """Seconds of steps in pairs, one plain and one counted, which goes first alternating."""
    step = Step(STEPS[name])
    counted: Callable[[], None] = getattr(step, tool)
    for _ in range(_WARM):
        step.plain()
        counted()
    plain_s: list[float] = []
    counted_s: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(plain_s) < 5:
        each = [(step.plain, plain_s), (counted, counted_s)]
        for run, times in each if len(plain_s) % 2 else reversed(each):
            begin = time.perf_counter()
            run()
            times.append(time.perf_counter() - begin)
    return {"plain_s": plain_s, "counted_s": counted_s}
