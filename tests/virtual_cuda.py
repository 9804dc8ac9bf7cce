"""A stand-in for the few calls of CUDA that energyprof makes: streams that run behind the host, on a clock
of their own.

As in CUDA: what is put into a stream runs in order, and the host goes on; an event happens when the device
comes to it; elapsed times are a float32 of milliseconds, in steps of half a microsecond, and refused before
both events have happened; recording or asking in a capture breaks the capture.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic_ns

import numpy as np


class Clock:
    """A host's clock that only goes on when it is looked at, slept on, or told to."""

    def __init__(self, step_ns: int = 300) -> None:
        self.ns = 1_000_000_000_000_000
        self._step_ns = step_ns

    def __call__(self) -> int:
        self.ns += self._step_ns
        return self.ns

    def sleep(self, seconds: float) -> None:
        self.ns += round(seconds * 1e9)


class VirtualStream:
    def __init__(self, cuda: VirtualCuda, device_index: int) -> None:
        self.cuda, self.device_index = cuda, device_index
        self.stream_id = cuda.streams = cuda.streams + 1
        self.busy_until_ns = 0

    def launch(self, seconds: float) -> tuple[int, int]:
        """Put work into the stream; returns when it begins and ends, in host time."""
        begin = max(self.cuda.clock() + self.cuda.latency_ns, self.busy_until_ns)
        self.busy_until_ns = begin + round(seconds * 1e9)
        return begin, self.busy_until_ns


class VirtualEvent:
    def __init__(self, cuda: VirtualCuda) -> None:
        self._cuda = cuda
        self.at_ns: int | None = None

    def record(self, stream: VirtualStream) -> None:
        self._cuda.call("record")
        self.at_ns = max(self._cuda.clock() + self._cuda.latency_ns, stream.busy_until_ns)

    def query(self) -> bool:
        self._cuda.call("query")
        return self.at_ns is None or (not self._cuda.hangs and self._cuda.clock() >= self.at_ns)

    def elapsed_time(self, end_event: VirtualEvent) -> float:
        if not (self.query() and end_event.query()):
            raise RuntimeError("CUDA error: device not ready")
        assert self.at_ns is not None
        assert end_event.at_ns is not None
        span_ns = self._cuda.device_ns(end_event.at_ns) - self._cuda.device_ns(self.at_ns)
        return float(np.float32(round(span_ns / 500) * 500 / 1e6))


class VirtualCuda:
    """Devices with a clock that is `drift` faster than the host's, and `latency_ns` behind its calls."""

    def __init__(
        self,
        clock: Callable[[], int] = monotonic_ns,
        *,
        drift: float = 40e-6,
        latency_ns: int = 4_000,
        uuid: str = "",
    ) -> None:
        self.clock = clock
        self.drift, self.latency_ns, self._uuid = drift, latency_ns, uuid
        # From this host time on the device's clock is ahead by so much, and goes faster by this rate.
        self.changes: list[tuple[int, float, float]] = []
        self._begun_ns = clock()
        self.is_capturing = self.hangs = self.broken = self.capture_void = False
        self.relaxed = False
        self.events = 0
        self.waits = 0
        self.streams = 0
        self.stream = VirtualStream(self, 0)

    def device_ns(self, host_ns: int) -> float:
        ahead = sum(by + rate * (host_ns - since) for since, by, rate in self.changes if host_ns >= since)
        return 7e12 + (host_ns - self._begun_ns) * (1 + self.drift) + ahead

    def call(self, what: str) -> None:
        if self.broken:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if self.is_capturing and not (what == "query" and self.relaxed):
            self.capture_void = True
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    def capturing(self) -> bool:
        return self.is_capturing

    def current_stream(self) -> VirtualStream:
        return self.stream

    def new_stream(self, device: int) -> VirtualStream:
        return VirtualStream(self, device)

    def new_event(self) -> VirtualEvent:
        self.events += 1
        return VirtualEvent(self)

    def uuid(self, device: int) -> str:
        return self._uuid

    def exchange_capture_mode(self, mode: int) -> int:
        before, self.relaxed = self.relaxed, mode == 2
        return 2 if before else 0

    def synchronize(self) -> None:
        self.waits += 1
