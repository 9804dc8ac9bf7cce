"""Call other people's code without being stopped by it: drivers and plug-ins may hang.

Each collector has a thread of its own that makes its calls, one after the other; who asks waits for a
limited time. While a call is out, further ones are refused at once, so that one dead driver costs the
other meters a single wait. What a call raises is raised where it was asked for. Times of a read are
taken in that thread, beside the call: to be handed over does not blur them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Unanswered(OSError):
    """A call did not come back in its time."""


class Patience:
    """Makes calls in a thread that may be left behind; `name` is for who lists threads."""

    def __init__(self, name: str) -> None:
        self._asked: SimpleQueue[_Call[Any]] = SimpleQueue()
        self._out: _Call[Any] | None = None
        self._thread = threading.Thread(target=self._serve, name=f"energyprof-{name}", daemon=True)
        self._started = False

    def call(self, function: Callable[[], T], timeout_s: float) -> T:
        """The function's result; `Unanswered` where it, or an earlier one, does not come back in time."""
        if self._out is not None and not self._out.done.is_set():
            raise Unanswered("an earlier call has not come back")
        if not self._started:
            self._started = True
            self._thread.start()
        self._out = call = _Call(function)
        self._asked.put(call)
        if not call.done.wait(timeout_s):
            raise Unanswered(f"no answer within {timeout_s:g} s")
        self._out = None
        return call.result()

    def end(self) -> None:
        """Let the thread go, once it has come back from where it is."""
        self._asked.put(_Call(None))

    def _serve(self) -> None:
        while True:
            call = self._asked.get()
            if call.function is None:
                return
            call.run()


class _Call(Generic[T]):
    def __init__(self, function: Callable[[], T] | None) -> None:
        self.function = function
        self.done = threading.Event()
        self._value: T | None = None
        self._fault: BaseException | None = None

    def run(self) -> None:
        assert self.function is not None
        try:
            self._value = self.function()
        except BaseException as fault:  # a plug-in's SystemExit is its fault too, not our end
            self._fault = fault
        self.done.set()

    def result(self) -> T:
        if isinstance(self._fault, Exception):
            raise self._fault
        if self._fault is not None:
            raise RuntimeError(f"{self._fault!r} out of a collector")
        return self._value  # type: ignore[return-value]
