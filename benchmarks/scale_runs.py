"""A dataset of 10,000 runs: what `ls`, filters, comparisons, reports and `compact` take over it, beside plain readers.

    python benchmarks/scale_runs.py [--runs 10000] [--folder DIR] [--out FILE]

One real run is measured on this machine; its stored rows are written again as those of 10,000 runs over 60 days, with
other ids, times, names and joules: a file a run and table, as runs leave them. Each row is a fresh process: wall and
processor seconds and peak memory. `compare` is of two groups of 2,000; `compare_all` and `report_all` are of two of
5,000, which are all runs. `ls_cold`: there is no index, so each file is opened (where runs are measured they keep it
up); `ls_copied`: the folder came from elsewhere with its index, so that each file has another time and inode; all
others find the index as it should be. `of_merged`: after `compact`. The peers read the same folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyarrow as pa

import energyprof
from benchmarks import facts
from energyprof import store

ROOT = Path(__file__).resolve().parent.parent
DAYS = 60
FIRST = datetime(2026, 9, 20, 6, tzinfo=timezone.utc)
NAMES = ("base", "new", "gpt2", "resnet50", "tune-lr", "ablation")
TABLES = ("channels", "intervals", "samples", "runs")

HALVES = ("lr=1e-0,lr=1e-2", "lr=1e-1,lr=1e-3")  # two groups that are all runs

VERB = "import sys; from energyprof.cli import main; sys.exit(main())"
PANDAS = "import sys, pandas; print(len(pandas.read_parquet(sys.argv[1])))"
DUCKDB = """
import sys, duckdb
rows = duckdb.sql(f"select * from read_parquet('{sys.argv[1]}/**/*.parquet', union_by_name=true)").to_arrow_table()
print(len(rows))
"""
MEASURED = """
import os, resource, sys
code, *arguments = sys.argv[1:]
sys.argv = ["energyprof", *arguments]
try:
    exec(code)
except SystemExit as end:
    assert not end.code, end.code
finally:
    sys.stdout.flush()
    use = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{use.ru_utime + use.ru_stime} {use.ru_maxrss / 1024}", file=sys.stderr)
"""


def measured_run(folder: str) -> None:
    """One real run, with steps and regions."""
    with energyprof.profile("base", out=folder, quiet=True, country="FRA", tags={"model": "gpt2"}) as run:
        for _ in run.steps(range(20)):
            with run.region("forward"):
                sum(range(4_000_000))
            with run.region("backward"):
                sum(range(6_000_000))
        run.log(accuracy=0.9)
        run.count(samples=640)
    print(f"measured {run.result!r}", flush=True)


def run_id(started: datetime, chance: random.Random) -> str:
    text = f"{int(started.timestamp() * 1e3):012x}7{chance.getrandbits(12):03x}8{chance.getrandbits(60):015x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def write_one(real: dict[str, pa.Table], out: str, number: int, count: int) -> None:
    """The files of one run: the real one's rows with another id, time, name and joules."""
    chance = random.Random(number)
    started = FIRST + timedelta(days=DAYS) * (number / count)
    ident, factor = run_id(started, chance), chance.gauss(1.0, 0.02)
    name = NAMES[number % 2 if number % 10 < 4 else 2 + number % 4]
    told = {
        "run_id": ident, "name": name, "started_utc": started, "status": "failed" if number % 97 == 0 else "finished",
        "tags": json.dumps({"model": "gpt2" if number % 3 else "bert", "lr": f"1e-{number % 4}"}),
        "metrics": json.dumps({"accuracy": 0.9 + 0.01 * chance.gauss(0, 1)}), "duration_s": 60 * factor,
    }  # fmt: skip
    for table in TABLES:
        data = real[table]
        for column in data.column_names:
            if column in told and (column == "run_id" or table == "runs"):
                new = pa.repeat(pa.scalar(told[column], data.schema.field(column).type), len(data))
            elif column in ("energy_j", "u95_j", "power_w", "energy_per_step_j", "co2e_g"):
                new = pa.array(
                    [None if v is None else v * factor for v in data[column].to_pylist()], pa.float64()
                )
            else:
                continue
            data = data.set_column(data.column_names.index(column), data.schema.field(column), new)
        rank = ".0" if table == "intervals" else ""
        path = store.file_path(out, table, started.date().isoformat(), f"{ident}.node{rank}")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        store.write(path, data)


def generate(out: str, count: int) -> None:
    """A dataset of `count` runs below `out`."""
    os.fsync = lambda descriptor: None  # nobody pulls the plug on a benchmark
    with tempfile.TemporaryDirectory() as scrap:
        measured_run(scrap)
        real = {
            table: pa.concat_tables(
                [pa.parquet.read_table(path, partitioning=None) for path in store.files(scrap, table)]
            )
            for table in TABLES
        }
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(write_one, real, out, count=count), range(count), chunksize=100))


def timed(code: str, *arguments: str) -> dict[str, float]:
    """A fresh process: its wall and processor seconds, and its peak memory."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    wall = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{arguments}: {done.stderr[-500:]}")
    cpu, peak = (float(word) for word in done.stderr.split()[-2:])
    return {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2), "peak_mb": round(peak)}


def readings(out: str, state: str) -> dict[str, Any]:
    """All verbs and peers over a dataset."""
    verbs = {
        "ls": ("ls",),
        "ls_where": ("ls", "--where", "tag.model='gpt2' and duration_s>60"),
        "ls_json": ("ls", "--json", "--number", "20"),
        "compare": ("compare", "base", "new"),
        "compare_where": ("compare", "base", "new", "--where", "started_utc>=2026-11-01"),
        "compare_all": ("compare", *HALVES),
        "report_all": ("report", *HALVES, "--force", "--output", f"{out}.html"),
        "report_last": ("report", "@last", "--force", "--output", f"{out}.html"),
        "show": ("show", "@last"),
    }
    rows: dict[str, Any] = {}
    if state != "merged":
        shutil.rmtree(os.path.join(out, "_index"), ignore_errors=True)
        rows["ls_cold"] = timed(VERB, "ls", "--out", out)
        print(state, "ls_cold", rows["ls_cold"], flush=True)
        with tempfile.TemporaryDirectory() as copy:
            for part in ("runs", "_index"):
                shutil.copytree(
                    os.path.join(out, part), os.path.join(copy, part), copy_function=shutil.copyfile
                )
            rows["ls_copied"] = timed(VERB, "ls", "--out", copy)
        print(state, "ls_copied", rows["ls_copied"], flush=True)
    for name, words in verbs.items():
        rows[name] = timed(VERB, *words, "--out", out)
        print(state, name, rows[name], flush=True)
    for name, code in (("pandas", PANDAS), ("duckdb", DUCKDB)):
        rows[name] = timed(code, os.path.join(out, "runs"))
        print(state, name, rows[name], flush=True)
    own = rows["ls"]
    rows["ls_over_pandas"] = round(own["wall_s"] / rows["pandas"]["wall_s"], 3)
    rows["ls_over_duckdb"] = round(own["wall_s"] / rows["duckdb"]["wall_s"], 3)
    return rows


def bulk(out: str) -> dict[str, Any]:
    """Files and megabytes of each table."""
    found: dict[str, Any] = {}
    for table in TABLES:
        paths = store.files(out, table)
        found[table] = {
            "files": len(paths),
            "mb": round(sum(os.path.getsize(path) for path in paths) / 1e6, 1),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--folder", help="keep the dataset here, or use the one that is")
    parser.add_argument("--out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scrap:
        kept = options.folder or os.path.join(scrap, "made")
        if not os.path.isdir(os.path.join(kept, "runs")):
            began = time.perf_counter()
            generate(kept, options.runs)
            print(f"generated in {time.perf_counter() - began:.0f} s", flush=True)
        out = os.path.join(scrap, "runs-of-energyprof")
        shutil.copytree(kept, out)
        data: dict[str, Any] = {"runs": options.runs, "days": DAYS, "small": bulk(out)}
        data["of_files"] = readings(out, "of files")
        data["compact"] = timed(VERB, "compact", "--all", "--out", out)
        print("compact", data["compact"], flush=True)
        data["merged"] = bulk(out)
        data["of_merged"] = readings(out, "merged")
    print(f"written to {facts.write('scale-runs', data, options.out).name}")


if __name__ == "__main__":
    main()
