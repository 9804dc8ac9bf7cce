"""The table of docs/cost.md from the stored rows of cost.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEAD = (
    "| | energyprof | budget | CodeCarbon 3.3 | Zeus 0.16 |",
    "|---|---|---|---|---|",
)
RATES = (
    ("10 Hz", "**meter**, processor time a second, the GPU ticks at 10 Hz"),
    ("50 Hz", "**meter** at 50 Hz"),
    ("10 Hz steady", "**meter** at 10 Hz, a gauge that flickers by milliwatts"),
)
BEGIN, END = (
    "<!-- table: python benchmarks/cost.py --table --into docs/cost.md -->",
    "<!-- end of the table -->",
)


@dataclass(frozen=True)
class Line:
    """One line: which figure of which row, its name, unit and budget, and whether a ratio says anything."""

    row: str
    figure: str
    label: str
    unit: str
    budget: str = ""
    ratio: bool = True
    ours: str = "energyprof"
    peers: bool = True


def lines() -> Iterator[Line]:
    yield Line("import", "import_ms", "**import** over bare Python", "ms", "30 ms")
    yield Line("start", "cold_start_ms", "**start** of a run, torch imported", "ms", "10 ms")
    yield Line("start", "second_start_ms", "… the second of a process", "ms")
    yield Line("start", "cold_leave_ms", "**leave** the block", "ms", "20 ms")
    yield Line("start", "second_leave_ms", "… the second", "ms", "20 ms")
    yield Line(
        "start", "cold_sealed_ms", "from there until the figures are **stored**", "ms", "2,000 ms", False
    )
    yield Line("start", "second_sealed_ms", "… the second", "ms", "1,000 ms", False)
    yield Line("start", "cold_read_ms", "and until the program **has** them", "ms", "", False)
    yield Line("start", "second_read_ms", "… the second", "ms", "", False)
    yield Line("region", "region_us", "a **region's** enter and exit, median", "µs", "2 µs")
    yield Line("region", "region_p99_us", "… 99th percentile", "µs")
    yield Line("region", "step_us", "an iteration of **steps**", "µs")
    for rate, label in RATES:
        yield Line("meter", f"cpu_ms_per_s, {rate}", label, "ms", "20 ms")
        yield Line(
            "meter", f"reading_ms_per_s, {rate}", "… of which in the driver's stub, its binding, files", "ms"
        )
        yield Line("meter", rate, "… a read, above a bare sleeping loop and that", "ms", "0.2 ms")
    yield Line("start", "own_mb", "**memory** added to the program, torch imported", "MB", "marks alone")
    yield Line("start", "others_pss_mb", "… processes beside it, shared pages in part (PSS)", "MB")
    yield Line("memory", "meter_rss_mb", "… the same in full (RSS), 10 s", "MB", "25 MB")
    yield Line("disk", "day_meter_rss_end_mb", "… after a simulated day", "MB", "25 MB", peers=False)
    yield Line("disk", "minute_seal_rss_mb", "sealing a minute, peak RSS", "MB", "150 MB", peers=False)
    yield Line("disk", "day_seal_rss_mb", "… a day", "MB", "150 MB", peers=False)
    yield Line("disk", "minute_journal_kb", "**disk**, a minute, while it runs", "kB", peers=False)
    yield Line("disk", "minute_kb", "… when sealed", "kB", "", False)
    yield Line("disk", "day_journal_kb", "… a day, while it runs", "kB", peers=False)
    yield Line("disk", "day_kb", "… when sealed", "kB", "", False)
    for kind, what in (("median", "median"), ("mean", "mean")):
        yield Line("training", f"{kind}_pct", f"**training** step, {what}, longer by", "%", "0.5 %", False)
        yield Line(
            "training",
            f"{kind}_pct",
            "… under `energyprof run`",
            "%",
            "0.5 %",
            False,
            "energyprof run",
            False,
        )
        yield Line("training", f"{kind}_pct", "… plain over plain", "%", "", False, "nothing", False)


def markdown(rows: dict[str, Any]) -> str:
    """Medians with their 95 % intervals, the peers' with how many times ours; what was not measured is left out."""
    rows = {name: {**row, "figures": dict(row["figures"])} for name, row in rows.items()}
    if "meter" in rows:
        for rate, _ in RATES:
            _above_loop(rows["meter"]["figures"], rate)
    hours = rows.get("disk", {}).get("effort", {}).get("hours", 24)
    text = list(HEAD)
    for line in lines():
        row = rows.get(line.row, {})
        tools = row.get("figures", {}).get(line.figure, {})
        if line.ours not in tools:
            continue
        label = line.label if hours == 24 else line.label.replace("day", f"run of {hours:g} h")
        cells = [label, _cell(tools[line.ours], line.unit), line.budget]
        cells += [_peer(row, line, tools, peer) if line.peers else "" for peer in ("codecarbon", "zeus")]
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def put_into(page: Path, rows: dict[str, Any]) -> None:
    """Replace the table of a page, between its two comments. ValueError where they are not there."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no table between the comments {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{markdown(rows)}\n{END}{after}", encoding="utf-8")


def _above_loop(figures: dict[str, Any], rate: str) -> None:
    """(our time - time in reads - wakes x what a wake of the bare loop takes) / reads, of the medians."""
    try:
        cpu, wakes = figures[f"cpu_ms_per_s, {rate}"], figures[f"wakes_per_s, {rate}"]
        ours, loop = cpu["energyprof"]["median"], cpu["sleeping loop"]["median"]
        a_wake = loop / wakes["sleeping loop"]["median"]
        reads = figures[f"reads_per_s, {rate}"]["energyprof"]["median"]
        inside = figures[f"reading_ms_per_s, {rate}"]["energyprof"]["median"]
        above = (ours - inside - wakes["energyprof"]["median"] * a_wake) / reads
    except (KeyError, ZeroDivisionError):
        return
    figures[rate] = {"energyprof": {"median": above, "low": above, "high": above, "n": 1}}


def _peer(row: dict[str, Any], line: Line, tools: dict[str, Any], peer: str) -> str:
    parts = []
    for tool, prefix in ((peer, ""), (f"{peer} gpu", "GPU alone ")):
        if tool in tools:
            times = row["times_ours"].get(line.figure, {}).get(tool) if line.ratio else None
            beside = f", {_number(times['median'])} ×" if times and times["median"] > 0 else ""
            parts.append(f"{prefix}{_cell(tools[tool], line.unit)}{beside}")
    return "; ".join(parts) or (f"*{row['failed'][peer]}*" if peer in row.get("failed", {}) else "")


def _cell(found: dict[str, Any], unit: str) -> str:
    if unit == "ms" and found["high"] < 0.05 and found["low"] >= 0:
        return "at once" if found["n"] > 1 else f"{_number(found['median'])} ms"
    if found["n"] == 1:
        return f"{_number(found['median'])} {unit}"
    return f"{_number(found['median'])} ({_number(found['low'])} to {_number(found['high'])}) {unit}"


def _number(value: float) -> str:
    """Two digits, three from a hundred on: more is not in the noise."""
    if abs(value) >= 100:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{float(f'{value:.2g}'):g}".replace("-", "−")
