"""What does stopping when the interval is narrow do to that interval? Simulated benches of which the truth is known.

    python benchmarks/stopping.py [--trials 20000] [--out FILE]
    python benchmarks/stopping.py --table

Two commands, up to 100 rounds, joules with normal logarithms; `spread` is their standard deviation in units of
`--until`. After each round from the fifth on, Welch's 95 % interval is looked at, as `energyprof.launch.stopping` does;
the bench stops when its half-width was below `--until` in so many rounds running. `covered`: the interval at that
moment holds the truth; `rounds`: how many it took on average; `bias`: mean error of the log ratio, in units of `until`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from numpy.typing import NDArray
from scipy import special

from benchmarks import facts
from energyprof.launch.stopping import FIRST, IN_A_ROW

UNTIL, MOST = 0.02, 100
SPREADS = (0.3, 0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0)
SHARES = {"alike": 1.0, "ten times as much": 0.1}  # spread of the second command, of the first one's
RULES = {"3 rounds, once": (3, 1), f"{FIRST} rounds, once": (FIRST, 1), "as built": (FIRST, IN_A_ROW)}
Floats = NDArray[np.float64]


def running(numbers: Floats, n: Floats) -> tuple[Floats, Floats]:
    """Means and variances of the first 2, 3, … numbers of each row."""
    sums, squares = np.cumsum(numbers, 1)[:, 1:], np.cumsum(numbers**2, 1)[:, 1:]
    mean = sums / n
    return mean, np.maximum((squares - n * mean**2) / (n - 1), 1e-18)


def rule(spread: float, share: float, first: int, in_a_row: int, trials: int, seed: int) -> dict[str, float]:
    chance = np.random.default_rng(seed)
    n = np.arange(2, MOST + 1, dtype=np.float64)
    base, base_var = running(chance.normal(0, spread * UNTIL, (trials, MOST)), n)
    other, other_var = running(chance.normal(0, share * spread * UNTIL, (trials, MOST)), n)
    a, b = base_var / n, other_var / n
    df = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / (n - 1))
    half = special.stdtrit(df, 0.975) * np.sqrt(a + b)
    narrow = (half <= UNTIL) & (n >= first)
    since = np.zeros(trials, int)
    stop = np.full(trials, len(n) - 1)
    done = np.zeros(trials, bool)
    for k in range(len(n)):
        since = np.where(narrow[:, k], since + 1, 0)
        hit = (since >= in_a_row) & ~done
        stop[hit], done = k, done | hit
    at = np.arange(trials)
    error = (other - base)[at, stop]
    return {
        "covered": round(100 * float(np.mean(np.abs(error) <= half[at, stop])), 2),
        "rounds": round(float(n[stop].mean()), 1),
        "bias": round(float(error.mean()) / UNTIL, 4),
    }


def table(data: dict[str, Any]) -> list[str]:
    lines = [
        f"| spread, in units of --until | {' | '.join(f'{s:g}' for s in SPREADS)} |",
        "|---" * (len(SPREADS) + 1) + "|",
    ]
    for name in RULES:
        for kind in SHARES:
            mine = [row for row in data["rows"] if row["rule"] == name and row["varies"] == kind]
            cells = " | ".join(f"{row['covered']:.1f} ({row['rounds']:.0f})" for row in mine)
            lines.append(f"| {name}; {kind} | {cells} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="What stopping early does to an interval.")
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--out")
    parser.add_argument("--table", action="store_true", help="print the stored result")
    options = parser.parse_args()
    if options.table:
        path = Path(options.out) if options.out else max(facts.RESULTS.glob("*-stopping.json"))
        print("\n".join(table(json.loads(path.read_text()))))
        return
    rows: list[dict[str, Any]] = []
    for name, (first, in_a_row) in RULES.items():
        for kind, share in SHARES.items():
            for seed, spread in enumerate(SPREADS):
                found = rule(spread, share, first, in_a_row, options.trials, seed)
                rows.append({"rule": name, "varies": kind, "spread": spread, **found})
    data = {"trials": options.trials, "unit": "covered: per cent of trials", "rows": rows}
    print("\n".join(table(data)))
    print(f"written to {facts.write('stopping', data, options.out).name}")


if __name__ == "__main__":
    main()
