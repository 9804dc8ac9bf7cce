"""A stand-in for the Python binding of AMD SMI: GPUs of known power, with the faults that boards have.

Energy is the integral of the power since the stub was made, in counts of 15.3 µJ, as MI200 and MI300 count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic_ns
from typing import Any

RESOLUTION_UJ = 15.3


class AmdSmiException(Exception):
    """As the binding's: with a status code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self._code = code

    def get_error_code(self) -> int:
        return self._code


@dataclass
class Board:
    """One GPU as AMD SMI shows it.

    Attributes
    ----------
    shown_w
        What the power field says; None is ``"N/A"``.
    counts_w
        The power that the energy counter adds up.
    start_j
        The counter at the beginning.
    tick_ns
        The counter's refresh period.
    """

    model: str = "AMD Instinct MI300X"
    shown_w: int | None = 300
    counts_w: float = 300.0
    start_j: float = 1000.0
    power_field: str = "current_socket_power"
    count_field: str = "energy_accumulator"
    hip_id: int | None = None
    serial: str = "0x0123456789ABCDEF"
    lost: bool = False
    tick_ns: int = 1_000_000


class FakeAmdSmi:
    """The functions of the binding that the collector uses."""

    def __init__(
        self, boards: Sequence[Board], clock: Callable[[], int] = monotonic_ns, init: Exception | None = None
    ) -> None:
        self.boards = list(boards)
        self.opened = 0
        self._clock = clock
        self._begun = clock()
        self._init = init

    def amdsmi_init(self) -> None:
        if self._init is not None:
            raise self._init
        self.opened += 1

    def amdsmi_shut_down(self) -> None:
        self.opened -= 1

    def amdsmi_get_processor_handles(self) -> list[Board]:
        return self.boards

    def amdsmi_get_power_info(self, board: Board) -> dict[str, Any]:
        watts = "N/A" if board.shown_w is None else board.shown_w
        fields = dict.fromkeys(("current_socket_power", "average_socket_power"), "N/A")
        return {**fields, board.power_field: watts, "power_limit": 750_000_000}

    def amdsmi_get_energy_count(self, board: Board) -> dict[str, Any]:
        if board.lost:
            raise AmdSmiException(2, "AMDSMI_STATUS_NOT_SUPPORTED")
        since = (self._clock() - self._begun) // board.tick_ns * board.tick_ns
        joules = board.start_j + board.counts_w * since / 1e9
        return {
            board.count_field: int(joules * 1e6 / RESOLUTION_UJ),
            "counter_resolution": RESOLUTION_UJ,
            "timestamp": self._clock(),
        }

    def amdsmi_get_gpu_asic_info(self, board: Board) -> dict[str, Any]:
        return {"market_name": board.model, "asic_serial": board.serial}

    def amdsmi_get_gpu_driver_info(self, board: Board) -> dict[str, Any]:
        return {"driver_name": "amdgpu", "driver_version": "6.12.12"}

    def amdsmi_get_gpu_enumeration_info(self, board: Board) -> dict[str, Any]:
        if board.hip_id is None:
            raise AmdSmiException(2, "AMDSMI_STATUS_NOT_SUPPORTED")
        return {"hip_id": board.hip_id, "hip_uuid": f"GPU-{board.serial[2:].lower()}"}
