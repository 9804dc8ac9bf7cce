"""The metering process of a `profile()`: reads the hardware for the runs of one program, and seals them.

Started by `session` with `python -c`, in a session of its own. It is told of runs through a socket (a
line is a run's folder), sees in that folder who enters and leaves, watches the processes themselves
(pidfd: a closed socket is no death signal, since a forked child keeps it open), stays until the ticks
around a run's end are known, has the run sealed by a fresh process, and leaves a minute after the last.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from time import monotonic_ns

from energyprof import runfolder
from energyprof.collectors.base import Context
from energyprof.collectors.registry import discover
from energyprof.folding import Folding
from energyprof.journal import Journal
from energyprof.meter import Meter, Syncer
from energyprof.spawn import command, environment

_NS = 1_000_000_000
_STAY_NS = 60 * _NS  # serve the next run of the same program (notebooks) for this long
_GLANCE_NS = _NS // 4  # look at least this often who is inside
# After a run's end: until two more ticks were caught and, where the run was too short to learn the
# period, until it is known; never longer than this.
TICKS_AFTER = 2
TICKS_TO_LEARN = 10
LINGER_NS = int(1.5 * _NS)
# A decorated function that is called again at once stays one run: wait this long before sealing it.
_SETTLE_NS = int(0.3 * _NS)


class ServedRun:
    """One run that is open: its journal, and what it still waits for."""

    def __init__(self, folder: str, meter: Meter) -> None:
        self.folder = folder
        self.reopens = bool(runfolder.facts_of(folder).get("reopens"))
        self._meter = meter
        self.journal = Journal(os.path.join(folder, f"meter.{os.getpid()}.log"))
        meter.attach(self.journal)
        self.folding = Folding(folder)
        self.left_ns = 0  # when the last process left; 0 while one is inside
        self._ticks_wanted: int | None = None
        self._seen_mtime_ns = -1
        self._looked_ns = 0

    def look(self, now_ns: int, glance: bool = True) -> None:
        """See who is inside; note the moment when nobody is. A glance is cheap where nothing changed."""
        try:
            mtime_ns = os.stat(self.folder).st_mtime_ns
            if glance and mtime_ns == self._seen_mtime_ns and now_ns - self._looked_ns < _GLANCE_NS:
                return
            self._seen_mtime_ns, self._looked_ns = mtime_ns, now_ns
            somebody = any(runfolder.alive(pid) for pid in runfolder.inside(self.folder))
        except OSError:
            somebody = False  # the folder was taken away under us
        if somebody:
            self.left_ns = 0
            self.folding.look(now_ns)
        elif not self.left_ns:
            self.left_ns = now_ns
            ticks = self._meter.ticks_seen()
            self._ticks_wanted = None if ticks is None else max(ticks + TICKS_AFTER, TICKS_TO_LEARN)
            self._meter.read_all()

    def ready_to_seal(self, now_ns: int) -> bool:
        """Nobody is inside and the readings around the end are in."""
        if not self.left_ns:
            return False
        if self.reopens and now_ns - self.left_ns < _SETTLE_NS:
            return False
        ticks = self._meter.ticks_seen()
        if ticks is None or self._ticks_wanted is None:
            return True
        return ticks >= self._ticks_wanted or now_ns - self.left_ns > LINGER_NS


class Helper:
    """Serves one program over one socket."""

    def __init__(self, socket: int, program: int) -> None:
        self._socket = socket
        self._program = program
        self._unread = b""
        self._runs: dict[str, ServedRun] = {}
        self._sealers: list[tuple[str, bool, subprocess.Popen[bytes]]] = []
        self._kept: set[str] = set()  # sealed, but may be entered again while we live
        self._meter: Meter | None = None
        self._watched = -1
        self._glanced_ns = 0

    def serve(self) -> None:
        try:
            self._watched = os.pidfd_open(self._program) if hasattr(os, "pidfd_open") else -1
        except OSError:
            self._watched = -1  # it is gone already
        # The first run's folder is in the socket already; its meters are opened at once.
        meter = self._meter = Meter(discover(), Context(environ=os.environ, pid=self._program, **roots()))
        syncer = Syncer(meter)
        syncer.start()
        self._wait(monotonic_ns())  # a program that has ended already has told us its run before
        idle_since_ns = monotonic_ns()
        while True:
            now_ns = monotonic_ns()
            if self._runs or self._sealers:
                idle_since_ns = now_ns
            elif now_ns - idle_since_ns > _STAY_NS or not runfolder.alive(self._program):
                break
            self._wait(min(meter.next_due_ns(), now_ns + _GLANCE_NS))
            meter.read_due()
            self._look_after_runs(meter)
        syncer.stop()
        meter.close()
        for folder in self._kept:
            _quietly_remove(folder)

    def _wait(self, until_ns: int) -> None:
        timeout = max(0.0, (until_ns - monotonic_ns()) / _NS)
        listened = [descriptor for descriptor in (self._socket, self._watched) if descriptor >= 0]
        ready, _, _ = select.select(listened, [], [], timeout)
        if self._socket in ready:
            self._hear()
        elif self._watched in ready:  # the program has died: its runs end now, not at the next glance
            os.close(self._watched)
            self._watched = -1
            for run in self._runs.values():
                run.look(monotonic_ns(), glance=False)

    def _hear(self) -> None:
        heard = os.read(self._socket, 65536)
        if not heard:
            os.close(self._socket)
            self._socket = -1
            return
        *lines, self._unread = (self._unread + heard).split(b"\n")
        for line in lines:
            folder = os.fsdecode(line)
            if folder and self._meter:
                self._take(folder, self._meter)

    def _take(self, folder: str, meter: Meter) -> None:
        run = self._runs.get(folder)
        try:
            if run is None:
                self._runs[folder] = ServedRun(folder, meter)
            else:
                run.look(monotonic_ns(), glance=False)
            self._kept.discard(folder)
        except (OSError, ValueError):
            return  # the folder is gone or full; the program warns for itself

    def _look_after_runs(self, meter: Meter) -> None:
        now_ns = monotonic_ns()
        if now_ns - self._glanced_ns > _GLANCE_NS:  # another rank may enter a run that was sealed
            self._glanced_ns = now_ns
            for folder in list(self._kept):
                if os.path.isdir(folder) and runfolder.inside(folder):
                    self._take(folder, meter)
        for folder, run in list(self._runs.items()):
            run.look(now_ns)
            # Of two sealers of one folder the one that read it earlier might be the last to write.
            sealing = any(folder == sealed for sealed, _, _ in self._sealers)
            if run.ready_to_seal(now_ns) and not sealing and not run.folding.busy(now_ns):
                del self._runs[folder]
                meter.detach(run.journal)
                run.journal.close()
                self._seal(folder, run.reopens)
        for sealer in list(self._sealers):
            folder, reopens, process = sealer
            code = process.poll()
            if code is not None:
                self._sealers.remove(sealer)
                if code == 0 and reopens and runfolder.alive(self._program):
                    self._kept.add(folder)
                elif code == 0 and folder not in self._runs:
                    _quietly_remove(folder)

    def _seal(self, folder: str, reopens: bool) -> None:
        process = subprocess.Popen(
            command("energyprof.seal", folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        self._sealers.append((folder, reopens, process))


def roots() -> dict[str, str]:
    """Where /sys and /proc are: in a container the host's may be mounted elsewhere."""
    return {
        "sys_root": os.environ.get("ENERGYPROF_SYS_ROOT", "/sys"),
        "proc_root": os.environ.get("ENERGYPROF_PROC_ROOT", "/proc"),
    }


def _quietly_remove(folder: str) -> None:
    try:
        runfolder.remove(folder)
    except OSError:
        pass  # it stays for `energyprof recover`


def main(arguments: list[str]) -> int:
    """`helper SOCKET PROGRAM`: the inherited descriptor and the pid to serve."""
    os.chdir("/")
    Helper(int(arguments[0]), int(arguments[1])).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
