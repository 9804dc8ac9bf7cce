"""Which of the offered channels are read, and what includes what where that takes more than one source to see.

A source knows its own channels. Whether a second source shows the same meter again, whether a model is
needed at all, and whether a GPU's counter holds a module's processors, shows only when all have opened.
Pure functions of what was offered.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import get_args

from energyprof.collectors.base import UNITS, Channel, Group, Method, Unavailable
from energyprof.reasons import NOT_SUPPORTED

Offer = tuple[str, Sequence[Group]]  # a source, and its groups

_MEASURED = ("counter", "integrated")
_OF_A_MODEL = ("cpus", "tdp_w", "curve_load", "curve_tdp_share")  # see `cpu_model`


def fault_of(channel: object) -> str:
    """What is wrong with what somebody's source calls a channel, in words; empty where it can be read and sealed."""
    if not isinstance(channel, Channel):
        return f"{channel!r} is no Channel"
    texts = (channel.name, channel.method, channel.scope, channel.parent or "", channel.gain_source)
    if not all(isinstance(text, str) for text in texts) or not channel.name:
        return f"{channel.name!r}: name, method, scope and parent are text"
    if channel.quantity not in UNITS:
        return f"{channel.name}: {channel.quantity!r} is no quantity"
    if channel.method not in get_args(Method):
        return f"{channel.name}: {channel.method!r} is no method"
    numbers = (channel.wraps_at, channel.refresh_ns, channel.window_ns)
    if not all(n is None or (isinstance(n, int) and n > 0) for n in numbers):
        return f"{channel.name}: wraps_at, refresh_ns and window_ns are positive integers or None"
    if not isinstance(channel.gain_u95, (int, float)) or not 0 <= channel.gain_u95 < float("inf"):
        return f"{channel.name}: gain_u95 is a share, as 0.05"
    if not isinstance(channel.device, Mapping):
        return f"{channel.name}: device is a mapping"
    if not isinstance(channel.flags, (tuple, list)) or not all(
        isinstance(flag, str) for flag in channel.flags
    ):
        return f"{channel.name}: flags are texts"
    modelled = channel.quantity == "utilisation" and all(fact in channel.device for fact in _OF_A_MODEL)
    if "/" not in channel.name and channel.quantity not in ("energy", "power") and not modelled:
        return f"{channel.name}: {channel.quantity} makes no joules; a second stream has a slash in its name"
    return ""


def settled(offers: Sequence[Offer]) -> tuple[list[Group], list[Unavailable]]:
    """The groups to read, with their channels' parents, and what was left out that a user would miss.

    Parameters
    ----------
    offers
        By source, in the order in which they were opened: the first to offer a channel has it.
    """
    groups, missing = _once(offers)
    groups = _without_whole_node(groups)
    groups = _nested(groups)
    return _without_needless_models(groups), missing


def missed(absences: Sequence[Unavailable], groups: Sequence[Group]) -> list[Unavailable]:
    """What cannot be read, without what would not be read anyway: a whole node's meter beside finer ones."""
    finer = any(_measures(c) and _kind(c) != "node" for group in groups for c in group.channels)
    return [a for a in absences if not (finer and a.channel.startswith("node:"))]


def _once(offers: Sequence[Offer]) -> tuple[list[Group], list[Unavailable]]:
    """Each channel by its first source alone. A model's place is always free to be taken."""
    taken: dict[str, str] = {}
    kept: list[Group] = []
    missing: list[Unavailable] = []
    for source, groups in offers:
        own: list[Group] = []
        for group in groups:
            clash = next((c for c in group.channels if _place(c) in taken), None)
            if clash is None:
                own.append(group)
            elif clash.method in _MEASURED and "/" not in clash.name:
                detail = f"{clash.name} is read by {taken[_place(clash)]}; left out"
                missing.append(Unavailable(source, NOT_SUPPORTED, detail))
        kept += own
        taken.update({_place(c): source for group in own for c in group.channels if c.method in _MEASURED})
    return kept, missing


def _place(channel: Channel) -> str:
    """What it is a stream of; a package's dies and the whole package are one place."""
    return channel.name.split("/")[0].split("-die:")[0]


def _without_whole_node(groups: Sequence[Group]) -> list[Group]:
    """A meter of the whole node stands in only where no finer one is: it is slow, and knows no parts."""
    finer = any(_measures(c) and _kind(c) != "node" for group in groups for c in group.channels)
    return [group for group in groups if not finer or _kind(group.channels[0]) != "node"]


def _nested(groups: Sequence[Group]) -> list[Group]:
    """Parents across sources: modules that hold a GPU and a processor are seen by two.

    On Grace-Hopper the GPU's counter is the whole module's, so that module and package N are inside gpu:N.
    A module whose GPU is not read, or whose GPUs are counted alone, is left out where its processor has a
    meter of its own: GPUs and processors then add up. Where a board's rail holds the GPU, the rail is the
    GPU's parent.
    """
    channels = [c for group in groups for c in group.channels if _measures(c)]
    names = {c.name for c in channels}
    gpus = {c.name: _covers(c) for c in channels if _kind(c) == "gpu"}
    holder = next((c.name for c in channels if _kind(c) != "gpu" and "gpu" in _covers(c)), None)
    found: list[Group] = []
    for group in groups:
        kind, number = _kind(group.channels[0]), _number(group.channels[0])
        if kind == "module" and gpus and _whole(number, gpus) is None and f"package:{number}" in names:
            continue
        # Each by itself: a group may hold the packages of all sockets.
        found.append(replace(group, channels=tuple(_placed(c, gpus, holder) for c in group.channels)))
    return found


def _placed(channel: Channel, gpus: Mapping[str, Collection[str]], holder: str | None) -> Channel:
    """The channel inside what holds it, where that is another source's; a second stream stays with its first."""
    parent = None
    if "/" not in channel.name:
        if _kind(channel) in ("module", "package"):
            parent = _whole(_number(channel), gpus)
        elif _kind(channel) == "gpu":
            parent = holder
    return channel if parent is None else replace(channel, parent=parent)


def _whole(number: str, gpus: Mapping[str, Collection[str]]) -> str | None:
    """The GPU whose counter is that of this socket's whole module."""
    return f"gpu:{number}" if "package" in gpus.get(f"gpu:{number}", ()) else None


def _without_needless_models(groups: Sequence[Group]) -> list[Group]:
    """A model stands in for a domain (package, dram) only where no meter covers it."""
    channels = [c for group in groups for c in group.channels]
    metered = {_kind(c) for c in channels if _measures(c)}
    if metered & {"psys", "module", "node"}:  # they include packages and memory
        metered |= {"package", "dram"}
    for channel in channels:
        metered |= set(_covers(channel))
    return [
        group
        for group in groups
        if group.channels[0].method != "modelled" or _kind(group.channels[0]) not in metered
    ]


def in_totals(channels: Sequence[Channel]) -> set[str]:
    """The names of the channels that add up to the run: none that another of them already includes."""
    names = {channel.name for channel in channels}
    return {channel.name for channel in channels if channel.parent not in names}


def _measures(channel: Channel) -> bool:
    return channel.method in _MEASURED and "/" not in channel.name


def _kind(channel: Channel) -> str:
    return channel.name.split("/")[0].split(":")[0]


def _number(channel: Channel) -> str:
    """Of its socket or board: that of a package's die is the package's."""
    return channel.name.partition(":")[2].split("/")[0].split("-die:")[0]


def _covers(channel: Channel) -> Collection[str]:
    """The kinds of channel that it includes, as its source says."""
    return [kind for kind in str(channel.device.get("covers", "")).split(",") if kind]
