"""One run of a bench, in a process of its own: as `energyprof run` would, with the figures in a file.

Each run has a fresh meter: no memory, threads or signal handlers are left from the runs before it.
"""

from __future__ import annotations

import json
import sys

from energyprof.journal import write_whole
from energyprof.launch.measure import measure
from energyprof.launch.target import TargetError

_TOLD = ("run_id", "status", "energy_j", "duration_s", "reason")


def main(arguments: list[str]) -> int:
    """Run what the file `arguments[0]` says, and write what came of it to `arguments[1]`."""
    with open(arguments[0], encoding="utf-8") as file:
        asked = json.load(file)
    said: list[str] = []
    try:
        measured = measure(
            asked["command"], out=asked["out"], name=asked["name"], tags=asked["tags"], site=asked["site"],
            tell=said.append,
        )  # fmt: skip
    except (TargetError, ValueError, OSError) as fault:
        told = {"code": getattr(fault, "code", 2), "problem": str(fault), "said": said, "wrong": True}
    else:
        row = measured.result.row if measured.result is not None else {}
        figures = {name: row.get(name) for name in _TOLD}
        told = {"code": measured.code, "problem": measured.problem, "said": said, **figures}
    write_whole(arguments[1], json.dumps(told))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
