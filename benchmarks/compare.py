"""Does `compare` say what is true? Simulated groups of runs of which the truth is known. No clock, no hardware.

    python benchmarks/compare.py [--trials 1000] [--out FILE]
    python benchmarks/compare.py --table [--out FILE]

Each trial is a comparison of two groups of n runs over nine metrics: equal ones (A/A), and B with 5 % less power
(A/B), with 2 % of noise in the joules from run to run, lognormal and heavy-tailed (logarithms by Student's t with
three degrees of freedom, scaled to the same standard deviation); one run's figures hang together as they do in a run.
`beside 20`: the baseline has 20 runs, and B has n.
`any`: a verdict other than `no evidence` on any metric, which of A/A at most 5 % should get; `found`: less energy;
`covered`: the energy's interval holds the truth. Two boards: each group on one of its own, with gains drawn from ±5 %,
as the boards state. Single runs: 1,000 steps of an AR(1) series with 5 % of noise; `unknown`: no interval, since the
steps are too much alike; it counts in no `covered`.

The peers read the same numbers: `t-test` is Student's on raw means, of each metric by itself, p < 5 %; `two means`
calls a difference above 1 % a difference; for single runs the t-test takes every step for an observation. `bootstrap`
is scipy's BCa interval alone, without Welch's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from scipy import stats

from benchmarks import facts
from energyprof.compare import Comparison, Effect, compare
from energyprof.effects import _bca
from energyprof.evidence import Evidence, Steps
from energyprof.measures import known
from tests.rows import BOARD, channel, drawn, following, heavy, normal, on_one_board

RUNS = (3, 5, 10, 30, 60)
FEW, BESIDE = (2, 3, 5), 20
DRAWS = {
    "lognormal": normal, "heavy tails": heavy, f"lognormal, beside {BESIDE}": normal, "two boards": normal
}  # fmt: skip
GAIN_U95 = 0.05  # of each board, in "two boards"
TRUTHS = {"A/A": 1.0, "A/B": 0.95}
CORRELATIONS = (-0.3, 0.0, 0.5, 0.9)
STEPS = 1000
Job = tuple[str, int, str, float]  # distribution or correlation, runs or steps, A/A or A/B, first seed
SLICE = 50  # trials a job


def of(found: Comparison, metric: str) -> Effect:
    return next(effect for effect in found.effects if effect.metric == metric)


def holds(effect: Effect, truth: float) -> bool:
    return (
        effect.ratio_lo is not None
        and effect.ratio_hi is not None
        and effect.ratio_lo <= truth <= effect.ratio_hi
    )


def groups_of_runs(job: Job, seed: int) -> dict[str, float]:
    """One trial: what each tool said, as ones and zeros, and the width of the interval."""
    kind, n, truth, _ = job
    factor, draw = TRUTHS[truth], DRAWS[kind]
    chance = np.random.default_rng([seed, n, int(factor * 100), len(kind)])
    apart, base = kind == "two boards", BESIDE if "beside" in kind else n
    gains = np.exp(GAIN_U95 / 1.96 * chance.standard_normal(2) * apart).tolist()
    groups = (
        drawn("a", chance, base, gains[0], draw=draw),
        drawn("b", chance, n, gains[1] * factor, draw=draw, first=base),
    )
    second = {**BOARD, "uuid": "GPU-2"} if apart else BOARD
    boards = {**on_one_board(groups[:1]).channels, **on_one_board(groups[1:], second).channels}
    found = compare(groups, Evidence(boards))
    energy = of(found, "energy")
    metrics = known([run for group in groups for run in group.runs])
    values = [[np.array([m.value(run) for run in g.runs], float) for g in groups] for m in metrics]
    ps = [stats.ttest_ind(b, a).pvalue if np.ptp(a) + np.ptp(b) else 1.0 for a, b in values]
    moved = [abs(b.mean() / a.mean() - 1) > 0.01 for a, b in values]
    low, high = _bca(*(np.log(value) for value in values[0])) if n >= 10 else (0.0, 0.0)
    alone = {"bootstrap covered": float(low <= np.log(factor) <= high)} if n >= 10 and not apart else {}
    return {
        "any": float(any(e.verdict in ("less", "more") for e in found.effects)),
        "found": float(energy.verdict == "less"),
        "covered": float(holds(energy, factor)),
        "width": (energy.ratio_hi or 0.0) - (energy.ratio_lo or 0.0),
        **alone,
        "t-test any": float(min(ps) < 0.05),
        "t-test found": float(ps[0] < 0.05 and values[0][1].mean() < values[0][0].mean()),
        "two means any": float(any(moved)),
        "two means found": float(values[0][1].mean() < 0.99 * values[0][0].mean()),
    }


def single_runs(job: Job, seed: int) -> dict[str, float]:
    """One trial with a run on each side."""
    kind, n, truth, _ = job
    factor = TRUTHS[truth]
    chance = np.random.default_rng([seed, n, int(factor * 100), int(100 * float(kind)) + 100])
    groups = (drawn("a", chance, 1), drawn("b", chance, 1, factor, first=1))
    series = [following(chance, n, float(kind)), following(chance, n, float(kind), factor)]
    seconds = [following(chance, n, float(kind)) / 100 for _ in series]
    ids = [group.runs[0]["run_id"] for group in groups]
    steps = {i: Steps(tuple(e.tolist()), tuple(s.tolist())) for i, e, s in zip(ids, series, seconds)}
    found = compare(groups, Evidence({g.runs[0]["run_id"]: [channel(g.runs[0])] for g in groups}, steps))
    energy = of(found, "energy_per_step")
    naive = stats.ttest_ind(series[1], series[0])
    low, high = naive.confidence_interval()
    return {
        "any": float(any(e.verdict in ("less", "more") for e in found.effects)),
        "found": float(energy.verdict == "less"),
        "covered": float(holds(energy, factor)),
        "width": (energy.ratio_hi or 0.0) - (energy.ratio_lo or 0.0),
        "unknown": float(energy.ratio_lo is None),
        "t-test any": float(min(naive.pvalue, stats.ttest_ind(seconds[1], seconds[0]).pvalue) < 0.05),
        "t-test found": float(naive.pvalue < 0.05 and low < 0),
        "t-test covered": float(low <= 10 * (factor - 1) <= high),
        "two means any": float(abs(series[1].mean() / series[0].mean() - 1) > 0.01),
        "two means found": float(series[1].mean() < 0.99 * series[0].mean()),
    }


def slice_of(job: Job) -> tuple[Job, dict[str, float]]:
    """Sums over some trials."""
    trial = groups_of_runs if job[0] in DRAWS else single_runs
    rows = [trial(job, int(job[3]) + i) for i in range(SLICE)]
    return job, {name: sum(row[name] for row in rows) for name in rows[0]}


def table(data: dict[str, Any]) -> list[str]:
    """A stored result as Markdown: a line a noise and number of runs."""
    lines = [
        "| noise, n | A/A: any verdict | t-test | two means | A/B: 5 % found | t-test | two means "
        "| intervals that hold (A/A, A/B) | half-width | BCa alone, or t-test on steps |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    rows = {(row["noise"], row["n"], row["truth"]): row for row in data["rows"]}
    for (noise, n, truth), same in rows.items():
        if truth != "A/A":
            continue
        other = rows[noise, n, "A/B"]
        steps = "t-test covered" in same
        beside = "t-test covered" if steps else "bootstrap covered"
        cells = [
            f"{'steps, AR(1) ' if steps else ''}{noise}, {n}",
            *(f"{same[name]:.1f}" for name in ("any", "t-test any", "two means any")),
            *(f"{other[name]:.1f}" for name in ("found", "t-test found", "two means found")),
            f"{same['covered']:.1f}, {other['covered']:.1f}",
            f"± {same['width'] / 2:.2f}",
            ", ".join(f"{row[beside]:.1f}" for row in (same, other) if beside in row),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--out")
    parser.add_argument("--table", action="store_true", help="print the stored result")
    options = parser.parse_args()
    if options.table:
        path = Path(options.out) if options.out else max(facts.RESULTS.glob("*-compare.json"))
        print("\n".join(table(json.loads(path.read_text()))))
        return
    kinds = [(kind, n) for kind in ("lognormal", "heavy tails") for n in RUNS]
    kinds += [(f"lognormal, beside {BESIDE}", n) for n in FEW]
    kinds += [("two boards", n) for n in (10, 30)] + [(str(c), STEPS) for c in CORRELATIONS]
    jobs: list[Job] = [
        (kind, n, truth, first)
        for kind, n in kinds for truth in TRUTHS for first in range(0, options.trials, SLICE)
    ]  # fmt: skip
    sums: dict[tuple[str, int, str], dict[str, float]] = {}
    with ProcessPoolExecutor() as pool:
        for (kind, n, truth, _), part in pool.map(slice_of, jobs):
            whole = sums.setdefault((kind, n, truth), dict.fromkeys(part, 0.0))
            for name, value in part.items():
                whole[name] += value
    trials = -(-options.trials // SLICE) * SLICE
    rows: list[dict[str, Any]] = []
    for (kind, n, truth), whole in sums.items():
        with_interval = trials - whole.get("unknown", 0.0)
        among = {"covered": with_interval, "width": with_interval}
        shares = {name: round(100 * value / among.get(name, trials), 2) for name, value in whole.items()}
        rows.append({"noise": kind, "n": n, "truth": truth, **shares})
        print(rows[-1], flush=True)
    data = {"trials": trials, "unit": "per cent of trials; width: per cent of the baseline", "rows": rows}
    print(f"written to {facts.write('compare', data, options.out).name}")


if __name__ == "__main__":
    main()
