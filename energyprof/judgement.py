"""From estimates to verdicts and sentences: correction, significance and size together, and the words for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from energyprof import boards, effects
from energyprof.comparability import IN_A_SENTENCE, Difference, counted, unequal
from energyprof.comparison import Effect, Verdict
from energyprof.effects import Estimate
from energyprof.evidence import Evidence
from energyprof.measures import METRICS
from energyprof.reports.compare import sentence
from energyprof.selection import Group

_WORK = (("energy_per_token", "tokens"), ("energy_per_sample", "samples"), ("energy_per_step", "steps"))
FEW = 3  # with fewer runs in a group, no evidence means too few runs


def corrected(found: Sequence[Effect], estimates: Sequence[Estimate | None]) -> tuple[list[Effect], int]:
    """Effects with p corrected by Holm for all of them, and how many questions they are.

    Tests that are one and the same count once: where every run took as many steps, J and J a step are one question,
    and rounding is all that tells their statistics apart; so are J and FLOP/J where every run had as many FLOPs.
    """
    tests: dict[tuple[str, str, str], float] = {}
    keys: list[tuple[str, str, str] | None] = []
    for effect, estimate in zip(found, estimates):
        key = None if estimate is None else (effect.group, f"{abs(estimate.d):.9g}", f"{estimate.se:.9g}")
        keys.append(key)
        if key is not None and estimate is not None:
            tests[key] = estimate.p
    adjusted = dict(zip(tests, effects.holm(list(tests.values()))))
    told = zip(found, keys)
    return [
        effect if key is None else replace(effect, p_adjusted=adjusted[key]) for effect, key in told
    ], len(tests)


def judged(effect: Effect, estimate: Estimate | None, threshold: float) -> Effect:
    """An effect with its verdict, and what else to know of that."""
    return replace(
        effect, verdict=verdict(effect, estimate, threshold), notes=notes(effect, estimate, threshold)
    )


def _significant(effect: Effect, estimate: Estimate) -> bool:
    """Whether the corrected p and the interval agree that there is a difference."""
    apart = estimate.lo > 0 or estimate.hi < 0
    return apart and effect.p_adjusted is not None and effect.p_adjusted < effects.LEVEL


def verdict(effect: Effect, estimate: Estimate | None, threshold: float) -> Verdict:
    """Less or more where p, interval and size agree; else why not."""
    if estimate is None:
        return effect.verdict
    apart = _significant(effect, estimate)
    few = min(effect.n, effect.n_baseline) < FEW and effect.method != effects.STEPS
    # Two figures that are equal are so by luck more often than one in twenty times: 0.91, 0.91 against 0.90, 0.90.
    if few and apart == estimate.exact:
        return "too few runs"
    if not apart or _small(effect, threshold):
        return "no evidence"
    return "less" if estimate.d < 0 else "more"


def _small(effect: Effect, threshold: float) -> bool:
    """Whether it is below the threshold; beside a baseline of zero nothing is."""
    return effect.change is not None and abs(effect.change) <= threshold


def notes(effect: Effect, estimate: Estimate | None, threshold: float) -> tuple[str, ...]:
    """An effect's notes, and what else to know of its verdict."""
    told = list(effect.notes)
    if estimate is not None:
        if _significant(effect, estimate) and _small(effect, threshold):
            told.append(f"a difference, but not above the threshold of {100 * threshold:g} %")
        if estimate.exact and _significant(effect, estimate) and effect.method != effects.STEPS:
            told.append("nothing varies from run to run (one seed?): it holds for these runs alone")
    return tuple(told)


def primary(found: Sequence[Effect], groups: Sequence[Group]) -> str:
    """The metric that the verdict speaks of: energy; energy per unit of work where the groups did not do the
    same amount of it, or where single runs can be judged by their steps alone.

    The finest unit that all groups counted says whether the work was the same: as many samples in fewer, larger steps
    are.
    """
    names = [effect.metric for effect in found]
    if any(effect.metric == "energy_per_step" and effect.method == effects.STEPS for effect in found):
        others = (name for name, column in _WORK if name in names and unequal(groups, column, "steps"))
        return next(others, "energy_per_step")
    for metric, column in _WORK:
        if metric in names and counted(groups, column):
            return metric if unequal(groups, column) else "energy" if "energy" in names else names[0]
    return "energy" if "energy" in names else names[0]


def verdict_sentence(
    found: Sequence[Effect], baseline: Group, others: Sequence[Group], besides: Sequence[Difference]
) -> str:
    """The verdict; a difference that may be its cause is named in the same breath."""
    name = primary(found, (baseline, *others))
    told = [sentence(effect, baseline.label) for effect in found if effect.metric == name]
    warned = [IN_A_SENTENCE.get(one.field, one.field) for one in besides if one.severity == "warning"]
    return "; ".join([*told, *([f"but mind: {', '.join(warned)}"] if warned else [])])


def modelled(groups: Sequence[Group], read: Evidence) -> bool:
    """Whether a model has a part in the joules."""
    found = (boards.sources(read.seen(group.runs), read.channels) for group in groups)
    return any(source.modelled for sources in found for source in sources.values())


def _few_beside_more(effect: Effect) -> bool:
    """Whether one group has too few runs for Welch's test beside the other's."""
    return effect.n != effect.n_baseline and min(effect.n, effect.n_baseline) < effects.FEW_BESIDE_MORE


def method(found: Sequence[Effect], same_board: bool, by_model: bool) -> str:
    """How it was computed, in sentences."""
    used = {effect.method for effect in found if effect.p is not None}
    parts = []
    if effects.WELCH in used or effects.BOOTSTRAP in used:
        wider = (
            f"; with {effects.BOOTSTRAP_FROM} runs a group the BCa bootstrap's ends where they are wider"
            if effects.BOOTSTRAP in used
            else ""
        )
        few = any(_few_beside_more(effect) for effect in found)
        student = (
            f"; fewer than {effects.FEW_BESIDE_MORE} runs beside more by Student's where it is wider"
            if few
            else ""
        )
        parts.append(f"Ratios of geometric means by Welch's t on logarithms{student}{wider}.")
    if effects.STEPS in used:
        parts.append(
            "Single runs by Welch's t on logarithms of means of long batches of their steps: "
            "what varies from run to run is not in it."
        )
    if effects.MEANS in used:
        parts.append("Qualities: differences of means, Welch's t.")
    if used:
        parts.append("p is corrected (Holm) for all that is shown, intervals are not.")
    if not any(effect.metric in METRICS and METRICS[effect.metric].of_energy for effect in found):
        return " ".join(parts)
    if not same_board:
        gain = "Not the same sensors: their gain is in the intervals."
    elif by_model:
        gain = "One machine: its sensors' gain cancels, and its model's error where the load was the same."
    else:
        gain = "One board: its gain cancels."
    return " ".join([*parts, gain])
