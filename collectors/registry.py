"""All collectors: the built-in ones, and those of other packages (group ``energyprof.collectors``).

An entry point's name is the collector's source, and its value a class (or function) that makes a
`Collector` without arguments.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from energyprof.collectors.base import Collector, Context, Opened, Unavailable
from energyprof.reasons import NOT_SUPPORTED

GROUP = "energyprof.collectors"

# Meters before models: the first to offer a channel has it.
BUILT_IN: dict[str, str] = {
    "nvml": "energyprof.collectors.nvml:NvmlCollector",
    "amd": "energyprof.collectors.amd:AmdCollector",
    "rapl": "energyprof.collectors.rapl:RaplCollector",
    "hwmon": "energyprof.collectors.hwmon:HwmonCollector",
    "cpu_time": "energyprof.collectors.cpu_time:CpuTimeCollector",
    "cpu_model": "energyprof.collectors.cpu_model:CpuModelCollector",
    "dram_model": "energyprof.collectors.dram_model:DramModelCollector",
}


class Broken:
    """Stands for a collector that could not be made: its `open` says why."""

    def __init__(self, source: str, detail: str, remedy: str) -> None:
        self.source = source
        self._detail = detail
        self._remedy = remedy

    def open(self, context: Context) -> Opened:
        """Always `Unavailable`."""
        raise Unavailable(self.source, NOT_SUPPORTED, self._detail, self._remedy)

    def close(self) -> None:
        """Nothing is held."""


def discover() -> Iterator[Collector]:
    """Every collector, once: the built-in ones, also where our metadata is missing, then the others."""
    for source, target in BUILT_IN.items():
        yield _make(source, target, "this is a fault of energyprof: please report it")
    try:
        from importlib.metadata import entry_points  # 50 ms: not at import

        found = sorted({(point.name, point.value) for point in entry_points(group=GROUP)})
    except Exception:  # another package's broken metadata must not cost the run its meters
        return
    taken = set(BUILT_IN)
    for name, target in found:
        if target in BUILT_IN.values():
            continue
        if name in taken:
            yield Broken(
                name, f"{target} registers the name '{name}', which is taken", "give it a name of its own"
            )
        else:
            taken.add(name)
            yield _make(name, target, f"update or uninstall the package that provides {target}")


def _make(source: str, target: str, remedy: str) -> Collector:
    module, _, path = target.partition(":")
    try:
        made = importlib.import_module(module.strip())
        for attribute in path.split("[")[0].strip().split("."):
            made = getattr(made, attribute)
        collector: Collector = made()  # type: ignore[operator]
    except Exception as fault:
        return Broken(source, f"{target} could not be loaded: {fault!r}", remedy)
    return collector
