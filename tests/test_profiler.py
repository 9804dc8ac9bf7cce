"""profile() as a user meets it: blocks, decorators, nesting, faults; every test runs a real program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import energyprof
from energyprof import runfolder
from tests.conftest import ROOT, Runner


def settled(out: Path, seconds: float = 20.0) -> None:
    """Wait until no run of the dataset is open any more."""
    deadline = time.monotonic() + seconds
    while runfolder.open_runs(str(out)):
        assert time.monotonic() < deadline, f"still open: {runfolder.open_runs(str(out))}"
        time.sleep(0.05)


def test_a_program_that_ends_before_its_meter_has_started_is_a_finished_run(
    run_python: Runner, tmp_path: Path
) -> None:
    done = run_python("import energyprof\n@energyprof.profile\ndef f(): pass\nf()\n")
    assert (done.returncode, done.stdout) == (0, "")
    deadline = time.monotonic() + 20
    while not (len(rows := energyprof.load(tmp_path / "runs")) or time.monotonic() > deadline):
        time.sleep(0.1)
    assert rows["status"].tolist() == ["finished"]


def test_where_no_interpreter_can_be_started_a_thread_measures(run_python: Runner) -> None:
    done = run_python(
        """
import sys, time, energyprof
sys.executable = "/gone/python"  # an environment that was removed under a long-running program
with energyprof.profile(quiet=True) as run:
    time.sleep(0.5)
print(run.result.row["energy_j"] > 0, "in_process" in run.result.row["flags"])
"""
    )
    assert done.stdout.splitlines() == ["True True"], done.stderr


def test_importing_energyprof_loads_no_numeric_library(run_python: Runner) -> None:
    done = run_python(
        "import sys, energyprof; energyprof.profile; energyprof.region\n"
        "print([m for m in ('numpy', 'pandas', 'torch', 'pyarrow', 'dataclasses', 'pynvml') if m in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_a_run_has_its_joules_regions_steps_counts_and_metrics(run_python: Runner, tmp_path: Path) -> None:
    done = run_python(
        """
import json, time, energyprof
with energyprof.profile("demo", country="FRA", tags={"team": "a"}) as run:
    for _ in run.steps(range(3)):
        with run.region("work"):
            time.sleep(0.3)
    run.count(samples=30, tokens=900)
    run.log(accuracy=0.5)
    run.log(accuracy=0.9)
    try:
        run.result
    except RuntimeError as fault:
        print(fault)
r = run.result
print(json.dumps([r.energy_j, r.u95_j, r.measured_j, r.modelled_j, r.duration_s, r.co2e_g, r.steps.shape[0]]))
print(list(r.channels.columns)); print(list(r.regions.columns)); print(sorted(r.flags))
print(r.regions.query("channel == 'total'").to_json(orient="records"))
"""
    )
    assert done.returncode == 0, done.stderr
    open_text, figures, channels, regions, flags, rows = done.stdout.splitlines()
    assert "leave the `with` block" in open_text
    energy, u95, measured, modelled, duration, grams, steps = json.loads(figures)
    assert energy == pytest.approx(measured + modelled)
    assert 0 < u95 <= 1.2 * energy
    assert duration == pytest.approx(0.9, abs=0.3)
    assert grams == pytest.approx(energy / 3.6e6 * 56.039, rel=1e-6)
    assert steps == 3
    for column in ("channel", "energy_j", "u95_j", "method", "scope", "in_total", "reason"):
        assert column in channels
    for column in ("region", "channel", "calls", "duration_s", "energy_j", "u95_j", "method", "reason"):
        assert column in regions
    assert "assumed_location" not in flags
    (row,) = json.loads(rows)
    assert (row["region"], row["calls"]) == ("work", 3)
    runs = energyprof.load(tmp_path / "runs")
    assert runs["samples"].tolist() == [30]
    assert runs["tokens"].tolist() == [900]
    assert json.loads(runs["metrics"][0]) == {"accuracy": 0.9}
    assert json.loads(runs["tags"][0]) == {"team": "a"}
    assert runs["status"].tolist() == ["finished"]


def test_without_a_place_the_world_average_is_flagged(run_python: Runner, tmp_path: Path) -> None:
    run_python("import energyprof, time\nwith energyprof.profile('x') as run: time.sleep(0.2)\nrun.result")
    run = energyprof.load(tmp_path / "runs").iloc[0]
    assert "assumed_location" in run["flags"]
    assert run["intensity_place"] == "WORLD"
    assert run["intensity_year"] == 2019


def test_calls_of_a_decorated_function_are_one_run(run_python: Runner, tmp_path: Path) -> None:
    done = run_python(
        """
import asyncio, time, energyprof

@energyprof.profile
def plain(x):
    "doc"
    with energyprof.region("inside"):
        time.sleep(0.15)
    return x + 1

@energyprof.profile("named", tags={"k": "v"})
async def later(x):
    await asyncio.sleep(0.2)
    return x

@energyprof.profile()
def items():
    got = yield 1
    yield got

@energyprof.profile
async def stream():
    yield 1
    await asyncio.sleep(0.01)
    yield 2

async def walk():
    return [i async for i in stream()]

print([plain(1), plain(2), plain(3)], plain.__name__, plain.__doc__)
print(asyncio.run(later(5)), list(items()), asyncio.run(walk()))
g = items(); next(g); print(g.send("sent")); g.close()
print(plain.profile.run.result.calls)
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[2, 3, 4] plain doc", "5 [1, None] [1, 2]", "sent", "3"]
    settled(tmp_path / "runs")
    runs = energyprof.load(tmp_path / "runs").set_index("name")
    assert runs.loc["plain", "calls"] == 3
    assert runs.loc["plain", "duration_s"] == pytest.approx(0.45, abs=0.2)
    assert set(runs.index) == {"plain", "named", "items", "stream"}


def test_a_profile_inside_a_profile_is_a_region_of_it(run_python: Runner, tmp_path: Path) -> None:
    done = run_python(
        """
import time, energyprof
with energyprof.profile("outer") as outer:
    with energyprof.profile("inner") as inner:
        with inner.region("deep"):
            time.sleep(0.5)
    print(inner.result.name, inner.result.duration_s > 0.4, inner.result.energy_j is not None)
    print(inner.result.regions.region.unique().tolist())
print(sorted(outer.result.regions.region.unique()), inner.run_id == outer.run_id)
print(inner.result.duration_s < outer.result.duration_s)
"""
    )
    assert done.stdout.splitlines() == [
        "inner True True", "['deep']", "['inner', 'inner/deep'] True", "True",
    ], done.stderr  # fmt: skip
    settled(tmp_path / "runs")
    assert len(energyprof.load(tmp_path / "runs")) == 1


def test_an_exception_passes_through_and_the_run_is_kept(run_python: Runner, tmp_path: Path) -> None:
    done = run_python(
        """
import energyprof, time
with energyprof.profile("x") as run:
    with run.region("r"):
        time.sleep(0.2)
        raise KeyError("mine")
"""
    )
    assert done.returncode == 1
    assert done.stderr.rstrip().splitlines()[-1] == "KeyError: 'mine'"
    settled(tmp_path / "runs")
    run = energyprof.load(tmp_path / "runs").iloc[0]
    assert run["status"] == "failed"


def test_a_killed_program_leaves_a_whole_run(run_python: Runner, tmp_path: Path) -> None:
    done = run_python(
        "import energyprof, time, os, signal\n"
        "with energyprof.profile('x') as run:\n"
        "    with run.region('done'): time.sleep(0.6)\n"
        "    run.region('open').__enter__(); time.sleep(0.3)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert done.returncode == -signal.SIGKILL
    settled(tmp_path / "runs")
    run = energyprof.load(tmp_path / "runs").iloc[0]
    assert run["status"] == "killed"
    assert run["duration_s"] == pytest.approx(0.9, abs=0.4)
    assert run["energy_j"] > 0


def test_when_meter_and_program_are_killed_the_next_listing_recovers_the_run(
    tmp_path: Path, cli_here: Runner
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ENERGYPROF_OUT": str(tmp_path / "runs")}
    program = subprocess.Popen(
        [sys.executable, "-c", "import energyprof, time\nwith energyprof.profile('x'): time.sleep(60)"],
        env=environment,
    )
    folder = None
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        folders = runfolder.open_runs(str(tmp_path / "runs"))
        if folders and list(Path(folders[0]).glob("meter.*.log")):
            folder = Path(folders[0])
            break
        time.sleep(0.05)
    assert folder is not None
    time.sleep(2.5)  # two flushes of the meter
    (meter,) = (int(p.name.split(".")[1]) for p in folder.glob("meter.*.log"))
    os.kill(meter, signal.SIGKILL)
    program.kill()
    program.wait()
    while runfolder.alive(meter):
        time.sleep(0.01)
    listed = cli_here("ls", "--json")
    (run,) = json.loads(listed.stdout)
    assert run["status"] == "recovered"
    assert "recovered" in run["flags"].split(",")
    assert run["energy_j"] > 0
    assert "recovered run" in listed.stderr
    assert runfolder.open_runs(str(tmp_path / "runs")) == []


def test_forked_workers_are_not_measured_and_change_nothing(run_python: Runner, tmp_path: Path) -> None:
    done = run_python(
        """
import multiprocessing, time, energyprof, warnings
warnings.simplefilter("ignore")

def work(x):
    with energyprof.region("worker"):
        return x * x

if __name__ == "__main__":
    with energyprof.profile("x") as run:
        with run.region("pool"), multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(work, range(4)))
        time.sleep(0.2)
    print(run.result.regions.region.unique().tolist())
"""
    )
    assert done.stdout.splitlines() == ["[0, 1, 4, 9]", "['pool']"], done.stderr


def test_an_unwritable_folder_is_one_warning_and_the_program_goes_on(run_python: Runner) -> None:
    done = run_python(
        """
import energyprof
with energyprof.profile("x", out="/proc/nowhere") as run:
    print(run.region("r").__enter__() is not None, list(run.steps([1])))
try:
    run.result
except RuntimeError as fault:
    print(fault)
"""
    )
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "True [1]"
    assert "not measured" in done.stdout
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("energyprof: warning: not measuring")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("country='FRANCX'", "FRA"),
        ("intensity=-1", "intensity"),
        ("country='FRA', intensity=3", "choose one"),
    ],
)
def test_a_wrong_place_is_refused_before_anything_runs(run_python: Runner, arguments: str, text: str) -> None:
    done = run_python(f"import energyprof\nwith energyprof.profile('x', {arguments}):\n    print('ran')")
    assert done.returncode == 1
    assert done.stdout == ""
    assert text in done.stderr.splitlines()[-1]


def test_the_settings_of_a_project_are_found(run_python: Runner, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/pyproject.toml").write_text('[tool.energyprof]\nout = "elsewhere"\ncountry = "DEU"\n')
    done = run_python(
        "import energyprof, os\nos.environ.pop('ENERGYPROF_OUT')\n"
        "with energyprof.profile('x') as run: pass\nprint(run.result.intensity_place, run.result.out)"
    )
    assert done.stdout.split() == ["DEU", str(tmp_path / "work/elsewhere")], done.stderr


def test_a_place_of_the_environment_is_one_for_the_call_that_needs_it(run_python: Runner) -> None:
    done = run_python(
        "import energyprof, os\nos.environ['ENERGYPROF_COUNTRY'] = 'aws:eu-west-3'\n"
        "with energyprof.profile('x', pue='provider') as run: pass\n"
        "print(run.result.intensity_place, run.result.pue)"
    )
    assert done.stdout.split() == ["aws:eu-west-3", "1.15"], done.stderr


def test_a_series_is_read_by_the_call_and_not_again_by_its_block(run_python: Runner, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text("time,g_per_kwh\n2026-01-01T00:00Z,50\n2026-01-02T00:00Z,60\n")
    done = run_python(
        f"import energyprof, os\nprofile = energyprof.profile('x', intensity={str(path)!r}, country='FRA')\n"
        f"os.remove({str(path)!r})\nwith profile as run: pass\n"
        "print(run.result.intensity_place, 'intensity_fallback' in run.result.row['flags'])"
    )
    assert done.stdout.split() == ["FRA", "True"], done.stderr
    assert "environment" not in done.stderr


def test_a_region_outside_any_run_does_nothing(run_python: Runner, tmp_path: Path) -> None:
    done = run_python("import energyprof\nwith energyprof.region('x'):\n    print('ok')")
    assert done.stdout.strip() == "ok"
    assert not (tmp_path / "runs").exists()


def test_a_pickle_module_in_the_working_folder_is_not_ours(run_python: Runner, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/pickle.py").write_text("raise SystemExit('wrong pickle')")
    done = run_python(
        "import sys; sys.path.pop(0)\nimport energyprof\n"
        "with energyprof.profile('x') as run: pass\nprint(run.result.status)"
    )
    assert done.stdout.strip() == "finished", done.stderr


@pytest.mark.parametrize("backend", ["gloo"])
def test_the_ranks_of_a_launch_are_one_run_with_each_meter_once(
    run_python: Runner, tmp_path: Path, backend: str
) -> None:
    pytest.importorskip("torch")
    done = run_python(
        f"""
import time, torch, torch.distributed as dist, energyprof

@energyprof.profile
def train():
    dist.init_process_group("{backend}")
    with energyprof.region("reduce"):
        for _ in range(10):
            dist.all_reduce(torch.ones(10)); time.sleep(0.05)
    dist.destroy_process_group()

train()
""",
        before=(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python"),
        env={"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    settled(tmp_path / "runs")
    runs = energyprof.load(tmp_path / "runs")
    assert len(runs) == 1
    assert runs["ranks"].tolist() == [2]
    from energyprof.result import stored

    result = stored(str(tmp_path / "runs"), runs["run_id"][0])
    assert not result.channels["channel"].duplicated().any()
    reduce = result.regions.query("region == 'reduce' and channel == 'total'")
    assert sorted(reduce["rank"]) == [0, 1]


def test_calls_that_overlap_in_tasks_and_threads_each_have_their_own_stay(
    run_python: Runner, tmp_path: Path
) -> None:
    done = run_python(
        """
import asyncio, threading, time, energyprof

@energyprof.profile
async def task(seconds):
    await asyncio.sleep(seconds)

@energyprof.profile
def work(seconds):
    time.sleep(seconds)

async def both():
    await asyncio.gather(task(0.3), task(0.1), task(0.2))

asyncio.run(both())
threads = [threading.Thread(target=work, args=(s,)) for s in (0.3, 0.1)]
[t.start() for t in threads]
[t.join() for t in threads]
print("done")
"""
    )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
    settled(tmp_path / "runs")
    runs = energyprof.load(tmp_path / "runs").set_index("name")
    assert runs.loc["task", "duration_s"] == pytest.approx(0.3, abs=0.15)
    assert runs.loc["work", "duration_s"] == pytest.approx(0.3, abs=0.15)
    assert set(runs["status"]) == {"finished"}


def test_a_profile_in_a_forked_child_measures_nothing(run_python: Runner, tmp_path: Path) -> None:
    done = run_python(
        """
import os, time, energyprof

@energyprof.profile
def work(where):
    time.sleep(0.1)
    return where

work("parent")
child = os.fork()
if child == 0:
    print(work("child"), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(work("parent"))
"""
    )
    assert done.stdout.split() == ["child", "parent"], done.stderr
    settled(tmp_path / "runs")
    assert energyprof.load(tmp_path / "runs")["calls"].tolist() == [2]


def test_names_may_hold_anything_and_a_profile_may_be_entered_again(
    run_python: Runner, tmp_path: Path
) -> None:
    done = run_python(
        """
import energyprof
names = ["new\\nline", "../../etc", "\\x00", "模型/α", "", "\\udc80"]
again = energyprof.profile("\\udcff\\n/..")
with again as outer:
    with again as inner:
        for name in names:
            with inner.region(name):
                pass
print(len(outer.result.regions.region.unique()), outer.run_id == inner.run_id)
"""
    )
    assert done.stdout.split() == ["7", "True"], done.stderr


def test_a_name_of_any_kind_is_stored_as_text(run_python: Runner, tmp_path: Path) -> None:
    done = run_python("import energyprof\nwith energyprof.profile(3) as run: pass\nrun.result\n")
    assert done.returncode == 0, done.stderr
    assert energyprof.load(tmp_path / "runs")["name"].tolist() == ["3"]


@pytest.mark.parametrize("kind", [classmethod, staticmethod])
def test_what_is_no_function_is_not_decorated_and_the_fault_says_where_to_put_it(kind: type) -> None:
    with pytest.raises(TypeError, match=f"put it below @{kind.__name__}"):
        energyprof.profile(kind(len))
    with pytest.raises(TypeError, match="decorate its methods"):
        energyprof.profile(dict)


def test_the_result_in_a_forked_process_says_that_forked_processes_are_not_measured(
    run_python: Runner,
) -> None:
    done = run_python(
        """
import os, energyprof
with energyprof.profile("outer"):
    if os.fork() == 0:
        with energyprof.profile("inner") as run:
            pass
        try:
            run.result
        except RuntimeError as fault:
            print(fault, flush=True)
        os._exit(0)
    os.wait()
"""
    )
    assert "forked" in done.stdout, done.stderr
