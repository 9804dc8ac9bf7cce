"""Readings through NVML, with its errors in the meter's terms.

A value that the board does not give (now and then, or ever) is None; a board that will not come back is
`DeviceLost`; anything else is an OSError, which the meter notes as a gap.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any

from energyprof.collectors.base import DeviceLost
from energyprof.reasons import DEVICE_LOST

# nvml.h, nvmlReturn_t
UNINITIALIZED, NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND = 1, 3, 4, 9, 12
FUNCTION_NOT_FOUND, GPU_IS_LOST, RESET_REQUIRED, VERSION_MISMATCH, NO_DATA = 13, 15, 16, 18, 21
NOT_READY, UNKNOWN = 27, 999
GONE = frozenset({UNINITIALIZED, DRIVER_NOT_LOADED, GPU_IS_LOST, RESET_REQUIRED})
_NO_VALUE = frozenset({NOT_SUPPORTED, FUNCTION_NOT_FOUND, NO_DATA, NOT_READY, UNKNOWN})

# nvml.h: NVML_FI_DEV_POWER_AVERAGE and _INSTANT (mW); NVML_POWER_SCOPE_MODULE; nvmlValueType_t
AVERAGE, INSTANT = 185, 186
_MODULE = 1
_VALUE_MEMBERS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal")

Read = Callable[[], Sequence[int | None]]


class Reads:
    """Makes readers of what an NVML binding offers."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml

    def ask(self, function: str, *arguments: Any) -> Any:
        """What a function answers; None for a refusal, or where the binding does not have it."""
        try:
            return getattr(self._nvml, function)(*arguments)
        except (self._nvml.NVMLError, AttributeError):
            return None

    def one(self, function: str, *arguments: Any, scale: int = 1, pick: str | None = None) -> Read:
        """A reader of one number: the function's answer (or its member `pick`) × `scale`."""

        def read() -> Sequence[int | None]:
            try:
                answer = getattr(self._nvml, function)(*arguments)
            except AttributeError:  # a binding that is too old, or too new, for it
                return (None,)
            except self._nvml.NVMLError as fault:
                _translate(fault.value, str(fault))
                return (None,)
            return (scale * int(getattr(answer, pick) if pick else answer),)

        return read

    def power_fields(self, handle: Any, fields: Sequence[int], module: bool) -> Read:
        """A reader of power fields (mW) in one call, of the GPU or of the whole module that it is on."""
        asked = [(field, _MODULE) for field in fields] if module else list(fields)

        def read() -> Sequence[int | None]:
            try:
                answers = self._nvml.nvmlDeviceGetFieldValues(handle, asked)
            except AttributeError:
                return (None,) * len(asked)
            except self._nvml.NVMLError as fault:
                _translate(fault.value, str(fault))
                return (None,) * len(asked)
            return [_field(answer) for answer in answers]

        return read


def _field(answer: Any) -> int | None:
    if answer.nvmlReturn != 0:
        # Drivers refuse fields in several codes: only a lost board ends the group.
        if answer.nvmlReturn in GONE:
            _translate(answer.nvmlReturn, "the GPU is lost")
        return None
    # A board never draws 0 W; drivers that were asked too soon have been seen to answer it.
    return int(getattr(answer.value, _VALUE_MEMBERS[answer.valueType])) or None


def _translate(code: int, words: str) -> None:
    if code in GONE:
        raise DeviceLost(DEVICE_LOST, f"NVML: {words}")
    if code == NO_PERMISSION:
        raise PermissionError(errno.EACCES, f"NVML: {words}")
    if code not in _NO_VALUE:
        raise OSError(errno.EIO, f"NVML: {words}")
