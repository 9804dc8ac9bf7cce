"""What docs/threats.md promises: nothing is unpickled, evaluated, listened on or connected to."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest

from tests.conftest import ROOT
from tests.shell import RUN, Shell

SOURCES = sorted(
    path for folder in ("energyprof", "collectors", "reports") for path in (ROOT / folder).rglob("*.py")
)
FORBIDDEN_MODULES = {
    "pickle",
    "shelve",
    "marshal",
    "dill",
    "cloudpickle",
    "joblib",
    "socketserver",
    "http.server",
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_METHODS = {"listen", "bind", "accept", "connect"}


THE_USERS_CELL = {"ipython.py": {"exec", "eval"}}  # what somebody typed into a notebook is his to run


def offences(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found: set[str] = set()
        if isinstance(node, ast.Import):
            found = {alias.name for alias in node.names} & FORBIDDEN_MODULES
        elif isinstance(node, ast.ImportFrom):
            found = {str(node.module)} & FORBIDDEN_MODULES
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found = {node.func.id} & (FORBIDDEN_CALLS - THE_USERS_CELL.get(path.name, set()))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found = {node.func.attr} & FORBIDDEN_METHODS
        yield from (f"{path}: {name}" for name in found)


def test_no_file_unpickles_evaluates_or_opens_a_port() -> None:
    assert len(SOURCES) > 80
    assert [offence for path in SOURCES for offence in offences(path)] == []


WAITS = """
import energyprof, time
with energyprof.profile(quiet=True):
    print("ready", flush=True)
    time.sleep(6)
"""


def sockets_of(pid: int) -> set[str]:
    """The inodes of a process's sockets; what closes meanwhile is none."""
    inodes = set()
    with contextlib.suppress(FileNotFoundError):  # the process: a meter of another test
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if found := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(path)):
                    inodes.add(found[1])
    return inodes


def test_program_and_meter_have_no_socket_that_anybody_else_could_reach(shell: Shell) -> None:
    shell.file("waits.py", WAITS)
    process = shell.start(sys.executable, "waits.py")
    deadline, meters = monotonic() + 5.0, []
    while not meters and monotonic() < deadline:
        sleep(0.05)
        found = subprocess.run(
            ["pgrep", "-f", "energyprof.helper"], capture_output=True, text=True, check=False
        )
        meters = [int(pid) for pid in found.stdout.split()]
    assert meters
    mine = set().union(*(sockets_of(pid) for pid in (process.pid, *meters)))
    assert mine
    for table in ("tcp", "tcp6", "udp", "udp6"):
        lines = Path(f"/proc/{process.pid}/net/{table}").read_text().splitlines()[1:]
        assert not mine & {line.split()[9] for line in lines}
    named = [line.split() for line in Path(f"/proc/{process.pid}/net/unix").read_text().splitlines()[1:]]
    assert not [entry for entry in named if entry[6] in mine and len(entry) > 7]  # a pair has no path


@pytest.mark.parametrize(
    "hostile", ["../../../tmp/evil", "a/../../b", "\x1b]0;owned\x07", "x\ny", "$(touch owned)"]
)
def test_no_name_of_the_users_becomes_a_path_or_a_command(shell: Shell, hostile: str) -> None:

    code = "import energyprof, sys\nwith energyprof.region(sys.argv[1]): pass\n"
    done = shell(*RUN, "--name", hostile, "--tag", f"k={hostile}", "-c", code, hostile)
    assert done.returncode == 0, done.stderr
    assert b"\x1b" not in done.stderr
    assert len(shell.runs()) == 1
    files = [path for path in shell.folder.parent.rglob("*") if path.is_file()]
    assert all("runs" in path.parts for path in files), files
