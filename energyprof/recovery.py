"""Seal the runs that nobody will seal: their meter was killed, or the machine went down."""

from __future__ import annotations

import os
import re

from energyprof import runfolder
from energyprof.seal import seal


def recover(out: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Seal every abandoned run below `out` and take its journal away.

    Returns
    -------
    sealed, failed
        Ids of the runs that are now in the dataset; folders that could not be sealed, and why. Those stay.
    """
    sealed: list[str] = []
    failed: list[tuple[str, str]] = []
    for folder in runfolder.open_runs(out):
        try:
            if abandoned(folder):
                sealed.append(seal(folder, recovered=True))
                runfolder.remove(folder)
        except (OSError, ValueError, KeyError) as fault:
            failed.append((folder, f"{type(fault).__name__}: {fault}"))
    return sealed, failed


def abandoned(folder: str) -> bool:
    """Whether no meter and no program of this run lives on this machine any more."""
    facts = runfolder.facts_of(folder)
    if facts.get("node") != runfolder.node_name():
        return False  # another machine's run in a shared folder: only that machine can tell
    if facts.get("boot_id") != runfolder.boot_id():
        return True
    pids = set(runfolder.inside(folder))
    for name in os.listdir(folder):
        found = re.fullmatch(r"(?:meter|program)\.(\d+)\.log", name)
        if found:
            pids.add(int(found[1]))
    return not any(runfolder.alive(pid) for pid in pids | {int(facts.get("pid") or 0)} - {0})
