"""Hourly intensities from Electricity Maps, asked for only where the user says so and has a token.

`intensity="electricitymaps"` (or "electricitymaps:FR") with ELECTRICITYMAPS_TOKEN in the environment asks version 3 of
the API (https://portal.electricitymaps.com/developer-hub/api): `/carbon-intensity/history` and `/latest` for the last
day, which every token may ask, else `/carbon-intensity/past-range`. An answer is taken whole or refused: another zone
(the API falls back to the caller's own place), other factors than of the life cycle, times that are no hours, figures
that cannot be. Hours that are over are kept in a file and never asked twice, so that a run sealed again has the same
grams.

All that can go wrong is one exception, `Unanswered`, in one line; whoever asked falls back to the yearly figure
and says so. Standard library alone.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from energyprof.carbon import cloud, tables
from energyprof.carbon.asking import Unanswered, ask
from energyprof.carbon.tables import MAX_G_PER_KWH
from energyprof.journal import write_whole
from energyprof.metercache import path_of

WORD = "electricitymaps"
TOKEN_VARIABLE = "ELECTRICITYMAPS_TOKEN"
URL = "https://api.electricitymaps.com/v3"
SCOPE = "life cycle of the electricity consumed, imports included"
TIMEOUT_S = 10.0

_HOUR_S = 3600
_DAY_S = 24 * _HOUR_S
_LONGEST_S = 10 * _DAY_S  # what past-range gives by the hour in one answer
_MOST_HOURS = 366 * 24
_VERSION = 1
_ZONE = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,6}){0,2}")


@dataclass(frozen=True)
class Hours:
    """The intensities of consecutive hours of one zone.

    Attributes
    ----------
    zone
        Electricity Maps' name of it.
    points
        (begin of the hour, s since 1970 UTC; gCO2e/kWh), in order.
    estimated
        How many of them Electricity Maps estimated, since its own source had not reported.
    """

    zone: str
    points: tuple[tuple[int, float], ...]
    estimated: int = 0

    @property
    def source(self) -> str:
        """Who says so, and how much of it is an estimate."""
        if not self.estimated:
            return f"Electricity Maps, zone {self.zone}"
        return f"Electricity Maps, zone {self.zone}; {self.estimated} of {len(self.points)} hours estimated"


def zone_asked(intensity: object, place: str | None) -> str | None:
    """The zone that `intensity` asks for; None where it asks for nothing here (a number, a file).

    Parameters
    ----------
    intensity
        What the user gave: "electricitymaps" for the zone of `place`, or "electricitymaps:FR".
    place
        A canonical code (`Intensity.place`); None or empty where none is known.

    Raises
    ------
    ValueError
        Electricity Maps is asked, but of no zone; the message is one line.
    """
    word, mark, zone = intensity.strip().partition(":") if isinstance(intensity, str) else ("", "", "")
    if word.casefold() != WORD:
        return None
    zone = zone.strip().upper() if mark else zone_of(place or "")
    if not _ZONE.fullmatch(zone):
        what = repr(zone if mark else place or "")[:40]
        raise ValueError(
            f"no zone of Electricity Maps for {what}; say electricitymaps:FR or electricitymaps:US-CAL-CISO"
        )
    return zone


def zone_of(place: str) -> str:
    """Electricity Maps' zone of a canonical code; empty where the two do not cover the same ground.

    Its zones within the USA are balancing areas, not states, and it has none within China.
    """
    if re.fullmatch("(SE|NO)[1-5]", place):
        return f"{place[:2]}-{place}"
    if re.fullmatch("CA-[A-Z]{2}", place):
        return "" if place == "CA-NL" else place  # Newfoundland and Labrador are two zones
    provider, mark, region = place.partition(":")
    if mark:
        return zone_of(cloud.grid_of(provider, region))
    if re.fullmatch("[A-Z]{3}", place):
        codes = tables.read_json(Path(__file__).parent, tables.ISO_3166)
        return next((two for two, three in codes.items() if three == place), "")
    return ""


def hours(
    zone: str,
    begin_s: float,
    end_s: float,
    token: str,
    *,
    url: str = URL,
    timeout_s: float = TIMEOUT_S,
    environ: Mapping[str, str] | None = None,
    clock: Callable[[], float] = time.time,
) -> Hours:
    """Every hour that overlaps the time from `begin_s` to `end_s` (s since 1970 UTC).

    Parameters
    ----------
    zone
        Electricity Maps' name of it ("FR", "US-CAL-CISO").
    token
        Sent to the host of `url` alone.
    url
        https, or http to this machine.
    timeout_s
        For all requests together, however slowly they are answered.
    environ, clock
        For the folder of the cache, and the time now, s; the process's own by default.

    Raises
    ------
    Unanswered
        With the reason in one line.
    """
    now_s = clock()
    if not (math.isfinite(begin_s) and math.isfinite(end_s) and begin_s <= end_s):
        raise Unanswered(f"no time from {begin_s} to {end_s}")
    if end_s > now_s + 60:
        raise Unanswered(f"Electricity Maps knows the past alone, and {_utc(end_s)} is to come")
    if not _ZONE.fullmatch(zone):
        raise Unanswered(f"{zone[:40]!r} is no zone of Electricity Maps")
    first = math.floor(begin_s / _HOUR_S) * _HOUR_S
    wanted = range(first, max(math.ceil(end_s / _HOUR_S) * _HOUR_S, first + _HOUR_S), _HOUR_S)
    if len(wanted) > _MOST_HOURS:
        raise Unanswered(f"{len(wanted)} hours are more than a year")
    file = os.path.join(
        os.path.dirname(path_of(os.environ if environ is None else environ)), WORD, f"{zone}.json"
    )
    known = _load(file, zone)
    missing = [hour for hour in wanted if hour not in known]
    if missing:
        got = _asked(zone, missing, now_s, _Asker(url, token, time.monotonic() + timeout_s))
        _keep(file, zone, {hour: got[hour] for hour in got if hour + _HOUR_S <= now_s})
        known = {**got, **known}
    absent = [hour for hour in wanted if hour not in known]
    if absent:
        many = "1 hour" if len(absent) == 1 else f"{len(absent)} hours"
        raise Unanswered(f"Electricity Maps has no figure of {zone} for {many} from {_utc(absent[0])}")
    points = tuple((hour, known[hour][0]) for hour in wanted)
    return Hours(zone, points, sum(known[hour][1] for hour in wanted))


@dataclass(frozen=True)
class _Asker:
    """Where requests go, with what, and until when."""

    url: str
    token: str
    deadline_s: float

    def points(self, path: str, zone: str, **parameters: str) -> dict[int, tuple[float, bool]]:
        query = {"zone": zone, "emissionFactorType": "lifecycle", **parameters}
        answer = ask(f"{self.url}/carbon-intensity/{path}", query, self.token, self.deadline_s)
        return _points(answer, zone)


def _asked(zone: str, missing: list[int], now_s: float, asker: _Asker) -> dict[int, tuple[float, bool]]:
    """What the API says of the missing hours, and perhaps of others."""
    if missing[0] >= now_s - _DAY_S + _HOUR_S:
        got = asker.points("history", zone)
    else:
        got, begin, end = {}, missing[0], missing[-1] + _HOUR_S
        while begin < end:
            until = min(begin + _LONGEST_S, end)
            got.update(asker.points("past-range", zone, start=_utc(begin), end=_utc(until)))
            begin = until
    if missing[-1] not in got and missing[-1] > now_s - 2 * _HOUR_S:
        got = {**asker.points("latest", zone), **got}  # the running hour is often there alone
    return got


def _points(answer: Any, zone: str) -> dict[int, tuple[float, bool]]:
    """The hours of an answer; Unanswered where it is not in the form that the API had in 2026."""
    if not isinstance(answer, dict):
        raise Unanswered("Electricity Maps' answer is no JSON object")
    rows = answer.get("history", answer.get("data", [answer] if "carbonIntensity" in answer else None))
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Unanswered("Electricity Maps' answer has no list of hours: has its format changed?")
    found: dict[int, tuple[float, bool]] = {}
    for row in rows:
        said = row.get("zone", answer.get("zone"))
        if said != zone:
            raise Unanswered(f"Electricity Maps answered for {str(said)[:20]!r}, not for {zone}")
        if row.get("emissionFactorType", "lifecycle") != "lifecycle":
            raise Unanswered("Electricity Maps answered with other factors than those of the life cycle")
        if "carbonIntensity" not in row:
            raise Unanswered("Electricity Maps gave an hour without carbonIntensity: has its format changed?")
        hour, value = _hour(row.get("datetime")), row["carbonIntensity"]
        if value is None:
            continue  # a gap, which the caller sees
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < MAX_G_PER_KWH:
            raise Unanswered(f"Electricity Maps gave {str(value)[:20]!r} g/kWh, which cannot be")
        point = (float(value), bool(row.get("isEstimated")))
        if found.setdefault(hour, point) != point:
            raise Unanswered(f"Electricity Maps gave two figures for {_utc(hour)}")
    return found


def _hour(text: object) -> int:
    """The begin of an hour from its ISO 8601 text with a zone of time."""
    try:
        when = datetime.fromisoformat(text.replace("Z", "+00:00")) if isinstance(text, str) else None
        second = when.timestamp() if when is not None and when.tzinfo is not None else math.nan
    except (ValueError, OverflowError):
        second = math.nan
    if second % _HOUR_S != 0:  # NaN is no hour either
        raise Unanswered(f"Electricity Maps gave {str(text)[:30]!r} as a time, which is no hour in UTC")
    return int(second)


def _load(file: str, zone: str) -> dict[int, tuple[float, bool]]:
    """The hours that were asked before; none where the file is damaged."""
    try:
        with open(file, encoding="utf-8") as lines:
            content = json.load(lines)
        if content["version"] != _VERSION or content["zone"] != zone:
            return {}
        kept = {int(hour): (float(g), bool(estimated)) for hour, (g, estimated) in content["hours"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    sound = all(hour % _HOUR_S == 0 and 0 <= g < MAX_G_PER_KWH for hour, (g, _) in kept.items())
    return kept if sound else {}


def _keep(file: str, zone: str, new: dict[int, tuple[float, bool]]) -> None:
    """Add hours that are over to the file; what stands there already stays as it was first told."""
    merged = {**new, **_load(file, zone)}
    content = {
        "version": _VERSION,
        "zone": zone,
        "hours": {str(hour): merged[hour] for hour in sorted(merged)},
    }
    try:
        os.makedirs(os.path.dirname(file), exist_ok=True)
        write_whole(file, json.dumps(content))
    except OSError:
        return  # asked again next time


def _utc(second: float) -> str:
    return datetime.fromtimestamp(second, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
