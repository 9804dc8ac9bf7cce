"""Single runs, compared through their steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from energyprof import effects
from energyprof.compare import Comparison, Group, compare
from energyprof.evidence import Steps
from tests.rows import following, of, on_one_board, row, two


def single(seed: int, factor: float = 1.0, correlation: float = 0.5, n: int = 1000) -> Comparison:
    chance = np.random.default_rng(seed)
    groups = two([1000.0], [1000.0 * factor], energy_per_step_j=10.0, steps=n)
    series = [following(chance, n, correlation), following(chance, n, correlation, factor)]
    ids = [group.runs[0]["run_id"] for group in groups]
    steps = {i: Steps(tuple(s.tolist()), tuple((s / 100).tolist())) for i, s in zip(ids, series)}
    return compare(groups, replace(on_one_board(groups), steps=steps))


def test_single_runs_are_compared_through_their_steps_and_it_says_so() -> None:
    found = single(1, 0.95)
    each = of(found, "energy_per_step")
    assert (each.method, each.n, each.verdict, each.runs_for_2_percent) == (effects.STEPS, 1, "less", None)
    assert each.ratio == pytest.approx(0.95, abs=0.01)
    assert "what varies from run to run is not in it" in found.verdict
    assert of(found, "duration_per_step").verdict == "less"
    assert of(found, "energy").verdict == "too few runs"


def test_steps_that_follow_one_another_make_a_wider_interval() -> None:
    widths = []
    for correlation in (0.0, 0.9):
        each = of(single(2, 1.0, correlation), "energy_per_step")
        widths.append((each.ratio_hi or 0.0) - (each.ratio_lo or 0.0))
    assert widths[1] > 2.5 * widths[0]  # sqrt(19) = 4.4 with as many batches


def test_runs_that_warm_up_are_compared_by_the_steps_after_it() -> None:
    chance = np.random.default_rng(6)
    groups = two([1000.0], [950.0], energy_per_step_j=10.0, steps=300)
    series = [following(chance, 300, 0.0, factor) for factor in (1.0, 0.95)]
    for one, first in zip(series, (1, 12)):
        one[:first] *= 15.0
    ids = [group.runs[0]["run_id"] for group in groups]
    steps = {i: Steps(tuple(s.tolist()), tuple((s / 100).tolist())) for i, s in zip(ids, series)}
    each = of(compare(groups, replace(on_one_board(groups), steps=steps)), "energy_per_step")
    assert each.verdict == "less"
    assert each.ratio == pytest.approx(0.95, abs=0.01)
    assert any("in which the runs warmed up" in note for note in each.notes)


def batches(small: Mapping[str, Any], large: Mapping[str, Any], n: int = 1) -> tuple[Group, Group]:
    """`n` runs a side of as many samples, in steps of 8 and of 32."""
    return tuple(
        Group(name, tuple(row(first + i, name=name, samples=8000.0, **told) for i in range(n)))
        for name, first, told in (("batch 8", 0, small), ("batch 32", n, large))
    )  # type: ignore[return-value]


def test_single_runs_in_steps_of_another_size_are_compared_by_the_sample() -> None:
    chance = np.random.default_rng(4)
    groups = batches({"steps": 1000, "energy_per_step_j": 10.0}, {"steps": 250, "energy_per_step_j": 36.0})
    series = (following(chance, 1000, 0.5), following(chance, 250, 0.5, 3.6))
    steps = {
        group.runs[0]["run_id"]: Steps(tuple(one.tolist()), tuple((one / 100).tolist()))
        for group, one in zip(groups, series)
    }
    found = compare(groups, replace(on_one_board(groups), steps=steps))
    each = of(found, "energy_per_sample")
    assert (each.method, each.verdict) == (effects.STEPS, "less")
    assert each.ratio == pytest.approx(0.9, abs=0.02)
    assert each.baseline == pytest.approx(10.0 * 1000 / 8000, rel=0.02)
    assert of(found, "energy_per_step").verdict == "more"
    assert "less energy per sample than batch 8" in found.verdict


def test_as_many_samples_in_fewer_steps_are_the_same_work() -> None:
    chance = np.random.default_rng(5)
    groups = batches({"steps": 1000, "energy_per_step_j": 1.0}, {"steps": 250, "energy_per_step_j": 3.6}, 6)
    groups = tuple(
        Group(
            g.label,
            tuple({**r, "energy_j": f * float(np.exp(0.01 * chance.standard_normal()))} for r in g.runs),
        )
        for g, f in zip(groups, (1000.0, 900.0))
    )  # type: ignore[assignment]
    found = compare(groups, on_one_board(groups))
    assert "less energy than batch 8" in found.verdict
    assert "mind: steps" in found.verdict


def test_a_handful_of_steps_is_too_few() -> None:
    each = of(single(3, 0.5, n=12), "energy_per_step")
    assert each.verdict == "too few runs"
    assert any("too few steps" in note for note in each.notes)


def test_steps_without_joules_of_their_own_still_have_a_duration() -> None:
    groups = two([1000.0], [1000.0], energy_per_step_j=1.0, steps=400)
    seconds = 0.01 * following(np.random.default_rng(1), 400, 0.0)
    ids = [group.runs[0]["run_id"] for group in groups]
    steps = {i: Steps((), tuple((f * seconds).tolist())) for i, f in zip(ids, (1.0, 0.8))}
    found = compare(groups, replace(on_one_board(groups), steps=steps))
    assert of(found, "duration_per_step").verdict == "less"
    each = of(found, "energy_per_step")
    assert (each.verdict, each.method) == ("too few runs", effects.WELCH)
    assert any("shorter than what the meters resolve" in note for note in each.notes)


def test_joules_of_the_long_steps_alone_say_nothing_of_all_steps() -> None:
    groups = two([1000.0], [1000.0], energy_per_step_j=1.0, steps=400)
    chance = np.random.default_rng(1)
    seconds = [0.01 * following(chance, 400, 0.0) for _ in range(2)]
    ids = [group.runs[0]["run_id"] for group in groups]
    steps = {i: Steps(tuple(9.0 * s[:200]), tuple(s)) for i, s in zip(ids, seconds)}
    each = of(compare(groups, replace(on_one_board(groups), steps=steps)), "energy_per_step")
    assert (each.verdict, each.method, each.baseline) == ("too few runs", effects.WELCH, 1.0)
    assert any("shorter than what the meters resolve" in note for note in each.notes)
