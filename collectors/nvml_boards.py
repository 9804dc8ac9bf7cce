"""What is known about NVIDIA boards beyond what NVML says: sensor windows, safe counters, scopes.

Windows and periods: Yang, Adámek, Armour, "Accurate and Convenient Energy Measurements for GPUs", SC24,
arXiv 2312.02741. Boards that the study did not have are unknown here, never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass

from energyprof.metercache import Gauge

MS = 1_000_000  # ns

# NVML_DEVICE_ARCH_* and NVML_BRAND_* of nvml.h, spelt out: older bindings lack the newer names.
_PASCAL, _VOLTA, _TURING, _AMPERE = 4, 5, 6, 7
_CONSUMER_BRANDS = frozenset(
    {1, 3, 5, 6, 12, 13, 15, 16}
)  # Quadro, NVS, GeForce, Titan, RTX, and their RTX names
_CONSUMER_WORDS = ("GEFORCE", "TITAN", "QUADRO", "RTX", "GTX")
_GA100 = ("A100", "A800", "A30")


@dataclass(frozen=True)
class Sensor:
    """A power sensor's refresh period and averaging window, ns; None where it is not known."""

    refresh_ns: int | None
    window_ns: int | None


def instant_sensor(name: str) -> Sensor:
    """The sensor behind field 186, POWER_INSTANT."""
    words = _words(name)
    if "GH200" in words:
        return Sensor(100 * MS, 20 * MS)
    if "H100" in words or "A100" in words:
        return Sensor(100 * MS, 25 * MS)
    if "V100" in words:
        return Sensor(20 * MS, 10 * MS)
    return Sensor(None, None)


def average_sensor(name: str, architecture: int) -> Sensor:
    """The sensor behind field 185, POWER_AVERAGE: a mean over 1 s."""
    refresh = 100 * MS if {"GH200", "H100", "A100"} & _words(name) else None
    return Sensor(refresh, 1000 * MS) if architecture >= _AMPERE else Sensor(None, None)


def usage_sensor(name: str, architecture: int) -> Sensor:
    """The sensor behind nvmlDeviceGetPowerUsage.

    Its meaning changes with the generation (NVML API reference): the mean over 1 s on Ampere and later but
    GA100, what the sensor shows at the moment on the others.
    """
    if _words(name) & set(_GA100):
        return instant_sensor(name)
    if architecture >= _AMPERE:
        return average_sensor(name, architecture)
    if architecture in (_PASCAL, _VOLTA):
        return Sensor(20 * MS, 10 * MS)
    return Sensor(100 * MS, 100 * MS) if architecture == _TURING else Sensor(None, None)


def with_learned(sensor: Sensor, learned: Gauge | None) -> Sensor:
    """A sensor, with what this machine's calibration saw of it where the study says nothing."""
    if learned is None:
        return sensor
    return Sensor(sensor.refresh_ns or ns(learned.refresh_ms), sensor.window_ns or ns(learned.window_ms))


def ns(milliseconds: float | None) -> int | None:
    """Whole nanoseconds."""
    return None if milliseconds is None else round(milliseconds * MS)


def counter_is_safe(name: str, brand: int) -> bool:
    """May the energy counter be read often? Data-centre boards alone.

    On GeForce boards reading it fast makes it under-count (RTX 4090, 5060 Ti: -13 % at 100 ms, -76 % at 10
    ms, right at 1 s: Dauner et al., HotCarbon 2026). Workstation boards have the same chips and were not
    tested: they are taken to be like them, since that costs resolution and not truth.
    """
    return brand not in _CONSUMER_BRANDS and not any(word in name.upper() for word in _CONSUMER_WORDS)


def scope(name: str) -> tuple[str, str]:
    """What the energy counter covers, in words, and as the kinds of channel that it includes.

    On Grace-Hopper it is the whole module (Zeus, issue 172). Grace-Blackwell is not established.
    """
    words = _words(name)
    if "GH200" in words:
        return "Grace-Hopper module (GPU, CPU, memory)", "gpu,package,dram"
    if words & {"GB200", "GB300"}:
        return (
            "GPU of a Grace-Blackwell superchip (whether CPU and memory are in it is not established)",
            "gpu",
        )
    return "GPU board", "gpu"


def _words(name: str) -> set[str]:
    return {word.split("-")[0] for word in name.upper().split()}
