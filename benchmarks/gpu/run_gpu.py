"""Learn the energy meters of a real NVIDIA GPU, and what energyprof costs and says beside them.

    python benchmarks/gpu/run_gpu.py [--out DIR] [--quick]

Needs torch, nvidia-ml-py, numpy, pandas and pyarrow. Under eight minutes; nothing of the GPU's settings is
changed. A part that fails is reported and the others go on; summary.json is written anew after each part.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
TOTAL_S = 460.0


class Session:
    """What the parts share: the device, the folder, and the findings so far."""

    def __init__(self, out: Path, scale: float, device: Any, uuid: str, gpu: Any) -> None:
        self.out, self.scale, self.device, self.uuid, self.gpu = out, scale, device, uuid, gpu
        self.small = device.type == "cpu"  # a dry run: proves the program, measures nothing
        self.stop = time.monotonic() + TOTAL_S
        self.summary: dict[str, Any] = {}

    def save(self) -> None:
        text = json.dumps(self.summary, indent=1, default=str)
        (self.out / "summary.json").write_text(text, encoding="utf-8")

    def table(self, name: str, content: Any) -> None:
        import pandas as pd

        frame = pd.DataFrame(content)
        if name.endswith(".csv"):
            frame.to_csv(self.out / name, index=False)
        else:
            frame.to_parquet(self.out / name, compression="zstd", index=False)

    def burner(self) -> Any:
        from load import Burner

        return Burner(self.device, 256 if self.small else 4096)


def machine(session: Session) -> dict[str, Any]:
    import torch

    cpu = "unknown"
    if (file := Path("/proc/cpuinfo")).exists():
        names = re.findall(r"model name\s*: (.*)", file.read_text(encoding="utf-8"))
        cpu = names[0] if names else cpu
    facts: dict[str, Any] = session.gpu.facts()
    return facts | {
        "date_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": f"{cpu}, {len(os.sched_getaffinity(0))} usable",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def reading_cost(session: Session) -> dict[str, Any]:
    from nvml import reading_costs, summarise_costs

    rows = reading_costs(session.gpu, calls=200, pause_s=0.005)
    session.table("reading_cost.csv", rows)
    return summarise_costs(rows)


def refresh_and_phase(session: Session) -> dict[str, Any]:
    import numpy as np
    from findings import square_wave
    from load import square_waves
    from poll import Poller

    burner = session.burner()
    seconds = 64 * session.scale
    burner.burn(1.0)
    with Poller(session.uuid, session.out, [(2 * seconds + 30, 1.0)]) as poller:
        time.sleep(1.0)
        marks = square_waves(burner, seconds)
        time.sleep(1.5)
    session.table("square_marks.csv", marks)
    got = poller.readings
    session.table("square_polls.parquet", {k: v for k, v in got.items() if len(v) == len(got["segment"])})
    wall = int(np.mean(got["wall_minus_monotonic_ns"]))
    samples = {name: got[name] for name in ("sample_seen_ns", "sample_us", "sample_mw")}
    session.table(
        "square_samples.parquet", samples | {"wall_minus_monotonic_ns": [wall] * len(got["sample_us"])}
    )
    return square_wave(got, marks)


def counter_against_power(session: Session) -> dict[str, Any]:
    from findings import counter_and_power, fast_against_slow
    from poll import Poller

    body, bracket = max(2.5, 9.0 * session.scale), 0.4
    schedule = [(bracket, 1.0)]
    for period in (1000.0, 1.0, 1000.0, 1.0):
        schedule += [(body, period), (bracket, 1.0)]
    burner = session.burner()
    burner.burn(4.0)  # clocks and averages settle
    with Poller(session.uuid, session.out, schedule) as poller:
        burner.burn(sum(seconds for seconds, _ in schedule) + 1.5)
    got = poller.readings
    session.table("constant_polls.parquet", {k: v for k, v in got.items() if len(v) == len(got["segment"])})
    fitted = session.summary.get("refresh and phase", {}).get("fit over 1 s steps", {}).get("average", {})
    window_ms = float(fitted.get("window_ms") or 1000.0)
    rows = counter_and_power(got, window_ms)
    return {"average_window_ms": window_ms, "stretches": rows} | fast_against_slow(rows)


def training(session: Session) -> dict[str, Any]:
    from training import Trainer, summarise, trials

    sizes = (64, 2, 4, 32) if session.small else (1024, 12, 32, 512)
    trainer = Trainer(session.device, *sizes)
    # Pairs as far as time allows, which the device and the other parts decide.
    seconds, pairs = (12.0 * session.scale, 4 if session.scale == 1.0 else 2)
    rows = trials(trainer, session.gpu, seconds, pairs, session.out, session.stop)
    scalars = [{k: v for k, v in row.items() if not isinstance(v, list)} for row in rows]
    session.table("training.csv", scalars)
    return summarise(rows)


PARTS: list[tuple[str, float, Callable[[Session], dict[str, Any]]]] = [  # name, limit in seconds, part
    ("machine", 30, machine),
    ("reading cost", 40, reading_cost),
    ("refresh and phase", 150, refresh_and_phase),
    ("counter against power", 80, counter_against_power),
    ("training", 180, training),
]


def run_part(session: Session, name: str, limit_s: float, part: Callable[[Session], dict[str, Any]]) -> None:
    """Run one part within its limit; what goes wrong in it is its result."""

    def too_long(_number: int, _frame: Any) -> None:
        raise TimeoutError(f"took longer than its {limit_s:.0f} s")

    begin = time.monotonic()
    limit_s = min(limit_s, session.stop - begin)
    print(f"{name} …", file=sys.stderr, flush=True)
    try:
        if limit_s < 5:
            raise TimeoutError("no time left")
        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(int(limit_s))
        session.summary[name] = part(session)
    except Exception as error:
        traceback.print_exc()
        session.summary[name] = {"error": f"{type(error).__name__}: {error}"}
    finally:
        signal.alarm(0)
    session.summary[name]["part_s"] = round(time.monotonic() - begin, 1)
    session.save()


def open_gpu(dry_run: bool) -> tuple[Any, str, Any]:
    """The device, its UUID as NVML spells it, and its meters; exits with 2 where there is no GPU."""
    try:
        import torch
        from nvml import Gpu

        if dry_run:
            return torch.device("cpu"), "", Gpu()
        if not torch.cuda.is_available():
            raise RuntimeError("torch finds no CUDA device")
        uuid = str(getattr(torch.cuda.get_device_properties(0), "uuid", ""))
        uuid = uuid if not uuid or uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        return torch.device("cuda", 0), uuid, Gpu(uuid)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        print(f"run_gpu: no NVIDIA GPU to measure ({reason}); run it on a machine with one", file=sys.stderr)
        raise SystemExit(2) from None


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/gpu-<name>-<date>")
    parser.add_argument("--quick", action="store_true", help="a quarter of the time, and of the certainty")
    parser.add_argument("--selftest", action="store_true", help="the analysis on simulated sensors; no GPU")
    parser.add_argument("--dry-run", action="store_true", help="load the CPU, to try the program")
    args = parser.parse_args()
    if args.selftest:
        from selftest import selftest

        return selftest()

    device, uuid, gpu = open_gpu(args.dry_run)
    if str(REPOSITORY) not in sys.path:  # a clone that is not installed, for this process and its helpers
        sys.path.append(str(REPOSITORY))
        paths = [os.environ.get("PYTHONPATH", ""), str(REPOSITORY)]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    name = re.sub(r"[^a-z0-9]+", "-", str(gpu.facts()["gpu"]).lower()).strip("-")
    date = datetime.now(timezone.utc).date().isoformat()
    out: Path = args.out or REPOSITORY / "benchmarks" / "results" / f"gpu-{name}-{date}"
    out.mkdir(parents=True, exist_ok=True)

    session = Session(out, 0.25 if args.quick else 1.0, device, uuid, gpu)
    for part in PARTS:
        run_part(session, *part)

    from table import readable

    print(readable(session.summary))
    print(f"\nraw readings and summary.json: {out}")
    return 1 if any("error" in part for part in session.summary.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
