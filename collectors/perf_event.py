"""The system call perf_event_open(2), for counters of a whole CPU. The C library has no function for it."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Callable

OpenEvent = Callable[[int, int, int], int]  # PMU type, config, CPU -> descriptor

_SYSCALL = {"x86_64": 298, "i686": 336}  # Linux, arch/x86/entry/syscalls
_ATTR_SIZE = 64  # PERF_ATTR_SIZE_VER0: type, size, config, and zeros: count from now on, in all modes
_FLAG_CLOEXEC = 8


def open_event(pmu: int, config: int, cpu: int) -> int:
    """perf_event_open(2) for a whole CPU; raises OSError."""
    number = _SYSCALL.get(platform.machine())
    if number is None or not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    attributes = struct.pack("=IIQ", pmu, _ATTR_SIZE, config).ljust(_ATTR_SIZE, b"\0")
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    every_program, no_leader = ctypes.c_long(-1), ctypes.c_long(-1)
    descriptor = call(
        ctypes.c_long(number),
        ctypes.create_string_buffer(attributes, _ATTR_SIZE),
        every_program,
        ctypes.c_long(cpu),
        no_leader,
        ctypes.c_ulong(_FLAG_CLOEXEC),
    )
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(descriptor)
