"""Where and with what a benchmark was run. No names of hosts, users or folders."""

from __future__ import annotations

import json
import os
import platform
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = (
    "energyprof",
    "torch",
    "transformers",
    "fvcore",
    "zeus",
    "codecarbon",
    "pyJoules",
    "nvidia-ml-py",
    "numpy",
    "scipy",
    "pyarrow",
)


def facts() -> dict[str, Any]:
    """Date, machine and versions."""
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "versions": {name: version for name in _PACKAGES if (version := installed(name))},
    }


def installed(package: str) -> str | None:
    """The version of a distribution, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def result_path(name: str, out: str | None) -> Path:
    """Where a result goes: FILE, or results/<date>-<name>.json."""
    return Path(out) if out else RESULTS / f"{datetime.now(timezone.utc).date().isoformat()}-{name}.json"


def write(name: str, data: dict[str, Any], out: str | None) -> Path:
    """Store a result with the machine's facts."""
    path = result_path(name, out)
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps({**data, "facts": facts()}, indent=1) + "\n")
    return path


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
