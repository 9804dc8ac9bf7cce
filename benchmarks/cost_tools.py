"""The tools of the cost benchmark behind one face: start, stop, result, one region. Imported in each one's environment.

The virtual powercap tree is not where a kernel has it: the constant in which a peer keeps that path is set to it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

POWERCAP = "ENERGYPROF_SYS_ROOT"  # the virtual machine's /sys


def _powercap(below: str = "") -> str:
    return f"{os.environ[POWERCAP]}/class/powercap{below}"


class Nothing:
    """No tool: what the same program costs by itself."""

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass

    def sealed(self) -> None:
        """Wait until the figures are stored."""

    def result(self) -> None:
        """Have the figures in the program."""

    def once(self) -> None:
        """Enter and leave one region."""

    def region(self, name: str) -> Any:
        return contextlib.nullcontext()

    def steps(self, iterable: Iterable[Any]) -> Iterable[Any]:
        return iterable

    def meters(self) -> list[int]:
        """The processes that meter; the program's own is among them where the tool works inside it."""
        return []

    def end(self) -> None:
        """Stop, wait until the figures are stored, and leave nothing running that would meter what comes next."""
        self.stop()


class Energyprof(Nothing):
    def __init__(self, **_: float) -> None:
        from energyprof import profile

        self._new = profile

    def start(self) -> None:
        self._entered = self._new("cost", quiet=True)
        self.run = self._entered.__enter__()
        self.region = self.run.region  # type: ignore[method-assign]  # no call of ours in between
        self.steps = self.run.steps  # type: ignore[assignment]

    def stop(self) -> None:
        self._folder = Path(os.environ["ENERGYPROF_OUT"]) / "_journal"
        self._entered.__exit__(None, None, None)

    def sealed(self) -> None:
        while any(not (run / "sealed.json").exists() for run in _entries(self._folder)):
            time.sleep(0.005)

    def result(self) -> None:
        assert self.run.result.energy_j is not None

    def once(self) -> None:
        with self.region("r"):
            pass

    def end(self) -> None:
        """The helper would stay for a minute, for a next run."""
        helpers = self.meters()
        self.stop()
        deadline = time.monotonic() + 30
        while _entries(self._folder) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in helpers:
            os.kill(pid, signal.SIGTERM)

    def meters(self) -> list[int]:
        """The helper has no parent; its journal has its pid in its name."""
        folder = Path(os.environ["ENERGYPROF_OUT"]) / "_journal"
        deadline = time.monotonic() + 10
        while not (found := list(folder.glob("*/meter.*.log"))) and time.monotonic() < deadline:
            time.sleep(0.05)
        return sorted({int(path.name.split(".")[1]) for path in found})


class Zeus(Nothing):
    cpu_indices: Sequence[int] | None = None

    def __init__(self, **_: float) -> None:
        from zeus.device.cpu import rapl
        from zeus.monitor import ZeusMonitor

        rapl.RAPL_DIR = _powercap("/intel-rapl")
        self._new = ZeusMonitor

    def start(self) -> None:
        self._monitor = self._new(
            cpu_indices=None if self.cpu_indices is None else list(self.cpu_indices), log_file="zeus.csv"
        )
        self._monitor.begin_window("whole", sync_execution=False)

    def stop(self) -> None:
        self._monitor.end_window("whole", sync_execution=False)

    def once(self) -> None:
        self._monitor.begin_window("r", sync_execution=False)
        self._monitor.end_window("r", sync_execution=False)

    @contextlib.contextmanager
    def region(self, name: str) -> Iterator[None]:
        self._monitor.begin_window(name, sync_execution=False)
        yield
        self._monitor.end_window(name, sync_execution=False)

    def steps(self, iterable: Iterable[Any]) -> Iterator[Any]:
        for item in iterable:
            self._monitor.begin_window("step", sync_execution=False)
            yield item
            self._monitor.end_window("step", sync_execution=False)

    def meters(self) -> list[int]:
        from benchmarks.processes import children

        return [os.getpid(), *children(os.getpid())]


class ZeusGpu(Zeus):
    """Zeus without RAPL, as on a machine where a user may not read it."""

    cpu_indices = ()


class CodeCarbon(Nothing):
    """`start` and `stop` around the whole; its tasks for one region. Offline, so that no network is asked."""

    def __init__(self, period: float = 15.0) -> None:  # its own default
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.core import cpu
        from codecarbon.external import hardware

        hidden, shown = "/sys/class/powercap/intel-rapl/subsystem", _powercap()
        for function in (cpu.IntelRAPL.__init__, hardware.CPU.__init__):
            defaults = function.__defaults__ or ()
            function.__defaults__ = tuple(shown if value == hidden else value for value in defaults)
        available = cpu.is_rapl_available
        cpu.is_rapl_available = lambda rapl_dir=None: available(shown)
        self._new, self._period = OfflineEmissionsTracker, period
        self._tasks: Any = None

    def _tracker(self) -> Any:
        return self._new(
            country_iso_code="FRA",
            log_level="critical",
            allow_multiple_runs=True,
            measure_power_secs=self._period,
            output_dir=".",
        )

    def start(self) -> None:
        self._whole = self._tracker()
        self._whole.start()

    def stop(self) -> None:
        self._whole.stop()

    def result(self) -> None:
        assert self._whole.final_emissions_data.energy_consumed is not None

    def once(self) -> None:
        if self._tasks is None:  # a tracker has tasks or a whole, not both
            self._tasks = self._tracker()
        self._tasks.start_task()
        self._tasks.stop_task()

    def meters(self) -> list[int]:
        return [os.getpid()]


def _entries(folder: Path) -> list[Path]:
    try:
        return [run for run in folder.iterdir() if (run / "run.json").exists()]
    except OSError:
        return []  # it went with its last run


TOOLS: dict[str, Any] = {
    "nothing": Nothing,
    "energyprof": Energyprof,
    "zeus": Zeus,
    "zeus gpu": ZeusGpu,
    "codecarbon": CodeCarbon,
}
