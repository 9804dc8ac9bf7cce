"""Blocks of one action repeated back to back, each a region of a run: how long, in what order, with what before.

A block lasts several ticks of a slow meter, and the same work goes on before and after its region. Power lags
work, and clocks climb: a block that began at rest would miss some of its own energy. And a tick of the meter
that the region's end cuts has one power on both sides, so that it can be divided by time.
Lengths and order are random in every trial: in step with a meter's ticks, blocks would all err alike.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from random import Random
from typing import Any

import torch

from energyprof.layers.capture import Mode
from energyprof.layers.player import Action

REST = "idle"
_PROBE_S, _PROBES = 0.02, 3  # an action is timed over at least this long, so often
AROUND_S = 0.1  # a tick of a slow meter, and five times the lag of a GPU's power (20 ms, docs/method.md)
_WARM_CALLS = 3  # caches, autotuning, lazy set-up
_HIDDEN = 0.9  # calls are issued faster than the device works them off: issuing costs it no time
_LARGEST = 1 << 22


@dataclass(frozen=True)
class Work:
    """An action of a run of blocks: its name, and the mode in which it is called."""

    name: str
    action: Action
    mode: Mode | None = None


@dataclass
class Played:
    """The blocks of one action: what the region of each is called, its calls, and its time on the device."""

    name: str
    call_s: float = 0.0
    hidden: bool = False
    regions: list[str] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class Device:
    """What the actions run on: waits for it, and times it."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self._device = device

    def wait(self) -> None:
        """Until all that was asked of it is done."""
        if self.cuda:
            torch.cuda.synchronize(self._device)

    def mark(self) -> Any:
        """An instant in its work."""
        if not self.cuda:
            return time.monotonic_ns()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def between(self, begin: Any, end: Any) -> float:
        """Seconds between two instants that have passed."""
        return float(begin.elapsed_time(end) / 1e3 if self.cuda else (end - begin) / 1e9)


def calibrated(work: Work, device: Device) -> Played:
    """How long a call takes, warm, and whether issuing it is hidden behind the device's own work.

    Of some probes the shortest counts: a machine that was busy meanwhile must not make the blocks short.
    """
    calls = 1
    with _mode(work):
        _repeat(work.action, _WARM_CALLS)
        device.wait()
        while (took := _probe(work.action, calls, device)[1]) < _PROBE_S and calls < _LARGEST:
            calls *= 2 if took > _PROBE_S / 8 else 8
        issued, took = min((_probe(work.action, calls, device) for _ in range(_PROBES)), key=lambda p: p[1])
    return Played(work.name, took / calls, device.cuda and issued < _HIDDEN * took)


def _probe(action: Action, calls: int, device: Device) -> tuple[float, float]:
    """Seconds until so many calls were issued, and until they were done."""
    begin = time.monotonic()
    _repeat(action, calls)
    issued = time.monotonic() - begin
    device.wait()
    return issued, time.monotonic() - begin


def play(
    works: Sequence[Work],
    device: Device,
    region: Callable[[str], Any],
    *,
    seconds: float,
    trials: int,
    chance: Random,
    tell: Callable[[str], None],
) -> dict[str, Played]:
    """Calibrate all actions, then run `trials` blocks of each, of `seconds` in all, and rests between.

    Parameters
    ----------
    region
        Makes the region of a run by name; a block's name is its action's with the trial's number.
    """
    played = {work.name: calibrated(work, device) for work in works}
    played[REST] = Played(REST, 1.0)
    block_s = seconds / trials
    for trial in range(trials):
        order: list[Work | None] = [*works, None]
        chance.shuffle(order)
        for work in order:
            one = played[REST if work is None else work.name]
            one.regions.append(f"{one.name} {trial + 1}")
            length = block_s * chance.uniform(0.7, 1.3)
            around = [around_s(seconds, trials) * chance.uniform(1.0, 2.0) for _ in range(2)]
            if work is None:
                _rest(one, region, length, around)
            else:
                _block(work, one, device, region, length, around)
        tell(f"trial {trial + 1} of {trials} done")
    return played


def _block(
    work: Work,
    one: Played,
    device: Device,
    region: Callable[[str], Any],
    length: float,
    around: Sequence[float],
) -> None:
    calls = max(1, round(length / one.call_s))
    before, after = (math.ceil(seconds / one.call_s) for seconds in around)
    with _mode(work):
        _repeat(work.action, before)
        begin = device.mark()
        with region(one.regions[-1]):
            _repeat(work.action, calls)
        end = device.mark()
        _repeat(work.action, after)
    device.wait()
    one.calls.append(calls)
    one.seconds.append(device.between(begin, end))
    one.call_s = max(one.seconds[-1] / calls, one.call_s / 2)  # the next block is at most twice as many calls


def _rest(one: Played, region: Callable[[str], Any], length: float, around: Sequence[float]) -> None:
    time.sleep(around[0])
    begin = time.monotonic()
    with region(one.regions[-1]):
        time.sleep(length)
    one.seconds.append(time.monotonic() - begin)
    one.calls.append(1)
    time.sleep(around[1])


def _repeat(action: Action, calls: int) -> None:
    for _ in range(calls):
        action()


def _mode(work: Work) -> Any:
    return nullcontext() if work.mode is None else work.mode.entered()


def around_s(seconds: float, trials: int) -> float:
    """How long at least the same work goes on before a block and after it."""
    return min(AROUND_S, seconds / trials)


def lasting_s(works: int, seconds: float, trials: int) -> float:
    """About how long `play` takes with so many actions."""
    return (works + 1) * (seconds + 3.0 * trials * around_s(seconds, trials))
