"""What a hardware source offers: channels, readings, and words for what it cannot offer.

A collector opens its hardware once and hands the meter *groups*: channels that are read in one go, each
group at its own pace. It never converts to joules, never unwraps a counter and never sleeps; that is the
work of `curves` and `meter`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from energyprof.collectors.absence import DeviceLost, Unavailable

__all__ = [
    "UNITS",
    "Channel",
    "Collector",
    "Context",
    "DeviceLost",
    "Group",
    "Method",
    "Opened",
    "Quantity",
    "Unavailable",
]

Quantity = Literal["energy", "power", "utilisation", "temperature", "frequency", "share"]
Method = Literal["counter", "integrated", "modelled", "allocated"]

# One unit a quantity, so that a stored integer never needs a unit of its own.
UNITS: Mapping[str, str] = {
    "energy": "uJ",  # cumulative
    "power": "mW",
    "utilisation": "us",  # cumulative busy CPU time
    "temperature": "m°C",
    "frequency": "kHz",
    "share": "ppm",
}


@dataclass(frozen=True)
class Channel:
    """One stream of readings, and what is known about the meter behind it.

    Attributes
    ----------
    name
        ``gpu:0``, ``package:0``, ``dram:0``, ``psys:0``, ``module:0``, ``node:0``; a second
        stream of the same meter adds a slash and a word: ``gpu:0/instant``.
    quantity
        What the integers are; the unit follows from it (`UNITS`).
    method
        How joules are got from it, as every figure will be labelled.
    scope
        In a few words, what the number covers: ``"GPU board"``, ``"CPU package 0"``.
    parent
        The channel that already includes this one, so that totals never count twice.
    wraps_at
        The counter is modulo this (in the quantity's unit); None for one that does not wrap.
    refresh_ns, window_ns
        The sensor's stated refresh period and averaging window; None where it must be learnt.
    gain_u95
        Systematic relative uncertainty, 95 % half-width (0.05 is ±5 %), and where the figure is from.
    device
        Model, UUID, driver, TDP …: plain JSON values.
    flags
        Codes of `energyprof.reasons` that hold for the whole run.
    """

    name: str
    quantity: Quantity
    method: Method
    scope: str
    parent: str | None = None
    wraps_at: int | None = None
    refresh_ns: int | None = None
    window_ns: int | None = None
    gain_u95: float = 0.0
    gain_source: str = ""
    device: Mapping[str, str | int | float | Sequence[float]] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """Channels that are read in one call, and how often.

    Attributes
    ----------
    read
        Returns one integer a channel, in the channels' order; None for a value that is missing this
        time. May raise OSError (the meter notes a gap and tries again) or `DeviceLost`.
    interval_s
        Seconds between two reads.
    follow
        Which channel's changes to follow: one that changes slowly (every 20 ms and more) and may be read
        fast. The meter learns its period and reads just before and just after each expected change.
    """

    channels: tuple[Channel, ...]
    read: Callable[[], Sequence[int | None]]
    interval_s: float
    follow: int | None = None


@dataclass(frozen=True)
class Opened:
    """What a collector found: groups to read, and parts that cannot be read.

    Empty where its kind of machine is another, so that nobody misses it.
    """

    groups: Sequence[Group] = ()
    missing: Sequence[Unavailable] = ()


@dataclass(frozen=True)
class Context:
    """What a collector may know of the world: the environment, the program, and where /sys and /proc are.

    `sys_root` and `proc_root` let a container read the host's files (and a test, a tree of its own).
    """

    environ: Mapping[str, str]
    pid: int | None = None
    sys_root: str = "/sys"
    proc_root: str = "/proc"


class Collector(Protocol):
    """A hardware source. `source` is its name in messages: ``nvml``, ``rapl``.

    Its calls are made in a thread of its own and given up where they do not come back (15 s to open, 0.5 s
    to read). One that only reads files of the kernel may say ``prompt = True`` and be called directly.
    """

    source: str

    def open(self, context: Context) -> Opened:
        """Find the devices; raise `Unavailable` where there is nothing that can be read."""
        ...

    def close(self) -> None:
        """Release descriptors and libraries; safe to call twice."""
        ...
