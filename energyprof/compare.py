"""Is B better than A? Statistics between groups of runs, of which the first is the baseline.

A number a run and metric, and ratios of geometric means with intervals (`effects`); what the sensors' gain adds where
the boards are not the same (`boards`); Holm's correction over all metrics and groups; and a verdict only where
significance, the interval and the size of the effect agree. What differs besides stands beside it (`comparability`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np

from energyprof import benches, boards, effects, evidence, judgement, selection
from energyprof.comparability import Difference, differences, lacking
from energyprof.comparison import THRESHOLD, Comparison, Effect
from energyprof.effects import Estimate, Floats
from energyprof.evidence import Evidence, Steps
from energyprof.measures import METRICS, STEP_TIME, Metric, carbon_sd, known, same_carbon
from energyprof.selection import Group

__all__ = ["Comparison", "Difference", "Effect", "Group", "compare", "compare_stored", "usable"]

Row = Mapping[str, Any]

_KNOWN = 0.95  # of the steps of a single run, at least: a few may lie in a gap of its readings
SMALL_EFFECT = 0.02  # the effect of which `runs_for_2_percent` speaks
_WHOLE = ("finished",)
# What the steps of a run say of a metric: a column of `Steps`, and the unit of which each step has a share.
_OF_STEPS = {
    "energy_per_step": ("energy_j", ""),
    "energy_per_sample": ("energy_j", "samples"),
    "energy_per_token": ("energy_j", "tokens"),
    STEP_TIME.name: ("duration_s", ""),
}


@dataclass(frozen=True)
class _Sides:
    """The baseline and one other group, and what holds for the pair."""

    baseline: Group
    other: Group
    gain_sd: float
    carbon_sd: float
    notes: tuple[str, ...]
    steps: tuple[Steps, Steps] | None
    lacking: str | None
    same_board: bool


def compare_stored(
    arguments: Sequence[str],
    out: str,
    metrics: Sequence[str] | None = None,
    threshold: float = THRESHOLD,
    everything: bool = False,
    also: Sequence[str] = (),
    only: str | None = None,
) -> Comparison:
    """Compare runs of a dataset, named as in `energyprof.selection`; the first argument is the baseline.

    The metrics in `also` must be there, and are compared beside `metrics`. `only` is a filter of runs
    (`energyprof.where`).

    Raises
    ------
    ValueError
        A run or metric that is not there, or a group without a run that can be used.
    energyprof.store.NewerSchema
        The dataset is of a newer release.
    """
    if len(arguments) < 2:
        raise ValueError("a comparison takes two groups at least: energyprof compare BASE OTHER")
    chosen = selection.select(arguments, out, only)
    groups, notes = usable(chosen.groups, everything, chosen.folders)
    known([run for group in groups for run in group.runs], also)
    metrics = None if metrics is None else list(dict.fromkeys([*metrics, *also]))
    read = evidence.read([group.runs for group in groups], chosen.folders)
    damaged = (f"skipped {path}: {why}" for path, why in (*chosen.damaged, *read.damaged))
    found = compare(groups, read, metrics, threshold)
    return replace(found, notes=(*notes, *damaged, *found.notes))


def usable(
    groups: Sequence[Group], everything: bool = False, folders: Mapping[str, str] | None = None
) -> tuple[tuple[Group, ...], tuple[str, ...]]:
    """The groups without runs that failed, were killed or recovered, warmed up a bench or ended as one was broken
    off, and a note of those.

    A group of warm-ups alone, or of what interruptions left, keeps them: they were asked for.

    Parameters
    ----------
    folders
        The dataset of each run by its id, where a bench says which of its runs do not count.

    Raises
    ------
    ValueError
        A group has no other.
    """
    kept, notes = [], []
    left_out = cache(benches.left_out)  # thousands of runs may be of one bench
    for group in groups:
        aside = {
            run["run_id"]: why
            for run in group.runs
            if (why := _beside_its_bench(run, (folders or {}).get(run["run_id"]), left_out))
        }
        asked_for = len(aside) == len(group.runs) and len(set(aside.values())) == 1
        aside = {} if asked_for else aside
        whole = tuple(
            run
            for run in group.runs
            if everything or (run["status"] in _WHOLE and run["run_id"] not in aside)
        )
        words = _counted(
            (run["status"] or "of unknown end") if run["status"] not in _WHOLE else aside[run["run_id"]]
            for run in group.runs
            if run["status"] not in _WHOLE or run["run_id"] in aside
        )
        if not whole:
            raise ValueError(
                f"group {group.label} has no finished run ({words or 'no runs'}); --all takes those too"
            )
        if len(whole) < len(group.runs):
            notes.append(f"left out of {group.label}: {words} (--all takes them too)")
        kept.append(Group(group.label, whole))
    return tuple(kept), tuple(notes)


def _beside_its_bench(
    run: Row, folder: str | None, left_out: Callable[[str, str], Collection[str]]
) -> str | None:
    """Why a run that a bench made does not count in it; None where it does, or none made it."""
    tags = selection.tags_of(run)
    if "bench" not in tags:
        return None
    if "warmup" in tags:
        return "warm-up of a bench"
    interrupted = folder is not None and run["run_id"] in left_out(folder, tags["bench"])
    return "of a bench that was interrupted meanwhile" if interrupted else None


def _counted(words: Any) -> str:
    found: dict[str, int] = {}
    for word in words:
        found[word] = found.get(word, 0) + 1
    return ", ".join(f"{count} {word}" for word, count in found.items())


def compare(
    groups: Sequence[Group],
    read: Evidence | None = None,
    metrics: Sequence[str] | None = None,
    threshold: float = THRESHOLD,
) -> Comparison:
    """Compare every group with the first.

    Parameters
    ----------
    groups
        Two at least, with a run each.
    read
        Channels and steps of the runs. Without them, no board is known to be the same.
    metrics
        Names of metrics; all that the runs have where None.
    threshold
        The relative effect below which there is no verdict, however significant.

    Raises
    ------
    ValueError
        Fewer than two groups, an empty one, or an unknown metric.
    """
    if len(groups) < 2 or not all(group.runs for group in groups):
        raise ValueError("a comparison takes two groups at least, each with a run")
    read = read or Evidence()
    baseline, others = groups[0], groups[1:]
    chosen = known([run for group in groups for run in group.runs], metrics)
    pairs = [_sides(baseline, other, read) for other in others]
    steps_known = any(pair.steps for pair in pairs)
    if metrics is None and steps_known:
        chosen = [*chosen, STEP_TIME]
    asked = [(metric, pair) for metric in chosen for pair in pairs]
    raw = [_effect(metric, pair) for metric, pair in asked]
    estimates = [estimate for _, estimate in raw]
    corrected, questions = judgement.corrected([effect for effect, _ in raw], estimates)
    judged = tuple(
        judgement.judged(_could_show(effect, estimate, questions, pair), estimate, threshold)
        for effect, estimate, (_, pair) in zip(corrected, estimates, asked)
    )
    same = all(pair.same_board for pair in pairs)
    besides = differences(groups, read)
    return Comparison(
        tuple(groups),
        judged,
        besides,
        judgement.method(judged, same, judgement.modelled(groups, read)),
        judgement.verdict_sentence(judged, baseline, others, besides),
        same,
        threshold=threshold,
    )


def _sides(baseline: Group, other: Group, read: Evidence) -> _Sides:
    mine, theirs = (boards.sources(read.seen(group.runs), read.channels) for group in (baseline, other))
    left = boards.left_over(mine, theirs)
    notes = []
    if left > 1e-6:
        half = 100 * 1.96 * left
        notes.append(f"what does not cancel of the sensors' gain, or a model's error, adds ±{half:.2g} %")
    one_carbon = same_carbon((baseline.runs, other.runs))
    carbon = 0.0 if one_carbon else math.hypot(carbon_sd(baseline.runs), carbon_sd(other.runs))
    singles = [read.steps.get(group.runs[0]["run_id"]) for group in (baseline, other) if len(group.runs) == 1]
    steps = (singles[0], singles[1]) if len(singles) == 2 and singles[0] and singles[1] else None
    same = boards.same(mine, theirs)
    return _Sides(baseline, other, left, carbon, tuple(notes), steps, lacking((baseline, other), read), same)


def _effect(metric: Metric, pair: _Sides) -> tuple[Effect, Estimate | None]:
    """A metric's effect, before correction and verdict, and the estimate that it rests on."""
    x, y = (_values(metric, group.runs) for group in (pair.baseline, pair.other))
    notes = [note for group in (pair.baseline, pair.other) for note in _left_out(metric, group)]
    steps = _of_steps(metric, pair)
    if steps is not None:
        warm = [effects.settled(series) for series in steps]
        x, y = (series[first:] for first, series in zip(warm, steps))
        if any(warm):
            notes.append(f"without the first {warm[0]:,} and {warm[1]:,} steps, in which the runs warmed up")
    mean = _geometric if metric.ratio else _mean
    effect = Effect(
        metric.name, metric.unit, metric.better, pair.other.label, len(pair.baseline.runs) if steps else len(x),
        len(pair.other.runs) if steps else len(y), mean(x), mean(y),
        method=effects.STEPS if steps else effects.WELCH if metric.ratio else effects.MEANS,
    )  # fmt: skip
    if not len(x) or not len(y):
        which = pair.baseline.label if not len(x) else pair.other.label
        notes.append(f"no {metric.noun} is known of {which}")
        return replace(effect, verdict="not comparable", notes=tuple(notes)), None
    if metric.of_energy and pair.lacking:
        notes.append(pair.lacking)
        return replace(_with_ratio(effect), verdict="not comparable", notes=tuple(notes)), None
    if steps is not None:
        x, y = effects.batch_means(x), effects.batch_means(y)
    if metric.ratio and (x.min(initial=1.0) <= 0 or y.min(initial=1.0) <= 0):
        notes.append("a figure is not above zero, so there is no ratio")
        return replace(effect, verdict="not comparable", notes=tuple(notes)), None
    systematic = _systematic(metric, pair, notes)
    if steps is not None:
        notes.append("within one run of each: what varies from run to run is not in it")
        if min(len(x), len(y)) < effects.FEWEST_BATCHES:
            notes.append("too few steps for how much they follow one another")
            return replace(_with_ratio(effect), notes=tuple(notes)), None
        notes.append(f"{len(x)} and {len(y)} batches of steps")
    if min(len(x), len(y)) < 2:
        if metric.name == "energy_per_step" and pair.steps:
            notes.append(
                "its steps are shorter than what the meters resolve, and have no joules of their own"
            )
        notes.append(
            "what varies from run to run cannot be known from one run: two at least, five are better"
        )
        return replace(_with_ratio(effect), notes=tuple(notes)), None
    if not metric.ratio:
        estimate = effects.difference(x, y, method=effects.WELCH)
    else:
        method = effects.WELCH if steps is not None else None
        estimate = effects.difference(np.log(x), np.log(y), systematic, method)
    return _filled(replace(effect, notes=tuple(notes)), estimate), estimate


def _filled(effect: Effect, estimate: Estimate) -> Effect:
    """An effect with the figures of its estimate."""
    if effect.method == effects.MEANS:
        return replace(
            effect, difference=estimate.d, difference_lo=estimate.lo, difference_hi=estimate.hi, p=estimate.p
        )  # fmt: skip
    return replace(
        effect, ratio=math.exp(estimate.d), ratio_lo=math.exp(estimate.lo), ratio_hi=math.exp(estimate.hi),
        p=estimate.p, method=effects.STEPS if effect.method == effects.STEPS else estimate.method,
    )  # fmt: skip


def _could_show(effect: Effect, estimate: Estimate | None, questions: int, pair: _Sides) -> Effect:
    """An effect with what so many runs could have shown, as one of so many questions."""
    if estimate is None or estimate.exact:
        return effect
    smallest = effects.detectable(estimate, questions)
    if effect.method == effects.MEANS:
        size = abs(effect.baseline)
        if not size:
            return effect
        runs = effects.runs_for(estimate, SMALL_EFFECT * size, questions)
        return replace(effect, detectable=smallest / size, runs_for_2_percent=runs)
    runs = None
    if effect.method != effects.STEPS:
        runs = effects.runs_for(estimate, math.log1p(SMALL_EFFECT), questions)
        if runs is None and estimate.systematic_sd > 0:
            effect = replace(effect, notes=(*effect.notes, _no_number(effect, pair)))
    return replace(effect, detectable=math.expm1(min(smallest, 700.0)), runs_for_2_percent=runs)


def _no_number(effect: Effect, pair: _Sides) -> str:
    """Why no number of runs would show a small effect, and what would."""
    found = [] if pair.same_board else ["on one board"]
    if effect.metric == "co2e" and pair.carbon_sd > 0:
        found.append("with one intensity")
    remedy = f"compare {' and '.join(found)}" if found else "a model's error changes with the load"
    return f"no number of runs would show {100 * SMALL_EFFECT:g} %: {remedy}"


def _intensity(run: Row) -> str:
    """A run's grams a kilowatt-hour, whose and of when they are."""
    value = run.get("intensity_g_per_kwh")
    if value is None:
        return ""
    place, year = run.get("intensity_place_name"), run.get("intensity_year")
    of = " ".join(str(part) for part in (place, year) if part)
    by = run.get("intensity_source")
    return f", {value:.4g} g/kWh" + (f" of {of}" if of else "") + (f" by {by}" if by and by != place else "")


def _systematic(metric: Metric, pair: _Sides, notes: list[str]) -> float:
    """The error that the runs of a group share and that does not cancel, as a standard deviation of the log."""
    if not metric.of_energy:
        return 0.0
    notes += pair.notes
    if metric.name != "co2e":
        return pair.gain_sd
    if same_carbon((pair.baseline.runs, pair.other.runs)):
        one = _intensity(pair.baseline.runs[0])
        notes.append(f"one intensity{one}: its uncertainty cancels, and the ratio is the energy's")
    else:
        notes.append("the intensities differ: their intervals are in it")
    return math.hypot(pair.gain_sd, pair.carbon_sd)


def _values(metric: Metric, runs: Sequence[Row]) -> Floats:
    found = [metric.value(run) for run in runs]
    return np.array([value for value in found if value is not None and math.isfinite(value)], np.float64)


def _of_steps(metric: Metric, pair: _Sides) -> tuple[Floats, Floats] | None:
    """The figures of the steps of two single runs, for a metric that steps have."""
    if pair.steps is None or metric.name not in _OF_STEPS:
        return None
    column, unit = _OF_STEPS[metric.name]
    if metric.of_energy and not all(_mostly_known(steps) for steps in pair.steps):
        return None
    one, two = (np.array(getattr(steps, column), np.float64) for steps in pair.steps)
    if unit:  # of each step: what the run counted over its steps
        runs = (pair.baseline.runs[0], pair.other.runs[0])
        if not all(run.get(unit) and run.get("steps") for run in runs):
            return None
        one, two = (a * run["steps"] / run[unit] for a, run in zip((one, two), runs))
    return (one, two) if len(one) and len(two) else None


def _mostly_known(steps: Steps) -> bool:
    """Whether the joules of nearly all steps are known: where they are of the long ones alone, they are not typical."""
    return len(steps.energy_j) >= _KNOWN * len(steps.duration_s)


def _left_out(metric: Metric, group: Group) -> list[str]:
    """Notes of the runs that lack a figure which others have; of those without joules, with their reasons."""
    who = f"{len(group.runs)} runs of {group.label}"
    silent = [run for run in group.runs if metric.of_energy and run.get("energy_j") is None]
    others = [
        metric.value(run) is None for run in group.runs if run.get("energy_j") is not None or not silent
    ]
    notes = []
    if silent:
        reasons = ", ".join(dict.fromkeys(run.get("reason") or "unknown" for run in silent))
        notes.append(f"{len(silent)} of {who} have no energy ({reasons})")
    if any(others) and not all(others):
        notes.append(f"{sum(others)} of {who} have no {metric.noun}")
    return notes


def _geometric(values: Floats) -> float:
    if not len(values) or values.min() <= 0:
        return _mean(values)
    return math.exp(float(np.mean(np.log(values))))


def _mean(values: Floats) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _with_ratio(effect: Effect) -> Effect:
    """What the two figures say by themselves, without an interval."""
    if METRICS.get(effect.metric) is None and effect.metric != STEP_TIME.name:
        return replace(effect, difference=effect.value - effect.baseline)
    return replace(effect, ratio=effect.value / effect.baseline if effect.baseline > 0 else None)
