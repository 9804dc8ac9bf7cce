"""The GPUs' energy counters, read in the user's own process at a run's two ends.

Straight through ctypes: importing pynvml costs 20–40 ms, which is more than a run's start may cost. Only
what `GpuCounters.read` needs is bound; everything else is the metering process's work (`nvml`). Nothing here
raises into the caller: a GPU that cannot be read is left out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from time import monotonic_ns
from typing import Any

from energyprof.collectors.visible import visible_gpus

_UUID_BYTES = 96  # NVML_DEVICE_UUID_V2_BUFFER_SIZE


def load_nvml() -> Any:
    """NVML as a ctypes library, or None where no driver is installed."""
    from ctypes import CDLL

    try:
        return CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
    except OSError:
        return None


class GpuCounters:
    """Energy counters of the GPUs that this process may use."""

    def __init__(self, library: Any, handles: dict[int, Any]) -> None:
        self._library: Any = library
        self._handles = handles

    @classmethod
    def open(cls, environ: Mapping[str, str], load: Callable[[], Any] = load_nvml) -> GpuCounters | None:
        """Load NVML and find the visible GPUs; None where there is no NVML, or no counter to be seen."""
        try:
            library = load()
            if library is None or library.nvmlInit_v2() != 0:
                return None
            counters = cls(library, {})
            counters._handles = counters._visible(environ)
            if not counters.read():
                counters.close()
                return None
            return counters
        except Exception:  # a measuring tool's fault is never the program's
            return None

    def read(self) -> list[tuple[str, int, int, int]]:
        """``(channel, monotonic ns before, after, value)``: ``gpu:i`` in µJ since the driver was loaded, and
        ``gpu:i/average`` in mW, which tells what the board drew in the second before. Only what it has."""
        reads: list[tuple[str, int, int, int]] = []
        try:
            from ctypes import byref, c_uint, c_ulonglong

            millijoules, milliwatts = c_ulonglong(), c_uint()
            for index, handle in self._handles.items():
                before = monotonic_ns()
                status = self._library.nvmlDeviceGetTotalEnergyConsumption(handle, byref(millijoules))
                after = monotonic_ns()
                if status == 0:
                    reads.append((f"gpu:{index}", before, after, millijoules.value * 1000))
                    status = self._library.nvmlDeviceGetPowerUsage(handle, byref(milliwatts))
                    if status == 0:
                        reads.append((f"gpu:{index}/average", after, monotonic_ns(), milliwatts.value))
        except Exception:
            return reads
        return reads

    def close(self) -> None:
        """Give NVML back (it counts its users); safe to call twice."""
        library, self._library, self._handles = self._library, None, {}
        try:
            if library is not None:
                library.nvmlShutdown()
        except Exception:
            return

    def _visible(self, environ: Mapping[str, str]) -> dict[int, Any]:
        from ctypes import byref, c_uint

        count = c_uint()
        if self._library.nvmlDeviceGetCount_v2(byref(count)) != 0:
            return {}
        wish = environ.get("CUDA_VISIBLE_DEVICES")
        indices, _ = visible_gpus(wish, count.value, self._uuid, self._mig_parent)
        handles = {index: self._handle(index) for index in indices}
        return {index: handle for index, handle in handles.items() if handle is not None}

    def _handle(self, index: int) -> Any:
        from ctypes import byref, c_uint, c_void_p

        handle = c_void_p()
        status = self._library.nvmlDeviceGetHandleByIndex_v2(c_uint(index), byref(handle))
        return handle if status == 0 else None

    def _uuid(self, index: int) -> str:
        from ctypes import c_uint, create_string_buffer

        handle = self._handle(index)
        text = create_string_buffer(_UUID_BYTES)
        if handle is None or self._library.nvmlDeviceGetUUID(handle, text, c_uint(_UUID_BYTES)) != 0:
            return ""
        return text.value.decode()

    def _mig_parent(self, uuid: str) -> int | None:
        from ctypes import byref, c_char_p, c_uint, c_void_p

        slice_, parent, index = c_void_p(), c_void_p(), c_uint()
        library = self._library
        found = (
            library.nvmlDeviceGetHandleByUUID(c_char_p(uuid.encode()), byref(slice_)) == 0
            and library.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(slice_, byref(parent)) == 0
            and library.nvmlDeviceGetIndex(parent, byref(index)) == 0
        )
        return index.value if found else None
