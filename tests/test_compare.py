"""Comparisons of groups of runs: what they say of equal and of different ones, and what they refuse to say."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from energyprof import boards, effects
from energyprof.compare import Group, compare, usable
from energyprof.evidence import Evidence
from energyprof.measures import quality
from energyprof.reports.compare import sentence
from tests.rows import BOARD, channel, drawn, heavy, normal, of, on_one_board, row, two

OTHER = {**BOARD, "uuid": "GPU-2"}


def pair(seed: int, n: int, factor: float = 1.0, **told: Any) -> tuple[Group, Group]:
    chance = np.random.default_rng(seed)
    return drawn("a", chance, n, **told), drawn("b", chance, n, factor, first=n, **told)


def evidence(groups: tuple[Group, ...], *channels: list[Mapping[str, Any]]) -> Evidence:
    """The channels of each group: of every run of it the same, with the share of the joules in `share`."""
    found = {}
    for group, told in zip(groups, channels):
        for run in group.runs:
            joules = run["energy_j"]
            parts = [{**one, "energy_j": one["share"] * joules} for one in told]
            found[run["run_id"]] = [
                channel(run, **{**p, "u_gain_j": p["gain"] * p["energy_j"]}) for p in parts
            ]
    return Evidence(found)


@pytest.mark.parametrize("draw", [normal, heavy], ids=["lognormal", "heavy tails"])
def test_equal_groups_get_no_evidence_in_95_of_100_comparisons_of_nine_metrics(draw: Any) -> None:
    trials, wrong = 200, 0
    for seed in range(trials):
        groups = pair(seed, 5, draw=draw)
        found = compare(groups, on_one_board(groups))
        wrong += any(e.verdict in ("less", "more") for e in found.effects)
    assert wrong / trials <= 0.08  # 5 % of 200 trials is at most 8 % at 97.5 % confidence


def test_five_per_cent_are_found_with_ten_runs_and_two_per_cent_of_noise() -> None:
    trials, seen, held = 150, 0, 0
    for seed in range(trials):
        groups = pair(1000 + seed, 10, 0.95)
        energy = of(compare(groups, on_one_board(groups)), "energy")
        seen += energy.verdict == "less"
        held += energy.ratio_lo is not None and energy.ratio_lo <= 0.95 <= (energy.ratio_hi or 0)
    assert seen / trials >= 0.9
    assert 0.9 <= held / trials <= 0.99  # 95 % of 150 at 99 % confidence


def test_a_verdict_says_how_much_and_how_sure() -> None:
    groups = pair(1, 10, 0.88)
    found = compare(groups, on_one_board(groups))
    energy = of(found, "energy")
    assert energy.verdict == "less"
    assert energy.ratio == pytest.approx(0.88, abs=0.02)
    assert energy.ratio_lo is not None
    assert energy.ratio_hi is not None
    assert energy.ratio_lo < 0.88 < energy.ratio_hi
    assert (energy.n, energy.n_baseline, energy.method) == (10, 10, effects.WELCH)
    assert found.verdict.startswith("b costs 1")
    assert "less energy than a (95 % interval" in found.verdict
    assert "n = 10 and 10)" in found.verdict
    assert found.same_board


def test_no_evidence_says_what_could_have_been_seen() -> None:
    groups = pair(2, 5)
    found = compare(groups, on_one_board(groups))
    energy = of(found, "energy")
    assert energy.verdict == "no evidence"
    assert energy.detectable is not None
    assert 0.01 < energy.detectable < 0.1
    assert energy.runs_for_2_percent is not None
    assert found.verdict.startswith("no evidence that b and a differ in energy")
    assert f"{energy.runs_for_2_percent} runs each would show 2 %" in found.verdict


def test_p_is_corrected_for_all_metrics_and_groups_but_one_question_counts_once() -> None:
    chance = np.random.default_rng(3)
    groups = (drawn("a", chance, 5), drawn("b", chance, 5, first=5), drawn("c", chance, 5, first=10))
    found = compare(groups, on_one_board(groups))
    for group in "bc":
        energy, per_step = of(found, "energy", group), of(found, "energy_per_step", group)
        assert energy.p_adjusted == per_step.p_adjusted == of(found, "co2e", group).p_adjusted
    distinct = {(e.group, round(e.p or 0.0, 9)) for e in found.effects}
    smallest = min(found.effects, key=lambda e: e.p or 1.0)
    assert smallest.p_adjusted == pytest.approx(min(1.0, (smallest.p or 1.0) * len(distinct)))
    alone = compare(groups[:2], on_one_board(groups), ["energy"])
    assert of(alone, "energy").p_adjusted == pytest.approx(of(alone, "energy").p)


def test_what_is_called_detectable_gets_its_verdict_in_four_of_five_comparisons_of_nine_metrics() -> None:
    n, trials, found = 10, 120, 0
    questions = 5  # energy (a step, a sample, its inverse, its grams), energy a token, time, power, accuracy
    truth = math.exp(effects._noncentrality(2.0 * n - 2, questions) * 0.02 * math.sqrt(2 / n))
    for seed in range(trials):
        groups = pair(3000 + seed, n, truth)
        found += of(compare(groups, on_one_board(groups)), "energy").verdict == "more"
    # 80 % of 120 trials is 69 to 89 % at 99 % confidence; metrics that move together help one another a little.
    assert 0.69 <= found / trials <= 0.92


def test_one_question_alone_shows_smaller_effects_than_one_of_nine() -> None:
    groups = pair(2, 5)
    nine, alone = (of(compare(groups, on_one_board(groups), m), "energy") for m in (None, ["energy"]))
    assert (nine.detectable or 0.0) > 1.2 * (alone.detectable or 1.0)
    assert (nine.runs_for_2_percent or 0) > (alone.runs_for_2_percent or 99)


def test_joules_and_flop_per_joule_are_one_question_where_the_flops_are_the_same() -> None:
    groups = pair(5, 6, 0.97)
    found = compare(groups, on_one_board(groups), ["energy", "flop_per_j"])
    assert of(found, "flop_per_j").p_adjusted == of(found, "energy").p_adjusted
    assert of(found, "energy").p_adjusted == pytest.approx(of(found, "energy").p)


def test_a_small_effect_gets_no_verdict_however_significant() -> None:
    a = [1000.0 + i * 0.1 for i in range(8)]
    groups = two(a, [0.995 * e for e in a])
    found = compare(groups, on_one_board(groups), ["energy"])
    energy = of(found, "energy")
    assert energy.p_adjusted is not None
    assert energy.p_adjusted < 1e-6
    assert energy.verdict == "no evidence"
    assert "a difference, but not above the threshold of 1 %" in found.verdict
    strict = compare(groups, on_one_board(groups), ["energy"], threshold=0.001)
    assert of(strict, "energy").verdict == "less"


@pytest.mark.parametrize("n", [1, 2])
def test_few_runs_without_steps_are_too_few(n: int) -> None:
    groups = two([1000.0, 1100.0][:n], [1000.0, 1060.0][:n])
    energy = of(compare(groups, on_one_board(groups)), "energy")
    assert energy.verdict == "too few runs"
    assert (energy.p is None) == (n == 1)
    assert energy.ratio is not None


def test_one_run_against_many_is_too_few() -> None:
    a, b = two([1000.0], [1000.0, 1010.0, 990.0])
    assert of(compare((a, b), on_one_board((a, b))), "energy").verdict == "too few runs"


def test_two_runs_a_side_suffice_for_an_effect_that_leaves_no_doubt() -> None:
    groups = two([1000.0, 1001.0], [500.0, 501.0])
    assert of(compare(groups, on_one_board(groups), ["energy"]), "energy").verdict == "less"


def test_the_gain_cancels_on_one_board_and_not_between_two() -> None:
    groups = pair(4, 10, 0.95)
    one = compare(groups, on_one_board(groups))
    gpu = {"share": 1.0, "gain": 0.05}
    apart = compare(groups, evidence(groups, [gpu], [{**gpu, "device": json.dumps(OTHER)}]))
    assert (one.same_board, apart.same_board) == (True, False)
    assert (of(one, "energy").verdict, of(apart, "energy").verdict) == ("less", "no evidence")
    narrow, wide = (of(f, "energy") for f in (one, apart))
    assert (
        math.log((wide.ratio_hi or 0) / (wide.ratio_lo or 1)) > 4 * 0.05 / 1.42
    )  # sqrt(2) 1.96 gain_sd each side
    assert wide.runs_for_2_percent is None
    assert any("one board" in note for note in wide.notes)
    assert of(one, "duration").p == of(apart, "duration").p  # no gain in seconds
    assert narrow.ratio == wide.ratio


def test_what_would_show_a_small_effect_is_said_where_no_number_of_runs_would() -> None:
    a, b = pair(4, 10)
    b = Group(
        "b", tuple({**r, "duration_s": r["duration_s"] / 2, "intensity_g_per_kwh": 112.0} for r in b.runs)
    )

    def remedies(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, str]:
        found = compare((a, b), evidence((a, b), [one], [other]), ["energy", "co2e", "duration"])
        notes = {e.metric: [note for note in e.notes if note.startswith("no number")] for e in found.effects}
        return {metric: told[0].partition("2 %: ")[2] if told else "" for metric, told in notes.items()}

    gpu, model = {**GPU, "share": 1.0}, {**CPU, "share": 1.0}
    apart = remedies(gpu, {**gpu, "device": json.dumps(OTHER)})
    assert apart["energy"] == "compare on one board"
    assert apart["co2e"] == "compare on one board and with one intensity"
    assert apart["duration"] == ""
    assert remedies(gpu, gpu)["co2e"] == "compare with one intensity"
    assert remedies(model, model)["energy"] == "a model's error changes with the load"


def test_without_channels_no_board_is_known_to_be_the_same() -> None:
    groups = pair(4, 10, 0.95)
    found = compare(groups)
    assert not found.same_board
    assert of(found, "energy").verdict == "no evidence"


GPU = {"share": 0.8, "gain": 0.05}
CPU = {"share": 0.2, "gain": 0.5, "channel": "package:0", "method": "modelled", "device": '{"tdp_w": 65}'}


def left(one: list[Mapping[str, Any]], other: list[Mapping[str, Any]], seconds: float = 10.0) -> float:
    a, b = two([1000.0], [1000.0])
    b = Group("b", tuple({**run, "duration_s": seconds} for run in b.runs))
    read = evidence((a, b), one, other)
    return boards.left_over(boards.sources(a.runs, read.channels), boards.sources(b.runs, read.channels))


def test_what_two_groups_share_of_a_sensor_cancels_and_the_rest_does_not() -> None:
    assert left([{**GPU, "share": 1.0}], [{**GPU, "share": 1.0}]) == 0.0
    assert left([GPU, CPU], [GPU, CPU]) == pytest.approx(0.0, abs=1e-12)
    # Another mixture of two meters on one machine: each gain counts by how much its share moved.
    meter = {**CPU, "method": "counter", "gain": 0.03}
    moved = left([GPU, meter], [{**GPU, "share": 0.5}, {**meter, "share": 0.5}])
    assert moved == pytest.approx(0.3 * math.hypot(0.05, 0.03) / 1.96)
    other = {**GPU, "share": 1.0, "device": json.dumps(OTHER)}
    assert left([{**GPU, "share": 1.0}], [other]) == pytest.approx(math.sqrt(2) * 0.05 / 1.96)


def test_a_boards_counter_and_its_gauge_are_two_sensors() -> None:
    counter = {**GPU, "share": 1.0}
    assert left([counter], [{**counter, "method": "integrated"}]) == pytest.approx(math.sqrt(2) * 0.05 / 1.96)


def test_a_model_cancels_only_as_far_as_the_load_was_the_same() -> None:
    whole = {**CPU, "share": 1.0}
    assert left([whole], [whole]) == 0.0
    # The same joules in half the time: twice the modelled power.
    assert left([whole], [whole], seconds=5.0) == pytest.approx(math.sqrt(2) * 0.5 * 0.5 / 1.96)
    other = {**whole, "device": '{"tdp_w": 95}'}
    assert left([whole], [other]) == pytest.approx(math.sqrt(2) * 0.5 / 1.96)


def test_one_intensity_leaves_the_grams_the_energys_ratio() -> None:
    groups = pair(5, 10, 0.9)
    found = compare(groups, on_one_board(groups))
    energy, grams = of(found, "energy"), of(found, "co2e")
    assert (grams.ratio_lo, grams.ratio_hi) == pytest.approx((energy.ratio_lo, energy.ratio_hi))
    assert any("cancels" in note for note in grams.notes)


def test_two_intensities_bring_both_their_intervals() -> None:
    a, b = pair(5, 10)
    b = Group(
        "b",
        tuple(
            {**r, "co2e_g": 2 * r["co2e_g"], "co2e_hi_g": 3 * r["co2e_g"], "intensity_g_per_kwh": 112.0}
            for r in b.runs
        ),
    )
    found = compare((a, b), on_one_board((a, b)))
    energy, grams = of(found, "energy"), of(found, "co2e")
    assert grams.ratio == pytest.approx(2 * (energy.ratio or 0))
    # ln(100/56) and ln(3/2), less the joules' 5 %, in quadrature.
    half = math.hypot(math.sqrt(math.log(100 / 56) ** 2 - 0.05**2), math.sqrt(math.log(1.5) ** 2 - 0.05**2))
    assert math.log((grams.ratio_hi or 0) / (grams.ratio or 1)) == pytest.approx(half, rel=0.01)
    assert {d.field for d in found.differences} >= {"place"}


def logged(name: str, first: int, *metrics: Mapping[str, float]) -> Group:
    """Runs that logged these."""
    return Group(name, tuple(row(first + i, metrics=json.dumps(one)) for i, one in enumerate(metrics)))


def test_qualities_are_compared_by_difference_and_know_which_way_is_better() -> None:
    noise = 0.001 * np.random.default_rng(6).standard_normal((2, 5))
    a, b = (
        logged(name, first, *({"accuracy": mean + float(n), "val_loss": -0.1} for n in own))
        for name, first, mean, own in (("a", 0, 0.90, noise[0]), ("b", 5, 0.85, noise[1]))
    )
    found = compare((a, b), on_one_board((a, b)))
    accuracy, loss = of(found, "quality:accuracy"), of(found, "quality:val_loss")
    assert (accuracy.method, accuracy.verdict, accuracy.better, accuracy.ratio) == (
        effects.MEANS,
        "less",
        "more",
        None,
    )
    assert accuracy.difference == pytest.approx(-0.05, abs=0.005)
    assert accuracy.change == pytest.approx(-0.05 / 0.9, abs=0.006)
    assert (loss.better, loss.verdict, loss.p) == ("less", "no evidence", 1.0)


def test_a_quality_that_does_not_vary_is_judged_for_these_runs_alone() -> None:
    a, b = logged("a", 0, *3 * [{"f1": 0.9}]), logged("b", 3, *3 * [{"f1": 0.8}])
    effect = of(compare((a, b)), "quality:f1")
    assert (effect.verdict, effect.p) == ("less", 0.0)
    assert any("these runs alone" in note for note in effect.notes)


def test_two_runs_a_side_that_are_equal_by_luck_are_too_few() -> None:
    a, b = logged("a", 0, *2 * [{"f1": 0.9}]), logged("b", 3, *2 * [{"f1": 0.91}])
    assert of(compare((a, b)), "quality:f1").verdict == "too few runs"


def test_a_quality_with_a_baseline_of_zero_has_a_verdict_by_significance() -> None:
    chance = np.random.default_rng(3)
    b = logged("b", 5, *({"reward": 1.0 + 0.01 * float(n)} for n in chance.standard_normal(5)))
    effect = of(compare((logged("a", 0, *5 * [{"reward": 0.0}]), b)), "quality:reward")
    assert (effect.verdict, effect.change, effect.detectable) == ("more", None, None)
    assert (
        "sensors" not in compare((logged("a", 0, *5 * [{"reward": 0.0}]), b), None, ["quality:reward"]).method
    )
    assert sentence(effect, "a").startswith("b has more reward than a, which has none: +")
    few = compare(
        (logged("a", 0, {"reward": 0.0}, {"reward": 0.0}), logged("b", 5, {"reward": 1.0}, {"reward": 0.1}))
    )
    assert of(few, "quality:reward").verdict == "too few runs"


def test_runs_that_lack_a_figure_which_others_have_are_counted() -> None:
    a, b = pair(8, 5)
    b = Group("b", tuple({**run, "tokens": run["tokens"] if i else None} for i, run in enumerate(b.runs)))
    each = of(compare((a, b), on_one_board((a, b))), "energy_per_token")
    assert (each.n_baseline, each.n) == (5, 4)
    assert "1 of 5 runs of b have no energy per token" in each.notes


def test_runs_without_joules_are_left_out_with_the_reason() -> None:
    a, b = two([1000.0, 1010.0, 990.0], [1000.0, 1010.0, 990.0])
    b = Group("b", (*b.runs, row(9, energy_j=None, reason="sensor_gap")))
    energy = of(compare((a, b), on_one_board((a, b))), "energy")
    assert (energy.n_baseline, energy.n) == (3, 3)
    assert "1 of 4 runs of b have no energy (sensor_gap)" in energy.notes


def test_the_warm_ups_of_a_bench_are_left_out_unless_nothing_else_was_asked_for() -> None:
    a, b = two([1000.0, 1010.0], [1000.0, 1010.0])
    warm = row(9, tags='{"bench": "1f", "arm": "b", "warmup": "1"}')
    kept, notes = usable((a, Group("b", (*b.runs, warm))))
    assert ([len(g.runs) for g in kept], notes) == (
        [2, 2],
        ("left out of b: 1 warm-up of a bench (--all takes them too)",),
    )
    assert [len(g.runs) for g in usable((a, Group("b", (*b.runs, warm))), everything=True)[0]] == [2, 3]
    assert [len(g.runs) for g in usable((a, Group("b", (warm,))))[0]] == [2, 1]


def test_runs_that_failed_are_left_out_unless_asked_for() -> None:
    a, b = two([1000.0, 1010.0], [1000.0, 1010.0])
    b = Group("b", ({**b.runs[0], "status": "killed"}, b.runs[1]))
    kept, notes = usable((a, b))
    assert ([len(g.runs) for g in kept], notes) == (
        [2, 1],
        ("left out of b: 1 killed (--all takes them too)",),
    )
    assert usable((a, b), everything=True) == ((a, b), ())
    with pytest.raises(ValueError, match=r"group b has no finished run \(1 failed\); --all"):
        usable((a, Group("b", ({**b.runs[0], "status": "failed"},))))


def test_joules_that_cover_other_things_are_not_compared() -> None:
    groups = pair(7, 5, 0.7)
    found = compare(groups, evidence(groups, [GPU, {**CPU, "method": "counter"}], [{**GPU, "share": 1.0}]))
    energy = of(found, "energy")
    assert energy.verdict == "not comparable"
    assert "package is in the joules of a, and not in those of b" in found.verdict
    assert of(found, "duration").verdict == "less" or of(found, "duration").verdict == "no evidence"


def test_a_figure_that_one_group_lacks_is_not_comparable() -> None:
    a, b = pair(8, 4)
    b = Group("b", tuple({**run, "tokens": None} for run in b.runs))
    effect = of(compare((a, b), on_one_board((a, b))), "energy_per_token")
    assert (effect.verdict, effect.ratio) == ("not comparable", None)
    assert "no energy per token is known of b" in effect.notes


def test_the_verdict_is_of_the_work_where_the_groups_did_not_do_the_same() -> None:
    a, b = pair(9, 6, 0.9)
    b = Group(
        "b",
        tuple({**run, "samples": 3200.0, "energy_j": run["energy_j"] / 2, "tokens": None} for run in b.runs),
    )
    a = Group("a", tuple({**run, "tokens": None} for run in a.runs))
    found = compare((a, b), on_one_board((a, b)))
    assert "less energy per sample than a" in found.verdict
    assert next(d for d in found.differences if d.field == "samples").severity == "warning"


def test_what_differs_is_named_and_warnings_come_first() -> None:
    a, b = pair(10, 3)
    b = Group(
        "b",
        tuple(
            {**run, "torch": "2.4.0", "git_commit": "abcdef0123456", "flags": "shared_device"}
            for run in b.runs
        ),
    )
    found = compare((a, b), on_one_board((a, b)))
    fields = {d.field: d for d in found.differences}
    assert fields["torch"].values == ("2.13.0", "2.4.0")
    assert fields["git commit"].values == ("unknown", "abcdef0123")
    assert fields["shared_device"].values == ("0 of 3 runs", "3 of 3 runs")
    assert "order" in fields  # all of a ran before all of b
    severities = [d.severity for d in found.differences]
    assert severities == sorted(severities, reverse=True)


def test_driver_power_limit_and_temperature_are_compared() -> None:
    a, b = pair(11, 3)
    read = evidence(
        (a, b),
        [{**GPU, "share": 1.0}],
        [{**GPU, "share": 1.0, "device": json.dumps({**BOARD, "driver": "560"})}],
    )
    states = {
        r["run_id"]: {"power limit": w, "temperature": t}
        for g, w, t in ((a, 300.0, 40.0), (b, 250.0, 44.0))
        for r in g.runs
    }
    fields = {d.field: d for d in compare((a, b), replace(read, states=states)).differences}
    assert fields["driver"].values == ("550.54", "560")
    assert fields["power limit"].values == ("300 W", "250 W")
    assert "temperature at start" not in fields  # 4 K apart


def test_several_groups_are_each_set_against_the_first() -> None:
    chance = np.random.default_rng(12)
    groups = tuple(
        drawn(n, chance, 8, f, first=8 * i) for i, (n, f) in enumerate((("a", 1.0), ("b", 0.9), ("c", 1.2)))
    )
    found = compare(groups, on_one_board(groups), ["energy"])
    assert [(e.group, e.verdict) for e in found.effects] == [("b", "less"), ("c", "more")]
    assert found.verdict.count("; ") == 1


def test_wrong_use_is_refused() -> None:
    groups = pair(13, 3)
    with pytest.raises(ValueError, match="two groups"):
        compare(groups[:1])
    with pytest.raises(ValueError, match="two groups"):
        compare((groups[0], Group("b", ())))
    with pytest.raises(ValueError, match="unknown metric 'joules'; known: energy, energy_per_step"):
        compare(groups, None, ["joules"])


def test_commands_are_shown_from_where_they_differ() -> None:
    a, b = two([1000.0], [1000.0])
    told = (["python", "train.py", "--lr", "1"], ["python", "train.py", "--lr", "2"])
    a, b = (Group(g.label, ({**g.runs[0], "command": json.dumps(t)},)) for g, t in zip((a, b), told))
    (found,) = (d for d in compare((a, b)).differences if d.field == "command")
    assert found.values == ("… 1", "… 2")


def test_joules_of_a_model_alone_are_said_to_be_that() -> None:
    groups = two([1000.0, 1010.0], [900.0, 905.0], flags="modelled_only")
    found = compare(groups, evidence(groups, [{**CPU, "share": 1.0}], [{**CPU, "share": 1.0}]))
    assert found.verdict.endswith("but mind: no meter was read, and a model's joules follow time and load")
    assert "its model's error where the load was the same" in found.method
    assert found.same_board


@pytest.mark.parametrize("n", [4, 60])
def test_a_against_b_is_the_inverse_of_b_against_a(n: int) -> None:
    a, b = pair(14, n, 0.97)
    one, other = (of(compare(g, on_one_board(g)), "energy") for g in ((a, b), (b, a)))
    assert one.ratio == pytest.approx(1 / (other.ratio or 0))
    # The bootstrap's ends, with 60 runs, are drawn anew.
    assert one.ratio_lo == pytest.approx(1 / (other.ratio_hi or 0), rel=1e-9 if n < 50 else 2e-4)
    assert one.p == pytest.approx(other.p)
    assert one.detectable == pytest.approx(other.detectable)


def test_another_unit_of_energy_changes_no_ratio() -> None:
    a, b = two([1000.0, 1020.0, 990.0], [900.0, 940.0, 910.0])
    small = tuple(
        Group(g.label, tuple({**r, "energy_j": r["energy_j"] * 1e-9} for r in g.runs)) for g in (a, b)
    )
    one, other = (of(compare(g, on_one_board(g)), "energy") for g in ((a, b), small))
    assert one.ratio_lo == pytest.approx(other.ratio_lo)
    assert one.p == pytest.approx(other.p)


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("eval_loss", "less"),
        ("evalLoss2", "less"),
        ("WER", "less"),
        ("val/err", "less"),
        ("test.RMSE", "less"),
    ]
    + [
        (name, "more")
        for name in ("answer_accuracy", "power_score", "confidence", "inferred_f1", "fidelity", "mAP")
    ],
)
def test_which_way_a_logged_figure_is_better_is_told_by_whole_words(name: str, better: str) -> None:
    assert quality(f"quality:{name}").better == better
