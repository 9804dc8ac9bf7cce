"""One AMD GPU through AMD SMI: its values, what they cover, and whether its energy counter can be trusted.

The Python binding `amdsmi` answers ``"N/A"`` or raises for what a board or a driver does not tell, and has
renamed fields between ROCm releases; here a value is a whole number or None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from time import monotonic_ns
from typing import Any

# AMD SMI, amdsmi_get_power_info: W. The unified field of ROCm 7, that of MI300, that of MI200 and before.
_POWER_FIELDS = ("socket_power", "current_socket_power", "average_socket_power")
# amdsmi_get_energy_count: counts of `counter_resolution` µJ; ROCm before 6.1 called them "power".
_COUNT_FIELDS = ("energy_accumulator", "power")
_UNKNOWN = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)  # the C library's "not available"

_WATCH_NS, _PATIENCE_NS, _SPIN_NS = 50_000_000, 250_000_000, 12_000_000
# The power field is a filtered mean of whole watts: only a counter that is plainly wrong is told by it.
_PLAUSIBLE = (0.4, 2.5)


@dataclass(frozen=True)
class Gpu:
    """A GPU's handle, and the number that HIP gives it."""

    smi: Any
    handle: Any
    index: int

    def ask(self, function: str) -> Any:
        """What AMD SMI answers; None where it refuses or does not have the function."""
        try:
            return getattr(self.smi, function)(self.handle)
        except Exception:  # AmdSmiException, or an older binding
            return None

    def text(self, function: str, *fields: str) -> str:
        """The first of these fields that has text."""
        answer = self.ask(function)
        if isinstance(answer, str):
            return answer
        found = answer if isinstance(answer, Mapping) else {}
        values = (found.get(field) for field in fields)
        return next((v.strip() for v in values if isinstance(v, str) and v.strip() not in ("", "N/A")), "")

    def power_mw(self) -> int | None:
        """The board's power now; None where it does not tell."""
        watts = _first(self.ask("amdsmi_get_power_info"), _POWER_FIELDS)
        return None if watts is None else watts * 1000

    def energy_uj(self) -> int | None:
        """The energy counter; None where there is none."""
        answer = self.ask("amdsmi_get_energy_count")
        counts = _first(answer, _COUNT_FIELDS)
        resolution = answer.get("counter_resolution") if isinstance(answer, Mapping) else None
        if counts is None or not isinstance(resolution, (int, float)) or resolution <= 0:
            return None
        return int(counts * resolution)

    @property
    def uuid(self) -> str:
        """The name that ROCR_VISIBLE_DEVICES knows it by: ``GPU-<16 hexadecimal digits>``."""
        uuid = self.text("amdsmi_get_gpu_enumeration_info", "hip_uuid")
        serial = self.text("amdsmi_get_gpu_asic_info", "asic_serial")
        return uuid or (f"GPU-{serial.removeprefix('0x').lower()}" if serial else "")

    @property
    def model(self) -> str:
        """Its name as AMD sells it."""
        name = self.text("amdsmi_get_gpu_asic_info", "market_name")
        return name or self.text("amdsmi_get_gpu_board_info", "product_name") or "AMD GPU"


def number(handles: Sequence[Any], smi: Any) -> list[Gpu]:
    """The GPUs in HIP's order where AMD SMI tells it (ROCm 6.4), else in AMD SMI's."""
    gpus = [Gpu(smi, handle, position) for position, handle in enumerate(handles)]
    told = [_first(gpu.ask("amdsmi_get_gpu_enumeration_info"), ("hip_id",)) for gpu in gpus]
    if sorted(index for index in told if index is not None) != list(range(len(gpus))):
        return gpus
    pairs = zip(told, handles, strict=True)
    return sorted((Gpu(smi, handle, index or 0) for index, handle in pairs), key=lambda gpu: gpu.index)


def refresh_ns(gpu: Gpu) -> int | None:
    """The energy counter's refresh period, if it is milliseconds; None for a slower one.

    1 ms on MI250X and MI300A, and not published of others (McDaniel et al., arXiv 2604.06056): read for a
    moment as fast as it can be, it is the middle one of the times between two changes; on a busy machine
    some of those are ours.
    """
    changes: list[int] = []
    begin, before = monotonic_ns(), gpu.energy_uj()
    while (at := monotonic_ns()) - begin < _SPIN_NS:
        now = gpu.energy_uj()
        if now != before:
            changes.append(at)
        before = now
    gaps = sorted(later - earlier for earlier, later in pairwise(changes))
    middle = gaps[(len(gaps) - 1) // 2] if gaps else _SPIN_NS
    return max(middle, 1_000_000) if middle < _SPIN_NS else None


def scope(model: str) -> tuple[str, str]:
    """What energy and power cover, in words, and as the kinds of channel that they include.

    A card of two dies is measured as a whole, through its first (rocm_smi_lib, issue 160).
    """
    if "MI300A" in model:
        return "APU package (GPU, CPU, memory)", "gpu,package,dram"
    if "MI250" in model:
        return "GPU card, both of its dies", "gpu"
    if "MI300" in model or "MI325" in model or "MI350" in model or "MI355" in model:
        return "GPU package with its memory (OAM)", "gpu"
    return "GPU board", "gpu"


def distrust(gpus: Sequence[Gpu]) -> dict[int, str]:
    """What is wrong with the energy counters, by GPU; those that count as the power field says are left out.

    On some boards and drivers it stands still or counts something else (amdsmi, issue 38; rocm_smi_lib,
    issue 180): all are watched together beside their power, until all have moved, for 50 to 250 ms.
    """
    first = {gpu.index: (monotonic_ns(), gpu.energy_uj()) for gpu in gpus}
    powers: dict[int, list[int]] = {gpu.index: [] for gpu in gpus}
    last = dict(first)
    begin = monotonic_ns()
    while True:
        still = any(
            value is not None and last[index][1] == value and 0 not in powers[index]
            for index, (_, value) in first.items()
        )
        watched = monotonic_ns() - begin >= (_PATIENCE_NS if still else _WATCH_NS)
        for gpu in gpus:
            last[gpu.index] = monotonic_ns(), gpu.energy_uj()
            power = gpu.power_mw()
            if power is not None:
                powers[gpu.index].append(power)
        if watched:
            break
    doubts = {gpu.index: _doubt(first[gpu.index], last[gpu.index], powers[gpu.index]) for gpu in gpus}
    return {index: doubt for index, doubt in doubts.items() if doubt}


def same_counter(one: Gpu, other: Gpu) -> bool:
    """Whether two GPUs, as parts of one card, show one counter.

    Then a read of the second between two reads of the first lies between them; counters of their own
    differ by kilojoules.
    """
    before, between, after = one.energy_uj(), other.energy_uj(), one.energy_uj()
    return bool(before and between and after and before <= between <= after)


def _doubt(first: tuple[int, int | None], last: tuple[int, int | None], powers_mw: Sequence[int]) -> str:
    (begin, one), (end, other) = first, last
    if one is None or other is None:
        return "there is no energy counter"
    if other <= one:
        return "the energy counter stands still"
    counted_w = (other - one) * 1e3 / (end - begin)
    shown_w = sum(powers_mw) / len(powers_mw) / 1e3 if powers_mw else 0.0
    if shown_w and not _PLAUSIBLE[0] <= counted_w / shown_w <= _PLAUSIBLE[1]:
        return f"the energy counter says {counted_w:.0f} W where the board shows {shown_w:.0f} W"
    return ""


def _first(answer: Any, fields: Sequence[str]) -> int | None:
    """The first of these fields that is a number."""
    found = answer if isinstance(answer, Mapping) else {}
    values = (found.get(field) for field in fields)
    return next((v for v in values if type(v) is int and v not in _UNKNOWN), None)
