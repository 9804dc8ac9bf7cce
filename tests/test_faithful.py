"""A measured program does what the plain one does: the same output, byte for byte, and the same end."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from energyprof import runfolder
from tests.programs import PLAIN, PROFILED, PROGRAMS
from tests.shell import RUN, Output, Shell

pytestmark = pytest.mark.timeout(
    400
)  # the first waits for others, too: hundreds of processes on a busy machine
STDIN = b"line one\nline two \xc3\xa9"
_UNLIKE = re.compile(rb"0x[0-9a-f]+|tmp\w+|answers\d+|\w+-\d+\.\d+")
Answer = tuple[Output, Output, Output, Shell, Shell]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Answer]]]:
    """Every program in three ways, three programs at a time: most of them wait, or are waited for."""
    with ThreadPoolExecutor(3) as pool:
        yield {name: pool.submit(in_three_ways, tmp_path_factory.mktemp("a"), name) for name in PROGRAMS}


def in_three_ways(folder: Path, name: str) -> Answer:
    """Plain, under `energyprof run`, and with a profile inside; and where the runs are."""
    shells, done = [], []
    for way, door in (("plain", PLAIN), ("under", PLAIN), ("inside", PROFILED)):
        parent = folder / way
        parent.mkdir()
        shells.append(Shell(parent))
        command = written(shells[-1], name, door)
        front = [*RUN, "-q"] if way == "under" else [command[0]]
        done.append(shells[-1](*front, *command[1:], stdin=None, input=STDIN))
    return done[0], done[1], done[2], shells[1], shells[2]


def written(shell: Shell, name: str, door: str) -> Sequence[str]:
    """A program's file in its folder, and the command that runs it."""
    shell.file("pickle.py" if name == "own_pickle" else "other.py", "MINE = 'mine'\n")
    shell.file("program.py", door + PROGRAMS[name][1])
    return (sys.executable, "program.py", "-x", "two words", "--out=y")


def same(plain: Output, measured: Output, way: str) -> None:
    def scrubbed(text: bytes) -> bytes:
        return _UNLIKE.sub(b"", text.replace(f"/{way}/".encode(), b"/plain/"))

    assert scrubbed(measured.stdout) == scrubbed(plain.stdout)
    assert scrubbed(measured.stderr) == scrubbed(plain.stderr)
    assert measured.returncode == plain.returncode


def one_whole_run(shell: Shell) -> None:
    """What was measured is in the dataset, or will be in a moment; nothing is left behind."""
    deadline = time.monotonic() + 30
    while runfolder.open_runs(str(shell.out)) and time.monotonic() < deadline:
        time.sleep(0.1)
    (run,) = shell.runs()
    assert run["status"] in ("finished", "failed", "killed")
    assert run["duration_s"] > 0
    assert (
        run["energy_j"] is not None or run["reason"] == "below_resolution"
    )  # killed before a second reading


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_a_program_behaves_the_same_under_run_and_with_a_profile_inside(
    answers: Mapping[str, Future[Answer]], name: str
) -> None:
    plain, under, inside, under_run, with_profile = answers[name].result()
    assert plain.returncode == PROGRAMS[name][0], plain.stderr
    same(plain, under, "under")
    one_whole_run(under_run)
    same(plain, inside, "inside")
    if name != "fork_goes_on":
        one_whole_run(with_profile)
