"""What a process uses, from the kernel: processor time to the nanosecond, memory, children. Linux, any Python."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

_SCHED = 2  # linux/posix-timers.h: CPUCLOCK_SCHED, the scheduler's own count, where stat has ticks of 10 ms


def cpu_s(pid: int) -> float:
    """Processor time of all threads of a process so far, in seconds."""
    return time.clock_gettime(~pid << 3 | _SCHED)


def wakes(pid: int) -> int:
    """How often its threads have gone to sleep by themselves."""
    status = (path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status"))
    return sum(int(_number(r"^voluntary_ctxt_switches:\s+(\d+)", text)) for text in status)


def rss_mb(pid: int | str = "self") -> float:
    """Resident memory in MB of 10^6 bytes; what it shares with others counted in full."""
    return _number(r"^VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()) * 1024 / 1e6


def pss_mb(pid: int | str = "self") -> float:
    """Proportional memory in MB: a page that n processes share counts as 1/n."""
    return _number(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text()) * 1024 / 1e6


def children(pid: int) -> list[int]:
    """The processes below this one, to any depth."""
    below: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended
            below.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        mine = below.get(todo.pop(), [])
        found += mine
        todo += mine
    return found


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text, re.M)
    return float(found[1]) if found else 0.0
