"""The folder of a run that has not closed: its names, who is in it, and when it may go.

    OUT/_journal/<run_id>.<node>/
        run.json        facts, written first
        program.<pid>.log, marks.<pid>.*, meter.<pid>.log    see `journal`
        live.<pid>      there while that process is inside the run; taken away as it leaves
        sealed.json     written each time the run has been sealed into the dataset

A process that dies leaves its `live` file; whoever watches also watches the process.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any

from energyprof.journal import write_whole

JOURNALS = "_journal"
ENVIRONMENT = "ENERGYPROF_RUN"


def new_run_id() -> str:
    """A UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then random bits, so that ids sort by time."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & (1 << 48) - 1) << 80 | random
    value = value & ~(0xF << 76) | 0x7 << 76  # version 7
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant 1
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def node_name() -> str:
    """This machine's host name, fit for a file name."""
    name = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    return re.sub(r"[^A-Za-z0-9_-]", "_", name.split(".")[0])[:63] or "node"


def create(out: str, facts: dict[str, Any]) -> str:
    """Make the folder of a new run below `out`; OSError where that cannot be written."""
    run_id, node = new_run_id(), node_name()
    folder = os.path.join(out, JOURNALS, f"{run_id}.{node}")
    os.makedirs(folder)
    facts = {
        "run_id": run_id,
        "node": node,
        "out": out,
        "t_ns": time.monotonic_ns(),
        "started_unix_ns": time.time_ns(),
        "boot_id": boot_id(),
        **facts,
    }
    write_whole(os.path.join(folder, "run.json"), json.dumps(facts))
    return folder


def facts_of(folder: str) -> dict[str, Any]:
    """What `run.json` says; ValueError where it is not whole."""
    with open(os.path.join(folder, "run.json"), encoding="utf-8") as file:
        facts = json.load(file)
    if not isinstance(facts, dict) or "run_id" not in facts:
        raise ValueError(f"{folder}/run.json is damaged")
    return facts


def boot_id() -> str:
    """Names this start of the machine: monotonic times of another start mean nothing."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


def enter(folder: str) -> None:
    """This process is inside the run."""
    with open(os.path.join(folder, f"live.{os.getpid()}"), "w"):
        pass


def leave(folder: str) -> None:
    """This process has left the run."""
    try:
        os.unlink(os.path.join(folder, f"live.{os.getpid()}"))
    except OSError:
        pass  # never entered, or the folder is gone


def inside(folder: str) -> list[int]:
    """The processes that said they are inside; some may have died."""
    return [int(name[5:]) for name in os.listdir(folder) if re.fullmatch(r"live\.[0-9]+", name)]


def alive(pid: int) -> bool:
    """Whether a process runs: a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return False
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def remove(folder: str) -> None:
    """Take a sealed run's folder away, and the journals' folder with the last one."""
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    os.rmdir(folder)
    try:
        os.rmdir(os.path.dirname(folder))
    except OSError:
        pass  # other runs are open


def open_runs(out: str) -> list[str]:
    """The folders of the runs below `out` that have not closed, oldest first."""
    journals = os.path.join(out, JOURNALS)
    try:
        names = sorted(os.listdir(journals))
    except OSError:
        return []
    return [os.path.join(journals, n) for n in names if os.path.isfile(os.path.join(journals, n, "run.json"))]
