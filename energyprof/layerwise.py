"""replay_layers(): joules of every layer of a model, in one call."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from energyprof.profiler import profile

if TYPE_CHECKING:
    import torch

    from energyprof.layers.replay import Replayed


def replay_layers(
    model: torch.nn.Module,
    batch: Any,
    *,
    backward: bool | None = None,
    out: str | os.PathLike[str] | None = None,
    trials: int | None = None,
    seconds: float | None = None,
    seed: int | None = None,
    quiet: bool = False,
) -> Replayed:
    """Joules of every layer of `model`: each kind of layer repeated alone on its real inputs, in a run of its own.

    Parameters
    ----------
    model
        A torch.nn.Module; it is left as it is found.
    batch
        A tensor, a tuple of positional inputs, or a dict of keyword inputs.
    backward
        Whether a step has a backward pass. None: where the model is in training mode.
    out
        The dataset's folder, as in `profile`.
    trials, seconds
        Blocks of each pass of each kind of layer (6), and how long they last together (5 s).
    seed
        Of the blocks' order and lengths.
    quiet
        Say nothing on stderr.

    Raises
    ------
    ValueError
        No module, or a batch on another device than the model.
    RuntimeError
        Nothing could be measured.
    """
    from energyprof.layers.replay import SECONDS, TRIALS, replay

    return replay(
        model, batch, profile, backward=backward, out=out, trials=TRIALS if trials is None else trials,
        seconds=SECONDS if seconds is None else seconds, seed=seed, tell=None if quiet else _say,
    )  # fmt: skip


def _say(text: str) -> None:
    print(f"energyprof: {text}", file=sys.stderr, flush=True)
