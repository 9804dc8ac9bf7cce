"""Which layer is running, as a list of switches: one note of the time at each change, in the host and on the GPU.

Between two switches one layer runs, in one phase, or none. On a GPU each switch records one CUDA event,
without waiting for it; `cuda_marks` keeps and resolves them.
"""

from __future__ import annotations

import threading
from time import monotonic_ns
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from energyprof.cuda_marks import DeviceMarks

FORWARD, BACKWARD = 0, 1
NONE = -1


class Switches:
    """The switches of the step that is running.

    Attributes
    ----------
    current
        2 x the layer's number + its phase; -1: no layer.
    device
        Where events are recorded; None: host times alone.
    """

    def __init__(self) -> None:
        self.current = NONE
        self.device: DeviceMarks | None = None
        self.thread = threading.get_native_id()
        self._times: list[int] = []
        self._layers: list[int] = []
        self._last_ns = 0

    def to(self, layer: int) -> None:
        """From now on `layer` runs."""
        if layer == self.current:
            return
        self.current = layer
        # Two switches never share a time: it is what their events are found by.
        now = self._last_ns = max(monotonic_ns(), self._last_ns + 1)
        self._times.append(now)
        self._layers.append(layer)
        if self.device is not None:
            self.device.stamp(self.thread, now)

    def begin(self, now: int) -> None:
        """A step begins: no layer runs, and the instant is stamped."""
        self._times, self._layers = [], []
        self.current = NONE
        self._stamp(now)

    def end(self) -> None:
        """The step is over."""
        self.current = NONE
        self._stamp(monotonic_ns())

    def _stamp(self, now: int) -> None:
        now = self._last_ns = max(now, self._last_ns + 1)
        self._times.append(now)
        self._layers.append(NONE)
        if self.device is not None:
            self.device.stamp(self.thread, now)

    def take(self) -> tuple[list[int], list[int]]:
        """The switches since the last call: times and layers; the lists are the caller's now."""
        taken = self._times, self._layers
        self._times, self._layers = [], []
        return taken
