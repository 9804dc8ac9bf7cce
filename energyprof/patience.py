"""Call other people's code without being stopped by it: drivers and plug-ins may hang.

Each collector has a thread of its own that makes its calls, one after the other; who asks waits for a
limited time. While a call is out, further ones are refused at once, so that one dead driver costs the
other meters a single wait. What a call raises is raised where it was asked for. Times of a read are
taken in that thread, beside the call: to be handed over does not blur them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Unanswered(OSError):
    """A call did not come back in its time."""


class Patience:
    """Makes calls in a thread that may be left behind; `name` is for who lists threads.

    Two locks hand a call over and back: a queue and an event would cost as much as many a read.
    """

    def __init__(self, name: str) -> None:
        self._asked, self._answered = threading.Lock(), threading.Lock()
        self._asked.acquire()
        self._answered.acquire()
        self._function: Callable[[], Any] | None = None
        self._value: Any = None
        self._fault: BaseException | None = None
        self._out = self._ended = False
        self._thread = threading.Thread(target=self._serve, name=f"energyprof-{name}", daemon=True)
        self._started = False

    def call(self, function: Callable[[], T], timeout_s: float) -> T:
        """The function's result; `Unanswered` where it, or an earlier one, does not come back in time."""
        if self._out and not self._answered.acquire(blocking=False):
            raise Unanswered("an earlier call has not come back")
        if not self._started:
            self._started = True
            self._thread.start()
        self._function, self._out = function, True
        self._asked.release()
        if not self._answered.acquire(timeout=timeout_s):
            raise Unanswered(f"no answer within {timeout_s:g} s")
        self._out = False
        value, fault, self._value, self._fault = self._value, self._fault, None, None
        if isinstance(fault, Exception):
            raise fault
        if fault is not None:
            raise RuntimeError(f"{fault!r} out of a collector")
        return value  # type: ignore[no-any-return]

    def end(self) -> None:
        """Let the thread go, once it has come back from where it is."""
        self._ended = True
        if self._started and not self._out:
            self._asked.release()

    def _serve(self) -> None:
        while not self._ended:
            self._asked.acquire()
            if self._ended:
                return
            assert self._function is not None
            value, fault = None, None
            try:
                value = self._function()
            except BaseException as raised:  # a plug-in's SystemExit is its fault too, not our end
                fault = raised
            self._value, self._fault = value, fault
            self._answered.release()
