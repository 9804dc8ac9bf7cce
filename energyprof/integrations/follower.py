"""A profile that a framework's callbacks drive: begun, marked and ended in hooks, not by a `with` block.

The integrations share it. A callback must not stop a training: whatever goes wrong here is one warning
line, and the training goes on unmeasured.
"""

from __future__ import annotations

import atexit
import threading
from functools import wraps
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeVar

import energyprof
from energyprof import profiler
from energyprof.marks import Steps

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from energyprof.profiler import Run

    F = TypeVar("F", bound=Callable[..., None])

_PATIENCE_S = 30.0  # sealing takes a second or two; for a day of many regions nobody wants to wait
_open: list[Follower] = []  # whose framework may never tell of the end
_FIGURES = {
    "energy/joules": "energy_j",
    "energy/u95_joules": "u95_j",
    "energy/co2e_g": "co2e_g",
    "energy/duration_s": "duration_s",
}


def guarded(hook: F) -> F:
    """`hook` of an object with a `follower`: a fault of ours becomes a warning and ends the measuring."""

    @wraps(hook)
    def safe(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            hook(self, *args, **kwargs)
        except Exception as fault:  # whatever it is, the training goes on
            self.follower.give_up(fault)

    return safe  # type: ignore[return-value]  # wraps() keeps the signature, not the type


def end_abandoned() -> None:
    """End what trainings of this thread left open; who begins anew here has left them by an exception.

    (Or is a Trainer inside another's callback: the outer one then is measured to here.)
    """
    for follower in [known for known in _open if known.thread == threading.get_ident()]:
        follower.end(failed=True)


class Follower:
    """One profile at a time, from `begin` to `end`.

    Parameters
    ----------
    name
        What the runs are called.
    options
        Those of `energyprof.profile`.
    ends_surely
        Whether the framework tells of a training that raised. Where it does not, a stay that nobody ended
        would keep a profile around it open: there the training is a plain region of that profile.

    Raises
    ------
    ValueError
        A wrong option; before anything is trained.
    """

    def __init__(self, name: str, options: dict[str, Any], *, ends_surely: bool) -> None:
        energyprof.profile(name, **options)
        self._name, self._options, self._ends_surely = name, options, ends_surely
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        """A copy, here or in another process, measures by itself: it takes the options and no open run."""
        return {"_name": self._name, "_options": self._options, "_ends_surely": self._ends_surely}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _forget(self) -> None:
        self._stay: AbstractContextManager[Any, Any] | None = None  # the profile or the region
        self._run: Run | None = None
        self._session: Any = None  # that of the profile around, where the stay is a region
        self._steps: Any = None
        self._regions: list[tuple[str, Any]] = []
        self._told = False  # what went wrong in this training
        self.thread = 0  # where the training runs

    def begin(self) -> None:
        """Begin a run. One that is still open was left by an exception that nobody told of."""
        end_abandoned()
        self.end(failed=True)
        self._run, self._told, self.thread = None, False, threading.get_ident()
        if profiler._depth and not self._ends_surely:
            self._session = profiler._session
            self._stay = energyprof.region(self._name)
            self._stay.__enter__()
        else:
            self._stay = energyprof.profile(self._name, **self._options)
            self._run = self._stay.__enter__()
        self._steps = _steps(self._run)
        # The program may end in the middle: its run is then a failed one, and whole.
        atexit.register(self._at_exit)
        if not self._ends_surely:
            _open.append(self)

    def end(self, failed: bool = False) -> None:
        """End the run with whatever is open in it; nothing where none is open."""
        stay, self._stay = self._stay, None
        if stay is None:
            return
        atexit.unregister(self._at_exit)
        if self in _open:
            _open.remove(self)
        if self._run is None and self._session is not profiler._session:
            self._regions.clear()  # the profile around has ended, and all in it
            self._steps = None
            return
        try:
            while self._regions:
                self._regions.pop()[1].__exit__()
            self.end_step()
        finally:  # an open profile would take in whatever comes next
            self._steps = None
            self._regions.clear()
            kind = RuntimeError if failed else None
            stay.__exit__(kind, None, None)

    def expect(self, steps: float) -> None:
        """How many steps this training will have, before its first; not finite or 0: it is not known.

        A training inside a profile is a part of that, and how long the whole is it cannot say.
        """
        session = profiler._session
        if self._run is None or session is None or profiler._depth > 1 or not 0 < steps < float("inf"):
            return
        session.expect(int(steps), more=True)
        self._steps = Steps(session.recorder, repeat(None), True)

    def begin_step(self) -> None:
        if self._steps is not None:
            next(self._steps)

    def end_step(self) -> None:
        if self._steps is not None:
            self._steps.close()

    def begin_region(self, name: str) -> None:
        if self._stay is not None:
            region = energyprof.region(name)
            region.__enter__()
            self._regions.append((name, region))

    def end_region(self, *names: str) -> None:
        """End the innermost region, where it is one of `names`."""
        if self._regions and self._regions[-1][0] in names:
            self._regions.pop()[1].__exit__()

    def give_up(self, fault: BaseException) -> None:
        """Say once what went wrong, keep what was measured, and leave the rest of this training alone."""
        if not self._told:
            self._told = True
            profiler._warn(f"this training is not measured any further: {profiler._one_line(fault)}")
        try:
            self.end(failed=True)
        except Exception:  # one line is enough
            self._stay = None
        self._run = None  # the figures of a part are not the training's

    def figures(self) -> dict[str, float]:
        """The ended run's figures for a log; empty where there are none. Waits for the sealing, not for ever."""
        run = self._run
        if run is None or run.run_id is None:
            return {}  # a region of a profile, whose result has it; or the warning has been given
        found: list[dict[str, float]] = []
        faults: list[str] = [f"not sealed after {_PATIENCE_S:.0f} s"]

        def read() -> None:
            try:
                row = run.result.row
                figures = {key: row[column] for key, column in _FIGURES.items()}
                found.append({key: value for key, value in figures.items() if value is not None})
            except Exception as fault:
                faults[0] = profiler._one_line(fault)

        reader = threading.Thread(target=read, name="energyprof-result", daemon=True)
        reader.start()
        reader.join(_PATIENCE_S)
        if found:
            return found[0]
        profiler._warn(f"no energy in the log: {faults[0]}; try `energyprof show {run.run_id}`")
        return {}

    def _at_exit(self) -> None:
        try:
            self.end(failed=True)
        except Exception as fault:
            self.give_up(fault)


def _steps(run: Run | None) -> Any:
    """Steps without a loop: `next` begins one, `close` ends it."""
    if run is not None:
        return run.steps(repeat(None))
    session = profiler._session
    return Steps(session.recorder if session else None, repeat(None))
