"""What is asked of an estimate, checked: which devices, how long or how much work, and what else was said.

    FLOP  = 6 x parameters x tokens (training), 2 x (inference)     Kaplan et al. 2020, Hoffmann et al. 2022
    hours = FLOP / (peak x MFU x devices) / 3600

Attention over the context is left out of the first, as in the papers. Anything contradictory is a ValueError with
one line for the user.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from energyprof.carbon import assumed, numbers
from energyprof.carbon.power import propagated
from energyprof.carbon.ranges import Range, exact
from energyprof.flops import peaks
from energyprof.flops.peaks import TERA, Device

_DTYPE_ORDER = ("bf16", "fp16", "fp32", "fp64", "int8")
MAX_COUNT = 10_000_000
MAX_YEARS = 10_000.0  # longer is a slip


@dataclass(frozen=True)
class Ask:
    """What was said; numbers are checked and in units, None where nothing was said.

    `hours` are of the wall clock, each device's. `watts` is what one device draws on average, `host_watts` the rest
    of the server a device.
    """

    gpu: str | None = None
    count: int = 1
    hours: float | None = None
    flops: float | None = None
    params: float | None = None
    tokens: float | None = None
    inference: bool = False
    mfu: float | None = None
    dtype: str | None = None
    peak_tflops: float | None = None
    utilisation: float | None = None
    watts: float | None = None
    host_watts: float | None = None


def ask(**said: object) -> Ask:
    """Check what was said, with numbers as people write them ("7B", "3.5h", "40%"); names as in `Ask`.

    Raises
    ------
    ValueError
        A name is none of `Ask`'s, a number makes no sense, something is missing, or two things contradict each other.
    """
    unknown = next((name for name in said if name not in Ask.__dataclass_fields__), None)
    if unknown is not None:
        raise ValueError(
            f"an estimate is not asked with {unknown[:40]!r}; it takes {', '.join(Ask.__dataclass_fields__)}"
        )
    told = {name: value for name, value in said.items() if value is not None}
    plain = Ask(
        gpu=_text(told, "gpu"),
        count=_count(told.get("count", 1)),
        hours=numbers.hours(told["hours"]) if "hours" in told else None,
        flops=numbers.amount(told["flops"], "flops") if "flops" in told else None,
        params=numbers.amount(told["params"], "params") if "params" in told else None,
        tokens=numbers.amount(told["tokens"], "tokens") if "tokens" in told else None,
        inference=bool(told.get("inference", False)),
        mfu=numbers.share(told["mfu"], "mfu") if "mfu" in told else None,
        dtype=_dtype(_text(told, "dtype")),
        peak_tflops=numbers.amount(told["peak_tflops"], "peak") if "peak_tflops" in told else None,
        utilisation=numbers.share(told["utilisation"], "utilisation", 0.0) if "utilisation" in told else None,
        watts=numbers.watts(told["watts"], "watts") if "watts" in told else None,
        host_watts=numbers.watts(told["host_watts"], "host-watts", 0.0) if "host_watts" in told else None,
    )
    _consistent(plain)
    return plain


def flop_of(asked: Ask) -> float | None:
    """The FLOP that the work takes; None where hours were said."""
    if asked.flops is not None:
        return asked.flops
    if asked.params is None or asked.tokens is None:
        return None
    per_token = (
        assumed.FLOP_PER_PARAM_TOKEN_INFERENCE if asked.inference else assumed.FLOP_PER_PARAM_TOKEN_TRAINING
    )
    return per_token * asked.params * asked.tokens


def mfu_of(asked: Ask) -> Range:
    """The share of the peak that the work reaches: what was said, else the published range."""
    if asked.mfu is not None:
        return exact(asked.mfu)
    return (assumed.MFU_INFERENCE if asked.inference else assumed.MFU_TRAINING).range


def boards_of(asked: Ask) -> tuple[Device, ...]:
    """The devices of the table that the name may mean, the likeliest first; none where none was named.

    Raises
    ------
    ValueError
        The name is not in the table (the nearest ones named), or nobody published how its power goes with
        utilisation.
    """
    if asked.gpu is None:
        return ()
    boards = peaks.likely(asked.gpu)
    if not boards and asked.watts is None:
        near = ", ".join(peaks.nearest(asked.gpu))
        hint = f"did you mean {near}?" if near else "docs/devices.md lists them."
        raise ValueError(f"no device {asked.gpu[:40]!r} in the table; {hint} Or say --watts")
    if boards and asked.utilisation is not None and boards[0].max_w is None and boards[0].mean_w is not None:
        raise ValueError(
            f"of {boards[0].name} only the mean in use is published, with its pauses; leave --utilisation out, "
            "or say --watts"
        )
    return boards


def hours_of(asked: Ask, board: Device | None) -> Range:
    """Hours of the wall clock on `asked.count` devices of a kind.

    Raises
    ------
    ValueError
        The peak of the device at the dtype is not known.
    """
    if asked.hours is not None:
        return exact(asked.hours)
    peak, flop = peak_of(asked, board)[1], flop_of(asked) or 0.0
    mfu = mfu_of(asked)
    flop_s = peak * mfu.value * asked.count
    years = flop / flop_s / 3600 / 8766 if flop_s > 0 else math.inf
    if years > MAX_YEARS:
        raise ValueError(
            f"{flop:.2g} FLOP take {years:.2g} years on {asked.count:,}, and the most is {MAX_YEARS:,.0f}; "
            "is that number right?"
        )
    return propagated(lambda share: flop / (peak * share * asked.count) / 3600, mfu)


def peak_of(asked: Ask, board: Device | None) -> tuple[str, float]:
    """The dtype and its peak, FLOP/s."""
    if asked.peak_tflops is not None:
        return asked.dtype or "", asked.peak_tflops * TERA
    known = {} if board is None else board.flop_s
    kinds = [asked.dtype] if asked.dtype else [kind for kind in _DTYPE_ORDER if kind in known]
    if board is not None and kinds and kinds[0] in known:
        return kinds[0], known[kinds[0]]
    what = asked.gpu or "the device"
    if asked.dtype and known:
        raise ValueError(f"{what} has no {asked.dtype}; it has {', '.join(known)}")
    raise ValueError(f"no peak of {what} is known, to make hours of FLOPs; say --peak in TFLOP/s, or --hours")


def _consistent(asked: Ask) -> None:
    if asked.gpu is None and asked.watts is None:
        raise ValueError("which device? say --gpu (A100, TPU v4, Jetson Orin NX ...) or --watts")
    if (asked.params is None) != (asked.tokens is None):
        missing = "tokens" if asked.tokens is None else "params"
        raise ValueError(f"--params and --tokens go together; --{missing} is missing")
    ways = [
        name
        for name, said in (("hours", asked.hours), ("flops", asked.flops), ("params", asked.params))
        if said
    ]
    if len(ways) > 1:
        raise ValueError(f"--{ways[0]} and --{ways[1]} both say how long; choose one")
    if not ways:
        raise ValueError("how much? say --hours, or --flops, or --params and --tokens")
    if asked.hours is not None:
        for name, said in (("mfu", asked.mfu), ("peak", asked.peak_tflops), ("dtype", asked.dtype)):
            if said is not None:
                raise ValueError(f"--{name} tells how long --flops take; --hours says it already; choose one")
    if asked.watts is not None and asked.utilisation is not None:
        raise ValueError("--watts is what a device draws on average; --utilisation is in it; choose one")


def _text(told: dict[str, object], name: str) -> str | None:
    if name not in told:
        return None
    text = str(told[name]).strip()
    if not text:
        raise ValueError(f"{name} is empty")
    return text


def _dtype(said: str | None) -> str | None:
    if said is None:
        return None
    kind = peaks.canonical(said)
    if kind is None:
        raise ValueError(f"dtype is {said[:40]!r}; choose one of {', '.join(peaks.DTYPES)}")
    return kind


def _count(said: object) -> int:
    try:
        value = 0 if isinstance(said, bool) or float(str(said)) % 1 else int(float(str(said)))
    except (ValueError, OverflowError):
        value = 0
    if not 1 <= value <= MAX_COUNT:
        raise ValueError(
            f"count is {str(said)[:40]!r}; give a whole number of devices from 1 to {MAX_COUNT:,}"
        )
    return value
