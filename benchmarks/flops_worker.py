"""One tool in its own process: `flops_worker.py count TOOL SIZE MODEL,... [FOLDER ...]`, or `steps TOOL SECONDS [...]`.

Prints a line of JSON for each model, or for the paired times of training steps. FOLDERs with packages lent to the
tool's environment come last on its path.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def counts(tool: str, size: str, names: list[str]) -> None:
    """Models one after the other; a tool that fails at one goes on with the next."""
    from benchmarks.flops_tools import TOOLS
    from benchmarks.zoo import ENTRIES

    for name in names:
        begin = time.monotonic()
        found: dict[str, Any] = {"model": name}
        try:
            with _silence():
                model, batch = ENTRIES[name].build("small" if size == "small" else "full")
                begin = time.monotonic()
                answer = TOOLS[tool](model, batch)
            found |= {key: value for key, value in vars(answer).items() if value is not None}
        except Exception as fault:
            found["failed"] = f"{type(fault).__name__}: {fault}".splitlines()[0][:200]
        found["took_s"] = round(time.monotonic() - begin, 2)
        print(json.dumps(found), flush=True)


def steps(tool: str, seconds: float) -> None:
    from benchmarks.flops_steps import STEPS, pairs

    for name in STEPS:
        with _silence():
            found = pairs(tool, name, seconds)
        print(json.dumps({"step": name, **found}), flush=True)


@contextlib.contextmanager
def _silence() -> Any:
    logging.disable(logging.CRITICAL)
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def main() -> None:
    job, tool, effort = sys.argv[1:4]
    rest = sys.argv[4:]
    names = rest.pop(0).split(",") if job == "count" else []
    sys.path.extend(rest)
    import torch

    torch.set_num_threads(1)  # times of steps do not hang on who else wants a core
    if job == "count":
        counts(tool, effort, names)
    else:
        steps(tool, float(effort))


if __name__ == "__main__":
    main()
