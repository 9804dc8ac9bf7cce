"""NVIDIA GPUs through NVML: energy counters, power, and what explains them.

Every GPU that the program can see has one channel ``gpu:<NVML index>``: its energy counter, or, on boards without
one, its power. Further streams of the same GPU carry a suffix: ``/instant`` and ``/average`` power, and once a
second ``/temperature``, ``/clock``, ``/utilisation`` and ``/limit``. Each GPU has groups of its own, so that
one that falls off the bus ends alone.
"""

from __future__ import annotations

import errno
import importlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from energyprof.collectors import nvml_boards
from energyprof.collectors.base import Channel, Context, DeviceLost, Group, Opened, Quantity, Unavailable
from energyprof.collectors.nvml_boards import Sensor
from energyprof.collectors.visible import visible_gpus
from energyprof.reasons import DEVICE_LOST, MIG_PARENT_POWER, NO_PERMISSION, NOT_SUPPORTED

_POWER_INTERVAL_S = 0.05
_FOLLOWED_INTERVAL_S = 0.1
_RARE_INTERVAL_S = 1.0
_GAIN = (0.05, "±5 % a board: Yang, Adámek, Armour, SC24, arXiv 2312.02741")

# nvml.h, nvmlReturn_t
_UNINITIALIZED, _NOT_SUPPORTED, _NO_PERMISSION, _DRIVER_NOT_LOADED = 1, 3, 4, 9
_LIBRARY_NOT_FOUND, _LOST, _RESET_REQUIRED, _VERSION_MISMATCH = 12, 15, 16, 18
_FUNCTION_NOT_FOUND, _NO_DATA, _NOT_READY, _UNKNOWN = 13, 21, 27, 999
_GONE = frozenset({_UNINITIALIZED, _DRIVER_NOT_LOADED, _LOST, _RESET_REQUIRED})
_NO_VALUE = frozenset({_NOT_SUPPORTED, _FUNCTION_NOT_FOUND, _NO_DATA, _NOT_READY, _UNKNOWN})
# nvml.h: NVML_FI_DEV_POWER_AVERAGE and _INSTANT; the scope "module" of NVML_POWER_SCOPE_*; nvmlValueType_t
_AVERAGE, _INSTANT, _MODULE = 185, 186, 1
_VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal")

_OPEN_FAILURES = {
    _LIBRARY_NOT_FOUND: (
        "no libnvidia-ml.so.1: no NVIDIA driver here",
        "in a container, start it with `--gpus all`",
    ),
    _DRIVER_NOT_LOADED: ("the NVIDIA kernel driver is not loaded", "`sudo modprobe nvidia`"),
    _VERSION_MISMATCH: ("driver and library differ in version, as after an update", "restart the machine"),
}

Read = Callable[[], Sequence[int | None]]


@dataclass(frozen=True)
class _Gpu:
    """One board: its NVML handle, and what its channels share."""

    handle: Any
    channel: str
    name: str
    architecture: int
    brand: int
    scope: str
    device: dict[str, str | int]
    flags: tuple[str, ...]

    def stream(self, suffix: str, quantity: Quantity, sensor: Sensor | None = None) -> Channel:
        """A channel of this board; without suffix the one that counts in totals."""
        watts = quantity in ("energy", "power") and suffix != "/limit"
        return Channel(
            name=self.channel + suffix,
            quantity=quantity,
            method="counter" if quantity == "energy" else "integrated",
            scope=self.scope,
            parent=self.channel if suffix else None,
            refresh_ns=sensor.refresh_ns if sensor else None,
            window_ns=sensor.window_ns if sensor else None,
            gain_u95=_GAIN[0] if watts else 0.0,
            gain_source=_GAIN[1] if watts else "",
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
        nvml = self._initialise()
        count = nvml.nvmlDeviceGetCount()
        wish = context.environ.get("CUDA_VISIBLE_DEVICES")
        indices, why = visible_gpus(wish, count, self._uuid, self._mig_parent)
        if not indices:
            self.close()
            raise Unavailable(self.source, NOT_SUPPORTED, why or "NVML is here, but it lists no GPU")
        order_known = wish is None or context.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
        groups: list[Group] = []
        missing: list[Unavailable] = []
        for index, is_mig in indices.items():
            try:
                gpu = self._gpu(index, is_mig, order_known)
                groups += self._groups(gpu)
            except (nvml.NVMLError, DeviceLost) as fault:
                missing.append(self._unavailable(fault, f"gpu:{index}: "))
        if not groups:
            self.close()
            raise missing[0]
        return Opened(groups, missing)

    def close(self) -> None:
        """Give NVML back (it counts its users)."""
        was_open, self._is_open = self._is_open, False
        if was_open:
            try:
                self._nvml.nvmlShutdown()
            except self._nvml.NVMLError:
                return

    def _initialise(self) -> Any:
        if self._nvml is None:
            try:
                with warnings.catch_warnings():  # the deprecated distribution `pynvml` warns, and works
                    warnings.simplefilter("ignore")
                    self._nvml = importlib.import_module("pynvml")
            except ImportError:
                detail = "the Python binding of NVML is not installed"
                raise Unavailable(self.source, NOT_SUPPORTED, detail, "`pip install nvidia-ml-py`") from None
        try:
            self._nvml.nvmlInit()
        except self._nvml.NVMLError as fault:
            raise self._unavailable(fault) from None
        self._is_open = True
        return self._nvml

    def _unavailable(self, fault: Exception, where: str = "") -> Unavailable:
        code = getattr(fault, "value", None)
        if isinstance(fault, DeviceLost) or code in (_LOST, _RESET_REQUIRED):
            remedy = "look for Xid errors in `dmesg`; reset the GPU or restart the machine"
            return Unavailable(self.source, DEVICE_LOST, f"{where}{fault}", remedy)
        if code == _NO_PERMISSION:
            remedy = "see who may open /dev/nvidia*; in a container, start it with `--gpus all`"
            return Unavailable(
                self.source, NO_PERMISSION, f"{where}this user may not use the NVIDIA driver", remedy
            )
        detail, remedy = _OPEN_FAILURES.get(code or 0, (f"NVML says: {fault}", ""))
        return Unavailable(self.source, NOT_SUPPORTED, where + detail, remedy)

    def _uuid(self, index: int) -> str:
        handle = self._or_none(self._nvml.nvmlDeviceGetHandleByIndex, index)
        return "" if handle is None else _text(self._or_none(self._nvml.nvmlDeviceGetUUID, handle))

    def _mig_parent(self, uuid: str) -> int | None:
        nvml = self._nvml
        mig = self._or_none(nvml.nvmlDeviceGetHandleByUUID, uuid)
        parent = (
            None if mig is None else self._or_none(nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle, mig)
        )
        index = None if parent is None else self._or_none(nvml.nvmlDeviceGetIndex, parent)
        return None if index is None else int(index)

    def _or_none(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """What a call answers; None for any refusal."""
        try:
            return call(*arguments)
        except self._nvml.NVMLError:
            return None

    def _gpu(self, index: int, is_mig: bool, order_known: bool) -> _Gpu:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        name = _text(self._or_none(nvml.nvmlDeviceGetName, handle)) or "NVIDIA GPU"
        mode = self._or_none(nvml.nvmlDeviceGetMigMode, handle)
        sliced = is_mig or bool(mode and mode[0] == 1)
        scope, covers = nvml_boards.scope(name)
        device: dict[str, str | int] = {
            "model": name,
            "uuid": _text(self._or_none(nvml.nvmlDeviceGetUUID, handle)),
            "driver": _text(self._or_none(nvml.nvmlSystemGetDriverVersion)),
            "covers": covers,
        }
        if not order_known:
            # CUDA numbers boards by speed unless told otherwise; NVML by their place on the bus.
            device["index_order"] = "taken as PCI order; CUDA_DEVICE_ORDER=PCI_BUS_ID makes that certain"
        return _Gpu(
            handle=handle,
            channel=f"gpu:{index}",
            name=name,
            architecture=self._or_none(nvml.nvmlDeviceGetArchitecture, handle) or 0,
            brand=self._or_none(nvml.nvmlDeviceGetBrand, handle) or 0,
            scope=f"{scope}, of which the program has a MIG slice" if sliced else scope,
            device=device,
            flags=(MIG_PARENT_POWER,) if sliced else (),
        )

    def _groups(self, gpu: _Gpu) -> list[Group]:
        counter = self._one(lambda: int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle)) * 1000)
        groups: list[Group] = []
        if counter()[0] is not None:
            safe = nvml_boards.counter_is_safe(gpu.name, gpu.brand)
            interval = _FOLLOWED_INTERVAL_S if safe else _RARE_INTERVAL_S
            groups.append(Group((gpu.stream("", "energy"),), counter, interval, follow_edges=safe))
        groups += self._power(gpu, is_main=not groups)
        groups += self._slow(gpu)
        return groups

    def _power(self, gpu: _Gpu, is_main: bool) -> list[Group]:
        """Both power fields in one call where the driver knows them, else the one older reading."""
        average = nvml_boards.average_sensor(gpu.name, gpu.architecture)
        offered = {
            _AVERAGE: ("/average", average),
            _INSTANT: ("/instant", nvml_boards.instant_sensor(gpu.name)),
        }
        # On a module the counter is the module's, and so must the shape be that is laid into it.
        module = "package" in str(gpu.device["covers"])
        first = self._fields(gpu.handle, tuple(offered), module)()
        working = [field for field, value in zip(offered, first) if value is not None]
        if working:
            # Without a counter the mean over 1 s stands for the board: it has no blind time, as the instant one has.
            suffixes = [offered[field][0] for field in working]
            if is_main:
                suffixes[0] = ""
            channels = tuple(
                gpu.stream(suffix, "power", offered[field][1]) for suffix, field in zip(suffixes, working)
            )
            return [Group(channels, self._fields(gpu.handle, tuple(working), module), _POWER_INTERVAL_S)]
        usage = self._one(lambda: int(self._nvml.nvmlDeviceGetPowerUsage(gpu.handle)) or None)
        if usage()[0] is None:
            return []
        sensor = nvml_boards.usage_sensor(gpu.name, gpu.architecture)
        channel = gpu.stream("" if is_main else "/average", "power", sensor)
        return [Group((channel,), usage, _POWER_INTERVAL_S)]

    def _slow(self, gpu: _Gpu) -> list[Group]:
        nvml, handle = self._nvml, gpu.handle
        offered: list[tuple[str, Quantity, Callable[[], int | None]]] = [
            ("/temperature", "temperature", lambda: 1000 * int(nvml.nvmlDeviceGetTemperature(handle, 0))),
            ("/clock", "frequency", lambda: 1000 * int(nvml.nvmlDeviceGetClockInfo(handle, 1))),  # 1: SM
            ("/utilisation", "share", lambda: 10_000 * int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
            ("/limit", "power", lambda: int(nvml.nvmlDeviceGetEnforcedPowerLimit(handle))),
        ]
        working = [(s, q, self._one(read)) for s, q, read in offered if self._one(read)()[0] is not None]
        if not working:
            return []
        channels = tuple(gpu.stream(suffix, quantity) for suffix, quantity, _ in working)
        reads = [read for _, _, read in working]
        return [Group(channels, lambda: [read()[0] for read in reads], _RARE_INTERVAL_S)]


def _text(value: Any) -> str:
    """Text from any version of the binding: before 11.5 it gave bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")
