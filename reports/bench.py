"""What a bench says: a line a run, and what one command by itself costs. Data in, text out."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from energyprof.reports.numbers import NO_FIGURE, clean, duration, energy, quantity

_NARROWEST, _LABEL = 16, 32  # columns of a label
CLEAR = "\r\x1b[2K"


class Progress:
    """A line a run. On a terminal, a run that is at hand has its line already.

    Parameters
    ----------
    show
        Is given a whole line.
    write
        Is given text that the next line replaces; None where there is no terminal.
    """

    def __init__(self, show: Callable[[str], None], write: Callable[[str], None] | None = None) -> None:
        self._show, self._write = show, write
        self._wide = _NARROWEST

    def opens(self, data: Mapping[str, Any], already: int) -> None:
        """What is about to be done, and how many of its runs are there already."""
        self._wide = max(_NARROWEST, *(min(_LABEL, len(clean(arm["label"]))) for arm in data["arms"]))
        for line in begun(data, already):
            self._show(line)

    def begins(self, where: str, label: str) -> None:
        """A run has begun: `where` is "round 3/10"."""
        if self._write is not None:
            self._write(f"{CLEAR}{self._head(where, label)}…")

    def ended(
        self,
        where: str,
        label: str,
        energy_j: float | None,
        seconds: float | None,
        reason: str | None,
        left_s: float,
    ) -> None:
        """It ended well, and about so long all the others take."""
        joules = quantity(energy_j, "J") if energy_j is not None else f"{NO_FIGURE} ({reason or 'unknown'})"
        left = f"  {_about(left_s)} to go" if left_s > 0 else ""
        self._line(f"{self._head(where, label)}{joules:>9}  {duration(seconds):>8}{left}")

    def failed(self, where: str, label: str, ending: str, last_line: str, errors: str) -> None:
        """It failed: how, what it said last, and where the rest of that is."""
        self._line(f"{self._head(where, label)}failed: {ending}")
        if last_line:
            self._show(f"  {clean(last_line)[:160]}")
        if errors:
            self._show(f"  all it said: {errors}")

    def clear(self) -> None:
        """Nothing more comes."""
        if self._write is not None:
            self._write(CLEAR)

    def _line(self, text: str) -> None:
        self.clear()
        self._show(text)

    def _head(self, where: str, label: str) -> str:
        shown = clean(label)
        shown = shown if len(shown) <= _LABEL else shown[: _LABEL - 1] + "…"
        return f"{where:<12} {shown:<{self._wide}}  "


def _about(seconds: float) -> str:
    return f"{max(1.0, seconds):.0f} s" if seconds < 59.5 else duration(seconds)


def begun(data: Mapping[str, Any], already: int) -> list[str]:
    """What a bench is about to do."""
    arms = data["arms"]
    rounds, warmup = data["rounds"], data["warmup"]
    what = f"{len(arms)} commands" if len(arms) > 1 else "one command"
    extra = f" after {warmup} warm-up round{'s' if warmup > 1 else ''}" if warmup else ""
    runs = f"{rounds} round{'s' if rounds > 1 else ''}"
    lines = [f"bench {data['id']}: {what}, {runs}{extra}, order from seed {data['seed']}"]
    lines += [
        f"  {clean(arm['label'])}: {clean(arm['command'])}" for arm in arms if arm["label"] != arm["command"]
    ]
    if already:
        lines.append(f"  {already} of {rounds * len(arms)} runs are there already")
    return lines


def alone(data: Mapping[str, Any]) -> list[str]:
    """What one command costs, and how much that varies from run to run."""
    arm = data["arms"][0]
    joules, seconds = arm["mean_energy_j"], arm["mean_duration_s"]
    label = clean(arm["label"])
    if not joules["n"]:
        return [f"{label}: no run has joules; {duration(seconds['mean'])} a run (n = {seconds['n']})"]
    if joules["u95"] is None:
        return [f"{label}: {quantity(joules['mean'], 'J')} in one run: how much that varies is not known"]
    known = [value for value in arm["energy_j"] if value is not None]
    spread = (sum((value - joules["mean"]) ** 2 for value in known) / (len(known) - 1)) ** 0.5
    share = 100 * spread / joules["mean"] if joules["mean"] else 0.0
    return [
        f"{label}: {energy(joules['mean'], joules['u95'])} a run (95 % interval of the mean, n = {joules['n']}), "
        f"{energy(seconds['mean'], seconds['u95'], unit='s')}",
        f"  from run to run the joules vary by {share:.2g} % (standard deviation), "
        f"{quantity(min(known), 'J')} to {quantity(max(known), 'J')}",
    ]


def again(verb: str, selectors: Sequence[str], out: str | None = None) -> str:
    """The command that shows the same runs once more."""
    where = ["--out", out] if out is not None else []
    return f"{verb + ':':<9}energyprof {verb} {shlex.join([*selectors, *where])}"
