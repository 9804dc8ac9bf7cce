"""Do the intervals of short regions hold the truth? Simulated runs of random workloads, no clock, no hardware.

    python benchmarks/coverage.py [--runs 1500] [--out FILE]

By three meters, so many runs each: a counter; a counter and a gauge that sees 25 ms of each 100 ms (its
scale some per cent off, up to 5 ms late); that gauge alone. Each run: 10 s of a loop over two to four regions
of 4 to 60 ms and 80 to 700 W, ticks of 100.3 ms with 1–5 ms of jitter in brackets of 6 ms; lag 0 to 30 ms; in
strata: steady power, power that varies by 20 % from call to call, drift by 30 %, an energy a call (durations
vary by 30 %), power that climbs or falls inside each region by up to its mean. A board's gain is drawn from ±5 % for
`with gain`. And, without regions, the model that stands in where there is no meter, against machines whose curve is
another.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from scipy import stats

from benchmarks import facts
from energyprof.collectors.cpu_tdp import _CURVE_LOAD, _CURVE_TDP_SHARE, _GAIN_U95
from energyprof.curves import from_utilisation, joules
from energyprof.regression import estimate
from energyprof.windows import blind_ticks
from tests.simulate import world

METERS = ("counter", "counter and gauge", "gauge alone")
STRATA = ("steady", "noisy", "drifting", "varying durations", "climbing")
GAIN_U95 = 0.05
IN_STEP, PRECISE, USELESS = 0.5, 0.01, 0.5  # as in energyprof.attribution


Row = tuple[float, float, float, bool, bool]


def one(job: tuple[str, int]) -> tuple[str, list[Row]]:
    """Duration, error and half-width of each region that gets a figure, and whether each interval holds."""
    meter, seed = job
    chance = np.random.default_rng(seed)
    scale = 1 + chance.normal(0, GAIN_U95 / 1.96)  # of the gauge against the counter
    stratum = STRATA[seed % len(STRATA)]
    count = int(chance.integers(2, 5))
    durations = np.exp(chance.uniform(np.log(0.004), np.log(0.06), count))
    run = world(
        chance,
        durations.tolist(),
        chance.uniform(80, 700, count).tolist(),
        lag_s=float(chance.choice([0.0, chance.uniform(0.002, 0.03)])),
        power_cv=0.2 if stratum == "noisy" else 0.02,
        drift=(lambda share: 1 - 0.3 * share) if stratum == "drifting" else (lambda share: 1.0),
        duration_cv=0.3 if stratum == "varying durations" else 0.03,
        climbs=chance.uniform(-1, 1, count).tolist() if stratum == "climbing" else None,
        gauge_scale=1.0 if meter == "gauge alone" else scale,
        gauge_delay_s=float(chance.uniform(0, 0.005)),
    )
    alone = meter == "gauge alone"
    ticks = blind_ticks(run.windows) if alone else run.ticks
    found = estimate(run.line, run.states, ticks, None if meter == "counter" else run.windows)
    wide = stats.t.ppf(0.975, max(len(run.ticks.gain_j) - len(run.states), 3))
    gain = 1 + chance.normal(0, GAIN_U95 / 1.96)
    rows = []
    for number, lasts in enumerate(durations, start=1):
        energy, truth = float(found.energy_j[number]), float(run.truth_j[number])
        half = float(wide * np.sqrt(found.covariance[number, number]))
        in_step = found.clustered[number] > IN_STEP
        if half > USELESS * energy or (in_step and half > PRECISE * energy):
            continue
        total = np.hypot(half, GAIN_U95 * energy) * gain
        rows.append(
            (float(lasts), energy / truth - 1, half / truth, abs(energy - truth) <= half,
             abs(gain * energy - truth) <= total)
        )  # fmt: skip
    return stratum, rows


def table(results: list[tuple[str, list[Row]]]) -> Iterator[tuple[str, dict[str, Any]]]:
    def line(rows: list[Row]) -> dict[str, Any]:
        _, off, half, holds, holds_with_gain = (np.array(column) for column in zip(*rows))
        return {
            "regions": len(rows),
            "covered_pct": round(100 * float(holds.mean()), 1),
            "covered_with_gain_pct": round(100 * float(holds_with_gain.mean()), 1),
            "median_half_width_pct": round(100 * float(np.median(half)), 2),
            "median_error_pct": round(100 * float(np.median(np.abs(off))), 2),
            "p95_error_pct": round(100 * float(np.percentile(np.abs(off), 95)), 2),
        }

    everything = [row for _, rows in results for row in rows]
    yield "all", line(everything)
    for stratum in STRATA:
        yield stratum, line([row for name, rows in results if name == stratum for row in rows])
    for low, high in ((0.004, 0.01), (0.01, 0.02), (0.02, 0.06)):
        yield (
            f"{1e3 * low:.0f}–{1e3 * high:.0f} ms",
            line([row for row in everything if low <= row[0] < high]),
        )


def machine(seed: int) -> tuple[float, float]:
    """Truth over model, and the model's relative half-width, of a processor whose curve is not ours.

    Ten minutes at utilisations that change; the true power is idle + (full - idle) u^g, with full load at 0.6 to 1.7
    times the nominal power, idle at 5 to 50 % of that, g from 0.4 to 1.4.
    """
    chance = np.random.default_rng(seed)
    tdp, cpus, seconds = 200.0, 32, np.arange(0.0, 600.0, 0.1)
    steps = np.repeat(chance.uniform(0, 1, 20), len(seconds) // 20)
    use = np.clip(steps + 0.05 * chance.standard_normal(len(steps)), 0, 1)
    full = tdp * np.exp(chance.uniform(np.log(0.6), np.log(1.7)))
    idle = full * chance.uniform(0.05, 0.5)
    truth = float((idle + (full - idle) * use[1:] ** chance.uniform(0.4, 1.4)).sum() * 0.1)
    busy_us = np.cumsum(use * 0.1 * cpus * 1e6).astype(np.int64)
    curve = from_utilisation(
        (seconds * 1e9).astype(np.int64), busy_us, cpus=cpus, tdp_w=tdp, load=_CURVE_LOAD,
        share_of_tdp=_CURVE_TDP_SHARE, gain_u95=_GAIN_U95, reach_ns=1e9,
    )  # fmt: skip
    assert curve is not None
    modelled = joules(curve, curve.t_ns[:1], curve.t_ns[-1:])
    energy = float(modelled.energy_j[0])
    return truth / energy, float(np.hypot(modelled.u_random_j[0] / energy, _GAIN_U95))


def machines(runs: int) -> dict[str, Any]:
    """How many intervals of the processor model hold what a machine with another curve drew."""
    ratio, half = (np.array(column) for column in zip(*map(machine, range(runs))))
    return {
        "machines": runs,
        "covered_pct": round(100 * float((np.abs(ratio - 1) <= half).mean()), 1),
        "median_half_width_pct": round(100 * float(np.median(half)), 1),
        "median_error_pct": round(100 * float(np.median(np.abs(1 / ratio - 1))), 1),
        "truth_over_model_p2_5": round(float(np.percentile(ratio, 2.5)), 2),
        "truth_over_model_p97_5": round(float(np.percentile(ratio, 97.5)), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1500)
    parser.add_argument("--out")
    options = parser.parse_args()
    data: dict[str, Any] = {"runs": options.runs, "model": machines(options.runs)}
    print("model", data["model"], flush=True)
    with ProcessPoolExecutor() as pool:
        for meter in METERS:
            results = pool.map(one, [(meter, seed) for seed in range(options.runs)], chunksize=10)
            data[meter] = dict(table(list(results)))
            print(meter)
            for name, row in data[meter].items():
                print(f"  {name:<20}" + "  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    print(f"written to {facts.write('coverage', data, options.out).name}")


if __name__ == "__main__":
    main()
