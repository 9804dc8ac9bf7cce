"""The few calls of CUDA that device times need: as a Protocol, and as PyTorch answers them.

Nothing here is imported before the program itself has initialised CUDA.
"""

from __future__ import annotations

from typing import Any, Protocol

RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED, in cuda.h


class Event(Protocol):
    """A mark in a stream, with the time at which the device came to it."""

    def record(self, stream: Any) -> None: ...

    def query(self) -> bool:
        """Whether the device has come to it; does not wait."""
        ...

    def elapsed_time(self, end_event: Any) -> float:
        """Milliseconds from this event to another, a float32; both must be done."""
        ...


class Cuda(Protocol):
    """What this thread may ask of CUDA; streams know their `device_index` and `stream_id`."""

    def capturing(self) -> bool: ...

    def current_stream(self) -> Any: ...

    def new_stream(self, device: int) -> Any: ...

    def new_event(self) -> Event: ...

    def uuid(self, device: int) -> str: ...

    def exchange_capture_mode(self, mode: int) -> int:
        """Set how this thread's calls bear on captures of any thread; returns what held before."""
        ...

    def synchronize(self) -> None: ...


class TorchCuda:
    """`Cuda` through the program's own torch, which is passed in: nobody here imports it."""

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._cuda = torch.cuda
        self.capturing = torch.cuda.is_current_stream_capturing
        self.current_stream = torch.cuda.current_stream
        self._driver = _driver()

    def new_stream(self, device: int) -> Any:
        # A high priority has hardware queues of its own: what is recorded there does not wait in line
        # behind the kernels of the program's streams.
        return self._cuda.Stream(device=device, priority=-1)

    def new_event(self) -> Event:
        event: Event = self._cuda.Event(enable_timing=True)
        return event

    def uuid(self, device: int) -> str:
        return str(getattr(self._cuda.get_device_properties(device), "uuid", ""))

    def exchange_capture_mode(self, mode: int) -> int:
        # Asking for an event's state while any thread captures a graph in the usual "global" mode would
        # void that capture (CUDA driver API, cuThreadExchangeStreamCaptureMode); PyTorch has no door to it.
        if self._driver is None:
            return mode
        from ctypes import byref, c_int

        value = c_int(mode)
        self._driver.cuThreadExchangeStreamCaptureMode(byref(value))
        return value.value

    def synchronize(self) -> None:
        if not self.capturing():
            self._cuda.synchronize()


def _driver() -> Any:
    from ctypes import CDLL

    try:
        library = CDLL("libcuda.so.1")
        return library if hasattr(library, "cuThreadExchangeStreamCaptureMode") else None
    except OSError:
        return None
