"""Joules of every layer of a model, forward and backward: each kind of layer repeated alone, and the sum checked.

One real step is captured (`capture`): which modules are called, with what, and what gradients come back.
Layers that cost the same are one kind, and each kind's passes are repeated back to back on their real inputs
in blocks of some hundred milliseconds, in random order, in several trials, within one run of `profile` in
which each block is a region (`blocks`). So a layer of microseconds is known from a meter that ticks ten times
a second, with an interval (`means`). The whole step is repeated in the same way, and *closure* says how far
the layers' sum is from it.

What a layer is charged with is all that the meters' devices draw while it runs, rest included, as the step is
charged: a layer that leaves the device waiting pays for the waiting. `Replayed.idle_w` is the power at rest,
for who wants to take it off. What the loop itself costs (a call of nothing; the start of a backward pass) is
measured too and taken off, but not where a GPU still works when the next call is issued: there it costs
nothing.

Not in any layer, and so in closure: sums of residuals and whatever a container's forward does without counted
FLOPs, the loss, launches that the step hides or does not hide otherwise than the replay, caches that are
warmer in a loop. The optimizer is in neither.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from energyprof.flops.as_found import restored, uncompiled
from energyprof.flops.counted import plain_name
from energyprof.layers import cover
from energyprof.layers import replay_rows as rows
from energyprof.layers.blocks import REST, Device, Played, Work, around_s, lasting_s, play
from energyprof.layers.capture import Call, Captured, Kind, capture, without_cache
from energyprof.layers.checks import check, device_of, trains
from energyprof.layers.means import Combination, Mean, mean_of, steady
from energyprof.layers.plan import STEP, Plan, plan_of, whole_step, without_overhead
from energyprof.layers.player import OVERHEAD
from energyprof.reasons import NO_STEPS, NOT_ALONE
from energyprof.reports.layers import closing, replayed_text
from energyprof.tally import TOTAL

if TYPE_CHECKING:
    import pandas as pd

    from energyprof.result import Result

TICKS = 50  # of the slowest meter, for each pass of each kind
_TICK_S = 0.1  # of the slowest meters in use (NVML's counters); the run itself tells
SECONDS, TRIALS = TICKS * _TICK_S, 6
_COMPILED = "the measured step is the compiled model's; its layers were repeated as they are written"


@dataclass(frozen=True)
class Replayed:
    """Joules a step of every layer.

    Attributes
    ----------
    result
        The run in which the layers were repeated; every block is a region of it.
    rows
        As in the layers table: a row a module, phase and meter, all of one step.
    closure, u95_closure
        Sum over the layers / the measured step - 1, by the total of the meters; None where a layer or the
        step has no figure.
    idle_w
        Power at rest between the blocks; None where it has no figure.
    units
        The layers that add up to the sum: leaves, and what does FLOPs of its own with all that is inside it.
    total
        The sum over the layers of a step, by the total of the meters.
    notes
        What a reader should know, in words.
    """

    result: Result
    rows: list[dict[str, Any]]
    closure: float | None
    u95_closure: float | None
    idle_w: float | None
    units: tuple[str, ...]
    total: Mean
    notes: tuple[str, ...] = ()

    @property
    def layers(self) -> pd.DataFrame:
        """The rows as a DataFrame."""
        import pandas as pd

        frame: pd.DataFrame = pd.DataFrame(self.rows)
        return frame

    @property
    def step(self) -> dict[str, Any]:
        """The row of the whole measured step, by the total of the meters."""
        return next(row for row in self.rows if rows.is_step(row) and row["channel"] == TOTAL)

    def __str__(self) -> str:
        return "\n".join(replayed_text(self.rows, self.notes))


def replay(
    model: torch.nn.Module,
    batch: Any,
    profile: Callable[..., Any],
    *,
    backward: bool | None = None,
    out: str | os.PathLike[str] | None = None,
    trials: int = TRIALS,
    seconds: float = SECONDS,
    seed: int | None = None,
    tell: Callable[[str], None] | None = None,
) -> Replayed:
    """Measure every layer of `model` on `batch`, each kind alone, and store the figures with a run of their own.

    Parameters
    ----------
    model
        Is left as it is found: buffers, gradients, random states, modes, hooks. It is replayed in the mode it
        is in: dropout and batch norms as they are.
    batch
        A tensor, a tuple of positional inputs, or a dict of keyword inputs, on the model's device.
    profile
        `energyprof.profile`, or what stands in for it.
    backward
        Whether a step has a backward pass, from the output's `loss` or else the mean of its tensors. None: it
        has where the model is in training mode, gradients are enabled and something can be differentiated.
    out
        The dataset's folder; see `energyprof.profile`.
    trials
        Blocks of each pass of each kind, at least two.
    seconds
        How long each pass of each kind is repeated in all trials together.
    seed
        Of order, lengths and pauses; None for another every time.
    tell
        Is told in words how far it is; None: nobody is.

    Raises
    ------
    ValueError
        No module, trials or seconds without sense, or the batch on another device than the model.
    RuntimeError
        Nothing could be measured. And whatever the model raises on this batch.
    """
    check(model, batch, trials, seconds)
    say = tell or (lambda _: None)
    if backward is None:
        backward = model.training and torch.is_grad_enabled() and trains(model, batch)
    place = device_of(model, batch)
    device = Device(place)
    inner = uncompiled(model)  # of a compiled model: compiled code calls no modules
    with restored(model), without_cache(model):
        counted = cover.counted(inner, batch, backward)
        workers = cover.own_work(counted.values())
        seen = capture(inner, batch, backward=backward)
        captured = capture(inner, batch, cover.wanted(seen.calls, workers), backward)
        plan = plan_of(captured, place)
        plan.works.append(Work(STEP, lambda: whole_step(model, batch, bool(backward))))
        say(
            f"{len(captured.kinds)} kinds of layers, {len(plan.works)} passes: "
            f"about {lasting_s(len(plan.works), seconds, trials):.0f} s"
        )
        chance = random.Random(seed)
        with profile(
            f"layers of {type(inner).__name__}", out=out, tags={"layers": rows.SOURCE}, quiet=True
        ) as run:
            played = play(
                plan.works, device, run.region, seconds=seconds, trials=trials, chance=chance, tell=say
            )
    result = run.result
    replayed = _replayed(inner, captured, workers, counted, plan, played, result, around_s(seconds, trials))
    if inner is not model:
        replayed = replace(replayed, notes=(*replayed.notes, _COMPILED))
    rows.write(result.out, result.row, replayed.rows)
    say(closing(replayed.closure, replayed.u95_closure))
    return replayed


def _replayed(
    model: torch.nn.Module,
    captured: Captured,
    workers: set[str],
    counted: Mapping[str, Any],
    plan: Plan,
    played: Mapping[str, Played],
    result: Result,
    around: float,
) -> Replayed:
    """The layers' figures from what the run has of the blocks."""
    _, meters, blocks = result.rows()
    regions = steady(blocks, meters, around)
    channels = [TOTAL, *sorted({channel for _, channel in regions} - {TOTAL})]
    alone = {label: Mean(None, reason=NOT_ALONE) for label in plan.faults}
    means = {
        channel: {
            **{
                name: mean_of([regions.get((region, channel)) for region in one.regions], one.calls)
                for name, one in played.items()
            },
            **alone,
        }
        for channel in channels
    }
    figures = rows.Figures(
        means,
        {name: sum(one.seconds) / sum(one.calls) for name, one in played.items()},
        {channel: means[channel][STEP] for channel in channels},
        sum(played[STEP].seconds) / sum(played[STEP].calls),
        sum(played[STEP].calls),
    )

    def parts_of(kind: Kind) -> dict[str, Combination]:
        return {phase: without_overhead(parts, played) for phase, parts in plan.parts[id(kind)].items()}

    sums = cover.sums(captured.calls, workers, parts_of)
    rank = next((int(row["rank"]) for row in regions.values()), 0)
    table = rows.rows(
        type(model).__name__, _described(model, captured.calls, sums), sums, figures, counted, rank
    )
    gap, half = rows.closures(sums[""], figures)[TOTAL]
    rest = means[TOTAL][REST]
    idle_w = None if rest.energy_j is None else rest.energy_j / figures.seconds[REST]
    total = rows.whole(sums[""], figures, TOTAL)
    units = tuple(cover.units(captured.calls, workers))
    notes = tuple(_notes(plan, played, result))
    return Replayed(result, table, gap, half, idle_w, units, total, notes)


def _described(
    model: torch.nn.Module, calls: Sequence[Call], sums: Mapping[str, Any]
) -> list[rows.Described]:
    """The modules that were called, in the order of the model."""
    made: dict[str, list[Call]] = {}
    for call in calls:
        made.setdefault(call.name, []).append(call)
    found = []
    for name, module in {plain_name(name): one for name, one in model.named_modules()}.items():
        mine = made.get(name, [])
        if name not in sums:
            continue
        kinds = [call.kind for call in mine if call.kind is not None and not call.recomputed]
        found.append(
            rows.Described(
                name,
                type(module).__name__,
                all(call.leaf for call in mine),
                sum(not call.recomputed for call in mine),
                sum(parameter.numel() for parameter in module.parameters()),
                sum(kind.activations for kind in kinds) if kinds else None,
            )
        )
    return found


def _notes(plan: Plan, played: Mapping[str, Played], result: Result) -> list[str]:
    notes = [f"{label} cannot be called outside its model ({fault})" for label, fault in plan.faults.items()]
    ticks = [
        row["tick_ms"] / 1e3
        for row in result.rows()[1]
        if row["in_total"] and row["method"] != "modelled" and row["tick_ms"]
    ]
    shortest = min(
        (sum(one.seconds) for name, one in played.items() if name not in OVERHEAD.values()), default=0.0
    )
    if ticks and shortest < 0.9 * TICKS * max(ticks):
        enough = math.ceil(TICKS * max(ticks))
        notes.append(
            f"a pass was repeated for {shortest / max(ticks):.0f} ticks of the slowest meter; seconds={enough} "
            f"would be {TICKS}"
        )
    return notes


def beside(result: Result, replayed: Replayed) -> Replayed:
    """The same layers stored with another run, whose own energy per step stands for the measured step."""
    joules, whole = result.energy_per_step_j, result.energy_j
    relative = 0.0 if not whole else (result.u_random_j or 0.0) / whole
    gain = 0.0 if not whole else (result.u_gain_j or 0.0) / whole
    own = Mean(
        joules,
        relative * (joules or 0.0),
        gain * (joules or 0.0),
        result.method,
        None if joules is not None else result.reason or NO_STEPS,
    )
    if joules is None:  # it counted no steps: the step that was repeated stands for its own
        rows.write(result.out, result.row, replayed.rows)
        return replayed
    table, closed = rows.beside_run(replayed.rows, replayed.total, own, result.row["steps"])
    rows.write(result.out, result.row, table)
    return replace(replayed, rows=table, closure=closed[0], u95_closure=closed[1])
