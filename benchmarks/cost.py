"""What measuring costs, beside the peers, in one run on one machine.

    python benchmarks/cost.py [--repeat 15] [--out FILE]

Import time over bare Python, start and end of a run with torch imported, a region's enter and exit, memory,
the meter's processor time, and the slow-down of a training loop. Virtual meters (tests/lab) stand in for
hardware, so that the driver's own time is not in it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import facts
from tests.lab import VirtualHardware

ROOT = Path(__file__).resolve().parent.parent
IMPORTS = {
    "energyprof": "import energyprof",
    "zeus": "from zeus.monitor import ZeusMonitor",
    "codecarbon": "import codecarbon",
    "pyJoules": "import pyJoules.energy_meter",
}

START = {
    "energyprof": (
        "import energyprof",
        "p = energyprof.profile('x', quiet=True); p.__enter__()",
        "p.__exit__(None, None, None)",
    ),
    "zeus": (
        "from zeus.monitor import ZeusMonitor",
        "m = ZeusMonitor(gpu_indices=[0], cpu_indices=[], sync_execution_with='cpu');"
        " m.begin_window('x', sync_execution=False)",
        "m.end_window('x', sync_execution=False)",
    ),
    "codecarbon": (
        "from codecarbon import OfflineEmissionsTracker",
        "t = OfflineEmissionsTracker(country_iso_code='FRA', save_to_file=False, log_level='critical',"
        " allow_multiple_runs=True); t.start()",
        "t.stop()",
    ),
}

TIMED = """
import json, os, sys, time, torch
{first}
def rss():
    return int(open('/proc/self/status').read().split('VmRSS:')[1].split()[0]) / 1024
before = rss()
a = time.perf_counter(); {start}; b = time.perf_counter()
time.sleep(0.5)
memory = rss() - before
c = time.perf_counter(); {stop}; d = time.perf_counter()
print('RESULT', json.dumps([1e3 * (b - a), 1e3 * (d - c), memory]), flush=True)
os._exit(0)
"""

REGION = {
    "energyprof": """
import energyprof
with energyprof.profile('x', quiet=True) as run:
    def once():
        with run.region('r'): pass
    measure(once, 200_000)
""",
    "energyprof, nothing measures": """
import energyprof
def once():
    with energyprof.region('r'): pass
measure(once, 200_000)
""",
    "zeus": """
from zeus.monitor import ZeusMonitor
m = ZeusMonitor(gpu_indices=[0], cpu_indices=[], sync_execution_with='cpu')
def once():
    m.begin_window('r', sync_execution=False); m.end_window('r', sync_execution=False)
measure(once, 20_000)
""",
}
MEASURE = """
import json, os, time, logging, warnings
logging.disable(logging.CRITICAL); warnings.simplefilter('ignore')
def measure(once, count):
    best = []
    for _ in range(7):
        t = time.perf_counter()
        for _ in range(count // 7): once()
        best.append(1e6 * (time.perf_counter() - t) / (count // 7))
    print('RESULT', json.dumps(sorted(best)[3]), flush=True)
"""

LOOP = """
import json, sys, time, torch, contextlib
torch.manual_seed(0); torch.set_num_threads(1)
model = torch.nn.Sequential(*[torch.nn.Linear(256, 256) for _ in range(6)])
optimizer = torch.optim.SGD(model.parameters(), 0.01)
data = torch.randn(64, 256)
def train(steps, run):
    region = run.region if run else (lambda name: contextlib.nullcontext())
    t = time.perf_counter()
    for _ in run.steps(range(steps)) if run else range(steps):
        with region('forward'): loss = model(data).square().mean()
        with region('backward'): optimizer.zero_grad(); loss.backward()
        with region('optimizer'): optimizer.step()
    return time.perf_counter() - t
import energyprof
train(200, None)
pairs = []
for i in range(int(sys.argv[1])):
    times = {}
    for measured in ((False, True) if i % 2 else (True, False)):
        if measured:
            with energyprof.profile('x', quiet=True) as run: times[True] = train(400, run)
        else:
            times[False] = train(400, None)
    pairs.append(times[True] / times[False])
print('RESULT', json.dumps(pairs), flush=True)
import os; os._exit(0)
"""


def python(code: str, environment: dict[str, str], *arguments: str) -> Any:
    """What a program printed after RESULT; a text where it failed."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    found = re.search(r"^RESULT (.*)$", done.stdout, re.M)
    return json.loads(found[1]) if found else (done.stderr.strip().splitlines() or ["no output"])[-1][:200]


def median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


def imports(repeat: int) -> dict[str, Any]:
    """Milliseconds over bare Python, interleaved."""
    tools = {"bare": "pass", **{name: code for name, code in IMPORTS.items() if facts.installed(name)}}
    times: dict[str, list[float]] = {name: [] for name in tools}
    for _ in range(repeat):
        for name, code in tools.items():
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
            times[name].append(1e3 * (time.perf_counter() - begin))
    bare = median(times.pop("bare"))
    return {name: median([t - bare for t in values]) for name, values in times.items()}


def starts(environment: dict[str, str], repeat: int) -> dict[str, Any]:
    """Milliseconds to start a run and to leave it, and MiB that the program's own process grew by."""
    table: dict[str, Any] = {}
    for name, (first, start, stop) in START.items():
        if facts.installed(name) is None:
            table[name] = "not installed"
            continue
        rows = [python(TIMED.format(first=first, start=start, stop=stop), environment) for _ in range(repeat)]
        good = [row for row in rows if isinstance(row, list)]
        if not good:
            table[name] = rows[0]
            continue
        columns = [median([row[i] for row in good]) for i in range(3)]
        table[name] = dict(zip(("start_ms", "leave_ms", "own_process_mib"), columns))
    return table


def meter(environment: dict[str, str], seconds: float = 10.0) -> dict[str, float]:
    """Memory of the metering process, and its processor time as a share of one core, while it samples."""
    program = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from energyprof.cli import main; main()",
            "run",
            "-q",
            "sleep",
            str(seconds + 4),
        ],
        env=environment,
    )
    time.sleep(3)

    def used() -> float:
        fields = Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before, begin = used(), time.monotonic()
    time.sleep(seconds)
    share = (used() - before) / (time.monotonic() - begin)
    status = Path(f"/proc/{program.pid}/status").read_text()
    program.wait()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    return {
        "share_of_a_core_pct": round(100 * share, 2),
        "memory_mib": round(int(found[1]) / 1024, 1) if found else 0.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with VirtualHardware(folder, gpus=1, rapl=("package-0", "package-1", "dram", "psys")) as machine:
            environment = {
                **os.environ,
                **machine.env,
                "ENERGYPROF_OUT": f"{name}/runs",
                "PYTHONPATH": str(ROOT),
            }
            data: dict[str, Any] = {"import_ms_over_bare_python": imports(options.repeat)}
            print(json.dumps(data, indent=1), flush=True)
            data["start_and_leave"] = starts(environment, max(options.repeat // 3, 3))
            print(json.dumps(data["start_and_leave"], indent=1), flush=True)
            data["region_us"] = {k: python(MEASURE + v, environment) for k, v in REGION.items()}
            print(json.dumps(data["region_us"], indent=1), flush=True)
            data["meter"] = meter(environment)
            print(json.dumps(data["meter"], indent=1), flush=True)
            pairs = python(LOOP, environment, str(2 * options.repeat))
            if isinstance(pairs, list):
                spread = 1.96 * statistics.stdev(pairs) / len(pairs) ** 0.5
                data["training_loop"] = {
                    "slow_down_pct": round(100 * (statistics.median(pairs) - 1), 2),
                    "u95_pct": round(100 * spread, 2),
                    "pairs": [round(p, 4) for p in pairs],
                }
            print(json.dumps(data.get("training_loop", pairs)), flush=True)
    print(f"written to {facts.write('cost', data, options.out).name}")


if __name__ == "__main__":
    main()
