"""Seal the runs that nobody will seal: their meter was killed, or the machine went down."""

from __future__ import annotations

import os
import re
import time

from energyprof import runfolder


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
                # Half a second, and every verb that reads a dataset asks whether there is something to seal.
                from energyprof.seal import seal

                sealed.append(seal(folder, recovered=True))
                runfolder.remove(folder)
        except Exception as fault:  # whatever is in that folder, the other runs can be read
            failed.append((folder, f"{type(fault).__name__}: {fault}"))
    return sealed, failed


def wait_for_sealing(out: str, limit_s: float = 10.0) -> None:
    """Wait for runs that are over and being sealed: who types `ls` right after a program wants to see it."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and any(_being_sealed(folder) for folder in runfolder.open_runs(out)):
        time.sleep(0.05)


def _being_sealed(folder: str) -> bool:
    try:
        over = not any(runfolder.alive(pid) for pid in runfolder.inside(folder))
        sealed = os.path.exists(os.path.join(folder, "sealed.json"))
        return over and not sealed and not _supervised(folder) and not abandoned(folder)
    except (OSError, ValueError):
        return False


def _supervised(folder: str) -> bool:
    """Whether `energyprof run` watches a program here: then it is over when that command says so."""
    return bool(runfolder.facts_of(folder).get("supervised"))


def abandoned(folder: str) -> bool:
    """Whether no meter and no program of this run lives on this machine any more."""
    facts = runfolder.facts_of(folder)
    if facts.get("node") != runfolder.node_name():
        return False  # another machine's run in a shared folder: only that machine can tell
    if facts.get("boot_id") != runfolder.boot_id():
        return True
    pids = set(runfolder.inside(folder))
    for name in os.listdir(folder):
        found = re.fullmatch(r"(?:meter|program)\.(\d+)(?:_\d+)?\.log", name)
        if found:
            pids.add(int(found[1]))
    return not any(runfolder.alive(pid) for pid in pids | {int(facts.get("pid") or 0)} - {0})
