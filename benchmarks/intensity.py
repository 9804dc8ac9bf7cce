"""Where the intervals of carbon intensities are from, whether they hold figures that they were not made from, and
what a look-up costs beside CodeCarbon's.

    python -m benchmarks.intensity [--out FILE] [--venvs FOLDER]

1. How publishers' figures of one grid disagree: Our World in Data's and the other tables that CodeCarbon ships (2022 to
   2025, production based) against Google's of 2023, which it ships too, Google's of 2025, and Electricity Maps' of 2022
   (both with imports). The constants of `energyprof.carbon.spread` are the narrowest a, b whose half-width
   1.96 sqrt(a^2 + (b g)^2) above, and its mirror image below, hold 95 % of them.
2. Whether that holds for a country that it was not made from: each left out in turn, with and without what the
   hours of a year add (c).
3. A look-up in a fresh process, less a bare one, beside CodeCarbon's in its own environment; and what
   `energyprof.carbon.here` costs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import facts, venvs
from energyprof.carbon import cloud, here, spread, tables
from energyprof.carbon.intensity import resolve

# Google's regions in countries that are one synchronous grid and one market, or nearly; Hong Kong is a grid of its own.
_ONE_GRID = {
    "africa-south1": "ZAF", "asia-east1": "TWN", "asia-east2": "HKG", "asia-northeast3": "KOR",
    "asia-southeast1": "SGP", "europe-central2": "POL", "europe-north1": "FIN", "europe-southwest1": "ESP",
    "europe-west1": "BEL", "europe-west2": "GBR", "europe-west3": "DEU", "europe-west4": "NLD",
    "europe-west6": "CHE", "europe-west9": "FRA", "me-central1": "QAT", "me-central2": "SAU", "me-west1": "ISR",
    "southamerica-west1": "CHL",
}  # fmt: skip
# Means over the hours of 2022, g/kWh: Electricity Maps (ODbL), by Sukprasert et al., EuroSys 2024,
# doi:10.1145/3627703.3650079, shared_data/mean_stats.csv in github.com/umassos/decarbonization-potential. Countries
# that are one zone there, and the zones and provinces that we have.
_ELECTRICITY_MAPS_2022 = {
    "AUT": 244.5, "BIH": 581.4, "BEL": 171.3, "BGR": 535.5, "CHE": 152.3, "CYP": 949.8, "CZE": 545.6, "DEU": 481.5,
    "EST": 377.8, "ESP": 211.5, "FIN": 147.2, "FRA": 99.4, "GBR": 234.8, "GRC": 433.9, "HKG": 435.4, "HRV": 310.8,
    "HUN": 298.3, "IRL": 397.2, "ISR": 577.2, "KOR": 490.8, "LTU": 229.3, "LUX": 362.2, "LVA": 284.2, "NLD": 398.2,
    "NZL": 95.6, "PAN": 239.7, "PER": 206.2, "POL": 819.2, "PRT": 222.9, "ROU": 473.2, "SGP": 491.5, "SVN": 276.6,
    "SVK": 345.0, "TUR": 396.2, "TWN": 535.8, "URY": 95.8, "ZAF": 704.5,
    "SE1": 15.9, "SE2": 16.3, "SE3": 23.4, "SE4": 37.3, "NO1": 29.3, "NO2": 53.0, "NO3": 27.3, "NO4": 44.2,
    "NO5": 31.3, "CA-ON": 59.1, "CA-QC": 28.5,
}  # fmt: skip
# data/yearly/2025.csv in github.com/GoogleCloudPlatform/region-carbon-info (Apache-2.0), g/kWh.
_GOOGLE_2025 = {
    "africa-south1": 641.42, "asia-east1": 427.95, "asia-east2": 488.52, "asia-northeast3": 359.05,
    "asia-southeast1": 365.66, "europe-central2": 498.57, "europe-north1": 29.84, "europe-southwest1": 95.75,
    "europe-west1": 126.43, "europe-west2": 109.39, "europe-west3": 275.81, "europe-west4": 194.35,
    "europe-west6": 21.2, "europe-west9": 15.83, "me-central1": 370.0, "me-central2": 381.29, "me-west1": 380.95,
    "southamerica-west1": 209.94,
}  # fmt: skip
# Half-hours of 2020, mean and standard deviation, g/kWh: Wiesner et al., Middleware 2021, analysis.ipynb in
# github.com/dos-group/lets-wait-awhile.
_HALF_HOURS_2020 = {
    "Germany": (313.40, 110.45),
    "California": (279.71, 72.86),
    "Great Britain": (212.94, 65.29),
    "France": (56.34, 19.10),
}
_LOOK_UP = "from energyprof.carbon.intensity import resolve; resolve({0!r})"
_THEIRS = (
    "from codecarbon.input import DataSource; from codecarbon.core.emissions import Emissions;"
    "from codecarbon.core.units import Energy; from codecarbon.external.geography import GeoMetadata;"
    "Emissions(DataSource()).get_private_infra_emissions(Energy.from_energy(1.0), GeoMetadata('FRA'))"
)
_REPEATS = 15
_ROOT = Path(__file__).resolve().parent.parent
_LEVEL = 0.95

Pair = tuple[str, float, float]


def disagreement(pairs: list[Pair]) -> dict[str, Any]:
    """What others' figures are of ours, for people."""
    logs = [math.log(other / g) for _, g, other in pairs]
    return {
        "pairs": len(pairs),
        "median_ratio": round(math.exp(statistics.median(logs)), 3),
        "rms_log_ratio": round(rms(logs), 3),
        "ratios": {name: round(other / g, 3) for name, g, other in pairs},
    }


def narrowest(pairs: list[Pair]) -> tuple[float, float]:
    """The a (g/kWh) and b whose intervals hold 95 % of the pairs and are the narrowest on a scale of ratios."""
    g, other = (np.array([pair[i] for pair in pairs]) for i in (1, 2))
    needed = np.maximum(other, g * g / other) - g  # the lower end is the upper's mirror image
    a, b = np.arange(0.0, 101.0)[:, None, None], np.arange(0.1, 1.001, 0.02)[None, :, None]
    half = 1.96 * np.hypot(a, b * g)
    width = np.log1p(half / g).mean(axis=2)
    width[(half >= needed).mean(axis=2) < _LEVEL] = np.inf
    i, j = np.unravel_index(int(np.argmin(width)), width.shape)
    return float(a[i, 0, 0]), round(float(b[0, j, 0]), 2)


def left_out(pairs: list[Pair]) -> dict[str, Any]:
    """How many figures the intervals hold that were made without their country, without and with the hours."""
    outside: dict[str, list[str]] = {"without the hours": [], "with the hours": []}
    for name in dict.fromkeys(name for name, _, _ in pairs):
        a, b = narrowest([pair for pair in pairs if pair[0] != name])
        for _, g, other in (pair for pair in pairs if pair[0] == name):
            needed = max(other, g * g / other) - g
            for label, part in zip(outside, (b, math.hypot(b, spread.HOURS_PART)), strict=True):
                if needed > 1.96 * math.hypot(a, part * g):
                    outside[label].append(name)
    return {
        label: {"held": round(1 - len(names) / len(pairs), 3), "outside": names}
        for label, names in outside.items()
    }


def pairs_of(others: dict[str, float]) -> list[Pair]:
    """Our figure of each place beside another's."""
    return [(code, resolve(code).g_per_kwh, other) for code, other in others.items()]


def of_google(figures: dict[str, float]) -> dict[str, float]:
    """Google's figures by country, for regions of countries that are one grid."""
    return {_ONE_GRID[region]: value for region, value in figures.items() if region in _ONE_GRID}


def cold_ms(programs: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Fresh processes, in turn, each less a bare one of its interpreter: time and processor time, ms.

    Medians of _REPEATS; `programs` has an interpreter and its code by name, bare ones by the interpreter's own.
    """
    wall: dict[str, list[float]] = {name: [] for name in programs}
    cpu: dict[str, list[float]] = {name: [] for name in programs}
    # As users have it: what has been imported once lies there compiled.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    for repeat in range(_REPEATS + 1):
        for name, (python, code) in programs.items():
            begin, used = time.perf_counter(), _children_s()
            subprocess.run([python, "-c", code], check=True, capture_output=True, cwd=_ROOT, env=environment)
            if repeat:  # the first compiles
                wall[name].append(1e3 * (time.perf_counter() - begin))
                cpu[name].append(1e3 * (_children_s() - used))

    def above(spent: dict[str, list[float]], name: str) -> float:
        return round(statistics.median(spent[name]) - statistics.median(spent[programs[name][0]]), 1)

    return {
        name: {"wall_ms": above(wall, name), "cpu_ms": above(cpu, name)}
        for name in programs
        if name != programs[name][0]
    }


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def looks(venv_folder: Path) -> dict[str, Any]:
    """The cost of a look-up, ours and CodeCarbon's, and of asking the machine where it stands."""
    ours = sys.executable
    places = ("FRA", "US-CA", "SE3", "aws:us-east-1", "gcp:europe-west9", None)
    programs = {ours: (ours, "pass"), **{str(place): (ours, _LOOK_UP.format(place)) for place in places}}
    missing = {}
    try:
        theirs = venvs.python_of("codecarbon", venv_folder)
        programs |= {theirs: (theirs, "pass"), "CodeCarbon's FRA": (theirs, _THEIRS)}
    except OSError as fault:
        missing["CodeCarbon's FRA"] = f"not measured: {str(fault)[:120]}"
    found = {**cold_ms(programs), **missing, "here_ms": here_ms()}
    if not missing:
        ratios = [found["CodeCarbon's FRA"][clock] / found["FRA"][clock] for clock in ("wall_ms", "cpu_ms")]
        found["codecarbon_to_energyprof"] = [round(ratio, 1) for ratio in ratios]
    return found


def here_ms() -> dict[str, float]:
    """`here.where()` on a machine of no cloud, and on ones with cloud-init's file of 60 kB, ms (median of 51)."""
    with tempfile.TemporaryDirectory() as root:
        none = _median_ms(root)
        file = Path(root, "run/cloud-init/instance-data.json")
        file.parent.mkdir(parents=True)
        found = {"no cloud": none}
        for name, region in (("aws", "eu-west-3"), ("gce", "europe-west9")):
            standard = {"cloud_name": name, "region": region}
            file.write_text(json.dumps({"v1": standard, "ds": {f"key{i}": "x" * 50 for i in range(1000)}}))
            found[name] = _median_ms(root)
        return found


def _median_ms(root: str) -> float:
    spent = []
    for _ in range(51):
        begin = time.perf_counter()
        here.where(root, {})
        spent.append(1e3 * (time.perf_counter() - begin))
    return round(statistics.median(spent), 3)


def rms(parts: Iterable[float]) -> float:
    """Root mean square."""
    return math.sqrt(statistics.mean(part * part for part in parts))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", help="where the result goes, in place of results/")
    parser.add_argument("--venvs", type=Path, default=venvs.default_folder())
    options = parser.parse_args()
    folder = tables.shipped()
    if folder is None:
        sys.exit("codecarbon is not installed: its tables are what is measured")
    sets = {
        "Google 2023": pairs_of(
            of_google({name: row.g_per_kwh for name, row in cloud.google(folder).items()})
        ),
        "Google 2025": pairs_of(of_google(_GOOGLE_2025)),
        "Electricity Maps 2022": pairs_of(_ELECTRICITY_MAPS_2022),
    }
    pairs = [pair for each in sets.values() for pair in each]
    a, b = narrowest(pairs)
    hours = {name: sd / mean for name, (mean, sd) in _HALF_HOURS_2020.items()}
    result = {
        "sources": {name: disagreement(each) for name, each in sets.items()},
        "narrowest": {"a_g_per_kwh": a, "b": b},
        "hours": {
            "sd_of_mean": {k: round(v, 3) for k, v in hours.items()},
            "rms": round(rms(hours.values()), 3),
        },
        "used": [spread.SOURCES_G_PER_KWH, spread.SOURCES_PART, spread.HOURS_PART],
        "left_out": left_out(pairs),
        "intervals": {
            code: [round(end, 1) for end in (found.g_per_kwh, found.range.lo, found.range.hi)]
            for code in ("FRA", "DEU", "POL", "US-CA", "CA-QC", "SE3", "gcp:europe-west9")
            for found in [resolve(code)]
        },
        "look_up": looks(options.venvs),
    }
    print(json.dumps(result, indent=1))
    print(facts.write("intensity", result, options.out))


if __name__ == "__main__":
    main()
