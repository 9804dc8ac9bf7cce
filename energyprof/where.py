"""Which runs are meant: `tag.model='gpt2' and duration_s>60` as a predicate on rows of `schema.RUNS`.

    expression = term ("or" term)*       term = factor ("and" factor)*
    factor     = "not" factor | "(" expression ")" | name operator value | name ["not"] "like" 'text'
               | name "is" ["not"] "null"
    name       = a column of RUNS, tag.NAME, metric.NAME; NAME in double quotes where it is no plain word
    operator   = = == != <> < <= > >=          value = 'text', a number, null, true, false, a date for started_utc

Text compares by characters, `like` by shell patterns (`*`, `?`) and SQL's `%`. A time is UTC; a day is all of it. What
a run does not know is null: it fulfils no comparison but `!= value`, `= null` and `is null`, and `not` is the opposite.
A tag is a text, and a number beside a number: `tag.lr<1e-3`. Nothing is evaluated but this grammar.
"""

from __future__ import annotations

import difflib
import fnmatch
import json
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from energyprof import jsontext

Row = Mapping[str, Any]
Predicate = Callable[[Row], bool]

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>'(?:[^']|'')*')
    | (?P<name>(?:tag|metric)\."(?:[^"]|"")*"|[A-Za-z_][A-Za-z_0-9]*(?:\.\w[\w:/@-]*)?)
    | (?P<date>(?a:\d{4}-\d{2}-\d{2}(?:[T\ ]\d{2}:[\d:.]+)?(?:Z|[+-]\d{2}:\d{2})?))
    | (?P<number>(?a:[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))
    | (?P<operator><=|>=|!=|<>|==|=|<|>)
    | (?P<bracket>[(),])
    )""",
    re.VERBOSE,
)
_MOMENT = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)([T ](?P<minute>\d\d:\d\d)(:(?P<second>\d\d)(\.(?P<part>\d{1,6}))?)?)?"
    r"(?P<zone>Z|[+-]\d\d:\d\d)?",
    re.ASCII,
)
_KEYWORDS = ("and", "or", "not", "like", "is", "null", "true", "false")
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_DAY, _MINUTE, _SECOND, _PART = (
    timedelta(days=1),
    timedelta(minutes=1),
    timedelta(seconds=1),
    timedelta(microseconds=1),
)
_DEEPEST = 50  # brackets and nots inside one another


class WrongFilter(ValueError):
    """The text is no filter; says where, and what would be."""


@dataclass(frozen=True)
class Where:
    """A filter: which rows it takes, and the columns that it looks at."""

    text: str
    columns: tuple[str, ...]
    takes: Predicate

    def __str__(self) -> str:
        """The text as a message can hold it: on one line, and not endless."""
        return shown(self.text)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


def where(text: str, kinds: Mapping[str, str]) -> Where:
    """Parse a filter.

    Parameters
    ----------
    text
        See above.
    kinds
        The columns: by name "text", "number" or "time".

    Raises
    ------
    WrongFilter
        It is none; in one line.
    """
    parser = _Parser(text, kinds)
    takes = parser.expression(0)
    parser.end()
    return Where(text, tuple(dict.fromkeys(parser.columns)), takes)


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise WrongFilter(_not_understood(text, at))
        kind = str(match.lastgroup)
        word = match[kind]
        lower = word.lower()
        if kind == "name" and lower in _KEYWORDS:
            kind, word = "word", lower
        found.append(_Token(kind, word))
        at = match.end()
    return found


def _not_understood(text: str, at: int) -> str:
    rest = text[at:].lstrip()
    if rest.startswith("'"):
        return f"a text has no end: {_short(rest)}"
    if rest.startswith('"'):
        return f"texts stand in single quotes: '{_short(rest).strip(chr(34))}'"
    return f"{_short(rest)} is not understood; comparisons look so: tag.model='gpt2' and duration_s>60"


def shown(text: str, most: int = 200) -> str:
    """What was typed, as a message can hold it: on one line, without what a terminal obeys, and not endless."""
    short = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(c if c.isprintable() else "?" for c in short)


def _short(text: str) -> str:
    return shown(text, 30)


class _Parser:
    def __init__(self, text: str, kinds: Mapping[str, str]) -> None:
        self.tokens, self.kinds, self.next = _tokens(text), kinds, 0
        self.columns: list[str] = []
        if not self.tokens:
            raise WrongFilter("an empty filter; comparisons look so: tag.model='gpt2' and duration_s>60")

    def expression(self, depth: int) -> Predicate:
        return self._joined("or", depth, lambda d: self._joined("and", d, self._factor, all), any)

    def end(self) -> None:
        if self.next < len(self.tokens):
            raise WrongFilter(
                f"after {_short(self._before())} comes {_short(self._next())}: say and, or between comparisons"
            )

    def _before(self) -> str:
        return self.tokens[self.next - 1].text if self.next else "the beginning"

    def _next(self) -> str:
        return self.tokens[self.next].text if self.next < len(self.tokens) else "the end"

    def _joined(
        self,
        word: str,
        depth: int,
        part: Callable[[int], Predicate],
        judge: Callable[[Iterable[bool]], bool],
    ) -> Predicate:
        parts = [part(depth)]
        while self._take("word", word):
            parts.append(part(depth))
        return parts[0] if len(parts) == 1 else lambda row: judge(one(row) for one in parts)

    def _take(self, kind: str, *texts: str) -> _Token | None:
        if self.next < len(self.tokens):
            token = self.tokens[self.next]
            if token.kind == kind and (not texts or token.text in texts):
                self.next += 1
                return token
        return None

    def _factor(self, depth: int) -> Predicate:
        if depth > _DEEPEST:
            raise WrongFilter(f"more than {_DEEPEST} brackets inside one another")
        if self._take("word", "not"):
            inner = self._factor(depth + 1)
            return lambda row: not inner(row)
        if self._take("bracket", "("):
            inner = self.expression(depth + 1)
            if not self._take("bracket", ")"):
                raise WrongFilter("a bracket is not closed")
            return inner
        name = self._take("name")
        if name is None:
            raise WrongFilter(
                f"after {_short(self._before())} comes {_short(self._next())}: "
                "a comparison begins with a column, tag.NAME or metric.NAME"
            )
        return self._comparison(name.text)

    def _comparison(self, name: str) -> Predicate:
        get, kind = self._getter(name)
        if self._take("word", "is"):
            negated = self._take("word", "not") is not None
            if not self._take("word", "null"):
                raise WrongFilter(f"after {_short(name)} is comes null, or not null")
            return lambda row: (get(row) is None) != negated
        unlike = self._take("word", "not") is not None
        if self._take("word", "like"):
            fits = _like(get, self._text_of_pattern(name))
            return (lambda row: not fits(row)) if unlike else fits
        sign = None if unlike else self._take("operator")
        if sign is None:
            raise WrongFilter(
                f"{_short(name)} is compared with nothing: after it comes {_short(self._next())}, "
                "and not =, !=, <, <=, >, >=, like or is null"
            )
        symbol = {"==": "=", "<>": "!="}.get(sign.text, sign.text)
        return _compared(name, get, symbol, self._value(name, kind), kind)

    def _text_of_pattern(self, name: str) -> str:
        pattern = self._take("text")
        if pattern is None:
            raise WrongFilter(f"{_short(name)} like takes a text in single quotes: like 'gpt*'")
        return _unquoted(pattern.text)

    def _value(self, name: str, kind: str) -> Any:
        if self.next >= len(self.tokens):
            raise WrongFilter(f"{_short(name)} is compared with nothing")
        token = self.tokens[self.next]
        self.next += 1
        if token.kind == "word" and token.text in ("null", "true", "false"):
            return {"null": None, "true": True, "false": False}[token.text]
        if token.kind == "text":
            return _time(_unquoted(token.text), name) if kind == "time" else _unquoted(token.text)
        if token.kind == "number":
            if kind == "time":
                raise WrongFilter(f"{name} is a time: {name}>=2026-11-20, '2026-11-20 14:30'")
            return float(token.text)
        if token.kind == "date":
            return _time(token.text, name) if kind == "time" else token.text
        if token.kind == "name":
            raise WrongFilter(f"texts stand in single quotes: {_short(name)}='{_short(token.text)}'")
        raise WrongFilter(f"{_short(name)} is compared with {_short(token.text)}, which is no value")

    def _getter(self, name: str) -> tuple[Callable[[Row], Any], str]:
        """What a name stands for in a row, and its kind; "any" of tags and metrics."""
        table, dot, inner = name.partition(".")
        if dot and table in ("tag", "metric"):
            key = inner[1:-1].replace('""', '"') if inner.startswith('"') else inner
            column = f"{table}s"
            self.columns.append(column)
            return (lambda row: _inside(row.get(column), key)), "any"
        if name in self.kinds:
            self.columns.append(name)
            return (lambda row: row.get(name)), self.kinds[name]
        near = difflib.get_close_matches(
            name.lower(), [*self.kinds, "tag.NAME", "metric.NAME"], n=3, cutoff=0.5
        )
        nearest = f"; nearest: {', '.join(near)}" if near else "; the columns are in energyprof/schema.py"
        raise WrongFilter(f"no column {_short(name)}{nearest}")


def _unquoted(text: str) -> str:
    return text[1:-1].replace("''", "'")


def _inside(text: Any, key: str) -> Any:
    """A value of a JSON object in a column; None where there is none."""
    value = jsontext.mapping(text).get(key)
    return value if isinstance(value, (str, int, float, type(None))) else json.dumps(value)


def _like(get: Callable[[Row], Any], pattern: str) -> Predicate:
    fits = re.compile(fnmatch.translate(pattern.replace("%", "*").replace("[", "[[]"))).match
    return lambda row: (value := get(row)) is not None and fits(_as_text(value)) is not None


def _as_text(value: Any) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _compared(name: str, get: Callable[[Row], Any], symbol: str, wanted: Any, kind: str) -> Predicate:
    if isinstance(wanted, _Day):
        return _of_day(get, symbol, wanted)
    if wanted is None:
        if symbol not in ("=", "!="):
            raise WrongFilter(f"null is neither more nor less: {_short(name)} is null, or is not null")
        return lambda row: (get(row) is None) == (symbol == "=")
    if kind == "number" and not isinstance(wanted, float):
        raise WrongFilter(f"{name} is a number, and is compared with {_short(repr(wanted))}")
    if kind == "text" and not isinstance(wanted, str):
        raise WrongFilter(f"{name} is a text, in single quotes: {name}='{_as_text(wanted)}'")
    if kind == "time":
        raise WrongFilter(f"{name} is a time, and is compared with {_as_text(wanted).lower()}")
    compare = _COMPARE[symbol]

    def takes(row: Row) -> bool:
        value = get(row)
        if value is None:
            return symbol == "!="
        pair = _alike(value, wanted)
        return symbol == "!=" if pair is None else bool(compare(*pair))

    return takes


def _alike(value: Any, wanted: Any) -> tuple[Any, Any] | None:
    """Both as numbers, or both as texts; None where they cannot be compared. Tags are texts: '8' is 8 for them."""
    if isinstance(wanted, bool) or isinstance(value, bool):
        return (str(value).lower(), str(wanted).lower())
    if isinstance(wanted, float):
        number = jsontext.number(value)
        return None if number is None else (number, wanted)
    return (_as_text(value), wanted) if isinstance(wanted, str) else (value, wanted)


@dataclass(frozen=True)
class _Day:
    """A time, or all of a day, UTC: from `begin` to before `end`."""

    begin: datetime
    end: datetime


def _time(text: str, name: str) -> _Day:
    found = _MOMENT.fullmatch(text.strip())
    try:
        if found is not None:
            minute, second, part, zone = found.group("minute", "second", "part", "zone")
            clock = f"{minute or '00:00'}:{second or '00'}.{(part or '').ljust(6, '0')}"
            zone = "+00:00" if zone in (None, "Z") else zone
            begin = datetime.fromisoformat(f"{found['day']} {clock}{zone}").astimezone(timezone.utc)
            span = _PART if part else _SECOND if second else _MINUTE if minute else _DAY
            return _Day(begin, begin + span)
    except (ValueError, OverflowError):
        pass  # no such day or hour, or one beyond the calendar
    raise WrongFilter(f"{name} is a time (UTC), and {_short(text)} is none: 2026-11-20, '2026-11-20 14:30'")


def _of_day(get: Callable[[Row], Any], symbol: str, day: _Day) -> Predicate:
    """Comparison with a stretch of time: `= 2026-11-20` is all of that day, `> 2026-11-20` after it."""

    def takes(row: Row) -> bool:
        value = get(row)
        if value is None:
            return symbol == "!="
        inside = day.begin <= value < day.end
        if symbol in ("=", "!="):
            return bool(inside == (symbol == "="))
        below, above = value < day.begin, value >= day.end
        return bool({"<": below, ">": above, "<=": below or inside, ">=": above or inside}[symbol])

    return takes
