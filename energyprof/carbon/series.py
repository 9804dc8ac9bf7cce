"""A figure that changes with time: grams of CO2e (or a price) a kilowatt-hour, from a CSV or parquet file.

A file has a column of times and one of figures. Each figure holds from its time to the next one's; the last
holds for as long as most do. Times carry their zone, or are seconds since 1970. Where most steps are alike, a
longer one is a hole, as is a row without a figure: nothing is known there, and nobody guesses.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MAX_BYTES = 200_000_000  # a century of five-minute figures is half of that
_TIMES = ("time", "datetime", "timestamp", "date", "begin", "start", "from", "hour")
_FIGURES = ("g_per_kwh", "price")
_REGULAR = 0.5  # of the steps being alike, and none shorter, make a longer one a hole
_LONGER = 1.5
_LAST_S = 253_402_300_799.0  # the end of the year 9999: the last second that `datetime` can tell


@dataclass(frozen=True)
class Series:
    """A figure by time, in steps.

    Attributes
    ----------
    begin_s : (n,) float64
        When each step begins, seconds since 1970 (UTC), ascending.
    value : (n,) float64
        The figure that holds in each step; NaN in a hole.
    end_s : float
        When the last step ends.
    source : str
        Where the figures are from.
    scope : str
        Which emissions they count.
    """

    begin_s: Floats
    value: Floats
    end_s: float
    source: str = ""
    scope: str = "as given by the user"

    @property
    def edges_s(self) -> Floats:
        """(n + 1,) the begins, and the end of the last step."""
        return np.append(self.begin_s, self.end_s)

    @property
    def known(self) -> Floats:
        """The figures of the steps that have one."""
        return self.value[~np.isnan(self.value)]

    def cumulative(self, at_s: Any) -> Floats:
        """The integral from the first begin to `at_s` (any shape), in figure x seconds; a hole adds nothing."""
        areas = np.nan_to_num(self.value) * np.diff(self.edges_s)
        return _interpolated(at_s, self.edges_s, areas)

    def covered_s(self, begin_s: Any, end_s: Any) -> Floats:
        """How many seconds from `begin_s` to `end_s` (any shape) have a figure."""
        have = np.where(np.isnan(self.value), 0.0, np.diff(self.edges_s))
        return _interpolated(end_s, self.edges_s, have) - _interpolated(begin_s, self.edges_s, have)

    def mean(self, begin_s: float, end_s: float) -> float:
        """The mean over the time from `begin_s` to `end_s` that has a figure; NaN where none has."""
        covered = float(self.covered_s(begin_s, end_s))
        area = float(self.cumulative(end_s) - self.cumulative(begin_s))
        return area / covered if covered > 0 else math.nan

    def at(self, times_s: Any) -> Floats:
        """The figure that holds at each time (any shape); NaN in holes, before the first and after the last."""
        times = np.asarray(times_s, np.float64)
        step = np.searchsorted(self.begin_s, times, side="right") - 1
        inside = (step >= 0) & (times < self.end_s)
        return np.where(inside, self.value[np.clip(step, 0, None)], math.nan)


def _interpolated(at_s: Any, edges_s: Floats, parts: Floats) -> Floats:
    """The running sum of the steps' parts at any time, straight within a step."""
    found: Floats = np.interp(at_s, edges_s, np.concatenate(([0.0], np.cumsum(parts))))
    return found


def read(
    path: str | os.PathLike[str],
    check: Callable[[Floats, str], Floats] | None = None,
    column: str = "g_per_kwh",
) -> Series:
    """Read a series from a .csv or .parquet file.

    Parameters
    ----------
    path
        The file: two columns, or more of which one is named as a time and another as `column`.
    check
        Figures and their column's name in, figures in g/kWh out; ValueError where they make no sense.
        Grams of CO2e a kilowatt-hour by default.
    column
        ``g_per_kwh`` or ``price``: what the figures are.

    Raises
    ------
    ValueError
        One line: the file cannot be read, times are unsorted, doubled or without a zone, or a figure is none.
    """
    name = os.path.basename(os.fspath(path))
    try:
        if os.path.getsize(path) > MAX_BYTES:
            raise ValueError(
                f"{name} is larger than {MAX_BYTES // 1_000_000} MB; cut it to the time that matters"
            )
        names, columns = _parquet(path) if name.lower().endswith((".parquet", ".pq")) else _csv(path)
    except OSError as fault:
        raise ValueError(f"cannot read {name}: {fault.strerror or fault}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{name} is no text; a series is a .csv or a .parquet file") from None
    try:
        if _is_time(names[0]):
            raise ValueError("it has no head; name its columns in a first line, such as time,g_per_kwh")
        when, what = _chosen(names, column)
        begin = _seconds(columns[when], names[when])
        value = (check or grams)(np.array([_number(cell) for cell in columns[what]]), names[what])
        return series(begin, value, f"series {name}")
    except ValueError as fault:
        raise ValueError(f"{name}: {fault}") from None


def series(begin_s: Sequence[float] | Floats, value: Floats, source: str = "") -> Series:
    """A series of figures, each from its time to the next; ValueError where times are no ascending sequence."""
    begin = np.asarray(begin_s, np.float64)
    if len(begin) < 2:
        raise ValueError("it needs at least two rows, to tell how long each figure holds")
    steps = np.diff(begin)
    if not (steps > 0).all():
        row = int(np.argmin(steps > 0))
        fault = (
            "has the time of the row before it" if steps[row] == 0 else "is earlier than the row before it"
        )
        raise ValueError(
            f"row {row + 2} ({_iso(begin[row + 1])}) {fault}; give each time once, in ascending order, with its zone"
        )
    usual = float(np.median(steps))
    if np.isnan(value).all():
        raise ValueError("no row has a figure")
    alike = np.abs(steps - usual) <= 0.01 * usual
    regular = alike.mean() > _REGULAR and steps.min() >= 0.99 * usual
    if regular and (long := np.flatnonzero(steps > _LONGER * usual)).size:
        begin = np.insert(begin, long + 1, begin[long] + usual)
        value = np.insert(value, long + 1, math.nan)
    end_s = max(float(begin[-1]), min(float(begin[-1] + usual), _LAST_S))
    return Series(begin, value, end_s, source)


def grams(value: Floats, column: str) -> Floats:
    """Figures in g/kWh, by the unit in their column's name; ValueError where they cannot be that."""
    from energyprof.carbon.tables import MAX_G_PER_KWH

    name = column.casefold()
    if re.search(r"(?<![a-z])lbs?(?![a-z])|(?<![a-z])lbs?co2", name):
        raise ValueError(f"{column!r} is in pounds; give grams of CO2e a kWh")
    if "mwh" in name:
        raise ValueError(f"{column!r} is a MWh's; give grams of CO2e a kWh")
    known = value[~np.isnan(value)]
    if "kg" in name:
        known, value = 1e3 * known, 1e3 * value
    elif known.size and 0 < known.max() < 1.5 and name.replace(" ", "") != "g_per_kwh":
        raise ValueError(
            "all figures are below 1.5, which looks like kg; name the column g_per_kwh or kg_per_kwh"
        )
    if known.size and not ((known >= 0) & (known < MAX_G_PER_KWH)).all():
        worst = known[~((known >= 0) & (known < MAX_G_PER_KWH))][0]
        raise ValueError(f"{worst:g} g/kWh is none; figures are from 0 to below {MAX_G_PER_KWH:,.0f}")
    return value


def _chosen(names: Sequence[str], column: str) -> tuple[int, int]:
    """Which column has the times, and which the figures."""
    plain = [name.strip().casefold().lstrip("\ufeff") for name in names]
    times = [i for i, name in enumerate(plain) if name.split("(")[0].split("_")[0].strip() in _TIMES]
    if len(names) == 2:
        when = times[0] if times else 0
        if plain[1 - when] in _FIGURES and plain[1 - when] != column:
            raise ValueError(f"its column is {names[1 - when]!r}, where {column} is needed")
        return when, 1 - when
    if len(names) < 2:
        raise ValueError(
            f"it has one column; it needs one of times and one of figures, such as time,{column}"
        )
    figures = [i for i, name in enumerate(plain) if name == column]
    if not figures and column == "g_per_kwh":
        figures = [i for i, name in enumerate(plain) if "life cycle" in name and "intensity" in name]
    if not times or len(figures) != 1:
        raise ValueError(
            f"which of its columns {', '.join(names[:8])} are meant? name them time and {column}"
        )
    return times[0], figures[0]


def _csv(path: str | os.PathLike[str]) -> tuple[list[str], list[list[Any]]]:
    import csv

    with open(path, encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        mark = max(",;\t", key=first.count)
        file.seek(0)
        try:
            rows = [row for row in csv.reader(file, delimiter=mark) if any(cell.strip() for cell in row)]
        except csv.Error as fault:  # no ValueError, though it says that the text is none
            raise ValueError(f"{os.path.basename(path)} is no table: {fault}") from None
    if not rows:
        raise ValueError(f"{os.path.basename(path)} is empty")
    width = len(rows[0])
    for number, row in enumerate(rows):
        if len(row) != width:
            raise ValueError(
                f"{os.path.basename(path)}: line {number + 1} has {len(row)} columns, its head {width}"
            )
    # A semicolon between the columns leaves the comma to the decimals.
    body = [[cell.replace(",", ".") if mark == ";" else cell for cell in row] for row in rows[1:]]
    return rows[0], [list(column) for column in zip(*body)] if body else [[] for _ in rows[0]]


def _parquet(path: str | os.PathLike[str]) -> tuple[list[str], list[list[Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as fault:
        raise ValueError(
            f"{os.path.basename(path)} is no parquet file: {str(fault).splitlines()[0]}"
        ) from None
    return table.column_names, [column.to_pylist() for column in table.columns]


def _number(cell: Any) -> float:
    if cell is None or (
        isinstance(cell, str) and cell.strip().casefold() in ("", "nan", "na", "null", "none")
    ):
        return math.nan
    try:
        value = float(cell)
    except (TypeError, ValueError):
        raise ValueError(f"{str(cell)[:40]!r} is no number") from None
    if math.isinf(value):
        raise ValueError("a figure is infinite")
    return value


def _seconds(cells: Sequence[Any], column: str) -> list[float]:
    utc = "utc" in column.casefold()
    return [_second(cell, utc) for cell in cells]


def _second(cell: Any, utc: bool) -> float:
    """Seconds since 1970 of ISO 8601 text, of a timestamp, or of a number of seconds."""
    text = str(cell).strip()
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isnan(number):
        if not 0 < number < 1e11:
            hint = "divide it by 1,000: that is milliseconds" if 1e11 <= number < 1e14 else "give ISO 8601"
            raise ValueError(f"the time {text} is no number of seconds since 1970; {hint}")
        return number
    try:
        moment = cell if isinstance(cell, datetime) else datetime.fromisoformat(_with_offset(text))
    except ValueError:
        raise ValueError(f"{text[:40]!r} is no time; write it as 2026-11-20T14:00Z") from None
    if moment.tzinfo is None:
        if not utc:
            forms = f"{text[:16]}Z for UTC or {text[:16]}+01:00"
            raise ValueError(f"the time {text[:40]} has no zone; write {forms}, or name the column time_utc")
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.timestamp()


def _is_time(text: str) -> bool:
    """Whether it is the time of a row, and no column's name."""
    try:
        _second(text, utc=True)
    except ValueError:
        return False
    return True


def _with_offset(text: str) -> str:
    """Before Python 3.11 `fromisoformat` knows no Z."""
    return f"{text[:-1]}+00:00" if text[-1:] in ("Z", "z") else text


def _iso(second: float) -> str:
    return datetime.fromtimestamp(second, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
