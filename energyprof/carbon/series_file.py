"""A series of figures by time from a CSV or parquet file, or one line that says what is wrong with it.

A file has a column of times and one of figures, named in its first line. Times carry their zone, or are seconds since
1970. Units are read in the column's name, and refused where they are not those of a kilowatt-hour.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

import numpy as np

from energyprof.carbon.series import Floats, Series, series

MAX_BYTES = 50_000_000  # a decade of five-minute figures is 40 MB
_TIMES = ("time", "datetime", "timestamp", "date", "begin", "start", "from", "hour")
# What is in the name of a column of two that is meant for one of these.
_WORDS = {
    "g_per_kwh": (
        "g_per_kwh",
        "gco2",
        "g co2",
        "gco₂",
        "g/kwh",
        "g_kwh",
        "intensity",
        "carbon",
        "co2",
        "emission",
        "lb",
    ),
    "price": ("price", "cost", "tariff", "eur", "usd", "gbp", "€", "$", "£"),
}
_IN_UTC = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?Z")


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
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueError(f"{name} is no file; name one of times and figures, .csv or .parquet")
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
        if names and _is_time(names[0]):
            raise ValueError("it has no head; name its columns in a first line, such as time,g_per_kwh")
        when, what = _chosen(names, column)
        begin = _seconds(columns[when], names[when])
        value = (check or grams)(_numbers(columns[what]), names[what])
        return series(begin, value, f"series {name}")
    except ValueError as fault:
        raise ValueError(f"{name}: {fault}") from None


def grams(value: Floats, column: str) -> Floats:
    """Figures in g/kWh, by the unit in their column's name; ValueError where they cannot be that."""
    from energyprof.carbon.tables import MAX_G_PER_KWH

    name = column.casefold()
    if re.search(r"(?<![a-z])lbs?(?![a-z])|(?<![a-z])lbs?co2", name):
        raise ValueError(f"{column!r} is in pounds; give grams of CO2e a kWh")
    if "mwh" in name:
        raise ValueError(f"{column!r} is a MWh's; give grams of CO2e a kWh")
    known = value[~np.isnan(value)]
    in_kg = re.search(r"(?<![a-z])kg", name) is not None  # and not as in "background"
    if in_kg:
        value = 1e3 * value
    elif known.size and 0 < known.max() < 1.5 and name.replace(" ", "") != "g_per_kwh":
        raise ValueError(
            "all figures are below 1.5, which looks like kg; name the column g_per_kwh or kg_per_kwh"
        )
    odd = np.flatnonzero(~np.isnan(value) & ~((value >= 0) & (value < MAX_G_PER_KWH)))
    if odd.size:
        first = value[odd[0]]
        said = f"{first / 1e3:g} kg/kWh" if in_kg else f"{first:g} g/kWh"
        raise ValueError(
            f"{said} in row {odd[0] + 1} is none; figures are from 0 to below {MAX_G_PER_KWH:,.0f} g"
        )
    return value


def _chosen(names: Sequence[str], column: str) -> tuple[int, int]:
    """Which column has the times, and which the figures."""
    plain = [name.strip().casefold().lstrip("\ufeff") for name in names]
    times = [i for i, name in enumerate(plain) if name.split("(")[0].split("_")[0].strip() in _TIMES]
    if len(names) == 2:
        when = times[0] if times else 0
        if not any(word in plain[1 - when] for word in _WORDS[column]):
            raise ValueError(f"its column is {names[1 - when]!r}; name it {column} if that is what it has")
        return when, 1 - when
    if len(names) < 2:
        raise ValueError(
            f"it has {'one' if names else 'no'} column; it needs one of times and one of figures, such as time,{column}"
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


def _numbers(cells: Sequence[Any]) -> Floats:
    odd = next((cell for cell in cells if isinstance(cell, (bool, list, dict))), None)
    if odd is not None:  # numpy would make numbers of them
        raise ValueError(f"{str(odd)[:40]!r} is no number")
    try:  # what most files are: numbers alone
        found = np.array(cells, np.float64)
    except (TypeError, ValueError):
        found = np.array([_number(cell, row) for row, cell in enumerate(cells, 1)])
    if np.isinf(found).any():
        raise ValueError("a figure is infinite")
    return found


def _number(cell: Any, row: int) -> float:
    if cell is None or (
        isinstance(cell, str) and cell.strip().casefold() in ("", "nan", "na", "null", "none")
    ):
        return math.nan
    try:
        return float(cell)
    except (TypeError, ValueError):
        raise ValueError(f"{str(cell)[:40]!r} in row {row} is no number") from None


def _seconds(cells: Sequence[Any], column: str) -> list[float] | Floats:
    utc = "utc" in column.casefold()
    if all(
        isinstance(cell, str) and _IN_UTC.fullmatch(cell) for cell in cells
    ):  # what most files have, at once
        try:
            return np.array([cell[:-1] for cell in cells], "datetime64[ms]").astype(np.float64) / 1e3
        except ValueError:
            pass  # a 31st of February: which, is said below
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
            begin = text[:16] if ":" in text else f"{text[:10]}T00:00"
            forms = f"{begin}Z for UTC or {begin}+01:00"
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
