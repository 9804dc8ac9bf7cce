"""Figures as people read them: prefixes, intervals, no more digits than those allow; text that stays on its line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

_PREFIXES = (
    (1e15, "P"),
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
)
NO_FIGURE = "—"
_LEAST_MONEY = 0.001
_LEAST_PLAIN = 0.001


def quantity(value: float, unit: str, digits: int = 3) -> str:
    """A number with an SI prefix: 1234.5 J -> "1.23 kJ"."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f} {unit}"
    value = float(f"{value:.{digits - 1}e}")  # rounded first: 999.6 J is 1.00 kJ, not 1000 J
    scale, prefix = _scale(abs(value))
    return f"{_rounded(value / scale, digits)} {prefix}{unit}"


def energy(value: float | None, u95: float | None, reason: str | None = None, unit: str = "J") -> str:
    """An energy with its interval and no more digits than that allows: "1.23 ± 0.05 kJ"."""
    if value is None:
        return f"{NO_FIGURE} ({reason or 'unknown'})"
    if not u95:
        return quantity(value, unit)
    scale, prefix = _scale(max(abs(value), abs(u95), 1e-6))
    digits = _digit(u95 / scale)
    places = max(0, digits)
    return (
        f"{round(value / scale, digits):.{places}f} ± {round(u95 / scale, digits):.{places}f} {prefix}{unit}"
    )


def _digit(u95: float) -> int:
    """The decimal place to which a figure of that half-width is worth printing.

    Two digits of the uncertainty where it begins with 1 or 2, else one (the GUM's habit).
    """
    mantissa, _, exponent = f"{u95:.1e}".partition("e")
    return (1 if float(mantissa) < 3 else 0) - int(exponent)


def ranged(value: float, lo: float, hi: float, unit: str) -> str:
    """A figure with the ends of its interval: "1.23 (1.05 to 1.60) kg"; plain where they are as good as equal.

    No more digits than the interval allows, and no fewer than two of each number: an end that is not zero is not
    told as zero.
    """
    half = (hi - lo) / 2
    if half <= 1e-4 * abs(value):
        return quantity(value, unit)
    scale, prefix = _scale(abs(value) or abs(hi))
    least = _digit(half / scale)
    told = [_told(number / scale, least) for number in (value, lo, hi)]
    return f"{told[0]} ({told[1]} to {told[2]}) {prefix}{unit}".rstrip()


def plain(value: float, lo: float, hi: float, unit: str = "") -> str:
    """As `ranged`, without a prefix: ratios, shares, hours, and units that are never told otherwise (g/kWh)."""
    half = (hi - lo) / 2
    if 0 < max(abs(lo), abs(hi)) < _LEAST_PLAIN:
        return f"below {_LEAST_PLAIN:g} {unit}".rstrip()
    if half <= 1e-4 * abs(value):
        return f"{_told(value, 2 - math.floor(math.log10(abs(value))) if value else 0)} {unit}".rstrip()
    told = [_told(number, _digit(half)) for number in (value, lo, hi)]
    return f"{told[0]} ({told[1]} to {told[2]}) {unit}".rstrip()


def _told(number: float, least: int) -> str:
    """A number to a decimal place, or to its own second digit where that is further behind."""
    own = 1 - math.floor(math.log10(abs(number))) if number else least
    places = max(least, own)
    return f"{round(number, places):,.{max(0, places)}f}"


def money(value: float, lo: float, hi: float, currency: str | None) -> str:
    """A sum of money, without a prefix: "0.012 (0.010 to 0.014) EUR"."""
    half, unit = (hi - lo) / 2, currency or "(no currency said)"
    if max(abs(lo), abs(hi)) < _LEAST_MONEY:
        return f"below {_LEAST_MONEY:g} {unit}"
    if half <= 1e-4 * abs(value):
        return f"{value:,.3g} {unit}" if abs(value) < 100 else f"{value:,.2f} {unit}"
    places = max(0, _digit(half))
    return f"{value:,.{places}f} ({lo:,.{places}f} to {hi:,.{places}f}) {unit}"


def changed(change: float | None) -> str:
    """A relative change in per cent with its sign: 0.051 -> "+5.1 %"; no negative zero. From nothing it is "new"."""
    if change is None:
        return NO_FIGURE
    if not math.isfinite(change):
        return "new"
    return f"{round(100 * change, 1) + 0.0:+.1f} %".replace("-", "−")


def duration(seconds: float | None) -> str:
    """Seconds as a person says them: "45.1 ms", "24.3 s", "2 h 05 min"."""
    if seconds is None:
        return NO_FIGURE
    if seconds < 0.1:
        return quantity(seconds, "s")
    if seconds < 59.95:
        return f"{_rounded(seconds, 3)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def clean(text: object) -> str:
    """Any text on one line: control characters are shown, not obeyed."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def short_id(run_id: str) -> str:
    """The part of an id that tells runs apart: its time is in front, its randomness behind."""
    return run_id[:8] + run_id[8:13]


def table(rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Columns padded to one width; the first row is the head; `right` columns are right-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    aligned = set(right)
    return [
        "  ".join(
            cell.rjust(width) if i in aligned else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


def _scale(value: float) -> tuple[float, str]:
    return next(((s, p) for s, p in _PREFIXES if value >= s), _PREFIXES[-1])


def _rounded(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}"
