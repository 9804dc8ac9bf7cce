"""Disks that fill up, folders that vanish, and several runs in one folder: the program goes on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import energyprof
from energyprof import runfolder
from energyprof.recovery import recover, wait_for_sealing
from tests.shell import RUN, Shell

MANY = """
import sys, threading
import energyprof
count = int(sys.argv[1])
def work(run):
    for _ in range(count):
        with run.region("a"): pass
with energyprof.profile("many", out=sys.argv[2]) as run:
    threads = [threading.Thread(target=work, args=(run,)) for _ in range(4)]
    for t in threads: t.start()
    for t in threads: t.join()
print("done")
"""


@pytest.fixture
def small_disk(shell: Shell) -> tuple[str, ...]:
    """What to put before a command so that `disk` beneath the working folder holds 256 KiB."""
    folder = shell.folder / "disk"
    folder.mkdir()
    mount = f'mount -t tmpfs -o size=256k none "{folder}" && exec "$@"'
    apart = ("unshare", "--mount", "--propagation", "private", "sh", "-c", mount, "sh")
    if shutil.which("unshare") is None or shell(*apart, "true").returncode != 0:
        pytest.skip("this machine lets us mount nothing")
    return apart


@pytest.mark.parametrize("door", ["profile", "run"])
def test_a_full_disk_costs_marks_and_never_the_program(
    shell: Shell, small_disk: tuple[str, ...], door: str
) -> None:
    shell.file("many.py", MANY)
    front = [*RUN, "--out", "disk"] if door == "run" else [sys.executable]
    done = shell(*small_disk, *front, "many.py", "60000", "disk")
    assert (done.stdout, done.returncode) == (b"done\n", 0), done.stderr
    assert b"Traceback" not in done.stderr


def test_a_disk_that_was_full_before_is_one_line(shell: Shell, small_disk: tuple[str, ...]) -> None:
    shell.file("many.py", MANY)
    fill = ("sh", "-c", 'head -c 1M /dev/zero > disk/zeros 2>/dev/null; exec "$@"', "sh")
    done = shell(*small_disk, *fill, sys.executable, "many.py", "10", "disk")
    assert (done.stdout, done.returncode) == (b"done\n", 0)
    assert done.stderr.count(b"\n") == 1
    assert b"No space left" in done.stderr
    done = shell(*small_disk, *fill, *RUN, "--out", "disk", "-c", "print('never')")
    assert (done.stdout, done.returncode) == (b"", 2)
    assert done.stderr.count(b"\n") == 1


GONE = """
import shutil, sys, time
import energyprof
with energyprof.profile("gone", out="runs") as run:
    with run.region("a"):
        time.sleep(0.3)
    shutil.rmtree("runs")
    for _ in run.steps(range(300)):
        with run.region("b"):
            time.sleep(0.002)
print("done")
"""


@pytest.mark.parametrize("door", ["profile", "run"])
def test_a_folder_that_disappears_costs_the_run_and_not_the_program(shell: Shell, door: str) -> None:
    shell.file("gone.py", GONE)
    front = [*RUN, "--out", "runs"] if door == "run" else [sys.executable]
    done = shell(*front, "gone.py")
    assert (done.stdout, done.returncode) == (b"done\n", 0), done.stderr
    assert b"Traceback" not in done.stderr
    if door == "run":
        assert b"warning" in done.stderr
        assert done.stderr.count(b"\n") == 1


MARKS_ELSEWHERE = """for _ in range(9):
        t = threading.Thread(target=lambda: [run.region("c").__enter__() for _ in range(9000)])
        t.start(); t.join()
    for _ in run.steps"""


def test_regions_in_new_threads_after_the_folder_disappeared_raise_nothing(shell: Shell) -> None:
    shell.file("gone.py", "import threading\n" + GONE.replace("for _ in run.steps", MARKS_ELSEWHERE))
    done = shell(sys.executable, "gone.py")
    assert (done.stdout, done.returncode) == (b"done\n", 0), done.stderr
    assert b"Traceback" not in done.stderr


def test_two_runs_at_once_in_one_folder_are_two_runs(shell: Shell) -> None:
    shell.file("many.py", MANY)
    started = [
        subprocess.Popen(
            [*front, "many.py", "2000", str(shell.out)],
            cwd=shell.folder, env=shell.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for front in ([sys.executable], [*RUN, "-q"], [sys.executable], [*RUN, "-q"])
    ]  # fmt: skip
    for process in started:
        assert process.communicate(timeout=60) == (b"done\n", b"") or process.args[0] == sys.executable
        assert process.returncode == 0
    wait_for_sealing(str(shell.out), 20)
    assert runfolder.open_runs(str(shell.out)) == []
    runs = energyprof.load(shell.out)
    assert len(set(runs["run_id"])) == 4
    assert list(runs["status"]) == ["finished"] * 4


def test_recovering_twice_at_once_seals_a_run_once(shell: Shell) -> None:
    code = "import os, signal, energyprof\nwith energyprof.profile(quiet=True):\n    os.kill(0, signal.SIGKILL)\n"
    shell.file("killed.py", code)
    subprocess.run(
        [sys.executable, "killed.py"], cwd=shell.folder, env=shell.environment, start_new_session=True,
        check=False, capture_output=True,
    )  # fmt: skip
    ids = [
        subprocess.Popen(
            [sys.executable, "-c", "import sys, energyprof.recovery as r; r.recover(sys.argv[1])", str(shell.out)],
            env=shell.environment, text=True, stdout=subprocess.PIPE,
        )
        for _ in range(3)
    ]  # fmt: skip
    for process in ids:
        process.communicate(timeout=60)
    wait_for_sealing(str(shell.out), 60)  # by the helper, which is in a session of its own and lives on
    sealed, failed = recover(str(shell.out))
    assert (sealed, failed) == ([], [])
    assert len(shell.runs()) == 1
    assert Path(shell.out).is_dir()
