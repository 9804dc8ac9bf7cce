"""`energyprof run --live`: one line on the terminal, once a second: time, watts, joules, steps a second.

A process of its own reads what the meter has flushed, so that neither the program nor the meter does any
more than without it. What it shows is provisional: the run's figures are computed when it is sealed.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from energyprof import journal
from energyprof.marks import read_marks
from energyprof.metering import meters_of
from energyprof.reports.text import duration, quantity
from energyprof.runlog import READING_TYPE, Stream, channel_of
from energyprof.tally import TOTAL, figures_on

_NS = 1_000_000_000
_KEPT_NS = 12 * _NS  # of readings: enough for every tick and window
_BEHIND_NS = 300_000_000  # the last ticks are not complete
CLEAR = "\r\x1b[2K"


@dataclass
class Power:
    """Joules so far, and watts of late, from a journal that grows."""

    path: str
    joules: float = 0.0
    watts: float | None = None
    begun_ns: int = 0
    _at: int = 0
    _until_ns: int = 0
    _streams: list[Stream] = field(default_factory=list)
    _lost: dict[str, str] = field(default_factory=dict)

    def look(self) -> None:
        """Take in what was flushed since the last look."""
        blocks, self._at = journal.tail(self.path, self._at)
        for block in blocks:
            if isinstance(block, bytes):
                self._readings(np.frombuffer(block, READING_TYPE))
            elif block.get("event") == "meter":
                nothing = np.zeros(0, np.int64)
                followed = set(block.get("followed", ()))
                self._streams = [
                    Stream(channel_of(facts), i in followed, nothing, nothing, nothing)
                    for i, facts in enumerate(block["channels"])
                ]
            elif block.get("event") == "lost":
                self._lost.update(dict.fromkeys(block["channels"], str(block["reason"])))
            elif block.get("event") == "spawned":
                self.begun_ns = self._until_ns = int(block["t"])
        if self.begun_ns:
            self._sum()

    def _readings(self, readings: Any) -> None:
        for index in np.unique(readings["channel"]).tolist():
            mine = readings[readings["channel"] == index]
            stream = self._streams[index]
            kept = stream.after_ns > int(mine["t_ns"][-1]) - _KEPT_NS
            after = np.concatenate((stream.after_ns[kept], mine["t_ns"]))
            stream.before_ns = np.concatenate((stream.before_ns[kept], mine["t_ns"] - mine["took_ns"]))
            stream.value = np.concatenate((stream.value[kept], mine["value"]))
            stream.after_ns = after

    def _sum(self) -> None:
        main = [s for s in self._streams if "/" not in s.channel.name and len(s.after_ns)]
        main = [s for s in main if s.channel.name not in self._lost]
        begin = self._until_ns
        end = min((int(s.after_ns[-1]) for s in main), default=0) - _BEHIND_NS
        if end - begin < _NS // 2:
            return
        named = {s.channel.name: s for s in self._streams if s.channel.name not in self._lost}
        meters, _ = meters_of(named, {}, [(begin, end)])
        found = figures_on(meters, np.array([begin]), np.array([end]))[TOTAL].energy_j
        if found is not None:
            self.joules += found
            self.watts = found / ((end - begin) / _NS)
            self._until_ns = end


@dataclass
class StepCount:
    """How many steps the program's marks tell of, and how many a second of late."""

    folder: str
    count: int = 0
    _ended: dict[str, int] = field(default_factory=dict)
    _before: tuple[float, int] = (0.0, 0)

    def look(self) -> float | None:
        """Steps a second since the last look; None where there were none."""
        names = os.listdir(self.folder)
        for name in names:
            match = re.fullmatch(r"program\.(\d+(?:_\d+)?)\.log", name)
            if match:
                self._count(match[1], names)
        now, (then, earlier) = time.monotonic(), self._before
        self._before = now, self.count
        return (self.count - earlier) / (now - then) if then and self.count > earlier else None

    def _count(self, stem: str, names: list[str]) -> None:
        path = os.path.join(self.folder, f"program.{stem}.log")
        steps = [e["id"] for e in journal.events(path) if e.get("event") == "path" and e["kind"] == "step"]
        for name in names:
            if steps and name.startswith(f"marks.{stem}."):
                _, words = read_marks(os.path.join(self.folder, name))
                rows = np.frombuffer(words, np.int64).reshape(-1, 3)
                self._ended[name] = int(np.isin(rows[rows[:, 2] > 0, 0], steps).sum())
        # What a fold has taken away was counted before.
        self.count = sum(self._ended.values())


def line(seconds: float, power: Power, rate: float | None) -> str:
    """What stands on the terminal."""
    parts = [f"energyprof: {duration(seconds)}"]
    parts.append(
        f"{quantity(power.watts, 'W')}  {quantity(power.joules, 'J')}" if power.watts is not None else "…"
    )
    if rate is not None:
        parts.append(f"{rate:.3g} steps/s")
    return "  ".join(parts)


def main(arguments: list[str]) -> int:
    """`live FOLDER`: until the process that started it ends it, or is gone."""
    folder, parent = arguments[0], os.getppid()
    for number in (signal.SIGINT, signal.SIGQUIT):  # the keyboard's ^C and ^\ are for the program
        signal.signal(number, signal.SIG_IGN)
    power = Power(os.path.join(folder, f"meter.{parent}.log"))
    steps = StepCount(folder)
    while os.getppid() == parent:
        time.sleep(1.0)
        try:
            power.look()
            rate = steps.look()
        except (OSError, ValueError, KeyError):
            continue  # a look that came at a bad moment
        shown = line((time.monotonic_ns() - power.begun_ns) / _NS if power.begun_ns else 0.0, power, rate)
        width = (os.get_terminal_size(2).columns if os.isatty(2) else 0) or 80
        sys.stderr.write(CLEAR + shown[: width - 1])
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
