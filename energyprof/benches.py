"""What a bench keeps beside its runs: OUT/_bench/<id>/plan.json."""

from __future__ import annotations

import json
import os

BENCHES = "_bench"


def plan_of(out: str, bench_id: str) -> str:
    """The file of a bench's plan, its state, and the runs that do not count."""
    return os.path.join(out, BENCHES, bench_id, "plan.json")


def left_out(out: str, bench_id: str) -> frozenset[str]:
    """The runs of a bench that ended well and do not count: a signal came meanwhile. None where nothing is known."""
    try:
        with open(plan_of(out, bench_id), encoding="utf-8") as file:
            return frozenset(map(str, json.load(file)["left_out"]))
    except (OSError, ValueError, KeyError, TypeError):
        return frozenset()
