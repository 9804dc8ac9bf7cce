"""The stand-in where no process can be started: a thread of the program reads the meters.

It starves while the program holds the interpreter lock, so its runs carry the flag `in_process`.
"""

from __future__ import annotations

import os
import threading
import time

from energyprof.collectors.base import Context
from energyprof.collectors.registry import discover
from energyprof.helper import ServedRun, roots
from energyprof.meter import Meter
from energyprof.reasons import IN_PROCESS

_NS = 1_000_000_000


def start_thread(folder: str) -> None:
    """Serve the run in `folder` from a daemon thread of this process."""
    threading.Thread(target=_serve, args=(folder,), name="energyprof-meter", daemon=True).start()


def _serve(folder: str) -> None:
    try:
        meter = Meter(discover(), Context(environ=os.environ, pid=os.getpid(), **roots()))
        run = ServedRun(folder, meter)
        run.journal.event("flag", flag=IN_PROCESS)
        while not run.ready_to_seal(now_ns := time.monotonic_ns()):
            time.sleep(max(0.0, min(meter.next_due_ns() - now_ns, _NS // 20) / _NS))
            meter.read_due()
            run.look(time.monotonic_ns())
        meter.detach(run.journal)
        meter.close()
        from energyprof.runfolder import remove
        from energyprof.seal import seal

        seal(folder)
        if not run.reopens:
            remove(folder)
    except OSError:
        return  # a full disk or a folder that went away: the run stays for `energyprof recover`
