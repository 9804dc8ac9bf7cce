"""What a page is made of, as values: tables, figures, facts, sections. The template only writes them down.

Whatever came from a program (names, commands, tags) passes through `told` first: on one line, its control
characters shown and not obeyed, no longer than a reader reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from energyprof.reports.numbers import clean
from energyprof.reports.stored import StoredRun

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """A cell's text, the number by which its column is sorted, and a mark: good, bad, warn, or none."""

    text: str
    sort: float | None = None
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """A table with its caption; the first column names the rows. `right`: columns of numbers."""

    id: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: frozenset[int] = frozenset()
    sortable: bool = False
    note: str = ""
    fixed: int = 0  # so many rows stay on top when it is sorted


@dataclass(frozen=True)
class Figure:
    """A drawn figure: SVG for the page, what it shows in a sentence."""

    id: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it. `kind` names a section that the page's script completes."""

    id: str
    title: str
    words: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    after: tuple[str, ...] = ()
    kind: str = ""


@dataclass(frozen=True)
class Tile:
    """A number at the top of the page."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Page:
    """A report before it is written: `data` is what its JSON holds."""

    title: str
    verdict: str
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    data: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def said(self) -> tuple[str, str]:
        """The verdict's first clause, and the others."""
        first, semicolon, rest = self.verdict.partition("; ")
        return first + ("." if semicolon else ""), rest[:1].upper() + rest[1:] if rest[:3] in _BEGIN else rest


_BEGIN = ("no ", "so ", "but", "too", "nam", "rep")  # words of ours, not names


def told(value: object, most: int = 80) -> str:
    """Any text on one line, at most so many characters."""
    text = "" if value is None else str(value)
    shown = clean(text[:most])
    return shown if len(shown) <= most and len(text) <= most else shown[: most - 1] + "…"


def cells(*texts: str | Cell) -> tuple[Cell, ...]:
    """A row of a table."""
    return tuple(text if isinstance(text, Cell) else Cell(text) for text in texts)


def tidied(stored: StoredRun) -> StoredRun:
    """A run whose names are fit for figures and tables; names that differ stay different."""
    words: dict[str, str] = {}
    run = {**stored.run, "name": told(stored.run["name"] or "run", 40)}
    return replace(
        stored,
        run=run,
        channels=tuple({**row, "channel": told(row["channel"], 40)} for row in stored.channels),
        regions=tuple({**row, "region": _path(row["region"], words)} for row in stored.regions),
        layers=tuple(
            {**row, "name": told(row["name"], 120), "class": told(row["class"], 60), "model": told(row["model"], 60)}
            for row in stored.layers
        ),
        calls=tuple(replace(calls, region=_path(calls.region, words)) for calls in stored.calls),
        series=tuple(replace(one, channel=told(one.channel, 40)) for one in stored.series),
    )  # fmt: skip


def _path(path: str, words: dict[str, str]) -> str:
    return "/".join(_word(part, words) for part in str(path or "").split("/"))


def _word(part: str, words: dict[str, str]) -> str:
    if part not in words:
        shown, taken, number = told(part, 40), set(words.values()), 1
        while shown in taken:
            number += 1
            shown = f"{told(part, 36)}~{number}"
        words[part] = shown
    return words[part]


def numbered(rows: Sequence[Any], most: int) -> tuple[Sequence[Any], str]:
    """The first rows of many, and a note of the others."""
    rest = len(rows) - most
    return rows[:most], f"{rest:,} more are in the dataset." if rest > 0 else ""
