"""Names that cannot matter make no difference: simulated runs by the dozen, and the self-test end to end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from energyprof.placebo import Difference, Verdict, difference, placebos, renamed, shuffled
from energyprof.reports import meters as words
from tests.conftest import ROOT, Runner
from tests.lab import VirtualHardware
from tests.simulate import world

SEEDS = 20
ENOUGH = 18  # nine in ten of the 95 % intervals: right ones hold so often in 92 of 100 such tests


def runs(**options: Any) -> list[tuple[Any, np.random.Generator]]:
    return [
        (world(np.random.default_rng(s), **options), np.random.default_rng(s + 1000)) for s in range(SEEDS)
    ]


@pytest.mark.parametrize(
    "options",
    [{"lag_s": 0.02}, {"power_cv": 0.2}, {"drift": lambda share: 1 - 0.3 * share, "seconds": 5.0}],
    ids=["lag", "noisy calls", "drift"],
)
def test_one_region_under_two_random_names_costs_the_same_within_the_interval(
    options: dict[str, Any],
) -> None:
    hits = 0
    for run, chance in runs(**options):
        line, other = renamed(run.line, 0, chance)
        hits += difference(line, run.ticks, 0, other)[0].agrees
    assert hits >= ENOUGH


def test_shuffled_marks_make_no_difference_within_the_interval() -> None:
    hits = sum(
        difference(shuffled(run.line, chance), run.ticks, 0, 1)[0].agrees for run, chance in runs(lag_s=0.01)
    )
    assert hits >= ENOUGH


def test_a_difference_that_is_there_is_found_with_its_interval() -> None:
    hits = 0
    for seed in range(12):
        run = world(np.random.default_rng(seed), lag_s=0.01)
        found, _ = difference(run.line, run.ticks, 0, 1)
        spans = np.diff(run.line.t_ns) / 1e9
        true = [run.truth_j[k + 1] / spans[run.line.state == k].sum() for k in (0, 1)]
        hits += abs(found.watts - (true[0] - true[1])) < found.u95_w
        assert not found.agrees
        assert found.mean_w == pytest.approx(330.0, rel=0.03)
    assert hits >= 10


def test_renaming_and_shuffling_keep_what_must_stay() -> None:
    run = world(np.random.default_rng(3), seconds=3.0)
    line, other = renamed(run.line, 0, np.random.default_rng(1))
    calls = [np.count_nonzero(line.state == state) for state in (0, other)]
    assert calls[1] == np.count_nonzero(run.line.state == 0) // 2
    assert sum(calls) == np.count_nonzero(run.line.state == 0)
    mixed = shuffled(run.line, np.random.default_rng(1))
    assert (mixed.t_ns[0], mixed.t_ns[-1]) == (run.line.t_ns[0], run.line.t_ns[-1])
    for state in run.states:
        spans = [np.sort(np.diff(part.t_ns)[part.state == state]) for part in (run.line, mixed)]
        assert np.array_equal(*spans)
    assert not np.array_equal(mixed.state, run.line.state)


def test_a_verdict_allows_what_chance_does_and_no_more() -> None:
    right, wrong = Difference(1.0, 2.0, 100.0), Difference(3.0, 2.0, 100.0)
    assert Verdict([right] * 8 + [wrong] * 2, [right] * 10).passed
    assert not Verdict([right] * 5 + [wrong] * 5, [right] * 10).passed
    assert not Verdict([right] * 10, [right] * 5 + [wrong] * 5).passed


def test_too_few_ticks_or_calls_give_no_verdict() -> None:
    run = world(np.random.default_rng(1), seconds=1.0)
    assert placebos(run.line, run.ticks, 0, 1, 2, seed=1) is None
    run = world(np.random.default_rng(1), durations_s=(0.4, 0.5), seconds=5.0)
    assert placebos(run.line, run.ticks, 0, 1, 2, seed=1) is None


# --- end to end ------------------------------------------------------------------------------------------

# The program of the self-test, on a board whose power follows it.
PROGRAM = f"""
import random, sys, time
sys.path[:0] = [{str(ROOT)!r}]
import energyprof
from energyprof.burst import GPU, REST
from tests.lab.truth import Truth
truth = Truth.from_environment()
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    for name, watts, lasts in ((GPU, 600.0, random.uniform(0.03, 0.07)), (REST, 90.0, random.uniform(0.02, 0.05))):
        with energyprof.region(name):
            truth.set_power("gpu:0", watts)
            time.sleep(lasts)
"""


@pytest.mark.alone
def test_the_self_test_passes_on_a_board_whose_power_follows_the_work(
    hardware: Callable[..., VirtualHardware], run_python: Runner, tmp_path: Any
) -> None:
    program = tmp_path / "burst.py"
    program.write_text(PROGRAM)
    code = (
        "import json, sys\n"
        "from energyprof import selftest\n"
        f"selftest.command = lambda module, *arguments: [{sys.executable!r}, {str(program)!r}, *arguments]\n"
        "print(json.dumps(selftest.self_test()))\n"
    )
    done = run_python(code, env={**hardware().env, "CUDA_VISIBLE_DEVICES": "0"})
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    gpu = next(row for row in report["meters"] if row["channel"] == "gpu:0")
    assert gpu["passed"] is True
    assert report["calls"] > 80
    assert np.mean([d["mean_w"] for d in gpu["names"]]) == pytest.approx(600.0, rel=0.1)
    assert np.median([d["u95_w"] for d in gpu["names"]]) < 120.0
    assert any("gpu:0" in line and "passed" in line for line in words.tested(report))


@pytest.mark.alone
def test_doctor_self_test_prints_a_verdict_and_exits_by_it(
    hardware: Callable[..., VirtualHardware], energyprof_cli: Runner
) -> None:
    machine = hardware(gpus=0, rapl=("package-0",))
    done = energyprof_cli("doctor", "--self-test", env=machine.env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hashing on one processor" in done.stdout
    assert done.stdout.splitlines()[-1] == "passed: names that cannot matter make no difference"
    both = energyprof_cli("doctor", "--self-test", "--calibrate")
    assert (both.returncode, both.stderr.count("\n")) == (2, 1)


def test_a_self_test_that_fails_says_so() -> None:
    row = {"agrees": False, "u95_w": 1.0, "mean_w": 100.0}
    meter = {"channel": "gpu:0", "method": "counter", "passed": False, "names": [row], "shuffles": [row]}
    report = {"work": "hashing", "calls": 100, "meters": [meter], "passed": False}
    lines = words.tested(report)
    assert "0 of 1 agree" in lines[3]
    assert lines[-1].startswith("failed: ")
    assert (
        words.tested({**report, "meters": []})[-1]
        == "failed: no meter and no model gave ticks enough to test"
    )
