"""What a comparison may not find: `energy>+5%` is true where a group costs at least so much more, and that is shown.

A limit is exceeded only where the verdict says that there is a difference (significant after correction, and above the
threshold) and the change lies beyond the limit. No evidence exceeds no limit.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from energyprof.measures import NAMES, QUALITY

if TYPE_CHECKING:
    from energyprof.comparison import Comparison, Effect

_FORM = re.compile(r"\s*([^<>\s]+)\s*([<>])\s*([+-]?[0-9]+(?:\.[0-9]*)?|[+-]?\.[0-9]+)\s*%\s*")


_SHARE = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*%\s*")


@dataclass(frozen=True)
class Limit:
    """A metric, a direction (`>` or `<`), and a relative change: 0.05 for +5 %."""

    text: str
    metric: str
    above: bool
    change: float


def limit(text: str) -> Limit:
    """`energy>+5%`, `quality:accuracy<-1%`.

    Raises
    ------
    ValueError
        It is of another form, its metric is none (of qualities the runs know), or its sign contradicts its direction.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no limit; write 'energy>+5%', 'flop_per_j<-5%' or 'duration>10%'")
    if found[1] not in NAMES and not found[1].startswith(QUALITY):
        raise ValueError(f"unknown metric {found[1]!r}; known: {', '.join(NAMES)}, {QUALITY}NAME")
    change = float(found[3]) / 100
    above = found[2] == ">"
    if change < 0 if above else change > 0:
        sign = "'>' takes a bound of zero or more" if above else "'<' takes a bound of zero or less"
        raise ValueError(f"{text!r}: {sign}; write 'energy>+5%' or 'flop_per_j<-5%'")
    return Limit(text.strip(), found[1], above, change)


def share(text: str, name: str = "the threshold") -> float:
    """`1%` as 0.01. ValueError where it is no percentage from 0 to 100."""
    found = _SHARE.fullmatch(text)
    if found is None or float(found[1]) > 100:
        raise ValueError(f"{name} is {text!r}; write a percentage: 1%")
    return float(found[1]) / 100


def exceeded(comparison: Comparison, limits: Sequence[Limit]) -> list[tuple[Limit, Effect]]:
    """The limits that were exceeded, with the effects that did."""
    return [
        (one, effect)
        for one in limits
        for effect in comparison.effects
        if effect.metric == one.metric and _beyond(effect, one)
    ]


def unjudged(comparison: Comparison, limits: Sequence[Limit]) -> list[tuple[Limit, str]]:
    """The limits of which nothing can be said, and why: nobody should take them for kept."""
    found: list[tuple[Limit, str]] = []
    for one in limits:
        mine = [effect for effect in comparison.effects if effect.metric == one.metric]
        if not mine:
            found.append((one, "no run has that figure"))
        found += [
            (one, f"{effect.group}: {effect.verdict}")
            for effect in mine
            if effect.verdict in ("too few runs", "not comparable")
        ]
    return found


def _beyond(effect: Effect, one: Limit) -> bool:
    if effect.verdict != ("more" if one.above else "less"):
        return False
    change = effect.change
    if change is None:  # from a baseline of zero any difference is beyond every ratio
        return True
    return change > one.change if one.above else change < one.change
