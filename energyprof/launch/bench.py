"""`energyprof bench`: run commands many times in random order, each run measured and kept, until enough is known.

Every run is in the dataset with the tags bench, arm and round (or warmup); those that count also have
compared=<bench>/<arm>, by which `energyprof compare` finds them. Nothing else has to survive: a bench that was
broken off goes on from its runs.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from energyprof import benches, recovery, runfolder, siting
from energyprof.launch import plan as plans
from energyprof.launch import stopping
from energyprof.launch.cooling import Cooling
from energyprof.launch.plan import DONE, INTERRUPTED, RUNNING, Plan, PlanError
from energyprof.launch.running import Signals, Told, one_run
from energyprof.reports import bench as report

if TYPE_CHECKING:
    from energyprof.comparison import Comparison

Say = Callable[[str], None]
Start = Callable[[Plan, int, Mapping[str, str], str, Signals], Told]
FAILURES = "failures"


@dataclass(frozen=True)
class Run:
    """A run that counts: which command, in which round, and its figures (None: no joules are known)."""

    arm: int
    round: int
    run_id: str
    energy_j: float | None
    duration_s: float


@dataclass(frozen=True)
class Ended:
    """A bench that has stopped: `state` done, interrupted or failures; `why` in words; the signal, if one came."""

    plan: Plan
    state: str
    why: str
    runs: tuple[Run, ...]
    narrow: bool = False
    signal: int = 0
    left_out: tuple[str, ...] = ()

    def of(self, arm: int) -> list[Run]:
        """The runs of one command, in the order of the rounds."""
        return sorted((run for run in self.runs if run.arm == arm), key=lambda run: run.round)

    def selectors(self) -> list[str]:
        """What to give `energyprof compare`: an argument a command."""
        return [self.plan.selector(arm) for arm in range(len(self.plan.arms))]


def prepared(
    texts: Sequence[str],
    out: str,
    tell: Say,
    *,
    labels: Sequence[str] = (),
    shell: bool = False,
    resume: str | None = None,
    fresh: bool = False,
    **options: Any,
) -> Plan:
    """The plan of a bench: a new one, or that of the same bench where it was interrupted.

    Options that are None were not said: then a resumed bench keeps its own.

    Raises
    ------
    PlanError, energyprof.launch.target.TargetError
        The bench cannot be made so; nothing has been started or written.
    """
    told = {name: value for name, value in options.items() if value is not None}
    siting.facts_of_run(dict(told.get("site", {})), tell)  # refused now rather than by the first run
    if resume is not None and fresh:
        raise PlanError("--resume goes on with a bench, and --fresh begins anew: leave one of them out")
    if resume is None:
        made = plans.new(texts, labels, shell=shell, **told)
        before = None if fresh else plans.interrupted(out, made)
        if before is None:
            return made
        known = plans.load(out, before)[0]
        if "seed" in told and told["seed"] != known.seed:
            return made
        tell(f"going on with bench {before}, which was interrupted (--fresh begins anew)")
        return known
    if texts or labels or shell or "seed" in told or "warmup" in told or told.get("site"):
        raise PlanError("--resume takes the commands and how they run from the bench; leave them out")
    known, _, _ = plans.load(out, resume)
    told.pop("site", None)
    if told.get("rounds", known.rounds) > known.rounds:
        tell("more rounds after their runs were seen: intervals hold a little less often than they say")
    if plans.digest_of_arms(known) != known.digest:
        tell(f"warning: a file that bench {known.bench_id} names has changed since")
    if known.node != runfolder.node_name():
        tell(f"warning: bench {known.bench_id} was begun on another machine, {known.node}")
    return plans.checked(replace(known, **told))


def bench(
    plan: Plan,
    out: str,
    tell: Say = lambda text: None,
    progress: report.Progress | None = None,
    start: Start = one_run,
) -> Ended:
    """Run the plan, or what is left of it. `start` makes one run.

    Raises
    ------
    PlanError
        Somebody works on this bench already, or this is inside a measured run.
    OSError
        The dataset cannot be written.
    """
    if os.environ.get(runfolder.ENVIRONMENT):
        raise PlanError("a bench inside a measured run would measure nothing; start it outside")
    left_out = sorted(benches.left_out(out, plan.bench_id))
    plans.save(out, plan, RUNNING, left_out)
    lock = plans.hold(out, plan.bench_id)
    if lock is None:
        raise PlanError(f"bench {plan.bench_id} is running already")
    with lock, Signals() as signals:
        return _Bench(plan, out, tell, progress or report.Progress(tell), start, signals, left_out).run()


class _Bench:
    def __init__(
        self,
        plan: Plan,
        out: str,
        tell: Say,
        progress: report.Progress,
        start: Start,
        signals: Signals,
        left_out: list[str],
    ) -> None:
        self._plan, self._out, self._progress = plan, out, progress
        self._start, self._signals, self._left_out = start, signals, left_out
        self._said: set[str] = set()
        self._tell_all = tell
        self._runs: list[Run] = []
        self._failures = 0
        self._cooling = Cooling(plan.cool_s, self._tell, signals.stopped)
        self._begun = time.monotonic()
        self._spent: list[float] = []  # seconds of the rounds of this sitting
        self._warm = False

    def run(self) -> Ended:
        _wait_for_stragglers(self._out, self._plan.bench_id, self._tell, self._signals)
        recovery.recover(self._out)
        self._runs = stored(self._out, self._plan, self._left_out)
        self._progress.opens(as_data(Ended(self._plan, RUNNING, "", tuple(self._runs))), len(self._runs))
        state, why, narrow = INTERRUPTED, "interrupted", False
        try:
            state, why, narrow = self._rounds()
        finally:
            self._progress.clear()
            plans.save(self._out, self._plan, state, self._left_out)
        return Ended(
            self._plan, state, why, tuple(self._runs), narrow, self._signals.last, tuple(self._left_out)
        )

    def _rounds(self) -> tuple[str, str, bool]:
        """All rounds that are due; the state, why it ended, and whether that was because enough is known."""
        plan = self._plan
        for number in range(1, plan.rounds + 1):
            due = [arm for arm in plan.order(str(number)) if not self._has(number, arm)]
            if self._narrow(number - 1):
                assert plan.until is not None
                return DONE, f"the interval is within ±{100 * plan.until:g} % after {number - 1} rounds", True
            if due and self._over_budget():
                return DONE, f"the budget has ended after {number - 1} of {plan.rounds} rounds", False
            begun = time.monotonic()
            if due and not self._warm:
                self._cooling.look()
                self._warm = True
                if not all(
                    self._counted(arm, 0, k)
                    for k in range(1, plan.warmup + 1)
                    for arm in plan.order(f"warmup {k}")
                ):
                    return self._stopped()
                begun = time.monotonic()
            if not all(self._counted(arm, number) for arm in due):
                return self._stopped()
            if len(due) == len(plan.arms):
                self._spent.append(time.monotonic() - begun)
        return DONE, "all its rounds have run", False

    def _has(self, number: int, arm: int) -> bool:
        return any(run.round == number and run.arm == arm for run in self._runs)

    def _stopped(self) -> tuple[str, str, bool]:
        if self._signals.last:
            return INTERRUPTED, "interrupted", False
        if self._failures >= self._plan.failures:
            return FAILURES, f"{_runs(self._failures)} failed", False
        return DONE, f"the budget has ended after {_runs(len(self._runs))}", False

    def _over_budget(self) -> bool:
        """Whether the time is over, or would be before the next round has ended."""
        if self._plan.budget_s is None:
            return False
        spent = time.monotonic() - self._begun
        return spent + (sum(self._spent) / len(self._spent) if self._spent else 0.0) > self._plan.budget_s

    def _narrow(self, whole: int) -> bool:
        """Whether the joules of the first `whole` rounds are enough."""
        if self._plan.until is None:
            return False
        rounds = [
            [run.energy_j for run in sorted(self._runs, key=lambda run: run.arm) if run.round == number]
            for number in range(1, whole + 1)
        ]
        known = [[j for j in joules if j is not None] for joules in rounds]
        known = [joules for joules in known if len(joules) == len(self._plan.arms)]
        if whole and len(known) < whole:
            self._tell("not every run has joules: --until looks at those that have")
        return stopping.enough(known, self._plan.until)

    def _counted(self, arm: int, number: int, warmup: int = 0) -> bool:
        """One run that ends well, tried again where it fails; whether there was one."""
        while not self._signals.last and self._failures < self._plan.failures:
            budget = self._plan.budget_s
            # The first round is made whole: half of one compares nothing.
            if budget is not None and number > 1 and time.monotonic() - self._begun > budget:
                return False
            if self._once(arm, number, warmup):
                return True
        return False

    def _once(self, arm: int, number: int, warmup: int) -> bool:
        plan = self._plan
        tags = {"bench": plan.bench_id, "arm": plan.arms[arm].label}
        if warmup:
            tags["warmup"] = str(warmup)
        else:
            tags |= {"round": str(number), "compared": plan.selector(arm).partition("=")[2]}
        where = f"warm-up {warmup}/{plan.warmup}" if warmup else f"round {number}/{plan.rounds}"
        self._progress.begins(where, plan.arms[arm].label)
        begun = time.monotonic()
        told = self._start(plan, arm, tags, self._out, self._signals)
        for line in told.said:
            self._tell(line)
        if told.wrong:
            raise PlanError(told.problem)
        if self._signals.last:
            if told.code == 0 and told.run_id and not warmup:
                self._left_out.append(told.run_id)  # it may have ended because of the signal
            return False
        if told.code != 0 or told.run_id is None:
            self._failures += 1
            self._progress.failed(where, plan.arms[arm].label, told.ending(), told.last_line, told.errors)
            return False
        if not warmup:
            self._runs.append(Run(arm, number, told.run_id, told.energy_j, told.duration_s or 0.0))
        self._cool()
        self._progress.ended(
            where, plan.arms[arm].label, told.energy_j, told.duration_s, told.reason,
            self._left_s(time.monotonic() - begun),
        )  # fmt: skip
        return True

    def _cool(self) -> None:
        if len(self._runs) < self._plan.rounds * len(self._plan.arms):  # nothing comes after the last one
            self._cooling.wait()

    def _left_s(self, last_s: float) -> float:
        """About how long it will take yet: as long a run as so far; less where the budget ends before."""
        plan = self._plan
        counts = plan.rounds * len(plan.arms) - len(self._runs)
        a_run = sum(self._spent) / len(self._spent) / len(plan.arms) if self._spent else last_s
        left = counts * a_run
        if plan.budget_s is None:
            return left
        return max(0.0, min(left, plan.budget_s - (time.monotonic() - self._begun)))

    def _tell(self, text: str) -> None:
        """The same thing once, however many runs say it."""
        if text not in self._said:
            self._said.add(text)
            self._progress.clear()
            self._tell_all(text)


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"


def stored(out: str, plan: Plan, left_out: Sequence[str] = ()) -> list[Run]:
    """The runs of a bench that count, as the dataset has them."""
    from energyprof import store

    columns = ("run_id", "status", "tags", "energy_j", "duration_s")
    arms = {plan.selector(arm).partition("=")[2]: arm for arm in range(len(plan.arms))}
    found: list[Run] = []
    for row in store.read(store.files(out, "runs"), "runs", columns=columns).rows:
        tags = json.loads(row["tags"] or "{}")
        arm = arms.get(str(tags.get("compared")))
        if arm is None or row["status"] != "finished" or row["run_id"] in left_out:
            continue
        found.append(Run(arm, int(tags["round"]), row["run_id"], row["energy_j"], row["duration_s"]))
    return found


def _wait_for_stragglers(out: str, bench_id: str, tell: Say, signals: Signals) -> None:
    """A bench that was killed may have left its last run going: two at once would disturb each other."""
    while not signals.last and any(_going(folder, bench_id) for folder in runfolder.open_runs(out)):
        tell("waiting for the run that the interrupted bench has left behind")
        time.sleep(0.1)


def _going(folder: str, bench_id: str) -> bool:
    try:
        mine = runfolder.facts_of(folder).get("tags", {}).get("bench") == bench_id
        return mine and not recovery.abandoned(folder)
    except (OSError, ValueError):
        return False


def comparison(ended: Ended, out: str) -> Comparison:
    """The comparison in which a bench of several commands ends.

    Raises
    ------
    ValueError
        A command has no run that counts.
    """
    from energyprof.compare import compare_stored

    empty = [one.label for arm, one in enumerate(ended.plan.arms) if not ended.of(arm)]
    if empty:
        raise ValueError(f"no run of {', '.join(empty)} counts: there is nothing to compare")
    found = compare_stored(ended.selectors(), out)
    return replace(found, notes=(*found.notes, stopping.NOTE)) if ended.narrow else found


def as_data(ended: Ended) -> dict[str, Any]:
    """A bench for machines, without its comparison."""
    arms = []
    for number, arm in enumerate(ended.plan.arms):
        runs = ended.of(number)
        joules = [run.energy_j for run in runs if run.energy_j is not None]
        seconds = [run.duration_s for run in runs]
        arms.append(
            {
                "label": arm.label,
                "command": arm.text,
                "runs": [run.run_id for run in runs],
                "energy_j": [run.energy_j for run in runs],
                "duration_s": seconds,
                "mean_energy_j": _mean(joules),
                "mean_duration_s": _mean(seconds),
            }
        )
    plan = ended.plan
    return {
        "id": plan.bench_id, "seed": plan.seed, "rounds": plan.rounds, "warmup": plan.warmup, "until": plan.until,
        "budget_s": plan.budget_s, "state": ended.state, "why": ended.why, "stopped_by_width": ended.narrow,
        "arms": arms,
    }  # fmt: skip


def _mean(values: Sequence[float]) -> dict[str, float | int | None]:
    """A mean with the half-width of its 95 % interval."""
    if not values:
        return {"n": 0, "mean": None, "u95": None}
    mean, half = stopping.mean_interval(values)
    return {"n": len(values), "mean": mean, "u95": half}
