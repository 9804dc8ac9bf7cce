"""NVIDIA GPUs through NVML: energy counters, power, and what explains them.

Every GPU that the program can see has one channel ``gpu:<NVML index>``: its energy counter, or, on boards
without one, its power. Further streams of the same GPU carry a suffix: ``/instant`` and ``/average`` power,
and once a second ``/temperature``, ``/clock``, ``/utilisation`` and ``/limit``. Each GPU has groups of its
own, so that one that falls off the bus ends alone.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from energyprof import metercache
from energyprof.collectors import nvml_boards, nvml_reads
from energyprof.collectors.base import Channel, Context, DeviceLost, Group, Opened, Quantity, Unavailable
from energyprof.collectors.nvml_boards import Sensor
from energyprof.collectors.nvml_reads import AVERAGE, INSTANT, Read, Reads
from energyprof.collectors.nvml_share import ProgramShare
from energyprof.collectors.visible import visible_gpus
from energyprof.metercache import Cache, Known
from energyprof.reasons import DEVICE_LOST, MIG_PARENT_POWER, NO_PERMISSION, NOT_SUPPORTED

_POWER_INTERVAL_S = 0.05
_FOLLOWED_INTERVAL_S = 0.1
_RARE_INTERVAL_S = 1.0
_FOLLOWED_FROM_NS = 50_000_000  # two reads a refresh are no more than at the usual pace
GAIN = (0.05, "±5 % a board: Yang, Adámek, Armour, SC24, arXiv 2312.02741")
_GPU_TEMPERATURE, _SM_CLOCK = 0, 1  # nvml.h: NVML_TEMPERATURE_GPU, NVML_CLOCK_SM

_OPEN_FAILURES = {
    nvml_reads.LIBRARY_NOT_FOUND: (
        "no libnvidia-ml.so.1: no NVIDIA driver here",
        "install the driver; in a container, start it with `--gpus all`",
    ),
    nvml_reads.DRIVER_NOT_LOADED: ("the NVIDIA kernel driver is not loaded", "`sudo modprobe nvidia`"),
    nvml_reads.VERSION_MISMATCH: (
        "driver and library differ in version, as after an update",
        "restart the machine",
    ),
}


@dataclass(frozen=True)
class _Gpu:
    """One board: its NVML handle, and what its channels share."""

    handle: Any
    channel: str
    name: str
    architecture: int
    brand: int
    scope: str
    device: Mapping[str, str | int]
    flags: tuple[str, ...]
    known: Known  # what `energyprof doctor --calibrate` learned of this board

    def stream(self, suffix: str, quantity: Quantity, sensor: Sensor | None = None) -> Channel:
        """A channel of this board; without suffix, the one that counts in totals."""
        measures = quantity == "energy" or sensor is not None
        if sensor is not None:
            sensor = nvml_boards.with_learned(sensor, self.known.gauges.get(suffix))
        elif quantity == "energy":
            sensor = Sensor(nvml_boards.ns(self.known.tick_ms), None)
        return Channel(
            name=self.channel + suffix,
            quantity=quantity,
            method="counter" if quantity == "energy" else "integrated",
            scope=self.scope,
            parent=self.channel if suffix else None,
            refresh_ns=sensor.refresh_ns if sensor else None,
            window_ns=sensor.window_ns if sensor else None,
            gain_u95=GAIN[0] if measures else 0.0,
            gain_source=GAIN[1] if measures else "",
            device=self.device,
            flags=self.flags,
        )


class NvmlCollector:
    """NVIDIA GPUs.

    Parameters
    ----------
    library
        The NVML binding; `pynvml` where not given.
    """

    source = "nvml"

    def __init__(self, library: Any = None) -> None:
        self._nvml: Any = library
        self._is_open = False

    def open(self, context: Context) -> Opened:
        """Find the visible GPUs; `Unavailable` where there is no driver or the program sees none."""
        nvml = self._load()
        cache = metercache.load(context.environ)
        groups: list[Group] = []
        missing: list[Unavailable] = []
        try:
            nvml.nvmlInit()
            self._is_open = True
            reads = Reads(nvml)
            for index, is_mig in _visible(reads, nvml.nvmlDeviceGetCount(), context.environ).items():
                found = self._board(reads, index, is_mig, context, cache)
                if isinstance(found, Unavailable):
                    missing.append(found)
                else:
                    groups += found
        except nvml.NVMLError as fault:
            self.close()
            raise _unavailable(fault) from None
        except Unavailable:
            self.close()
            raise
        if not groups:
            self.close()
            raise missing[0]
        return Opened(groups, missing)

    def close(self) -> None:
        """Give NVML back (it counts its users)."""
        was_open, self._is_open = self._is_open, False
        if was_open:
            Reads(self._nvml).ask("nvmlShutdown")

    def _load(self) -> Any:
        if self._nvml is None:
            try:
                with warnings.catch_warnings():  # the deprecated distribution `pynvml` warns, and works
                    warnings.simplefilter("ignore")
                    self._nvml = importlib.import_module("pynvml")
            except ImportError:
                detail = "the Python binding of NVML is not installed"
                raise Unavailable(self.source, NOT_SUPPORTED, detail, "`pip install nvidia-ml-py`") from None
        return self._nvml

    def _board(
        self, reads: Reads, index: int, is_mig: bool, context: Context, cache: Cache
    ) -> list[Group] | Unavailable:
        """One GPU's groups, or why there are none: the others must not miss out on it."""
        try:
            gpu = self._gpu(reads, index, is_mig, context.environ, cache)
            found = _groups(reads, gpu)
            if found and context.pid is not None:
                share = ProgramShare(self._nvml, gpu.handle, context.pid, context.proc_root)
                found.append(Group((gpu.stream("/program", "share"),), share.read, _RARE_INTERVAL_S))
        except (self._nvml.NVMLError, DeviceLost, OSError) as fault:
            return _unavailable(fault, f"gpu:{index}: ")
        return found or Unavailable("nvml", NOT_SUPPORTED, f"gpu:{index}: tells neither energy nor power")

    def _gpu(self, reads: Reads, index: int, is_mig: bool, environ: Mapping[str, str], cache: Cache) -> _Gpu:
        handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
        name = _text(reads.ask("nvmlDeviceGetName", handle)) or "NVIDIA GPU"
        mode = reads.ask("nvmlDeviceGetMigMode", handle)
        sliced = is_mig or bool(mode and mode[0] == 1)
        scope, covers = nvml_boards.scope(name)
        uuid, driver = (
            _text(reads.ask("nvmlDeviceGetUUID", handle)),
            _text(reads.ask("nvmlSystemGetDriverVersion")),
        )
        device: dict[str, str | int] = {"model": name, "uuid": uuid, "driver": driver, "covers": covers}
        known = cache.get(metercache.board_key(uuid, driver)) if uuid else None
        if known is not None and known.date:
            device["calibrated"] = known.date
        if not _order_is_known(environ):
            device["index_order"] = "taken as PCI order; CUDA_DEVICE_ORDER=PCI_BUS_ID makes that certain"
        return _Gpu(
            handle=handle,
            channel=f"gpu:{index}",
            name=name,
            architecture=reads.ask("nvmlDeviceGetArchitecture", handle) or 0,
            brand=reads.ask("nvmlDeviceGetBrand", handle) or 0,
            scope=f"{scope}, of which the program has a MIG slice" if sliced else scope,
            device=device,
            flags=(MIG_PARENT_POWER,) if sliced else (),
            known=known or Known(),
        )


def _visible(reads: Reads, count: int, environ: Mapping[str, str]) -> dict[int, bool]:
    def uuid_of(index: int) -> str:
        handle = reads.ask("nvmlDeviceGetHandleByIndex", index)
        return "" if handle is None else _text(reads.ask("nvmlDeviceGetUUID", handle))

    def mig_parent(uuid: str) -> int | None:
        mig = reads.ask("nvmlDeviceGetHandleByUUID", uuid)
        parent = None if mig is None else reads.ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", mig)
        index = None if parent is None else reads.ask("nvmlDeviceGetIndex", parent)
        return None if index is None else int(index)

    indices, why = visible_gpus(environ.get("CUDA_VISIBLE_DEVICES"), count, uuid_of, mig_parent)
    if not indices:
        raise Unavailable("nvml", NOT_SUPPORTED, why or "NVML is here, but it lists no GPU")
    return indices


def _order_is_known(environ: Mapping[str, str]) -> bool:
    """Are NVML's numbers CUDA's? CUDA numbers boards by speed unless told otherwise, NVML by place."""
    wish = environ.get("CUDA_VISIBLE_DEVICES", "")
    numbered = any(entry.strip()[:1].isdigit() for entry in wish.split(","))
    return not numbered or environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"


def _groups(reads: Reads, gpu: _Gpu) -> list[Group]:
    # NVML counts millijoules.
    counter = reads.one("nvmlDeviceGetTotalEnergyConsumption", gpu.handle, scale=1000)
    groups: list[Group] = []
    if counter()[0] is not None:
        safe = gpu.known.counter_safe
        if safe is None:
            safe = nvml_boards.counter_is_safe(gpu.name, gpu.brand)
        interval_s = _FOLLOWED_INTERVAL_S if safe else _RARE_INTERVAL_S
        groups.append(Group((gpu.stream("", "energy"),), counter, interval_s, follow=0 if safe else None))
    groups += _power(reads, gpu, is_main=not groups)
    return groups + _context(reads, gpu) if groups else []


def _power(reads: Reads, gpu: _Gpu, is_main: bool) -> list[Group]:
    """Both power fields in one call where the driver knows them, else the one older reading."""
    offered = (
        (AVERAGE, "/average", nvml_boards.average_sensor(gpu.name, gpu.architecture)),
        (INSTANT, "/instant", nvml_boards.instant_sensor(gpu.name)),
    )
    # On a module the counter is the module's, and so must the shape be that is laid into it.
    module = "package" in str(gpu.device["covers"])
    first = reads.power_fields(gpu.handle, [field for field, _, _ in offered], module)()
    working = [offer for offer, value in zip(offered, first, strict=True) if value is not None]
    if working:
        # Without a counter the mean over 1 s stands for the board: it has no blind time, the instant one has.
        channels = tuple(
            gpu.stream("" if is_main and i == 0 else suffix, "power", sensor)
            for i, (_, suffix, sensor) in enumerate(working)
        )
        read = reads.power_fields(gpu.handle, [field for field, _, _ in working], module)
        looks = [i for i, (field, _, sensor) in enumerate(working) if field == INSTANT and _looks(sensor)]
        return [Group(channels, read, _POWER_INTERVAL_S, follow=looks[0] if looks else None)]
    usage = reads.one("nvmlDeviceGetPowerUsage", gpu.handle)
    if usage()[0] is None:
        return []
    sensor = nvml_boards.usage_sensor(gpu.name, gpu.architecture)
    channel = gpu.stream("" if is_main else "/average", "power", sensor)
    return [Group((channel,), usage, _POWER_INTERVAL_S)]


def _looks(sensor: Sensor) -> bool:
    """Does it look into the ticks of the counter, at times that can be learnt without reading all the time?"""
    known = sensor.refresh_ns is not None and sensor.window_ns is not None
    return known and (sensor.refresh_ns or 0) >= _FOLLOWED_FROM_NS


def _context(reads: Reads, gpu: _Gpu) -> list[Group]:
    """What explains a power, once a second; each only where the board has it."""
    handle = gpu.handle
    offered: list[tuple[str, Quantity, Read]] = [
        # The first is deprecated and goes with CUDA 14; the second is not in older bindings.
        (
            "/temperature",
            "temperature",
            reads.one("nvmlDeviceGetTemperature", handle, _GPU_TEMPERATURE, scale=1000),
        ),
        (
            "/temperature",
            "temperature",
            reads.one("nvmlDeviceGetTemperatureV", handle, _GPU_TEMPERATURE, scale=1000),
        ),
        ("/clock", "frequency", reads.one("nvmlDeviceGetClockInfo", handle, _SM_CLOCK, scale=1000)),
        (
            "/utilisation",
            "share",
            reads.one("nvmlDeviceGetUtilizationRates", handle, scale=10_000, pick="gpu"),
        ),
        ("/limit", "power", reads.one("nvmlDeviceGetEnforcedPowerLimit", handle)),
    ]
    working: dict[str, tuple[Channel, Read]] = {}
    for suffix, quantity, read in offered:
        if suffix not in working and read()[0] is not None:
            working[suffix] = (gpu.stream(suffix, quantity), read)
    if not working:
        return []
    channels = tuple(channel for channel, _ in working.values())
    return [Group(channels, lambda: [read()[0] for _, read in working.values()], _RARE_INTERVAL_S)]


def _unavailable(fault: Exception, where: str = "") -> Unavailable:
    code = getattr(fault, "value", None)
    if isinstance(fault, DeviceLost) or code in (nvml_reads.GPU_IS_LOST, nvml_reads.RESET_REQUIRED):
        remedy = "look for Xid errors in `dmesg`; reset the GPU or restart the machine"
        return Unavailable("nvml", DEVICE_LOST, f"{where}{fault}", remedy)
    if isinstance(fault, PermissionError) or code == nvml_reads.NO_PERMISSION:
        remedy = "see who may open /dev/nvidia*; in a container, start it with `--gpus all`"
        return Unavailable("nvml", NO_PERMISSION, f"{where}this user may not use the NVIDIA driver", remedy)
    detail, remedy = _OPEN_FAILURES.get(code or 0, (f"NVML says: {fault}", ""))
    return Unavailable("nvml", NOT_SUPPORTED, where + detail, remedy)


def _text(value: Any) -> str:
    """Text from any version of the binding: before 11.5 it gave bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
