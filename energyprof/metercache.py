"""What `energyprof doctor --calibrate` learned of this machine's meters, kept for the user's later runs.

One JSON file, `meters.json`, in ENERGYPROF_CACHE, else XDG_CACHE_HOME/energyprof, else ~/.cache/energyprof.
A GPU is known by its UUID and driver, since a driver may change what a sensor means; what has no UUID by
channel, model and machine, since users' folders are shared between machines. Standard library alone: the
metering process reads it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from energyprof.journal import write_whole

if TYPE_CHECKING:
    from energyprof.collectors.base import Channel

FILE = "meters.json"
VERSION = 1


@dataclass(frozen=True)
class Gauge:
    """A power field as it was seen: refresh period and averaging window, ms; None where it did not tell."""

    refresh_ms: float | None = None
    window_ms: float | None = None


@dataclass(frozen=True)
class Known:
    """What is known of one device.

    Attributes
    ----------
    date
        Of the calibration (ISO 8601, UTC).
    tick_ms, jitter_ms
        The counter's period, and the standard deviation of its edges about a grid.
    read_ms
        Median cost of reading the counter.
    counter_safe
        Whether the counter may be read often; None where that could not be told.
    gauges
        Power fields by channel suffix: ``/instant``, ``/average``, or empty for the main channel.
    idle_w, u95_idle_w, idle_date
        Power at rest, 95 % half-width of its random error, and when that was.
    """

    date: str = ""
    tick_ms: float | None = None
    jitter_ms: float | None = None
    read_ms: float | None = None
    counter_safe: bool | None = None
    gauges: Mapping[str, Gauge] = field(default_factory=dict)
    idle_w: float | None = None
    u95_idle_w: float | None = None
    idle_date: str = ""

    def updated(self, newer: Known) -> Known:
        """This, with everything that `newer` has found; what it could not tell stays as it was."""
        found = {f.name: getattr(newer, f.name) for f in fields(newer)}
        kept = {name: value for name, value in found.items() if value not in (None, "")}
        gauges = dict(self.gauges)
        for suffix, gauge in newer.gauges.items():
            old = gauges.get(suffix, Gauge())
            gauges[suffix] = Gauge(gauge.refresh_ms or old.refresh_ms, gauge.window_ms or old.window_ms)
        return replace(self, **{**kept, "gauges": gauges})


@dataclass(frozen=True)
class Cache:
    """The file's content, and in one line what is wrong with it (empty: nothing)."""

    path: str
    meters: Mapping[str, Known] = field(default_factory=dict)
    problem: str = ""

    def get(self, key: str | None) -> Known | None:
        """What is known of a device; None where nothing is."""
        return None if key is None else self.meters.get(key)


def path_of(environ: Mapping[str, str]) -> str:
    """Where the cache is for a user with this environment."""
    folder = environ.get("ENERGYPROF_CACHE") or ""
    if not folder:
        base = environ.get("XDG_CACHE_HOME") or ""
        if not os.path.isabs(base):  # the XDG specification: relative paths are invalid and ignored
            base = os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".cache")
        folder = os.path.join(base, "energyprof")
    return os.path.join(os.path.abspath(os.path.expanduser(folder)), FILE)


def device_key(channel: Channel, node: str) -> str | None:
    """The name of a channel's device in the cache; None for one that cannot be told from others."""
    device = channel.device
    if device.get("uuid"):
        return board_key(str(device["uuid"]), str(device.get("driver") or ""))
    what = device.get("model") or device.get("mem_gb")
    meter = "model" if channel.method == "modelled" else "meter"  # one stands in where the other is closed
    return f"{meter} of {channel.name.partition('/')[0]} of {what} on {node}" if what and node else None


def board_key(uuid: str, driver: str) -> str:
    """The name of a GPU in the cache: a driver may change what a sensor means."""
    return f"{uuid} driver {driver or 'unknown'}"


def load(environ: Mapping[str, str]) -> Cache:
    """Read the cache. One that is damaged counts as empty, and says so."""
    path = path_of(environ)
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
        if content["version"] > VERSION:
            return Cache(path, problem=f"{path} is of a newer energyprof and is ignored")
        return Cache(path, {str(key): _known(facts) for key, facts in content["meters"].items()})
    except (FileNotFoundError, NotADirectoryError):
        return Cache(path)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else "it is damaged"
        return Cache(path, problem=f"{path} is ignored: {why}")


def store(environ: Mapping[str, str], learned: Mapping[str, Known]) -> str:
    """Add what was learned to the cache and return its path; OSError where it cannot be written."""
    old = load(environ)
    meters = {**old.meters, **{k: old.meters.get(k, Known()).updated(new) for k, new in learned.items()}}
    content = {"version": VERSION, "meters": {key: asdict(known) for key, known in meters.items()}}
    os.makedirs(os.path.dirname(old.path), exist_ok=True)
    write_whole(old.path, json.dumps(content, indent=1, ensure_ascii=False))
    return old.path


def _known(facts: dict[str, Any]) -> Known:
    """An entry; ValueError or TypeError where a value is not what belongs there."""
    numbers = ("tick_ms", "jitter_ms", "read_ms", "idle_w", "u95_idle_w")
    safe = facts.get("counter_safe")
    if safe not in (None, True, False):
        raise ValueError("counter_safe")
    return Known(
        date=str(facts.get("date") or ""),
        idle_date=str(facts.get("idle_date") or ""),
        counter_safe=safe,
        gauges={str(suffix): _gauge(gauge) for suffix, gauge in (facts.get("gauges") or {}).items()},
        **{name: _number(facts.get(name)) for name in numbers},
    )


def _gauge(facts: dict[str, Any]) -> Gauge:
    return Gauge(_number(facts.get("refresh_ms")), _number(facts.get("window_ms")))


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise ValueError("not a number")
    return float(value)
