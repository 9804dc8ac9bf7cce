"""When layers are timed: some steps wait, some warm up, some are active."""

from __future__ import annotations

from typing import Any

_MOST = 10_000


class Schedule:
    """`profile(layers=Schedule(wait=5, warmup=2, active=20))`: which steps of the model are timed by layer.

    A step lasts from one call of the model to the next. The first `wait` run untouched; in the `warmup` that
    follows the FLOPs are counted and the hooks are on, unrecorded; the `active` ones are timed. They are a
    little slower, and are kept apart from the run's mean energy a step.

    Raises
    ------
    ValueError
        A number below 0, no active step, or absurdly many.
    """

    __slots__ = ("active", "wait", "warmup")

    def __init__(self, wait: int = 5, warmup: int = 2, active: int = 20) -> None:
        for name, value, least in (("wait", wait, 0), ("warmup", warmup, 0), ("active", active, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MOST:
                raise ValueError(f"{name}={value!r}: say a whole number from {least} to {_MOST}")
        self.wait, self.warmup, self.active = wait, warmup, active

    def __repr__(self) -> str:
        return f"Schedule(wait={self.wait}, warmup={self.warmup}, active={self.active})"

    def __str__(self) -> str:
        return f"{self.wait},{self.warmup},{self.active}"


def schedule_of(value: Any) -> Schedule | None:
    """A schedule from what people say: None and False, True, a Schedule, or "5,2,20".

    Raises
    ------
    ValueError
        Anything else.
    """
    if value is None or value is False:
        return None
    if value is True:
        return Schedule()
    if isinstance(value, Schedule):
        return value
    if isinstance(value, str):
        parts = [part.strip() for part in value.split(",")]
        if len(parts) == 3 and all(part.isdecimal() for part in parts):
            return Schedule(*map(int, parts))
    raise ValueError(
        f"layers={value!r}: say WAIT,WARMUP,ACTIVE such as '5,2,20', a Schedule(5, 2, 20), or True"
    )
