"""`energyprof run --live`: one line on the terminal, once a second: time, watts, joules, steps a second; and where
the number of steps of the whole training is known, how much of it ran, and its joules and hours as an interval.

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

from energyprof import journal, runfolder
from energyprof.forecast import Forecast, forecast
from energyprof.forecasting import outer
from energyprof.marks import OF_TOTAL, read_marks
from energyprof.metering import meters_of
from energyprof.reports.numbers import duration, quantity, ranged
from energyprof.runlog import READING_TYPE, channel_of
from energyprof.streams import Stream
from energyprof.tally import TOTAL, Times, figures_on

_NS = 1_000_000_000
_KEPT_NS = 12 * _NS  # of readings: enough for every tick and window
_BEHIND_NS = 300_000_000  # the last ticks are not complete
_MOST_SUMS = 4096  # joules until then and then; of a long run every second one
_BLOCK_S = 2.0  # of a forecast: joules are known once a second
_MORE = 1.02  # times the steps until the next forecast, which costs some 30 ms of a processor
_NARROWEST = 80  # of terminals
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
    _reached: list[tuple[int, float]] = field(default_factory=list)  # time, and the joules until then
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
            self._reached = [*self._reached, (end, self.joules)]
            if len(self._reached) > _MOST_SUMS:
                del self._reached[:-1:2]

    def forecast(self, begin_ns: Times, total: int) -> Forecast | None:
        """The whole training of so many steps, of which these began; None where no joules are known yet."""
        if not self._reached:
            return None
        at_ns, joules = (np.array(column) for column in zip((self.begun_ns, 0.0), *self._reached))
        begin_ns = np.sort(begin_ns[begin_ns <= self._until_ns])
        return forecast(
            (begin_ns - self.begun_ns) / _NS,
            total,
            (self._until_ns - self.begun_ns) / _NS,
            self.joules,
            lambda which: np.interp(begin_ns[which], at_ns, joules),
            shortest_s=_BLOCK_S,
        )


@dataclass
class StepCount:
    """How many steps the program's marks tell of, and how many a second of late."""

    folder: str
    count: int = 0
    total: int | None = None  # steps of the whole training, where somebody said so
    _ended: dict[str, Times] = field(default_factory=dict)  # rows of (path id, begin, end), by segment
    _told: dict[str, list[int]] = field(
        default_factory=dict
    )  # path ids of loops that said the total, by process
    _before: tuple[float, int] = (0.0, 0)

    def look(self) -> float | None:
        """Steps a second since the last look; None where there were none."""
        names = os.listdir(self.folder)
        for name in names:
            match = re.fullmatch(r"program\.(\d+(?:_\d+)?)\.log", name)
            if match:
                self._count(match[1], names)
        now, (then, earlier) = time.monotonic(), self._before
        # What a fold has taken away was counted before.
        self.count = sum(map(len, self._ended.values()))
        self._before = now, self.count
        return (self.count - earlier) / (now - then) if then and self.count > earlier else None

    def _count(self, stem: str, names: list[str]) -> None:
        events = list(journal.events(os.path.join(self.folder, f"program.{stem}.log")))
        paths = [event for event in events if event.get("event") == "path"]
        steps = [path["id"] for path in paths if path["kind"] in ("step", OF_TOTAL)]
        self._told[stem] = [path["id"] for path in paths if path["kind"] == OF_TOTAL]
        for event in events:
            if event.get("event") == "total":
                self.total = int(event["steps"])
        for name in names:
            if steps and name.startswith(f"marks.{stem}."):
                _, words = read_marks(os.path.join(self.folder, name))
                rows = np.frombuffer(words, np.int64).reshape(-1, 3)
                self._ended[name] = rows[(rows[:, 2] > 0) & np.isin(rows[:, 0], steps)]

    def begins(self) -> Times:
        """When the steps that count began: of the process that has most, as `forecasting` chooses them."""
        found = np.zeros(0, np.int64)
        told = any(self._told.values())
        for stem, ids in self._told.items():
            segments = [rows for name, rows in self._ended.items() if name.startswith(f"marks.{stem}.")]
            rows = np.concatenate(segments or [np.zeros((0, 3), np.int64)])
            begin_ns, _ = outer(*(rows[np.isin(rows[:, 0], ids)] if told else rows)[:, 1:].T)
            found = max(found, begin_ns, key=len)
        return found


@dataclass
class Ahead:
    """The forecast of the whole training, made anew when enough more of it has run."""

    total: int | None
    made: Forecast | None = None
    _due: float = 0.0

    def look(self, power: Power, steps: StepCount) -> None:
        """Forecast, where that is due and somebody said how long the training is."""
        self.total = steps.total or self.total
        if self.total and steps.count >= self._due:
            self.made = power.forecast(steps.begins(), self.total)
            self._due = max(steps.count * _MORE, steps.count + 1)


def line(seconds: float, power: Power, rate: float | None, ahead: Forecast | None = None) -> str:
    """What stands on the terminal: as much of it as goes on a narrow one."""
    parts = [f"energyprof: {duration(seconds)}"]
    parts.append(
        f"{quantity(power.watts, 'W')}  {quantity(power.joules, 'J')}" if power.watts is not None else "…"
    )
    if rate is not None:
        parts.append(f"{rate:.3g} steps/s")
    if ahead is None:
        return "  ".join(parts)
    done = f"{100 * ahead.done / ahead.total:.3g} %"
    whole, lasts = ahead.energy_j, ahead.duration_s
    if whole is None or lasts is None:
        return "  ".join([*parts, f"{done} done"])
    energy = f"{done} of {ranged(whole.value, whole.lo, whole.hi, 'J')}"
    said = "  ".join([*parts, f"{energy}, {duration(lasts.value)}"])
    if len(said) < _NARROWEST:
        return said
    return "  ".join([*parts[:2], f"{energy}, {duration(lasts.value)}"])


def main(arguments: list[str]) -> int:
    """`live FOLDER`: until the process that started it ends it, or is gone."""
    folder, parent = arguments[0], os.getppid()
    for number in (signal.SIGINT, signal.SIGQUIT):  # the keyboard's ^C and ^\ are for the program
        signal.signal(number, signal.SIG_IGN)
    power = Power(os.path.join(folder, f"meter.{parent}.log"))
    steps = StepCount(folder)
    ahead = Ahead(runfolder.facts_of(folder).get("steps_total"))
    while os.getppid() == parent:
        time.sleep(1.0)
        try:
            power.look()
            rate = steps.look()
            ahead.look(power, steps)
        except (OSError, ValueError, KeyError):
            continue  # a look that came at a bad moment
        seconds = (time.monotonic_ns() - power.begun_ns) / _NS if power.begun_ns else 0.0
        shown = line(seconds, power, rate, ahead.made)
        width = (os.get_terminal_size(2).columns if os.isatty(2) else 0) or 80
        sys.stderr.write(CLEAR + shown[: width - 1])
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
