"""What a replay found, as rows of the layers table, and into the dataset."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from energyprof import store
from energyprof.flops.counted import Layer
from energyprof.layers.cover import Sums
from energyprof.layers.means import Combination, Mean, added, closure, combined
from energyprof.reasons import NO_STEPS
from energyprof.tally import TOTAL

SOURCE, MODELLED = "replayed", "modelled"


@dataclass(frozen=True)
class Described:
    """A module of the step that was replayed: what is known of it without a meter."""

    name: str
    kind: str
    leaf: bool
    calls: int
    params: int
    activations: int | None = None


@dataclass(frozen=True)
class Figures:
    """All that was measured: means a call by meter and action, seconds a call by action, and the step's own.

    `step` has, by meter, the whole measured step, and `steps` is how many of them were measured.
    """

    means: Mapping[str, Mapping[str, Mean]]
    seconds: Mapping[str, float]
    step: Mapping[str, Mean]
    step_s: float | None
    steps: int


def rows(
    model: str,
    described: Sequence[Described],
    sums: Mapping[str, Sums],
    figures: Figures,
    counted: Mapping[str, Layer],
    rank: int,
) -> list[dict[str, Any]]:
    """A row a module, phase and meter. The model's own step is the measured one, with closure beside it."""
    closed = closures(sums[""], figures)
    table = []
    for one in described:
        mine = sums[one.name]
        phases: dict[str, Combination] = {"forward": mine.forward}
        if sums[""].backward:
            phases["backward"] = mine.backward
        phases["step"] = added([(1.0, mine.forward), (1.0, mine.backward)])
        facts = {"rank": rank, "model": model, "source": SOURCE, **_facts(one, counted.get(one.name))}
        for phase, parts in phases.items():
            table += [{**facts, "phase": phase, **row} for row in _phase_rows(parts, figures)]
    return [
        {**row, **_measured_step(row["channel"], figures, closed)} if is_step(row) else row for row in table
    ]


def _phase_rows(parts: Combination, figures: Figures) -> Iterator[dict[str, Any]]:
    known = all(name in figures.seconds for name in parts)
    seconds = sum(share * figures.seconds[name] for name, share in parts.items()) if known else None
    for channel, means in figures.means.items():
        mean = combined(means, parts)
        step_j = figures.step[channel].energy_j
        yield {
            "channel": channel,
            "time_s": seconds,
            **columns(mean),
            "share": None if mean.energy_j is None or not step_j else mean.energy_j / step_j,
        }


def columns(mean: Mean) -> dict[str, Any]:
    """A figure's columns."""
    modelled = mean.method == MODELLED
    return {
        "energy_j": mean.energy_j,
        "u95_j": mean.u95_j,
        "u_random_j": None if mean.energy_j is None else mean.u_random_j,
        "method": MODELLED if modelled else SOURCE,
        "reason": mean.reason,
    }


def is_step(row: Mapping[str, Any]) -> bool:
    """Whether a row is of the model's whole step."""
    return bool(row["name"] == "" and row["phase"] == "step")


def _measured_step(
    channel: str, figures: Figures, closed: Mapping[str, tuple[float | None, float | None]]
) -> dict[str, Any]:
    """In place of the layers' sum what was measured; closure compares the two."""
    gap, half = closed[channel]
    step = {**columns(figures.step[channel]), "time_s": figures.step_s, "steps": figures.steps, "share": 1.0}
    return {**step, "closure": gap, "u95_closure": half}


def beside_run(
    table: Sequence[Mapping[str, Any]], layers: Mean, step: Mean, steps: int | None
) -> tuple[list[dict[str, Any]], tuple[float | None, float | None]]:
    """The rows where another run's step stands for the measured one; it is known by the meters' total alone."""
    closed = closure(layers, step)
    found = []
    for row in table:
        total = row["channel"] == TOTAL
        part = row["energy_j"] if total else None
        new = {**row, "share": None if part is None or not step.energy_j else part / step.energy_j}
        if is_step(row):
            mine = step if total else Mean(None, reason=NO_STEPS)
            new |= {**columns(mine), "time_s": None, "steps": steps, "closure": None, "u95_closure": None}
            if total:
                new |= {"closure": closed[0], "u95_closure": closed[1], "method": step.method, "share": 1.0}
        found.append(new)
    return found, closed


def _facts(one: Described, counted: Layer | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "name": one.name,
        "class": one.kind,
        "depth": one.name.count(".") + 1 if one.name else 0,
        "leaf": one.leaf,
        "calls": float(one.calls),
        "params": one.params,
        "activations": one.activations,
    }
    if counted is not None:
        for name in ("activations", "flops_forward", "flops_backward", "flops_recompute", "bytes"):
            facts[name] = getattr(counted, name)
    return facts


def whole(sums: Sums, figures: Figures, channel: str) -> Mean:
    """The sum over the layers of a step, by one meter."""
    return combined(figures.means[channel], added([(1.0, sums.forward), (1.0, sums.backward)]))


def closures(sums: Sums, figures: Figures) -> dict[str, tuple[float | None, float | None]]:
    """By meter: sum over the layers / the measured step - 1, and its half-width."""
    return {
        channel: closure(whole(sums, figures, channel), figures.step[channel]) for channel in figures.means
    }


def write(out: str, run: Mapping[str, Any], table: Sequence[Mapping[str, Any]]) -> None:
    """Store the rows with the run `run`, beside what it has of its own; its last replay is the one that is kept."""
    keys = {"run_id": run["run_id"], "node": run["node"]}
    date = run["started_utc"].date().isoformat()
    for rank in sorted({row["rank"] for row in table}):
        stem = f"{keys['run_id']}.{keys['node']}.{rank}.{SOURCE}"
        mine = [{**row, **keys} for row in table if row["rank"] == rank]
        store.write(store.file_path(out, "layers", date, stem), store.table_of("layers", mine))
