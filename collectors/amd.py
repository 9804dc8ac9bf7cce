"""AMD GPUs through AMD SMI: energy counters where they can be trusted, else power.

Every GPU that the program can see and that shows power of its own has one channel ``gpu:<HIP's number>``.
A card of two dies, or one in partitions, is measured through the first of them alone.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
from collections.abc import Callable, Mapping
from typing import Any

from energyprof.collectors import amd_gpus
from energyprof.collectors.amd_gpus import Gpu
from energyprof.collectors.base import Channel, Context, Group, Opened, Unavailable
from energyprof.collectors.visible import visible_gpus
from energyprof.reasons import NO_PERMISSION, NOT_SUPPORTED

_FAST_INTERVAL_S, _INTERVAL_S = 0.05, 0.1
_GAIN = (0.10, "assumed; no published bound for AMD's boards")
_FIRST = "let the program see the card's first die too: the whole card is measured through it"
_NONE = (
    "AMD SMI is here, but it lists no GPU",
    "in a container, start it with `--device /dev/kfd --device /dev/dri`",
)
_STATUS_NO_PERM = 10  # amdsmi.h: AMDSMI_STATUS_NO_PERM


class AmdCollector:
    """AMD GPUs.

    Parameters
    ----------
    library
        The binding of AMD SMI; `amdsmi` where not given, and only where the driver is loaded.
    """

    source = "amd"

    def __init__(self, library: Any = None) -> None:
        self._smi: Any = library
        self._is_open = False

    def open(self, context: Context) -> Opened:
        """Find the visible GPUs; nothing without AMD's driver; `Unavailable` where none can be read."""
        if not os.path.isdir(f"{context.sys_root}/module/amdgpu"):
            return Opened()
        try:
            smi = self._load()
        except Unavailable:
            if os.path.isdir(f"{context.sys_root}/module/nvidia"):
                return Opened()  # then AMD's is the processor's own graphics, in all likelihood
            raise
        try:
            smi.amdsmi_init()
            self._is_open = True
            gpus = _visible(amd_gpus.number(smi.amdsmi_get_processor_handles(), smi), context.environ)
            opened = _opened(gpus)
        except Unavailable:
            self.close()
            raise
        except Exception as fault:  # AmdSmiException, whose module is only known here
            self.close()
            raise _unavailable(fault) from None
        if not opened.groups:
            self.close()
            raise opened.missing[0]
        return opened

    def close(self) -> None:
        """Give AMD SMI back; safe to call twice."""
        was_open, self._is_open = self._is_open, False
        if was_open:
            with contextlib.suppress(Exception):
                self._smi.amdsmi_shut_down()

    def _load(self) -> Any:
        if self._smi is None:
            try:
                with contextlib.redirect_stdout(io.StringIO()):  # it prints where its library is not found
                    self._smi = importlib.import_module("amdsmi")
            except Exception as fault:  # ImportError, or what its search for the library raises
                detail = f"an AMD GPU is here, but its Python binding cannot be loaded ({fault})"
                remedy = "`pip install amdsmi` in the release of the ROCm that is installed"
                raise Unavailable(self.source, NOT_SUPPORTED, detail, remedy) from None
        return self._smi


def _visible(gpus: list[Gpu], environ: Mapping[str, str]) -> list[Gpu]:
    """ROCr takes its part of all GPUs, and HIP its part of those (ROCm, "GPU isolation techniques")."""
    hip = next((v for v in ("HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES") if v in environ), "")
    for variable in ("ROCR_VISIBLE_DEVICES", hip):
        seen = gpus
        found, why = visible_gpus(
            environ.get(variable),
            len(seen),
            uuid_of=lambda index, seen=seen: seen[index].uuid,  # type: ignore[misc]
            variable=variable,
        )
        gpus = [seen[index] for index in found]
        if not gpus:
            detail, remedy = (why, "") if why else _NONE
            raise Unavailable("amd", NOT_SUPPORTED, detail, remedy)
    return gpus


def _opened(gpus: list[Gpu]) -> Opened:
    doubts = amd_gpus.distrust(gpus)
    counted: list[Gpu] = []
    groups: list[Group] = []
    missing: list[Unavailable] = []

    def leave_out(what: str, remedy: str = "") -> None:
        missing.append(Unavailable("amd", NOT_SUPPORTED, what, remedy))

    for gpu in gpus:
        name, doubt, power_mw = f"gpu:{gpu.index}", doubts.get(gpu.index), gpu.power_mw()
        twin = next((other for other in counted if amd_gpus.same_counter(other, gpu)), None)
        if twin is not None:
            leave_out(f"{name} shows the same counter as gpu:{twin.index}; left out")
        elif doubt is None and power_mw != 0:
            counted.append(gpu)
            groups += _counter(gpu, shows_power=power_mw is not None)
        elif power_mw:
            groups.append(_gauge(gpu))
            leave_out(f"{name}: {doubt}; its power is integrated instead")
        else:
            leave_out(
                f"{name} shows no power of its own: a card's second die, or a partition; left out", _FIRST
            )
    return Opened(groups, missing)


def _counter(gpu: Gpu, shows_power: bool) -> list[Group]:
    """The energy counter; a slow one has the power beside it, for its shape."""
    refresh_ns = amd_gpus.refresh_ns(gpu)
    fast = refresh_ns is not None
    channel = _channel(gpu, "", refresh_ns)
    counter = Group((channel,), _read(gpu.energy_uj), _FAST_INTERVAL_S if fast else _INTERVAL_S)
    return [counter] if fast or not shows_power else [counter, _gauge(gpu, "/average")]


def _gauge(gpu: Gpu, suffix: str = "") -> Group:
    return Group((_channel(gpu, suffix, None, is_power=True),), _read(gpu.power_mw), _INTERVAL_S)


def _read(ask: Callable[[], int | None]) -> Callable[[], tuple[int]]:
    def read() -> tuple[int]:
        value = ask()
        if value is None:
            raise OSError(errno.EIO, "AMD SMI gives no value")
        return (value,)

    return read


def _channel(gpu: Gpu, suffix: str, refresh_ns: int | None, is_power: bool = False) -> Channel:
    scope, covers = amd_gpus.scope(gpu.model)
    driver = gpu.text("amdsmi_get_gpu_driver_info", "driver_version")
    return Channel(
        name=f"gpu:{gpu.index}{suffix}",
        quantity="power" if is_power else "energy",
        method="integrated" if is_power else "counter",
        scope=scope,
        parent=f"gpu:{gpu.index}" if suffix else None,
        refresh_ns=refresh_ns,
        gain_u95=_GAIN[0],
        gain_source=_GAIN[1],
        device={"model": gpu.model, "uuid": gpu.uuid, "driver": driver, "covers": covers},
    )


def _unavailable(fault: Exception) -> Unavailable:
    ask = getattr(fault, "get_error_code", None)
    if isinstance(fault, PermissionError) or (ask is not None and ask() == _STATUS_NO_PERM):
        remedy = "`sudo usermod -a -G render,video $LOGNAME`, then log in anew"
        return Unavailable("amd", NO_PERMISSION, "this user may not use the AMD GPU driver", remedy)
    return Unavailable("amd", NOT_SUPPORTED, f"AMD SMI says: {fault}")
