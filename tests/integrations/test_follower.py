"""A profile that callbacks drive, without a framework: what is left open, and what does not come."""

from __future__ import annotations

from pathlib import Path

import energyprof
from tests.conftest import Runner
from tests.test_profiler import settled

FOLLOWER = """
import copy, pickle, time
import energyprof
from energyprof.integrations import follower as module
from energyprof.integrations.follower import Follower

def follower(name="x", ends_surely=True, **options):
    return Follower(name, {"quiet": True, **options}, ends_surely=ends_surely)
"""


def test_a_run_that_nobody_ended_is_closed_by_the_next_or_by_the_programs_end(
    run_python: Runner, tmp_path: Path
) -> None:
    done = run_python(
        FOLLOWER
        + """
one = follower()
for steps in (1, 2, 3):
    one.begin()
    for _ in range(steps):
        one.begin_step()
        one.begin_region("part")
"""
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    settled(tmp_path / "runs")
    runs = energyprof.load(tmp_path / "runs")
    assert runs["status"].tolist() == ["failed"] * 3
    assert runs["steps"].tolist() == [1, 2, 3]


def test_a_training_that_raised_does_not_take_in_the_next_one_or_a_cell(
    run_python: Runner, tmp_path: Path
) -> None:
    done = run_python(
        FOLLOWER
        + """
import threading
other = follower("other thread", ends_surely=False)
begun, over = threading.Event(), threading.Event()
def elsewhere():
    other.begin()
    begun.set()
    over.wait()
    other.end()

for surely in (False, True):
    follower("left", ends_surely=False).begin()
    next_one = follower("next", ends_surely=surely)
    next_one.begin()
    next_one.end()
    print("energy/duration_s" in next_one.figures())
follower("left", ends_surely=False).begin()
module.end_abandoned()
thread = threading.Thread(target=elsewhere)
thread.start()
begun.wait()
module.end_abandoned()  # of this thread alone
over.set()
thread.join()
"""
    )
    assert done.stdout.splitlines() == ["True", "True"], done.stderr
    settled(tmp_path / "runs")
    runs = energyprof.load(tmp_path / "runs")
    left, kept = ("left", "failed"), ("next", "finished")
    pairs = list(zip(runs["name"], runs["status"]))
    assert pairs == [left, kept, left, kept, left, ("other thread", "finished")]


def test_a_stay_that_may_never_end_does_not_hold_the_profile_around_it(run_python: Runner) -> None:
    done = run_python(
        FOLLOWER
        + """
with energyprof.profile("outer", quiet=True) as run:
    inner = follower("inner", ends_surely=False)
    inner.begin()
    inner.begin_step()
    print(inner.figures())
with energyprof.profile("later", quiet=True) as later:
    with later.region("a"):
        inner.end()  # of what is over: nothing of this run
        with later.region("b"):
            time.sleep(0.2)
for one in run, later:
    print(one.result.status, one.result.regions["region"].unique().tolist(), one.result.row["steps"])
"""
    )
    assert done.stdout.splitlines() == ["{}", "finished ['inner'] 1", "finished ['a', 'a/b'] 0"], done.stderr


def test_a_copy_measures_by_itself_and_leaves_the_original_alone(run_python: Runner, tmp_path: Path) -> None:
    done = run_python(
        FOLLOWER
        + """
one = follower(country="FRA")
one.begin()
for two in copy.deepcopy(one), pickle.loads(pickle.dumps(one)):
    two.end()
    two.end_step()
    two.end_region("part")
    print(two.figures())
one.end()
two.begin()
two.end()
"""
    )
    assert done.stdout.splitlines() == ["{}", "{}"], done.stderr
    settled(tmp_path / "runs")
    runs = energyprof.load(tmp_path / "runs")
    assert runs["status"].tolist() == ["finished", "finished"]
    assert runs["intensity_place"].tolist() == ["FRA", "FRA"]


def test_figures_that_do_not_come_in_time_are_one_warning(run_python: Runner) -> None:
    done = run_python(
        FOLLOWER
        + """
module._PATIENCE_S = 0.0
one = follower()
one.begin()
one.end()
print(one.figures())
"""
    )
    assert done.stdout == "{}\n"
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(
        "energyprof: warning: no energy in the log: not sealed after 0 s; try `energyprof show"
    )


def test_a_fault_is_told_once_a_training(run_python: Runner) -> None:
    done = run_python(
        FOLLOWER
        + """
from energyprof.integrations.follower import guarded

class Callback:
    follower = follower()

    @guarded
    def hook(self):
        raise OSError("disk\\nfull")

callback = Callback()
for _ in range(2):
    callback.follower.begin()
    callback.hook()
    callback.hook()
    print(callback.follower.figures())
"""
    )
    line = "energyprof: warning: this training is not measured any further: OSError: disk full"
    assert done.stderr.splitlines() == [line, line]
    assert done.stdout.splitlines() == ["{}", "{}"]


def test_an_end_in_which_something_of_ours_fails_leaves_no_run_open(
    run_python: Runner, tmp_path: Path
) -> None:
    done = run_python(
        FOLLOWER
        + """
class Faulty:
    def close(self):
        raise OSError("no")

one = follower("one")
one.begin()
one._steps = Faulty()
try:
    one.end()
except OSError:
    pass
with energyprof.profile("two", quiet=True):
    pass
"""
    )
    assert (done.returncode, done.stderr) == (0, "")
    settled(tmp_path / "runs")
    assert energyprof.load(tmp_path / "runs")["name"].tolist() == ["one", "two"]
