"""How a bench makes one run: a process with a meter of its own (`one`), and the signals that come meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

from energyprof.journal import write_whole
from energyprof.launch.plan import Plan, folder_of
from energyprof.spawn import command

_TAIL_BYTES = 4096


@dataclass(frozen=True)
class Told:
    """What came of a run: the program's exit code (negative: a signal), its figures, what it said last.

    `wrong`: it was never started, since it was asked for wrongly. `errors`: the file of all that it said.
    """

    code: int
    run_id: str | None = None
    energy_j: float | None = None
    duration_s: float | None = None
    reason: str | None = None
    problem: str = ""
    said: tuple[str, ...] = ()
    last_line: str = ""
    errors: str = ""
    wrong: bool = False

    def ending(self) -> str:
        """How it ended, in words."""
        if self.code > 0:
            return f"exit status {self.code}"
        if self.code < 0:
            try:
                return signal.Signals(-self.code).name
            except ValueError:
                return f"signal {-self.code}"
        return self.problem or "no figures"


class Signals:
    """While a bench runs, ^C and SIGTERM end it after the run at hand, which gets them too.

    ^C at a terminal reaches the program by itself; SIGTERM, and a second ^C, are handed on.
    """

    def __init__(self) -> None:
        self.last = 0
        self.child: subprocess.Popen[bytes] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *told: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stopped(self) -> bool:
        """Whether one came."""
        return self.last != 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        again = self.last != 0
        self.last = number
        if self.child is not None and (again or number != signal.SIGINT):
            try:
                self.child.terminate()
            except OSError:
                pass  # it has just ended


def one_run(plan: Plan, arm: int, tags: Mapping[str, str], out: str, signals: Signals) -> Told:
    """Run a command once and measure it."""
    folder = folder_of(out, plan.bench_id)
    asked, answer = os.path.join(folder, "asked.json"), os.path.join(folder, "told.json")
    errors = _unused(os.path.join(folder, plan.slug(arm)))
    spec = {
        "command": plan.arms[arm].command, "out": out, "name": plan.arms[arm].label, "tags": dict(tags),
        "site": dict(plan.site),
    }  # fmt: skip
    write_whole(asked, json.dumps(spec))
    with open(errors, "wb") as file:
        signals.child = subprocess.Popen(
            command("energyprof.launch.one", asked, answer),
            cwd=plan.cwd or None,
            stdin=subprocess.DEVNULL,
            stdout=None if plan.show else subprocess.DEVNULL,
            stderr=None if plan.show else file,
        )
        code = signals.child.wait()
    signals.child = None
    told = _answer(answer)
    for path in (asked, answer):
        if os.path.exists(path):
            os.unlink(path)
    last_line = _last_line(errors)
    if told is None:
        return Told(code or 1, problem="its meter ended before it", last_line=last_line, errors=errors)
    if told["code"] == 0 or not last_line:
        os.unlink(errors)
        errors = ""
    return Told(**{**told, "said": tuple(told["said"]), "last_line": last_line, "errors": errors})


def _answer(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            told: dict[str, Any] = json.load(file)
    except (OSError, ValueError):
        return None
    told.pop("status", None)
    return told


def _unused(stem: str) -> str:
    number = 1
    while os.path.exists(f"{stem}.{number}.stderr"):
        number += 1
    return f"{stem}.{number}.stderr"


def _last_line(path: str) -> str:
    """The last line that is not empty of what a program wrote to stderr."""
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
