"""`energyprof bench`: which runs it makes, in what order, when it ends, and what is kept when it is broken off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from energyprof import effects, runfolder, selection
from energyprof.compare import compare_stored
from energyprof.launch import bench as benches
from energyprof.launch import plan as plans
from energyprof.launch import stopping
from energyprof.launch.bench import Ended, bench, comparison, prepared
from energyprof.launch.cooling import Cooling, Watch, quiet_of
from energyprof.launch.plan import PlanError, shortest
from energyprof.launch.running import Signals, Told
from energyprof.launch.target import TargetError
from energyprof.reports.bench import CLEAR, Progress, again, alone
from tests.conftest import ROOT
from tests.lab import VirtualHardware
from tests.rows import row, run_id, written

TRUE = f"{sys.executable} -c pass"
WORK = f"{sys.executable} -c 'print(sum(range(8_000_000)))'"
CLI = [sys.executable, "-c", "import sys; from energyprof.cli import main; sys.exit(main())", "bench"]
Out = Path


class World:
    """Programs that cost what they are said to cost: their runs are in the dataset at once.

    `codes` are exit codes of the first runs of each label; `at` is called before each run.
    """

    def __init__(
        self,
        joules: Mapping[str, float],
        noise: float = 0.02,
        codes: Mapping[str, list[int]] | None = None,
        at: Callable[[int], None] = lambda number: None,
    ) -> None:
        self.joules, self.noise, self.codes, self.at = joules, noise, codes or {}, at
        self.ran: list[dict[str, str]] = []
        self._chance = np.random.default_rng(7)

    def __call__(
        self, plan: plans.Plan, arm: int, tags: Mapping[str, str], out: str, signals: Signals
    ) -> Told:
        number = len(os.listdir(Path(out) / "runs/date=2026-11-20")) if (Path(out) / "runs").exists() else 0
        self.ran.append(dict(tags))
        self.at(len(self.ran))
        label = plan.arms[arm].label
        codes = self.codes.get(label)
        code = codes.pop(0) if codes else 0
        joules = self.joules[label] * float(np.exp(self.noise * self._chance.standard_normal()))
        one = row(
            number, name=label, energy_j=joules, duration_s=1.0, tags=json.dumps(dict(tags)),
            status="finished" if code == 0 else "failed",
        )  # fmt: skip
        written(Path(out), [one])
        return Told(code, run_id(number), joules, 1.0, last_line="it broke" if code else "")


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Out:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def made(out: Out, labels: tuple[str, ...] = ("a", "b"), **options: Any) -> plans.Plan:
    options = {"cool_s": 0.0, "seed": 1, **options}
    return prepared([TRUE] * len(labels), str(out), lambda text: None, labels=labels, **options)


def run(plan: plans.Plan, out: Out, world: World) -> tuple[Ended, list[str]]:
    said: list[str] = []
    return bench(plan, str(out), said.append, start=world), said


@pytest.mark.parametrize(
    ("commands", "labels"),
    [
        (["python a.py", "python b.py"], ["a.py", "b.py"]),
        (["python t.py --batch 8", "python t.py --batch 32"], ["batch 8", "batch 32"]),
        (["python t.py", "python t.py --compile"], ["t.py", "t.py --compile"]),
        (["python t.py --lr 1 -q", "python t.py --lr 2 -q"], ["lr 1", "lr 2"]),
        (["./a x", "./b y", "./a y"], ["./a x", "./b y", "./a y"]),
        (["python a.py", "python a.py"], ["a.py", "a.py (2)"]),
        (["python a.py --steps 3"], ["a.py"]),
        (["sleep 0.2", "sleep 0.4"], ["sleep 0.2", "sleep 0.4"]),
        (["./train --steps 3"], ["./train"]),
    ],
)
def test_labels_are_the_shortest_that_tell_commands_apart(commands: list[str], labels: list[str]) -> None:
    assert shortest([command.split() for command in commands]) == labels


def test_every_round_has_every_command_in_an_order_that_the_seed_gives(out: Out) -> None:
    world = World({"a": 100.0, "b": 90.0})
    ended, said = run(made(out, rounds=8, warmup=2), out, world)
    warm, counted = world.ran[:4], world.ran[4:]
    assert [tags["warmup"] for tags in warm] == ["1", "1", "2", "2"]
    assert not any("compared" in tags or "round" in tags for tags in warm)
    assert all("warmup" not in tags for tags in counted)
    pairs = [[tags["arm"] for tags in counted[i : i + 2]] for i in range(0, 16, 2)]
    assert all(sorted(pair) == ["a", "b"] for pair in pairs)
    assert ["a", "b"] in pairs
    assert ["b", "a"] in pairs
    assert [tags["round"] for tags in counted] == [str(1 + i // 2) for i in range(16)]
    assert len(ended.runs) == 16
    assert ended.state == "done"
    again = World({"a": 100.0, "b": 90.0})
    run(made(out, rounds=8, warmup=2, fresh=True), out, again)
    assert [tags["arm"] for tags in again.ran] == [tags["arm"] for tags in world.ran]
    assert "order from seed 1" in said[0]


def test_it_ends_in_the_comparison_of_the_runs_that_count(out: Out) -> None:
    ended, _ = run(made(out, rounds=6), out, World({"a": 100, "b": 80}))
    found = comparison(ended, str(out))
    assert [(group.label, len(group.runs)) for group in found.groups] == [("a", 6), ("b", 6)]
    assert found.verdict.startswith("b costs 19.4 % less energy than a")
    assert not any(difference.field == "order" for difference in found.differences)
    groups = selection.select(ended.selectors(), str(out)).groups
    assert [len(group.runs) for group in groups] == [6, 6]


def test_a_label_that_is_a_pattern_means_itself_alone(out: Out) -> None:
    ended, _ = run(made(out, ("a*", "ab", "a[b]"), rounds=2), out, World({"a*": 1, "ab": 2, "a[b]": 3}))
    groups = selection.select(ended.selectors(), str(out)).groups
    assert [(group.label, len(group.runs)) for group in groups] == [("a*", 2), ("ab", 2), ("a[b]", 2)]


def test_a_run_that_fails_is_named_left_out_and_tried_again(out: Out) -> None:
    ended, said = run(made(out, rounds=3), out, World({"a": 1, "b": 2}, codes={"b": [0, 3, 0, -11]}))
    assert ended.state == "done"
    assert len(ended.runs) == 6
    lines = [line for line in said if "failed" in line]
    assert len(lines) == 2
    assert "b" in lines[0]
    assert "exit status 3" in lines[0]
    assert "SIGSEGV" in lines[1]
    assert any(line == "  it broke" for line in said)
    assert [len(ended.of(arm)) for arm in (0, 1)] == [3, 3]


def test_after_some_failures_it_stops_and_what_ran_is_kept(out: Out) -> None:
    world = World({"a": 1, "b": 2}, codes={"b": [0, 1, 1, 1, 1]})
    plan = made(out, rounds=3)
    ended, _ = run(plan, out, world)
    assert ended.state == benches.FAILURES
    assert ended.why == "3 runs failed"
    assert len(benches.stored(str(out), plan)) == len(ended.runs) <= 1
    with pytest.raises(ValueError, match="no run of b"):
        comparison(ended, str(out))


def test_it_stops_when_intervals_are_narrow_twice_running_and_says_what_that_means(out: Out) -> None:
    ended, _ = run(made(out, rounds=40, until=0.02), out, World({"a": 100, "b": 90}, noise=0.005))
    assert ended.narrow
    assert len(ended.of(0)) == stopping.FIRST + stopping.IN_A_ROW - 1
    assert stopping.NOTE in comparison(ended, str(out)).notes
    noisy, _ = run(made(out, rounds=8, until=0.02), out, World({"a": 100, "b": 90}, noise=0.2))
    assert not noisy.narrow
    assert len(noisy.of(0)) == 8
    assert stopping.NOTE not in comparison(noisy, str(out)).notes


def test_the_width_is_that_of_the_comparison() -> None:
    chance = np.random.default_rng(3)
    base, other = 100 * np.exp(chance.normal(0, 0.02, 7)), 90 * np.exp(chance.normal(0, 0.02, 7))
    found = effects.difference(np.log(base), np.log(other))
    width = stopping.half_width(list(base), list(other))
    assert width == pytest.approx((np.exp(found.hi) - np.exp(found.lo)) / 2)
    rounds = list(zip(base.tolist(), other.tolist()))
    assert width == stopping.widest([base.tolist(), other.tolist()])
    assert stopping.widest([[1.0, 1.0, 1.0]]) == 0.0
    assert stopping.widest([[1.0], [1.0]]) is None
    assert stopping.half_width([1.0, 0.0], [1.0, 1.0]) is None
    assert not stopping.enough(rounds[:5], 1.0)
    assert stopping.enough(rounds[:6], 1.0)


def test_a_budget_ends_it(out: Out) -> None:
    run(
        made(out, rounds=2, seed=9), out, World({"a": 1, "b": 2})
    )  # loads what the first run of a process loads
    world = World({"a": 1, "b": 2}, at=lambda number: time.sleep(0.2))
    ended, _ = run(made(out, rounds=50, warmup=0, budget_s=3.0), out, world)
    assert ended.state == "done"
    assert "budget" in ended.why
    assert 2 <= len(ended.of(0)) < 20


def test_the_first_round_is_whole_however_short_the_budget(out: Out) -> None:
    world = World({"a": 1, "b": 2}, at=lambda number: time.sleep(0.05))
    ended, _ = run(made(out, rounds=50, warmup=1, budget_s=0.01), out, world)
    assert [len(ended.of(arm)) for arm in (0, 1)] == [1, 1]
    assert "budget" in ended.why
    assert comparison(ended, str(out)).verdict.startswith("too few runs to tell")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell that starts the tests in the background has SIGINT ignored, and what is ignored stays so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_signal_ends_it_and_the_same_bench_goes_on_where_it_was(out: Out) -> None:
    def interrupt(number: int) -> None:
        if number == 5:
            os.kill(os.getpid(), signal.SIGINT)

    plan = made(out, rounds=4, warmup=0)
    ended, _ = run(plan, out, World({"a": 1, "b": 2}, at=interrupt))
    assert (ended.state, ended.signal, len(ended.runs)) == ("interrupted", signal.SIGINT, 4)
    assert len(ended.left_out) == 1  # it ended well, but a signal had come
    assert made(out, rounds=4, warmup=0, seed=2).bench_id != plan.bench_id
    assert made(out, rounds=5, warmup=0).bench_id != plan.bench_id
    assert made(out, rounds=4, warmup=0, fresh=True).bench_id != plan.bench_id
    said: list[str] = []
    again = prepared([TRUE] * 2, str(out), said.append, labels=("a", "b"), rounds=4, warmup=0, cool_s=0.0)
    assert again == plan
    assert f"going on with bench {plan.bench_id}" in said[0]
    world = World({"a": 1, "b": 2})
    whole, told = run(again, out, world)
    assert len(world.ran) == 4
    assert len(whole.runs) == 8
    assert any("4 of 8 runs are there already" in line for line in told)
    found = comparison(whole, str(out))
    assert [len(group.runs) for group in found.groups] == [4, 4]
    by_hand = compare_stored([f"compared={plan.bench_id}/a", f"compared={plan.bench_id}/b"], str(out))
    assert [len(group.runs) for group in by_hand.groups] == [4, 4]
    assert any("1 of a bench that was interrupted meanwhile (--all" in note for note in by_hand.notes)
    assert made(out, rounds=4, warmup=0).bench_id != plan.bench_id  # it has ended


@pytest.mark.usefixtures("interruptible")
def test_nothing_is_said_on_the_line_of_the_run_at_hand(out: Out) -> None:
    seen: list[str] = []
    progress = Progress(lambda text: seen.append(f"{text}\n"), seen.append)
    world = World({"a": 1, "b": 2}, at=lambda number: os.kill(os.getpid(), signal.SIGINT))
    bench(made(out, rounds=2, cool_s=None), str(out), lambda text: seen.append(f"{text}\n"), progress, world)
    before = "\n"
    for text in seen:
        assert text.startswith(("\r", "\n")) or before.endswith(("\n", CLEAR))
        before = text
    assert seen[-1] == CLEAR


def test_a_bench_that_has_ended_takes_more_rounds_and_says_so(out: Out) -> None:
    plan = made(out, rounds=2, warmup=0)
    run(plan, out, World({"a": 1, "b": 2}))
    said: list[str] = []
    more = prepared([], str(out), said.append, resume=plan.bench_id[:5], rounds=4)
    assert more.bench_id == plan.bench_id
    assert "after their runs were seen" in said[0]
    world = World({"a": 1, "b": 2})
    ended, _ = run(more, out, world)
    assert len(world.ran) == 4
    assert len(ended.runs) == 8


def test_an_edited_script_is_another_bench(out: Out, tmp_path: Path) -> None:
    script = tmp_path / "a.py"
    script.write_text("pass")
    one, two, three = (_of_script(out, text) for text in ("pass", "pass", "import os"))
    plans.save(str(out), one, plans.INTERRUPTED)
    assert one.same_work(two)
    assert not one.same_work(three)
    said: list[str] = []
    prepared([], str(out), said.append, resume=one.bench_id)
    assert said == [f"warning: a file that bench {one.bench_id} names has changed since"]


def _of_script(out: Out, text: str) -> plans.Plan:
    Path("a.py").write_text(text)
    return prepared(["python a.py"], str(out), lambda text: None, seed=1)


def test_nobody_works_on_a_bench_twice_at_once(out: Out) -> None:
    plan = made(out, rounds=2)
    plans.save(str(out), plan, plans.RUNNING)
    lock = plans.hold(str(out), plan.bench_id)
    assert lock is not None
    assert plans.interrupted(str(out), plan) is None
    with lock, pytest.raises(PlanError, match="running already"):
        run(plan, out, World({}))
    assert plans.interrupted(str(out), plan) == plan.bench_id


def test_inside_a_measured_run_it_is_refused(out: Out, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runfolder.ENVIRONMENT, str(out))
    with pytest.raises(PlanError, match="start it outside"):
        run(made(out), out, World({}))


def test_a_command_that_is_not_there_is_found_before_anything_runs(out: Out) -> None:
    with pytest.raises(TargetError) as fault:
        prepared([TRUE, "no-such-command x"], str(out), lambda text: None)
    assert fault.value.code == 127
    assert not out.exists()


def test_times_are_read_as_people_write_them() -> None:
    assert [plans.seconds(text) for text in ("30min", "90s", "1.5h", "45", "2 m")] == [
        1800,
        90,
        5400,
        45,
        120,
    ]


def test_a_machine_has_settled_near_what_it_drew_before() -> None:
    assert quiet_of([100.0, 100.0, 100.0]).limit_w == pytest.approx(105.0)
    assert quiet_of([90.0, 100.0, 110.0]).limit_w == pytest.approx(130.0)  # it varied by itself
    assert quiet_of([100.0]).limit_w == pytest.approx(105.0)


def test_where_models_stand_in_the_wait_is_short_and_said_once() -> None:
    said: list[str] = []
    cooling = Cooling(None, said.append, lambda: False)
    cooling.look()
    begun = time.monotonic()
    cooling.wait()
    assert 0.9 < time.monotonic() - begun < 3.0
    assert len(said) == 1
    assert "--cool" in said[0]


def test_it_waits_until_the_power_is_near_what_it_was_and_no_longer_than_told() -> None:
    class Falling(Watch):
        def __init__(self, *seen: float) -> None:
            self.left = list(seen)

        def watts(self, seconds: float, stop: Callable[[], bool]) -> float | None:
            return self.left.pop(0)

    watch = Falling(180.0, 120.0, 104.0, 100.0)
    Cooling(None, print, lambda: False)._settle(watch, quiet_of([100.0]))
    assert watch.left == [100.0]
    watch = Falling(180.0, 170.0)
    Cooling(None, print, lambda: len(watch.left) < 2)._settle(watch, quiet_of([100.0]))
    assert watch.left == [170.0]


def test_an_old_interruption_is_not_taken_up_by_itself(out: Out) -> None:
    plan = made(out)
    plans.save(str(out), plan, plans.INTERRUPTED)
    assert plans.interrupted(str(out), made(out, fresh=True)) == plan.bench_id
    os.utime(Path(plans.folder_of(str(out), plan.bench_id)) / "plan.json", (0, 0))
    assert plans.interrupted(str(out), made(out, fresh=True)) is None


def test_meters_show_when_the_machine_has_settled(hardware: Callable[..., VirtualHardware]) -> None:
    program = """if True:
        from energyprof.launch.cooling import Quiet, Watch
        watch = Watch()
        assert watch.measures
        print(watch.watts(1.0, lambda: False))
        watch.close()
    """
    machine = hardware(gpus=1, idle_w=70.0)
    environment = {**os.environ, **machine.env, "PYTHONPATH": str(ROOT)}
    said = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    assert float(said.stdout) == pytest.approx(70.0, rel=0.1)


def test_progress_on_a_terminal_replaces_its_line_and_labels_obey_nobody() -> None:
    lines: list[str] = []
    written_: list[str] = []
    progress = Progress(lines.append, written_.append)
    progress.begins("round 1/2", "a\x1b[2J")
    progress.ended("round 1/2", "a\x1b[2J", 12.3, 1.2, None, 75.0)
    progress.ended("round 2/2", "a" * 99, None, None, "below_resolution", 0.0)
    assert written_[0].startswith("\r")
    assert "\x1b[2J" not in written_[0].replace("\x1b[2K", "")
    assert "12.3 J" in lines[0]
    assert "1 min 15 s to go" in lines[0]
    assert "below_resolution" in lines[1]
    assert len(lines[1]) < 100


def test_figures_stand_below_one_another_however_long_the_labels(out: Out) -> None:
    label = "batch-size 32 --steps 12"
    _, said = run(made(out, (label, "a"), rounds=2), out, World({label: 20.0, "a": 40.0}))
    rows = [line for line in said if line.startswith("round")]
    assert len({line.index(" J") for line in rows}) == 1


def test_what_shows_the_runs_again_names_the_dataset_that_was_named() -> None:
    assert (
        again("report", ["compared=1/a", "compared=1/b"])
        == "report:  energyprof report compared=1/a compared=1/b"
    )
    assert again("compare", ["x y"], "/a b").endswith("compare 'x y' --out '/a b'")


def test_one_command_alone_has_a_mean_and_a_spread(out: Out) -> None:
    ended, _ = run(made(out, ("a",), rounds=10), out, World({"a": 100.0}))
    data = benches.as_data(ended)
    joules = data["arms"][0]["energy_j"]
    mean = data["arms"][0]["mean_energy_j"]
    assert mean["mean"] == pytest.approx(np.mean(joules))
    assert mean["u95"] == pytest.approx(2.262157 * np.std(joules, ddof=1) / 10**0.5)
    assert "n = 10" in alone(data)[0]
    assert "vary by" in alone(data)[1]
    single, _ = run(made(out, ("a",), rounds=1, warmup=0), out, World({"a": 100.0}))
    assert "not known" in alone(benches.as_data(single))[0]


@pytest.mark.parametrize("typed", [["python", "a.py"], ["a.py", "python3.11"], ["bash", "a.sh"]])
def test_quotes_that_were_forgotten_are_refused_before_anything_runs(typed: list[str]) -> None:
    with pytest.raises(PlanError, match="quote each command as a whole"):
        plans.arms_of(typed)
