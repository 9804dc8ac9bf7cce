"""The true power of virtual devices over time, in a file that every process of a test maps.

A workload says what power a device is fed from now on (`set_power`) or for a time to come (`schedule`);
the virtual sensors, in C, and the tests read the same log. Mirrors truth.h, which explains the lag.
"""

from __future__ import annotations

import ctypes
import fcntl
import math
import mmap
import os
import random
from time import monotonic_ns

ENVIRONMENT = "ENERGYPROF_LAB"
MAGIC, DEVICES, CAPACITY = 0x4C414231, 16, 1 << 16
FIRST_RAPL = 8  # devices 0-7 are GPUs; the others are RAPL sources, by the order of RAPL_SOURCES
RAPL_SOURCES = ("package:0", "package:1", "dram:0", "dram:1", "platform:0")


class Step(ctypes.Structure):
    _fields_ = [("t_ns", ctypes.c_int64)] + [(n, ctypes.c_double) for n in ("watts", "energy_j", "drawn_w")]


class Device(ctypes.Structure):
    """One virtual device; see truth.h. Times of faults are monotonic ns, 0 for never."""

    _fields_ = [
        ("name", ctypes.c_char * 96),
        ("uuid", ctypes.c_char * 64),
        *(
            (n, ctypes.c_int64)
            for n in ("energy_supported", "fields_supported", "geforce", "grace", "mig", "undercounts")
        ),
        ("start_units", ctypes.c_int64),
        *((n, ctypes.c_int64) for n in ("lost_at_ns", "stuck_at_ns", "reset_at_ns")),
        *((n, ctypes.c_int64) for n in ("no_permission", "call_delay_us")),
        *((n, ctypes.c_int64 * 2) for n in ("user_pid", "user_busy")),
        *((n, ctypes.c_double) for n in ("tick_s", "phase_s", "jitter_low_s", "jitter_high_s")),
        *((n, ctypes.c_double) for n in ("refresh_s", "refresh_phase_s", "window_s", "lag_s")),
        *((n, ctypes.c_int64) for n in ("log_offset", "log_capacity", "log_count")),
    ]


class Lab(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_int64) for n in ("magic", "size", "device_size", "gpus", "base_ns", "seed")),
        ("device", Device * DEVICES),
    ]


def index_of(channel: str) -> int:
    """The device behind a channel: gpu:0 is 0, package:0 is 8."""
    kind, _, number = channel.partition(":")
    return int(number) if kind == "gpu" else FIRST_RAPL + RAPL_SOURCES.index(channel)


class Truth:
    """The shared file, mapped."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file = open(path, "r+b")  # noqa: SIM115  # kept open: its lock orders the writers
        self._map = mmap.mmap(self._file.fileno(), 0)
        self.lab = Lab.from_buffer(self._map)

    @classmethod
    def from_environment(cls) -> Truth:
        """In a workload: the truth of the test that started it."""
        return cls(os.environ[ENVIRONMENT])

    @classmethod
    def create(cls, path: str, gpus: int, seed: int, idle_w: float) -> Truth:
        """A new file: `gpus` H100-like boards and all RAPL sources, every one fed `idle_w` since 10 s ago."""
        header = (ctypes.sizeof(Lab) + 4095) // 4096 * 4096
        log_bytes = CAPACITY * ctypes.sizeof(Step)
        with open(path, "wb") as file:
            file.truncate(header + DEVICES * log_bytes)
        truth = cls(path)
        lab, chance = truth.lab, random.Random(seed)
        lab.size, lab.device_size = ctypes.sizeof(Lab), ctypes.sizeof(Device)
        lab.gpus, lab.base_ns, lab.seed = gpus, monotonic_ns() - 10_000_000_000, seed
        for index in range(DEVICES):
            device = lab.device[index]
            is_gpu = index < FIRST_RAPL
            device.name = b"NVIDIA H100 80GB HBM3" if is_gpu else b""
            device.uuid = b"GPU-%08x-1111-2222-3333-%012x" % (0xABC0 + index, index)
            device.energy_supported = device.fields_supported = 1
            device.start_units = chance.randrange(10**6, 10**9)
            device.tick_s, device.jitter_low_s, device.jitter_high_s = 0.1003, 0.001, 0.005
            if not is_gpu:
                device.tick_s, device.jitter_low_s, device.jitter_high_s = 0.001, 0.0, 0.0003
            device.phase_s = chance.uniform(0, device.tick_s)
            device.refresh_s, device.window_s = 0.1, 0.025
            device.refresh_phase_s = chance.uniform(0, device.refresh_s)
            device.log_offset, device.log_capacity = header + index * log_bytes, CAPACITY
            truth._log(index)[0] = Step(lab.base_ns, idle_w, 0.0, idle_w)
            device.log_count = 1
        lab.magic = MAGIC
        return truth

    def device(self, channel: str) -> Device:
        """The configuration of a device, to be changed in place before it is read."""
        return self.lab.device[index_of(channel)]  # type: ignore[no-any-return]

    def set_power(self, channel: str, watts: float, t_ns: int | None = None) -> None:
        """From now (or from `t_ns` on) the device is fed `watts`. Times must not go back."""
        index = index_of(channel)
        device, log = self.lab.device[index], self._log(index)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            at, count = t_ns if t_ns is not None else monotonic_ns(), device.log_count
            if at < log[count - 1].t_ns or count >= device.log_capacity:
                raise ValueError(
                    f"{channel}: the log goes forward only and holds {device.log_capacity} steps"
                )
            energy, drawn = self._state(index, at)
            log[count] = Step(at, watts, energy, drawn)
            device.log_count = count + 1
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)

    def square_wave(
        self,
        channel: str,
        high_w: float,
        low_w: float,
        high_s: float,
        low_s: float,
        begin_ns: int,
        end_ns: int,
    ) -> None:
        """Feed high and low in turn from `begin_ns` to `end_ns`, whatever a process's sleep would do."""
        t = begin_ns
        while t < end_ns:
            self.set_power(channel, high_w, t)
            t += round(high_s * 1e9)
            if t < end_ns:
                self.set_power(channel, low_w, t)
                t += round(low_s * 1e9)

    def energy_j(self, channel: str, begin_ns: int, end_ns: int) -> float:
        """The energy drawn between two instants, exactly."""
        index = index_of(channel)
        return self._state(index, end_ns)[0] - self._state(index, begin_ns)[0]

    def close(self) -> None:
        """Close the file; the map goes with the last view of it."""
        del self.lab
        self._file.close()

    def _log(self, index: int) -> ctypes.Array[Step]:
        offset = self.lab.device[index].log_offset
        return (Step * CAPACITY).from_buffer(self._map, offset)

    def _state(self, index: int, t_ns: int) -> tuple[float, float]:
        """Energy since base_ns and power drawn, at a time."""
        device, log = self.lab.device[index], self._log(index)
        low, high = 0, device.log_count - 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if log[middle].t_ns <= t_ns else (low, middle - 1)
        step, tau = log[low], device.lag_s
        dt = (t_ns - step.t_ns) / 1e9
        fade = math.exp(-dt / tau) if tau > 0 else 0.0
        excess = step.drawn_w - step.watts
        return step.energy_j + step.watts * dt + excess * tau * (1 - fade), step.watts + excess * fade
