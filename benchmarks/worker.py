"""One window on a virtual machine, measured by one tool: `worker.py TOOL SECONDS LOAD`; prints JSON.

The loads are in loads.py, the tools in peers.py. The truth is of the time between the tool's own begin and end.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import loads
from benchmarks.peers import TOOLS
from tests.lab.truth import Truth

METERED = ("gpu:0", "gpu:1", "package:0", "dram:0")


def main() -> None:
    tool, seconds, mode = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    truth = Truth.from_environment()
    loads.before(truth, mode, seconds)
    logging.disable(logging.CRITICAL)
    marks: loads.Marks = {}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        found = TOOLS[tool](lambda region: loads.inside(truth, mode, seconds, region, marks))
    channels = found["joules"] = {n: j for n, j in found["joules"].items() if n in METERED}
    found["truth"] = {name: truth.energy_j(name, found["begin"], found["end"]) for name in channels}
    found["regions_truth"] = {
        channel: {
            name: sum(truth.energy_j(channel, begin, end) for begin, end in calls)
            for name, calls in marks.items()
        }
        for channel in ("gpu:0", "gpu:1")
    }
    print(json.dumps(found), flush=True)
    os._exit(0)  # some tools leave processes that would hold us


if __name__ == "__main__":
    main()
