"""What differs between groups of runs besides what is compared: stands in front of every verdict.

A `warning` may be the cause of a difference, or makes figures mean different things; a `note` is worth knowing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from energyprof import jsontext
from energyprof.boards import device
from energyprof.evidence import Evidence
from energyprof.reasons import (
    CLOCK_SUSPENDED,
    COUNTER_RESET,
    DEVICE_LOST,
    IN_PROCESS,
    INTENSITY_FALLBACK,
    METERS_DISAGREE,
    MIG_PARENT_POWER,
    MODELLED_ONLY,
    NO_PERMISSION,
    SENSOR_GAP,
    SHARED_DEVICE,
    VIRTUALISED_COUNTER,
)
from energyprof.selection import Group

Row = Mapping[str, Any]
Severity = Literal["note", "warning"]

_WATTS_APART, _KELVIN_APART = 1.0, 5.0
_WORK_APART = 0.005  # relative: padding moves tokens by less
_FLAGS = {
    MODELLED_ONLY: "no meter was read: the joules are a model's, which knows time and load and no more",
    SHARED_DEVICE: "others used the device too, and their joules are in it",
    METERS_DISAGREE: "two meters of a device contradict each other",
    CLOCK_SUSPENDED: "the machine slept meanwhile",
    VIRTUALISED_COUNTER: "the counter is a hypervisor's, which may estimate",
    MIG_PARENT_POWER: "the joules are the whole GPU's, not the slice's",
    COUNTER_RESET: "a counter was reset",
    DEVICE_LOST: "a device stopped answering",
    SENSOR_GAP: "a meter gave no reading for a while",
    IN_PROCESS: "a thread in the program read the meters, which costs it time",
    INTENSITY_FALLBACK: "another carbon intensity stood in for a while",
}


# In a sentence, where there is no room for why.
IN_A_SENTENCE = {
    MODELLED_ONLY: "no meter was read, and a model's joules follow time and load",
    SHARED_DEVICE: "others used the device too",
    METERS_DISAGREE: "meters disagree",
    CLOCK_SUSPENDED: "the machine slept meanwhile",
    VIRTUALISED_COUNTER: "the counter is a hypervisor's",
    MIG_PARENT_POWER: "the joules are the whole GPU's",
    COUNTER_RESET: "a counter was reset",
    DEVICE_LOST: "a device was lost",
    SENSOR_GAP: "readings are missing",
    IN_PROCESS: "the meters were read inside the program",
    INTENSITY_FALLBACK: "another carbon intensity stood in",
}


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same in all groups; `values` has a text for each group, the baseline's first."""

    field: str
    values: tuple[str, ...]
    severity: Severity
    why: str


# Column -> what it is called, how severe, and why it matters.
_COLUMNS: dict[str, tuple[str, Severity, str]] = {
    "hardware": ("hardware", "warning", "other devices draw other power"),
    "torch": ("torch", "warning", "another release may run other kernels"),
    "energyprof": ("energyprof", "warning", "another release may measure otherwise"),
    "python": ("python", "note", "another interpreter"),
    "os": ("os", "note", "another system or kernel"),
    "node": ("machine", "note", "machines differ in fans, power supplies and neighbours"),
    "pue": ("PUE", "note", "grams follow it; joules do not"),
    "flops_dtype": ("type", "note", "the FLOPs are of another type"),
    "git_commit": ("git commit", "note", "another state of the code"),
    "ranks": ("ranks", "warning", "another number of processes does the work"),
}
_COUNTS = {"steps": "steps", "samples": "samples", "tokens": "tokens"}


def differences(groups: Sequence[Group], evidence: Evidence) -> tuple[Difference, ...]:
    """What differs, warnings first."""
    flags = [Counter(run.get("flags") for run in group.runs) for group in groups]
    found = [
        *(_of_column(groups, column, *facts) for column, facts in _COLUMNS.items()),
        _commands(groups),
        _compared(groups, "place", _place, "note", "grams follow the grid; joules do not"),
        _of_channels(groups, evidence, "driver", lambda c: device(c).get("driver"), "another driver"),
        _coverage(groups, evidence),
        _state(groups, evidence, "power limit", "W", _WATTS_APART, "a capped board is slower and thriftier"),
        _state(groups, evidence, "temperature", "°C", _KELVIN_APART, "a warm board leaks more power"),
        *(_count(groups, column, name) for column, name in _COUNTS.items()),
        *(_flag(flags, flag, why) for flag, why in _FLAGS.items()),
        _order(groups),
    ]
    known = [one for one in found if one is not None]
    return tuple(sorted(known, key=lambda one: one.severity != "warning"))


def lacking(groups: Sequence[Group], evidence: Evidence) -> str | None:
    """Why the joules of two groups cover different things, so that no ratio of them means anything; else None.

    One has a kind of meter in its total that the other lacks although the same machine has it, or
    because it could not be read.
    """
    kinds = [_kinds(group, evidence) for group in groups]
    for (one, mine), (other, theirs) in ((a, b) for a in zip(groups, kinds) for b in zip(groups, kinds)):
        missing = mine - theirs
        if not missing or not theirs:
            continue
        unread = any({NO_PERMISSION, DEVICE_LOST} & _flags(run) for run in other.runs)
        if unread or {run["node"] for run in one.runs} & {run["node"] for run in other.runs}:
            return f"{', '.join(sorted(missing))} is in the joules of {one.label}, and not in those of {other.label}"
    return None


def _kinds(group: Group, evidence: Evidence) -> set[str]:
    channels = (
        c
        for run in evidence.seen(group.runs)
        for c in evidence.channels.get(run["run_id"], ())
        if c["in_total"]
    )
    return {str(c["channel"]).split(":")[0] for c in channels}


def _compared(
    groups: Sequence[Group],
    name: str,
    text: Callable[[Row], str],
    severity: Severity,
    why: str,
    evidence: Evidence | None = None,
) -> Difference | None:
    """A difference where the groups' sets of texts are not the same; of the runs that were looked into."""
    runs = [evidence.seen(group.runs) if evidence else group.runs for group in groups]
    return _unlike(name, [dict.fromkeys(text(run) for run in own) for own in runs], severity, why)


def _unlike(name: str, found: Sequence[Iterable[str]], severity: Severity, why: str) -> Difference | None:
    """A difference where what was found in each group is not the same."""
    sets = [list(texts) for texts in found]
    if len({frozenset(texts) for texts in sets}) == 1:
        return None
    return Difference(name, tuple(_listed(texts) for texts in sets), severity, why)


def _listed(texts: Sequence[str]) -> str:
    shown = [text or "unknown" for text in texts[:3]]
    return ", ".join(shown) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")


def _of_column(
    groups: Sequence[Group], column: str, name: str, severity: Severity, why: str
) -> Difference | None:
    def text(value: Any) -> str:
        if column == "git_commit":
            return str(value or "")[:10]
        return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)

    # Thousands of runs have a few values.
    values = [dict.fromkeys(run.get(column) for run in group.runs) for group in groups]
    return _unlike(name, [dict.fromkeys(map(text, own)) for own in values], severity, why)


def _commands(groups: Sequence[Group]) -> Difference | None:
    """Other arguments of the program; what all of them begin with is left out."""
    words = {run["run_id"]: _words(run) for group in groups for run in group.runs}
    same = 0
    for at in zip(*words.values()):
        if len(set(at)) > 1:
            break
        same += 1

    def text(run: Row) -> str:
        own = words[run["run_id"]]
        return " ".join(["…", *own[same:]] if same and own else own)

    return _compared(groups, "command", text, "note", "another command")


def _words(run: Row) -> list[str]:
    return [str(word) for word in jsontext.sequence(run.get("command"))]


def _place(run: Row) -> str:
    value = run.get("intensity_g_per_kwh")
    return "" if value is None else f"{run.get('intensity_place') or 'given'} {value:.4g} g/kWh"


def _of_channels(
    groups: Sequence[Group], evidence: Evidence, name: str, fact: Callable[[Row], Any], why: str
) -> Difference | None:
    def text(run: Row) -> str:
        found = (fact(c) for c in evidence.channels.get(run["run_id"], ()) if c["in_total"])
        return "+".join(sorted({str(value) for value in found if value}))

    return _compared(groups, name, text, "warning", why, evidence)


def _coverage(groups: Sequence[Group], evidence: Evidence) -> Difference | None:
    def text(run: Row) -> str:
        counted = [c for c in evidence.channels.get(run["run_id"], ()) if c["in_total"]]
        return " ".join(sorted(f"{c['channel']} {c['method']}" for c in counted)).replace(" modelled", "*")

    why = "the joules do not cover the same (* modelled)"
    return _compared(groups, "meters", text, "warning", why, evidence)


def _state(
    groups: Sequence[Group], evidence: Evidence, name: str, unit: str, apart: float, why: str
) -> Difference | None:
    """A difference of means that is larger than so much."""
    means: list[float | None] = []
    for group in groups:
        states = (evidence.states.get(run["run_id"], {}).get(name) for run in group.runs)
        known = [value for value in states if value is not None]
        means.append(sum(known) / len(known) if known else None)
    there = [mean for mean in means if mean is not None]
    if len(there) < 2 or max(there) - min(there) <= apart:
        return None
    texts = tuple("unknown" if mean is None else f"{mean:.0f} {unit}" for mean in means)
    return Difference(f"{name} at start" if name == "temperature" else name, texts, "warning", why)


def counted(groups: Sequence[Group], column: str) -> bool:
    """Whether runs of every group counted that."""
    return all(_mean(group, column) is not None for group in groups)


def unequal(groups: Sequence[Group], column: str, per: str | None = None) -> bool:
    """Whether the groups' runs did, on average, other amounts of work; or of work in each `per`."""
    means = [mean for mean in (_mean(group, column, per) for group in groups) if mean is not None]
    return len(means) == len(groups) and max(means) - min(means) > _WORK_APART * max(means)


def _mean(group: Group, column: str, per: str | None = None) -> float | None:
    runs = [run for run in group.runs if run.get(column) is not None and (per is None or run.get(per))]
    found = [float(run[column]) / (float(run[per]) if per else 1.0) for run in runs]
    return sum(found) / len(found) if found else None


def _count(groups: Sequence[Group], column: str, name: str) -> Difference | None:
    means = [_mean(group, column) for group in groups]
    if len({mean is None for mean in means}) == 1 and not unequal(groups, column):
        return None
    texts = tuple("unknown" if mean is None else f"{mean:,.0f} a run" for mean in means)
    return Difference(name, texts, "warning", "another amount of work: look at the energy per unit of it")


def _flags(run: Row) -> set[str]:
    return set(_split(run.get("flags")))


def _split(flags: str | None) -> list[str]:
    return (flags or "").split(",")


def _flag(told: Sequence[Counter[str | None]], flag: str, why: str) -> Difference | None:
    """A flag that any run has: it is worth knowing also where all groups have it.

    `told` has how many runs of each group have which flags.
    """
    counts = [sum(n for flags, n in own.items() if flag in _split(flags)) for own in told]
    if not any(counts):
        return None
    texts = tuple(f"{count} of {sum(own.values())} runs" for count, own in zip(counts, told))
    return Difference(flag, texts, "warning", why)


def _order(groups: Sequence[Group]) -> Difference | None:
    """Whether the groups were measured one after the other, and not in turn."""
    if any(len(group.runs) < 2 or any(not run["started_utc"] for run in group.runs) for group in groups):
        return None
    spans = sorted(
        (min(run["started_utc"] for run in g.runs), max(run["started_utc"] for run in g.runs)) for g in groups
    )
    if any(later[0] < earlier[1] for earlier, later in pairwise(spans)):
        return None
    texts = tuple(f"from {min(run['started_utc'] for run in g.runs):%Y-%m-%d %H:%M}" for g in groups)
    return Difference(
        "order", texts, "note", "not measured in turn: what drifted meanwhile is in the difference"
    )
