"""When to fold the marks of a run that goes on, and the process that does it (see `fold`).

Standard library alone: the metering process holds it.
"""

from __future__ import annotations

import os
import subprocess

from energyprof.spawn import command, environment

_NS = 1_000_000_000
LOOK_NS = 60 * _NS
BEHIND_NS = 30 * _NS  # what is younger may still be read, or queued on a device
_HANGS_NS = 300 * _NS
FOLD_BYTES = 8 << 20  # some 350,000 marks: five minutes of a thousand a second


class Folding:
    """The folds of one run's marks, one after the other."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._begun_ns = 0
        self._looked_ns: int | None = None

    def look(self, now_ns: int) -> None:
        """Start to fold where there is enough to fold. Cheap; call it as often as you like."""
        if self._looked_ns is None:
            self._looked_ns = now_ns
        if now_ns - self._looked_ns < LOOK_NS or self.busy(now_ns):
            return
        self._looked_ns = self._begun_ns = now_ns
        try:
            if _marked_bytes(self._folder) >= FOLD_BYTES:
                self._process = subprocess.Popen(
                    command("energyprof.fold", self._folder, str(now_ns - BEHIND_NS)),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=environment(),
                )
        except OSError:
            return  # the marks stay; sealing takes them as they are

    def busy(self, now_ns: int) -> bool:
        """Whether a fold is under way: sealing waits for it, but not for one that hangs."""
        if self._process is None or self._process.poll() is not None:
            self._process = None
            return False
        if now_ns - self._begun_ns > _HANGS_NS:
            self._process.kill()  # what it has not renamed is not there
        return True


def _marked_bytes(folder: str) -> int:
    with os.scandir(folder) as entries:
        return sum(entry.stat().st_size for entry in entries if entry.name.startswith("marks."))
