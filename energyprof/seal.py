"""A run's folder -> the rows of a stored run. Runs in a fresh process; also what `recover` does.

Sealing the same folder again replaces the same files, so it may be done at any time: while a decorated
function may still be called again, after a crash, or to look at a run that is not over.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

import energyprof
from energyprof import allocation, baseline, footprint, forecasting, lean, metercache, runlog, store
from energyprof.apportion import Part, Solved
from energyprof.attribution import (
    KindSum,
    Steps,
    apportioned,
    energy_per_step,
    kind_rows,
    kind_sums,
    plain_steps,
    solve,
    solve_parts,
    step_rows,
)
from energyprof.intervals import joined, union
from energyprof.journal import write_whole
from energyprof.layers.reading import LayerLog
from energyprof.layers.sealing import noted, run_columns, store_layers
from energyprof.metering import meters_of
from energyprof.reasons import (
    DEVICE_LOST,
    INTENSITY_FALLBACK,
    LACK_OF_FIT,
    MODELLED_ONLY,
    NO_PERMISSION,
    RECOVERED,
    SHARED_DEVICE,
)
from energyprof.rows import channel_rows, figure_columns, region_rows, samples, step_columns
from energyprof.runlog import RunLog
from energyprof.seldom import call_columns
from energyprof.tally import TOTAL, Figure, Meter, figures_on, total_of

_MUCH_NOISE = 0.5
_INDEX_EACH = 64  # runs, about: it reads as many files, 0.2 s beside a program that is over
# What a run's readings may make of its regions and layers: the run is more than those.
_FAULTS = (ArithmeticError, ValueError, LookupError, TypeError)


def seal(folder: str, out: str | None = None, recovered: bool = False) -> str:
    """Write a run's folder into the dataset and say so in its `sealed.json`.

    Parameters
    ----------
    folder
        The run's folder; it stays as it is.
    out
        Another dataset to write to (a look at an open run); the folder's own where None.
    recovered
        The meter was killed: the status says so.

    Returns
    -------
    The run's id.

    Raises
    ------
    OSError, ValueError
        The folder cannot be read, or the dataset not written.
    """
    through_ns = time.monotonic_ns()
    log = runlog.load(folder)
    spans = _spans(log)
    meters, flags = meters_of(log.streams, log.lost, spans)
    if recovered:
        flags.add(RECOVERED)
    if _shared(meters, log, spans):
        flags.add(SHARED_DEVICE)
    # Totals first: estimating short regions of a long run takes its time, and we may be killed.
    target = out or str(log.facts["out"])
    sums = _sums(log, meters)
    layers = noted(folder, log, flags)
    costs, more = _costs(log, meters, spans)
    flags |= more
    keys = _store(target, log, spans, meters, flags, {}, sums, costs, layers)
    try:
        solved = _solved(log, meters, spans)
    except _FAULTS as fault:
        print(f"energyprof: warning: short regions were not estimated: {fault!r}", file=sys.stderr)
        solved = {}
    if solved:
        _store(target, log, spans, meters, flags, solved, sums, costs, layers, readings=False)
    try:
        store_layers(target, keys, _date(log), layers, meters)
    except _FAULTS as fault:
        print(f"energyprof: warning: the layers were not stored: {fault}", file=sys.stderr)
    if out is None:
        write_whole(os.path.join(folder, "sealed.json"), json.dumps({**keys, "through_ns": through_ns}))
        if int(keys["run_id"][-2:], 16) % _INDEX_EACH == 0:
            _index(target)
    return keys["run_id"]


def _index(target: str) -> None:
    """Bring the index of the runs up to date now and then, so that no listing meets thousands that it lacks."""
    try:
        store.runs(target, ("run_id", "started_utc"))
    except Exception as fault:  # a listing will do it
        print(f"energyprof: warning: the index of runs was not written: {fault}", file=sys.stderr)


def _costs(
    log: RunLog, meters: Sequence[Meter], spans: Sequence[tuple[int, int]]
) -> tuple[dict[str, Any], set[str]]:
    """Grams, litres and money; none where they cannot be worked out: the run is more than those."""
    try:
        return footprint.of_run(log.facts, meters, spans)
    except Exception as fault:  # whatever a file, a table or the facts hold
        print(
            f"energyprof: warning: no emissions are stored: {type(fault).__name__}: {fault}", file=sys.stderr
        )
        return {}, {INTENSITY_FALLBACK}


def _store(
    target: str,
    log: RunLog,
    spans: Sequence[tuple[int, int]],
    meters: Sequence[Meter],
    flags: set[str],
    solved: Mapping[str, Solved],
    sums: Mapping[int, KindSum],
    costs: Mapping[str, Any],
    layers: Sequence[LayerLog] = (),
    readings: bool = True,
) -> dict[str, str]:
    """Write the tables of a run, its readings only where asked to; returns its id and node."""
    rows = kind_rows(meters, log.kinds, sums, solved)
    marks = joined([*(fold.steps for fold in log.folds), log.marks])
    steps = step_rows(meters, log.kinds, marks)
    flags = flags | log.flags | {flag for row in rows for flag in row.flags}
    measured = {meter.channel.name for meter in meters if meter.channel.method != "modelled"}
    if any(_misfits(found) for name, found in solved.items() if name in measured):
        flags.add(LACK_OF_FIT)
    begins, ends = (np.array(column, np.int64) for column in zip(*spans))
    figures = figures_on(meters, begins, ends)
    apart = {layer.rank: layer.apart for layer in layers}
    run = _run_row(
        log,
        meters,
        figures,
        spans,
        flags,
        [plain_steps(table, apart.get(table.kind.rank, ())) for table in steps],
    )
    run["steps"] = sum(len(table.begin_ns) for table in steps)
    run.update({**costs, **run_columns(layers)})
    run.update(forecasting.run_columns(log, meters, spans, steps, apart, run))
    idles = _idles(log, meters)
    run.update(_net_of_run(meters, figures, idles, run["duration_s"]))
    parts = _allocated(meters, log, spans)
    own = [parts.get(meter.channel.name) for meter in meters if meter.in_total]
    run["allocated_j"] = sum(part or 0.0 for part in own) if own and None not in own else None
    date = _date(log)
    keys = {"run_id": str(run["run_id"]), "node": str(run["node"])}

    def write(table: str, parts: Iterable[Any], suffix: str = "") -> None:
        data = (store.table_of(table, part) for part in parts)
        store.write(store.file_path(target, table, date, f"{keys['run_id']}.{keys['node']}{suffix}"), data)

    net = {m.channel.name: _net_of_channel(m, figures, idles, run["duration_s"]) for m in meters}
    channels = channel_rows(meters, figures, log, solved)
    shares = {
        name: {
            "allocated_j": part,
            "allocated_share": part / whole if (whole := figures[name].energy_j) else None,
        }
        for name, part in parts.items()
    }
    rows_of_channels = [
        {**keys, **row, **net[row["channel"]], **shares.get(row["channel"], {})} for row in channels
    ]
    write("channels", [rows_of_channels])
    if readings:
        write("samples", samples(keys, log.streams.values()))
    for rank in sorted({kind.rank for kind in log.kinds}):
        regions = [{**keys, **row} for row in region_rows(rows, rank)]
        tables = [step_columns(keys, t, apart.get(rank, ())) for t in steps if t.kind.rank == rank]
        calls = call_columns(keys, log.kinds, marks, rank)
        write("intervals", [regions, *tables, *calls], suffix=f".{rank}")
    write("runs", [[run]])  # last: who sees the run's row finds the rest
    return keys


def _date(log: RunLog) -> str:
    """The day of the run's start, by which the dataset is divided."""
    return datetime.fromtimestamp(log.facts["started_unix_ns"] / 1e9, timezone.utc).date().isoformat()


def _sums(log: RunLog, meters: Sequence[Meter]) -> dict[int, KindSum]:
    """What each region kind adds up to, in the folds and in the marks that are left."""
    marks = log.marks.within(log.folded_ns, log.last_ns) if log.folds else log.marks
    total = kind_sums(meters, log.kinds, marks)
    for fold in log.folds:
        for index, one in fold.sums.items():
            if log.kinds[index].row_kind != "region":
                continue
            total[index] = total[index] + one if index in total else one
    return total


def _solved(log: RunLog, meters: Sequence[Meter], spans: Sequence[tuple[int, int]]) -> dict[str, Solved]:
    """The regions that curves cannot resolve: of the whole run, or of its folds and what is left."""
    if not log.folds:
        return solve(meters, log.kinds, log.marks, spans)
    order = np.argsort(log.marks.begin_ns, kind="stable")
    left = log.marks.chosen(order).within(log.folded_ns, log.last_ns)
    known = {name: parts[0].result for name, parts in log.folds[0].parts.items() if parts}
    last = solve_parts(meters, log.kinds, left, log.folded_ns, spans[-1][1], known)
    stretches = [*(fold.parts for fold in log.folds), last]
    found: dict[str, list[Part]] = {}
    for name in {name for stretch in stretches for name in stretch}:
        parts = [stretch.get(name, []) for stretch in stretches]
        if all(part is not None for part in parts) and not any(fold.damaged for fold in log.folds):
            found[name] = [one for part in parts for one in part or ()]
    return apportioned(found, log.kinds)


def _misfits(found: Solved) -> bool:
    """Residuals that follow each other, or calls that differ as much as regions do: the model is too simple."""
    together = abs(found.autocorrelation) * max(found.freedom, 1.0) ** 0.5
    return together > 4.0 or (found.call_noise or 0.0) > _MUCH_NOISE


def _spans(log: RunLog) -> list[tuple[int, int]]:
    """The time inside the run: the union of what its members say. What is open ends where all ends."""
    first = int(log.facts["t_ns"])
    last = max(log.last_ns, first + 1)
    spans = [(begin, last if end is None else end) for process in log.members for begin, end in process.spans]
    return union(spans or [(first, last)])


def _run_row(
    log: RunLog,
    meters: Sequence[Meter],
    figures: dict[str, Figure],
    spans: Sequence[tuple[int, int]],
    flags: set[str],
    steps: Sequence[Steps],
) -> dict[str, Any]:
    facts = log.facts
    total = figures[TOTAL]
    counted = [(meter, figures[meter.channel.name]) for meter in meters if meter.in_total]
    measured = [f for m, f in counted if m.channel.method in ("counter", "integrated")]
    modelled = [f for m, f in counted if m.channel.method == "modelled"]
    duration = sum(end - begin for begin, end in spans) / 1e9
    if modelled and not measured:
        flags.add(MODELLED_ONLY)
    flags.update(
        absence["reason"] for absence in log.missing if absence["reason"] in (NO_PERMISSION, DEVICE_LOST)
    )
    flags.update(figure.reason for _, figure in counted if figure.energy_j is None and figure.reason)
    energy = total.energy_j
    first = log.processes[0].facts if log.processes else {}
    counts = _summed(process.counts for process in log.processes)
    return {
        "run_id": facts["run_id"],
        "node": facts["node"],
        "name": facts.get("name"),
        "status": "recovered" if RECOVERED in flags else _status(log),
        "started_utc": datetime.fromtimestamp(facts["started_unix_ns"] / 1e9, timezone.utc),
        "duration_s": duration,
        **figure_columns(total),
        "measured_j": total_of(measured).energy_j if measured else 0.0,
        "modelled_j": total_of(modelled).energy_j if modelled else 0.0,
        "power_w": energy / duration if energy is not None and duration > 0 else None,
        "flags": ",".join(sorted(flags)),
        "calls": sum(len(process.spans) for process in log.members),
        "steps": sum(len(table.begin_ns) for table in steps),
        "energy_per_step_j": energy_per_step(meters, steps),
        "samples": counts.get("samples"),
        "tokens": counts.get("tokens"),
        "ranks": max(1, len({process.rank for process in log.processes})),
        "exit_code": log.exit_code,
        "command": json.dumps(facts.get("command", [])),
        "cwd": facts.get("cwd"),
        "tags": json.dumps(facts.get("tags") or {}),
        "metrics": json.dumps({k: v for process in log.processes for k, v in process.metrics.items()}),
        "missing": json.dumps(log.missing),
        "program_cpu_share": allocation.program_share(log.streams, log.quiet),
        "hardware": ", ".join(_hardware(meters)),
        "os": platform.platform(),
        "python": first.get("python") or platform.python_version(),
        "torch": next((p.facts["torch"] for p in log.processes if p.facts.get("torch")), None),
        "energyprof": energyprof.__version__,
        "git_commit": _git_commit(facts.get("cwd")),
        "t0_ns": spans[0][0],
        "t1_ns": spans[-1][1],
        "boot_id": facts.get("boot_id"),
    }


def _status(log: RunLog) -> str:
    if log.outer:
        code = log.exit_code
        return "killed" if code is None or code < 0 else "finished" if code == 0 else "failed"
    if any(end is None for process in log.processes for _, end in process.spans):
        return "killed"
    return "failed" if any(process.failed for process in log.processes) else "finished"


def _summed(tables: Iterator[dict[str, float]] | Any) -> dict[str, float]:
    total: dict[str, float] = {}
    for table in tables:
        for key, value in table.items():
            total[key] = total.get(key, 0.0) + value
    return total


def _idles(log: RunLog, meters: Sequence[Meter]) -> dict[str, baseline.Idle]:
    """The idle power of every channel of which it is known."""
    cache, node = metercache.load(os.environ), str(log.facts["node"])
    found = {meter.channel.name: baseline.idle_of(meter, log.quiet, cache, node) for meter in meters}
    return {name: idle for name, idle in found.items() if idle is not None}


def _net_of_run(
    meters: Sequence[Meter],
    figures: Mapping[str, Figure],
    idles: Mapping[str, baseline.Idle],
    duration_s: float,
) -> dict[str, Any]:
    net = baseline.total_net(meters, figures, idles, duration_s)
    watts, source = baseline.total_idle(meters, idles)
    return {"net_energy_j": net.energy_j, "u95_net_j": net.u95_j, "idle_w": watts, "idle_source": source}


def _net_of_channel(
    meter: Meter, figures: Mapping[str, Figure], idles: Mapping[str, baseline.Idle], duration_s: float
) -> dict[str, Any]:
    idle = idles.get(meter.channel.name)
    if idle is None:
        return {}
    net = baseline.net_of(figures[meter.channel.name], idle, duration_s)
    return {
        "net_energy_j": net.energy_j,
        "u95_net_j": net.u95_j,
        "idle_w": idle.watts,
        "u95_idle_w": idle.u95_w,
        "idle_source": idle.source,
    }


def _allocated(meters: Sequence[Meter], log: RunLog, spans: Sequence[tuple[int, int]]) -> dict[str, float]:
    """The program's part of each channel, J, where use and energy are known."""
    found = allocation.uses(log.streams, spans)
    parts: dict[str, float] = {}
    for meter in meters:
        use = allocation.use_of(meter.channel.name, found)
        part = allocation.allocated_j(meter, use, spans) if use is not None else None
        if part is not None:
            parts[meter.channel.name] = part
    return parts


def _shared(meters: Sequence[Meter], log: RunLog, spans: Sequence[tuple[int, int]]) -> bool:
    """Whether others used a device that counts."""
    found = allocation.uses(log.streams, spans)
    chosen = [allocation.use_of(meter.channel.name, found) for meter in meters if meter.in_total]
    return any(use is not None and use.shared for use in chosen)


def _hardware(meters: Sequence[Meter]) -> list[str]:
    return sorted({str(m.channel.device["model"]) for m in meters if m.channel.device.get("model")})


def _git_commit(cwd: Any) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(cwd), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def main(arguments: list[str]) -> int:
    """`seal FOLDER [OUT]`: exit status 0 where the run is in the dataset."""
    lean.without_pandas()
    seal(arguments[0], arguments[1] if len(arguments) > 1 else None)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
