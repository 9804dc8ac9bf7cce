"""A comparison as text, Markdown, CSV and JSON: data in, text out.

The verdict comes first, then what differs besides what was compared, then the figures, then the method.
"""

from __future__ import annotations

import csv
import html
import io
import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from energyprof.measures import METRICS, STEP_TIME
from energyprof.reports.numbers import NO_FIGURE, clean, quantity, table

if TYPE_CHECKING:
    from energyprof.comparability import Difference
    from energyprof.comparison import Comparison, Effect

WIDTH = 96
_MINUS = "−"
_LABEL = 24
_HUGE = 1.0  # an effect above which no figure of what could be seen helps anybody
_RUNS = re.compile(r"n = \d+ and \d+")


def sentence(effect: Effect, baseline: str) -> str:
    """What one effect says: "B costs 12 % less energy than A (95 % interval 9 to 15 %, n = 10 and 10)"."""
    one, other = _shown(effect.group), _shown(baseline)
    counts = f"n = {effect.n_baseline} and {effect.n}"
    noun = noun_of(effect.metric)
    if effect.verdict == "not comparable":
        why = effect.notes[-1] if effect.notes else "the figures are not of the same thing"
        return f"{noun[:1].upper()}{noun[1:]} of {one} and {other} cannot be compared: {clean(why)}"
    change, low, high = _change(effect)
    if change is None or low is None or high is None:
        if change is None and effect.verdict in ("less", "more"):
            verdict = f"{one} has {effect.verdict} {noun} than {other}, which has none"
            return f"{verdict}: {span_of(effect)} at 95 %, {counts}"
        if change is None:
            return f"no ratio of {noun} of {one} and {other} is known"
        bare = f"{_signed(change, 1)} {noun} of {one} against {other}, with no interval"
        return f"too few runs to tell: {bare} ({counts}); {_what_to_do(effect)}"
    if effect.verdict in ("less", "more"):
        near, far = sorted((abs(low), abs(high)))
        places = _places(high - low)
        through = _through(effect)
        verb = "has" if effect.metric.startswith("quality:") or effect.metric == "flop_per_j" else "costs"
        verb = {"duration": "takes", "power": "draws"}.get(effect.metric, verb)
        return (
            f"{one} {verb} {_percent(abs(change), places)} {effect.verdict} {noun} than {other} "
            f"(95 % interval {_number(near, places)} to {_percent(far, places)}, {through or counts})"
        )
    places = _places(high - low)
    ends = f"{_signed_number(low, places)} to {_signed(high, places)}"
    span = f"{_signed(change, places)} (95 % interval {ends}, {_through(effect) or counts})"
    if effect.verdict == "too few runs":
        return f"too few runs to tell: {noun} of {one} against {other}: {span}; {_what_to_do(effect)}"
    small = next((note for note in effect.notes if "threshold" in note), None)
    if small:
        return f"{one} and {other} differ in {noun} by {span}: {small}"
    seen = _could(effect)
    return f"no evidence that {one} and {other} differ in {noun}: {span}{'; ' + seen if seen else ''}"


def _through(effect: Effect) -> str:
    if not effect.method.startswith("steps"):
        return ""
    return "through the steps of single runs: what varies from run to run is not in it"


def _what_to_do(effect: Effect) -> str:
    return "repeat both five times" if max(effect.n, effect.n_baseline) < 5 else "repeat the smaller group"


def _could(effect: Effect) -> str:
    """What so many runs could have shown."""
    if effect.detectable is None:
        return ""
    what = "steps" if _through(effect) else "runs"
    if effect.detectable > _HUGE:
        return f"so many {what} show nothing below {_percent(100 * _HUGE)} in 4 of 5 cases"
    could = f"so many {what} show {_percent(100 * effect.detectable)} in 4 of 5 cases"
    if effect.runs_for_2_percent is None or effect.detectable <= 0.02:
        return could
    return f"{could}; {effect.runs_for_2_percent:,} runs each would show 2 %"


def text(comparison: Comparison, columns: int | None = None) -> list[str]:
    """The comparison for a terminal of so many columns; for a file where None."""
    width = min(columns or WIDTH, WIDTH)
    lines = _wrapped(_capital(comparison.verdict) + ".", width)
    if comparison.differences:
        lines += ["", "what differs besides:"]
    for difference in comparison.differences:
        lines += _difference_lines(difference, width)
    lines += ["", *_table(comparison, columns)]
    notes = _notes(comparison)
    lines += [""] if notes else []
    lines += [line for note in notes for line in _wrapped(note, width, "    ")]
    lines += ["", *_wrapped(comparison.method, width, continued="")]
    return lines


def _difference_lines(difference: Difference, width: int) -> list[str]:
    mark = "!" if difference.severity == "warning" else " "
    values = " | ".join(_cut(clean(value), 34) for value in difference.values)
    return _wrapped(f"  {mark} {difference.field}: {values}  ({difference.why})", width, "      ")


def _table(comparison: Comparison, columns: int | None) -> list[str]:
    two = len(comparison.groups) == 2
    found = comparison.effects
    if two:
        labels = [_shown(group.label, 14) for group in comparison.groups]
        head = ["", *labels, "change (95 % interval)", "p", "verdict"]
        rows = [
            [_shown(e.metric), _value(e, e.baseline), _value(e, e.value), span_of(e), _p(e), _verdict(e)]
            for e in found
        ]
        return _fitted([head, *rows], (1, 2), columns)
    head = ["", "group", "mean", "change (95 % interval)", "p", "verdict"]
    rows = []
    for metric in dict.fromkeys(e.metric for e in found):
        mine = [e for e in found if e.metric == metric]
        first = next((e for e in mine if not math.isnan(e.baseline)), mine[0])
        rows.append(
            [_shown(metric), _shown(comparison.groups[0].label), _value(first, first.baseline), "", "", ""]
        )
        rows += [["", _shown(e.group), _value(e, e.value), span_of(e), _p(e), _verdict(e)] for e in mine]
    return _fitted([head, *rows], (2,), columns)


def _fitted(rows: Sequence[Sequence[str]], right: Sequence[int], columns: int | None) -> list[str]:
    """A table whose last columns are the change, p and the verdict; where it is too wide for a terminal, change and p
    stand on a line below each row."""
    lines = table(rows, right)
    if columns is None or max(map(len, lines)) <= columns:
        return lines
    short = table([[*row[:-3], row[-1]] for row in rows], right)
    lines = [short[0], f"    {rows[0][-3]}, {rows[0][-2]}"]
    for row, line in zip(rows[1:], short[1:]):
        change, p = row[-3:-1]
        shown = f", p {p if p.startswith('<') else f'= {p}'}" if p not in ("", NO_FIGURE) else ""
        lines += [line, *([f"    {change}{shown}"] if change else [])]
    return lines


def _notes(comparison: Comparison) -> list[str]:
    """What the runs could have shown, and remarks; one that several metrics have stands once."""
    lines = [f"  {clean(note)}" for note in comparison.notes]
    several = len(comparison.groups) > 2
    for group in dict.fromkeys(e.group for e in comparison.effects):
        mine = [e for e in comparison.effects if e.group == group]
        seen: dict[str, list[str]] = {}
        told: dict[str, list[str]] = {}
        for e in mine:
            if e.detectable is not None:
                runs = f" ({e.runs_for_2_percent:,})" if e.runs_for_2_percent else ""
                size = (
                    f"above {_percent(100 * _HUGE)}" if e.detectable > _HUGE else _percent(100 * e.detectable)
                )
                seen.setdefault(size + runs, []).append(e.metric)
            for note in e.notes:
                told.setdefault(note, []).append(e.metric)
        who = f"{_shown(group)}: " if several else ""
        if seen:
            each = "; ".join(f"{_several(names)} {shown}" for shown, names in seen.items())
            lines.append(f"  {who}smallest change shown in 4 of 5 cases (runs a group for 2 %): {each}")
        for note, names in told.items():
            which = "all" if len(names) == len(mine) > 1 else _several(names)
            lines.append(f"  {who}{which}: {clean(note)}")
    return lines


def _several(names: Sequence[str]) -> str:
    """Names of metrics, the first ones where they are many."""
    shown = [clean(name) for name in names]
    return ", ".join(shown) if len(shown) <= 3 else f"{shown[0]}, {shown[1]} and {len(shown) - 2} more"


def markdown(comparison: Comparison) -> list[str]:
    """The comparison for a pull request or a job's summary."""
    lines = [f"**{_escaped(_capital(comparison.verdict))}.**", ""]
    if comparison.differences:
        labels = [_escaped(group.label) for group in comparison.groups]
        lines += ["What differs besides:", "", _row(["", *labels, "why it matters"])]
        lines.append(_row(["---"] * (len(labels) + 2)))
        for d in comparison.differences:
            name = f"{'⚠ ' if d.severity == 'warning' else ''}{_escaped(d.field)}"
            lines.append(_row([name, *map(_escaped, d.values), _escaped(d.why)]))
        lines.append("")
    head = ["metric", "group", "baseline", "mean", "change (95 % interval)", "p", "verdict"]
    lines += [_row(head), _row(["---", "---", "---:", "---:", "---", "---", "---"])]
    for e in comparison.effects:
        cells = [e.metric, e.group, _value(e, e.baseline), _value(e, e.value), span_of(e), _p(e), _verdict(e)]
        lines.append(_row([_escaped(cell) for cell in cells]))
    notes = [f"- {_escaped(note.strip())}" for note in _notes(comparison)]
    return [*lines, "", *notes, *([""] if notes else []), _escaped(comparison.method)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(value: object) -> str:
    """Any text as Markdown shows it, as text and nothing else."""
    plain = html.escape(clean(value), quote=False)
    plain = re.sub(r"([\\`*_{}\[\]~!])", r"\\\1", plain)
    # What a backslash does not keep from meaning something: the end of a cell, mentions.
    return plain.replace("|", "&#124;").replace("@", "&#64;")


def comma_separated(comparison: Comparison) -> str:
    """A row an effect, with all its fields; notes joined by semicolons."""
    names = [one.name for one in fields(comparison.effects[0])] if comparison.effects else []
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    for effect in comparison.effects:
        row = asdict(effect)
        row["notes"] = "; ".join(row["notes"])
        writer.writerow(["" if (value := _finite(row[name])) is None else value for name in names])
    return buffer.getvalue().rstrip("\n")


def as_data(comparison: Comparison) -> dict[str, Any]:
    """The comparison for machines: runs by their id; what is not known is null."""
    return {
        "verdict": comparison.verdict,
        "same_board": comparison.same_board,
        "threshold": comparison.threshold,
        "groups": [
            {"label": group.label, "n": len(group.runs), "runs": [run["run_id"] for run in group.runs]}
            for group in comparison.groups
        ],
        "differences": [asdict(difference) for difference in comparison.differences],
        "effects": [{k: _finite(v) for k, v in asdict(effect).items()} for effect in comparison.effects],
        "notes": list(comparison.notes),
        "method": comparison.method,
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def noun_of(name: str) -> str:
    """What a metric is called in words: energy_per_step is "energy per step"."""
    if name == STEP_TIME.name:
        return STEP_TIME.noun
    found = METRICS.get(name)
    return found.noun if found else clean(name.removeprefix("quality:"))


def _value(effect: Effect, value: float) -> str:
    if math.isnan(value):
        return NO_FIGURE
    if effect.unit:
        return quantity(value, effect.unit, 4)
    return f"{value:.4g}"


def _change(effect: Effect) -> tuple[float | None, float | None, float | None]:
    """The change and the ends of its interval, in per cent of the baseline."""
    if effect.ratio is not None:
        ends = (effect.ratio_lo, effect.ratio_hi)
        return (100 * (effect.ratio - 1), *(None if end is None else 100 * (end - 1) for end in ends))  # type: ignore[return-value]
    if effect.difference is None or not effect.baseline or math.isnan(effect.baseline):
        return None, None, None
    scale = 100 / abs(effect.baseline)
    low, high = (None if end is None else end * scale for end in (effect.difference_lo, effect.difference_hi))
    return effect.difference * scale, low, high


def span_of(effect: Effect) -> str:
    """The change with the ends of its interval, to as many places as they deserve."""
    change, low, high = _change(effect)
    if change is None:
        if effect.difference is None:
            return NO_FIGURE
        ends = (effect.difference_lo, effect.difference_hi)
        return f"{effect.difference:+.3g}" + ("" if None in ends else f" ({ends[0]:.3g} to {ends[1]:.3g})")
    return _signed(change, 1) if low is None or high is None else _interval(change, low, high)


def _interval(change: float, low: float, high: float) -> str:
    places = _places(high - low)
    return f"{_signed(change, places)} ({_signed_number(low, places)} to {_signed(high, places)})"


def _places(width: float) -> int:
    """Decimal places so that half the width has two digits, at most three places."""
    if not width > 0 or not math.isfinite(width):
        return 2
    return min(3, max(0, 1 - math.floor(math.log10(width / 2))))


def _number(value: float, places: int) -> str:
    return f"{value:,.{places}f}" if abs(value) < 1e6 else f"{value:.1e}"


def _signed_number(value: float, places: int) -> str:
    plain = _number(abs(value), places)
    if not plain.strip("0."):
        return plain
    return (_MINUS if value < 0 else "+") + plain


def _signed(value: float, places: int) -> str:
    return f"{_signed_number(value, places)} %"


def _percent(value: float, places: int | None = None) -> str:
    if places is None:
        places = 0 if value >= 10 else 1 if value >= 1 else 2
    return f"{_number(value, places)} %"


def _p(effect: Effect) -> str:
    p = effect.p_adjusted
    if p is None:
        return NO_FIGURE
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _verdict(effect: Effect) -> str:
    """The verdict, and whether that is good."""
    if effect.verdict not in ("less", "more"):
        return effect.verdict
    return f"{effect.verdict} ({'better' if effect.verdict == effect.better else 'worse'})"


def _shown(label: str, most: int = _LABEL) -> str:
    return _cut(clean(label), most)


def _cut(label: str, most: int) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _capital(words: str) -> str:
    """A sentence's first letter, unless it is a name that is meant as it is."""
    return words[:1].upper() + words[1:] if words.startswith(("no ", "too ")) else words


def _wrapped(line: str, width: int, continued: str = "  ") -> list[str]:
    """A line within the width; a number and its per cent sign stay together, and so do numbers of runs."""
    kept = textwrap.wrap(
        _RUNS.sub(lambda found: found[0].replace(" ", "\u00a0"), line.replace(" %", "\u00a0%")),
        width,
        subsequent_indent=continued,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [one.replace("\u00a0", " ") for one in kept] or [""]


def headline(comparison: Comparison) -> str:
    """The verdict as a sentence of its own."""
    return _capital(comparison.verdict) + "."


EFFECT_HEAD = ("metric", "group", "baseline", "mean", "change (95 % interval)", "p", "verdict")


def effect_cells(effect: Effect) -> tuple[str, ...]:
    """An effect in words, in the order of `EFFECT_HEAD`."""
    return (
        _shown(noun_of(effect.metric), 40), _shown(effect.group), _value(effect, effect.baseline),
        _value(effect, effect.value), span_of(effect), _p(effect), _verdict(effect),
    )  # fmt: skip


def remarks(comparison: Comparison) -> list[str]:
    """What the runs could have shown, and notes."""
    return [note.strip() for note in _notes(comparison)]
