"""Several programs in one interpreter, one after the other: what they import is imported once.

Each has a `__main__`, arguments, a dataset and an output of its own, as if it had been started by itself; what one
leaves behind in the process (a hook, a patched function) is there for those after it, and they must not mind.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import energyprof
from energyprof.recovery import wait_for_sealing
from energyprof.result import Result, stored

ROOT = Path(__file__).resolve().parent.parent

_DRIVER = """
import contextlib, io, json, os, sys, traceback, types

def ran(name, text, arguments):
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv = [name, *arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            exec(compile(text, name, "exec"), vars(main))
        except BaseException:
            traceback.print_exc()
            code = 1
    return code, out.getvalue(), err.getvalue()

_, programs, answers, runs, *arguments = sys.argv
said = {}
for name, text in json.load(open(programs)).items():
    os.environ["ENERGYPROF_OUT"] = os.path.join(runs, name)
    said[name] = ran(name, text, arguments)
json.dump(said, open(answers, "w"))
"""


@dataclass(frozen=True)
class Said:
    """What one of the programs said, how it ended, and where its runs are."""

    returncode: int
    stdout: str
    stderr: str
    out: Path

    def result(self) -> Result:
        """Its last run."""
        return stored(str(self.out), energyprof.load(self.out)["run_id"].iloc[-1])


def together(folder: Path, programs: Mapping[str, str], *arguments: str) -> dict[str, Said]:
    """Run the programs' texts with these arguments; what is said outside them all is a fault."""
    folder.mkdir(parents=True)
    (folder / "programs.json").write_text(json.dumps(dict(programs)))
    done = subprocess.run(
        [sys.executable, "-c", _DRIVER, "programs.json", "answers.json", str(folder / "runs"), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    answers = json.loads((folder / "answers.json").read_text())
    said = {name: Said(code, out, err, folder / "runs" / name) for name, (code, out, err) in answers.items()}
    for one in said.values():
        wait_for_sealing(str(one.out), 60)
    return said
