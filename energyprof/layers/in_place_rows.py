"""The rows of the layers table: every module of a model, from its units' shares and its counts.

All figures are of one step: the mean of the active steps for time and energy, the mean over what ran for
FLOPs. A module has what its units have, and the model itself has what the steps were measured to draw, so
that what lies between the layers (the loss, the optimiser, waiting for data) can be told from the sum.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energyprof.layers.in_place_energy import InPlace, Share
from energyprof.layers.reading import LayerLog
from energyprof.reasons import NOT_SEEN
from energyprof.tally import TOTAL

# Coefficients; how far off a count may lie; how much longer than what was counted a sequence may be.
_CURVE, _ON_CURVE, _FARTHER = 3, 1e-4, 2.0
_COUNTS = ("flops_forward", "flops_backward", "flops_recompute", "bytes", "calls", "activations")


def layer_rows(log: LayerLog, found: InPlace | None) -> list[dict[str, Any]]:
    """All rows of one process: with joules where steps were timed, with FLOPs where they were counted."""
    counts = mean_counts(log)
    names = list(counts) or _names(log)
    if not names or (not counts and found is None):
        return []
    model = next((str(event["model"]) for event in log.counted.values()), "")
    shared = {"rank": log.rank, "model": model, "source": "in_place" if found else "counted"}
    if found is None:
        total = counts.get("", {})
        whole = sum(total.get(name, 0.0) for name in _COUNTS[:3]) or 1.0
        return [
            {**shared, **counts[name], "phase": "step", "channel": TOTAL, "steps": sum(log.occurred.values()),
             "share": sum(counts[name][key] for key in _COUNTS[:3]) / whole}
            for name in names
        ]  # fmt: skip
    rows: list[dict[str, Any]] = []
    for channel, shares in found.shares.items():
        for name in names:
            base = {
                **shared,
                **(counts.get(name) or _bare(name, log)),
                "channel": channel,
                "steps": found.steps,
            }
            rows += [
                {**base, **row} for row in _figures(name, log, channel, shares, found, counts.get(name) or {})
            ]
    return rows


def _figures(
    name: str,
    log: LayerLog,
    channel: str,
    shares: Sequence[Share],
    found: InPlace,
    counts: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    """One module on one channel: the step, and its two phases."""
    mine = [
        share
        for share in shares
        if share.unit >= 0 and _inside(log.units[share.unit][0], name) and share.seconds
    ]
    whole = found.whole[channel]
    for phase in ("step", "forward", "backward"):
        parts = [share for share in mine if phase in ("step", share.phase)]
        row = _sum(parts, found.steps)
        if name == "" and phase == "step":
            energy = whole.energy_j
            row.update(
                time_s=found.seconds[channel] / found.steps,
                energy_j=None if energy is None else energy / found.steps,
                u95_j=None if whole.u95_j is None else whole.u95_j / found.steps,
                u_random_j=None if energy is None else whole.u_random_j / found.steps,
                method=whole.method, reason=whole.reason,
            )  # fmt: skip
        if not parts and row["method"] is None and _works(counts, phase):
            row.update(time_s=None, energy_j=None, u95_j=None, u_random_j=None, reason=NOT_SEEN)
        if phase != "step":
            row.update(_one_phase(phase))
        total = whole.energy_j
        if row["energy_j"] is not None and total:
            row["share"] = row["energy_j"] * found.steps / total
        elif found.seconds[channel] and row["time_s"] is not None:
            row["share"] = row["time_s"] * found.steps / found.seconds[channel]
        yield {"phase": phase, **row}


def _works(counts: Mapping[str, Any], phase: str) -> bool:
    """Whether a module has FLOPs in a phase, so that it cannot have taken no time."""
    names = {"forward": _COUNTS[:1], "backward": _COUNTS[1:2]}.get(phase, _COUNTS[:2])
    return any(counts.get(name) for name in names)


def _one_phase(phase: str) -> dict[str, None]:
    """What a row of one phase says nothing of."""
    other = {"forward": ("flops_backward", "flops_recompute"), "backward": ("flops_forward", "activations")}
    return {**dict.fromkeys(other[phase]), "bytes": None}


def _sum(parts: Sequence[Share], steps: int) -> dict[str, Any]:
    """Shares added: those of one estimate err alike, gains err alike, all else by chance."""
    known = all(part.energy_j is not None for part in parts)
    by_kind: dict[int, float] = {}
    for part in parts:
        by_kind[part.kind] = by_kind.get(part.kind, 0.0) + (part.u_random_j or 0.0)
    sure = known and all(part.u_random_j is not None for part in parts)
    gain = sum(part.u_gain_j for part in parts)
    random = float(np.sqrt(sum(u**2 for u in by_kind.values())))
    return {
        "time_s": sum(part.seconds for part in parts) / steps,
        "energy_j": sum(part.energy_j or 0.0 for part in parts) / steps if known else None,
        "u95_j": float(np.hypot(random, gain)) / steps if sure else None,
        "u_random_j": random / steps if sure else None,
        "method": "+".join(sorted({m for part in parts for m in part.method.split("+")})) or None,
        "reason": next((part.reason for part in parts if part.reason), None),
    }


def _inside(unit: str, name: str) -> bool:
    return name in ("", unit) or unit.startswith(f"{name}.")


def mean_counts(log: LayerLog) -> dict[str, dict[str, Any]]:
    """The mean counts of one step by module, over the signatures of the commonest mode that were counted."""
    weights = {
        number: log.occurred.get(number, 1) for number, event in log.counted.items() if event.get("rows")
    }
    if not weights:
        return {}
    by_mode: dict[str, int] = {}
    for number, times in weights.items():
        mode = str(log.counted[number]["mode"])
        by_mode[mode] = by_mode.get(mode, 0) + times
    steps = log.active
    mode = steps[0].mode if steps else max(by_mode, key=lambda one: by_mode[one])
    chosen = {n: w for n, w in weights.items() if log.counted[n]["mode"] == mode} or weights
    total = sum(chosen.values())
    found: dict[str, dict[str, Any]] = {}
    for number, weight in chosen.items():
        event = log.counted[number]
        for values in event["rows"]:
            row = dict(zip(event["columns"], values))
            name = str(row["name"])
            if row["leaf"] and not row["calls"] and name:
                continue  # nobody called it, nor anything inside
            mine = found.setdefault(name, {
                "name": name, "class": row["kind"], "depth": row["depth"], "leaf": row["leaf"],
                "params": row["params"], **dict.fromkeys(_COUNTS, 0.0),
            })  # fmt: skip
            for key in _COUNTS:
                mine[key] += row[key] * weight / total
    return found


def run_flops(log: LayerLog) -> tuple[float, float] | None:
    """Model and hardware FLOPs of every call of the model; None where some kind of call is not known.

    Where there are more shapes than were counted, a call of B sequences of S tokens costs B (a + b S + c S²),
    as every model of linear layers and attention does: the counts of the same mode tell a, b and c, and are
    used where they all lie on that curve and B and S are within what was counted.
    """
    if not log.occurred:
        return None
    model = again = 0.0
    curves: dict[str, NDArray[np.float64] | None] = {}
    for number, times in log.occurred.items():
        flops = _root_flops(log, number)
        if flops is None:
            mode, sizes = log.sizes.get(number, ("", []))
            if mode not in curves:
                curves[mode] = _curve(log, mode)
            terms, curve = _terms(sizes), curves[mode]
            if terms is None or curve is None or not _within(log, mode, terms):
                return None
            flops = terms @ curve
        model += times * flops[0]
        again += times * flops[1]
    return model, model + again


def _root_flops(log: LayerLog, number: int) -> NDArray[np.float64] | None:
    """Model FLOPs and repeated ones of one signature's call."""
    event = log.counted.get(number) or {}
    if not event.get("rows"):
        return None
    row = dict(zip(event["columns"], event["rows"][0]))
    return np.array([row["flops_forward"] + row["flops_backward"], row["flops_recompute"]], np.float64)


def _terms(sizes: Sequence[Sequence[int]]) -> NDArray[np.float64] | None:
    """B, B S and B S² of the first input that has two dimensions, where all such have the same."""
    leading = {(shape[0], shape[1]) for shape in sizes if len(shape) >= 2}
    if len(leading) != 1:
        return None
    batch, length = leading.pop()
    return np.array([batch, batch * length, batch * length**2], np.float64)


def _within(log: LayerLog, mode: str, terms: NDArray[np.float64]) -> bool:
    """Whether a batch and a length lie between those that were counted."""
    known = [
        one
        for number, (own, sizes) in log.sizes.items()
        if own == mode and _root_flops(log, number) is not None and (one := _terms(sizes)) is not None
    ]
    batches, lengths = [one[0] for one in known], [one[1] / one[0] for one in known]
    length = terms[1] / terms[0]
    return min(batches) <= terms[0] <= max(batches) and min(lengths) <= length <= _FARTHER * max(lengths)


def _curve(log: LayerLog, mode: str) -> NDArray[np.float64] | None:
    """The coefficients of the three terms, shape (3, 2); None where the counts do not lie on one curve."""
    rows = []
    for number, (own, sizes) in log.sizes.items():
        terms, flops = _terms(sizes), _root_flops(log, number)
        if own == mode and terms is not None and flops is not None:
            rows.append((terms, flops))
    if len(rows) <= _CURVE:
        return None
    terms, flops = (np.array(side) for side in zip(*rows))
    if np.linalg.matrix_rank(terms / terms.max(axis=0)) < _CURVE:
        return None
    curve = np.linalg.lstsq(terms, flops, rcond=None)[0].astype(np.float64)
    apart = np.abs(terms @ curve - flops).max(axis=0)
    return curve if np.all(apart <= _ON_CURVE * np.abs(flops).max(axis=0)) else None


def step_facts(log: LayerLog) -> dict[str, Any]:
    """What tells how well the device was used: the type, the device, and how long a step takes untouched."""
    event = next((event for event in log.counted.values() if event.get("rows")), {})
    mode = log.active[0].mode if log.active else None
    plain = [
        (step.end_ns - step.begin_ns) / 1e9
        for step in log.steps
        if not step.hooked
        and mode in (None, step.mode)
        and not any(begin < step.end_ns and end > step.begin_ns for begin, end in log.counting)
    ]
    timed = [(step.end_ns - step.begin_ns) / 1e9 for step in log.active]
    return {
        "flops_dtype": event.get("dtype") or None,
        "flops_device": event.get("device"),
        "flops_device_units": event.get("units"),
        "step_s": float(np.median(plain or timed)) if plain or timed else None,
    }


def uncounted(log: LayerLog) -> Mapping[str, int]:
    """Operators that multiply matrices and have no formula."""
    found: dict[str, int] = {}
    for event in log.counted.values():
        for name, times in (event.get("uncounted") or {}).items():
            found[str(name)] = found.get(str(name), 0) + int(times)
    return found


def _names(log: LayerLog) -> list[str]:
    """Every unit's name and those above it, where nothing was counted."""
    found: dict[str, None] = {"": None}
    for name, _, _ in log.units:
        parts = name.split(".") if name else []
        for length in range(1, len(parts) + 1):
            found[".".join(parts[:length])] = None
    return list(found)


def _bare(name: str, log: LayerLog) -> dict[str, Any]:
    kind = next((kind for unit, kind, _ in log.units if unit == name), None)
    return {
        "name": name,
        "class": kind,
        "depth": name.count(".") + 1 if name else 0,
        "leaf": kind is not None,
    }
