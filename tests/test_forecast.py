"""The forecast of a whole training: its interval against simulated trainings, and its way from a loop to a page."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import energyprof
from energyprof import live, profiler, settings
from energyprof.cli import main
from energyprof.drift import mean_of_the_rest
from energyprof.forecast import Amount, Forecast, forecast, plan_of
from energyprof.forecasting import outer, seconds_inside
from energyprof.journal import Journal, events
from energyprof.marks import _HEADER, _MAGIC, OF_TOTAL
from energyprof.reasons import FEW_STEPS
from energyprof.reports.emissions import ahead as told
from energyprof.reports.numbers import ranged
from energyprof.seal import seal
from energyprof.session import Session
from tests.folders import COUNTER
from tests.trainings import FAMILIES, Training, steady, warm_up

EACH = 12
_PID, _BASE_NS = 4242, 10**12


def made(cycle_s: Any, watts: float = 100.0) -> Training:
    cycle_s = np.asarray(cycle_s, float)
    return Training(cycle_s, cycle_s * watts)


def known(amount: Amount | None) -> Amount:
    assert amount is not None
    return amount


def test_the_interval_covers_nine_trainings_of_ten_after_a_twentieth_of_their_steps() -> None:
    covered, widths, ours, means = [], [], [], []
    for number, family in enumerate(FAMILIES):
        for draw in range(EACH):
            training = family(np.random.default_rng([2026, number, draw]))
            found = known(training.after(0.05).energy_j)
            covered.append(found.lo <= training.total_j <= found.hi)
            widths.append((found.hi - found.lo) / 2 / training.total_j)
            ours.append(abs(found.value / training.total_j - 1))
            means.append(abs(training.by_the_mean(0.05) / training.total_j - 1))
    assert 0.85 <= np.mean(covered) <= 0.95
    assert np.median(widths) < 0.08
    assert np.mean(ours) < np.mean(means) / 2


def test_the_interval_narrows_as_steps_pass() -> None:
    for family in (steady, warm_up):
        training = family(np.random.default_rng(5))
        widths = []
        for share in (0.02, 0.1, 0.3, 0.6, 0.9):
            found = known(training.after(share).energy_j)
            widths.append((found.hi - found.lo) / training.total_j)
        assert widths == sorted(widths, reverse=True)
        assert widths[-1] < 0.01


def test_first_steps_that_are_slow_happen_once() -> None:
    cycle_s = np.full(2000, 0.1)
    cycle_s[0], cycle_s[1:8] = 60.0, 0.4
    training = made(cycle_s)
    found = known(training.after(0.05).duration_s)
    assert found.value == pytest.approx(training.total_s, rel=0.01)
    assert training.by_the_mean(0.05) > 5 * training.total_j


@pytest.mark.parametrize("first", [0, 1])
def test_evaluations_come_again_at_their_spacing(first: int) -> None:
    cycle_s = np.full(5000, 0.1)
    cycle_s[100 - first :: 100] += 4.0
    training = made(cycle_s)
    found = known(training.after(0.0598).duration_s)  # 298 steps: two were seen, and the third is due
    assert found.value == pytest.approx(training.total_s, rel=0.015)


def test_a_pause_that_did_not_come_again_when_it_was_due_is_no_habit() -> None:
    cycle_s = np.full(2000, 0.1)
    cycle_s[30] = 20.0
    found = known(made(cycle_s).after(0.2).duration_s)
    assert found.value < 220 + 20 * 8  # at every 31st step there would be 64 more of them
    assert found.lo <= cycle_s.sum() <= found.hi


def test_long_steps_that_are_many_are_what_steps_are_like() -> None:
    cycle_s = np.full(4000, 0.1)
    cycle_s[::5] = 0.5
    begin_s = np.concatenate(([0.0], np.cumsum(cycle_s[:400])))
    plan = plan_of(begin_s)
    assert plan is not None
    assert plan.events == ()
    found = known(made(cycle_s).after(0.1).duration_s)
    assert found.value == pytest.approx(cycle_s.sum(), rel=0.02)


def test_steps_that_something_was_done_to_are_in_no_mean() -> None:
    cycle_s = np.full(200, 0.1)
    cycle_s[40:60] = 0.25
    begin_s = np.concatenate(([0.0], np.cumsum(cycle_s)[:-1]))
    timed = (np.arange(200) >= 40) & (np.arange(200) < 60)
    with_them = forecast(begin_s, 4000, begin_s[-1], None, lambda which: begin_s[which])
    without = forecast(begin_s, 4000, begin_s[-1], None, lambda which: begin_s[which], left_out=timed)
    assert known(without.duration_s).value == pytest.approx(3800 * 0.1 + begin_s[-1], rel=0.01)
    assert known(with_them.duration_s).value > known(without.duration_s).value


def test_a_training_that_did_all_its_steps_or_more_costs_what_was_measured() -> None:
    for total in (30, 20):
        found = forecast(np.arange(30.0), total, 30.0, 77.0, lambda which: which * 1.0)
        assert found == Forecast(total, 30, Amount(77.0, 77.0, 77.0), Amount(30.0, 30.0, 30.0))


@pytest.mark.parametrize("steps", [0, 1, 2, 12])
def test_too_few_steps_have_a_reason_and_no_number(steps: int) -> None:
    begin_s = np.arange(float(steps))
    assert forecast(begin_s, 100, 12.0, 5.0, lambda which: begin_s[which]) == Forecast(
        100, steps, reason=FEW_STEPS
    )


def test_joules_that_are_not_known_leave_the_time() -> None:
    begin_s = np.arange(50.0)
    lost = forecast(begin_s, 1000, 50.0, 500.0, lambda which: np.full(len(which), np.nan))
    assert lost.energy_j is None
    assert lost.reason == FEW_STEPS
    assert known(lost.duration_s).value == pytest.approx(1000.0)


def test_steps_without_any_noise_or_cost_are_no_trap() -> None:
    begin_s = np.arange(100.0)
    nothing = forecast(begin_s, 1000, 100.0, 0.0, lambda which: np.zeros(len(which)))
    assert nothing.energy_j is None
    for blocks in (np.ones(4), np.zeros(20)):
        with pytest.raises(ValueError, match="nothing"):
            mean_of_the_rest(blocks, np.arange(len(blocks)) + 0.5, blocks, 1.0, 20.0, 100.0, 20.0)


def test_steps_inside_steps_and_the_time_outside_the_run_do_not_count() -> None:
    begin, end = outer(np.array([0, 10, 2, 4]), np.array([9, 19, 3, 5]))
    assert (begin.tolist(), end.tolist()) == ([0, 10], [9, 19])
    inside = seconds_inside(np.array([0, 5, 15, 25]) * 10**9, [(0, 10 * 10**9), (20 * 10**9, 30 * 10**9)])
    assert inside.tolist() == [0.0, 5.0, 10.0, 15.0]


@pytest.mark.parametrize("total", [0, -3, float("nan"), float("inf"), True, "10", [1], 1.5, 1e13, 10**400])
def test_a_total_without_sense_is_one_line_before_anything_is_iterated(total: Any) -> None:
    touched: list[int] = []
    run = profiler.Run(profiler.profile(quiet=True))  # not entered: it need not be measured
    with pytest.raises(ValueError, match="steps of the whole training") as fault:
        run.steps((touched.append(i) for i in range(3)), total=total)
    assert "\n" not in str(fault.value)
    assert touched == []


def test_a_total_may_be_of_any_whole_number_type() -> None:
    assert [settings.steps_total(n) for n in (7, np.int64(7), 7.0, np.float32(7))] == [7] * 4


@pytest.mark.parametrize("steps", ["0", "-1", "nan", "abc", "2.5", "true", ""])
def test_the_command_refuses_such_a_total_with_exit_status_2(
    steps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    witness = tmp_path / "ran"
    arguments = ["run", "--steps", steps, "--out", str(tmp_path / "out"), "touch", str(witness)]
    monkeypatch.setattr(sys, "argv", ["energyprof", *arguments])
    assert main() == 2
    said = capfd.readouterr().err
    assert "--steps is" in said
    assert said.count("\n") == 1
    assert not witness.exists()


def test_the_last_of_several_totals_holds_and_one_warning_says_so(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = profiler.Run(profiler.profile(quiet=True))
    run._session = Session(str(tmp_path), "own")
    for total in (100, 100, 200, 100):
        assert list(run.steps(range(3), total=total)) == [0, 1, 2]
    list(run.steps(range(2)))
    run._session.journal.close()
    log = next(tmp_path.glob("program.*.log"))
    assert [e["steps"] for e in events(str(log)) if e["event"] == "total"] == [100, 200, 100]
    assert [e["kind"] for e in events(str(log)) if e["event"] == "path"] == [OF_TOTAL, "step"]
    assert capfd.readouterr().err.count("the last holds") == 1


def folder_of(training: Training, done: int, folder: Path, total: int | None, said: int | None = None) -> str:
    """The folder of a run that was killed after so many steps; the counter ticks ten times a second."""
    folder.mkdir(parents=True)
    begin_s = training.before_s + np.concatenate(([0.0], np.cumsum(training.cycle_s[:done])))
    facts = {
        "run_id": "01930000-0000-7000-8000-00000000000f", "node": "n", "out": str(folder / "out"), "t_ns": _BASE_NS,
        "started_unix_ns": 1_790_000_000_000_000_000, "boot_id": "b", "command": [], "name": "simulated",
        "steps_total": said, "country": "FRA",
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts))
    program = Journal(str(folder / f"program.{_PID}.log"))
    program.event("enter", t=_BASE_NS, pid=_PID, rank=0)
    program.event("path", id=1, parent=0, name="step", kind="step" if total is None else OF_TOTAL)
    if total is not None:
        program.event("total", steps=total)
    program.close()
    at_ns = _BASE_NS + (begin_s * 1e9).astype(np.int64)
    rows = np.column_stack((np.ones(done, np.int64), at_ns[:-1], at_ns[1:] - 50_000))
    (folder / f"marks.{_PID}.77.0").write_bytes(_HEADER.pack(_MAGIC, 0, 77, 0) + rows.tobytes())
    meter = Journal(str(folder / f"meter.{_PID}.log"))
    meter.event("meter", pid=_PID, channels=[dataclasses.asdict(COUNTER)], followed=[0], missing=[])
    reached = training.before_j + np.concatenate(([0.0], np.cumsum(training.cycle_j[:done])))
    ticks_s = np.arange(0.0, begin_s[-1], 0.1)
    value = (1e6 * np.interp(ticks_s, [0.0, *begin_s], [0.0, *reached])).astype(np.int64)
    for t_ns, before, after in zip(_BASE_NS + (ticks_s * 1e9).astype(np.int64), [0, *value], value):
        meter.reading(0, int(t_ns) - 3_000_000, int(t_ns) - 2_000_000, int(before))
        meter.reading(0, int(t_ns) + 2_000_000, int(t_ns) + 3_000_000, int(after))
    meter.close()
    return str(folder)


@pytest.fixture(scope="module")
def training() -> Training:
    random = np.random.default_rng(9)
    cycle_s = 0.1 * (1 + 0.05 * random.standard_normal(3000))
    cycle_s[0] = 3.0
    return Training(cycle_s, 400.0 * cycle_s, 2.0, 200.0)


@pytest.mark.parametrize(("by_api", "by_option"), [(3000, None), (None, 3000), (3000, 77)])
def test_a_run_that_was_killed_is_stored_with_the_forecast_of_the_whole(
    training: Training, tmp_path: Path, by_api: int | None, by_option: int | None
) -> None:
    seal(folder_of(training, 300, tmp_path / "run", by_api, by_option))
    row = energyprof.load(tmp_path / "run" / "out").iloc[0]
    assert (row["status"], row["steps_total"], row["steps_done"], row["steps"]) == ("killed", 3000, 300, 300)
    assert row["forecast_energy_j"] == pytest.approx(training.total_j, rel=0.03)
    assert row["forecast_lo_j"] < training.total_j < row["forecast_hi_j"]
    assert row["forecast_duration_lo_s"] < training.total_s < row["forecast_duration_hi_s"]
    grams = row["forecast_energy_j"] / row["energy_j"] * row["co2e_g"]
    assert row["forecast_co2e_g"] == pytest.approx(grams)
    for end, joules in (("lo", "forecast_lo_j"), ("hi", "forecast_hi_j")):
        ahead, part = (
            np.log(row[joules] / row["forecast_energy_j"]),
            np.log(row[f"co2e_{end}_g"] / row["co2e_g"]),
        )
        found = np.log(row[f"forecast_co2e_{end}_g"] / grams)
        assert abs(found) == pytest.approx(np.hypot(ahead, part))
    line = told(row.astype(object).where(row.notna(), None).to_dict())
    assert "for all 3,000 steps; 10 % done" in line
    assert "kJ by these meters" in line
    assert "g CO2e, 5 min " in line


def test_a_run_whose_grams_cannot_be_worked_out_is_stored_with_its_forecast(
    training: Training, tmp_path: Path
) -> None:
    folder = Path(folder_of(training, 300, tmp_path / "run", 3000))
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**facts, "site": ["FRA"]}))
    seal(str(folder))
    row = energyprof.load(folder / "out").iloc[0]
    assert row["forecast_lo_j"] < training.total_j < row["forecast_hi_j"]
    assert row[["co2e_g", "forecast_co2e_g"]].isna().all()


def test_without_a_total_there_is_no_forecast(training: Training, tmp_path: Path) -> None:
    seal(folder_of(training, 100, tmp_path / "run", None))
    row = energyprof.load(tmp_path / "run" / "out").iloc[0]
    assert row.filter(regex="forecast|steps_").isna().all()
    assert told({"steps_total": None}) == ""


def test_a_line_says_why_there_is_none_and_when_more_ran_than_was_said() -> None:
    row: dict[str, Any] = {"steps_total": 1000, "steps_done": 3, "forecast_reason": FEW_STEPS}
    columns = ("forecast_energy_j", "forecast_co2e_g", "forecast_duration_s")
    assert told({**row, **dict.fromkeys(columns)}) == "— (few_steps) for all 1,000 steps; 0.3 % done"
    unmarked = told({**row, "steps_done": 0, **dict.fromkeys(columns)})
    assert "the program marks no steps; loop over run.steps(...)" in unmarked
    assert told({**row, "steps_done": 1000}) == ""
    assert told({**row, "steps_done": 1200}).startswith("1,200 steps ran of the 1,000 that were said")


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ((1.2e6, 1.0e6, 1.5e6), "1.20 (1.00 to 1.50) MJ"),
        ((1.2345e6, 1.2e6, 1.26e6), "1.23 (1.20 to 1.26) MJ"),
        ((500.0, 380.0, 640.0), "500 (380 to 640) J"),
        ((2e3, 2e3, 2e3), "2.00 kJ"),
    ],
)
def test_an_interval_has_the_digits_that_it_allows(amount: tuple[float, float, float], text: str) -> None:
    assert ranged(*amount, "J") == text


def test_the_live_line_forecasts_from_what_was_flushed_and_fits_a_terminal(
    training: Training, tmp_path: Path
) -> None:
    folder = Path(folder_of(training, 600, tmp_path / "run", 3000))
    steps, power = live.StepCount(str(folder)), live.Power("")
    steps.look()
    assert (steps.count, steps.total) == (600, 3000)
    power.begun_ns = _BASE_NS
    reached = training.before_j + np.cumsum(training.cycle_j)
    ends_s = training.before_s + np.cumsum(training.cycle_s)
    for second in range(1, 63):
        power._until_ns = _BASE_NS + second * 10**9
        power.joules = float(np.interp(second, [0.0, *ends_s], [0.0, *reached]))
        power._reached.append((power._until_ns, power.joules))
    power.watts = 400.0
    ahead = live.Ahead(None)
    ahead.look(power, steps)
    made = ahead.made
    assert made is not None
    found = known(made.energy_j)
    assert found.lo < training.total_j < found.hi
    shown = live.line(62.0, power, 9.99, made)
    assert "  19 % of 12" in shown
    assert len(shown) < 80
    ahead.look(power, steps)
    assert ahead.made is made  # nothing more has run
