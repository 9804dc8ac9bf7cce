"""What of a run is compared: each metric's unit, which way is better, and its value in a run's row."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal

from energyprof import jsontext

Row = Mapping[str, Any]
Better = Literal["less", "more"]

QUALITY = "quality:"
# Words in the names of logged figures of which less is better; of all others more is. `evalLoss2` has eval and loss.
_LESS = frozenset((
    *("loss", "err", "error", "perplexity", "ppl", "rmse", "mse", "mae", "wer", "cer", "fid", "nll", "bpb"),
    *("latency", "regret", "divergence", "kl", "ece", "brier", "losses", "errors"),
))  # fmt: skip
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


@dataclass(frozen=True)
class Metric:
    """One figure of a run; `of_energy` where it holds the run's joules, and so the sensors' gain."""

    name: str
    unit: str
    better: Better
    noun: str
    value: Callable[[Row], float | None]
    of_energy: bool = True
    ratio: bool = True


def _over(column: str, divisor: str) -> Callable[[Row], float | None]:
    def value(run: Row) -> float | None:
        top, bottom = run.get(column), run.get(divisor)
        return None if top is None or not bottom else float(top) / float(bottom)

    return value


def _column(name: str) -> Callable[[Row], float | None]:
    def value(run: Row) -> float | None:
        found = run.get(name)
        return None if found is None else float(found)

    return value


_FIXED = (
    Metric("energy", "J", "less", "energy", _column("energy_j")),
    Metric("energy_per_step", "J", "less", "energy per step", _column("energy_per_step_j")),
    Metric("energy_per_sample", "J", "less", "energy per sample", _over("energy_j", "samples")),
    Metric("energy_per_token", "J", "less", "energy per token", _over("energy_j", "tokens")),
    Metric("flop_per_j", "FLOP/J", "more", "FLOP per joule", _over("flops_model", "energy_j")),
    Metric("co2e", "g", "less", "CO2e", _column("co2e_g")),
    Metric("duration", "s", "less", "time", _column("duration_s"), of_energy=False),
    Metric("power", "W", "less", "power", _column("power_w")),
)
METRICS = {metric.name: metric for metric in _FIXED}
# Of single runs alone: what their steps took.
STEP_TIME = Metric("duration_per_step", "s", "less", "time per step", lambda run: None, of_energy=False)
NAMES = (*METRICS, STEP_TIME.name)


def known(runs: Sequence[Row], wanted: Sequence[str] | None = None) -> list[Metric]:
    """The metrics that any of these runs has, or those that are wanted, in a fixed order.

    Raises
    ------
    ValueError
        A wanted metric is none, or a quality that no run logged; the text names the known ones. `accuracy` is short
        for `quality:accuracy`.
    """
    qualities = sorted({QUALITY + name for run in runs for name in logged(run)})
    if wanted is None:
        fixed = [metric for metric in _FIXED if any(metric.value(run) is not None for run in runs)]
        return [*fixed, *(quality(name) for name in qualities)]
    whole = [QUALITY + name if name not in NAMES and QUALITY + name in qualities else name for name in wanted]
    strange = next((name for name in whole if name not in NAMES and name not in qualities), None)
    if strange is not None:
        raise ValueError(f"unknown metric {strange!r}; known: {', '.join([*NAMES, *qualities])}")
    return [METRICS.get(name) or (STEP_TIME if name == STEP_TIME.name else quality(name)) for name in whole]


def quality(name: str) -> Metric:
    """A figure that the program logged (`run.log`): it may be zero or negative, so differences are compared."""
    short = name.removeprefix(QUALITY)
    better: Better = "less" if _LESS & {word.lower() for word in _WORD.findall(short)} else "more"
    return Metric(name, "", better, short, lambda run: logged(run).get(short), of_energy=False, ratio=False)


def logged(run: Row) -> Mapping[str, float]:
    """The last finite numbers of `run.log`, by name."""
    return _numbers(run.get("metrics"))


@lru_cache(maxsize=1 << 14)  # a comparison asks each run some ten times
def _numbers(text: object) -> Mapping[str, float]:
    numbers = {}
    for name, value in jsontext.mapping(text).items():
        figure = None if isinstance(value, str) else jsontext.number(value)
        if figure is not None and math.isfinite(figure):
            numbers[name] = figure
    return MappingProxyType(numbers)


def same_carbon(groups: Sequence[Sequence[Row]]) -> bool:
    """Whether every run has one intensity and one PUE, whose uncertainty then cancels in a ratio."""
    runs = [run for group in groups for run in group]
    for column in ("intensity_g_per_kwh", "pue"):
        values = [run.get(column) or 1.0 for run in runs]
        if max(values) - min(values) > 1e-9 * max(values):
            return False
    return True


def carbon_sd(runs: Sequence[Row]) -> float:
    """Standard deviation of the log of the grams a joule, which the runs of a group have in common.

    What is left of the grams' interval when the joules' is taken out in quadrature: intensity and PUE. The upper
    half of the interval, since the lower one ends at zero.
    """
    found = []
    for run in runs:
        grams, high, joules, u95 = (run.get(name) for name in ("co2e_g", "co2e_hi_g", "energy_j", "u95_j"))
        if grams and high and joules:
            whole, energy = math.log(high / grams), (u95 or 0.0) / joules
            found.append(math.sqrt(max(0.0, whole**2 - energy**2)) / 1.96)
    return sum(found) / len(found) if found else 0.0
