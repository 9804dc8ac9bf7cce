"""What a device can do at most: peak FLOP/s by dtype, memory bandwidth, memory, power; from `devices.json`.

Peaks are dense (never the sparse figures of advertisements) and accumulate in FP32, as torch's matrix products
do; fp32 and fp64 are the fastest path that keeps their precision (matrix cores where the device has them for
it). A row is what torch calls one device: one die of an MI250X, one card of an H100 NVL. Each figure stands
beside its source, and beside units × FLOP per clock and unit × clock, which must give the same within 2 %.

Rows of which only the power is published have no peaks; a peak whose clock is not published stands unchecked.

A name that the table does not know has no peak: `find` never guesses by resemblance ("L40S" holds "L4"; a MIG
slice, a vGPU and a laptop's chip bear the name of a larger device). Say the peak yourself then. Processors are
not listed: theirs depends on instruction set, core count and clocks under load; the same way is open. `likely`
is for names that people type, which may mean several rows.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DTYPES = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8")
TERA, GIGA, MEGA = 1e12, 1e9, 1e6

_TABLE = Path(__file__).with_name("devices.json")
_SPELLINGS = {
    "float64": "fp64",
    "double": "fp64",
    "float32": "fp32",
    "float": "fp32",
    "tfloat32": "tf32",
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float8": "fp8",
    "float8_e4m3fn": "fp8",
    "float8_e4m3fnuz": "fp8",
    "float8_e5m2": "fp8",
    "float8_e5m2fnuz": "fp8",
}
# Makers and brands, which drivers and people put into a name or leave out: they tell no two rows apart.
_BRANDS = frozenset(
    {"nvidia", "tesla", "geforce", "amd", "instinct", "accelerator", "gpu", "intel", "google"}
)
# Dtypes that always run on the general pipes or at their clock; the others run at the matrix clock where a
# device has one of its own (Hopper, Blackwell).
_FULL_CLOCK = frozenset({"fp64", "fp32"})


@dataclass(frozen=True)
class Device:
    """One row of the table; what is not known is None or missing.

    Attributes
    ----------
    names : tuple of str
        The first as its driver reports it, then other spellings.
    shared_names : tuple of str
        Names that other devices bear too: they mean this one only where the number of units agrees.
    unit, units : str, int
        What the device counts its processors in (SM, CU), and how many it has.
    clock_hz, matrix_clock_hz : float
        Boost clock of the published peaks, in general and of the reduced-precision matrix units.
    flop_s : mapping
        Published dense peak by dtype (`DTYPES`), FLOP/s; for int8, operations/s.
    flop_per_clock : mapping
        FLOP a clock and unit by dtype, from the architecture's documentation (`rates_source`).
    bandwidth_b_s, memory_b, tdp_w : float
        Memory bandwidth in B/s, memory in bytes, power limit in watts.
    idle_w, mean_w, max_w : float
        What was measured and published, in watts: idle, mean and maximum in use; `power_source` says by whom.
    whole : bool
        The watts cover the machine around the chips too (a board, a module with its CPU, a share of the host).
    cloud : str
        The cloud whose data centres alone have the device, "" for any place.
    source, seen, note : str
        The vendor's document; where its figures, or most of them, were read, "" where only their consistency
        was checked; what to know about them.
    """

    names: tuple[str, ...]
    architecture: str
    flop_s: Mapping[str, float]
    source: str
    shared_names: tuple[str, ...] = ()
    unit: str = ""
    units: int | None = None
    clock_hz: float | None = None
    matrix_clock_hz: float | None = None
    flop_per_clock: Mapping[str, float] | None = None
    rates_source: str = ""
    bandwidth_b_s: float | None = None
    memory_b: float | None = None
    tdp_w: float | None = None
    idle_w: float | None = None
    mean_w: float | None = None
    max_w: float | None = None
    whole: bool = False
    cloud: str = ""
    power_source: str = ""
    seen: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """The name that its driver reports."""
        return self.names[0]

    def peak(self, dtype: object) -> float | None:
        """Published dense peak in FLOP/s; None where the device does not have it or it is not known.

        Parameters
        ----------
        dtype : str or torch.dtype
            One of `DTYPES` or a dtype of torch. float32 means full precision; say "tf32" where matrix products
            may use it (`torch.backends.cuda.matmul.allow_tf32`).
        """
        kind = canonical(dtype)
        return None if kind is None else self.flop_s.get(kind)

    def computed_peak(self, dtype: object) -> float | None:
        """Units × FLOP a clock and unit × clock, in FLOP/s: the check of the published peak."""
        kind = canonical(dtype)
        rate = (self.flop_per_clock or {}).get(kind or "")
        full = kind in _FULL_CLOCK or self.matrix_clock_hz is None
        clock_hz = self.clock_hz if full else self.matrix_clock_hz
        if rate is None or clock_hz is None or self.units is None:
            return None
        return self.units * rate * clock_hz


def canonical(dtype: object) -> str | None:
    """The table's name of a dtype ("torch.bfloat16" -> "bf16"); None where it has none."""
    text = str(dtype).lower().removeprefix("torch.")
    kind = _SPELLINGS.get(text, text)
    return kind if kind in DTYPES else None


def find(name: str, units: int | None = None) -> Device | None:
    """The device of a name as NVML, torch or AMD SMI reports it; None where it is not known for certain.

    Parameters
    ----------
    name : str
        Compared word by word and whole: order, case, punctuation and brands do not matter, a word
        more or less does.
    units : int, optional
        `multi_processor_count` of torch's device properties. Where it differs from the table's, the device is
        another one of the same name (a slice, a partition, a cut-down board) and unknown.
    """
    words = _words(name)
    if not words:
        return None
    own = [d for d in devices() if words in map(_words, d.names)]
    shared = [d for d in devices() if words in map(_words, d.shared_names) and d.units == units]
    fitting = [d for d in own + shared if units is None or d.units in (None, units)]
    return fitting[0] if len(fitting) == 1 else None


def same_name(one: str, other: str) -> bool:
    """Whether two names are those of one device: the same words, apart from order, case and brands."""
    return bool(_words(one)) and _words(one) == _words(other)


def likely(name: str) -> tuple[Device, ...]:
    """The devices that a person may mean by a name: the one of that name, else all whose names have its words.

    "A100" is four boards, "L4" is one (not an L40). Words may be written together ("RTX4090", "TPUv4"). The likeliest
    is first: the board of the highest power, then of the most memory. Empty where no row has all the words.
    """
    exact = find(name)
    if exact is not None:
        return (exact,)
    words = _spoken(name)
    whole = [d for d in devices() if any("".join(words) == "".join(_spoken(other)) for other in d.names)]
    if words and len(whole) == 1:
        return (whole[0],)
    found = [d for d in devices() if words and any(_has_all(_spoken(other), words) for other in d.names)]
    return tuple(sorted(found, key=lambda d: (-(d.tdp_w or d.max_w or 0.0), -(d.memory_b or 0.0))))


def _has_all(spoken: list[str], words: list[str]) -> bool:
    """Whether each of the words is one of a name's, or several neighbours of it written together."""
    count = len(spoken)
    joined = {"".join(spoken[i:j]) for i in range(count) for j in range(i + 1, count + 1)}
    return joined.issuperset(words)


def nearest(name: str) -> list[str]:
    """Up to three names of the table that resemble one that it does not have, the likest first."""
    from difflib import SequenceMatcher

    wanted = " ".join(re.findall(r"[a-z0-9.]+", name.lower()[:60]))
    ranked = []
    for device in devices():
        words = [word for other in device.names for word in _spoken(other)]
        whole = max(SequenceMatcher(None, wanted, " ".join(_spoken(other))).ratio() for other in device.names)
        part = max(SequenceMatcher(None, wanted, word).ratio() for word in words)
        ranked.append((-max(whole, 0.98 * part), device.name))
    return [device for likeness, device in sorted(ranked)[:3] if likeness <= -0.5]


@functools.lru_cache(maxsize=1)
def devices() -> tuple[Device, ...]:
    """Every row of the table, in its order."""
    table = json.loads(_TABLE.read_text(encoding="utf-8"))
    return tuple(_device(row, table["rates"]) for row in table["devices"])


def _device(row: Mapping[str, Any], rates: Mapping[str, Any]) -> Device:
    chip = rates.get(row.get("rates", ""), {})
    power = row.get("power", {})
    return Device(
        names=tuple(row["names"]),
        shared_names=tuple(row.get("shared_names", ())),
        architecture=chip.get("architecture", ""),
        unit=row.get("unit", ""),
        units=row.get("units"),
        clock_hz=_times(row.get("clock_mhz"), MEGA),
        matrix_clock_hz=_times(row.get("matrix_clock_mhz"), MEGA),
        flop_s={kind: peak * TERA for kind, peak in row["tflops"].items()},
        flop_per_clock=chip.get("flop_per_clock"),
        rates_source=chip.get("source", ""),
        bandwidth_b_s=_times(row["bandwidth_gb_s"], GIGA),
        memory_b=_times(row["memory_gb"], GIGA),
        tdp_w=row["tdp_w"],
        idle_w=power.get("idle_w"),
        mean_w=power.get("mean_w"),
        max_w=power.get("max_w"),
        whole=power.get("whole", False),
        cloud=row.get("cloud", ""),
        power_source=power.get("source", ""),
        source=row["source"],
        seen=row.get("seen", ""),
        note=row.get("note", ""),
    )


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


@functools.lru_cache(maxsize=512)
def _words(name: str) -> tuple[str, ...]:
    """A name's words, sorted: "Tesla V100-SXM2-16GB" -> ("16gb", "sxm2", "v100")."""
    return tuple(sorted(_spoken(name)))


def _spoken(name: str) -> list[str]:
    """A name's words as they stand, without brands."""
    words = re.findall(r"[a-z0-9.]+", re.sub(r"\((?:r|tm)\)", " ", name.lower()))
    return [word for word in words if word not in _BRANDS]
