"""The meter: who reads what, and what is noted of the machine meanwhile."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from energyprof import journal
from energyprof.collectors.base import Channel, Context, Group, Opened
from energyprof.meter import Meter, suspended_ns
from energyprof.patience import Patience, Unanswered

S = 1_000_000_000


class Plug:
    source = "plug"

    def __init__(self, read: Callable[[], list[int]] = lambda: [100_000]) -> None:
        self._read = read

    def open(self, context: Context) -> Opened:
        return Opened([Group((Channel("plug:0", "power", "integrated", "the plug"),), self._read, 0.05)])

    def close(self) -> None:
        pass


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    clock = [1000 * S]
    monkeypatch.setattr("energyprof.meter.monotonic_ns", lambda: clock[0])
    return clock


def test_a_machine_that_was_suspended_is_flagged_once_for_each_open_run(
    tmp_path: Path, now: list[int]
) -> None:
    slept = [5 * S]
    meter = Meter([Plug()], Context({}), asleep_ns=lambda: slept[0])
    log = journal.Journal(str(tmp_path / "meter.1.log"))
    meter.attach(log)

    def flags() -> int:
        now[0] += 2 * S
        meter.read_due()
        return sum(event.get("flag") == "clock_suspended" for event in journal.events(log.path))

    assert flags() == 0  # what it slept before is another run's
    slept[0] += 50_000_000  # two clocks are not read at one instant
    assert flags() == 0
    slept[0] += 3600 * S
    assert flags() == 1
    assert flags() == 1


def test_this_machine_tells_how_long_it_was_suspended() -> None:
    assert suspended_ns() >= -1_000_000


def test_a_meter_that_is_closed_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    meter = Meter([Plug()], Context({}))
    mine = set(threading.enumerate()) - before
    assert [thread.name for thread in mine] == ["energyprof-plug"]
    meter.close()
    for thread in mine:
        thread.join(10)
        assert not thread.is_alive()


def test_patience_ends_and_comes_back_with_the_answer() -> None:
    held = threading.Event()
    patience = Patience("plug")
    assert patience.call(lambda: 5, 1.0) == 5
    with pytest.raises(ZeroDivisionError):
        patience.call(lambda: 1 // 0, 1.0)
    with pytest.raises(Unanswered, match=r"no answer within 0\.01 s"):
        patience.call(held.wait, 0.01)
    with pytest.raises(Unanswered, match="has not come back"):
        patience.call(lambda: 6, 1.0)
    held.set()
    for _ in range(1000):
        try:
            assert patience.call(lambda: 7, 1.0) == 7
            break
        except Unanswered:
            time.sleep(0.002)
    with pytest.raises(RuntimeError, match="SystemExit"):
        patience.call(sys.exit, 1.0)
