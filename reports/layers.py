"""Layers as plain text: as a tree, or the costliest first. Rows in (columns of the layers table), lines out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from energyprof.reports.numbers import NO_FIGURE, clean, duration, energy, quantity, table

Row = Mapping[str, Any]


def all_flops(row: Row) -> float:
    """Forward, backward and what is recomputed."""
    return sum(row.get(name) or 0.0 for name in ("flops_forward", "flops_backward", "flops_recompute"))


SORTS = ("tree", "energy", "time", "flops", "params", "bytes")
_KEYS: dict[str, Callable[[Row], float]] = {
    "energy": lambda row: row.get("energy_j") or 0.0,
    "time": lambda row: row.get("time_s") or 0.0,
    "flops": all_flops,
    "params": lambda row: row.get("params") or 0.0,
    "bytes": lambda row: row.get("bytes") or 0.0,
}


def layer_table(rows: Sequence[Row], *, depth: int = 4, sort: str = "tree", top: int = 0) -> list[str]:
    """A table of layers: `rows` are those of whole steps on one channel, the model first.

    Parameters
    ----------
    depth
        Levels of modules that are shown as a tree.
    sort
        `tree`, or what the layers are sorted by, largest first: the leaves, and what a module with others
        inside does itself (attention between its projections).
    top
        How many are shown then; 0: all.
    """
    if sort == "tree":
        shown = [
            (_indented(row, count), row) for row, count in _alike([r for r in rows if r["depth"] <= depth])
        ]
        more = 0
    else:
        layers = sorted((_layers(rows)), key=_KEYS[sort], reverse=True)
        known = [row for row in layers if _KEYS[sort](row) > 0]
        chosen = known[:top] if top else known
        more = len(known) - len(chosen)
        shown = [(clean(row["name"]), row) for row in chosen]
    columns = _columns([row for _, row in shown])
    body = [[name, *(show(row) for _, show in columns)] for name, row in shown]
    lines = table([["layer", *(head for head, _ in columns)], *body], right=range(2, len(columns) + 1))
    return lines + ([f"… {more} more layers"] if more else [])


_OWN = ("flops_forward", "flops_backward", "flops_recompute", "time_s", "energy_j", "share")


def _layers(rows: Sequence[Row]) -> list[Row]:
    """The leaves, and of modules that compute beside those inside them what is their own."""
    inside: dict[str, list[Row]] = {}
    names = {row["name"] for row in rows}
    for row in rows:
        above = row["name"].rpartition(".")[0]
        while above not in names:  # a list of modules is called by nobody
            above = above.rpartition(".")[0]
        if row["name"]:
            inside.setdefault(above, []).append(row)
    found: list[Row] = []
    for row in rows:
        if row["leaf"]:
            found.append({**row, "name": row["name"] or "(model)"})
            continue
        own: dict[str, Any] = {**row, "name": f"{row['name'] or '(model)'} itself", "params": None}
        if "u95_j" in own:  # of a difference, as if its terms erred by chance alone
            half = [one.get("u95_j") for one in (row, *inside.get(row["name"], ()))]
            own["u95_j"] = None if None in half else math.hypot(*(part or 0.0 for part in half))
        for name in set(_OWN) & set(row):
            parts = [one.get(name) for one in (row, *inside.get(row["name"], ()))]
            own[name] = (
                None if parts[0] is None else max(0.0, parts[0] - sum(part or 0.0 for part in parts[1:]))
            )
        if all_flops(own) and row["name"]:
            found.append(own)
    return found


def _columns(rows: Iterable[Row]) -> list[tuple[str, Callable[[Row], str]]]:
    """The columns in which any row has something to say."""
    rows = list(rows)

    def known(name: str) -> bool:
        return any(row.get(name) for row in rows)

    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("class", lambda row: clean(row.get("class") or "")),
        ("calls", lambda row: f"{row['calls']:,.4g}" if row.get("calls") else ""),
        ("params", lambda row: _count(row.get("params"))),
        ("forward", lambda row: _flops(row.get("flops_forward"))),
        ("backward", lambda row: _flops(row.get("flops_backward"))),
    ]
    if known("flops_recompute"):
        columns.append(("recomputed", lambda row: _flops(row.get("flops_recompute"))))
    if known("time_s"):
        columns.append(("time", lambda row: duration(row["time_s"]) if row.get("time_s") else ""))
    if any("energy_j" in row for row in rows):
        columns.append(("energy", lambda row: energy(row["energy_j"], row["u95_j"], row.get("reason"))))
        columns.append(("method", lambda row: clean(row.get("method") or "")))
    columns.append(
        ("share", lambda row: NO_FIGURE if row.get("share") is None else f"{100 * row['share']:.1f} %")
    )
    return columns


def _flops(value: float | None) -> str:
    return "" if not value else quantity(value, "FLOP")


def _count(value: float | None) -> str:
    return "" if not value else quantity(value, "").strip()


def _indented(row: Row, count: int) -> str:
    name = clean(row["name"].rpartition(".")[2]) or "(model)"
    times = f" … {int(name) + count - 1}, each" if count > 1 else ""
    return f"{'  ' * int(row['depth'])}{name}{times}"


_SAME = ("class", "calls", "params", "flops_forward", "flops_backward", "flops_recompute")


def _alike(rows: Sequence[Row]) -> list[tuple[Row, int]]:
    """The rows with their multiplicity: of numbered siblings in a row that compute the same, all inside included,
    the first alone. Where joules were measured each is shown."""
    found: list[tuple[Row, int]] = []
    place = 0
    while place < len(rows):
        row, end = rows[place], _end(rows, place)
        own, count, after = _signature(rows[place:end]), 1, end
        while after < len(rows) and _siblings(row, rows[after]):
            last = _end(rows, after)
            if _signature(rows[after:last]) != own:
                break
            count, after = count + 1, last
        found.append((row, count))
        if count > 1:
            found += _alike(rows[place + 1 : end])
        place = after if count > 1 else place + 1
    return found


def _end(rows: Sequence[Row], place: int) -> int:
    """Where the rows inside one row end."""
    inside = place + 1
    while inside < len(rows) and rows[inside]["depth"] > rows[place]["depth"]:
        inside += 1
    return inside


def _siblings(one: Row, other: Row) -> bool:
    above, _, number = one["name"].rpartition(".")
    beside, _, next_number = other["name"].rpartition(".")
    numbered = number.isdecimal() and next_number.isdecimal()
    return numbered and above == beside and not any("energy_j" in row for row in (one, other))


def _signature(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    start = len(rows[0]["name"])
    return [(row["name"][start:], *(row.get(key) for key in _SAME)) for row in rows]


_PLACES = {
    "in_place": "timed while the program ran",
    "replayed": "each kind repeated alone",
    "counted": "FLOPs alone",
}
_COSTLIEST = 10


def costliest(rows: Sequence[Row], step_s: float | None = None, top: int = _COSTLIEST) -> list[str]:
    """For `show`: the layers that cost most, of one step, by the best that is known of them.

    `step_s` is how long a step takes that is not timed by layer.
    """
    lines: list[str] = []
    for source in ("replayed", "in_place", "counted"):
        mine = [r for r in rows if r["source"] == source and r["channel"] == "total"]
        rank = min((r["rank"] or 0 for r in mine), default=0)
        mine = [r for r in mine if (r["rank"] or 0) == rank]
        model = _step(mine)
        if model is None or (source == "counted" and lines):
            continue
        steps = f", mean of {model['steps']} steps{_longer(model, step_s)}" if source == "in_place" else ""
        lines += [
            "",
            f"layers of {clean(model['model'] or model['class'])}, a step ({_PLACES[source]}{steps})",
        ]
        sort = "energy" if model["energy_j"] is not None else "time" if model["time_s"] else "flops"
        lines += layer_table(_whole_steps(mine), sort=sort, top=top)
        lines += _rest(mine, model)
    return lines


def _longer(model: Row, step_s: float | None) -> str:
    """What the timing itself cost the steps that were timed."""
    if not step_s or not model["time_s"]:
        return ""
    more = 100 * (model["time_s"] / step_s - 1)
    return f"; these took {abs(more):.0f} % {'longer' if more >= 0 else 'less time'} than the others"


def replayed_text(
    rows: Sequence[Row],
    notes: Sequence[str] = (),
    *,
    depth: int = 3,
    sort: str = "energy",
    top: int = _COSTLIEST,
) -> list[str]:
    """A replay: its layers, the measured step, and how far their sum is from it."""
    mine = [row for row in rows if row["channel"] == "total"]
    model = _step(mine)
    if model is None:
        return list(notes)
    head = f"layers of {clean(model['model'] or model['class'])}, a step ({_PLACES['replayed']})"
    table = layer_table(_whole_steps(mine), depth=depth, sort=sort, top=top)
    return [head, *table, *_rest(mine, model), *map(clean, notes)]


def closing(closure: float | None, u95_closure: float | None) -> str:
    """Closure in words."""
    if closure is None or u95_closure is None:
        return "closure: none, since a layer or the step has no figure"
    return f"closure: the layers add up to {100 * (1 + closure):.1f} ± {100 * u95_closure:.1f} % of the measured step"


def _step(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if not row["name"] and row["phase"] == "step"), None)


def _whole_steps(rows: Sequence[Row]) -> list[Row]:
    """The rows of whole steps, without the columns in which nothing was measured."""
    chosen = [row for row in rows if row["phase"] == "step"]
    if any(row["source"] != "counted" for row in chosen):
        return chosen
    return [{key: value for key, value in row.items() if key not in ("energy_j", "time_s")} for row in chosen]


def _rest(rows: Sequence[Row], model: Row) -> list[str]:
    """What the step drew beside its layers, or how far their sum is from it."""
    if model["source"] == "counted":
        return []
    whole = f"the step itself: {energy(model['energy_j'], model['u95_j'], model['reason'])}"
    if model["source"] == "replayed":
        return [whole, closing(model.get("closure"), model.get("u95_closure"))]
    phases = [row["energy_j"] for row in rows if not row["name"] and row["phase"] != "step"]
    if not model["energy_j"] or None in phases:
        return [whole]
    share = 100 * (1 - sum(phases) / model["energy_j"])
    return [f"{whole}, {share:.0f} % of it in no layer (loss, optimiser, data, what joins layers)"]
