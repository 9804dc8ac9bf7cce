"""A measured program does what the plain one does: the same output, byte for byte, and the same end."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from energyprof import runfolder
from tests.programs import PLAIN, PROFILED, PROGRAMS
from tests.shell import RUN, Output, Shell

STDIN = b"line one\nline two \xc3\xa9"
_UNLIKE = re.compile(rb"0x[0-9a-f]+|tmp\w+")


def answer(shell: Shell, *command: str) -> Output:
    return shell(*command, stdin=None, input=STDIN)


def same(plain: Output, measured: Output) -> None:
    assert _UNLIKE.sub(b"", measured.stdout) == _UNLIKE.sub(b"", plain.stdout)
    assert _UNLIKE.sub(b"", measured.stderr) == _UNLIKE.sub(b"", plain.stderr)
    assert measured.returncode == plain.returncode


def one_whole_run(shell: Shell) -> None:
    """What was measured is in the dataset, or will be in a moment; nothing is left behind."""
    deadline = time.monotonic() + 20
    while runfolder.open_runs(str(shell.out)) and time.monotonic() < deadline:
        time.sleep(0.1)
    (run,) = shell.runs()
    assert run["status"] in ("finished", "failed", "killed")
    assert run["duration_s"] > 0
    assert run["energy_j"] is not None or run["duration_s"] < 0.2, run["reason"]


@pytest.fixture(params=sorted(PROGRAMS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def written(shell: Shell, name: str, door: str) -> Sequence[str]:
    shell.file("pickle.py" if name == "own_pickle" else "other.py", "MINE = 'mine'\n")
    shell.file("program.py", door + PROGRAMS[name][1])
    return (sys.executable, "program.py", "-x", "two words", "--out=y")


def test_a_program_behaves_the_same_under_run_and_with_a_profile_inside(shell: Shell, name: str) -> None:
    plain = answer(shell, *written(shell, name, PLAIN))
    assert plain.returncode == PROGRAMS[name][0], plain.stderr
    command = written(shell, name, PLAIN)
    same(plain, answer(shell, *RUN, "-q", *command[1:]))
    one_whole_run(shell)
    for path in shell.out.rglob("*.parquet"):
        path.unlink()
    same(plain, answer(shell, *written(shell, name, PROFILED)))
    if name != "fork_goes_on":
        one_whole_run(shell)
    assert Path(shell.folder / "program.py").exists()
