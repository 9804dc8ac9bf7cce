"""What `energyprof doctor` learned of the meters, as plain text. Data in, text out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from energyprof.reports.numbers import NO_FIGURE, clean, energy, quantity, table


def calibrated(report: Mapping[str, Any]) -> list[str]:
    """`doctor --calibrate`: a line a meter, a line a power field, and what could not be told."""
    meters = report["meters"]
    if not meters:
        return ["no meter and no model gave a reading"]
    rows = [["meter", "a read", "tick", "jitter", "idle", "may be read often"], *(_meter(m) for m in meters)]
    lines = table(rows, right=(1, 2, 3, 4))
    fields = [(m["channel"] + suffix, gauge) for m in meters for suffix, gauge in m["gauges"].items()]
    if fields:
        cells = [[name, _ms(gauge["refresh_ms"]), _ms(gauge["window_ms"])] for name, gauge in fields]
        lines += ["", *table([["power field", "refresh", "window"], *cells], right=(1, 2))]
    notes = [note for m in meters for note in _notes(m)]
    if fields and any(gauge["window_ms"] is None for _, gauge in fields):
        notes.append("windows: a window shows only where power varies, and only if it is longer than a tick")
    kept = f"kept in {clean(report['cache'])}; later runs use it"
    return [*lines, *(["", *notes] if notes else []), "", kept]


def _meter(row: Mapping[str, Any]) -> list[str]:
    tick, jitter = NO_FIGURE, NO_FIGURE
    if row["tick_ms"] is not None:
        tick, jitter = _ms(row["tick_ms"]), f"{row['jitter_ms']:.2g} ms"
    idle = energy(row["power_w"], row["u95_power_w"], unit="W") if row["idle"] else NO_FIGURE
    return [row["channel"], quantity(row["read_ms"] / 1e3, "s"), tick, jitter, idle, _often(row)]


def _often(row: Mapping[str, Any]) -> str:
    """The verdict on fast reads, with what the counter lost at each pace."""
    if not row["shortfalls"]:
        return NO_FIGURE
    verdict = {True: "yes", False: "no, it loses energy", None: "not told"}[row["counter_safe"]]
    seen = (
        f"{-100 * s['share']:+.1f} ± {100 * s['u95']:.1f} % at {s['every_ms']:g} ms"
        for s in row["shortfalls"]
    )
    return f"{verdict}: {', '.join(seen)}"


def _notes(row: Mapping[str, Any]) -> Iterator[str]:
    if row["idle"]:
        return
    drawn = ""
    if row["power_w"] is not None:
        drawn = f"{quantity(row['power_w'], 'W')} varying by {quantity(row['varying_w'], 'W')}; "
    yield f"{row['channel']}: the machine is not idle: {drawn}{clean(row['busy'])}. Its idle power was not kept."


def _ms(value: float | None) -> str:
    return "not told" if value is None else f"{value:.4g} ms"


def tested(report: Mapping[str, Any]) -> list[str]:
    """`doctor --self-test`: a line a meter, and the verdict."""
    head = ["meter", "same work, two names", "marks shuffled", "interval", "verdict"]
    rows = []
    for m in report["meters"]:
        label = m["channel"] + (" (model)" if m["method"] == "modelled" else "")
        if m["passed"] is None:
            rows.append([label, NO_FIGURE, NO_FIGURE, NO_FIGURE, "not tested: its ticks are too few"])
            continue
        widths = sorted(d["u95_w"] / max(d["mean_w"], 1e-12) for d in m["names"])
        interval = f"±{100 * widths[len(widths) // 2]:.2g} %"
        verdict = "passed" if m["passed"] else "failed"
        rows.append([label, _agreeing(m["names"]), _agreeing(m["shuffles"]), interval, verdict])
    lines = [f"{report['calls']} calls of one kind: {report['work'] or 'none'}", ""]
    if rows:
        lines += [*table([head, *rows], right=(3,)), ""]
    if report["passed"]:
        return [*lines, "passed: names that cannot matter make no difference"]
    if not any(m["passed"] is not None for m in report["meters"]):
        return [*lines, "failed: no meter and no model gave ticks enough to test"]
    return [
        *lines,
        "failed: intervals of regions below the tick promise too much on this machine; please report this page",
    ]


def _agreeing(differences: Sequence[Mapping[str, Any]]) -> str:
    agree = sum(bool(d["agrees"]) for d in differences)
    return f"{agree} of {len(differences)} agree"
