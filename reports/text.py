"""Runs as plain text: the summary after a run, and `ls` and `show`. Data in, text out; reads no files."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from energyprof.reasons import MEANING, MODELLED_ONLY, SHARED_DEVICE
from energyprof.reports.emissions import ahead, beside, derived, emissions, pictured, sources
from energyprof.reports.numbers import NO_FIGURE, clean, duration, energy, quantity, short_id, table


def summary(
    run: Mapping[str, Any], channels: Sequence[Mapping[str, Any]], regions: Sequence[Mapping[str, Any]]
) -> list[str]:
    """A run in at most twelve lines: joules with interval, what was measured, what was not, what next."""
    lines = [f"{clean(run['name'] or 'run')}: {_outcome(run)}"]
    details = [derived(run, run["power_w"], "W") + " on average"] if run["power_w"] is not None else []
    if run["energy_per_step_j"] is not None:
        details.append(f"{derived(run, run['energy_per_step_j'], 'J')} a step over {run['steps']} steps")
    after = f"  ({', '.join(details)})" if details else ""
    lines.append(_line("energy", energy(run["energy_j"], run["u95_j"], run["reason"]) + after))
    rest = _without_the_lost(run, channels)
    if rest:
        lines.append(_line("without", rest))
    net = _net(run, channels)
    if net:
        lines.append(_line("net", net))
    shared = _shared(run, channels)
    if shared:
        lines.append(_line("shared", shared))
    lines += [_line(*part) for part in _channel_parts(channels)]
    absent = [m for m in json.loads(run["missing"] or "[]")]
    lines += [_line("not read", f"{m['source']}: {clean(m['detail'])}") for m in absent[:3]]
    lines.append(_line("CO2e", emissions(run)))
    also = beside(run)
    if also:
        lines.append(_line("and", also))
    to_come = ahead(run)
    if to_come:
        lines.append(_line("forecast", to_come))
    if run["samples"] or run["tokens"]:
        lines.append(_line("work", _work(run)))
    where = _where(run, regions)
    if where:
        lines.append(_line("where", where))
    if run.get("flops_model"):
        lines.append(
            _line("flops", f"{quantity(run['flops_model'], 'FLOP')}; `show` has them and the joules by layer")
        )
    elif run.get("layer_notes"):
        lines.append(_line("layers", clean(run["layer_notes"])[:100]))
    lines.append(_line("next", f"energyprof show {short_id(run['run_id'])}"))
    return lines[:12] if len(lines) <= 12 else [*lines[:11], lines[-1]]


def _outcome(run: Mapping[str, Any]) -> str:
    """How the program ended, after how long, and with which exit status or by which signal."""
    status, lasted, code = run["status"] or "unknown", duration(run["duration_s"]), run["exit_code"]
    if status == "recovered":
        return f"recovered, its first {lasted}"
    if code is None or code == 0:
        return f"{status} in {lasted}"
    if code > 0:
        return f"{status} in {lasted} (exit status {code})"
    try:
        return f"{status} in {lasted} ({signal.Signals(-code).name})"
    except ValueError:  # a real-time signal, which has no name of its own
        return f"{status} in {lasted} (signal {-code})"


def details(
    run: Mapping[str, Any],
    channels: Sequence[Mapping[str, Any]],
    regions: Sequence[Mapping[str, Any]],
    layers: Sequence[str] = (),
) -> list[str]:
    """Everything about a run that fits a terminal: summary, meters, regions, layers, reasons, provenance."""
    lines = [f"run {run['run_id']} on {clean(run['node'])}", *summary(run, channels, regions)[:-1], ""]
    based = any(c.get("idle_w") is not None for c in channels)
    head = [
        "meter",
        "energy",
        *(["above idle", "idle"] if based else []),
        "method",
        "tick",
        "in total",
        "scope",
    ]
    rows = [
        [
            c["channel"],
            energy(c["energy_j"], c["u95_j"], c["reason"]),
            *(_idle_cells(c) if based else []),
            c["method"],
            f"{c['tick_ms']:.3g} ms" if c["tick_ms"] is not None else NO_FIGURE,
            "yes" if c["in_total"] else "no",
            clean(c["scope"]),
        ]
        for c in channels
    ]
    right = (1, 2, 3, 5) if based else (1, 3)
    lines += table([head, *rows], right=right) if rows else [_without_meters(run)]
    totals = [r for r in regions if r["channel"] == "total"]
    if json.loads(run["tags"] or "{}").get("layers") == "replayed":
        lines += [
            "",
            f"{len(totals)} regions, the blocks in which layers were repeated (`show --json` has them)",
        ]
    elif totals:
        lines += ["", *_region_table(run, totals)]
    lines += layers
    lines += _legend(run, channels, totals)
    lines += pictured(run)
    lines += ["", *_provenance(run, channels)]
    return lines


def _idle_cells(channel: Mapping[str, Any]) -> list[str]:
    if channel["idle_w"] is None:
        return [NO_FIGURE, NO_FIGURE]
    net = channel["net_energy_j"]
    return [
        NO_FIGURE if net is None else energy(net, channel["u95_net_j"]),
        energy(channel["idle_w"], channel["u95_idle_w"], unit="W"),
    ]


def _net(run: Mapping[str, Any], channels: Sequence[Mapping[str, Any]]) -> str:
    """The energy above idle, or which meter has no idle power; empty where no baseline is known."""
    if run.get("net_energy_j") is not None:
        above = f"above idle ({quantity(run['idle_w'], 'W')}, {clean(run['idle_source'])})"
        return f"{energy(run['net_energy_j'], run['u95_net_j'])} {above}"
    counted = [c for c in channels if c["in_total"]]
    without = [c["channel"] for c in counted if c.get("idle_w") is None]
    measured = [c for c in counted if c.get("idle_w") is not None and c["method"] != "modelled"]
    if run["energy_j"] is None or not measured:  # a model's rest alone was asked for by nobody
        return ""
    return f"{NO_FIGURE} (no idle power is known of {', '.join(without[:3])}; --baseline 5 measures it)"


def _without_the_lost(run: Mapping[str, Any], channels: Sequence[Mapping[str, Any]]) -> str:
    """Where some meter has no figure, the sum of the others, named as what it is; else empty."""
    counted = [c for c in channels if c["in_total"]]
    lost = [c["channel"] for c in counted if c["energy_j"] is None]
    known = [c for c in counted if c["energy_j"] is not None]
    if not lost or not known or run["energy_j"] is not None:
        return ""
    u95 = math.hypot(*(c["u95_j"] or 0.0 for c in known))
    return f"{', '.join(lost[:3])}: {energy(sum(c['energy_j'] for c in known), u95)}"


def _shared(run: Mapping[str, Any], channels: Sequence[Mapping[str, Any]]) -> str:
    """What of a shared machine is the program's by use; empty where nobody else used it."""
    if SHARED_DEVICE not in (run["flags"] or "").split(","):
        return ""
    parts = [c for c in channels if c["in_total"] and c.get("allocated_share") is not None]
    shares = ", ".join(f"{100 * c['allocated_share']:.0f} % of {c['channel']}" for c in parts[:4])
    if not shares:
        return "other programs used the machine too"
    part = (
        "this one's part"
        if run.get("allocated_j") is None
        else f"{quantity(run['allocated_j'], 'J')} are this one's"
    )
    return f"other programs ran too; by use {part} ({shares})"


def _without_meters(run: Mapping[str, Any]) -> str:
    if run["energy_j"] is None:
        return "no meter and no model gave a reading"
    return "the part of the dataset with this run's meters is missing"


def _line(label: str, text: str) -> str:
    return f"  {label:<10}{text}"


def _channel_parts(channels: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    parts: list[tuple[str, str]] = []
    if not channels:
        return parts  # that part of the dataset is missing, which is not to say that nothing was measured
    for label, methods in (("measured", ("counter", "integrated")), ("modelled", ("modelled",))):
        counted = [c for c in channels if c["in_total"] and c["method"] in methods]
        if counted:
            texts = [f"{c['channel']} {energy(c['energy_j'], c['u95_j'], c['reason'])}" for c in counted[:4]]
            more = f", {len(counted) - 4} more" if len(counted) > 4 else ""
            parts.append((label, ", ".join(texts) + more))
    if not any(label == "measured" for label, _ in parts):
        parts.insert(0, ("measured", "nothing: no meter can be read here (`energyprof doctor`)"))
    return parts


def _work(run: Mapping[str, Any]) -> str:
    parts = []
    for unit in ("samples", "tokens"):
        if run[unit]:
            each = (
                f", {derived(run, run['energy_j'] / run[unit], 'J')} each"
                if run["energy_j"] is not None
                else ""
            )
            parts.append(f"{run[unit]:,.0f} {unit}{each}")
    return "; ".join(parts)


def _where(run: Mapping[str, Any], regions: Sequence[Mapping[str, Any]]) -> str:
    """The largest regions by share, inside a single outermost one; only where no two ran at once."""
    known = [r for r in regions if r["channel"] == "total" and r["energy_j"] is not None]
    if json.loads(run["tags"] or "{}").get("layers"):  # repeated layers: their blocks say nothing
        return ""
    if not run["energy_j"] or (run["ranks"] or 1) > 1 or any(r["flags"] for r in known):
        return ""
    shown = [r for r in known if r["depth"] == 0]
    inner = [r for r in known if r["depth"] == 1]
    around = ""
    if len(shown) == 1 and inner:
        around, shown = shown[0]["region"] + "/", inner
    shown = sorted(shown, key=lambda r: -r["energy_j"])[:4]
    shares = ((r["region"].removeprefix(around), r["energy_j"] / run["energy_j"]) for r in shown)
    return ", ".join(f"{clean(name)} {100 * share:.0f} %" for name, share in shares if share >= 0.005)


def _region_table(run: Mapping[str, Any], totals: Sequence[Mapping[str, Any]]) -> list[str]:
    ranks = (run["ranks"] or 1) > 1
    head = ["region", *(["rank"] if ranks else []), "calls", "time", "energy", "share", "method"]
    rows = []
    for r in totals[:40]:
        alone = r["energy_j"] is not None and run["energy_j"] and not r["flags"]  # else shares do not add up
        share = r["energy_j"] / run["energy_j"] if alone else None
        rows.append(
            [
                clean(r["region"]),
                *([str(r["rank"])] if ranks else []),
                f"{r['calls']:,}",
                duration(r["duration_s"]),
                energy(r["energy_j"], r["u95_j"], r["reason"]),
                NO_FIGURE if share is None else f"{100 * share:.1f} %",
                r["method"],
            ]
        )
    lines = table([head, *rows], right=range(1, len(head) - 1))
    return lines + ([f"… {len(totals) - 40} more regions"] if len(totals) > 40 else [])


def _legend(
    run: Mapping[str, Any], channels: Sequence[Mapping[str, Any]], totals: Sequence[Mapping[str, Any]]
) -> list[str]:
    """What each code on the page means."""
    codes = set((run["flags"] or "").split(",")) | {r["reason"] for r in (*channels, *totals) if r["reason"]}
    codes.add(run.get("forecast_reason") or "")
    known = [code for code in MEANING if code in codes and not (code == MODELLED_ONLY and not channels)]
    return ["", *(f"{code}: {MEANING[code]}" for code in known)] if known else []


def _provenance(run: Mapping[str, Any], channels: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for c in channels:
        device = json.loads(c["device"] or "{}")
        source = device.get("tdp_source")
        if source:
            lines.append(f"{c['channel']}: {clean(source)}")
    lines += sources(run)
    missing = json.loads(run["missing"] or "[]")
    lines += [f"{absence['source']}: {clean(absence['remedy'])}" for absence in missing if absence["remedy"]]
    versions = f"energyprof {run['energyprof']}, Python {run['python']}"
    torch = f", torch {run['torch']}" if run["torch"] else ""
    lines.append(f"{versions}{torch}, {clean(run['os'])}")
    lines.append(f"command: {clean(' '.join(json.loads(run['command'] or '[]')))[:200]}")
    return lines


LISTED = (
    *("run_id", "started_utc", "name", "status", "duration_s", "energy_j", "u95_j", "reason"),
    *("measured_j", "co2e_g"),
)  # the columns of which `listing` makes lines


def listing(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """`ls`: a line a run."""
    head = ["run", "started (UTC)", "name", "status", "time", "energy", "measured", "CO2e"]
    rows = [
        [
            short_id(run["run_id"]),
            f"{run['started_utc']:%Y-%m-%d %H:%M}" if run["started_utc"] else NO_FIGURE,
            _shortened(clean(run["name"] or "run"), 32),
            run["status"] or NO_FIGURE,
            duration(run["duration_s"]),
            energy(run["energy_j"], run["u95_j"], run["reason"]),
            _share(run["measured_j"], run["energy_j"]),
            NO_FIGURE if run["co2e_g"] is None else quantity(run["co2e_g"], "g"),
        ]
        for run in runs
    ]
    return table([head, *rows], right=(4, 5, 6, 7))


def diagnosis(report: Mapping[str, Any]) -> list[str]:
    """`doctor`: what can be read, what cannot, and the remedy."""
    lines = []
    main = [c for c in report["channels"] if "/" not in c["channel"]]
    width = max([12, *(len(c["channel"]) + 2 for c in main)])
    for label, methods in (("measured", ("counter", "integrated")), ("modelled", ("modelled",))):
        chosen = [c for c in main if c["method"] in methods]
        if not chosen:
            continue
        lines.append(label)
        for c in chosen:
            gain = f"±{100 * c['gain_u95']:.0f} %" if c["gain_u95"] else "gain not stated"
            flags = f"  [{', '.join(c['flags'])}]" if c["flags"] else ""
            lines.append(f"  {c['channel']:<{width}}{clean(c['scope'])}, {c['method']}, {gain}{flags}")
            source = c["device"].get("tdp_source")
            if source:
                lines.append(f"  {'':<{width}}{clean(source)}")
            if c["device"].get("calibrated"):
                lines.append(f"  {'':<{width}}calibrated {clean(c['device']['calibrated'])}")
    if report["missing"]:
        lines.append("not read")
        for absence in report["missing"]:
            lines.append(f"  {absence['source']:<12}{clean(absence['detail'])} ({absence['reason']})")
            if absence["remedy"]:
                lines += [f"  {'':<12}{clean(part)}" for part in absence["remedy"].splitlines()]
    if report.get("machine"):
        lines.append("this machine")
        lines += [f"  {note['topic']:<12}{clean(note['note'])}" for note in report["machine"]]
    verdict = (
        f"one round of reads takes {report['read_all_us']:.0f} µs"
        if report["measures"]
        else "nothing is measured here: every joule of a run would be from a model, and labelled so"
    )
    return [*lines, "", verdict]


def _share(part: float | None, whole: float | None) -> str:
    return NO_FIGURE if part is None or not whole else f"{100 * part / whole:.0f} %"


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
