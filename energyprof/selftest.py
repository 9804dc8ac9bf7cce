"""`doctor --self-test`: on this machine's own meters, names that cannot matter must make no difference.

A program works and rests in turn for ten seconds under the meters, as any program does under `energyprof
run`; then its marks are renamed and shuffled (see `placebo`). What fails here would fail in a user's run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from energyprof import runlog
from energyprof.burst import CPU, GPU, REST
from energyprof.checkup import checkup
from energyprof.edges import Ticks
from energyprof.launch.supervise import supervise
from energyprof.metering import meters_of
from energyprof.placebo import Verdict, placebos
from energyprof.runlog import RunLog
from energyprof.shares import Timeline, timeline
from energyprof.spawn import command
from energyprof.tally import Meter

SECONDS = 10.0
_ROUNDS = 10
_SETTLED_NS = 300_000_000  # the lag of what was drawn before the first mark is over by then
_SEED = 1


def self_test(tell: Callable[[str], None] = lambda text: None, seconds: float = SECONDS) -> dict[str, Any]:
    """Run the placebos and say what came of them; `reports.meters.tested` puts it into words.

    Raises
    ------
    RuntimeError
        The program could not be run to its end.
    """
    has_gpu = any(c["channel"].startswith("gpu:") for c in checkup()["channels"])
    tell(f"working and resting in turn for {seconds:.0f} s, then looking at it for about as long")
    with tempfile.TemporaryDirectory(prefix="energyprof-") as scrap:
        program = command("energyprof.burst", str(seconds), *(["gpu"] if has_gpu else []))
        outcome = supervise(program, scrap, {"name": "self-test", "supervised": True})
        log = runlog.load(outcome.folder)
    if outcome.problem:
        raise RuntimeError(outcome.problem)
    if outcome.code != 0:
        raise RuntimeError(f"the program of the self-test ended with {outcome.code}")
    return judge(log)


def judge(log: RunLog) -> dict[str, Any]:
    """The verdict on the meters of a run of `burst`."""
    spans = [span for span in (log.outer.spans if log.outer else []) if span[1] is not None]
    meters, _ = meters_of(log.streams, log.lost, [(b, e) for b, e in spans if e is not None])
    names = {kind.path[-1]: index for index, kind in enumerate(log.kinds)}
    work = next((name for name in (GPU, CPU) if name in names), "")
    rows = [_row(meter, _verdict(meter, log, names[work], names[REST])) for meter in meters if work]
    judged = [row for row in rows if row["passed"] is not None]
    return {
        "work": work,
        "calls": int(np.count_nonzero(log.marks.kind == names[work])) if work else 0,
        "meters": rows,
        "passed": bool(judged) and all(row["passed"] for row in judged),
    }


def _verdict(meter: Meter, log: RunLog, work: int, rest: int) -> Verdict | None:
    ticks = meter.curve.ticks if meter.curve else None
    if ticks is None:
        return None
    first, last = int(log.marks.begin_ns.min()), int(log.marks.end_ns.max())
    parents = np.array([kind.parent for kind in log.kinds], np.int64)
    line = timeline(log.marks.kind, log.marks.begin_ns, log.marks.end_ns, parents, first, last)
    cut = _inside(ticks, first + _SETTLED_NS, last)
    if cut is None:
        return None
    chosen: Timeline = line.between(int(np.floor(cut.at_ns[0])), int(np.ceil(cut.at_ns[-1])))
    return placebos(chosen, cut, work, rest, _ROUNDS, _SEED)


def _inside(ticks: Ticks, first_ns: int, last_ns: int) -> Ticks | None:
    inside = np.flatnonzero((ticks.at_ns >= first_ns) & (ticks.at_ns <= last_ns))
    return ticks.between(int(inside[0]), int(inside[-1])) if len(inside) > 1 else None


def _row(meter: Meter, verdict: Verdict | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "channel": meter.channel.name,
        "method": meter.channel.method,
        "passed": None,
        "names": [],
        "shuffles": [],
    }
    if verdict is not None:
        row["passed"] = verdict.passed
        row["names"] = [{**asdict(d), "agrees": d.agrees} for d in verdict.names]
        row["shuffles"] = [{**asdict(d), "agrees": d.agrees} for d in verdict.shuffles]
    return row
