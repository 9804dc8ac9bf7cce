"""Forecasts of trainings: how often the 90 % interval covers the outcome, how wide it is, how far off a mean is.

    python benchmarks/forecast.py [--trainings 200] [--out FILE]

Simulated trainings of the families of `tests/trainings.py`, none of which the forecast's prior was set on, are forecast
after 1, 2, 5, 10, 25 and 50 % of their steps (all draws at 5 %, a quarter of them at the others) and compared with what
they then cost. Beside it the peer's way: carbontracker takes the mean of the epochs that ran, times all epochs, and
says no interval. Widths are half the interval over the outcome. Ten minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks import facts
from energyprof.forecast import COVERAGE, Amount
from tests.trainings import FAMILIES, Training

SHARES = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5)
MAIN = 0.05
SEED = 20261121


def one(training: Training, share: float) -> dict[str, float] | None:
    """A forecast against the outcome; None where there was no forecast yet."""
    begun = time.perf_counter()
    made = training.after(share)
    took_s = time.perf_counter() - begun
    if made.energy_j is None or made.duration_s is None:
        return None
    off = made.energy_j.value / training.total_j - 1
    return {
        "covered": covers(made.energy_j, training.total_j),
        "above": float(training.total_j > made.energy_j.hi),
        "duration_covered": covers(made.duration_s, training.total_s),
        "half_width": (made.energy_j.hi - made.energy_j.lo) / 2 / training.total_j,
        "error": abs(off),
        "mean_error": abs(training.by_the_mean(share) / training.total_j - 1),
        "took_ms": 1e3 * took_s,
    }


def covers(amount: Amount, outcome: float) -> float:
    return float(amount.lo <= outcome <= amount.hi)


def summary(rows: list[dict[str, float] | None]) -> dict[str, Any]:
    """Shares and medians of many forecasts."""
    made = [row for row in rows if row is not None]
    column = {key: np.array([row[key] for row in made]) for key in made[0]} if made else {}
    return {
        "trainings": len(rows),
        "without_forecast": len(rows) - len(made),
        **{
            key: round(float(column[key].mean()), 4)
            for key in ("covered", "above", "duration_covered")
            if made
        },
        **{
            f"median_{key}": round(float(np.median(column[key])), 5)
            for key in ("half_width", "error", "mean_error", "took_ms")
            if made
        },
        **({"p95_error": round(float(np.quantile(column["error"], 0.95)), 5)} if made else {}),
        **({"p95_mean_error": round(float(np.quantile(column["mean_error"], 0.95)), 5)} if made else {}),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trainings", type=int, default=200, help="of each family")
    parser.add_argument("--out")
    arguments = parser.parse_args()
    rows: dict[float, dict[str, list[dict[str, float] | None]]] = {share: {} for share in SHARES}
    for number, family in enumerate(FAMILIES):
        for draw in range(arguments.trainings):
            training = family(np.random.default_rng([SEED, number, draw]))
            for share in SHARES:
                if share == MAIN or draw % 4 == 0:
                    rows[share].setdefault(family.__name__, []).append(one(training, share))
        print(f"{family.__name__:16}", summary(rows[MAIN][family.__name__]), flush=True)
    by_share = {
        str(share): {
            "all": summary([row for family in families.values() for row in family]),
            **{name: summary(family) for name, family in families.items()},
        }
        for share, families in rows.items()
    }
    for share, found in by_share.items():
        print(share, found["all"])
    data = {
        "what": "coverage of the 90 % interval of the whole training's energy, by share of the steps that ran",
        "nominal": COVERAGE,
        "seed": SEED,
        "families": {family.__name__: family.__doc__ for family in FAMILIES},
        "peer": "mean of what ran x all (carbontracker 2.4.7 predicts so), without an interval",
        "by_share": by_share,
    }
    print(facts.write("forecast", data, arguments.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
