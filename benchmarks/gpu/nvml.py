"""The few NVML calls that are studied here: each reads, none sets anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

COUNTER, AVERAGE, INSTANT = (
    83,
    185,
    186,
)  # NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, _POWER_AVERAGE, _POWER_INSTANT
TOTAL_POWER_SAMPLES = 0  # nvmlSamplingType_t
_UNION_MEMBER = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by nvmlValueType_t


class Gpu:
    """One GPU's meters, by the UUID that the framework uses (empty: the first GPU)."""

    def __init__(self, uuid: str = "") -> None:
        self._nvml: Any = import_module("pynvml")
        self._nvml.nvmlInit()
        self._handle = self._find(uuid)

    def _find(self, uuid: str) -> Any:
        try:
            if uuid:
                return self._nvml.nvmlDeviceGetHandleByUUID(uuid)
        except self._nvml.NVMLError:
            if self._nvml.nvmlDeviceGetCount() > 1:  # which one it is cannot be known
                raise
        return self._nvml.nvmlDeviceGetHandleByIndex(0)

    def counter_mj(self) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))

    def usage_mw(self) -> int:
        return int(self._nvml.nvmlDeviceGetPowerUsage(self._handle))

    def fields(self) -> list[tuple[int, int]]:
        """(value, driver's wall time in µs) of instant, average and counter; -1 where refused."""
        found = self._nvml.nvmlDeviceGetFieldValues(self._handle, [INSTANT, AVERAGE, COUNTER])
        return [
            (int(getattr(one.value, _UNION_MEMBER[one.valueType])), int(one.timestamp))
            if one.nvmlReturn == 0
            else (-1, -1)
            for one in found
        ]

    def samples(self, since_us: int) -> list[tuple[int, int]]:
        """(wall time in µs, mW) of the driver's own buffer, newer than `since_us`."""
        try:
            kind, found = self._nvml.nvmlDeviceGetSamples(self._handle, TOTAL_POWER_SAMPLES, since_us)
        except self._nvml.NVMLError as error:
            if error.value == self._nvml.NVML_ERROR_NOT_FOUND:  # nothing newer
                return []
            raise
        return [(int(one.timeStamp), int(getattr(one.sampleValue, _UNION_MEMBER[kind]))) for one in found]

    def facts(self) -> dict[str, Any]:
        """What the driver says of the board: no serial number and no UUID."""
        nvml, handle = self._nvml, self._handle
        asked: dict[str, Callable[[], Any]] = {
            "gpu": lambda: nvml.nvmlDeviceGetName(handle),
            "driver": nvml.nvmlSystemGetDriverVersion,
            "nvml": nvml.nvmlSystemGetNVMLVersion,
            "architecture": lambda: nvml.nvmlDeviceGetArchitecture(handle),
            "power_limit_mw": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle),
            "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "sm_clock_mhz": lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM),
            "persistence": lambda: nvml.nvmlDeviceGetPersistenceMode(handle),
            "mig": lambda: list(nvml.nvmlDeviceGetMigMode(handle)),
            "processes": lambda: len(nvml.nvmlDeviceGetComputeRunningProcesses(handle)),
        }
        facts: dict[str, Any] = {}
        for name, ask in asked.items():
            try:
                answer = ask()
                facts[name] = answer.decode() if isinstance(answer, bytes) else answer
            except nvml.NVMLError as error:
                facts[name] = f"refused: {error}"
        return facts


def reading_costs(gpu: Gpu, calls: int, pause_s: float) -> list[dict[str, Any]]:
    """Time `calls` calls of each kind, back to back and with a pause between; a row a call."""
    kinds: dict[str, Callable[[], Any]] = {
        "counter": gpu.counter_mj,
        "fields": gpu.fields,
        "usage": gpu.usage_mw,
        "samples": lambda: gpu.samples(0),
    }
    rows: list[dict[str, Any]] = []
    for name, call in kinds.items():
        for pause in (0.0, pause_s):
            try:
                call()
                for _ in range(calls if name != "samples" else max(20, calls // 4)):
                    time.sleep(pause)
                    before, cpu = time.perf_counter_ns(), time.thread_time_ns()
                    call()
                    took = time.perf_counter_ns() - before
                    used = time.thread_time_ns() - cpu
                    rows.append({"call": name, "paused": pause > 0, "ns": took, "cpu_ns": used, "error": ""})
            except Exception as error:  # a kind that the driver refuses is a finding, and the others go on
                rows.append({"call": name, "paused": pause > 0, "ns": -1, "cpu_ns": -1, "error": str(error)})
    return rows


def summarise_costs(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and 99th percentile, in µs, of each kind of call."""
    found: dict[str, Any] = {}
    for name, paused in sorted({(row["call"], row["paused"]) for row in rows}):
        mine = [row for row in rows if (row["call"], row["paused"]) == (name, paused)]
        errors = sorted({row["error"] for row in mine} - {""})
        took = np.array([row["ns"] for row in mine if row["ns"] >= 0]) / 1e3
        cpu = np.array([row["cpu_ns"] for row in mine if row["ns"] >= 0]) / 1e3
        key = f"{name}, {'paused' if paused else 'back to back'}"
        found[key] = {"calls": len(took), "errors": errors}
        if len(took):
            found[key] |= {
                "median_us": round(float(np.median(took)), 2),
                "p99_us": round(float(np.percentile(took, 99)), 2),
                "cpu_median_us": round(float(np.median(cpu)), 2),
            }
    return found
